/* `concurrency`: how many runs of a workflow, or of a key of it, go on at a time. */
#include "common/base/banned.h"
#include "common/engine/plan_internal.h"

/* The key is made when the run asks to begin: no step has run. */
static void check_key(struct compile *c, const struct template *key)
{
    for (size_t i = 0; i < key->expr_count; i++) {
        const struct expr *expr = &key->exprs[i];

        if (expr->step_count > 0 || expr->all_steps)
            plan_fault(c, "not_upstream", "a key may read .input, .trigger and .run",
                       "reads what a step gave, and no step has run when the key is made", "/concurrency/key" STR_FMT,
                       STR_ARG(expr->pointer));
    }
}

void plan_concurrency(struct compile *c, struct str concurrency)
{
    struct plan_concurrency *bound = &c->plan->concurrency;
    struct str key = jt_get(concurrency, "key"), on_limit = jt_get(concurrency, "on_limit");
    int64_t n;

    if (jt_type(concurrency) != JT_OBJECT)
        return;
    if (jt_i64(jt_get(concurrency, "limit"), &n)) {
        if (n < 1 || n > CONCURRENCY_MAX)
            plan_fault(c, "out_of_range", NULL, plan_text(c, "must be between 1 and %d", CONCURRENCY_MAX),
                       "/concurrency/limit");
        else
            bound->limit = (uint32_t)n;
    }
    if (plan_string_is(c, on_limit, "skip"))
        bound->on_limit = ON_LIMIT_SKIP;
    else if (plan_string_is(c, on_limit, "cancel_oldest"))
        bound->on_limit = ON_LIMIT_CANCEL_OLDEST;
    if (key.ptr == NULL)
        return;
    bound->has_key = plan_template(c, key, "/concurrency/key", NULL, &bound->key);
    if (bound->has_key)
        check_key(c, &bound->key);
}
