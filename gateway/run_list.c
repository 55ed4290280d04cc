/* GET /v1/runs: newest first, by plain columns whose indexes begin with the organisation. */
#include "gateway/json_more.h"
#include "gateway/page.h"
#include "gateway/route.h"
#include "gateway/run_filter.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

/* False: answered. */
static bool read_filter(struct call *call, const struct page *page, struct run_filter *f)
{
    run_filter_init(f);
    for (size_t i = 0; i < call->query_count; i++) {
        const struct query_value *q = &call->query[i];
        const char *fault;

        if (str_starts(q->name, "page_"))
            continue;
        fault = run_filter_add(f, q->name, q->value);
        if (fault != NULL) {
            call_problem(call, 400, "bad_query", fault);
            return false;
        }
    }
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
static const char *statement(const struct run_filter *f)
{
    if (f->has_parent)
        return SQL_RUN_LIST_PARENT;
    if (f->label_count > 0)
        return SQL_RUN_LIST_LABEL;
    if (f->workflow.ptr != NULL)
        return SQL_RUN_LIST_WORKFLOW;
    return f->status.ptr != NULL ? SQL_RUN_LIST_STATUS : SQL_RUN_LIST;
}

/* What is looked for leads to it, unless something narrower does. */
static bool is_search(const struct run_filter *f)
{
    return f->q.ptr != NULL && !f->has_parent && f->label_count == 0 && f->workflow.ptr == NULL;
}

void route_run_list(struct call *call)
{
    struct page *page = page_open(call);
    struct pg_batch *batch;
    struct pg_array *keys, *values;
    struct run_id exact;
    struct run_filter f;

    if (page == NULL || !read_filter(call, page, &f))
        return;
    batch = call_batch(call, false);
    keys = pg_array_new(batch, PG_E_TEXT);
    values = pg_array_new(batch, PG_E_TEXT);
    for (size_t i = 0; i < f.label_count; i++) {
        pg_array_add(keys, pg_text(f.label_keys[i]));
        pg_array_add(values, pg_text(f.label_values[i]));
    }
    if (is_search(&f)) {
        pg_add(batch, SQL_RUN_LIST_SEARCH, pg_uuid(f.from), pg_uuid(f.below), pg_i32((int32_t)page->size + 1),
               pg_text(f.q), run_id_parse(f.q, &exact) ? pg_uuid(exact) : pg_null(), pg_text(f.status),
               f.running || f.waiting ? pg_bool(f.running) : pg_null());
        pg_submit(gateway_read(call->gw), batch, on_listed, page);
        return;
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
