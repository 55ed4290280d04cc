/* Templates of a trigger: what a run gets, what its sender is answered. Plain paths are read here, the rest is the
 * sandbox's. */
#include "common/expr/sandbox.h"
#include "gateway/hooks/hook.h"

#include "common/base/banned.h"

struct rendering {
    struct hook *hook;
    const struct template *template;
    struct expr_doc doc;
    struct str *values;
    size_t waiting;
    bool failed, unavailable;
    const char *message;
    hook_rendered_fn done;
};
struct value_of {
    struct rendering *rendering;
    size_t at;
};

static void finish(struct rendering *r)
{
    CLEANUP(buf_deinit) struct buf out = {0};
    struct hook *hook = r->hook;
    struct arena *arena = hook->call->arena;
    struct err err = {0};

    if (r->unavailable) {
        r->done(hook, HOOK_RENDER_UNAVAILABLE, STR("expressions cannot be evaluated just now"));
        return;
    }
    buf_init(&out, (size_t)hook->call->caller.limits.of[LIMIT_BODY_BYTES]);
    if (!r->failed && template_render(r->template, r->values, arena, &out, &err) != ERR_OK) {
        r->failed = true;
        r->message = err.message;
    }
    if (r->failed)
        r->done(hook, HOOK_RENDER_FAILED, str_of(arena_printf(arena, "%s", r->message)));
    else
        r->done(hook, HOOK_RENDERED, str_arena(arena, buf_str(&out)));
}

static void on_value(void *ctx, enum sandbox_status status, struct str value, const char *message)
{
    struct value_of *v = ctx;
    struct rendering *r = v->rendering;
    struct arena *arena = r->hook->call->arena;

    if (status == SANDBOX_UNAVAILABLE) {
        r->unavailable = true;
    } else if (status != SANDBOX_OK) {
        r->failed = true;
        r->message = arena_printf(arena, "%s", message);
    } else {
        r->values[v->at] = str_arena(arena, value);
    }
    if (--r->waiting == 0)
        finish(r);
}

static void fail(struct rendering *r, const struct err *err)
{
    r->failed = true;
    r->message = arena_printf(r->hook->call->arena, "%s", err->message);
}

static void evaluate(struct rendering *r, size_t i)
{
    const struct expr *expr = &r->template->exprs[i];
    struct arena *arena = r->hook->call->arena;
    CLEANUP(buf_deinit) struct buf document = {0};
    struct err err = {0};
    struct value_of *v;

    if (expr->native) {
        if (expr_eval_native(expr, &r->doc, arena, &r->values[i], &err) != EXPR_OK)
            fail(r, &err);
        return;
    }
    buf_init(&document, SANDBOX_LIMITS_DEFAULT.document_bytes);
    if (expr_document(expr, &r->doc, SANDBOX_LIMITS_DEFAULT.document_bytes, &document, &err) != EXPR_OK) {
        fail(r, &err);
        return;
    }
    v = arena_alloc(arena, sizeof(*v));
    *v = (struct value_of){r, i};
    r->waiting++;
    sandbox_eval(r->hook->call->gw->sandbox, r->hook->start.organisation, expr->source, buf_str(&document), on_value,
                 v);
}

void hook_render(struct hook *hook, const struct template *template, const struct expr_doc *doc, hook_rendered_fn done)
{
    struct arena *arena = hook->call->arena;
    struct rendering *r = arena_alloc(arena, sizeof(*r));

    *r = (struct rendering){.hook = hook, .template = template, .doc = *doc, .done = done, .waiting = 1};
    r->values = arena_array(arena, template->expr_count + 1, sizeof(*r->values));
    for (size_t i = 0; i < template->expr_count; i++)
        evaluate(r, i);
    if (--r->waiting == 0)
        finish(r);
}
