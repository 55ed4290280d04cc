/* Reading one run: detail, bodies, steps. */
#include "gateway/history.h"
#include "gateway/route.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

static void on_detail(struct call *call, const struct history *history)
{
    CLEANUP(buf_deinit) struct buf body = {0};

    run_json(history, &body);
    call_json(call, 200, buf_str(&body));
}

void route_run_get(struct call *call)
{
    struct run_id id;

    if (call_run_id(call, 0, &id))
        history_load(call, id, on_detail);
}

static void on_body(void *ctx, const struct pg_outcome *outcome)
{
    struct call *call = ctx;

    if (!call_committed(call, outcome))
        return;
    if (pg_rows(outcome->results[0]) == 0)
        call_problem(call, 404, "not_found", "there is no such run");
    else if (pg_is_null(outcome->results[0], 0, 0))
        call_json(call, 200, STR("null"));
    else
        call_json(call, 200, pg_get_str(outcome->results[0], 0, 0));
}

static void answer_body(struct call *call, const char *sql)
{
    struct pg_batch *batch;
    struct run_id id;

    if (!call_run_id(call, 0, &id))
        return;
    batch = call_batch(call, false);
    pg_add(batch, sql, pg_uuid(id));
    pg_submit(gateway_read(call->gw), batch, on_body, call);
}

void route_run_input(struct call *call)
{
    answer_body(call, SQL_RUN_BODY);
}

void route_run_output(struct call *call)
{
    answer_body(call, SQL_RUN_END_BODY);
}
