/* Keywords that say something about a value itself. */
#include "common/schema/keywords.h"
#include "common/schema/value.h"

#include "common/base/banned.h"

void kw_annotation(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    (void)c;
    (void)keyword;
    (void)value;
}

void kw_dialect(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    struct str dialect;

    if (!jt_string(value, c->arena, &dialect))
        keyword_wrong(c, keyword, "must be a string");
    else if (!str_is(dialect, "https://json-schema.org/draft/2020-12/schema") &&
             !str_is(dialect, "https://json-schema.org/draft/2020-12/schema#"))
        compile_fault(c, keyword->name, "not_available", "only JSON Schema 2020-12 is supported",
                      "\"https://json-schema.org/draft/2020-12/schema\"");
}

/* An $id in the root only names the schema; below it would move the base of references. */
void kw_id(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    (void)value;
    if (c->node != 0)
        compile_fault(c, keyword->name, "not_available", "$id is supported at the root only", "");
}

void kw_type(struct schema_compiler *c, const struct keyword *keyword, struct str value)
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
        keyword_wrong(c, keyword, "must be a type or a list of types");
        return;
    }
    node_now(c)->types = bits;
}

void kw_enum(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    struct jt_iter it;

    if (jt_type(value) != JT_ARRAY || jt_count(value) == 0) {
        keyword_wrong(c, keyword, "must be a list of values, not empty");
        return;
    }
    if (node_now(c)->flags & SCHEMA_CONST) {
        compile_fault(c, keyword->name, "not_available", "enum beside const is not supported", "");
        return;
    }
    node_now(c)->values = (struct schema_range){(uint32_t)c->texts.count, (uint32_t)jt_count(value)};
    jt_iter_init(&it, value);
    while (jt_next(&it))
        (void)keyword_text(c, str_trim(it.value));
}

/* const beside enum would need two lists: written as an allOf it means the same. */
void kw_const(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    struct schema_node *node = node_now(c);

    if (node->values.count > 0) {
        compile_fault(c, keyword->name, "not_available", "const beside enum is not supported", "");
        return;
    }
    node->values = (struct schema_range){keyword_text(c, str_trim(value)), 1};
    node->flags |= SCHEMA_CONST;
}

void kw_number(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    if (jt_type(value) != JT_NUMBER) {
        keyword_wrong(c, keyword, "must be a number");
        return;
    }
    *(uint32_t *)field_now(c, keyword) = keyword_text(c, str_trim(value));
}

void kw_multiple(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    if (jt_type(value) == JT_NUMBER && !number_can_divide(str_trim(value)))
        compile_fault(c, keyword->name, "out_of_range", "must be more than zero and have at most 18 digits", "");
    else
        kw_number(c, keyword, value);
}

void kw_count(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    int64_t n;

    if (!jt_i64(value, &n) || n < 0)
        keyword_wrong(c, keyword, "must be a whole number, not negative");
    else
        *(uint32_t *)field_now(c, keyword) = n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
}

void kw_unique(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    bool on;

    if (!jt_bool(value, &on))
        keyword_wrong(c, keyword, "must be true or false");
    else if (on)
        node_now(c)->flags |= SCHEMA_UNIQUE;
}

void kw_pattern(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    struct str source;
    uint32_t pattern;

    if (!jt_string(value, c->arena, &source)) {
        keyword_wrong(c, keyword, "must be a string");
        return;
    }
    pattern = keyword_pattern(c, keyword->name, source);
    node_now(c)->pattern = pattern;
}

void kw_ref(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    (void)keyword;
    compile_ref(c, value);
}

/* Formats are annotations, as 2020-12 has it, but for our own. */
void kw_format(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    struct str format;

    if (!jt_string(value, c->arena, &format))
        keyword_wrong(c, keyword, "must be a string");
    else if (c->options.own_keywords && str_is(format, "x-duration"))
        node_now(c)->flags |= SCHEMA_DURATION;
}

void kw_own_text(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    struct str text;

    if (c->options.own_keywords && jt_string(value, c->arena, &text))
        *(uint32_t *)field_now(c, keyword) = keyword_text(c, text);
}

void kw_own_count(struct schema_compiler *c, const struct keyword *keyword, struct str value)
{
    if (c->options.own_keywords)
        kw_count(c, keyword, value);
}
