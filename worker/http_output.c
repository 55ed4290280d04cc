/* Answers as JSON; see http_output.h. */
#include "worker/http_output.h"
#include <strings.h>

#include "common/base/banned.h"

#define HEADERS_MAX ((size_t)256 << 10)
#define HEADER_COUNT_MAX 400 /* joining compares each with each */
#define RETRY_AFTER_MAX_MS (INT64_C(366) * 86400 * 1000)

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

static int month_of(struct str name)
{
    static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

    for (int i = 0; i < 12; i++)
        if (name.len == 3 && strncasecmp(names + 3 * i, name.ptr, 3) == 0)
            return i + 1;
    return 0;
}

static bool parse_clock(struct str text, uint32_t ret[3])
{
    for (int i = 0; i < 3; i++)
        if (!parse_u32(str_cut(&text, ':'), 0, i == 0 ? 23 : 60, &ret[i]))
            return false;
    return text.ptr == NULL;
}

/* "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994" (RFC 9110, 5.6.7). */
static bool parse_http_date(struct str text, struct wall_us *ret)
{
    struct str words[6] = {{0}};
    uint32_t day, year, hms[3];
    char rfc3339[40];
    int month;
    size_t count = 0;

    for (size_t i = 0; i < text.len && count < 6; count++) {
        size_t start;

        while (i < text.len && strchr(" ,-", text.ptr[i]) != NULL)
            i++;
        start = i;
        while (i < text.len && strchr(" ,-", text.ptr[i]) == NULL)
            i++;
        words[count] = (struct str){text.ptr + start, i - start};
    }
    if (count >= 5 && month_of(words[1]) != 0) { /* asctime: month before day, year last */
        struct str swap = words[1], clock = words[3];

        words[1] = words[2];
        words[2] = swap;
        words[3] = words[4];
        words[4] = clock;
    }
    month = month_of(words[2]);
    if (month == 0 || !parse_u32(words[1], 1, 31, &day) || !parse_u32(words[3], 0, 9999, &year) ||
        !parse_clock(words[4], hms))
        return false;
    if (year < 100) /* two digits: within 50 years either way */
        year += year < 70 ? 2000 : 1900;
    snprintf(rfc3339, sizeof(rfc3339), "%04u-%02d-%02uT%02u:%02u:%02uZ", year, month, day, hms[0], hms[1],
             hms[2] > 59 ? 59 : hms[2]);
    return wall_parse(str_of(rfc3339), ret);
}

int64_t http_retry_after_ms(struct str value, struct wall_us now)
{
    int64_t seconds, ms;
    struct wall_us at;

    value = str_trim(value);
    if (value.len == 0)
        return -1;
    if (parse_i64(value, 0, INT64_MAX / 1000, &seconds))
        ms = seconds * 1000;
    else if (parse_http_date(value, &at))
        ms = at.us <= now.us ? 0 : (at.us - now.us + US_PER_MS - 1) / US_PER_MS;
    else
        return -1;
    return ms > RETRY_AFTER_MAX_MS ? RETRY_AFTER_MAX_MS : ms;
}
