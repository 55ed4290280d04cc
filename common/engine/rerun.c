/* See rerun.h. */
#include "common/engine/rerun.h"
#include "common/base/banned.h"
#include "common/engine/engine_internal.h"

#define FAULTS_CAP 64 /* more are not told */

struct planning {
    struct rerun *r;
    struct arena *arena;
    uint32_t from;
    bool *overridden;
};

static void fault(struct planning *p, const char *code, const char *pointer, const char *message)
{
    struct rerun *r = p->r;

    if (r->faults == NULL)
        r->faults = arena_array(p->arena, FAULTS_CAP, sizeof(*r->faults));
    if (r->fault_count == FAULTS_CAP)
        return;
    r->faults[r->fault_count++] =
        (struct rerun_fault){.code = code, .pointer = str_of(pointer), .message = str_of(message)};
}

static const char *escaped(struct planning *p, const char *before, struct str name)
{
    CLEANUP(buf_deinit) struct buf at = {0};

    buf_init(&at, 4096 + 6 * name.len);
    buf_append_str(&at, str_of(before));
    jt_pointer_add(&at, name);
    return arena_dup(p->arena, at.ptr, at.len);
}

static void read_from(struct planning *p)
{
    p->from = p->r->from.ptr == NULL ? NO_NODE : plan_find(p->r->plan, p->r->from);
    if (p->r->from.ptr != NULL && p->from == NO_NODE)
        fault(p, "unknown_step", "/from", "the workflow has no such step of its own");
}

static void read_outputs(struct planning *p)
{
    struct jt_iter it;

    jt_iter_init(&it, p->r->outputs);
    while (jt_next(&it)) {
        struct str name = jt_key(&it, p->arena);
        uint32_t step = plan_find(p->r->plan, name);

        if (step == NO_NODE)
            fault(p, "unknown_step", escaped(p, "/outputs", name), "the workflow has no such step of its own");
        else if (step == p->from)
            fault(p, "out_of_range", escaped(p, "/outputs", name),
                  "the run begins at this step: it has its own output");
        else if (p->r->plan->steps[step].branch_count > 0)
            fault(p, "out_of_range", escaped(p, "/outputs", name),
                  "a branching step has no output that could be given");
        else
            p->overridden[step] = true;
    }
}

static bool has_branch(const struct plan_step *step, struct str branch)
{
    for (size_t i = 0; i < step->branch_count; i++)
        if (str_eq(step->branches[i], branch))
            return true;
    return false;
}

static bool was_undone(const struct run_state *old, uint32_t node)
{
    for (uint32_t i = 0; i < old->undo_count; i++)
        if (old->undos[i].node == node && old->undos[i].undone != STEP_PENDING)
            return true;
    return false;
}

/* Why the outcome that it had cannot be taken over; NULL: it can be, if there is one. */
static const char *cannot_reuse(const struct planning *p, uint32_t step, uint32_t node)
{
    const struct run_state *old = p->r->old;
    const struct plan_step *now = &p->r->plan->steps[step], *then;
    const struct step_state *s;

    if (node == NO_NODE)
        return "the version of the old run has no such step, and it is not below 'from'";
    then = run_plan_step(old, node);
    s = run_step(old, node);
    if (then->kind != now->kind || !str_eq(then->task, now->task))
        return "in the version of the old run it is another call, and it is not below 'from'";
    if (s->branch != NO_BRANCH && !has_branch(now, then->branches[s->branch]))
        return "the branch that it took in the old run is not there any more";
    if (s->extra != NULL && s->extra->items != NULL && s->extra->first_failed != NO_NODE)
        return "items of this loop failed in the old run, and its list alone does not say which";
    if (was_undone(old, node))
        return "what it did has been undone: begin at it, or before it";
    return NULL;
}

/* Is there an outcome that others could build on? A failure is one where a step below has taken care of it. */
static bool has_outcome(const struct run_state *old, uint32_t node)
{
    enum step_status status = (enum step_status)run_step(old, node)->status;

    return status == STEP_SUCCEEDED || status == STEP_SKIPPED ||
           (step_is_failure(status) && engine_handled(old, old->root, node));
}

static bool is_below(const struct planning *p, uint32_t step)
{
    const struct plan_step *plan = &p->r->plan->steps[step];

    for (size_t e = 0; e < plan->edge_count; e++)
        if (p->r->steps[plan->edges[e].parent].what != RERUN_REUSED)
            return true;
    return false;
}

static void decide(struct planning *p, uint32_t step)
{
    struct rerun_step *one = &p->r->steps[step];
    const char *why;

    one->what = RERUN_DONE;
    if (p->overridden[step]) {
        one->what = RERUN_OVERRIDDEN;
    } else if (p->from != NO_NODE && step != p->from && !is_below(p, step)) {
        why = cannot_reuse(p, step, one->old);
        if (one->old != NO_NODE && !has_outcome(p->r->old, one->old))
            return;
        one->what = RERUN_REUSED;
        if (why != NULL)
            fault(p, "no_result", escaped(p, "/steps", p->r->plan->steps[step].name), why);
    }
}

static bool is_repeatable(const struct rerun *r, uint32_t step)
{
    uint8_t effect = r->effects == NULL ? r->plan->steps[step].effect : r->effects[step];

    return effect != EFFECT_NOT_REPEATABLE;
}

void rerun_plan(struct rerun *r, struct arena *arena)
{
    const struct plan_scope *root = &r->plan->scopes[0];
    struct planning p = {.r = r, .arena = arena};

    p.overridden = arena_array(arena, root->count, sizeof(bool));
    r->steps = arena_array(arena, root->count, sizeof(*r->steps));
    r->fault_count = 0;
    r->whole = true;
    read_from(&p);
    read_outputs(&p);
    for (uint32_t i = 0; i < root->count; i++) {
        uint32_t at = root->topological[i];
        struct rerun_step *one = &r->steps[at];

        one->old = plan_find(r->old->plan, r->plan->steps[at].name);
        decide(&p, at);
        r->whole = r->whole && one->what == RERUN_DONE;
        one->again = one->what == RERUN_DONE && one->old != NO_NODE && engine_may_have_acted(r->old, one->old);
        one->needs_confirmation = one->again && !is_repeatable(r, at);
    }
}
