/* Pausing: until the run is resumed nothing new begins. No step is decided, no attempt dispatched, no iteration begun,
 * and the run does not end. What runs goes on and counts, what comes is recorded, and deadlines and the run's timeout
 * go on counting. The pause is history, so that whoever takes the run over keeps to it. */
#include "common/base/banned.h"
#include "common/engine/engine_internal.h"

/* Why the run cannot be paused, with a code; NULL when it can. */
static const char *cannot_pause(const struct ctx *c, struct str *ret_why)
{
    const struct run_state *state = c->state;

    if (run_ended((enum run_status)state->status)) {
        *ret_why = str_of(
            arena_printf(c->fx->arena, "the run has ended '%s'", run_status_name((enum run_status)state->status)));
        return "run_ended";
    }
    if (state->compensating) {
        *ret_why = STR("what the run has done is being undone");
        return "compensating";
    }
    if (state->cancelling || state->timing_out || (state->started && state->root->failing)) {
        *ret_why = state->cancelling   ? STR("the run is being cancelled")
                   : state->timing_out ? STR("the run's timeout has passed, and it is about to end")
                                       : STR("a step of the run has failed, and nothing new starts in it");
        return "run_stopping";
    }
    if (state->started && state->root->ended == state->plan->root_count && !engine_held(state)) {
        *ret_why = STR("all steps of the run have ended, and it is about to end");
        return "run_ended";
    }
    return NULL;
}

/* Child runs that a step waits for go with their parent. */
static void tell_children(struct ctx *c, bool resume)
{
    struct run_state *state = c->state;

    for (const struct frame *frame = state->frames; frame != NULL; frame = frame->next) {
        for (uint32_t i = 0; frame->used && i < state->plan->scopes[frame->scope].count; i++) {
            const struct step_state *s = run_step(state, frame->base + i);

            if (s->open_kind != WORK_CHILD)
                continue;
            GROW(c, c->fx->child_pauses, c->fx->child_pause_count, c->fx->child_pause_cap);
            c->fx->child_pauses[c->fx->child_pause_count++] =
                (struct effect_child_pause){.child = s->extra->child, .by = c->input->by, .resume = resume};
        }
    }
}

static void change(struct ctx *c, enum event_type type)
{
    const struct engine_input *in = c->input;

    engine_emit(
        c, (struct event){
               .type = type, .command = in->command, .by = in->by, .code = in->of_parent ? STR("parent") : STR_NONE});
    c->fx->status_changed = true;
    tell_children(c, type == EVENT_RUN_RESUMED);
}

void engine_pause(struct ctx *c)
{
    struct str why = STR_NONE;
    const char *code;

    if (c->state->status == RUN_PAUSED) {
        engine_apply_command(c, "pause"); /* what was asked for already holds */
        return;
    }
    code = cannot_pause(c, &why);
    if (code != NULL) {
        engine_refuse(c, code, why);
        return;
    }
    engine_apply_command(c, "pause");
    change(c, EVENT_RUN_PAUSED);
}

/* Decides all that was held back. What is due has timers of its own, which whoever has the run hears now. */
static void go_on(struct ctx *c)
{
    struct run_state *state = c->state;

    for (uint32_t i = 0; state->started && i < state->plan->root_count; i++)
        if (engine_is_ready(state, i))
            engine_ready(c, i);
    for (const struct frame *frame = state->frames; frame != NULL; frame = frame->next)
        for (uint32_t i = 0; frame->used && i < state->plan->scopes[frame->scope].count; i++)
            if (run_step(state, frame->base + i)->open_kind == WORK_ITEMS)
                engine_fill(c, frame->base + i);
}

void engine_resume(struct ctx *c)
{
    const struct run_state *state = c->state;

    if (run_ended((enum run_status)state->status)) {
        engine_refuse(c, "run_ended",
                      str_of(arena_printf(c->fx->arena, "the run has ended '%s'",
                                          run_status_name((enum run_status)state->status))));
        return;
    }
    engine_apply_command(c, "resume");
    /* it is not held, or by somebody who asked for this run alone: its parent's resumption is not about that */
    if (state->status != RUN_PAUSED || (c->input->of_parent && !state->paused_by_parent))
        return;
    change(c, EVENT_RUN_RESUMED);
    if (c->rc == ERR_OK)
        go_on(c);
}

struct wall_us engine_timer_at(const struct run_state *state, uint32_t seq)
{
    const struct wall_us never = {0};
    const struct step_state *s;
    uint32_t node;

    if (seq != 0 && seq == state->timeout_seq)
        return state->timeout_at;
    node = engine_find_row(state, seq);
    if (node == NO_NODE)
        return never;
    s = run_step(state, node);
    if (!engine_held(state))
        return s->due_at;
    switch ((enum work_kind)s->open_kind) {
    case WORK_BACKOFF:
    case WORK_ITEMS:
    case WORK_TASK:
        return s->deadline;
    case WORK_DELAY:
        return s->deadline.us != 0 && s->due_at.us >= s->deadline.us ? s->deadline : never;
    case WORK_RUN_TIMEOUT:
    case WORK_UNKNOWN:
    case WORK_SIGNAL:
    case WORK_EVENT:
    case WORK_CHILD:
    case WORK_ADMISSION:
        break;
    }
    return s->due_at;
}
