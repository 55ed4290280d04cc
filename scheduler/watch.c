/* The watch over open runs. */
#include "scheduler/watch.h"
#include "common/base/ensure.h"
#include "common/base/log.h"
#include "rw_scheduler_sql.h"

#include "common/base/banned.h"

#define TURN_MS 200
#define SWEEP_MS 10000
#define RUNS_PER_SECOND 500
#define SLICE_MAX 5000
/* Of each sweep a part is read and folded: all where they and their histories are few, so many events a second at most
 * where they are not. One that looks stuck is read in every sweep, unless its history is long. */
#define FOLDED_EVENTS_PER_SECOND 500
#define SUSPECT_EVENTS 5000
#define FOLDED_PARTS_MAX 4096

struct watch {
    struct watch_options options;
    uv_timer_t timer;
    bool closed;
    unsigned asked;      /* answers to come */
    struct run_id after; /* the sweep has come so far */
    struct run_id from;  /* ... and this is where the slice that is being looked at begins */
    bool sweeping;
    struct mono_us next_sweep;
    uint64_t sweep; /* its number */
    size_t seen, seen_before, events, events_before;
};

static void maybe_free(struct watch *watch)
{
    if (watch->closed && watch->asked == 0 && watch->timer.data == NULL)
        mem_free(watch);
}

/* One sweep in how many reads a run. */
static uint64_t parts_of(const struct watch *watch, bool suspect, size_t events)
{
    uint64_t seconds = (uint64_t)watch->options.sweep_ms / 1000;
    uint64_t walking = watch->seen_before / (uint64_t)watch->options.runs_per_second, parts;

    if (walking > seconds)
        seconds = walking;
    parts = suspect ? 1 + events / SUSPECT_EVENTS
                    : 1 + watch->events_before / (FOLDED_EVENTS_PER_SECOND * (seconds < 1 ? 1 : seconds));
    return parts > FOLDED_PARTS_MAX ? FOLDED_PARTS_MAX : parts;
}

/* By the bytes that are random in an id. */
static bool is_read(const struct watch *watch, struct run_id run, bool suspect, size_t events)
{
    uint64_t parts = parts_of(watch, suspect, events);

    return ((uint64_t)run.bytes[9] * 256 + run.bytes[10]) % parts == watch->sweep % parts;
}

static void on_told(void *ctx, const struct pg_outcome *outcome)
{
    struct watch *watch = ctx;

    watch->asked--;
    if (watch->closed) {
        maybe_free(watch);
        return;
    }
    if (outcome->rc != ERR_OK) {
        log_event(LOG_WARN, "watch.child_not_told", log_err(outcome->err));
        return;
    }
    for (size_t i = 0; i < pg_rows(outcome->results[0]); i++)
        sched_orphan(*watch->options.sched, pg_get_uuid(outcome->results[0], i, 0), ORPHAN_CHILD_END);
}

static void on_admissions(void *ctx, const struct pg_outcome *outcome)
{
    struct watch *watch = ctx;

    watch->asked--;
    if (watch->closed) {
        maybe_free(watch);
        return;
    }
    if (outcome->rc != ERR_OK) {
        log_event(LOG_WARN, "watch.slots_not_looked_at", log_err(outcome->err));
        return;
    }
    for (size_t i = 0; i < pg_rows(outcome->results[0]); i++)
        sched_orphan(*watch->options.sched, pg_get_uuid(outcome->results[0], i, 0),
                     pg_get_int(outcome->results[0], i, 1) == 0 ? ORPHAN_SLOT_KEPT : ORPHAN_SLOT_UNHEARD);
}

static void tell_parents(struct watch *watch, const struct pg_result *rows)
{
    struct pg_batch *batch = pg_batch_new(true);
    struct pg_array *runs = pg_array_new(batch, PG_E_UUID);
    struct pg_array *shards = pg_array_new(batch, PG_E_I16);

    for (size_t i = 0; i < pg_rows(rows); i++) {
        struct run_id run = pg_get_uuid(rows, i, 0);

        if (!pg_get_bool(rows, i, 3))
            continue;
        pg_array_add(runs, pg_uuid(run));
        pg_array_add(shards, pg_i16(watch->options.slot_shard[run_id_slot(run)]));
    }
    watch->asked++;
    (void)pg_add(batch, SQL_WATCH_CHILD, pg_array_param(runs), pg_array_param(shards));
    pg_submit(watch->options.pg, batch, on_told, watch);
}

