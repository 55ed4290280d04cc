/* POST /v1/runs:cancel and its like: the same command for every run of a filter. The operation and the list of its runs
 * are one statement: it covers the runs that matched at one moment, however many, and when it has been answered there
 * is nothing left that a gateway could forget. bulk_step.c asks them, bulk_rerun.c does them again. */
#include "gateway/bulk.h"
#include "common/base/ensure.h"
#include "gateway/bulk_rerun.h"
#include "gateway/bulk_step.h"
#include "gateway/document.h"
#include "gateway/rerun.h"
#include "gateway/route.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define TRIES_MAX 5 /* of an equal key that is being committed */
#define ANSWER_MAX ((size_t)1 << 20)
#define STATES_MAX 10

static const char *const states[STATES_MAX] = {"pending",     "active",
                                               "paused",      "succeeded",
                                               "failed",      "cancelled",
                                               "timed_out",   "partially_completed",
                                               "compensated", "compensation_failed"};

/* What may be asked of many runs: of which of them (others could only refuse), and what goes with it. */
static const struct bulk_kind kinds[] = {
    {"cancel", "pending active paused", "compensate", false, NULL, false, "the run has ended"},
    {"retry", "failed cancelled timed_out partially_completed", "confirm", false, retry_planned, false,
     "it cannot be done again"},
    {"pause", "pending active", NULL, true, NULL, false, "the run is paused, or has ended"},
    {"resume", "paused", NULL, true, NULL, false, "the run is not paused"},
    {"rerun", "succeeded failed cancelled timed_out partially_completed compensated compensation_failed", NULL, false,
     rerun_planned, true, "the run has not ended"},
};

static bool has_word(const char *words, const char *word)
{
    struct str rest = str_of(words);

    while (rest.len > 0)
        if (str_is(str_cut(&rest, ' '), word))
            return true;
    return false;
}

/* ---- what is asked ---- */

static bool read_flag(struct call *call, struct str body, const char *name, bool *ret)
{
    struct str value = jt_get(body, name);

    *ret = false;
    if (value.ptr == NULL || jt_bool(value, ret))
        return true;
    call_fault(call, "wrong_type", arena_printf(call->arena, "/%s", name),
               arena_printf(call->arena, "%s must be true or false", name));
    return false;
}

static bool filter_fault(struct call *call, const char *code, struct str name, const char *message)
{
    CLEANUP(buf_deinit) struct buf pointer = {0};

    buf_init(&pointer, ANSWER_MAX);
    buf_append_str(&pointer, STR("/filter"));
    if (name.ptr != NULL)
        jt_pointer_add(&pointer, name);
    call_fault(call, code, pointer.ptr, message);
    return false;
}

static bool read_filter(struct bulk *b, struct str body)
{
    struct call *call = b->call;
    struct str filter = jt_get(body, "filter");
    struct jt_iter it;
    size_t count = 0;

    run_filter_init(&b->filter);
    b->filter_text = filter.ptr == NULL ? STR("{}") : filter;
    if (filter.ptr != NULL && jt_type(filter) != JT_OBJECT)
        return filter_fault(call, "wrong_type", STR_NONE,
                            "filter must be an object, with the conditions of GET /v1/runs");
    jt_iter_init(&it, b->filter_text);
    for (; jt_next(&it); count++) {
        struct str name = jt_key(&it, call->arena), value;
        const char *fault;

        if (!jt_string(it.value, call->arena, &value))
            return filter_fault(call, "wrong_type", name, "a condition is a text, as in the query of GET /v1/runs");
        fault = run_filter_add(&b->filter, name, value);
        if (fault != NULL)
            return filter_fault(call, fault == RUN_FILTER_UNKNOWN ? "unknown_field" : "out_of_range", name, fault);
    }
    if (count == 0 && !b->all)
        return filter_fault(
            call, "missing_field", STR_NONE,
            "an empty filter would be every run there is: say {\"all\": true} beside it if that is meant");
    if (count > 0 && b->all) {
        call_fault(call, "out_of_range", "/all", "all is for an empty filter");
        return false;
    }
    return true;
}

