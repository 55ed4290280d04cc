/* The state of a run is the fold of its history. This file is the fold, and nothing else changes a struct run_state but
 * what an evaluation leaves until its value is here. */
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
    state->timeout_at.us = created_at.us + plan->timeout_us;
    state->decisive = NO_NODE;
    state->priority = plan->priority;
    state->free = mem_array(plan->scope_count, sizeof(struct frame *));
    state->root = frame_new(state, 0, NO_NODE, 0);
    return state;
}

void run_state_free(struct run_state *state)
{
    if (state == NULL)
        return;
    frames_free(state);
    signals_free(state);
    mem_free(state->undos);
    mem_free(state->run_error);
    plan_unref(state->plan);
    mem_free(state);
}

size_t run_state_bytes(const struct run_state *state)
{
    size_t others = state->node_count - state->own_count;
    size_t pages = (others + NODES_PER_PAGE - 1) / NODES_PER_PAGE;

    return sizeof(*state) + (state->own_count + pages * NODES_PER_PAGE) * sizeof(struct step_state) +
           pages * sizeof(*state->pages) + state->extra_bytes + state->row_cap * sizeof(*state->rows) +
           state->undo_cap * sizeof(*state->undos) + state->plan->scope_count * sizeof(*state->free);
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

void fold_error(struct step_error **error, const struct event *event)
{
    if (*error == NULL)
        *error = mem_alloc(sizeof(**error));
    copy_text((*error)->code, sizeof((*error)->code), event->code);
    copy_text((*error)->message, sizeof((*error)->message), event->message);
}

void work_closed(struct run_state *state, uint32_t node)
{
    struct step_state *s = run_step(state, node);

    if (s->open_seq != 0) {
        state->open_steps--;
        rows_del(state, node);
    }
    if (s->open_kind == WORK_SIGNAL)
        signal_leave(s->extra->signal, node);
    s->open_seq = 0;
    s->open_kind = 0;
    s->due_at.us = 0;
    s->deferred = false;
}

static void work_opened(struct run_state *state, uint32_t node, const struct event *event, enum work_kind kind)
{
    struct step_state *s = run_step(state, node);

    work_closed(state, node);
    s->open_seq = event->seq;
    s->open_kind = (uint8_t)kind;
    s->due_at = event->due_at;
    if (s->ready_at.us == 0) {
        int64_t deadline_us = state->plan->steps[s->step].deadline_us;

        s->ready_at = event->at;
        if (deadline_us != 0)
            s->deadline.us = event->at.us + deadline_us;
    }
    state->open_steps++;
    rows_add(state, node);
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
    case STEP_STATUSES:
        break;
    }
    return 0;
}

enum run_status event_run_end(enum event_type type)
{
    static const struct {
        enum event_type type;
        enum run_status status;
    } ends[] = {{EVENT_RUN_SUCCEEDED, RUN_SUCCEEDED},
                {EVENT_RUN_FAILED, RUN_FAILED},
                {EVENT_RUN_PARTIALLY_COMPLETED, RUN_PARTIALLY_COMPLETED},
                {EVENT_RUN_CANCELLED, RUN_CANCELLED},
                {EVENT_RUN_TIMED_OUT, RUN_TIMED_OUT},
                {EVENT_RUN_COMPENSATED, RUN_COMPENSATED},
                {EVENT_RUN_COMPENSATION_FAILED, RUN_COMPENSATION_FAILED}};

    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
        if (ends[i].type == type)
            return ends[i].status;
    return RUN_PENDING;
}

bool event_ends_run(enum event_type type)
{
    return run_ended(event_run_end(type));
}

/* Does any step below accept this outcome of the step? Then the run goes on, and whether it was handled is decided at
 * rest. */
static bool someone_accepts(const struct plan *plan, uint32_t index, uint8_t outcome)
{
    const struct plan_step *step = &plan->steps[index];

    for (size_t c = 0; c < step->child_count; c++) {
        const struct plan_step *child = &plan->steps[step->children[c]];
        for (size_t e = 0; e < child->edge_count; e++)
            if (child->edges[e].parent == index && (child->edges[e].outcomes & outcome) != 0)
                return true;
    }
    return false;
}

/* Did the open attempt end without a result of its own? The worker may still tell. */
static bool cut_short(const struct event *event)
{
    if (event->type == EVENT_STEP_CANCELLED)
        return event->worker.ptr == NULL;
    return (event->type == EVENT_STEP_TIMED_OUT && event->worker.ptr == NULL) || str_is(event->code, "worker_lost") ||
           str_is(event->code, "poison");
}

