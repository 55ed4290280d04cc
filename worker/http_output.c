/* Answers as JSON; see http_output.h. */
#include "worker/http_output.h"
#include <strings.h>

#include "common/base/banned.h"

#define HEADERS_MAX ((size_t)256 << 10)
#define HEADER_COUNT_MAX 400 /* joining compares each with each */

/* Bodies may be as large as the step allows; what matters is what our own messages and PostgreSQL can hold. */
static const struct jt_limits BODY_LIMITS = {
    .max_bytes = (size_t)40 << 20, .max_depth = 120, .refuse_duplicates = false, .refuse_unstorable = true};

void http_headers_init(struct http_headers *headers)
{
    buf_init(&headers->lines, HEADERS_MAX);
    headers->count = 0;
}

void http_headers_deinit(struct http_headers *headers)
{
    buf_deinit(&headers->lines);
}

void http_headers_reset(struct http_headers *headers)
{
    buf_reset(&headers->lines);
    headers->count = 0;
}

void http_headers_add(struct http_headers *headers, struct str line)
{
    struct str value, name;

    line = str_trim(line);
    if (str_starts(line, "HTTP/")) { /* of an informational answer or the one before */
        http_headers_reset(headers);
        return;
    }
    value = line;
    name = str_cut(&value, ':');
    if (name.len == 0 || value.ptr == NULL || headers->count == HEADER_COUNT_MAX ||
        headers->lines.len + line.len + 4 > HEADERS_MAX)
        return;
    headers->count++;
    for (size_t i = 0; i < name.len; i++)
        buf_append_char(&headers->lines,
                        name.ptr[i] >= 'A' && name.ptr[i] <= 'Z' ? (char)(name.ptr[i] + 32) : name.ptr[i]);
    buf_append_char(&headers->lines, ':');
    buf_append_str(&headers->lines, str_trim(value));
    buf_append_char(&headers->lines, '\n');
}

static bool next_header(struct str *lines, struct str *ret_name, struct str *ret_value)
{
    struct str line;

    if (lines->len == 0)
        return false;
    line = str_cut(lines, '\n');
    *ret_value = line;
    *ret_name = str_cut(ret_value, ':');
    return true;
}

struct str http_headers_get(const struct http_headers *headers, const char *lower_name)
{
    struct str lines = buf_str(&headers->lines), name, value;

    while (next_header(&lines, &name, &value))
        if (str_is(name, lower_name))
            return value;
    return STR_NONE;
}

static bool is_utf8(struct str s)
{
    for (size_t i = 0; i < s.len;) {
        size_t n = utf8_len_at(s.ptr + i, s.len - i);

        if (n == 0)
            return false;
        i += n;
    }
    return true;
}

/* Header values may be Latin-1 (RFC 9110, 5.5). */
static void append_value(struct buf *buf, struct str s)
{
    if (is_utf8(s)) {
        buf_append_str(buf, s);
        return;
    }
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];

        if (c < 0x80)
            buf_append_char(buf, (char)c);
        else
            buf_append(buf, (char[]){(char)(0xc0 | (c >> 6)), (char)(0x80 | (c & 0x3f))}, 2);
    }
}

/* True when `name` stands in the lines before `upto`. */
static bool seen_before(struct str all, const char *upto, struct str name)
{
    struct str lines = {all.ptr, (size_t)(upto - all.ptr)}, other, value;

    while (next_header(&lines, &other, &value))
        if (str_eq(other, name))
            return true;
    return false;
}

/* One member per name; several values are joined as RFC 9110 (5.3) says. */
static void write_headers(struct jw *w, const struct http_headers *headers)
{
    CLEANUP(buf_deinit) struct buf joined = {0};
    struct str all = buf_str(&headers->lines), lines = all, name, value;

    buf_init(&joined, 2 * HEADERS_MAX);
    jw_obj(w);
    for (;;) {
        const char *at = lines.ptr;
        struct str rest, other, more;

        if (!next_header(&lines, &name, &value))
            break;
        if (seen_before(all, at, name))
            continue;
        buf_reset(&joined);
        append_value(&joined, value);
        rest = lines;
        while (next_header(&rest, &other, &more)) {
            if (!str_eq(other, name))
                continue;
            buf_append_str(&joined, STR(", "));
            append_value(&joined, more);
        }
        jw_key_str(w, name);
        jw_str(w, buf_str(&joined));
    }
    jw_end_obj(w);
}

static bool type_is_json(struct str type)
{
    type = str_trim(str_cut(&type, ';'));
    return (type.len == 16 && strncasecmp(type.ptr, "application/json", 16) == 0) ||
           (type.len > 5 && strncasecmp(type.ptr + type.len - 5, "+json", 5) == 0);
}

static void write_base64(struct jw *w, struct str s)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    CLEANUP(buf_deinit) struct buf text = {0};

    buf_init(&text, (s.len + 2) / 3 * 4 + 1);
    for (size_t i = 0; i < s.len; i += 3) {
        uint32_t n = (uint32_t)(unsigned char)s.ptr[i] << 16;
        char four[4];

        if (i + 1 < s.len)
            n |= (uint32_t)(unsigned char)s.ptr[i + 1] << 8;
        if (i + 2 < s.len)
            n |= (unsigned char)s.ptr[i + 2];
        four[0] = digits[n >> 18];
        four[1] = digits[(n >> 12) & 63];
        four[2] = i + 1 < s.len ? digits[(n >> 6) & 63] : '=';
        four[3] = i + 2 < s.len ? digits[n & 63] : '=';
        buf_append(&text, four, 4);
    }
    jw_kstr(w, "body", buf_str(&text));
    jw_kcstr(w, "encoding", "base64");
}

static void write_body(struct jw *w, struct str type, struct str body, bool cut)
{
    struct arena *arena;
    struct str json;
    struct err err;
    bool written = false;

    if (body.len == 0) {
        jw_kraw(w, "body", STR("null"));
        return;
    }
    if (!cut && type_is_json(type)) {
        arena = arena_new(256);
        if (jt_check_repair(arena, body, &BODY_LIMITS, &json, &err) == ERR_OK) {
            jw_kraw(w, "body", str_trim(json));
            written = true;
        }
        arena_free(arena);
    }
    if (written)
        return;
    if (is_utf8(body) && memchr(body.ptr, '\0', body.len) == NULL)
        jw_kstr(w, "body", body);
    else
        write_base64(w, body);
}

void http_output_write(struct buf *out, int status, const struct http_headers *headers, struct str body,
                       size_t max_body)
{
    struct jw w = jw_to(out);
    bool cut = body.len > max_body;

    if (cut) {
        struct str whole = utf8_prefix(body, max_body);

        body = whole.len == 0 ? (struct str){body.ptr, max_body} : whole;
    }
    jw_obj(&w);
    jw_ki64(&w, "status", status);
    jw_key(&w, "headers");
    write_headers(&w, headers);
    write_body(&w, http_headers_get(headers, "content-type"), body, cut);
    jw_end_obj(&w);
}
