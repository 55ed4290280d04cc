/* Rings of delivery tags and confirm numbers; see amqp_tags.h. */
#include "common/io/amqp_tags.h"
#include "common/base/ensure.h"

#include "common/base/banned.h"

enum { ACK_OPEN, ACK_PENDING, ACK_SETTLED };

void ack_window_init(struct ack_window *window)
{
    *window = (struct ack_window){.base = 1, .next = 1, .cap = 64};
    window->state = mem_alloc(window->cap);
}

void ack_window_deinit(struct ack_window *window)
{
    mem_free(window->state);
    mem_free(window->pending);
    *window = (struct ack_window){0};
}

static void ack_window_widen(struct ack_window *window)
{
    size_t cap = window->cap * 2;
    uint8_t *state = mem_alloc(cap);

    for (uint64_t tag = window->base; tag < window->next; tag++)
        state[tag & (cap - 1)] = window->state[tag & (window->cap - 1)];
    mem_free(window->state);
    window->state = state;
    window->cap = cap;
}

void ack_window_delivered(struct ack_window *window, uint64_t tag)
{
    if (tag != window->next) /* the broker counts without gaps; anything else would make a multiple ack a lie */
        return;
    if (window->next - window->base == window->cap)
        ack_window_widen(window);
    window->state[tag & (window->cap - 1)] = ACK_OPEN;
    window->next++;
}

bool ack_window_settle(struct ack_window *window, uint64_t tag, bool sent)
{
    uint8_t *state;

    if (tag < window->base || tag >= window->next)
        return false;
    state = &window->state[tag & (window->cap - 1)];
    if (*state != ACK_OPEN)
        return false;
    if (sent) {
        *state = ACK_SETTLED;
        return true;
    }
    *state = ACK_PENDING;
    if (window->pending_len == window->pending_cap) {
        window->pending_cap = window->pending_cap == 0 ? 64 : window->pending_cap * 2;
        window->pending = mem_grow(window->pending, window->pending_cap, sizeof(*window->pending));
    }
    window->pending[window->pending_len++] = tag;
    return true;
}

void ack_window_flush(struct ack_window *window, ack_send_fn send, void *ctx)
{
    uint64_t upto = 0, count = 0;

    while (window->base < window->next) {
        uint8_t *state = &window->state[window->base & (window->cap - 1)];

        if (*state == ACK_OPEN)
            break;
        if (*state == ACK_PENDING) {
            upto = window->base;
            count++;
        }
        *state = ACK_SETTLED;
        window->base++;
    }
    if (upto != 0)
        send(ctx, upto, count > 1);
    for (size_t i = 0; i < window->pending_len; i++) {
        uint64_t tag = window->pending[i];

        if (tag < window->base)
            continue;
        window->state[tag & (window->cap - 1)] = ACK_SETTLED;
        send(ctx, tag, false);
    }
    window->pending_len = 0;
}

void confirm_window_init(struct confirm_window *window)
{
    *window = (struct confirm_window){.base = 1, .next = 1, .cap = 256};
    window->entries = mem_array(window->cap, sizeof(*window->entries));
}

void confirm_window_deinit(struct confirm_window *window)
{
    mem_free(window->entries);
    *window = (struct confirm_window){0};
}

static struct confirm_entry *confirm_at(struct confirm_window *window, uint64_t number)
{
    return &window->entries[number & (window->cap - 1)];
}

uint64_t confirm_window_add(struct confirm_window *window, void (*fn)(void *, enum amqp_confirm), void *ctx)
{
    if (window->next - window->base == window->cap) {
        size_t cap = window->cap * 2;
        struct confirm_entry *entries = mem_array(cap, sizeof(*entries));

        for (uint64_t n = window->base; n < window->next; n++)
            entries[n & (cap - 1)] = *confirm_at(window, n);
        mem_free(window->entries);
        window->entries = entries;
        window->cap = cap;
    }
    *confirm_at(window, window->next) = (struct confirm_entry){.fn = fn, .ctx = ctx, .state = CONFIRM_WAITING};
    return window->next++;
}

void confirm_window_returned(struct confirm_window *window, uint64_t number)
{
    if (number < window->base || number >= window->next)
        return;
    if (confirm_at(window, number)->state == CONFIRM_WAITING)
        confirm_at(window, number)->state = CONFIRM_RETURNED;
}

static void confirm_one(struct confirm_window *window, uint64_t number, enum amqp_confirm outcome, confirm_fn report,
                        void *ctx)
{
    struct confirm_entry *entry = confirm_at(window, number);

    if (entry->state == CONFIRM_SETTLED)
        return;
    if (entry->state == CONFIRM_RETURNED)
        outcome = AMQP_RETURNED;
    entry->state = CONFIRM_SETTLED;
    report(ctx, entry, outcome);
}

void confirm_window_settle(struct confirm_window *window, uint64_t number, bool multiple, enum amqp_confirm outcome,
                           confirm_fn report, void *ctx)
{
    uint64_t first = multiple ? window->base : number;

    if (multiple && number == 0) /* AMQP: zero with multiple means everything so far */
        number = window->next - 1;
    if (number >= window->next)
        return;
    for (uint64_t n = first < window->base ? window->base : first; n <= number; n++)
        confirm_one(window, n, outcome, report, ctx);
    while (window->base < window->next && confirm_at(window, window->base)->state == CONFIRM_SETTLED)
        window->base++;
}

void confirm_window_lose(struct confirm_window *window, confirm_fn report, void *ctx)
{
    for (uint64_t n = window->base; n < window->next; n++)
        confirm_one(window, n, AMQP_UNKNOWN, report, ctx);
    window->base = 1;
    window->next = 1;
}
