/* See schedules.h. */
#include "gateway/schedules.h"
#include "common/base/ensure.h"
#include "gateway/json_more.h"
#include "gateway/page.h"
#include "gateway/route.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define JSON_MAX ((size_t)16 << 20)
#define PREVIEW_DEFAULT 10
#define PREVIEW_MAX 1000

/* ---- saving ---- */

/* What of a trigger makes the schedule: another canvas position does not begin it anew. */
static struct str definition_of(struct str trigger, struct arena *arena)
{
    static const char *const fields[] = {"cron", "every", "at", "input", "start_at_step"};
    CLEANUP(buf_deinit) struct buf buf = {0};
    struct jw w;

    buf_init(&buf, trigger.len + 64);
    w = jw_to(&buf);
    jw_obj(&w);
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        if (jt_get(trigger, fields[i]).ptr != NULL)
            jw_kraw(&w, fields[i], jt_get(trigger, fields[i]));
    jw_end_obj(&w);
    return str_arena(arena, buf_str(&buf));
}

static int16_t priority_of(struct str document, struct arena *arena)
{
    static const char *const names[] = {"critical", "high", "normal", "low"};
    struct str name;

    if (jt_string(jt_get(document, "priority"), arena, &name))
        for (int16_t i = 0; i < 4; i++)
            if (str_is(name, names[i]))
                return i;
    return 2;
}

void schedules_save(struct call *call, struct pg_batch *batch, struct str workflow, struct str document,
                    const uint8_t hash[32])
{
    struct pg_array *ids = pg_array_new(batch, PG_E_UUID), *names = pg_array_new(batch, PG_E_TEXT);
    struct pg_array *definitions = pg_array_new(batch, PG_E_JSON), *slots = pg_array_new(batch, PG_E_I16);
    struct jt_iter it;
    bool enabled;

    jt_iter_init(&it, jt_get(document, "triggers"));
    while (jt_next(&it)) {
        unsigned slot = (unsigned)(random_u64() % SLOT_COUNT);

        if (!schedule_is_trigger(it.value) || (jt_bool(jt_get(it.value, "enabled"), &enabled) && !enabled))
            continue;
        pg_array_add(ids, pg_uuid(run_id_make(db_clock_now(&call->gw->clock), slot)));
        pg_array_add(names, pg_text(jt_key(&it, call->arena)));
        pg_array_add(definitions, pg_json(definition_of(it.value, call->arena)));
        pg_array_add(slots, pg_i16((int16_t)slot));
    }
    pg_add(batch, SQL_SCHEDULE_SAVE, pg_text(workflow), pg_bytea((struct str){(const char *)hash, 32}),
           pg_i16(priority_of(document, call->arena)), pg_array_param(ids), pg_array_param(names),
           pg_array_param(definitions), pg_array_param(slots));
}

/* ---- telling ---- */

struct schedule_row schedule_row_of(const struct pg_result *rows, size_t i)
{
    struct schedule_row row = {.id = pg_get_uuid(rows, i, 0),
                               .workflow = pg_get_str(rows, i, 1),
                               .trigger = pg_get_str(rows, i, 2),
                               .definition = pg_get_str(rows, i, 3),
                               .override = pg_get_str(rows, i, 4),
                               .paused = pg_get_bool(rows, i, 5),
                               .enabled = pg_get_bool(rows, i, 6),
                               .created = pg_get_time(rows, i, 7),
                               .anchor = pg_get_time(rows, i, 8),
                               .after = pg_get_time(rows, i, 9),
                               .next = pg_get_time(rows, i, 10),
                               .due = pg_get_time(rows, i, 11),
                               .last = pg_get_time(rows, i, 12),
                               .last_fired = pg_get_time(rows, i, 13),
                               .has_run = !pg_is_null(rows, i, 14),
                               .now = pg_get_time(rows, i, 15),
                               .waiting = pg_get_int(rows, i, 16),
                               .fault = pg_get_str(rows, i, 17),
                               .last_error = pg_get_str(rows, i, 18)};

