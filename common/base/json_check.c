/* The strict JSON checker (RFC 8259): one pass, no recursion, no tree. It is the gate through which every text from
 * outside comes; json_text.c reads only what has passed here. */
#include "common/base/ensure.h"
#include "common/base/json_internal.h"
#include "common/base/json_text.h"
#include <math.h>

#include "common/base/banned.h"

/* PostgreSQL's numeric (as which jsonb keeps numbers) has at most this many digits behind the point. */
#define NUMERIC_SCALE_MAX 16383
#define DOUBLE_EXPONENT_MAX 308
/* Up to here duplicates are found by comparing all pairs, which is faster than filling a table. */
#define PAIRWISE_KEYS 8
#define FRAMES_INLINE 32

const struct jt_limits JT_LIMITS_API = {
    .max_bytes = (size_t)1 << 20, .max_depth = 128, .refuse_duplicates = true, .refuse_unstorable = true};
const struct jt_limits JT_LIMITS_MESSAGE = {
    .max_bytes = (size_t)40 << 20, .max_depth = 160, .refuse_duplicates = false, .refuse_unstorable = true};

/* A container that is open. */
struct frame {
    struct str key; /* the member being read, raw; absent before the first */
    size_t index;   /* of the element being read */
    size_t first_key;
    bool object;
};

/* A key of an object that is open, decoded. */
struct seen_key {
    struct str key;
    const char *at;
};

struct slot {
    uint32_t hash;
    uint32_t number; /* of the key, from 1; 0: free */
};

struct scan {
    const char *begin, *p, *end;
    const struct jt_limits *limits;
    struct err *err;
    bool refuse_strings, refuse_numbers;
    bool unstorable; /* a string was met that has to be repaired */
    unsigned depth;
    size_t frames_cap;
    struct frame *frames;
    struct frame frames_inline[FRAMES_INLINE];
    struct seen_key *keys; /* of all open objects, the innermost last */
    size_t keys_len, keys_cap;
    struct slot *slots;
    size_t slots_cap;
    struct arena *decoded; /* keys that had escapes */
};

enum next { NEXT_VALUE, NEXT_KEY, NEXT_AFTER, NEXT_END, NEXT_FAILED };

static void pointer_of(const struct scan *s, struct buf *pointer)
{
    for (unsigned i = 0; i < s->depth; i++) {
        const struct frame *f = &s->frames[i];

        if (!f->object) {
            buf_printf(pointer, "/%zu", f->index);
        } else if (f->key.ptr != NULL) {
            CLEANUP(mem_cleanup) char *decoded = mem_alloc(f->key.len);

            jt_pointer_add(pointer, (struct str){decoded, jt_unescape(f->key, decoded)});
        }
    }
}

/* Fails with what is wrong and where: byte offset and JSON Pointer. */
static enum next fail_at(struct scan *s, enum err_code rc, const char *at, const char *what)
{
    CLEANUP(buf_deinit) struct buf pointer;
    struct str shown;

    buf_init(&pointer, (size_t)1 << 16);
    pointer_of(s, &pointer);
    shown = utf8_prefix(buf_str(&pointer), 200);
    if (shown.len == 0)
        (void)err_set(s->err, rc, "%s at byte %zu", what, (size_t)(at - s->begin));
    else
        (void)err_set(s->err, rc, "%s at byte %zu, in " STR_FMT "%s", what, (size_t)(at - s->begin), STR_ARG(shown),
                      shown.len < pointer.len ? "..." : "");
    return NEXT_FAILED;
}

static enum next fail(struct scan *s, const char *what)
{
    return fail_at(s, ERR_SYNTAX, s->p, what);
}

/* "duplicate key 'x' at /a/b": the place is the object's. */
static enum next fail_duplicate(struct scan *s, const struct seen_key *key)
{
    CLEANUP(buf_deinit) struct buf pointer;
    struct str shown_key = utf8_prefix(key->key, 100);
    struct str shown;

