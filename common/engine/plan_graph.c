/* The graph of a plan: edges, cycles, depth, joins that can never hold, expressions that read what is not upstream. */
#include "common/base/banned.h"
#include "common/engine/plan_internal.h"
#include <inttypes.h>

#define BIT_WORDS(n) (((n) + 63) / 64)

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

/* Reports one cycle among the steps that could not be ordered: follows parents until one comes again. */
static void report_cycle(struct compile *c, const bool *ordered)
{
    struct plan *plan = c->plan;
    uint32_t *seen_at = arena_array(c->faults->arena, plan->step_count, sizeof(*seen_at));
    uint32_t *path = arena_array(c->faults->arena, plan->step_count + 1, sizeof(*path));
    uint32_t length = 0, node = 0;
    struct buf message;

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
    buf_init(&message, 8192);
    buf_append_str(&message, STR("the steps need each other: "));
    /* the path was walked against the arrows: from the repeated step backwards is the direction of time */
    buf_append_str(&message, plan->steps[node].name);
    for (uint32_t i = length; i >= seen_at[node]; i--) {
        buf_printf(&message, " -> " STR_FMT, STR_ARG(plan->steps[path[i - 1]].name));
        if (i == 1)
            break;
    }
    plan_fault(c, "cycle", "remove one of these needs", message.ptr, "%s/needs", plan_pointer(c, node));
    buf_deinit(&message);
}

/* Parents first (Kahn). False when there is a cycle. */
static bool order(struct compile *c)
{
    struct plan *plan = c->plan;
    size_t *missing = arena_array(c->faults->arena, plan->step_count + 1, sizeof(*missing));
    uint32_t *depth = arena_array(c->faults->arena, plan->step_count + 1, sizeof(*depth));
    bool *ordered = arena_array(c->faults->arena, plan->step_count + 1, sizeof(*ordered));
    size_t done = 0, head = 0;

    plan->topological = arena_array(plan->arena, plan->step_count + 1, sizeof(uint32_t));
    for (uint32_t i = 0; i < plan->step_count; i++) {
        missing[i] = plan->steps[i].edge_count;
        if (missing[i] == 0)
            plan->topological[done++] = i;
    }
    while (head < done) {
        uint32_t node = plan->topological[head++];
        ordered[node] = true;
        if (depth[node] + 1 == c->limits->max_depth + 1) {
            char message[80];
            (void)snprintf(message, sizeof(message), "is more than %" PRIu32 " steps deep", c->limits->max_depth);
            plan_fault(c, "too_deep", "use child workflows or loops", message, "%s", plan_pointer(c, node));
        }
        for (size_t i = 0; i < plan->steps[node].child_count; i++) {
            uint32_t child = plan->steps[node].children[i];
            if (depth[child] < depth[node] + 1)
                depth[child] = depth[node] + 1;
            if (--missing[child] == 0)
                plan->topological[done++] = child;
        }
    }
    if (done < plan->step_count) {
        report_cycle(c, ordered);
        return false;
    }
    return true;
}

/* A step that must have run for a join to hold brings the branches that it needed itself. Where the branches needed of
 * one step exclude each other, the join can never hold. No outcome is ever held to be impossible. */
