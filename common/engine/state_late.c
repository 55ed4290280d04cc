/* The fold of what comes late: the list of steps that may have to be undone, words of attempts that were given up, and
 * what a person settles. */
#include "common/base/banned.h"
#include "common/engine/engine_internal.h"

/* Is it of those that a compensation may be for? What has not begun has had no effect. */
void undo_note(struct run_state *state, uint32_t node)
{
    const struct step_state *s = run_step(state, node);

    if (s->status == STEP_SKIPPED || (s->status != STEP_SUCCEEDED && s->attempt == 0 && s->extra == NULL))
        return;
    if (state->undo_count == state->undo_cap) {
        state->undo_cap = state->undo_cap == 0 ? 4 : 2 * state->undo_cap;
        state->undos = mem_grow(state->undos, state->undo_cap, sizeof(*state->undos));
    }
    state->undos[state->undo_count++] =
        (struct undo){.node = node,
                      .status = s->status,
                      .doubtful = s->status == STEP_OUTCOME_UNKNOWN || (s->status != STEP_SUCCEEDED && s->doubtful)};
}

struct undo *undo_find(struct run_state *state, uint32_t node)
{
    if (state->undo_at > 0 && state->undos[state->undo_at - 1].node == node) /* that which is being undone */
        return &state->undos[state->undo_at - 1];
    for (uint32_t i = state->undo_count; i > 0; i--)
        if (state->undos[i - 1].node == node)
            return &state->undos[i - 1];
    return NULL;
}

/* What did not go last time is tried once more. */
void undo_again(struct run_state *state)
{
    state->undo_at = state->undo_count;
    for (uint32_t i = 0; i < state->undo_count; i++) {
        struct undo *undo = &state->undos[i];
        uint32_t action = run_plan_step(state, undo->node)->compensate;

        if (undo->undone == STEP_PENDING || undo->undone == STEP_SUCCEEDED)
            continue;
        undo->undone = STEP_PENDING;
        undo->again = true;
        step_restart(state, run_step(state, run_find_action(state, action, undo->node)->base));
    }
}

/* What undoes a step may want to read what it gave. To all else it has failed, and gave nothing. */
static void show_late_output(struct run_state *state, const struct undo *undo)
{
    struct step_state *s = run_step(state, undo->node);

    if (undo->late_seq == 0)
        return;
    s->output_seq = undo->late_seq;
    s->output_bytes = undo->late_bytes;
}

void undo_show_late_outputs(struct run_state *state)
{
    for (uint32_t i = 0; i < state->undo_count; i++)
        show_late_output(state, &state->undos[i]);
}

/* One word of each attempt is kept. */
static void note_heard(struct step_state *s, uint32_t attempt)
{
    if (attempt <= s->attempt && s->attempt - attempt < 64)
        s->unheard &= ~(UINT64_C(1) << (s->attempt - attempt));
}

/* A word that came too late still says what there is to undo. */
void fold_late(struct run_state *state, uint32_t node, const struct event *event)
{
    struct step_state *s = run_step(state, node);
    struct undo *undo = undo_find(state, node);

    note_heard(s, event->attempt);
    if (event->http_status == 0) /* it succeeded, or does not know: under another key it might be done twice */
        s->doubtful = true;
    else if (event->attempt == s->attempt)
        s->doubtful = false;
    if (undo == NULL || undo->status == STEP_SUCCEEDED)
        return;
    if (str_is(event->code, "succeeded")) {
        undo->status = STEP_SUCCEEDED;
        state->undo_at = state->undo_count;
        undo->late_seq = event->output_bytes > 0 ? event->seq : 0;
        undo->late_bytes = event->output_bytes;
        if (state->compensating)
            show_late_output(state, undo);
    } else if (event->attempt == s->attempt && event->http_status != 0)
        undo->doubtful = false;
}

/* May it be begun once more, after the run has been opened again? Not what has begun things of its own, and not what
 * may already have been sent the one time that it may be. */
static bool may_restart(const struct run_state *state, const struct step_state *s)
{
    const struct plan_step *step = &state->plan->steps[s->step];

    return s->status == STEP_CANCELLED && step->body == NO_NODE && step->kind != CALL_WORKFLOW &&
           (!step->at_most_once || s->began_dispatch == 0);
}

static void undo_drop(struct run_state *state, uint32_t node)
{
    struct undo *undo = undo_find(state, node);

    if (undo == NULL)
        return;
    state->undo_count--;
    state->undo_at = 0;
    memmove(undo, undo + 1, (state->undo_count - (size_t)(undo - state->undos)) * sizeof(*undo));
}

/* Steps that were not begun because of what is settled now get another chance: those that were cancelled, and those
 * below it that were skipped. */