/* May this attempt, or one before it under the same key, have had its effect although nobody said so? A definite answer
 * settles it. */
static void note_doubt(struct step_state *s, const struct event *event)
{
    bool lost = str_is(event->code, "worker_lost") || str_is(event->code, "poison");

    if (event->sent || lost || ((s->unheard & 1) != 0 && s->began_dispatch != 0))
        s->doubtful = true;
    else if (event->http_status != 0)
        s->doubtful = false;
}

static void children_count_down(struct run_state *state, const struct frame *frame, const struct plan_step *step)
{
    uint32_t first = state->plan->scopes[frame->scope].first;

    for (size_t c = 0; c < step->child_count; c++)
        run_step(state, frame->base + (step->children[c] - first))->waiting_for--;
}

void fold_failure(struct run_state *state, uint32_t node)
{
    const struct step_state *s = run_step(state, node);
    const struct plan_step *step = &state->plan->steps[s->step];
    struct frame *frame = s->frame;

    if (step->role != ROLE_STEP || step->continue_on_failure || frame->failing ||
        someone_accepts(state->plan, s->step, engine_outcome_bit((enum step_status)s->status)))
        return;
    frame->failing = true;
    frame->decisive = node;
}

void fold_outcome(struct run_state *state, uint32_t node, const struct event *event, enum step_status status)
{
    struct step_state *s = run_step(state, node);
    const struct plan_step *step = &state->plan->steps[s->step];

    if (s->open_kind == WORK_TASK && cut_short(event))
        s->unheard |= 1;
    note_doubt(s, event);
    work_closed(state, node);
    s->status = (uint8_t)status;
    s->ended_seq = event->seq;
    s->asked = 0;
    s->pending = NULL;
    s->ran = status != STEP_SKIPPED && status != STEP_CANCELLED;
    s->frame->ended++;
    children_count_down(state, s->frame, step);
    if (step_is_failure(status) || (status == STEP_SUCCEEDED && event->code.ptr != NULL))
        fold_error(&s->error, event);
    s->partial = status == STEP_SUCCEEDED && event->code.ptr != NULL;
    if (step->compensate != NO_NODE && event->type != EVENT_STEP_GIVEN) /* what others did is not ours to undo */
        undo_note(state, node);
    if (step->role == ROLE_COMPENSATE) {
        struct undo *undo = undo_find(state, s->frame->owner);
        if (undo != NULL)
            undo->undone = (uint8_t)status;
    }
    if (step_is_failure(status))
        fold_failure(state, node);
}

enum err_code fold_refuse(const struct event *event, const char *why, struct err *err)
{
    return err_set(err, ERR_INTERNAL, "event %" PRIu32 " (%s) cannot follow: %s", event->seq,
                   event_type_name(event->type), why);
}

static void run_has_ended(struct run_state *state, const struct event *event, enum run_status status)
{
    state->status = (uint8_t)status;
    state->paused_by_parent = false;
    state->timeout_seq = 0;
    state->admission_seq = 0;
    state->timeout_waits = false;
    for (size_t i = 0; i < ADMISSION_SCOPES; i++)
        state->admissions[i].asked = false;
    state->compensating = false;
    state->retrying = false;
    state->decisive = event->step.ptr == NULL ? NO_NODE : run_find_step(state, event->step, NULL);
    if (event->code.ptr != NULL)
        fold_error(&state->run_error, event);
}

static void run_reopened(struct run_state *state, const struct event *event)
{
    struct frame *notify;

    state->status = RUN_ACTIVE;
    state->decisive = NO_NODE;
    mem_free(state->run_error);
    state->run_error = NULL;
    if (event->due_at.us == 0) /* only to undo what was done */
        return;
    if (str_is(event->code, "retry")) {
        state->retrying = true;
        if (event->count != 0)
            state->retries = event->count;
        state->compensate_wanted = false;
        state->root->failing = false;
        state->root->stopped = false;
        state->root->decisive = NO_NODE;
    }
    state->cancelling = false;
    state->timing_out = false;
    state->timeout_seq = event->seq;
    state->timeout_at = event->due_at;
    notify = state->plan->notify == NO_NODE ? NULL : run_find_action(state, state->plan->notify, NO_NODE);
    if (notify != NULL && notify->ended == 1) /* of what comes next people want to know, too */
        step_restart(state, run_step(state, notify->base));
}