/* The members of the body that a run's own :rerun would have. */
static bool read_rerun(struct bulk *b, struct str body)
{
    CLEANUP(buf_deinit) struct buf asked = {0};
    struct str fields = STR(RERUN_FIELDS);
    struct rerun_asked ignored;
    struct jw w;

    if (!rerun_read(b->call, body, &ignored))
        return false;
    buf_init(&asked, body.len + 1024);
    w = jw_to(&asked);
    jw_obj(&w);
    while (fields.len > 0) {
        struct str name = str_cut(&fields, ' ');
        const char *key = arena_printf(b->call->arena, STR_FMT, STR_ARG(name));

        if (jt_get(body, key).ptr != NULL)
            jw_kraw(&w, key, jt_get(body, key));
    }
    jw_end_obj(&w);
    b->command = str_arena(b->call->arena, buf_str(&asked));
    return true;
}

/* What goes to each run. */
static bool read_option(struct bulk *b, struct str body)
{
    CLEANUP(buf_deinit) struct buf command = {0};
    struct str value = b->kind->option == NULL ? STR_NONE : jt_get(body, b->kind->option);
    bool flag = false;
    struct jw w;

    if (b->kind->starts_runs)
        return read_rerun(b, body);
    if (value.ptr != NULL && !read_flag(b->call, body, b->kind->option, &flag))
        return false;
    buf_init(&command, ANSWER_MAX);
    w = jw_to(&command);
    jw_obj(&w);
    if (flag)
        jw_kbool(&w, b->kind->option, true);
    if (b->kind->is_signed)
        jw_kcstr(&w, "by", b->call->caller.prefix);
    jw_end_obj(&w);
    b->command = str_arena(b->call->arena, buf_str(&command));
    return true;
}

static void hash_request(struct bulk *b, struct str body)
{
    CLEANUP(buf_deinit) struct buf text = {0};

    buf_init(&text, body.len + 1024);
    buf_printf(&text, "bulk %s ", b->kind->name);
    jt_canonical(body, &text);
    ENSURE(!text.overflow);
    sha256(buf_str(&text), b->hash);
}

/* ---- statements ---- */

/* States of runs that the operation is for, or of those it is not for, as far as the filter asks for them. */
static struct pg_param states_param(struct pg_batch *batch, const struct bulk *b, bool fit)
{
    struct pg_array *array = pg_array_new(batch, PG_E_TEXT);

    for (size_t i = 0; i < STATES_MAX; i++)
        if (has_word(b->kind->states, states[i]) == fit &&
            (b->filter.status.ptr == NULL || str_is(b->filter.status, states[i])))
            pg_array_add(array, pg_text(str_of(states[i])));
    return pg_array_param(array);
}

void bulk_filter(struct pg_batch *batch, const struct bulk *b, bool fit, struct pg_param *ret)
{
    const struct run_filter *f = &b->filter;
    struct pg_array *keys = pg_array_new(batch, PG_E_TEXT), *values = pg_array_new(batch, PG_E_TEXT);
    struct run_id exact;

    for (size_t i = 0; i < f->label_count; i++) {
        pg_array_add(keys, pg_text(f->label_keys[i]));
        pg_array_add(values, pg_text(f->label_values[i]));
    }
    const struct pg_param params[BULK_FILTER_PARAMS] = {
        pg_uuid(f->from),
        pg_uuid(f->below),
        pg_text(f->workflow),
        states_param(batch, b, fit),
        f->running || f->waiting ? pg_bool(f->running) : pg_null(),
        pg_text(f->q),
        f->q.ptr != NULL && run_id_parse(f->q, &exact) ? pg_uuid(exact) : pg_null(),
        pg_array_param(keys),
        pg_array_param(values),
        f->has_parent ? pg_uuid(f->parent) : pg_null(),
        pg_bool(b->kind->starts_runs), /* child runs come again with their parents */
    };

    memcpy(ret, params, sizeof(params));
}

