/* Rules of the run as a whole: its beginning and end, compensation in order, the notification, settling, commands. */
#include "tests/tools/history_rules.h"
#include <inttypes.h>

#include "common/base/banned.h"

static uint8_t bit(enum step_status status)
{
    static const uint8_t bits[STEP_STATUSES] = {
        [STEP_SUCCEEDED] = OUT_SUCCEEDED, [STEP_FAILED] = OUT_FAILED,       [STEP_TIMED_OUT] = OUT_TIMED_OUT,
        [STEP_SKIPPED] = OUT_SKIPPED,     [STEP_CANCELLED] = OUT_CANCELLED, [STEP_OUTCOME_UNKNOWN] = OUT_UNKNOWN};

    return bits[status];
}

static bool takes(const struct plan *plan, uint32_t child, const struct past_step *step)
{
    const struct plan_step *below = &plan->steps[child];

    for (size_t e = 0; e < below->edge_count; e++)
        if (&plan->steps[below->edges[e].parent] == step->plan && (below->edges[e].outcomes & bit(step->status)) != 0)
            return true;
    return false;
}

bool history_accepted(const struct plan *plan, const struct past_step *step)
{
    for (size_t i = 0; i < step->plan->child_count; i++)
        if (takes(plan, step->plan->children[i], step))
            return true;
    return false;
}

/* ... and has one of those run? */
static bool handled(const struct history *h, const struct past_step *step)
{
    uint32_t first = h->plan->scopes[step->place->scope].first;

    for (size_t i = 0; i < step->plan->child_count; i++) {
        const struct past_step *below = &step->place->steps[step->plan->children[i] - first];

        if (takes(h->plan, step->plan->children[i], step) && step_ended(below->status) &&
            below->status != STEP_SKIPPED && below->status != STEP_CANCELLED)
            return true;
    }
    return false;
}

static bool failed(const struct past_step *step)
{
    return step->status == STEP_FAILED || step->status == STEP_TIMED_OUT || step->status == STEP_OUTCOME_UNKNOWN;
}

/* What was cancelled although nothing stops the run any more was stopped by what has been settled since, and cannot be
 * begun again. */
static bool left_behind(const struct history *h, const struct past_step *step)
{
    return step->status == STEP_CANCELLED && step->place == h->root && !h->cancelling && !h->timing_out;
}

struct past_verdict history_verdict(const struct history *h, const struct past_place *place)
{
    struct past_verdict verdict = {PAST_SUCCEEDED};

    if (place->decisive != NULL)
        return (struct past_verdict){PAST_FAILED};
    for (uint32_t i = 0; i < h->plan->scopes[place->scope].count; i++) {
        const struct past_step *step = &place->steps[i];
        bool counts = (failed(step) || left_behind(h, step)) && !handled(h, step);

        if (counts && !step->plan->continue_on_failure)
            return (struct past_verdict){PAST_FAILED};
        if (counts || step->partial)
            verdict.kind = PAST_PARTIAL;
    }
    return verdict;
}

/* ---- compensation ---- */

static bool is_candidate(const struct history *h, const struct past_step *step)
{
    return (bit(step->undo_status) & h->plan->steps[step->plan->compensate].compensate_on) != 0;
}

static bool is_undone(const struct past_step *step)
{
    return step->action != NULL && step->action->status == STEP_SUCCEEDED;
}

static void action_in_order(struct history *h, const struct past_step *owner, const struct event *event)
{
    if (!h->compensating)
        history_fault(h, event, "it is undone before the run is compensating");
    if (owner->undo_seq == 0 || !is_candidate(h, owner))
        history_fault(h, event, "there is nothing to undo");
    for (size_t i = 0; i < h->undo_count; i++) {
        const struct past_step *other = h->undos[i];
        bool tried = other->action != NULL && other->action->status != STEP_PENDING;

        if (other == owner)
            continue;
        if (tried && !step_ended(other->action->status))
            history_fault(h, event, "two actions are under way");
        if (!tried && is_candidate(h, other) && other->undo_seq > owner->undo_seq)
            history_fault(h, event, "step '" STR_FMT "' of event %" PRIu32 " is to be undone first",
                          STR_ARG(other->plan->name), other->undo_seq);
    }
}

