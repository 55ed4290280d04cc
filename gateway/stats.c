/* GET /v1/stats: what an organisation has going on just now, in a few bounded reads of indexes. */
#include "gateway/call.h"
#include "gateway/json_more.h"
#include "gateway/route.h"
#include "rw_gateway_sql.h"
#include <inttypes.h>

#include "common/base/banned.h"

#define COUNTED_MAX 10000   /* of runs in one state */
#define RUNS_LOOKED_AT 1000 /* active, and as many pending ones */
#define ROWS_LOOKED_AT 20000
#define JSON_MAX ((size_t)1 << 20)

static const char *const priorities[] = {"critical", "high", "normal", "low"};

static int64_t count_of(const struct pg_result *rows, const char *part, const char *status)
{
    for (size_t i = 0; i < pg_rows(rows); i++)
        if (str_is(pg_get_str(rows, i, 0), part) && str_is(pg_get_str(rows, i, 1), status))
            return pg_get_int(rows, i, 2);
    return 0;
}

static void put_runs(struct jw *w, const struct pg_result *rows)
{
    static const char *const open[] = {"pending", "active", "paused"};
    int64_t started = 0;

    jw_key(w, "open");
    jw_obj(w);
    for (size_t i = 0; i < sizeof(open) / sizeof(open[0]); i++)
        jw_ki64(w, open[i], count_of(rows, "open", open[i]));
    jw_end_obj(w);
    jw_key(w, "last_minute");
    jw_obj(w);
    jw_key(w, "by_status");
    jw_obj(w);
    for (size_t i = 0; i < pg_rows(rows); i++) {
        if (!str_is(pg_get_str(rows, i, 0), "recent"))
            continue;
        started += pg_get_int(rows, i, 2);
        jw_key_str(w, pg_get_str(rows, i, 1));
        jw_i64(w, pg_get_int(rows, i, 2));
    }
    jw_end_obj(w);
    jw_ki64(w, "started", started);
    jw_end_obj(w);
    jw_ki64(w, "counted_up_to", COUNTED_MAX);
}

static bool is_task(const struct pg_result *rows, size_t row)
{
    return str_is(pg_get_str(rows, row, 0), "task");
}

static void put_row(struct jw *w, const struct pg_result *rows, size_t row)
{
    int64_t priority = pg_is_null(rows, row, 2) ? -1 : pg_get_int(rows, row, 2);

    jw_obj(w);
    if (is_task(rows, row)) {
        jw_kstr(w, "pool", pg_get_str(rows, row, 1));
        jw_kcstr(w, "priority", priority >= 0 && priority < 4 ? priorities[priority] : NULL);
    } else {
        jw_kstr(w, "kind", pg_get_str(rows, row, 0));
    }
    jw_kstr(w, "reason", pg_get_str(rows, row, 3));
    jw_ki64(w, "count", pg_get_int(rows, row, 4));
    jw_ktime(w, "oldest_at", pg_get_time(rows, row, 5));
    jw_ktime(w, "next_due_at", pg_get_time(rows, row, 6));
    jw_end_obj(w);
}

static void put_work(struct jw *w, const char *name, const struct pg_result *rows, bool tasks)
{
    jw_key(w, name);
    jw_arr(w);
    for (size_t i = 0; i < pg_rows(rows); i++)
        if (is_task(rows, i) == tasks)
            put_row(w, rows, i);
    jw_end_arr(w);
}

/* [[pool, priority, consumers, in the database, published, age of the oldest in ms], ...] of each scheduler, for its
 * own shards; what waits in them is of all organisations, and told to the first alone. */
static void put_queue(struct jw *w, struct str row, struct arena *arena, struct str scheduler, bool founders)
{
    int64_t values[5];
    struct str pool;
    size_t n = 0;

    if (!jt_string(jt_at(row, 0), arena, &pool))
        return;
    while (n < 5 && jt_i64(jt_at(row, n + 1), &values[n]))
        n++;
    if (n < 5 || values[0] < 0 || values[0] > 3)
        return;
    jw_obj(w);
    jw_kstr(w, "scheduler", scheduler);
    jw_kstr(w, "pool", pool);
    jw_kcstr(w, "priority", priorities[values[0]]);
    jw_kraw(w, "consumers", values[1] < 0 ? STR_NONE : jt_at(row, 2));
    jw_kraw(w, "waiting", founders ? str_of(arena_printf(arena, "%" PRId64, values[2] + values[3])) : STR_NONE);
    jw_kraw(w, "oldest_ms", founders ? jt_at(row, 5) : STR_NONE);
    jw_end_obj(w);
}

static void put_schedulers(struct jw *w, const struct call *call, const struct pg_result *rows)
{
    bool founders = call->caller.organisation == FIRST_ORGANISATION;
    size_t workers = 0;

    jw_key(w, "queues");
    jw_arr(w);
    for (size_t i = 0; i < pg_rows(rows); i++) {
        struct str health = pg_get_str(rows, i, 1);
        size_t heard = jt_count(jt_get(health, "workers"));
        struct jt_iter it;

        workers = heard > workers ? heard : workers;
        jt_iter_init(&it, jt_get(health, "queues"));
        while (jt_next(&it))
            put_queue(w, it.value, call->arena, pg_get_str(rows, i, 0), founders);
    }
    jw_end_arr(w);
    jw_ki64(w, "schedulers", (int64_t)pg_rows(rows));
    jw_ki64(w, "workers", (int64_t)workers);
}

static int64_t looked_at(const struct pg_result *counts, bool *ret_all)
{
    static const char *const looked_for[] = {"active", "pending"};
    int64_t sum = 0;

    *ret_all = true;
    for (size_t i = 0; i < sizeof(looked_for) / sizeof(looked_for[0]); i++) {
        int64_t count = count_of(counts, "open", looked_for[i]);

        sum += count < RUNS_LOOKED_AT ? count : RUNS_LOOKED_AT;
        *ret_all = *ret_all && count <= RUNS_LOOKED_AT;
    }
    return sum;
}

static void on_read(void *ctx, const struct pg_outcome *outcome)
{
    struct call *call = ctx;
    CLEANUP(buf_deinit) struct buf body = {0};
    struct jw w = jw_to(&body);
    bool all;

    if (!call_committed(call, outcome))
        return;
    buf_init(&body, JSON_MAX);
    jw_obj(&w);
    jw_kcstr(&w, "organisation", call->caller.organisation_name);
    jw_key(&w, "runs");
    jw_obj(&w);
    put_runs(&w, outcome->results[0]);
    jw_end_obj(&w);
    put_work(&w, "tasks", outcome->results[1], true);
    put_work(&w, "waiting", outcome->results[1], false);
    put_schedulers(&w, call, outcome->results[2]);
    jw_key(&w, "looked_at");
    jw_obj(&w);
    jw_ki64(&w, "runs", looked_at(outcome->results[0], &all));
    jw_kbool(&w, "all", all);
    jw_end_obj(&w);
    jw_end_obj(&w);
    call_json(call, 200, buf_str(&body));
}

void route_stats(struct call *call)
{
    struct pg_batch *batch = call_batch(call, false);

    pg_add(batch, SQL_STATS_RUNS, pg_i32(COUNTED_MAX));
    pg_add(batch, SQL_STATS_WORK, pg_i32(RUNS_LOOKED_AT), pg_i32(ROWS_LOOKED_AT));
    pg_add(batch, SQL_SCHEDULERS_HEARD);
    pg_submit(gateway_read(call->gw), batch, on_read, call);
}
