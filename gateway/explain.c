/* Why is this run not moving? One sentence for people, a reason for programs, what to do, and all that is open. Of a
 * child that is waited for, why that one is not moving, one level down. The words: explain_reason.c. */
#include "gateway/explain_reason.h"
#include "gateway/json_more.h"
#include "gateway/route.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define JSON_MAX ((size_t)16 << 20)
#define OPEN_SHOWN 1000 /* rows of open work; the count says how many there are */
#define QUEUES_MAX 1024

struct explaining {
    struct call *call;
    struct run_id id;
    struct explain_facts facts;
    struct explanation said;
    struct explaining *above; /* it is the child of that one */
};

static void explain_run(struct call *call, struct run_id id, struct explaining *above);

/* ---- the answer ---- */

static void put_work(struct jw *w, const struct work_view *work)
{
    static const char *const kinds[] = {"unknown", "task",   "backoff", "delay",     "run_timeout", "unknown_outcome",
                                        "items",   "signal", "child",   "admission", "event"};

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
    if (e->said.reason.child.ptr == NULL) {
        jw_null(w);
        return;
    }
    jw_obj(w);
    jw_kstr(w, "run_id", e->said.reason.child);
    if (below != NULL) {
        jw_kcstr(w, "status", history_status(below->facts.history));
        jw_kcstr(w, "sentence", below->said.reason.sentence);
        jw_kcstr(w, "reason", explain_code(&below->said));
        jw_kcstr(w, "hint", explain_hint(&below->said));
        jw_kstr(w, "step", below->said.reason.step);
    }
    jw_end_obj(w);
}

static void put_concurrency(struct jw *w, const struct explain_place *place)
{
    jw_key(w, "concurrency");
    if (place == NULL) {
        jw_null(w);
        return;
    }
    jw_obj(w);
    jw_kstr(w, "workflow", place->workflow);
    jw_kstr(w, "key", place->key);
    jw_ki64(w, "limit", place->limit);
    jw_ki64(w, "held", place->held);
    jw_ki64(w, "position", place->position);
    jw_ki64(w, "waiting", place->waiting);
    jw_key(w, "holders");
    jw_arr(w);
    for (struct str rest = place->holders; rest.len > 0;)
        jw_str(w, str_trim(str_cut(&rest, ',')));
    jw_end_arr(w);
    jw_end_obj(w);
}

static void put_reason(struct jw *w, const struct explanation *said)
{
    const struct reason *reason = &said->reason;

    jw_kcstr(w, "sentence", reason->sentence);
    jw_kcstr(w, "reason", explain_code(said));
    jw_kcstr(w, "waiting_for", reason_code(reason->id));
    jw_kcstr(w, "hint", explain_hint(said));
    jw_kstr(w, "step", reason->step);
    jw_ktime(w, "since", reason->since);
    jw_ktime(w, "due_at", reason->due_at);
    jw_kstr(w, "signal", reason->signal);
    jw_kbool(w, "repaired", reason->repaired);
}

static void put_more(struct jw *w, const struct explanation *said)
{
    jw_key(w, "more");
    jw_arr(w);
    for (size_t i = 0; i < said->more_count; i++) {
        const struct reason_more *more = &said->more[i];

        jw_obj(w);
        jw_kcstr(w, "reason", reason_code(more->id));
        jw_ki64(w, "count", (int64_t)more->count);
        jw_kstr(w, "step", more->first.step);
        jw_kcstr(w, "sentence", more->first.sentence);
        jw_end_obj(w);
    }
    jw_end_arr(w);
}

static void answer(const struct explaining *e, const struct explaining *below)
{
    const struct history *h = e->facts.history;
    CLEANUP(buf_deinit) struct buf body = {0};
    struct jw w;

    buf_init(&body, JSON_MAX);
    w = jw_to(&body);
    jw_obj(&w);
    jw_krun(&w, "run_id", h->id);
    jw_kcstr(&w, "status", history_status(h));
    put_reason(&w, &e->said);
    put_child(&w, e, below);
    put_more(&w, &e->said);
    put_concurrency(&w, e->facts.place);
    jw_ki64(&w, "open_count", (int64_t)h->work_count);
    jw_key(&w, "open");
    jw_arr(&w);
    for (size_t i = 0; i < h->work_count && i < OPEN_SHOWN; i++)
        put_work(&w, &h->work[i]);
    jw_end_arr(&w);
    jw_ki64(&w, "commands_waiting", h->commands);
    jw_ki64(&w, "shard", e->facts.shard);
    jw_kstr(&w, "scheduler", e->facts.owned ? e->facts.owner : STR_NONE);
    jw_end_obj(&w);
    call_json(e->call, 200, buf_str(&body));
}

/* ---- the facts ---- */

/* [[pool, priority, consumers, ...], ...]: what cannot be read is as if it had not been said. */
static void read_queues(struct explain_facts *facts, struct str text)
{
    struct explain_queue *queues = arena_array(facts->arena, QUEUES_MAX, sizeof(*queues));
    struct jt_iter rows;

    jt_iter_init(&rows, text);
    while (facts->queue_count < QUEUES_MAX && jt_next(&rows)) {
        struct explain_queue queue = {.consumers = -1};
        int64_t priority;
        struct jt_iter row;

        jt_iter_init(&row, rows.value);
        if (!jt_next(&row) || !jt_string(row.value, facts->arena, &queue.pool) || !jt_next(&row) ||
            !jt_i64(row.value, &priority) || !jt_next(&row) || !jt_i64(row.value, &queue.consumers))
            continue;
        queue.priority = (int)priority;
        queues[facts->queue_count++] = queue;
    }
    facts->queues = queues;
}

