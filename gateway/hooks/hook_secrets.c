/* The secrets of a signature that a document names: opened for each request (secret_open believes what it has read for
 * seconds), wiped with it. */
#include "gateway/hooks/hook.h"
#include "gateway/secrets.h"

#include "common/base/banned.h"

static void open_next(struct hook *hook);

static void wipe(void *secret)
{
    seal_wipe(secret);
}

/* A name that stands for nothing usable makes no signature good; the other secret may. */
static void on_opened(void *ctx, enum err_code rc, struct str value, const struct err *err)
{
    struct hook *hook = ctx;
    struct buf *secret = &hook->secrets[hook->opening];

    (void)err; /* secret_open.c has told what an operator should know */
    if (rc == ERR_OK && hook_scheme_secret_fault(hook_scheme_find(hook->trigger->webhook.scheme), value) != NULL) {
        hook->secret_fault = "secret_unfit";
    } else if (rc == ERR_OK) {
        seal_wipe(secret); /* of the look before */
        buf_init(secret, value.len + 1);
        arena_defer(hook->call->arena, wipe, secret);
        buf_append_str(secret, value);
    } else {
        hook->secret_fault = rc == ERR_NOT_FOUND ? "secret_missing" : "secret_unavailable";
    }
    hook->opening++;
    open_next(hook);
}

static void open_next(struct hook *hook)
{
    const struct plan_webhook *webhook = &hook->trigger->webhook;
    struct call *call = hook->call;

    while (hook->opening < webhook->secret_count && !webhook->secrets[hook->opening].named)
        hook->opening++;
    if (hook->opening == webhook->secret_count) {
        hook->opened(hook);
        return;
    }
    secret_open(call->gw->secrets, hook->start.organisation, str_of(call->caller.organisation_name),
                webhook->secrets[hook->opening].text, on_opened, hook);
}

void hook_open_secrets(struct hook *hook, void (*done)(struct hook *hook))
{
    hook->opened = done;
    hook->opening = hook->trigger->webhook.modes[HOOK_SIGNATURE] == HOOK_OFF ? hook->trigger->webhook.secret_count : 0;
    open_next(hook);
}