static bool root_at_rest(const struct history *h)
{
    return h->root->ended == h->plan->root_count;
}

void history_action_begins(struct history *h, const struct past_step *action, const struct event *event)
{
    if (!root_at_rest(h))
        history_fault(h, event, "an action begins before all steps have ended");
    if (action->plan->role == ROLE_COMPENSATE)
        action_in_order(h, action->place->owner, event);
    else if (h->compensating)
        for (size_t i = 0; i < h->undo_count; i++)
            if (is_candidate(h, h->undos[i]) &&
                (h->undos[i]->action == NULL || !step_ended(h->undos[i]->action->status)))
                history_fault(h, event, "somebody is told before all has been undone");
}

/* What was tried and did not go is tried once more. */
static void compensating(struct history *h, const struct event *event)
{
    if (h->compensating || !root_at_rest(h) || h->status == RUN_PAUSED)
        history_fault(h, event, "it begins before all steps have ended, or again");
    h->compensating = true;
    for (size_t i = 0; i < h->undo_count; i++) {
        struct past_step *action = h->undos[i]->action;

        if (action == NULL || action->status == STEP_SUCCEEDED || !step_ended(action->status))
            continue;
        history_restart(action);
    }
}

static bool listed(const struct past_step *step, struct str list)
{
    struct jt_iter it;
    struct str text;

    for (jt_iter_init(&it, list); jt_next(&it);) {
        text = (struct str){it.value.ptr + 1, it.value.len - 2}; /* paths need no escapes */
        if (text.len >= step->plan->name.len &&
            memcmp(text.ptr + text.len - step->plan->name.len, step->plan->name.ptr, step->plan->name.len) == 0)
            return true;
    }
    return false;
}

static void check_undone(struct history *h, const struct event *event)
{
    struct str stands = jt_get(event->detail, "stands");
    size_t standing = 0;

    for (size_t i = 0; i < h->undo_count; i++) {
        const struct past_step *step = h->undos[i];
        bool doubt = step->status == STEP_OUTCOME_UNKNOWN && step->undo_status == STEP_OUTCOME_UNKNOWN && !step->denied;

        if (is_candidate(h, step) && (step->action == NULL || !step_ended(step->action->status)))
            history_fault(h, event, "step '" STR_FMT "' has not been undone", STR_ARG(step->plan->name));
        if (is_candidate(h, step) && !is_undone(step)) {
            standing++;
            if (!listed(step, stands))
                history_fault(h, event, "step '" STR_FMT "' stands and is not listed", STR_ARG(step->plan->name));
        }
        if (!is_candidate(h, step) && doubt && !listed(step, jt_get(event->detail, "undetermined")))
            history_fault(h, event, "step '" STR_FMT "' is undetermined and not listed", STR_ARG(step->plan->name));
    }
    if (event->type == EVENT_RUN_COMPENSATED && standing > 0)
        history_fault(h, event, "%zu effects stand", standing);
    if (jt_count(stands) != standing)
        history_fault(h, event, "%zu effects stand, it lists %zu", standing, jt_count(stands));
}

static bool has_to_undo(const struct history *h)
{
    for (size_t i = 0; i < h->undo_count; i++)
        if (is_candidate(h, h->undos[i]) && !is_undone(h->undos[i]))
            return true;
    return false;
}

/* ---- the end ---- */

static enum event_type expected_end(const struct history *h)
{
    switch (history_verdict(h, h->root).kind) {
    case PAST_FAILED:
        return EVENT_RUN_FAILED;
    case PAST_PARTIAL:
        return EVENT_RUN_PARTIALLY_COMPLETED;
    case PAST_SUCCEEDED:
        break;
    }
    return EVENT_RUN_SUCCEEDED;
}

