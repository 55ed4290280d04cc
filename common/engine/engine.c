/* engine_apply: dispatch of inputs, emission of events, timers and commands. */
#include "common/base/banned.h"
#include "common/base/ensure.h"
#include "common/engine/engine_internal.h"
#include <inttypes.h>

void effects_init(struct effects *effects, struct arena *arena)
{
    *effects = (struct effects){.arena = arena, .format = event_format_newest()};
}

void engine_emit(struct ctx *c, struct event event)
{
    if (c->rc != ERR_OK)
        return;
    event.seq = c->state->last_seq + 1;
    event.at = c->now;
    if (event.output.ptr != NULL)
        event.output_bytes = (uint32_t)event.output.len;
    c->fx->output_bytes += event.output.len;
    c->rc = engine_fold(c->state, &event, c->err);
    if (c->rc != ERR_OK)
        return;
    GROW(c, c->fx->events, c->fx->event_count, c->fx->event_cap);
    c->fx->events[c->fx->event_count++] = event;
    c->reopened |= event.type == EVENT_RUN_REOPENED;
}

void engine_open_work_row(struct ctx *c, struct effect_work_open work)
{
    GROW(c, c->fx->opens, c->fx->open_count, c->fx->open_cap);
    c->fx->opens[c->fx->open_count++] = work;
}

void engine_close_seq(struct ctx *c, uint32_t seq)
{
    bool of_batch = c->fx->event_count > 0 && seq >= c->fx->events[0].seq;

    for (size_t i = 0; i < c->fx->change_count; i++) /* nothing of it is left to change */
        if (c->fx->changes[i].seq == seq) {
            c->fx->changes[i] = c->fx->changes[--c->fx->change_count];
            break;
        }
    /* opened by this very batch: the row never has to exist */
    for (size_t i = of_batch ? c->fx->open_count : 0; i > 0; i--) {
        if (c->fx->opens[i - 1].seq == seq) {
            c->fx->opens[i - 1] = c->fx->opens[--c->fx->open_count];
            return;
        }
    }
    GROW(c, c->fx->closes, c->fx->close_count, c->fx->close_cap);
    c->fx->closes[c->fx->close_count++] = seq;
}

void engine_change_work(struct ctx *c, uint32_t node, const char *reason, bool publish)
{
    const struct step_state *s = run_step(c->state, node);
    struct effect_work_change change = {.seq = s->open_seq,
                                        .node = node,
                                        .dispatch = s->dispatch,
                                        .due_at = s->due_at,
                                        .reason = reason,
                                        .publish = publish};

    /* one change for each row and batch: the last says it all */
    for (size_t i = 0; i < c->fx->change_count; i++) {
        if (c->fx->changes[i].seq == change.seq) {
            c->fx->changes[i] = change;
            return;
        }
    }
    GROW(c, c->fx->changes, c->fx->change_count, c->fx->change_cap);
    c->fx->changes[c->fx->change_count++] = change;
}

/* Emits an event of a step: closes the row of what was open before, and opens the row of what the event opened. */
void engine_emit_step(struct ctx *c, enum event_type type, uint32_t node, struct event event)
{
    struct step_state *s = run_step(c->state, node);
    uint32_t open_before = s->open_seq;

    if (c->rc != ERR_OK)
        return;
    event.type = type;
    event.step = engine_path(c->fx->arena, c->state, node);
    engine_emit(c, event);
    if (c->rc != ERR_OK || s->open_seq == open_before)
        return;
    if (open_before != 0)
        engine_close_seq(c, open_before);
    if (s->open_seq != 0)
        engine_open_work_row(c, (struct effect_work_open){.seq = s->open_seq,
                                                          .kind = (enum work_kind)s->open_kind,
                                                          .node = node,
                                                          .attempt = s->attempt,
                                                          .dispatch = s->dispatch,
                                                          .due_at = s->due_at});
}

