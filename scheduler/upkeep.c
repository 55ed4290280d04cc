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
#define SLICE_PAUSE_MS 100

/* What expires, each in a transaction of its own: where one of them fails the others are done all the same. */
static const struct expiry {
    const char *table, *sql;
    int most; /* rows of a slice */
} EXPIRIES[] = {
    {"idempotency", SQL_IDEMPOTENCY_EXPIRE, SLICE_ROWS}, {"bulk_run", SQL_BULK_RUN_EXPIRE, SLICE_ROWS},
    {"bulk_operation", SQL_BULK_EXPIRE, SLICE_ROWS},     {"delivery_nonce", SQL_DELIVERY_NONCE_EXPIRE, SLICE_ROWS},
    {"delivery", SQL_DELIVERY_EXPIRE, SLICE_ROWS},       {"schedule_fire", SQL_SCHEDULE_EXPIRE, SLICE_ROWS},
    {"incoming_event", SQL_INCOMING_EXPIRE, SLICE_ROWS}, {"outgoing", SQL_OUTGOING_EXPIRE, SLICE_ROWS},
};
#define EXPIRY_COUNT (sizeof(EXPIRIES) / sizeof(EXPIRIES[0]))

/* How far one of them is. */
struct expiring {
    struct upkeep *upkeep;
    const struct expiry *expiry;
    int most;   /* rows of the next slice: half as many after a failure, twice as many after a success */
    int passed; /* the oldest rows, which PostgreSQL refuses to remove: tried again each hour */
};

struct upkeep {
    struct upkeep_options options;
    uv_timer_t timer;
    struct expiring expiring[EXPIRY_COUNT];
    bool closed, again; /* again: there is more than one slice to do */
    unsigned asked;     /* answers to come */
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

/* A slice is removed whole or not at all, so one row would keep all others: what fails is halved. What is refused alone
 * is passed over; what only took too long was the slice's size, or will be better by itself. */
static void smaller(struct expiring *e, const struct err *err)
{
    log_event(LOG_WARN, "expiry.failed", log_cstr("table", e->expiry->table), log_i64("rows", e->most),
              log_i64("passed", e->passed), log_err(err));
    if (e->most > 1)
        e->most /= 2;
    else if (err->code == ERR_REFUSED_DATA)
        e->passed++;
}

/* True when there may be more. */
static bool expired(struct expiring *e, int64_t rows)
{
    bool more = rows >= e->most;

    e->most = e->most * 2 < e->expiry->most ? e->most * 2 : e->expiry->most;
    return more;
}

static void on_expired(void *ctx, const struct pg_outcome *outcome)
{
    struct expiring *e = ctx;
    struct upkeep *upkeep = e->upkeep;

    upkeep->asked--;
    if (upkeep->closed) {
        maybe_free(upkeep);
        return;
    }
    if (outcome->rc == ERR_OK) {
        upkeep->again |= expired(e, pg_affected(outcome->results[0]));
    } else {
        smaller(e, outcome->err);
        upkeep->again |= outcome->rc == ERR_REFUSED_DATA;
    }
    if (upkeep->again && upkeep->asked == 0)
        uv_timer_start(&upkeep->timer, on_turn, SLICE_PAUSE_MS, (uint64_t)upkeep->options.turn_ms);
}

static void expire(struct expiring *e)
{
    struct pg_batch *batch = pg_batch_new(true);

    e->upkeep->asked++;
    (void)pg_add(batch, e->expiry->sql, pg_i32(e->most), pg_i32(e->passed));
    pg_submit(e->upkeep->options.pg, batch, on_expired, e);
}

static void on_turn(uv_timer_t *timer)
{
    struct upkeep *upkeep = timer->data;

    if (upkeep->asked > 0 || !upkeep->options.mine(upkeep->options.ctx))
        return;
    upkeep->again = false;
    if (clock_mono().us >= upkeep->partitions_due.us) {
        upkeep_partitions(upkeep);
        for (size_t i = 0; i < EXPIRY_COUNT; i++)
            upkeep->expiring[i].passed = 0;
    }
    for (size_t i = 0; i < EXPIRY_COUNT; i++)
        expire(&upkeep->expiring[i]);
}

struct upkeep *upkeep_new(const struct upkeep_options *options)
{
    struct upkeep *upkeep = mem_alloc(sizeof(*upkeep));

    upkeep->options = *options;
    if (upkeep->options.turn_ms <= 0)
        upkeep->options.turn_ms = TURN_MS;
    for (size_t i = 0; i < EXPIRY_COUNT; i++)
        upkeep->expiring[i] = (struct expiring){.upkeep = upkeep, .expiry = &EXPIRIES[i], .most = EXPIRIES[i].most};
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
