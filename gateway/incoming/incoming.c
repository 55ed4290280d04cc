/* See incoming.h. Looked up: was it taken before, and which triggers may it set off? Then what each makes of it, and
 * all of it in one transaction. A copy finds the event, however many come at once: the unique entry lets one through.
 */
#include "gateway/incoming/incoming.h"
#include "common/base/fault.h"
#include "common/base/metrics.h"
#include "gateway/backlog.h"
#include "gateway/call.h"
#include "gateway/flows.h"
#include "gateway/start.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define MOVES_MAX 5
#define AGAIN_AFTER_S 1
#define FULL_AFTER_S 5

static void look_up(struct incoming *in);

static void end(struct incoming *in, enum incoming_verdict verdict, const struct err *err)
{
    static const struct err none = {0};

    in->done(in, verdict, err == NULL ? &none : err);
}

static void later(struct incoming *in, int status, const char *code, int64_t after_s, const char *why)
{
    in->status = status;
    in->code = code;
    in->after_s = after_s;
    in->why = why;
    end(in, INCOMING_LATER, NULL);
}

static void known(struct incoming *in, const struct pg_result *rows)
{
    in->at = pg_get_time(rows, 0, 0);
    in->starts = str_arena(in->arena, pg_get_str(rows, 0, 1));
    metric_add(METRIC_EVENTS_KNOWN, 1);
    end(in, INCOMING_KNOWN, NULL);
}

/* --- the transaction */

/* Columns: sql/held_event.sql. */
static void look_at_held(struct gateway *gw, const struct pg_result *rows)
{
    for (size_t i = 0; i < pg_rows(rows); i++) {
        struct str verdict = pg_get_str(rows, i, 0);

        held_count(verdict);
        if (str_is(verdict, "started"))
            gateway_nudge(gw, (int)pg_get_int(rows, i, 1));
    }
}

/* No room for what would have to wait: nothing of it was written. */
static bool is_full(const struct pg_outcome *outcome)
{
    return strcmp(outcome->err->sqlstate, "RW002") == 0;
}

/* The same as incoming_insert.sql writes; when a workflow has gone meanwhile that has the last word. */
static void on_written(void *ctx, const struct pg_outcome *outcome)
{
    struct incoming *in = ctx;
    const struct pg_result *verdict, *rows;
    struct str shards, shard;
    struct jt_iter it;
    int64_t number;

    if (outcome->rc != ERR_OK && is_full(outcome)) {
        metric_add(METRIC_ARRIVALS_REFUSED, 1);
        later(in, 429, "queue_full", FULL_AFTER_S,
              "as much as may waits at the debounce, throttle or batch of a trigger");
        return;
    }
    if (outcome->rc != ERR_OK) {
        end(in, INCOMING_FAILED, outcome->err);
        return;
    }
    verdict = outcome->results[in->written];
    rows = outcome->results[in->answer];
    if (pg_get_bool(verdict, 0, 0) || pg_rows(rows) == 0) {
        if (++in->moves > MOVES_MAX)
            later(in, 503, "busy", AGAIN_AFTER_S, "a workflow that it starts is being saved again and again");
        else
            look_up(in);
        return;
    }
    if (!pg_get_bool(verdict, 0, 1)) {
        known(in, rows);
        return;
    }
    FAULT_POINT(gateway_event_committed);
    metric_add(METRIC_EVENTS_TAKEN, 1);
    in->at = pg_get_time(rows, 0, 0);
    in->starts = str_arena(in->arena, pg_get_str(rows, 0, 1));
    for (shards = pg_get_str(verdict, 0, 2); shards.len > 0;) {
        shard = str_cut(&shards, ',');
        if (parse_i64(shard, 0, INT16_MAX, &number))
            gateway_nudge(in->gw, (int)number);
    }
    for (size_t i = 0; i < pg_rows(outcome->results[in->woken]); i++)
        gateway_nudge(in->gw, (int)pg_get_int(outcome->results[in->woken], i, 0));
    jt_iter_init(&it, in->starts);
    while (jt_next(&it))
        metric_add(METRIC_RUNS_STARTED, jt_get(it.value, "run_id").ptr != NULL);
    if (in->held >= 0)
        look_at_held(in->gw, outcome->results[in->held]);
    amqp_flush(in->gw->publish);
    end(in, INCOMING_TAKEN, NULL);
}

/* A run that is started at once, and one that may be: they have most of their columns in common. */
enum { RUN_COLUMNS = 10, HELD_COLUMNS = 10 };

