/* A dry run: how many runs an operation would ask, and how many match and would be left. Where what would become of a
 * run depends on its history (:retry, :rerun), the newest are looked at as their own plan=true would, a few at a time.
 */
#include "common/base/ensure.h"
#include "gateway/bulk.h"
#include "gateway/json_more.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define COUNT_MAX 100000 /* beyond it there are at least so many */
#define SHOWN_MAX 20
#define LOOKED_AT_MAX 500
#define IN_HAND_MAX 8 /* their histories are held meanwhile */
#define ANSWER_MAX ((size_t)1 << 20)
#define REASON_MAX ((size_t)4096)

/* Runs of one verdict: how many, and JSON objects of the first. */
struct found {
    int64_t count;
    struct buf shown;
};

/* Lives until its timer is closed; the call is answered then. */
struct bulk_plan {
    struct bulk *b;
    uv_timer_t timer;
    int64_t would_ask, would_leave;
    struct str ask_ids, leave_ids; /* a comma between, the newest first; in the call's arena */
    struct str rest;               /* of ask_ids, to be looked at */
    int64_t looked_at;
    size_t in_hand;
    struct trial *ended;
    struct found unconfirmed, refused;
    int status; /* why it cannot be told now; 0: it can */
    const char *code, *detail;
};

/* One run that is looked at. The call is first: what is answered is found by it. */
struct trial {
    struct call call;
    struct bulk_plan *plan;
    struct run_id run;
    struct trial *next; /* of those that have ended */
};

static void put_runs(struct jw *w, const char *name, int64_t count, struct str ids, const char *reason)
{
    jw_key(w, name);
    jw_obj(w);
    jw_ki64(w, "count", count);
    jw_kbool(w, "at_least", count >= COUNT_MAX);
    if (reason != NULL)
        jw_kcstr(w, "reason", reason);
    jw_key(w, "runs");
    jw_arr(w);
    for (int i = 0; i < SHOWN_MAX && ids.len > 0; i++)
        jw_str(w, str_cut(&ids, ','));
    jw_end_arr(w);
    jw_end_obj(w);
}

static void put_found(struct jw *w, const char *name, const struct found *found, bool at_least)
{
    jw_key(w, name);
    jw_obj(w);
    jw_ki64(w, "count", found->count);
    jw_kbool(w, "at_least", at_least);
    jw_key(w, "runs");
    jw_arr(w);
    if (found->shown.len > 0)
        jw_raw(w, buf_str(&found->shown));
    jw_end_arr(w);
    jw_end_obj(w);
}

static void answer(const struct bulk_plan *p)
{
    CLEANUP(buf_deinit) struct buf body = {0};
    const struct bulk *b = p->b;
    struct jw w;

    if (p->status != 0) {
        call_problem(b->call, p->status, p->code, p->detail);
        return;
    }
    buf_init(&body, ANSWER_MAX);
    w = jw_to(&body);
    jw_obj(&w);
    jw_kcstr(&w, "kind", b->kind->name);
    jw_kbool(&w, "dry_run", true);
    put_runs(&w, "would_ask", p->would_ask, p->ask_ids, NULL);
    put_runs(&w, "would_leave", p->would_leave, p->leave_ids, b->kind->otherwise);
    if (b->kind->planned != NULL) {
        jw_ki64(&w, "looked_at", p->looked_at);
        put_found(&w, "needs_confirmation", &p->unconfirmed, p->looked_at < p->would_ask);
        put_found(&w, "would_refuse", &p->refused, p->looked_at < p->would_ask);
    }
    jw_end_obj(&w);
    call_json(b->call, 200, buf_str(&body));
}

/* ---- one run ---- */

/* Its arena goes with the next turn of the loop. */
static void end(struct trial *trial)
{
    struct bulk_plan *p = trial->plan;

    trial->next = p->ended;
    p->ended = trial;
    ENSURE(uv_timer_start(&p->timer, p->timer.timer_cb, 0, 0) == 0);
}

/* Begins an object of the run among those that are shown, if there is room. */
static bool show(struct found *found, const struct trial *trial, struct jw *w)
{
    if (found->count++ >= SHOWN_MAX)
        return false;
    if (found->shown.len > 0)
        buf_append_str(&found->shown, STR(","));
    *w = jw_to(&found->shown);
    jw_obj(w);
    jw_krun(w, "run_id", trial->run);
    return true;
}

static void on_planned(struct call *call, struct str unconfirmed)
{
    struct trial *trial = (struct trial *)call;
    struct jt_iter it;
    struct jw w;

    jt_iter_init(&it, unconfirmed);
    if (jt_next(&it) && show(&trial->plan->unconfirmed, trial, &w)) {
        jw_kraw(&w, "steps", unconfirmed);
        jw_end_obj(&w);
    }
    end(trial);
}