static bool is_told_of(const struct explain_facts *facts, struct str list)
{
    char id[UUID_TEXT_SIZE];
    struct str text;
    struct jt_iter runs;

    run_id_format(facts->history->id, id);
    jt_iter_init(&runs, list);
    while (jt_next(&runs))
        if (jt_string(runs.value, facts->arena, &text) && str_is(text, id))
            return true;
    return false;
}

static void read_health(struct explain_facts *facts, struct str text)
{
    facts->told = jt_bool(jt_get(text, "broker"), &facts->broker_up);
    facts->for_newer = is_told_of(facts, jt_get(text, "for_newer"));
    facts->for_older = is_told_of(facts, jt_get(text, "for_older"));
    read_queues(facts, jt_get(text, "queues"));
}

static void read_owner(struct explain_facts *facts, const struct pg_result *rows)
{
    if (pg_rows(rows) == 0)
        return;
    facts->shard = (int)pg_get_int(rows, 0, 0);
    facts->owner = str_arena(facts->arena, pg_get_str(rows, 0, 1));
    facts->owned = pg_get_bool(rows, 0, 2);
    facts->now = pg_get_time(rows, 0, 3);
    if (pg_is_null(rows, 0, 4))
        return;
    facts->told_at = pg_get_time(rows, 0, 5);
    read_health(facts, str_arena(facts->arena, pg_get_str(rows, 0, 4)));
}

static void read_place(struct explain_facts *facts, const struct pg_result *rows)
{
    struct explain_place *place = arena_alloc(facts->arena, sizeof(*place));

    if (pg_rows(rows) == 0)
        return;
    *place = (struct explain_place){.workflow = str_arena(facts->arena, pg_get_str(rows, 0, 0)),
                                    .limit = pg_get_int(rows, 0, 2),
                                    .held = pg_get_int(rows, 0, 3),
                                    .position = pg_get_int(rows, 0, 4),
                                    .waiting = pg_get_int(rows, 0, 5),
                                    .holders = str_arena(facts->arena, pg_get_str(rows, 0, 6))};
    if (!pg_is_null(rows, 0, 1))
        (void)jt_string(pg_get_str(rows, 0, 1), facts->arena, &place->key);
    facts->place = place;
}

/* Where more than could be looked at is open, none is as good as not known. */
static void read_ahead(struct explain_facts *facts, const struct pg_result *rows)
{
    facts->ahead_least = !pg_get_bool(rows, 0, 1);
    facts->ahead = pg_get_int(rows, 0, 0);
    if (facts->ahead_least && facts->ahead == 0)
        facts->ahead = -1;
}

static void on_facts(void *ctx, const struct pg_outcome *outcome)
{
    struct explaining *e = ctx;
    const struct work_view *work;
    struct run_id child;

    if (!call_committed(e->call, outcome))
        return;
    read_owner(&e->facts, outcome->results[0]);
    work = explain_decisive(e->facts.history);
    if (outcome->count > 1 && work->kind == WORK_ADMISSION)
        read_place(&e->facts, outcome->results[1]);
    else if (outcome->count > 1)
        read_ahead(&e->facts, outcome->results[1]);
    explain(&e->facts, &e->said);
    if (e->above != NULL)
        answer(e->above, e);
    else if (e->said.reason.child.ptr != NULL && run_id_parse(e->said.reason.child, &child))
        explain_run(e->call, child, e);
    else
        answer(e, NULL);
}

static void on_history(void *ctx, const struct history *history)
{
    struct explaining *e = ctx;
    const struct work_view *work;
    struct pg_batch *batch;

    if (history == NULL) { /* only a child may be missing: its command says why, in a moment */
        answer(e->above, NULL);
        return;
    }
    e->facts.history = history;
    batch = call_batch(e->call, false);
    pg_add(batch, SQL_SHARD_OWNER, pg_i16((int16_t)run_id_slot(history->id)));
    work = explain_decisive(history);
    if (explain_is_queued(history, work))
        pg_add(batch, SQL_WORK_AHEAD, pg_text(work->pool), pg_i16((int16_t)work->priority), pg_time(work->opened_at),
               pg_i32(AHEAD_ROWS));
    else if (work != NULL && work->kind == WORK_ADMISSION)
        pg_add(batch, SQL_RUN_ADMISSION, pg_uuid(history->id),
               pg_i32((int32_t)limit_most(&e->call->gw->config.limits, LIMIT_RUNNING_RUNS)));
    pg_submit(gateway_read(e->call->gw), batch, on_facts, e);
}

static void explain_run(struct call *call, struct run_id id, struct explaining *above)
{
    struct explaining *e = arena_alloc(call->arena, sizeof(*e));

    *e = (struct explaining){.call = call, .id = id, .above = above, .facts = {.arena = call->arena, .ahead = -1}};
    history_read(call, id, above != NULL, on_history, e);
}

void route_run_explain(struct call *call)
{
    struct run_id id;

    if (call_run_id(call, 0, &id))
        explain_run(call, id, NULL);
}
