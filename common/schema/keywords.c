/* The keywords of the subset: what each may hold and where it goes in the node. */
#include "common/schema/compile.h"
#include "common/schema/value.h"

#include "common/base/banned.h"

struct keyword;
typedef void (*keyword_fn)(struct schema_compiler *c, const struct keyword *keyword, struct str value);

struct keyword {
    const char *name;
    keyword_fn fn;
    size_t offset; /* of the field in struct schema_node */
};

/* The field of the node being compiled; only good until the next node is queued. */
static void *field(const struct schema_compiler *c, const struct keyword *keyword)
{
    return (char *)&((struct schema_node *)c->nodes.ptr)[c->node] + keyword->offset;
}

static struct schema_node *node_now(const struct schema_compiler *c)
{
    return &((struct schema_node *)c->nodes.ptr)[c->node];
}

static void wrong(struct schema_compiler *c, const struct keyword *keyword, const char *message)
{
    compile_fault(c, keyword->name, "wrong_type", message, "");
}

static uint32_t add_text(struct schema_compiler *c, struct str text)
{
    struct str *slot = pool_add(c, &c->texts, sizeof(*slot), 1);

    *slot = text;
    return (uint32_t)(c->texts.count - 1);
}

static void kw_annotation(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    (void)c;
    (void)keyword;
    (void)value;
}

static void kw_dialect(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    struct str dialect;

    if (!jt_string(value, c->arena, &dialect))
        wrong(c, keyword, "must be a string");
    else if (!str_is(dialect, "https://json-schema.org/draft/2020-12/schema") &&
             !str_is(dialect, "https://json-schema.org/draft/2020-12/schema#"))
        compile_fault(c, keyword->name, "not_available", "only JSON Schema 2020-12 is supported",
                      "\"https://json-schema.org/draft/2020-12/schema\"");
}

/* An $id in the root only names the schema; below it would move the base of references. */
static void kw_id(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    (void)value;
    if (c->node != 0)
        compile_fault(c, keyword->name, "not_available", "$id is supported at the root only", "");
}

static void kw_type(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    static const struct {
        const char *name;
        uint8_t bits;
    } types[] = {{"null", SCHEMA_NULL},     {"boolean", SCHEMA_BOOLEAN}, {"integer", SCHEMA_INTEGER},
                 {"number", SCHEMA_NUMBER}, {"string", SCHEMA_STRING},   {"array", SCHEMA_ARRAY},
                 {"object", SCHEMA_OBJECT}};
    struct jt_iter it;
    struct str name;
    uint8_t bits = 0;
    bool one = jt_type(value) == JT_STRING;

    jt_iter_init(&it, value);
    while (one || jt_next(&it)) {
        bool known = false;

        if (!jt_string(one ? value : it.value, c->arena, &name))
            name = STR_NONE;
        for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
            if (str_is(name, types[i].name)) {
                bits |= types[i].bits;
                known = true;
            }
        }
        if (!known) {
            compile_fault(c, keyword->name, "out_of_range", "must be a type or a list of types",
                          "null boolean integer number string array object");
            return;
        }
        if (one)
            break;
    }
    if (bits == 0) {
        wrong(c, keyword, "must be a type or a list of types");
        return;
    }
    node_now(c)->types = bits;
}

static void kw_enum(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    struct jt_iter it;

    if (jt_type(value) != JT_ARRAY || jt_count(value) == 0) {
        wrong(c, keyword, "must be a list of values, not empty");
        return;
    }
    if (node_now(c)->flags & SCHEMA_CONST) {
        compile_fault(c, keyword->name, "not_available", "enum beside const is not supported", "");
        return;
    }
    node_now(c)->values = (struct schema_range){(uint32_t)c->texts.count, (uint32_t)jt_count(value)};
    jt_iter_init(&it, value);
    while (jt_next(&it))
        (void)add_text(c, str_trim(it.value));
}

/* const beside enum would need two lists: written as an allOf it means the same. */
static void kw_const(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    struct schema_node *node = node_now(c);

    if (node->values.count > 0) {
        compile_fault(c, keyword->name, "not_available", "const beside enum is not supported", "");
        return;
    }
    node->values = (struct schema_range){add_text(c, str_trim(value)), 1};
    node->flags |= SCHEMA_CONST;
}

