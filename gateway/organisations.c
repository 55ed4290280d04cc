/* Organisations: made by admins of the first one, read by their own. */
#include "gateway/auth.h"
#include "gateway/document.h"
#include "gateway/json_more.h"
#include "gateway/route.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

struct founding {
    struct call *call;
    struct str name;
    char key[API_KEY_SIZE], prefix[24];
    uint8_t hash[32];
};

static void on_founded(void *ctx, const struct pg_outcome *outcome)
{
    struct founding *f = ctx;
    CLEANUP(buf_deinit) struct buf body = {0};
    struct jw w;

    if (outcome->rc == ERR_CONFLICT) {
        call_problem(f->call, 409, "already_exists", "there is an organisation of this name");
        return;
    }
    if (!call_committed(f->call, outcome))
        return;
    buf_init(&body, 4096);
    w = jw_to(&body);
    jw_obj(&w);
    jw_kstr(&w, "name", f->name);
    jw_kcstr(&w, "api_key", f->key);
    jw_kcstr(&w, "prefix", f->prefix);
    jw_end_obj(&w);
    call_json(f->call, 201, buf_str(&body));
}

void route_organisation_create(struct call *call)
{
    struct founding *f = arena_alloc(call->arena, sizeof(*f));
    struct pg_batch *batch;
    struct str body;

    f->call = call;
    if (!call_body_object(call, "name", &body))
        return;
    if (!jt_string(jt_get(body, "name"), call->arena, &f->name) || !name_is_valid(f->name)) {
        call_fault(call, jt_get(body, "name").ptr == NULL ? "missing_field" : "out_of_range", "/name",
                   "name must be a string like ^[a-z0-9][a-z0-9-]{0,62}$");
        return;
    }
    api_key_make(f->key, f->prefix, f->hash);
    batch = call_batch(call, true);
    pg_add(batch, SQL_ORGANISATION_CREATE, pg_text(f->name), pg_text(STR("first")), pg_text(str_of(f->prefix)),
           pg_bytea((struct str){(const char *)f->hash, 32}));
    pg_submit(call->gw->writes, batch, on_founded, f);
}

static void on_got(void *ctx, const struct pg_outcome *outcome)
{
    struct call *call = ctx;
    CLEANUP(buf_deinit) struct buf body = {0};
    struct jw w;

    if (!call_committed(call, outcome))
        return;
    if (pg_rows(outcome->results[0]) == 0) {
        call_problem(call, 404, "not_found", "there is no such organisation");
        return;
    }
    buf_init(&body, (size_t)1 << 20);
    w = jw_to(&body);
    jw_obj(&w);
    jw_kstr(&w, "name", pg_get_str(outcome->results[0], 0, 0));
    jw_ki64(&w, "weight", pg_get_int(outcome->results[0], 0, 1));
    jw_kraw(&w, "limits", pg_get_str(outcome->results[0], 0, 2));
    jw_ktime(&w, "created_at", pg_get_time(outcome->results[0], 0, 3));
    jw_end_obj(&w);
    call_json(call, 200, buf_str(&body));
}

void route_organisation_get(struct call *call)
{
    struct pg_batch *batch = call_batch(call, false);

    pg_add(batch, SQL_ORGANISATION_GET, pg_text(call->params[0]));
    pg_submit(gateway_read(call->gw), batch, on_got, call);
}
