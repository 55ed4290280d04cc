/* GET /v1/workers: those that a live scheduler has heard of late. */
#include "gateway/json_more.h"
#include "gateway/page.h"
#include "gateway/route.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

struct worker_row {
    struct str name;
    int64_t tasks;
    struct wall_us heard_at;
};

static int by_name(const void *a, const void *b)
{
    const struct worker_row *x = a, *y = b;

    return str_cmp(x->name, y->name);
}

/* [[name, tasks, milliseconds since it was heard], ...]. Every scheduler hears every worker: one list is all of them.
 */
static size_t read_workers(struct arena *arena, const struct pg_result *rows, struct worker_row **ret)
{
    struct str list = pg_rows(rows) == 0 ? STR_NONE : jt_get(pg_get_str(rows, 0, 1), "workers");
    struct wall_us told_at = {0};
    size_t count = 0;
    struct jt_iter it;

    if (pg_rows(rows) > 0)
        told_at = pg_get_time(rows, 0, 2);
    *ret = arena_array(arena, jt_count(list) + 1, sizeof(**ret));
    jt_iter_init(&it, list);
    while (jt_next(&it)) {
        struct worker_row row = {0};
        int64_t silent_ms = 0;

        if (!jt_string(jt_at(it.value, 0), arena, &row.name) || !jt_i64(jt_at(it.value, 1), &row.tasks) ||
            !jt_i64(jt_at(it.value, 2), &silent_ms))
            continue; /* of a release that says it in another way */
        row.heard_at.us = told_at.us - silent_ms * US_PER_MS;
        (*ret)[count++] = row;
    }
    qsort(*ret, count, sizeof(**ret), by_name);
    return count;
}

static void on_read(void *ctx, const struct pg_outcome *outcome)
{
    struct page *page = ctx;
    struct call *call = page->call;
    bool founders = call->caller.organisation == FIRST_ORGANISATION;
    struct worker_row *rows;
    size_t count, first = 0;

    if (!call_committed(call, outcome))
        return;
    count = read_workers(call->arena, outcome->results[0], &rows);
    while (page->after.ptr != NULL && first < count && str_cmp(rows[first].name, page->after) <= 0)
        first++;
    page_begin(page);
    for (size_t i = first; i < count && page_more(page); i++) {
        jw_obj(&page->w);
        jw_kstr(&page->w, "name", rows[i].name);
        jw_key(&page->w, "tasks");
        if (founders) /* what a worker holds is of all organisations */
            jw_i64(&page->w, rows[i].tasks);
        else
            jw_null(&page->w);
        jw_ktime(&page->w, "heard_at", rows[i].heard_at);
        jw_end_obj(&page->w);
        page_cursor(page, rows[i].name);
    }
    page_end(page, count - first);
}

void route_worker_list(struct call *call)
{
    struct page *page = page_open(call);
    struct pg_batch *batch;

    if (page == NULL)
        return;
    batch = call_batch(call, false);
    pg_add(batch, SQL_SCHEDULERS_HEARD);
    pg_submit(gateway_read(call->gw), batch, on_read, page);
}
