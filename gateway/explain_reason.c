/* From what is known of a run to the words that say why it is not moving; see explain_reason.h. */
#include "gateway/explain_reason.h"
#include "common/base/ensure.h"

#include "common/base/banned.h"

#define MESSAGE_SHOWN 200 /* bytes of what others have said */
#define FILTER_FAILED "filter_failed: "

static const struct {
    const char *code, *hint;
} REASONS[] = {
#define REASON(id, code, hint) {code, hint},
#include "gateway/explain.def"
#undef REASON
};

static const struct {
    const char *name, *about, *hint;
} PHASES[] = {
    [PHASE_NONE] = {NULL, "", NULL},
    [PHASE_CANCELLING] = {"cancelling", "The run is being cancelled: nothing new begins, what has begun may end. ",
                          "It ends as soon as what has begun has ended, with the timeout of its step at the latest."},
    [PHASE_STOPPING] = {"stopping",
                        "A failure has decided how the run ends: nothing new begins, what has begun may end. ",
                        "It ends as soon as what has begun has ended. The run's error names the step."},
    [PHASE_COMPENSATING] = {"compensating", "What the run has done is being undone. ",
                            "It ends by itself. What cannot be undone is listed in the run's error."},
    [PHASE_NOTIFYING] = {"notifying", "The run is about to end, and somebody is being told. ", "It ends by itself."},
};

const char *reason_code(enum reason_id id)
{
    return REASONS[id].code;
}

const char *explain_phase_name(enum explain_phase phase)
{
    return PHASES[phase].name;
}

const char *explain_code(const struct explanation *explanation)
{
    return explanation->phase == PHASE_NONE ? reason_code(explanation->reason.id) : PHASES[explanation->phase].name;
}

/* What is waited for is in people's hands more often than the phase is. */
const char *explain_hint(const struct explanation *explanation)
{
    switch (explanation->reason.id) {
    case REASON_RUNNING:
    case REASON_MOVING:
        if (explanation->phase != PHASE_NONE)
            return PHASES[explanation->phase].hint;
        break;
    default:
        break;
    }
    return REASONS[explanation->reason.id].hint;
}

/* ---- which ---- */

static uint32_t node_of(const struct history *h, const struct work_view *work)
{
    return work->step.ptr == NULL ? NO_NODE : run_find_step(h->state, work->step, NULL);
}

static const struct step_extra *extra_of(const struct history *h, const struct work_view *work)
{
    uint32_t node = node_of(h, work);

    return node == NO_NODE ? NULL : run_step(h->state, node)->extra;
}

static uint32_t items_ended(const struct step_extra *extra)
{
    uint32_t count = 0;

    for (int status = 0; status < STEP_STATUSES; status++)
        count += extra->ended[status];
    return count;
}

static uint32_t waiting_for_room(const struct step_extra *extra)
{
    return extra->count - extra->live - items_ended(extra);
}

static enum reason_id task_reason(const struct history *h, const struct work_view *work)
{
    uint32_t node = node_of(h, work);
    const struct step_state *s = node == NO_NODE ? NULL : run_step(h->state, node);

    if (s != NULL && s->deferred && run_plan_step(h->state, node)->kind == CALL_POLL && str_is(work->reason, "poll"))
        return REASON_POLL;
    if (s != NULL && s->status == STEP_RUNNING)
        return REASON_RUNNING;
    if (s == NULL || !s->deferred)
        return REASON_QUEUED;
    if (str_is(work->reason, "rate_limited"))
        return REASON_RATE_LIMITED;
    return str_is(work->reason, "breaker_open") ? REASON_BREAKER_OPEN : REASON_DEFERRED;
}

/* By the run alone: what the schedulers have told of their queues comes on top. */
static enum reason_id reason_of(const struct history *h, const struct work_view *work)
{
    const struct step_extra *extra;

    switch (work->kind) {
    case WORK_TASK:
        return task_reason(h, work);
    case WORK_BACKOFF:
        return REASON_BACKING_OFF;
    case WORK_DELAY:
        return REASON_DELAY;
    case WORK_UNKNOWN:
        return REASON_UNKNOWN_OUTCOME;
    case WORK_SIGNAL:
        return REASON_SIGNAL;
    case WORK_EVENT:
        return str_starts(work->reason, FILTER_FAILED) ? REASON_EVENT_FILTER : REASON_EVENT;
    case WORK_CHILD:
        return REASON_CHILD;
    case WORK_ITEMS:
        extra = extra_of(h, work);
        return extra != NULL && waiting_for_room(extra) > 0 && !extra->stopping ? REASON_LOOP_ROOM : REASON_LOOP;
    case WORK_ADMISSION:
        return REASON_CONCURRENCY;
    case WORK_RUN_TIMEOUT:
        break;
    }
    return REASON_MOVING;
}

