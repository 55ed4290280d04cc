/* Walks the templates of a plan with the place of each in the document. */
#include "common/base/banned.h"
#include "common/engine/plan_internal.h"

#define POINTER_MAX ((size_t)64 << 10)

void plan_write_pointer(const struct plan *plan, uint32_t node, struct buf *out)
{
    const struct plan_step *step = &plan->steps[node];
    uint32_t owner = plan->scopes[step->scope].owner;

    if (step->role == ROLE_NOTIFY) {
        buf_append_str(out, STR("/on_failure_notify"));
        return;
    }
    if (owner != NO_NODE)
        plan_write_pointer(plan, owner, out);
    if (step->role == ROLE_COMPENSATE) {
        buf_append_str(out, STR("/compensate"));
        return;
    }
    if (owner != NO_NODE)
        buf_append_str(out, STR("/with"));
    buf_append_str(out, STR("/steps"));
    jt_pointer_add(out, step->name);
}

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
    case CALL_FOREACH:
        return "/items";
    case CALL_TASK:
    case CALL_SWITCH:
    case CALL_SIGNAL:
    case CALL_EVENT:
    case CALL_POLL: /* its members have the names that they have in the document */
    case CALL_WORKFLOW:
        break;
    }
    return "";
}

struct walk {
    struct buf pointer;
    size_t base;
    plan_part_fn fn;
    void *ctx;
};

/* The template at what has been added to the pointer of the step. */
static void visit(struct walk *walk, const struct template *t, enum template_part part)
{
    if (t->expr_count > 0)
        walk->fn(walk->ctx, t, buf_str(&walk->pointer), part);
    walk->pointer.len = walk->base;
    walk->pointer.ptr[walk->base] = '\0';
}

void plan_each_part(const struct plan *plan, uint32_t node, plan_part_fn fn, void *ctx)
{
    const struct plan_step *step = &plan->steps[node];
    struct walk walk = {.fn = fn, .ctx = ctx};
    struct buf *pointer = &walk.pointer;

    buf_init(pointer, POINTER_MAX);
    plan_write_pointer(plan, node, pointer);
    walk.base = pointer->len;
    buf_printf(pointer, "/with%s", with_place(step));
    visit(&walk, &step->with, PART_BEFORE);
    for (size_t i = 0; i < step->case_count; i++) {
        buf_printf(pointer, "/with/cases/%zu/if", i);
        visit(&walk, &step->cases[i], PART_BEFORE);
    }
    buf_append_str(pointer, STR("/with/until"));
    visit(&walk, &step->until, PART_UNTIL);
    buf_append_str(pointer, STR("/with/filter"));
    visit(&walk, &step->event.filter, PART_BEFORE);
    buf_append_str(pointer, STR("/with/output"));
    visit(&walk, &step->item_output, PART_ITEM_OUTPUT);
    buf_append_str(pointer, STR("/when"));
    visit(&walk, &step->when, PART_BEFORE);
    buf_append_str(pointer, STR("/idempotency/key"));
    visit(&walk, &step->idempotency_key, PART_BEFORE);
    buf_deinit(pointer);
}

struct plain {
    plan_template_fn fn;
    void *ctx;
};

static void without_part(void *ctx, const struct template *t, struct str pointer, enum template_part part)
{
    const struct plain *plain = ctx;

    (void)part;
    plain->fn(plain->ctx, t, pointer);
}

void plan_each_template_of(const struct plan *plan, uint32_t node, plan_template_fn fn, void *ctx)
{
    plan_each_part(plan, node, without_part, &(struct plain){fn, ctx});
}

static void each_of_trigger(const struct plan_trigger *trigger, plan_template_fn fn, void *ctx)
{
    static const char *const keys[] = {"", "/debounce/key", "/throttle/key", "/batch/key"};
    const struct {
        const struct template *t;
        const char *place;
    } parts[] = {{&trigger->input, "/input"},
                 {&trigger->hold.key, keys[trigger->hold.how]},
                 {&trigger->webhook.respond.body, "/webhook/respond/body"},
                 {&trigger->event.filter, "/event/filter"}};

    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        CLEANUP(buf_deinit) struct buf pointer = {0};

        if (parts[i].t->expr_count == 0)
            continue;
        buf_init(&pointer, POINTER_MAX);
        buf_append_str(&pointer, STR("/triggers"));
        jt_pointer_add(&pointer, trigger->name);
        buf_append_str(&pointer, str_of(parts[i].place));
        fn(ctx, parts[i].t, buf_str(&pointer));
    }
}

void plan_each_template(const struct plan *plan, plan_template_fn fn, void *ctx)
{
    for (uint32_t i = 0; i < plan->step_count; i++)
        plan_each_template_of(plan, i, fn, ctx);
    if (plan->concurrency.key.expr_count > 0)
        fn(ctx, &plan->concurrency.key, STR("/concurrency/key"));
    if (plan->output.expr_count > 0)
        fn(ctx, &plan->output, STR("/output"));
    for (size_t i = 0; i < plan->trigger_count; i++)
        each_of_trigger(&plan->triggers[i], fn, ctx);
}
