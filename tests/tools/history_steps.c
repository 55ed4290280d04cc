/* Rules over events of steps and signals. */
#include "tests/tools/history_rules.h"
#include <inttypes.h>

#include "common/base/banned.h"

static const struct past_step *parent_of(const struct history *h, const struct past_step *step,
                                         const struct plan_edge *edge)
{
    return &step->place->steps[edge->parent - h->plan->scopes[step->place->scope].first];
}

static bool edge_holds(const struct past_step *parent, const struct plan_edge *edge)
{
    static const uint8_t bits[STEP_STATUSES] = {
        [STEP_SUCCEEDED] = OUT_SUCCEEDED, [STEP_FAILED] = OUT_FAILED,       [STEP_TIMED_OUT] = OUT_TIMED_OUT,
        [STEP_SKIPPED] = OUT_SKIPPED,     [STEP_CANCELLED] = OUT_CANCELLED, [STEP_OUTCOME_UNKNOWN] = OUT_UNKNOWN};

    if (parent->passed)
        return true;
    if ((bits[parent->status] & edge->outcomes) != 0 && (parent->status != STEP_SUCCEEDED || edge->any_branch))
        return true;
    return parent->status == STEP_SUCCEEDED && parent->branch < 64 && ((edge->branches >> parent->branch) & 1) != 0;
}

/* A step is decided when all that it needs has ended, and begins only if its edges allow. */
static void check_needs(struct history *h, const struct past_step *step, const struct event *event, bool wants_join)
{
    size_t holding = 0;
    bool join;

    for (size_t e = 0; e < step->plan->edge_count; e++) {
        const struct past_step *parent = parent_of(h, step, &step->plan->edges[e]);
        if (!step_ended(parent->status))
            history_fault(h, event, "it came before step '" STR_FMT "', which it needs, had ended",
                          STR_ARG(parent->plan->name));
        holding += edge_holds(parent, &step->plan->edges[e]) ? 1 : 0;
    }
    join = holding == step->plan->edge_count || (step->plan->join_any && holding > 0);
    if (join != wants_join)
        history_fault(h, event,
                      wants_join ? "it runs, and its edges do not allow it"
                                 : "it is skipped for an edge, and its edges allow it to run");
}

/* Nothing new starts here, or in anything around it. Actions are never stopped. */
static bool stopped(const struct history *h, const struct past_place *place)
{
    for (; place != h->root; place = place->owner->place) {
        if (h->plan->scopes[place->scope].role != ROLE_STEP)
            return false;
        if (place->decisive != NULL || place->owner->item_decides)
            return true;
    }
    return place->decisive != NULL || h->cancelling || h->timing_out;
}

bool history_stopping(const struct history *h, const struct past_step *step)
{
    return stopped(h, step->place);
}

/* A paused run begins nothing, and decides nothing but what its stopping asks for. */
static void check_pause(struct history *h, const struct event *event)
{
    if (h->status == RUN_PAUSED)
        history_fault(h, event, "the run is paused");
}

static void begins(struct history *h, struct past_step *step, const struct event *event)
{
    check_pause(h, event);
    if (step->status != STEP_PENDING || step->attempt_open)
        history_fault(h, event, "the step has begun");
    if (stopped(h, step->place))
        history_fault(h, event, "it begins when nothing new may start");
    check_needs(h, step, event, true);
    if (step->plan->role != ROLE_STEP)
        history_action_begins(h, step, event);
    step->status = STEP_RUNNING;
    step->begun_seq = event->seq;
}

static void dispatched(struct history *h, struct past_step *step, const struct event *event)
{
    if (step->status == STEP_PENDING)
        begins(h, step, event);
    else if (stopped(h, step->place))
        history_fault(h, event, "it is tried again when nothing new may start");
    else
        check_pause(h, event);
    if (step_ended(step->status) || step->attempt_open || step->waits != PAST_NOTHING)
        history_fault(h, event, "the step does not wait for an attempt");
    if (event->attempt != step->attempt + 1)
        history_fault(h, event, "attempt %u follows %u", (unsigned)event->attempt, (unsigned)step->attempt);
    if (event->generation != step->generation)
        step->doubtful = false;
    step->generation = event->generation;
    step->answered = step->unheard = false;
    step->attempt = event->attempt;
    step->told <<= 1;
    step->attempt_open = true;
    step->granted = false;
    step->effect = true;
    if (++step->tried > step->plan->retry.max_attempts)
        history_fault(h, event, "that is attempt %u of at most %u", (unsigned)step->tried,
                      (unsigned)step->plan->retry.max_attempts);
}

