/* Which steps a document has, in which scopes: the workflow's own, those of loops, and the actions, which the document
 * does not list among its steps. All of them get their numbers here, before anything else is looked at. */
#include "common/base/banned.h"
#include "common/engine/plan_internal.h"
#include <inttypes.h>

struct tally {
    size_t steps, bodies, actions;
};

/* The steps of a loop; STR_NONE for other calls, and where there is nothing that could be steps. */
static struct str body_of(struct compile *c, struct str step)
{
    struct str steps;

    if (!plan_string_is(c, jt_get(step, "call"), "foreach"))
        return STR_NONE;
    steps = jt_get(jt_get(step, "with"), "steps");
    return jt_type(steps) == JT_OBJECT ? steps : STR_NONE;
}

static void count(struct compile *c, struct str steps, unsigned level, struct tally *tally)
{
    struct jt_iter it;

    jt_iter_init(&it, steps);
    while (jt_next(&it)) {
        struct str body = body_of(c, it.value);
        tally->steps++;
        tally->actions += jt_type(jt_get(it.value, "compensate")) == JT_OBJECT ? 1 : 0;
        if (body.ptr == NULL || level == LOOP_NESTING_MAX)
            continue;
        tally->bodies++;
        count(c, body, level + 1, tally);
    }
}

static unsigned level_of(const struct plan *plan, uint32_t scope)
{
    unsigned level = 0;

    for (; plan->scopes[scope].parent != NO_NODE; scope = plan->scopes[scope].parent)
        level++;
    return level;
}

static uint32_t add_scope(struct plan *plan, uint32_t owner, uint32_t parent, enum step_role role)
{
    struct plan_scope *scope = &plan->scopes[plan->scope_count];

    scope->first = (uint32_t)plan->step_count;
    scope->owner = owner;
    scope->parent = parent;
    scope->role = (uint8_t)role;
    if (role == ROLE_STEP)
        scope->by_name = map_new();
    return (uint32_t)plan->scope_count++;
}

static uint32_t add_step(struct compile *c, uint32_t scope, struct str name, struct str object)
{
    struct plan *plan = c->plan;
    uint32_t index = (uint32_t)plan->step_count++;
    struct plan_step *step = &plan->steps[index];

    step->name = name;
    step->scope = scope;
    step->role = plan->scopes[scope].role;
    step->of = step->compensate = step->body = step->item_output_of = NO_NODE;
    plan->scopes[scope].count++;
    c->objects[index] = object;
    return index;
}

/* The steps of one scope; the loops among them get scopes of their own, whose steps come later. */
static void add_steps(struct compile *c, uint32_t scope, struct str steps, struct str *bodies)
{
    struct plan *plan = c->plan;
    unsigned level = level_of(plan, scope);
    struct jt_iter it;

    plan->scopes[scope].first = (uint32_t)plan->step_count;
    jt_iter_init(&it, steps);
    while (jt_next(&it)) {
        struct str name = jt_key(&it, plan->arena);
        uint32_t index = add_step(c, scope, name, it.value);
        struct str body = body_of(c, it.value);
        (void)map_put(plan->scopes[scope].by_name, name, (void *)(uintptr_t)(index + 1));
        if (body.ptr == NULL)
            continue;
        if (level == LOOP_NESTING_MAX) {
            plan_fault(c, "too_deep", "use child workflows",
                       plan_text(c, "is a loop inside %d others, which is one too many", LOOP_NESTING_MAX), "%s",
                       plan_pointer(c, index));
            continue;
        }
        plan->steps[index].body = add_scope(plan, index, scope, ROLE_STEP);
        bodies[plan->steps[index].body] = body;
    }
    if (plan->scopes[scope].count == 0 && scope == 0)
        plan_fault(c, "missing_field", NULL, "a workflow needs at least one step", "/steps");
    else if (plan->scopes[scope].count == 0)
        plan_fault(c, "missing_field", NULL, "a loop needs at least one step", "%s/with/steps",
                   plan_pointer(c, plan->scopes[scope].owner));
}

