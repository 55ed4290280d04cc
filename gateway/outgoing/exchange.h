/* Events of runs for the exchange `ropewalk.run_events`: published with confirms, and gone when the broker has them.
 * Loop thread only. */
#pragma once
#include "gateway/gateway.h"

#define RUN_EVENTS_EXCHANGE "ropewalk.run_events"

struct exchange;
struct exchange *exchange_new(struct gateway *gw);
void exchange_stop(struct exchange *exchange, void (*done)(void *ctx), void *ctx); /* finishes what is in hand */
void exchange_free(struct exchange *exchange);
