/* Versions of a workflow, and its picture. */
#include "gateway/diff.h"
#include "gateway/document.h"
#include "gateway/flows.h"
#include "gateway/json_more.h"
#include "common/engine/mermaid.h"
#include "gateway/page.h"
#include "gateway/route.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define PICTURE_MAX ((size_t)8 << 20)
#define DIFF_MAX ((size_t)64 << 20)

/* A path or query number; false: answered 404. */
static bool read_version(struct call *call, struct str text, uint32_t *ret)
{
    if (parse_u32(text, 1, INT32_MAX, ret))
        return true;
    call_problem(call, 404, "not_found", "the workflow has no such version");
    return false;
}

static void on_versions(void *ctx, const struct pg_outcome *outcome)
{
    struct page *page = ctx;
    const struct pg_result *rows;

    if (!call_committed(page->call, outcome))
        return;
    rows = outcome->results[0];
    if (pg_rows(rows) == 0 && page->after.ptr == NULL) {
        call_problem(page->call, 404, "not_found", "there is no such workflow");
        return;
    }
    page_begin(page);
    for (size_t i = 0; i < pg_rows(rows) && page_more(page); i++) {
        struct str hash = pg_get_str(rows, i, 3);
        char hex[65] = "";

        if (hash.len == 32)
            hex_encode(hash.ptr, hash.len, hex);
        jw_obj(&page->w);
        jw_ki64(&page->w, "version", pg_get_int(rows, i, 0));
        jw_ktime(&page->w, "created_at", pg_get_time(rows, i, 1));
        jw_kstr(&page->w, "created_by", pg_get_str(rows, i, 2));
        jw_kcstr(&page->w, "hash", hex);
        jw_ki64(&page->w, "bytes", pg_get_int(rows, i, 4));
        jw_end_obj(&page->w);
        page_cursor(page, str_of(arena_printf(page->call->arena, "%lld", (long long)pg_get_int(rows, i, 0))));
    }
    page_end(page, pg_rows(rows));
}

void route_version_list(struct call *call)
{
    struct page *page = page_open(call);
    struct pg_batch *batch;
    uint32_t below = INT32_MAX;

    if (page == NULL)
        return;
    if (page->after.ptr != NULL && !read_version(call, page->after, &below))
        return;
    batch = call_batch(call, false);
    pg_add(batch, SQL_VERSION_LIST, pg_text(call->params[0]), pg_i32((int32_t)below), pg_i32((int32_t)page->size + 1));
    pg_submit(gateway_read(call->gw), batch, on_versions, page);
}

static void on_version(void *ctx, const struct pg_outcome *outcome)
{
    struct call *call = ctx;

    if (!call_committed(call, outcome))
        return;
    if (pg_rows(outcome->results[0]) == 0)
        call_problem(call, 404, "not_found", "there is no such workflow, or it has no such version");
    else
        call_json(call, 200, pg_get_str(outcome->results[0], 0, 0));
}

struct comparing {
    struct call *call;
    uint32_t from, to;
};

static void on_both(void *ctx, const struct pg_outcome *outcome)
{
    const struct comparing *c = ctx;
    CLEANUP(buf_deinit) struct buf from = {0}, to = {0}, out = {0};
    struct jw w;

    if (!call_committed(c->call, outcome))
        return;
    if (pg_rows(outcome->results[0]) == 0 || pg_rows(outcome->results[1]) == 0) {
        call_problem(c->call, 404, "not_found", "there is no such workflow, or it has no such version");
        return;
    }
    document_content(pg_get_str(outcome->results[0], 0, 0), &from);
    document_content(pg_get_str(outcome->results[1], 0, 0), &to);
    buf_init(&out, DIFF_MAX);
    w = jw_to(&out);
    jw_obj(&w);
    jw_ki64(&w, "from", c->from);
    jw_ki64(&w, "to", c->to);
    jw_key(&w, "changes");
    diff_write(&w, buf_str(&from), buf_str(&to));
    jw_end_obj(&w);
    if (out.overflow)
        call_problem(c->call, 422, "too_large", "the versions differ in more than can be told");
    else
        call_json(c->call, 200, buf_str(&out));
}

void route_version_get(struct call *call)
{
    struct str other = call_query(call, "diff");
    struct comparing *c = arena_alloc(call->arena, sizeof(*c));
    struct pg_batch *batch;

    c->call = call;
    if (!read_version(call, call->params[1], &c->to))
        return;
    if (other.ptr != NULL && !parse_u32(other, 1, INT32_MAX, &c->from)) {
        call_problem(call, 400, "bad_query", "diff is the number of a version");
        return;
    }
    batch = call_batch(call, false);
    if (other.ptr != NULL)
        pg_add(batch, SQL_WORKFLOW_VERSION, pg_text(call->params[0]), pg_i32((int32_t)c->from));
    pg_add(batch, SQL_WORKFLOW_VERSION, pg_text(call->params[0]), pg_i32((int32_t)c->to));
    if (other.ptr != NULL)
        pg_submit(gateway_read(call->gw), batch, on_both, c);
    else
        pg_submit(gateway_read(call->gw), batch, on_version, call);
}

static void on_flow(void *ctx, struct flow *flow, enum err_code rc, const struct err *err)
{
    struct call *call = ctx;
    CLEANUP(buf_deinit) struct buf out = {0};

    if (rc != ERR_OK) {
        call_error(call, err);
        return;
    }
    if (flow == NULL) {
        call_problem(call, 404, "not_found", "there is no such workflow, or it has no such version");
        return;
    }
    if (flow->plan == NULL) {
        call_problemf(call, 409, "not_available", "this release cannot read version %d: %s", (int)flow->version,
                      flow->fault);
        return;
    }
    buf_init(&out, PICTURE_MAX);
    mermaid_write(flow->plan, &out);
    http_respond(call->http, 200, "text/vnd.mermaid; charset=utf-8", NULL, 0, buf_str(&out));
}

void route_workflow_mermaid(struct call *call)
{
    struct str text = call_query(call, "version");
    uint32_t version;

    if (text.ptr == NULL)
        flows_newest(call->gw->flows, call->caller.organisation, call->params[0], true, on_flow, call);
    else if (read_version(call, text, &version))
        flows_version(call->gw->flows, call->caller.organisation, call->params[0], (int32_t)version, on_flow, call);
}
