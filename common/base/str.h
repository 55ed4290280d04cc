/* struct str is a borrowed view (not NUL-terminated); struct buf owns, grows up to its maximum and ends in NUL. */
#pragma once
#include "common/base/err.h"
#include "common/base/mem.h"
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

struct str {
    const char *ptr; /* NULL means absent, which is not the same as empty */
    size_t len;
};

#define STR(literal) ((struct str){"" literal, sizeof(literal) - 1})
#define STR_NONE ((struct str){NULL, 0})
#define STR_FMT "%.*s"
#define STR_ARG(s) (int)(s).len, (s).ptr == NULL ? "" : (s).ptr

static inline struct str str_of(const char *s)
{
    return (struct str){s, s == NULL ? 0 : strlen(s)};
}
static inline bool str_eq(struct str a, struct str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}
/* Here, so that a literal's length is known when this is compiled. */
static inline bool str_is(struct str a, const char *literal)
{
    return str_eq(a, str_of(literal));
}
bool str_starts(struct str s, const char *prefix);
int str_cmp(struct str a, struct str b);              /* bytewise, then by length */
struct str str_cut(struct str *rest, char separator); /* takes the part before the separator off *rest */
struct str str_trim(struct str s);
struct str str_arena(struct arena *arena, struct str s); /* copy, NUL behind; STR_NONE stays STR_NONE */
uint64_t str_hash(struct str s); /* SipHash-1-3 with a key per process: never store or send it */
/* Bytes (1..4) of the well-formed UTF-8 sequence at `ptr`, 0 when there is none within `len` (RFC 3629). */
size_t utf8_len_at(const char *ptr, size_t len);
/* The longest prefix of at most `max` bytes that does not split a UTF-8 sequence. */
struct str utf8_prefix(struct str s, size_t max);

/* Parsers of settings, headers and query values: the whole string or nothing. */
bool parse_u32(struct str s, uint32_t min, uint32_t max, uint32_t *ret);
bool parse_i64(struct str s, int64_t min, int64_t max, int64_t *ret);
#define I64_TEXT_SIZE 21
size_t i64_format(int64_t n, char ret[I64_TEXT_SIZE]); /* as "%lld" does, in a tenth of its time; gives the length */

struct buf {
    char *ptr;
    size_t len;
    size_t cap;
    size_t max; /* bound in bytes; an append beyond it sets `overflow` and is dropped */
    bool overflow;
};

void buf_init(struct buf *buf, size_t max);
void buf_deinit(struct buf *buf); /* also CLEANUP(buf_deinit) */
void buf_reset(struct buf *buf);  /* empty and reusable, keeps its memory */
void buf_append(struct buf *buf, const void *ptr, size_t len);
void buf_append_str(struct buf *buf, struct str s);
void buf_append_char(struct buf *buf, char c);
void buf_printf(struct buf *buf, const char *format, ...) PRINTF_LIKE(2, 3);
void buf_consume(struct buf *buf, size_t len);    /* drops the first len bytes */
struct str buf_str(const struct buf *buf);        /* view, valid until the next change */
char *buf_take(struct buf *buf, size_t *ret_len); /* hands the memory over (mem_free), leaves it empty */
