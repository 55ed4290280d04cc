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
    (void)pg_add(batch, SQL_SCHEDULE_REFUSE, pg_uuid(row->id), pg_i32(row->revision),
                 pg_json(error_json(slice->arena, "refused_data", (struct wall_us){0}, err->message)));
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

enum { T_SCHEDULE, T_NOMINAL, T_RUN, T_INPUT, T_TRIGGER, T_CANCELS, T_QUEUED, T_RELEASED, T_ERROR, T_COLUMNS };

static void add_time(struct pg_array *t[], const struct fire_row *row, const struct fire_time *time)
{
    bool runs = (time->what == FIRE_START || time->what == FIRE_RELEASE) && time->error.ptr == NULL;

    pg_array_add(t[T_SCHEDULE], pg_uuid(row->id));
    pg_array_add(t[T_NOMINAL], pg_time(time->nominal));
    pg_array_add(t[T_RUN], runs ? pg_uuid(time->run) : pg_null());
    pg_array_add(t[T_INPUT], pg_json(time->input.ptr == NULL ? STR("{}") : time->input));
    pg_array_add(t[T_TRIGGER], pg_json(time->trigger));
    pg_array_add(t[T_CANCELS], runs && time->cancels ? pg_uuid(row->last_run) : pg_null());
    pg_array_add(t[T_QUEUED], pg_bool(time->what == FIRE_QUEUE));
    pg_array_add(t[T_RELEASED], pg_bool(time->what == FIRE_RELEASE));
    pg_array_add(t[T_ERROR], pg_json(time->error));
}

static void commit(struct slice *slice)
{
    static const enum pg_elem types[T_COLUMNS] = {PG_E_UUID, PG_E_TIME, PG_E_UUID, PG_E_JSON, PG_E_JSON,
                                                  PG_E_UUID, PG_E_BOOL, PG_E_BOOL, PG_E_JSON};
    struct firing *firing = slice->firing;
    struct pg_batch *batch = pg_batch_new(true);
    struct pg_array *ids = pg_array_new(batch, PG_E_UUID), *revisions = pg_array_new(batch, PG_E_I32);
    struct pg_array *afters = pg_array_new(batch, PG_E_TIME), *nexts = pg_array_new(batch, PG_E_TIME);
    struct pg_array *dues = pg_array_new(batch, PG_E_TIME), *t[T_COLUMNS];

    for (size_t i = 0; i < T_COLUMNS; i++)
        t[i] = pg_array_new(batch, types[i]);
    for (size_t i = 0; i < slice->count; i++) {
        const struct fire *fire = &slice->fires[i];

        pg_array_add(ids, pg_uuid(fire->row->id));
        pg_array_add(revisions, pg_i32(fire->row->revision));
        pg_array_add(afters, pg_time(fire->after));
        pg_array_add(nexts, pg_time(fire->next));
        pg_array_add(dues, pg_time(fire->look_at));
        for (size_t k = 0; k < fire->count; k++)
            add_time(t, fire->row, &fire->times[k]);
    }
    firing->asked++;
    add_guard(firing, batch, slice->fires, slice->count);
    (void)pg_add(batch, SQL_SCHEDULE_FIRE, pg_array_param(ids), pg_array_param(revisions), pg_array_param(afters),
                 pg_array_param(nexts), pg_array_param(dues), pg_array_param(t[0]), pg_array_param(t[1]),
                 pg_array_param(t[2]), pg_array_param(t[3]), pg_array_param(t[4]), pg_array_param(t[5]),
                 pg_array_param(t[6]), pg_array_param(t[7]), pg_array_param(t[8]));
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

static struct fire_row *row_of(const struct pg_result *rows, size_t i, struct arena *arena)
{
    struct fire_row *row = arena_alloc(arena, sizeof(*row));
    char text[UUID_TEXT_SIZE];

    *row = (struct fire_row){.id = pg_get_uuid(rows, i, 0),
                             .organisation = (int32_t)pg_get_int(rows, i, 1),
                             .workflow = str_arena(arena, pg_get_str(rows, i, 2)),
                             .trigger = str_arena(arena, pg_get_str(rows, i, 3)),
                             .shard = (int16_t)pg_get_int(rows, i, 4),
                             .revision = (int32_t)pg_get_int(rows, i, 5),
                             .definition = str_arena(arena, pg_get_str(rows, i, 6)),
                             .anchor = pg_get_time(rows, i, 9),
                             .after = pg_get_time(rows, i, 10),
                             .due = pg_get_time(rows, i, 11),
                             .has_run = !pg_is_null(rows, i, 12),
                             .busy = pg_get_bool(rows, i, 13),
                             .waiting = (int32_t)pg_get_int(rows, i, 14),
                             .oldest = pg_get_time(rows, i, 15),
                             .now = pg_get_time(rows, i, 16)};
    if (!pg_is_null(rows, i, 7))
        row->input = str_arena(arena, pg_get_str(rows, i, 7));
    if (!pg_is_null(rows, i, 8))
        row->input_schema = str_arena(arena, pg_get_str(rows, i, 8));
    if (row->has_run)
        row->last_run = pg_get_uuid(rows, i, 12);
    run_id_format(row->id, text);
    row->id_text = str_arena(arena, str_of(text));
    return row;
}

static void fire(struct firing *firing, const struct pg_result *rows)
{
    struct arena *arena = arena_new(0);
    struct slice *slice = arena_alloc(arena, sizeof(*slice));
    size_t i = 0;

    *slice = (struct slice){.firing = firing, .arena = arena, .filling = 1};
    slice->fires = arena_array(arena, pg_rows(rows), sizeof(*slice->fires));
    for (; i < pg_rows(rows) && slice->times < FIRE_TIMES; i++) {
        const struct fire_row *row = row_of(rows, i, arena);
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
    int64_t in_us = pg_is_null(next, 0, 0) ? INT64_MAX : pg_get_int(next, 0, 0);

    return (int)(fire_look_after_us(in_us, pg_get_bool(next, 0, 1)) / US_PER_MS) + 1;
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
    struct pg_batch *batch = pg_batch_new(false);
    struct pg_array *shards = pg_array_new(batch, PG_E_I16);

    for (int shard = 0; *firing->options.sched != NULL && *firing->options.sandbox != NULL && shard < SLOT_COUNT;
         shard++)
        if (firing->options.owned[shard]) {
            firing->epochs[shard] = firing->options.epochs[shard];
            pg_array_add(shards, pg_i16((int16_t)shard));
        }
    if (pg_array_count(shards) == 0) {
        pg_batch_free(batch);
        again(firing, IDLE_MS);
        return;
    }
    fresh_zones(firing);
    firing->asked++;
    (void)pg_add(batch, SQL_SCHEDULE_DUE, pg_array_param(shards), pg_i32((int32_t)firing->pace.most));
    (void)pg_add(batch, SQL_SCHEDULE_NEXT, pg_array_param(shards));
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
