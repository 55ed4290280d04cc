/* Secrets in the gateway: written by the API, opened where the gateway itself needs one (signatures of webhooks). How
 * they are sealed: common/seal/README.md. Loop thread only. */
#pragma once
#include "common/seal/sealed.h"
#include "gateway/gateway.h"

struct secrets;
/* Reads the file of master keys, if one is named. ERR_INVALID: it cannot be used. */
enum err_code secrets_new(struct gateway *gw, struct secrets **ret, struct err *err) MUST_CHECK;
void secrets_free(struct secrets *secrets); /* wipes; accepts NULL */

/* The master keys as their file says now, or as it last did while it was good. */
const struct keyring *secrets_keyring(struct secrets *secrets);

/* rc ERR_OK: the value, to be used or copied during the call. ERR_NOT_FOUND: there is no such secret.
 * ERR_NOT_AVAILABLE: no master key, or not that one. ERR_INVALID: what is stored does not open. Else as PostgreSQL had
 * it, to be tried again. */
typedef void (*secret_fn)(void *ctx, enum err_code rc, struct str value, const struct err *err);
/* Opens a secret of an organisation, by its id and its name. What was read is believed for 4 s, as API keys are, so
 * that a change is in use everywhere within 5 s, here at once; then `done` is called from inside. */
void secret_open(struct secrets *secrets, int32_t organisation, struct str organisation_name, struct str name,
                 secret_fn done, void *ctx);
/* This gateway has just written or deleted one: believe nothing that was read before. */
void secrets_forget(struct secrets *secrets);
