/* Actions: steps that the document does not list. A step's `compensate` undoes it, the workflow's `on_failure_notify`
 * tells somebody that it went wrong. Only a worker can do either. */
#include "common/base/banned.h"
#include "common/base/clock.h"
#include "common/engine/plan_internal.h"

/* From the moment an action is ready: the run's timeout does not reach it, and one that no worker ever takes must not
 * keep the run open for ever. */
#define ACTION_DEADLINE_US (INT64_C(7) * 86400 * US_PER_S)

static uint8_t undone_outcomes(struct compile *c, struct str on, const char *pointer)
{
    uint8_t mask = 0;
    struct jt_iter it;
    struct str name;

    if (jt_count(on) == 0)
        return OUT_SUCCEEDED;
    jt_iter_init(&it, on);
    while (jt_next(&it)) {
        uint8_t bit = jt_string(it.value, c->faults->arena, &name) ? plan_outcome(name) : 0;
        if (bit == 0 || bit == OUT_SKIPPED)
            plan_fault(c, "unknown_label", "succeeded, failed, timed_out, cancelled, outcome_unknown",
                       "is no outcome that could be undone", "%s/%zu", pointer, it.index);
        mask |= bit;
    }
    return mask;
}

static void compensation(struct compile *c, struct plan_step *action, struct str object, const char *pointer)
{
    struct plan_step *of = &c->plan->steps[action->of];

    if (of->kind == CALL_CONDITION || of->kind == CALL_SWITCH)
        plan_fault(c, "unknown_field", "put it on the step that does something", "a branching step has nothing to undo",
                   "%s", pointer);
    action->compensate_on = undone_outcomes(c, jt_get(object, "on"), plan_text(c, "%s/on", pointer));
    action->priority = of->priority;
    action->pool = of->pool; /* whose workers know the call */
}

void plan_action(struct compile *c, uint32_t index)
{
    struct plan_step *action = &c->plan->steps[index];
    const char *pointer = plan_pointer(c, index);
    struct str object = c->objects[index];
    struct str with = jt_get(object, "with");
    bool http;

    action->kind = CALL_TASK;
    action->priority = PRIORITY_OF_RUN;
    action->pool = STR("default");
    plan_retry(c, object, pointer, &action->retry);
    if (action->role == ROLE_COMPENSATE)
        compensation(c, action, object, pointer);
    if (jt_get(object, "call").ptr == NULL)
        plan_fault(c, "missing_field", NULL, "is required here", "%s/call", pointer);
    if (plan_task_call(c, jt_get(object, "call"), with, pointer, &action->task))
        (void)plan_template(c, with.ptr == NULL ? STR("{}") : with, plan_text(c, "%s/with", pointer),
                            str_is(action->task, "http") ? "" : NULL, &action->with);
    action->call = action->task;
    http = str_is(action->task, "http");
    action->timeout_us = plan_duration(c, object, "timeout", pointer, http ? 30 * US_PER_S : 0);
    action->deadline_us = ACTION_DEADLINE_US;
}
