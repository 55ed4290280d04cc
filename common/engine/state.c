/* The state of a run is the fold of its history. This file is the fold, and nothing else changes a struct run_state. */
#include "common/base/banned.h"
#include "common/base/ensure.h"
#include "common/engine/engine_internal.h"
#include <inttypes.h>

static const char *const step_status_names[] = {"pending", "queued",    "running", "waiting",   "succeeded",
                                                "failed",  "timed_out", "skipped", "cancelled", "outcome_unknown"};
static const char *const run_status_names[] = {
    "pending",   "active",    "paused",      "succeeded",          "failed", "partially_completed",
    "cancelled", "timed_out", "compensated", "compensation_failed"};

const char *step_status_name(enum step_status status)
{
    ENSURE((size_t)status < sizeof(step_status_names) / sizeof(step_status_names[0]));
    return step_status_names[status];
}

const char *run_status_name(enum run_status status)
{
    ENSURE((size_t)status < sizeof(run_status_names) / sizeof(run_status_names[0]));
    return run_status_names[status];
}

struct run_state *run_state_new(struct run_id id, int32_t organisation, struct plan *plan, struct wall_us created_at)
{
    struct run_state *state = mem_alloc(sizeof(*state));

    state->id = id;
    state->organisation = organisation;
    state->plan = plan_ref(plan);
    state->created_at = created_at;
    state->decisive = NO_NODE;
    state->priority = plan->priority;
    state->steps = mem_array(plan->step_count, sizeof(*state->steps));
    for (size_t i = 0; i < plan->step_count; i++) {
        state->steps[i].waiting_for = (uint32_t)plan->steps[i].edge_count;
        state->steps[i].branch = NO_BRANCH;
    }
    return state;
}

void run_state_free(struct run_state *state)
{
    if (state == NULL)
        return;
    for (size_t i = 0; i < state->plan->step_count; i++)
        mem_free(state->steps[i].error);
    mem_free(state->steps);
    plan_unref(state->plan);
    mem_free(state);
}

size_t run_state_bytes(const struct run_state *state)
{
    return sizeof(*state) + state->plan->step_count * sizeof(*state->steps);
}

static void copy_text(char *to, size_t size, struct str s)
{
    size_t n = s.len < size - 1 ? s.len : size - 1;

    /* never cut inside a UTF-8 sequence */
    while (n > 0 && n < s.len && ((unsigned char)s.ptr[n] & 0xC0) == 0x80)
        n--;
    if (n > 0)
        memcpy(to, s.ptr, n);
    to[n] = '\0';
}

static void work_opened(struct run_state *state, struct step_state *s, const struct event *event, enum work_kind kind)
{
    if (s->open_seq == 0)
        state->open_steps++;
    s->open_seq = event->seq;
    s->open_kind = (uint8_t)kind;
    s->due_at = event->due_at;
    s->deferred = false;
    if (s->ready_at.us == 0)
        s->ready_at = event->at;
}

static void work_closed(struct run_state *state, struct step_state *s)
{
    if (s->open_seq != 0)
        state->open_steps--;
    s->open_seq = 0;
    s->open_kind = 0;
    s->due_at.us = 0;
    s->deferred = false;
}

uint8_t engine_outcome_bit(enum step_status status)
{
    switch (status) {
    case STEP_SUCCEEDED:
        return OUT_SUCCEEDED;
    case STEP_FAILED:
        return OUT_FAILED;
    case STEP_SKIPPED:
        return OUT_SKIPPED;
    case STEP_TIMED_OUT:
        return OUT_TIMED_OUT;
    case STEP_CANCELLED:
        return OUT_CANCELLED;
    case STEP_OUTCOME_UNKNOWN:
        return OUT_UNKNOWN;
    case STEP_PENDING:
    case STEP_QUEUED:
    case STEP_RUNNING:
    case STEP_WAITING:
        break;
    }
    return 0;
}

/* Does any step below accept this outcome of `node`? Then the run goes on, and whether it was handled is decided at
 * rest. */
