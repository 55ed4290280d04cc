/* Data keys: the one in use; a new one, under which all values of an organisation are sealed again; and all of them
 * wrapped with a new master key. Both rotations go by slices, one for each request, and know how far they are by what
 * is stored: whoever dies in the middle, the next request goes on. */
#include "gateway/secret_keys.h"
#include "common/base/log.h"
#include "gateway/document.h"
#include "gateway/json_more.h"
#include "gateway/route.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define SLICE 100
#define KEY_BOX_MAX 128

void secret_problem(struct call *call, const struct err *err)
{
    if (err->code == ERR_NOT_AVAILABLE) {
        call_problemf(call, 422, "secrets_not_configured",
                      "%s; who runs the installation gives gateways and workers a file of master keys", err->message);
        return;
    }
    log_event(LOG_ERROR, "secrets.refused", log_cstr("organisation", call->caller.organisation_name), log_err(err));
    call_problem(call, 500, "secret_damaged",
                 "what is stored does not open with its key: the database and the master keys do not belong together");
}

/* --- the data key in use ------------------------------------------------------------------------------------------ */

struct finding {
    struct call *call;
    data_key_fn next;
    void *ctx;
    bool made;
};

static void find(struct finding *f);

static void on_first_made(void *ctx, const struct pg_outcome *outcome)
{
    struct finding *f = ctx;

    if (call_committed(f->call, outcome))
        find(f); /* ours, or that of somebody who was faster */
}

static void make_first(struct finding *f)
{
    struct call *call = f->call;
    CLEANUP(buf_deinit) struct buf box = {0};
    struct data_key key;
    struct err err = {0};
    struct pg_batch *batch;

    buf_init(&box, KEY_BOX_MAX);
    if (data_key_make(secrets_keyring(call->gw->secrets), str_of(call->caller.organisation_name), 1, &box, &key,
                      &err) != ERR_OK) {
        secret_problem(call, &err);
        return;
    }
    f->made = true;
    batch = call_batch(call, true);
    pg_add(batch, SQL_DATA_KEY_FIRST, pg_text(key.master), pg_bytea(key.wrapped));
    pg_submit(call->gw->writes, batch, on_first_made, f);
}

static void on_active(void *ctx, const struct pg_outcome *outcome)
{
    struct finding *f = ctx;
    struct call *call = f->call;
    struct data_key *key;

    if (!call_committed(call, outcome))
        return;
    if (pg_rows(outcome->results[0]) == 0 && !f->made) {
        make_first(f);
        return;
    }
    if (pg_rows(outcome->results[0]) == 0) {
        call_problem_later(call, 503, "busy", 1, "the data key could not be made; try again");
        return;
    }
    key = arena_alloc(call->arena, sizeof(*key));
    *key = (struct data_key){.organisation = str_of(call->caller.organisation_name),
                             .version = (int32_t)pg_get_int(outcome->results[0], 0, 0),
                             .master = str_arena(call->arena, pg_get_str(outcome->results[0], 0, 1)),
                             .wrapped = str_arena(call->arena, pg_get_str(outcome->results[0], 0, 2))};
    f->next(f->ctx, key);
}

static void find(struct finding *f)
{
    struct pg_batch *batch = call_batch(f->call, false);

    pg_batch_add0(batch, SQL_DATA_KEY_ACTIVE);
    pg_submit(f->call->gw->writes, batch, on_active, f);
}

void secret_key_active(struct call *call, data_key_fn next, void *ctx)
{
    struct finding *f = arena_alloc(call->arena, sizeof(*f));
    struct err err = {0};

    *f = (struct finding){.call = call, .next = next, .ctx = ctx};
    if (!keyring_configured(secrets_keyring(call->gw->secrets))) {
        (void)err_set(&err, ERR_NOT_AVAILABLE, "no master key is configured (ROPEWALK_MASTER_KEY_FILE)");
        secret_problem(call, &err);
        return;
    }
    find(f);
}

/* --- a new data key ----------------------------------------------------------------------------------------------- */

struct rotation {
    struct call *call;
    bool go_on;   /* "continue": what has begun, nothing new */
    bool started; /* by this request */
    const struct data_key *key;
    int64_t before; /* values that were to be sealed again */
};

static void rotate(struct rotation *r);

static void answer_rotation(struct rotation *r, int64_t done)
{
    CLEANUP(buf_deinit) struct buf body = {0};
    struct jw w;

    buf_init(&body, 4096);
    w = jw_to(&body);
    jw_obj(&w);
    jw_ki64(&w, "key_version", r->key->version);
    jw_kbool(&w, "started", r->started);
    jw_ki64(&w, "done", done);
    jw_ki64(&w, "remaining", r->before - done);
    jw_end_obj(&w);
    call_json(r->call, 200, buf_str(&body));
}

