/* Reading `with` of an http step; see http_request.h. libcurl sends methods, URLs and header lines as they are given,
 * so whatever could end a line or change the framing is refused here. */
#include "worker/http_request.h"
#include <strings.h>

#include "common/base/banned.h"

#define URL_MAX ((size_t)16384)
#define METHOD_MAX 32
#define FIELDS_MAX 200
#define FIELD_VALUE_MAX ((size_t)32768)
#define BODY_MAX ((size_t)32 << 20)
#define RESPONSE_DEFAULT ((int64_t)1 << 20)
#define RESPONSE_MAX ((int64_t)32 << 20)
#define REDIRECTS_DEFAULT 5
#define REDIRECTS_MAX 20

static bool is_token_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool is_token(struct str s, size_t max)
{
    if (s.len == 0 || s.len > max)
        return false;
    for (size_t i = 0; i < s.len; i++)
        if (!is_token_char(s.ptr[i]))
            return false;
    return true;
}

static bool is_name(struct str s, const char *name)
{
    return s.len == strlen(name) && strncasecmp(s.ptr, name, s.len) == 0;
}

static bool begins_with(struct str s, const char *prefix)
{
    return s.len >= strlen(prefix) && strncasecmp(s.ptr, prefix, strlen(prefix)) == 0;
}

/* Framing, connection handling and our own fields are not for a step to set. */
static bool is_reserved(struct str name)
{
    static const char *const names[] = {"host", "content-length", "transfer-encoding", "connection", "upgrade",
                                        "te",   "trailer",        "keep-alive",        "expect",     "accept-encoding"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (is_name(name, names[i]))
            return true;
    return begins_with(name, "proxy-") || begins_with(name, "ropewalk-");
}

bool http_field_is_portable(struct str name)
{
    return is_name(name, "accept") || is_name(name, "accept-language") || is_name(name, "user-agent") ||
           is_name(name, "content-type");
}

static bool is_header_value(struct str s)
{
    if (s.len > FIELD_VALUE_MAX)
        return false;
    for (size_t i = 0; i < s.len; i++)
        if (((unsigned char)s.ptr[i] < 0x20 && s.ptr[i] != '\t') || s.ptr[i] == 0x7f)
            return false;
    return true;
}

static void append_encoded(struct buf *buf, struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];

        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
            (c != '\0' && strchr("-._~", c) != NULL))
            buf_append_char(buf, c);
        else
            buf_printf(buf, "%%%02X", (unsigned)(unsigned char)c);
    }
}

/* A string, number or boolean as text; false for anything else. */
static bool scalar_text(struct str value, struct arena *arena, struct str *ret)
{
    switch (jt_type(value)) {
    case JT_STRING:
        return jt_string(value, arena, ret);
    case JT_NUMBER:
    case JT_TRUE:
    case JT_FALSE:
        *ret = value;
        return true;
    case JT_NONE:
    case JT_NULL:
    case JT_ARRAY:
    case JT_OBJECT:
        break;
    }
    return false;
}

static enum err_code append_pair(struct buf *url, struct str key, struct str value, struct arena *arena, bool *first,
                                 struct err *err)
{
    struct str text;

    if (!scalar_text(value, arena, &text))
        return err_set(err, ERR_INVALID, "query '" STR_FMT "' must be a string, a number, a boolean or a list of them",
                       STR_ARG(key));
    buf_append_char(url, *first ? '?' : '&');
    *first = false;
    append_encoded(url, key);
    buf_append_char(url, '=');
    append_encoded(url, text);
    return ERR_OK;
}

static enum err_code append_query(struct buf *url, struct str query, struct arena *arena, struct err *err)
{
    bool first = url->len == 0 || memchr(url->ptr, '?', url->len) == NULL;
    struct jt_iter it, items;
    enum err_code rc = ERR_OK;

