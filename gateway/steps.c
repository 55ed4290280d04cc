/* A run's steps in pages, and the whole bodies of their attempts. */
#include "gateway/document.h"
#include "gateway/history.h"
#include "gateway/page.h"
#include "gateway/route.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define ERROR_MAX ((size_t)1 << 20)

static void on_history(struct call *call, const struct history *history)
{
    struct page *page = page_open(call);
    struct str status = call_query(call, "status");
    uint32_t from = 0;
    size_t rows = 0;

    if (page == NULL)
        return;
    if (page->after.ptr != NULL && !parse_u32(page->after, 0, UINT32_MAX - 1, &from)) {
        call_problem(call, 400, "bad_page_token", "the page_token is not one that this list gave");
        return;
    }
    page_begin(page);
    for (uint32_t i = from; i < history->plan->root_count; i++) {
        if (status.ptr != NULL && !str_is(status, history_step_status(history, i)))
            continue;
        rows++;
        if (!page_more(page))
            break;
        jw_obj(&page->w);
        jw_kstr(&page->w, "step", history->plan->steps[i].name);
        step_json(&page->w, history, i);
        jw_end_obj(&page->w);
        page_cursor(page, str_of(arena_printf(call->arena, "%u", i + 1)));
    }
    page_end(page, rows);
}

static bool is_step_status(struct str status)
{
    for (int i = STEP_PENDING; i <= STEP_OUTCOME_UNKNOWN; i++)
        if (str_is(status, step_status_name((enum step_status)i)))
            return true;
    return false;
}

void route_run_steps(struct call *call)
{
    struct str status = call_query(call, "status");
    struct run_id id;

    if (!call_run_id(call, 0, &id))
        return;
    if (status.ptr != NULL && !is_step_status(status)) {
        call_problem(call, 400, "bad_query", "status is none of a step's states");
        return;
    }
    if (call_query(call, "parent").ptr != NULL) {
        call_problem(call, 422, "not_available", "there are no loops in this release, so no step has a parent");
        return;
    }
    history_load(call, id, on_history);
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

/* A constant `with` is not in the history: the plan has it. */
static void on_plan_input(struct call *call, const struct history *history)
{
    uint32_t node = plan_find(history->plan, call->params[1]), attempt = 0;
    const struct attempt_view *a = node == NO_NODE ? NULL : history->steps[node].attempts;

    if (parse_u32(call->params[2], 1, UINT16_MAX, &attempt))
        while (a != NULL && a->number != attempt)
            a = a->next;
    if (a == NULL)
        call_problem(call, 404, "not_found", "the step has no such attempt");
    else
        call_json(call, 200,
                  history->plan->steps[node].with.constant ? history->plan->steps[node].with.literal : STR("null"));
}

static void on_part(void *ctx, const struct pg_outcome *outcome)
{
    struct call *call = ctx;
    struct str part = call->params[3];
    const struct pg_result *rows;
    struct run_id id;

    if (!call_committed(call, outcome))
        return;
    rows = outcome->results[0];
    if (str_is(part, "input") && (pg_rows(rows) == 0 || pg_is_null(rows, 0, 0))) {
        if (call_run_id(call, 0, &id))
            history_load(call, id, on_plan_input);
    } else if (pg_rows(rows) == 0) {
        call_problemf(call, 404, "not_found", "there is no such run, step or attempt, or it has no " STR_FMT,
                      STR_ARG(part));
    } else if (str_is(part, "error")) {
        answer_error(call, pg_get_str(rows, 0, 1));
    } else {
        call_json(call, 200, pg_is_null(rows, 0, 0) ? STR("null") : pg_get_str(rows, 0, 0));
    }
}

void route_attempt_part(struct call *call)
{
    static const int16_t inputs[] = {EVENT_STEP_DISPATCHED}, outputs[] = {EVENT_STEP_SUCCEEDED},
                         errors[] = {EVENT_ATTEMPT_FAILED, EVENT_STEP_FAILED, EVENT_STEP_TIMED_OUT,
                                     EVENT_STEP_OUTCOME_UNKNOWN};
    struct str part = call->params[3];
    bool input = str_is(part, "input"), output = str_is(part, "output");
    const int16_t *types = input ? inputs : output ? outputs : errors;
    size_t count = input || output ? 1 : sizeof(errors) / sizeof(errors[0]);
    struct pg_batch *batch;
    struct pg_array *array;
    struct run_id id;
    uint32_t attempt;

    if (!call_run_id(call, 0, &id))
        return;
    if ((!input && !output && !str_is(part, "error")) || !parse_u32(call->params[2], 1, UINT16_MAX, &attempt)) {
        call_problem(call, 404, "not_found", "an attempt has a number, and input, output and error");
        return;
    }
    batch = call_batch(call, false);
    array = pg_array_new(batch, PG_E_I16);
    for (size_t i = 0; i < count; i++)
        pg_array_add(array, pg_i16(types[i]));
    pg_add(batch, SQL_ATTEMPT_BODY, pg_uuid(id), pg_text(call->params[1]), pg_i32((int32_t)attempt),
           pg_array_param(array));
    pg_submit(gateway_read(call->gw), batch, on_part, call);
}