static void check_joins(struct compile *c)
{
    struct plan *plan = c->plan;
    uint32_t *column = arena_array(c->faults->arena, plan->step_count + 1, sizeof(*column));
    size_t columns = 0;
    uint64_t *allowed;

    for (uint32_t i = 0; i < plan->step_count; i++)
        column[i] = plan->steps[i].branch_count > 0 ? (uint32_t)columns++ : UINT32_MAX;
    if (columns == 0)
        return;
    allowed = arena_array(c->faults->arena, plan->step_count * columns, sizeof(*allowed));
    memset(allowed, 0xff, plan->step_count * columns * sizeof(*allowed));
    for (size_t t = 0; t < plan->step_count; t++) {
        uint32_t node = plan->topological[t];
        const struct plan_step *step = &plan->steps[node];
        uint64_t *mine = allowed + node * columns;
        bool impossible = false;
        if (step->join_any && step->edge_count > 1)
            continue;
        for (size_t e = 0; e < step->edge_count; e++) {
            const struct plan_edge *edge = &step->edges[e];
            if ((edge->outcomes & (OUT_SKIPPED | OUT_CANCELLED)) != 0)
                continue; /* also holds when the parent has not run */
            for (size_t k = 0; k < columns; k++)
                mine[k] &= allowed[edge->parent * columns + k];
            if (column[edge->parent] != UINT32_MAX && edge->outcomes == 0)
                mine[column[edge->parent]] &= edge->branches;
        }
        for (size_t k = 0; k < columns; k++)
            impossible = impossible || mine[k] == 0;
        if (impossible) {
            plan_fault(c, "unreachable_step", "use \"join\": \"any\"",
                       "needs different branches of one step, which never happen together", "%s/needs",
                       plan_pointer(c, node));
            memset(mine, 0xff, columns * sizeof(*mine)); /* said once, not of everything below */
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

static void check_template(struct compile *c, const struct template *t, const uint64_t *ancestors, const char *pointer)
{
    for (size_t i = 0; i < t->expr_count; i++) {
        for (size_t k = 0; k < t->exprs[i].step_count; k++) {
            uint32_t node = plan_find(c->plan, t->exprs[i].steps[k]);
            char message[200];
            if (node == NO_NODE) {
                (void)snprintf(message, sizeof(message), "reads step '" STR_FMT "', which does not exist",
                               STR_ARG(t->exprs[i].steps[k]));
                plan_fault(c, "unknown_step", NULL, message, "%s", pointer);
            } else if (ancestors != NULL && ((ancestors[node / 64] >> (node % 64)) & 1) == 0) {
                (void)snprintf(message, sizeof(message), "reads step '" STR_FMT "', which may not have ended by then",
                               STR_ARG(t->exprs[i].steps[k]));
                plan_fault(c, "not_upstream", "name it in 'needs', directly or through other steps", message, "%s",
                           pointer);
            }
        }
    }
}

void plan_check_reads(struct compile *c)
{
    struct plan *plan = c->plan;
    size_t words = BIT_WORDS(plan->step_count);
    uint64_t *ancestors;
    size_t ordered = 0;
    char at[700];

    /* with a cycle there is no upstream to speak of */
    if (plan->topological == NULL || c->faults->count > c->faults_before) {
        for (size_t i = c->faults_before; i < c->faults->count; i++)
            if (strcmp(c->faults->items[i].code, "cycle") == 0)
                return;
    }
    if (plan->topological == NULL)
        return;
    ancestors = arena_array(c->faults->arena, plan->step_count * words + 1, sizeof(*ancestors));
    for (ordered = 0; ordered < plan->step_count; ordered++) {
        uint32_t node = plan->topological[ordered];
        const struct plan_step *step = &plan->steps[node];
        uint64_t *mine = ancestors + node * words;
        const char *base = plan_pointer(c, node);
        for (size_t e = 0; e < step->edge_count; e++) {
            uint32_t parent = step->edges[e].parent;
            for (size_t w = 0; w < words; w++)
                mine[w] |= ancestors[parent * words + w];
            mine[parent / 64] |= UINT64_C(1) << (parent % 64);
        }
        (void)snprintf(at, sizeof(at), "%s/with", base);
        check_template(c, &step->with, mine, at);
        for (size_t k = 0; k < step->case_count; k++) {
            (void)snprintf(at, sizeof(at), "%s/with/cases/%zu/if", base, k);
            check_template(c, &step->cases[k], mine, at);
        }
        (void)snprintf(at, sizeof(at), "%s/when", base);
        check_template(c, &step->when, mine, at);
        (void)snprintf(at, sizeof(at), "%s/idempotency/key", base);
        check_template(c, &step->idempotency_key, mine, at);
    }
    check_template(c, &plan->output, NULL, "/output");
}