const struct work_view *explain_decisive(const struct history *h)
{
    const struct work_view *first = NULL;
    enum reason_id least = REASON_COUNT;

    for (size_t i = 0; i < h->work_count; i++) {
        enum reason_id id = reason_of(h, &h->work[i]);

        if (first != NULL && id >= least)
            continue;
        first = &h->work[i];
        least = id;
    }
    return first;
}

bool explain_is_queued(const struct history *h, const struct work_view *work)
{
    return work != NULL && reason_of(h, work) == REASON_QUEUED;
}

static enum reason_id queued_reason(const struct explain_facts *facts, const struct work_view *work)
{
    /* what was told before the task was there is no reason for its waiting: RabbitMQ may have come back since */
    if (facts->told && !facts->broker_up && facts->told_at.us > work->opened_at.us)
        return REASON_BROKER_DOWN;
    for (size_t i = 0; facts->told && i < facts->queue_count; i++)
        if (facts->queues[i].consumers == 0 && facts->queues[i].priority == work->priority &&
            str_eq(facts->queues[i].pool, work->pool))
            return REASON_NO_WORKER;
    return REASON_QUEUED;
}

static enum explain_phase phase_of(const struct history *h, const struct work_view *work)
{
    if (h->state->compensating)
        return PHASE_COMPENSATING;
    if (work != NULL && str_is(work->step, ":notify"))
        return PHASE_NOTIFYING;
    if (h->state->cancelling)
        return PHASE_CANCELLING;
    return h->state->root->failing ? PHASE_STOPPING : PHASE_NONE;
}

/* ---- words ---- */

#define TIME(at) time_text((char[WALL_TEXT_SIZE]){0}, at)
static const char *time_text(char *ret, struct wall_us at)
{
    wall_format(at, ret);
    return ret;
}

/* " until 2026-...", or that there is no end to it. */
static const char *until(struct arena *arena, struct wall_us due_at)
{
    return due_at.us == 0 ? ", however long it takes" : arena_printf(arena, " until %s", TIME(due_at));
}

/* "47 s", "12 min", "3 h", "5 d". */
static const char *age(struct arena *arena, struct wall_us since, struct wall_us now)
{
    int64_t s = now.us > since.us ? (now.us - since.us) / US_PER_S : 0;

    if (s < 120)
        return arena_printf(arena, "%lld s", (long long)s);
    if (s < 2 * 3600)
        return arena_printf(arena, "%lld min", (long long)s / 60);
    if (s < 2 * 86400)
        return arena_printf(arena, "%lld h", (long long)s / 3600);
    return arena_printf(arena, "%lld d", (long long)s / 86400);
}

static const char *place_in_line(const struct explain_facts *facts, const struct work_view *work, bool decisive)
{
    if (!decisive || facts->ahead < 0 || work->pool.ptr == NULL)
        return "";
    if (facts->ahead == 0)
        return ", as the first of your organisation";
    return arena_printf(facts->arena, ", behind %s%lld %s of your organisation", facts->ahead_least ? "at least " : "",
                        (long long)facts->ahead, facts->ahead == 1 ? "other" : "others");
}

static const char *say_concurrency(const struct explain_facts *facts)
{
    const struct explain_place *p = facts->place;
    const char *limit = "of its organisation's limit of running runs";

    if (p == NULL)
        return "The run has asked for a slot of its concurrency limit, and is about to hear of it.";
    if (p->workflow.ptr != NULL && p->key.ptr == NULL)
        limit = arena_printf(facts->arena, "of workflow '" STR_FMT "'", STR_ARG(p->workflow));
    else if (p->workflow.ptr != NULL)
        limit = arena_printf(facts->arena, "of key '" STR_FMT "' of workflow '" STR_FMT "'",
                             STR_ARG(utf8_prefix(p->key, MESSAGE_SHOWN)), STR_ARG(p->workflow));
    return arena_printf(
        facts->arena,
        "The run waits for a slot %s, as number %lld of %lld in the queue; %lld of %lld are held, by " STR_FMT "%s.",
        limit, (long long)p->position, (long long)p->waiting, (long long)p->held, (long long)p->limit,
        STR_ARG(p->holders), p->held > 5 ? " and others" : "");
}

