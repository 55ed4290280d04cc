/* Partitions and expiry. Failures are logged and made good at the next turn. */
#include "scheduler/upkeep.h"
#include "common/base/ensure.h"
#include "common/base/log.h"
#include "rw_scheduler_sql.h"

#include "common/base/banned.h"

#define TURN_MS 10000
#define PARTITIONS_EACH_US (INT64_C(3600) * US_PER_S)
#define PARTITIONS_AGAIN_US (INT64_C(30) * US_PER_S)
#define SLICE_ROWS 1000
#define SLICE_OPERATIONS 10 /* each with up to 10,000 runs */
#define SLICE_PAUSE_MS 100

struct upkeep {
    struct upkeep_options options;
    uv_timer_t timer;
    bool closed;
    unsigned asked; /* answers to come */
    struct mono_us partitions_due;
};

static void maybe_free(struct upkeep *upkeep)
{
    if (upkeep->closed && upkeep->asked == 0 && !uv_is_active((uv_handle_t *)&upkeep->timer) &&
        upkeep->timer.data == NULL)
        mem_free(upkeep);
}

static void on_partitions(void *ctx, const struct pg_outcome *outcome)
{
    struct upkeep *upkeep = ctx;

    upkeep->asked--;
    if (upkeep->closed) {
        maybe_free(upkeep);
        return;
    }
    if (outcome->rc != ERR_OK) {
        log_event(LOG_WARN, "partitions.failed", log_err(outcome->err));
        upkeep->partitions_due.us = clock_mono().us + PARTITIONS_AGAIN_US;
    } else if (pg_get_int(outcome->results[0], 0, 0) > 0) {
        log_event(LOG_INFO, "partitions.made", log_i64("tables", pg_get_int(outcome->results[0], 0, 0)));
    }
}

void upkeep_partitions(struct upkeep *upkeep)
{
    struct pg_batch *batch = pg_batch_new(true);

    upkeep->partitions_due.us = clock_mono().us + PARTITIONS_EACH_US;
    upkeep->asked++;
    (void)pg_add(batch, SQL_PARTITIONS_ENSURE, pg_i32(upkeep->options.partition_days));
    pg_submit(upkeep->options.pg, batch, on_partitions, upkeep);
}

static void on_turn(uv_timer_t *timer);

static void on_expired(void *ctx, const struct pg_outcome *outcome)
{
    struct upkeep *upkeep = ctx;

    upkeep->asked--;
    if (upkeep->closed) {
        maybe_free(upkeep);
        return;
    }
    if (outcome->rc != ERR_OK)
        log_event(LOG_WARN, "idempotency.expiry_failed", log_err(outcome->err));
    else if (pg_affected(outcome->results[0]) >= SLICE_ROWS || pg_affected(outcome->results[2]) >= SLICE_ROWS ||
             pg_affected(outcome->results[3]) >= SLICE_ROWS || pg_affected(outcome->results[4]) >= SLICE_ROWS)
        uv_timer_start(&upkeep->timer, on_turn, SLICE_PAUSE_MS, (uint64_t)upkeep->options.turn_ms);
}

static void on_turn(uv_timer_t *timer)
{
    struct upkeep *upkeep = timer->data;
    struct pg_batch *batch;

    if (upkeep->asked > 0 || !upkeep->options.mine(upkeep->options.ctx))
        return;
    if (clock_mono().us >= upkeep->partitions_due.us)
        upkeep_partitions(upkeep);
    batch = pg_batch_new(true);
    upkeep->asked++;
    (void)pg_add(batch, SQL_IDEMPOTENCY_EXPIRE, pg_i32(SLICE_ROWS));
    (void)pg_add(batch, SQL_BULK_EXPIRE, pg_i32(SLICE_OPERATIONS));
    (void)pg_add(batch, SQL_DELIVERY_NONCE_EXPIRE, pg_i32(SLICE_ROWS));
    (void)pg_add(batch, SQL_DELIVERY_EXPIRE, pg_i32(SLICE_ROWS));
    (void)pg_add(batch, SQL_SCHEDULE_EXPIRE, pg_i32(SLICE_ROWS));
    pg_submit(upkeep->options.pg, batch, on_expired, upkeep);
}

struct upkeep *upkeep_new(const struct upkeep_options *options)
{
    struct upkeep *upkeep = mem_alloc(sizeof(*upkeep));

    upkeep->options = *options;
    if (upkeep->options.turn_ms <= 0)
        upkeep->options.turn_ms = TURN_MS;
    ENSURE(uv_timer_init(options->loop, &upkeep->timer) == 0);
    upkeep->timer.data = upkeep;
    uv_timer_start(&upkeep->timer, on_turn, (uint64_t)upkeep->options.turn_ms, (uint64_t)upkeep->options.turn_ms);
    return upkeep;
}

static void on_closed(uv_handle_t *handle)
{
    struct upkeep *upkeep = handle->data;

    handle->data = NULL;
    maybe_free(upkeep);
}

void upkeep_free(struct upkeep *upkeep)
{
    if (upkeep == NULL)
        return;
    upkeep->closed = true;
    uv_close((uv_handle_t *)&upkeep->timer, on_closed);
}
