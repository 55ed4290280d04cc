/* See resend.h. */
#include "common/webhook/resend.h"
#include "common/base/ensure.h"
#include <assert.h>

#include "common/base/banned.h"

#define JITTER_PERCENT 20 /* up to so much later, so that what failed together does not come back together */

/* Behind the first, the second, ... try. */
static const int32_t PAUSES_S[] = {5, 300, 1800, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600};
static_assert(sizeof(PAUSES_S) / sizeof(PAUSES_S[0]) == RESEND_TRIES - 1, "a pause between each two tries");

int64_t resend_pause_s(unsigned tries)
{
    ENSURE(tries >= 1 && tries < RESEND_TRIES);
    return PAUSES_S[tries - 1];
}

enum resend resend_decide(const struct resend_answer *answer, unsigned tries, uint64_t chance, int64_t *ret_delay_ms)
{
    int64_t ms, jitter, asked = answer->retry_after_ms;

    if (answer->status >= 200 && answer->status <= 299)
        return RESEND_DELIVERED;
    if (answer->status == 410)
        return RESEND_GONE;
    if (tries + 1 >= RESEND_TRIES)
        return RESEND_GIVEN_UP;
    if (asked > (int64_t)RESEND_RETRY_AFTER_MAX_S * 1000)
        asked = (int64_t)RESEND_RETRY_AFTER_MAX_S * 1000;
    ms = resend_pause_s(tries + 1) * 1000;
    if (ms < asked) /* never sooner than asked for */
        ms = asked;
    jitter = ms * JITTER_PERCENT / 100;
    *ret_delay_ms = ms + (jitter == 0 ? 0 : (int64_t)(chance % (uint64_t)jitter));
    return RESEND_AGAIN;
}
