/* POST /v1/runs/{id}:rerun: a new run that does again what another did, as a whole or from a step on, of the same
 * version or another, with outputs that are given. With plan=true it only says what would be done. */
#include "common/engine/rerun.h"
#include "common/base/ensure.h"
#include "gateway/child_effects.h"
#include "gateway/confirm.h"
#include "gateway/document.h"
#include "gateway/history.h"
#include "gateway/json_more.h"
#include "gateway/rerun.h"
#include "gateway/route.h"
#include "gateway/starting.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define JSON_MAX ((size_t)64 << 20)
#define REUSED_MAX_BYTES ((size_t)32 << 20)
#define KEY_WAIT_US (5 * US_PER_S)

struct rerunning {
    struct starting starting;
    struct rerun_of of;
    struct rerun rerun;
    struct call *call;
    const struct history *old;
    struct rerun_asked asked;
    const struct run_id *operation; /* on many runs; NULL: none */
    bool plan;
    void (*planned)(struct call *call,
                    struct str unconfirmed); /* one of many that are only looked at; NULL: it is not */
};

/* ---- what is asked for ---- */

bool rerun_read(struct call *call, struct str body, struct rerun_asked *ret)
{
    struct str from = jt_get(body, "from"), version = jt_get(body, "version");

    *ret = (struct rerun_asked){.from = STR_NONE, .input = jt_get(body, "input"), .outputs = jt_get(body, "outputs")};
    if (from.ptr != NULL && !jt_string(from, call->arena, &ret->from)) {
        call_fault(call, "wrong_type", "/from", "from must be the name of a step");
        return false;
    }
    if (version.ptr != NULL && (!jt_i64(version, &ret->version) || ret->version < 1 || ret->version > INT32_MAX)) {
        call_fault(call, "wrong_type", "/version", "version must be the number of a version");
        return false;
    }
    if (ret->outputs.ptr != NULL && jt_type(ret->outputs) != JT_OBJECT) {
        call_fault(call, "wrong_type", "/outputs", "outputs must be an object: outputs by step");
        return false;
    }
    return read_confirm(call, body, &ret->confirm);
}

/* ---- the plan ---- */

static void put_list(struct jw *w, const struct rerunning *r, bool done)
{
    const struct plan *plan = r->rerun.plan;

    jw_key(w, done ? "executed" : "reused");
    jw_arr(w);
    for (uint32_t i = 0; i < plan->root_count; i++) {
        const struct rerun_step *step = &r->rerun.steps[i];

        if ((step->what == RERUN_DONE) != done)
            continue;
        jw_obj(w);
        jw_kstr(w, "step", plan->steps[i].name);
        jw_kcstr(w, "status",
                 step->what == RERUN_OVERRIDDEN || step->old == NO_NODE
                     ? step_status_name(step->what == RERUN_OVERRIDDEN ? STEP_SUCCEEDED : STEP_PENDING)
                     : step_status_name((enum step_status)run_step(r->old->state, step->old)->status));
        if (done) {
            jw_kcstr(w, "effect", plan_effect_name((enum plan_effect)r->rerun.effects[i]));
            jw_kbool(w, "again", step->again);
            jw_kbool(w, "new_key", true);
        } else {
            jw_kbool(w, "overridden", step->what == RERUN_OVERRIDDEN);
        }
        jw_end_obj(w);
    }
    jw_end_arr(w);
}

static void answer_plan(const struct rerunning *r)
{
    CLEANUP(buf_deinit) struct buf body = {0};
    const struct plan *plan = r->rerun.plan;
    struct jw w;

    buf_init(&body, JSON_MAX);
    w = jw_to(&body);
    jw_obj(&w);
    jw_krun(&w, "rerun_of", r->old->id);
    put_list(&w, r, false);
    put_list(&w, r, true);
    jw_key(&w, "needs_confirmation");
    jw_arr(&w);
    for (uint32_t i = 0; i < plan->root_count; i++)
        if (r->rerun.steps[i].needs_confirmation)
            jw_str(&w, plan->steps[i].name);
    jw_end_arr(&w);
    jw_end_obj(&w);
    call_json(r->call, 200, buf_str(&body));
}

