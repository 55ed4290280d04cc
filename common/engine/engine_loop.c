/* Loops: iterations begin while there is room, and the loop ends when all of them have. An iteration is a small run:
 * the same rules of failure hold inside it. */
#include "common/base/banned.h"
#include "common/engine/engine_internal.h"
#include <inttypes.h>

void engine_items(struct ctx *c, uint32_t node, struct str items)
{
    struct event event = {.waits = STR("items"), .output = items};
    enum jt_type type = jt_type(items);
    size_t count = type == JT_ARRAY ? jt_count(items) : 0;

    if (type != JT_ARRAY && type != JT_NULL) {
        engine_step_failed(
            c, node, EVENT_STEP_FAILED,
            engine_failure("not_a_list", "permanent",
                           str_of(arena_printf(c->fx->arena, "'items' gave %s, not a list", jt_type_name(type)))));
        return;
    }
    if (count > (size_t)c->limits->of[LIMIT_FOREACH_ITEMS]) {
        engine_step_failed(
            c, node, EVENT_STEP_FAILED,
            engine_failure("too_many_items", "permanent",
                           str_of(arena_printf(c->fx->arena,
                                               "%zu items; a loop takes at most %" PRId64 " (limit foreach_items): "
                                               "split the list, or have the limit raised",
                                               count, c->limits->of[LIMIT_FOREACH_ITEMS]))));
        return;
    }
    if (count == 0) {
        engine_succeed(c, node, STR_NONE, STR("[]"));
        return;
    }
    event.count = (uint32_t)count;
    if (run_plan_step(c->state, node)->deadline_us != 0)
        event.due_at.us = c->now.us + run_plan_step(c->state, node)->deadline_us;
    engine_emit_step(c, EVENT_STEP_WAITING, node, event);
    if (c->rc == ERR_OK)
        engine_fill(c, node);
}

/* The list is that with which it began: what has been done was done with its items. */
void engine_items_again(struct ctx *c, uint32_t node)
{
    const struct plan_step *step = run_plan_step(c->state, node);
    struct event event = {.waits = STR("items")};

    if (step->deadline_us != 0)
        event.due_at.us = c->now.us + step->deadline_us;
    engine_emit_step(c, EVENT_STEP_CONTINUED, node, event);
    if (c->rc == ERR_OK)
        engine_fill(c, node);
}

/* What one batch may not hold any more comes with the loop's own timer, due at once: that survives a crash, and lets
 * other runs go first. */
static void set_due(struct ctx *c, uint32_t loop, struct wall_us due)
{
    struct step_state *s = run_step(c->state, loop);

    /* due now once more is said again: the timer has just been heard, and the clock may not have moved */
    if (s->due_at.us == due.us && due.us != c->now.us)
        return;
    s->due_at = due;
    engine_change_work(c, loop, due.us == s->deadline.us ? NULL : "more_items", false);
}

/* The history is full: no other item begins, and the loop ends when those that have begun are over. */
static void stop_at_limit(struct ctx *c, uint32_t loop)
{
    set_due(c, loop, run_step(c->state, loop)->deadline);
    if (run_step(c->state, loop)->extra->live == 0)
        engine_step_failed(
            c, loop, EVENT_STEP_FAILED,
            engine_failure("history_limit", "permanent", STR("the run's history is full: no other item is begun")));
}

static void continue_later(struct ctx *c, uint32_t loop)
{
    set_due(c, loop, c->now);
}

static bool batch_is_full(const struct ctx *c)
{
    return c->fx->begun >= BEGUN_PER_BATCH || c->fx->event_count >= EVENTS_PER_RUN_AND_BATCH ||
           c->fx->output_bytes >= OUTPUT_PER_RUN_AND_BATCH;
}

