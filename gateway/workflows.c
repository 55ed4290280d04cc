/* Saving and reading workflows. */
#include "common/base/ensure.h"
#include "gateway/document.h"
#include "gateway/flows.h"
#include "gateway/incoming/incoming.h"
#include "gateway/jq_check.h"
#include "gateway/json_more.h"
#include "gateway/lineage.h"
#include "gateway/page.h"
#include "gateway/route.h"
#include "gateway/schedules.h"
#include "gateway/secret_uses.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define JSON_MAX ((size_t)64 << 20)

static void not_found(struct call *call)
{
    call_problem(call, 404, "not_found", "there is no such workflow");
}

static void put_version_tag(char ret[32], int64_t version)
{
    snprintf(ret, 32, "\"%lld\"", (long long)version);
}

static void answer_tagged(struct call *call, int status, int64_t version, struct str body)
{
    char tag[32];

    put_version_tag(tag, version);
    struct http_header headers[] = {{STR("etag"), str_of(tag)}, {STR("cache-control"), STR("no-store")}};

    http_respond(call->http, status, "application/json", headers, 2, body);
}

struct saving {
    struct call *call;
    struct str name, warnings;
};

static void on_saved(void *ctx, const struct pg_outcome *outcome)
{
    struct saving *s = ctx;
    CLEANUP(buf_deinit) struct buf body = {0};
    struct jw w;

    if (!call_committed(s->call, outcome))
        return;
    struct str verdict = pg_get_str(outcome->results[1], 0, 0);
    int64_t version = pg_get_int(outcome->results[1], 0, 1);

    if (str_is(verdict, "precondition")) {
        call_problem(s->call, 412, "precondition_failed", "the newest version is not the one that If-Match names");
        return;
    }
    buf_init(&body, JSON_MAX);
    w = jw_to(&body);
    jw_obj(&w);
    jw_kstr(&w, "name", s->name);
    jw_ki64(&w, "version", version);
    jw_kbool(&w, "changed", !str_is(verdict, "same"));
    jw_kraw(&w, "warnings", s->warnings);
    jw_end_obj(&w);
    answer_tagged(s->call, str_is(verdict, "new") || str_is(verdict, "again") ? 201 : 200, version, buf_str(&body));
}

/* If-Match names a version in quotes; * and absence ask for nothing. False: answered. */
static bool read_if_match(struct call *call, uint32_t *ret)
{
    struct str tag = http_header_get(call->http, "if-match");

    *ret = 0;
    if (tag.ptr == NULL || str_is(tag, "*"))
        return true;
    if (tag.len > 2 && tag.ptr[0] == '"' && tag.ptr[tag.len - 1] == '"' &&
        parse_u32((struct str){tag.ptr + 1, tag.len - 2}, 1, INT32_MAX, ret))
        return true;
    call_problem(call, 412, "precondition_failed", "If-Match names no version: it looks like \"3\"");
    return false;
}

static void save(struct call *call, struct str name, struct str text, struct str warnings, uint32_t must_be)
{
    struct saving *s = arena_alloc(call->arena, sizeof(*s));
    struct pg_batch *batch = call_batch(call, true);
    uint8_t hash[32];

    *s = (struct saving){call, name, warnings};
    document_hash(text, hash);
    pg_add(batch, SQL_WORKFLOW_LOCK_SAVE, pg_text(name));
    pg_add(batch, SQL_WORKFLOW_SAVE, pg_text(name), pg_bytea(text), pg_bytea((struct str){(const char *)hash, 32}),
           pg_text(str_of(call->caller.prefix)), must_be == 0 ? pg_null() : pg_i32((int32_t)must_be));
    secret_uses_add(call, batch, name, text, hash);
    schedules_save(call, batch, name, text, hash);
    incoming_save_triggers(call, batch, name, text, hash);
    pg_submit(call->gw->writes, batch, on_saved, s);
}

struct checked {
    struct call *call;
    struct document document;
    uint32_t must_be; /* If-Match */
};

static void on_save_judged(void *ctx, struct document *document)
{
    struct checked *checked = ctx;
    struct call *call = checked->call;

    if (document->error_count > 0) {
        call_problem_errors(call, 422, "invalid_document", "the workflow document has faults", document->errors);
        return;
    }
    if (!str_eq(document->name, call->params[0])) {
        call_fault(call, "name_differs", "/name", "the name in the document differs from the one in the path");
        return;
    }
    save(call, call->params[0], document->text, document->warnings, checked->must_be);
}

