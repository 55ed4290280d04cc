/* What an operator's :retry does to a run that has ended: steps that did not succeed are done again, the outputs of the
 * others are kept. What would be done is worked out here, looking only; the same list is what is shown beforehand. */
#include "common/base/banned.h"
#include "common/engine/engine_internal.h"

/* Things may have been done for it that doing it once more does again. */
bool engine_may_have_acted(const struct run_state *state, uint32_t node)
{
    const struct step_state *s = run_step(state, node);

    if (run_plan_step(state, node)->at_most_once && s->attempt > 0) /* it asks before it sends */
        return s->began_dispatch != 0 || s->doubtful;
    return s->attempt > 0 || (s->extra != NULL && (s->extra->items != NULL || s->extra->had_child));
}

/* A failure that a step below has taken care of stays: what was done because of it would not go with a success. */
static bool is_wanted(const struct run_state *state, uint32_t node)
{
    const struct step_state *s = run_step(state, node);

    return s->status == STEP_CANCELLED ||
           (step_is_failure((enum step_status)s->status) && !engine_handled(state, state->root, node));
}

static void refuse_plan(struct retry_plan *plan, const char *code, const char *message)
{
    plan->code = code;
    plan->message = str_of(message);
}

/* Things of its own that began are not begun again by halves. */
static const char *cannot_restart(const struct run_state *state, uint32_t node)
{
    const struct step_state *s = run_step(state, node);

    if (s->attempt > UINT16_MAX - run_plan_step(state, node)->retry.max_attempts)
        return "it has been tried too often";
    if (s->extra != NULL && s->extra->items != NULL)
        return "it is a loop whose items have begun, and those that ended well cannot be kept";
    if (s->extra != NULL && s->extra->had_child)
        return "it has started a child run, and what went well in that cannot be kept";
    return NULL;
}

static bool add(struct retry_plan *plan, const struct run_state *state, struct arena *arena, uint32_t node)
{
    const char *why = cannot_restart(state, node);

    if (why != NULL) {
        plan->code = "cannot_retry";
        plan->message = str_of(arena_printf(arena, "step '" STR_FMT "': %s; :rerun can begin at it in a new run",
                                            STR_ARG(run_plan_step(state, node)->name), why));
        return false;
    }
    plan->steps[plan->count++] =
        (struct retry_step){.node = node,
                            .generation = step_next_generation(run_step(state, node)),
                            .again = engine_may_have_acted(state, node),
                            .needs_confirmation = run_plan_step(state, node)->effect == EFFECT_NOT_REPEATABLE &&
                                                  engine_may_have_acted(state, node)};
    return true;
}

static bool is_below(const struct run_state *state, uint32_t step, const bool *chosen)
{
    const struct plan_step *plan = &state->plan->steps[step];

    for (size_t e = 0; e < plan->edge_count; e++)
        if (chosen[plan->edges[e].parent])
            return true;
    return false;
}

static void choose(const struct run_state *state, struct arena *arena, struct retry_plan *ret)
{
    const struct plan_scope *scope = &state->plan->scopes[0];
    bool *chosen = arena_array(arena, scope->count, sizeof(bool));

    ret->steps = arena_array(arena, scope->count, sizeof(*ret->steps));
    for (uint32_t i = 0; i < scope->count; i++) {
        uint32_t node = scope->topological[i];
        const struct step_state *s = run_step(state, node);

        if (s->partial) { /* what failed in it is not done again, and the run would end partial once more */
            ret->code = "cannot_retry";
            ret->message = str_of(arena_printf(
                arena,
                "step '" STR_FMT "': what failed in it cannot be tried alone; :rerun can begin at it in a new run",
                STR_ARG(run_plan_step(state, node)->name)));
            return;
        }
        if (!is_wanted(state, node) && (s->status != STEP_SKIPPED || !is_below(state, node, chosen)))
            continue;
        chosen[node] = true;
        if (!add(ret, state, arena, node))
            return;
    }
}

