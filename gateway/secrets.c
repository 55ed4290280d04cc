/* The API of secrets: written, listed without their values, deleted. */
#include "gateway/secrets.h"
#include "gateway/document.h"
#include "gateway/json_more.h"
#include "gateway/page.h"
#include "gateway/route.h"
#include "gateway/secret_keys.h"
#include "rw_gateway_sql.h"
#include <openssl/crypto.h>

#include "common/base/banned.h"

#define TRIES_MAX 5 /* a rotation at the same time costs one; more are somebody else's mistake */

struct putting {
    struct call *call;
    struct str value;
    unsigned tries;
};

static void on_put(void *ctx, const struct pg_outcome *outcome);

static void on_key(void *ctx, const struct data_key *key)
{
    struct putting *p = ctx;
    struct call *call = p->call;
    CLEANUP(buf_deinit) struct buf box = {0};
    struct err err = {0};
    struct pg_batch *batch;

    buf_init(&box, SECRET_VALUE_MAX + SEAL_OVERHEAD);
    if (secret_seal(secrets_keyring(call->gw->secrets), key, call->params[0], p->value, &box, &err) != ERR_OK) {
        secret_problem(call, &err);
        return;
    }
    batch = call_batch(call, true);
    pg_add(batch, SQL_SECRET_PUT, pg_text(call->params[0]), pg_i32(key->version), pg_bytea(buf_str(&box)),
           pg_text(str_of(call->caller.prefix)));
    pg_submit(call->gw->writes, batch, on_put, p);
}

static void on_put(void *ctx, const struct pg_outcome *outcome)
{
    struct putting *p = ctx;
    struct call *call = p->call;
    CLEANUP(buf_deinit) struct buf body = {0};
    const struct pg_result *rows;
    struct jw w;

    if (!call_committed(call, outcome))
        return;
    rows = outcome->results[0];
    if (pg_rows(rows) == 0) {
        if (++p->tries == TRIES_MAX)
            call_problem_later(call, 503, "busy", 1, "the data key was changed again and again; try again");
        else
            secret_key_active(call, on_key, p);
        return;
    }
    secrets_forget(call->gw->secrets);
    buf_init(&body, 4096);
    w = jw_to(&body);
    jw_obj(&w);
    jw_kstr(&w, "name", call->params[0]);
    jw_ki64(&w, "version", pg_get_int(rows, 0, 0));
    jw_ktime(&w, "created_at", pg_get_time(rows, 0, 1));
    jw_ktime(&w, "updated_at", pg_get_time(rows, 0, 2));
    jw_end_obj(&w);
    call_json(call, pg_get_int(rows, 0, 0) == 1 ? 201 : 200, buf_str(&body));
}

/* The arena's memory is used again for other requests. */
static void wipe(void *value)
{
    struct str *text = value;

    OPENSSL_cleanse((void *)(uintptr_t)text->ptr, text->len);
}

/* False: answered. No message says anything of the value. */
static bool read_value(struct call *call, struct str *ret)
{
    struct str body, text;
    struct str *copy = arena_alloc(call->arena, sizeof(*copy));

    if (!call_body_object(call, "value", &body))
        return false;
    if (jt_get(body, "value").ptr == NULL) {
        call_fault(call, "missing_field", "/value", "value must be the secret, a string");
        return false;
    }
    if (!jt_string(jt_get(body, "value"), call->arena, &text)) {
        call_fault(call, "wrong_type", "/value", "value must be the secret, a string");
        return false;
    }
    if (text.len < SECRET_VALUE_MIN || text.len > SECRET_VALUE_MAX) {
        call_fault(call, "out_of_range", "/value",
                   arena_printf(call->arena,
                                "value must have %d to %zu bytes: shorter ones could not be masked in answers",
                                SECRET_VALUE_MIN, SECRET_VALUE_MAX));
        return false;
    }
    *copy = str_arena(call->arena, text);
    arena_defer(call->arena, wipe, copy);
    *ret = *copy;
    return true;
}

void route_secret_put(struct call *call)
{
    struct putting *p = arena_alloc(call->arena, sizeof(*p));

    p->call = call;
    if (!secret_name_is_valid(call->params[0])) {
        call_problem(call, 422, "bad_name",
                     "a secret's name is ^[A-Za-z_][A-Za-z0-9_]{0,62}$, as it stands in ${ .secrets.NAME }");
        return;
    }
    if (read_value(call, &p->value))
        secret_key_active(call, on_key, p);
}

static void put_secret(struct page *page, const struct pg_result *rows, size_t row)
{
    jw_obj(&page->w);
    jw_kstr(&page->w, "name", pg_get_str(rows, row, 0));
    jw_ki64(&page->w, "version", pg_get_int(rows, row, 1));
    jw_ki64(&page->w, "key_version", pg_get_int(rows, row, 2));
    jw_ktime(&page->w, "created_at", pg_get_time(rows, row, 3));
    jw_ktime(&page->w, "updated_at", pg_get_time(rows, row, 4));
    jw_kstr(&page->w, "updated_by", pg_get_str(rows, row, 5));
    jw_ktime(&page->w, "last_used_at", pg_get_time(rows, row, 6));
    jw_kraw(&page->w, "used_by", pg_get_str(rows, row, 7));
    jw_end_obj(&page->w);
    page_cursor(page, pg_get_str(rows, row, 0));
}

static void on_listed(void *ctx, const struct pg_outcome *outcome)
{
    page_answer(ctx, outcome, put_secret);
}

void route_secret_list(struct call *call)
{
    page_ask_by_name(call, SQL_SECRET_LIST, on_listed);
}

static void on_deleted(void *ctx, const struct pg_outcome *outcome)
{
    struct call *call = ctx;

    if (!call_committed(call, outcome))
        return;
    secrets_forget(call->gw->secrets);
    if (pg_rows(outcome->results[0]) == 0)
        call_problem(call, 404, "not_found", "there is no such secret");
    else
        http_respond(call->http, 204, NULL, NULL, 0, STR_NONE);
}

void route_secret_delete(struct call *call)
{
    struct pg_batch *batch = call_batch(call, true);

    pg_add(batch, SQL_SECRET_DELETE, pg_text(call->params[0]));
    pg_submit(call->gw->writes, batch, on_deleted, call);
}
