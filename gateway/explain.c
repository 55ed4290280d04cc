/* Why is this run not moving? One sentence for people, a reason for programs, and all that is open. Of a child that is
 * waited for, why that one is not moving, one level down. */
#include "gateway/history.h"
#include "gateway/json_more.h"
#include "gateway/route.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define JSON_MAX ((size_t)16 << 20)
#define OPEN_SHOWN 1000 /* rows of open work; the count says how many there are */

struct reason {
    const char *code;
    struct str step, signal; /* STR_NONE: none */
    struct str child;        /* id of the child run that is waited for */
    struct wall_us due_at;
    char sentence[768];
};

struct explaining {
    struct call *call;
    struct run_id id;
    const struct history *history;
    int shard;
    bool owned;
    struct str owner;
    struct reason reason;
    struct explaining *above; /* it is the child of that one */
};

static void explain_run(struct call *call, struct run_id id, struct explaining *above);

static void say(struct reason *reason, const char *code, const char *format, ...) PRINTF_LIKE(3, 4);
static void say(struct reason *reason, const char *code, const char *format, ...)
{
    va_list args;

    reason->code = code;
    va_start(args, format);
    vsnprintf(reason->sentence, sizeof(reason->sentence), format, args);
    va_end(args);
}

/* "until 2026-...", or that there is no end to it. */
#define UNTIL_SIZE (WALL_TEXT_SIZE + 32)
static const char *until(struct wall_us due_at, char ret[UNTIL_SIZE])
{
    char time[WALL_TEXT_SIZE];

    wall_format(due_at, time);
    snprintf(ret, UNTIL_SIZE, due_at.us == 0 ? ", however long it takes" : " until %s", time);
    return ret;
}

static uint32_t node_of(const struct history *h, const struct work_view *work)
{
    return work->step.ptr == NULL ? NO_NODE : run_find_step(h->state, work->step, NULL);
}

/* What people want to hear of first: doubts, then what runs, then what waits longest for certain; of a loop what is in
 * it comes first. */
static int rank(const struct history *h, const struct work_view *work)
{
    uint32_t node = node_of(h, work);

    switch (work->kind) {
    case WORK_UNKNOWN:
        return 0;
    case WORK_TASK:
        return node != NO_NODE && run_step(h->state, node)->status == STEP_RUNNING ? 2 : 1;
    case WORK_BACKOFF:
        return 3;
    case WORK_SIGNAL:
        return 4;
    case WORK_CHILD:
        return 5;
    case WORK_DELAY:
        return 6;
    case WORK_ITEMS:
        return 7;
    case WORK_RUN_TIMEOUT:
        break;
    }
    return 9;
}

static const struct attempt_view *newest_attempt(const struct history *h, const struct work_view *work)
{
    const struct step_view *view = history_view(h, work->step);
    const struct attempt_view *a = view == NULL ? NULL : view->attempts;

    while (a != NULL && a->next != NULL)
        a = a->next;
    return a;
}

/* A poll between two tries. */
static bool explain_poll(const struct history *h, const struct work_view *work, struct reason *reason)
{
    uint32_t node = node_of(h, work);
    char due[WALL_TEXT_SIZE];

    if (node == NO_NODE || run_plan_step(h->state, node)->kind != CALL_POLL || !run_step(h->state, node)->deferred)
        return false;
    wall_format(work->due_at, due);
    say(reason, "poll", "Step '" STR_FMT "' tries again at %s: the answer of try %d was not yet the one it waits for.",
        STR_ARG(work->step), due, work->dispatch - 1);
    return true;
}

static void explain_task(const struct history *h, const struct work_view *work, struct reason *reason)
{
    uint32_t node = node_of(h, work);
    const struct attempt_view *a = newest_attempt(h, work);

    if (explain_poll(h, work, reason))
        return;
    if (node != NO_NODE && run_step(h->state, node)->status == STEP_RUNNING)
        say(reason, "running", "Step '" STR_FMT "' is running (attempt %d, worker " STR_FMT ").", STR_ARG(work->step),
            work->attempt, STR_ARG(a == NULL || a->worker.ptr == NULL ? STR("unknown") : a->worker));
    else if (str_is(work->reason, "deferred"))
        say(reason, "deferred",
            "Step '" STR_FMT "' was deferred by a worker and is published again when its time comes.",
            STR_ARG(work->step));
    else
        say(reason, "queued",
            "Step '" STR_FMT "' is queued in pool '" STR_FMT "': no worker has reported that it began it yet.",
            STR_ARG(work->step), STR_ARG(work->pool));
}

static void explain_backoff(const struct history *h, const struct work_view *work, struct reason *reason)
{
    const struct step_view *view = history_view(h, work->step);
    const struct event *failure = view == NULL ? NULL : view->waiting;
    char due[WALL_TEXT_SIZE];

    wall_format(work->due_at, due);
    if (failure == NULL)
        say(reason, "backing_off", "Step '" STR_FMT "' waits until %s for its next attempt; the last one failed.",
            STR_ARG(work->step), due);
    else
        say(reason, "backing_off",
            "Step '" STR_FMT "' waits until %s for its next attempt; the last one failed: " STR_FMT " (" STR_FMT ").",
            STR_ARG(work->step), due, STR_ARG(failure->code), STR_ARG(utf8_prefix(failure->message, 200)));
}

