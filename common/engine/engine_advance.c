/* What becomes of steps whose parents have all ended: skipped, evaluated, done at once, waiting, or dispatched. */
#include "common/base/banned.h"
#include "common/base/ensure.h"
#include "common/engine/engine_internal.h"
#include <inttypes.h>

#define KEY_MAX_BYTES 1026    /* of a step's own idempotency key, with its quotes */
#define SOURCE_MAX_BYTES 1024 /* of an expression that history names as the reason of a skip */

void engine_ready(struct ctx *c, uint32_t node)
{
    GROW(c, c->ready, c->ready_count, c->ready_cap);
    c->ready[c->ready_count++] = node;
}

bool engine_is_ready(const struct run_state *state, uint32_t node)
{
    const struct step_state *s = run_step(state, node);

    return s->status == STEP_PENDING && s->waiting_for == 0 && s->asked == 0;
}

void engine_children_ready(struct ctx *c, uint32_t node)
{
    const struct plan_step *step = run_plan_step(c->state, node);
    struct frame *frame = run_step(c->state, node)->frame;
    uint32_t first = c->state->plan->scopes[frame->scope].first;

    if (c->rc != ERR_OK)
        return;
    for (size_t i = 0; i < step->child_count; i++) {
        uint32_t at = frame->base + (step->children[i] - first);
        const struct step_state *child = run_step(c->state, at);
        if (child->waiting_for == 0 && child->status == STEP_PENDING)
            engine_ready(c, at);
    }
    if (frame != c->state->root)
        engine_rest(c, frame);
}

void engine_rest(struct ctx *c, struct frame *frame)
{
    GROW(c, c->rest, c->rest_count, c->rest_cap);
    c->rest[c->rest_count++] = frame;
}

static const struct step_state *parent_of(const struct run_state *state, const struct frame *frame,
                                          const struct plan_edge *edge)
{
    return run_step(state, frame->base + (edge->parent - state->plan->scopes[frame->scope].first));
}

static bool edge_accepts(const struct run_state *state, const struct frame *frame, const struct plan_edge *edge)
{
    const struct step_state *parent = parent_of(state, frame, edge);

    if (parent->passed)
        return true;
    if ((engine_outcome_bit((enum step_status)parent->status) & edge->outcomes) != 0) {
        if (parent->status != STEP_SUCCEEDED || edge->any_branch)
            return true;
    }
    return parent->status == STEP_SUCCEEDED && parent->branch != NO_BRANCH && parent->branch < 64 &&
           ((edge->branches >> parent->branch) & 1) != 0;
}

/* {"step":"large","status":"succeeded","branch":"false"}: the edge that was not accepted. */
static struct str edge_detail(struct ctx *c, const struct frame *frame, const struct plan_edge *edge)
{
    const struct plan_step *parent = &c->state->plan->steps[edge->parent];
    const struct step_state *s = parent_of(c->state, frame, edge);
    struct buf out;
    struct jw w;
    struct str detail;

    buf_init(&out, 1024);
    w = jw_to(&out);
    jw_obj(&w);
    jw_kstr(&w, "step", parent->name);
    jw_kcstr(&w, "status", step_status_name((enum step_status)s->status));
    if (s->branch != NO_BRANCH)
        jw_kstr(&w, "branch", parent->branches[s->branch]);
    jw_end_obj(&w);
    detail = str_arena(c->fx->arena, buf_str(&out));
    buf_deinit(&out);
    return detail;
}

static void skip(struct ctx *c, uint32_t node, const char *code, struct str detail)
{
    engine_emit_step(c, EVENT_STEP_SKIPPED, node, (struct event){.code = str_of(code), .detail = detail});
    engine_children_ready(c, node);
}

static void expression_failed(struct ctx *c, uint32_t node)
{
    engine_step_failed(c, node, EVENT_STEP_FAILED, engine_failure("expression_failed", "permanent", c->input->message));
}

void engine_succeed(struct ctx *c, uint32_t node, struct str branch, struct str output)
{
    struct event event = {.branch = branch};

    if (!str_is(output, "null"))
        event.output = output;
    engine_emit_step(c, EVENT_STEP_SUCCEEDED, node, event);
    engine_children_ready(c, node);
}

