/* Objects and arrays of the walk. */
#include "common/base/ensure.h"
#include "common/schema/check.h"
#include "common/schema/value.h"

#include "common/base/banned.h"

#define SEEN_WORDS 4

/* One object on its way through the walk. */
struct members {
    const struct schema_node *node;
    const struct schema_property *properties;
    const struct schema_place *place;
    bool main_path;
    uint64_t small[SEEN_WORDS]; /* bit per property; longer sets are the arena's */
    uint64_t *seen;
    size_t count;
};

static uint32_t find_property(const struct members *m, struct str name)
{
    for (uint32_t i = 0; i < m->node->properties.count; i++) {
        if (str_eq(m->properties[i].name, name))
            return i;
    }
    return SCHEMA_NO;
}

static const char *closest_property(struct walk *w, const struct members *m, struct str name)
{
    struct schema_closest closest;

    schema_closest_init(&closest, name);
    for (uint32_t i = 0; i < m->node->properties.count; i++)
        schema_closest_try(&closest, m->properties[i].name);
    if (closest.best.ptr == NULL)
        return "";
    return arena_printf(walk_arena(w), "did you mean '" STR_FMT "'?", STR_ARG(closest.best));
}

/* What no property and no pattern knows. */
static bool check_additional(struct walk *w, const struct members *m, struct str name, struct str value,
                             const struct schema_place *place)
{
    uint32_t additional = m->node->additional;

    if (additional == SCHEMA_NO) {
        w->unknown += w->decoding && m->main_path && m->node->properties.count > 0 ? 1 : 0;
        return true;
    }
    if (w->schema->nodes[additional].types != 0)
        return walk_node(w, additional, value, place, m->main_path);
    if (w->probing)
        return false;
    return walk_fault(w, place, "unknown_field", closest_property(w, m, name), "unknown field '" STR_FMT "'",
                      STR_ARG(utf8_prefix(name, 100)));
}

static bool check_known(struct walk *w, struct members *m, uint32_t at, struct str value,
                        const struct schema_place *place)
{
    uint64_t bit = UINT64_C(1) << (at & 63);

    if ((m->seen[at / 64] & bit) != 0)
        return walk_fault(w, place, "duplicate_key", "", "is there twice");
    m->seen[at / 64] |= bit;
    /* The root's own properties, not those of another part of a schema that looks at the same object. */
    if (w->fields != NULL && m->place->up == NULL && m->node == w->schema->nodes)
        w->fields[at] = jt_type(value) == JT_NULL ? STR_NONE : value;
    return walk_node(w, m->properties[at].node, value, place, m->main_path);
}

static bool check_member(struct walk *w, struct members *m, const struct schema_member *it)
{
    struct schema_members below;
    struct schema_place place = {.up = m->place, .members = &below, .key = it->key, .key_escaped = it->key_escaped};
    /* With its quotes the key is a JSON string, as propertyNames sees it. */
    struct str quoted = {it->key.ptr - 1, it->key.len + 2};
    struct str name = it->key_escaped ? walk_string(w, quoted) : it->key;
    uint32_t at = find_property(m, name);
    bool matched = at != SCHEMA_NO;
    bool ok = true;

    below.of = NULL;
    w->budget -= 1 + m->node->properties.count / 8;
    if (m->node->names != SCHEMA_NO)
        ok = walk_node(w, m->node->names, quoted, &place, m->main_path);
    if (at != SCHEMA_NO && !walk_enough(w, ok))
        ok = check_known(w, m, at, it->value, &place) && ok;
    for (uint32_t i = 0; i < m->node->pattern_properties.count && !walk_enough(w, ok); i++) {
        const struct schema_edge *edge = &w->schema->edges[m->node->pattern_properties.first + i];

        if (pattern_matches(&w->schema->patterns[edge->key], name, &w->scratch, &w->budget)) {
            matched = true;
            ok = walk_node(w, edge->node, it->value, &place, m->main_path) && ok;
        }
    }
    if (!matched && !walk_enough(w, ok))
        ok = check_additional(w, m, name, it->value, &place) && ok;
    return ok;
}

