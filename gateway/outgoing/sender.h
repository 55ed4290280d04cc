/* Sends what endpoints are to be told: webhooks, signed, and events for the exchange. Any number of gateways do it side
 * by side; what one has in hand when it dies another sends again, under the same id. Loop thread only. */
#pragma once
#include "common/io/egress.h"
#include "gateway/gateway.h"

struct sender;
struct sender *sender_new(struct gateway *gw, const struct egress *egress);
void sender_wake(struct sender *sender); /* something may be due now */
/* Takes nothing more; what is in hand is given back, so that another sends it at once. Then `done`, once. */
void sender_stop(struct sender *sender, void (*done)(void *ctx), void *ctx);
void sender_free(struct sender *sender); /* stopped, or never to be: what is in hand is forgotten */
