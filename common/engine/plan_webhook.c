/* `webhook` of a trigger: signature, addresses, bounds, and how strict each stage is. The scheme's names are the
 * schema's. */
#include "common/base/banned.h"
#include "common/base/clock.h"
#include "common/base/ensure.h"
#include "common/engine/plan_internal.h"

#define BYTES_MAX ((int64_t)32 << 20)

const char *const HOOK_STAGE_NAMES[HOOK_STAGES] = {"address", "size",       "signature",
                                                   "replay",  "rate_limit", "idempotency"};

static bool is_among(struct str name, const char *const *names)
{
    for (; *names != NULL; names++)
        if (str_is(name, *names))
            return true;
    return false;
}

static struct str string_of(struct compile *c, struct str object, const char *field)
{
    struct str text;

    return jt_string(jt_get(object, field), c->plan->arena, &text) ? text : STR_NONE;
}

static struct str lower(struct compile *c, struct str text)
{
    char *copy;

    if (text.ptr == NULL)
        return text;
    copy = arena_dup(c->plan->arena, text.ptr, text.len);
    for (size_t i = 0; i < text.len; i++)
        if (copy[i] >= 'A' && copy[i] <= 'Z')
            copy[i] = (char)(copy[i] + 'a' - 'A');
    return (struct str){copy, text.len};
}

/* "${ .secrets.NAME }" as a whole. */
static bool secret_name(struct str text, struct str *ret)
{
    static const char begin[] = ".secrets.";

    text = str_trim(text);
    if (!str_starts(text, "${") || text.ptr[text.len - 1] != '}')
        return false;
    text = str_trim((struct str){text.ptr + 2, text.len - 3});
    if (!str_starts(text, begin))
        return false;
    *ret = (struct str){text.ptr + sizeof(begin) - 1, text.len - (sizeof(begin) - 1)};
    return expr_secret_name_is_valid(*ret);
}

static void read_secret(struct compile *c, struct plan_webhook *hook, struct str text, const char *pointer, size_t i)
{
    struct plan_secret *secret = &hook->secrets[hook->secret_count++];
    const char *place = plan_text(c, "%s/signature/secrets/%zu", pointer, i);

    secret->text = text;
    if (!str_starts(str_trim(text), "${")) {
        plan_warning_of(c, "secret_in_document", "keep it as a secret and write \"${ .secrets.NAME }\"",
                        "whoever may read the workflow reads this secret", "%s", place);
        return;
    }
    secret->named = secret_name(text, &secret->text);
    if (!secret->named)
        plan_fault(c, "bad_expression", "write \"${ .secrets.NAME }\"", "is not a secret as a whole", "%s", place);
}

static void read_secrets(struct compile *c, struct plan_webhook *hook, struct str secrets, const char *pointer)
{
    struct jt_iter it;
    struct str text;

    jt_iter_init(&it, secrets);
    while (jt_next(&it) && hook->secret_count < WEBHOOK_SECRETS_MAX)
        if (jt_string(it.value, c->plan->arena, &text))
            read_secret(c, hook, text, pointer, it.index);
}

/* Fields that only a signature of one's own making has. */
static void read_generic(struct compile *c, struct plan_webhook *hook, struct str signature, const char *pointer)
{
    static const char *const fields[] = {"header", "algorithm",        "encoding", "prefix",
                                         "signed", "timestamp_header", "id_header"};
    bool generic = str_is(hook->scheme, "generic");

    for (size_t i = 0; !generic && i < sizeof(fields) / sizeof(fields[0]); i++)
        if (jt_get(signature, fields[i]).ptr != NULL)
            plan_fault(c, "unknown_field", "the scheme says it; with the scheme generic it can be said here",
                       "is not of this scheme", "%s/signature/%s", pointer, fields[i]);
    if (!generic)
        return;
    hook->header = lower(c, string_of(c, signature, "header"));
    hook->algorithm = string_of(c, signature, "algorithm");
    hook->encoding = string_of(c, signature, "encoding");
    hook->prefix = string_of(c, signature, "prefix");
    hook->signed_text = string_of(c, signature, "signed");
    hook->timestamp_header = lower(c, string_of(c, signature, "timestamp_header"));
    hook->id_header = lower(c, string_of(c, signature, "id_header"));
    if (hook->header.ptr == NULL)
        plan_fault(c, "missing_field", NULL, "a signature of one's own making says in which header it comes",
                   "%s/signature/header", pointer);
}