    buf_init(&pointer, (size_t)1 << 16);
    s->frames[s->depth - 1].key = STR_NONE;
    pointer_of(s, &pointer);
    shown = utf8_prefix(buf_str(&pointer), 200);
    (void)err_set(s->err, ERR_SYNTAX, "duplicate key '" STR_FMT "%s' at " STR_FMT "%s, byte %zu", STR_ARG(shown_key),
                  shown_key.len < key->key.len ? "..." : "", STR_ARG(shown.len == 0 ? STR("the top level") : shown),
                  shown.len < pointer.len ? "..." : "", (size_t)(key->at - s->begin));
    return NEXT_FAILED;
}

static void keys_push(struct scan *s, struct str key, const char *at)
{
    if (s->keys_len == s->keys_cap) {
        s->keys_cap = s->keys_cap == 0 ? 64 : s->keys_cap * 2;
        s->keys = mem_grow(s->keys, s->keys_cap, sizeof(*s->keys));
    }
    s->keys[s->keys_len++] = (struct seen_key){key, at};
}

static const struct seen_key *duplicate_pairwise(const struct seen_key *keys, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        for (size_t k = 0; k < i; k++) {
            if (str_eq(keys[i].key, keys[k].key))
                return &keys[i];
        }
    }
    return NULL;
}

static const struct seen_key *duplicate_hashed(struct scan *s, const struct seen_key *keys, size_t count)
{
    size_t cap = 32;

    ENSURE(count < UINT32_MAX / 4);
    while (cap < count * 2)
        cap *= 2;
    if (cap > s->slots_cap) {
        s->slots = mem_grow(s->slots, cap, sizeof(*s->slots));
        s->slots_cap = cap;
    }
    memset(s->slots, 0, cap * sizeof(*s->slots));
    for (size_t i = 0; i < count; i++) {
        uint64_t hash = str_hash(keys[i].key);
        size_t at = (size_t)hash & (cap - 1);
        uint32_t mark = (uint32_t)(hash >> 32);

        for (; s->slots[at].number != 0; at = (at + 1) & (cap - 1)) {
            if (s->slots[at].hash == mark && str_eq(keys[s->slots[at].number - 1].key, keys[i].key))
                return &keys[i];
        }
        s->slots[at] = (struct slot){mark, (uint32_t)i + 1};
    }
    return NULL;
}

static enum next scan_open(struct scan *s, bool object)
{
    if (s->depth == s->limits->max_depth)
        return fail_at(s, ERR_TOO_LARGE, s->p, "nesting is too deep");
    if (s->depth == s->frames_cap) {
        size_t cap = s->frames_cap * 2;

        if (s->frames == s->frames_inline) {
            s->frames = mem_array(cap, sizeof(*s->frames));
            memcpy(s->frames, s->frames_inline, sizeof(s->frames_inline));
        } else {
            s->frames = mem_grow(s->frames, cap, sizeof(*s->frames));
        }
        s->frames_cap = cap;
    }
    s->frames[s->depth++] = (struct frame){.key = STR_NONE, .first_key = s->keys_len, .object = object};
    s->p = jt_skip_space(s->p + 1, s->end);
    if (s->p < s->end && *s->p == (object ? '}' : ']'))
        return NEXT_AFTER;
    return object ? NEXT_KEY : NEXT_VALUE;
}

static enum next scan_close(struct scan *s)
{
    struct frame *f = &s->frames[s->depth - 1];
    size_t count = s->keys_len - f->first_key;
    const struct seen_key *duplicate = NULL;

    if (count > 1) {
        const struct seen_key *keys = s->keys + f->first_key;

        duplicate = count <= PAIRWISE_KEYS ? duplicate_pairwise(keys, count) : duplicate_hashed(s, keys, count);
    }
    if (duplicate != NULL)
        return fail_duplicate(s, duplicate);
    s->keys_len = f->first_key;
    s->depth--;
    s->p++;
    return NEXT_AFTER;
}