static bool someone_accepts(const struct plan *plan, uint32_t node, uint8_t outcome)
{
    const struct plan_step *step = &plan->steps[node];

    for (size_t c = 0; c < step->child_count; c++) {
        const struct plan_step *child = &plan->steps[step->children[c]];
        for (size_t e = 0; e < child->edge_count; e++)
            if (child->edges[e].parent == node && (child->edges[e].outcomes & outcome) != 0)
                return true;
    }
    return false;
}

/* Did the open attempt end without a result of its own? The worker may still tell. */
static bool cut_short(const struct event *event)
{
    if (event->type == EVENT_STEP_CANCELLED)
        return event->worker.ptr == NULL;
    return (event->type == EVENT_STEP_TIMED_OUT && str_is(event->code, "deadline")) ||
           str_is(event->code, "worker_lost") || str_is(event->code, "poison");
}

static void step_has_ended(struct run_state *state, uint32_t node, const struct event *event, enum step_status status)
{
    struct step_state *s = &state->steps[node];
    const struct plan_step *step = &state->plan->steps[node];
    bool failure = status == STEP_FAILED || status == STEP_TIMED_OUT || status == STEP_OUTCOME_UNKNOWN;

    if (s->open_kind == WORK_TASK && cut_short(event))
        s->unheard |= 1;
    work_closed(state, s);
    s->status = (uint8_t)status;
    s->ended_seq = event->seq;
    s->asked = 0;
    s->pending_with = NULL;
    s->ran = status != STEP_SKIPPED && status != STEP_CANCELLED;
    state->ended_steps++;
    for (size_t c = 0; c < step->child_count; c++)
        state->steps[step->children[c]].waiting_for--;
    if (!failure)
        return;
    if (s->error == NULL)
        s->error = mem_alloc(sizeof(*s->error));
    copy_text(s->error->code, sizeof(s->error->code), event->code);
    copy_text(s->error->message, sizeof(s->error->message), event->message);
    if (!step->continue_on_failure && !state->failing &&
        !someone_accepts(state->plan, node, engine_outcome_bit(status))) {
        state->failing = true;
        state->decisive = node;
    }
}

static enum err_code cannot_follow(const struct event *event, const char *why, struct err *err)
{
    return err_set(err, ERR_INTERNAL, "event %" PRIu32 " (%s) cannot follow: %s", event->seq,
                   event_type_name(event->type), why);
}

static enum err_code fold_run(struct run_state *state, const struct event *event, struct err *err)
{
    bool verdict = event->type >= EVENT_COMMAND_APPLIED; /* on a command: also of a run that has ended */

    if (run_ended((enum run_status)state->status) && !verdict)
        return cannot_follow(event, "the run has ended", err);
    if (event->type == EVENT_RUN_STARTED && state->status != RUN_PENDING)
        return cannot_follow(event, "the run has started", err);
    switch (event->type) {
    case EVENT_RUN_STARTED:
        state->status = RUN_ACTIVE;
        state->timeout_seq = event->seq;
        break;
    case EVENT_RUN_CANCELLING:
        state->cancelling = true;
        break;
    case EVENT_RUN_TIMING_OUT:
        state->timing_out = true;
        break;
    case EVENT_RUN_SUCCEEDED:
        state->status = RUN_SUCCEEDED;
        break;
    case EVENT_RUN_FAILED:
        state->status = RUN_FAILED;
        break;
    case EVENT_RUN_PARTIALLY_COMPLETED:
        state->status = RUN_PARTIALLY_COMPLETED;
        break;
    case EVENT_RUN_CANCELLED:
        state->status = RUN_CANCELLED;
        break;
    case EVENT_RUN_TIMED_OUT:
        state->status = RUN_TIMED_OUT;
        break;
    default: /* of commands: verdicts change nothing */
        break;
    }
    if (verdict || !run_ended((enum run_status)state->status))
        return ERR_OK;
    state->timeout_seq = 0;
    state->decisive = event->step.ptr == NULL ? NO_NODE : plan_find(state->plan, event->step);
    copy_text(state->run_error.code, sizeof(state->run_error.code), event->code);
    copy_text(state->run_error.message, sizeof(state->run_error.message), event->message);
    return ERR_OK;
}

