/* Schedules are fired. See firing.h. */
#include "scheduler/firing.h"
#include "common/base/ensure.h"
#include "common/base/json_text.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "common/schedule/definition.h"
#include "rw_scheduler_sql.h"

#include "common/base/banned.h"

#define IDLE_MS 200
/* Many at the same time are fired in slices with pauses between, so that their starts do not stand in everybody's way.
 */
#define NEXT_MS 50
#define SLICE_SCHEDULES 200
#define SLICE_TIMES 400 /* of all together */
#define TIMES_OF_ONE 20 /* more of one schedule are the next slices' */
#define ZONES_US (INT64_C(600) * US_PER_S)
#define UNREADABLE_US (INT64_C(60) * US_PER_S)

struct firing {
    struct firing_options options;
    uv_timer_t timer;
    bool closed, stopped;
    unsigned asked;
    bool full; /* there may be more than was looked at */
    struct zones *zones;
    struct mono_us zones_until;
};

/* One schedule as schedule_due.sql gives it. */
struct due {
    struct run_id id;
    struct str id_text, workflow, trigger, definition, input;
    int16_t shard;
    int32_t revision;
    struct wall_us anchor, after, now;
    bool busy; /* the last run goes on */
    struct run_id last_run;
};

struct slice {
    struct pg_batch *batch;
    struct arena *arena;
    struct pg_array *shards, *epochs;
    struct pg_array *ids, *revisions, *afters, *nexts, *dues;
    struct pg_array *fires, *nominals, *runs, *inputs, *triggers, *cancels;
    bool seen[SLOT_COUNT];
    size_t times;
};

static void maybe_free(struct firing *firing)
{
    if (!firing->closed || firing->asked > 0 || firing->timer.data != NULL)
        return;
    zones_free(firing->zones);
    mem_free(firing);
}

static void on_turn(uv_timer_t *timer);

static void again(struct firing *firing, int ms)
{
    if (!firing->stopped)
        uv_timer_start(&firing->timer, on_turn, (uint64_t)ms, 0);
}

static struct slice slice_new(void)
{
    struct pg_batch *b = pg_batch_new(true);

    return (struct slice){.batch = b,
                          .arena = pg_batch_arena(b),
                          .shards = pg_array_new(b, PG_E_I16),
                          .epochs = pg_array_new(b, PG_E_I64),
                          .ids = pg_array_new(b, PG_E_UUID),
                          .revisions = pg_array_new(b, PG_E_I32),
                          .afters = pg_array_new(b, PG_E_TIME),
                          .nexts = pg_array_new(b, PG_E_TIME),
                          .dues = pg_array_new(b, PG_E_TIME),
                          .fires = pg_array_new(b, PG_E_UUID),
                          .nominals = pg_array_new(b, PG_E_TIME),
                          .runs = pg_array_new(b, PG_E_UUID),
                          .inputs = pg_array_new(b, PG_E_JSON),
                          .triggers = pg_array_new(b, PG_E_JSON),
                          .cancels = pg_array_new(b, PG_E_UUID)};
}

static struct str trigger_json(const struct due *due, const char *kind, struct wall_us nominal, struct arena *arena)
{
    char at[WALL_TEXT_SIZE];
    struct buf buf;
    struct str text;
    struct jw w;

    wall_format(nominal, at);
    buf_init(&buf, 4096);
    w = jw_to(&buf);
    jw_obj(&w);
    jw_kstr(&w, "name", due->trigger);
    jw_kcstr(&w, "kind", kind);
    jw_kstr(&w, "schedule", due->id_text);
    jw_kcstr(&w, "nominal_at", at);
    jw_end_obj(&w);
    text = str_arena(arena, buf_str(&buf));
    buf_deinit(&buf);
    return text;
}

/* One time: a run, unless the one before it still goes on and that matters. */
static void add_time(const struct firing *firing, struct slice *slice, struct due *due,
                     const struct schedule_definition *definition, struct wall_us nominal)
{
    bool starts = definition->overlap != SCHEDULE_SKIP || !due->busy;
    bool cancels = starts && definition->overlap == SCHEDULE_CANCEL_PREVIOUS && due->busy;
    struct run_id run = run_id_make(db_clock_now(firing->options.clock), run_id_slot(due->id));

    slice->times++;
    pg_array_add(slice->fires, pg_uuid(due->id));
    pg_array_add(slice->nominals, pg_time(nominal));
    pg_array_add(slice->runs, starts ? pg_uuid(run) : pg_null());
    pg_array_add(slice->inputs, pg_json(due->input.ptr == NULL ? STR("{}") : due->input));
    pg_array_add(slice->triggers, pg_json(trigger_json(due, definition->kind, nominal, slice->arena)));
    pg_array_add(slice->cancels, cancels ? pg_uuid(due->last_run) : pg_null());
    if (starts) {
        due->busy = true;
        due->last_run = run;
    } else {
        metric_add(METRIC_SCHEDULES_SKIPPED, 1);
    }
}

