/* What a worker says of an attempt, and what its silence means. Rules: api.md "Retry", "Delivery"; pitfalls B1, B7,
 * H15. */
#include "common/base/banned.h"
#include "common/base/ensure.h"
#include "common/engine/engine_internal.h"
#include <math.h>

#define POISON_AFTER 3
#define CODE_MAX_BYTES 63
#define MESSAGE_MAX_BYTES 2048
#define DETAIL_MAX_BYTES 16384
#define RETRY_AFTER_MAX_US (3600 * US_PER_S)
#define DEFER_MAX_US (3600 * US_PER_S)

void engine_step_failed(struct ctx *c, uint32_t node, enum event_type type, struct event event)
{
    struct frame *frame = run_step(c->state, node)->frame;

    engine_emit_step(c, type, node, event);
    engine_children_ready(c, node);
    engine_stop_when_failing(c, frame);
}

/* Wait = min(max, initial * factor^(n-1)) * (1 + random(0..jitter)); the draw is fixed by run, step and attempt. */
static int64_t backoff_us(const struct run_state *state, uint32_t node, uint32_t tried, int64_t retry_after_us)
{
    const struct plan_retry *retry = &run_plan_step(state, node)->retry;
    double wait = (double)retry->initial_us * pow(retry->factor, (double)(tried - 1));
    struct buf seed;
    uint8_t digest[32];
    uint32_t draw;

    if (wait > (double)retry->max_us)
        wait = (double)retry->max_us;
    buf_init(&seed, STEP_PATH_SIZE + 64);
    buf_append(&seed, state->id.bytes, sizeof(state->id.bytes));
    run_step_path(state, node, &seed);
    buf_printf(&seed, "/%u", (unsigned)run_step(state, node)->attempt);
    sha256(buf_str(&seed), digest);
    buf_deinit(&seed);
    memcpy(&draw, digest, sizeof(draw));
    wait *= 1.0 + retry->jitter * ((double)draw / (double)UINT32_MAX);
    if (retry_after_us > RETRY_AFTER_MAX_US)
        retry_after_us = RETRY_AFTER_MAX_US;
    return wait < (double)retry_after_us ? retry_after_us : (int64_t)wait;
}

/* History is small: what a worker says at length is cut, never refused. */
static struct event failure_event(const struct ctx *c)
{
    const struct engine_input *in = c->input;

    return (struct event){.attempt = (uint16_t)in->attempt,
                          .code = in->code.ptr == NULL ? STR("failed") : utf8_prefix(in->code, CODE_MAX_BYTES),
                          .error_class = in->error_class.ptr == NULL ? STR("transient") : in->error_class,
                          .message = utf8_prefix(in->message, MESSAGE_MAX_BYTES),
                          .http_status = in->http_status,
                          .detail = in->detail.len > DETAIL_MAX_BYTES ? STR_NONE : in->detail,
                          .worker = in->worker,
                          .started_at = in->started_at,
                          .ended_at = in->ended_at,
                          .sent = in->sent && !in->answered};
}

static void outcome_unknown(struct ctx *c, uint32_t node, struct event event)
{
    const struct plan_step *step = run_plan_step(c->state, node);
    struct step_state *s = run_step(c->state, node);

    if (step->hold_unknown && !engine_stopping(c->state, s->frame)) {
        event.code = STR("unknown_outcome");
        event.due_at = s->deadline;
        engine_emit_step(c, EVENT_STEP_WAITING, node, event);
        return;
    }
    engine_step_failed(c, node, EVENT_STEP_OUTCOME_UNKNOWN, event);
}

/* A poll that has been answered since its attempt began: what failed before counts no more. */
static bool was_answered(const struct ctx *c, uint32_t node)
{
    return run_plan_step(c->state, node)->kind == CALL_POLL && run_step(c->state, node)->dispatch > 1;
}

