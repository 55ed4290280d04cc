/* Messages and tasks that could not be used, as the scheduler wrote them down. */
#include "gateway/json_more.h"
#include "gateway/page.h"
#include "gateway/route.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

static void on_listed(void *ctx, const struct pg_outcome *outcome)
{
    struct page *page = ctx;
    const struct pg_result *rows;

    if (!call_committed(page->call, outcome))
        return;
    rows = outcome->results[0];
    page_begin(page);
    for (size_t i = 0; i < pg_rows(rows) && page_more(page); i++) {
        char *id = arena_alloc(page->call->arena, UUID_TEXT_SIZE);
        struct jw *w = &page->w;

        run_id_format(pg_get_uuid(rows, i, 0), id);
        jw_obj(w);
        jw_kcstr(w, "id", id);
        jw_ktime(w, "at", pg_get_time(rows, i, 1));
        jw_kstr(w, "kind", pg_get_str(rows, i, 2));
        jw_kstr(w, "source", pg_get_str(rows, i, 3));
        if (!pg_is_null(rows, i, 4))
            jw_krun(w, "run_id", pg_get_uuid(rows, i, 4));
        jw_kstr(w, "step", pg_get_str(rows, i, 5));
        jw_kstr(w, "reason", pg_get_str(rows, i, 6));
        jw_ki64(w, "bytes", pg_get_int(rows, i, 7));
        jw_end_obj(w);
        page_cursor(page, str_of(id));
    }
    page_end(page, pg_rows(rows));
}

void route_dead_letter_list(struct call *call)
{
    struct page *page = page_open(call);
    struct run_id after = {{0}};
    struct pg_batch *batch;

    if (page == NULL)
        return;
    if (page->after.ptr != NULL && !run_id_parse(page->after, &after)) {
        call_problem(call, 400, "bad_page_token", "the page_token is not one that this list gave");
        return;
    }
    batch = call_batch(call, false);
    pg_add(batch, SQL_DEAD_LETTER_LIST, pg_uuid(after), pg_i32((int32_t)page->size + 1));
    pg_submit(gateway_read(call->gw), batch, on_listed, page);
}
