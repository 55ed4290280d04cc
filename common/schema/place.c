/* What makes faults helpful: where they are, and what may have been meant. */
#include "common/base/json_internal.h"
#include "common/schema/schema_internal.h"

#include "common/base/banned.h"

#define CLOSEST_MAX 48

void schema_place_pointer(const struct schema_place *place, struct arena *arena, struct buf *out)
{
    struct str key = place->key;

    if (place->up != NULL)
        schema_place_pointer(place->up, arena, out);
    else
        return; /* the root has no name */
    if (key.ptr == NULL) {
        buf_printf(out, "/%zu", place->index);
        return;
    }
    if (place->key_escaped) {
        char *decoded = arena_dup(arena, key.ptr, key.len);

        key = (struct str){decoded, jt_unescape(key, decoded)};
    }
    jt_pointer_add(out, key);
}

void schema_closest_init(struct schema_closest *closest, struct str name)
{
    /* Half of the letters of a short name may differ, three of a long one: `retries` means `retry`. */
    *closest = (struct schema_closest){name, STR_NONE, name.len < 6 ? name.len / 2 + 1 : 4};
}

/* Edits (insert, delete, replace, swap neighbours) from `a` to `b`, both at most CLOSEST_MAX bytes. */
static size_t edit_distance(struct str a, struct str b)
{
    size_t rows[3][CLOSEST_MAX + 1];

    for (size_t j = 0; j <= b.len; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= a.len; i++) {
        size_t *now = rows[i % 3];
        const size_t *above = rows[(i + 2) % 3];
        const size_t *two_above = rows[(i + 1) % 3];

        now[0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            size_t best = above[j - 1] + (a.ptr[i - 1] == b.ptr[j - 1] ? 0 : 1);

            if (above[j] + 1 < best)
                best = above[j] + 1;
            if (now[j - 1] + 1 < best)
                best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a.ptr[i - 1] == b.ptr[j - 2] && a.ptr[i - 2] == b.ptr[j - 1] &&
                two_above[j - 2] + 1 < best)
                best = two_above[j - 2] + 1;
            now[j] = best;
        }
    }
    return rows[a.len % 3][b.len];
}

void schema_closest_try(struct schema_closest *closest, struct str candidate)
{
    size_t distance;

    if (closest->name.len > CLOSEST_MAX || candidate.len > CLOSEST_MAX || candidate.len == 0)
        return;
    distance = edit_distance(closest->name, candidate);
    if (distance < closest->distance) {
        closest->distance = distance;
        closest->best = candidate;
    }
}
