/* The fold of loops: how an iteration ends, and how what did not end well is gone on with. */
#include "common/base/banned.h"
#include "common/engine/engine_internal.h"

const struct step_state *item_output_source(const struct run_state *state, const struct frame *frame)
{
    const struct plan_step *loop = run_plan_step(state, frame->owner);

    return loop->item_output_of == NO_NODE
               ? NULL
               : run_step(state, frame->base + (loop->item_output_of - state->plan->scopes[loop->body].first));
}

void loop_item_runs(struct step_extra *extra, uint32_t index)
{
    extra->items[index].status = STEP_RUNNING;
    extra->live++;
    if (extra->next <= index)
        extra->next = index + 1;
    while (extra->next < extra->count && extra->items[extra->next].status != STEP_PENDING)
        extra->next++;
}

void loop_again(struct step_state *loop)
{
    struct step_extra *extra = loop->extra;

    extra->next = extra->count;
    for (uint32_t i = extra->count; i > 0; i--) {
        struct loop_item *item = &extra->items[i - 1];

        if (item->status == STEP_SUCCEEDED && !item->partial)
            continue;
        if (item->status != STEP_PENDING)
            extra->ended[item->status]--;
        extra->output_bytes -= item->output_bytes;
        item->output_seq = item->output_bytes = 0;
        item->status = STEP_PENDING;
        item->partial = false;
        extra->next = i - 1;
    }
    extra->first_failed = NO_NODE;
    extra->stopping = false;
    mem_free(extra->item_error);
    extra->item_error = NULL;
    loop->partial = false;
}

/* One that did not end well is gone on with: what is done once more in it is told step by step. */
static enum err_code item_continued(struct run_state *state, const struct place *place, const struct event *event,
                                    struct err *err)
{
    struct step_state *loop = run_step(state, place->loop);

    if (run_ended((enum run_status)state->status) || loop->open_kind != WORK_ITEMS ||
        loop->extra->items[place->index].status != STEP_PENDING)
        return fold_refuse(event, "the iteration is not to be gone on with", err);
    loop_item_runs(loop->extra, place->index);
    place->frame->failing = place->frame->stopped = false;
    place->frame->decisive = NO_NODE;
    return ERR_OK;
}

/* The end of an iteration, or that it is gone on with. */
enum err_code fold_item(struct run_state *state, const struct place *place, const struct event *event, struct err *err)
{
    struct step_state *loop = run_step(state, place->loop);
    const struct plan_step *step = &state->plan->steps[loop->step];
    struct step_extra *extra = loop->extra;
    struct loop_item *item = &extra->items[place->index];
    enum step_status status = STEP_CANCELLED;
    const struct step_state *source; /* of an output that is not copied */

    if (event->type == EVENT_STEP_CONTINUED)
        return item_continued(state, place, event, err);
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
    item->partial = status == STEP_SUCCEEDED && event->code.ptr != NULL;
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
