/* The API of endpoints: made, listed, changed, deleted; their secrets exchanged. */
#include "common/base/ensure.h"
#include "gateway/document.h"
#include "gateway/json_more.h"
#include "gateway/outgoing/endpoint.h"
#include "gateway/outgoing/sender.h"
#include "gateway/page.h"
#include "gateway/route.h"
#include "rw_gateway_sql.h"
#include <inttypes.h>

#include "common/base/banned.h"

#define TRIES_MAX 5 /* a rotation of the data key at the same time costs one */
#define OVERLAP_US (24 * 3600 * US_PER_S)
#define OVERLAP_MAX_US (7 * 24 * 3600 * US_PER_S)

/* ---- telling ---- */

void endpoint_unknown(struct call *call)
{
    call_problem(call, 404, "not_found", "there is no such endpoint");
}

bool endpoint_id(struct call *call, struct run_id *ret)
{
    if (run_id_parse(call->params[0], ret))
        return true;
    endpoint_unknown(call);
    return false;
}

/* Columns: sql/endpoint_get.sql. The object is left open. */
void endpoint_put(struct jw *w, const struct pg_result *rows, size_t row)
{
    jw_obj(w);
    jw_krun(w, "id", pg_get_uuid(rows, row, 0));
    jw_kstr(w, "kind", pg_get_str(rows, row, 1));
    jw_kstr(w, "url", pg_get_str(rows, row, 2));
    jw_kstr(w, "description", pg_get_str(rows, row, 3));
    jw_kraw(w, "types", pg_get_str(rows, row, 4));
    jw_kraw(w, "workflows", pg_get_str(rows, row, 5));
    jw_kbool(w, "enabled", pg_get_bool(rows, row, 6));
    jw_kstr(w, "disabled_reason", pg_get_str(rows, row, 7));
    jw_ktime(w, "disabled_at", pg_get_time(rows, row, 8));
    jw_ktime(w, "old_secret_until", pg_get_time(rows, row, 9));
    jw_ktime(w, "failing_since", pg_get_time(rows, row, 10));
    jw_ki64(w, "pending", pg_get_int(rows, row, 11));
    jw_ktime(w, "created_at", pg_get_time(rows, row, 12));
    jw_ktime(w, "updated_at", pg_get_time(rows, row, 13));
    jw_kstr(w, "created_by", pg_get_str(rows, row, 14));
}

/* With the secret, which nobody is told again. */
static void answer(struct call *call, int status, const struct pg_result *rows, const char *secret)
{
    CLEANUP(buf_deinit) struct buf body = {0};
    char id[UUID_TEXT_SIZE];
    struct jw w;

    buf_init(&body, 65536);
    w = jw_to(&body);
    endpoint_put(&w, rows, 0);
    if (secret != NULL)
        jw_kcstr(&w, "secret", secret);
    jw_end_obj(&w);
    run_id_format(pg_get_uuid(rows, 0, 0), id);
    if (status == 201)
        call_json_at(call, status, arena_printf(call->arena, "/v1/endpoints/%s", id), buf_str(&body));
    else
        call_json(call, status, buf_str(&body));
}

/* ---- made ---- */

struct making {
    struct call *call;
    struct run_id id;
    struct endpoint_body body;
    const struct endpoint_secret *secret; /* NULL: it has none */
    unsigned tries;
};

static void on_secret(void *ctx, const struct endpoint_secret *secret);

static void why_not_made(struct making *m, const struct pg_result *there)
{
    struct call *call = m->call;
    int64_t limit = call->caller.limits.of[LIMIT_ENDPOINTS];

    if (m->body.exchange && pg_get_bool(there, 0, 1))
        call_problem(call, 409, "exchange_exists",
                     "the organisation has an endpoint of kind exchange already: change that one");
    else if (pg_get_int(there, 0, 0) >= limit)
        call_problemf(
            call, 409, "too_many_endpoints",
            "the organisation may have %" PRId64 " endpoints (limit endpoints): delete one, or raise the limit", limit);
    else if (++m->tries == TRIES_MAX || m->body.exchange)
        call_problem_later(call, 503, "busy", 1, "the data key was changed again and again; try again");
    else
        endpoint_secret_make(call, m->id, on_secret, m);
}

static void on_made(void *ctx, const struct pg_outcome *outcome)
{
    struct making *m = ctx;

    if (!call_committed(m->call, outcome))
        return;
    if (pg_rows(outcome->results[2]) == 0)
        why_not_made(m, outcome->results[1]);
    else
        answer(m->call, 201, outcome->results[outcome->count - 1], m->secret == NULL ? NULL : m->secret->text);
}

