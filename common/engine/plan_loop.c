/* foreach: what it goes over, how, and what an iteration gives. Its steps are a scope of their own (plan_scope.c). */
#include "common/base/banned.h"
#include "common/engine/plan_internal.h"
#include <inttypes.h>

#define CONCURRENCY_DEFAULT 10
#define NAMES_MAX_BYTES ((size_t)64 << 20) /* names are no longer than their document */

static void items(struct compile *c, struct plan_step *step, struct str value, const char *pointer)
{
    if (jt_type(value) == JT_NONE)
        return; /* said before */
    if (jt_type(value) == JT_STRING) {
        (void)plan_expression(c, value, pointer, "must be a list or exactly one expression", &step->with);
        return;
    }
    if (jt_type(value) != JT_ARRAY) {
        plan_fault(c, "wrong_type", NULL, "must be a list or exactly one expression", "%s", pointer);
        return;
    }
    if (jt_count(value) > c->limits->max_items)
        plan_fault(c, "out_of_range", "split the list, or have the limit raised",
                   plan_text(c, "has %zu items; a loop may have %" PRIu32 " (limit foreach_items)", jt_count(value),
                             c->limits->max_items),
                   "%s", pointer);
    else
        (void)plan_template(c, value, pointer, NULL, &step->with);
}

void plan_loop(struct compile *c, struct plan_step *step, struct str with, const char *pointer)
{
    struct str output = jt_get(with, "output");
    int64_t n;

    items(c, step, jt_get(with, "items"), plan_text(c, "%s/items", pointer));
    step->concurrency = CONCURRENCY_DEFAULT;
    if (jt_i64(jt_get(with, "concurrency"), &n) && n >= 1 && n <= LOOP_ITEMS_MAX)
        step->concurrency = (uint32_t)n;
    step->continue_on_item = plan_string_is(c, jt_get(with, "on_item_failure"), "continue");
    if (output.ptr != NULL)
        (void)plan_template(c, output, plan_text(c, "%s/output", pointer), NULL, &step->item_output);
}

/* "${ .steps["NAME"].output }", which is a plain path whatever the name. */
static struct str output_expression(struct compile *c, struct str name)
{
    struct str text;
    struct buf buf;

    buf_init(&buf, NAMES_MAX_BYTES);
    buf_append_str(&buf, STR("${ .steps["));
    json_quote(&buf, name);
    buf_append_str(&buf, STR("].output }"));
    text = str_arena(c->faults->arena, buf_str(&buf));
    buf_deinit(&buf);
    return text;
}

/* What is left out: the output of the only last step, or an object of those of the last steps. */
static void usual_output(struct compile *c, struct plan_step *loop)
{
    const struct plan *plan = c->plan;
    const struct plan_scope *body = &plan->scopes[loop->body];
    uint32_t last = 0;
    struct str text;
    struct buf buf;
    struct jw w;

    buf_init(&buf, NAMES_MAX_BYTES);
    w = jw_to(&buf);
    for (uint32_t i = body->first; i < body->first + body->count; i++)
        last += plan->steps[i].child_count == 0 ? 1 : 0;
    if (last != 1)
        jw_obj(&w);
    for (uint32_t i = body->first; i < body->first + body->count; i++) {
        if (plan->steps[i].child_count > 0)
            continue;
        if (last != 1)
            jw_key_str(&w, plan->steps[i].name);
        jw_str(&w, output_expression(c, plan->steps[i].name));
    }
    if (last != 1)
        jw_end_obj(&w);
    text = str_arena(plan->arena, buf_str(&buf));
    buf_deinit(&buf);
    (void)plan_template(c, text, plan_pointer(c, plan->scopes[loop->body].owner), NULL, &loop->item_output);
}

static bool key_is(const struct expr_path_part *part, const char *key)
{
    return !part->is_index && str_is(part->key, key);
}

/* The step whose output is an iteration's as it stands, so that nothing has to be copied. The output of a loop inside
 * is no single body: it cannot be pointed at. */
static uint32_t output_of(const struct plan *plan, const struct plan_step *loop)
{
    const struct template *t = &loop->item_output;
    const struct expr *expr = t->exprs;
    uint32_t step;

    if (!template_is_expression(t) || !expr->native || expr->part_count != 3 || !key_is(&expr->parts[0], "steps") ||
        expr->parts[1].is_index || !key_is(&expr->parts[2], "output"))
        return NO_NODE;
    step = plan_find_in(plan, loop->body, expr->parts[1].key);
    return step != NO_NODE && plan->steps[step].kind != CALL_FOREACH ? step : NO_NODE;
}

void plan_loop_outputs(struct compile *c)
{
    struct plan *plan = c->plan;

    for (uint32_t scope = 1; scope < plan->scope_count && !c->faulty; scope++) {
        struct plan_step *loop = &plan->steps[plan->scopes[scope].owner == NO_NODE ? 0 : plan->scopes[scope].owner];
        if (plan->scopes[scope].role != ROLE_STEP)
            break; /* actions come last */
        if (loop->item_output.source.ptr == NULL)
            usual_output(c, loop);
        loop->item_output_of = output_of(plan, loop);
    }
}