/* What became ready in its iterations while the run was paused; false: not all of it was for this batch. */
static bool decide_held(struct ctx *c, struct step_extra *extra)
{
    for (uint32_t i = 0; i < extra->next; i++) {
        const struct frame *frame = extra->items[i].status == STEP_RUNNING ? extra->items[i].frame : NULL;
        uint32_t count = frame == NULL ? 0 : c->state->plan->scopes[frame->scope].count;

        if (count > 0 && batch_is_full(c))
            return false;
        for (uint32_t n = 0; n < count; n++) {
            if (!engine_is_ready(c->state, frame->base + n))
                continue;
            engine_ready(c, frame->base + n);
            c->fx->begun++;
        }
    }
    extra->held = false;
    return true;
}

static void begin_item(struct ctx *c, uint32_t loop, uint32_t index)
{
    struct run_state *state = c->state;
    const struct plan_scope *scope = &state->plan->scopes[run_plan_step(state, loop)->body];
    struct frame *frame = frame_begin_item(state, loop, index);

    for (uint32_t i = 0; i < scope->count; i++)
        if (state->plan->steps[scope->first + i].edge_count == 0)
            engine_ready(c, frame->base + i);
}

/* One that did not end well goes on with what it had: only what failed in it is done once more. */
static void continue_item(struct ctx *c, uint32_t loop, uint32_t index)
{
    struct frame *frame = run_step(c->state, loop)->extra->items[index].frame;
    const struct plan_scope *scope = &c->state->plan->scopes[frame->scope];

    engine_emit(
        c, (struct event){.type = EVENT_STEP_CONTINUED, .step = engine_item_path(c->fx->arena, c->state, loop, index)});
    if (c->rc != ERR_OK)
        return;
    engine_reopen(c, frame);
    for (uint32_t i = 0; i < scope->count; i++)
        if (engine_is_ready(c->state, frame->base + i))
            engine_ready(c, frame->base + i);
    engine_rest(c, frame); /* it may have nothing to do but to end: its output could not be made */
}

void engine_fill(struct ctx *c, uint32_t loop)
{
    struct run_state *state = c->state;
    struct step_state *s = run_step(state, loop);
    const struct plan_step *step = run_plan_step(state, loop);
    const struct plan_scope *scope = &state->plan->scopes[step->body];
    struct step_extra *extra = s->extra;

    if (extra->stopping || engine_stopping(state, s->frame)) {
        set_due(c, loop, s->deadline);
        return;
    }
    if (engine_held(state))
        return;
    if (state->last_seq >= HISTORY_MAX && extra->next < extra->count) {
        stop_at_limit(c, loop);
        return;
    }
    if (extra->held && !decide_held(c, extra)) {
        continue_later(c, loop);
        return;
    }
    while (c->rc == ERR_OK && extra->live < step->concurrency && extra->next < extra->count) {
        if (batch_is_full(c)) {
            continue_later(c, loop);
            return;
        }
        c->fx->begun += 1 + (scope->count - 1) / 4; /* a large body takes the part of several */
        if (extra->items[extra->next].frame == NULL)
            begin_item(c, loop, extra->next);
        else
            continue_item(c, loop, extra->next);
    }
    set_due(c, loop, s->deadline);
}

static void end_loop(struct ctx *c, uint32_t loop)
{
    struct step_state *s = run_step(c->state, loop);
    struct step_extra *extra = s->extra;
    struct event event = {0};

    if (extra->live > 0 || step_ended((enum step_status)s->status))
        return;
    if (extra->stopping) {
        const struct step_error *error = extra->item_error;
        engine_step_failed(c, loop, EVENT_STEP_FAILED,
                           engine_failure(strcmp(error->code, "history_limit") == 0 ? "history_limit" : "item_failed",
                                          "permanent",
                                          str_of(arena_printf(c->fx->arena, "item %" PRIu32 ": %s: %s",
                                                              extra->first_failed, error->code, error->message))));
        return;
    }
    if (extra->next < extra->count || extra->ended[STEP_CANCELLED] > 0) {
        if (engine_stopping(c->state, s->frame)) {
            engine_emit_step(c, EVENT_STEP_CANCELLED, loop, event);
            engine_children_ready(c, loop);
        }
        return;
    }
    if (extra->first_failed != NO_NODE) {
        event = engine_failure(
            "items_failed", "permanent",
            str_of(arena_printf(c->fx->arena,
                                "%" PRIu32 " of %" PRIu32 " items failed; the first trouble, item %" PRIu32 ": %s: %s",
                                extra->ended[STEP_FAILED], extra->count, extra->first_failed, extra->item_error->code,
                                extra->item_error->message)));
    }
    engine_emit_step(c, EVENT_STEP_SUCCEEDED, loop, event);
    engine_children_ready(c, loop);
}