/* Does "{name}" stand in the text? */
static bool has_part(struct compile *c, struct str text, const char *name)
{
    return strstr(plan_text(c, STR_FMT, STR_ARG(text)), plan_text(c, "{%s}", name)) != NULL;
}

/* What is signed covers the body, and a time or an id counts only when it is signed. */
static void check_signed(struct compile *c, const struct plan_webhook *hook, const char *pointer)
{
    struct str text = hook->signed_text.ptr == NULL ? STR("{body}") : hook->signed_text, rest = text;
    static const char *const parts[] = {"timestamp", "id", "body", "url", "method", NULL};

    if (!has_part(c, text, "body"))
        plan_fault(c, "missing_field", "{timestamp}.{body}, say", "what is signed must have {body} in it",
                   "%s/signature/signed", pointer);
    if ((hook->timestamp_header.ptr != NULL) != has_part(c, text, "timestamp"))
        plan_fault(c, "missing_field", NULL, "timestamp_header and {timestamp} in signed belong together",
                   "%s/signature/signed", pointer);
    if ((hook->id_header.ptr != NULL) != has_part(c, text, "id"))
        plan_fault(c, "missing_field", NULL, "id_header and {id} in signed belong together", "%s/signature/signed",
                   pointer);
    (void)str_cut(&rest, '{');
    while (rest.ptr != NULL) {
        if (!is_among(str_cut(&rest, '}'), parts))
            plan_fault(c, "out_of_range", "{timestamp}, {id}, {body}, {url} and {method}", "there is no such part",
                       "%s/signature/signed", pointer);
        if (rest.ptr != NULL)
            (void)str_cut(&rest, '{');
    }
}

static void read_signature(struct compile *c, struct plan_webhook *hook, struct str signature, const char *pointer)
{
    static const char *const with_url[] = {"twilio", "square", "hubspot", NULL};
    bool needs_url;

    hook->scheme = string_of(c, signature, "scheme");
    hook->url = string_of(c, signature, "url");
    read_secrets(c, hook, jt_get(signature, "secrets"), pointer);
    read_generic(c, hook, signature, pointer);
    if (str_is(hook->scheme, "generic"))
        check_signed(c, hook, pointer);
    needs_url =
        is_among(hook->scheme, with_url) || (hook->signed_text.ptr != NULL && has_part(c, hook->signed_text, "url"));
    if (needs_url && hook->url.ptr == NULL)
        plan_fault(c, "missing_field", "as it is configured there, to the letter",
                   "this scheme signs the URL that is called: it has to be known", "%s/signature/url", pointer);
    if (!needs_url && hook->url.ptr != NULL)
        plan_fault(c, "unknown_field", NULL, "this scheme does not sign a URL", "%s/signature/url", pointer);
}

static struct cidr *read_networks(struct compile *c, struct str list, const char *field, const char *pointer,
                                  size_t *ret_count)
{
    struct cidr *networks = arena_array(c->plan->arena, jt_count(list) + 1, sizeof(*networks));
    struct jt_iter it;
    struct str text;

    jt_iter_init(&it, list);
    while (jt_next(&it)) {
        if (!jt_string(it.value, c->plan->arena, &text))
            continue;
        if (cidr_parse(text, &networks[*ret_count]))
            (*ret_count)++;
        else
            plan_fault(c, "out_of_range", "192.0.2.0/24 or 2001:db8::/32, with nothing behind the prefix",
                       "is no network", "%s/%s/%zu", pointer, field, it.index);
    }
    return networks;
}

