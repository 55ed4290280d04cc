/* The canonical form of JSON text: one spelling per value as far as it needs no decoding, for hashes and comparisons.
 * One pass over the text; objects are put in order when they close, in the output itself. */
#include "common/base/ensure.h"
#include "common/base/json_internal.h"
#include "common/base/json_text.h"

#include "common/base/banned.h"

/* One member of an object that is open: "key":value, without the comma. Offsets, since the output may move. */
struct member {
    size_t start;
    size_t key_len; /* of the key as it stands, behind the quote at `start` */
    size_t end;
};

struct open {
    bool object;
    size_t start;        /* of the bracket in the output */
    size_t first_member; /* of its members */
};

struct canon {
    struct buf out;
    struct open *opens;
    size_t depth, opens_cap;
    struct member *members; /* of all open objects, the innermost last */
    size_t members_len, members_cap;
    char *scratch;
    size_t scratch_cap;
};

static int member_order(const void *a, const void *b, void *out)
{
    const struct member *x = a;
    const struct member *y = b;
    const char *text = out;
    int order = str_cmp((struct str){text + x->start + 1, x->key_len}, (struct str){text + y->start + 1, y->key_len});

    /* Members with the same key stay in their order, so that the result does not depend on the sort. */
    return order != 0 ? order : (x->start > y->start) - (x->start < y->start);
}

static void open_container(struct canon *c, char bracket)
{
    if (c->depth == c->opens_cap) {
        c->opens_cap = c->opens_cap == 0 ? 32 : c->opens_cap * 2;
        c->opens = mem_grow(c->opens, c->opens_cap, sizeof(*c->opens));
    }
    c->opens[c->depth++] = (struct open){bracket == '{', c->out.len, c->members_len};
    buf_append_char(&c->out, bracket);
}

static void open_member(struct canon *c, size_t start, size_t key_len)
{
    if (c->members_len == c->members_cap) {
        c->members_cap = c->members_cap == 0 ? 64 : c->members_cap * 2;
        c->members = mem_grow(c->members, c->members_cap, sizeof(*c->members));
    }
    c->members[c->members_len++] = (struct member){start, key_len, 0};
}

/* The innermost container is an object whose last member is complete up to here. */
static void end_member(struct canon *c)
{
    const struct open *o = c->depth == 0 ? NULL : &c->opens[c->depth - 1];

    if (o != NULL && o->object && c->members_len > o->first_member)
        c->members[c->members_len - 1].end = c->out.len;
}

static bool in_order(const struct canon *c, const struct member *members, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        if (member_order(&members[i - 1], &members[i], c->out.ptr) > 0)
            return false;
    }
    return true;
}

static void sort_members(struct canon *c, const struct open *o)
{
    size_t count = c->members_len - o->first_member;
    size_t bytes = c->out.len - o->start;
    size_t len = 1;
    struct member *members;

    if (count < 2)
        return;
    members = c->members + o->first_member;
    if (in_order(c, members, count))
        return;
    qsort_r(members, count, sizeof(*members), member_order, c->out.ptr);
    if (c->scratch_cap < bytes) {
        c->scratch_cap = bytes * 2;
        c->scratch = mem_grow(c->scratch, c->scratch_cap, 1);
    }
    for (size_t i = 0; i < count; i++) {
        size_t n = members[i].end - members[i].start;

        if (i > 0)
            c->scratch[len++] = ',';
        memcpy(c->scratch + len, c->out.ptr + members[i].start, n);
        len += n;
    }
    ENSURE(len == bytes);
    memcpy(c->out.ptr + o->start + 1, c->scratch + 1, bytes - 1);
}

static void close_container(struct canon *c, char bracket)
{
    struct open *o;

    if (c->depth == 0)
        return;
    end_member(c);
    o = &c->opens[c->depth - 1];
    if (o->object) {
        sort_members(c, o);
        c->members_len = o->first_member;
    }
    c->depth--;
    buf_append_char(&c->out, bracket);
}

/* Copies the string at `p`; gives the place behind it. */
static const char *copy_string(struct canon *c, const char *p, const char *end, bool is_key)
{
    bool escaped = false;
    const char *quote = jt_string_end(p + 1, end, &escaped);
    const char *behind = quote == end ? end : quote + 1;

    if (is_key)
        open_member(c, c->out.len, (size_t)(quote - p) - 1);
    buf_append(&c->out, p, (size_t)(behind - p));
    return behind;
}

void jt_canonical(struct str value, struct buf *out)
{
    struct canon c = {0};
    const char *p = value.ptr;
    const char *end;
    bool key = false;

    if (value.len == 0)
        return;
    end = value.ptr + value.len;
    buf_init(&c.out, value.len);
    while (p < end) {
        const char *start = p;

        switch (*p) {
        case '"':
            p = copy_string(&c, p, end, key);
            key = false;
            break;
        case '{':
        case '[':
            open_container(&c, *p++);
            key = c.opens[c.depth - 1].object;
            break;
        case '}':
        case ']':
            close_container(&c, *p++);
            key = false;
            break;
        case ',':
            end_member(&c);
            buf_append_char(&c.out, *p++);
            key = c.depth > 0 && c.opens[c.depth - 1].object;
            break;
        case ' ':
        case '\t':
        case '\n':
        case '\r':
            p++;
            break;
        default:
            p++;
            while (p < end && memchr("\"{}[], \t\n\r", *p, 9) == NULL)
                p++;
            buf_append(&c.out, start, (size_t)(p - start));
            break;
        }
    }
    buf_append_str(out, buf_str(&c.out));
    buf_deinit(&c.out);
    mem_free(c.opens);
    mem_free(c.members);
    mem_free(c.scratch);
}