/* Emits the end of an iteration, and lets the next one begin, or the loop end. */
static void end_item(struct ctx *c, uint32_t loop, uint32_t index, enum event_type type, struct event event)
{
    struct step_extra *extra = run_step(c->state, loop)->extra;
    size_t bytes =
        event.ref == 0 ? event.output.len : item_output_source(c->state, extra->items[index].frame)->output_bytes;
    bool stopping = extra->stopping;

    if (type == EVENT_STEP_SUCCEEDED && event.ref == 0 && bytes > (size_t)c->limits->of[LIMIT_OUTPUT_BYTES]) {
        event = engine_too_large(c, bytes);
        type = EVENT_STEP_FAILED;
    } else if (type == EVENT_STEP_SUCCEEDED &&
               extra->output_bytes + bytes > (uint64_t)c->limits->of[LIMIT_LIST_BYTES]) {
        event = engine_failure(
            "output_too_large", "permanent",
            str_of(arena_printf(c->fx->arena,
                                "with this item the outputs of the loop's items have %" PRIu64
                                " bytes; at most %" PRId64 " are collected (limit list_bytes): give the loop a smaller "
                                "'output', or have the limit raised",
                                extra->output_bytes + bytes, c->limits->of[LIMIT_LIST_BYTES])));
        type = EVENT_STEP_FAILED;
    }
    event.type = type;
    event.step = engine_item_path(c->fx->arena, c->state, loop, index);
    engine_emit(c, event);
    if (c->rc != ERR_OK)
        return;
    for (uint32_t i = 0; extra->stopping && !stopping && i < extra->next; i++) /* once, at the first that failed */
        if (extra->items[i].status == STEP_RUNNING && !extra->items[i].frame->stopped)
            engine_stop_frame(c, extra->items[i].frame);
    engine_fill(c, loop);
    end_loop(c, loop);
}

static void item_failed(struct ctx *c, struct frame *frame, uint32_t decisive)
{
    const struct step_error *error = run_step(c->state, decisive)->error;
    struct event event = engine_failure("failed", "permanent", STR_NONE);

    if (error != NULL) {
        event.code = str_arena(c->fx->arena, str_of(error->code));
        event.message = str_of(arena_printf(c->fx->arena, "step '" STR_FMT "': %s",
                                            STR_ARG(run_plan_step(c->state, decisive)->name), error->message));
    }
    end_item(c, frame->owner, frame->index, EVENT_STEP_FAILED, event);
}

/* An iteration that was partial says so by a code of its own. */
static struct event partial_event(struct ctx *c, uint32_t decisive)
{
    const struct step_error *error = run_step(c->state, decisive)->error;

    return engine_failure(
        "partially_completed", "permanent",
        str_of(arena_printf(c->fx->arena, "step '" STR_FMT "': %s: %s",
                            STR_ARG(run_plan_step(c->state, decisive)->name), error == NULL ? "failed" : error->code,
                            error == NULL ? "" : error->message)));
}

static bool any_cancelled(const struct run_state *state, const struct frame *frame)
{
    for (uint32_t i = 0; i < state->plan->scopes[frame->scope].count; i++)
        if (run_step(state, frame->base + i)->status == STEP_CANCELLED)
            return true;
    return false;
}