void engine_ask(struct ctx *c, uint32_t node, enum eval_purpose purpose, uint32_t index,
                const struct template *template)
{
    struct frame *frame = c->state->root;
    uint32_t question = ++c->state->questions;

    c->state->evaluating = true;
    if (purpose == EVAL_ITEM) {
        frame = run_step(c->state, node)->extra->items[index].frame;
        frame->asked = true;
        frame->question = question;
    } else if (node != NO_NODE) {
        struct step_state *s = run_step(c->state, node);

        frame = s->frame;
        s->asked = (uint8_t)(purpose + 1);
        s->asked_index = index;
        s->question = question;
    }
    GROW(c, c->fx->evals, c->fx->eval_count, c->fx->eval_cap);
    c->fx->evals[c->fx->eval_count++] = (struct effect_eval){
        .node = node, .purpose = purpose, .index = index, .question = question, .template = template, .frame = frame};
}

struct event engine_failure(const char *code, const char *error_class, struct str message)
{
    return (struct event){.code = str_of(code), .error_class = str_of(error_class), .message = message};
}

struct event engine_too_large(struct ctx *c, size_t bytes)
{
    return engine_failure("too_large", "permanent",
                          str_of(arena_printf(c->fx->arena,
                                              "the output has %zu bytes; at most %" PRId64 " are allowed (limit "
                                              "output_bytes): give out less, or have the limit raised",
                                              bytes, c->limits->of[LIMIT_OUTPUT_BYTES])));
}

/* A deferral is a new dispatch of the same attempt and writes no event: its row of open work says it. So does a poll's
 * answer that does not hold yet. */
void engine_defer(struct ctx *c, uint32_t node, int64_t after_us, const char *reason)
{
    struct step_state *s = run_step(c->state, node);

    if (engine_stopping(c->state, s->frame)) { /* it has not begun, and nothing new starts */
        engine_emit_step(c, EVENT_STEP_CANCELLED, node, (struct event){.attempt = s->attempt});
        engine_children_ready(c, node);
        return;
    }
    s->dispatch++;
    s->status = STEP_QUEUED;
    s->worker = 0;
    s->deferred = true;
    s->due_at.us = c->now.us + (after_us > 0 ? after_us : US_PER_MS);
    if (s->deadline.us != 0 && s->due_at.us >= s->deadline.us) {
        s->due_at = s->deadline;
        s->deferred = false;
    }
    engine_change_work(c, node, reason, false);
}

void engine_open_timeout(struct ctx *c)
{
    if (c->rc == ERR_OK)
        engine_open_work_row(c, (struct effect_work_open){.seq = c->state->timeout_seq,
                                                          .kind = WORK_RUN_TIMEOUT,
                                                          .node = NO_NODE,
                                                          .due_at = c->state->timeout_at});
}

/* When the run times out that (re)begins at `from`: its document was saved under the limit of then. */
struct wall_us engine_timeout(const struct ctx *c, struct wall_us from)
{
    int64_t most = c->limits->of[LIMIT_RUN_DAYS] * 86400 * US_PER_S, own = c->state->plan->timeout_us;

    return (struct wall_us){from.us + (own < most ? own : most)};
}

void engine_apply_command(struct ctx *c, const char *code)
{
    engine_emit(c, (struct event){.type = EVENT_COMMAND_APPLIED, .command = c->input->command, .code = str_of(code)});
}

void engine_refuse(struct ctx *c, const char *code, struct str message)
{
    engine_emit(
        c, (struct event){
               .type = EVENT_COMMAND_REFUSED, .command = c->input->command, .code = str_of(code), .message = message});
}

/* Is it being cancelled, or has it ended so, the way that is asked for? Then nothing is to be done. */
static bool is_cancelled(const struct run_state *state, bool compensate)
{
    if (!state->cancelling || (compensate && !state->compensate_wanted))
        return false;
    return !run_ended((enum run_status)state->status) || state->status == RUN_CANCELLED ||
           state->status == RUN_COMPENSATED;
}

