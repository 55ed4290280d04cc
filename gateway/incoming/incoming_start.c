/* What a trigger makes of an event: whether its filter lets it pass, the input of the run, and the key of its debounce,
 * throttle or batch. What fails of them starts nothing, and is told: in the log, by a counter, with the event. */
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "common/expr/fill.h"
#include "gateway/flows.h"
#include "gateway/incoming/incoming.h"
#include "gateway/json_more.h"
#include "gateway/starting.h"

#include "common/base/banned.h"

#define MESSAGE_MAX 1024

struct making {
    struct incoming_start *start;
    struct expr_doc doc;
    struct holding holding;
    void (*done)(struct incoming *incoming);
};

static void finish(struct making *m)
{
    m->done(m->start->incoming);
}

static void failed(struct making *m, const char *code, const char *message)
{
    struct incoming_start *start = m->start;
    struct str cut = utf8_prefix(str_of(message), MESSAGE_MAX);
    CLEANUP(buf_deinit) struct buf out = {0};
    struct jw w = jw_to(&out);

    buf_init(&out, MESSAGE_MAX * 6 + 4096);
    jw_obj(&w);
    jw_kstr(&w, "workflow", start->workflow);
    jw_kstr(&w, "trigger", start->trigger_name);
    jw_kcstr(&w, "code", code);
    jw_kstr(&w, "message", cut);
    jw_end_obj(&w);
    start->fault = str_arena(start->incoming->arena, buf_str(&out));
    metric_add(METRIC_EVENTS_TRIGGER_FAILED, 1);
    log_event(LOG_WARN, "event.trigger_failed", log_i64("organisation", start->incoming->organisation),
              log_str("workflow", start->workflow), log_str("trigger", start->trigger_name), log_cstr("code", code),
              log_str("message", cut));
    finish(m);
}

/* Nobody's fault: the event is not taken now. */
static void unavailable(struct making *m, const char *why)
{
    m->start->incoming->unavailable = true;
    m->start->incoming->why = why;
    finish(m);
}

static void on_key(void *ctx, enum fill_status status, const char *message)
{
    struct making *m = ctx;

    if (status == FILL_OK) {
        finish(m);
        return;
    }
    m->start->input = STR_NONE;
    if (status == FILL_UNAVAILABLE)
        unavailable(m, message);
    else
        failed(m, "expression_failed", message);
}

static void make_key(struct making *m)
{
    struct incoming_start *start = m->start;
    const struct incoming *incoming = start->incoming;

    if (start->trigger->hold.how == HOLD_NONE) {
        finish(m);
        return;
    }
    m->holding = (struct holding){.gw = incoming->gw,
                                  .organisation = incoming->organisation,
                                  .limits = incoming->limits,
                                  .arena = incoming->arena,
                                  .workflow = start->workflow,
                                  .trigger = start->trigger,
                                  .doc = m->doc,
                                  .to = &start->held,
                                  .done = on_key,
                                  .ctx = m};
    holding_make(&m->holding);
}

static void on_schema(void *ctx, struct flow *flow, enum err_code rc, const struct err *err)
{
    struct making *m = ctx;

    (void)err;
    if (rc != ERR_OK || flow == NULL) {
        unavailable(m, "the workflow cannot be read just now");
        return;
    }
    if (starting_trigger_input_fits(flow, m->start->trigger, m->start->input, m->start->incoming->arena)) {
        make_key(m);
        return;
    }
    m->start->input = STR_NONE;
    failed(m, "invalid_input", "the input does not keep the workflow's input_schema");
}

static void with_input(struct making *m, struct str input)
{
    struct incoming_start *start = m->start;

    start->input = input;
    flows_version(start->incoming->gw->flows, start->incoming->organisation, start->workflow, start->version, on_schema,
                  m);
}

static void on_input(void *ctx, enum fill_status status, struct str value, const char *message)
{
    struct making *m = ctx;

    if (status == FILL_UNAVAILABLE)
        unavailable(m, message);
    else if (status == FILL_FAILED)
        failed(
            m, "expression_failed",
            arena_printf(m->start->incoming->arena, "the trigger's input cannot be made of this event: %s", message));
    else
        with_input(m, value);
}

static void make_input(struct making *m)
{
    struct incoming_start *start = m->start;
    const struct incoming *incoming = start->incoming;

    if (!start->trigger->has_input)
        with_input(m, incoming->event.data);
    else
        template_fill(incoming->gw->sandbox, incoming->organisation, &start->trigger->input, &m->doc,
                      (size_t)incoming->limits->of[LIMIT_BODY_BYTES], incoming->arena, on_input, m);
}

static void on_filter(void *ctx, enum fill_status status, struct str value, const char *message)
{
    struct making *m = ctx;
    bool passes = false;

    if (status == FILL_UNAVAILABLE)
        unavailable(m, message);
    else if (status == FILL_FAILED)
        failed(m, "expression_failed",
               arena_printf(m->start->incoming->arena, "the trigger's filter fails for this event: %s", message));
    else if (!jt_bool(value, &passes))
        failed(m, "not_boolean",
               arena_printf(m->start->incoming->arena, "the trigger's filter gave %s, not a boolean",
                            jt_type_name(jt_type(value))));
    else if (passes)
        make_input(m);
    else
        finish(m);
}

/* What the run's expressions read as .trigger. */
static struct str document_of(const struct incoming_start *start)
{
    const struct incoming *incoming = start->incoming;
    CLEANUP(buf_deinit) struct buf out = {0};
    struct jw w = jw_to(&out);

    buf_init(&out, incoming->event.json.len + 4096);
    jw_obj(&w);
    jw_kstr(&w, "name", start->trigger_name);
    jw_kcstr(&w, "kind", "event");
    jw_ktime(&w, "received_at", incoming->at);
    jw_kraw(&w, "event", incoming->event.json);
    jw_end_obj(&w);
    return str_arena(incoming->arena, buf_str(&out));
}

static void on_flow(void *ctx, struct flow *flow, enum err_code rc, const struct err *err)
{
    struct making *m = ctx;
    struct incoming_start *start = m->start;
    const struct incoming *incoming = start->incoming;

    (void)err;
    if (rc != ERR_OK || flow == NULL || flow->plan == NULL) {
        unavailable(m, "a workflow that it may start cannot be read by this gateway just now");
        return;
    }
    start->plan = plan_ref(flow->plan);
    arena_defer(incoming->arena, (void (*)(void *))plan_unref, start->plan);
    start->trigger = plan_find_trigger(start->plan, start->trigger_name);
    if (start->trigger == NULL || start->trigger->kind != TRIGGER_EVENT || !start->trigger->enabled) {
        finish(m);
        return;
    }
    start->document = document_of(start);
    m->doc = (struct expr_doc){.index = -1, .trigger = start->document, .event = incoming->event.json};
    if (start->trigger->event.has_filter)
        template_fill(incoming->gw->sandbox, incoming->organisation, &start->trigger->event.filter, &m->doc,
                      (size_t)incoming->limits->of[LIMIT_BODY_BYTES], incoming->arena, on_filter, m);
    else
        make_input(m);
}

void incoming_start_make(struct incoming_start *start, void (*done)(struct incoming *incoming))
{
    struct incoming *incoming = start->incoming;
    struct making *m = arena_alloc(incoming->arena, sizeof(*m));

    m->start = start;
    m->done = done;
    flows_version(incoming->gw->flows, incoming->organisation, start->workflow, start->version, on_flow, m);
}