void engine_plan_retry(const struct run_state *state, struct arena *arena, struct retry_plan *ret)
{
    bool stopped = state->status == RUN_CANCELLED || state->status == RUN_TIMED_OUT;

    *ret = (struct retry_plan){0};
    if (!run_ended((enum run_status)state->status) && state->retrying)
        ret->holds = true;
    else if (!run_ended((enum run_status)state->status))
        refuse_plan(ret, "run_not_ended", "the run has not ended: what fails in it can be retried then");
    else if (state->status == RUN_SUCCEEDED)
        refuse_plan(ret, "nothing_to_retry", "the run succeeded: no step of it failed; :rerun does it again");
    else if (state->status == RUN_COMPENSATED || state->status == RUN_COMPENSATION_FAILED)
        refuse_plan(ret, "compensated", "what the run had done has been undone; :rerun does it again");
    else if (!state->started)
        refuse_plan(ret, "never_started", "the run ended before it began; :rerun starts it as a new run");
    else if (state->run_error != NULL && strcmp(state->run_error->code, "invalid_input") == 0)
        refuse_plan(ret, "invalid_input", "the run's input is not as its workflow wants it: nothing could begin");
    else if (state->last_seq >= HISTORY_MAX)
        refuse_plan(ret, "history_limit", "the run's history is full; :rerun does it again in a new run");
    else
        choose(state, arena, ret);
    if (ret->code == NULL && !ret->holds && ret->count == 0 && !stopped)
        refuse_plan(ret, "nothing_to_retry",
                    "no step of the run failed: what it ended with would be the same; :rerun takes another version");
}

static bool is_confirmed(const struct ctx *c, uint32_t node)
{
    struct str name = run_plan_step(c->state, node)->name, text;
    struct jt_iter it;

    if (c->input->confirm_all)
        return true;
    if (c->input->confirm.ptr == NULL)
        return false;
    jt_iter_init(&it, c->input->confirm);
    while (jt_next(&it))
        if (jt_string(it.value, c->fx->arena, &text) && str_eq(text, name))
            return true;
    return false;
}

/* The names of the steps of which nobody has said that they may be done once more; STR_NONE: there is none. */
static struct str unconfirmed(struct ctx *c, const struct retry_plan *plan)
{
    struct str names = STR_NONE;

    for (size_t i = 0; i < plan->count; i++) {
        uint32_t node = plan->steps[i].node;

        if (!plan->steps[i].needs_confirmation || is_confirmed(c, node))
            continue;
        names = str_of(arena_printf(c->fx->arena, STR_FMT "%s'" STR_FMT "'", STR_ARG(names), names.len > 0 ? ", " : "",
                                    STR_ARG(run_plan_step(c->state, node)->name)));
    }
    return names;
}

static void check_confirmed(struct ctx *c, struct retry_plan *plan)
{
    struct str names = unconfirmed(c, plan), name;
    struct jt_iter it;

    jt_iter_init(&it, c->input->confirm);
    while (jt_next(&it)) {
        if (jt_string(it.value, c->fx->arena, &name) && plan_find(c->state->plan, name) != NO_NODE)
            continue;
        plan->code = "unknown_step";
        plan->message = str_of(arena_printf(c->fx->arena, "/confirm/%zu: the workflow has no such step", it.index));
        return;
    }
    if (names.ptr == NULL)
        return;
    plan->code = "confirmation_needed";
    plan->message = str_of(arena_printf(c->fx->arena,
                                        "what may not be repeated would be: step " STR_FMT
                                        "; {\"confirm\": true}, or a list of steps, says that it shall be",
                                        STR_ARG(names)));
}

static void reopen(struct ctx *c, const struct retry_plan *plan)
{
    struct run_state *state = c->state;

    engine_apply_command(c, "retry");
    engine_emit(c, (struct event){.type = EVENT_RUN_REOPENED,
                                  .command = c->input->command,
                                  .code = STR("retry"),
                                  .due_at = engine_timeout(c, c->now)});
    engine_open_timeout(c);
    c->fx->status_changed = true;
    for (size_t i = 0; i < plan->count; i++)
        engine_emit_step(c, EVENT_STEP_REOPENED, plan->steps[i].node,
                         (struct event){.generation = plan->steps[i].generation});
    for (uint32_t i = 0; c->rc == ERR_OK && i < state->plan->root_count; i++)
        if (run_step(state, i)->status == STEP_PENDING && run_step(state, i)->waiting_for == 0)
            engine_ready(c, i);
}

void engine_retry(struct ctx *c)
{
    struct retry_plan plan;

    engine_plan_retry(c->state, c->fx->arena, &plan);
    if (plan.code == NULL && !plan.holds)
        check_confirmed(c, &plan);
    if (plan.code != NULL) {
        engine_refuse(c, plan.code, plan.message);
        return;
    }
    if (plan.holds) { /* what was asked for already holds */
        engine_apply_command(c, "retry");
        return;
    }
    reopen(c, &plan);
}
