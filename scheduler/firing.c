/* Schedules are fired. See firing.h. */
#include "scheduler/firing.h"
#include "common/base/ensure.h"
#include "common/base/json_text.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "common/expr/fill.h"
#include "common/schema/schema.h"
#include "rw_scheduler_sql.h"
#include "scheduler/core/fire.h"
#include "scheduler/schedule_rows.h"

#include "common/base/banned.h"

#define IDLE_MS ((int)(FIRE_LOOK_LEAST_US / US_PER_MS))
/* Many at the same time are fired in slices with pauses between, so that their starts do not stand in everybody's way.
 */
#define NEXT_MS 50
#define ZONES_US (INT64_C(600) * US_PER_S)
#define INPUT_MAX ((size_t)1 << 20) /* of what expressions make of it */
#define ERROR_MAX 4096

struct firing {
    struct firing_options options;
    uv_timer_t timer;
    bool closed, stopped;
    unsigned asked;
    struct fire_pace pace;
    int64_t epochs[SLOT_COUNT]; /* of shards, when their rows were asked for: what was read before a takeover is not
                                   written after it */
    struct zones *zones;
    struct mono_us zones_until;
};

/* What is fired in one transaction. Lives in an arena of its own. */
struct slice {
    struct firing *firing;
    struct arena *arena;
    struct fire *fires;
    size_t count, times, filling;
    bool full; /* there may be more than was looked at */
    bool unavailable;
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

/* An answer has come. False when nobody waits for it any more. */
static bool answered(struct firing *firing)
{
    firing->asked--;
    if (firing->closed)
        maybe_free(firing);
    return !firing->closed;
}

/* ---- a schedule that PostgreSQL refuses ---- */

static struct str error_json(struct arena *arena, const char *code, struct wall_us nominal, const char *message)
{
    CLEANUP(buf_deinit) struct buf buf = {0};
    char at[WALL_TEXT_SIZE];
    struct jw w;

