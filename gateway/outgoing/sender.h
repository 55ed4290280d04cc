/* Sends what endpoints are to be told: webhooks, signed, and events for the exchange. Any number of gateways do it side
 * by side; what one has in hand when it dies another sends again, under the same id. Loop thread only. */
#pragma once
#include "common/io/egress.h"
#include "gateway/gateway.h"

#define SENDER_LOOK_MS 500 /* for what schedulers have written */
#define SENDER_LOOK_QUIET_MS                                                                                           \
    2000 /* where there was nothing for a minute: most have no endpoint, and pay little for that */
#define SENDER_QUIET_US (60 * US_PER_S)
/* When to look next, by when something was last found. */
static inline uint64_t sender_look_ms(struct mono_us found_at)
{
    return clock_mono().us - found_at.us < SENDER_QUIET_US ? SENDER_LOOK_MS : SENDER_LOOK_QUIET_MS;
}

struct sender;
struct sender *sender_new(struct gateway *gw, const struct egress *egress);
void sender_wake(struct sender *sender); /* something may be due now */
/* Takes nothing more; what is in hand is given back, so that another sends it at once. Then `done`, once. */
void sender_stop(struct sender *sender, void (*done)(void *ctx), void *ctx);
void sender_free(struct sender *sender); /* stopped, or never to be: what is in hand is forgotten */
