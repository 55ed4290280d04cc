/* What has waited is released. See release.h. */
#include "scheduler/release.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "rw_scheduler_sql.h"
#include "scheduler/core/fire.h"

#include "common/base/banned.h"

#define IDLE_MS ((int)(FIRE_LOOK_LEAST_US / US_PER_MS))
#define NEXT_MS 20  /* between slices, so that their starts do not stand in everybody's way */
#define RUNS_MAX 20 /* of one group at a time: sql/held_due.sql */

struct release {
    struct release_options options;
    uv_timer_t timer;
    bool closed, stopped;
    unsigned asked;
    struct fire_pace pace;
    int64_t epochs[SLOT_COUNT]; /* of shards, when their groups were asked for: what was read before a takeover is not
                                   written after it */
};

/* What is released in one transaction. */
struct slice {
    struct release *release;
    size_t count; /* groups */
    int64_t first;
    int16_t shard; /* of the first */
    bool full;     /* there may be more than was looked at */
    int fired;     /* index of the result */
};

static void on_turn(uv_timer_t *timer);

static void maybe_free(struct release *release)
{
    if (release->closed && release->asked == 0 && release->timer.data == NULL)
        mem_free(release);
}

static void again(struct release *release, int ms)
{
    if (!release->stopped)
        uv_timer_start(&release->timer, on_turn, (uint64_t)ms, 0);
}

/* An answer has come. False when nobody waits for it any more. */
static bool answered(struct release *release)
{
    release->asked--;
    if (release->closed)
        maybe_free(release);
    return !release->closed;
}

static void add_guard(const struct release *release, struct pg_batch *batch, const bool *shards)
{
    struct pg_array *numbers = pg_array_new(batch, PG_E_I16), *epochs = pg_array_new(batch, PG_E_I64);

    for (int shard = 0; shard < SLOT_COUNT; shard++)
        if (shards[shard]) {
            pg_array_add(numbers, pg_i16((int16_t)shard));
            pg_array_add(epochs, pg_i64(release->epochs[shard]));
        }
    (void)pg_add(batch, SQL_BATCH_GUARD, pg_uuid(release->options.me), pg_array_param(numbers), pg_array_param(epochs));
}

static void on_put_off(void *ctx, const struct pg_outcome *outcome)
{
    struct release *release = ctx;

    if (!answered(release))
        return;
    if (outcome->rc != ERR_OK && outcome->rc != ERR_STALE)
        log_event(LOG_WARN, "held.not_put_off", log_err(outcome->err));
    again(release, NEXT_MS);
}

/* A group that PostgreSQL refuses holds up no other: it is tried again later. */
static void put_off(struct slice *slice, const struct err *err)
{
    struct release *release = slice->release;
    struct pg_batch *batch = pg_batch_new(true);
    bool shards[SLOT_COUNT] = {false};

    log_event(LOG_ERROR, "held.refused", log_i64("group", slice->first), log_err(err));
    shards[slice->shard] = true;
    release->asked++;
    add_guard(release, batch, shards);
    (void)pg_add(batch, SQL_HELD_PUT_OFF, pg_i64(slice->first));
    pg_submit(release->options.pg, batch, on_put_off, release);
}

static void released(struct slice *slice, size_t runs)
{
    struct release *release = slice->release;

    metric_add(METRIC_HELD_RELEASED, (int64_t)runs);
    if (runs > 0 && *release->options.sched != NULL) {
        sched_commands_written(*release->options.sched);
        release->options.woken(release->options.ctx);
    }
    again(release, slice->full ? NEXT_MS : runs > 0 ? 0 : IDLE_MS);
}

static void on_fired(void *ctx, const struct pg_outcome *outcome)
{
    struct slice *slice = ctx;
    struct release *release = slice->release;

    if (!answered(release)) {
        mem_free(slice);
        return;
    }
    switch (fire_pace_after(&release->pace, outcome->rc, slice->count)) {
    case FIRE_GO_ON:
        FAULT_POINT(scheduler_held_committed);
        released(slice, pg_rows(outcome->results[slice->fired]));
        break;
    case FIRE_REFUSED:
        put_off(slice, outcome->err);
        break;
    case FIRE_AGAIN:
        if (outcome->rc != ERR_STALE) /* else the shard is another's, who releases it */
            log_event(LOG_WARN, "held.not_released", log_err(outcome->err));
        again(release, outcome->rc == ERR_REFUSED_DATA ? NEXT_MS : IDLE_MS);
        break;
    }
    mem_free(slice);
}

