/* A run's input out of a delivery: its body, or what the trigger's `input` makes of it. */
#include "gateway/hooks/hook.h"

#include "common/base/banned.h"

static void on_rendered(struct hook *hook, enum hook_rendered rendered, struct str text)
{
    switch (rendered) {
    case HOOK_RENDERED:
        hook->start.input = text;
        hook->with_input(hook);
        break;
    case HOOK_RENDER_FAILED:
        hook_refuse(hook, "start", "expression_failed", 422, "expression_failed",
                    arena_printf(hook->call->arena, "the trigger's input cannot be made of this delivery: " STR_FMT,
                                 STR_ARG(text)));
        break;
    case HOOK_RENDER_UNAVAILABLE:
        hook_refuse(hook, "start", "unavailable", 503, "unavailable", "expressions cannot be evaluated just now");
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
    hook_render(hook, &hook->trigger->input, &doc, on_rendered);
}
