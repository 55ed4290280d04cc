/* JSON as text: a strict scanner (RFC 8259) and slices of what it has checked. There is no tree: numbers that nobody
 * touches keep their digits, and bodies travel as the bytes that came. Trees (schemas, CLI output) are jansson's.
 * All functions but jt_check take text that jt_check (or jw_*) has passed; they are pure and need no locks. */
#pragma once
#include "common/base/str.h"

enum jt_type { JT_NONE, JT_NULL, JT_FALSE, JT_TRUE, JT_NUMBER, JT_STRING, JT_ARRAY, JT_OBJECT };

struct jt_limits {
    size_t max_bytes;
    unsigned max_depth;     /* containers inside each other; api.md: 128 */
    bool refuse_duplicates; /* duplicate keys in one object */
    bool refuse_unstorable; /* what PostgreSQL cannot hold: U+0000, lone surrogates; numbers beyond a double's range */
};

extern const struct jt_limits JT_LIMITS_API;     /* 1 MiB, 128, both refused */
extern const struct jt_limits JT_LIMITS_MESSAGE; /* 40 MiB, 160, unstorable refused */

/* Is `text` exactly one JSON value in valid UTF-8 within the limits? ERR_SYNTAX with byte offset and JSON Pointer of
 * the place (duplicate keys: "duplicate key 'x' at /a/b"), ERR_TOO_LARGE for size and depth. */
enum err_code jt_check(struct str text, const struct jt_limits *limits, struct err *err) MUST_CHECK;

/* The same check but repairs what PostgreSQL cannot hold: U+0000 and lone surrogates become U+FFFD, a number beyond a
 * double's range is refused. *ret is `text` itself when nothing had to change, else memory of the arena. */
enum err_code jt_check_repair(struct arena *arena, struct str text, const struct jt_limits *limits, struct str *ret,
                              struct err *err) MUST_CHECK;

enum jt_type jt_type(struct str value);      /* JT_NONE for STR_NONE */
const char *jt_type_name(enum jt_type type); /* "object", "string", ... */

struct jt_iter {
    struct str key; /* of objects: the key, decoded when it had no escapes, else raw; see jt_key */
    bool key_escaped;
    struct str value; /* trimmed slice */
    size_t index;     /* 0 for the first */
    const char *pos_, *end_;
    bool is_object_;
};
void jt_iter_init(struct jt_iter *it, struct str container); /* an array or an object; anything else iterates nothing */
bool jt_next(struct jt_iter *it);
struct str jt_key(struct jt_iter *it, struct arena *arena); /* the decoded key */

struct str jt_get(struct str object, const char *key); /* STR_NONE when absent or no object; the first of equals */
struct str jt_get_str(struct str object, struct str key);
struct str jt_at(struct str array, size_t index);
size_t jt_count(struct str container);
/* Decodes a JSON string; without escapes *ret is a slice of the text. False when the value is no string. */
bool jt_string(struct str value, struct arena *arena, struct str *ret);
bool jt_i64(struct str value, int64_t *ret); /* integers only ("1.0" and "1e3" count as integers) */
bool jt_f64(struct str value, double *ret);
bool jt_bool(struct str value, bool *ret);
/* Canonical form for hashes: no white space, keys sorted bytewise at every level, strings and numbers as they stand
 * (keys are compared as they stand, too). */
void jt_canonical(struct str value, struct buf *out);
/* Appends "/key" to a JSON Pointer, escaping ~ and /. */
void jt_pointer_add(struct buf *pointer, struct str key);

/* Writer: appends JSON to a buf; commas are its business. Nesting is the caller's (ENSUREd against underflow). What it
 * writes is always storable: bytes that are no UTF-8 and U+0000 become U+FFFD, NaN and infinities null. */
struct jw {
    struct buf *buf;
    uint64_t has_member; /* a bit per depth */
    unsigned depth;      /* at most 60 */
    bool after_key;
};
struct jw jw_to(struct buf *buf);
void jw_obj(struct jw *w);
void jw_end_obj(struct jw *w);
void jw_arr(struct jw *w);
void jw_end_arr(struct jw *w);
void jw_key(struct jw *w, const char *key);
void jw_key_str(struct jw *w, struct str key);
void jw_str(struct jw *w, struct str s);   /* STR_NONE writes null */
void jw_cstr(struct jw *w, const char *s); /* NULL writes null */
void jw_i64(struct jw *w, int64_t n);
void jw_f64(struct jw *w, double n); /* shortest digits that read back the same */
void jw_bool(struct jw *w, bool b);
void jw_null(struct jw *w);
void jw_raw(struct jw *w, struct str json); /* checked JSON; STR_NONE writes null */
/* key and value at once */
void jw_kstr(struct jw *w, const char *key, struct str s);
void jw_kcstr(struct jw *w, const char *key, const char *s);
void jw_ki64(struct jw *w, const char *key, int64_t n);
void jw_kbool(struct jw *w, const char *key, bool b);
void jw_kraw(struct jw *w, const char *key, struct str json);
/* A string as a JSON string literal, with quotes. */
void json_quote(struct buf *buf, struct str s);