/* The branch's index among those of the step; a branching step may have taken none. */
static uint8_t branch_index(const struct plan_step *step, struct str branch)
{
    for (size_t i = 0; i < step->branch_count; i++)
        if (branch.ptr != NULL && str_eq(step->branches[i], branch))
            return (uint8_t)i;
    return NO_BRANCH;
}

static void fold_open(struct run_state *state, struct step_state *s, const struct event *event)
{
    switch (event->type) {
    case EVENT_STEP_DISPATCHED:
        work_opened(state, s, event, WORK_TASK);
        s->status = STEP_QUEUED;
        s->asked = 0;
        s->attempt = event->attempt;
        s->unheard <<= 1; /* its bits count back from the newest attempt */
        s->generation = event->generation;
        s->dispatch = 1;
        s->began_dispatch = 0;
        s->worker = 0;
        if (event->output_bytes > 0)
            s->input_seq = event->seq;
        break;
    case EVENT_STEP_STARTED:
        s->status = STEP_RUNNING;
        s->began_dispatch = event->dispatch == 0 ? 1 : event->dispatch;
        s->dispatch = s->began_dispatch;
        s->worker = str_hash(event->worker);
        break;
    case EVENT_STEP_WAITING:
        work_opened(state, s, event, event->code.ptr != NULL ? WORK_UNKNOWN : WORK_DELAY);
        s->asked = 0;
        s->status = STEP_WAITING;
        break;
    default: /* EVENT_ATTEMPT_FAILED */
        work_opened(state, s, event, WORK_BACKOFF);
        s->status = STEP_WAITING;
        s->generation = event->generation;
        s->lost_in_row = str_is(event->code, "worker_lost") ? (uint16_t)(s->lost_in_row + 1) : 0;
        if (s->lost_in_row > 0)
            s->unheard |= 1;
        break;
    }
}

/* Is this a thing that can happen to the step as it is? */
static enum err_code may_follow(const struct run_state *state, const struct step_state *s, const struct event *event,
                                struct err *err)
{
    bool at_work = s->open_kind == WORK_TASK;

    if (step_ended((enum step_status)s->status))
        return cannot_follow(event, "the step has ended", err);
    if (run_ended((enum run_status)state->status))
        return cannot_follow(event, "the run has ended", err);
    if (state->status == RUN_PENDING && !(state->cancelling && event->type == EVENT_STEP_CANCELLED))
        return cannot_follow(event, "the run has not started", err);
    switch (event->type) {
    case EVENT_STEP_DISPATCHED:
        if (s->status != STEP_PENDING && s->open_kind != WORK_BACKOFF)
            return cannot_follow(event, "the step is not waiting for an attempt", err);
        if (event->attempt != s->attempt + 1)
            return cannot_follow(event, "an attempt is missing", err);
        return ERR_OK;
    case EVENT_STEP_STARTED:
    case EVENT_ATTEMPT_FAILED:
        return at_work ? ERR_OK : cannot_follow(event, "no attempt is open", err);
    case EVENT_STEP_WAITING:
        return at_work || s->status == STEP_PENDING ? ERR_OK : cannot_follow(event, "the step waits already", err);
    case EVENT_STEP_SKIPPED:
        return s->status == STEP_PENDING ? ERR_OK : cannot_follow(event, "the step has begun", err);
    default: /* outcomes */
        return ERR_OK;
    }
}

static enum err_code fold_step(struct run_state *state, uint32_t node, const struct event *event, struct err *err)
{
    struct step_state *s = &state->steps[node];

    enum err_code rc;

