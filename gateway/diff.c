/* See diff.h. Depth is bounded by jt_check. */
#include "gateway/diff.h"
#include "common/base/ensure.h"
#include "common/base/map.h"

#include "common/base/banned.h"

#define POINTER_MAX ((size_t)1 << 21)

struct diff {
    struct jw *w;
    struct arena *arena;
    struct buf pointer;
};

static void compare(struct diff *d, struct str from, struct str to);

static void put(struct diff *d, const char *op, struct str from, struct str to)
{
    jw_obj(d->w);
    jw_kcstr(d->w, "op", op);
    jw_kstr(d->w, "pointer", d->pointer.len == 0 ? STR("") : buf_str(&d->pointer));
    if (from.ptr != NULL)
        jw_kraw(d->w, "from", from);
    if (to.ptr != NULL)
        jw_kraw(d->w, "to", to);
    jw_end_obj(d->w);
}

static void cut_pointer(struct diff *d, size_t len)
{
    d->pointer.len = len;
    if (d->pointer.ptr != NULL)
        d->pointer.ptr[len] = '\0';
}

/* One member or element: STR_NONE where it is not there. */
static void compare_below(struct diff *d, struct str key, struct str from, struct str to)
{
    size_t len = d->pointer.len;

    jt_pointer_add(&d->pointer, key);
    if (from.ptr == NULL)
        put(d, "added", from, to);
    else if (to.ptr == NULL)
        put(d, "removed", from, to);
    else
        compare(d, from, to);
    cut_pointer(d, len);
}

/* Members by key, so that the cost does not depend on their order. */
static struct map *members(struct diff *d, struct str object)
{
    struct map *map = map_new();
    struct jt_iter it;

    jt_iter_init(&it, object);
    while (jt_next(&it)) {
        struct str *value = arena_alloc(d->arena, sizeof(*value));

        *value = it.value;
        (void)map_put(map, jt_key(&it, d->arena), value);
    }
    return map;
}

static void compare_objects(struct diff *d, struct str from, struct str to)
{
    struct map *old = members(d, from), *new = members(d, to);
    struct jt_iter it;

    jt_iter_init(&it, from);
    while (jt_next(&it)) {
        struct str key = jt_key(&it, d->arena);
        const struct str *other = map_get(new, key);

        compare_below(d, key, it.value, other == NULL ? STR_NONE : *other);
    }
    jt_iter_init(&it, to);
    while (jt_next(&it)) {
        struct str key = jt_key(&it, d->arena);

        if (map_get(old, key) == NULL)
            compare_below(d, key, STR_NONE, it.value);
    }
    map_free(old);
    map_free(new);
}

static void compare_lists(struct diff *d, struct str from, struct str to)
{
    struct jt_iter a, b;

    jt_iter_init(&a, from);
    jt_iter_init(&b, to);
    for (size_t i = 0;; i++) {
        bool more_a = jt_next(&a), more_b = jt_next(&b);
        char index[24];

        if (!more_a && !more_b)
            return;
        snprintf(index, sizeof(index), "%zu", i);
        compare_below(d, str_of(index), more_a ? a.value : STR_NONE, more_b ? b.value : STR_NONE);
    }
}

static bool same_scalar(struct str from, struct str to)
{
    CLEANUP(buf_deinit) struct buf a = {0}, b = {0};

    if (str_eq(from, to))
        return true;
    buf_init(&a, from.len * 6 + 64);
    buf_init(&b, to.len * 6 + 64);
    jt_canonical(from, &a);
    jt_canonical(to, &b);
    ENSURE(!a.overflow && !b.overflow);
    return str_eq(buf_str(&a), buf_str(&b));
}

static void compare(struct diff *d, struct str from, struct str to)
{
    enum jt_type type = jt_type(from);

    if (type == JT_OBJECT && jt_type(to) == JT_OBJECT)
        compare_objects(d, from, to);
    else if (type == JT_ARRAY && jt_type(to) == JT_ARRAY)
        compare_lists(d, from, to);
    else if (type != jt_type(to) || !same_scalar(from, to))
        put(d, "changed", from, to);
}

void diff_write(struct jw *w, struct str from, struct str to)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(4096);
    struct diff d = {.w = w, .arena = arena};

    buf_init(&d.pointer, POINTER_MAX);
    jw_arr(w);
    compare(&d, from, to);
    jw_end_arr(w);
    buf_deinit(&d.pointer);
}