/* By being resumed, or by being stopped: what is stopped has nothing to hold back. */
static void pause_over(struct run_state *state)
{
    if (state->status == RUN_PAUSED)
        state->status = state->started ? RUN_ACTIVE : RUN_PENDING;
    state->paused_by_parent = false;
}

static void loops_held(struct run_state *state)
{
    for (const struct frame *frame = state->frames; frame != NULL; frame = frame->next)
        for (uint32_t i = 0; frame->used && i < state->plan->scopes[frame->scope].count; i++)
            if (run_step(state, frame->base + i)->open_kind == WORK_ITEMS)
                run_step(state, frame->base + i)->extra->held = true;
}

const char *const admission_scope_names[ADMISSION_SCOPES] = {"workflow", "organisation"};

/* It waits for a slot, also when it goes on after its end, and its timeout with it; or takes one without waiting. */
static enum err_code fold_queued(struct run_state *state, const struct event *event, struct err *err)
{
    bool takes = str_is(event->as, "take");
    size_t scope = 0;
    struct run_id key;

    while (scope < ADMISSION_SCOPES && !str_is(event->waits, admission_scope_names[scope]))
        scope++;
    if (scope == ADMISSION_SCOPES || !run_id_parse(event->key, &key))
        return fold_refuse(event, "it names no concurrency key", err);
    if ((takes && !state->started) || (state->started && state->open_steps != 0) || state->admission_seq != 0 ||
        state->admissions[scope].asked)
        return fold_refuse(event, "the run waits already, or has begun", err);
    state->admissions[scope] = (struct admission){.key = key, .known = true, .asked = true};
    if (takes)
        return ERR_OK;
    state->admission_seq = event->seq;
    if (state->started && state->timeout_seq != 0) {
        state->timeout_waits = true;
        state->timeout_seq = 0;
    }
    return ERR_OK;
}

static enum err_code fold_run(struct run_state *state, const struct event *event, struct err *err)
{
    bool verdict = event->type >= EVENT_COMMAND_APPLIED; /* on a command: also of a run that has ended */

    if (run_ended((enum run_status)state->status) != (event->type == EVENT_RUN_REOPENED) && !verdict)
        return fold_refuse(event, "the run has ended, or not", err);
    switch (event->type) {
    case EVENT_RUN_STARTED:
        if (state->started || state->admission_seq != 0)
            return fold_refuse(event, "the run has started, or waits", err);
        state->started = true;
        if (state->status == RUN_PENDING)
            state->status = RUN_ACTIVE;
        state->timeout_seq = event->seq;
        state->timeout_at = event->due_at;
        break;
    case EVENT_RUN_PAUSED:
        if (state->status == RUN_PAUSED || state->cancelling || state->timing_out || state->compensating)
            return fold_refuse(event, "there is nothing to pause", err);
        state->status = RUN_PAUSED;
        state->paused_by_parent = str_is(event->code, "parent");
        break;
    case EVENT_RUN_RESUMED:
        if (state->status != RUN_PAUSED)
            return fold_refuse(event, "the run is not paused", err);
        pause_over(state);
        loops_held(state);
        break;
    case EVENT_RUN_QUEUED:
        return fold_queued(state, event, err);
    case EVENT_RUN_ADMITTED:
        if (state->admission_seq == 0 || event->ref != state->admission_seq)
            return fold_refuse(event, "the run does not wait for it", err);
        state->admission_seq = 0;
        if (event->due_at.us != 0) {
            state->timeout_waits = false;
            state->timeout_seq = event->seq;
            state->timeout_at = event->due_at;
        }
        break;
    case EVENT_RUN_CANCELLING:
        pause_over(state);
        state->cancelling = true;
        state->compensate_wanted = event->compensate;
        if (event->code.ptr != NULL)
            fold_error(&state->run_error, event);
        break;
    case EVENT_RUN_TIMING_OUT:
        pause_over(state);
        state->timing_out = true;
        break;
    case EVENT_RUN_COMPENSATING:
        state->compensating = true;
        if (event->message.ptr != NULL) { /* no step explains it: the run's output could not be made */
            struct event output = {.code = STR("expression_failed"), .message = event->message};
            fold_error(&state->run_error, &output);
        }
        undo_again(state);
        undo_show_late_outputs(state);
        break;
    case EVENT_RUN_REOPENED:
        run_reopened(state, event);
        break;
    case EVENT_SIGNAL_RECEIVED:
        if (event->name.ptr == NULL)
            return fold_refuse(event, "the signal has no name", err);
        signal_came(state, signal_get(state, event->name), event->seq, event->output_bytes);
        break;
    default: /* verdicts on commands change nothing */
        if (event_ends_run(event->type))
            run_has_ended(state, event, event_run_end(event->type));
        break;
    }
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

static enum err_code fold_waiting(struct run_state *state, uint32_t node, const struct event *event, struct err *err)
{
    struct step_state *s = run_step(state, node);
    enum work_kind kind = event->code.ptr != NULL ? WORK_UNKNOWN : WORK_DELAY;
    struct step_extra *extra;

