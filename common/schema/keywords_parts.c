/* Keywords that hold schemas for the parts of a value, or speak of its parts by name. */
#include "common/schema/keywords.h"

#include "common/base/banned.h"

void kw_schema(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    uint32_t child = compile_child(c, value, keyword->name, STR_NONE, SIZE_MAX);

    *(uint32_t *)field_now(c, keyword) = child;
}

void kw_items(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    if (jt_type(value) == JT_ARRAY)
        compile_fault(c, keyword->name, "not_available", "a list of schemas in items belongs to older drafts",
                      "prefixItems");
    else
        kw_schema(c, keyword, value);
}

void kw_schema_list(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    struct schema_range range = {(uint32_t)c->lists.count, (uint32_t)jt_count(value)};
    struct jt_iter it;

    if (jt_type(value) != JT_ARRAY || range.count == 0) {
        keyword_wrong(c, keyword, "must be a list of schemas, not empty");
        return;
    }
    (void)pool_add(c, &c->lists, sizeof(uint32_t), range.count);
    *(struct schema_range *)field_now(c, keyword) = range;
    jt_iter_init(&it, value);
    while (jt_next(&it)) {
        uint32_t child = compile_child(c, it.value, keyword->name, STR_NONE, it.index);

        ((uint32_t *)c->lists.ptr)[range.first + it.index] = child;
    }
}

void kw_properties(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    struct schema_range range = {(uint32_t)c->properties.count, (uint32_t)jt_count(value)};
    struct jt_iter it;

    if (jt_type(value) != JT_OBJECT) {
        keyword_wrong(c, keyword, "must be an object of schemas");
        return;
    }
    (void)pool_add(c, &c->properties, sizeof(struct schema_property), range.count);
    node_now(c)->properties = range;
    jt_iter_init(&it, value);
    while (jt_next(&it)) {
        struct str name = jt_key(&it, c->arena);
        uint32_t child = compile_child(c, it.value, keyword->name, name, SIZE_MAX);

        ((struct schema_property *)c->properties.ptr)[range.first + it.index] =
            (struct schema_property){name, child, false};
    }
}

/* patternProperties and dependentSchemas: a key that is a pattern or a name, and a schema. */
static void schema_edges(struct schema_compiler *c, const struct keyword *keyword, struct str value, bool patterns)
{
    struct schema_range range = {(uint32_t)c->edges.count, (uint32_t)jt_count(value)};
    struct jt_iter it;

    if (jt_type(value) != JT_OBJECT) {
        keyword_wrong(c, keyword, "must be an object of schemas");
        return;
    }
    (void)pool_add(c, &c->edges, sizeof(struct schema_edge), range.count);
    *(struct schema_range *)field_now(c, keyword) = range;
    jt_iter_init(&it, value);
    while (jt_next(&it)) {
        struct str name = jt_key(&it, c->arena);
        uint32_t child = compile_child(c, it.value, keyword->name, name, SIZE_MAX);
        uint32_t key = patterns ? keyword_pattern(c, keyword->name, name) : keyword_text(c, name);

        ((struct schema_edge *)c->edges.ptr)[range.first + it.index] = (struct schema_edge){key, child};
    }
}

void kw_pattern_properties(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    schema_edges(c, keyword, value, true);
}

void kw_dependent_schemas(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    schema_edges(c, keyword, value, false);
}

/* Definitions are read even when nothing refers to them: a fault in one should not wait for its first use. */
void kw_definitions(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    struct jt_iter it;

    if (jt_type(value) != JT_OBJECT) {
        keyword_wrong(c, keyword, "must be an object of schemas");
        return;
    }
    jt_iter_init(&it, value);
    while (jt_next(&it))
        (void)compile_child(c, it.value, keyword->name, jt_key(&it, c->arena), SIZE_MAX);
}

/* Appends the strings of a list to the texts. */
static bool add_names(struct schema_compiler *c, struct str list, struct schema_range *ret)
{
    struct jt_iter it;
    struct str name;

    *ret = (struct schema_range){(uint32_t)c->texts.count, (uint32_t)jt_count(list)};
    if (jt_type(list) != JT_ARRAY)
        return false;
    jt_iter_init(&it, list);
    while (jt_next(&it)) {
        if (!jt_string(it.value, c->arena, &name))
            return false;
        (void)keyword_text(c, name);
    }
    return true;
}

void kw_required(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    struct schema_range names;

    if (add_names(c, value, &names))
        node_now(c)->required = names;
    else
        keyword_wrong(c, keyword, "must be a list of names");
}

void kw_dependent_required(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    struct schema_range range = {(uint32_t)c->dependents.count, (uint32_t)jt_count(value)};
    struct jt_iter it;

    if (jt_type(value) != JT_OBJECT) {
        keyword_wrong(c, keyword, "must be an object of lists of names");
        return;
    }
    (void)pool_add(c, &c->dependents, sizeof(struct schema_dependent), range.count);
    node_now(c)->dependent_required = range;
    jt_iter_init(&it, value);
    while (jt_next(&it)) {
        struct schema_dependent *slot = (struct schema_dependent *)c->dependents.ptr + range.first + it.index;

        slot->name = jt_key(&it, c->arena);
        if (!add_names(c, it.value, &slot->required))
            keyword_wrong(c, keyword, "must be an object of lists of names");
    }
}
