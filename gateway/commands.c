/* What is asked of a run: written as a command, decided by its scheduler, answered with the verdict where that comes
 * within 2 s. */
#include "gateway/document.h"
#include "gateway/json_more.h"
#include "gateway/route.h"
#include "gateway/wait.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define VERDICT_US (2 * US_PER_S)
#define JSON_MAX ((size_t)1 << 20)

struct asking {
    struct call *call;
    struct run_id run;
    const char *kind;
    struct verdict_wait *wait;
};

static void put_command(struct jw *w, struct run_id run, int64_t command, const char *status)
{
    jw_obj(w);
    jw_krun(w, "run_id", run);
    jw_krun(w, "id", run);
    jw_ki64(w, "command", command);
    jw_kcstr(w, "status", status);
    jw_key(w, "applied");
    if (strcmp(status, "applied") == 0 || strcmp(status, "refused") == 0)
        jw_bool(w, status[0] == 'a');
    else
        jw_null(w);
}

static void on_verdict(struct call *call, int64_t command, const struct verdict *verdict)
{
    CLEANUP(buf_deinit) struct buf body = {0};
    struct run_id run = {{0}};
    char location[128], id[UUID_TEXT_SIZE];
    struct jw w;

    (void)run_id_parse(call->params[0], &run);
    if (verdict->given && !verdict->applied) {
        call_problemf(
            call, 409, verdict->code.len == 0 ? "refused" : arena_printf(call->arena, STR_FMT, STR_ARG(verdict->code)),
            STR_FMT,
            STR_ARG(verdict->reason.len == 0 ? STR("the state of the run does not allow it") : verdict->reason));
        return;
    }
    buf_init(&body, JSON_MAX);
    w = jw_to(&body);
    put_command(&w, run, command, verdict->given ? "applied" : "pending");
    jw_end_obj(&w);
    run_id_format(run, id);
    snprintf(location, sizeof(location), "/v1/runs/%s/commands/%lld", id, (long long)command);
    if (verdict->given)
        call_json(call, 200, buf_str(&body));
    else
        call_json_at(call, 202, location, buf_str(&body));
}

static void on_written(void *ctx, const struct pg_outcome *outcome)
{
    struct asking *a = ctx;
    struct gateway *gw = a->call->gw;
    char queue[64], body[48];

    if (outcome->rc != ERR_OK || pg_rows(outcome->results[0]) == 0) {
        verdict_wait_command(a->wait, 0);
        if (call_committed(a->call, outcome))
            call_problem(a->call, 404, "not_found", "there is no such run");
        return;
    }
    snprintf(queue, sizeof(queue), "ropewalk.inbox.%d", (int)pg_get_int(outcome->results[0], 0, 1));
    snprintf(body, sizeof(body), "{\"v\":1,\"shard\":%d}", (int)pg_get_int(outcome->results[0], 0, 1));
    amqp_publish(gw->publish,
                 &(struct amqp_message){.exchange = "", .routing_key = queue, .type = "nudge", .body = str_of(body)});
    amqp_flush(gw->publish);
    verdict_wait_command(a->wait, pg_get_int(outcome->results[0], 0, 0));
}

static void ask(struct call *call, const char *kind)
{
    struct asking *a = arena_alloc(call->arena, sizeof(*a));
    struct pg_batch *batch;

    *a = (struct asking){.call = call, .kind = kind};
    if (!call_run_id(call, 0, &a->run))
        return;
    a->wait = verdict_wait_begin(call, a->run, VERDICT_US, on_verdict);
    batch = call_batch(call, true);
    pg_add(batch, SQL_COMMAND_INSERT, pg_uuid(a->run), pg_i16((int16_t)run_id_slot(a->run)), pg_text(str_of(kind)),
           pg_json(STR("{}")), pg_text(str_of(call->gw->queue)));
    pg_submit(call->gw->writes, batch, on_written, a);
}

void route_run_cancel(struct call *call)
{
    struct str body, compensate;
    bool wanted = false;

    if (!call_body_object(call, "compensate", &body))
        return;
    compensate = jt_get(body, "compensate");
    if (compensate.ptr != NULL && !jt_bool(compensate, &wanted)) {
        call_fault(call, "wrong_type", "/compensate", "compensate must be true or false");
        return;
    }
    if (wanted)
        call_fault(call, "not_available", "/compensate", "compensation is not in this release yet");
    else
        ask(call, "cancel");
}

void route_run_release(struct call *call)
{
    struct str body;

    if (call_body_object(call, "", &body))
        ask(call, "release");
}

static void on_got(void *ctx, const struct pg_outcome *outcome)
{
    struct call *call = ctx;
    CLEANUP(buf_deinit) struct buf body = {0};
    const struct pg_result *rows;
    struct run_id run = {{0}};
    int64_t command = 0;
    struct jw w;

    if (!call_committed(call, outcome))
        return;
    rows = outcome->results[0];
    if (pg_rows(rows) == 0 || (!pg_get_bool(rows, 0, 0) && pg_is_null(rows, 0, 2))) {
        call_problem(call, 404, "not_found", "there is no such run, or it has had no such command");
        return;
    }
    (void)run_id_parse(call->params[0], &run);
    (void)parse_i64(call->params[1], 1, INT64_MAX, &command);
    buf_init(&body, JSON_MAX);
    w = jw_to(&body);
    if (pg_is_null(rows, 0, 2)) {
        put_command(&w, run, command, pg_get_bool(rows, 0, 1) ? "held" : "pending");
    } else {
        struct str data = pg_get_str(rows, 0, 3);

        put_command(&w, run, command, pg_get_int(rows, 0, 2) == 40 ? "applied" : "refused");
        jw_kraw(&w, "code", jt_get(data, "code"));
        jw_kraw(&w, "reason", jt_get(data, "message"));
        jw_ktime(&w, "at", pg_get_time(rows, 0, 4));
    }
    jw_end_obj(&w);
    call_json(call, 200, buf_str(&body));
}

void route_command_get(struct call *call)
{
    struct pg_batch *batch;
    struct run_id id;
    int64_t command;

    if (!call_run_id(call, 0, &id))
        return;
    if (!parse_i64(call->params[1], 1, INT64_MAX, &command)) {
        call_problem(call, 404, "not_found", "a command has a number");
        return;
    }
    batch = call_batch(call, false);
    pg_add(batch, SQL_COMMAND_GET, pg_uuid(id), pg_i64(command));
    pg_submit(gateway_read(call->gw), batch, on_got, call);
}