    if (str_is(event->waits, "items")) {
        if (event->count == 0 || event->count > LOOP_ITEMS_MAX || state->plan->steps[s->step].body == NO_NODE)
            return fold_refuse(event, "a loop has 1 to 10,000 items", err);
        kind = WORK_ITEMS;
        extra = step_extra(state, s);
        if (extra->items != NULL)
            return fold_refuse(event, "the loop has its items", err);
        extra->count = event->count;
        extra->items = mem_array(event->count, sizeof(*extra->items));
        state->extra_bytes += event->count * sizeof(*extra->items);
    } else if (str_is(event->waits, "child")) {
        kind = WORK_CHILD;
        step_extra(state, s)->had_child = true;
        s->extra->child_retries = 0;
        s->extra->child_told = false;
        if (!run_id_parse(event->child, &s->extra->child))
            return fold_refuse(event, "it names no child run", err);
    } else if (str_is(event->waits, "signal")) {
        struct signal_queue *queue;

        if (event->name.ptr == NULL)
            return fold_refuse(event, "the signal has no name", err);
        queue = signal_get(state, event->name);
        kind = WORK_SIGNAL;
        queue->once |= event->once;
        step_extra(state, s)->signal = queue;
        signal_wait(state, queue, node);
    }
    if (kind == WORK_UNKNOWN) {
        s->doubtful = true;
        s->unheard |= event->sent ? 0 : 1; /* unless it was the worker who said that it does not know */
    }
    work_opened(state, node, event, kind);
    s->asked = 0;
    s->status = STEP_WAITING;
    if (event->output_bytes > 0)
        s->input_seq = event->seq;
    return ERR_OK;
}

static enum err_code fold_open(struct run_state *state, uint32_t node, const struct event *event, struct err *err)
{
    struct step_state *s = run_step(state, node);

    switch (event->type) {
    case EVENT_STEP_DISPATCHED:
        work_opened(state, node, event, WORK_TASK);
        if (s->attempt == (s->extra == NULL ? 0 : s->extra->attempts_before))
            s->deadline = event->due_at;
        s->status = STEP_QUEUED;
        s->asked = 0;
        s->attempt = event->attempt;
        s->unheard <<= 1; /* its bits count back from the newest attempt */
        if (event->generation != s->generation)
            s->doubtful = false; /* what may have happened under the key of before has been answered */
        step_use_generation(s, event->generation);
        s->key_used = true;
        s->dispatch = 1;
        s->began_dispatch = 0;
        s->worker = 0;
        if (event->output_bytes > 0)
            s->input_seq = event->seq;
        if (event->interval_us != 0)
            step_extra(state, s)->interval_us = event->interval_us;
        break;
    case EVENT_STEP_STARTED:
        s->status = STEP_RUNNING;
        s->began_dispatch = event->dispatch == 0 ? 1 : event->dispatch;
        s->dispatch = s->began_dispatch;
        s->worker = str_hash(event->worker);
        break;
    case EVENT_STEP_WAITING:
        return fold_waiting(state, node, event, err);
    case EVENT_STEP_LISTENING:
        (void)step_extra(state, s); /* it has begun: when it times out there may be something to undo */
        work_opened(state, node, event, WORK_EVENT);
        s->asked = 0;
        s->status = STEP_WAITING;
        break;
    case EVENT_STEP_CONTINUED:
        if (s->extra->items != NULL)
            loop_again(s);
        else
            s->extra->child_retries = event->count;
        s->extra->child_told = false;
        work_opened(state, node, event, s->extra->items != NULL ? WORK_ITEMS : WORK_CHILD);
        s->asked = 0;
        s->status = STEP_WAITING;
        break;
    default:                        /* EVENT_ATTEMPT_FAILED */
        if (event->dispatch != 0) { /* a poll that was answered in between */
            step_extra(state, s)->attempts_before = (uint16_t)(s->attempt - 1);
            s->lost_in_row = 0;
        }
        s->lost_in_row = str_is(event->code, "worker_lost") ? (uint16_t)(s->lost_in_row + 1) : 0;
        if (s->lost_in_row > 0)
            s->unheard |= 1;
        note_doubt(s, event);
        work_opened(state, node, event, WORK_BACKOFF);
        s->status = STEP_WAITING;
        step_use_generation(s, event->generation);
        break;
    }
    return ERR_OK;
}

/* Is this a thing that can happen to the step as it is? */
static enum err_code may_follow(const struct run_state *state, const struct step_state *s, const struct event *event,
                                struct err *err)
{
    bool at_work = s->open_kind == WORK_TASK;
    bool given = event->type == EVENT_STEP_GIVEN;