static void look(struct watch *watch, const struct pg_result *rows)
{
    size_t count = pg_rows(rows), picked = 0;
    struct run_id *runs = mem_array(count + 1, sizeof(*runs));
    bool child = false;

    for (size_t i = 0; i < count; i++) {
        struct run_id run = pg_get_uuid(rows, i, 0);

        watch->after = run;
        if (!pg_get_bool(rows, i, 1))
            continue;
        watch->seen++;
        watch->events += (size_t)pg_get_int(rows, i, 4);
        child |= pg_get_bool(rows, i, 3);
        if (is_read(watch, run, pg_get_bool(rows, i, 2), (size_t)pg_get_int(rows, i, 4)))
            runs[picked++] = run;
    }
    if (picked > 0) {
        sched_audit(*watch->options.sched, runs, picked);
        watch->options.woken(watch->options.ctx);
    }
    if (child)
        tell_parents(watch, rows);
    mem_free(runs);
}

static size_t slice_size(const struct watch *watch)
{
    int size = watch->options.runs_per_second * TURN_MS / 1000;

    return size < 1 ? 1 : size > SLICE_MAX ? SLICE_MAX : (size_t)size;
}

/* The shards that count; false: none. */
static bool add_shards(const struct watch *watch, struct pg_array *shards)
{
    bool any = false;

    for (int shard = 0; shard < SLOT_COUNT; shard++) {
        if (!watch->options.owned[shard])
            continue;
        pg_array_add(shards, pg_i16((int16_t)shard));
        any = true;
    }
    return any;
}

/* Concurrency limits of the runs above one and up to another; from the first one on also those of organisations. */
static void look_at_admissions(struct watch *watch, struct run_id from, struct run_id to)
{
    struct pg_batch *batch = pg_batch_new(true);
    struct pg_array *shards = pg_array_new(batch, PG_E_I16);
    const struct run_id none = {{0}};

    (void)add_shards(watch, shards);
    watch->asked++;
    (void)pg_add(batch, SQL_WATCH_ADMISSION, pg_array_param(shards), pg_uuid(from), pg_uuid(to),
                 pg_bool(run_id_eq(from, none)), pg_i32(watch->options.most_running_runs));
    pg_submit(watch->options.pg, batch, on_admissions, watch);
}

/* No run, only the keys of organisations: it is their limits that change. */
void watch_slots(struct watch *watch)
{
    const struct run_id none = {{0}};

    if (!watch->closed && *watch->options.sched != NULL)
        look_at_admissions(watch, none, none);
}

static void on_slice(void *ctx, const struct pg_outcome *outcome)
{
    struct watch *watch = ctx;
    struct run_id to;
    bool last;

    watch->asked--;
    if (watch->closed) {
        maybe_free(watch);
        return;
    }
    if (outcome->rc != ERR_OK) {
        log_event(LOG_WARN, "watch.failed", log_err(outcome->err));
        return;
    }
    look(watch, outcome->results[0]);
    last = pg_rows(outcome->results[0]) < slice_size(watch);
    to = watch->after;
    if (last) /* as far as there are runs */
        memset(to.bytes, 0xff, sizeof(to.bytes));
    look_at_admissions(watch, watch->from, to);
    if (!last)
        return;
    watch->sweeping = false;
    watch->seen_before = watch->seen;
    watch->events_before = watch->events;
}

static void on_turn(uv_timer_t *timer)
{
    struct watch *watch = timer->data;
    struct mono_us now = clock_mono();
    struct pg_batch *batch;
    struct pg_array *shards;

    if (watch->asked > 0 || *watch->options.sched == NULL || (!watch->sweeping && now.us < watch->next_sweep.us))
        return;
    batch = pg_batch_new(false);
    shards = pg_array_new(batch, PG_E_I16);
    if (!add_shards(watch, shards)) {
        pg_batch_free(batch);
        return;
    }
    if (!watch->sweeping) {
        watch->sweeping = true;
        watch->next_sweep.us = now.us + watch->options.sweep_ms * US_PER_MS;
        watch->after = (struct run_id){{0}};
        watch->seen = watch->events = 0;
        watch->sweep++;
    }
    watch->from = watch->after;
    watch->asked++;
    (void)pg_add(batch, SQL_WATCH_SLICE, pg_uuid(watch->after), pg_i32((int32_t)slice_size(watch)),
                 pg_array_param(shards));
    pg_submit(watch->options.pg, batch, on_slice, watch);
}

struct watch *watch_new(const struct watch_options *options)
{
    struct watch *watch = mem_alloc(sizeof(*watch));

    watch->options = *options;
    if (watch->options.runs_per_second <= 0)
        watch->options.runs_per_second = RUNS_PER_SECOND;
    if (watch->options.sweep_ms <= 0)
        watch->options.sweep_ms = SWEEP_MS;
    ENSURE(uv_timer_init(options->loop, &watch->timer) == 0);
    watch->timer.data = watch;
    uv_timer_start(&watch->timer, on_turn, TURN_MS, TURN_MS);
    return watch;
}

static void on_closed(uv_handle_t *handle)
{
    struct watch *watch = handle->data;

    handle->data = NULL;
    maybe_free(watch);
}

void watch_free(struct watch *watch)
{
    if (watch == NULL)
        return;
    watch->closed = true;
    uv_close((uv_handle_t *)&watch->timer, on_closed);
}