    wall_format(nominal, at);
    buf_init(&buf, (size_t)ERROR_MAX * 8);
    w = jw_to(&buf);
    jw_obj(&w);
    jw_kcstr(&w, "code", code);
    if (nominal.us != 0)
        jw_kcstr(&w, "nominal_at", at);
    jw_kcstr(&w, "message", arena_printf(arena, "%.*s", ERROR_MAX, message));
    jw_end_obj(&w);
    return str_arena(arena, buf_str(&buf));
}

static void on_refused(void *ctx, const struct pg_outcome *outcome)
{
    struct firing *firing = ctx;

    if (!answered(firing))
        return;
    if (outcome->rc != ERR_OK && outcome->rc != ERR_STALE)
        log_event(LOG_WARN, "schedule.not_refused", log_err(outcome->err));
    again(firing, NEXT_MS);
}

static void add_guard(struct firing *firing, struct pg_batch *batch, const struct fire *fires, size_t count)
{
    struct pg_array *shards = pg_array_new(batch, PG_E_I16), *epochs = pg_array_new(batch, PG_E_I64);
    bool seen[SLOT_COUNT] = {false};

    for (size_t i = 0; i < count; i++) {
        int16_t shard = fires[i].row->shard;

        if (seen[shard])
            continue;
        seen[shard] = true;
        pg_array_add(shards, pg_i16(shard));
        pg_array_add(epochs, pg_i64(firing->epochs[shard]));
    }
    (void)pg_add(batch, SQL_BATCH_GUARD, pg_uuid(firing->options.me), pg_array_param(shards), pg_array_param(epochs));
}

static void refuse(struct slice *slice, const struct err *err)
{
    struct firing *firing = slice->firing;
    const struct fire_row *row = slice->fires[0].row;
    struct pg_batch *batch = pg_batch_new(true);

    log_event(LOG_ERROR, "schedule.refused", log_str("schedule", row->id_text), log_str("workflow", row->workflow),
              log_str("trigger", row->trigger), log_err(err));
    metric_add(METRIC_SCHEDULES_REFUSED, 1);
    firing->asked++;
    add_guard(firing, batch, slice->fires, 1);
    schedule_row_refuse(batch, row, error_json(slice->arena, "refused_data", (struct wall_us){0}, err->message));
    pg_submit(firing->options.pg, batch, on_refused, firing);
}

/* ---- firing ---- */

static void count_times(const struct slice *slice)
{
    for (size_t i = 0; i < slice->count; i++)
        for (size_t k = 0; k < slice->fires[i].count; k++) {
            const struct fire_time *time = &slice->fires[i].times[k];

            if (time->what == FIRE_SKIP)
                metric_add(METRIC_SCHEDULES_SKIPPED, 1);
            else if (time->error.ptr != NULL)
                metric_add(METRIC_SCHEDULES_FAILED, 1);
            else if (time->what == FIRE_START)
                metric_observe_us(METRIC_SCHEDULE_LAG_SECONDS, time->late_us);
        }
}

static void fired(struct slice *slice, size_t runs)
{
    struct firing *firing = slice->firing;

    metric_add(METRIC_SCHEDULES_FIRED, (int64_t)runs);
    count_times(slice);
    if (runs > 0 && *firing->options.sched != NULL) {
        sched_commands_written(*firing->options.sched);
        firing->options.woken(firing->options.ctx);
    }
    again(firing, slice->full ? NEXT_MS : IDLE_MS);
}

static void on_fired(void *ctx, const struct pg_outcome *outcome)
{
    struct slice *slice = ctx;
    struct firing *firing = slice->firing;
    CLEANUP(arena_cleanup) struct arena *arena = slice->arena;

    if (!answered(firing))
        return;
    switch (fire_pace_after(&firing->pace, outcome->rc, slice->count)) {
    case FIRE_GO_ON:
        fired(slice, pg_rows(outcome->results[1]));
        break;
    case FIRE_REFUSED:
        refuse(slice, outcome->err);
        break;
    case FIRE_AGAIN:
        if (outcome->rc != ERR_STALE) /* else the shard is another's, who fires it */
            log_event(LOG_WARN, "schedules.not_fired", log_err(outcome->err));
        again(firing, outcome->rc == ERR_REFUSED_DATA ? NEXT_MS : IDLE_MS);
        break;
    }
}

static void commit(struct slice *slice)
{
    struct firing *firing = slice->firing;
    struct pg_batch *batch = pg_batch_new(true);

    firing->asked++;
    add_guard(firing, batch, slice->fires, slice->count);
    schedule_rows_fire(batch, slice->fires, slice->count);
    pg_submit(firing->options.pg, batch, on_fired, slice);
}

/* ---- inputs ---- */

struct input {
    struct slice *slice;
    const struct fire_row *row;
    struct fire_time *time;
    struct template template;
    struct expr_doc doc;
};

static void fail_input(struct input *in, const char *code, const char *message)
{
    in->time->error = error_json(in->slice->arena, code, in->time->nominal, message);
}

static void ignore(void *ctx, const char *code, struct str pointer, const char *message, const char *hint)
{
    (void)ctx, (void)code, (void)pointer, (void)message, (void)hint;
}

static void check_input(struct input *in)
{
    const struct schema_options options = {.name = "input_schema"};
    const struct schema *schema;
    struct err err;

    if (in->row->input_schema.ptr == NULL)
        return;
    schema = schema_compile(in->slice->arena, in->row->input_schema, &options, ignore, NULL);
    if (schema != NULL && schema_check(schema, in->time->input, ignore, NULL, &err) != ERR_OK)
        fail_input(in, "invalid_input", err.message);
}

static void filled(struct slice *slice)
{
    struct firing *firing = slice->firing;

    if (--slice->filling > 0)
        return;
    firing->asked--;
    if (!firing->closed && !firing->stopped && !slice->unavailable) {
        commit(slice);
        return;
    }
    arena_free(slice->arena);
    if (firing->closed)
        maybe_free(firing);
    else
        again(firing, IDLE_MS);
}

static void on_filled(void *ctx, enum fill_status status, struct str value, const char *message)
{
    struct input *in = ctx;

    if (status == FILL_UNAVAILABLE)
        in->slice->unavailable = true;
    else if (status == FILL_FAILED)
        fail_input(in, "expression_failed", message);
    else
        in->time->input = value;
    if (status == FILL_OK)
        check_input(in);
    filled(in->slice);
}

static void make_input(struct slice *slice, const struct fire_row *row, struct fire_time *time)
{
    const struct template_options options = {0};
    struct input *in;

    if (row->input.ptr == NULL || (time->what != FIRE_START && time->what != FIRE_RELEASE))
        return;
    in = arena_alloc(slice->arena, sizeof(*in));
    *in = (struct input){.slice = slice, .row = row, .time = time, .doc = {.trigger = time->trigger, .index = -1}};
    if (!template_compile(slice->arena, row->input, &options, ignore, NULL, &in->template)) {
        fail_input(in, "bad_expression", "this release cannot read the expressions of the schedule's input");
        return;
    }
    if (in->template.constant) { /* the gateway has checked it */
        time->input = in->template.literal;
        return;
    }
    slice->filling++;
    template_fill(*slice->firing->options.sandbox, row->organisation, &in->template, &in->doc, INPUT_MAX, slice->arena,
                  on_filled, in);
}

/* ---- what is due ---- */

static struct run_id make_run(void *ctx, unsigned slot)
{
    const struct firing *firing = ctx;

