/* Vendors that ask first whether the URL is ours: Slack and Zoom in a signed POST, Dropbox and WebSub (Meta) in a GET.
 * No run starts. */
#include "gateway/hooks/hook.h"
#include "gateway/route.h"
#include "gateway/secrets.h"

#include "common/base/banned.h"

#define CHALLENGE_MAX 1024

static struct str member(const struct hook *hook, struct str object, const char *name)
{
    struct str text;

    return jt_string(jt_get(object, name), hook->call->arena, &text) && text.len <= CHALLENGE_MAX ? text : STR_NONE;
}

static bool is_scheme(const struct hook *hook, const char *name)
{
    return hook->trigger->webhook.scheme.ptr != NULL && str_is(hook->trigger->webhook.scheme, name);
}

static void answer(struct hook *hook, const char *type, struct str body)
{
    const struct http_header nosniff = {STR("x-content-type-options"), STR("nosniff")};

    metric_add(METRIC_HOOKS_CHALLENGES, 1);
    hook_log(hook, 200, "start", "challenge", NULL);
    http_respond(hook->call->http, 200, type, &nosniff, 1, body);
}

static struct str secret_in_use(const struct hook *hook)
{
    const struct plan_webhook *webhook = &hook->trigger->webhook;
    size_t i = (size_t)hook->verdict.secret;

    return webhook->secrets[i].named ? buf_str(&hook->secrets[i]) : webhook->secrets[i].text;
}

static void answer_zoom(struct hook *hook, struct str token)
{
    CLEANUP(buf_deinit) struct buf out = {0};
    uint8_t mac[DIGEST_BYTES_MAX];
    char hex[2 * DIGEST_BYTES_MAX + 1];
    struct jw w;
    size_t len;

    digest_hmac(DIGEST_SHA256, secret_in_use(hook), token, mac, &len);
    hex_encode(mac, len, hex);
    buf_init(&out, (size_t)8 * CHALLENGE_MAX);
    w = jw_to(&out);
    jw_obj(&w);
    jw_kstr(&w, "plainToken", token);
    jw_kcstr(&w, "encryptedToken", hex);
    jw_end_obj(&w);
    answer(hook, "application/json", buf_str(&out));
}

bool hook_is_challenge(struct hook *hook)
{
    struct str token;

    if (!hook->genuine || jt_type(hook->body) != JT_OBJECT)
        return false;
    if (is_scheme(hook, "slack") && str_is(member(hook, hook->body, "type"), "url_verification")) {
        token = member(hook, hook->body, "challenge");
        if (token.ptr != NULL)
            answer(hook, "text/plain; charset=utf-8", token);
        return token.ptr != NULL;
    }
    if (is_scheme(hook, "zoom") && str_is(member(hook, hook->body, "event"), "endpoint.url_validation")) {
        token = member(hook, jt_get(hook->body, "payload"), "plainToken");
        if (token.ptr != NULL)
            answer_zoom(hook, token);
        return token.ptr != NULL;
    }
    return false;
}

/* ---- GET ---- */

static void refuse(struct hook *hook, const char *reason)
{
    hook_refuse(hook, "signature", reason, 401, "unauthorized", "this is no challenge that is answered here");
}

static void answer_hub(struct hook *hook, struct str token)
{
    struct str given = call_query(hook->call, "hub.verify_token"), challenge = call_query(hook->call, "hub.challenge");

    if (given.ptr == NULL || token.len == 0 || !digest_equal(given, token))
        refuse(hook, "verify_token_differs");
    else
        answer(hook, "text/plain; charset=utf-8", challenge);
}

static void on_token(void *ctx, enum err_code rc, struct str value, const struct err *err)
{
    struct hook *hook = ctx;

    (void)err;
    if (rc == ERR_OK)
        answer_hub(hook, value);
    else
        hook_refuse(hook, "signature", rc == ERR_NOT_FOUND ? "secret_missing" : "secret_unavailable", 503,
                    "unavailable", "this cannot be checked just now");
}

void hook_get_challenge(struct hook *hook)
{
    const struct plan_secret *token = &hook->trigger->webhook.verify_token;
    struct call *call = hook->call;
    struct str hub = call_query(call, "hub.challenge"), plain = call_query(call, "challenge");

    if (!hook_check_address(hook))
        return;
    if (is_scheme(hook, "dropbox") && plain.ptr != NULL && plain.len <= CHALLENGE_MAX) {
        answer(hook, "text/plain; charset=utf-8", plain);
    } else if (hub.ptr == NULL || hub.len > CHALLENGE_MAX || token->text.ptr == NULL) {
        refuse(hook, "no_challenge");
    } else if (token->named) {
        secret_open(call->gw->secrets, hook->start.organisation, str_of(call->caller.organisation_name), token->text,
                    on_token, hook);
    } else {
        answer_hub(hook, token->text);
    }
}
