/* Whole bodies: what an attempt of a step was given, gave, or failed with; what an event carries. */
#include "gateway/history.h"
#include "gateway/route.h"
#include "gateway/step_place.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define ERROR_MAX ((size_t)1 << 20)

struct part {
    struct call *call;
    struct run_id run;
    uint32_t attempt;
    bool input, output;
};

static void answer_body(struct call *call, const struct pg_result *rows)
{
    call_json(call, 200, pg_is_null(rows, 0, 0) ? STR("null") : pg_get_str(rows, 0, 0));
}

static void no_such_part(struct call *call)
{
    call_problemf(call, 404, "not_found", "there is no such run, step or attempt, or it has no " STR_FMT,
                  STR_ARG(call->params[3]));
}

/* A constant `with` is not in the history: the plan has it. */
static void on_plan(void *ctx, struct call *call, const struct plan *plan)
{
    struct step_place place;
    struct str constant = STR_NONE;

    (void)ctx;
    if (step_place_find(plan, call->params[1], &place) && !place.is_item)
        constant = step_constant_input(&plan->steps[place.step]);
    call_json(call, 200, constant.ptr == NULL ? STR("null") : constant);
}

static void on_input(void *ctx, const struct pg_outcome *outcome)
{
    struct part *p = ctx;

    if (!call_committed(p->call, outcome))
        return;
    if (pg_rows(outcome->results[0]) == 0)
        no_such_part(p->call);
    else if (pg_is_null(outcome->results[0], 0, 0))
        history_plan(p->call, p->run, on_plan, NULL);
    else
        answer_body(p->call, outcome->results[0]);
}

/* {"class", "code", "message", ...} from the event's data, as it is in the run's detail. */
static void answer_error(struct call *call, struct str data)
{
    static const char *const fields[] = {"class", "code", "message", "status", "detail"};
    CLEANUP(buf_deinit) struct buf out = {0};
    struct jw w;

    buf_init(&out, ERROR_MAX);
    w = jw_to(&out);
    jw_obj(&w);
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        if (jt_get(data, fields[i]).ptr != NULL)
            jw_kraw(&w, fields[i], jt_get(data, fields[i]));
    jw_end_obj(&w);
    call_json(call, 200, buf_str(&out));
}

static void on_list(void *ctx, const struct pg_outcome *outcome)
{
    struct part *p = ctx;

    if (call_committed(p->call, outcome))
        answer_body(p->call, outcome->results[0]);
}

/* A loop's output is nowhere as a whole. */
static void put_together(struct part *p, int64_t items)
{
    struct pg_batch *batch = call_batch(p->call, false);

    pg_add(batch, SQL_LOOP_OUTPUT, pg_uuid(p->run), pg_text(p->call->params[1]), pg_i32((int32_t)items));
    pg_submit(gateway_read(p->call->gw), batch, on_list, p);
}

static void on_end(void *ctx, const struct pg_outcome *outcome)
{
    struct part *p = ctx;
    const struct pg_result *rows;

    if (!call_committed(p->call, outcome))
        return;
    rows = outcome->results[0];
    if (pg_rows(rows) == 0)
        no_such_part(p->call);
    else if (!p->output)
        answer_error(p->call, pg_get_str(rows, 0, 1));
    else if (pg_is_null(rows, 0, 0) && !pg_is_null(rows, 0, 2))
        put_together(p, pg_get_int(rows, 0, 2));
    else
        answer_body(p->call, rows);
}

static void read_end(struct part *p)
{
    static const int16_t outputs[] = {EVENT_STEP_SUCCEEDED, EVENT_STEP_SETTLED, EVENT_STEP_GIVEN};
    static const int16_t errors[] = {EVENT_STEP_WAITING, EVENT_ATTEMPT_FAILED,      EVENT_STEP_SUCCEEDED,
                                     EVENT_STEP_FAILED,  EVENT_STEP_TIMED_OUT,      EVENT_STEP_CANCELLED,
                                     EVENT_STEP_SETTLED, EVENT_STEP_OUTCOME_UNKNOWN};
    const int16_t *types = p->output ? outputs : errors;
    size_t count = p->output ? sizeof(outputs) / sizeof(outputs[0]) : sizeof(errors) / sizeof(errors[0]);
    struct pg_batch *batch = call_batch(p->call, false);
    struct pg_array *array = pg_array_new(batch, PG_E_I16);

    for (size_t i = 0; i < count; i++)
        pg_array_add(array, pg_i16(types[i]));
    pg_add(batch, SQL_ATTEMPT_BODY, pg_uuid(p->run), pg_text(p->call->params[1]), pg_i32((int32_t)p->attempt),
           pg_array_param(array), pg_bool(!p->output));
    pg_submit(gateway_read(p->call->gw), batch, on_end, p);
}

void route_attempt_part(struct call *call)
{
    struct part *p = arena_alloc(call->arena, sizeof(*p));
    struct str part = call->params[3];
    struct pg_batch *batch;

    p->call = call;
    p->input = str_is(part, "input");
    p->output = str_is(part, "output");
    if (!call_run_id(call, 0, &p->run))
        return;
    if ((!p->input && !p->output && !str_is(part, "error")) ||
        !parse_u32(call->params[2], 1, UINT16_MAX, &p->attempt)) {
        call_problem(call, 404, "not_found", "an attempt has a number, and input, output and error");
        return;
    }
    if (!p->input) {
        read_end(p);
        return;
    }
    batch = call_batch(call, false);
    pg_add(batch, SQL_ATTEMPT_INPUT, pg_uuid(p->run), pg_text(call->params[1]), pg_i32((int32_t)p->attempt));
    pg_submit(gateway_read(call->gw), batch, on_input, p);
}

static void on_event(void *ctx, const struct pg_outcome *outcome)
{
    struct call *call = ctx;

    if (!call_committed(call, outcome))
        return;
    if (pg_rows(outcome->results[0]) == 0)
        call_problem(call, 404, "not_found", "there is no such run, or it has no such event");
    else
        answer_body(call, outcome->results[0]);
}

void route_event_output(struct call *call)
{
    struct pg_batch *batch;
    struct run_id id;
    uint32_t seq;

    if (!call_run_id(call, 0, &id))
        return;
    if (!parse_u32(call->params[1], 1, INT32_MAX, &seq)) {
        call_problem(call, 404, "not_found", "an event has a number");
        return;
    }
    batch = call_batch(call, false);
    pg_add(batch, SQL_EVENT_BODY, pg_uuid(id), pg_i32((int32_t)seq));
    pg_submit(gateway_read(call->gw), batch, on_event, call);
}
