/* Combinations of the walk: what looks at the same value more than once. */
#include "common/schema/check.h"

#include "common/base/banned.h"

bool walk_probe(struct walk *w, uint32_t index, struct str value, const struct schema_place *place)
{
    bool before = w->probing;
    bool ok;

    w->probing = true;
    ok = walk_node(w, index, value, place, false);
    w->probing = before;
    return ok;
}

/* What types a node takes, looking through references. */
static uint8_t types_of(const struct walk *w, uint32_t index)
{
    const struct schema_node *node = &w->schema->nodes[index];

    while (node->types == SCHEMA_ANY && node->ref != SCHEMA_NO)
        node = &w->schema->nodes[node->ref];
    return node->types;
}

static uint8_t bit_of(struct str value)
{
    static const uint8_t bits[] = {
        0, SCHEMA_NULL, SCHEMA_BOOLEAN, SCHEMA_BOOLEAN, SCHEMA_NUMBER, SCHEMA_STRING, SCHEMA_ARRAY, SCHEMA_OBJECT};

    return bits[jt_type(value)];
}

/* No alternative fits: when only one takes values of this type, its faults say more than "none fits". */
static bool explain_alternatives(struct walk *w, struct schema_range range, struct str value,
                                 const struct schema_place *place)
{
    uint32_t candidate = SCHEMA_NO;
    unsigned candidates = 0;

    if (w->probing || w->spent)
        return false;
    for (uint32_t i = 0; i < range.count; i++) {
        uint32_t node = w->schema->lists[range.first + i];

        if ((types_of(w, node) & bit_of(value)) == 0)
            continue;
        candidate = node;
        candidates++;
    }
    if (candidates == 1)
        return walk_node(w, candidate, value, place, false);
    if (candidates == 0)
        return walk_fault(w, place, "wrong_type", "", "%s is not allowed here", jt_type_name(jt_type(value)));
    return walk_fault(w, place, "out_of_range", "", "fits none of the %u alternatives", range.count);
}

static bool check_any(struct walk *w, const struct schema_node *node, struct str value,
                      const struct schema_place *place)
{
    for (uint32_t i = 0; i < node->any_of.count && !w->spent; i++) {
        if (walk_probe(w, w->schema->lists[node->any_of.first + i], value, place))
            return true;
    }
    return explain_alternatives(w, node->any_of, value, place);
}

static bool check_one(struct walk *w, const struct schema_node *node, struct str value,
                      const struct schema_place *place)
{
    unsigned fitting = 0;

    for (uint32_t i = 0; i < node->one_of.count && fitting < 2 && !w->spent; i++)
        fitting += walk_probe(w, w->schema->lists[node->one_of.first + i], value, place) ? 1 : 0;
    if (fitting == 1)
        return true;
    if (fitting > 1)
        return walk_fault(w, place, "out_of_range", "", "fits more than one alternative where only one may fit");
    return explain_alternatives(w, node->one_of, value, place);
}

bool walk_combinations(struct walk *w, const struct schema_node *node, struct str value,
                       const struct schema_place *place)
{
    bool ok = true;

    for (uint32_t i = 0; i < node->all_of.count && !walk_enough(w, ok); i++)
        ok = walk_node(w, w->schema->lists[node->all_of.first + i], value, place, false) && ok;
    if (node->any_of.count > 0 && !walk_enough(w, ok))
        ok = check_any(w, node, value, place) && ok;
    if (node->one_of.count > 0 && !walk_enough(w, ok))
        ok = check_one(w, node, value, place) && ok;
    if (node->not_ != SCHEMA_NO && !walk_enough(w, ok) && walk_probe(w, node->not_, value, place))
        ok = walk_fault(w, place, "out_of_range", "", "is what it must not be");
    if (node->if_ != SCHEMA_NO && !walk_enough(w, ok)) {
        uint32_t then = walk_probe(w, node->if_, value, place) ? node->then_ : node->else_;

        if (then != SCHEMA_NO && !w->spent)
            ok = walk_node(w, then, value, place, false) && ok;
    }
    return ok;
}