/* How often it has been tried, the open attempt included. */
static uint32_t tries(const struct ctx *c, uint32_t node)
{
    const struct step_state *s = run_step(c->state, node);

    return was_answered(c, node) ? 1 : s->attempt - (s->extra == NULL ? 0u : s->extra->attempts_before);
}

/* May the attempt be followed by another? */
static bool may_repeat(const struct ctx *c, uint32_t node)
{
    const struct step_state *s = run_step(c->state, node);

    return tries(c, node) < run_plan_step(c->state, node)->retry.max_attempts && !engine_stopping(c->state, s->frame) &&
           c->state->last_seq < HISTORY_MAX;
}

/* "http_5xx" in a list stands for all codes of that class. */
static bool code_matches(struct str listed, struct str code)
{
    if (listed.len == code.len && listed.len == 8 && memcmp(listed.ptr + 6, "xx", 2) == 0)
        listed.len = code.len = 6;
    return str_eq(listed, code) || str_is(listed, "transient");
}

/* Is it an error that the step wants to be tried again for? */
static bool is_retried(const struct plan_retry *retry, const struct event *event)
{
    bool listed = retry->on_count == 0;

    for (size_t i = 0; i < retry->on_count && !listed; i++)
        listed = code_matches(retry->on[i], event->code);
    return listed && str_is(event->error_class, "transient");
}

static void end_failed(struct ctx *c, uint32_t node, struct event event)
{
    bool asked_to_stop = c->state->cancelling && str_is(event.code, "cancelled");
    bool timeout = str_is(event.code, "timeout");

    if (c->state->last_seq >= HISTORY_MAX && str_is(event.error_class, "transient")) {
        event.code = STR("history_limit");
        event.message = STR("the run's history is full: nothing is tried again");
    }
    engine_step_failed(
        c, node, asked_to_stop ? EVENT_STEP_CANCELLED : (timeout ? EVENT_STEP_TIMED_OUT : EVENT_STEP_FAILED), event);
}

static void attempt_failed(struct ctx *c, uint32_t node)
{
    const struct engine_input *in = c->input;
    const struct plan_step *step = run_plan_step(c->state, node);
    const struct step_state *s = run_step(c->state, node);
    struct event event = failure_event(c);
    bool again = is_retried(&step->retry, &event) && may_repeat(c, node);
    /* a granted attempt of which no worker tells (its result could not be read) may have been sent, too */
    bool may_have_left = in->sent || (s->status == STEP_RUNNING && in->worker.ptr == NULL);

    if (step->at_most_once && may_have_left) {
        if (!in->answered) {
            outcome_unknown(c, node, event);
            return;
        }
        again = false; /* only an error that proves that no byte left may be retried */
    }
    if (!again) {
        end_failed(c, node, event);
        return;
    }
    /* receivers replay the first answer of a key: after a definite answer the next attempt needs a new one */
    event.generation = in->answered ? (uint16_t)(s->generation + 1) : s->generation;
    event.dispatch = was_answered(c, node) ? s->dispatch : 0;
    event.due_at.us = c->now.us + backoff_us(c->state, node, tries(c, node), in->retry_after_us);
    if (s->deadline.us != 0 && event.due_at.us > s->deadline.us)
        event.due_at = s->deadline;
    engine_emit_step(c, EVENT_ATTEMPT_FAILED, node, event);
}

/* The worker died or was silent for a whole lease. Nobody can know whether the request was sent. */
static void attempt_lost(struct ctx *c, uint32_t node)
{
    const struct plan_step *step = run_plan_step(c->state, node);
    const struct step_state *s = run_step(c->state, node);
    struct event event = {.attempt = s->attempt,
                          .code = STR("worker_lost"),
                          .error_class = STR("transient"),
                          .message = STR("the worker died or was not heard of for a whole lease"),
                          .worker = c->input->worker,
                          .generation = s->generation};

    if (step->at_most_once && s->status == STEP_RUNNING) {
        outcome_unknown(c, node, event);
        return;
    }
    if (!was_answered(c, node) && s->lost_in_row + 1 >= POISON_AFTER && !engine_stopping(c->state, s->frame)) {
        event.code = STR("poison");
        event.error_class = STR("permanent");
        event.message = STR("three workers in a row were lost while they ran it");
        engine_step_failed(c, node, EVENT_STEP_FAILED, event);
        return;
    }
    if (!may_repeat(c, node)) {
        end_failed(c, node, event);
        return;
    }
    event.dispatch = was_answered(c, node) ? s->dispatch : 0;
    event.due_at = c->now;
    engine_emit_step(c, EVENT_ATTEMPT_FAILED, node, event);
    if (!engine_held(c->state))
        engine_dispatch(c, node); /* at once: the worker was at fault, not the target */
}

