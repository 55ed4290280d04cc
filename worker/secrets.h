/* Secrets of a task: opened with the master keys of this process, put where the task says that they belong, and taken
 * out of everything that comes back. No log line, result or claim ever has one. */
#pragma once
#include "common/seal/keyring.h"
#include "worker/task.h"
#include "worker/worker_core.h"

struct secrets;
/* Opens the secrets of `task`; *ret has a task of its own to be done in its place, and must outlive that. Not ERR_OK:
 * *ret_outcome says how the call failed; nothing is to be sent. Only for tasks that have any (task_has_secrets). */
bool task_has_secrets(const struct task *task);
enum err_code secrets_open(const struct keyring *keyring, const struct task *task, struct secrets **ret,
                           struct call_outcome *ret_outcome, struct err *err) MUST_CHECK;
const struct task *secrets_task(const struct secrets *secrets);
/* The outcome without any of the values; its texts live as long as `secrets`. */
struct call_outcome secrets_mask(struct secrets *secrets, const struct call_outcome *outcome);
void secrets_free(struct secrets *secrets); /* wipes; accepts NULL */
