/* Steps that a run does not do itself: those before the one that it begins at, and those whose outcome is known from
 * another run, or said by who starts it. */
#include "common/base/banned.h"
#include "common/engine/engine_internal.h"

/* STR_NONE for what is not there, or null. */
static struct str text_of(struct ctx *c, struct str object, const char *key)
{
    struct str text;

    return jt_string(jt_get(object, key), c->fx->arena, &text) ? text : STR_NONE;
}

static struct str value_of(struct str object, const char *key)
{
    struct str value = jt_get(object, key);

    return str_is(value, "null") ? STR_NONE : value;
}

static void give_one(struct ctx *c, uint32_t node, struct str object)
{
    engine_emit_step(c, EVENT_STEP_GIVEN, node,
                     (struct event){.as = text_of(c, object, "as"),
                                    .branch = text_of(c, object, "branch"),
                                    .code = text_of(c, object, "code"),
                                    .message = text_of(c, object, "message"),
                                    .detail = value_of(object, "detail"),
                                    .output = value_of(object, "output")});
}

static struct str give_list(struct ctx *c)
{
    struct jt_iter it;

    jt_iter_init(&it, c->input->given);
    while (c->rc == ERR_OK && jt_next(&it)) {
        struct str name = text_of(c, it.value, "step");
        uint32_t node = name.ptr == NULL ? NO_NODE : plan_find(c->state->plan, name);

        if (node == NO_NODE)
            return STR("an outcome is given of a step that the workflow does not have");
        give_one(c, node, it.value);
    }
    return STR_NONE;
}

void engine_mark_below(const struct plan *plan, uint32_t step, bool *below)
{
    const struct plan_scope *scope = &plan->scopes[0];

    for (uint32_t i = 0; i < scope->count; i++) {
        uint32_t at = scope->topological[i];

        below[at] = below[at] || at == step;
        for (size_t e = 0; e < plan->steps[at].edge_count; e++)
            below[at] = below[at] || below[plan->steps[at].edges[e].parent];
    }
}

static struct str skip_others(struct ctx *c)
{
    const struct plan *plan = c->state->plan;
    uint32_t first = plan_find(plan, c->input->start_at);
    bool *below = arena_array(c->fx->arena, plan->root_count, sizeof(*below));

    if (first == NO_NODE)
        return STR("the workflow does not have the step that the run is to begin at");
    engine_mark_below(plan, first, below);
    for (uint32_t i = 0; i < plan->root_count; i++) {
        uint32_t at = plan->scopes[0].topological[i];

        if (!below[at])
            engine_emit_step(c, EVENT_STEP_GIVEN, at,
                             (struct event){.as = STR("skipped"), .code = STR("start_at_step")});
    }
    return STR_NONE;
}

struct str engine_give(struct ctx *c)
{
    struct str fault = c->input->given.ptr == NULL ? STR_NONE : give_list(c);

    return fault.ptr == NULL && c->input->start_at.ptr != NULL ? skip_others(c) : fault;
}
