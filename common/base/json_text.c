/* Reading JSON text that has been checked: iteration, look-up, decoding, canonical form. Everything is bounded by the
 * slice, so that even text nobody checked is read without leaving it; what comes out then is anyone's guess. */
#include "common/base/json_text.h"
#include "common/base/ensure.h"
#include "common/base/json_internal.h"
#include <locale.h>
#include <math.h>

#include "common/base/banned.h"

const char *jt_string_end(const char *p, const char *end, bool *escaped)
{
    for (;;) {
        uint64_t word;

        while (end - p >= 8 && (memcpy(&word, p, 8), !jt_word_ends_string(word)))
            p += 8;
        while (p < end && *p != '"' && *p != '\\')
            p++;
        if (p >= end)
            return end;
        if (*p == '"')
            return p;
        *escaped = true;
        if (end - p < 2)
            return end;
        p += 2;
    }
}

static size_t put_utf8(char *out, unsigned code)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

/* Decodes the escape at `p` (a backslash) into `out`; returns the bytes read, and in *ret_len those written. */
static size_t unescape_one(const char *p, const char *end, char out[4], size_t *ret_len)
{
    static const char from[] = "\"\\/bfnrt";
    static const char to[] = "\"\\/\b\f\n\r\t";
    const char *simple;
    int unit;

    *ret_len = 0;
    if (end - p < 2)
        return (size_t)(end - p);
    if (p[1] != 'u') {
        simple = memchr(from, p[1], sizeof(from) - 1);
        out[0] = simple == NULL ? p[1] : to[simple - from];
        *ret_len = 1;
        return 2;
    }
    unit = end - p < 6 ? -1 : jt_hex4(p + 2);
    if (unit < 0)
        return 2;
    if (unit >= 0xd800 && unit <= 0xdfff) {
        int low = unit <= 0xdbff && end - p >= 12 && p[6] == '\\' && p[7] == 'u' ? jt_hex4(p + 8) : -1;

        if (low >= 0xdc00 && low <= 0xdfff) {
            *ret_len = put_utf8(out, 0x10000 + ((unsigned)unit - 0xd800) * 0x400 + ((unsigned)low - 0xdc00));
            return 12;
        }
        unit = 0xfffd;
    }
    *ret_len = put_utf8(out, (unsigned)unit);
    return 6;
}

/* Works in place too (raw.ptr == out): what is written never overtakes what is read. */
size_t jt_unescape(struct str raw, char *out)
{
    const char *p = raw.ptr;
    const char *end = raw.ptr + raw.len;
    size_t len = 0;

    while (p < end) {
        const char *escape = memchr(p, '\\', (size_t)(end - p));
        size_t plain = (size_t)((escape == NULL ? end : escape) - p);
        char decoded[4];
        size_t n;

        memmove(out + len, p, plain);
        len += plain;
        p += plain;
        if (p == end)
            break;
        p += unescape_one(p, end, decoded, &n);
        memcpy(out + len, decoded, n);
        len += n;
    }
    return len;
}

enum jt_type jt_type(struct str value)
{
    const char *end, *p;

    if (value.len == 0)
        return JT_NONE;
    end = value.ptr + value.len;
    p = jt_skip_space(value.ptr, end);
    if (p == end)
        return JT_NONE;
    switch (*p) {
    case '{':
        return JT_OBJECT;
    case '[':
        return JT_ARRAY;
    case '"':
        return JT_STRING;
    case 't':
        return JT_TRUE;
    case 'f':
        return JT_FALSE;
    case 'n':
        return JT_NULL;
    case '-':
    case '0' ... '9':
        return JT_NUMBER;
    default:
        return JT_NONE;
    }
}

const char *jt_type_name(enum jt_type type)
{
    switch (type) {
    case JT_NONE:
        return "nothing";
    case JT_NULL:
        return "null";
    case JT_FALSE:
    case JT_TRUE:
        return "boolean";
    case JT_NUMBER:
        return "number";
    case JT_STRING:
        return "string";
    case JT_ARRAY:
        return "array";
    case JT_OBJECT:
        return "object";
    }
    return "nothing";
}

/* `p` is at the first byte of a value; gives the place behind it. */
static const char *value_end(const char *p, const char *end)
{
    bool escaped = false;

    if (*p == '"') {
        p = jt_string_end(p + 1, end, &escaped);
        return p == end ? end : p + 1;
    }
    if (*p == '{' || *p == '[')
        return jt_container_end(p, end);
    while (p < end && *p != ',' && *p != '}' && *p != ']' && !jt_is_space(*p))
        p++;
    return p;
}

/* The value without the white space around it. */
static struct str trimmed(struct str value)
{
    return value.len == 0 ? STR_NONE : str_trim(value);
}