    if (jt_type(query) == JT_NONE || jt_type(query) == JT_NULL)
        return ERR_OK;
    if (jt_type(query) != JT_OBJECT)
        return err_set(err, ERR_INVALID, "'query' must be an object");
    jt_iter_init(&it, query);
    while (rc == ERR_OK && jt_next(&it)) {
        struct str key = jt_key(&it, arena);

        if (jt_type(it.value) == JT_NULL) /* an expression without a value: no pair */
            continue;
        if (jt_type(it.value) != JT_ARRAY) {
            rc = append_pair(url, key, it.value, arena, &first, err);
            continue;
        }
        jt_iter_init(&items, it.value);
        while (rc == ERR_OK && jt_next(&items))
            rc = append_pair(url, key, items.value, arena, &first, err);
    }
    return rc;
}

static enum err_code read_url(struct str with, struct arena *arena, struct http_request_spec *ret, struct err *err)
{
    CLEANUP(buf_deinit) struct buf url = {0};
    struct str text, fragment = STR_NONE;
    enum err_code rc;

    if (!jt_string(jt_get(with, "url"), arena, &text) || text.len == 0)
        return err_set(err, ERR_INVALID, "'url' must be a string");
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.ptr[i] <= 0x20 || text.ptr[i] == 0x7f)
            return err_set(err, ERR_INVALID, "'url' has a space or control character at %zu", i);
    if (!begins_with(text, "http://") && !begins_with(text, "https://"))
        return err_set(err, ERR_INVALID, "'url' must begin with http:// or https://");
    fragment = text; /* a fragment is never sent; the query goes before it */
    text = str_cut(&fragment, '#');
    buf_init(&url, URL_MAX + 1);
    buf_append_str(&url, text);
    rc = append_query(&url, jt_get(with, "query"), arena, err);
    if (rc != ERR_OK)
        return rc;
    if (url.overflow || url.len > URL_MAX)
        return err_set(err, ERR_INVALID, "'url' with its query is longer than %zu bytes", URL_MAX);
    ret->url = str_arena(arena, buf_str(&url));
    return ERR_OK;
}

static enum err_code read_method(struct str with, struct arena *arena, struct http_request_spec *ret, struct err *err)
{
    struct str value = jt_get(with, "method"), method = STR("GET");

    if (jt_type(value) != JT_NONE && jt_type(value) != JT_NULL && !jt_string(value, arena, &method))
        return err_set(err, ERR_INVALID, "'method' must be a string");
    if (!is_token(method, METHOD_MAX) || is_name(method, "CONNECT") || is_name(method, "TRACE"))
        return err_set(err, ERR_INVALID, "'method' is not an HTTP method that can be sent");
    ret->method = str_arena(arena, method);
    return ERR_OK;
}

static enum err_code read_field(struct jt_iter *it, struct arena *arena, struct http_request_spec *ret, struct err *err)
{
    struct str name = jt_key(it, arena), value;

    if (!is_token(name, 256))
        return err_set(err, ERR_INVALID, "a header name is empty, too long or has a character that none may have");
    if (is_reserved(name))
        return err_set(err, ERR_INVALID, "header '" STR_FMT "' cannot be set", STR_ARG(name));
    if (jt_type(it->value) == JT_NULL)
        return ERR_OK;
    if (!scalar_text(it->value, arena, &value))
        return err_set(err, ERR_INVALID, "header '" STR_FMT "' must be a string, a number or a boolean", STR_ARG(name));
    if (str_starts(value, "${"))
        return err_set(err, ERR_NOT_AVAILABLE,
                       "header '" STR_FMT "' refers to a secret that did not come with the task", STR_ARG(name));
    if (!is_header_value(value))
        return err_set(err, ERR_INVALID, "header '" STR_FMT "' has a line break, another control character or no end",
                       STR_ARG(name));
    ret->fields[ret->field_count++] =
        (struct http_field){.name = str_arena(arena, name), .value = str_arena(arena, value)};
    return ERR_OK;
}

static enum err_code read_fields(struct str with, struct arena *arena, struct http_request_spec *ret, struct err *err)
{
    struct str headers = jt_get(with, "headers");
    struct jt_iter it;
    size_t count;
    enum err_code rc = ERR_OK;

