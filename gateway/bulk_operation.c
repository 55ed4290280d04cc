/* GET /v1/operations/{id}: what has become of what was asked of many runs; and :cancel, after which no more are. */
#include "gateway/bulk_step.h"
#include "gateway/document.h"
#include "gateway/json_more.h"
#include "gateway/route.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define ANSWER_MAX ((size_t)1 << 20)

/* waiting: of those that are to be asked or have been; a cancelled operation has asked all that it ever will. */
static const char *status_of(bool is_cancelled, int64_t waiting)
{
    if (is_cancelled)
        return waiting > 0 ? "cancelling" : "cancelled";
    return waiting > 0 ? "running" : "done";
}

static void put_operation(struct jw *w, struct str id, const struct pg_result *rows)
{
    int64_t runs = pg_get_int(rows, 0, 2), applied = pg_get_int(rows, 0, 5), refused = pg_get_int(rows, 0, 6),
            held = pg_get_int(rows, 0, 7), out = pg_get_int(rows, 0, 8), rest = runs - applied - refused - held - out;
    bool is_cancelled = !pg_is_null(rows, 0, 11);

    jw_obj(w);
    jw_kstr(w, "id", id);
    jw_kstr(w, "kind", pg_get_str(rows, 0, 0));
    jw_kcstr(w, "status", status_of(is_cancelled, out + held + (is_cancelled ? 0 : rest)));
    jw_kraw(w, "filter", pg_get_str(rows, 0, 1));
    jw_ki64(w, "runs", runs);
    jw_ki64(w, "waiting", out + (is_cancelled ? 0 : rest));
    jw_ki64(w, "held", held);
    jw_ki64(w, "applied", applied);
    jw_ki64(w, "refused", refused);
    jw_ki64(w, "left", is_cancelled ? rest : 0);
    jw_kraw(w, "refusals", pg_get_str(rows, 0, 9));
    if (!pg_is_null(rows, 0, 10))
        jw_kraw(w, "new_runs", pg_get_str(rows, 0, 10));
    jw_ktime(w, "created_at", pg_get_time(rows, 0, 3));
    jw_kstr(w, "created_by", pg_get_str(rows, 0, 4));
    jw_ktime(w, "cancelled_at", pg_get_time(rows, 0, 11));
    jw_kstr(w, "cancelled_by", pg_get_str(rows, 0, 12));
    jw_end_obj(w);
}

static void on_got(void *ctx, const struct pg_outcome *outcome)
{
    CLEANUP(buf_deinit) struct buf body = {0};
    const struct pg_result *rows;
    struct call *call = ctx;
    struct jw w;

    if (!call_committed(call, outcome))
        return;
    rows = outcome->results[outcome->count - 1];
    if (pg_rows(rows) == 0) {
        call_problem(call, 404, "not_found", "there is no such operation, or it is over for 7 days");
        return;
    }
    buf_init(&body, ANSWER_MAX);
    w = jw_to(&body);
    put_operation(&w, call->params[0], rows);
    call_json(call, 200, buf_str(&body));
}

/* False: answered. */
static bool read_id(struct call *call, struct run_id *ret)
{
    if (run_id_parse(call->params[0], ret))
        return true;
    call_problem(call, 404, "not_found", "the id of an operation is a UUID");
    return false;
}

void route_operation_get(struct call *call)
{
    struct pg_batch *batch;
    struct run_id id;

    if (!read_id(call, &id))
        return;
    batch = call_batch(call, false);
    pg_add(batch, SQL_BULK_GET, pg_uuid(id));
    pg_submit(gateway_read(call->gw), batch, on_got, call);
}

void route_operation_cancel(struct call *call)
{
    struct pg_batch *batch;
    struct run_id id;
    struct str body;

    if (!call_body_object(call, "", &body) || !read_id(call, &id))
        return;
    batch = call_batch(call, true);
    pg_add(batch, SQL_BULK_CANCEL, pg_uuid(id), pg_text(str_of(call->caller.prefix)));
    pg_add(batch, SQL_BULK_GET, pg_uuid(id));
    pg_submit(call->gw->writes, batch, on_got, call);
}
