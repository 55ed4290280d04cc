/* The graph of a plan: edges, cycles, depth, joins that can never hold. */
#include "common/base/banned.h"
#include "common/engine/plan_internal.h"
#include <inttypes.h>

#define CYCLE_TEXT_MAX ((size_t)64 << 10) /* 500 names of 63 bytes fit */
#define COLUMNS 64                        /* branching steps looked at together */

/* One label of a `needs` map. YAML reads true and false as booleans: they are branch names all the same. */
static void add_label(struct compile *c, struct plan_edge *edge, struct str label, const char *pointer, size_t index)
{
    const struct plan_step *parent = &c->plan->steps[edge->parent];
    struct str name = label;
    uint8_t bit;

    if (jt_type(label) == JT_STRING && !jt_string(label, c->faults->arena, &name))
        return;
    bit = plan_outcome(name);
    edge->outcomes |= bit;
    if (bit == OUT_SUCCEEDED)
        edge->any_branch = true;
    if (bit != 0)
        return;
    for (size_t i = 0; i < parent->branch_count; i++) {
        if (str_eq(parent->branches[i], name)) {
            edge->branches |= UINT64_C(1) << i;
            return;
        }
    }
    plan_fault(c, "unknown_label",
               "succeeded, failed, skipped, timed_out, cancelled, outcome_unknown, or a branch of that step",
               parent->branch_count > 0 ? "is neither an outcome nor a branch of that step"
                                        : "is no outcome, and that step has no branches",
               "%s/%zu", pointer, index);
}

/* Why there is nothing of that name to need: edges stay inside of one scope. */
static void unknown_parent(struct compile *c, uint32_t step, struct str name, const char *pointer)
{
    const struct plan *plan = c->plan;
    const struct plan_scope *scope = &plan->scopes[plan->steps[step].scope];
    uint32_t outside = plan_find_visible(plan, plan->steps[step].scope, name);
    uint32_t inside = plan_find_anywhere(c, name);
    const char *hint = NULL, *message = "there is no step of this name";

    if (outside != NO_NODE) {
        struct str loop = plan->steps[scope->owner].name;
        message = plan_text(c, "step '" STR_FMT "' is outside of the loop '" STR_FMT "': needs stay inside",
                            STR_ARG(name), STR_ARG(loop));
        hint = plan_text(c, "let '" STR_FMT "' need it", STR_ARG(loop));
    } else if (inside != NO_NODE) {
        struct str loop = plan->steps[plan->scopes[plan->steps[inside].scope].owner].name;
        message = plan_text(c, "step '" STR_FMT "' is inside of the loop '" STR_FMT "': needs stay outside",
                            STR_ARG(name), STR_ARG(loop));
        hint = plan_text(c, "need '" STR_FMT "', which ends when all of its iterations have", STR_ARG(loop));
    }
    plan_fault(c, "unknown_step", hint, message, "%s", pointer);
}

static bool find_parent(struct compile *c, uint32_t step, struct str name, const char *pointer, uint32_t *ret)
{
    *ret = plan_find_in(c->plan, c->plan->steps[step].scope, name);
    if (*ret == NO_NODE) {
        unknown_parent(c, step, name, pointer);
        return false;
    }
    if (*ret == step) {
        plan_fault(c, "cycle", NULL, "a step cannot need itself", "%s", pointer);
        return false;
    }
    return true;
}

/* Actions need nothing: they have no such field. */
static void add_edges(struct compile *c, uint32_t index)
{
    struct plan_step *step = &c->plan->steps[index];
    struct str needs = jt_get(c->objects[index], "needs");
    const char *base = plan_pointer(c, index);
    bool is_list = jt_type(needs) == JT_ARRAY;
    struct jt_iter it;

    if (step->role != ROLE_STEP)
        needs = STR_NONE;
    step->edges = arena_array(c->plan->arena, jt_count(needs) + 1, sizeof(*step->edges));
    jt_iter_init(&it, needs);
    while (jt_next(&it)) {
        struct plan_edge edge = {0};
        struct str name = STR_NONE;
        struct buf at;
        struct jt_iter labels;

        buf_init(&at, (size_t)64 << 10);
        buf_printf(&at, "%s/needs", base);
        if (is_list) {
            buf_printf(&at, "/%zu", it.index);
            edge.outcomes = OUT_SUCCEEDED;
            edge.any_branch = true;
            (void)jt_string(it.value, c->faults->arena, &name);
        } else {
            name = jt_key(&it, c->faults->arena);
            jt_pointer_add(&at, name);
        }
        if (name.ptr != NULL && find_parent(c, index, name, at.ptr, &edge.parent)) {
            bool twice = false;
            jt_iter_init(&labels, is_list ? STR_NONE : it.value);
            while (jt_next(&labels))
                add_label(c, &edge, labels.value, at.ptr, labels.index);
            for (size_t e = 0; e < step->edge_count; e++)
                twice = twice || step->edges[e].parent == edge.parent;
            if (twice)
                plan_fault(c, "duplicate_key", NULL, "the step is named twice", "%s", at.ptr);
            else
                step->edges[step->edge_count++] = edge;
        }
        buf_deinit(&at);
    }
}