/* The answer of a poll's try, while `until` is evaluated on it. The text comes first: who evaluates reads it. */
struct try_answer {
    struct str output;
    struct event event;
};

static void try_answered(struct ctx *c, uint32_t node, struct event event)
{
    struct try_answer *answer = arena_alloc(c->fx->arena, sizeof(*answer));

    answer->output = event.output;
    answer->event = event;
    run_step(c->state, node)->pending = answer;
    engine_ask(c, node, EVAL_UNTIL, 0, &run_plan_step(c->state, node)->until);
}

void engine_until_value(struct ctx *c, uint32_t node)
{
    struct step_state *s = run_step(c->state, node);
    const struct try_answer *answer = s->pending;
    bool holds = false;

    s->pending = NULL;
    if (c->input->failed || !jt_bool(c->input->value, &holds)) {
        struct event event =
            engine_failure(c->input->failed ? "expression_failed" : "not_boolean", "permanent",
                           c->input->failed ? c->input->message
                                            : str_of(arena_printf(c->fx->arena, "'until' gave %s, not a boolean",
                                                                  jt_type_name(jt_type(c->input->value)))));
        event.attempt = s->attempt;
        event.worker = answer->event.worker;
        engine_step_failed(c, node, EVENT_STEP_FAILED, event);
    } else if (holds) {
        engine_emit_step(c, EVENT_STEP_SUCCEEDED, node, answer->event);
        engine_children_ready(c, node);
    } else {
        engine_defer(c, node, s->extra->interval_us, "poll");
    }
}

static struct event success_event(const struct ctx *c)
{
    const struct engine_input *in = c->input;
    bool empty = in->output.ptr == NULL || str_is(in->output, "null");

    return (struct event){.attempt = (uint16_t)in->attempt,
                          .output = empty ? STR_NONE : in->output,
                          .worker = in->worker,
                          .started_at = in->started_at,
                          .ended_at = in->ended_at};
}

static void succeeded(struct ctx *c, uint32_t node)
{
    struct event event = success_event(c);

    if (run_plan_step(c->state, node)->kind == CALL_POLL && run_step(c->state, node)->open_kind == WORK_TASK) {
        try_answered(c, node, event);
        return;
    }
    engine_emit_step(c, EVENT_STEP_SUCCEEDED, node, event);
    engine_children_ready(c, node);
}

/* Did this attempt end without a word of its worker: lost, or cut by a deadline or a cancellation? */
static bool was_unheard(const struct step_state *s, uint32_t attempt)
{
    uint32_t back = s->attempt - attempt;

    return attempt >= 1 && attempt <= s->attempt && back < 64 && ((s->unheard >> back) & 1) != 0;
}

/* A failure that is told of the attempt by another than the one who had begun it: others hold copies of the task, and a
 * result that could not be read tells of no worker at all. */
static bool is_of_copy(const struct ctx *c, uint32_t node)
{
    const struct engine_input *in = c->input;
    const struct step_state *s = run_step(c->state, node);

    return run_plan_step(c->state, node)->at_most_once && in->result == RESULT_FAILED && in->attempt == s->attempt &&
           s->began_dispatch != 0 && (in->worker.ptr == NULL || s->worker != str_hash(in->worker));
}

