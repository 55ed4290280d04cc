/* One AMQP connection as a link's session uses it: methods out, events in, no waiting but in wire_open and wire_close.
 * The amqp_wire*.c alone meet librabbitmq. The library logs in, reads and decodes; writing goes through our
 * own buffer, because the library sends with three system calls a message and waits without bound when the broker
 * stops reading. (Over TLS its own writer must do; its heartbeats bound it there.) One thread per wire. */
#pragma once
#include "common/io/amqp.h"

struct wire;

enum err_code wire_open(const char *url, const char *name, int heartbeat_s, struct wire **ret,
                        struct err *err) MUST_CHECK;
/* polite: says connection.close and waits for its answer at most 300 ms; without it the socket is just closed. */
void wire_close(struct wire *wire, bool polite);
int wire_fd(const struct wire *wire);
bool wire_may_block(const struct wire *wire); /* TLS: the library writes, and waits for the socket */
size_t wire_pending(const struct wire *wire); /* bytes not yet taken by the kernel */
/* Sends what the socket takes. Errors of earlier wire_put_* calls come out here, too. ERR_UNAVAILABLE: lost. */
enum err_code wire_write(struct wire *wire, struct err *err) MUST_CHECK;
/* Heartbeats, both ways; call at least every second, after reading. ERR_UNAVAILABLE: the broker is silent. */
enum err_code wire_tick(struct wire *wire, struct err *err) MUST_CHECK;

enum wire_kind {
    WIRE_NOTHING,        /* no complete frame at hand */
    WIRE_OTHER,          /* nothing the link needs */
    WIRE_CHANNEL_CLOSED, /* by the broker: code, text */
    WIRE_CHANNEL_ENDED,  /* our own close is through */
    WIRE_SELECT_OK,
    WIRE_CONSUME_OK,
    WIRE_CONSUMER_GONE, /* cancelled by the broker: the queue was deleted */
    WIRE_DECLARE_OK,    /* queue, exchange or binding; queues: ready, consumers */
    WIRE_DELIVERY,      /* delivery is the receiver's; generation and consumer are for it to fill in */
    WIRE_RETURNED,      /* number */
    WIRE_CONFIRM,       /* number, multiple, ok */
    WIRE_BLOCKED,       /* ok: blocked now */
};
struct wire_event {
    enum wire_kind kind;
    uint16_t channel;
    uint16_t code;
    char text[128];
    bool bound; /* DECLARE_OK of a binding or an exchange, not of a queue */
    uint32_t ready, consumers;
    size_t bytes; /* of a body that came with it, or with OTHER */
    struct amqp_delivery *delivery;
    uint64_t number;
    bool multiple, ok;
};
void wire_heard(struct wire *wire); /* the socket became readable: the broker lives */
/* The next event; WIRE_NOTHING when there is none now. ERR_UNAVAILABLE: the connection is lost or was closed. */
enum err_code wire_read(struct wire *wire, struct wire_event *ret, struct err *err) MUST_CHECK;

#define WIRE_CHANNELS 2048 /* channel numbers are 1 .. WIRE_CHANNELS - 1 */
void wire_put_channel_open(struct wire *wire, uint16_t channel);
void wire_put_channel_close(struct wire *wire, uint16_t channel);
void wire_put_confirm_select(struct wire *wire, uint16_t channel);
void wire_put_queue(struct wire *wire, uint16_t channel, const struct amqp_queue *queue, bool passive);
void wire_put_bind(struct wire *wire, uint16_t channel, const char *queue, const char *exchange);
void wire_put_exchange(struct wire *wire, uint16_t channel, const char *exchange, const char *type);
void wire_put_consume(struct wire *wire, uint16_t channel, const struct amqp_consume *options);
void wire_put_cancel(struct wire *wire, uint16_t channel);
void wire_put_ack(struct wire *wire, uint16_t channel, uint64_t tag, bool multiple);
void wire_put_nack(struct wire *wire, uint16_t channel, uint64_t tag, bool requeue);
/* number: of a confirmed message, comes back with WIRE_RETURNED; 0: transient, neither mandatory nor confirmed. */
void wire_put_publish(struct wire *wire, uint16_t channel, const struct amqp_message *message, uint64_t number);