    if (row.has_run)
        row.last_run = pg_get_uuid(rows, i, 14);
    return row;
}

static void ignore(void *ctx, const char *code, const char *pointer, const char *message, const char *hint)
{
    (void)ctx, (void)code, (void)pointer, (void)message, (void)hint;
}

bool schedule_row_read(const struct schedule_row *row, struct zones *zones, struct schedule_definition *ret)
{
    return schedule_definition_read(row->override.ptr != NULL ? row->override : row->definition, zones, row->anchor,
                                    ignore, NULL, ret);
}

static int64_t positive_ms(int64_t us)
{
    return us < 0 ? 0 : us / US_PER_MS;
}

void schedule_row_json(const struct schedule_row *row, struct zones *zones, struct jw *w)
{
    struct schedule_definition definition;
    bool readable = schedule_row_read(row, zones, &definition);
    struct wall_us next = {0};
    const char *status = "active";

    if (!readable || !schedule_next(&definition.when, row->after, &next))
        status = readable ? "ended" : "unreadable";
    if (!row->enabled)
        status = "disabled";
    else if (row->paused)
        status = "paused";
    else if (row->fault.ptr != NULL)
        status = "refused";
    jw_obj(w);
    jw_krun(w, "id", row->id);
    jw_kstr(w, "workflow", row->workflow);
    jw_kstr(w, "trigger", row->trigger);
    jw_kcstr(w, "kind", definition.kind);
    jw_kcstr(w, "status", status);
    jw_kraw(w, "definition", row->definition);
    jw_kraw(w, "override", row->override);
    jw_ktime(w, "next_at", strcmp(status, "active") == 0 ? next : (struct wall_us){0});
    jw_ktime(w, "last_at", row->last);
    jw_ktime(w, "last_fired_at", row->last_fired);
    if (row->has_run)
        jw_krun(w, "last_run_id", row->last_run);
    else
        jw_kcstr(w, "last_run_id", NULL);
    jw_ki64(w, "waiting", row->waiting);
    jw_kraw(w, "fault", row->fault);
    jw_kraw(w, "last_error", row->last_error);
    /* How long what is due now has waited. */
    jw_ki64(w, "lag_ms", row->due.us == 0 || row->next.us == 0 ? 0 : positive_ms(row->now.us - row->due.us));
    jw_ktime(w, "created_at", row->created);
    jw_end_obj(w);
}

static void on_listed(void *ctx, const struct pg_outcome *outcome)
{
    struct page *page = ctx;
    const struct pg_result *rows;
    struct zones *zones;

    if (!call_committed(page->call, outcome))
        return;
    rows = outcome->results[0];
    zones = zones_new(ZONEINFO_FOLDER);
    page_begin(page);
    for (size_t i = 0; i < pg_rows(rows) && page_more(page); i++) {
        struct schedule_row row = schedule_row_of(rows, i);
        char *cursor =
            arena_printf(page->call->arena, STR_FMT "/" STR_FMT, STR_ARG(row.workflow), STR_ARG(row.trigger));

        schedule_row_json(&row, zones, &page->w);
        page_cursor(page, str_of(cursor));
    }
    zones_free(zones);
    page_end(page, pg_rows(rows));
}

void route_schedule_list(struct call *call)
{
    struct page *page = page_open(call);
    struct str workflow, trigger;
    struct pg_batch *batch;

    if (page == NULL)
        return;
    trigger = page->after.ptr == NULL ? STR("/") : page->after;
    workflow = str_cut(&trigger, '/');
    batch = call_batch(call, false);
    pg_add(batch, SQL_SCHEDULE_LIST, pg_text(call_query(call, "workflow")), pg_text(workflow), pg_text(trigger),
           pg_i32((int32_t)page->size + 1));
    pg_submit(gateway_read(call->gw), batch, on_listed, page);
}

bool schedule_id(struct call *call, struct run_id *ret)
{
    if (run_id_parse(call->params[0], ret))
        return true;
    schedule_unknown(call);
    return false;
}