static void kw_schema(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    uint32_t child = compile_child(c, value, keyword->name, STR_NONE, SIZE_MAX);

    *(uint32_t *)field(c, keyword) = child;
}

static void kw_items(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    if (jt_type(value) == JT_ARRAY)
        compile_fault(c, keyword->name, "not_available", "a list of schemas in items belongs to older drafts",
                      "prefixItems");
    else
        kw_schema(c, keyword, value);
}

static void kw_schema_list(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    struct schema_range range = {(uint32_t)c->lists.count, (uint32_t)jt_count(value)};
    struct jt_iter it;

    if (jt_type(value) != JT_ARRAY || range.count == 0) {
        wrong(c, keyword, "must be a list of schemas, not empty");
        return;
    }
    (void)pool_add(c, &c->lists, sizeof(uint32_t), range.count);
    *(struct schema_range *)field(c, keyword) = range;
    jt_iter_init(&it, value);
    while (jt_next(&it)) {
        uint32_t child = compile_child(c, it.value, keyword->name, STR_NONE, it.index);

        ((uint32_t *)c->lists.ptr)[range.first + it.index] = child;
    }
}

static void kw_properties(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    struct schema_range range = {(uint32_t)c->properties.count, (uint32_t)jt_count(value)};
    struct jt_iter it;

    if (jt_type(value) != JT_OBJECT) {
        wrong(c, keyword, "must be an object of schemas");
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

/* A regular expression of the schema; its number among the patterns, or SCHEMA_NO after a fault. */
static uint32_t add_pattern(struct schema_compiler *c, const char *keyword, struct str source)
{
    struct pattern pattern = {0};
    struct pattern *slot;
    struct err err;
    enum err_code rc = pattern_compile(c->arena, source, &pattern, &err);

    if (rc != ERR_OK) {
        compile_fault(c, keyword, rc == ERR_NOT_AVAILABLE ? "not_available" : "bad_expression", err.message, "");
        return SCHEMA_NO;
    }
    slot = pool_add(c, &c->patterns, sizeof(*slot), 1);
    *slot = pattern;
    return (uint32_t)(c->patterns.count - 1);
}

/* patternProperties and dependentSchemas: a key that is a pattern or a name, and a schema. */
static void schema_edges(struct schema_compiler *c, const struct keyword *keyword, struct str value, bool patterns)
{
    struct schema_range range = {(uint32_t)c->edges.count, (uint32_t)jt_count(value)};
    struct jt_iter it;

    if (jt_type(value) != JT_OBJECT) {
        wrong(c, keyword, "must be an object of schemas");
        return;
    }
    (void)pool_add(c, &c->edges, sizeof(struct schema_edge), range.count);
    *(struct schema_range *)field(c, keyword) = range;
    jt_iter_init(&it, value);
    while (jt_next(&it)) {
        struct str name = jt_key(&it, c->arena);
        uint32_t child = compile_child(c, it.value, keyword->name, name, SIZE_MAX);
        uint32_t key = patterns ? add_pattern(c, keyword->name, name) : add_text(c, name);

        ((struct schema_edge *)c->edges.ptr)[range.first + it.index] = (struct schema_edge){key, child};
    }
}

static void kw_pattern_properties(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    schema_edges(c, keyword, value, true);
}

static void kw_dependent_schemas(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    schema_edges(c, keyword, value, false);
}

/* Definitions are read even when nothing refers to them: a fault in one should not wait for its first use. */
static void kw_definitions(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    struct jt_iter it;

    if (jt_type(value) != JT_OBJECT) {
        wrong(c, keyword, "must be an object of schemas");
        return;
    }
    jt_iter_init(&it, value);
    while (jt_next(&it))
        (void)compile_child(c, it.value, keyword->name, jt_key(&it, c->arena), SIZE_MAX);
}

static void kw_number(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    if (jt_type(value) != JT_NUMBER) {
        wrong(c, keyword, "must be a number");
        return;
    }
    *(uint32_t *)field(c, keyword) = add_text(c, str_trim(value));
}

static void kw_multiple(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    if (jt_type(value) == JT_NUMBER && !number_can_divide(str_trim(value)))
        compile_fault(c, keyword->name, "out_of_range", "must be more than zero and have at most 18 digits", "");
    else
        kw_number(c, keyword, value);
}

static void kw_count(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    int64_t n;

    if (!jt_i64(value, &n) || n < 0)
        wrong(c, keyword, "must be a whole number, not negative");
    else
        *(uint32_t *)field(c, keyword) = n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
}

static void kw_unique(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    bool on;

    if (!jt_bool(value, &on))
        wrong(c, keyword, "must be true or false");
    else if (on)
        node_now(c)->flags |= SCHEMA_UNIQUE;
}

static void kw_pattern(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    struct str source;
    uint32_t pattern;

    if (!jt_string(value, c->arena, &source)) {
        wrong(c, keyword, "must be a string");
        return;
    }
    pattern = add_pattern(c, keyword->name, source);
    node_now(c)->pattern = pattern;
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
        (void)add_text(c, name);
    }
    return true;
}

static void kw_required(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    struct schema_range names;

    if (add_names(c, value, &names))
        node_now(c)->required = names;
    else
        wrong(c, keyword, "must be a list of names");
}

static void kw_dependent_required(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    struct schema_range range = {(uint32_t)c->dependents.count, (uint32_t)jt_count(value)};
    struct jt_iter it;

    if (jt_type(value) != JT_OBJECT) {
        wrong(c, keyword, "must be an object of lists of names");
        return;
    }
    (void)pool_add(c, &c->dependents, sizeof(struct schema_dependent), range.count);
    node_now(c)->dependent_required = range;
    jt_iter_init(&it, value);
    while (jt_next(&it)) {
        struct schema_dependent *slot = (struct schema_dependent *)c->dependents.ptr + range.first + it.index;

        slot->name = jt_key(&it, c->arena);
        if (!add_names(c, it.value, &slot->required))
            wrong(c, keyword, "must be an object of lists of names");
    }
}

static void kw_ref(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    (void)keyword;
    compile_ref(c, value);
}

/* Formats are annotations, as 2020-12 has it, but for our own. */
static void kw_format(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    struct str format;

    if (!jt_string(value, c->arena, &format))
        wrong(c, keyword, "must be a string");
    else if (c->options.own_keywords && str_is(format, "x-duration"))
        node_now(c)->flags |= SCHEMA_DURATION;
}

static void kw_own_text(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    struct str text;

    if (c->options.own_keywords && jt_string(value, c->arena, &text))
        *(uint32_t *)field(c, keyword) = add_text(c, text);
}

static void kw_own_count(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    if (c->options.own_keywords)
        kw_count(c, keyword, value);
}

#define IN(name) offsetof(struct schema_node, name)

static const struct keyword keywords[] = {
    {"type", kw_type, 0},
    {"enum", kw_enum, 0},
    {"const", kw_const, 0},
    {"properties", kw_properties, IN(properties)},
    {"required", kw_required, IN(required)},
    {"additionalProperties", kw_schema, IN(additional)},
    {"patternProperties", kw_pattern_properties, IN(pattern_properties)},
    {"propertyNames", kw_schema, IN(names)},
    {"minProperties", kw_count, IN(min_properties)},
    {"maxProperties", kw_count, IN(max_properties)},
    {"dependentRequired", kw_dependent_required, IN(dependent_required)},
    {"dependentSchemas", kw_dependent_schemas, IN(dependent_schemas)},
    {"items", kw_items, IN(items)},
    {"prefixItems", kw_schema_list, IN(prefix)},
    {"contains", kw_schema, IN(contains)},
    {"minContains", kw_count, IN(min_contains)},
    {"maxContains", kw_count, IN(max_contains)},
    {"minItems", kw_count, IN(min_items)},
    {"maxItems", kw_count, IN(max_items)},
    {"uniqueItems", kw_unique, 0},
    {"minLength", kw_count, IN(min_length)},
    {"maxLength", kw_count, IN(max_length)},
    {"pattern", kw_pattern, IN(pattern)},
    {"format", kw_format, 0},
    {"minimum", kw_number, IN(minimum)},
    {"maximum", kw_number, IN(maximum)},
    {"exclusiveMinimum", kw_number, IN(above)},
    {"exclusiveMaximum", kw_number, IN(below)},
    {"multipleOf", kw_multiple, IN(multiple_of)},
    {"allOf", kw_schema_list, IN(all_of)},
    {"anyOf", kw_schema_list, IN(any_of)},
    {"oneOf", kw_schema_list, IN(one_of)},
    {"not", kw_schema, IN(not_)},
    {"if", kw_schema, IN(if_)},
    {"then", kw_schema, IN(then_)},
    {"else", kw_schema, IN(else_)},
    {"$ref", kw_ref, 0},
    {"$defs", kw_definitions, 0},
    {"definitions", kw_definitions, 0},
    {"$schema", kw_dialect, 0},
    {"$id", kw_id, 0},
    {"$comment", kw_annotation, 0},
    {"title", kw_annotation, 0},
    {"description", kw_annotation, 0},
    {"default", kw_annotation, 0},
    {"examples", kw_annotation, 0},
    {"deprecated", kw_annotation, 0},
    {"readOnly", kw_annotation, 0},
    {"writeOnly", kw_annotation, 0},
    {"contentEncoding", kw_annotation, 0},
    {"contentMediaType", kw_annotation, 0},
    {"contentSchema", kw_annotation, 0},
    {"x-code", kw_own_text, IN(code)},
    {"x-hint", kw_own_text, IN(hint)},
    {"x-maxBytes", kw_own_count, IN(max_bytes)},
};
#define KEYWORD_COUNT (sizeof(keywords) / sizeof(keywords[0]))

/* Any other keyword would be a promise that nobody keeps. Those that begin with x- promise nothing. */
static void unknown_keyword(struct schema_compiler *c, struct str name)
{
    struct schema_closest closest;
    const char *message;
    const char *hint = "";

    if (str_starts(name, "x-"))
        return;
    schema_closest_init(&closest, name);
    for (size_t i = 0; i < KEYWORD_COUNT; i++)
        schema_closest_try(&closest, str_of(keywords[i].name));
    message = arena_printf(c->arena, "the keyword '" STR_FMT "' is not supported", STR_ARG(utf8_prefix(name, 100)));
    if (closest.best.ptr != NULL)
        hint = arena_printf(c->arena, "did you mean " STR_FMT "?", STR_ARG(closest.best));
    compile_fault(c, arena_dup(c->arena, name.ptr, name.len), "not_available", message, hint);
}

/* Names that are required and known as properties are marked there; the rest stays a list. */
static void settle_required(struct schema_compiler *c)
{
    struct schema_node *node = node_now(c);
    struct schema_property *properties = c->properties.ptr;
    struct str *texts = c->texts.ptr;
    uint32_t kept = 0;

    for (uint32_t i = 0; i < node->required.count; i++) {
        struct str name = texts[node->required.first + i];
        bool known = false;

        for (uint32_t k = 0; k < node->properties.count && !known; k++) {
            struct schema_property *property = &properties[node->properties.first + k];

            known = str_eq(property->name, name);
            property->required = property->required || known;
        }
        if (!known)
            texts[node->required.first + kept++] = name;
    }
    node->required.count = kept;
}

void compile_node(struct schema_compiler *c, struct str value)
{
    enum jt_type type = jt_type(value);
    struct jt_iter it;

    if (type == JT_FALSE)
        node_now(c)->types = 0;
    if (type == JT_FALSE || type == JT_TRUE)
        return;
    if (type != JT_OBJECT) {
        compile_fault(c, NULL, "wrong_type", "a schema must be an object, true or false", "");
        return;
    }
    jt_iter_init(&it, value);
    while (jt_next(&it)) {
        struct str name = jt_key(&it, c->arena);
        size_t i = 0;

        while (i < KEYWORD_COUNT && !str_is(name, keywords[i].name))
            i++;
        if (i == KEYWORD_COUNT)
            unknown_keyword(c, name);
        else
            keywords[i].fn(c, &keywords[i], it.value);
    }
    settle_required(c);
}
