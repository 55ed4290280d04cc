/* The graph of a plan: edges, cycles, depth, joins that can never hold, expressions that read what is not upstream. */
#include "common/base/banned.h"
#include "common/engine/plan_internal.h"
#include <inttypes.h>

#define BIT_WORDS(n) (((n) + 63) / 64)
#define CYCLE_TEXT_MAX ((size_t)64 << 10) /* 500 names of 63 bytes fit */
#define COLUMNS 64                        /* branching steps looked at together */

static uint8_t outcome_of(struct str name)
{
    static const struct {
        const char *name;
        uint8_t bit;
    } outcomes[] = {{"succeeded", OUT_SUCCEEDED}, {"failed", OUT_FAILED},       {"skipped", OUT_SKIPPED},
                    {"timed_out", OUT_TIMED_OUT}, {"cancelled", OUT_CANCELLED}, {"outcome_unknown", OUT_UNKNOWN}};

    for (size_t i = 0; i < sizeof(outcomes) / sizeof(outcomes[0]); i++)
        if (str_is(name, outcomes[i].name))
            return outcomes[i].bit;
    return 0;
}

/* One label of a `needs` map. YAML reads true and false as booleans: they are branch names all the same. */
static void add_label(struct compile *c, struct plan_edge *edge, struct str label, const char *pointer, size_t index)
{
    const struct plan_step *parent = &c->plan->steps[edge->parent];
    struct str name = label;
    uint8_t bit;

    if (jt_type(label) == JT_STRING && !jt_string(label, c->faults->arena, &name))
        return;
    bit = outcome_of(name);
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

static bool find_parent(struct compile *c, uint32_t step, struct str name, const char *pointer, uint32_t *ret)
{
    *ret = plan_find(c->plan, name);
    if (*ret == NO_NODE) {
        plan_fault(c, "unknown_step", NULL, "there is no step of this name", "%s", pointer);
        return false;
    }
    if (*ret == step) {
        plan_fault(c, "cycle", NULL, "a step cannot need itself", "%s", pointer);
        return false;
    }
    return true;
}

static void add_edges(struct compile *c, uint32_t index)
{
    struct plan_step *step = &c->plan->steps[index];
    struct str needs = c->needs[index];
    const char *base = plan_pointer(c, index);
    bool is_list = jt_type(needs) == JT_ARRAY;
    struct jt_iter it;

    step->edges = arena_array(c->plan->arena, jt_count(needs) + 1, sizeof(*step->edges));
    jt_iter_init(&it, needs);
    while (jt_next(&it)) {
        struct plan_edge edge = {0};
        struct str name = STR_NONE;
        struct buf at;
        struct jt_iter labels;

        buf_init(&at, 2048);
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
static uint32_t find_cycle(struct compile *c, const bool *ordered, uint32_t *path)
{
    const struct plan *plan = c->plan;
    uint32_t *seen_at = arena_array(c->faults->arena, plan->step_count, sizeof(*seen_at));
    uint32_t length = 0, node = 0, first;

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
    char message[80];

    (void)snprintf(message, sizeof(message), "is more than %" PRIu32 " steps deep", c->limits->max_depth);
    plan_fault(c, "too_deep", "use child workflows or loops", message, "%s", plan_pointer(c, node));
}

/* Parents first (Kahn). Where that comes to a halt there is a cycle: it is reported, taken as done, and the rest goes
 * on, so that each cycle is said once. False when there was one. */
static bool order(struct compile *c)
{
    struct plan *plan = c->plan;
    size_t *missing = arena_array(c->faults->arena, plan->step_count + 1, sizeof(*missing));
    uint32_t *depth = arena_array(c->faults->arena, plan->step_count + 1, sizeof(*depth));
    uint32_t *path = arena_array(c->faults->arena, plan->step_count + 1, sizeof(*path));
    bool *ordered = arena_array(c->faults->arena, plan->step_count + 1, sizeof(*ordered));
    size_t done = 0, head = 0;

    plan->topological = arena_array(plan->arena, plan->step_count + 1, sizeof(uint32_t));
    for (uint32_t i = 0; i < plan->step_count; i++) {
        missing[i] = plan->steps[i].edge_count;
        ordered[i] = missing[i] == 0;
        if (missing[i] == 0)
            plan->topological[done++] = i;
    }
    while (done < plan->step_count || head < done) {
        uint32_t node;
        if (head == done) {
            uint32_t length = find_cycle(c, ordered, path);
            report_cycle(c, path, length);
            c->cyclic = true;
            for (uint32_t i = 0; i < length; i++) {
                ordered[path[i]] = true;
                plan->topological[done++] = path[i];
            }
        }
        node = plan->topological[head++];
        if (depth[node] == c->limits->max_depth && !c->cyclic)
            report_depth(c, node);
        for (size_t i = 0; i < plan->steps[node].child_count; i++) {
            uint32_t child = plan->steps[node].children[i];
            if (depth[child] < depth[node] + 1)
                depth[child] = depth[node] + 1;
            if (--missing[child] == 0 && !ordered[child]) {
                ordered[child] = true;
                plan->topological[done++] = child;
            }
        }
    }
    return !c->cyclic;
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
        for (size_t t = 0; t < plan->step_count; t++) {
            uint32_t node = plan->topological[t];
            if (!narrow(plan, node, column, from, allowed) || said[node])
                continue;
            said[node] = true;
            plan_fault(c, "unreachable_step", "use \"join\": \"any\"",
                       "needs different branches of one step, which never happen together", "%s/needs",
                       plan_pointer(c, node));
        }
    }
}

void plan_graph(struct compile *c)
{
    size_t before;

    if (c->plan->step_count == 0)
        return;
    before = c->faults->count;
    for (uint32_t i = 0; i < c->plan->step_count; i++)
        add_edges(c, i);
    link_children(c->plan);
    if (order(c) && c->faults->count == before)
        check_joins(c);
}

struct reads {
    struct compile *c;
    const uint64_t *ancestors; /* NULL: every step may be read */
};

static void check_template(void *ctx, const struct template *t, struct str pointer)
{
    const struct reads *reads = ctx;
    struct compile *c = reads->c;

    for (size_t i = 0; i < t->expr_count; i++) {
        for (size_t k = 0; k < t->exprs[i].step_count; k++) {
            uint32_t node = plan_find(c->plan, t->exprs[i].steps[k]);
            char message[200];
            if (node == NO_NODE) {
                (void)snprintf(message, sizeof(message), "reads step '" STR_FMT "', which does not exist",
                               STR_ARG(t->exprs[i].steps[k]));
                plan_fault(c, "unknown_step", NULL, message, STR_FMT STR_FMT, STR_ARG(pointer),
                           STR_ARG(t->exprs[i].pointer));
            } else if (reads->ancestors != NULL && ((reads->ancestors[node / 64] >> (node % 64)) & 1) == 0) {
                (void)snprintf(message, sizeof(message), "reads step '" STR_FMT "', which may not have ended by then",
                               STR_ARG(t->exprs[i].steps[k]));
                plan_fault(c, "not_upstream", "name it in 'needs', directly or through other steps", message,
                           STR_FMT STR_FMT, STR_ARG(pointer), STR_ARG(t->exprs[i].pointer));
            }
        }
    }
}

void plan_check_reads(struct compile *c)
{
    struct plan *plan = c->plan;
    size_t words = BIT_WORDS(plan->step_count);
    uint64_t *ancestors;

    if (plan->topological == NULL || c->cyclic)
        return;
    ancestors = arena_array(c->faults->arena, plan->step_count * words + 1, sizeof(*ancestors));
    for (size_t i = 0; i < plan->step_count; i++) {
        uint32_t node = plan->topological[i];
        const struct plan_step *step = &plan->steps[node];
        uint64_t *mine = ancestors + node * words;
        for (size_t e = 0; e < step->edge_count; e++) {
            uint32_t parent = step->edges[e].parent;
            for (size_t w = 0; w < words; w++)
                mine[w] |= ancestors[parent * words + w];
            mine[parent / 64] |= UINT64_C(1) << (parent % 64);
        }
        plan_each_template_of(plan, node, check_template, &(struct reads){c, mine});
    }
    check_template(&(struct reads){c, NULL}, &plan->output, STR("/output"));
}