static const char *say_queued(const struct explain_facts *facts, const struct work_view *work, enum reason_id id,
                              bool decisive)
{
    static const char *const classes[] = {"critical", "high", "normal", "low"};
    const char *class = work->priority >= 0 && work->priority < 4 ? classes[work->priority] : "normal";
    const char *head =
        arena_printf(facts->arena, "Step '" STR_FMT "' has been ready since %s (%s)", STR_ARG(work->step),
                     TIME(work->opened_at), age(facts->arena, work->opened_at, facts->now));

    if (id == REASON_BROKER_DOWN)
        return arena_printf(facts->arena, "%s, but scheduler " STR_FMT " does not reach RabbitMQ.", head,
                            STR_ARG(facts->owner));
    if (id == REASON_NO_WORKER)
        return arena_printf(facts->arena, "%s in pool '" STR_FMT "', which no worker serves.", head,
                            STR_ARG(work->pool));
    return arena_printf(facts->arena,
                        "%s and is queued in pool '" STR_FMT "', priority %s%s: no worker has begun it yet.", head,
                        STR_ARG(work->pool), class, place_in_line(facts, work, decisive));
}

static const struct attempt_view *newest_attempt(const struct history *h, const struct work_view *work)
{
    const struct step_view *view = history_view(h, work->step);
    const struct attempt_view *a = view == NULL ? NULL : view->attempts;

    while (a != NULL && a->next != NULL)
        a = a->next;
    return a;
}

static const char *say_running(const struct explain_facts *facts, const struct work_view *work)
{
    const struct attempt_view *a = newest_attempt(facts->history, work);
    struct str worker = a == NULL || a->worker.ptr == NULL ? STR("unknown") : a->worker;

    if (a == NULL || a->started_at.us == 0) /* of an iteration: its attempts are in a list of their own */
        return arena_printf(facts->arena, "Step '" STR_FMT "' is running (attempt %d).", STR_ARG(work->step),
                            work->attempt);
    return arena_printf(facts->arena, "Step '" STR_FMT "' has been running since %s (attempt %d, worker " STR_FMT ").",
                        STR_ARG(work->step), TIME(a->started_at), work->attempt, STR_ARG(worker));
}

static const char *say_backoff(const struct explain_facts *facts, const struct work_view *work)
{
    const struct step_view *view = history_view(facts->history, work->step);
    const struct event *failure = view == NULL ? NULL : view->waiting;

    if (failure == NULL)
        return arena_printf(facts->arena, "Step '" STR_FMT "' waits until %s for its next attempt; attempt %d failed.",
                            STR_ARG(work->step), TIME(work->due_at), work->attempt);
    return arena_printf(facts->arena,
                        "Step '" STR_FMT "' waits until %s for its next attempt; attempt %d failed: " STR_FMT
                        " (" STR_FMT ").",
                        STR_ARG(work->step), TIME(work->due_at), work->attempt, STR_ARG(failure->code),
                        STR_ARG(utf8_prefix(failure->message, MESSAGE_SHOWN)));
}

static const char *say_signal(const struct explain_facts *facts, const struct work_view *work, struct reason *reason)
{
    const struct step_extra *extra = extra_of(facts->history, work);

    if (extra != NULL && extra->signal != NULL)
        reason->signal = str_of(extra->signal->name);
    return arena_printf(facts->arena, "Step '" STR_FMT "' waits since %s for a signal '" STR_FMT "'%s.",
                        STR_ARG(work->step), TIME(work->opened_at), STR_ARG(reason->signal),
                        until(facts->arena, work->due_at));
}

static const char *say_event(const struct explain_facts *facts, const struct work_view *work, enum reason_id id)
{
    uint32_t node = node_of(facts->history, work);
    const struct plan_event *event = node == NO_NODE ? NULL : &run_plan_step(facts->history->state, node)->event;
    const char *from = "", *filter = event != NULL && event->has_filter ? " that its filter passes" : "", *head;

    if (event != NULL && event->source.ptr != NULL)
        from = arena_printf(facts->arena, " from '" STR_FMT "'", STR_ARG(event->source));
    head = arena_printf(facts->arena, "Step '" STR_FMT "' waits since %s for an event '" STR_FMT "'%s%s%s.",
                        STR_ARG(work->step), TIME(work->opened_at), STR_ARG(event == NULL ? STR("") : event->type),
                        from, filter, until(facts->arena, work->due_at));
    if (id == REASON_EVENT)
        return head;
    return arena_printf(facts->arena, "%s The filter failed for one that came: " STR_FMT ".", head,
                        STR_ARG(utf8_prefix((struct str){work->reason.ptr + strlen(FILTER_FAILED),
                                                         work->reason.len - strlen(FILTER_FAILED)},
                                            MESSAGE_SHOWN)));
}

