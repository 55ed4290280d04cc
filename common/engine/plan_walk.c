/* Walks the templates of a plan with the place of each in the document. */
#include "common/engine/plan.h"
#include "common/base/banned.h"

/* Where the template of a step's `with` stands. */
static const char *with_place(const struct plan_step *step)
{
    switch (step->kind) {
    case CALL_TRANSFORM:
        return "/value";
    case CALL_CONDITION:
        return "/if";
    case CALL_DELAY:
        return step->delay_until ? "/until" : "/duration";
    case CALL_TASK:
    case CALL_SWITCH:
        break;
    }
    return "";
}

static void visit(struct buf *pointer, size_t base, const struct template *t, plan_template_fn fn, void *ctx)
{
    if (t->expr_count > 0)
        fn(ctx, t, buf_str(pointer));
    pointer->len = base;
    pointer->ptr[base] = '\0';
}

void plan_each_template_of(const struct plan *plan, uint32_t node, plan_template_fn fn, void *ctx)
{
    const struct plan_step *step = &plan->steps[node];
    struct buf pointer;
    size_t base;

    buf_init(&pointer, 8192);
    buf_append_str(&pointer, STR("/steps"));
    jt_pointer_add(&pointer, step->name);
    base = pointer.len;
    buf_printf(&pointer, "/with%s", with_place(step));
    visit(&pointer, base, &step->with, fn, ctx);
    for (size_t i = 0; i < step->case_count; i++) {
        buf_printf(&pointer, "/with/cases/%zu/if", i);
        visit(&pointer, base, &step->cases[i], fn, ctx);
    }
    buf_append_str(&pointer, STR("/when"));
    visit(&pointer, base, &step->when, fn, ctx);
    buf_append_str(&pointer, STR("/idempotency/key"));
    visit(&pointer, base, &step->idempotency_key, fn, ctx);
    buf_deinit(&pointer);
}

void plan_each_template(const struct plan *plan, plan_template_fn fn, void *ctx)
{
    for (uint32_t i = 0; i < plan->step_count; i++)
        plan_each_template_of(plan, i, fn, ctx);
    if (plan->output.expr_count > 0)
        fn(ctx, &plan->output, STR("/output"));
}