static void answer_faults(const struct rerunning *r)
{
    CLEANUP(buf_deinit) struct buf errors = {0};
    struct jw w;

    buf_init(&errors, JSON_MAX);
    w = jw_to(&errors);
    jw_arr(&w);
    for (size_t i = 0; i < r->rerun.fault_count; i++) {
        jw_obj(&w);
        jw_kcstr(&w, "code", r->rerun.faults[i].code);
        jw_kstr(&w, "pointer", r->rerun.faults[i].pointer);
        jw_kstr(&w, "message", r->rerun.faults[i].message);
        jw_end_obj(&w);
    }
    jw_end_arr(&w);
    call_problem_errors(r->call, 422, "invalid_rerun", "the run cannot be done again so", buf_str(&errors));
}

static bool is_unconfirmed(const struct rerunning *r, uint32_t step)
{
    return r->rerun.steps[step].needs_confirmation &&
           !is_confirmed(r->call, r->asked.confirm, r->rerun.plan->steps[step].name);
}

static void tell_unconfirmed(const struct rerunning *r)
{
    CLEANUP(buf_deinit) struct buf names = {0};
    struct jw w;

    buf_init(&names, JSON_MAX);
    w = jw_to(&names);
    jw_arr(&w);
    for (uint32_t i = 0; i < r->rerun.plan->root_count; i++)
        if (is_unconfirmed(r, i))
            jw_str(&w, r->rerun.plan->steps[i].name);
    jw_end_arr(&w);
    r->planned(r->call, buf_str(&names));
}

/* False: answered. */
static bool check_confirmed(const struct rerunning *r)
{
    CLEANUP(buf_deinit) struct buf names = {0};
    const struct plan *plan = r->rerun.plan;
    struct str name;
    struct jt_iter it;

    jt_iter_init(&it, r->asked.confirm);
    while (jt_type(r->asked.confirm) == JT_ARRAY && jt_next(&it)) {
        ENSURE(jt_string(it.value, r->call->arena, &name));
        if (plan_find(plan, name) != NO_NODE)
            continue;
        call_fault(r->call, "unknown_step", arena_printf(r->call->arena, "/confirm/%zu", it.index),
                   "the workflow has no such step of its own");
        return false;
    }
    buf_init(&names, JSON_MAX);
    for (uint32_t i = 0; i < plan->root_count; i++)
        if (is_unconfirmed(r, i))
            buf_printf(&names, "%s'" STR_FMT "'", names.len > 0 ? ", " : "", STR_ARG(plan->steps[i].name));
    if (names.len == 0)
        return true;
    call_problemf(r->call, 409, "confirmation_needed",
                  "what may not be repeated would be: step " STR_FMT
                  "; {\"confirm\": true}, or a list of steps, says that it shall be",
                  STR_ARG(buf_str(&names)));
    return false;
}

/* ---- what the new run is given ---- */

static void put_output(struct jw *w, const struct step_state *s)
{
    if (s->extra != NULL && s->extra->items != NULL) {
        jw_key(w, "items");
        jw_arr(w);
        for (uint32_t i = 0; i < s->extra->count; i++)
            jw_i64(w, s->extra->items[i].output_seq);
        jw_end_arr(w);
    } else if (s->output_seq != 0) {
        jw_ki64(w, "seq", s->output_seq);
    }
}

/* How the step ended in the old run, as its history has it. */
static void put_reused(struct jw *w, const struct history *old, uint32_t node)
{
    const struct step_state *s = run_step(old->state, node);
    const struct step_view *view = &old->views[node];
    const struct event *why = s->status == STEP_SKIPPED ? view->skipped : view->failure;

    jw_kcstr(w, "as", step_status_name((enum step_status)s->status));
    if (s->branch != NO_BRANCH)
        jw_kstr(w, "branch", old->plan->steps[node].branches[s->branch]);
    if (why != NULL) {
        jw_kstr(w, "code", why->code);
        jw_kstr(w, "message", why->message);
        jw_kraw(w, "detail", why->detail);
    }
    put_output(w, s);
}

static void put_given(struct jw *w, const struct rerunning *r, uint32_t step)
{
    const struct rerun_step *one = &r->rerun.steps[step];
    struct str name = r->rerun.plan->steps[step].name;
    struct jt_iter it;

    jw_obj(w);
    jw_kstr(w, "step", name);
    if (one->what == RERUN_REUSED) {
        put_reused(w, r->old, one->old);
    } else {
        jw_kcstr(w, "as", "succeeded");
        jt_iter_init(&it, r->rerun.outputs);
        while (jt_next(&it))
            if (str_eq(jt_key(&it, r->call->arena), name))
                jw_kraw(w, "output", it.value);
    }
    jw_end_obj(w);
}

