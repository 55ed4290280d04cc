/* See child_effects.h. One step of the plan after the other, each with a list of the workflows that it leads to. */
#include "gateway/child_effects.h"
#include "common/base/map.h"
#include "gateway/flows.h"

#include "common/base/banned.h"

#define LOOKUPS_MAX 500

/* A workflow that is started, and is still to be looked at. */
struct child {
    struct child *next;
    struct str name;
    int32_t version; /* 0: the newest */
};

struct child_effects {
    struct call *call;
    const struct plan *plan;
    uint8_t *effects;
    uint32_t step; /* of the plan's root, which is looked into */
    size_t lookups;
    struct child *open;
    struct map *seen; /* of this step; "name/version" */
    void (*done)(void *ctx, const uint8_t *effects);
    void *ctx;
};

static void release_map(void *map)
{
    map_free(map);
}

static void note(struct child_effects *e, enum plan_effect effect)
{
    if (effect > e->effects[e->step])
        e->effects[e->step] = (uint8_t)effect;
}

static void note_child(struct child_effects *e, struct str with)
{
    struct str name, version = jt_get(with, "version");
    struct child *child;
    int64_t number = 0;
    const char *key;

    if (!jt_string(jt_get(with, "name"), e->call->arena, &name) ||
        (version.ptr != NULL && (!jt_i64(version, &number) || number < 1 || number > INT32_MAX))) {
        note(e, EFFECT_NOT_REPEATABLE);
        return;
    }
    key = arena_printf(e->call->arena, STR_FMT "/%d", STR_ARG(name), (int)number);
    if (map_get(e->seen, str_of(key)) != NULL)
        return;
    child = arena_alloc(e->call->arena, sizeof(*child));
    *child = (struct child){e->open, str_arena(e->call->arena, name), (int32_t)number}; /* the document may go */
    e->open = child;
    (void)map_put(e->seen, str_of(key), child);
}

static void note_steps(struct child_effects *e, const struct plan *plan, const struct plan_scope *scope,
                       struct str steps);

/* A step as the document has it, and as it was compiled. */
static void note_step(struct child_effects *e, const struct plan *plan, const struct plan_step *step, struct str object)
{
    struct str with = jt_get(object, "with");

    if (step->kind == CALL_FOREACH)
        note_steps(e, plan, &plan->scopes[step->body], jt_get(with, "steps"));
    else if (step->kind == CALL_WORKFLOW && jt_get(object, "effect").ptr == NULL)
        note_child(e, with);
    else
        note(e, (enum plan_effect)step->effect);
}

static void note_steps(struct child_effects *e, const struct plan *plan, const struct plan_scope *scope,
                       struct str steps)
{
    for (uint32_t i = 0; i < scope->count; i++) {
        const struct plan_step *step = &plan->steps[scope->first + i];

        note_step(e, plan, step, jt_get_str(steps, step->name));
    }
}

static void look(struct child_effects *e);

static void on_child(void *ctx, struct flow *flow, enum err_code rc, const struct err *err)
{
    struct child_effects *e = ctx;

    if (rc != ERR_OK) {
        call_error(e->call, err);
        return;
    }
    if (flow == NULL || flow->plan == NULL)
        note(e, EFFECT_NOT_REPEATABLE);
    else
        note_steps(e, flow->plan, &flow->plan->scopes[0], jt_get(flow->plan->document, "steps"));
    look(e);
}

/* Nothing is stronger than what is not to be repeated. */
static struct child *next_child(struct child_effects *e)
{
    struct child *child = e->open;

    if (child == NULL || e->effects[e->step] == EFFECT_NOT_REPEATABLE)
        return NULL;
    if (++e->lookups > LOOKUPS_MAX) {
        note(e, EFFECT_NOT_REPEATABLE);
        return NULL;
    }
    e->open = child->next;
    return child;
}

static void begin_step(struct child_effects *e)
{
    const struct plan_step *step = &e->plan->steps[e->step];

    e->open = NULL;
    e->seen = map_new();
    arena_defer(e->call->arena, release_map, e->seen);
    e->effects[e->step] = EFFECT_PURE;
    note_step(e, e->plan, step, jt_get_str(jt_get(e->plan->document, "steps"), step->name));
}

static void look(struct child_effects *e)
{
    struct flows *flows = e->call->gw->flows;
    const struct child *child = next_child(e);

    while (child == NULL && ++e->step < e->plan->root_count) {
        begin_step(e);
        child = next_child(e);
    }
    if (child == NULL)
        e->done(e->ctx, e->effects);
    else if (child->version == 0)
        flows_newest(flows, e->call->caller.organisation, child->name, true, on_child, e);
    else
        flows_version(flows, e->call->caller.organisation, child->name, child->version, on_child, e);
}

void child_effects(struct call *call, const struct plan *plan, void (*done)(void *ctx, const uint8_t *effects),
                   void *ctx)
{
    struct child_effects *e = arena_alloc(call->arena, sizeof(*e));

    *e = (struct child_effects){.call = call, .plan = plan, .done = done, .ctx = ctx};
    e->effects = arena_array(call->arena, plan->root_count, sizeof(*e->effects));
    begin_step(e);
    look(e);
}
