/* A run's input out of a delivery: its body, or what the trigger's `input` makes of it. Plain paths are read here, the
 * rest is the sandbox's. */
#include "common/expr/sandbox.h"
#include "gateway/hooks/hook.h"

#include "common/base/banned.h"

struct making {
    struct hook *hook;
    struct expr_doc doc;
    struct str *values;
    size_t waiting;
    bool failed, unavailable;
    const char *message;
    void (*done)(struct hook *hook);
};
struct value_of {
    struct making *making;
    size_t at;
};

static void finish(struct making *m)
{
    CLEANUP(buf_deinit) struct buf out = {0};
    struct hook *hook = m->hook;
    struct err err = {0};

    if (m->unavailable) {
        hook_refuse(hook, "start", "unavailable", 503, "unavailable", "expressions cannot be evaluated just now");
        return;
    }
    buf_init(&out, (size_t)hook->call->caller.limits.of[LIMIT_BODY_BYTES]);
    if (!m->failed && template_render(&hook->trigger->input, m->values, hook->call->arena, &out, &err) != ERR_OK) {
        m->failed = true;
        m->message = err.message;
    }
    if (m->failed) {
        hook_refuse(
            hook, "start", "expression_failed", 422, "expression_failed",
            arena_printf(hook->call->arena, "the trigger's input cannot be made of this delivery: %s", m->message));
        return;
    }
    hook->start.input = str_arena(hook->call->arena, buf_str(&out));
    m->done(hook);
}

static void on_value(void *ctx, enum sandbox_status status, struct str value, const char *message)
{
    struct value_of *v = ctx;
    struct making *m = v->making;
    struct arena *arena = m->hook->call->arena;

    if (status == SANDBOX_UNAVAILABLE) {
        m->unavailable = true;
    } else if (status != SANDBOX_OK) {
        m->failed = true;
        m->message = arena_printf(arena, "%s", message);
    } else {
        m->values[v->at] = str_arena(arena, value);
    }
    if (--m->waiting == 0)
        finish(m);
}

static void fail(struct making *m, const struct err *err)
{
    m->failed = true;
    m->message = arena_printf(m->hook->call->arena, "%s", err->message);
}

static void evaluate(struct making *m, size_t i)
{
    const struct expr *expr = &m->hook->trigger->input.exprs[i];
    struct arena *arena = m->hook->call->arena;
    CLEANUP(buf_deinit) struct buf document = {0};
    struct err err = {0};
    struct value_of *v;

    if (expr->native) {
        if (expr_eval_native(expr, &m->doc, arena, &m->values[i], &err) != EXPR_OK)
            fail(m, &err);
        return;
    }
    buf_init(&document, SANDBOX_LIMITS_DEFAULT.document_bytes);
    if (expr_document(expr, &m->doc, SANDBOX_LIMITS_DEFAULT.document_bytes, &document, &err) != EXPR_OK) {
        fail(m, &err);
        return;
    }
    v = arena_alloc(arena, sizeof(*v));
    *v = (struct value_of){m, i};
    m->waiting++;
    sandbox_eval(m->hook->call->gw->sandbox, m->hook->start.organisation, expr->source, buf_str(&document), on_value,
                 v);
}

void hook_make_input(struct hook *hook, void (*done)(struct hook *hook))
{
    struct arena *arena = hook->call->arena;
    struct making *m;

    if (!hook->trigger->has_input) {
        hook->start.input = hook->body;
        done(hook);
        return;
    }
    m = arena_alloc(arena, sizeof(*m));
    *m = (struct making){.hook = hook, .done = done, .waiting = 1};
    m->values = arena_array(arena, hook->trigger->input.expr_count + 1, sizeof(*m->values));
    m->doc = (struct expr_doc){.trigger = hook_trigger_json(hook), .index = -1};
    for (size_t i = 0; i < hook->trigger->input.expr_count; i++)
        evaluate(m, i);
    if (--m->waiting == 0)
        finish(m);
}
