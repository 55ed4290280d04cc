/* What an endpoint was told, or is to be: listed, one whole, sent again; and a test of the endpoint. */
#include "gateway/document.h"
#include "gateway/json_more.h"
#include "gateway/outgoing/endpoint.h"
#include "gateway/outgoing/sender.h"
#include "gateway/page.h"
#include "gateway/route.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define EVENT_ID_MAX ((size_t)64)
#define WHOLE_MAX ((size_t)8 << 20)

static void unknown(struct call *call)
{
    call_problem(call, 404, "not_found",
                 "there is no such delivery: after 7 days it is gone, and what went to the exchange is gone at once");
}

static void put_int_or_null(struct jw *w, const char *key, const struct pg_result *rows, size_t row, int col)
{
    if (pg_is_null(rows, row, col))
        jw_kcstr(w, key, NULL);
    else
        jw_ki64(w, key, pg_get_int(rows, row, col));
}

/* Columns: sql/outgoing_list.sql, the first nine. The object is left open. */
static void put_told(struct jw *w, const struct pg_result *rows, size_t row)
{
    bool held = pg_get_bool(rows, row, 7);
    struct wall_us next_at = {0};

    if (!held)
        next_at = pg_get_time(rows, row, 6);
    jw_obj(w);
    jw_kstr(w, "id", pg_get_str(rows, row, 0));
    jw_kstr(w, "type", pg_get_str(rows, row, 1));
    if (pg_is_null(rows, row, 2))
        jw_kcstr(w, "run_id", NULL);
    else
        jw_krun(w, "run_id", pg_get_uuid(rows, row, 2));
    jw_ktime(w, "at", pg_get_time(rows, row, 3));
    if (held)
        jw_kcstr(w, "status", "sending");
    else
        jw_kstr(w, "status", pg_get_str(rows, row, 4));
    jw_ki64(w, "attempts", pg_get_int(rows, row, 5));
    jw_ktime(w, "next_at", next_at);
    jw_ktime(w, "expires_at", pg_get_time(rows, row, 8));
}

/* ---- listed ---- */

static void put_listed(struct page *page, const struct pg_result *rows, size_t row)
{
    struct jw *w = &page->w;

    put_told(w, rows, row);
    jw_key(w, "last_attempt");
    if (pg_is_null(rows, row, 9)) {
        jw_null(w);
    } else {
        jw_obj(w);
        jw_ktime(w, "at", pg_get_time(rows, row, 9));
        jw_ki64(w, "took_us", pg_get_int(rows, row, 10));
        put_int_or_null(w, "status", rows, row, 11);
        jw_kstr(w, "error", pg_get_str(rows, row, 12));
        jw_kstr(w, "answer", pg_get_str(rows, row, 13));
        jw_end_obj(w);
    }
    jw_end_obj(w);
    page_cursor(page, str_arena(page->call->arena, pg_get_str(rows, row, 0)));
}

static void on_listed(void *ctx, const struct pg_outcome *outcome)
{
    struct page *page = ctx;

    if (outcome->rc == ERR_OK && pg_rows(outcome->results[1]) == 0) {
        endpoint_unknown(page->call);
        return;
    }
    page_answer(page, outcome, put_listed);
}

static bool is_status(struct str name)
{
    return str_is(name, "pending") || str_is(name, "delivered") || str_is(name, "failed");
}

void route_told_list(struct call *call)
{
    struct str status = call_query(call, "status"), type = call_query(call, "type");
    struct pg_batch *batch;
    struct page *page;
    struct run_id id;

    if (!endpoint_id(call, &id) || (page = page_open(call)) == NULL)
        return;
    if (status.ptr != NULL && !is_status(status)) {
        call_problem(call, 400, "bad_query", "status is one of pending, delivered, failed");
        return;
    }
    if (type.ptr != NULL && notice_find(type) == NOTICE_NONE && !str_is(type, NOTICE_TEST)) {
        call_problem(call, 400, "bad_query", "type is a type of event, such as ropewalk.run.ended");
        return;
    }
    batch = call_batch(call, false);
    pg_add(batch, SQL_OUTGOING_LIST, pg_uuid(id), pg_text(page->after), pg_i32((int32_t)page->size + 1),
           pg_text(status), pg_text(type));
    pg_add(batch, SQL_ENDPOINT_GET, pg_uuid(id));
    pg_submit(gateway_read(call->gw), batch, on_listed, page);
}

/* ---- one whole ---- */

