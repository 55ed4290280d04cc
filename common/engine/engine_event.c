/* Steps that wait for an event. Which events come here is not the engine's: whoever brings one names the wait that it
 * may be for, and brings them in the order in which they came. */
#include "common/base/banned.h"
#include "common/engine/engine_internal.h"

#define FAULT_MAX_BYTES 256 /* of why the filter failed, in the reason of the row */

void engine_listen(struct ctx *c, uint32_t node, struct str with)
{
    const struct plan_step *step = run_plan_step(c->state, node);
    struct event event = {.waits = STR("event"), .name = step->event.type, .source = step->event.source};
    struct str timeout = jt_get(with, "timeout"), text;
    int64_t us = 0;

    if (timeout.ptr != NULL && (!jt_string(timeout, c->fx->arena, &text) || !duration_parse(text, &us) || us <= 0)) {
        engine_step_failed(c, node, EVENT_STEP_FAILED,
                           engine_failure("bad_duration", "permanent", STR("'timeout' is no duration such as \"2d\"")));
        return;
    }
    if (timeout.ptr != NULL)
        event.due_at.us = c->now.us + us;
    if (step->deadline_us != 0 && (timeout.ptr == NULL || step->deadline_us < us))
        event.due_at.us = c->now.us + step->deadline_us;
    engine_emit_step(c, EVENT_STEP_LISTENING, node, event);
}

static void heard(struct ctx *c, uint32_t node, struct str event)
{
    engine_succeed(c, node, STR_NONE, event);
}

/* A copy, and what comes for a wait that is over, changes nothing. */
void engine_event_came(struct ctx *c)
{
    uint32_t node = engine_find_row(c->state, c->input->seq);
    const struct plan_step *step = node == NO_NODE ? NULL : run_plan_step(c->state, node);
    struct str *kept;

    if (c->input->seq > c->state->last_seq) {
        c->fx->stale_cache = true;
        return;
    }
    if (step == NULL || run_step(c->state, node)->open_kind != WORK_EVENT) {
        c->fx->ignored = true;
        return;
    }
    if (!step->event.has_filter) {
        heard(c, node, c->input->value);
        return;
    }
    kept = arena_alloc(c->fx->arena, sizeof(*kept));
    *kept = c->input->value;
    run_step(c->state, node)->pending = kept;
    engine_ask(c, node, EVAL_FILTER, 0, &step->event.filter);
}

/* It does not wake the step, and people are told why: the row says it until another event is looked at. */
static void filter_failed(struct ctx *c, uint32_t node, struct str message)
{
    engine_change_work(
        c, node, arena_printf(c->fx->arena, "filter_failed: " STR_FMT, STR_ARG(utf8_prefix(message, FAULT_MAX_BYTES))),
        false);
}

void engine_filter_value(struct ctx *c, uint32_t node)
{
    struct step_state *s = run_step(c->state, node);
    const struct str *event = s->pending;
    bool passes = false;

    s->pending = NULL;
    if (c->input->failed)
        filter_failed(c, node, c->input->message);
    else if (!jt_bool(c->input->value, &passes))
        filter_failed(
            c, node,
            str_of(arena_printf(c->fx->arena, "it gave %s, not a boolean", jt_type_name(jt_type(c->input->value)))));
    else if (passes)
        heard(c, node, *event);
    else
        c->fx->ignored = true; /* it is not the one: nothing to write */
}
