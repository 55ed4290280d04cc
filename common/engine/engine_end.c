/* Stopping a run, and its end: decided when it is at rest, that is when every step has an outcome. */
#include "common/base/banned.h"
#include "common/engine/engine_internal.h"

bool engine_stopping(const struct run_state *state)
{
    return state->failing || state->cancelling || state->timing_out;
}

void engine_tell_to_stop(struct ctx *c, uint32_t node)
{
    GROW(c, c->fx->cancels, c->fx->cancel_count, c->fx->cancel_cap);
    c->fx->cancels[c->fx->cancel_count++] = node;
}

/* Nothing new starts: what runs may finish and count (a cancelled run asks it to stop, a run that has timed out does
 * not wait for it), all else is cancelled. That includes what still waits for a step that runs, so once done there is
 * nothing left to do: only the command and the timer come here again, and they are what tells workers to stop. */
void engine_stop_all(struct ctx *c)
{
    struct run_state *state = c->state;
    bool cut = state->cancelling || state->timing_out;

    for (uint32_t i = 0; i < state->plan->step_count && c->rc == ERR_OK; i++) {
        const struct step_state *s = &state->steps[i];
        if (step_ended((enum step_status)s->status))
            continue;
        if (s->status == STEP_RUNNING && cut)
            engine_tell_to_stop(c, i);
        if (s->status != STEP_RUNNING || state->timing_out)
            engine_emit_step(c, EVENT_STEP_CANCELLED, i, (struct event){.attempt = s->attempt});
    }
    state->stopped = true;
}

/* After a failure: the first that is decisive stops what has not begun. */
void engine_stop_when_failing(struct ctx *c)
{
    if (c->rc == ERR_OK && c->state->failing && !c->state->stopped)
        engine_stop_all(c);
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

/* How the run ends, and the failure that explains it: the one that stopped it, else the first unhandled failure of
 * those that count as the end says. */
static enum event_type verdict(const struct run_state *state, uint32_t *ret_decisive)
{
    uint32_t first_failed = NO_NODE, first_continued = NO_NODE;

    *ret_decisive = state->decisive;
    if (state->timing_out)
        return EVENT_RUN_TIMED_OUT;
    if (state->cancelling)
        return EVENT_RUN_CANCELLED;
    for (uint32_t i = 0; i < state->plan->step_count; i++) {
        uint32_t *first = state->plan->steps[i].continue_on_failure ? &first_continued : &first_failed;
        if (!is_failure(&state->steps[i]) || handled(state, i))
            continue;
        if (*first == NO_NODE || state->steps[i].ended_seq < state->steps[*first].ended_seq)
            *first = i;
    }
    if (state->failing)
        return EVENT_RUN_FAILED;
    *ret_decisive = first_failed != NO_NODE ? first_failed : first_continued;
    if (first_failed != NO_NODE)
        return EVENT_RUN_FAILED;
    return first_continued == NO_NODE ? EVENT_RUN_SUCCEEDED : EVENT_RUN_PARTIALLY_COMPLETED;
}

static void end_run(struct ctx *c, enum event_type type, uint32_t decisive, struct event event)
{
    uint32_t timeout_seq = c->state->timeout_seq;
    const struct run_state *state = c->state;

    event.type = type;
    if (type == EVENT_RUN_TIMED_OUT) {
        event.code = STR("timeout");
        event.message = STR("the run's timeout has passed");
    } else if (decisive != NO_NODE && event.code.ptr == NULL) {
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

    bool begun = state->status == RUN_ACTIVE || (state->status == RUN_PENDING && state->cancelling);

    if (!begun || state->ended_steps < state->plan->step_count || state->output_asked)
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
    if (type != EVENT_RUN_SUCCEEDED && type != EVENT_RUN_PARTIALLY_COMPLETED) {
        end_run(c, type, decisive, (struct event){0}); /* stopped while it was evaluated */
        return;
    }
    if (c->input->failed) {
        end_run(c, EVENT_RUN_FAILED, NO_NODE,
                engine_failure(
                    "expression_failed", "permanent",
                    str_of(arena_printf(c->fx->arena, "the run's output: " STR_FMT, STR_ARG(c->input->message)))));
        return;
    }
    end_run(c, type, decisive, (struct event){.output = c->input->value});
}