static uint32_t add_action(struct compile *c, uint32_t owner, struct str object, enum step_role role)
{
    struct plan *plan = c->plan;
    uint32_t parent = owner == NO_NODE ? 0 : plan->steps[owner].scope;
    uint32_t scope = add_scope(plan, owner, parent, role);
    uint32_t index = add_step(c, scope, owner == NO_NODE ? STR("") : plan->steps[owner].name, object);

    plan->steps[index].of = owner;
    plan->scopes[scope].topological = arena_array(plan->arena, 1, sizeof(uint32_t));
    plan->scopes[scope].topological[0] = index;
    return index;
}

static void add_actions(struct compile *c, struct str notify)
{
    struct plan *plan = c->plan;
    uint32_t listed = (uint32_t)plan->step_count;

    for (uint32_t i = 0; i < listed; i++) {
        struct str object = jt_get(c->objects[i], "compensate");
        if (jt_type(object) != JT_OBJECT)
            continue;
        plan->steps[i].compensate = add_action(c, i, object, ROLE_COMPENSATE);
        for (uint32_t scope = plan->steps[i].scope; scope != 0; scope = plan->scopes[scope].parent)
            plan->scopes[scope].keep = true;
    }
    if (jt_type(notify) == JT_OBJECT)
        plan->notify = add_action(c, NO_NODE, notify, ROLE_NOTIFY);
}

bool plan_collect(struct compile *c, struct str steps, struct str notify)
{
    struct plan *plan = c->plan;
    struct tally tally = {0};
    struct str *bodies;
    size_t all;

    steps = jt_type(steps) == JT_OBJECT ? steps : STR("{}");
    count(c, steps, 0, &tally);
    if (tally.steps > c->limits->max_steps) {
        plan_fault(c, "too_many_steps", "split it into child workflows, or have the limit raised",
                   plan_text(c, "has %zu steps%s; the limit (steps) is %" PRIu32, tally.steps,
                             tally.bodies > 0 ? ", those of its loops counted" : "", c->limits->max_steps),
                   "/steps");
        return false;
    }
    all = tally.steps + tally.actions + 1;
    plan->steps = arena_array(plan->arena, all, sizeof(*plan->steps));
    plan->scopes = arena_array(plan->arena, tally.bodies + tally.actions + 2, sizeof(*plan->scopes));
    c->objects = arena_array(c->faults->arena, all, sizeof(*c->objects));
    bodies = arena_array(c->faults->arena, tally.bodies + 1, sizeof(*bodies));
    bodies[0] = steps;
    (void)add_scope(plan, NO_NODE, NO_NODE, ROLE_STEP);
    for (uint32_t scope = 0; scope < plan->scope_count; scope++)
        add_steps(c, scope, bodies[scope], bodies);
    plan->root_count = plan->scopes[0].count;
    add_actions(c, notify);
    return true;
}

uint32_t plan_find_in(const struct plan *plan, uint32_t scope, struct str step)
{
    const struct map *names = plan->scopes[scope].by_name;
    uintptr_t found = names == NULL ? 0 : (uintptr_t)map_get(names, step);

    return found == 0 ? NO_NODE : (uint32_t)(found - 1);
}

uint32_t plan_find(const struct plan *plan, struct str step)
{
    return plan_find_in(plan, 0, step);
}

uint32_t plan_find_visible(const struct plan *plan, uint32_t scope, struct str name)
{
    for (; scope != NO_NODE; scope = plan->scopes[scope].parent) {
        uint32_t found = plan_find_in(plan, scope, name);
        if (found != NO_NODE)
            return found;
    }
    return NO_NODE;
}

uint32_t plan_find_anywhere(const struct compile *c, struct str name)
{
    for (uint32_t scope = 1; scope < c->plan->scope_count && c->faults->count < FAULTS_MAX; scope++) {
        uint32_t found = plan_find_in(c->plan, scope, name);
        if (found != NO_NODE)
            return found;
    }
    return NO_NODE;
}