static void add_schedule(struct slice *slice, const struct due *due, struct wall_us after, struct wall_us next,
                         struct wall_us looked_at)
{
    pg_array_add(slice->ids, pg_uuid(due->id));
    pg_array_add(slice->revisions, pg_i32(due->revision));
    pg_array_add(slice->afters, pg_time(after));
    pg_array_add(slice->nexts, pg_time(next));
    pg_array_add(slice->dues, pg_time(looked_at));
}

static void on_fault(void *ctx, const char *code, const char *pointer, const char *message, const char *hint)
{
    const struct due *due = ctx;

    (void)hint;
    log_event(LOG_WARN, "schedule.unreadable", log_str("schedule", due->id_text), log_cstr("code", code),
              log_cstr("pointer", pointer), log_cstr("reason", message));
}

/* What cannot be read here (a zone that this machine does not have) stays as it is and is tried again in a minute,
 * maybe by another machine. */
static void add_unreadable(struct slice *slice, const struct due *due)
{
    add_schedule(slice, due, due->after, (struct wall_us){0}, (struct wall_us){due->now.us + UNREADABLE_US});
}

static void add_due(const struct firing *firing, struct slice *slice, struct due *due)
{
    struct schedule_definition definition;
    struct schedule_turn turn;
    struct wall_us looked_at, now = due->now;

    if (!slice->seen[due->shard]) {
        slice->seen[due->shard] = true;
        pg_array_add(slice->shards, pg_i16(due->shard));
        pg_array_add(slice->epochs, pg_i64(firing->options.epochs[due->shard]));
    }
    if (!schedule_definition_read(due->definition, firing->zones, due->anchor, on_fault, due, &definition)) {
        add_unreadable(slice, due);
        return;
    }
    /* Jitter: what is not due yet waits, and its time with it. */
    schedule_turn(&definition, due->after, now, slice->arena, TIMES_OF_ONE, &turn);
    for (size_t i = 0; i < turn.count; i++) {
        if (schedule_due(&definition, due->id_text, turn.times[i]).us > now.us) {
            turn.next = turn.times[i];
            turn.after = i == 0 ? due->after : turn.times[i - 1];
            break;
        }
        metric_observe_us(METRIC_SCHEDULE_LAG_SECONDS,
                          now.us - schedule_due(&definition, due->id_text, turn.times[i]).us);
        add_time(firing, slice, due, &definition, turn.times[i]);
    }
    looked_at = turn.next.us == 0 ? turn.next : schedule_due(&definition, due->id_text, turn.next);
    add_schedule(slice, due, turn.after, turn.next, looked_at);
}

static struct due due_of(const struct pg_result *rows, size_t i, struct arena *arena)
{
    struct due due = {.id = pg_get_uuid(rows, i, 0),
                      .workflow = pg_get_str(rows, i, 2),
                      .trigger = pg_get_str(rows, i, 3),
                      .shard = (int16_t)pg_get_int(rows, i, 4),
                      .revision = (int32_t)pg_get_int(rows, i, 5),
                      .definition = pg_get_str(rows, i, 6),
                      .input = pg_get_str(rows, i, 7),
                      .anchor = pg_get_time(rows, i, 8),
                      .after = pg_get_time(rows, i, 9),
                      .busy = pg_get_bool(rows, i, 11),
                      .now = pg_get_time(rows, i, 12)};
    char text[UUID_TEXT_SIZE];

    if (!pg_is_null(rows, i, 10))
        due.last_run = pg_get_uuid(rows, i, 10);
    run_id_format(due.id, text);
    due.id_text = str_arena(arena, str_of(text));
    return due;
}