static void read_modes(struct compile *c, struct plan_webhook *hook, struct str modes)
{
    for (int i = 0; i < HOOK_STAGES; i++) {
        struct str mode = jt_get(modes, HOOK_STAGE_NAMES[i]);

        if (plan_string_is(c, mode, "off"))
            hook->modes[i] = HOOK_OFF;
        else if (plan_string_is(c, mode, "audit"))
            hook->modes[i] = HOOK_AUDIT;
    }
}

static void read_hidden(struct compile *c, struct plan_webhook *hook, struct str list)
{
    struct jt_iter it;
    struct str text;

    hook->hidden = arena_array(c->plan->arena, jt_count(list) + 1, sizeof(*hook->hidden));
    jt_iter_init(&it, list);
    while (jt_next(&it))
        if (jt_string(it.value, c->plan->arena, &text))
            hook->hidden[hook->hidden_count++] = lower(c, text);
}

/* A name that HTTP allows, and that is not the server's own business. */
static bool may_answer(struct str name)
{
    static const char *const ours[] = {"connection", "content-length",    "date",    "keep-alive", "server",
                                       "trailer",    "transfer-encoding", "upgrade", NULL};

    for (size_t i = 0; i < name.len; i++)
        if (!((name.ptr[i] >= 'a' && name.ptr[i] <= 'z') || (name.ptr[i] >= '0' && name.ptr[i] <= '9') ||
              name.ptr[i] == '-' || name.ptr[i] == '_'))
            return false;
    return name.len > 0 && name.len <= 100 && !is_among(name, ours);
}

static void read_answer_headers(struct compile *c, struct plan_respond *respond, struct str object, const char *pointer)
{
    struct jt_iter it;

    respond->headers = arena_array(c->plan->arena, jt_count(object) + 1, sizeof(*respond->headers));
    jt_iter_init(&it, object);
    while (jt_next(&it)) {
        struct plan_header *header = &respond->headers[respond->header_count];
        CLEANUP(buf_deinit) struct buf key = {0};

        header->name = str_arena(c->plan->arena, jt_key(&it, c->plan->arena));
        buf_init(&key, header->name.len * 2 + 16);
        jt_pointer_add(&key, header->name);
        header->name = lower(c, header->name);
        if (!may_answer(header->name))
            plan_fault(c, "out_of_range", "letters, digits, - and _; the server sets those of the connection itself",
                       "cannot be a header of an answer", "%s/respond/headers%s", pointer, key.ptr);
        else if (jt_string(it.value, c->plan->arena, &header->value))
            respond->header_count++;
    }
}

static void check_body(struct compile *c, const struct template *body, const char *pointer)
{
    for (size_t i = 0; i < body->expr_count; i++) {
        const struct expr *expr = &body->exprs[i];

        if (expr->step_count > 0 || expr->all_steps || expr->uses_item)
            plan_fault(c, "not_upstream", "give it in the workflow's output",
                       "an answer reads .output, .run, .input, .trigger", "%s/respond/body" STR_FMT, pointer,
                       STR_ARG(expr->pointer));
    }
}

static void read_respond(struct compile *c, struct plan_respond *respond, struct str object, const char *pointer)
{
    const char *place = plan_text(c, "%s/respond", pointer);
    struct str body = jt_get(object, "body");

    if (jt_type(object) != JT_OBJECT)
        return;
    respond->status = 200;
    respond->wait_us = plan_duration(c, object, "wait", place, 0);
    (void)jt_i64(jt_get(object, "status"), &respond->status);
    if (respond->wait_us <= 0 || respond->wait_us > WEBHOOK_WAIT_MAX_US)
        plan_fault(c, "out_of_range", "10s, say", "an answer waits for 60s at most", "%s/wait", place);
    read_answer_headers(c, respond, jt_get(object, "headers"), pointer);
    respond->has_body =
        body.ptr != NULL && plan_template(c, body, plan_text(c, "%s/body", place), NULL, &respond->body);
    if (respond->has_body)
        check_body(c, &respond->body, pointer);
}

