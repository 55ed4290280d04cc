/* Views of bytes, growing buffers, whole-string number parsers, UTF-8 and the keyed hash of maps. */
#include "common/base/str.h"
#include "common/base/ensure.h"
#include <sys/random.h>

#include "common/base/banned.h"

bool str_starts(struct str s, const char *prefix)
{
    size_t len = strlen(prefix);

    return s.len >= len && (len == 0 || memcmp(s.ptr, prefix, len) == 0);
}

int str_cmp(struct str a, struct str b)
{
    size_t shorter = a.len < b.len ? a.len : b.len;
    int order = shorter == 0 ? 0 : memcmp(a.ptr, b.ptr, shorter);

    if (order != 0)
        return order < 0 ? -1 : 1;
    return (a.len > b.len) - (a.len < b.len);
}

struct str str_cut(struct str *rest, char separator)
{
    struct str part = *rest;
    const char *at = rest->len == 0 ? NULL : memchr(rest->ptr, separator, rest->len);

    if (at == NULL) {
        *rest = STR_NONE;
        return part;
    }
    part.len = (size_t)(at - rest->ptr);
    rest->ptr = at + 1;
    rest->len -= part.len + 1;
    return part;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

struct str str_trim(struct str s)
{
    while (s.len > 0 && is_space(s.ptr[0])) {
        s.ptr++;
        s.len--;
    }
    while (s.len > 0 && is_space(s.ptr[s.len - 1]))
        s.len--;
    return s;
}

struct str str_arena(struct arena *arena, struct str s)
{
    if (s.ptr == NULL)
        return STR_NONE;
    return (struct str){arena_dup(arena, s.ptr, s.len), s.len};
}

/* SipHash-1-3 (Aumasson and Bernstein; the reduced rounds are those of Rust and Python): keys come from outside, so
 * nobody may be able to make them collide on purpose. */
static uint64_t hash_key[2];

__attribute__((constructor)) static void hash_key_init(void)
{
    ENSURE(getrandom(hash_key, sizeof(hash_key), 0) == (ssize_t)sizeof(hash_key));
}

static inline uint64_t rotl(uint64_t x, unsigned bits)
{
    return x << bits | x >> (64 - bits);
}

struct sip {
    uint64_t v0, v1, v2, v3;
};

static inline void sip_round(struct sip *s)
{
    s->v0 += s->v1;
    s->v1 = rotl(s->v1, 13) ^ s->v0;
    s->v0 = rotl(s->v0, 32);
    s->v2 += s->v3;
    s->v3 = rotl(s->v3, 16) ^ s->v2;
    s->v0 += s->v3;
    s->v3 = rotl(s->v3, 21) ^ s->v0;
    s->v2 += s->v1;
    s->v1 = rotl(s->v1, 17) ^ s->v2;
    s->v2 = rotl(s->v2, 32);
}

static inline void sip_word(struct sip *s, uint64_t word)
{
    s->v3 ^= word;
    sip_round(s);
    s->v0 ^= word;
}

uint64_t str_hash(struct str s)
{
    struct sip sip = {hash_key[0] ^ UINT64_C(0x736f6d6570736575), hash_key[1] ^ UINT64_C(0x646f72616e646f6d),
                      hash_key[0] ^ UINT64_C(0x6c7967656e657261), hash_key[1] ^ UINT64_C(0x7465646279746573)};
    uint64_t word;
    uint64_t last = (uint64_t)s.len << 56;
    size_t rest = s.len % 8;

    for (size_t i = 0; i + 8 <= s.len; i += 8) {
        memcpy(&word, s.ptr + i, 8);
        sip_word(&sip, word);
    }
    for (size_t i = 0; i < rest; i++)
        last |= (uint64_t)(unsigned char)s.ptr[s.len - rest + i] << (8 * i);
    sip_word(&sip, last);
    sip.v2 ^= 0xff;
    sip_round(&sip);
    sip_round(&sip);
    sip_round(&sip);
    return sip.v0 ^ sip.v1 ^ sip.v2 ^ sip.v3;
}

static bool in_range(unsigned char c, unsigned low, unsigned high)
{
    return c >= low && c <= high;
}

size_t utf8_len_at(const char *ptr, size_t len)
{
    const unsigned char *p = (const unsigned char *)ptr;
    unsigned low = 0x80;
    unsigned high = 0xbf;
    size_t n;

    if (len == 0)
        return 0;
    if (p[0] < 0x80)
        return 1;
    if (in_range(p[0], 0xc2, 0xdf))
        n = 2;
    else if (in_range(p[0], 0xe0, 0xef))
        n = 3;
    else if (in_range(p[0], 0xf0, 0xf4))
        n = 4;
    else
        return 0;
    if (len < n)
        return 0;
    /* The second byte's range keeps out overlong forms, surrogates and what lies beyond U+10FFFF. */
    if (p[0] == 0xe0)
        low = 0xa0;
    else if (p[0] == 0xed)
        high = 0x9f;
    else if (p[0] == 0xf0)
        low = 0x90;
    else if (p[0] == 0xf4)
        high = 0x8f;
    if (!in_range(p[1], low, high))
        return 0;
    for (size_t i = 2; i < n; i++) {
        if (!in_range(p[i], 0x80, 0xbf))
            return 0;
    }
    return n;
}

struct str utf8_prefix(struct str s, size_t max)
{
    if (s.len <= max)
        return s;
    s.len = max;
    for (size_t back = 0; back < 4 && back < max; back++) {
        if (((unsigned char)s.ptr[max - back] & 0xc0) != 0x80) {
            s.len = max - back;
            break;
        }
    }
    return s;
}

bool parse_i64(struct str s, int64_t min, int64_t max, int64_t *ret)
{
    bool negative = s.len > 0 && s.ptr[0] == '-';
    int64_t n = 0;

    if (s.len == (negative ? 1U : 0U))
        return false;
    for (size_t i = negative ? 1 : 0; i < s.len; i++) {
        int digit = s.ptr[i] - '0';

        if (digit < 0 || digit > 9)
            return false;
        /* Counted downwards, since INT64_MIN has no positive counterpart. */
        if (__builtin_mul_overflow(n, 10, &n) || __builtin_sub_overflow(n, digit, &n))
            return false;
    }
    if (!negative && __builtin_sub_overflow(0, n, &n))
        return false;
    if (n < min || n > max)
        return false;
    *ret = n;
    return true;
}

bool parse_u32(struct str s, uint32_t min, uint32_t max, uint32_t *ret)
{
    int64_t n;

    if (s.len > 0 && s.ptr[0] == '-')
        return false;
    if (!parse_i64(s, min, max, &n))
        return false;
    *ret = (uint32_t)n;
    return true;
}

size_t i64_format(int64_t n, char ret[I64_TEXT_SIZE])
{
    uint64_t rest = n < 0 ? -(uint64_t)n : (uint64_t)n;
    char digits[I64_TEXT_SIZE];
    size_t at = sizeof(digits), len;

    digits[--at] = '\0';
    do {
        digits[--at] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    if (n < 0)
        digits[--at] = '-';
    len = sizeof(digits) - at;
    memcpy(ret, digits + at, len);
    return len - 1;
}

void buf_init(struct buf *buf, size_t max)
{
    ENSURE(max < SIZE_MAX);
    *buf = (struct buf){.max = max};
}

void buf_deinit(struct buf *buf)
{
    if (buf == NULL)
        return;
    mem_free(buf->ptr);
    *buf = (struct buf){.max = buf->max};
}

void buf_reset(struct buf *buf)
{
    buf->len = 0;
    buf->overflow = false;
    if (buf->ptr != NULL)
        buf->ptr[0] = '\0';
}

/* Room for `len` more bytes and the NUL. Once an append was dropped all later ones are, so that what is there is
 * always a prefix of what was meant. */
static bool buf_room(struct buf *buf, size_t len)
{
    size_t cap;

    if (buf->overflow || len > buf->max - buf->len) {
        buf->overflow = true;
        return false;
    }
    if (buf->len + len < buf->cap)
        return true;
    cap = buf->cap < 32 ? 64 : buf->cap * 2;
    if (cap < buf->len + len + 1)
        cap = buf->len + len + 1;
    if (cap > buf->max + 1)
        cap = buf->max + 1;
    buf->ptr = mem_grow(buf->ptr, cap, 1);
    buf->cap = cap;
    return true;
}

void buf_append(struct buf *buf, const void *ptr, size_t len)
{
    if (len == 0 || !buf_room(buf, len))
        return;
    memcpy(buf->ptr + buf->len, ptr, len);
    buf->len += len;
    buf->ptr[buf->len] = '\0';
}

void buf_append_str(struct buf *buf, struct str s)
{
    buf_append(buf, s.ptr, s.len);
}

void buf_append_char(struct buf *buf, char c)
{
    if (!buf_room(buf, 1))
        return;
    buf->ptr[buf->len++] = c;
    buf->ptr[buf->len] = '\0';
}

void buf_printf(struct buf *buf, const char *format, ...)
{
    char small[256];
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(small, sizeof(small), format, args);
    va_end(args);
    ENSURE(n >= 0);
    if ((size_t)n < sizeof(small)) {
        buf_append(buf, small, (size_t)n);
        return;
    }
    if (!buf_room(buf, (size_t)n))
        return;
    va_start(args, format);
    vsnprintf(buf->ptr + buf->len, (size_t)n + 1, format, args);
    va_end(args);
    buf->len += (size_t)n;
}

void buf_consume(struct buf *buf, size_t len)
{
    ENSURE(len <= buf->len);
    if (len == 0)
        return;
    memmove(buf->ptr, buf->ptr + len, buf->len - len + 1);
    buf->len -= len;
}

struct str buf_str(const struct buf *buf)
{
    return (struct str){buf->ptr == NULL ? "" : buf->ptr, buf->len};
}

char *buf_take(struct buf *buf, size_t *ret_len)
{
    char *ptr = buf->ptr == NULL ? mem_dup("", 0) : buf->ptr;

    if (ret_len != NULL)
        *ret_len = buf->len;
    *buf = (struct buf){.max = buf->max};
    return ptr;
}
