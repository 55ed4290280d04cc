/* Rules over events of steps, iterations and signals. What holds for the run as a whole is in history_end.c. */
#include "tests/tools/history_rules.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "common/base/banned.h"

void history_fault(struct history *h, const struct event *event, const char *format, ...)
{
    char text[512], all[1024];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    (void)snprintf(all, sizeof(all), "event %" PRIu32 " (%s " STR_FMT "): %s", event->seq, event_type_name(event->type),
                   STR_ARG(event->step), text);
    h->fault(h->ctx, all);
}

static struct past_place *place_new(struct history *h, uint32_t scope_index, struct past_step *owner, uint32_t index)
{
    const struct plan_scope *scope = &h->plan->scopes[scope_index];
    struct past_place *place = arena_alloc(h->arena, sizeof(*place));

    place->steps = arena_array(h->arena, scope->count, sizeof(*place->steps));
    place->owner = owner;
    place->scope = scope_index;
    place->index = index;
    for (uint32_t i = 0; i < scope->count; i++) {
        place->steps[i].plan = &h->plan->steps[scope->first + i];
        place->steps[i].place = place;
        place->steps[i].branch = NO_BRANCH;
    }
    return place;
}

struct history *history_new(struct arena *arena, const struct plan *plan, history_fault_fn fault, void *ctx)
{
    struct history *h = arena_alloc(arena, sizeof(*h));

    h->plan = plan;
    h->arena = arena;
    h->fault = fault;
    h->ctx = ctx;
    h->last_signal = &h->signals;
    h->root = place_new(h, 0, NULL, 0);
    return h;
}

/* ---- paths ---- */

struct found {
    struct past_step *step; /* NULL: the path names an iteration */
    struct past_place *item;
    struct past_step *loop;
    bool begins; /* the first word of an iteration */
};

static struct past_step *action_of(struct history *h, struct past_step *owner)
{
    if (owner->plan->compensate == NO_NODE)
        return NULL;
    if (owner->action == NULL)
        owner->action = &place_new(h, h->plan->steps[owner->plan->compensate].scope, owner, 0)->steps[0];
    return owner->action;
}

static struct past_step *notify_of(struct history *h)
{
    if (h->plan->notify == NO_NODE)
        return NULL;
    if (h->notify == NULL)
        h->notify = &place_new(h, h->plan->steps[h->plan->notify].scope, NULL, 0)->steps[0];
    return h->notify;
}

/* "name", "name[3]" or "name:compensate" off the front. */
static struct str part_name(struct str part, uint32_t *ret_index, bool *ret_action)
{
    struct str name = part;

    *ret_index = NO_NODE;
    *ret_action = false;
    for (size_t i = 0; i < part.len; i++) {
        if (part.ptr[i] == '[') {
            name.len = i;
            if (part.ptr[part.len - 1] != ']' ||
                !parse_u32((struct str){part.ptr + i + 1, part.len - i - 2}, 0, LOOP_ITEMS_MAX, ret_index))
                return STR_NONE;
            break;
        }
        if (part.ptr[i] == ':') {
            name.len = i;
            *ret_action = str_is((struct str){part.ptr + i, part.len - i}, ":compensate");
            return *ret_action ? name : STR_NONE;
        }
    }
    return name;
}

/* False: the run has no such step, or the iteration cannot be. With make false nothing is begun. */
static bool resolve(struct history *h, struct str path, bool make, struct found *ret)
{
    struct past_place *place = h->root;
    struct str rest = path;

    *ret = (struct found){0};
    if (str_is(path, ":notify"))
        return (ret->step = notify_of(h)) != NULL;
    while (rest.len > 0) {
        uint32_t index, at;
        bool action;
        struct str name = part_name(str_cut(&rest, '.'), &index, &action);
        struct past_step *step;

        if (place == NULL || name.ptr == NULL || (at = plan_find_in(h->plan, place->scope, name)) == NO_NODE)
            return false;
        step = &place->steps[at - h->plan->scopes[place->scope].first];
        ret->step = step;
        if (action)
            return rest.len == 0 && (ret->step = action_of(h, step)) != NULL;
        if (index == NO_NODE)
            continue;
        if (index >= step->count)
            return false;
        if (step->items[index] == NULL && make && rest.len > 0) {
            step->items[index] = place_new(h, step->plan->body, step, index);
            ret->begins = true;
        }
        ret->loop = step;
        ret->item = place = step->items[index];
        ret->step = NULL;
    }
    return ret->step != NULL || ret->item != NULL;
}

