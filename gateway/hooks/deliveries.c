/* The delivery log, read: pages, one whole, counts by reason. */
#include "gateway/json_more.h"
#include "gateway/page.h"
#include "gateway/route.h"
#include "gateway/run_filter.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define JSON_MAX ((size_t)8 << 20)

struct filter {
    struct run_id from, below, run;
    struct str workflow, trigger, stage, reason;
    uint32_t status; /* 0: any */
    bool has_run;
};

/* Gives what is wrong, or NULL. */
static const char *filter_add(struct filter *f, struct str name, struct str value)
{
    struct wall_us at;

    if (str_is(name, "created_after") || str_is(name, "created_before")) {
        if (!wall_parse(value, &at))
            return "created_after and created_before are times such as 2026-11-21T04:00:00Z";
        *(str_is(name, "created_after") ? &f->from : &f->below) = run_filter_bound(at);
    } else if (str_is(name, "workflow")) {
        f->workflow = value;
    } else if (str_is(name, "trigger")) {
        f->trigger = value;
    } else if (str_is(name, "stage")) {
        f->stage = value;
    } else if (str_is(name, "reason")) {
        f->reason = value;
    } else if (str_is(name, "status")) {
        return parse_u32(value, 100, 599, &f->status) ? NULL : "status is the HTTP status that was answered";
    } else if (str_is(name, "run")) {
        f->has_run = true;
        return run_id_parse(value, &f->run) ? NULL : "run is the id of a run";
    }
    return NULL; /* the page's own */
}

/* False: answered. */
static bool read_filter(struct call *call, struct filter *f)
{
    *f = (struct filter){.workflow = STR_NONE, .trigger = STR_NONE, .stage = STR_NONE, .reason = STR_NONE};
    memset(&f->below, 0xff, sizeof(f->below));
    for (size_t i = 0; i < call->query_count; i++) {
        const char *fault = filter_add(f, call->query[i].name, call->query[i].value);

        if (fault != NULL) {
            call_problem(call, 400, "bad_query", fault);
            return false;
        }
    }
    return true;
}

/* ---- what a line says ---- */

static void put_id_or_null(struct jw *w, const char *key, const struct pg_result *rows, size_t row, int col)
{
    if (pg_is_null(rows, row, col))
        jw_kcstr(w, key, NULL);
    else
        jw_krun(w, key, pg_get_uuid(rows, row, col));
}

/* "stage:reason stage:reason" */
static void put_audit(struct jw *w, struct str audit)
{
    jw_key(w, "audit");
    jw_arr(w);
    while (audit.len > 0)
        jw_str(w, str_cut(&audit, ' '));
    jw_end_arr(w);
}

/* Columns: sql/delivery_list.sql. The object is left open. */
static void put_line(struct jw *w, const struct pg_result *rows, size_t row)
{
    jw_obj(w);
    jw_krun(w, "id", pg_get_uuid(rows, row, 0));
    jw_ktime(w, "at", pg_get_time(rows, row, 1));
    jw_kstr(w, "workflow", pg_get_str(rows, row, 2));
    jw_kstr(w, "trigger", pg_get_str(rows, row, 3));
    jw_ki64(w, "status", pg_get_int(rows, row, 4));
    jw_kstr(w, "stage", pg_get_str(rows, row, 5));
    jw_kstr(w, "reason", pg_get_str(rows, row, 6));
    jw_kstr(w, "address", pg_get_str(rows, row, 7));
    jw_ki64(w, "body_bytes", pg_get_int(rows, row, 8));
    jw_ki64(w, "took_us", pg_get_int(rows, row, 9));
    put_id_or_null(w, "run_id", rows, row, 10);
    put_id_or_null(w, "redelivered_from", rows, row, 11);
    jw_kbool(w, "old_secret", pg_get_bool(rows, row, 12));
    put_audit(w, pg_get_str(rows, row, 13));
    jw_kbool(w, "redeliverable", pg_get_bool(rows, row, 14));
}

/* ---- list ---- */

static void on_listed(void *ctx, const struct pg_outcome *outcome)
{
    struct page *page = ctx;
    const struct pg_result *rows;

    if (!call_committed(page->call, outcome))
        return;
    rows = outcome->results[0];
    page_begin(page);
    for (size_t i = 0; i < pg_rows(rows) && page_more(page); i++) {
        char id[UUID_TEXT_SIZE];

        put_line(&page->w, rows, i);
        jw_end_obj(&page->w);
        run_id_format(pg_get_uuid(rows, i, 0), id);
        page_cursor(page, str_of(arena_printf(page->call->arena, "%s", id)));
    }
    page_end(page, pg_rows(rows));
}