/* ---- the real one ---- */

static void ask(struct bulk *b);

static void answer_accepted(const struct bulk *b, struct run_id operation, int64_t runs)
{
    CLEANUP(buf_deinit) struct buf body = {0};
    char id[UUID_TEXT_SIZE];
    struct jw w;

    run_id_format(operation, id);
    buf_init(&body, ANSWER_MAX);
    w = jw_to(&body);
    jw_obj(&w);
    jw_kcstr(&w, "id", id);
    jw_kcstr(&w, "kind", b->kind->name);
    jw_ki64(&w, "runs", runs);
    jw_end_obj(&w);
    call_json_at(b->call, 202, arena_printf(b->call->arena, "/v1/operations/%s", id), buf_str(&body));
}

static void on_asked(void *ctx, const struct pg_outcome *outcome)
{
    struct bulk *b = ctx;
    const struct pg_result *rows;

    /* a key that is being committed by another gateway; and with a key an unknown outcome is found out by looking */
    if ((outcome->rc == ERR_CONFLICT || outcome->unknown) && b->key.ptr != NULL && ++b->tries < TRIES_MAX) {
        ask(b);
        return;
    }
    if (!call_committed(b->call, outcome))
        return;
    rows = outcome->results[0];
    if (!pg_get_bool(rows, 0, 0)) {
        call_problem(b->call, 422, "idempotency_key_reused", "this Idempotency-Key was used for another request");
        return;
    }
    if (b->kind->starts_runs)
        bulk_reruns_wake(b->call->gw->bulk_reruns);
    bulk_steps_wake(b->call->gw->bulk_steps);
    answer_accepted(b, pg_get_uuid(rows, 0, 1), pg_get_int(rows, 0, 2));
}

static void ask(struct bulk *b)
{
    struct pg_batch *batch = call_batch(b->call, true);
    struct pg_param params[BULK_FILTER_PARAMS + 7];
    struct pg_param *more = params + BULK_FILTER_PARAMS;

    bulk_filter(batch, b, true, params);
    more[0] = pg_uuid(b->operation);
    more[1] = pg_text(str_of(b->kind->name));
    more[2] = pg_json(b->command);
    more[3] = pg_json(b->filter_text);
    more[4] = pg_text(str_of(b->call->caller.prefix));
    more[5] = pg_text(b->key);
    more[6] = b->key.ptr == NULL ? pg_null() : pg_bytea((struct str){(const char *)b->hash, 32});
    pg_batch_add(batch, SQL_BULK_INSERT, params, BULK_FILTER_PARAMS + 7);
    pg_submit(b->call->gw->bulk, batch, on_asked, b);
}

static const struct bulk_kind *kind_of(const struct route *route)
{
    const char *name = strrchr(route->pattern, ':') + 1;

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    ENSURE(false);
    return NULL;
}

void route_runs_bulk(struct call *call)
{
    struct bulk *b = arena_alloc(call->arena, sizeof(*b));
    const struct bulk_kind *kind = kind_of(call->route);
    const char *options = kind->starts_runs ? RERUN_FIELDS : kind->option;
    struct str body;

    *b = (struct bulk){.call = call, .kind = kind};
    if (!call_body_object(
            call, options == NULL ? "filter all dry_run" : arena_printf(call->arena, "filter all dry_run %s", options),
            &body) ||
        !read_flag(call, body, "all", &b->all) || !read_flag(call, body, "dry_run", &b->dry_run) ||
        !read_filter(b, body) || !read_option(b, body) || !call_idempotency_key(call, &b->key))
        return;
    if (b->dry_run) {
        bulk_plan(b);
        return;
    }
    hash_request(b, body);
    b->operation = run_id_make(db_clock_now(&call->gw->clock), (unsigned)(random_u64() % SLOT_COUNT));
    ask(b);
}
