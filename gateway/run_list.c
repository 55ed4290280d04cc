/* GET /v1/runs: newest first, by plain columns whose indexes begin with the organisation. */
#include "gateway/json_more.h"
#include "gateway/page.h"
#include "gateway/route.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define LABELS_MAX 16

struct filter {
    struct str workflow, status, q;
    bool running, waiting; /* status asked for beneath "active" */
    struct run_id from, below, parent;
    bool has_parent;
    size_t label_count;
    struct str label_keys[LABELS_MAX], label_values[LABELS_MAX];
};

/* The lowest id of a point in time: its milliseconds, the rest zero. */
static struct run_id bound_of(struct wall_us t)
{
    struct run_id id = {{0}};
    uint64_t ms = t.us < 0 ? 0 : (uint64_t)(t.us / US_PER_MS);

    for (int i = 0; i < 6; i++)
        id.bytes[i] = (uint8_t)(ms >> (8 * (5 - i)));
    return id;
}

static bool read_time(struct call *call, const char *name, struct wall_us *ret)
{
    struct str text = call_query(call, name);

    ret->us = 0;
    if (text.ptr == NULL || wall_parse(text, ret))
        return true;
    call_problemf(call, 400, "bad_query", "%s is a time such as 2026-11-21T04:00:00Z", name);
    return false;
}

