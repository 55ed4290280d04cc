/* See bulk_step.h. */
#include "gateway/bulk_step.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define LOOK_MS 2000 /* for what other gateways have accepted, or left */
/* Commands of one operation that are out at a time: as many as schedulers apply in half a second or so, and no more,
 * because everybody else's commands stand behind them. */
#define OUT_MAX 2000

struct bulk_steps {
    struct gateway *gw;
    uv_timer_t timer;
    bool asking, freed;
    bool woken; /* while it asked */
};

static void on_timer(uv_timer_t *timer);

static void look_in(struct bulk_steps *s, uint64_t ms)
{
    ENSURE(uv_timer_start(&s->timer, on_timer, ms, 0) == 0);
}

static void nudge(struct gateway *gw, struct str shards)
{
    while (shards.len > 0) {
        uint32_t shard = 0;

        if (parse_u32(str_cut(&shards, ','), 0, INT16_MAX, &shard))
            gateway_nudge(gw, (int)shard);
    }
    amqp_flush(gw->publish);
}

static uint64_t next_look(const struct pg_result *rows)
{
    int64_t due_ms = pg_is_null(rows, 0, 0) ? LOOK_MS : pg_get_int(rows, 0, 0);

    return due_ms < LOOK_MS ? (uint64_t)due_ms : LOOK_MS;
}

static void on_looked(void *ctx, const struct pg_outcome *outcome)
{
    struct bulk_steps *s = ctx;
    bool woken = s->woken;

    s->asking = s->woken = false;
    if (s->freed)
        return;
    if (outcome->rc != ERR_OK) {
        log_event(LOG_WARN, "bulk.look_failed", log_err(outcome->err));
        look_in(s, LOOK_MS);
        return;
    }
    if (!pg_is_null(outcome->results[0], 0, 1)) {
        FAULT_POINT(gateway_bulk_asked);
        nudge(s->gw, pg_get_str(outcome->results[0], 0, 1));
    }
    look_in(s, woken ? 0 : next_look(outcome->results[0]));
}

static void on_timer(uv_timer_t *timer)
{
    struct bulk_steps *s = timer->data;
    struct gateway *gw = s->gw;
    struct pg_batch *batch;

    if (gw->stopping)
        return;
    if (!gw->schema_ready || !pg_is_up(gw->bulk)) {
        look_in(s, LOOK_MS);
        return;
    }
    s->asking = true;
    batch = pg_batch_new(true);
    pg_add(batch, SQL_BULK_STEP, pg_i32(OUT_MAX));
    pg_submit(gw->bulk, batch, on_looked, s);
}

struct bulk_steps *bulk_steps_new(struct gateway *gw)
{
    struct bulk_steps *s = mem_alloc(sizeof(*s));

    s->gw = gw;
    s->timer.data = s;
    ENSURE(uv_timer_init(gw->loop, &s->timer) == 0);
    look_in(s, LOOK_MS);
    return s;
}

void bulk_steps_wake(struct bulk_steps *s)
{
    s->woken = s->asking;
    if (!s->asking)
        look_in(s, 0);
}

static void on_closed(uv_handle_t *handle)
{
    mem_free(handle->data);
}

void bulk_steps_free(struct bulk_steps *s)
{
    if (s != NULL) {
        s->freed = true;
        uv_close((uv_handle_t *)&s->timer, on_closed);
    }
}
