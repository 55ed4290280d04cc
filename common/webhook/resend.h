/* When an outgoing webhook is sent again: what an answer, or none, makes of a delivery. The schedule is that of
 * Standard Webhooks: ten tries over three days. Pure: no clock, the caller brings the chance. */
#pragma once
#include "common/base/str.h"

#define RESEND_TRIES 10
#define RESEND_RETRY_AFTER_MAX_S (24 * 3600)

enum resend {
    RESEND_DELIVERED,
    RESEND_AGAIN,
    RESEND_GIVEN_UP,
    RESEND_GONE, /* 410: nobody wants any of them any more */
};
struct resend_answer {
    int status;             /* HTTP status; 0: there was no answer */
    int64_t retry_after_ms; /* what it asked for; -1: nothing */
};
/* tries: that have ended before this one, since it was last asked for. chance: any number. *ret_delay_ms, from now, for
 * RESEND_AGAIN. */
enum resend resend_decide(const struct resend_answer *answer, unsigned tries, uint64_t chance, int64_t *ret_delay_ms);
/* The pause behind that many tries, without jitter: 1 to RESEND_TRIES - 1. */
int64_t resend_pause_s(unsigned tries);