int jt_hex4(const char *p)
{
    int value = 0;

    for (int i = 0; i < 4; i++) {
        int digit;

        if (p[i] >= '0' && p[i] <= '9')
            digit = p[i] - '0';
        else if (p[i] >= 'a' && p[i] <= 'f')
            digit = p[i] - 'a' + 10;
        else if (p[i] >= 'A' && p[i] <= 'F')
            digit = p[i] - 'A' + 10;
        else
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

static bool is_high_surrogate(int unit)
{
    return unit >= 0xd800 && unit <= 0xdbff;
}

static bool is_low_surrogate(int unit)
{
    return unit >= 0xdc00 && unit <= 0xdfff;
}

/* s->p is at the backslash of \u; two escapes that make a pair are taken together. */
static bool scan_unicode_escape(struct scan *s)
{
    int unit = s->end - s->p < 6 ? -1 : jt_hex4(s->p + 2);

    if (unit < 0) {
        (void)fail(s, "bad \\u escape");
        return false;
    }
    if (is_high_surrogate(unit) && s->end - s->p >= 12 && s->p[6] == '\\' && s->p[7] == 'u' &&
        is_low_surrogate(jt_hex4(s->p + 8))) {
        s->p += 12;
        return true;
    }
    if (unit == 0 || is_high_surrogate(unit) || is_low_surrogate(unit)) {
        if (s->refuse_strings) {
            (void)fail(s, unit == 0 ? "character U+0000" : "lone surrogate");
            return false;
        }
        s->unstorable = true;
    }
    s->p += 6;
    return true;
}

static bool scan_escape(struct scan *s)
{
    if (s->end - s->p < 2) {
        (void)fail(s, "unterminated string");
        return false;
    }
    switch (s->p[1]) {
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
        s->p += 2;
        return true;
    case 'u':
        return scan_unicode_escape(s);
    default:
        (void)fail(s, "unknown escape");
        return false;
    }
}

/* s->p is at the opening quote; leaves it behind the closing one. */
static bool scan_string(struct scan *s, bool *escaped)
{
    const char *start = s->p;
    const char *p = s->p + 1;

    for (;;) {
        unsigned char c;
        uint64_t word;

        while (s->end - p >= 8 && (memcpy(&word, p, 8), !jt_word_is_special(word)))
            p += 8;
        while (p < s->end && (c = (unsigned char)*p) >= 0x20 && c < 0x80 && c != '"' && c != '\\')
            p++;
        s->p = p;
        if (p == s->end) {
            (void)fail_at(s, ERR_SYNTAX, start, "unterminated string");
            return false;
        }
        c = (unsigned char)*p;
        if (c == '"') {
            s->p = p + 1;
            return true;
        }
        if (c == '\\') {
            *escaped = true;
            if (!scan_escape(s))
                return false;
            p = s->p;
        } else if (c >= 0x80) {
            size_t n = utf8_len_at(p, (size_t)(s->end - p));

            if (n == 0) {
                (void)fail(s, "invalid UTF-8");
                return false;
            }
            p += n;
        } else {
            (void)fail(s, "control character in a string");
            return false;
        }
    }
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static const char *skip_digits(const char *p, const char *end)
{
    while (p < end && is_digit(*p))
        p++;
    return p;
}

/* Can jsonb hold the number, and does it fit a double? Called only for those that may be out of range. */
static bool number_storable(struct str number, size_t int_digits, size_t frac_digits, const char *exponent)
{
    const char *end = number.ptr + number.len;
    bool negative = exponent < end && *exponent == '-';
    int64_t exp = 0;

    if (exponent < end && (*exponent == '-' || *exponent == '+'))
        exponent++;
    for (; exponent < end; exponent++) {
        exp = exp * 10 + (*exponent - '0');
        if (exp > INT64_C(2) * NUMERIC_SCALE_MAX + (int64_t)number.len)
            return false;
    }
    if (negative)
        exp = -exp;
    if ((int64_t)frac_digits - exp > NUMERIC_SCALE_MAX)
        return false;
    /* Leading digits that are zero make this an overestimate: then the double decides. */
    if ((int64_t)int_digits + exp <= DOUBLE_EXPONENT_MAX)
        return true;
    return isfinite(jt_to_double(number));
}

static enum next scan_number(struct scan *s)
{
    const char *start = s->p;
    const char *p = s->p + (*s->p == '-' ? 1 : 0);
    const char *digits = p;
    const char *exponent = NULL;
    size_t int_digits, frac_digits = 0;

    p = skip_digits(p, s->end);
    int_digits = (size_t)(p - digits);
    if (int_digits == 0)
        return s->p = p, fail(s, "expected a digit");
    if (int_digits > 1 && *digits == '0')
        return fail(s, "number with a leading zero");
    if (p < s->end && *p == '.') {
        digits = p + 1;
        p = skip_digits(digits, s->end);
        frac_digits = (size_t)(p - digits);
        if (frac_digits == 0)
            return s->p = p, fail(s, "expected a digit");
    }
    if (p < s->end && (*p == 'e' || *p == 'E')) {
        exponent = p + 1;
        digits = exponent + (exponent < s->end && (*exponent == '-' || *exponent == '+') ? 1 : 0);
        p = skip_digits(digits, s->end);
        if (p == digits)
            return s->p = p, fail(s, "expected a digit");
    }
    if (s->refuse_numbers &&
        (exponent != NULL || int_digits > DOUBLE_EXPONENT_MAX || frac_digits > NUMERIC_SCALE_MAX) &&
        !number_storable((struct str){start, (size_t)(p - start)}, int_digits, frac_digits,
                         exponent == NULL ? p : exponent))
        return fail(s, "number out of range");
    s->p = p;
    return NEXT_AFTER;
}

static enum next scan_word(struct scan *s, const char *word, size_t len)
{
    if ((size_t)(s->end - s->p) < len || memcmp(s->p, word, len) != 0)
        return fail(s, "expected a value");
    s->p += len;
    return NEXT_AFTER;
}

static enum next scan_value(struct scan *s)
{
    bool escaped = false;

    s->p = jt_skip_space(s->p, s->end);
    if (s->p == s->end)
        return fail(s, "expected a value, not the end");
    switch (*s->p) {
    case '{':
        return scan_open(s, true);
    case '[':
        return scan_open(s, false);
    case '"':
        return scan_string(s, &escaped) ? NEXT_AFTER : NEXT_FAILED;
    case 't':
        return scan_word(s, "true", 4);
    case 'f':
        return scan_word(s, "false", 5);
    case 'n':
        return scan_word(s, "null", 4);
    case '-':
    case '0' ... '9':
        return scan_number(s);
    default:
        return fail(s, "expected a value");
    }
}

static enum next scan_key(struct scan *s)
{
    struct frame *f = &s->frames[s->depth - 1];
    const char *start;
    bool escaped = false;
    struct str key;

    s->p = jt_skip_space(s->p, s->end);
    if (s->p == s->end || *s->p != '"')
        return fail(s, "expected a key");
    start = s->p;
    if (!scan_string(s, &escaped))
        return NEXT_FAILED;
    key = (struct str){start + 1, (size_t)(s->p - start) - 2};
    f->key = key;
    if (s->limits->refuse_duplicates) {
        if (escaped) {
            char *decoded;

            if (s->decoded == NULL)
                s->decoded = arena_new(4096);
            decoded = arena_dup(s->decoded, key.ptr, key.len);
            key = (struct str){decoded, jt_unescape(key, decoded)};
        }
        keys_push(s, key, start);
    }
    s->p = jt_skip_space(s->p, s->end);
    if (s->p == s->end || *s->p != ':')
        return fail(s, "expected ':'");
    s->p++;
    return NEXT_VALUE;
}

static enum next scan_after(struct scan *s)
{
    struct frame *f;

    s->p = jt_skip_space(s->p, s->end);
    if (s->depth == 0)
        return s->p == s->end ? NEXT_END : fail(s, "expected the end");
    f = &s->frames[s->depth - 1];
    if (s->p < s->end && *s->p == ',') {
        s->p++;
        f->index++;
        return f->object ? NEXT_KEY : NEXT_VALUE;
    }
    if (s->p < s->end && *s->p == (f->object ? '}' : ']'))
        return scan_close(s);
    return fail(s, f->object ? "expected ',' or '}'" : "expected ',' or ']'");
}

/* Scans the whole text; s->err says why when it gives false. */
static bool scan_text(struct scan *s)
{
    enum next next = NEXT_VALUE;

    while (next != NEXT_END && next != NEXT_FAILED) {
        switch (next) {
        case NEXT_VALUE:
            next = scan_value(s);
            break;
        case NEXT_KEY:
            next = scan_key(s);
            break;
        case NEXT_AFTER:
            next = scan_after(s);
            break;
        case NEXT_END:
        case NEXT_FAILED:
            break;
        }
    }
    return next == NEXT_END;
}

/* Checks `text`; *ret_unstorable tells whether strings were met that jsonb cannot hold (where they are let pass). */
static enum err_code check(struct str text, const struct jt_limits *limits, bool refuse_strings, bool refuse_numbers,
                           bool *ret_unstorable, struct err *err)
{
    struct scan s = {.begin = text.len == 0 ? "" : text.ptr, .limits = limits, .err = err};
    bool passed;

    if (text.len > limits->max_bytes)
        return err_set(err, ERR_TOO_LARGE, "JSON of %zu bytes is larger than the limit of %zu", text.len,
                       limits->max_bytes);
    s.p = s.begin;
    s.end = s.begin + text.len;
    s.refuse_strings = refuse_strings;
    s.refuse_numbers = refuse_numbers;
    s.frames = s.frames_inline;
    s.frames_cap = FRAMES_INLINE;
    passed = scan_text(&s);
    if (s.frames != s.frames_inline)
        mem_free(s.frames);
    mem_free(s.keys);
    mem_free(s.slots);
    arena_free(s.decoded);
    *ret_unstorable = s.unstorable;
    return passed ? ERR_OK : err->code;
}

enum err_code jt_check(struct str text, const struct jt_limits *limits, struct err *err)
{
    bool unstorable;

    return check(text, limits, limits->refuse_unstorable, limits->refuse_unstorable, &unstorable, err);
}

/* Copies checked text with U+FFFD in place of the escapes that jsonb refuses. It never grows: six bytes become three.
 */
static struct str repaired_copy(struct arena *arena, struct str text)
{
    char *copy = arena_dup(arena, text.ptr, text.len);
    const char *p = text.ptr;
    const char *end = text.ptr + text.len;
    char *out = copy;

    /* Checked text has backslashes only in strings, and each begins an escape. */
    while (p < end) {
        const char *escape = memchr(p, '\\', (size_t)(end - p));
        size_t plain = (size_t)((escape == NULL ? end : escape) - p);
        size_t len = 2;
        bool bad = false;

        memmove(out, p, plain);
        out += plain;
        p += plain;
        if (p == end)
            break;
        if (p[1] == 'u') {
            int unit = jt_hex4(p + 2);
            bool pair = is_high_surrogate(unit) && end - p >= 12 && p[6] == '\\' && p[7] == 'u' &&
                        is_low_surrogate(jt_hex4(p + 8));

            len = pair ? 12 : 6;
            bad = !pair && (unit == 0 || is_high_surrogate(unit) || is_low_surrogate(unit));
        }
        memcpy(out, bad ? "\xef\xbf\xbd" : p, bad ? 3 : len);
        out += bad ? 3 : len;
        p += len;
    }
    *out = '\0';
    return (struct str){copy, (size_t)(out - copy)};
}

enum err_code jt_check_repair(struct arena *arena, struct str text, const struct jt_limits *limits, struct str *ret,
                              struct err *err)
{
    bool unstorable;
    struct str repaired;
    enum err_code rc = check(text, limits, false, true, &unstorable, err);

    if (rc != ERR_OK)
        return rc;
    if (!unstorable) {
        *ret = text;
        return ERR_OK;
    }
    repaired = repaired_copy(arena, text);
    /* Again, since keys that differed may have become the same. */
    rc = check(repaired, limits, true, true, &unstorable, err);
    if (rc == ERR_OK)
        *ret = repaired;
    return rc;
}
