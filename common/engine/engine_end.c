/* Stopping, and the end of a run: decided when it is at rest, that is when every step has an outcome. */
#include "common/base/banned.h"
#include "common/engine/engine_internal.h"

bool engine_stopping(const struct run_state *state, const struct frame *frame)
{
    for (;;) {
        const struct step_state *owner;

        if (state->plan->scopes[frame->scope].role != ROLE_STEP)
            return false;
        if (frame->failing)
            return true;
        if (frame == state->root)
            return state->cancelling || state->timing_out;
        owner = run_step(state, frame->owner);
        if (owner->extra->stopping)
            return true;
        frame = owner->frame;
    }
}

void engine_tell_to_stop(struct ctx *c, uint32_t node)
{
    GROW(c, c->fx->cancels, c->fx->cancel_count, c->fx->cancel_cap);
    c->fx->cancels[c->fx->cancel_count++] = node;
}

void engine_never_settled(struct ctx *c, uint32_t node)
{
    engine_step_failed(
        c, node, EVENT_STEP_OUTCOME_UNKNOWN,
        engine_failure("not_settled", "permanent", STR("nobody settled it before all else was stopped")));
}

static void stop_step(struct ctx *c, uint32_t node)
{
    struct run_state *state = c->state;
    struct step_state *s = run_step(state, node);

    if (s->status == STEP_RUNNING) {
        if (state->cancelling || state->timing_out)
            engine_tell_to_stop(c, node);
        if (!state->timing_out)
            return; /* it may finish, and counts */
    } else if (s->open_kind == WORK_ITEMS && !state->timing_out) {
        struct step_extra *extra = s->extra;

        for (uint32_t i = 0; i < extra->next && extra->live > 0; i++)
            if (extra->items[i].status == STEP_RUNNING)
                engine_stop_frame(c, extra->items[i].frame);
        if (extra->live > 0 || step_ended((enum step_status)s->status))
            return; /* ends with what still runs in it */
    } else if (s->open_kind == WORK_ITEMS) {
        engine_cut_loop(c, node);
    } else if (s->open_kind == WORK_CHILD) {
        engine_child_stop(c, node);
        if (!state->timing_out)
            return; /* its end is the step's */
    } else if (s->open_kind == WORK_UNKNOWN) {
        engine_never_settled(c, node);
        return;
    }
    engine_emit_step(c, EVENT_STEP_CANCELLED, node, (struct event){.attempt = s->attempt});
    engine_children_ready(c, node);
}

/* Nothing new starts: what runs may finish and count (a cancelled run asks it to stop, a run that has timed out does
 * not wait for it), all else is cancelled. That includes what still waits for a step that runs, so once done there is
 * nothing left to do: only the command and the timer come here again, and they are what tells workers to stop. */
void engine_stop_frame(struct ctx *c, struct frame *frame)
{
    uint32_t count = c->state->plan->scopes[frame->scope].count;

    frame->stopped = true;
    for (uint32_t i = 0; i < count && c->rc == ERR_OK; i++)
        if (!step_ended((enum step_status)run_step(c->state, frame->base + i)->status))
            stop_step(c, frame->base + i);
}

/* After a failure: the first that is decisive stops what has not begun. */
void engine_stop_when_failing(struct ctx *c, struct frame *frame)
{
    if (c->rc == ERR_OK && frame->failing && !frame->stopped)
        engine_stop_frame(c, frame);
}

/* What was cancelled counts too when nothing is being stopped any more: the run was opened again without it. */
static bool is_failure(const struct run_state *state, const struct frame *frame, const struct step_state *s)
{
    return s->status == STEP_FAILED || s->status == STEP_TIMED_OUT || s->status == STEP_OUTCOME_UNKNOWN ||
           (s->status == STEP_CANCELLED && !engine_stopping(state, frame));
}

bool engine_handled(const struct run_state *state, const struct frame *frame, uint32_t node)
{
    const struct step_state *s = run_step(state, node);
    const struct plan_step *step = &state->plan->steps[s->step];
    uint32_t first = state->plan->scopes[frame->scope].first;
    uint8_t outcome = engine_outcome_bit((enum step_status)s->status);

    for (size_t i = 0; i < step->child_count; i++) {
        const struct plan_step *child = &state->plan->steps[step->children[i]];
        if (!run_step(state, frame->base + (step->children[i] - first))->ran)
            continue;
        for (size_t e = 0; e < child->edge_count; e++)
            if (child->edges[e].parent == s->step && (child->edges[e].outcomes & outcome) != 0)
                return true;
    }
    return false;
}

