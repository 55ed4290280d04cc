/* The fold of loops: how an iteration ends. */
#include "common/base/banned.h"
#include "common/engine/engine_internal.h"

const struct step_state *item_output_source(const struct run_state *state, const struct frame *frame)
{
    const struct plan_step *loop = run_plan_step(state, frame->owner);

    return loop->item_output_of == NO_NODE
               ? NULL
               : run_step(state, frame->base + (loop->item_output_of - state->plan->scopes[loop->body].first));
}

/* The end of an iteration. */
enum err_code fold_item(struct run_state *state, const struct place *place, const struct event *event, struct err *err)
{
    struct step_state *loop = run_step(state, place->loop);
    const struct plan_step *step = &state->plan->steps[loop->step];
    struct step_extra *extra = loop->extra;
    struct loop_item *item = &extra->items[place->index];
    enum step_status status = STEP_CANCELLED;
    const struct step_state *source; /* of an output that is not copied */

    if (event->type == EVENT_STEP_SUCCEEDED)
        status = STEP_SUCCEEDED;
    else if (event->type == EVENT_STEP_FAILED)
        status = STEP_FAILED;
    else if (event->type != EVENT_STEP_CANCELLED)
        return fold_refuse(event, "an iteration succeeds, fails or is cancelled", err);
    if (item->status != STEP_RUNNING || place->frame->ended != state->plan->scopes[place->frame->scope].count)
        return fold_refuse(event, "the iteration is not at rest", err);
    item->output_seq = event->output_bytes > 0 ? event->seq : 0;
    item->output_bytes = event->output_bytes;
    if (event->ref != 0) {
        source = item_output_source(state, place->frame);
        if (source == NULL || source->output_seq != event->ref)
            return fold_refuse(event, "the iteration's output is another's", err);
        item->output_seq = source->output_seq;
        item->output_bytes = source->output_bytes;
    }
    item->status = (uint8_t)status;
    extra->output_bytes += item->output_bytes;
    extra->live--;
    extra->ended[status]++;
    if (event->code.ptr != NULL) { /* failed, or partial */
        loop->partial = true;
        if (extra->first_failed == NO_NODE || (status == STEP_FAILED && extra->ended[STEP_FAILED] == 1)) {
            extra->first_failed = place->index;
            fold_error(&extra->item_error, event);
        }
    }
    if (status == STEP_FAILED && !step->continue_on_item)
        extra->stopping = true;
    place->frame->asked = false;
    frame_forget(state, place->frame);
    return ERR_OK;
}