    if (step_ended((enum step_status)s->status))
        return fold_refuse(event, "the step has ended", err);
    if (run_ended((enum run_status)state->status))
        return fold_refuse(event, "the run has ended", err);
    if (!state->started && !given && !(state->cancelling && event->type == EVENT_STEP_CANCELLED))
        return fold_refuse(event, "the run has not started", err);
    switch (event->type) {
    case EVENT_STEP_DISPATCHED:
        if (s->status != STEP_PENDING && s->open_kind != WORK_BACKOFF)
            return fold_refuse(event, "the step is not waiting for an attempt", err);
        if (event->attempt != s->attempt + 1)
            return fold_refuse(event, "an attempt is missing", err);
        return ERR_OK;
    case EVENT_STEP_STARTED:
    case EVENT_ATTEMPT_FAILED:
        return at_work ? ERR_OK : fold_refuse(event, "no attempt is open", err);
    case EVENT_STEP_WAITING:
        if (event->waits.ptr != NULL && s->status != STEP_PENDING)
            return fold_refuse(event, "the step has begun", err);
        return at_work || s->status == STEP_PENDING ? ERR_OK : fold_refuse(event, "the step waits already", err);
    case EVENT_STEP_LISTENING:
        return s->status == STEP_PENDING && state->plan->steps[s->step].kind == CALL_EVENT
                   ? ERR_OK
                   : fold_refuse(event, "the step has begun, or waits for no event", err);
    case EVENT_STEP_GIVEN:
        if (s->frame != state->root)
            return fold_refuse(event, "only outcomes of the run's own steps are given", err);
        if (state->cancelling || engine_has_asked(state))
            return fold_refuse(event, "outcomes are given before the run waits for a slot", err);
        return s->status == STEP_PENDING ? ERR_OK : fold_refuse(event, "the step has begun", err);
    case EVENT_STEP_CONTINUED:
        return s->status == STEP_PENDING && s->extra != NULL && (s->extra->items != NULL || s->extra->had_child)
                   ? ERR_OK
                   : fold_refuse(event, "it has nothing to go on with", err);
    case EVENT_STEP_SKIPPED:
        return s->status == STEP_PENDING ? ERR_OK : fold_refuse(event, "the step has begun", err);
    default: /* outcomes */
        return ERR_OK;
    }
}

static enum err_code fold_succeeded(struct run_state *state, uint32_t node, const struct event *event, struct err *err)
{
    struct step_state *s = run_step(state, node);

    s->branch = branch_index(&state->plan->steps[s->step], event->branch);
    s->output_seq = event->output_bytes > 0 ? event->seq : 0;
    s->output_bytes = event->output_bytes;
    if (event->name.ptr != NULL) {
        if (!signal_take(signal_find(state, event->name), event->ref, &s->output_bytes))
            return fold_refuse(event, "the signal that it takes is not the oldest", err);
        s->output_seq = s->output_bytes > 0 ? event->ref : 0;
    }
    fold_outcome(state, node, event, STEP_SUCCEEDED);
    return ERR_OK;
}

/* What another run, or a person, says came of it; or the run begins behind it. */
static enum err_code fold_given(struct run_state *state, uint32_t node, const struct event *event, struct err *err)
{
    struct step_state *s = run_step(state, node);
    enum step_status status = STEP_SUCCEEDED;

    while (status < STEP_STATUSES && !str_is(event->as, step_status_name(status)))
        status++;
    if (status == STEP_STATUSES || status == STEP_CANCELLED)
        return fold_refuse(event, "that is no outcome that can be given", err);
    if (status == STEP_SUCCEEDED)
        return fold_succeeded(state, node, event, err);
    s->passed = status == STEP_SKIPPED && str_is(event->code, "start_at_step");
    fold_outcome(state, node, event, status);
    return ERR_OK;
}

static enum err_code fold_node(struct run_state *state, uint32_t node, const struct event *event, struct err *err)
{
    enum err_code rc;