static void on_save_checked(void *ctx, struct document *document)
{
    const struct checked *checked = ctx;

    lineage_check(checked->call, document, on_save_judged, ctx);
}

void route_workflow_save(struct call *call)
{
    struct checked *checked = arena_alloc(call->arena, sizeof(*checked));
    struct str text;

    checked->call = call;
    if (!name_is_valid(call->params[0])) {
        call_problem(call, 422, "bad_name", "a workflow's name is ^[a-z0-9][a-z0-9-]{0,62}$");
        return;
    }
    if (!read_if_match(call, &checked->must_be) || !call_body(call, &text))
        return;
    document_check(call->arena, &call->caller.limits, text, &checked->document);
    jq_check(call, &checked->document, on_save_checked, checked);
}

static void on_validated(void *ctx, struct document *document)
{
    const struct checked *checked = ctx;
    CLEANUP(buf_deinit) struct buf body = {0};
    struct jw w;

    buf_init(&body, JSON_MAX);
    w = jw_to(&body);
    jw_obj(&w);
    jw_kbool(&w, "valid", document->error_count == 0);
    jw_kraw(&w, "errors", document->errors);
    jw_kraw(&w, "warnings", document->warnings);
    jw_end_obj(&w);
    call_json(checked->call, 200, buf_str(&body));
}

static void on_validate_checked(void *ctx, struct document *document)
{
    const struct checked *checked = ctx;

    lineage_check(checked->call, document, on_validated, ctx);
}

void route_workflow_validate(struct call *call)
{
    struct checked *checked = arena_alloc(call->arena, sizeof(*checked));
    struct str text;

    checked->call = call;
    if (!call_body(call, &text))
        return;
    document_check(call->arena, &call->caller.limits, text, &checked->document);
    jq_check(call, &checked->document, on_validate_checked, checked);
}

static void on_current(void *ctx, const struct pg_outcome *outcome)
{
    struct call *call = ctx;
    CLEANUP(buf_deinit) struct buf body = {0};
    struct jw w;

    if (!call_committed(call, outcome))
        return;
    const struct pg_result *rows = outcome->results[0];

    if (pg_rows(rows) == 0) {
        not_found(call);
        return;
    }
    buf_init(&body, JSON_MAX);
    w = jw_to(&body);
    jw_obj(&w);
    jw_kstr(&w, "name", call->params[0]);
    jw_ki64(&w, "version", pg_get_int(rows, 0, 0));
    jw_kbool(&w, "enabled", pg_get_bool(rows, 0, 1));
    jw_ktime(&w, "created_at", pg_get_time(rows, 0, 3));
    jw_ktime(&w, "updated_at", pg_get_time(rows, 0, 4));
    jw_kraw(&w, "document", pg_get_str(rows, 0, 2));
    jw_end_obj(&w);
    answer_tagged(call, 200, pg_get_int(rows, 0, 0), buf_str(&body));
}

void route_workflow_get(struct call *call)
{
    struct pg_batch *batch = call_batch(call, false);

    pg_add(batch, SQL_WORKFLOW_CURRENT, pg_text(call->params[0]));
    pg_submit(gateway_read(call->gw), batch, on_current, call);
}

static void put_workflow(struct page *page, const struct pg_result *rows, size_t row)
{
    jw_obj(&page->w);
    jw_kstr(&page->w, "name", pg_get_str(rows, row, 0));
    jw_ki64(&page->w, "version", pg_get_int(rows, row, 1));
    jw_kbool(&page->w, "enabled", pg_get_bool(rows, row, 2));
    jw_ktime(&page->w, "created_at", pg_get_time(rows, row, 3));
    jw_ktime(&page->w, "updated_at", pg_get_time(rows, row, 4));
    jw_end_obj(&page->w);
    page_cursor(page, pg_get_str(rows, row, 0));
}

static void on_listed(void *ctx, const struct pg_outcome *outcome)
{
    page_answer(ctx, outcome, put_workflow);
}

