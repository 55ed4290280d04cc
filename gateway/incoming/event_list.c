/* Events that were taken, read: pages, one whole, and on from a place. */
#include "gateway/json_more.h"
#include "gateway/page.h"
#include "gateway/route.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define JSON_MAX ((size_t)64 << 20)
#define TAIL_MAX 100

/* Columns from `col` on: number, at, event, bytes, starts. */
static void put_event(struct jw *w, const struct pg_result *rows, size_t row, int col)
{
    jw_obj(w);
    jw_ki64(w, "number", pg_get_int(rows, row, col));
    jw_ktime(w, "received_at", pg_get_time(rows, row, col + 1));
    jw_kraw(w, "event", pg_get_str(rows, row, col + 2));
    jw_ki64(w, "bytes", pg_get_int(rows, row, col + 3));
    jw_kraw(w, "starts", pg_get_str(rows, row, col + 4));
    jw_end_obj(w);
}

static void put_row(struct page *page, const struct pg_result *rows, size_t row)
{
    put_event(&page->w, rows, row, 0);
    page_cursor(page, str_of(arena_printf(page->call->arena, "%lld", (long long)pg_get_int(rows, row, 0))));
}

static void on_listed(void *ctx, const struct pg_outcome *outcome)
{
    page_answer(ctx, outcome, put_row);
}

void route_event_list(struct call *call)
{
    struct page *page = page_open(call);
    int64_t below = INT64_MAX;
    struct pg_batch *batch;

    if (page == NULL)
        return;
    if (page->after.ptr != NULL && !parse_i64(page->after, 0, INT64_MAX, &below)) {
        call_problem(call, 400, "bad_page_token", "the page_token is not one that this list gave");
        return;
    }
    batch = call_batch(call, false);
    pg_add(batch, SQL_INCOMING_LIST, pg_i64(below), pg_i32((int32_t)page->size + 1), pg_text(call_query(call, "type")),
           pg_text(call_query(call, "source")), pg_text(call_query(call, "subject")));
    pg_submit(gateway_read(call->gw), batch, on_listed, page);
}

static void on_got(void *ctx, const struct pg_outcome *outcome)
{
    struct call *call = ctx;
    CLEANUP(buf_deinit) struct buf out = {0};
    struct jw w = jw_to(&out);

    if (!call_committed(call, outcome))
        return;
    if (pg_rows(outcome->results[0]) == 0) {
        call_problem(call, 404, "not_found", "there is no such event, or not any more");
        return;
    }
    buf_init(&out, JSON_MAX);
    put_event(&w, outcome->results[0], 0, 0);
    call_json(call, 200, buf_str(&out));
}

void route_event_get(struct call *call)
{
    struct pg_batch *batch;
    int64_t number;

    if (!parse_i64(call->params[0], 1, INT64_MAX, &number)) {
        call_problem(call, 404, "not_found", "there is no such event");
        return;
    }
    batch = call_batch(call, false);
    pg_add(batch, SQL_INCOMING_GET, pg_i64(number));
    pg_submit(gateway_read(call->gw), batch, on_got, call);
}

/* --- on from a place: "TRANSACTION-NUMBER" */

static void on_tail(void *ctx, const struct pg_outcome *outcome)
{
    struct call *call = ctx;
    CLEANUP(buf_deinit) struct buf out = {0};
    struct jw w = jw_to(&out);
    const struct pg_result *rows;
    size_t count = 0;
    char after[64];

    if (!call_committed(call, outcome))
        return;
    rows = outcome->results[0];
    buf_init(&out, JSON_MAX);
    jw_obj(&w);
    jw_key(&w, "items");
    jw_arr(&w);
    while (count < pg_rows(rows) && !pg_is_null(rows, count, 1))
        put_event(&w, rows, count++, 1);
    jw_end_arr(&w);
    if (count == TAIL_MAX)
        snprintf(after, sizeof(after), "%lld-%lld", (long long)pg_get_int(rows, count - 1, 6),
                 (long long)pg_get_int(rows, count - 1, 1));
    else
        snprintf(after, sizeof(after), "%lld-0", (long long)pg_get_int(rows, 0, 0));
    jw_kcstr(&w, "after", after);
    jw_end_obj(&w);
    call_json(call, 200, buf_str(&out));
}

void route_event_tail(struct call *call)
{
    struct str rest = call_query(call, "after"), transaction = str_cut(&rest, '-');
    struct pg_batch *batch;
    int64_t from[2] = {0, 0};

    if (transaction.ptr != NULL &&
        (!parse_i64(transaction, 0, INT64_MAX, &from[0]) || !parse_i64(rest, 0, INT64_MAX, &from[1]))) {
        call_problem(call, 400, "bad_query", "after is what an answer had as `after`; 0-0 is before all that is kept");
        return;
    }
    batch = call_batch(call, false);
    pg_add(batch, SQL_INCOMING_TAIL, transaction.ptr == NULL ? pg_null() : pg_i64(from[0]), pg_i64(from[1]),
           pg_i32(TAIL_MAX), pg_text(call_query(call, "type")), pg_text(call_query(call, "source")));
    pg_submit(gateway_read(call->gw), batch, on_tail, call);
}