static void on_fired(void *ctx, const struct pg_outcome *outcome)
{
    struct firing *firing = ctx;
    size_t fired;

    firing->asked--;
    if (firing->closed) {
        maybe_free(firing);
        return;
    }
    if (outcome->rc != ERR_OK) {
        if (outcome->rc != ERR_STALE) /* else the shard is another's, who fires it */
            log_event(LOG_WARN, "schedules.not_fired", log_err(outcome->err));
        again(firing, IDLE_MS);
        return;
    }
    fired = pg_rows(outcome->results[1]);
    metric_add(METRIC_SCHEDULES_FIRED, (int64_t)fired);
    if (fired > 0) {
        sched_commands_written(*firing->options.sched);
        firing->options.woken(firing->options.ctx);
    }
    again(firing, firing->full ? NEXT_MS : IDLE_MS);
}

static void fire(struct firing *firing, const struct pg_result *rows)
{
    struct slice slice = slice_new();
    size_t i = 0;

    for (; i < pg_rows(rows) && slice.times < SLICE_TIMES; i++) {
        struct due due = due_of(rows, i, slice.arena);

        if (firing->options.owned[due.shard])
            add_due(firing, &slice, &due);
    }
    firing->full = i < pg_rows(rows) || i == SLICE_SCHEDULES;
    firing->asked++;
    (void)pg_add(slice.batch, SQL_BATCH_GUARD, pg_uuid(firing->options.me), pg_array_param(slice.shards),
                 pg_array_param(slice.epochs));
    (void)pg_add(slice.batch, SQL_SCHEDULE_FIRE, pg_array_param(slice.ids), pg_array_param(slice.revisions),
                 pg_array_param(slice.afters), pg_array_param(slice.nexts), pg_array_param(slice.dues),
                 pg_array_param(slice.fires), pg_array_param(slice.nominals), pg_array_param(slice.runs),
                 pg_array_param(slice.inputs), pg_array_param(slice.triggers), pg_array_param(slice.cancels));
    pg_submit(firing->options.pg, slice.batch, on_fired, firing);
}

static void on_due(void *ctx, const struct pg_outcome *outcome)
{
    struct firing *firing = ctx;

    firing->asked--;
    if (firing->closed) {
        maybe_free(firing);
        return;
    }
    if (outcome->rc != ERR_OK)
        log_event(LOG_WARN, "schedules.not_read", log_err(outcome->err));
    if (outcome->rc != ERR_OK || firing->stopped || pg_rows(outcome->results[0]) == 0)
        again(firing, IDLE_MS);
    else
        fire(firing, outcome->results[0]);
}

static void fresh_zones(struct firing *firing)
{
    struct mono_us now = clock_mono();

    if (firing->zones != NULL && now.us < firing->zones_until.us)
        return;
    zones_free(firing->zones);
    firing->zones = zones_new(ZONEINFO_FOLDER);
    firing->zones_until.us = now.us + ZONES_US;
}

static void on_turn(uv_timer_t *timer)
{
    struct firing *firing = timer->data;
    struct pg_batch *batch = pg_batch_new(false);
    struct pg_array *shards = pg_array_new(batch, PG_E_I16);

    for (int shard = 0; *firing->options.sched != NULL && shard < SLOT_COUNT; shard++)
        if (firing->options.owned[shard])
            pg_array_add(shards, pg_i16((int16_t)shard));
    if (pg_array_count(shards) == 0) {
        pg_batch_free(batch);
        again(firing, IDLE_MS);
        return;
    }
    fresh_zones(firing);
    firing->asked++;
    (void)pg_add(batch, SQL_SCHEDULE_DUE, pg_array_param(shards), pg_i32(SLICE_SCHEDULES));
    pg_submit(firing->options.pg, batch, on_due, firing);
}

struct firing *firing_new(const struct firing_options *options)
{
    struct firing *firing = mem_alloc(sizeof(*firing));

    firing->options = *options;
    ENSURE(uv_timer_init(options->loop, &firing->timer) == 0);
    firing->timer.data = firing;
    again(firing, IDLE_MS);
    return firing;
}

void firing_stop(struct firing *firing)
{
    firing->stopped = true;
    uv_timer_stop(&firing->timer);
}

static void on_closed(uv_handle_t *handle)
{
    struct firing *firing = handle->data;

    handle->data = NULL;
    maybe_free(firing);
}

void firing_free(struct firing *firing)
{
    if (firing == NULL)
        return;
    firing->closed = firing->stopped = true;
    uv_close((uv_handle_t *)&firing->timer, on_closed);
}
