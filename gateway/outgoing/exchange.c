/* See exchange.h. A slice at a time: taken, published, and when the broker has answered for each of it, deleted or put
 * off. What a gateway has in hand when it dies another publishes again, under the same id. */
#include "gateway/outgoing/exchange.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "gateway/outgoing/sender.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define HOLD_MS 30000
#define SLICE 500
#define LATER_MS 2000     /* the broker was away, or refused it */
#define NO_QUEUE_MS 30000 /* nobody has bound a queue that takes it */
#define ROUTING_KEY_MAX 255

enum fate { FATE_OPEN, FATE_DONE, FATE_LATER, FATE_NO_QUEUE };

struct item {
    struct exchange *exchange;
    int32_t organisation, attempt;
    struct run_id endpoint;
    struct str event;
    enum fate fate;
};

struct exchange {
    struct gateway *gw;
    uv_timer_t timer;
    struct mono_us found_at; /* when something was last there */
    struct arena *arena;     /* of the slice in hand */
    struct item *items;
    size_t count, open;
    bool busy; /* taking, publishing or writing down */
    bool no_queue;
    void (*done)(void *ctx);
    void *ctx;
};

static void on_timer(uv_timer_t *timer);

static void look_in(struct exchange *x, uint64_t ms)
{
    ENSURE(uv_timer_start(&x->timer, on_timer, ms, 0) == 0);
}

static void slice_over(struct exchange *x, uint64_t again_ms)
{
    if (x->arena != NULL)
        arena_free(x->arena);
    x->arena = NULL;
    x->busy = false;
    look_in(x, x->done != NULL ? 0 : again_ms);
}

/* ---- what became of them ---- */

static void on_written(void *ctx, const struct pg_outcome *outcome)
{
    struct exchange *x = ctx;
    bool full = x->count == SLICE;

    if (outcome->rc != ERR_OK)
        log_event(LOG_WARN, "outgoing.exchange_not_noted", log_err(outcome->err));
    slice_over(x, outcome->rc == ERR_OK && full ? 0 : SENDER_LOOK_MS);
}

/* Those of one organisation that fared alike. They come by organisation and endpoint. */
static void write_down(struct exchange *x, struct pg_batch *batch, size_t first, size_t end, enum fate fate)
{
    struct pg_array *events = pg_array_new(batch, PG_E_TEXT);

    for (size_t i = first; i < end; i++)
        if (x->items[i].fate == fate)
            pg_array_add(events, pg_text(x->items[i].event));
    if (pg_array_count(events) == 0)
        return;
    if (fate == FATE_DONE)
        pg_add(batch, SQL_OUTGOING_PUBLISHED, pg_uuid(x->items[first].endpoint), pg_array_param(events));
    else
        pg_add(batch, SQL_OUTGOING_PUT_OFF, pg_uuid(x->items[first].endpoint), pg_array_param(events),
               pg_i32(fate == FATE_NO_QUEUE ? NO_QUEUE_MS : LATER_MS));
}

static void slice_answered(struct exchange *x)
{
    struct pg_batch *batch = pg_batch_new(true);

    FAULT_POINT(gateway_exchange_confirmed);
    for (size_t first = 0, end; first < x->count; first = end) {
        for (end = first; end < x->count && run_id_eq(x->items[end].endpoint, x->items[first].endpoint); end++)
            ;
        pg_batch_organisation(batch, x->items[first].organisation);
        for (enum fate fate = FATE_DONE; fate <= FATE_NO_QUEUE; fate++)
            write_down(x, batch, first, end, fate);
    }
    pg_submit(x->gw->writes, batch, on_written, x);
}

static void on_confirm(void *ctx, enum amqp_confirm outcome)
{
    struct item *item = ctx;
    struct exchange *x = item->exchange;

    ENSURE(item->fate == FATE_OPEN && x->open > 0);
    item->fate = outcome == AMQP_CONFIRMED ? FATE_DONE : outcome == AMQP_RETURNED ? FATE_NO_QUEUE : FATE_LATER;
    if (outcome == AMQP_CONFIRMED)
        metric_add(METRIC_OUTGOING_PUBLISHED, 1);
    if (outcome == AMQP_RETURNED && !x->no_queue) /* once, until it is better */
        log_event(LOG_WARN, "outgoing.no_queue", log_cstr("exchange", RUN_EVENTS_EXCHANGE),
                  log_i64("organisation_id", item->organisation));
    x->no_queue = outcome == AMQP_RETURNED;
    if (--x->open == 0)
        slice_answered(x);
}

