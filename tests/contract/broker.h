/* RabbitMQ as the shells of scheduler and worker have it (common/io/amqp.h), and a hand on the server. Three processes,
 * each with a connection of its own, which makes itself again after a loss and consumes again. */
#pragma once
#include "common/base/clock.h"
#include "tests/contract/contract.h"

enum process {
    S0,
    S1,
    W0,
    PROCESS_COUNT
}; /* schedulers, which listen to heartbeats, and a worker with a control queue */

int broker_group_begin(void **state);
int broker_group_end(void **state);
int broker_world_begin(void **state); /* QUEUE is there and empty; control queue of W0 */
int broker_world_end(void **state);
#define QUEUE hand_queue()
const char *hand_queue(void);
const char *hand_control(void);

/* What a shell asks for. A consumer is known by the number that is returned, from 0. */
int broker_do_consume(enum process process, const char *queue, uint32_t prefetch, int64_t priority);
void broker_do_close(int consumer);  /* its channel: what is unacknowledged comes again */
void broker_do_cancel(int consumer); /* no more messages; the channel still takes acknowledgements */
void broker_do_ack(int delivery);
void broker_do_nack(int delivery);                                                 /* put it back */
void broker_do_publish(enum process process, const char *queue, const char *body); /* persistent: confirmed or not */
void broker_do_heartbeat(enum process process, const char *body);
void broker_do_depth(enum process process, const char *queue);

void hand_lose_connection(enum process process);
void hand_die(enum process process);
void hand_purge(const char *queue);
void hand_delete(const char *queue);
void hand_declare(const char *queue);

/* What came, in order. */
#define DELIVERIES_MAX 256
struct broker_heard {
    struct {
        int consumer;
        bool redelivered;
        char body[16];
    } deliveries[DELIVERIES_MAX];
    int count, confirmed, not_confirmed, depths, heartbeats[PROCESS_COUNT];
    bool found;
    uint32_t ready, consumers;
};
extern struct broker_heard heard;
