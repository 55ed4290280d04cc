/* What is asked of a run: written as a command, decided by its scheduler, answered with the verdict where that comes
 * within 2 s. */
#include "gateway/commands.h"
#include "common/base/fault.h"
#include "common/engine/engine.h"
#include "gateway/document.h"
#include "gateway/json_more.h"
#include "gateway/route.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define JSON_MAX ((size_t)1 << 20)

struct asking {
    struct call *call;
    struct run_id run;
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

const char *command_location(struct call *call, struct run_id run, int64_t command)
{
    char id[UUID_TEXT_SIZE];

    run_id_format(run, id);
    return arena_printf(call->arena, "/v1/runs/%s/commands/%lld", id, (long long)command);
}

void command_refused(struct call *call, const struct verdict *verdict)
{
    const char *code = "refused";

    if (verdict->code.len > 0)
        code = arena_printf(call->arena, STR_FMT, STR_ARG(verdict->code));
    call_problemf(call, 409, code, STR_FMT,
                  STR_ARG(verdict->reason.len == 0 ? STR("the state of the run does not allow it") : verdict->reason));
}

static void on_verdict(struct call *call, int64_t command, const struct verdict *verdict)
{
    CLEANUP(buf_deinit) struct buf body = {0};
    struct run_id run = {{0}};
    struct jw w;

    (void)run_id_parse(call->params[0], &run);
    if (verdict->given && !verdict->applied) {
        command_refused(call, verdict);
        return;
    }
    buf_init(&body, JSON_MAX);
    w = jw_to(&body);
    put_command(&w, run, command, verdict->given ? "applied" : "pending");
    jw_end_obj(&w);
    if (verdict->given)
        call_json(call, 200, buf_str(&body));
    else
        call_json_at(call, 202, command_location(call, run, command), buf_str(&body));
}

static void on_written(void *ctx, const struct pg_outcome *outcome)
{
    struct asking *a = ctx;

    if (outcome->rc != ERR_OK || pg_rows(outcome->results[0]) == 0) {
        verdict_wait_command(a->wait, 0);
        if (call_committed(a->call, outcome))
            call_problem(a->call, 404, "not_found", "there is no such run");
        return;
    }
    FAULT_POINT(gateway_command_written);
    gateway_nudge(a->call->gw, (int)pg_get_int(outcome->results[0], 0, 1));
    amqp_flush(a->call->gw->publish);
    FAULT_POINT(gateway_command_nudged);
    verdict_wait_command(a->wait, pg_get_int(outcome->results[0], 0, 0));
}

void command_ask(struct call *call, const char *kind, struct str body)
{
    struct asking *a = arena_alloc(call->arena, sizeof(*a));
    struct pg_batch *batch;

    *a = (struct asking){.call = call};
    if (!call_run_id(call, 0, &a->run))
        return;
    FAULT_POINT(gateway_command_read);
    a->wait = verdict_wait_begin(call, a->run, VERDICT_US, on_verdict);
    batch = call_batch(call, true);
    pg_add(batch, SQL_COMMAND_INSERT, pg_uuid(a->run), pg_i16((int16_t)run_id_slot(a->run)), pg_text(str_of(kind)),
           pg_json(body), pg_text(str_of(call->gw->queue)));
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
    command_ask(call, "cancel", wanted ? STR("{\"compensate\":true}") : STR("{}"));
}

/* Who asks is kept with it: others will want to know. */
static void ask_signed(struct call *call, const char *kind)
{
    CLEANUP(buf_deinit) struct buf command = {0};
    struct str body;
    struct jw w;

    if (!call_body_object(call, "", &body))
        return;
    buf_init(&command, 1024);
    w = jw_to(&command);
    jw_obj(&w);
    jw_kcstr(&w, "by", call->caller.prefix);
    jw_end_obj(&w);
    command_ask(call, kind, buf_str(&command));
}

void route_run_pause(struct call *call)
{
    ask_signed(call, "pause");
}

void route_run_resume(struct call *call)
{
    ask_signed(call, "resume");
}

void route_run_release(struct call *call)
{
    struct str body;

    if (call_body_object(call, "", &body))
        command_ask(call, "release", STR("{}"));
}

void route_run_compensate(struct call *call)
{
    struct str body;

    if (call_body_object(call, "", &body))
        command_ask(call, "compensate", STR("{}"));
}

/* False: answered. */
static bool check_settlement(struct call *call, struct str body, struct str *ret_as)
{
    struct str as = jt_get(body, "as");

    if (!jt_string(as, call->arena, ret_as)) {
        call_fault(call, as.ptr == NULL ? "missing_field" : "wrong_type", "/as", "as must be succeeded or failed");
        return false;
    }
    if (!str_is(*ret_as, "succeeded") && !str_is(*ret_as, "failed")) {
        call_fault(call, "out_of_range", "/as", "as must be succeeded or failed");
        return false;
    }
    if (str_is(*ret_as, "failed") && jt_get(body, "output").ptr != NULL) {
        call_fault(call, "unknown_field", "/output", "a step that failed has no output");
        return false;
    }
    return true;
}

void route_step_settle(struct call *call)
{
    CLEANUP(buf_deinit) struct buf command = {0};
    struct str body, as;
    struct jw w;

    if (!call_body_object(call, "as output", &body) || !check_settlement(call, body, &as))
        return;
    if (call->params[1].len >= STEP_PATH_SIZE) {
        call_problem(call, 404, "not_found", "the run has no such step");
        return;
    }
    buf_init(&command, body.len + 8 * STEP_PATH_SIZE);
    w = jw_to(&command);
    jw_obj(&w);
    jw_kstr(&w, "step", call->params[1]);
    jw_kstr(&w, "as", as);
    jw_kraw(&w, "output", jt_get(body, "output"));
    jw_end_obj(&w);
    command_ask(call, "settle", buf_str(&command));
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