struct past_step *history_step(struct history *h, struct str path)
{
    struct found found;

    return resolve(h, path, false, &found) ? found.step : NULL;
}

/* ---- steps ---- */

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

static void begins(struct history *h, struct past_step *step, const struct event *event)
{
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
    if (step_ended(step->status) || step->attempt_open || step->waits != PAST_NOTHING)
        history_fault(h, event, "the step does not wait for an attempt");
    if (event->attempt != step->attempt + 1)
        history_fault(h, event, "attempt %u follows %u", (unsigned)event->attempt, (unsigned)step->attempt);
    step->attempt = event->attempt;
    step->told <<= 1;
    step->attempt_open = true;
    step->granted = false;
    step->effect = true;
    if (++step->tried > step->plan->retry.max_attempts)
        history_fault(h, event, "that is attempt %u of at most %u", (unsigned)step->tried,
                      (unsigned)step->plan->retry.max_attempts);
}

static void attempt_failed(struct history *h, struct past_step *step, const struct event *event)
{
    if (!step->attempt_open || event->attempt != step->attempt)
        history_fault(h, event, "attempt %u is not open", (unsigned)event->attempt);
    if (step->plan->at_most_once && (event->sent || (step->granted && str_is(event->code, "worker_lost"))))
        history_fault(h, event, "an attempt that may have been sent is to be repeated");
    if (event->dispatch != 0) /* of a poll that was answered in between */
        step->tried = 1;
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
        if (!run_id_parse(event->child, &step->child))
            history_fault(h, event, "it names no child run");
    }
    step->effect = step->effect || step->waits != PAST_DELAY;
}

/* ---- signals ---- */

static void signal_came(struct history *h, const struct event *event)
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
    if (status == STEP_SKIPPED && str_is(event->code, "edge"))
        check_needs(h, step, event, false);
    if (status == STEP_SUCCEEDED && event->attempt > step->attempt)
        history_fault(h, event, "there was no attempt %u", (unsigned)event->attempt);
    if (event->name.ptr != NULL)
        signal_taken(h, step, event);
    else if (status == STEP_SUCCEEDED && step->plan->kind == CALL_SIGNAL)
        history_fault(h, event, "it goes on without a signal");
    if (step->waits == PAST_ITEMS)
        loop_ended(h, step, event, status);
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

static void late_result(struct history *h, struct past_step *step, const struct event *event)
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
    if (step->undo_seq != 0 && str_is(event->code, "succeeded"))
        step->undo_status = STEP_SUCCEEDED;
}

/* ---- iterations ---- */

static void item_ended(struct history *h, const struct found *found, const struct event *event)
{
    struct past_place *item = found->item;
    struct past_step *loop = found->loop;
    struct past_verdict verdict = history_verdict(h, item);
    enum step_status status = event->type == EVENT_STEP_SUCCEEDED ? STEP_SUCCEEDED
                              : event->type == EVENT_STEP_FAILED  ? STEP_FAILED
                                                                  : STEP_CANCELLED;

    if (event->type != EVENT_STEP_SUCCEEDED && event->type != EVENT_STEP_FAILED && event->type != EVENT_STEP_CANCELLED)
        history_fault(h, event, "an iteration succeeds, fails or is cancelled");
    if (item->status != STEP_PENDING) {
        history_fault(h, event, "the iteration has ended");
        return;
    }
    if (item->ended != h->plan->scopes[item->scope].count)
        history_fault(h, event, "%" PRIu32 " of the iteration's %" PRIu32 " steps have ended", item->ended,
                      h->plan->scopes[item->scope].count);
    if (status == STEP_SUCCEEDED && verdict.kind != (event->code.ptr == NULL ? PAST_SUCCEEDED : PAST_PARTIAL))
        history_fault(h, event, "its steps give another verdict");
    if (status == STEP_FAILED && verdict.kind != PAST_FAILED && !str_is(event->code, "expression_failed") &&
        !str_is(event->code, "output_too_large"))
        history_fault(h, event, "none of its steps failed");
    if (event->ref >= event->seq)
        history_fault(h, event, "its output is that of event %" PRIu32, event->ref);
    item->status = status;
    item->output_seq = event->ref != 0 ? event->ref : event->seq;
    loop->live--;
    loop->over[status]++;
    if (status == STEP_FAILED && !loop->plan->continue_on_item)
        loop->item_decides = true;
    if (event->code.ptr != NULL)
        loop->item_partial = true;
}