void schedule_unknown(struct call *call)
{
    call_problem(call, 404, "not_found", "there is no such schedule");
}

void schedule_answer(struct call *call, const struct pg_outcome *outcome, size_t index)
{
    CLEANUP(buf_deinit) struct buf body = {0};
    struct schedule_row row;
    struct zones *zones;
    struct jw w;

    if (pg_rows(outcome->results[index]) == 0) {
        schedule_unknown(call);
        return;
    }
    row = schedule_row_of(outcome->results[index], 0);
    zones = zones_new(ZONEINFO_FOLDER);
    buf_init(&body, JSON_MAX);
    w = jw_to(&body);
    schedule_row_json(&row, zones, &w);
    zones_free(zones);
    call_json(call, 200, buf_str(&body));
}

/* ---- preview ---- */

struct preview {
    struct call *call;
    uint32_t count;
    struct wall_us after; /* 0: now */
};

static void put_time(struct jw *w, const struct schedule *when, struct wall_us t)
{
    static const char *const marks[] = {[SCHEDULE_PLAIN] = NULL,
                                        [SCHEDULE_AFTER_GAP] = "after_gap",
                                        [SCHEDULE_FIRST_PASS] = "first_pass",
                                        [SCHEDULE_SECOND_PASS] = "second_pass"};
    char local[SCHEDULE_LOCAL_SIZE];

    schedule_local(when, t, local);
    jw_obj(w);
    jw_ktime(w, "utc", t);
    jw_kcstr(w, "local", local);
    jw_kcstr(w, "transition", marks[schedule_mark(when, t)]);
    jw_end_obj(w);
}

static void on_preview(void *ctx, const struct pg_outcome *outcome)
{
    struct preview *preview = ctx;
    struct call *call = preview->call;
    CLEANUP(buf_deinit) struct buf body = {0};
    struct schedule_definition definition;
    struct schedule_row row;
    struct wall_us t;
    struct zones *zones;
    struct jw w;

    if (!call_committed(call, outcome))
        return;
    if (pg_rows(outcome->results[0]) == 0) {
        schedule_unknown(call);
        return;
    }
    row = schedule_row_of(outcome->results[0], 0);
    zones = zones_new(ZONEINFO_FOLDER);
    if (!schedule_row_read(&row, zones, &definition)) {
        zones_free(zones);
        call_problem(call, 409, "schedule_unreadable", "this machine does not know the schedule's time zone");
        return;
    }
    t = preview->after.us == 0 ? row.now : preview->after;
    buf_init(&body, JSON_MAX);
    w = jw_to(&body);
    jw_obj(&w);
    jw_key(&w, "items");
    jw_arr(&w);
    for (uint32_t i = 0; i < preview->count && schedule_next(&definition.when, t, &t); i++)
        put_time(&w, &definition.when, t);
    jw_end_arr(&w);
    jw_end_obj(&w);
    zones_free(zones);
    call_json(call, 200, buf_str(&body));
}

void route_schedule_preview(struct call *call)
{
    struct preview *preview = arena_alloc(call->arena, sizeof(*preview));
    struct str n = call_query(call, "n"), after = call_query(call, "after");
    struct pg_batch *batch;
    struct run_id id;

    *preview = (struct preview){call, PREVIEW_DEFAULT, {0}};
    if (!schedule_id(call, &id))
        return;
    if ((n.ptr != NULL && !parse_u32(n, 1, PREVIEW_MAX, &preview->count)) ||
        (after.ptr != NULL && (!wall_parse(after, &preview->after) || preview->after.us <= 0))) {
        call_problem(call, 400, "bad_query", "n is a number from 1 to 1000, after a time as 2026-11-21T04:00:00Z");
        return;
    }
    batch = call_batch(call, false);
    pg_add(batch, SQL_SCHEDULE_GET, pg_uuid(id));
    pg_submit(gateway_read(call->gw), batch, on_preview, preview);
}