    if (jt_type(headers) == JT_NONE || jt_type(headers) == JT_NULL)
        return ERR_OK;
    if (jt_type(headers) != JT_OBJECT)
        return err_set(err, ERR_INVALID, "'headers' must be an object");
    count = jt_count(headers);
    if (count > FIELDS_MAX)
        return err_set(err, ERR_INVALID, "at most %d headers can be sent", FIELDS_MAX);
    ret->fields = arena_array(arena, count + 1, sizeof(*ret->fields));
    jt_iter_init(&it, headers);
    while (rc == ERR_OK && jt_next(&it))
        rc = read_field(&it, arena, ret, err);
    return rc;
}

static enum err_code read_body(struct str with, struct arena *arena, struct http_request_spec *ret, struct err *err)
{
    struct str body = jt_get(with, "body");

    switch (jt_type(body)) {
    case JT_NONE:
    case JT_NULL:
        return ERR_OK;
    case JT_STRING: /* text goes out as it is */
        if (!jt_string(body, arena, &ret->body))
            return err_set(err, ERR_INVALID, "'body' is not a valid string");
        ret->body_type = "text/plain; charset=utf-8";
        break;
    case JT_FALSE:
    case JT_TRUE:
    case JT_NUMBER:
    case JT_ARRAY:
    case JT_OBJECT:
        ret->body = body;
        ret->body_type = "application/json";
        break;
    }
    if (ret->body.len > BODY_MAX)
        return err_set(err, ERR_INVALID, "'body' is longer than %zu bytes", BODY_MAX);
    return ERR_OK;
}

static enum err_code read_limits(struct str with, struct http_request_spec *ret, struct err *err)
{
    struct str bytes = jt_get(with, "max_response_bytes"), redirects = jt_get(with, "follow_redirects");
    int64_t n = RESPONSE_DEFAULT;

    if (jt_type(bytes) != JT_NONE && (!jt_i64(bytes, &n) || n < 0 || n > RESPONSE_MAX))
        return err_set(err, ERR_INVALID, "'max_response_bytes' must be a whole number from 0 to %lld",
                       (long long)RESPONSE_MAX);
    ret->max_response_bytes = (size_t)n;
    n = REDIRECTS_DEFAULT;
    if (jt_type(redirects) != JT_NONE && (!jt_i64(redirects, &n) || n < 0 || n > REDIRECTS_MAX))
        return err_set(err, ERR_INVALID, "'follow_redirects' must be a whole number from 0 to %d", REDIRECTS_MAX);
    ret->follow_redirects = (unsigned)n;
    return ERR_OK;
}

static enum err_code refuse_unknown(struct str with, struct err *err)
{
    static const char *const known[] = {"method",          "url", "query", "headers", "body", "max_response_bytes",
                                        "follow_redirects"};
    struct jt_iter it;

    jt_iter_init(&it, with);
    while (jt_next(&it)) {
        bool found = false;

        for (size_t i = 0; i < sizeof(known) / sizeof(known[0]) && !found; i++)
            found = str_is(it.key, known[i]);
        if (!found) /* sent without it, the request would not be the one that was meant */
            return err_set(err, ERR_INVALID, "'" STR_FMT "' is not a field of an http call", STR_ARG(it.key));
    }
    return ERR_OK;
}

enum err_code http_request_read(struct str with, struct arena *arena, struct http_request_spec *ret, struct err *err)
{
    enum err_code rc;

    *ret = (struct http_request_spec){0};
    if (jt_type(with) != JT_OBJECT)
        return err_set(err, ERR_INVALID, "'url' must be a string");
    rc = refuse_unknown(with, err);
    if (rc == ERR_OK)
        rc = read_method(with, arena, ret, err);
    if (rc == ERR_OK)
        rc = read_url(with, arena, ret, err);
    if (rc == ERR_OK)
        rc = read_fields(with, arena, ret, err);
    if (rc == ERR_OK)
        rc = read_body(with, arena, ret, err);
    if (rc == ERR_OK)
        rc = read_limits(with, ret, err);
    return rc;
}