static void check_verdict(struct history *h, const struct event *event)
{
    enum event_type expected = expected_end(h);
    bool compensated = event->type == EVENT_RUN_COMPENSATED || event->type == EVENT_RUN_COMPENSATION_FAILED;

    if (compensated != h->compensating) {
        history_fault(h, event, "what was done %s", h->compensating ? "is being undone" : "was not undone");
        return;
    }
    if (compensated) {
        check_undone(h, event);
        return;
    }
    if (h->timing_out)
        expected = EVENT_RUN_TIMED_OUT;
    else if (h->cancelling)
        expected = EVENT_RUN_CANCELLED;
    else if (event->type == EVENT_RUN_FAILED && event->step.ptr == NULL && str_is(event->code, "expression_failed"))
        expected = EVENT_RUN_FAILED; /* of the run's own output */
    if (event->type != expected)
        history_fault(h, event, "its steps say '%s'", event_type_name(expected));
    if ((event->type == EVENT_RUN_FAILED || event->type == EVENT_RUN_TIMED_OUT ||
         (event->type == EVENT_RUN_CANCELLED && h->wants_undo)) &&
        has_to_undo(h))
        history_fault(h, event, "what it has done is not undone");
}

static void run_ends(struct history *h, const struct event *event, enum run_status status)
{
    bool invalid = event->type == EVENT_RUN_FAILED && str_is(event->code, "invalid_input");
    bool quiet = status == RUN_SUCCEEDED || status == RUN_CANCELLED || status == RUN_COMPENSATED || invalid;

    if (run_ended(h->status))
        history_fault(h, event, "the run has ended");
    if (!root_at_rest(h))
        history_fault(h, event, "%" PRIu32 " of %zu steps have ended", h->root->ended, h->plan->root_count);
    if (h->status == RUN_PAUSED && !invalid)
        history_fault(h, event, "it ends while it is paused");
    if (!invalid)
        check_verdict(h, event);
    if (!quiet && h->plan->notify != NO_NODE && (h->notify == NULL || !step_ended(h->notify->status)))
        history_fault(h, event, "nobody has been told");
    h->status = status;
    h->queued_seq = 0;
    h->compensating = h->goes_on = h->reopened = false;
}

/* With a time by which the run is to end it goes on; else only what was done is undone, or what is known mended. */
static void reopened(struct history *h, const struct event *event)
{
    bool settle = str_is(event->code, "settle");
    bool retry = str_is(event->code, "retry");

    if (!run_ended(h->status))
        history_fault(h, event, "the run has not ended");
    if (event->due_at.us != 0 &&
        ((!settle && !retry) || (h->status == RUN_CANCELLED && !retry) || (retry && h->status == RUN_SUCCEEDED) ||
         h->status == RUN_COMPENSATED || h->status == RUN_COMPENSATION_FAILED))
        history_fault(h, event, "a run that ended '%s' cannot go on", run_status_name(h->status));
    h->status = RUN_ACTIVE;
    h->reopened = true;
    h->goes_on = event->due_at.us != 0;
    h->retried = retry;
    if (!h->goes_on)
        return;
    if (retry) {
        h->root->decisive = NULL;
        h->wants_undo = false;
    }
    h->cancelling = h->timing_out = false;
    if (h->notify != NULL && step_ended(h->notify->status))
        history_restart(h->notify);
}

/* ---- settling ---- */

/* What it has begun may have had an effect: that stays, whatever becomes of it now. */
void history_restart(struct past_step *step)
{
    step->status = STEP_PENDING;
    step->tried = 0;
    step->passed = step->partial = false;
    step->place->ended--;
}

/* What was cancelled may be begun after all; but not what has begun things of its own, nor what may have been sent the
 * one time that it may be. */
