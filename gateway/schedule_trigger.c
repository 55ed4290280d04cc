/* A run of a schedule now, whatever its times are: what the trigger makes of it, and from then on a start like others,
 * with their Idempotency-Key and their turn. */
#include "common/expr/fill.h"
#include "gateway/document.h"
#include "gateway/gateway.h"
#include "gateway/json_more.h"
#include "gateway/route.h"
#include "gateway/schedules.h"
#include "gateway/starting.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

struct triggering {
    struct starting starting; /* first: start.done gives it back */
    struct start_delivery delivery;
    struct template template;
    struct expr_doc doc;
};

static struct str trigger_json(struct call *call, const struct schedule_row *row, const char *kind)
{
    CLEANUP(buf_deinit) struct buf buf = {0};
    struct jw w;

    buf_init(&buf, 4096);
    w = jw_to(&buf);
    jw_obj(&w);
    jw_kstr(&w, "name", row->trigger);
    jw_kcstr(&w, "kind", kind);
    jw_krun(&w, "schedule", row->id);
    jw_ktime(&w, "nominal_at", db_clock_now(&call->gw->clock));
    jw_kbool(&w, "manual", true);
    jw_end_obj(&w);
    return str_arena(call->arena, buf_str(&buf));
}

static void on_filled(void *ctx, enum fill_status status, struct str value, const char *message)
{
    struct triggering *t = ctx;
    struct call *call = t->starting.call;

    if (status == FILL_UNAVAILABLE) {
        call_problem(call, 503, "unavailable", message);
        return;
    }
    if (status == FILL_FAILED) {
        call_problemf(call, 422, "expression_failed", "the schedule's input cannot be made: %s", message);
        return;
    }
    t->starting.start.input = value;
    starting_go(&t->starting);
}

static void ignore(void *ctx, const char *code, struct str pointer, const char *message, const char *hint)
{
    (void)ctx, (void)code, (void)pointer, (void)message, (void)hint;
}

static void make_input(struct triggering *t, struct str input)
{
    struct call *call = t->starting.call;
    const struct template_options options = {0};

    t->starting.start.input = STR("{}");
    if (input.ptr == NULL) {
        starting_go(&t->starting);
        return;
    }
    if (!template_compile(call->arena, input, &options, ignore, NULL, &t->template)) {
        call_problem(call, 409, "not_available", "this release cannot read the expressions of the schedule's input");
        return;
    }
    t->doc = (struct expr_doc){.trigger = t->delivery.trigger, .index = -1};
    template_fill(call->gw->sandbox, call->caller.organisation, &t->template, &t->doc,
                  (size_t)call->caller.limits.of[LIMIT_BODY_BYTES], call->arena, on_filled, t);
}

static void on_schedule(void *ctx, const struct pg_outcome *outcome)
{
    struct triggering *t = ctx;
    struct call *call = t->starting.call;
    struct start *start = &t->starting.start;
    struct schedule_row row;
    struct str definition;

    if (!call_committed(call, outcome))
        return;
    if (pg_rows(outcome->results[0]) == 0) {
        schedule_unknown(call);
        return;
    }
    row = schedule_row_of(outcome->results[0], 0);
    definition = str_arena(call->arena, row.definition);
    start->workflow = str_arena(call->arena, row.workflow);
    start->labels = STR("{}");
    start->start_at = STR_NONE;
    (void)jt_string(jt_get(definition, "start_at_step"), call->arena, &start->start_at);
    t->delivery.trigger =
        trigger_json(call, &row, schedule_kind(row.override.ptr != NULL ? row.override : row.definition));
    start->delivery = &t->delivery;
    make_input(t, jt_get(definition, "input"));
}

void route_schedule_trigger(struct call *call)
{
    struct triggering *t = arena_alloc(call->arena, sizeof(*t));
    struct pg_batch *batch;
    struct run_id id;
    struct str body;

    *t = (struct triggering){.starting = {.call = call}};
    if (!schedule_id(call, &id) || !call_body_object(call, "", &body) ||
        !starting_read_key(&t->starting, arena_printf(call->arena, STR_FMT ":trigger", STR_ARG(call->params[0])), body))
        return;
    batch = call_batch(call, false);
    pg_add(batch, SQL_SCHEDULE_GET, pg_uuid(id));
    pg_submit(gateway_read(call->gw), batch, on_schedule, t);
}
