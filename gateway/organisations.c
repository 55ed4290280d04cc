/* Organisations: made by admins of the first one, who also say what share each has, read by their own, limited by their
 * own admins within what the installation allows. */
#include "gateway/auth.h"
#include "gateway/document.h"
#include "gateway/json_more.h"
#include "gateway/route.h"
#include "rw_gateway_sql.h"
#include <inttypes.h>

#include "common/base/banned.h"

#define WEIGHT_MAX 1000 /* as the table has it */

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

/* What holds, and why: `limits` are the organisation's own. */
static void put_effective(struct jw *w, const struct limit_settings *settings, struct str own)
{
    static const char *const sources[] = {"installation", "organisation", "installation_maximum"};
    enum limit_source source;

    jw_key(w, "effective_limits");
    jw_obj(w);
    for (int i = 0; i < LIMIT_COUNT; i++) {
        jw_key(w, LIMIT_INFO[i].name);
        jw_obj(w);
        jw_ki64(w, "value", limit_of(settings, own, (enum limit)i, &source));
        jw_kcstr(w, "source", sources[source]);
        jw_ki64(w, "default", settings->standard.of[i]);
        jw_ki64(w, "maximum", limit_most(settings, (enum limit)i));
        jw_kcstr(w, "unit", LIMIT_INFO[i].unit);
        jw_end_obj(w);
    }
    jw_end_obj(w);
}

static void answer_organisation(struct call *call, const struct pg_result *rows)
{
    CLEANUP(buf_deinit) struct buf body = {0};
    struct jw w;

    if (pg_rows(rows) == 0) {
        call_problem(call, 404, "not_found", "there is no such organisation");
        return;
    }
    buf_init(&body, (size_t)1 << 20);
    w = jw_to(&body);
    jw_obj(&w);
    jw_kstr(&w, "name", pg_get_str(rows, 0, 0));
    jw_ki64(&w, "weight", pg_get_int(rows, 0, 1));
    jw_kraw(&w, "limits", pg_get_str(rows, 0, 2));
    put_effective(&w, &call->gw->config.limits, pg_get_str(rows, 0, 2));
    jw_ktime(&w, "created_at", pg_get_time(rows, 0, 3));
    jw_end_obj(&w);
    call_json(call, 200, buf_str(&body));
}

static void on_got(void *ctx, const struct pg_outcome *outcome)
{
    struct call *call = ctx;

    if (call_committed(call, outcome))
        answer_organisation(call, outcome->results[0]);
}

void route_organisation_get(struct call *call)
{
    struct pg_batch *batch = call_batch(call, false);

    pg_add(batch, SQL_ORGANISATION_GET, pg_text(call->params[0]));
    pg_submit(gateway_read(call->gw), batch, on_got, call);
}

static char *names_of_limits(struct arena *arena)
{
    char *names = arena_printf(arena, "%s", LIMIT_INFO[0].name);

    for (int i = 1; i < LIMIT_COUNT; i++)
        names = arena_printf(arena, "%s, %s", names, LIMIT_INFO[i].name);
    return names;
}

/* One member of `limits`; false: answered. */
static bool check_limit(struct call *call, struct str name, struct str value)
{
    enum limit limit = limit_find(name);
    CLEANUP(buf_deinit) struct buf pointer = {0};
    int64_t n = 0, most;

    buf_init(&pointer, (size_t)1 << 20);
    buf_printf(&pointer, "/limits");
    jt_pointer_add(&pointer, name);
    if (limit == LIMIT_COUNT) {
        call_fault(call, "unknown_field", pointer.ptr,
                   arena_printf(call->arena, "there is no such limit; there are: %s", names_of_limits(call->arena)));
        return false;
    }
    if (jt_type(value) == JT_NULL)
        return true;
    if (!jt_i64(value, &n)) {
        call_fault(call, "wrong_type", pointer.ptr,
                   "a limit is a whole number, or null for what holds for the whole installation");
        return false;
    }
    most = limit_most(&call->gw->config.limits, limit);
    if (n < LIMIT_INFO[limit].least || n > most) {
        call_fault(call, "out_of_range", pointer.ptr,
                   arena_printf(call->arena,
                                "%s must be from %" PRId64 " to %" PRId64
                                " %s; who runs the installation raises that by ROPEWALK_%s_MAX",
                                LIMIT_INFO[limit].name, LIMIT_INFO[limit].least, most, LIMIT_INFO[limit].unit,
                                LIMIT_INFO[limit].setting));
        return false;
    }
    return true;
}

static void answer_change(struct call *call, const struct pg_outcome *outcome, size_t last)
{
    if (!call_committed(call, outcome))
        return;
    auth_forget(call->gw->auth); /* what a key may comes with it */
    answer_organisation(call, outcome->results[last]);
}

static void on_changed(void *ctx, const struct pg_outcome *outcome)
{
    answer_change(ctx, outcome, 0);
}

static void on_both_changed(void *ctx, const struct pg_outcome *outcome)
{
    answer_change(ctx, outcome, 1);
}

/* False: answered. */
static bool check_limits(struct call *call, struct str limits)
{
    struct jt_iter it;

    if (jt_type(limits) != JT_OBJECT) {
        call_fault(call, limits.ptr == NULL ? "missing_field" : "wrong_type", "/limits",
                   "limits must be an object of limits: {\"steps\": 200}; null gives one back to the installation");
        return false;
    }
    jt_iter_init(&it, limits);
    while (jt_next(&it))
        if (!check_limit(call, jt_key(&it, call->arena), it.value))
            return false;
    return true;
}

/* A share is what the others have not: who has one does not choose it. False: answered. */
static bool check_weight(struct call *call, struct str weight, int64_t *ret)
{
    if (!role_may(call->caller.role, call->caller.organisation, RIGHT_FOUND)) {
        call_problem(
            call, 403, "forbidden",
            "an organisation's weight is its share beside the others: admins of the first organisation set it");
        return false;
    }
    if (jt_i64(weight, ret) && *ret >= 1 && *ret <= WEIGHT_MAX)
        return true;
    call_fault(call, jt_type(weight) == JT_NUMBER ? "out_of_range" : "wrong_type", "/weight",
               arena_printf(call->arena, "weight must be a whole number from 1 to %d", WEIGHT_MAX));
    return false;
}

void route_organisation_change(struct call *call)
{
    struct str body, limits, weight;
    struct pg_batch *batch;
    int64_t number = 0;

    if (!call_body_object(call, "limits weight", &body))
        return;
    limits = jt_get(body, "limits");
    weight = jt_get(body, "weight");
    if ((weight.ptr != NULL && !check_weight(call, weight, &number)) ||
        ((weight.ptr == NULL || limits.ptr != NULL) && !check_limits(call, limits)))
        return;
    if (limits.ptr != NULL && !str_is(call->params[0], call->caller.organisation_name)) { /* limits are their own */
        call_problem(call, 404, "not_found", "there is no such organisation");
        return;
    }
    batch = call_batch(call, true);
    if (weight.ptr != NULL)
        pg_add(batch, SQL_ORGANISATION_WEIGH, pg_text(call->params[0]), pg_i32((int32_t)number));
    if (limits.ptr != NULL)
        pg_add(batch, SQL_ORGANISATION_LIMITS, pg_text(call->params[0]), pg_json(limits));
    pg_submit(call->gw->writes, batch, weight.ptr != NULL && limits.ptr != NULL ? on_both_changed : on_changed, call);
}