static void explain_signal(const struct history *h, const struct work_view *work, struct reason *reason)
{
    uint32_t node = node_of(h, work);
    const struct step_extra *extra = node == NO_NODE ? NULL : run_step(h->state, node)->extra;
    char since[WALL_TEXT_SIZE], end[UNTIL_SIZE];

    if (extra != NULL && extra->signal != NULL)
        reason->signal = str_of(extra->signal->name);
    wall_format(work->opened_at, since);
    say(reason, "signal", "Step '" STR_FMT "' waits since %s for a signal '" STR_FMT "'%s.", STR_ARG(work->step), since,
        STR_ARG(reason->signal), until(work->due_at, end));
}

static void explain_child(struct call *call, const struct history *h, const struct work_view *work,
                          struct reason *reason)
{
    uint32_t node = node_of(h, work);
    const struct step_extra *extra = node == NO_NODE ? NULL : run_step(h->state, node)->extra;
    char id[UUID_TEXT_SIZE] = "";

    if (extra != NULL) {
        run_id_format(extra->child, id);
        reason->child = str_of(arena_dup(call->arena, id, strlen(id)));
    }
    say(reason, "child", "Step '" STR_FMT "' waits for its child run %s.", STR_ARG(work->step), id);
}

static void explain_loop(const struct history *h, const struct work_view *work, struct reason *reason)
{
    uint32_t node = node_of(h, work);
    const struct step_extra *extra = node == NO_NODE ? NULL : run_step(h->state, node)->extra;

    if (extra == NULL)
        say(reason, "loop", "Loop '" STR_FMT "' is being worked on.", STR_ARG(work->step));
    else
        say(reason, "loop", "Loop '" STR_FMT "': %u of %u items have ended, %u are running.", STR_ARG(work->step),
            extra->next - extra->live, extra->count, extra->live);
}

static void explain_work(struct explaining *e, const struct work_view *work)
{
    const struct history *h = e->history;
    struct reason *reason = &e->reason;
    char due[WALL_TEXT_SIZE];

    wall_format(work->due_at, due);
    reason->step = work->step;
    reason->due_at = work->due_at;
    switch (work->kind) {
    case WORK_TASK:
        explain_task(h, work, reason);
        break;
    case WORK_BACKOFF:
        explain_backoff(h, work, reason);
        break;
    case WORK_DELAY:
        say(reason, "delay", "Step '" STR_FMT "' waits until %s.", STR_ARG(work->step), due);
        break;
    case WORK_UNKNOWN:
        say(reason, "unknown_outcome",
            "Nobody knows whether step '" STR_FMT "' had its effect: it waits to be settled.", STR_ARG(work->step));
        break;
    case WORK_SIGNAL:
        explain_signal(h, work, reason);
        break;
    case WORK_CHILD:
        explain_child(e->call, h, work, reason);
        break;
    case WORK_ITEMS:
        explain_loop(h, work, reason);
        break;
    case WORK_RUN_TIMEOUT:
        say(reason, "moving", "The run is being worked on; it times out at %s.", due);
        break;
    }
}

/* What is open belongs to the end of the run: that is to be said first. */
static void explain_action(const struct history *h, struct reason *reason)
{
    const char *about = NULL;
    char rest[sizeof(reason->sentence)];

    if (h->state->compensating)
        about = "What the run has done is being undone";
    else if (str_is(reason->step, ":notify"))
        about = "The run is about to end, and somebody is being told";
    if (about == NULL)
        return;
    snprintf(rest, sizeof(rest), "%s", reason->sentence);
    snprintf(reason->sentence, sizeof(reason->sentence), "%s. %.600s", about, rest);
    reason->code = h->state->compensating ? "compensating" : "notifying";
}

static void explain(struct explaining *e)
{
    const struct history *h = e->history;
    const struct work_view *first = NULL;
    struct reason *reason = &e->reason;

    if (run_ended((enum run_status)h->state->status)) {
        char at[WALL_TEXT_SIZE];

        wall_format(h->ended_at, at);
        say(reason, "ended", "The run ended at %s: %s.", at, history_status(h));
        return;
    }
    if (h->quarantined) {
        say(reason, "quarantined",
            "The run is quarantined (" STR_FMT "): what comes for it is kept; :release lets it go on.",
            STR_ARG(utf8_prefix(h->quarantine_reason, 200)));
        return;
    }
    if (!e->owned) {
        say(reason, "no_scheduler",
            "No scheduler looks after shard %d, to which the run belongs: start one, or look at its log.", e->shard);
        return;
    }
    for (size_t i = 0; i < h->work_count; i++)
        if (first == NULL || rank(h, &h->work[i]) < rank(h, first))
            first = &h->work[i];
    if (first != NULL) {
        explain_work(e, first);
        explain_action(h, reason);
    } else if (h->commands > 0) {
        say(reason, "starting", "The run is accepted; scheduler " STR_FMT " has not taken it yet.", STR_ARG(e->owner));
    } else {
        say(reason, "orphan",
            "The run is open, but nothing is open for it: a fault of ours; the schedulers' logs say more.");
    }
}