/* Columns: sql/held_due.sql. */
static void fire(struct release *release, const struct pg_result *rows)
{
    struct slice *slice = mem_alloc(sizeof(*slice));
    struct pg_batch *batch = pg_batch_new(true);
    struct pg_array *groups = pg_array_new(batch, PG_E_I64), *runs = pg_array_new(batch, PG_E_UUID);
    struct pg_array *names = pg_array_new(batch, PG_E_TEXT), *shards = pg_array_new(batch, PG_E_I16);
    bool seen[SLOT_COUNT] = {false};

    *slice = (struct slice){.release = release, .full = pg_rows(rows) == release->pace.most};
    for (size_t i = 0; i < pg_rows(rows); i++) {
        int16_t shard = (int16_t)pg_get_int(rows, i, 1);
        int64_t count = pg_get_int(rows, i, 4);

        if (!release->options.owned[shard])
            continue;
        if (slice->count++ == 0) {
            slice->first = pg_get_int(rows, i, 0);
            slice->shard = shard;
        }
        if (!seen[shard])
            pg_array_add(shards, pg_i16(shard));
        seen[shard] = true;
        slice->full |= count >= RUNS_MAX;
        pg_array_add(names, pg_text(pg_get_str(rows, i, 3)));
        for (int64_t k = 0; k < count; k++) {
            pg_array_add(groups, pg_i64(pg_get_int(rows, i, 0)));
            pg_array_add(runs,
                         pg_uuid(run_id_make(db_clock_now(release->options.clock), (unsigned)pg_get_int(rows, i, 2))));
        }
    }
    release->asked++;
    add_guard(release, batch, seen);
    (void)pg_add(batch, SQL_HELD_LOCK_STARTS, pg_array_param(names));
    slice->fired = pg_add(batch, SQL_HELD_FIRE, pg_array_param(groups), pg_array_param(runs), pg_array_param(shards));
    pg_submit(release->options.pg, batch, on_fired, slice);
    FAULT_POINT(scheduler_held_sent);
}

/* Nothing is due. A millisecond later than it will be, rather than just before. */
static int idle_ms(const struct pg_result *next)
{
    int64_t in_us = pg_is_null(next, 0, 0) ? INT64_MAX : pg_get_int(next, 0, 0);

    return (int)(fire_look_after_us(in_us, false) / US_PER_MS) + 1;
}

static void on_due(void *ctx, const struct pg_outcome *outcome)
{
    struct release *release = ctx;

    if (!answered(release))
        return;
    if (outcome->rc != ERR_OK)
        log_event(LOG_WARN, "held.not_read", log_err(outcome->err));
    if (outcome->rc != ERR_OK || release->stopped)
        again(release, IDLE_MS);
    else if (pg_rows(outcome->results[0]) == 0)
        again(release, idle_ms(outcome->results[1]));
    else
        fire(release, outcome->results[0]);
}

static void on_turn(uv_timer_t *timer)
{
    struct release *release = timer->data;
    struct pg_batch *batch = pg_batch_new(false);
    struct pg_array *shards = pg_array_new(batch, PG_E_I16);

    for (int shard = 0; *release->options.sched != NULL && shard < SLOT_COUNT; shard++)
        if (release->options.owned[shard]) {
            release->epochs[shard] = release->options.epochs[shard];
            pg_array_add(shards, pg_i16((int16_t)shard));
        }
    if (pg_array_count(shards) == 0) {
        pg_batch_free(batch);
        again(release, IDLE_MS);
        return;
    }
    release->asked++;
    (void)pg_add(batch, SQL_HELD_DUE, pg_array_param(shards), pg_i32((int32_t)release->pace.most));
    (void)pg_add(batch, SQL_HELD_NEXT, pg_array_param(shards));
    pg_submit(release->options.pg, batch, on_due, release);
}

struct release *release_new(const struct release_options *options)
{
    struct release *release = mem_alloc(sizeof(*release));

    release->options = *options;
    fire_pace_init(&release->pace);
    ENSURE(uv_timer_init(options->loop, &release->timer) == 0);
    release->timer.data = release;
    again(release, IDLE_MS);
    return release;
}

void release_stop(struct release *release)
{
    release->stopped = true;
    uv_timer_stop(&release->timer);
}

static void on_closed(uv_handle_t *handle)
{
    struct release *release = handle->data;

    handle->data = NULL;
    maybe_free(release);
}

void release_free(struct release *release)
{
    if (release == NULL)
        return;
    release->closed = release->stopped = true;
    uv_close((uv_handle_t *)&release->timer, on_closed);
}