/* Does it say what became of the request, one way or the other? */
static bool is_truth(const struct ctx *c, uint32_t node)
{
    const struct engine_input *in = c->input;

    return in->result == RESULT_SUCCEEDED ||
           (in->result == RESULT_FAILED && !is_of_copy(c, node) && (in->answered || !in->sent));
}

/* The one who sent it tells, after all, of a step that has ended in doubt. A run that has ended is opened again only
 * by people: there it is kept. */
static bool settles(const struct ctx *c, uint32_t node)
{
    const struct step_state *s = run_step(c->state, node);

    return s->status == STEP_OUTCOME_UNKNOWN && c->input->attempt == s->attempt &&
           !run_ended((enum run_status)c->state->status) && is_truth(c, node) &&
           engine_cannot_settle(c->state, node) == NULL;
}

/* Another attempt or dispatch of the step is open as a task: who has not begun it need not. */
static void recall(struct ctx *c, uint32_t node)
{
    const struct step_state *s = run_step(c->state, node);

    if (s->open_kind != WORK_TASK)
        return;
    GROW(c, c->fx->recalls, c->fx->recall_count, c->fx->recall_cap);
    c->fx->recalls[c->fx->recall_count++] =
        (struct effect_recall){s->open_seq, str_arena(c->fx->arena, c->input->step)};
}

/* A result of what is not open (any more): the truth of an attempt that was given up counts while the step is open or
 * in doubt, and is kept once when it is not; everything else has been heard before. */
static void late(struct ctx *c, uint32_t node)
{
    const struct engine_input *in = c->input;
    const struct step_state *s = run_step(c->state, node);
    /* pending again: the run was opened once more, and what the step needs may come to another end than it did then */
    bool open = !step_ended((enum step_status)s->status) && s->status != STEP_PENDING;
    bool unsettled = s->open_kind == WORK_UNKNOWN && in->attempt == s->attempt;
    bool to_undo = in->result == RESULT_SUCCEEDED && run_plan_step(c->state, node)->compensate != NO_NODE;

    /* one of an earlier dispatch: another copy of the task was deferred while this one was being done */
    bool same_attempt = s->open_kind == WORK_TASK && in->attempt == s->attempt;

    if (run_plan_step(c->state, node)->kind == CALL_POLL) {
        c->fx->ignored = true; /* an answer of some time ago proves nothing now */
        return;
    }
    if (open && in->result == RESULT_SUCCEEDED && (same_attempt || unsettled || was_unheard(s, in->attempt))) {
        recall(c, node);
        succeeded(c, node); /* the truth came late, but it came */
        return;
    }
    if (unsettled && is_truth(c, node)) {
        engine_step_failed(c, node, EVENT_STEP_FAILED, failure_event(c));
        return;
    }
    if (in->result > RESULT_FAILED || !was_unheard(s, in->attempt) || is_of_copy(c, node)) {
        c->fx->ignored = true;
        return;
    }
    if (settles(c, node)) {
        engine_settle_by_word(c, node, in->result == RESULT_SUCCEEDED ? success_event(c) : failure_event(c));
        return;
    }
    engine_emit_step(c, EVENT_LATE_RESULT, node,
                     (struct event){.output = to_undo && !str_is(in->output, "null") ? in->output : STR_NONE,
                                    .attempt = (uint16_t)in->attempt,
                                    .code = in->result == RESULT_SUCCEEDED ? STR("succeeded")
                                                                           : utf8_prefix(in->code, CODE_MAX_BYTES),
                                    .message = utf8_prefix(in->message, MESSAGE_MAX_BYTES),
                                    .http_status = in->http_status,
                                    .worker = in->worker,
                                    .started_at = in->started_at,
                                    .ended_at = in->ended_at});
}