void history_note_answer(struct past_step *step, const struct event *event, bool was_open)
{
    bool lost = str_is(event->code, "worker_lost") || str_is(event->code, "poison");

    if (event->type == EVENT_LATE_RESULT) {
        step->doubtful |= event->http_status == 0;
        step->unheard &= event->attempt != step->attempt;
        if (event->attempt == step->attempt && event->http_status != 0) {
            step->answered = true;
            step->doubtful = false;
        }
        return;
    }
    step->unheard |= was_open && (lost || (event->worker.ptr == NULL && (event->type == EVENT_STEP_CANCELLED ||
                                                                         event->type == EVENT_STEP_TIMED_OUT)));
    if (event->sent || lost || event->type == EVENT_STEP_OUTCOME_UNKNOWN)
        step->doubtful = true;
    else if (event->http_status != 0)
        step->doubtful = false;
    step->answered = event->http_status != 0 && !event->sent;
}

static void attempt_failed(struct history *h, struct past_step *step, const struct event *event)
{
    if (!step->attempt_open || event->attempt != step->attempt)
        history_fault(h, event, "attempt %u is not open", (unsigned)event->attempt);
    if (step->plan->at_most_once && (event->sent || (step->granted && str_is(event->code, "worker_lost"))))
        history_fault(h, event, "an attempt that may have been sent is to be repeated");
    if (event->dispatch != 0) /* of a poll that was answered in between */
        step->tried = 1;
    history_note_answer(step, event, step->attempt_open);
    if (event->generation != step->generation) /* nobody has seen the key that the next takes */
        step->answered = false;
    step->generation = event->generation;
    step->attempt_open = false;
}

static void waiting(struct history *h, struct past_step *step, const struct event *event)
{
    if (event->waits.ptr == NULL && event->code.ptr != NULL) {
        if (!step->attempt_open)
            history_fault(h, event, "no attempt is open whose outcome could be unknown");
        step->attempt_open = false;
        step->waits = PAST_UNKNOWN;
        return;
    }
    begins(h, step, event);
    step->waits = PAST_DELAY;
    if (str_is(event->waits, "items")) {
        step->waits = PAST_ITEMS;
        step->count = event->count;
        step->items = arena_array(h->arena, event->count, sizeof(struct past_place *));
    } else if (str_is(event->waits, "signal")) {
        step->waits = PAST_SIGNAL;
        step->signal = str_arena(h->arena, event->name);
    } else if (str_is(event->waits, "child")) {
        step->waits = PAST_CHILD;
        step->had_child = true;
        step->child_retries = 0;
        if (!run_id_parse(event->child, &step->child))
            history_fault(h, event, "it names no child run");
    }
    step->effect = step->effect || step->waits != PAST_DELAY;
}

static void listening(struct history *h, struct past_step *step, const struct event *event)
{
    begins(h, step, event);
    if (step->plan->kind != CALL_EVENT || !str_eq(event->name, step->plan->event.type))
        history_fault(h, event, "it waits for no such event");
    step->waits = PAST_EVENT;
    step->effect = true;
}

/* A loop goes on with the list that it began with, a parent with the child that it began. */
static void continued(struct history *h, struct past_step *step, const struct event *event)
{
    uint32_t begun = step->begun_seq;
    struct run_id child;

    if (step->items == NULL && !step->had_child) {
        history_fault(h, event, "it has nothing to go on with");
        return;
    }
    begins(h, step, event);
    step->effect = true;
    step->waits = step->items != NULL ? PAST_ITEMS : PAST_CHILD;
    if (step->items != NULL) {
        step->begun_seq = begun;
        history_loop_again(step);
        return;
    }
    if (!run_id_parse(event->child, &child) || !run_id_eq(child, step->child))
        history_fault(h, event, "it goes on with another child");
    if (event->count != ++step->child_retries)
        history_fault(h, event, "the child is retried for time %" PRIu32 ", not %" PRIu32, step->child_retries,
                      event->count);
}

/* ---- signals ---- */

void history_signal_came(struct history *h, const struct event *event)
{
    struct past_signal *signal = arena_alloc(h->arena, sizeof(*signal));
    unsigned waiting_here = 0;

    for (const struct past_signal *s = h->signals; s != NULL; s = s->next)
        waiting_here += !s->taken && str_eq(s->name, event->name) ? 1 : 0;
    if (waiting_here >= SIGNALS_MAX)
        history_fault(h, event, "%u signals of this name wait already", waiting_here);
    *signal =
        (struct past_signal){.name = str_arena(h->arena, event->name), .seq = event->seq, .bytes = event->output_bytes};
    *h->last_signal = signal;
    h->last_signal = &signal->next;
}

