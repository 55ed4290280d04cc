/* One webhook on its way: signed, posted, answered. It knows nothing of why it is sent and what follows. Loop thread
 * only. */
#pragma once
#include "common/base/clock.h"
#include "common/io/transfer.h"

#define POST_ANSWER_KEPT ((size_t)1024)
#define POST_SECRETS_MAX 2

struct post;

/* What came of it. */
struct post_outcome {
    bool aborted;           /* transfers are being freed, or it was asked for */
    int status;             /* 0: no answer */
    int64_t retry_after_ms; /* -1 */
    int64_t took_us;
    struct str error;  /* why there was no answer; STR_NONE */
    struct str answer; /* the beginning of its body, as text; STR_NONE without one */
};
typedef void (*post_fn)(void *ctx, const struct post_outcome *outcome);

struct post_request {
    const char *url, *id;
    struct str body;
    const struct str *secrets; /* "whsec_...": it is signed with each */
    size_t secret_count;
    struct wall_us now;
    long timeout_ms;
};
/* `done` is called once, never from inside. Url, id and body live until then. NULL: a secret signs nothing. */
struct post *post_new(struct transfers *transfers, const struct post_request *request, post_fn done, void *ctx);
void post_abort(struct post *post); /* calls `done` with `aborted`, from inside */