static void put_work(struct jw *w, const struct work_view *work)
{
    static const char *const kinds[] = {"unknown",         "task",  "backoff", "delay", "run_timeout",
                                        "unknown_outcome", "items", "signal",  "child"};

    jw_obj(w);
    jw_kcstr(w, "kind", kinds[(size_t)work->kind < sizeof(kinds) / sizeof(kinds[0]) ? (size_t)work->kind : 0]);
    jw_kstr(w, "step", work->step);
    if (work->attempt > 0)
        jw_ki64(w, "attempt", work->attempt);
    if (work->pool.ptr != NULL)
        jw_kstr(w, "pool", work->pool);
    jw_ktime(w, "opened_at", work->opened_at);
    jw_ktime(w, "due_at", work->due_at);
    if (work->reason.ptr != NULL)
        jw_kstr(w, "reason", work->reason);
    jw_end_obj(w);
}

/* below: the explanation of the child, NULL: there is none. */
static void put_child(struct jw *w, const struct explaining *e, const struct explaining *below)
{
    jw_key(w, "child");
    if (e->reason.child.ptr == NULL) {
        jw_null(w);
        return;
    }
    jw_obj(w);
    jw_kstr(w, "run_id", e->reason.child);
    if (below != NULL) {
        jw_kcstr(w, "status", history_status(below->history));
        jw_kcstr(w, "sentence", below->reason.sentence);
        jw_kcstr(w, "reason", below->reason.code);
        jw_kstr(w, "step", below->reason.step);
    }
    jw_end_obj(w);
}

static void answer(const struct explaining *e, const struct explaining *below)
{
    const struct history *h = e->history;
    CLEANUP(buf_deinit) struct buf body = {0};
    struct jw w;

    buf_init(&body, JSON_MAX);
    w = jw_to(&body);
    jw_obj(&w);
    jw_krun(&w, "run_id", h->id);
    jw_kcstr(&w, "status", history_status(h));
    jw_kcstr(&w, "sentence", e->reason.sentence);
    jw_kcstr(&w, "reason", e->reason.code);
    jw_kstr(&w, "step", e->reason.step);
    jw_ktime(&w, "due_at", e->reason.due_at);
    jw_kstr(&w, "signal", e->reason.signal);
    put_child(&w, e, below);
    jw_ki64(&w, "open_count", (int64_t)h->work_count);
    jw_key(&w, "open");
    jw_arr(&w);
    for (size_t i = 0; i < h->work_count && i < OPEN_SHOWN; i++)
        put_work(&w, &h->work[i]);
    jw_end_arr(&w);
    jw_ki64(&w, "commands_waiting", h->commands);
    jw_ki64(&w, "shard", e->shard);
    jw_kstr(&w, "scheduler", e->owned ? e->owner : STR_NONE);
    jw_end_obj(&w);
    call_json(e->call, 200, buf_str(&body));
}

static void on_owner(void *ctx, const struct pg_outcome *outcome)
{
    struct explaining *e = ctx;
    struct run_id child;

    if (!call_committed(e->call, outcome))
        return;
    if (pg_rows(outcome->results[0]) > 0) {
        e->shard = (int)pg_get_int(outcome->results[0], 0, 0);
        e->owner = str_arena(e->call->arena, pg_get_str(outcome->results[0], 0, 1));
        e->owned = pg_get_bool(outcome->results[0], 0, 2);
    }
    explain(e);
    if (e->above != NULL)
        answer(e->above, e);
    else if (e->reason.child.ptr != NULL && run_id_parse(e->reason.child, &child))
        explain_run(e->call, child, e);
    else
        answer(e, NULL);
}

static void on_history(void *ctx, const struct history *history)
{
    struct explaining *e = ctx;
    struct pg_batch *batch;

    if (history == NULL) { /* only a child may be missing: its command says why, in a moment */
        answer(e->above, NULL);
        return;
    }
    e->history = history;
    batch = pg_batch_new(false);
    pg_add(batch, SQL_SHARD_OWNER, pg_i16((int16_t)run_id_slot(history->id)));
    pg_submit(gateway_read(e->call->gw), batch, on_owner, e);
}

static void explain_run(struct call *call, struct run_id id, struct explaining *above)
{
    struct explaining *e = arena_alloc(call->arena, sizeof(*e));

    *e = (struct explaining){.call = call, .id = id, .above = above};
    history_read(call, id, above != NULL, on_history, e);
}

void route_run_explain(struct call *call)
{
    struct run_id id;

    if (call_run_id(call, 0, &id))
        explain_run(call, id, NULL);
}
