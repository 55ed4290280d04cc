/* `effect`: what doing a step once more would do outside. Where the document does not say, the call and its delivery
 * do. */
#include "common/base/banned.h"
#include "common/engine/plan_internal.h"

static const char *const effect_names[] = {"pure", "idempotent", "not_repeatable"};

const char *plan_effect_name(enum plan_effect effect)
{
    return effect_names[effect];
}

/* What goes out is sent under a key that its receiver can honour, unless it is sent at most once. */
static enum plan_effect usual_effect(const struct plan_step *step)
{
    switch (step->kind) {
    case CALL_TASK:
    case CALL_POLL:
        if (str_is(step->task, "noop"))
            return EFFECT_PURE;
        return step->at_most_once ? EFFECT_NOT_REPEATABLE : EFFECT_IDEMPOTENT;
    case CALL_WORKFLOW: /* another document, which may be another by then */
        return EFFECT_NOT_REPEATABLE;
    case CALL_TRANSFORM:
    case CALL_CONDITION:
    case CALL_SWITCH:
    case CALL_DELAY:
    case CALL_SIGNAL:
    case CALL_EVENT:
    case CALL_FOREACH: /* until its steps are known */
        break;
    }
    return EFFECT_PURE;
}

void plan_effect(struct compile *c, struct str object, const char *pointer, struct plan_step *step)
{
    struct str value = plan_field(c, object, "effect");

    step->effect = (uint8_t)usual_effect(step);
    for (size_t i = 0; i < sizeof(effect_names) / sizeof(effect_names[0]); i++)
        if (plan_string_is(c, value, effect_names[i]))
            step->effect = (uint8_t)i;
    if (value.ptr != NULL && step->kind == CALL_FOREACH)
        plan_warning(c, "say it of the steps in the loop", "changes nothing: a loop has the effects of its steps",
                     "%s/effect", pointer);
}

void plan_loop_effects(struct compile *c)
{
    struct plan *plan = c->plan;

    for (size_t s = plan->scope_count; s > 1; s--) { /* inner ones come later */
        const struct plan_scope *scope = &plan->scopes[s - 1];
        uint8_t strongest = EFFECT_PURE;

        if (scope->role != ROLE_STEP)
            continue;
        for (uint32_t i = 0; i < scope->count; i++)
            if (plan->steps[scope->first + i].effect > strongest)
                strongest = plan->steps[scope->first + i].effect;
        plan->steps[scope->owner].effect = strongest;
    }
}