struct frame_verdict engine_verdict(const struct run_state *state, const struct frame *frame)
{
    uint32_t first_failed = NO_NODE, first_continued = NO_NODE;

    for (uint32_t i = 0; i < state->plan->scopes[frame->scope].count; i++) {
        const struct step_state *s = run_step(state, frame->base + i);
        uint32_t *first = &first_failed;

        if (!s->partial && (!is_failure(state, frame, s) || engine_handled(state, frame, frame->base + i)))
            continue;
        if (s->partial || state->plan->steps[s->step].continue_on_failure)
            first = &first_continued;
        if (*first == NO_NODE || s->ended_seq < run_step(state, *first)->ended_seq)
            *first = frame->base + i;
    }
    if (frame->failing)
        return (struct frame_verdict){VERDICT_FAILED, frame->decisive};
    if (first_failed != NO_NODE)
        return (struct frame_verdict){VERDICT_FAILED, first_failed};
    if (first_continued != NO_NODE)
        return (struct frame_verdict){VERDICT_PARTIAL, first_continued};
    return (struct frame_verdict){VERDICT_SUCCEEDED, NO_NODE};
}

/* How the run ends, and the failure that explains it: the one that stopped it, else the first unhandled failure of
 * those that count as the end says. */
static enum event_type verdict(const struct run_state *state, uint32_t *ret_decisive)
{
    struct frame_verdict all = engine_verdict(state, state->root);

    *ret_decisive = all.decisive;
    if (state->timing_out || state->cancelling) {
        *ret_decisive = state->started ? state->root->decisive : NO_NODE; /* what it was given did not stop it */
        return state->timing_out ? EVENT_RUN_TIMED_OUT : EVENT_RUN_CANCELLED;
    }
    if (all.kind == VERDICT_FAILED)
        return EVENT_RUN_FAILED;
    return all.kind == VERDICT_PARTIAL ? EVENT_RUN_PARTIALLY_COMPLETED : EVENT_RUN_SUCCEEDED;
}

static void explain_end(struct ctx *c, enum event_type type, uint32_t decisive, struct event *event)
{
    const struct run_state *state = c->state;

    if (type == EVENT_RUN_TIMED_OUT) {
        event->code = STR("timeout");
        event->message = STR("the run's timeout has passed");
    } else if (decisive == NO_NODE && state->run_error != NULL) {
        event->code = str_arena(c->fx->arena, str_of(state->run_error->code));
        event->message = str_arena(c->fx->arena, str_of(state->run_error->message));
    } else if (decisive != NO_NODE && event->code.ptr == NULL) {
        const struct step_error *error = run_step(state, decisive)->error;
        event->step = engine_path(c->fx->arena, state, decisive);
        event->code = error == NULL ? STR("cancelled") : str_arena(c->fx->arena, str_of(error->code));
        event->message = error == NULL ? STR("it was cancelled, and cannot be begun again")
                                       : str_arena(c->fx->arena, str_of(error->message));
    }
}

static void end_run(struct ctx *c, enum event_type type, struct event event)
{
    const uint32_t rows[] = {c->state->timeout_seq, c->state->admission_seq};
    struct admission before[ADMISSION_SCOPES];

    memcpy(before, c->state->admissions, sizeof(before));
    event.type = type;
    engine_emit(c, event);
    c->fx->status_changed = true;
    for (size_t i = 0; i < 2 && c->rc == ERR_OK; i++)
        if (rows[i] != 0)
            engine_close_seq(c, rows[i]);
    engine_release(c, before);
}

void engine_end_refused(struct ctx *c, struct str message)
{
    for (uint32_t i = 0; i < c->state->plan->root_count; i++)
        if (!step_ended((enum step_status)run_step(c->state, i)->status))
            engine_emit_step(c, EVENT_STEP_CANCELLED, i, (struct event){0});
    end_run(c, EVENT_RUN_FAILED, engine_failure("invalid_input", "permanent", message));
}

/* The notification; NULL: there is none, or it has not begun, or is to be sent once more. */
static const struct frame *notification(const struct run_state *state)
{
    const struct frame *frame =
        state->plan->notify == NO_NODE ? NULL : run_find_action(state, state->plan->notify, NO_NODE);
    const struct step_state *s = frame == NULL ? NULL : run_step(state, frame->base);

    return s == NULL || (s->status == STEP_PENDING && s->asked == 0) ? NULL : frame;
}

static bool being_told(const struct run_state *state)
{
    const struct frame *frame = notification(state);

    return frame != NULL && frame->ended == 0;
}