static void on_resealed(void *ctx, const struct pg_outcome *outcome)
{
    struct rotation *r = ctx;

    if (call_committed(r->call, outcome))
        answer_rotation(r, (int64_t)pg_rows(outcome->results[0]));
}

/* One value, sealed with the key in use. False: answered. */
static bool reseal(struct rotation *r, const struct pg_result *rows, size_t row, struct buf *box)
{
    const struct keyring *keyring = secrets_keyring(r->call->gw->secrets);
    CLEANUP(seal_wipe) struct buf value = {0};
    struct str name = pg_get_str(rows, row, 0);
    struct sealed sealed = {.key = {r->key->organisation, (int32_t)pg_get_int(rows, row, 2), pg_get_str(rows, row, 3),
                                    pg_get_str(rows, row, 4)},
                            .name = name,
                            .box = pg_get_str(rows, row, 5)};
    struct err err = {0};

    buf_init(&value, SECRET_VALUE_MAX);
    if (secret_unseal(keyring, &sealed, &value, &err) == ERR_OK &&
        secret_seal(keyring, r->key, name, buf_str(&value), box, &err) == ERR_OK)
        return true;
    secret_problem(r->call, &err);
    return false;
}

static void reseal_slice(struct rotation *r, const struct pg_result *rows)
{
    struct pg_batch *batch = call_batch(r->call, true);
    struct pg_array *names = pg_array_new(batch, PG_E_TEXT);
    struct pg_array *versions = pg_array_new(batch, PG_E_I32);
    struct pg_array *boxes = pg_array_new(batch, PG_E_BYTEA);

    for (size_t i = 0; i < pg_rows(rows); i++) {
        CLEANUP(buf_deinit) struct buf box = {0};

        buf_init(&box, SECRET_VALUE_MAX + SEAL_OVERHEAD);
        if (!reseal(r, rows, i, &box)) {
            pg_batch_free(batch);
            return;
        }
        pg_array_add(names, pg_text(pg_get_str(rows, i, 0)));
        pg_array_add(versions, pg_i32((int32_t)pg_get_int(rows, i, 1)));
        pg_array_add(boxes, pg_bytea(buf_str(&box)));
    }
    pg_add(batch, SQL_SECRET_RESEAL, pg_i32(r->key->version), pg_array_param(names), pg_array_param(versions),
           pg_array_param(boxes));
    pg_batch_add0(batch, SQL_DATA_KEY_PRUNE);
    pg_submit(r->call->gw->writes, batch, on_resealed, r);
}

static void on_key_made(void *ctx, const struct pg_outcome *outcome)
{
    struct rotation *r = ctx;

    if (!call_committed(r->call, outcome))
        return;
    r->started = pg_rows(outcome->results[0]) > 0;
    r->go_on = true; /* ours, or that of a rotation at the same time */
    rotate(r);
}

static void make_next(struct rotation *r)
{
    struct call *call = r->call;
    CLEANUP(buf_deinit) struct buf box = {0};
    struct data_key key;
    struct err err = {0};
    struct pg_batch *batch;

    buf_init(&box, KEY_BOX_MAX);
    if (data_key_make(secrets_keyring(call->gw->secrets), r->key->organisation, r->key->version + 1, &box, &key,
                      &err) != ERR_OK) {
        secret_problem(call, &err);
        return;
    }
    batch = call_batch(call, true);
    pg_add(batch, SQL_DATA_KEY_NEXT, pg_i32(r->key->version), pg_text(key.master), pg_bytea(key.wrapped));
    pg_submit(call->gw->writes, batch, on_key_made, r);
}

static void on_others(void *ctx, const struct pg_outcome *outcome)
{
    struct rotation *r = ctx;
    const struct pg_result *rows;

    if (!call_committed(r->call, outcome))
        return;
    rows = outcome->results[0];
    r->before = pg_rows(rows) == 0 ? 0 : pg_get_int(rows, 0, 6);
    if (pg_rows(rows) == 0 && !r->go_on)
        make_next(r);
    else
        reseal_slice(r, rows);
}

static void on_rotation_key(void *ctx, const struct data_key *key)
{
    struct rotation *r = ctx;
    struct pg_batch *batch = call_batch(r->call, false);

    r->key = key;
    pg_add(batch, SQL_SECRET_SEALED_OTHERWISE, pg_i32(key->version), pg_i32(SLICE));
    pg_submit(r->call->gw->writes, batch, on_others, r);
}