/* The step named by the input when its attempt and dispatch are the open ones; else says what to do with the input. */
static bool find_open(struct ctx *c, uint32_t *ret_node, bool *is_open)
{
    const struct engine_input *in = c->input;
    bool later = false;
    uint32_t node = run_find_step(c->state, in->step, &later);
    const struct step_state *s;

    if (node == NO_NODE) {
        c->fx->stale_cache = later; /* of an iteration or action that has begun, if not here */
        c->fx->ignored = !later;
        return false;
    }
    s = run_step(c->state, node);
    if (in->attempt > s->attempt ||
        (in->attempt == s->attempt && s->open_kind == WORK_TASK && in->dispatch > s->dispatch)) {
        c->fx->stale_cache = true;
        return false;
    }
    *ret_node = node;
    *is_open = s->open_kind == WORK_TASK && in->attempt == s->attempt && in->dispatch == s->dispatch;
    return true;
}

/* While one worker has begun the attempt, another that says of its own copy of the task that it was not begun
 * (deferred) or could not be (failed) says nothing about the one that was. Without this a copy that met a rate limit
 * would free an at_most_once attempt that is being sent. A success is the truth from whomever it comes, and `abandoned`
 * is a verdict on the one that began. */
static bool is_of_idle_copy(const struct ctx *c, uint32_t node)
{
    const struct engine_input *in = c->input;
    const struct step_state *s = run_step(c->state, node);

    return s->status == STEP_RUNNING && in->worker.ptr != NULL && s->worker != str_hash(in->worker) &&
           (in->result == RESULT_DEFERRED ||
            (in->result == RESULT_FAILED && run_plan_step(c->state, node)->at_most_once));
}

/* What people are told of a task that a worker has put off. */
static const char *why_deferred(struct str code)
{
    static const char *const known[] = {"rate_limited", "breaker_open"};

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (str_is(code, known[i]))
            return known[i];
    return "deferred";
}

void engine_result(struct ctx *c)
{
    uint32_t node = 0;
    bool is_open = false;

    if (!find_open(c, &node, &is_open))
        return;
    if (!is_open) {
        late(c, node);
        return;
    }
    if (is_of_idle_copy(c, node)) {
        c->fx->ignored = true;
        return;
    }
    switch (c->input->result) {
    case RESULT_SUCCEEDED:
        succeeded(c, node);
        break;
    case RESULT_FAILED:
        attempt_failed(c, node);
        break;
    case RESULT_DEFERRED:
        engine_defer(c, node, c->input->retry_after_us > DEFER_MAX_US ? DEFER_MAX_US : c->input->retry_after_us,
                     why_deferred(c->input->code));
        break;
    case RESULT_ABANDONED:
        attempt_lost(c, node);
        break;
    }
}

void engine_started(struct ctx *c)
{
    const struct engine_input *in = c->input;
    uint32_t node = 0;
    bool is_open = false;
    struct step_state *s;

    c->fx->answer = STARTED_NO; /* also of what is not in memory any more */
    if (!find_open(c, &node, &is_open))
        return;
    s = run_step(c->state, node);
    if (!is_open) {
        c->fx->ignored = true;
        return;
    }
    if (in->ask != 0) {
        c->fx->answer = STARTED_GO;
        c->fx->ignored = true;
        return;
    }
    if (run_plan_step(c->state, node)->kind == CALL_POLL && !run_plan_step(c->state, node)->at_most_once) {
        c->fx->answer = STARTED_GO; /* tries write no events */
        c->fx->ignored = true;
        return;
    }
    if (s->status == STEP_RUNNING) {
        /* asked again by the one that may: the answer was lost */
        if (s->worker == str_hash(in->worker))
            c->fx->answer = STARTED_GO;
        c->fx->ignored = true;
        return;
    }
    engine_emit_step(c, EVENT_STEP_STARTED, node,
                     (struct event){.attempt = s->attempt,
                                    .dispatch = s->dispatch > 1 ? s->dispatch : 0,
                                    .worker = in->worker,
                                    .started_at = in->started_at});
    c->fx->answer = STARTED_GO;
}

void engine_lost(struct ctx *c)
{
    uint32_t node = 0;
    bool is_open = false;

    if (!find_open(c, &node, &is_open))
        return;
    if (is_open)
        attempt_lost(c, node);
    else
        c->fx->ignored = true;
}