static bool may_restart(const struct past_step *step)
{
    return step->status == STEP_CANCELLED && step->plan->kind != CALL_FOREACH && step->plan->kind != CALL_WORKFLOW &&
           (!step->plan->at_most_once || !step->granted);
}

static void forget_undo(struct history *h, const struct past_step *step)
{
    for (size_t i = 0; i < h->undo_count; i++)
        if (h->undos[i] == step)
            h->undos[i] = h->undos[--h->undo_count];
}

/* Steps of the run that were cancelled, and those skipped below what lives again, are to be decided anew. Repeated
 * until nothing changes: order does not matter here. */
static void revive(struct history *h, const struct past_step *settled)
{
    bool changed = true;

    h->root->decisive = NULL;
    while (changed) {
        changed = false;
        for (uint32_t i = 0; i < h->plan->root_count; i++) {
            struct past_step *step = &h->root->steps[i];
            bool below = false;

            for (size_t e = 0; e < step->plan->edge_count; e++) {
                const struct past_step *parent = &h->root->steps[step->plan->edges[e].parent];
                below = below || parent == settled || parent->status == STEP_PENDING;
            }
            if (!may_restart(step) && (step->status != STEP_SKIPPED || !below))
                continue;
            forget_undo(h, step);
            history_restart(step);
            changed = true;
        }
    }
}

/* Those that did not succeed, of the run itself and of iterations that are gone on with. One that waits for a child
 * that cannot be retried begins another. */
void history_reopened(struct history *h, struct past_step *step, const struct event *event)
{
    if (step->waits == PAST_CHILD) {
        if (step->child_retries == 0 || event->code.ptr == NULL)
            history_fault(h, event, "its child was not to be retried, or nobody says why it is not");
        step->waits = PAST_NOTHING;
        step->had_child = false;
        step->status = STEP_PENDING;
        return;
    }
    if (!h->retried || run_ended(h->status))
        history_fault(h, event, "nobody has retried the run");
    if (!step_ended(step->status) || (step->status == STEP_SUCCEEDED && !step->partial))
        history_fault(h, event, "the step succeeded, or has not ended");
    if (event->generation < step->generation || event->generation > step->generation + 1)
        history_fault(h, event, "generation %u follows %u", (unsigned)event->generation, (unsigned)step->generation);
    if ((step->doubtful || step->unheard) && event->generation != step->generation)
        history_fault(h, event, "what was sent under its key may have had its effect, and it gets another");
    if (step->answered && !step->doubtful && !step->unheard && event->generation == step->generation)
        history_fault(h, event, "its receiver has answered its key, and it gets no other");
    if (event->generation != step->generation) /* nobody has seen it yet */
        step->answered = false;
    step->generation = event->generation;
    step->retries++;
    step->retried_after = step->attempt;
    forget_undo(h, step);
    history_restart(step);
}

static void note_failures(struct history *h, struct past_place *place)
{
    for (uint32_t i = 0; i < h->plan->scopes[place->scope].count; i++) {
        struct past_step *step = &place->steps[i];
        if (failed(step) && !step->plan->continue_on_failure && place->decisive == NULL &&
            !history_accepted(h->plan, step))
            place->decisive = step;
    }
}

void history_settled(struct history *h, struct past_step *step, const struct event *event)
{
    bool held = step->waits == PAST_UNKNOWN;

    if (!held && (step->status != STEP_OUTCOME_UNKNOWN || step->place != h->root))
        history_fault(h, event, "there is nothing to settle");
    if (event->command == 0)
        history_word(h, step, event);
    step->status = str_is(event->as, "succeeded") ? STEP_SUCCEEDED : STEP_FAILED;
    step->ended_seq = step->output_seq = event->seq;
    step->doubtful = step->unheard = step->answered = false; /* as far as this person knows */
    step->waits = PAST_NOTHING;
    if (held) {
        step->place->ended++;
        if (step->plan->compensate != NO_NODE)
            history_note_undo(h, step);
    } else {
        step->undo_status = step->status;
        step->undo_seq = event->seq;
        if (h->goes_on)
            revive(h, step);
    }
    if (held || h->goes_on)
        note_failures(h, step->place);
}