void jt_iter_init(struct jt_iter *it, struct str container)
{
    struct str text = trimmed(container);
    enum jt_type type = jt_type(text);

    *it = (struct jt_iter){0};
    if (type != JT_ARRAY && type != JT_OBJECT)
        return;
    /* Without the brackets; `index` starts one short, so that the first jt_next makes it 0. */
    it->index = SIZE_MAX;
    it->end_ = text.ptr + text.len - (text.len > 1 ? 1 : 0);
    it->pos_ = text.ptr + 1;
    it->is_object_ = type == JT_OBJECT;
}

/* Reads the key at it->pos_ and the colon. False at what cannot be a member. */
static bool next_key(struct jt_iter *it)
{
    const char *p = it->pos_;
    const char *end;

    if (*p != '"')
        return false;
    it->key_escaped = false;
    end = jt_string_end(p + 1, it->end_, &it->key_escaped);
    it->key = (struct str){p + 1, (size_t)(end - p) - 1};
    if (end == it->end_)
        return false;
    p = jt_skip_space(end + 1, it->end_);
    if (p == it->end_ || *p != ':')
        return false;
    it->pos_ = jt_skip_space(p + 1, it->end_);
    return it->pos_ < it->end_;
}

bool jt_next(struct jt_iter *it)
{
    const char *end;

    if (it->pos_ == NULL)
        return false;
    it->pos_ = jt_skip_space(it->pos_, it->end_);
    if (it->pos_ == it->end_ || (it->is_object_ && !next_key(it))) {
        it->pos_ = it->end_;
        return false;
    }
    end = value_end(it->pos_, it->end_);
    it->value = (struct str){it->pos_, (size_t)(end - it->pos_)};
    it->index++;
    end = jt_skip_space(end, it->end_);
    it->pos_ = end < it->end_ ? end + 1 : end; /* the comma */
    return true;
}

struct str jt_key(struct jt_iter *it, struct arena *arena)
{
    char *decoded;

    if (!it->key_escaped)
        return it->key;
    decoded = arena_dup(arena, it->key.ptr, it->key.len);
    return (struct str){decoded, jt_unescape(it->key, decoded)};
}

/* Compares without decoding the whole: keys with escapes are rare, and there is no arena here. */
static bool escaped_eq(struct str raw, struct str key)
{
    const char *p = raw.ptr;
    const char *end = raw.ptr + raw.len;
    size_t at = 0;

    if (key.len == 0)
        return false; /* an escape stands for something */
    while (p < end) {
        char decoded[4] = {*p};
        size_t n = 1;

        p += *p == '\\' ? unescape_one(p, end, decoded, &n) : 1;
        if (n > key.len - at || memcmp(key.ptr + at, decoded, n) != 0)
            return false;
        at += n;
    }
    return at == key.len;
}

struct str jt_get_str(struct str object, struct str key)
{
    struct jt_iter it;

    if (jt_type(object) != JT_OBJECT)
        return STR_NONE;
    jt_iter_init(&it, object);
    while (jt_next(&it)) {
        if (it.key_escaped ? escaped_eq(it.key, key) : str_eq(it.key, key))
            return it.value;
    }
    return STR_NONE;
}

struct str jt_get(struct str object, const char *key)
{
    return jt_get_str(object, str_of(key));
}

struct str jt_at(struct str array, size_t index)
{
    struct jt_iter it;

    if (jt_type(array) != JT_ARRAY)
        return STR_NONE;
    jt_iter_init(&it, array);
    while (jt_next(&it)) {
        if (it.index == index)
            return it.value;
    }
    return STR_NONE;
}

size_t jt_count(struct str container)
{
    struct jt_iter it;
    size_t count = 0;

    jt_iter_init(&it, container);
    while (jt_next(&it))
        count++;
    return count;
}

bool jt_string(struct str value, struct arena *arena, struct str *ret)
{
    struct str text = trimmed(value);
    struct str raw;
    char *decoded;

    if (text.len < 2 || text.ptr[0] != '"')
        return false;
    raw = (struct str){text.ptr + 1, text.len - 2};
    if (memchr(raw.ptr, '\\', raw.len) == NULL) {
        *ret = raw;
        return true;
    }
    decoded = arena_dup(arena, raw.ptr, raw.len);
    ret->len = jt_unescape(raw, decoded);
    ret->ptr = decoded;
    return true;
}

/* A number taken apart: mantissa * 10^exponent, exact when `fits`. */
struct decimal {
    bool negative, fits;
    uint64_t mantissa;
    int64_t exponent;
};

/* The exponent part behind 'e', held within bounds that no sum below can leave. */
static int64_t decimal_exponent(const char *p, const char *end)
{
    const int64_t bound = INT64_C(1) << 50;
    bool negative = p < end && *p == '-';
    int64_t exponent = 0;

    if (p < end && (*p == '-' || *p == '+'))
        p++;
    for (; p < end && *p >= '0' && *p <= '9'; p++)
        exponent = exponent > bound ? bound : exponent * 10 + (*p - '0');
    return negative ? -exponent : exponent;
}

