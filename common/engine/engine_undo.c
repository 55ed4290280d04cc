/* Compensation: what has been done is undone, newest success first, one action after another. Rules: api.md
 * "Compensation"; pitfalls B15. */
#include "common/base/banned.h"
#include "common/engine/engine_internal.h"

static uint8_t wanted_outcomes(const struct run_state *state, const struct undo *undo)
{
    const struct plan_step *step = run_plan_step(state, undo->node);

    return state->plan->steps[step->compensate].compensate_on;
}

/* again: what was tried and did not go counts too. */
static bool is_candidate(const struct run_state *state, const struct undo *undo, bool again)
{
    return (engine_outcome_bit((enum step_status)undo->status) & wanted_outcomes(state, undo)) != 0 &&
           (undo->undone == STEP_PENDING || (again && undo->undone != STEP_SUCCEEDED));
}

/* It may have had its effect, and nobody undoes it. */
static bool is_undetermined(const struct run_state *state, const struct undo *undo)
{
    return undo->doubtful && (engine_outcome_bit((enum step_status)undo->status) & wanted_outcomes(state, undo)) == 0;
}

bool engine_has_to_undo(const struct run_state *state, bool again)
{
    for (uint32_t i = 0; i < state->undo_count; i++)
        if (is_candidate(state, &state->undos[i], again) || is_undetermined(state, &state->undos[i]))
            return true;
    return false;
}

/* The newest that is still to be undone; they are in the order in which they ended. */
static const struct undo *newest(struct run_state *state)
{
    while (state->undo_at > 0 && !is_candidate(state, &state->undos[state->undo_at - 1], false))
        state->undo_at--;
    return state->undo_at == 0 ? NULL : &state->undos[state->undo_at - 1];
}

/* The action of a step that has begun, or is about to: its values may still be asked for. NULL: it is the first time.
 */
static struct frame *begun(const struct run_state *state, const struct undo *undo, uint32_t action)
{
    struct frame *newest_action = state->actions;

    if (newest_action != NULL && newest_action->owner == undo->node &&
        run_step(state, newest_action->base)->step == action)
        return newest_action;
    return undo->again ? run_find_action(state, action, undo->node) : NULL;
}

bool engine_undo_next(struct ctx *c)
{
    struct run_state *state = c->state;
    const struct undo *undo;

    if (state->open_steps > 0) /* one at a time: all else has ended */
        return true;
    while (c->rc == ERR_OK && (undo = newest(state)) != NULL) {
        uint32_t owner = undo->node;
        uint32_t action = run_plan_step(state, owner)->compensate;
        struct frame *frame = begun(state, undo, action);

        if (frame == NULL)
            frame = frame_new(state, state->plan->steps[action].scope, owner, 0);
        else if (run_step(state, frame->base)->asked != 0)
            return true;
        engine_begin(c, frame->base);
        if (frame->ended == 0)
            return true;
    }
    return false;
}

static void put_paths(struct ctx *c, struct jw *w, const char *key, bool undetermined, bool *clean)
{
    const struct run_state *state = c->state;

    jw_key(w, key);
    jw_arr(w);
    for (uint32_t i = 0; i < state->undo_count; i++) {
        const struct undo *undo = &state->undos[i];
        bool stands = undo->undone != STEP_PENDING && undo->undone != STEP_SUCCEEDED;

        if (undetermined ? !is_undetermined(state, undo) : !stands)
            continue;
        jw_str(w, engine_path(c->fx->arena, state, undo->node));
        *clean = false;
    }
    jw_end_arr(w);
}

struct str engine_undo_report(struct ctx *c, bool *ret_clean)
{
    struct buf out;
    struct jw w;
    struct str report;

    *ret_clean = true;
    buf_init(&out, (size_t)8 << 20);
    w = jw_to(&out);
    jw_obj(&w);
    put_paths(c, &w, "stands", false, ret_clean);
    put_paths(c, &w, "undetermined", true, ret_clean);
    jw_end_obj(&w);
    report = *ret_clean ? STR_NONE : str_arena(c->fx->arena, buf_str(&out));
    buf_deinit(&out);
    return report;
}

void engine_compensate(struct ctx *c)
{
    struct run_state *state = c->state;

    if (state->status == RUN_COMPENSATED || state->compensating) {
        engine_apply_command(c, "compensate"); /* what was asked for already holds */
        return;
    }
    if (!run_ended((enum run_status)state->status)) {
        engine_refuse(c, "run_not_ended", STR("the run has not ended: cancel it with {\"compensate\": true}"));
        return;
    }
    if (!engine_has_to_undo(state, true)) {
        engine_refuse(c, "nothing_to_compensate", STR("no step of it has an effect that could be undone"));
        return;
    }
    engine_apply_command(c, "compensate");
    engine_emit(c, (struct event){.type = EVENT_RUN_REOPENED, .command = c->input->command, .code = STR("compensate")});
    engine_emit(c, (struct event){.type = EVENT_RUN_COMPENSATING, .code = STR("compensate")});
    c->fx->status_changed = true;
}
