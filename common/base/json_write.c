/* Writing JSON text. What is written always passes jt_check with everything refused that PostgreSQL cannot hold:
 * bytes that are no UTF-8 and U+0000 come out as U+FFFD, numbers that JSON cannot say as null. */
#include "common/base/ensure.h"
#include "common/base/json_internal.h"
#include "common/base/json_text.h"
#include <math.h>

#include "common/base/banned.h"

#define JW_DEPTH_MAX 60
#define REPLACEMENT "\xef\xbf\xbd"

struct jw jw_to(struct buf *buf)
{
    return (struct jw){.buf = buf};
}

/* Before every value and key: the comma when one is due. */
static void separate(struct jw *w)
{
    uint64_t bit = UINT64_C(1) << w->depth;

    if (w->after_key) {
        w->after_key = false;
        return;
    }
    if (w->depth > 0 && (w->has_member & bit) != 0)
        buf_append_char(w->buf, ',');
    w->has_member |= bit;
}

static void begin(struct jw *w, char bracket)
{
    separate(w);
    ENSURE(w->depth < JW_DEPTH_MAX);
    w->depth++;
    w->has_member &= ~(UINT64_C(1) << w->depth);
    buf_append_char(w->buf, bracket);
}

static void end(struct jw *w, char bracket)
{
    ENSURE(w->depth > 0 && !w->after_key);
    w->depth--;
    buf_append_char(w->buf, bracket);
}

void jw_obj(struct jw *w)
{
    begin(w, '{');
}

void jw_end_obj(struct jw *w)
{
    end(w, '}');
}

void jw_arr(struct jw *w)
{
    begin(w, '[');
}

void jw_end_arr(struct jw *w)
{
    end(w, ']');
}

void jw_key_str(struct jw *w, struct str key)
{
    ENSURE(w->depth > 0 && !w->after_key);
    separate(w);
    json_quote(w->buf, key);
    buf_append_char(w->buf, ':');
    w->after_key = true;
}

void jw_key(struct jw *w, const char *key)
{
    jw_key_str(w, str_of(key));
}

void jw_str(struct jw *w, struct str s)
{
    if (s.ptr == NULL) {
        jw_null(w);
        return;
    }
    separate(w);
    json_quote(w->buf, s);
}

void jw_cstr(struct jw *w, const char *s)
{
    jw_str(w, str_of(s));
}

void jw_i64(struct jw *w, int64_t n)
{
    char text[I64_TEXT_SIZE];

    separate(w);
    buf_append(w->buf, text, i64_format(n, text));
}

/* Prints with `digits` significant digits; does it read back the same? */
static bool prints_back(double n, int digits, char *text, size_t size)
{
    snprintf(text, size, "%.*g", digits, n);
    return strtod(text, NULL) == n;
}

/* The 16-digit decimal next above the nearest one, which lies below n = +-2^k; false when it does not read back. */
static bool prints_back_above(double n, char *text, size_t size)
{
    char *last;

    snprintf(text, size, "%.15e", n);
    last = strchr(text, 'e') - 1;
    if (*last == '9') /* no power of two that comes here has it; the test walks all of them */
        return false;
    ++*last;
    return strtod(text, NULL) == n;
}

/* The shortest decimal that reads back as n. Any double with at most 15 digits shows them with %.15g, which drops
 * trailing zeros itself; only subnormals have fewer digits than that to begin with. The nearest 16-digit decimal is
 * the one to try next, but for powers of two: their gap below is half as wide as the one above, so that the nearest
 * may miss below where its neighbour above does not. */
static void shortest(double n, char text[40])
{
    int digits = fabs(n) < 2.2250738585072014e-308 ? 1 : 15;
    int exponent;

    for (; digits < 17; digits++) {
        if (prints_back(n, digits, text, 40))
            return;
    }
    if (fabs(frexp(n, &exponent)) == 0.5 && prints_back_above(n, text, 40))
        return;
    prints_back(n, 17, text, 40);
}

