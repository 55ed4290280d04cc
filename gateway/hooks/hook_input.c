/* A run's input out of a delivery: its body, or what the trigger's `input` makes of it. */
#include "gateway/hooks/hook.h"

#include "common/base/banned.h"

void hook_fill(struct hook *hook, const struct template *template, const struct expr_doc *doc, fill_fn done)
{
    struct call *call = hook->call;

    template_fill(call->gw->sandbox, hook->start.organisation, template, doc,
                  (size_t)call->caller.limits.of[LIMIT_BODY_BYTES], call->arena, done, hook);
}

static void on_filled(void *ctx, enum fill_status status, struct str value, const char *message)
{
    struct hook *hook = ctx;

    switch (status) {
    case FILL_OK:
        hook->start.input = value;
        hook->with_input(hook);
        break;
    case FILL_FAILED:
        hook_refuse(
            hook, "start", "expression_failed", 422, "expression_failed",
            arena_printf(hook->call->arena, "the trigger's input cannot be made of this delivery: %s", message));
        break;
    case FILL_UNAVAILABLE:
        hook_refuse(hook, "start", "unavailable", 503, "unavailable", message);
        break;
    }
}

void hook_make_input(struct hook *hook, void (*done)(struct hook *hook))
{
    struct expr_doc doc = {.index = -1};

    if (!hook->trigger->has_input) {
        hook->start.input = hook->body;
        done(hook);
        return;
    }
    hook->with_input = done;
    doc.trigger = hook_trigger_json(hook);
    hook_fill(hook, &hook->trigger->input, &doc, on_filled);
}
