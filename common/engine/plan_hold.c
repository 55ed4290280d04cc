/* `debounce`, `throttle` and `batch` of a trigger: what becomes of arrivals that start no run at once. */
#include "common/base/banned.h"
#include "common/base/clock.h"
#include "common/engine/plan_internal.h"

#define LONGEST_US (INT64_C(7) * 24 * 3600 * US_PER_S) /* deliveries and events are known for as long */

const char *const HOLD_NAMES[] = {NULL, "debounce", "throttle", "batch"};

static void check_key(struct compile *c, const struct template *key, const char *pointer)
{
    for (size_t i = 0; i < key->expr_count; i++) {
        const struct expr *expr = &key->exprs[i];

        if (expr->step_count > 0 || expr->all_steps || expr->uses_input || expr->uses_item)
            plan_fault(c, "not_upstream", "a key may read .trigger, of an event .event, too",
                       "reads what there is not yet when a trigger is set off", "%s" STR_FMT, pointer,
                       STR_ARG(expr->pointer));
    }
}

/* A time that something may wait for; 0: refused. */
static int64_t read_time(struct compile *c, struct str object, const char *field, const char *pointer, int64_t fallback)
{
    int64_t us = plan_duration(c, object, field, pointer, fallback);

    if (us <= LONGEST_US)
        return us;
    plan_fault(c, "out_of_range", NULL, "must be at most 7d", "%s/%s", pointer, field);
    return 0;
}

static void read_debounce(struct compile *c, struct plan_hold *hold, struct str object, const char *pointer)
{
    hold->period_us = read_time(c, object, "period", pointer, 0);
    hold->timeout_us = read_time(c, object, "timeout", pointer, LONGEST_US);
    if (hold->period_us > 0 && hold->timeout_us > 0 && hold->timeout_us < hold->period_us)
        plan_fault(c, "out_of_range", "the longest that a run is put off, from the first arrival on",
                   "is shorter than the period", "%s/timeout", pointer);
}

static void read_throttle(struct compile *c, struct plan_hold *hold, struct str object, const char *pointer)
{
    hold->per_us = read_time(c, object, "per", pointer, 0);
    (void)jt_i64(jt_get(object, "limit"), &hold->limit);
    hold->queues = !plan_string_is(c, jt_get(object, "on_limit"), "drop");
    hold->max_waiting = HOLD_WAITING;
    if (!jt_i64(jt_get(object, "max_waiting"), &hold->max_waiting) || hold->queues)
        return;
    plan_fault(c, "unknown_field", "with \"on_limit\": \"queue\" some wait",
               "nothing waits where what is too much is dropped", "%s/max_waiting", pointer);
}

static void read_batch(struct compile *c, struct plan_hold *hold, struct str object, const char *pointer)
{
    hold->timeout_us = read_time(c, object, "timeout", pointer, 0);
    (void)jt_i64(jt_get(object, "max_size"), &hold->max_size);
}

static void check_kind(struct compile *c, const struct plan_trigger *trigger, const char *pointer)
{
    const struct plan_hold *hold = &trigger->hold;

    if (trigger->kind == TRIGGER_TIME)
        plan_fault(c, "unknown_field", "times of a schedule bring nothing that could be put together: see its overlap",
                   "is for what arrives, by webhook or as an event", "%s", pointer);
    if (trigger->kind == TRIGGER_WEBHOOK && trigger->webhook.respond.wait_us > 0 &&
        (hold->how != HOLD_THROTTLE || hold->queues))
        plan_fault(c, "unknown_field", "leave `respond` out; a throttle that drops can have it",
                   "the sender would wait for a run that does not start at once", "%s", pointer);
}

void plan_hold(struct compile *c, struct plan_trigger *trigger, struct str object, const char *pointer)
{
    static void (*const read[])(struct compile *, struct plan_hold *, struct str,
                                const char *) = {NULL, read_debounce, read_throttle, read_batch};
    struct plan_hold *hold = &trigger->hold;

    for (enum hold_how how = HOLD_DEBOUNCE; how <= HOLD_BATCH; how++) {
        struct str part = jt_get(object, HOLD_NAMES[how]), key = jt_get(part, "key");
        const char *place = plan_text(c, "%s/%s", pointer, HOLD_NAMES[how]);

        if (jt_type(part) != JT_OBJECT)
            continue;
        if (hold->how != HOLD_NONE) {
            plan_fault(c, "unknown_field", "a throttle of what has been put together is the workflow's concurrency",
                       "a trigger has one of debounce, throttle and batch", "%s", place);
            continue;
        }
        hold->how = how;
        read[how](c, hold, part, place);
        hold->has_key = key.ptr != NULL && plan_template(c, key, plan_text(c, "%s/key", place), NULL, &hold->key);
        if (hold->has_key)
            check_key(c, &hold->key, plan_text(c, "%s/key", place));
        check_kind(c, trigger, place);
    }
}