void jw_f64(struct jw *w, double n)
{
    char text[40];
    char *exponent;

    if (!isfinite(n)) {
        jw_null(w);
        return;
    }
    shortest(n, text);
    separate(w);
    /* printf follows the locale's decimal separator, and fills exponents up: "1e+05". */
    for (char *p = text; *p != '\0'; p++) {
        if (*p == ',')
            *p = '.';
    }
    exponent = strchr(text, 'e');
    if (exponent == NULL) {
        buf_append(w->buf, text, strlen(text));
        return;
    }
    buf_append(w->buf, text, (size_t)(exponent - text) + 1);
    if (*++exponent == '-')
        buf_append_char(w->buf, '-');
    exponent += strspn(exponent, "+-0");
    buf_append(w->buf, exponent, strlen(exponent));
}

void jw_bool(struct jw *w, bool b)
{
    separate(w);
    buf_append_str(w->buf, b ? STR("true") : STR("false"));
}

void jw_null(struct jw *w)
{
    separate(w);
    buf_append_str(w->buf, STR("null"));
}

void jw_raw(struct jw *w, struct str json)
{
    if (json.ptr == NULL) {
        jw_null(w);
        return;
    }
    ENSURE(json.len > 0);
    separate(w);
    buf_append_str(w->buf, json);
}

void jw_kstr(struct jw *w, const char *key, struct str s)
{
    jw_key(w, key);
    jw_str(w, s);
}

void jw_kcstr(struct jw *w, const char *key, const char *s)
{
    jw_key(w, key);
    jw_cstr(w, s);
}

void jw_ki64(struct jw *w, const char *key, int64_t n)
{
    jw_key(w, key);
    jw_i64(w, n);
}

void jw_kbool(struct jw *w, const char *key, bool b)
{
    jw_key(w, key);
    jw_bool(w, b);
}

void jw_kraw(struct jw *w, const char *key, struct str json)
{
    jw_key(w, key);
    jw_raw(w, json);
}

static const char *plain_end(const char *p, const char *end)
{
    uint64_t word;
    unsigned char c;

    while (end - p >= 8 && (memcpy(&word, p, 8), !jt_word_is_special(word)))
        p += 8;
    while (p < end && (c = (unsigned char)*p) >= 0x20 && c < 0x80 && c != '"' && c != '\\')
        p++;
    return p;
}

static void quote_control(struct buf *buf, char c)
{
    static const char from[] = "\b\f\n\r\t";
    static const char to[] = "bfnrt";
    const char *at = c == '\0' ? NULL : strchr(from, c);

    if (c == '\0') {
        buf_append_str(buf, STR(REPLACEMENT));
    } else if (at != NULL) {
        buf_append_char(buf, '\\');
        buf_append_char(buf, to[at - from]);
    } else {
        buf_printf(buf, "\\u%04x", (unsigned)c);
    }
}

void json_quote(struct buf *buf, struct str s)
{
    const char *p = s.len == 0 ? "" : s.ptr;
    const char *end_of_s = p + s.len;

    buf_append_char(buf, '"');
    while (p < end_of_s) {
        const char *plain = plain_end(p, end_of_s);
        size_t n = 1;

        buf_append(buf, p, (size_t)(plain - p));
        p = plain;
        if (p == end_of_s)
            break;
        if (*p == '"' || *p == '\\') {
            buf_append_char(buf, '\\');
            buf_append_char(buf, *p);
        } else if ((unsigned char)*p < 0x20) {
            quote_control(buf, *p);
        } else {
            n = utf8_len_at(p, (size_t)(end_of_s - p));
            buf_append_str(buf, n == 0 ? STR(REPLACEMENT) : (struct str){p, n});
            n = n == 0 ? 1 : n;
        }
        p += n;
    }
    buf_append_char(buf, '"');
}