    return run_id_make(db_clock_now(firing->options.clock), slot);
}

static void on_fault(void *ctx, const char *code, const char *pointer, const char *message, const char *hint)
{
    const struct fire_row *row = ctx;

    (void)hint;
    log_event(LOG_WARN, "schedule.unreadable", log_str("schedule", row->id_text), log_cstr("code", code),
              log_cstr("pointer", pointer), log_cstr("reason", message));
}

static void fire(struct firing *firing, const struct pg_result *rows)
{
    struct arena *arena = arena_new(0);
    struct slice *slice = arena_alloc(arena, sizeof(*slice));
    size_t i = 0;

    *slice = (struct slice){.firing = firing, .arena = arena, .filling = 1};
    slice->fires = arena_array(arena, pg_rows(rows), sizeof(*slice->fires));
    for (; i < pg_rows(rows) && slice->times < FIRE_TIMES; i++) {
        const struct fire_row *row = schedule_row(rows, i, arena);
        struct fire *one = &slice->fires[slice->count];

        if (!firing->options.owned[row->shard])
            continue;
        slice->count++;
        fire_decide(row, firing->zones, make_run, firing, on_fault, arena, one);
        slice->times += one->count;
        for (size_t k = 0; k < one->count; k++)
            make_input(slice, row, &one->times[k]);
    }
    slice->full = i < pg_rows(rows) || i == firing->pace.most || i >= FIRE_SLICE_LEAST;
    firing->asked++;
    filled(slice);
}

/* Nothing is due. A millisecond later than it will be, rather than just before. */
static int idle_ms(const struct pg_result *next)
{
    bool waiting;
    int64_t in_us = schedule_next_row(next, &waiting);

    return (int)(fire_look_after_us(in_us, waiting) / US_PER_MS) + 1;
}

static void on_due(void *ctx, const struct pg_outcome *outcome)
{
    struct firing *firing = ctx;

    if (!answered(firing))
        return;
    if (outcome->rc != ERR_OK)
        log_event(LOG_WARN, "schedules.not_read", log_err(outcome->err));
    if (outcome->rc != ERR_OK || firing->stopped)
        again(firing, IDLE_MS);
    else if (pg_rows(outcome->results[0]) == 0)
        again(firing, idle_ms(outcome->results[1]));
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
    int16_t shards[SLOT_COUNT];
    size_t count = 0;
    struct pg_batch *batch;

    for (int shard = 0; *firing->options.sched != NULL && *firing->options.sandbox != NULL && shard < SLOT_COUNT;
         shard++)
        if (firing->options.owned[shard]) {
            firing->epochs[shard] = firing->options.epochs[shard];
            shards[count++] = (int16_t)shard;
        }
    if (count == 0) {
        again(firing, IDLE_MS);
        return;
    }
    fresh_zones(firing);
    firing->asked++;
    batch = pg_batch_new(false);
    schedule_rows_due(batch, shards, count, firing->pace.most);
    pg_submit(firing->options.pg, batch, on_due, firing);
}

struct firing *firing_new(const struct firing_options *options)
{
    struct firing *firing = mem_alloc(sizeof(*firing));

    firing->options = *options;
    fire_pace_init(&firing->pace);
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
