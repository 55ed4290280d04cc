/* Bookkeeping of AMQP's two kinds of running numbers, without the library: which deliveries of a channel are settled
 * (so that contiguous acknowledgements become one), and which published messages wait for their confirm. The broker
 * link's thread owns them; no locks. */
#pragma once
#include "common/io/amqp.h"

/* Deliveries of one channel. Tags count from 1. */
struct ack_window {
    uint8_t *state; /* ring of ACK_*, indexed by tag modulo cap */
    uint64_t base;  /* lowest tag that is not settled */
    uint64_t next;  /* one above the highest tag seen */
    uint64_t *pending;
    size_t cap, pending_len, pending_cap;
};
/* Called for each acknowledgement to send. */
typedef void (*ack_send_fn)(void *ctx, uint64_t tag, bool multiple);

void ack_window_init(struct ack_window *window);
void ack_window_deinit(struct ack_window *window);
void ack_window_delivered(struct ack_window *window, uint64_t tag);
/* False: unknown or already settled. With `sent` the caller tells the broker itself (a nack); otherwise the tag waits
 * for ack_window_flush. */
bool ack_window_settle(struct ack_window *window, uint64_t tag, bool sent);
/* Sends what waits: the contiguous part at the low end as one, the rest one by one. */
void ack_window_flush(struct ack_window *window, ack_send_fn send, void *ctx);

/* Published messages of one channel in confirm mode. Numbers count from 1. */
struct confirm_entry {
    void (*fn)(void *ctx, enum amqp_confirm outcome);
    void *ctx;
    enum { CONFIRM_WAITING, CONFIRM_RETURNED, CONFIRM_SETTLED } state;
};
struct confirm_window {
    struct confirm_entry *entries;
    uint64_t base, next; /* lowest unsettled, next to be given */
    size_t cap;
};
typedef void (*confirm_fn)(void *ctx, const struct confirm_entry *entry, enum amqp_confirm outcome);

void confirm_window_init(struct confirm_window *window);
void confirm_window_deinit(struct confirm_window *window);
uint64_t confirm_window_add(struct confirm_window *window, void (*fn)(void *, enum amqp_confirm), void *ctx);
void confirm_window_returned(struct confirm_window *window, uint64_t number);
/* The broker's ack (AMQP_CONFIRMED) or nack of one number or, with `multiple`, of all up to it. A returned message is
 * reported as such whatever the broker confirms. Numbers never given are ignored. */
void confirm_window_settle(struct confirm_window *window, uint64_t number, bool multiple, enum amqp_confirm outcome,
                           confirm_fn report, void *ctx);
/* The channel is gone: everything unsettled is AMQP_UNKNOWN; counts from 1 again. */
void confirm_window_lose(struct confirm_window *window, confirm_fn report, void *ctx);
