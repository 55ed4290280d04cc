/* The stages that look at a request: address, size, signature. */
#include "common/base/ensure.h"
#include "common/base/log.h"
#include "gateway/hooks/hook.h"

#include "common/base/banned.h"

bool hook_passes(struct hook *hook, enum hook_stage stage, const char *reason)
{
    ENSURE(hook->trigger->webhook.modes[stage] != HOOK_OFF);
    if (hook->trigger->webhook.modes[stage] != HOOK_AUDIT)
        return false;
    metric_add(METRIC_HOOKS_AUDITED, 1);
    buf_printf(&hook->audit, "%s%s:%s", hook->audit.len > 0 ? " " : "", HOOK_STAGE_NAMES[stage], reason);
    return true;
}

/* --- address */

/* Behind n proxies of ours the n-th entry from the right is what the outermost of them saw. */
static struct str forwarded_for(const struct http_request *http, int64_t depth)
{
    size_t count;
    const struct http_header *headers = http_headers(http, &count);
    struct str last = STR_NONE;

    for (size_t i = count; i > 0 && depth > 0; i--) {
        struct str rest = headers[i - 1].value;

        if (!str_is(headers[i - 1].name, "x-forwarded-for"))
            continue;
        while (rest.len > 0 && depth > 0) {
            size_t begin = rest.len;

            while (begin > 0 && rest.ptr[begin - 1] != ',')
                begin--;
            last = str_trim((struct str){rest.ptr + begin, rest.len - begin});
            rest.len = begin > 0 ? begin - 1 : 0;
            depth--;
        }
    }
    return last;
}

static bool is_among(const struct cidr *networks, size_t count, const uint8_t address[16])
{
    for (size_t i = 0; i < count; i++)
        if (cidr_holds(&networks[i], address))
            return true;
    return false;
}

bool hook_check_address(struct hook *hook)
{
    const struct plan_webhook *webhook = &hook->trigger->webhook;
    struct str told = forwarded_for(hook->call->http, hook->call->gw->config.trusted_proxies);
    bool known = address_parse(told.ptr == NULL ? http_peer(hook->call->http) : told, hook->address);
    const char *reason = NULL;

    if (!known)
        memset(hook->address, 0, sizeof(hook->address));
    if (webhook->modes[HOOK_ADDRESS] == HOOK_OFF || webhook->allow_count + webhook->deny_count == 0)
        return true;
    if (!known)
        reason = "address_unknown";
    else if (is_among(webhook->deny, webhook->deny_count, hook->address))
        reason = "address_denied";
    else if (webhook->allow_count > 0 && !is_among(webhook->allow, webhook->allow_count, hook->address))
        reason = "address_not_allowed";
    if (reason == NULL || hook_passes(hook, HOOK_ADDRESS, reason))
        return true;
    hook_refuse(hook, "address", reason, 403, "address_refused", "not from this address");
    return false;
}

/* --- size: what is too large is not read to its end */

static void on_body(void *ctx, bool whole)
{
    struct hook *hook = ctx;
    int64_t own = hook->trigger->webhook.max_body_bytes;

    if (!whole) {
        hook_refuse(hook, "size", "too_large", 413, "too_large", "the body is too large for this webhook");
        return;
    }
    hook->raw = http_body(hook->call->http);
    hook->has_body = true;
    if (own > 0 && (int64_t)hook->raw.len > own && hook->trigger->webhook.modes[HOOK_SIZE] == HOOK_AUDIT)
        (void)hook_passes(hook, HOOK_SIZE, "too_large");
    hook->sized(hook);
}

void hook_check_size(struct hook *hook, void (*done)(struct hook *hook))
{
    int64_t most = hook->call->caller.limits.of[LIMIT_BODY_BYTES], own = hook->trigger->webhook.max_body_bytes;

    if (own > 0 && own < most && hook->trigger->webhook.modes[HOOK_SIZE] == HOOK_ENFORCE)
        most = own;
    hook->sized = done;
    http_read_body(hook->call->http, (size_t)most, on_body, hook);
}

/* --- signature */

static struct str header_of(void *ctx, const char *name)
{
    return http_header_get(ctx, name);
}

/* The URL as it is configured there, with the query that it was called with. */
static struct str url_of(const struct hook *hook)
{
    struct str url = hook->trigger->webhook.url, query = http_query(hook->call->http);

    if (query.len == 0 || url.ptr == NULL || memchr(url.ptr, '?', url.len) != NULL)
        return url;
    return str_of(arena_printf(hook->call->arena, STR_FMT "?" STR_FMT, STR_ARG(url), STR_ARG(query)));
}

static void tell_old_secret(const struct hook *hook)
{
    if (hook->verdict.secret == 0)
        return;
    metric_add(METRIC_HOOKS_OLD_SECRET, 1);
    log_event(LOG_WARN, "hook.old_secret", log_cstr("organisation", hook->call->caller.organisation_name),
              log_str("workflow", hook->start.workflow), log_str("trigger", hook->trigger->name));
}

bool hook_check_signature(struct hook *hook)
{
    const struct plan_webhook *webhook = &hook->trigger->webhook;
    struct arena *arena = hook->call->arena;
    struct str secrets[WEBHOOK_SECRETS_MAX];
    struct hook_message message = {http_method(hook->call->http), url_of(hook), hook->raw, header_of, hook->call->http};

    hook->genuine = webhook->scheme.ptr == NULL || webhook->modes[HOOK_SIGNATURE] == HOOK_OFF;
    if (hook->genuine)
        return true;
    struct hook_scheme scheme = plan_webhook_scheme(webhook, arena);

    for (size_t i = 0; i < webhook->secret_count; i++)
        secrets[i] = webhook->secrets[i].named ? buf_str(&hook->secrets[i]) : webhook->secrets[i].text;
    hook_scheme_check(&scheme, &message, secrets, webhook->secret_count, hook->at, webhook->window_us, arena,
                      &hook->verdict);
    hook->genuine = hook->verdict.refused == NULL;
    if (hook->genuine) {
        tell_old_secret(hook);
        return true;
    }
    if (hook->secret_fault != NULL)
        hook->verdict.refused = hook->secret_fault;
    if (hook_passes(hook, HOOK_SIGNATURE, hook->verdict.refused))
        return true;
    if (hook->secret_fault != NULL) {
        /* whoever signed it, it cannot be known now: a sender that tries again shall not be turned away for good */
        hook_refuse(hook, "signature", hook->secret_fault, 503, "unavailable", "signatures cannot be checked just now");
        return false;
    }
    hook_refuse(hook, "signature", hook->verdict.refused, 401, "unauthorized", "the signature is missing or not valid");
    return false;
}
