/* What came, as JSON: bodies by their type, headers without what nobody may keep. */
#include "common/webhook/form.h"
#include "common/webhook/multipart.h"
#include "gateway/hooks/hook.h"

#include "common/base/banned.h"

#define REQUEST_MAX ((size_t)4 << 20)

static const char *const hidden_always[] = {"authorization", "cookie",       "set-cookie",
                                            "x-api-key",     "x-auth-token", "proxy-authorization"};

/* --- bodies */

static bool refuse_body(struct hook *hook, int status, const char *code, const char *detail)
{
    hook_refuse(hook, "body", code, status, code, detail);
    return false;
}

static bool read_json(struct hook *hook)
{
    struct jt_limits limits = JT_LIMITS_API;
    struct err err = {0};

    limits.max_bytes = hook->raw.len;
    limits.max_depth = (unsigned)hook->call->caller.limits.of[LIMIT_JSON_DEPTH];
    switch (jt_check(hook->raw, &limits, &err)) {
    case ERR_OK:
        hook->body = hook->raw;
        return true;
    case ERR_TOO_LARGE:
        return refuse_body(hook, 413, "too_large", err.message);
    default:
        return refuse_body(hook, 400, str_starts(str_of(err.message), "duplicate key") ? "duplicate_key" : "not_json",
                           err.message);
    }
}

static bool read_text(struct hook *hook)
{
    CLEANUP(buf_deinit) struct buf out = {0};

    for (size_t i = 0, n; i < hook->raw.len; i += n) {
        n = utf8_len_at(hook->raw.ptr + i, hook->raw.len - i);
        if (n == 0 || hook->raw.ptr[i] == '\0')
            return refuse_body(hook, 400, "not_text", "the body is not UTF-8, or has a NUL in it");
    }
    buf_init(&out, hook->raw.len * 6 + 16);
    json_quote(&out, hook->raw);
    hook->body = str_arena(hook->call->arena, buf_str(&out));
    return true;
}

static bool read_form(struct hook *hook)
{
    CLEANUP(buf_deinit) struct buf out = {0};
    struct jw w;

    buf_init(&out, hook->raw.len * 6 + 4096);
    w = jw_to(&out);
    if (!form_to_json(hook->raw, hook->call->arena, &w))
        return refuse_body(hook, 400, "not_a_form", "the body is not percent-encoded UTF-8, or has over 1,000 fields");
    hook->body = str_arena(hook->call->arena, buf_str(&out));
    return true;
}

static bool read_multipart(struct hook *hook, struct str type)
{
    CLEANUP(buf_deinit) struct buf out = {0};
    const char *fault = NULL;
    struct jw w;

    buf_init(&out, hook->raw.len * 6 + 4096);
    w = jw_to(&out);
    switch (multipart_to_json(type, hook->raw, hook->call->arena, &w, &fault)) {
    case MULTIPART_MALFORMED:
        return refuse_body(hook, 400, "not_a_form", fault);
    case MULTIPART_TOO_LARGE:
        return refuse_body(hook, 413, "form_too_large", fault);
    case MULTIPART_READ:
        break;
    }
    hook->body = str_arena(hook->call->arena, buf_str(&out));
    return true;
}

static bool is_json_type(struct str type)
{
    struct str name = str_trim(str_cut(&type, ';'));

    return form_type_is(name, "application/json") ||
           (name.len > 5 && form_type_is((struct str){name.ptr + name.len - 5, 5}, "+json"));
}

bool hook_read_body(struct hook *hook, struct str type)
{
    if (hook->raw.len == 0) {
        hook->body = STR("null");
        return true;
    }
    if (type.ptr == NULL || is_json_type(type))
        return read_json(hook);
    if (form_type_is(type, "application/x-www-form-urlencoded"))
        return read_form(hook);
    if (form_type_is(type, "multipart/form-data"))
        return read_multipart(hook, type);
    if (type.len > 5 && form_type_is((struct str){type.ptr, 5}, "text/"))
        return read_text(hook);
    return refuse_body(hook, 415, "unsupported_media_type",
                       "a webhook's body is JSON (application/json, application/...+json), a form "
                       "(application/x-www-form-urlencoded, multipart/form-data) or text (text/...)");
}

/* --- headers and query */

static bool is_hidden(const struct plan_webhook *webhook, struct str name)
{
    const struct hook_scheme *scheme = hook_scheme_find(webhook->scheme);

    for (size_t i = 0; i < sizeof(hidden_always) / sizeof(hidden_always[0]); i++)
        if (str_is(name, hidden_always[i]))
            return true;
    for (size_t i = 0; i < webhook->hidden_count; i++)
        if (str_eq(name, webhook->hidden[i]))
            return true;
    return (scheme != NULL && str_is(name, scheme->header)) || str_eq(name, webhook->header);
}

/* Values of one name are one, in order, with commas (RFC 9110, 5.3). */
static void put_header(struct jw *w, const struct http_header *headers, size_t count, size_t at)
{
    CLEANUP(buf_deinit) struct buf value = {0};

    for (size_t i = 0; i < at; i++)
        if (str_eq(headers[i].name, headers[at].name))
            return;
    buf_init(&value, REQUEST_MAX);
    for (size_t i = at; i < count; i++) {
        if (!str_eq(headers[i].name, headers[at].name))
            continue;
        if (i > at)
            buf_append_str(&value, STR(", "));
        buf_append_str(&value, headers[i].value);
    }
    jw_key_str(w, headers[at].name);
    jw_str(w, buf_str(&value));
}

static void put_request(struct hook *hook, struct jw *w)
{
    size_t count;
    const struct http_header *headers = http_headers(hook->call->http, &count);

    jw_key(w, "headers");
    jw_obj(w);
    for (size_t i = 0; i < count; i++)
        if (!is_hidden(&hook->trigger->webhook, headers[i].name))
            put_header(w, headers, count, i);
    jw_end_obj(w);
    jw_key(w, "query");
    jw_obj(w);
    for (size_t i = 0; i < hook->call->query_count; i++) {
        if (str_is(hook->call->query[i].name, "hub.verify_token"))
            continue; /* a secret */
        jw_key_str(w, hook->call->query[i].name);
        jw_str(w, hook->call->query[i].value);
    }
    jw_end_obj(w);
}

void hook_write_request(struct hook *hook)
{
    CLEANUP(buf_deinit) struct buf out = {0};
    struct jw w;

    buf_init(&out, REQUEST_MAX);
    w = jw_to(&out);
    jw_obj(&w);
    put_request(hook, &w);
    jw_end_obj(&w);
    hook->request = str_arena(hook->call->arena, buf_str(&out));
}

struct str hook_trigger_json(struct hook *hook)
{
    CLEANUP(buf_deinit) struct buf out = {0};
    struct jw w;

    buf_init(&out, REQUEST_MAX + hook->body.len);
    w = jw_to(&out);
    jw_obj(&w);
    jw_kstr(&w, "name", hook->trigger->name);
    jw_kcstr(&w, "kind", "webhook");
    jw_key(&w, "received_at");
    char at[WALL_TEXT_SIZE];

    wall_format(hook->received_at, at);
    jw_cstr(&w, at);
    jw_kraw(&w, "headers", jt_get(hook->request, "headers"));
    jw_kraw(&w, "query", jt_get(hook->request, "query"));
    jw_kraw(&w, "body", hook->body);
    jw_end_obj(&w);
    return str_arena(hook->call->arena, buf_str(&out));
}
