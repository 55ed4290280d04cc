/* The table of keywords, and reading one subschema by it. */
#include "common/schema/keywords.h"

#include "common/base/banned.h"

static const struct keyword keywords[] = {
#define KEYWORD(name, fn, field) {name, fn, offsetof(struct schema_node, field)},
#include "common/schema/keywords.def"
#undef KEYWORD
};
#define KEYWORD_COUNT (sizeof(keywords) / sizeof(keywords[0]))

void keyword_wrong(struct schema_compiler *c, const struct keyword *keyword, const char *message)
{
    compile_fault(c, keyword->name, "wrong_type", message, "");
}

uint32_t keyword_text(struct schema_compiler *c, struct str text)
{
    struct str *slot = pool_add(c, &c->texts, sizeof(*slot), 1);

    *slot = text;
    return (uint32_t)(c->texts.count - 1);
}

uint32_t keyword_pattern(struct schema_compiler *c, const char *keyword, struct str source)
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
