/* What an operator's :retry does to a run that has ended: steps that did not succeed are done again, the outputs of the
 * others are kept. What would be done is worked out here, looking only; the same list is what is shown beforehand. A
 * loop that has begun is gone on with: of its iterations those that did not end well, and in each by the same rules. */
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
static bool is_wanted(const struct run_state *state, const struct frame *frame, uint32_t node)
{
    const struct step_state *s = run_step(state, node);

    return s->status == STEP_CANCELLED || s->partial ||
           (step_is_failure((enum step_status)s->status) && !engine_handled(state, frame, node));
}

static void refuse_plan(struct retry_plan *plan, const char *code, const char *message)
{
    plan->code = code;
    plan->message = str_of(message);
}

static const char *cannot_restart(const struct run_state *state, uint32_t node)
{
    const struct step_state *s = run_step(state, node);

    if (s->attempt > UINT16_MAX - run_plan_step(state, node)->retry.max_attempts)
        return "it has been tried too often";
    return NULL;
}

static bool is_below(const struct run_state *state, const struct frame *frame, const struct plan_step *step,
                     const bool *chosen)
{
    uint32_t first = state->plan->scopes[frame->scope].first;

    for (size_t e = 0; e < step->edge_count; e++)
        if (chosen[step->edges[e].parent - first])
            return true;
    return false;
}

/* The nodes of a frame that are done once more, parents first. */
static size_t choose(const struct run_state *state, struct arena *arena, const struct frame *frame, uint32_t **ret)
{
    const struct plan_scope *scope = &state->plan->scopes[frame->scope];
    bool *chosen = arena_array(arena, scope->count, sizeof(bool));
    uint32_t *nodes = arena_array(arena, scope->count, sizeof(*nodes));
    size_t count = 0;

    for (uint32_t i = 0; i < scope->count; i++) {
        uint32_t at = scope->topological[i] - scope->first, node = frame->base + at;

        chosen[at] = is_wanted(state, frame, node) ||
                     (run_step(state, node)->status == STEP_SKIPPED &&
                      is_below(state, frame, &state->plan->steps[scope->topological[i]], chosen));
        if (chosen[at])
            nodes[count++] = node;
    }
    *ret = nodes;
    return count;
}

static void look_at(struct retry_plan *plan, const struct run_state *state, struct arena *arena, uint32_t node,
                    struct retry_step *ret);

/* What is gone on with in a loop: its own list is not shown, but what of it has to be known beforehand. */
static void look_into(struct retry_plan *plan, const struct run_state *state, struct arena *arena,
                      const struct step_extra *extra, struct retry_step *ret)
{
    uint32_t *nodes;

    for (uint32_t i = 0; i < extra->count; i++) {
        const struct loop_item *item = &extra->items[i];
        size_t count;

        if (item->status == STEP_SUCCEEDED && !item->partial)
            continue;
        ret->items++;
        count = item->frame == NULL ? 0 : choose(state, arena, item->frame, &nodes);
        for (size_t n = 0; n < count; n++) {
            struct retry_step inner = {0};

            look_at(plan, state, arena, nodes[n], &inner);
            ret->needs_confirmation |= inner.needs_confirmation;
        }
    }
}

/* As deep as loops are nested. */
static void look_at(struct retry_plan *plan, const struct run_state *state, struct arena *arena, uint32_t node,
                    struct retry_step *ret)
{
    const struct step_state *s = run_step(state, node);
    const char *why = cannot_restart(state, node);

    *ret = (struct retry_step){
        .node = node, .generation = step_next_generation(s), .again = engine_may_have_acted(state, node)};
    if (s->extra != NULL && s->extra->items != NULL)
        look_into(plan, state, arena, s->extra, ret);
    else
        ret->needs_confirmation = ret->again && run_plan_step(state, node)->effect == EFFECT_NOT_REPEATABLE;
    if (why == NULL || plan->code != NULL)
        return;
    plan->code = "cannot_retry";
    plan->message = str_of(arena_printf(arena, "step '" STR_FMT "': %s; :rerun can begin at it in a new run",
                                        STR_ARG(engine_path(arena, state, node)), why));
}

static void plan_steps(const struct run_state *state, struct arena *arena, struct retry_plan *ret)
{
    uint32_t *nodes;
    size_t count = choose(state, arena, state->root, &nodes);

    ret->steps = arena_array(arena, count, sizeof(*ret->steps));
    for (size_t i = 0; i < count && ret->code == NULL; i++)
        look_at(ret, state, arena, nodes[i], &ret->steps[ret->count++]);
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
        plan_steps(state, arena, ret);
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

void engine_reopen(struct ctx *c, const struct frame *frame)
{
    uint32_t *nodes;
    size_t count = choose(c->state, c->fx->arena, frame, &nodes);

    for (size_t i = 0; i < count; i++)
        engine_emit_step(c, EVENT_STEP_REOPENED, nodes[i],
                         (struct event){.generation = step_next_generation(run_step(c->state, nodes[i]))});
}

static void reopen(struct ctx *c)
{
    struct run_state *state = c->state;

    engine_apply_command(c, "retry");
    engine_emit(c, (struct event){.type = EVENT_RUN_REOPENED,
                                  .command = c->input->command,
                                  .code = STR("retry"),
                                  .count = c->input->of_parent ? c->input->retries : 0,
                                  .due_at = engine_timeout(c, c->now)});
    engine_open_timeout(c);
    c->fx->status_changed = true;
    engine_reopen(c, state->root);
    for (uint32_t i = 0; c->rc == ERR_OK && i < state->plan->root_count; i++)
        if (run_step(state, i)->status == STEP_PENDING && run_step(state, i)->waiting_for == 0)
            engine_ready(c, i);
}

/* The parent has another begun instead. One that has not ended is asked again when it has; and one that succeeded has
 * told. */
static void refuse_parent(struct ctx *c, const struct retry_plan *plan)
{
    const struct run_state *state = c->state;

    if (run_ended((enum run_status)state->status) && state->status != RUN_SUCCEEDED)
        c->fx->refused = (struct effect_retry_refused){.retries = c->input->retries,
                                                       .status = (enum run_status)state->status,
                                                       .code = plan->code,
                                                       .message = plan->message};
}

void engine_retry(struct ctx *c)
{
    struct retry_plan plan;

    if (c->input->of_parent && c->input->retries <= c->state->retries) { /* asked for twice */
        engine_apply_command(c, "retry");
        return;
    }
    engine_plan_retry(c->state, c->fx->arena, &plan);
    if (plan.code == NULL && !plan.holds)
        check_confirmed(c, &plan);
    if (plan.holds && c->input->of_parent)
        refuse_plan(&plan, "run_not_ended", "somebody has retried the run: its parent is told how it ends");
    if (plan.code != NULL) {
        engine_refuse(c, plan.code, plan.message);
        if (c->input->of_parent)
            refuse_parent(c, &plan);
        return;
    }
    if (plan.holds) { /* what was asked for already holds */
        engine_apply_command(c, "retry");
        return;
    }
    reopen(c);
}