static void make(struct making *m)
{
    struct call *call = m->call;
    const struct endpoint_body *body = &m->body;
    struct pg_batch *batch = call_batch(call, true);

    pg_batch_add0(batch, SQL_ENDPOINT_LOCK);
    pg_batch_add0(batch, SQL_ENDPOINT_COUNT);
    pg_add(batch, SQL_ENDPOINT_CREATE, pg_uuid(m->id), pg_text(body->exchange ? STR("exchange") : STR("webhook")),
           pg_text(body->url), pg_text(body->description.ptr == NULL ? STR("") : body->description),
           endpoint_names(batch, body->types, body->type_count),
           endpoint_names(batch, body->workflows, body->workflow_count), pg_bool(body->enabled),
           m->secret == NULL ? pg_null() : pg_i32(m->secret->number),
           m->secret == NULL ? pg_null() : pg_i32(m->secret->key_version), pg_text(str_of(call->caller.prefix)),
           pg_i32((int32_t)call->caller.limits.of[LIMIT_ENDPOINTS]));
    if (m->secret != NULL)
        pg_add(batch, SQL_ENDPOINT_SECRET_PUT, pg_uuid(m->id), pg_text(str_of(m->secret->name)),
               pg_i32(m->secret->key_version), pg_bytea(m->secret->box), pg_text(str_of(call->caller.prefix)));
    pg_add(batch, SQL_ENDPOINT_GET, pg_uuid(m->id));
    pg_submit(call->gw->writes, batch, on_made, m);
}

static void on_secret(void *ctx, const struct endpoint_secret *secret)
{
    struct making *m = ctx;

    m->secret = secret;
    make(m);
}

void route_endpoint_create(struct call *call)
{
    struct making *m = arena_alloc(call->arena, sizeof(*m));

    m->call = call;
    m->id = run_id_make(db_clock_now(&call->gw->clock), (unsigned)(random_u64() % SLOT_COUNT));
    if (!endpoint_body_read(call, true, &m->body))
        return;
    if (m->body.exchange)
        make(m);
    else
        endpoint_secret_make(call, m->id, on_secret, m);
}

/* ---- listed ---- */

static void put_listed(struct page *page, const struct pg_result *rows, size_t row)
{
    char *id = arena_alloc(page->call->arena, UUID_TEXT_SIZE);

    endpoint_put(&page->w, rows, row);
    jw_end_obj(&page->w);
    run_id_format(pg_get_uuid(rows, row, 0), id);
    page_cursor(page, str_of(id));
}

static void on_listed(void *ctx, const struct pg_outcome *outcome)
{
    page_answer(ctx, outcome, put_listed);
}

void route_endpoint_list(struct call *call)
{
    struct page *page = page_open(call);
    struct run_id below;
    struct pg_batch *batch;

    memset(&below, 0xff, sizeof(below));
    if (page == NULL)
        return;
    if (page->after.ptr != NULL && !run_id_parse(page->after, &below)) {
        call_problem(call, 400, "bad_page_token", "the page_token is not one that this list gave");
        return;
    }
    batch = call_batch(call, false);
    pg_add(batch, SQL_ENDPOINT_LIST, pg_uuid(below), pg_i32((int32_t)page->size + 1));
    pg_submit(gateway_read(call->gw), batch, on_listed, page);
}

static void on_got(void *ctx, const struct pg_outcome *outcome)
{
    struct call *call = ctx;
    const struct pg_result *rows;

    if (!call_committed(call, outcome))
        return;
    rows = outcome->results[outcome->count - 1];
    if (pg_rows(rows) == 0)
        endpoint_unknown(call);
    else
        answer(call, 200, rows, NULL);
}

void route_endpoint_get(struct call *call)
{
    struct pg_batch *batch;
    struct run_id id;

    if (!endpoint_id(call, &id))
        return;
    batch = call_batch(call, false);
    pg_add(batch, SQL_ENDPOINT_GET, pg_uuid(id));
    pg_submit(gateway_read(call->gw), batch, on_got, call);
}

/* ---- changed ---- */

struct changing {
    struct call *call;
    bool url;
};

static void on_changed(void *ctx, const struct pg_outcome *outcome)
{
    struct changing *c = ctx;
    const struct pg_result *rows;

    if (!call_committed(c->call, outcome))
        return;
    rows = outcome->results[1];
    if (pg_rows(rows) > 0 && c->url && str_is(pg_get_str(rows, 0, 1), "exchange")) {
        call_fault(c->call, "unknown_field", "/url",
                   "an endpoint of kind exchange has no url: its events go to ropewalk.run_events");
        return;
    }
    sender_wake(c->call->gw->sender);
    on_got(c->call, outcome);
}