    if (event->type == EVENT_LATE_RESULT) {
        /* one word of each attempt is kept */
        if (event->attempt <= s->attempt && s->attempt - event->attempt < 64)
            s->unheard &= ~(UINT64_C(1) << (s->attempt - event->attempt));
        return ERR_OK;
    }
    rc = may_follow(state, s, event, err);
    if (rc != ERR_OK)
        return rc;
    switch (event->type) {
    case EVENT_STEP_SUCCEEDED:
        s->branch = branch_index(&state->plan->steps[node], event->branch);
        s->output_seq = event->output_bytes > 0 ? event->seq : 0;
        s->output_bytes = event->output_bytes;
        step_has_ended(state, node, event, STEP_SUCCEEDED);
        break;
    case EVENT_STEP_FAILED:
        step_has_ended(state, node, event, STEP_FAILED);
        break;
    case EVENT_STEP_TIMED_OUT:
        step_has_ended(state, node, event, STEP_TIMED_OUT);
        break;
    case EVENT_STEP_SKIPPED:
        step_has_ended(state, node, event, STEP_SKIPPED);
        break;
    case EVENT_STEP_CANCELLED:
        step_has_ended(state, node, event, STEP_CANCELLED);
        break;
    case EVENT_STEP_OUTCOME_UNKNOWN:
        step_has_ended(state, node, event, STEP_OUTCOME_UNKNOWN);
        break;
    default:
        fold_open(state, s, event);
        break;
    }
    return ERR_OK;
}

enum err_code engine_fold(struct run_state *state, const struct event *event, struct err *err)
{
    enum err_code rc;

    if (event->seq != state->last_seq + 1)
        return err_set(err, ERR_INTERNAL, "event %" PRIu32 " follows event %" PRIu32, event->seq, state->last_seq);
    if (event_type_name(event->type) == NULL)
        return err_set(err, ERR_NOT_AVAILABLE, "event %" PRIu32 " is of type %d, which this release does not know",
                       event->seq, (int)event->type);
    if (event->type < EVENT_STEP_DISPATCHED || event->type >= EVENT_COMMAND_APPLIED) {
        rc = fold_run(state, event, err);
    } else {
        uint32_t node = plan_find(state->plan, event->step);
        if (node == NO_NODE)
            return err_set(err, ERR_INTERNAL,
                           "event %" PRIu32 " names step '" STR_FMT "', which the plan does not have", event->seq,
                           STR_ARG(event->step));
        rc = fold_step(state, node, event, err);
    }
    if (rc == ERR_OK)
        state->last_seq = event->seq;
    return rc;
}

/* Rows are restored, and timers come, mostly in the order in which they were opened, and steps open theirs mostly in
 * the order of the document: the search begins where the last one ended. */
uint32_t engine_find_row(struct run_state *state, uint32_t seq)
{
    uint32_t count = (uint32_t)state->plan->step_count;
    uint32_t node = state->seek;

    for (uint32_t n = 0; seq != 0 && n < count; n++, node++) {
        if (node >= count)
            node = 0;
        if (state->steps[node].open_seq == seq) {
            state->seek = node;
            return node;
        }
    }
    return NO_NODE;
}

void engine_restore_work(struct run_state *state, uint32_t seq, uint32_t dispatch, struct wall_us due_at)
{
    uint32_t node = engine_find_row(state, seq);
    struct step_state *s;
    int64_t deadline_us;

    if (node == NO_NODE)
        return;
    s = &state->steps[node];
    deadline_us = state->plan->steps[node].deadline_us;
    s->due_at = due_at;
    if (s->open_kind != WORK_TASK)
        return;
    s->dispatch = dispatch;
    if (dispatch != s->began_dispatch) { /* deferred since: the worker that had begun has given it back */
        s->status = STEP_QUEUED;
        s->worker = 0;
    }
    /* an open task has a due time for its deadline, or, before that, because it was deferred */
    s->deferred = due_at.us != 0 && (deadline_us == 0 || due_at.us < s->ready_at.us + deadline_us);
}