static void signal_taken(struct history *h, const struct past_step *step, const struct event *event)
{
    struct past_signal *signal = h->signals;

    if (step->waits == PAST_SIGNAL && !str_eq(step->signal, event->name))
        history_fault(h, event, "it waited for signal '" STR_FMT "'", STR_ARG(step->signal));
    while (signal != NULL && (signal->taken || !str_eq(signal->name, event->name)))
        signal = signal->next;
    if (signal == NULL || signal->seq != event->ref) {
        history_fault(h, event, "signal %" PRIu32 " is not the oldest that nobody has taken", event->ref);
        return;
    }
    signal->taken = true;
}

/* ---- outcomes ---- */

static void loop_ended(struct history *h, const struct past_step *loop, const struct event *event,
                       enum step_status status)
{
    uint32_t ended = 0;

    for (int s = 0; s < STEP_STATUSES; s++)
        ended += loop->over[s];
    if (loop->live > 0)
        history_fault(h, event, "the loop ends with %" PRIu32 " iterations under way", loop->live);
    if (status == STEP_SUCCEEDED && ended != loop->count)
        history_fault(h, event, "the loop has %" PRIu32 " items, and %" PRIu32 " iterations have ended", loop->count,
                      ended);
    if (status == STEP_SUCCEEDED && (loop->item_decides || loop->over[STEP_CANCELLED] > 0))
        history_fault(h, event, "the loop succeeds, and not all of its items did");
    if (status == STEP_SUCCEEDED && loop->item_partial != (event->code.ptr != NULL))
        history_fault(h, event, "an item %s",
                      loop->item_partial ? "failed, and the loop does not say so"
                                         : "is said to have failed, and none did");
    if (status == STEP_FAILED && !loop->item_decides)
        history_fault(h, event, "the loop fails, and no item of it did");
}

/* A failure that nobody below takes, of a step whose failure is the run's (or the iteration's), stops what is new. */
static void note_failure(struct history *h, struct past_step *step)
{
    bool failure =
        step->status == STEP_FAILED || step->status == STEP_TIMED_OUT || step->status == STEP_OUTCOME_UNKNOWN;

    if (failure && step->plan->role == ROLE_STEP && !step->plan->continue_on_failure && step->place->decisive == NULL &&
        !history_accepted(h->plan, step))
        step->place->decisive = step;
}

void history_note_undo(struct history *h, struct past_step *step)
{
    if (step->plan->compensate == NO_NODE || step->status == STEP_SKIPPED ||
        (step->status != STEP_SUCCEEDED && !step->effect))
        return;
    if (h->undo_count == h->undo_cap) {
        size_t cap = h->undo_cap == 0 ? 8 : 2 * h->undo_cap;
        struct past_step **grown = arena_array(h->arena, cap, sizeof(struct past_step *));
        if (h->undo_count > 0)
            memcpy(grown, h->undos, h->undo_count * sizeof(struct past_step *));
        h->undos = grown;
        h->undo_cap = cap;
    }
    h->undos[h->undo_count++] = step;
    step->undo_status = step->status;
    step->undo_seq = step->ended_seq;
}

static void ended(struct history *h, struct past_step *step, const struct event *event, enum step_status status)
{
    bool inline_end = step->status == STEP_PENDING && (status == STEP_SUCCEEDED || status == STEP_FAILED);

    if (step_ended(step->status)) {
        history_fault(h, event, "the step has ended '%s'", step_status_name(step->status));
        return;
    }
    if (inline_end)
        begins(h, step, event);
    if (status == STEP_SKIPPED && (step->status != STEP_PENDING || stopped(h, step->place)))
        history_fault(h, event, "a step that has begun, or is to be cancelled, is skipped");
    if (status == STEP_SKIPPED)
        check_pause(h, event);
    if (status == STEP_SKIPPED && str_is(event->code, "edge"))
        check_needs(h, step, event, false);
    if (status == STEP_SUCCEEDED && event->attempt > step->attempt)
        history_fault(h, event, "there was no attempt %u", (unsigned)event->attempt);
    if (event->name.ptr != NULL)
        signal_taken(h, step, event);
    else if (status == STEP_SUCCEEDED && step->plan->kind == CALL_SIGNAL)
        history_fault(h, event, "it goes on without a signal");
    if (status == STEP_SUCCEEDED && step->plan->kind == CALL_EVENT && step->waits != PAST_EVENT)
        history_fault(h, event, "it goes on without having waited");
    if (step->waits == PAST_ITEMS)
        loop_ended(h, step, event, status);
    if (step->attempt_open)
        history_note_answer(step, event, true);
    step->status = status;
    step->ended_seq = event->seq;
    step->output_seq = event->ref != 0 ? event->ref : event->seq;
    step->waits = PAST_NOTHING;
    step->attempt_open = false;
    step->partial = status == STEP_SUCCEEDED && event->code.ptr != NULL;
    for (size_t i = 0; event->branch.ptr != NULL && i < step->plan->branch_count; i++)
        if (str_eq(step->plan->branches[i], event->branch))
            step->branch = (uint8_t)i;
    step->place->ended++;
    history_note_undo(h, step);
    note_failure(h, step);
}

