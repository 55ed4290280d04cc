/* Stopping a run, and its end: decided when it is at rest, that is when every step has an outcome. */
#include "common/base/banned.h"
#include "common/engine/engine_internal.h"

static void tell_to_stop(struct ctx *c, uint32_t node)
{
    struct effects *fx = c->fx;

    if (fx->cancel_count == fx->cancel_cap) {
        size_t cap = fx->cancel_cap == 0 ? 8 : 2 * fx->cancel_cap;
        uint32_t *grown = arena_array(fx->arena, cap, sizeof(*grown));
        if (fx->cancel_count > 0)
            memcpy(grown, fx->cancels, fx->cancel_count * sizeof(*grown));
        fx->cancels = grown;
        fx->cancel_cap = cap;
    }
    fx->cancels[fx->cancel_count++] = node;
}

/* Nothing new starts: what runs may finish and count (a cancelled or timed out run cuts it), all else is cancelled. */
void engine_stop_all(struct ctx *c)
{
    struct run_state *state = c->state;
    bool cut = state->cancelling || state->timing_out;

    for (uint32_t i = 0; i < state->plan->step_count && c->rc == ERR_OK; i++) {
        struct step_state *s = &state->steps[i];
        if (step_ended((enum step_status)s->status))
            continue;
        if (s->status == STEP_RUNNING && !state->timing_out) {
            if (!s->stopping && cut)
                tell_to_stop(c, i);
            s->stopping = true;
            continue;
        }
        if (s->status == STEP_RUNNING)
            tell_to_stop(c, i);
        engine_emit_step(c, EVENT_STEP_CANCELLED, i, (struct event){.attempt = s->attempt});
    }
}

static bool is_failure(const struct step_state *s)
{
    return s->status == STEP_FAILED || s->status == STEP_TIMED_OUT || s->status == STEP_OUTCOME_UNKNOWN;
}

/* Has a step run that accepts this failure? */
static bool handled(const struct run_state *state, uint32_t node)
{
    const struct plan_step *step = &state->plan->steps[node];
    uint8_t outcome = engine_outcome_bit((enum step_status)state->steps[node].status);

    for (size_t i = 0; i < step->child_count; i++) {
        const struct plan_step *child = &state->plan->steps[step->children[i]];
        if (!state->steps[step->children[i]].ran)
            continue;
        for (size_t e = 0; e < child->edge_count; e++)
            if (child->edges[e].parent == node && (child->edges[e].outcomes & outcome) != 0)
                return true;
    }
    return false;
}

static enum event_type verdict(const struct run_state *state, uint32_t *ret_decisive)
{
    uint32_t first = NO_NODE;
    bool fails = state->failing;

    *ret_decisive = state->decisive;
    if (state->timing_out)
        return EVENT_RUN_TIMED_OUT;
    if (state->cancelling)
        return EVENT_RUN_CANCELLED;
    for (uint32_t i = 0; i < state->plan->step_count; i++) {
        if (!is_failure(&state->steps[i]) || handled(state, i))
            continue;
        if (!state->plan->steps[i].continue_on_failure)
            fails = true;
        if (first == NO_NODE || state->steps[i].ended_seq < state->steps[first].ended_seq)
            first = i;
    }
    if (*ret_decisive == NO_NODE)
        *ret_decisive = first;
    if (fails)
        return EVENT_RUN_FAILED;
    return first == NO_NODE ? EVENT_RUN_SUCCEEDED : EVENT_RUN_PARTIALLY_COMPLETED;
}

static void end_run(struct ctx *c, enum event_type type, uint32_t decisive, struct event event)
{
    uint32_t timeout_seq = c->state->timeout_seq;
    const struct run_state *state = c->state;

    event.type = type;
    if (decisive != NO_NODE && event.code.ptr == NULL) {
        const struct step_error *error = state->steps[decisive].error;
        event.step = state->plan->steps[decisive].name;
        if (error != NULL) {
            event.code = str_arena(c->fx->arena, str_of(error->code));
            event.message = str_arena(c->fx->arena, str_of(error->message));
        }
    }
    engine_emit(c, event);
    c->fx->status_changed = true;
    if (timeout_seq == 0 || c->rc != ERR_OK)
        return;
    engine_close_seq(c, timeout_seq);
}

void engine_finish_if_at_rest(struct ctx *c)
{
    struct run_state *state = c->state;
    enum event_type type;
    uint32_t decisive;

    if (state->status != RUN_ACTIVE || state->ended_steps < state->plan->step_count || state->output_asked)
        return;
    type = verdict(state, &decisive);
    if (type == EVENT_RUN_SUCCEEDED || type == EVENT_RUN_PARTIALLY_COMPLETED) {
        struct event event = {0};
        if (state->plan->has_output && !state->plan->output.constant) {
            state->output_asked = true;
            engine_ask(c, NO_NODE, EVAL_OUTPUT, 0, &state->plan->output);
            return;
        }
        if (state->plan->has_output)
            event.output = state->plan->output.literal;
        end_run(c, type, decisive, event);
        return;
    }
    end_run(c, type, decisive, (struct event){0});
}

void engine_output_value(struct ctx *c)
{
    uint32_t decisive;
    enum event_type type = verdict(c->state, &decisive);

    c->state->output_asked = false;
    if (c->input->failed) {
        end_run(c, EVENT_RUN_FAILED, NO_NODE,
                engine_failure(
                    "expression_failed", "permanent",
                    str_of(arena_printf(c->fx->arena, "the run's output: " STR_FMT, STR_ARG(c->input->message)))));
        return;
    }
    end_run(c, type, decisive, (struct event){.output = c->input->value});
}