/* ---- taking ---- */

/* Columns: sql/outgoing_take.sql */
static void publish(struct exchange *x, const struct pg_result *rows, size_t row, struct item *item)
{
    char key[ROUTING_KEY_MAX + 1];
    struct str event = pg_get_str(rows, row, 7);

    *item = (struct item){.exchange = x,
                          .organisation = (int32_t)pg_get_int(rows, row, 0),
                          .attempt = (int32_t)pg_get_int(rows, row, 10),
                          .endpoint = pg_get_uuid(rows, row, 2),
                          .event = (struct str){arena_dup(x->arena, event.ptr, event.len), event.len}};
    snprintf(key, sizeof(key), STR_FMT "." STR_FMT, STR_ARG(pg_get_str(rows, row, 8)),
             STR_ARG(pg_get_str(rows, row, 1)));
    amqp_publish(x->gw->publish, &(struct amqp_message){.exchange = RUN_EVENTS_EXCHANGE,
                                                        .routing_key = key,
                                                        .type = "cloudevent",
                                                        .content_type = "application/cloudevents+json",
                                                        .message_id = item->event.ptr,
                                                        .persistent = true,
                                                        .body = pg_get_str(rows, row, 9),
                                                        .on_confirm = on_confirm,
                                                        .ctx = item});
}

static void on_taken(void *ctx, const struct pg_outcome *outcome)
{
    struct exchange *x = ctx;
    const struct pg_result *rows;

    if (outcome->rc != ERR_OK || pg_rows(outcome->results[0]) == 0) {
        if (outcome->rc != ERR_OK)
            log_event(LOG_WARN, "outgoing.take_failed", log_err(outcome->err));
        slice_over(x, sender_look_ms(x->found_at));
        return;
    }
    x->found_at = clock_mono();
    rows = outcome->results[0];
    x->arena = arena_new(16384);
    x->count = x->open = pg_rows(rows);
    x->items = arena_array(x->arena, x->count, sizeof(*x->items));
    for (size_t i = 0; i < x->count; i++)
        publish(x, rows, i, &x->items[i]);
    amqp_flush(x->gw->publish);
    FAULT_POINT(gateway_exchange_published);
}

static void take(struct exchange *x)
{
    struct pg_batch *batch = pg_batch_new(false);

    x->busy = true;
    pg_add(batch, SQL_OUTGOING_TAKE, pg_text(STR("exchange")), pg_i32(SLICE), pg_i32(SLICE), pg_i32(SLICE),
           pg_i32(SLICE), pg_i32(HOLD_MS));
    pg_submit(x->gw->writes, batch, on_taken, x);
}

static void on_timer(uv_timer_t *timer)
{
    struct exchange *x = timer->data;

    if (x->busy)
        return;
    if (x->done != NULL)
        x->done(x->ctx);
    else if (x->gw->schema_ready && pg_is_up(x->gw->writes) && amqp_link_is_up(x->gw->publish))
        take(x);
    else
        look_in(x, sender_look_ms(x->found_at));
}

/* ---- life ---- */

struct exchange *exchange_new(struct gateway *gw)
{
    struct exchange *x = mem_alloc(sizeof(*x));

    x->gw = gw;
    x->timer.data = x;
    ENSURE(uv_timer_init(gw->loop, &x->timer) == 0);
    amqp_declare_topic(gw->publish, RUN_EVENTS_EXCHANGE);
    look_in(x, SENDER_LOOK_MS);
    return x;
}

void exchange_stop(struct exchange *x, void (*done)(void *ctx), void *ctx)
{
    x->done = done;
    x->ctx = ctx;
    if (!x->busy)
        look_in(x, 0);
}

static void on_closed(uv_handle_t *handle)
{
    struct exchange *x = handle->data;

    if (x->arena != NULL)
        arena_free(x->arena);
    mem_free(x);
}

void exchange_free(struct exchange *x)
{
    if (x != NULL)
        uv_close((uv_handle_t *)&x->timer, on_closed);
}