/* Has the person been told who wants to know, or is there nobody? Begins to, when not: what is told may say how the run
 * will end. */
static bool notified(struct ctx *c, enum event_type type, const struct event *event)
{
    const struct plan *plan = c->state->plan;
    struct event *ending;
    struct frame *frame;

    if (plan->notify == NO_NODE || type == EVENT_RUN_SUCCEEDED || type == EVENT_RUN_CANCELLED ||
        type == EVENT_RUN_COMPENSATED || notification(c->state) != NULL)
        return !being_told(c->state);
    ending = arena_alloc(c->fx->arena, sizeof(*ending));
    *ending = *event;
    ending->type = type;
    c->state->ending = ending;
    frame = run_find_action(c->state, plan->notify, NO_NODE);
    if (frame == NULL)
        frame = frame_new(c->state, plan->steps[plan->notify].scope, NO_NODE, 0);
    engine_begin(c, frame->base);
    return frame->ended == 1;
}

/* Undoes what is to be undone, one after another. *type becomes how the run ends once nothing is left. False: an action
 * is under way. */
static bool undone(struct ctx *c, enum event_type *type, struct event *event)
{
    struct run_state *state = c->state;
    bool wanted = *type == EVENT_RUN_FAILED || *type == EVENT_RUN_TIMED_OUT ||
                  (*type == EVENT_RUN_CANCELLED && state->compensate_wanted);
    bool unexplained = *type == EVENT_RUN_FAILED && event->step.ptr == NULL;
    bool clean;

    if (!state->compensating) {
        if (!wanted || !engine_has_to_undo(state, false))
            return true;
        if (engine_waits_for_slot(state)) /* to undo it does, too */
            return false;
        engine_emit(c, (struct event){.type = EVENT_RUN_COMPENSATING,
                                      .code = str_of(event_type_name(*type) + sizeof("run.") - 1),
                                      .message = unexplained ? event->message : STR_NONE});
    }
    if (c->rc != ERR_OK || engine_waits_for_slot(state) || engine_undo_next(c))
        return false;
    event->detail = engine_undo_report(c, &clean);
    *type = clean ? EVENT_RUN_COMPENSATED : EVENT_RUN_COMPENSATION_FAILED;
    return true;
}

static void finish(struct ctx *c)
{
    struct run_state *state = c->state;
    struct event event = {0};
    uint32_t decisive;
    enum event_type type;

    if (being_told(state))
        return; /* else the output would be asked for again and again meanwhile */
    type = verdict(state, &decisive);
    explain_end(c, type, decisive, &event);
    if (!undone(c, &type, &event) || c->rc != ERR_OK)
        return;
    if (type == EVENT_RUN_SUCCEEDED || type == EVENT_RUN_PARTIALLY_COMPLETED) {
        if (state->plan->has_output && !state->plan->output.constant) {
            state->output_asked = true;
            engine_ask(c, NO_NODE, EVAL_OUTPUT, 0, &state->plan->output);
            return;
        }
        if (state->plan->has_output)
            event.output = state->plan->output.literal;
    }
    if (notified(c, type, &event) && c->rc == ERR_OK)
        end_run(c, type, event);
}

void engine_finish_if_at_rest(struct ctx *c)
{
    struct run_state *state = c->state;
    bool begun = state->status == RUN_ACTIVE || (state->status == RUN_PENDING && state->cancelling);

    if (engine_waits_for_slot(state) && !state->cancelling && !state->compensating)
        return;

    if (begun && state->root->ended == state->plan->root_count && !state->output_asked && !state->evaluating)
        finish(c);
}

void engine_output_value(struct ctx *c)
{
    struct run_state *state = c->state;
    struct event event = {0};
    uint32_t decisive;
    enum event_type type = verdict(state, &decisive);

    state->output_asked = false;
    if (engine_held(state))
        return; /* asked for again when the run is resumed */
    if (type != EVENT_RUN_SUCCEEDED && type != EVENT_RUN_PARTIALLY_COMPLETED)
        return; /* stopped while it was evaluated: at rest all the same */
    explain_end(c, type, decisive, &event);
    event.output = c->input->value;
    if (c->input->failed) {
        type = EVENT_RUN_FAILED;
        event = engine_failure(
            "expression_failed", "permanent",
            str_of(arena_printf(c->fx->arena, "the run's output: " STR_FMT, STR_ARG(c->input->message))));
        if (!undone(c, &type, &event) || c->rc != ERR_OK)
            return;
    }
    if (notified(c, type, &event) && c->rc == ERR_OK)
        end_run(c, type, event);
}