static void link_children(struct plan *plan)
{
    for (uint32_t i = 0; i < plan->step_count; i++)
        for (size_t e = 0; e < plan->steps[i].edge_count; e++)
            plan->steps[plan->steps[i].edges[e].parent].child_count++;
    for (uint32_t i = 0; i < plan->step_count; i++) {
        plan->steps[i].children = arena_array(plan->arena, plan->steps[i].child_count + 1, sizeof(uint32_t));
        plan->steps[i].child_count = 0;
    }
    for (uint32_t i = 0; i < plan->step_count; i++) {
        for (size_t e = 0; e < plan->steps[i].edge_count; e++) {
            struct plan_step *parent = &plan->steps[plan->steps[i].edges[e].parent];
            parent->children[parent->child_count++] = i;
        }
    }
}

/* Finds a cycle among the steps that could not be ordered: follows parents until one comes again. Fills path[] against
 * the arrows and returns its length. */
static uint32_t find_cycle(struct compile *c, const struct plan_scope *scope, const bool *ordered, uint32_t *path)
{
    const struct plan *plan = c->plan;
    uint32_t *seen_at = arena_array(c->faults->arena, plan->step_count, sizeof(*seen_at));
    uint32_t length = 0, node = scope->first, first;

    while (ordered[node])
        node++;
    while (seen_at[node] == 0) {
        path[length++] = node;
        seen_at[node] = length;
        for (size_t e = 0; e < plan->steps[node].edge_count; e++) {
            if (!ordered[plan->steps[node].edges[e].parent]) {
                node = plan->steps[node].edges[e].parent;
                break;
            }
        }
    }
    first = seen_at[node] - 1; /* what came before only leads to the cycle */
    memmove(path, path + first, (length - first) * sizeof(*path));
    return length - first;
}

static void report_cycle(struct compile *c, const uint32_t *path, uint32_t length)
{
    const struct plan *plan = c->plan;
    struct buf message;

    buf_init(&message, CYCLE_TEXT_MAX);
    buf_append_str(&message, STR("the steps need each other: "));
    buf_append_str(&message, plan->steps[path[0]].name);
    for (uint32_t i = length; i > 0; i--) /* backwards is the direction of time */
        buf_printf(&message, " -> " STR_FMT, STR_ARG(plan->steps[path[i - 1]].name));
    plan_fault(c, "cycle", "remove one of these needs", message.ptr, "%s/needs", plan_pointer(c, path[0]));
    buf_deinit(&message);
}

static void report_depth(struct compile *c, uint32_t node)
{
    plan_fault(c, "too_deep", "use child workflows or loops, or have the limit raised",
               plan_text(c, "is more than %" PRIu32 " steps deep (limit depth)", c->limits->max_depth), "%s",
               plan_pointer(c, node));
}

/* By step of the plan. */
struct ordering {
    size_t *missing; /* parents that have no place yet */
    uint32_t *depth, *path;
    bool *ordered;
};

/* Parents first (Kahn). Where that comes to a halt there is a cycle: it is reported, taken as done, and the rest goes
 * on, so that each cycle is said once. */
static void order(struct compile *c, struct plan_scope *scope, struct ordering *o)
{
    struct plan *plan = c->plan;
    size_t done = 0, head = 0;

    scope->topological = arena_array(plan->arena, scope->count + 1, sizeof(uint32_t));
    for (uint32_t i = scope->first; i < scope->first + scope->count; i++) {
        o->missing[i] = plan->steps[i].edge_count;
        o->ordered[i] = o->missing[i] == 0;
        o->depth[i] = scope->owner == NO_NODE ? 0 : o->depth[scope->owner] + 1;
        if (o->missing[i] == 0)
            scope->topological[done++] = i;
    }
    while (done < scope->count || head < done) {
        uint32_t node;
        if (head == done) {
            uint32_t length = find_cycle(c, scope, o->ordered, o->path);
            report_cycle(c, o->path, length);
            c->cyclic = true;
            for (uint32_t i = 0; i < length; i++) {
                o->ordered[o->path[i]] = true;
                scope->topological[done++] = o->path[i];
            }
        }
        node = scope->topological[head++];
        if (o->depth[node] == c->limits->max_depth && !c->cyclic)
            report_depth(c, node);
        for (size_t i = 0; i < plan->steps[node].child_count; i++) {
            uint32_t child = plan->steps[node].children[i];
            if (o->depth[child] < o->depth[node] + 1)
                o->depth[child] = o->depth[node] + 1;
            if (--o->missing[child] == 0 && !o->ordered[child]) {
                o->ordered[child] = true;
                scope->topological[done++] = child;
            }
        }
    }
}

