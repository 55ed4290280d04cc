/* Why is this run not moving? One sentence for people, a reason for programs, and all that is open. */
#include "gateway/history.h"
#include "gateway/json_more.h"
#include "gateway/route.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define JSON_MAX ((size_t)16 << 20)

struct explaining {
    struct call *call;
    const struct history *history;
    int shard;
    bool owned;
    struct str owner;
};

struct reason {
    const char *code;
    struct str step;
    struct wall_us due_at;
    char sentence[512];
};

static void say(struct reason *reason, const char *code, const char *format, ...) PRINTF_LIKE(3, 4);
static void say(struct reason *reason, const char *code, const char *format, ...)
{
    va_list args;

    reason->code = code;
    va_start(args, format);
    vsnprintf(reason->sentence, sizeof(reason->sentence), format, args);
    va_end(args);
}

/* What people want to hear of first: doubts, then what runs, then what waits longest for certain. */
static int rank(const struct history *h, const struct work_view *work)
{
    uint32_t node = work->step.ptr == NULL ? NO_NODE : run_find_step(h->state, work->step, NULL);

    switch (work->kind) {
    case WORK_UNKNOWN:
        return 0;
    case WORK_TASK:
        return node != NO_NODE && run_step(h->state, node)->status == STEP_RUNNING ? 2 : 1;
    case WORK_BACKOFF:
        return 3;
    case WORK_DELAY:
        return 4;
    default:
        return 9;
    }
}

static void explain_task(const struct history *h, const struct work_view *work, struct reason *reason)
{
    uint32_t node = run_find_step(h->state, work->step, NULL);
    const struct attempt_view *a = node == NO_NODE ? NULL : h->views[node].attempts;

    while (a != NULL && a->next != NULL)
        a = a->next;
    if (a != NULL && strcmp(a->status, "running") == 0)
        say(reason, "running", "Step '" STR_FMT "' is running (attempt %d, worker " STR_FMT ").", STR_ARG(work->step),
            work->attempt, STR_ARG(a->worker));
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
    uint32_t node = run_find_step(h->state, work->step, NULL);
    const struct event *failure = node == NO_NODE ? NULL : h->views[node].waiting;
    char due[WALL_TEXT_SIZE];

    wall_format(work->due_at, due);
    say(reason, "backing_off",
        "Step '" STR_FMT "' waits until %s for its next attempt; the last one failed: " STR_FMT " (" STR_FMT ").",
        STR_ARG(work->step), due, STR_ARG(failure == NULL ? STR("unknown") : failure->code),
        STR_ARG(failure == NULL ? STR("") : utf8_prefix(failure->message, 200)));
}

static void explain_work(const struct history *h, const struct work_view *work, struct reason *reason)
{
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
    default:
        say(reason, "moving", "The run is being worked on; it times out at %s.", due);
        break;
    }
}

static void explain(const struct explaining *e, struct reason *reason)
{
    const struct history *h = e->history;
    const struct work_view *first = NULL;

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
    if (first != NULL)
        explain_work(h, first, reason);
    else if (h->commands > 0)
        say(reason, "starting", "The run is accepted; scheduler " STR_FMT " has not taken it yet.", STR_ARG(e->owner));
    else
        say(reason, "orphan",
            "The run is open, but nothing is open for it: a fault of ours; the schedulers' logs say more.");
}

static void put_work(struct jw *w, const struct work_view *work)
{
    static const char *const kinds[] = {"unknown", "task", "backoff", "delay", "run_timeout", "unknown_outcome"};

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

static void answer(const struct explaining *e)
{
    const struct history *h = e->history;
    struct reason reason = {.step = STR_NONE};
    CLEANUP(buf_deinit) struct buf body = {0};
    struct jw w;

    explain(e, &reason);
    buf_init(&body, JSON_MAX);
    w = jw_to(&body);
    jw_obj(&w);
    jw_krun(&w, "run_id", h->id);
    jw_kcstr(&w, "status", history_status(h));
    jw_kcstr(&w, "sentence", reason.sentence);
    jw_kcstr(&w, "reason", reason.code);
    jw_kstr(&w, "step", reason.step);
    jw_ktime(&w, "due_at", reason.due_at);
    jw_key(&w, "open");
    jw_arr(&w);
    for (size_t i = 0; i < h->work_count; i++)
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

    if (!call_committed(e->call, outcome))
        return;
    if (pg_rows(outcome->results[0]) > 0) {
        e->shard = (int)pg_get_int(outcome->results[0], 0, 0);
        e->owner = str_arena(e->call->arena, pg_get_str(outcome->results[0], 0, 1));
        e->owned = pg_get_bool(outcome->results[0], 0, 2);
    }
    answer(e);
}

static void on_history(struct call *call, const struct history *history)
{
    struct explaining *e = arena_alloc(call->arena, sizeof(*e));
    struct pg_batch *batch = pg_batch_new(false);

    e->call = call;
    e->history = history;
    pg_add(batch, SQL_SHARD_OWNER, pg_i16((int16_t)run_id_slot(history->id)));
    pg_submit(gateway_read(call->gw), batch, on_owner, e);
}

void route_run_explain(struct call *call)
{
    struct run_id id;

    if (call_run_id(call, 0, &id))
        history_load(call, id, on_history);
}
