/* Tasks that need secrets: their sealed values are read and sent along. This process has no master key and cannot open
 * them; who takes the task can (worker/secrets.h). Loop thread only. */
#pragma once
#include "scheduler/broker.h"
#include "scheduler/store.h"

/* Publishes what has publish->secret_count > 0, with "secrets" added to its body, once they are read. What cannot be
 * read is not confirmed: the core publishes it again. */
void secrets_publish(struct store *store, struct broker *broker, const struct sched_publish *publish,
                     struct wall_us sent_at);