static bool is_run_status(struct str status)
{
    static const char *const names[] = {"pending",   "active",    "running",     "waiting",
                                        "paused",    "succeeded", "failed",      "partially_completed",
                                        "cancelled", "timed_out", "compensated", "compensation_failed"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (str_is(status, names[i]))
            return true;
    return false;
}

static bool read_labels(struct call *call, struct filter *f)
{
    for (size_t i = 0; i < call->query_count; i++) {
        if (!str_starts(call->query[i].name, "label."))
            continue;
        if (f->label_count == LABELS_MAX) {
            call_problem(call, 400, "bad_query", "at most 16 labels at once");
            return false;
        }
        f->label_keys[f->label_count] = (struct str){call->query[i].name.ptr + 6, call->query[i].name.len - 6};
        f->label_values[f->label_count++] = call->query[i].value;
    }
    return true;
}

/* False: answered. */
static bool read_filter(struct call *call, const struct page *page, struct filter *f)
{
    struct str parent = call_query(call, "parent");
    struct wall_us after, before;

    *f = (struct filter){
        .workflow = call_query(call, "workflow"), .status = call_query(call, "status"), .q = call_query(call, "q")};
    memset(&f->below, 0xff, sizeof(f->below));
    if (f->status.ptr != NULL && !is_run_status(f->status)) {
        call_problem(call, 400, "bad_query", "status is none of a run's states");
        return false;
    }
    f->has_parent = parent.ptr != NULL;
    if (f->has_parent && !run_id_parse(parent, &f->parent)) {
        call_problem(call, 400, "bad_query", "parent is the id of a run");
        return false;
    }
    f->running = str_is(f->status, "running");
    f->waiting = str_is(f->status, "waiting");
    if (f->running || f->waiting)
        f->status = STR("active");
    if (!read_time(call, "created_after", &after) || !read_time(call, "created_before", &before) ||
        !read_labels(call, f))
        return false;
    f->from = bound_of(after);
    if (before.us != 0)
        f->below = bound_of(before);
    if (page->after.ptr != NULL) {
        struct run_id cursor;

        if (!run_id_parse(page->after, &cursor)) {
            call_problem(call, 400, "bad_page_token", "the page_token is not one that this list gave");
            return false;
        }
        if (run_id_cmp(cursor, f->below) < 0)
            f->below = cursor;
    }
    return true;
}

static void put_id_or_null(struct jw *w, const char *key, const struct pg_result *rows, size_t row, int col)
{
    jw_key(w, key);
    if (pg_is_null(rows, row, col)) {
        jw_null(w);
    } else {
        char text[UUID_TEXT_SIZE];

        run_id_format(pg_get_uuid(rows, row, col), text);
        jw_cstr(w, text);
    }
}

static void put_parent(struct jw *w, const struct pg_result *rows, size_t row)
{
    jw_key(w, "parent");
    if (pg_is_null(rows, row, 10)) {
        jw_null(w);
        return;
    }
    jw_obj(w);
    jw_krun(w, "run_id", pg_get_uuid(rows, row, 10));
    jw_kstr(w, "step", pg_get_str(rows, row, 16));
    jw_end_obj(w);
}

static void put_error(struct jw *w, const struct pg_result *rows, size_t row)
{
    jw_key(w, "error");
    if (pg_is_null(rows, row, 12)) {
        jw_null(w);
        return;
    }
    jw_obj(w);
    jw_kstr(w, "code", pg_get_str(rows, row, 12));
    jw_kstr(w, "step", pg_get_str(rows, row, 13));
    jw_kstr(w, "message", pg_get_str(rows, row, 14));
    jw_end_obj(w);
}

static void put_run(struct page *page, const struct pg_result *rows, size_t row)
{
    static const char *const priorities[] = {"critical", "high", "normal", "low"};
    struct str status = pg_get_str(rows, row, 3);
    char id[UUID_TEXT_SIZE];
    struct jw *w = &page->w;

    run_id_format(pg_get_uuid(rows, row, 0), id);
    jw_obj(w);
    jw_kcstr(w, "id", id);
    jw_kcstr(w, "run_id", id);
    jw_kstr(w, "workflow", pg_get_str(rows, row, 1));
    jw_ki64(w, "version", pg_get_int(rows, row, 2));
    jw_kcstr(w, "organisation", page->call->caller.organisation_name);
    if (str_is(status, "active"))
        jw_kcstr(w, "status", pg_get_bool(rows, row, 4) ? "running" : "waiting");
    else
        jw_kstr(w, "status", status);
    jw_kcstr(w, "priority", priorities[pg_get_int(rows, row, 5) & 3]);
    put_error(w, rows, row);
    jw_kraw(w, "labels", pg_get_str(rows, row, 9));
    jw_ktime(w, "created_at", pg_get_time(rows, row, 6));
    jw_ktime(w, "started_at", pg_get_time(rows, row, 7));
    jw_ktime(w, "ended_at", pg_get_time(rows, row, 8));
    put_parent(w, rows, row);
    jw_ki64(w, "depth", pg_get_int(rows, row, 17));
    put_id_or_null(w, "rerun_of", rows, row, 11);
    jw_kraw(w, "trigger", pg_get_str(rows, row, 15));
    jw_end_obj(w);
    page_cursor(page, str_of(arena_printf(page->call->arena, "%s", id)));
}

static void on_listed(void *ctx, const struct pg_outcome *outcome)
{
    struct page *page = ctx;

    if (!call_committed(page->call, outcome))
        return;
    page_begin(page);
    for (size_t i = 0; i < pg_rows(outcome->results[0]) && page_more(page); i++)
        put_run(page, outcome->results[0], i);
    page_end(page, pg_rows(outcome->results[0]));
}

/* The statement whose index fits the narrowest filter; the others are looked at row by row. */
static const char *statement(const struct filter *f)
{
    if (f->has_parent)
        return SQL_RUN_LIST_PARENT;
    if (f->label_count > 0)
        return SQL_RUN_LIST_LABEL;
    if (f->workflow.ptr != NULL)
        return SQL_RUN_LIST_WORKFLOW;
    return f->status.ptr != NULL ? SQL_RUN_LIST_STATUS : SQL_RUN_LIST;
}

void route_run_list(struct call *call)
{
    struct page *page = page_open(call);
    struct pg_batch *batch;
    struct pg_array *keys, *values;
    struct run_id exact;
    struct filter f;

    if (page == NULL || !read_filter(call, page, &f))
        return;
    batch = call_batch(call, false);
    keys = pg_array_new(batch, PG_E_TEXT);
    values = pg_array_new(batch, PG_E_TEXT);
    for (size_t i = 0; i < f.label_count; i++) {
        pg_array_add(keys, pg_text(f.label_keys[i]));
        pg_array_add(values, pg_text(f.label_values[i]));
    }
    const struct pg_param params[] = {
        pg_uuid(f.from),
        pg_uuid(f.below),
        pg_i32((int32_t)page->size + 1),
        pg_text(f.workflow),
        pg_text(f.status),
        f.running || f.waiting ? pg_bool(f.running) : pg_null(),
        pg_text(f.q),
        f.q.ptr != NULL && run_id_parse(f.q, &exact) ? pg_uuid(exact) : pg_null(),
        pg_array_param(keys),
        pg_array_param(values),
        pg_uuid(f.parent),
    };
    size_t count = sizeof(params) / sizeof(params[0]) - (f.has_parent ? 0 : 1); /* the last is of that statement */

    pg_batch_add(batch, statement(&f), params, count);
    pg_submit(gateway_read(call->gw), batch, on_listed, page);
}
