/* `triggers`: of each, what kind it is, what it makes of itself, where the run begins. */
#include "common/base/banned.h"
#include "common/engine/plan_internal.h"

/* No step has run and there is no input yet when a trigger is set off. */
static void check_reads(struct compile *c, const struct template *template, const char *hint, const char *pointer)
{
    for (size_t i = 0; i < template->expr_count; i++) {
        const struct expr *expr = &template->exprs[i];

        if (expr->step_count > 0 || expr->all_steps || expr->uses_input || expr->uses_item)
            plan_fault(c, "not_upstream", hint, "reads what there is not yet when a trigger is set off", "%s" STR_FMT,
                       pointer, STR_ARG(expr->pointer));
    }
}

/* After the steps have been collected. */
static void read_common(struct compile *c, struct plan_trigger *trigger, struct str object, const char *pointer)
{
    struct str input = jt_get(object, "input"), start_at = jt_get(object, "start_at_step");
    char *place = plan_text(c, "%s/input", pointer);

    trigger->enabled = true;
    (void)jt_bool(jt_get(object, "enabled"), &trigger->enabled);
    if (jt_string(start_at, c->plan->arena, &trigger->start_at) && plan_find(c->plan, trigger->start_at) == NO_NODE)
        plan_fault(c, "unknown_step", NULL, "the workflow has no such step of its own", "%s/start_at_step", pointer);
    if (input.ptr == NULL)
        return;
    trigger->has_input = plan_template(c, input, place, NULL, &trigger->input);
    if (trigger->has_input)
        check_reads(c, &trigger->input, "it may read .trigger: name, kind, received_at, headers, query, body, event",
                    place);
}

static void read_event(struct compile *c, struct plan_event *event, struct str object, const char *pointer)
{
    struct str filter = jt_get(object, "filter");
    const char *place = plan_text(c, "%s/filter", pointer);

    event->source = STR_NONE;
    (void)jt_string(jt_get(object, "type"), c->plan->arena, &event->type);
    (void)jt_string(jt_get(object, "source"), c->plan->arena, &event->source);
    if (filter.ptr == NULL)
        return;
    event->has_filter = plan_expression(c, filter, place, "must be exactly one expression", &event->filter);
    if (event->has_filter)
        check_reads(c, &event->filter, "it may read .event: type, source, id, subject, time, data", place);
}

static void read_kind(struct compile *c, struct plan_trigger *trigger, struct str object, const char *pointer)
{
    static const char *const of_time[] = {"cron", "every", "at"};
    struct str webhook = jt_get(object, "webhook"), event = jt_get(object, "event");
    size_t kinds = (webhook.ptr != NULL) + (size_t)(event.ptr != NULL);

    for (size_t i = 0; i < sizeof(of_time) / sizeof(of_time[0]); i++)
        kinds += jt_get(object, of_time[i]).ptr != NULL;
    trigger->kind = webhook.ptr != NULL ? TRIGGER_WEBHOOK : event.ptr != NULL ? TRIGGER_EVENT : TRIGGER_TIME;
    if (kinds != 1)
        plan_fault(c, kinds == 0 ? "missing_field" : "unknown_field", "webhook, event, cron, every or at",
                   kinds == 0 ? "a trigger says what starts it" : "a trigger is of one kind: make two of it", "%s",
                   pointer);
    if (jt_type(webhook) == JT_OBJECT)
        plan_webhook(c, &trigger->webhook, webhook, plan_text(c, "%s/webhook", pointer));
    if (jt_type(event) == JT_OBJECT)
        read_event(c, &trigger->event, event, plan_text(c, "%s/event", pointer));
}

void plan_triggers(struct compile *c, struct str triggers)
{
    struct plan *plan = c->plan;
    struct jt_iter it;

    if (jt_type(triggers) != JT_OBJECT || jt_count(triggers) == 0)
        return;
    plan->triggers = arena_array(plan->arena, jt_count(triggers), sizeof(*plan->triggers));
    jt_iter_init(&it, triggers);
    while (jt_next(&it)) {
        struct plan_trigger *trigger = &plan->triggers[plan->trigger_count];
        CLEANUP(buf_deinit) struct buf pointer = {0};

        if (jt_type(it.value) != JT_OBJECT)
            continue; /* the schema has said so */
        plan->trigger_count++;
        trigger->name = str_arena(plan->arena, jt_key(&it, plan->arena));
        buf_init(&pointer, it.key.len * 2 + 64);
        buf_append_str(&pointer, STR("/triggers"));
        jt_pointer_add(&pointer, trigger->name);
        read_common(c, trigger, it.value, pointer.ptr);
        read_kind(c, trigger, it.value, pointer.ptr);
        plan_hold(c, trigger, it.value, pointer.ptr);
    }
}

const struct plan_trigger *plan_find_trigger(const struct plan *plan, struct str name)
{
    for (size_t i = 0; i < plan->trigger_count; i++)
        if (str_eq(plan->triggers[i].name, name))
            return &plan->triggers[i];
    return NULL;
}