static const char *say_child(const struct explain_facts *facts, const struct work_view *work, struct reason *reason)
{
    const struct step_extra *extra = extra_of(facts->history, work);
    char id[UUID_TEXT_SIZE] = "";

    if (extra != NULL) {
        run_id_format(extra->child, id);
        reason->child = str_of(arena_dup(facts->arena, id, strlen(id)));
    }
    return arena_printf(facts->arena, "Step '" STR_FMT "' waits for its child run %s.", STR_ARG(work->step), id);
}

static const char *say_loop(const struct explain_facts *facts, const struct work_view *work, enum reason_id id)
{
    const struct step_extra *extra = extra_of(facts->history, work);
    const char *counts;

    if (extra == NULL)
        return arena_printf(facts->arena, "Loop '" STR_FMT "' is being worked on.", STR_ARG(work->step));
    counts = arena_printf(facts->arena, "Loop '" STR_FMT "': %u of %u items have ended, %u are running",
                          STR_ARG(work->step), items_ended(extra), extra->count, extra->live);
    if (id == REASON_LOOP)
        return arena_printf(facts->arena, "%s.", counts);
    return arena_printf(facts->arena, "%s, and %u wait for room (concurrency %u).", counts, waiting_for_room(extra),
                        run_plan_step(facts->history->state, node_of(facts->history, work))->concurrency);
}

static const char *say(const struct explain_facts *facts, const struct work_view *work, bool decisive,
                       struct reason *reason)
{
    struct arena *arena = facts->arena;
    struct str step = work->step;

    switch (reason->id) {
    case REASON_BROKER_DOWN:
    case REASON_NO_WORKER:
    case REASON_QUEUED:
        return say_queued(facts, work, reason->id, decisive);
    case REASON_RUNNING:
        return say_running(facts, work);
    case REASON_RATE_LIMITED:
        return arena_printf(arena,
                            "Step '" STR_FMT "' waits until %s: what it calls is being called as often as its rate "
                            "limit allows.",
                            STR_ARG(step), TIME(work->due_at));
    case REASON_BREAKER_OPEN:
        return arena_printf(arena, "Step '" STR_FMT "' waits until %s: what it calls has failed too often of late.",
                            STR_ARG(step), TIME(work->due_at));
    case REASON_DEFERRED:
        return arena_printf(arena, "Step '" STR_FMT "' was put off by a worker until %s.", STR_ARG(step),
                            TIME(work->due_at));
    case REASON_BACKING_OFF:
        return say_backoff(facts, work);
    case REASON_POLL:
        return arena_printf(
            arena, "Step '" STR_FMT "' tries again at %s: the answer of try %d was not yet the one it waits for.",
            STR_ARG(step), TIME(work->due_at), work->dispatch - 1);
    case REASON_SIGNAL:
        return say_signal(facts, work, reason);
    case REASON_EVENT:
    case REASON_EVENT_FILTER:
        return say_event(facts, work, reason->id);
    case REASON_CHILD:
        return say_child(facts, work, reason);
    case REASON_DELAY:
        return arena_printf(arena, "Step '" STR_FMT "' waits until %s.", STR_ARG(step), TIME(work->due_at));
    case REASON_UNKNOWN_OUTCOME:
        return arena_printf(arena, "Nobody knows whether step '" STR_FMT "' had its effect: it waits to be settled%s.",
                            STR_ARG(step), until(arena, work->due_at));
    case REASON_CONCURRENCY:
        return say_concurrency(facts);
    case REASON_LOOP_ROOM:
    case REASON_LOOP:
        return say_loop(facts, work, reason->id);
    default:
        break;
    }
    return arena_printf(arena, "The run is being worked on; it times out at %s.", TIME(work->due_at));
}

static struct reason reason_for(const struct explain_facts *facts, const struct work_view *work, bool decisive)
{
    struct reason reason = {.id = reason_of(facts->history, work),
                            .step = work->step,
                            .since = work->opened_at,
                            .due_at = work->due_at,
                            .repaired = str_is(work->reason, "repaired")};