static struct str kept(const struct rerunning *r, struct buf *text)
{
    struct str copy = str_arena(r->call->arena, buf_str(text));

    ENSURE(!text->overflow);
    buf_deinit(text);
    return copy;
}

static struct str given_json(const struct rerunning *r)
{
    const struct plan *plan = r->rerun.plan;
    struct buf text;
    struct jw w;

    buf_init(&text, JSON_MAX);
    w = jw_to(&text);
    jw_arr(&w);
    for (uint32_t i = 0; i < plan->root_count; i++)
        if (r->rerun.steps[plan->scopes[0].topological[i]].what != RERUN_DONE)
            put_given(&w, r, plan->scopes[0].topological[i]);
    jw_end_arr(&w);
    return kept(r, &text);
}

/* For people, of the run's row. */
static struct str begins_json(const struct rerunning *r)
{
    struct jt_iter it;
    struct buf text;
    struct jw w;

    buf_init(&text, JSON_MAX);
    w = jw_to(&text);
    jw_obj(&w);
    if (r->rerun.from.ptr != NULL)
        jw_kstr(&w, "from", r->rerun.from);
    if (r->rerun.outputs.ptr != NULL) {
        jw_key(&w, "outputs");
        jw_arr(&w);
        jt_iter_init(&it, r->rerun.outputs);
        while (jt_next(&it))
            jw_str(&w, jt_key(&it, r->call->arena));
        jw_end_arr(&w);
    }
    jw_end_obj(&w);
    return kept(r, &text);
}

static size_t reused_bytes(const struct rerunning *r)
{
    size_t bytes = 0;

    for (uint32_t i = 0; i < r->rerun.plan->root_count; i++) {
        const struct step_state *s;

        if (r->rerun.steps[i].what != RERUN_REUSED)
            continue;
        s = run_step(r->old->state, r->rerun.steps[i].old);
        bytes += s->extra != NULL && s->extra->items != NULL ? s->extra->output_bytes : s->output_bytes;
    }
    return bytes;
}

/* ---- the start ---- */

static void submit(struct rerunning *r, const struct flow *flow)
{
    struct starting *s = &r->starting;
    struct call *call = r->call;

    if (!starting_check_input(call, flow, r->asked.input))
        return;
    s->start.organisation = call->caller.organisation;
    s->start.workflow = r->old->workflow;
    s->start.version = flow->version;
    s->start.input = r->asked.input;
    s->start.labels = r->old->labels.ptr == NULL ? STR("{}") : r->old->labels;
    s->start.start_at = STR_NONE;
    s->start.rerun_of = &r->of;
    s->start.give_up.us = clock_mono().us + KEY_WAIT_US;
    s->start.done = starting_done;
    r->of = (struct rerun_of){.run = r->old->id, .operation = r->operation};
    if (!r->rerun.whole) {
        r->of.begins = begins_json(r);
        r->of.given = given_json(r);
    }
    if (!starting_admit(s))
        return;
    s->start.run_id =
        start_run_id(call->gw, call->caller.organisation, s->start.workflow, s->start.key, &s->start.created_at);
    starts_submit(call->gw->starts, &s->start);
}

static void read_flow(struct rerunning *r);

static void on_input(void *ctx, const struct pg_outcome *outcome)
{
    struct rerunning *r = ctx;

    if (!call_committed(r->call, outcome))
        return;
    if (pg_rows(outcome->results[0]) == 0) {
        call_problem(r->call, 404, "not_found", "there is no such run");
        return;
    }
    r->asked.input = str_arena(r->call->arena, pg_get_str(outcome->results[0], 0, 0));
    read_flow(r);
}

