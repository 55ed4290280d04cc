/* The keys that secrets are sealed with: the organisation's data key in use, and their rotation; see secrets.h. */
#pragma once
#include "gateway/call.h"
#include "gateway/secrets.h"

/* The data key that values are sealed with now, made if there is none yet. `next` is not called when the call has been
 * answered, for want of a master key or of PostgreSQL. The key lives until the call ends. */
typedef void (*data_key_fn)(void *ctx, const struct data_key *key);
void secret_key_active(struct call *call, data_key_fn next, void *ctx);
/* Answers for what sealing and opening refused: 422 secrets_not_configured, or 500 for what does not open. */
void secret_problem(struct call *call, const struct err *err);
