/* Events over RabbitMQ: the fanout exchange ropewalk.events, with a durable queue of that name, whose messages are
 * events of one organisation, and ropewalk.events.NAME for each other that the setting EVENT_ORGANISATIONS names.
 * Whose an event is thus says the exchange, and who may write to that says the broker. Any number of gateways consume
 * side by side; a message is acknowledged when its events are committed. Loop thread only. */
#pragma once
#include "gateway/gateway.h"

struct event_queues;
/* What is wrong with the setting, or NULL. */
const char *event_queues_check(const char *organisations);
struct event_queues *event_queues_new(struct gateway *gw);
void event_queues_stop(
    struct event_queues *queues); /* nothing more is taken; what is not acknowledged goes to others */
void event_queues_free(struct event_queues *queues); /* after the connections; the loop must run once more */
