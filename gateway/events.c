/* A run's history: in pages, or live. */
#include "gateway/event_json.h"
#include "gateway/page.h"
#include "gateway/route.h"
#include "gateway/stream.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

struct reading {
    struct call *call;
    struct page *page; /* NULL: a stream is wanted */
    struct run_id run;
    uint32_t after;
};

static void write_page(struct reading *r, const struct pg_result *rows)
{
    struct page *page = r->page;

    page_begin(page);
    for (size_t i = 0; i < pg_rows(rows) && page_more(page); i++) {
        CLEANUP(buf_deinit) struct buf event = {0};

        buf_init(&event, (size_t)1 << 20);
        event_json(r->run, rows, i, &event);
        jw_raw(&page->w, buf_str(&event));
        page_cursor(page, str_of(arena_printf(r->call->arena, "%lld", (long long)pg_get_int(rows, i, 0))));
    }
    page_end(page, pg_rows(rows));
}

static void on_read(void *ctx, const struct pg_outcome *outcome)
{
    struct reading *r = ctx;

    if (!call_committed(r->call, outcome))
        return;
    if (pg_rows(outcome->results[0]) == 0) {
        call_problem(r->call, 404, "not_found", "there is no such run");
    } else if (r->page != NULL) {
        write_page(r, outcome->results[1]);
    } else {
        struct str status = pg_get_str(outcome->results[0], 0, 1);
        bool open = str_is(status, "pending") || str_is(status, "active") || str_is(status, "paused");

        stream_begin(r->call, r->run, r->after, open ? STR_NONE : status);
    }
}

static bool wants_stream(const struct call *call)
{
    struct str accept = http_header_get(call->http, "accept");

    if (str_is(http_method(call->http), "HEAD"))
        return false;
    while (accept.len > 0) {
        struct str part = str_cut(&accept, ',');

        if (str_is(str_trim(str_cut(&part, ';')), "text/event-stream"))
            return true;
    }
    return false;
}

void route_run_events(struct call *call)
{
    struct reading *r = arena_alloc(call->arena, sizeof(*r));
    struct str last = http_header_get(call->http, "last-event-id");
    struct pg_batch *batch;
    struct pg_array *ids;

    r->call = call;
    if (!call_run_id(call, 0, &r->run))
        return;
    if (!wants_stream(call)) {
        r->page = page_open(call);
        if (r->page == NULL)
            return;
        last = r->page->after;
    }
    if (last.ptr != NULL && !parse_u32(last, 0, INT32_MAX, &r->after)) {
        call_problem(call, 400, "bad_last_event_id", "Last-Event-ID is the number of an event");
        return;
    }
    batch = call_batch(call, false);
    ids = pg_array_new(batch, PG_E_UUID);
    pg_array_add(ids, pg_uuid(r->run));
    pg_add(batch, SQL_LIVE_STATE, pg_array_param(ids));
    if (r->page != NULL)
        pg_add(batch, SQL_EVENT_PAGE, pg_uuid(r->run), pg_i32((int32_t)r->after), pg_i32((int32_t)r->page->size + 1));
    pg_submit(gateway_read(call->gw), batch, on_read, r);
}
