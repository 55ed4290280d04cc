/* Walking past a checked container: what every look for a member behind a large body costs, so 64 bytes at a time where
 * the processor allows it. Bit i of a mask stands for byte i of the block. */
#include "common/base/json_internal.h"
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "common/base/banned.h"

/* Where the walk is, and in what. */
struct skip {
    const char *p;
    size_t depth; /* open brackets */
    bool in_string;
    bool escaped; /* in_string, and the byte before was a backslash that counts */
};

#ifdef __SSE2__
#define BLOCK 64

struct block {
    uint64_t quotes, backslashes, opens, closes;
};

static uint64_t equal_bits(const __m128i *parts, char byte)
{
    const __m128i all = _mm_set1_epi8(byte);
    uint64_t bits = 0;

    for (int i = 0; i < 4; i++)
        bits |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(parts[i], all)) << (16 * i);
    return bits;
}

static struct block block_read(const char *p)
{
    const __m128i lower = _mm_set1_epi8(0x20); /* '[' and ']' become '{' and '}' */
    __m128i parts[4], lowered[4];

    for (int i = 0; i < 4; i++) {
        parts[i] = _mm_loadu_si128((const __m128i *)(const void *)(p + (ptrdiff_t)(16 * i)));
        lowered[i] = _mm_or_si128(parts[i], lower);
    }
    return (struct block){equal_bits(parts, '"'), equal_bits(parts, '\\'), equal_bits(lowered, '{'),
                          equal_bits(lowered, '}')};
}

/* Bytes behind a backslash that counts. Outside of strings checked text has none. */
static uint64_t escaped_bits(uint64_t backslashes, bool *carry)
{
    uint64_t escaped = *carry ? 1 : 0;

    backslashes &= ~escaped;
    *carry = false;
    while (backslashes != 0) {
        uint64_t first = backslashes & (~backslashes + 1);

        if (first >> 63 != 0) {
            *carry = true;
            break;
        }
        escaped |= first << 1;
        backslashes &= ~(first | first << 1);
    }
    return escaped;
}

/* Each bit is the parity of the bits up to and with it: set from an opening quote to the byte before its closing one.
 */
static uint64_t parity_bits(uint64_t bits)
{
    for (unsigned shift = 1; shift < BLOCK; shift *= 2)
        bits ^= bits << shift;
    return bits;
}

/* Goes past a whole block, or to the byte in it that closes the container: true. */
static bool skip_block(struct skip *s)
{
    struct block block = block_read(s->p);
    uint64_t quotes = block.quotes & ~escaped_bits(block.backslashes, &s->escaped);
    uint64_t inside = parity_bits(quotes) ^ (s->in_string ? UINT64_MAX : 0);
    uint64_t opens = block.opens & ~inside, closes = block.closes & ~inside;

    if ((size_t)__builtin_popcountll(closes) < s->depth) {
        s->depth += (size_t)__builtin_popcountll(opens);
        s->depth -= (size_t)__builtin_popcountll(closes);
    } else {
        for (uint64_t both = opens | closes; both != 0; both &= both - 1) {
            uint64_t bit = both & (~both + 1);

            if ((opens & bit) != 0)
                s->depth++;
            else if (--s->depth == 0) {
                s->p += __builtin_ctzll(bit);
                return true;
            }
        }
    }
    s->in_string = inside >> 63 != 0;
    s->p += BLOCK;
    return false;
}

static bool skip_blocks(struct skip *s, const char *end)
{
    while (end - s->p >= BLOCK)
        if (skip_block(s))
            return true;
    return false;
}
#else
static bool skip_blocks(struct skip *s, const char *end)
{
    (void)s;
    (void)end;
    return false;
}
#endif

/* The same byte by byte, strings apart. */
static bool skip_rest(struct skip *s, const char *end)
{
    bool escaped = false;

    if (s->escaped && s->p < end)
        s->p++;
    for (; s->p < end; s->p++) {
        if (s->in_string || *s->p == '"') {
            s->p = jt_string_end(s->p + (s->in_string ? 0 : 1), end, &escaped);
            s->in_string = false;
            if (s->p == end)
                return false;
        } else if (*s->p == '{' || *s->p == '[') {
            s->depth++;
        } else if ((*s->p == '}' || *s->p == ']') && --s->depth == 0) {
            return true;
        }
    }
    return false;
}

const char *jt_container_end(const char *p, const char *end)
{
    struct skip skip = {.p = p};

    return skip_blocks(&skip, end) || skip_rest(&skip, end) ? skip.p + 1 : end;
}