void route_delivery_list(struct call *call)
{
    struct page *page = page_open(call);
    struct pg_batch *batch;
    struct run_id cursor;
    struct filter f;

    if (page == NULL || !read_filter(call, &f))
        return;
    if (page->after.ptr != NULL) {
        if (!run_id_parse(page->after, &cursor)) {
            call_problem(call, 400, "bad_page_token", "the page_token is not one that this list gave");
            return;
        }
        if (run_id_cmp(cursor, f.below) < 0)
            f.below = cursor;
    }
    batch = call_batch(call, false);
    pg_add(batch, SQL_DELIVERY_LIST, pg_uuid(f.from), pg_uuid(f.below), pg_i32((int32_t)page->size + 1),
           pg_text(f.workflow), pg_text(f.trigger), pg_text(f.stage), pg_text(f.reason),
           f.status == 0 ? pg_null() : pg_i16((int16_t)f.status), f.has_run ? pg_uuid(f.run) : pg_null());
    pg_submit(gateway_read(call->gw), batch, on_listed, page);
}

/* ---- one ---- */

static void on_got(void *ctx, const struct pg_outcome *outcome)
{
    CLEANUP(buf_deinit) struct buf body = {0};
    struct call *call = ctx;
    const struct pg_result *rows;
    struct str request;
    struct jw w;

    if (!call_committed(call, outcome))
        return;
    rows = outcome->results[0];
    if (pg_rows(rows) == 0) {
        call_problem(call, 404, "not_found", "there is no such delivery");
        return;
    }
    request = pg_get_str(rows, 0, 15);
    buf_init(&body, JSON_MAX);
    w = jw_to(&body);
    put_line(&w, rows, 0);
    jw_kraw(&w, "headers", jt_get(request, "headers"));
    jw_kraw(&w, "query", jt_get(request, "query"));
    jw_kstr(&w, "excerpt", pg_get_str(rows, 0, 16));
    jw_end_obj(&w);
    call_json(call, 200, buf_str(&body));
}

void route_delivery_get(struct call *call)
{
    struct pg_batch *batch;
    struct run_id id;

    if (!run_id_parse(call->params[0], &id)) {
        call_problem(call, 404, "not_found", "there is no such delivery");
        return;
    }
    batch = call_batch(call, false);
    pg_add(batch, SQL_DELIVERY_GET, pg_uuid(id));
    pg_submit(gateway_read(call->gw), batch, on_got, call);
}

/* ---- counts ---- */

static void on_counted(void *ctx, const struct pg_outcome *outcome)
{
    CLEANUP(buf_deinit) struct buf body = {0};
    struct call *call = ctx;
    const struct pg_result *rows;
    struct jw w;

    if (!call_committed(call, outcome))
        return;
    rows = outcome->results[0];
    buf_init(&body, JSON_MAX);
    w = jw_to(&body);
    jw_obj(&w);
    jw_key(&w, "items");
    jw_arr(&w);
    for (size_t i = 0; i < pg_rows(rows); i++) {
        jw_obj(&w);
        jw_kstr(&w, "stage", pg_get_str(rows, i, 0));
        jw_kstr(&w, "reason", pg_get_str(rows, i, 1));
        jw_ki64(&w, "status", pg_get_int(rows, i, 2));
        jw_ki64(&w, "count", pg_get_int(rows, i, 3));
        jw_end_obj(&w);
    }
    jw_end_arr(&w);
    jw_end_obj(&w);
    call_json(call, 200, buf_str(&body));
}

void route_delivery_count(struct call *call)
{
    struct pg_batch *batch;
    struct filter f;

    if (!read_filter(call, &f))
        return;
    batch = call_batch(call, false);
    pg_add(batch, SQL_DELIVERY_COUNT, pg_uuid(f.from), pg_uuid(f.below), pg_text(f.workflow), pg_text(f.trigger),
           pg_text(f.stage), pg_text(f.reason), f.status == 0 ? pg_null() : pg_i16((int16_t)f.status),
           f.has_run ? pg_uuid(f.run) : pg_null());
    pg_submit(gateway_read(call->gw), batch, on_counted, call);
}
