/* What the checker and the reader of JSON text share. Not for use outside common/base/json_*.c. */
#pragma once
#include "common/base/str.h"

/* White space of RFC 8259, nothing else. */
static inline bool jt_is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static inline const char *jt_skip_space(const char *p, const char *end)
{
    while (p < end && jt_is_space(*p))
        p++;
    return p;
}

/* Has any of the eight bytes its high bit set, a value below 0x20, or is a quote or a backslash? Exact as a yes or
 * no; which byte it was, the caller finds out one by one. */
static inline bool jt_word_is_special(uint64_t w)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    const uint64_t highs = UINT64_C(0x8080808080808080);
    uint64_t quote = w ^ (ones * '"');
    uint64_t backslash = w ^ (ones * '\\');

    return ((((w - ones * 0x20) | (quote - ones) | (backslash - ones)) | w) & highs) != 0;
}

/* The same for quote and backslash only: enough where the text has been checked. */
static inline bool jt_word_ends_string(uint64_t w)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    const uint64_t highs = UINT64_C(0x8080808080808080);
    uint64_t quote = w ^ (ones * '"');
    uint64_t backslash = w ^ (ones * '\\');

    return ((((quote - ones) & ~quote) | ((backslash - ones) & ~backslash)) & highs) != 0;
}

/* `p` is behind the opening quote; gives the closing quote, or `end`. Sets *escaped when a backslash was met. */
const char *jt_string_end(const char *p, const char *end, bool *escaped);

/* `p` is at an opening bracket of checked text; gives the place behind its counterpart, `end` when there is none. */
const char *jt_container_end(const char *p, const char *end);

/* Decodes the inside of a checked string (no quotes) to `out`, which holds raw.len bytes: no escape is shorter than
 * what it stands for. Lone surrogates become U+FFFD. Returns the length. */
size_t jt_unescape(struct str raw, char *out);

/* Value of the four hexadecimal digits at `p`, -1 when they are none. */
int jt_hex4(const char *p);

/* strtod for a slice of checked JSON, whatever the locale and in linear time. */
double jt_to_double(struct str number);