void engine_frame_rest(struct ctx *c, struct frame *frame)
{
    struct run_state *state = c->state;
    const struct plan_scope *scope = &state->plan->scopes[frame->scope];
    const struct plan_step *loop;
    struct frame_verdict verdict;
    struct event event = {0};

    if (!frame->used || scope->role != ROLE_STEP || frame->ended != scope->count || frame->asked ||
        run_step(state, frame->owner)->extra->items[frame->index].status != STEP_RUNNING)
        return;
    loop = run_plan_step(state, frame->owner);
    verdict = engine_verdict(state, frame);
    if (verdict.kind == VERDICT_FAILED) {
        item_failed(c, frame, verdict.decisive);
        return;
    }
    if (engine_stopping(state, frame) && any_cancelled(state, frame)) {
        end_item(c, frame->owner, frame->index, EVENT_STEP_CANCELLED, event);
        return;
    }
    if (verdict.kind == VERDICT_PARTIAL)
        event = partial_event(c, verdict.decisive);
    if (loop->item_output_of != NO_NODE) {
        event.ref = item_output_source(state, frame)->output_seq;
    } else if (loop->item_output.constant) {
        event.output = str_is(loop->item_output.literal, "null") ? STR_NONE : loop->item_output.literal;
    } else {
        engine_ask(c, frame->owner, EVAL_ITEM, frame->index, &loop->item_output);
        return;
    }
    end_item(c, frame->owner, frame->index, EVENT_STEP_SUCCEEDED, event);
}

void engine_item_value(struct ctx *c)
{
    const struct engine_input *in = c->input;
    const struct step_extra *extra = run_step(c->state, in->node)->extra;
    struct frame *frame = extra != NULL && in->index < extra->count ? extra->items[in->index].frame : NULL;
    struct frame_verdict verdict;
    struct event event = {0};

    if (frame == NULL || !frame->asked || extra->items[in->index].status != STEP_RUNNING ||
        (in->question != 0 && in->question != frame->question)) {
        c->fx->ignored = true;
        return;
    }
    frame->asked = false;
    if (in->failed) {
        event = engine_failure(
            "expression_failed", "permanent",
            str_of(arena_printf(c->fx->arena, "the iteration's output: " STR_FMT, STR_ARG(in->message))));
        end_item(c, in->node, in->index, EVENT_STEP_FAILED, event);
        return;
    }
    verdict = engine_verdict(c->state, frame);
    if (verdict.kind == VERDICT_PARTIAL)
        event = partial_event(c, verdict.decisive);
    if (!str_is(in->value, "null"))
        event.output = in->value;
    end_item(c, in->node, in->index, EVENT_STEP_SUCCEEDED, event);
}

static void cut_frame(struct ctx *c, struct frame *frame)
{
    struct run_state *state = c->state;

    frame->stopped = true;
    for (uint32_t i = 0; i < state->plan->scopes[frame->scope].count && c->rc == ERR_OK; i++) {
        struct step_state *s = run_step(state, frame->base + i);

        if (step_ended((enum step_status)s->status))
            continue;
        if (s->open_kind == WORK_TASK)
            engine_tell_to_stop(c, frame->base + i);
        if (s->open_kind == WORK_ITEMS)
            engine_cut_loop(c, frame->base + i);
        if (s->open_kind == WORK_CHILD)
            engine_child_stop(c, frame->base + i);
        if (s->open_kind == WORK_UNKNOWN) {
            engine_never_settled(c, frame->base + i);
            continue;
        }
        engine_emit_step(c, EVENT_STEP_CANCELLED, frame->base + i, (struct event){.attempt = s->attempt});
    }
}

void engine_cut_loop(struct ctx *c, uint32_t loop)
{
    struct step_extra *extra = run_step(c->state, loop)->extra;

    for (uint32_t i = 0; i < extra->next && extra->live > 0 && c->rc == ERR_OK; i++) {
        if (extra->items[i].status != STEP_RUNNING)
            continue;
        cut_frame(c, extra->items[i].frame);
        engine_emit(
            c, (struct event){.type = EVENT_STEP_CANCELLED, .step = engine_item_path(c->fx->arena, c->state, loop, i)});
    }
}