void history_word(struct history *h, struct past_step *step, const struct event *event)
{
    unsigned back = (unsigned)(step->attempt - event->attempt);

    if (event->attempt == 0 || event->attempt > step->attempt) {
        history_fault(h, event, "there was no attempt %u", (unsigned)event->attempt);
        return;
    }
    if (back < 64 && ((step->told >> back) & 1) != 0)
        history_fault(h, event, "attempt %u has had its word", (unsigned)event->attempt);
    if (back < 64)
        step->told |= UINT64_C(1) << back;
}

static void late_result(struct history *h, struct past_step *step, const struct event *event)
{
    history_word(h, step, event);
    history_note_answer(step, event, false);
    if (step->undo_seq != 0 && str_is(event->code, "succeeded"))
        step->undo_status = STEP_SUCCEEDED;
    else if (event->attempt == step->attempt && event->http_status != 0)
        step->denied = true;
}

/* Before anything has begun: what the run does not do itself. */
static void given(struct history *h, struct past_step *step, const struct event *event)
{
    enum step_status status = STEP_SUCCEEDED;

    while (status < STEP_STATUSES && !str_is(event->as, step_status_name(status)))
        status++;
    if (status == STEP_STATUSES || status == STEP_CANCELLED || step->place != h->root || step->status != STEP_PENDING) {
        history_fault(h, event, "an outcome is given of what has none, and may have it");
        return;
    }
    for (uint32_t i = 0; i < h->plan->root_count; i++)
        if (h->root->steps[i].begun_seq != 0)
            history_fault(h, event, "an outcome is given when the run is under way");
    step->status = status;
    step->passed = status == STEP_SKIPPED && str_is(event->code, "start_at_step");
    step->ended_seq = step->output_seq = event->seq;
    step->partial = status == STEP_SUCCEEDED && event->code.ptr != NULL;
    for (size_t i = 0; event->branch.ptr != NULL && i < step->plan->branch_count; i++)
        if (str_eq(step->plan->branches[i], event->branch))
            step->branch = (uint8_t)i;
    step->place->ended++;
    note_failure(h, step);
}

void history_step_event(struct history *h, struct past_step *step, const struct event *event)
{
    switch (event->type) {
    case EVENT_STEP_DISPATCHED:
        dispatched(h, step, event);
        break;
    case EVENT_STEP_STARTED:
        if (!step->attempt_open || event->attempt != step->attempt)
            history_fault(h, event, "attempt %u is not open", (unsigned)event->attempt);
        step->granted = true;
        break;
    case EVENT_STEP_WAITING:
        waiting(h, step, event);
        break;
    case EVENT_STEP_LISTENING:
        listening(h, step, event);
        break;
    case EVENT_ATTEMPT_FAILED:
        attempt_failed(h, step, event);
        break;
    case EVENT_STEP_SUCCEEDED:
        ended(h, step, event, STEP_SUCCEEDED);
        break;
    case EVENT_STEP_FAILED:
        ended(h, step, event, STEP_FAILED);
        break;
    case EVENT_STEP_TIMED_OUT:
        ended(h, step, event, STEP_TIMED_OUT);
        break;
    case EVENT_STEP_SKIPPED:
        ended(h, step, event, STEP_SKIPPED);
        break;
    case EVENT_STEP_CANCELLED:
        ended(h, step, event, STEP_CANCELLED);
        break;
    case EVENT_STEP_OUTCOME_UNKNOWN:
        ended(h, step, event, STEP_OUTCOME_UNKNOWN);
        break;
    case EVENT_LATE_RESULT:
        late_result(h, step, event);
        break;
    case EVENT_STEP_GIVEN:
        given(h, step, event);
        break;
    case EVENT_STEP_CONTINUED:
        continued(h, step, event);
        break;
    case EVENT_STEP_REOPENED:
        history_reopened(h, step, event);
        break;
    case EVENT_STEP_SETTLED:
        history_settled(h, step, event);
        break;
    default:
        history_fault(h, event, "no step has such an event");
        break;
    }
}