/* Trailing zeros are counted, not multiplied in, so that "1.000" and 1 with a thousand zeros and "e-1000" fit too. */
static struct decimal decimal_of(struct str number)
{
    const char *p = number.ptr;
    const char *end = number.ptr + number.len;
    struct decimal d = {.fits = true};
    bool fraction = false;
    int64_t zeros = 0;

    if (p < end && *p == '-') {
        d.negative = true;
        p++;
    }
    for (; p < end && (*p == '.' || (*p >= '0' && *p <= '9')); p++) {
        if (*p == '.') {
            fraction = true;
            continue;
        }
        d.exponent -= fraction ? 1 : 0;
        zeros++;
        if (*p == '0' || !d.fits)
            continue;
        for (; zeros > 0 && d.fits && d.mantissa != 0; zeros--)
            d.fits = !__builtin_mul_overflow(d.mantissa, 10, &d.mantissa);
        zeros = 0;
        d.fits = d.fits && !__builtin_add_overflow(d.mantissa, (uint64_t)(*p - '0'), &d.mantissa);
    }
    d.exponent += zeros;
    if (p < end && (*p == 'e' || *p == 'E'))
        d.exponent += decimal_exponent(p + 1, end);
    return d;
}

bool jt_i64(struct str value, int64_t *ret)
{
    struct str text = trimmed(value);
    struct decimal d;
    int64_t n;

    if (jt_type(text) != JT_NUMBER)
        return false;
    d = decimal_of(text);
    if (!d.fits)
        return false;
    if (d.mantissa == 0) {
        *ret = 0;
        return true;
    }
    if (d.exponent < 0)
        return false;
    for (; d.exponent > 0; d.exponent--) {
        if (__builtin_mul_overflow(d.mantissa, 10, &d.mantissa))
            return false;
    }
    if (d.negative ? __builtin_sub_overflow(0, d.mantissa, &n) : __builtin_add_overflow(0, d.mantissa, &n))
        return false;
    *ret = n;
    return true;
}

static locale_t c_locale;

/* Before main, so that no lock is needed. */
__attribute__((constructor)) static void c_locale_init(void)
{
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    ENSURE(c_locale != (locale_t)0);
}

static double to_double_c(const char *text)
{
    return strtod_l(text, NULL, c_locale);
}

/* More significant digits than any double needs to be told from its neighbours; beyond them only "more than zero"
 * counts, which one more digit says. */
#define DOUBLE_DIGITS 800

static double long_to_double(struct str number)
{
    char text[DOUBLE_DIGITS + 64];
    const char *p = number.ptr;
    const char *end = number.ptr + number.len;
    size_t len = 0, digits = 0;
    int64_t exponent = 0;
    bool fraction = false, more = false;

    if (*p == '-') {
        text[len++] = '-';
        p++;
    }
    for (; p < end && (*p == '.' || (*p >= '0' && *p <= '9')); p++) {
        if (*p == '.') {
            fraction = true;
        } else if (digits == 0 && *p == '0') {
            exponent -= fraction ? 1 : 0;
        } else if (digits < DOUBLE_DIGITS) {
            text[len++] = *p;
            digits++;
            exponent -= fraction ? 1 : 0;
        } else {
            more = more || *p != '0';
            exponent += fraction ? 0 : 1;
        }
    }
    if (digits == 0)
        text[len++] = '0';
    if (more) {
        text[len++] = '1';
        exponent--;
    }
    if (p < end)
        exponent += decimal_exponent(p + 1, end);
    snprintf(text + len, sizeof(text) - len, "e%lld", (long long)exponent);
    return to_double_c(text);
}

double jt_to_double(struct str number)
{
    char text[64];

    if (number.len >= sizeof(text))
        return long_to_double(number);
    memcpy(text, number.ptr, number.len);
    text[number.len] = '\0';
    return to_double_c(text);
}

bool jt_f64(struct str value, double *ret)
{
    struct str text = trimmed(value);
    double n;

    if (jt_type(text) != JT_NUMBER)
        return false;
    n = jt_to_double(text);
    if (!isfinite(n))
        return false;
    *ret = n;
    return true;
}

bool jt_bool(struct str value, bool *ret)
{
    enum jt_type type = jt_type(value);

    if (type != JT_TRUE && type != JT_FALSE)
        return false;
    *ret = type == JT_TRUE;
    return true;
}

void jt_pointer_add(struct buf *pointer, struct str key)
{
    buf_append_char(pointer, '/');
    for (size_t i = 0; i < key.len; i++) {
        if (key.ptr[i] == '~')
            buf_append_str(pointer, STR("~0"));
        else if (key.ptr[i] == '/')
            buf_append_str(pointer, STR("~1"));
        else
            buf_append_char(pointer, key.ptr[i]);
    }
}