void route_workflow_list(struct call *call)
{
    page_ask_by_name(call, SQL_WORKFLOW_LIST, on_listed);
}

static void on_changed(void *ctx, const struct pg_outcome *outcome)
{
    struct call *call = ctx;
    CLEANUP(buf_deinit) struct buf body = {0};
    struct jw w;

    if (!call_committed(call, outcome))
        return;
    if (pg_rows(outcome->results[1]) == 0) {
        not_found(call);
        return;
    }
    buf_init(&body, 4096);
    w = jw_to(&body);
    jw_obj(&w);
    jw_kstr(&w, "name", call->params[0]);
    jw_ki64(&w, "version", pg_get_int(outcome->results[1], 0, 0));
    jw_kbool(&w, "enabled", strstr(call->route->pattern, ":enable") != NULL);
    jw_end_obj(&w);
    call_json(call, 200, buf_str(&body));
}

/* The lock first: after the answer no start of before is still on its way. */
static void enable(struct call *call, bool enabled)
{
    struct pg_batch *batch;
    struct str body;

    if (!call_body_object(call, "", &body))
        return;
    batch = call_batch(call, true);
    pg_add(batch, SQL_WORKFLOW_LOCK_STARTS, pg_text(call->params[0]));
    pg_add(batch, SQL_WORKFLOW_ENABLE, pg_text(call->params[0]), pg_bool(enabled));
    pg_add(batch, SQL_SCHEDULE_WAKE, pg_text(call->params[0]));
    pg_submit(call->gw->writes, batch, on_changed, call);
}

void route_workflow_enable(struct call *call)
{
    enable(call, true);
}

void route_workflow_disable(struct call *call)
{
    enable(call, false);
}

static void on_deleted(void *ctx, const struct pg_outcome *outcome)
{
    struct call *call = ctx;

    if (!call_committed(call, outcome))
        return;
    if (pg_rows(outcome->results[1]) == 0)
        not_found(call);
    else if (!pg_get_bool(outcome->results[1], 0, 1))
        call_problem(call, 412, "precondition_failed", "the newest version is not the one that If-Match names");
    else
        http_respond(call->http, 204, NULL, NULL, 0, STR_NONE);
}

void route_workflow_delete(struct call *call)
{
    struct pg_batch *batch;
    uint32_t must_be;

    if (!read_if_match(call, &must_be))
        return;
    batch = call_batch(call, true);
    pg_add(batch, SQL_WORKFLOW_LOCK_STARTS, pg_text(call->params[0]));
    pg_add(batch, SQL_WORKFLOW_DELETE, pg_text(call->params[0]), must_be == 0 ? pg_null() : pg_i32((int32_t)must_be));
    pg_add(batch, SQL_SECRET_USES_GONE, pg_text(call->params[0]));
    pg_add(batch, SQL_SCHEDULE_WAKE, pg_text(call->params[0]));
    pg_submit(call->gw->writes, batch, on_deleted, call);
}

static void on_old_version(void *ctx, const struct pg_outcome *outcome)
{
    struct call *call = ctx;

    if (!call_committed(call, outcome))
        return;
    if (pg_rows(outcome->results[1]) == 0)
        not_found(call);
    else if (pg_rows(outcome->results[0]) == 0)
        call_fault(call, "unknown_version", "/version", "the workflow has no such version");
    else
        save(call, call->params[0], str_arena(call->arena, pg_get_str(outcome->results[0], 0, 0)), STR("[]"), 0);
}

void route_workflow_rollback(struct call *call)
{
    struct pg_batch *batch;
    struct str body;
    int64_t version = 0;

    if (!call_body_object(call, "version", &body))
        return;
    if (!jt_i64(jt_get(body, "version"), &version) || version < 1 || version > INT32_MAX) {
        call_fault(call, jt_get(body, "version").ptr == NULL ? "missing_field" : "wrong_type", "/version",
                   "version must be the number of a version");
        return;
    }
    batch = call_batch(call, false);
    pg_add(batch, SQL_WORKFLOW_VERSION, pg_text(call->params[0]), pg_i32((int32_t)version));
    pg_add(batch, SQL_WORKFLOW_CURRENT, pg_text(call->params[0]));
    pg_submit(call->gw->writes, batch, on_old_version, call);
}