static bool missing(struct walk *w, const struct members *m, struct str name)
{
    struct schema_place place = {.up = m->place, .key = name};

    return walk_fault(w, &place, "missing_field", "", "'" STR_FMT "' is missing", STR_ARG(utf8_prefix(name, 100)));
}

static bool check_required(struct walk *w, const struct members *m, struct str value)
{
    const struct schema_node *node = m->node;
    bool ok = true;

    for (uint32_t i = 0; i < node->properties.count && !walk_enough(w, ok); i++) {
        if (m->properties[i].required && (m->seen[i / 64] >> (i & 63) & 1) == 0)
            ok = missing(w, m, m->properties[i].name);
    }
    for (uint32_t i = 0; i < node->required.count && !walk_enough(w, ok); i++) {
        struct str name = w->schema->texts[node->required.first + i];

        w->budget -= (int64_t)value.len / 16 + 1;
        if (jt_get_str(value, name).ptr == NULL)
            ok = missing(w, m, name);
    }
    return ok;
}

static bool check_dependents(struct walk *w, const struct members *m, struct str value)
{
    const struct schema_node *node = m->node;
    bool ok = true;

    for (uint32_t i = 0; i < node->dependent_required.count && !walk_enough(w, ok); i++) {
        const struct schema_dependent *dependent = &w->schema->dependents[node->dependent_required.first + i];

        w->budget -= (int64_t)(value.len / 16 + 1) * (dependent->required.count + 1);
        if (jt_get_str(value, dependent->name).ptr == NULL)
            continue;
        for (uint32_t k = 0; k < dependent->required.count && !walk_enough(w, ok); k++) {
            struct str name = w->schema->texts[dependent->required.first + k];

            if (jt_get_str(value, name).ptr == NULL)
                ok = missing(w, m, name);
        }
    }
    for (uint32_t i = 0; i < node->dependent_schemas.count && !walk_enough(w, ok); i++) {
        const struct schema_edge *edge = &w->schema->edges[node->dependent_schemas.first + i];

        w->budget -= (int64_t)value.len / 16 + 1;
        if (jt_get_str(value, w->schema->texts[edge->key]).ptr != NULL)
            ok = walk_node(w, edge->node, value, m->place, false) && ok;
    }
    return ok;
}