static void on_got(void *ctx, const struct pg_outcome *outcome)
{
    struct call *call = ctx;
    CLEANUP(buf_deinit) struct buf body = {0};
    const struct pg_result *rows;
    struct jw w;

    if (!call_committed(call, outcome))
        return;
    rows = outcome->results[0];
    if (pg_rows(rows) == 0) {
        unknown(call);
        return;
    }
    buf_init(&body, WHOLE_MAX);
    w = jw_to(&body);
    put_told(&w, rows, 0);
    jw_kraw(&w, "event", pg_get_str(rows, 0, 9));
    jw_kraw(&w, "attempt_log", pg_get_str(rows, 0, 10));
    jw_end_obj(&w);
    call_json(call, 200, buf_str(&body));
}

/* False: answered. */
static bool read_ids(struct call *call, struct run_id *ret)
{
    if (!endpoint_id(call, ret))
        return false;
    if (call->params[1].len <= EVENT_ID_MAX && memchr(call->params[1].ptr, '\0', call->params[1].len) == NULL)
        return true;
    unknown(call);
    return false;
}

void route_told_get(struct call *call)
{
    struct pg_batch *batch;
    struct run_id id;

    if (!read_ids(call, &id))
        return;
    batch = call_batch(call, false);
    pg_add(batch, SQL_OUTGOING_GET, pg_uuid(id), pg_text(call->params[1]));
    pg_submit(gateway_read(call->gw), batch, on_got, call);
}

/* ---- once more, and tried ---- */

struct asked {
    struct call *call;
    struct run_id endpoint;
    char id[NOTICE_ID_SIZE];
};

static void on_asked(void *ctx, const struct pg_outcome *outcome)
{
    struct asked *asked = ctx;
    struct call *call = asked->call;
    CLEANUP(buf_deinit) struct buf body = {0};
    char endpoint[UUID_TEXT_SIZE];
    const struct pg_result *there;
    struct str id;
    struct jw w;

    if (!call_committed(call, outcome))
        return;
    there = outcome->results[0];
    if (pg_rows(there) == 0) {
        endpoint_unknown(call);
        return;
    }
    if (!pg_get_bool(there, 0, 6)) {
        call_problem(call, 409, "endpoint_disabled", "the endpoint is disabled: enable it first");
        return;
    }
    if (pg_rows(outcome->results[1]) == 0) {
        unknown(call);
        return;
    }
    sender_wake(call->gw->sender);
    id = pg_get_str(outcome->results[1], 0, 0);
    run_id_format(asked->endpoint, endpoint);
    buf_init(&body, 4096);
    w = jw_to(&body);
    jw_obj(&w);
    jw_kstr(&w, "id", id);
    jw_kcstr(&w, "status", "pending");
    jw_end_obj(&w);
    call_json_at(call, 202, arena_printf(call->arena, "/v1/endpoints/%s/deliveries/" STR_FMT, endpoint, STR_ARG(id)),
                 buf_str(&body));
}

void route_told_redeliver(struct call *call)
{
    struct asked *asked = arena_alloc(call->arena, sizeof(*asked));
    struct pg_batch *batch;
    struct str body;

    asked->call = call;
    if (!read_ids(call, &asked->endpoint) || !call_body_object(call, "", &body))
        return;
    batch = call_batch(call, true);
    pg_add(batch, SQL_ENDPOINT_GET, pg_uuid(asked->endpoint));
    pg_add(batch, SQL_OUTGOING_AGAIN, pg_uuid(asked->endpoint), pg_text(call->params[1]));
    pg_submit(call->gw->writes, batch, on_asked, asked);
}

void route_endpoint_test(struct call *call)
{
    struct asked *asked = arena_alloc(call->arena, sizeof(*asked));
    CLEANUP(buf_deinit) struct buf event = {0};
    struct wall_us now = db_clock_now(&call->gw->clock);
    char endpoint[UUID_TEXT_SIZE];
    struct pg_batch *batch;
    struct str body;

    asked->call = call;
    if (!endpoint_id(call, &asked->endpoint) || !call_body_object(call, "", &body))
        return;
    run_id_format(asked->endpoint, endpoint);
    notice_id(run_id_make(now, 0), 0, asked->id);
    buf_init(&event, 4096);
    notice_write_test(call->caller.organisation_name, str_of(endpoint), str_of(asked->id), now, &event);
    batch = call_batch(call, true);
    pg_add(batch, SQL_ENDPOINT_GET, pg_uuid(asked->endpoint));
    pg_add(batch, SQL_OUTGOING_TEST, pg_uuid(asked->endpoint), pg_text(str_of(asked->id)), pg_text(STR(NOTICE_TEST)),
           pg_time(now), pg_json(buf_str(&event)));
    pg_submit(call->gw->writes, batch, on_asked, asked);
}
