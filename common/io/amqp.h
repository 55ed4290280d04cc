/* RabbitMQ through librabbitmq. A link is one connection. Whatever may block (name resolution, login, everything over
 * TLS) happens in a thread of its own; then reading and writing belong to the loop, without a hand-over between
 * threads. A process has one link for publishing and one for consuming (alarms stop publishing connections only). Links
 * connect again by themselves with backoff, declare their topology again and consume again on new channels.
 * amqp_wire*.c alone meet the library. All functions: loop thread. While a link is down its messages are answered
 * AMQP_UNKNOWN at once. */
#pragma once
#include "common/base/clock.h"
#include <uv.h>

struct amqp_link;
struct amqp_consumer;

struct amqp_options {
    uv_loop_t *loop;
    const char *url;                                   /* amqp:// or amqps:// */
    const char *name;                                  /* connection name shown by the broker */
    int heartbeat_s;                                   /* 5 */
    void (*on_up)(void *ctx);                          /* connected, topology declared, consumers started */
    void (*on_down)(void *ctx, const struct err *err); /* once per loss, and once when the first attempt fails */
    void (*on_blocked)(void *ctx, bool blocked);       /* connection.blocked / unblocked; may be NULL */
    void *ctx;
};
struct amqp_link *amqp_link_new(const struct amqp_options *options);
void amqp_link_free(struct amqp_link *link); /* closes within a second; unconfirmed messages are reported unknown */
bool amqp_link_is_up(const struct amqp_link *link);

/* Topology, remembered and declared again after each reconnect. */
struct amqp_queue {
    const char *name;
    bool durable, exclusive, auto_delete;
    const char *type;          /* "classic" or "quorum"; NULL for classic without argument (exclusive queues) */
    const char *bind_exchange; /* fanout exchange to bind to, NULL for none */
};
void amqp_declare_queue(struct amqp_link *link, const struct amqp_queue *queue);
void amqp_declare_fanout(struct amqp_link *link, const char *exchange);
void amqp_declare_topic(struct amqp_link *link, const char *exchange);

/* Consuming. Deliveries come in batches on the loop; the list is the receiver's, each freed with amqp_delivery_free. */
struct amqp_delivery {
    struct amqp_delivery *next;
    struct amqp_consumer *consumer; /* valid as a key only; may be closed meanwhile */
    uint64_t generation;            /* of the consumer's channel; acks of an older one are ignored */
    uint64_t tag;
    bool redelivered;
    struct str type, message_id, reply_to, body; /* in the delivery's own memory */
    struct wall_us timestamp;
    uint64_t whole_bytes; /* the body is only the beginning of something that long; 0: it is all of it */
};
void amqp_delivery_free(struct amqp_delivery *delivery);

struct amqp_consume {
    const char *queue;
    uint16_t prefetch;
    int priority; /* x-priority of the consumer: a shard's epoch */
    bool no_ack;
    uint64_t body_most; /* of a longer message only the beginning comes (1 MiB), with whole_bytes; 0: 64 MiB */
    void (*on_deliveries)(void *ctx, struct amqp_delivery *first);
    void (*on_lost)(void *ctx); /* the channel or connection is gone: what is unacknowledged comes again; may be NULL */
    void *ctx;
};
struct amqp_consumer *amqp_consume(struct amqp_link *link, const struct amqp_consume *options); /* channel of its own */
/* Closes the consumer's channel: the broker gives back what was not acknowledged. No callback comes after it. */
void amqp_consumer_close(struct amqp_consumer *consumer);
/* Cancels the consumer but keeps the channel for acknowledgements of what is in hand (drain). */
void amqp_consumer_cancel(struct amqp_consumer *consumer);
void amqp_ack(struct amqp_consumer *consumer, uint64_t generation,
              uint64_t tag); /* batched into multiple acks where in order */
void amqp_nack(struct amqp_consumer *consumer, uint64_t generation, uint64_t tag, bool requeue);

/* Publishing: queued, streamed, confirmed in batches. */
enum amqp_confirm {
    AMQP_CONFIRMED,
    AMQP_RETURNED /* no such queue */,
    AMQP_REFUSED /* nack */,
    AMQP_UNKNOWN /* connection lost */
};
struct amqp_message {
    const char *exchange; /* "" for the default exchange */
    const char *routing_key;
    const char *type;         /* "task", "result", ... */
    const char *message_id;   /* may be NULL */
    const char *reply_to;     /* may be NULL */
    const char *content_type; /* a constant; NULL: application/json */
    bool persistent;          /* persistent messages are also mandatory and confirmed; others are fire and forget */
    bool in_memory;           /* of a persistent one: a classic queue need not write it down, so a restart loses it */
    struct str body;          /* copied */
    uint64_t whole_bytes;     /* the body is the beginning of something that long; 0: it is all there is */
    struct wall_us sent_at;   /* what the receiver is told, in whole seconds; 0: this machine's clock */
    void (*on_confirm)(void *ctx, enum amqp_confirm outcome); /* on the loop; NULL: nobody cares */
    void *ctx;
};
void amqp_publish(struct amqp_link *link, const struct amqp_message *message);
/* Sends what was published and acknowledged since the last call, in one go. Call once per turn of the loop's work; what
 * nobody flushes goes at the end of the turn. */
void amqp_flush(struct amqp_link *link);

/* Passive declare: how many messages are ready and how many consume. found = false: no such queue. */
typedef void (*amqp_depth_fn)(void *ctx, bool found, uint32_t ready, uint32_t consumers);
void amqp_queue_depth(struct amqp_link *link, const char *queue, amqp_depth_fn done, void *ctx);