static void wait_until(struct ctx *c, uint32_t node, struct str value)
{
    const struct plan_step *step = run_plan_step(c->state, node);
    struct str text = STR_NONE;
    struct wall_us due = {0};
    int64_t duration_us = 0;
    bool good;

    good = jt_string(value, c->fx->arena, &text);
    if (good && step->delay_until) {
        good = wall_parse(text, &due);
    } else if (good) {
        good = duration_parse(text, &duration_us);
        due.us = c->now.us + duration_us;
    }
    if (!good) {
        engine_step_failed(c, node, EVENT_STEP_FAILED,
                           engine_failure("bad_duration", "permanent",
                                          step->delay_until ? STR("'until' is no RFC 3339 time")
                                                            : STR("'duration' is none such as \"30s\"")));
        return;
    }
    if (due.us <= c->now.us) {
        engine_succeed(c, node, STR_NONE, STR_NONE);
        return;
    }
    if (step->deadline_us != 0 && due.us > c->now.us + step->deadline_us)
        due.us = c->now.us + step->deadline_us;
    engine_emit_step(c, EVENT_STEP_WAITING, node, (struct event){.due_at = due});
}

static void dispatch_with(struct ctx *c, uint32_t node, struct str with, struct str key)
{
    const struct plan_step *step = run_plan_step(c->state, node);
    struct step_state *s = run_step(c->state, node);
    struct event event = {.attempt = (uint16_t)(s->attempt + 1), .generation = s->generation == 0 ? 1 : s->generation};

    if (s->ready_at.us != 0)
        event.due_at = s->deadline;
    else if (step->deadline_us != 0)
        event.due_at.us = c->now.us + step->deadline_us;
    event.output = with;
    event.detail = key;
    engine_emit_step(c, EVENT_STEP_DISPATCHED, node, event);
}

/* A poll begins: what it sends, how often, and for how long. */
static void poll_value(struct ctx *c, uint32_t node, struct str value)
{
    const struct plan_step *step = run_plan_step(c->state, node);
    const struct step_state *s = run_step(c->state, node);
    struct event event = {.attempt = (uint16_t)(s->attempt + 1),
                          .generation = s->generation == 0 ? 1 : s->generation,
                          .output = jt_get(value, "with")};
    struct str text;
    int64_t timeout_us;

    if (!jt_string(jt_get(value, "interval"), c->fx->arena, &text) || !duration_parse(text, &event.interval_us) ||
        event.interval_us <= 0 || !jt_string(jt_get(value, "timeout"), c->fx->arena, &text) ||
        !duration_parse(text, &timeout_us)) {
        engine_step_failed(
            c, node, EVENT_STEP_FAILED,
            engine_failure("bad_duration", "permanent", STR("'interval' or 'timeout' is no duration such as \"30s\"")));
        return;
    }
    if (step->deadline_us != 0 && step->deadline_us < timeout_us)
        timeout_us = step->deadline_us;
    event.due_at.us = c->now.us + timeout_us;
    engine_emit_step(c, EVENT_STEP_DISPATCHED, node, event);
}

/* A further attempt: what it sends was fixed by the first. */
void engine_dispatch(struct ctx *c, uint32_t node)
{
    dispatch_with(c, node, STR_NONE, STR_NONE);
}

/* The step's own key came: text, or a number, which is kept as text too. */
static void key_value(struct ctx *c, uint32_t node, struct str with, struct str key)
{
    enum jt_type type = jt_type(key);
    const char *fault = NULL;

    if (type == JT_NUMBER)
        key = str_of(arena_printf(c->fx->arena, "\"" STR_FMT "\"", STR_ARG(key)));
    else if (type != JT_STRING)
        fault = jt_type_name(type);
    else if (key.len <= 2)
        fault = "an empty string";
    if (fault == NULL && key.len > KEY_MAX_BYTES)
        fault = "more than 1024 bytes";
    if (fault == NULL)
        dispatch_with(c, node, run_plan_step(c->state, node)->with.constant ? STR_NONE : with, key);
    else
        engine_step_failed(
            c, node, EVENT_STEP_FAILED,
            engine_failure("expression_failed", "permanent",
                           str_of(arena_printf(c->fx->arena, "'idempotency.key' gave %s: it must be text", fault))));
}

static void task_value(struct ctx *c, uint32_t node, struct str value)
{
    const struct plan_step *step = run_plan_step(c->state, node);
    struct str *kept;

    if (!step->has_key) {
        dispatch_with(c, node, step->with.constant ? STR_NONE : value, STR_NONE);
        return;
    }
    if (step->idempotency_key.constant) {
        key_value(c, node, value, step->idempotency_key.literal);
        return;
    }
    /* the key is asked for after `with`; until then the rendered text waits in the step's own place */
    kept = arena_alloc(c->fx->arena, sizeof(*kept));
    *kept = value;
    run_step(c->state, node)->pending = kept;
    engine_ask(c, node, EVAL_KEY, 0, &step->idempotency_key);
}

