/* What expressions read: only steps that have ended by then, which is what is upstream. A step in a loop sees what its
 * loop sees; what undoes a step sees that step, too. */
#include "common/base/banned.h"
#include "common/engine/plan_internal.h"

#define BIT_WORDS(n) (((n) + 63) / 64)

struct reads {
    struct compile *c;
    size_t words;
    uint64_t *upstream; /* of each step: `words` of bits by step */
    uint32_t node;      /* whose template it is; NO_NODE: the run's output */
    enum template_part part;
};

static bool has_bit(const uint64_t *bits, uint32_t i)
{
    return ((bits[i / 64] >> (i % 64)) & 1) != 0;
}

static void set_bit(uint64_t *bits, uint32_t i)
{
    bits[i / 64] |= UINT64_C(1) << (i % 64);
}

static bool may_read(const struct reads *reads, uint32_t target)
{
    const struct plan *plan = reads->c->plan;
    const struct plan_step *step;

    if (reads->node == NO_NODE || plan->steps[reads->node].role == ROLE_NOTIFY)
        return true; /* everything has ended */
    step = &plan->steps[reads->node];
    if (reads->part == PART_UNTIL && target == reads->node)
        return true;
    if (reads->part == PART_ITEM_OUTPUT && plan->steps[target].scope == step->body)
        return true;
    return has_bit(reads->upstream + reads->node * reads->words, target);
}

static void unknown_step(struct reads *reads, struct str name, struct str pointer)
{
    struct compile *c = reads->c;
    uint32_t inside = plan_find_anywhere(c, name);
    const char *hint = NULL;
    const char *message = plan_text(c, "reads step '" STR_FMT "', which does not exist", STR_ARG(name));

    if (inside != NO_NODE) {
        struct str loop = c->plan->steps[c->plan->scopes[c->plan->steps[inside].scope].owner].name;
        message = plan_text(c, "reads step '" STR_FMT "', which is inside of the loop '" STR_FMT "'", STR_ARG(name),
                            STR_ARG(loop));
        hint = plan_text(c, "what iteration i of the loop gave is .steps." STR_FMT ".output[i]", STR_ARG(loop));
    }
    plan_fault(c, "unknown_step", hint, message, STR_FMT, STR_ARG(pointer));
}

static void check_name(struct reads *reads, uint32_t scope, struct str name, struct str pointer)
{
    struct compile *c = reads->c;
    uint32_t target = plan_find_visible(c->plan, scope, name);

    if (target == NO_NODE)
        unknown_step(reads, name, pointer);
    else if (!may_read(reads, target))
        plan_fault(c, "not_upstream", "name it in 'needs', directly or through other steps",
                   plan_text(c, "reads step '" STR_FMT "', which may not have ended by then", STR_ARG(name)), STR_FMT,
                   STR_ARG(pointer));
}

/* In which scope names are looked up first. */
static uint32_t looked_up_in(const struct reads *reads)
{
    const struct plan *plan = reads->c->plan;

    if (reads->node == NO_NODE)
        return 0;
    if (reads->part == PART_ITEM_OUTPUT && plan->steps[reads->node].body != NO_NODE)
        return plan->steps[reads->node].body;
    return plan->steps[reads->node].scope;
}

/* Outside of loops there is no item: such a path gives null. */
static void warn_of_items(struct reads *reads, const struct expr *expr, const char *pointer)
{
    const struct plan *plan = reads->c->plan;
    uint32_t scope = looked_up_in(reads);

    if (!expr->native || expr->part_count == 0 || expr->parts[0].is_index ||
        !(str_is(expr->parts[0].key, "item") || str_is(expr->parts[0].key, "index")))
        return;
    while (plan->scopes[scope].role != ROLE_STEP)
        scope = plan->scopes[scope].parent;
    if (scope == 0)
        plan_warning(reads->c, "only the steps of a foreach have an item",
                     plan_text(reads->c, "reads ." STR_FMT ", which is null here", STR_ARG(expr->parts[0].key)), "%s",
                     pointer);
}

static void check_template(void *ctx, const struct template *t, struct str pointer, enum template_part part)
{
    struct reads *reads = ctx;

    reads->part = part;
    for (size_t i = 0; i < t->expr_count; i++) {
        const struct expr *expr = &t->exprs[i];
        const char *at = plan_text(reads->c, STR_FMT STR_FMT, STR_ARG(pointer), STR_ARG(expr->pointer));
        warn_of_items(reads, expr, at);
        for (size_t k = 0; k < expr->step_count; k++)
            check_name(reads, looked_up_in(reads), expr->steps[k], str_of(at));
    }
}

static void add_all(struct reads *reads, uint32_t to, uint32_t from)
{
    for (size_t w = 0; w < reads->words; w++)
        reads->upstream[to * reads->words + w] |= reads->upstream[from * reads->words + w];
}

/* Upstream of a step are its parents and what is upstream of them, and what is upstream of the loop that it is in. */
static void check_step(struct reads *reads, uint32_t node)
{
    const struct plan *plan = reads->c->plan;
    const struct plan_step *step = &plan->steps[node];
    uint32_t owner = plan->scopes[step->scope].owner;

    if (owner != NO_NODE)
        add_all(reads, node, owner);
    if (step->role == ROLE_COMPENSATE)
        set_bit(reads->upstream + node * reads->words, step->of);
    for (size_t e = 0; e < step->edge_count; e++) {
        add_all(reads, node, step->edges[e].parent);
        set_bit(reads->upstream + node * reads->words, step->edges[e].parent);
    }
    reads->node = node;
    plan_each_part(plan, node, check_template, reads);
}

void plan_check_reads(struct compile *c)
{
    struct plan *plan = c->plan;
    struct reads reads = {.c = c, .words = BIT_WORDS(plan->step_count)};

    if (plan->scope_count == 0 || c->cyclic)
        return;
    reads.upstream = arena_array(c->faults->arena, plan->step_count * reads.words + 1, sizeof(*reads.upstream));
    for (size_t scope = 0; scope < plan->scope_count; scope++)
        for (uint32_t i = 0; i < plan->scopes[scope].count; i++)
            check_step(&reads, plan->scopes[scope].topological[i]);
    reads.node = NO_NODE;
    check_template(&reads, &plan->output, STR("/output"), PART_BEFORE);
}