static void rotate(struct rotation *r)
{
    secret_key_active(r->call, on_rotation_key, r);
}

void route_secrets_rotate(struct call *call)
{
    struct rotation *r = arena_alloc(call->arena, sizeof(*r));
    struct str body, value;

    r->call = call;
    if (!call_body_object(call, "continue", &body))
        return;
    value = jt_get(body, "continue");
    if (value.ptr != NULL && !jt_bool(value, &r->go_on)) {
        call_fault(call, "wrong_type", "/continue", "continue must be true or false");
        return;
    }
    rotate(r);
}

/* --- a new master key --------------------------------------------------------------------------------------------- */

struct rewrap {
    struct call *call;
    const char *master;
    int64_t before;
};

static void answer_rewrap(struct rewrap *r, int64_t done)
{
    CLEANUP(buf_deinit) struct buf body = {0};
    struct jw w;

    buf_init(&body, 4096);
    w = jw_to(&body);
    jw_obj(&w);
    jw_kcstr(&w, "master_key", r->master);
    jw_ki64(&w, "done", done);
    jw_ki64(&w, "remaining", r->before - done);
    jw_end_obj(&w);
    call_json(r->call, 200, buf_str(&body));
}

static void on_rewrapped(void *ctx, const struct pg_outcome *outcome)
{
    struct rewrap *r = ctx;

    if (call_committed(r->call, outcome))
        answer_rewrap(r, pg_get_int(outcome->results[0], 0, 0));
}

static void on_stale(void *ctx, const struct pg_outcome *outcome)
{
    struct rewrap *r = ctx;
    struct call *call = r->call;
    const struct keyring *keyring = secrets_keyring(call->gw->secrets);
    struct pg_batch *batch;
    struct pg_array *organisations, *versions, *before, *after;
    const struct pg_result *rows;

    if (!call_committed(call, outcome))
        return;
    rows = outcome->results[0];
    if (pg_rows(rows) == 0) {
        answer_rewrap(r, 0);
        return;
    }
    r->before = pg_get_int(rows, 0, 5);
    batch = call_batch(call, true);
    organisations = pg_array_new(batch, PG_E_I32);
    versions = pg_array_new(batch, PG_E_I32);
    before = pg_array_new(batch, PG_E_BYTEA);
    after = pg_array_new(batch, PG_E_BYTEA);
    for (size_t i = 0; i < pg_rows(rows); i++) {
        struct data_key key = {pg_get_str(rows, i, 1), (int32_t)pg_get_int(rows, i, 2), pg_get_str(rows, i, 3),
                               pg_get_str(rows, i, 4)};
        CLEANUP(buf_deinit) struct buf box = {0};
        struct data_key again;
        struct err err = {0};

        buf_init(&box, KEY_BOX_MAX);
        if (data_key_rewrap(keyring, &key, &box, &again, &err) != ERR_OK) {
            pg_batch_free(batch);
            secret_problem(call, &err);
            return;
        }
        pg_array_add(organisations, pg_i32((int32_t)pg_get_int(rows, i, 0)));
        pg_array_add(versions, pg_i32(key.version));
        pg_array_add(before, pg_bytea(key.wrapped));
        pg_array_add(after, pg_bytea(again.wrapped));
    }
    r->master = arena_printf(call->arena, "%s", keyring_primary(keyring));
    pg_add(batch, SQL_DATA_KEY_REWRAP, pg_array_param(organisations), pg_array_param(versions), pg_array_param(before),
           pg_text(str_of(r->master)), pg_array_param(after));
    pg_submit(call->gw->writes, batch, on_rewrapped, r);
}

void route_secrets_rewrap(struct call *call)
{
    const struct keyring *keyring = secrets_keyring(call->gw->secrets);
    struct rewrap *r = arena_alloc(call->arena, sizeof(*r));
    struct err err = {0};
    struct pg_batch *batch;
    struct str body;

    r->call = call;
    if (!call_body_object(call, "", &body))
        return;
    if (!keyring_configured(keyring)) {
        (void)err_set(&err, ERR_NOT_AVAILABLE, "no master key is configured (ROPEWALK_MASTER_KEY_FILE)");
        secret_problem(call, &err);
        return;
    }
    r->master = arena_printf(call->arena, "%s", keyring_primary(keyring));
    batch = call_batch(call, false);
    pg_add(batch, SQL_DATA_KEY_STALE, pg_text(str_of(r->master)), pg_i32(SLICE));
    pg_submit(call->gw->writes, batch, on_stale, r);
}
