/* POST /v1/runs/{id}:retry: steps that did not succeed are done again. With plan=true it only says what would be done.
 */
#include "gateway/commands.h"
#include "gateway/confirm.h"
#include "gateway/document.h"
#include "gateway/history.h"
#include "gateway/json_more.h"
#include "gateway/rerun.h"
#include "gateway/route.h"

#include "common/base/banned.h"

#define JSON_MAX ((size_t)4 << 20)

static void put_name(struct jw *w, const struct history *h, uint32_t step)
{
    jw_kstr(w, "step", h->plan->steps[step].name);
}

static void put_kept(struct jw *w, const struct history *h, const bool *again)
{
    jw_key(w, "reused");
    jw_arr(w);
    for (uint32_t i = 0; i < h->plan->root_count; i++) {
        if (again[i])
            continue;
        jw_obj(w);
        put_name(w, h, i);
        jw_kcstr(w, "status", step_status_name((enum step_status)run_step(h->state, i)->status));
        jw_end_obj(w);
    }
    jw_end_arr(w);
}

static void put_steps(struct jw *w, const struct history *h, const struct retry_plan *plan)
{
    jw_key(w, "executed");
    jw_arr(w);
    for (size_t i = 0; i < plan->count; i++) {
        const struct retry_step *step = &plan->steps[i];
        const struct step_state *s = run_step(h->state, step->node);

        jw_obj(w);
        put_name(w, h, step->node);
        jw_kcstr(w, "status", step_status_name((enum step_status)s->status));
        jw_kcstr(w, "effect", plan_effect_name((enum plan_effect)h->plan->steps[step->node].effect));
        jw_key(w, "again");
        jw_bool(w, step->again);
        jw_key(w, "new_key");
        jw_bool(w, step->generation != s->generation);
        if (step->items > 0)
            jw_ki64(w, "items", step->items);
        jw_end_obj(w);
    }
    jw_end_arr(w);
    jw_key(w, "needs_confirmation");
    jw_arr(w);
    for (size_t i = 0; i < plan->count; i++)
        if (plan->steps[i].needs_confirmation)
            jw_str(w, h->plan->steps[plan->steps[i].node].name);
    jw_end_arr(w);
}

/* False: answered, because it would be refused. */
static bool make_plan(struct call *call, const struct history *h, struct retry_plan *ret)
{
    engine_plan_retry(h->state, call->arena, ret);
    if (ret->code != NULL)
        call_problemf(call, 409, ret->code, STR_FMT, STR_ARG(ret->message));
    return ret->code == NULL;
}

static void answer_plan(struct call *call, const struct history *h)
{
    CLEANUP(buf_deinit) struct buf body = {0};
    bool *again = arena_array(call->arena, h->plan->root_count, sizeof(*again));
    struct retry_plan plan;
    struct jw w;

    if (!make_plan(call, h, &plan))
        return;
    for (size_t i = 0; i < plan.count; i++)
        again[plan.steps[i].node] = true;
    buf_init(&body, JSON_MAX);
    w = jw_to(&body);
    jw_obj(&w);
    jw_krun(&w, "run_id", h->id);
    put_kept(&w, h, again);
    put_steps(&w, h, &plan);
    jw_end_obj(&w);
    call_json(call, 200, buf_str(&body));
}

void route_run_retry(struct call *call)
{
    CLEANUP(buf_deinit) struct buf command = {0};
    struct str body, confirm;
    struct run_id run;
    bool plan;
    struct jw w;

    if (!call_body_object(call, "confirm", &body) || !read_confirm(call, body, &confirm) || !read_plan(call, &plan))
        return;
    if (plan) {
        if (call_run_id(call, 0, &run))
            history_load(call, run, answer_plan);
        return;
    }
    buf_init(&command, body.len + 64);
    w = jw_to(&command);
    jw_obj(&w);
    jw_kraw(&w, "confirm", confirm);
    jw_end_obj(&w);
    command_ask(call, "retry", buf_str(&command));
}

/* ---- one of many that are looked at ---- */

struct looking {
    struct call *call;
    struct str confirm;
    void (*done)(struct call *call, struct str unconfirmed);
};

static void on_history(void *ctx, const struct history *h)
{
    CLEANUP(buf_deinit) struct buf names = {0};
    const struct looking *looking = ctx;
    struct call *call = looking->call;
    struct retry_plan plan;
    struct jw w;

    if (!make_plan(call, h, &plan))
        return;
    buf_init(&names, JSON_MAX);
    w = jw_to(&names);
    jw_arr(&w);
    for (size_t i = 0; i < plan.count; i++) {
        struct str name = h->plan->steps[plan.steps[i].node].name;

        if (plan.steps[i].needs_confirmation && !is_confirmed(call, looking->confirm, name))
            jw_str(&w, name);
    }
    jw_end_arr(&w);
    looking->done(call, buf_str(&names));
}

void retry_planned(struct call *call, struct run_id run, struct str body,
                   void (*done)(struct call *call, struct str unconfirmed))
{
    struct looking *looking = arena_alloc(call->arena, sizeof(*looking));

    looking->call = call;
    looking->done = done;
    if (read_confirm(call, body, &looking->confirm))
        history_read(call, run, false, on_history, looking);
}