/* False: answered. */
static bool check_plan(struct rerunning *r)
{
    bool in_part = r->rerun.from.ptr != NULL;

    if (in_part && !run_ended((enum run_status)r->old->state->status)) {
        call_problem(r->call, 409, "run_not_ended",
                     "the run has not ended: what comes of its steps is not known yet; without 'from' it is done anew");
        return false;
    }
    rerun_plan(&r->rerun, r->call->arena);
    if (r->rerun.fault_count > 0) {
        answer_faults(r);
        return false;
    }
    if (reused_bytes(r) > REUSED_MAX_BYTES) {
        call_problemf(r->call, 409, "too_large",
                      "the outputs that would be taken over come to %zu bytes; at most %zu are", reused_bytes(r),
                      REUSED_MAX_BYTES);
        return false;
    }
    return true;
}

static void release_plan(void *plan)
{
    plan_unref(plan);
}

static void on_flow(void *ctx, struct flow *flow, enum err_code rc, const struct err *err);

static void read_flow(struct rerunning *r)
{
    flows_version(r->call->gw->flows, r->call->caller.organisation, r->old->workflow, (int32_t)r->asked.version,
                  on_flow, r);
}

static void on_effects(void *ctx, const uint8_t *effects)
{
    struct rerunning *r = ctx;

    r->rerun.effects = effects;
    read_flow(r);
}

/* Comes twice: for the effects of its child runs, and when these are known. */
static void on_flow(void *ctx, struct flow *flow, enum err_code rc, const struct err *err)
{
    struct rerunning *r = ctx;
    struct call *call = r->call;

    if (rc != ERR_OK) {
        call_error(call, err);
        return;
    }
    if (flow == NULL) {
        call_fault(call, "unknown_version", "/version", "the workflow has no such version");
        return;
    }
    if (flow->plan == NULL) {
        call_problemf(call, 409, "not_available", "this release cannot run version %d: %s", (int)flow->version,
                      flow->fault);
        return;
    }
    r->rerun.plan = plan_ref(flow->plan);
    arena_defer(call->arena, release_plan, flow->plan);
    if (r->rerun.effects == NULL) {
        child_effects(call, flow->plan, on_effects, r);
        return;
    }
    if (!check_plan(r))
        return;
    if (r->planned != NULL)
        tell_unconfirmed(r);
    else if (r->plan)
        answer_plan(r);
    else if (check_confirmed(r))
        submit(r, flow);
}

static void on_history(void *ctx, const struct history *old)
{
    struct rerunning *r = ctx;
    struct call *call = r->call;
    struct pg_batch *batch;

    r->old = old;
    r->rerun.old = old->state;
    r->starting.start.priority = (uint8_t)old->priority;
    r->rerun.from = r->asked.from;
    r->rerun.outputs = r->asked.outputs;
    if (r->asked.version == 0)
        r->asked.version = old->version;
    if (r->asked.input.ptr != NULL) {
        read_flow(r);
        return;
    }
    batch = call_batch(call, false);
    pg_add(batch, SQL_RUN_BODY, pg_uuid(old->id));
    pg_submit(gateway_read(call->gw), batch, on_input, r);
}

/* Keys are the workflow's: the same one for another run, or for a start, asks for something else. */
static bool read_key(struct rerunning *r, struct run_id run, struct str body)
{
    char id[UUID_TEXT_SIZE];

    run_id_format(run, id);
    return starting_read_key(&r->starting, arena_printf(r->call->arena, "rerun %s ", id), body);
}

void route_run_rerun(struct call *call)
{
    struct rerunning *r = arena_alloc(call->arena, sizeof(*r));
    struct run_id run;
    struct str body;

    r->call = r->starting.call = call;
    if (!call_body_object(call, RERUN_FIELDS, &body) || !rerun_read(call, body, &r->asked) ||
        !read_plan(call, &r->plan) || !call_run_id(call, 0, &run) || !read_key(r, run, body))
        return;
    history_read(call, run, false, on_history, r);
}

void rerun_of_operation(struct call *call, struct run_id run, struct str body, const struct run_id *operation)
{
    struct rerunning *r = arena_alloc(call->arena, sizeof(*r));

    r->call = r->starting.call = call;
    r->operation = operation;
    if (rerun_read(call, body, &r->asked))
        history_read(call, run, false, on_history, r);
}

void rerun_planned(struct call *call, struct run_id run, struct str body,
                   void (*done)(struct call *call, struct str unconfirmed))
{
    struct rerunning *r = arena_alloc(call->arena, sizeof(*r));

    r->call = r->starting.call = call;
    r->planned = done;
    if (rerun_read(call, body, &r->asked))
        history_read(call, run, false, on_history, r);
}