/* Scope after scope: the loop that a scope belongs to has its place by then. */
static void order_all(struct compile *c)
{
    struct plan *plan = c->plan;
    struct arena *arena = c->faults->arena;
    struct ordering o = {.missing = arena_array(arena, plan->step_count + 1, sizeof(*o.missing)),
                         .depth = arena_array(arena, plan->step_count + 1, sizeof(*o.depth)),
                         .path = arena_array(arena, plan->step_count + 1, sizeof(*o.path)),
                         .ordered = arena_array(arena, plan->step_count + 1, sizeof(*o.ordered))};

    for (size_t i = 0; i < plan->scope_count; i++)
        if (plan->scopes[i].role == ROLE_STEP)
            order(c, &plan->scopes[i], &o);
}

/* Branches of which step are told apart by at least two edges: only these can exclude each other. */
static uint32_t *branching_columns(struct compile *c, size_t *ret_columns)
{
    const struct plan *plan = c->plan;
    uint32_t *column = arena_array(c->faults->arena, plan->step_count + 1, sizeof(*column));
    size_t columns = 0;

    for (uint32_t i = 0; i < plan->step_count; i++)
        for (size_t e = 0; e < plan->steps[i].edge_count; e++)
            if (plan->steps[i].edges[e].outcomes == 0)
                column[plan->steps[i].edges[e].parent]++;
    for (uint32_t i = 0; i < plan->step_count; i++)
        column[i] = column[i] >= 2 ? (uint32_t)columns++ : UINT32_MAX;
    *ret_columns = columns;
    return column;
}

/* What a step's edges leave of the branches of the columns from..from + COLUMNS; true when one is left with none. */
static bool narrow(const struct plan *plan, uint32_t node, const uint32_t *column, size_t from, uint64_t *allowed)
{
    const struct plan_step *step = &plan->steps[node];
    uint64_t *mine = allowed + (size_t)node * COLUMNS;
    bool impossible = false;

    if (step->join_any && step->edge_count > 1)
        return false;
    for (size_t e = 0; e < step->edge_count; e++) {
        const struct plan_edge *edge = &step->edges[e];
        size_t k = column[edge->parent];
        if ((edge->outcomes & (OUT_SKIPPED | OUT_CANCELLED)) != 0)
            continue; /* also holds when the parent has not run */
        for (size_t i = 0; i < COLUMNS; i++)
            mine[i] &= allowed[(size_t)edge->parent * COLUMNS + i];
        if (edge->outcomes == 0 && k >= from && k < from + COLUMNS)
            mine[k - from] &= edge->branches;
    }
    for (size_t i = 0; i < COLUMNS; i++)
        impossible = impossible || mine[i] == 0;
    if (impossible)
        memset(mine, 0xff, COLUMNS * sizeof(*mine)); /* said once, not of everything below */
    return impossible;
}

static void check_joins_of(struct compile *c, const struct plan_scope *scope, const uint32_t *column, size_t from,
                           uint64_t *allowed, bool *said)
{
    for (size_t t = 0; t < scope->count; t++) {
        uint32_t node = scope->topological[t];
        if (!narrow(c->plan, node, column, from, allowed) || said[node])
            continue;
        said[node] = true;
        plan_fault(c, "unreachable_step", "use \"join\": \"any\"",
                   "needs different branches of one step, which never happen together", "%s/needs",
                   plan_pointer(c, node));
    }
}

/* A step that must have run for a join to hold brings the branches that it needed itself. Where the branches needed of
 * one step exclude each other, the join can never hold. No outcome is ever held to be impossible. Branching steps are
 * looked at a few at a time, so that memory stays in proportion to the steps. */
static void check_joins(struct compile *c)
{
    const struct plan *plan = c->plan;
    size_t columns;
    const uint32_t *column = branching_columns(c, &columns);
    uint64_t *allowed;
    bool *said;

    if (columns == 0)
        return;
    allowed = arena_array(c->faults->arena, plan->step_count * COLUMNS, sizeof(*allowed));
    said = arena_array(c->faults->arena, plan->step_count, sizeof(*said));
    for (size_t from = 0; from < columns; from += COLUMNS) {
        memset(allowed, 0xff, plan->step_count * COLUMNS * sizeof(*allowed));
        for (size_t i = 0; i < plan->scope_count; i++)
            if (plan->scopes[i].role == ROLE_STEP)
                check_joins_of(c, &plan->scopes[i], column, from, allowed, said);
    }
}

void plan_graph(struct compile *c)
{
    size_t before;

    before = c->faults->count;
    for (uint32_t i = 0; i < c->plan->step_count; i++)
        add_edges(c, i);
    link_children(c->plan);
    order_all(c);
    if (!c->cyclic && c->faults->count == before)
        check_joins(c);
}