static void add_run(struct incoming *in, const struct incoming_start *start, struct pg_array *const c[RUN_COLUMNS])
{
    struct wall_us created_at;
    struct run_id run = start_run_id(in->gw, in->organisation, start->workflow, STR_NONE, &created_at);

    pg_array_add(c[0], pg_uuid(run));
    pg_array_add(c[1], pg_text(start->workflow));
    pg_array_add(c[2], pg_text(start->trigger_name));
    pg_array_add(c[3], pg_i32(start->version));
    pg_array_add(c[4], pg_i16((int16_t)run_id_slot(run)));
    pg_array_add(c[5], pg_i16(start->plan->priority));
    pg_array_add(c[6], pg_time(created_at));
    pg_array_add(c[7], pg_json(start->input));
    pg_array_add(c[8], pg_json(start->document));
    pg_array_add(c[9], pg_text(start->trigger->start_at));
}

static void add_held(struct incoming *in, const struct incoming_start *start, struct pg_array *const c[HELD_COLUMNS])
{
    struct wall_us created_at;
    struct run_id run = start_run_id(in->gw, in->organisation, start->workflow, STR_NONE, &created_at);

    pg_array_add(c[0], pg_uuid(run));
    pg_array_add(c[1], pg_text(start->workflow));
    pg_array_add(c[2], pg_text(start->trigger_name));
    pg_array_add(c[3], pg_i16((int16_t)run_id_slot(run)));
    pg_array_add(c[4], pg_i16(start->plan->priority));
    pg_array_add(c[5], pg_time(created_at));
    pg_array_add(c[6], pg_json(start->input));
    pg_array_add(c[7], pg_json(start->document));
    pg_array_add(c[8], pg_text(start->trigger->start_at));
    pg_array_add(c[9], pg_json(start->held.rule));
}

/* What is to be written, taken apart. */
struct writing {
    struct pg_array *names, *faults, *runs[RUN_COLUMNS], *held[HELD_COLUMNS];
    struct held_groups groups;
};

static void take_apart(struct incoming *in, struct pg_batch *batch, struct writing *w)
{
    static const enum pg_elem runs[RUN_COLUMNS] = {PG_E_UUID, PG_E_TEXT, PG_E_TEXT, PG_E_I32,  PG_E_I16,
                                                   PG_E_I16,  PG_E_TIME, PG_E_JSON, PG_E_JSON, PG_E_TEXT};
    static const enum pg_elem held[HELD_COLUMNS] = {PG_E_UUID, PG_E_TEXT, PG_E_TEXT, PG_E_I16,  PG_E_I16,
                                                    PG_E_TIME, PG_E_JSON, PG_E_JSON, PG_E_TEXT, PG_E_JSON};

    w->names = pg_array_new(batch, PG_E_TEXT);
    w->faults = pg_array_new(batch, PG_E_JSON);
    for (size_t i = 0; i < RUN_COLUMNS; i++)
        w->runs[i] = pg_array_new(batch, runs[i]);
    for (size_t i = 0; i < HELD_COLUMNS; i++)
        w->held[i] = pg_array_new(batch, held[i]);
    held_groups_init(&w->groups, batch);
    for (size_t i = 0; i < in->count; i++) {
        const struct incoming_start *start = &in->of[i];

        if (start->input.ptr == NULL) {
            if (start->fault.ptr != NULL)
                pg_array_add(w->faults, pg_json(start->fault));
            continue;
        }
        pg_array_add(w->names, pg_text(start->workflow));
        if (start->held.rule.ptr == NULL) {
            add_run(in, start, w->runs);
        } else {
            held_groups_add(&w->groups, &start->held);
            add_held(in, start, w->held);
        }
    }
}

static void add_insert(struct incoming *in, struct pg_batch *batch, const struct writing *w)
{
    const struct cloudevent *event = &in->event;
    struct pg_param params[6 + RUN_COLUMNS] = {pg_text(event->source), pg_text(event->id),
                                               pg_text(event->type),   pg_text(event->subject),
                                               pg_json(event->json),   pg_array_param(w->faults)};

    for (size_t i = 0; i < RUN_COLUMNS; i++)
        params[6 + i] = pg_array_param(w->runs[i]);
    in->written = pg_batch_add(batch, SQL_INCOMING_INSERT, params, sizeof(params) / sizeof(params[0]));
}

static void add_arrivals(struct incoming *in, struct pg_batch *batch, const struct writing *w)
{
    struct pg_param params[3 + HELD_COLUMNS] = {pg_text(in->event.source), pg_text(in->event.id),
                                                pg_i64(in->limits->of[LIMIT_HELD_ARRIVALS])};

    for (size_t i = 0; i < HELD_COLUMNS; i++)
        params[3 + i] = pg_array_param(w->held[i]);
    in->held = pg_batch_add(batch, SQL_HELD_EVENT, params, sizeof(params) / sizeof(params[0]));
}