static void refuse_cancel(struct ctx *c)
{
    const struct run_state *state = c->state;

    if (run_ended((enum run_status)state->status))
        engine_refuse(c, "run_ended",
                      str_of(arena_printf(c->fx->arena, "the run has ended '%s'%s",
                                          run_status_name((enum run_status)state->status),
                                          state->status == RUN_CANCELLED ? ": :compensate undoes what it did" : "")));
    else if (state->compensating)
        engine_refuse(c, "compensating", STR("what the run has done is being undone"));
    else if (state->timing_out)
        engine_refuse(c, "timing_out", STR("the run's timeout has passed, and it is about to end"));
    else
        engine_refuse(c, "run_ended", STR("all steps of the run have ended, and it is about to end"));
}

static void cancel(struct ctx *c)
{
    const struct run_state *state = c->state;
    bool at_rest = state->started && state->root->ended == state->plan->root_count && !engine_held(state);

    if (is_cancelled(state, c->input->compensate)) {
        engine_apply_command(c, "cancel"); /* what was asked for already holds */
        return;
    }
    if (run_ended((enum run_status)state->status) || at_rest || state->compensating) {
        refuse_cancel(c);
        return;
    }
    c->fx->status_changed |= engine_held(state);
    engine_apply_command(c, "cancel");
    engine_emit(c, (struct event){.type = EVENT_RUN_CANCELLING,
                                  .command = c->input->command,
                                  .compensate = c->input->compensate,
                                  .code = c->input->code,
                                  .message = c->input->message});
    engine_stop_frame(c, c->state->root);
}

/* For one that its own timeout ends as well as its deadline: the row has the earlier of the two. */
static bool waits_for_word(const struct step_state *s)
{
    return s->open_kind == WORK_SIGNAL || s->open_kind == WORK_EVENT;
}

/* The step's deadline, or that of what it waits for, has passed. */
static void step_over(struct ctx *c, uint32_t node)
{
    struct step_state *s = run_step(c->state, node);
    const struct plan_step *step = run_plan_step(c->state, node);
    struct event event = engine_failure("deadline", "permanent", STR("the step's deadline has passed"));

    if (s->open_kind == WORK_TASK)
        engine_tell_to_stop(c, node);
    if (s->open_kind == WORK_ITEMS)
        engine_cut_loop(c, node);
    if (s->open_kind == WORK_CHILD)
        engine_child_stop(c, node);
    /* which of the two came first, however late this is heard */
    if (step->deadline_us == 0 ||
        (waits_for_word(s) ? s->due_at : s->deadline).us < s->ready_at.us + step->deadline_us) {
        switch (step->kind) {
        case CALL_POLL:
            event.code = STR("poll_timeout");
            event.message = STR("'until' did not hold in time");
            break;
        case CALL_EVENT:
            event.code = STR("event_timeout");
            event.message = STR("no event that it waits for came in time");
            break;
        default:
            event.code = STR("signal_timeout");
            event.message = STR("the signal did not come in time");
            break;
        }
    }
    engine_step_failed(c, node, s->open_kind == WORK_UNKNOWN ? EVENT_STEP_OUTCOME_UNKNOWN : EVENT_STEP_TIMED_OUT,
                       event);
}

static void timer_of_step(struct ctx *c, uint32_t node)
{
    struct step_state *s = run_step(c->state, node);
    bool over = s->deadline.us != 0 && c->now.us >= s->deadline.us;

    /* a delay that ended before the deadline has ended, however late its timer is heard */
    if (s->open_kind == WORK_DELAY && s->due_at.us < s->deadline.us)
        over = false;
    if (over || waits_for_word(s)) {
        step_over(c, node);
        return;
    }
    if (engine_held(c->state)) { /* it is heard again when the run is resumed */
        c->fx->ignored = true;
        return;
    }
    switch ((enum work_kind)s->open_kind) {
    case WORK_BACKOFF:
        engine_dispatch(c, node);
        break;
    case WORK_DELAY:
        engine_succeed(c, node, STR_NONE, STR_NONE);
        break;
    case WORK_ITEMS:
        engine_fill(c, node);
        break;
    case WORK_TASK:
        if (!s->deferred) {
            c->fx->ignored = true;
            break;
        }
        s->deferred = false;
        s->due_at = s->deadline;
        engine_change_work(c, node, NULL, true);
        break;
    case WORK_RUN_TIMEOUT:
    case WORK_UNKNOWN:
    case WORK_SIGNAL:
    case WORK_EVENT:
    case WORK_CHILD:
    case WORK_ADMISSION:
        c->fx->ignored = true;
        break;
    }
}

