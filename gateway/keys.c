/* API keys: made, listed, revoked. */
#include "gateway/auth.h"
#include "gateway/document.h"
#include "gateway/json_more.h"
#include "gateway/page.h"
#include "gateway/route.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define NAME_MAX_BYTES 100

struct making {
    struct call *call;
    struct str name;
    const char *role;
    char key[API_KEY_SIZE], prefix[24];
    uint8_t hash[32];
};

static void on_made(void *ctx, const struct pg_outcome *outcome)
{
    struct making *m = ctx;
    CLEANUP(buf_deinit) struct buf body = {0};
    char location[80];
    struct jw w;

    if (!call_committed(m->call, outcome))
        return;
    buf_init(&body, 4096);
    w = jw_to(&body);
    jw_obj(&w);
    jw_krun(&w, "id", pg_get_uuid(outcome->results[0], 0, 0));
    jw_kcstr(&w, "key", m->key);
    jw_kcstr(&w, "prefix", m->prefix);
    jw_kstr(&w, "name", m->name);
    jw_kcstr(&w, "role", m->role);
    jw_ktime(&w, "created_at", pg_get_time(outcome->results[0], 0, 1));
    jw_end_obj(&w);
    char id[UUID_TEXT_SIZE];

    run_id_format(pg_get_uuid(outcome->results[0], 0, 0), id);
    snprintf(location, sizeof(location), "/v1/api-keys/%s", id);
    call_json_at(m->call, 201, location, buf_str(&body));
}

void route_key_create(struct call *call)
{
    struct making *m = arena_alloc(call->arena, sizeof(*m));
    struct str body, role_text;
    struct pg_batch *batch;
    enum role role;

    m->call = call;
    if (!call_body_object(call, "name role", &body))
        return;
    if (!jt_string(jt_get(body, "name"), call->arena, &m->name) || m->name.len == 0 || m->name.len > NAME_MAX_BYTES) {
        call_fault(call, jt_get(body, "name").ptr == NULL ? "missing_field" : "out_of_range", "/name",
                   "name must be a string of 1 to 100 bytes");
        return;
    }
    if (!jt_string(jt_get(body, "role"), call->arena, &role_text) || !role_parse(role_text, &role)) {
        call_fault(call, jt_get(body, "role").ptr == NULL ? "missing_field" : "out_of_range", "/role",
                   "role must be one of viewer, trigger, operator, editor, admin");
        return;
    }
    m->role = role_name(role);
    api_key_make(m->key, m->prefix, m->hash);
    batch = call_batch(call, true);
    pg_add(batch, SQL_KEY_CREATE, pg_text(m->name), pg_text(str_of(m->role)), pg_text(str_of(m->prefix)),
           pg_bytea((struct str){(const char *)m->hash, 32}));
    pg_submit(call->gw->writes, batch, on_made, m);
}

static void put_key(struct jw *w, const struct pg_result *rows, size_t row)
{
    jw_obj(w);
    jw_krun(w, "id", pg_get_uuid(rows, row, 0));
    jw_kstr(w, "name", pg_get_str(rows, row, 1));
    jw_kstr(w, "role", pg_get_str(rows, row, 2));
    jw_kstr(w, "prefix", pg_get_str(rows, row, 3));
    jw_ktime(w, "created_at", pg_get_time(rows, row, 4));
    jw_ktime(w, "revoked_at", pg_get_time(rows, row, 5));
    jw_end_obj(w);
}

static void put_listed(struct page *page, const struct pg_result *rows, size_t row)
{
    char *id = arena_alloc(page->call->arena, UUID_TEXT_SIZE);

    put_key(&page->w, rows, row);
    run_id_format(pg_get_uuid(rows, row, 0), id);
    page_cursor(page, str_of(id));
}

static void on_listed(void *ctx, const struct pg_outcome *outcome)
{
    page_answer(ctx, outcome, put_listed);
}

void route_key_list(struct call *call)
{
    struct page *page = page_open(call);
    struct run_id after = {{0}};
    struct pg_batch *batch;

    if (page == NULL)
        return;
    if (page->after.ptr != NULL && !run_id_parse(page->after, &after)) {
        call_problem(call, 400, "bad_page_token", "the page_token is not one that this list gave");
        return;
    }
    batch = call_batch(call, false);
    pg_add(batch, SQL_KEY_LIST, pg_uuid(after), pg_i32((int32_t)page->size + 1));
    pg_submit(gateway_read(call->gw), batch, on_listed, page);
}

static bool key_id(struct call *call, struct run_id *ret)
{
    if (run_id_parse(call->params[0], ret))
        return true;
    call_problem(call, 404, "not_found", "there is no such API key");
    return false;
}

static void on_got(void *ctx, const struct pg_outcome *outcome)
{
    struct call *call = ctx;
    CLEANUP(buf_deinit) struct buf body = {0};
    struct jw w;

    if (!call_committed(call, outcome))
        return;
    if (pg_rows(outcome->results[0]) == 0) {
        call_problem(call, 404, "not_found", "there is no such API key");
        return;
    }
    buf_init(&body, 4096);
    w = jw_to(&body);
    put_key(&w, outcome->results[0], 0);
    call_json(call, 200, buf_str(&body));
}

void route_key_get(struct call *call)
{
    struct pg_batch *batch;
    struct run_id id;

    if (!key_id(call, &id))
        return;
    batch = call_batch(call, false);
    pg_add(batch, SQL_KEY_GET, pg_uuid(id));
    pg_submit(gateway_read(call->gw), batch, on_got, call);
}

static void on_revoked(void *ctx, const struct pg_outcome *outcome)
{
    struct call *call = ctx;

    if (!call_committed(call, outcome))
        return;
    if (!pg_get_bool(outcome->results[1], 0, 0)) {
        call_problem(call, 404, "not_found", "there is no such API key");
    } else if (!pg_get_bool(outcome->results[1], 0, 1)) {
        call_problem(call, 409, "last_admin_key", "this is the organisation's last admin key; make another one first");
    } else {
        auth_forget(call->gw->auth);
        http_respond(call->http, 204, NULL, NULL, 0, STR_NONE);
    }
}

void route_key_delete(struct call *call)
{
    struct pg_batch *batch;
    struct run_id id;

    if (!key_id(call, &id))
        return;
    batch = call_batch(call, true);
    pg_batch_add0(batch, SQL_KEY_LOCK);
    pg_add(batch, SQL_KEY_REVOKE, pg_uuid(id));
    pg_submit(call->gw->writes, batch, on_revoked, call);
}