void route_endpoint_change(struct call *call)
{
    struct changing *c = arena_alloc(call->arena, sizeof(*c));
    struct endpoint_body *body = arena_alloc(call->arena, sizeof(*body));
    struct pg_batch *batch;
    struct run_id id;

    if (!endpoint_id(call, &id) || !endpoint_body_read(call, false, body))
        return;
    *c = (struct changing){call, body->url.ptr != NULL};
    batch = call_batch(call, true);
    pg_add(batch, SQL_ENDPOINT_CHANGE, pg_uuid(id), pg_text(body->url), pg_text(body->description),
           pg_bool(body->has_types), endpoint_names(batch, body->types, body->type_count), pg_bool(body->has_workflows),
           endpoint_names(batch, body->workflows, body->workflow_count),
           body->has_enabled ? pg_bool(body->enabled) : pg_null());
    pg_add(batch, SQL_ENDPOINT_GET, pg_uuid(id));
    pg_submit(call->gw->writes, batch, on_changed, c);
}

static void on_deleted(void *ctx, const struct pg_outcome *outcome)
{
    struct call *call = ctx;

    if (!call_committed(call, outcome))
        return;
    if (pg_rows(outcome->results[0]) == 0)
        endpoint_unknown(call);
    else
        http_respond(call->http, 204, NULL, NULL, 0, STR_NONE);
}

void route_endpoint_delete(struct call *call)
{
    struct pg_batch *batch;
    struct run_id id;

    if (!endpoint_id(call, &id))
        return;
    batch = call_batch(call, true);
    pg_add(batch, SQL_ENDPOINT_DELETE, pg_uuid(id));
    pg_submit(call->gw->writes, batch, on_deleted, call);
}

/* ---- its secret ---- */

struct rotating {
    struct call *call;
    struct run_id id;
    int64_t overlap_us;
    const struct endpoint_secret *secret;
    unsigned tries;
};

static void on_new_secret(void *ctx, const struct endpoint_secret *secret);

static void on_rotated(void *ctx, const struct pg_outcome *outcome)
{
    struct rotating *r = ctx;
    struct call *call = r->call;
    const struct pg_result *rows;

    if (!call_committed(call, outcome))
        return;
    rows = outcome->results[3];
    if (pg_rows(outcome->results[0]) > 0)
        answer(call, 200, rows, r->secret->text);
    else if (pg_rows(rows) == 0)
        endpoint_unknown(call);
    else if (str_is(pg_get_str(rows, 0, 1), "exchange"))
        call_problem(call, 409, "no_secret", "what goes to the exchange is not signed");
    else if (++r->tries == TRIES_MAX)
        call_problem_later(call, 503, "busy", 1, "the data key was changed again and again; try again");
    else
        endpoint_secret_make(call, r->id, on_new_secret, r);
}

static void on_new_secret(void *ctx, const struct endpoint_secret *secret)
{
    struct rotating *r = ctx;
    struct call *call = r->call;
    struct pg_batch *batch = call_batch(call, true);

    r->secret = secret;
    pg_add(batch, SQL_ENDPOINT_ROTATE, pg_uuid(r->id), pg_i32(secret->number), pg_i32(secret->key_version),
           pg_i64(r->overlap_us / US_PER_MS));
    pg_add(batch, SQL_ENDPOINT_SECRET_PUT, pg_uuid(r->id), pg_text(str_of(secret->name)), pg_i32(secret->key_version),
           pg_bytea(secret->box), pg_text(str_of(call->caller.prefix)));
    pg_add(batch, SQL_ENDPOINT_SECRET_GONE, pg_uuid(r->id));
    pg_add(batch, SQL_ENDPOINT_GET, pg_uuid(r->id));
    pg_submit(call->gw->writes, batch, on_rotated, r);
}

void route_endpoint_rotate(struct call *call)
{
    struct rotating *r = arena_alloc(call->arena, sizeof(*r));
    struct str body, overlap;

    *r = (struct rotating){.call = call, .overlap_us = OVERLAP_US};
    if (!endpoint_id(call, &r->id) || !call_body_object(call, "overlap", &body))
        return;
    if (jt_get(body, "overlap").ptr != NULL &&
        (!jt_string(jt_get(body, "overlap"), call->arena, &overlap) || !duration_parse(overlap, &r->overlap_us) ||
         r->overlap_us < 0 || r->overlap_us > OVERLAP_MAX_US)) {
        call_fault(call, "bad_duration", "/overlap",
                   "overlap must be a duration from 0s to 7d: for so long both secrets sign");
        return;
    }
    endpoint_secret_make(call, r->id, on_new_secret, r);
}