static void revive(struct run_state *state, uint32_t settled)
{
    const struct plan_scope *scope = &state->plan->scopes[0];
    struct frame *root = state->root;

    for (uint32_t i = 0; i < scope->count; i++) {
        const struct plan_step *step = &state->plan->steps[scope->topological[i]];
        struct step_state *s = run_step(state, scope->topological[i]);
        bool below = false;

        for (size_t e = 0; e < step->edge_count; e++)
            below = below || step->edges[e].parent == settled ||
                    run_step(state, step->edges[e].parent)->status == STEP_PENDING;
        if (!may_restart(state, s) && (s->status != STEP_SKIPPED || !below))
            continue;
        undo_drop(state, scope->topological[i]);
        step_restart(state, s);
    }
    root->failing = false;
    root->stopped = false;
    root->decisive = NO_NODE;
    for (uint32_t i = 0; i < scope->count; i++) {
        const struct plan_step *step = &state->plan->steps[i];
        struct step_state *s = run_step(state, i);

        s->waiting_for = 0;
        for (size_t e = 0; e < step->edge_count; e++)
            if (!step_ended((enum step_status)run_step(state, step->edges[e].parent)->status))
                s->waiting_for++;
        if (step_is_failure((enum step_status)s->status))
            fold_failure(state, i);
    }
}

/* The run's own, or those of an iteration that is gone on with. */
static bool goes_on(const struct run_state *state, const struct frame *frame)
{
    if (frame == state->root)
        return true;
    return state->plan->scopes[frame->scope].role == ROLE_STEP &&
           run_step(state, frame->owner)->extra->items[frame->index].status == STEP_RUNNING;
}

/* An operator retries it. */
enum err_code fold_step_reopened(struct run_state *state, uint32_t node, const struct event *event, struct err *err)
{
    struct step_state *s = run_step(state, node);
    const struct plan_step *step = &state->plan->steps[s->step];
    uint32_t first = state->plan->scopes[s->frame->scope].first;

    if (s->open_kind == WORK_CHILD && !run_ended((enum run_status)state->status)) {
        work_closed(state, node); /* the child that it waits for cannot be retried: it begins another */
        s->status = STEP_PENDING;
        s->extra->had_child = false;
        return ERR_OK;
    }
    if (!step_ended((enum step_status)s->status) || (s->status == STEP_SUCCEEDED && !s->partial) ||
        !goes_on(state, s->frame))
        return fold_refuse(event, "there is nothing to do once more", err);
    if (state->status != RUN_ACTIVE)
        return fold_refuse(event, "the run has ended, or has not started", err);
    undo_drop(state, node);
    step_restart(state, s);
    step_use_generation(s, event->generation);
    s->output_seq = 0;
    s->output_bytes = 0;
    for (size_t i = 0; i < step->child_count; i++)
        run_step(state, s->frame->base + (step->children[i] - first))->waiting_for++;
    return ERR_OK;
}

enum err_code fold_settled(struct run_state *state, uint32_t node, const struct event *event, struct err *err)
{
    struct step_state *s = run_step(state, node);
    enum step_status status = str_is(event->as, "succeeded") ? STEP_SUCCEEDED : STEP_FAILED;
    struct undo *undo;

    if (s->open_kind != WORK_UNKNOWN && (s->status != STEP_OUTCOME_UNKNOWN || s->frame != state->root))
        return fold_refuse(event, "there is nothing to settle", err);
    if (run_ended((enum run_status)state->status))
        return fold_refuse(event, "the run has ended", err);
    s->output_seq = event->output_bytes > 0 ? event->seq : 0;
    s->output_bytes = event->output_bytes;
    if (event->attempt != 0) /* by the worker's own word, not a person's */
        note_heard(s, event->attempt);
    if (s->open_kind == WORK_UNKNOWN) {
        s->doubtful = false;
        fold_outcome(state, node, event, status);
        return ERR_OK;
    }
    undo = undo_find(state, node);
    if (undo != NULL) { /* it is the newest now */
        struct undo known = *undo;

        known.status = (uint8_t)status;
        known.doubtful = false;
        undo_drop(state, node);
        state->undos[state->undo_count++] = known;
    }
    s->status = (uint8_t)status;
    s->ended_seq = event->seq;
    s->doubtful = false;
    if (status == STEP_FAILED)
        fold_error(&s->error, event);
    if (state->timeout_seq != 0 ||
        state->timeout_waits) /* else it is only known better: what was done has been undone, or was not wanted */
        revive(state, node);
    else if (status == STEP_SUCCEEDED && state->root->decisive == node)
        state->root->decisive = NO_NODE;
    return ERR_OK;
}