/* The first word of an iteration. */
static void item_begins(struct history *h, const struct found *found, const struct event *event)
{
    struct past_step *loop = found->loop;

    if (++loop->live > loop->plan->concurrency)
        history_fault(h, event, "%" PRIu32 " iterations are under way; at most %" PRIu32 " may be", loop->live,
                      loop->plan->concurrency);
}

static void step_event(struct history *h, struct past_step *step, const struct event *event)
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
    case EVENT_STEP_SETTLED:
        history_settled(h, step, event);
        break;
    default:
        history_fault(h, event, "no step has such an event");
        break;
    }
}

static void check_alive(struct history *h, const struct found *found, const struct event *event)
{
    const struct past_place *place = found->step->place;

    if (run_ended(h->status) || (h->status == RUN_PENDING && !h->cancelling))
        history_fault(h, event, "the run has not started, or has ended");
    if (!h->goes_on && h->status == RUN_ACTIVE && found->step->plan->role == ROLE_STEP &&
        event->type != EVENT_STEP_SETTLED)
        history_fault(h, event, "the run was not reopened to go on");
    for (; place->owner != NULL && h->plan->scopes[place->scope].role == ROLE_STEP; place = place->owner->place) {
        if (place->status != STEP_PENDING)
            history_fault(h, event, "the iteration has ended");
        if (place->owner->waits != PAST_ITEMS)
            history_fault(h, event, "the loop has ended");
    }
}

void history_event(struct history *h, const struct event *event)
{
    struct found found;

    if (h->faulty)
        return;
    if (event->seq != h->last_seq + 1)
        history_fault(h, event, "it follows event %" PRIu32, h->last_seq);
    h->last_seq = event->seq;
    if (event->type == EVENT_SIGNAL_RECEIVED)
        signal_came(h, event);
    if (event->type < EVENT_STEP_DISPATCHED || event->type >= EVENT_COMMAND_APPLIED) {
        history_run_event(h, event);
        return;
    }
    if (!resolve(h, event->step, event->type != EVENT_LATE_RESULT, &found)) {
        history_fault(h, event, "the run has no such step");
        h->faulty = true;
        return;
    }
    if (found.begins)
        item_begins(h, &found, event);
    if (found.step == NULL) {
        item_ended(h, &found, event);
        return;
    }
    if (event->type != EVENT_LATE_RESULT)
        check_alive(h, &found, event);
    step_event(h, found.step, event);
}

static void each_child(const struct history *h, const struct past_place *place, history_child_fn fn, void *ctx)
{
    for (uint32_t i = 0; i < h->plan->scopes[place->scope].count; i++) {
        const struct past_step *step = &place->steps[i];

        if (step->waits == PAST_CHILD)
            fn(ctx, step->child);
        for (uint32_t n = 0; step->waits == PAST_ITEMS && step->live > 0 && n < step->count; n++)
            if (step->items[n] != NULL && step->items[n]->status == STEP_PENDING)
                each_child(h, step->items[n], fn, ctx);
    }
}

void history_each_child(const struct history *h, history_child_fn fn, void *ctx)
{
    each_child(h, h->root, fn, ctx);
}