static void timer(struct ctx *c)
{
    struct run_state *state = c->state;
    uint32_t node;

    if (c->input->seq > state->last_seq) {
        c->fx->stale_cache = true;
        return;
    }
    if (run_ended(state->status) || c->input->seq == 0) {
        c->fx->ignored = true;
        return;
    }
    if (c->input->seq == state->timeout_seq) {
        if (c->now.us < state->timeout_at.us || state->timing_out || state->compensating ||
            (state->root->ended == state->plan->root_count && !engine_held(state))) {
            c->fx->ignored = true;
            return;
        }
        c->fx->status_changed |= engine_held(state);
        engine_emit(c, (struct event){.type = EVENT_RUN_TIMING_OUT});
        engine_stop_frame(c, state->root);
        return;
    }
    node = engine_find_row(state, c->input->seq);
    /* one that is early is of before a change: its new time is in the row */
    if (node == NO_NODE || run_step(state, node)->due_at.us == 0 || c->now.us < run_step(state, node)->due_at.us)
        c->fx->ignored = true;
    else
        timer_of_step(c, node);
}

/* The event format that applying it may need. Of what a run's workflow does by itself, its start decides once for all.
 */
static int format_needed(const struct run_state *state, const struct engine_input *input)
{
    int admission = event_format(EVENT_RUN_ADMITTED);

    switch (input->kind) {
    case IN_START:
        if (state->plan->format < event_format(EVENT_STEP_GIVEN) &&
            (input->given.ptr != NULL || input->start_at.ptr != NULL))
            return event_format(EVENT_STEP_GIVEN);
        return input->bounded && state->plan->format < admission ? admission : state->plan->format;
    case IN_CANCEL:
        return event_format(EVENT_RUN_CANCELLING);
    case IN_PAUSE:
        return event_format(EVENT_RUN_PAUSED);
    case IN_SIGNAL:
        return event_format(EVENT_SIGNAL_RECEIVED);
    case IN_SETTLE:
        return event_format(EVENT_STEP_SETTLED);
    case IN_COMPENSATE:
        return event_format(EVENT_RUN_COMPENSATING);
    case IN_RETRY:
        return event_format(EVENT_STEP_REOPENED);
    case IN_RESULT:
    case IN_STARTED:
    case IN_LOST:
    case IN_TIMER:
    case IN_VALUE:
    case IN_CHILD:
    case IN_WAKE:
    case IN_EVENT:  /* its wait began in the format that it needs */
    case IN_RESUME: /* of a run that is paused, which nobody of before can have */
    case IN_ADMIT:
        break;
    }
    return 0;
}

/* Somebody may have to go on with this run who cannot read what would be written. A person can ask again; a start, or
 * what nobody would repeat, waits. A history that is beyond the others already may go on. */
static bool held_back(struct ctx *c)
{
    int needed = format_needed(c->state, c->input);

    if (needed <= c->fx->format || needed <= c->state->format)
        return false;
    if (c->input->command != 0 && c->input->kind != IN_START && !(c->input->kind == IN_RETRY && c->input->of_parent))
        engine_refuse(c, "upgrade_in_progress",
                      STR("a scheduler of an older release is still running, which could not go on with the run after "
                          "this: ask again when the upgrade is complete"));
    else
        c->fx->postponed = true;
    return true;
}

enum err_code engine_apply(struct run_state *state, const struct engine_input *input, struct wall_us now,
                           struct effects *effects, struct err *err)
{
    struct ctx c = {.state = state,
                    .input = input,
                    .limits = input->limits == NULL ? &LIMITS_DEFAULT : input->limits,
                    .now = now,
                    .fx = effects,
                    .err = err};

