/* Which steps an expression sees when it reads `.steps` as a whole. */
#include "common/base/banned.h"
#include "common/engine/engine.h"

/* What is upstream of `step` in its own scope. */
static void mark_ancestors(const struct plan *plan, uint32_t step, bool *marked)
{
    const struct plan_scope *scope = &plan->scopes[plan->steps[step].scope];
    bool *upstream = marked + scope->first;

    for (uint32_t i = scope->count; i > 0; i--) {
        uint32_t at = scope->topological[i - 1];

        if (at != step && !upstream[at - scope->first])
            continue;
        for (size_t e = 0; e < plan->steps[at].edge_count; e++)
            upstream[plan->steps[at].edges[e].parent - scope->first] = true;
    }
}

static void mark_scope(const struct plan_scope *scope, bool *marked)
{
    memset(marked + scope->first, true, scope->count * sizeof(bool));
}

/* What is upstream in its own scope, and in those around it what is upstream of the loop, or of the step that is
 * undone. An iteration's output sees all of the body; the run's output and the notification see all of the workflow. */
static void mark_visible(const struct run_state *run, const struct effect_eval *eval, bool *marked)
{
    const struct plan *plan = run->plan;
    uint32_t node = eval->node;

    if (eval->purpose == EVAL_OUTPUT)
        mark_scope(&plan->scopes[0], marked);
    if (eval->purpose == EVAL_ITEM)
        mark_scope(&plan->scopes[eval->frame->scope], marked);
    if (eval->purpose == EVAL_UNTIL)
        marked[run_step(run, node)->step] = true;
    while (node != NO_NODE) {
        const struct step_state *at = run_step(run, node);

        node = at->frame->owner;
        if (plan->steps[at->step].role == ROLE_NOTIFY)
            mark_scope(&plan->scopes[0], marked);
        else if (plan->steps[at->step].role == ROLE_COMPENSATE)
            marked[run_step(run, node)->step] = true;
        else
            mark_ancestors(plan, at->step, marked);
    }
}

struct str *run_visible_names(const struct run_state *run, const struct effect_eval *eval, struct arena *arena,
                              size_t *ret_count)
{
    const struct plan *plan = run->plan;
    bool *marked = arena_array(arena, plan->step_count, sizeof(bool));
    struct str *names = arena_array(arena, plan->step_count, sizeof(struct str));

    mark_visible(run, eval, marked);
    *ret_count = 0;
    for (uint32_t i = 0; i < plan->step_count; i++) {
        uint32_t node = marked[i] ? run_find_visible(run, eval->frame, plan->steps[i].name) : NO_NODE;

        /* the same name further out is hidden */
        if (node != NO_NODE && run_step(run, node)->step == i)
            names[(*ret_count)++] = plan->steps[i].name;
    }
    return names;
}
