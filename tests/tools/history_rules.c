/* Paths of a history, and the rules of iterations. Those of steps and signals are in history_steps.c, those of the run
 * as a whole in history_end.c. */
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

/* ---- iterations ---- */

static void item_runs(struct history *h, struct past_step *loop, const struct event *event)
{
    if (++loop->live > loop->plan->concurrency)
        history_fault(h, event, "%" PRIu32 " iterations are under way; at most %" PRIu32 " may be", loop->live,
                      loop->plan->concurrency);
}

void history_loop_again(struct past_step *loop)
{
    loop->item_decides = loop->item_partial = false;
    for (uint32_t i = 0; i < loop->count; i++) {
        struct past_place *item = loop->items[i];

        if (item == NULL || item->again || (item->status == STEP_SUCCEEDED && !item->partial))
            continue;
        loop->over[item->status]--;
        item->again = true;
    }
}

static void item_continued(struct history *h, const struct found *found, const struct event *event)
{
    if (!found->item->again || found->loop->waits != PAST_ITEMS || run_ended(h->status))
        history_fault(h, event, "the iteration ended well, or its loop does not go on");
    found->item->again = found->item->partial = false;
    found->item->status = STEP_PENDING;
    found->item->decisive = NULL;
    if (h->status == RUN_PAUSED || history_stopping(h, &found->item->steps[0]))
        history_fault(h, event, "the run is paused, or nothing new may start");
    item_runs(h, found->loop, event);
}

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
    item->partial = status == STEP_SUCCEEDED && event->code.ptr != NULL;
    item->output_seq = event->ref != 0 ? event->ref : event->seq;
    loop->live--;
    loop->over[status]++;
    if (status == STEP_FAILED && !loop->plan->continue_on_item)
        loop->item_decides = true;
    if (event->code.ptr != NULL)
        loop->item_partial = true;
}

static void check_alive(struct history *h, const struct found *found, const struct event *event)
{
    const struct past_place *place = found->step->place;

    bool given = event->type == EVENT_STEP_GIVEN;

    if (run_ended(h->status) || (!h->started && !h->cancelling && !given))
        history_fault(h, event, "the run has not started, or has ended");
    if (given && (h->asked || h->cancelling))
        history_fault(h, event, "an outcome is given to a run that has asked for a slot, or is stopping");
    if (h->plan->concurrency.limit != 0 && !h->admitted && event->type != EVENT_STEP_CANCELLED && !given)
        history_fault(h, event, "the run was not admitted");
    if (h->started && h->queued_seq != 0 && event->type != EVENT_STEP_CANCELLED && event->type != EVENT_STEP_SETTLED)
        history_fault(h, event, "the run has been opened again, and waits for a slot");
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
        history_signal_came(h, event);
    if (event->type < EVENT_STEP_DISPATCHED || event->type >= EVENT_COMMAND_APPLIED) {
        history_run_event(h, event);
        return;
    }
    if (!resolve(h, event->step, event->type != EVENT_LATE_RESULT, &found)) {
        history_fault(h, event, "the run has no such step");
        h->faulty = true;
        return;
    }
    if (found.begins) /* its first word */
        item_runs(h, found.loop, event);
    if (found.step == NULL) {
        if (event->type == EVENT_STEP_CONTINUED)
            item_continued(h, &found, event);
        else
            item_ended(h, &found, event);
        return;
    }
    if (event->type != EVENT_LATE_RESULT)
        check_alive(h, &found, event);
    history_step_event(h, found.step, event);
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