    effects->answer = STARTED_NONE;
    effects->ignored = false;
    effects->stale_cache = false;
    effects->postponed = false;
    if (held_back(&c))
        return c.rc;
    switch (input->kind) {
    case IN_START:
        engine_start(&c);
        break;
    case IN_RESULT:
        engine_result(&c);
        break;
    case IN_STARTED:
        engine_started(&c);
        break;
    case IN_LOST:
        engine_lost(&c);
        break;
    case IN_TIMER:
        timer(&c);
        break;
    case IN_VALUE:
        engine_value(&c);
        break;
    case IN_CANCEL:
        cancel(&c);
        break;
    case IN_PAUSE:
        engine_pause(&c);
        break;
    case IN_RESUME:
        engine_resume(&c);
        break;
    case IN_SIGNAL:
        engine_signal(&c);
        break;
    case IN_SETTLE:
        engine_settle(&c);
        break;
    case IN_COMPENSATE:
        engine_compensate(&c);
        break;
    case IN_CHILD:
        engine_child_ended(&c);
        break;
    case IN_RETRY:
        engine_retry(&c);
        break;
    case IN_WAKE:
        engine_wake(&c);
        break;
    case IN_EVENT:
        engine_event_came(&c);
        break;
    case IN_ADMIT:
        engine_admitted(&c);
        break;
    }
    engine_ask_again(&c);
    engine_advance(&c);
    if (c.rc == ERR_OK)
        engine_finish_if_at_rest(&c);
    return c.rc;
}

/* An iteration's indexes, outermost first: ":3:0". */
static void put_indexes(const struct run_state *state, const struct frame *frame, struct buf *out)
{
    if (frame == state->root || frame->owner == NO_NODE)
        return;
    put_indexes(state, run_step(state, frame->owner)->frame, out);
    if (state->plan->scopes[frame->scope].role == ROLE_STEP)
        buf_printf(out, ":%" PRIu32, frame->index);
}

void engine_idempotency_key(const struct run_state *state, uint32_t node, struct str own_key, struct buf *out)
{
    const struct step_state *s = run_step(state, node);
    const struct plan_step *step = run_plan_step(state, node);
    char run[UUID_TEXT_SIZE];

    if (step->has_key) {
        buf_append_str(out, own_key);
        put_indexes(state, s->frame, out);
        return;
    }
    run_id_format(state->id, run);
    buf_printf(out, "%s%s", run, step->role == ROLE_NOTIFY ? "" : ":"); /* the path of a notification begins with one */
    run_step_path(state, node, out);
    if (s->generation > 1 && !step->key_per_step)
        buf_printf(out, ":%u", (unsigned)s->generation);
    if (step->kind == CALL_POLL)
        buf_printf(out, ":t%" PRIu32, s->dispatch);
}

void engine_task_id(const struct run_state *state, uint32_t node, struct buf *out)
{
    const struct step_state *s = run_step(state, node);
    char run[UUID_TEXT_SIZE];

    run_id_format(state->id, run);
    buf_printf(out, "%s/", run);
    run_step_path(state, node, out);
    buf_printf(out, "/%u/%" PRIu32, (unsigned)s->attempt, s->dispatch);
}

enum err_code engine_parse_task_id(struct str id, struct run_id *run, struct str *step, uint32_t *attempt,
                                   uint32_t *dispatch, struct err *err)
{
    struct str rest = id;
    struct str run_text = str_cut(&rest, '/');
    struct str step_text = str_cut(&rest, '/');
    struct str attempt_text = str_cut(&rest, '/');

    if (!run_id_parse(run_text, run) || step_text.len == 0 || !parse_u32(attempt_text, 1, UINT16_MAX, attempt) ||
        !parse_u32(rest, 1, UINT32_MAX, dispatch))
        return err_set(err, ERR_INVALID, "task id '" STR_FMT "' is not run/step/attempt/dispatch", STR_ARG(id));
    *step = step_text;
    return ERR_OK;
}