static void with_value(struct ctx *c, uint32_t node, struct str value)
{
    const struct plan_step *step = run_plan_step(c->state, node);
    bool holds = false;

    switch (step->kind) {
    case CALL_TASK:
        task_value(c, node, value);
        break;
    case CALL_TRANSFORM:
        if (value.len > (size_t)c->limits->of[LIMIT_OUTPUT_BYTES])
            engine_step_failed(c, node, EVENT_STEP_FAILED, engine_too_large(c, value.len));
        else
            engine_succeed(c, node, STR_NONE, value);
        break;
    case CALL_CONDITION:
        if (!jt_bool(value, &holds)) {
            engine_step_failed(c, node, EVENT_STEP_FAILED,
                               engine_failure("not_boolean", "permanent",
                                              str_of(arena_printf(c->fx->arena, "'if' gave %s, not a boolean",
                                                                  jt_type_name(jt_type(value))))));
            break;
        }
        engine_succeed(c, node, holds ? STR("true") : STR("false"), STR_NONE);
        break;
    case CALL_DELAY:
        wait_until(c, node, value);
        break;
    case CALL_SIGNAL:
        engine_wait_signal(c, node, value);
        break;
    case CALL_EVENT:
        engine_listen(c, node, value);
        break;
    case CALL_POLL:
        poll_value(c, node, value);
        break;
    case CALL_FOREACH:
        engine_items(c, node, value);
        break;
    case CALL_WORKFLOW:
        engine_child_begin(c, node, value);
        break;
    case CALL_SWITCH:
        break;
    }
}

static void case_value(struct ctx *c, uint32_t node, uint32_t index, struct str value)
{
    const struct plan_step *step = run_plan_step(c->state, node);
    bool holds = false;

    for (;;) {
        if (!jt_bool(value, &holds)) {
            engine_step_failed(
                c, node, EVENT_STEP_FAILED,
                engine_failure("not_boolean", "permanent",
                               str_of(arena_printf(c->fx->arena, "case '" STR_FMT "' gave %s, not a boolean",
                                                   STR_ARG(step->branches[index]), jt_type_name(jt_type(value))))));
            return;
        }
        if (holds) {
            engine_succeed(c, node, step->branches[index], STR_NONE);
            return;
        }
        if (++index >= step->case_count)
            break;
        if (!step->cases[index].constant) {
            engine_ask(c, node, EVAL_CASE, index, &step->cases[index]);
            return;
        }
        value = step->cases[index].literal;
    }
    engine_succeed(c, node, step->has_default ? step->branches[step->case_count] : STR_NONE, STR_NONE);
}

void engine_begin(struct ctx *c, uint32_t node)
{
    const struct plan_step *step = run_plan_step(c->state, node);
    const struct step_extra *extra = run_step(c->state, node)->extra;

    if (extra != NULL && (extra->items != NULL || extra->had_child)) {
        if (extra->items != NULL)
            engine_items_again(c, node);
        else
            engine_child_again(c, node);
        return;
    }
    if (step->kind == CALL_SWITCH) {
        if (step->case_count == 0)
            engine_succeed(c, node, step->has_default ? step->branches[0] : STR_NONE, STR_NONE);
        else if (step->cases[0].constant)
            case_value(c, node, 0, step->cases[0].literal);
        else
            engine_ask(c, node, EVAL_CASE, 0, &step->cases[0]);
        return;
    }
    if (step->with.constant)
        with_value(c, node, step->with.literal);
    else
        engine_ask(c, node, EVAL_WITH, 0, &step->with);
}

static void when_value(struct ctx *c, uint32_t node, struct str value)
{
    const struct template *when = &run_plan_step(c->state, node)->when;
    bool holds = false;

    if (!jt_bool(value, &holds)) {
        engine_step_failed(c, node, EVENT_STEP_FAILED,
                           engine_failure("not_boolean", "permanent",
                                          str_of(arena_printf(c->fx->arena, "'when' gave %s, not a boolean",
                                                              jt_type_name(jt_type(value))))));
        return;
    }
    if (holds)
        engine_begin(c, node);
    else if (when->constant || when->source.len > SOURCE_MAX_BYTES)
        skip(c, node, "when", STR("{\"value\":false}"));
    else
        skip(c, node, "when",
             str_of(arena_printf(c->fx->arena, "{\"expression\":" STR_FMT ",\"value\":false}", STR_ARG(when->source))));
}