static void read_verify_token(struct compile *c, struct plan_webhook *hook, struct str object, const char *pointer)
{
    struct plan_secret *token = &hook->verify_token;

    token->text = string_of(c, object, "verify_token");
    token->named = token->text.ptr != NULL && str_starts(str_trim(token->text), "${");
    if (token->named && !secret_name(token->text, &token->text))
        plan_fault(c, "bad_expression", "write \"${ .secrets.NAME }\"", "is not a secret as a whole", "%s/verify_token",
                   pointer);
}

void plan_webhook(struct compile *c, struct plan_webhook *hook, struct str object, const char *pointer)
{
    struct str signature = jt_get(object, "signature"), limit = jt_get(object, "rate_limit");

    hook->window_us =
        plan_duration(c, jt_get(object, "replay"), "window", plan_text(c, "%s/replay", pointer), WEBHOOK_WINDOW_US);
    hook->rate_per_us = plan_duration(c, limit, "per", plan_text(c, "%s/rate_limit", pointer), US_PER_S);
    (void)jt_i64(jt_get(limit, "limit"), &hook->rate_limit);
    (void)jt_i64(jt_get(object, "max_body_bytes"), &hook->max_body_bytes);
    hook->allow = read_networks(c, jt_get(object, "allow"), "allow", pointer, &hook->allow_count);
    hook->deny = read_networks(c, jt_get(object, "deny"), "deny", pointer, &hook->deny_count);
    read_hidden(c, hook, jt_get(object, "hide_headers"));
    read_modes(c, hook, jt_get(object, "modes"));
    read_respond(c, &hook->respond, jt_get(object, "respond"), pointer);
    read_verify_token(c, hook, object, pointer);
    if (jt_type(signature) == JT_OBJECT)
        read_signature(c, hook, signature, pointer);
    if (hook->scheme.ptr == NULL || hook->modes[HOOK_SIGNATURE] != HOOK_ENFORCE)
        plan_warning_of(c, "unsigned_webhook", "give it a signature, or an allow list of addresses",
                        "whoever knows the URL can start runs", "%s", pointer);
}

static const char *or_text(struct arena *arena, struct str s, const char *fallback)
{
    return s.ptr == NULL ? fallback : arena_printf(arena, STR_FMT, STR_ARG(s));
}

struct hook_scheme plan_webhook_scheme(const struct plan_webhook *webhook, struct arena *arena)
{
    const struct hook_scheme *row = hook_scheme_find(webhook->scheme);
    struct hook_scheme scheme;

    ENSURE(row != NULL); /* the schema lists them */
    scheme = *row;
    scheme.header = or_text(arena, webhook->header, scheme.header);
    scheme.prefix = or_text(arena, webhook->prefix, scheme.prefix);
    scheme.signed_text = or_text(arena, webhook->signed_text, scheme.signed_text);
    scheme.time_at = or_text(arena, webhook->timestamp_header, scheme.time_at);
    scheme.id_at = or_text(arena, webhook->id_header, scheme.id_at);
    if (str_is(webhook->algorithm, "sha1"))
        scheme.digest = DIGEST_SHA1;
    else if (str_is(webhook->algorithm, "sha384"))
        scheme.digest = DIGEST_SHA384;
    else if (str_is(webhook->algorithm, "sha512"))
        scheme.digest = DIGEST_SHA512;
    if (str_is(webhook->encoding, "base64"))
        scheme.encoding = ENCODING_BASE64;
    else if (str_is(webhook->encoding, "base64url"))
        scheme.encoding = ENCODING_BASE64URL;
    return scheme;
}

void plan_secret_pointer(const struct plan_trigger *trigger, size_t n, struct buf *ret)
{
    buf_reset(ret);
    buf_append_str(ret, STR("/triggers"));
    jt_pointer_add(ret, trigger->name);
    buf_printf(ret, "/webhook/signature/secrets/%zu", n);
}