/* ---- events of the run ---- */

bool history_answered(const struct history *h, int64_t command)
{
    for (size_t i = 0; i < h->answered_count; i++)
        if (h->answered[i] == command)
            return true;
    return false;
}

static void command(struct history *h, const struct event *event)
{
    if (event->command == 0)
        return;
    if (history_answered(h, event->command))
        history_fault(h, event, "command %" PRId64 " is answered again", event->command);
    if (h->answered_count == h->answered_cap) {
        size_t cap = h->answered_cap == 0 ? 8 : 2 * h->answered_cap;
        int64_t *grown = arena_array(h->arena, cap, sizeof(*grown));
        if (h->answered_count > 0)
            memcpy(grown, h->answered, h->answered_count * sizeof(*grown));
        h->answered = grown;
        h->answered_cap = cap;
    }
    h->answered[h->answered_count++] = event->command;
}

static void paused(struct history *h, const struct event *event)
{
    if (run_ended(h->status) || h->status == RUN_PAUSED || h->cancelling || h->timing_out || h->compensating)
        history_fault(h, event, "there is nothing to pause");
    h->status = RUN_PAUSED;
}

/* By itself, or because the run is stopped. */
static void pause_over(struct history *h)
{
    if (h->status == RUN_PAUSED)
        h->status = h->started ? RUN_ACTIVE : RUN_PENDING;
}

static void queued(struct history *h, const struct event *event)
{
    bool takes = str_is(event->as, "take");

    if (h->queued_seq != 0 || (takes && !h->started) || (h->started && !h->reopened) || run_ended(h->status))
        history_fault(h, event, "the run waits already, or has begun");
    if (!takes)
        h->queued_seq = event->seq;
    h->asked = true;
    h->admitted |= str_is(event->waits, "workflow");
    if (!takes && str_is(event->waits, "workflow") && event->count != h->plan->concurrency.limit)
        history_fault(h, event, "the plan has another limit");
}

void history_run_event(struct history *h, const struct event *event)
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
        if (event->type == ends[i].type)
            run_ends(h, event, ends[i].status);
    switch (event->type) {
    case EVENT_RUN_STARTED:
        if (h->started || h->queued_seq != 0)
            history_fault(h, event, "the run has started, or waits for a slot");
        h->started = true;
        h->status = h->status == RUN_PAUSED ? RUN_PAUSED : RUN_ACTIVE;
        h->goes_on = true;
        break;
    case EVENT_RUN_PAUSED:
        paused(h, event);
        break;
    case EVENT_RUN_RESUMED:
        if (h->status != RUN_PAUSED)
            history_fault(h, event, "the run is not paused");
        pause_over(h);
        break;
    case EVENT_RUN_QUEUED:
        queued(h, event);
        break;
    case EVENT_RUN_ADMITTED:
        if (h->queued_seq == 0 || event->ref != h->queued_seq)
            history_fault(h, event, "the run does not wait for it");
        h->queued_seq = 0;
        break;
    case EVENT_RUN_CANCELLING:
        pause_over(h);
        h->cancelling = true;
        h->wants_undo = event->compensate;
        break;
    case EVENT_RUN_TIMING_OUT:
        pause_over(h);
        h->timing_out = true;
        break;
    case EVENT_RUN_COMPENSATING:
        compensating(h, event);
        break;
    case EVENT_RUN_REOPENED:
        reopened(h, event);
        break;
    case EVENT_SIGNAL_RECEIVED:
        if (run_ended(h->status) || h->compensating)
            history_fault(h, event, "the run takes no signals any more");
        break;
    case EVENT_COMMAND_APPLIED:
    case EVENT_COMMAND_REFUSED:
        command(h, event);
        break;
    default:
        break;
    }
}