    if (event->type == EVENT_LATE_RESULT) {
        fold_late(state, node, event);
        return ERR_OK;
    }
    if (event->type == EVENT_STEP_SETTLED)
        return fold_settled(state, node, event, err);
    if (event->type == EVENT_STEP_REOPENED)
        return fold_step_reopened(state, node, event, err);
    rc = may_follow(state, run_step(state, node), event, err);
    if (rc != ERR_OK)
        return rc;
    switch (event->type) {
    case EVENT_STEP_SUCCEEDED:
        return fold_succeeded(state, node, event, err);
    case EVENT_STEP_FAILED:
        fold_outcome(state, node, event, STEP_FAILED);
        return ERR_OK;
    case EVENT_STEP_TIMED_OUT:
        fold_outcome(state, node, event, STEP_TIMED_OUT);
        return ERR_OK;
    case EVENT_STEP_SKIPPED:
        fold_outcome(state, node, event, STEP_SKIPPED);
        return ERR_OK;
    case EVENT_STEP_CANCELLED:
        fold_outcome(state, node, event, STEP_CANCELLED);
        return ERR_OK;
    case EVENT_STEP_OUTCOME_UNKNOWN:
        fold_outcome(state, node, event, STEP_OUTCOME_UNKNOWN);
        return ERR_OK;
    case EVENT_STEP_GIVEN:
        return fold_given(state, node, event, err);
    default:
        return fold_open(state, node, event, err);
    }
}

static enum err_code fold_step(struct run_state *state, const struct event *event, struct err *err)
{
    struct place place;

    if (!frame_resolve(state, event->step, event->type != EVENT_LATE_RESULT, &place))
        return err_set(err, ERR_INTERNAL, "event %" PRIu32 " names step '" STR_FMT "', which the run does not have",
                       event->seq, STR_ARG(event->step));
    if (place.node != NO_NODE)
        return fold_node(state, place.node, event, err);
    if (place.frame == NULL)
        return fold_refuse(event, "the iteration has not begun", err);
    return fold_item(state, &place, event, err);
}

/* Once it is begun a run is what its workflow says, also where that shows only later. One that waits for its slot, or
 * is given what another run did, is begun. */
static void note_format(struct run_state *state, enum event_type type)
{
    bool begins = type == EVENT_RUN_STARTED || type == EVENT_RUN_QUEUED || type == EVENT_STEP_GIVEN;

    if (begins && state->plan->format > state->format)
        state->format = state->plan->format;
    if (event_format(type) > state->format)
        state->format = event_format(type);
}

enum err_code engine_fold(struct run_state *state, const struct event *event, struct err *err)
{
    enum err_code rc;

    if (event->seq != state->last_seq + 1)
        return err_set(err, ERR_INTERNAL, "event %" PRIu32 " follows event %" PRIu32, event->seq, state->last_seq);
    if (event_type_name(event->type) == NULL)
        return err_set(err, ERR_NOT_AVAILABLE, "event %" PRIu32 " is of type %d, which this release does not know",
                       event->seq, (int)event->type);
    if (event->type < EVENT_STEP_DISPATCHED || event->type >= EVENT_COMMAND_APPLIED)
        rc = fold_run(state, event, err);
    else
        rc = fold_step(state, event, err);
    if (rc != ERR_OK)
        return rc;
    state->last_seq = event->seq;
    note_format(state, event->type);
    return ERR_OK;
}

void engine_restore_work(struct run_state *state, uint32_t seq, uint32_t dispatch, struct wall_us due_at)
{
    uint32_t node = engine_find_row(state, seq);
    struct step_state *s;

    if (node == NO_NODE)
        return;
    s = run_step(state, node);
    s->due_at = due_at;
    if (s->open_kind != WORK_TASK)
        return;
    s->dispatch = dispatch;
    if (dispatch != s->began_dispatch) { /* deferred since: the worker that had begun has given it back */
        s->status = STEP_QUEUED;
        s->worker = 0;
    }
    /* an open task has a due time for its deadline, or, before that, because it was deferred */
    s->deferred = due_at.us != 0 && (s->deadline.us == 0 || due_at.us < s->deadline.us);
}