static int key_cmp(const void *a, const void *b)
{
    return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

/* Keys that are no properties may be there twice as well: the names of steps. Only our own documents are looked at,
 * since what users' schemas check has been refused before. */
static bool check_duplicates(struct walk *w, const struct members *m, struct str value)
{
    struct str *keys = arena_array(walk_arena(w), m->count, sizeof(*keys));
    bool ok = true;
    struct jt_iter it;

    jt_iter_init(&it, value);
    while (jt_next(&it))
        keys[it.index] = jt_key(&it, walk_arena(w));
    qsort(keys, m->count, sizeof(*keys), key_cmp);
    for (size_t i = 1; i < m->count; i++) {
        struct schema_place place = {.up = m->place, .key = keys[i]};

        if (str_eq(keys[i], keys[i - 1]))
            ok = walk_fault(w, &place, "duplicate_key", "", "is there twice");
    }
    return ok;
}

static bool check_count(struct walk *w, const struct schema_place *place, size_t count, uint32_t min, uint32_t max,
                        const char *what)
{
    if (count < min)
        return walk_fault(w, place, "out_of_range", "", "must have at least %u %s%s", min, what, min == 1 ? "" : "s");
    if (count > max)
        return walk_fault(w, place, "out_of_range", "", "must have at most %u %s%s", max, what, max == 1 ? "" : "s");
    return true;
}

/* Does nothing of the node look inside an object? Free-form values are then not walked at all. */
static bool looks_inside(const struct schema_node *node)
{
    return node->properties.count > 0 || node->additional != SCHEMA_NO || node->names != SCHEMA_NO ||
           node->pattern_properties.count > 0 || node->required.count > 0 || node->dependent_required.count > 0 ||
           node->dependent_schemas.count > 0 || node->min_properties > 0 || node->max_properties != UINT32_MAX;
}

/* Each member in turn, from the text or as it was kept. */
static bool check_members(struct walk *w, struct members *m, struct str value)
{
    struct schema_members *kept = m->place->members;
    struct jt_iter it;
    bool ok = true;

    if (kept != NULL && kept->of == value.ptr) {
        while (m->count < kept->count && !walk_enough(w, ok))
            ok = check_member(w, m, &kept->items[m->count++]) && ok;
        return ok;
    }
    w->budget -= (int64_t)value.len / 32;
    jt_iter_init(&it, value);
    while (!walk_enough(w, ok) && jt_next(&it)) {
        struct schema_member member = {it.key, it.value, it.key_escaped};

        if (kept != NULL && m->count < SCHEMA_MEMBERS)
            kept->items[m->count] = member;
        m->count++;
        ok = check_member(w, m, &member) && ok;
    }
    if (kept != NULL && m->count <= SCHEMA_MEMBERS && !walk_enough(w, ok)) {
        kept->count = m->count;
        kept->of = value.ptr;
    }
    return ok;
}

bool walk_object(struct walk *w, const struct schema_node *node, struct str value, const struct schema_place *place,
                 bool main_path)
{
    static const struct schema_property none;
    struct members m = {.node = node, .place = place, .main_path = main_path};
    size_t words = (node->properties.count + 63) / 64;
    bool ok;

    if (!looks_inside(node))
        return true;
    m.properties = node->properties.count == 0 ? &none : w->schema->properties + node->properties.first;
    m.seen = m.small;
    if (words > SEEN_WORDS) {
        w->budget -= (int64_t)words;
        m.seen = arena_array(walk_arena(w), words, sizeof(*m.seen));
    }
    ok = check_members(w, &m, value);
    if (!walk_enough(w, ok) && w->schema->own_keywords && !w->decoding && !w->probing && m.count > 1)
        ok = check_duplicates(w, &m, value) && ok;
    if (!walk_enough(w, ok))
        ok = check_required(w, &m, value) && ok;
    if (!walk_enough(w, ok))
        ok = check_count(w, place, m.count, node->min_properties, node->max_properties, "member") && ok;
    if (!walk_enough(w, ok))
        ok = check_dependents(w, &m, value) && ok;
    return ok;
}

static bool check_contains(struct walk *w, const struct schema_node *node, struct str value,
                           const struct schema_place *place)
{
    struct jt_iter it;
    size_t found = 0;

    jt_iter_init(&it, value);
    while (!w->spent && jt_next(&it))
        found += walk_probe(w, node->contains, it.value, place) ? 1 : 0;
    return w->spent || check_count(w, place, found, node->min_contains, node->max_contains, "item of the right kind");
}

bool walk_array(struct walk *w, const struct schema_node *node, struct str value, const struct schema_place *place,
                bool main_path)
{
    bool each = node->items != SCHEMA_NO || node->prefix.count > 0;
    size_t count = 0, repeated;
    struct jt_iter it;
    bool ok = true;

    if (!each && node->contains == SCHEMA_NO && (node->flags & SCHEMA_UNIQUE) == 0 && node->min_items == 0 &&
        node->max_items == UINT32_MAX)
        return true;
    w->budget -= (int64_t)value.len / 32;
    jt_iter_init(&it, value);
    while (!walk_enough(w, ok) && jt_next(&it)) {
        struct schema_members below;
        struct schema_place item = {.up = place, .members = &below, .index = it.index};
        uint32_t at = it.index < node->prefix.count ? w->schema->lists[node->prefix.first + it.index] : node->items;

        below.of = NULL;
        count++;
        if (at != SCHEMA_NO)
            ok = walk_node(w, at, it.value, &item, main_path) && ok;
    }
    if (!walk_enough(w, ok))
        ok = check_count(w, place, count, node->min_items, node->max_items, "item") && ok;
    if ((node->flags & SCHEMA_UNIQUE) != 0 && !walk_enough(w, ok)) {
        w->budget -= (int64_t)value.len / 4;
        repeated = w->budget <= 0 ? SIZE_MAX : value_first_repeated(value, walk_arena(w));
        if (repeated != SIZE_MAX)
            ok = walk_fault(w, &(struct schema_place){.up = place, .index = repeated}, "out_of_range", "",
                            "equals an earlier item");
    }
    if (node->contains != SCHEMA_NO && !walk_enough(w, ok))
        ok = check_contains(w, node, value, place) && ok;
    return ok;
}