    if (reason.id == REASON_QUEUED)
        reason.id = queued_reason(facts, work);
    reason.sentence = say(facts, work, decisive, &reason);
    if (reason.repaired)
        reason.sentence =
            arena_printf(facts->arena, "%s The record of this was missing, and was put back.", reason.sentence);
    return reason;
}

/* ---- all of it ---- */

static void count_others(const struct explain_facts *facts, const struct work_view *decisive, struct explanation *ret)
{
    const struct history *h = facts->history;
    struct reason_more all[REASON_COUNT] = {{.count = 0}};

    for (size_t i = 0; i < h->work_count; i++) {
        const struct work_view *work = &h->work[i];
        enum reason_id id = reason_of(h, work);

        if (work == decisive || id == REASON_MOVING)
            continue;
        if (all[id].count++ == 0)
            all[id].first = reason_for(facts, work, false);
    }
    for (size_t id = 0; id < REASON_COUNT; id++) {
        if (all[id].count == 0)
            continue;
        all[id].id = all[id].first.id;
        ret->more[ret->more_count++] = all[id];
    }
}

static void only(struct explanation *ret, enum reason_id id, const char *sentence)
{
    ret->reason.id = id;
    ret->reason.sentence = sentence;
}

/* Since when, and who asked for it. paused NULL: its row is ahead of what was read of its history. */
static const char *say_paused(struct arena *arena, const struct event *paused)
{
    const char *with = "", *by = "";

    if (paused == NULL)
        return "The run is paused: what has begun may end, nothing new begins until it is resumed.";
    if (str_is(paused->code, "parent"))
        with = ", with the run that it belongs to";
    if (paused->by.len > 0)
        by = arena_printf(arena, " by the API key " STR_FMT, STR_ARG(paused->by));
    return arena_printf(
        arena, "The run is paused since %s%s%s: what has begun may end, nothing new begins until it is resumed.",
        TIME(paused->at), by, with);
}

/* What holds whatever the run itself waits for; false: nothing of that kind. */
static bool explain_from_outside(const struct explain_facts *facts, struct explanation *ret)
{
    const struct history *h = facts->history;
    struct arena *arena = facts->arena;

    if (run_ended((enum run_status)h->state->status))
        only(ret, REASON_ENDED, arena_printf(arena, "The run ended at %s: %s.", TIME(h->ended_at), history_status(h)));
    else if (h->quarantined)
        only(ret, REASON_QUARANTINED,
             arena_printf(arena, "The run is quarantined (" STR_FMT "): what comes for it is kept, and not applied.",
                          STR_ARG(utf8_prefix(h->quarantine_reason, MESSAGE_SHOWN))));
    else if (!facts->owned)
        only(ret, REASON_NO_SCHEDULER,
             arena_printf(arena, "No scheduler looks after shard %d, to which the run belongs.", facts->shard));
    else if (facts->told && facts->for_newer)
        only(ret, REASON_NEWER_RELEASE,
             arena_printf(arena,
                          "Scheduler " STR_FMT " cannot read the run's workflow version or its history: they are of a "
                          "newer release.",
                          STR_ARG(facts->owner)));
    else if (facts->told && facts->for_older)
        only(ret, REASON_OLDER_RELEASE,
             "The run is accepted, and begins when no scheduler of an older release is running, which could not go on "
             "with it.");
    else if (h->state->status == RUN_PAUSED)
        only(ret, REASON_PAUSED, say_paused(arena, h->paused));
    else if (h->work_count > 0)
        return false;
    else if (h->commands > 0)
        only(ret, REASON_STARTING,
             arena_printf(arena, "The run is accepted; scheduler " STR_FMT " has not taken it yet.",
                          STR_ARG(facts->owner)));
    else
        only(ret, REASON_ORPHAN, "The run is open, but nothing is open for it: a fault of ours.");
    return true;
}

void explain(const struct explain_facts *facts, struct explanation *ret)
{
    const struct work_view *work = NULL;

    *ret = (struct explanation){.phase = PHASE_NONE};
    if (!explain_from_outside(facts, ret)) {
        work = explain_decisive(facts->history);
        ret->phase = phase_of(facts->history, work);
        ret->reason = reason_for(facts, work, true);
        ret->reason.sentence = arena_printf(facts->arena, "%s%s", PHASES[ret->phase].about, ret->reason.sentence);
    }
    if (ret->reason.id != REASON_ENDED)
        count_others(facts, work, ret);
}