static void write_all(struct incoming *in)
{
    struct pg_batch *batch = pg_batch_new(true);
    struct writing w;
    bool holds;

    take_apart(in, batch, &w);
    holds = pg_array_count(w.held[0]) > 0;
    in->held = -1;
    pg_batch_organisation(batch, in->organisation);
    pg_add(batch, SQL_START_LOCK, pg_array_param(w.names));
    if (holds)
        (void)held_groups_lock(&w.groups, batch);
    add_insert(in, batch, &w);
    if (holds)
        add_arrivals(in, batch, &w);
    in->answer = pg_add(batch, SQL_INCOMING_KNOWN, pg_text(in->event.source), pg_text(in->event.id));
    in->woken = pg_add(batch, SQL_INCOMING_WOKEN, pg_text(in->event.type), pg_text(in->event.source));
    pg_submit(in->gw->event_writes, batch, on_written, in);
    FAULT_POINT(gateway_event_sent);
}

/* --- before it */

/* Is there room for all that it starts? */
static bool admitted(struct incoming *in)
{
    for (size_t i = 0; i < in->count; i++) {
        enum admission_verdict verdict;

        if (in->of[i].input.ptr == NULL)
            continue;
        verdict = backlog_ask(in->gw->backlog, in->organisation, in->of[i].plan->priority, &in->after_s);
        if (verdict == ADMISSION_TAKEN)
            continue;
        if (verdict == ADMISSION_SHARE)
            later(in, 429, "organisation_busy", in->after_s, "too much of this organisation's work waits");
        else
            later(in, 503, "overloaded", in->after_s, "too many starts wait");
        return false;
    }
    return true;
}

static void on_made(struct incoming *in)
{
    if (--in->waiting > 0)
        return;
    if (in->unavailable)
        later(in, 503, "unavailable", AGAIN_AFTER_S, in->why);
    else if (admitted(in))
        write_all(in);
}

static void on_looked_up(void *ctx, const struct pg_outcome *outcome)
{
    struct incoming *in = ctx;
    const struct pg_result *rows;

    if (outcome->rc != ERR_OK) {
        end(in, INCOMING_FAILED, outcome->err);
        return;
    }
    if (pg_rows(outcome->results[0]) > 0) {
        known(in, outcome->results[0]);
        return;
    }
    rows = outcome->results[1];
    in->at = db_clock_now(&in->gw->clock);
    in->count = pg_rows(rows);
    in->of = arena_array(in->arena, in->count + 1, sizeof(*in->of));
    for (size_t i = 0; i < in->count; i++)
        in->of[i] = (struct incoming_start){.incoming = in,
                                            .workflow = str_arena(in->arena, pg_get_str(rows, i, 0)),
                                            .version = (int32_t)pg_get_int(rows, i, 1),
                                            .trigger_name = str_arena(in->arena, pg_get_str(rows, i, 2)),
                                            .input = STR_NONE,
                                            .held = {.rule = STR_NONE},
                                            .fault = STR_NONE};
    in->waiting = in->count + 1;
    for (size_t i = 0; i < in->count; i++)
        incoming_start_make(&in->of[i], on_made);
    on_made(in);
}

static void look_up(struct incoming *in)
{
    struct pg_batch *batch = pg_batch_new(false);

    pg_batch_organisation(batch, in->organisation);
    pg_add(batch, SQL_INCOMING_KNOWN, pg_text(in->event.source), pg_text(in->event.id));
    pg_add(batch, SQL_INCOMING_TRIGGERS, pg_text(in->event.type), pg_text(in->event.source));
    pg_submit(gateway_read(in->gw), batch, on_looked_up, in);
}

void incoming_take(struct incoming *incoming)
{
    look_up(incoming);
}

/* --- triggers */

void incoming_save_triggers(struct call *call, struct pg_batch *batch, struct str workflow, struct str document,
                            const uint8_t hash[32])
{
    struct pg_array *names = pg_array_new(batch, PG_E_TEXT), *types = pg_array_new(batch, PG_E_TEXT),
                    *sources = pg_array_new(batch, PG_E_TEXT);
    struct jt_iter it;

    jt_iter_init(&it, jt_get(document, "triggers"));
    while (jt_next(&it)) {
        struct str event = jt_get(it.value, "event"), type, source = STR_NONE;
        bool enabled = true;

        (void)jt_bool(jt_get(it.value, "enabled"), &enabled);
        if (!enabled || !jt_string(jt_get(event, "type"), call->arena, &type))
            continue;
        (void)jt_string(jt_get(event, "source"), call->arena, &source);
        pg_array_add(names, pg_text(jt_key(&it, call->arena)));
        pg_array_add(types, pg_text(type));
        pg_array_add(sources, pg_text(source));
    }
    pg_add(batch, SQL_EVENT_TRIGGER_SAVE, pg_text(workflow), pg_bytea((struct str){(const char *)hash, 32}),
           pg_array_param(names), pg_array_param(types), pg_array_param(sources));
}