static void on_answered(struct call *call, int status, const char *code, const char *detail, struct str errors)
{
    struct trial *trial = (struct trial *)call;
    struct bulk_plan *p = trial->plan;
    struct arena *arena = p->b->call->arena;
    struct jw w;

    if (status == 429 || status >= 500) { /* of the moment, and not of this run */
        p->status = status;
        p->code = arena_printf(arena, "%s", code);
        p->detail = arena_printf(arena, "%s", detail);
    } else if (show(&p->refused, trial, &w)) {
        jw_kcstr(&w, "code", code);
        jw_kstr(&w, "reason", bulk_reason(call->arena, detail, errors));
        jw_end_obj(&w);
    }
    end(trial);
}

static void try_run(struct bulk_plan *p, struct run_id run)
{
    struct arena *arena = arena_new(16384);
    struct trial *trial = arena_alloc(arena, sizeof(*trial));
    const struct call *call = p->b->call;

    *trial = (struct trial){
        .call = {.gw = call->gw, .arena = arena, .route = call->route, .caller = call->caller, .answered = on_answered},
        .plan = p,
        .run = run};
    p->in_hand++;
    p->looked_at++;
    p->b->kind->planned(&trial->call, run, p->b->command, on_planned);
}

static void drop_ended(struct bulk_plan *p)
{
    for (struct trial *trial = take_ptr(p->ended), *next; trial != NULL; trial = next) {
        next = trial->next;
        arena_free(trial->call.arena);
        p->in_hand--;
    }
}

/* ---- all of them ---- */

static void on_closed(uv_handle_t *handle)
{
    struct bulk_plan *p = handle->data;

    answer(p);
    buf_deinit(&p->unconfirmed.shown);
    buf_deinit(&p->refused.shown);
    mem_free(p);
}

static void on_turn(uv_timer_t *timer)
{
    struct bulk_plan *p = timer->data;
    struct run_id run;

    drop_ended(p);
    while (p->status == 0 && p->in_hand < IN_HAND_MAX && p->rest.len > 0)
        if (run_id_parse(str_cut(&p->rest, ','), &run))
            try_run(p, run);
    if (p->in_hand == 0)
        uv_close((uv_handle_t *)&p->timer, on_closed);
}

static void on_found(void *ctx, const struct pg_outcome *outcome)
{
    struct bulk *b = ctx;
    struct arena *arena = b->call->arena;
    struct bulk_plan *p;

    if (!call_committed(b->call, outcome))
        return;
    p = mem_alloc(sizeof(*p));
    p->b = b;
    p->would_ask = pg_get_int(outcome->results[0], 0, 0);
    p->would_leave = pg_get_int(outcome->results[1], 0, 0);
    p->ask_ids = str_arena(arena, pg_get_str(outcome->results[0], 0, 1));
    p->leave_ids = str_arena(arena, pg_get_str(outcome->results[1], 0, 1));
    p->rest = b->kind->planned != NULL ? p->ask_ids : STR_NONE;
    buf_init(&p->unconfirmed.shown, ANSWER_MAX / 4);
    buf_init(&p->refused.shown, ANSWER_MAX / 4);
    p->timer.data = p;
    ENSURE(uv_timer_init(b->call->gw->loop, &p->timer) == 0 && uv_timer_start(&p->timer, on_turn, 0, 0) == 0);
}

void bulk_plan(struct bulk *b)
{
    struct pg_batch *batch = call_batch(b->call, false);
    struct pg_param params[BULK_FILTER_PARAMS + 2];

    for (int fit = 1; fit >= 0; fit--) {
        bulk_filter(batch, b, fit, params);
        params[BULK_FILTER_PARAMS] = pg_i32(COUNT_MAX);
        params[BULK_FILTER_PARAMS + 1] = pg_i32(fit && b->kind->planned != NULL ? LOOKED_AT_MAX : SHOWN_MAX);
        pg_batch_add(batch, SQL_BULK_FIND, params, BULK_FILTER_PARAMS + 2);
    }
    pg_submit(gateway_read(b->call->gw), batch, on_found, b);
}

struct str bulk_reason(struct arena *arena, const char *detail, struct str errors)
{
    struct str pointer = STR("/"), message;
    struct jt_iter it;

    jt_iter_init(&it, errors);
    if (errors.ptr == NULL || !jt_next(&it) || !jt_string(jt_get(it.value, "message"), arena, &message))
        return str_of(arena_printf(arena, "%s", detail));
    (void)jt_string(jt_get(it.value, "pointer"), arena, &pointer);
    return str_of(arena_printf(arena, "%s: " STR_FMT ": " STR_FMT, detail, STR_ARG(pointer),
                               STR_ARG(utf8_prefix(message, REASON_MAX))));
}