static void decide(struct ctx *c, uint32_t node)
{
    const struct plan_step *step = run_plan_step(c->state, node);
    const struct step_state *s = run_step(c->state, node);
    size_t accepted = 0;
    const struct plan_edge *refused = NULL;

    /* the number of an iteration that is over may have gone to another */
    if (s->status != STEP_PENDING || s->asked != 0 || s->waiting_for != 0)
        return;
    if (engine_stopping(c->state, s->frame)) {
        engine_emit_step(c, EVENT_STEP_CANCELLED, node, (struct event){0});
        engine_children_ready(c, node);
        return;
    }
    if (engine_held(c->state)) /* decided when the run is resumed */
        return;
    for (size_t e = 0; e < step->edge_count; e++) {
        if (edge_accepts(c->state, s->frame, &step->edges[e]))
            accepted++;
        else if (refused == NULL)
            refused = &step->edges[e];
    }
    if (refused != NULL && (!step->join_any || accepted == 0)) {
        skip(c, node, "edge", edge_detail(c, s->frame, refused));
        return;
    }
    if (!step->has_when)
        engine_begin(c, node);
    else if (step->when.constant)
        when_value(c, node, step->when.literal);
    else
        engine_ask(c, node, EVAL_WHEN, 0, &step->when);
}

void engine_advance(struct ctx *c)
{
    while (c->rc == ERR_OK && (c->ready_head < c->ready_count || c->rest_count > 0)) {
        if (c->ready_head < c->ready_count) {
            uint32_t node = c->ready[c->ready_head++];
            struct frame *frame = run_step(c->state, node)->frame;

            decide(c, node);
            engine_stop_when_failing(c, frame);
        } else {
            engine_frame_rest(c, c->rest[--c->rest_count]);
        }
    }
}

/* Was this value asked for, and is it still of use? A step may have been cancelled while it was evaluated, and its node
 * be another iteration's by now. */
static bool is_asked(const struct engine_input *in, const struct step_state *s)
{
    bool open = in->purpose == EVAL_UNTIL    ? s->open_kind == WORK_TASK
                : in->purpose == EVAL_FILTER ? s->open_kind == WORK_EVENT
                                             : s->status == STEP_PENDING;

    return open && s->asked == in->purpose + 1 && s->asked_index == in->index &&
           (in->question == 0 || in->question == s->question);
}

void engine_value(struct ctx *c)
{
    const struct engine_input *in = c->input;
    const struct str *kept;
    struct step_state *s;

    c->state->evaluating = false; /* the caller keeps count of what else is outstanding */
    if (in->node == NO_NODE) {
        if (in->purpose == EVAL_ADMISSION)
            engine_admission_value(c);
        else if (c->state->output_asked)
            engine_output_value(c);
        else
            c->fx->ignored = true;
        return;
    }
    ENSURE(in->node < c->state->node_count);
    if (in->purpose == EVAL_ITEM) {
        engine_item_value(c);
        return;
    }
    s = run_step(c->state, in->node);
    if (!is_asked(in, s)) {
        c->fx->ignored = true;
        return;
    }
    kept = s->pending;
    s->asked = 0;
    if (in->purpose == EVAL_UNTIL) {
        engine_until_value(c, in->node);
        return;
    }
    if (in->purpose == EVAL_FILTER) {
        engine_filter_value(c, in->node);
        return;
    }
    s->pending = NULL;
    if (engine_held(c->state)) /* it is decided anew when the run is resumed */
        return;
    if (in->failed) {
        expression_failed(c, in->node);
        return;
    }
    switch (in->purpose) {
    case EVAL_WHEN:
        when_value(c, in->node, in->value);
        break;
    case EVAL_WITH:
        with_value(c, in->node, in->value);
        break;
    case EVAL_CASE:
        case_value(c, in->node, in->index, in->value);
        break;
    case EVAL_KEY:
        key_value(c, in->node, kept == NULL ? STR_NONE : *kept, in->value);
        break;
    case EVAL_OUTPUT:
    case EVAL_UNTIL:
    case EVAL_FILTER:
    case EVAL_ITEM:
    case EVAL_ADMISSION:
        break;
    }
}
