/* The walk and the compiler: what is reported, where, and what a hostile schema can do. */
#include "common/schema/schema.h"
#include "tests/unit/base/test.h"
#include <stdio.h>

struct told {
    size_t count;
    char text[8192];
};

static void tell(void *ctx, const char *code, struct str pointer, const char *message, const char *hint)
{
    struct told *told = ctx;
    size_t len = strlen(told->text);

    told->count++;
    snprintf(told->text + len, sizeof(told->text) - len, "%s " STR_FMT " %s [%s]\n", code, STR_ARG(pointer), message,
             hint);
}

/* Faults of compiling `schema`, or of checking `json` with it. */
static enum err_code check(const char *schema, const char *json, struct told *told)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(4096);
    struct schema_options options = {.name = "test", .own_keywords = true};
    const struct schema *compiled;
    struct err err = {0};

    *told = (struct told){0};
    compiled = schema_compile(arena, str_of(schema), &options, tell, told);
    if (compiled == NULL)
        return ERR_NOT_AVAILABLE;
    return schema_check(compiled, str_of(json), tell, told, &err);
}

static void expect(const char *schema, const char *json, const char *faults)
{
    struct told told;
    enum err_code rc = check(schema, json, &told);

    assert_string_equal(told.text, faults);
    assert_int_equal(rc, told.count == 0 ? ERR_OK : ERR_INVALID);
}

static void expect_refused(const char *schema, const char *faults)
{
    struct told told;

    assert_int_equal(check(schema, "null", &told), ERR_NOT_AVAILABLE);
    assert_string_equal(told.text, faults);
}

static void all_faults_are_told_at_once_with_pointers_and_hints(void **state)
{
    (void)state;
    expect("{\"type\":\"object\",\"required\":[\"name\",\"steps\"],\"additionalProperties\":false,\"properties\":{"
           "\"name\":{\"type\":\"string\",\"pattern\":\"^[a-z]+$\"},\"timeout\":{\"type\":\"string\",\"format\":\"x-"
           "duration\"},"
           "\"mode\":{\"enum\":[\"fail\",\"continue\"]},\"steps\":{\"type\":\"array\",\"items\":{\"type\":\"integer\","
           "\"maximum\":3}},"
           "\"other\":{}}}",
           "{\"name\":\"A\",\"timeout\":\"5 s\",\"mode\":\"fial\",\"nmae\":1,\"a/b~c\":1,\"steps\":[1,4,\"x\",1.5,{}]}",
           "out_of_range /name does not have the form ^[a-z]+$ []\n"
           "bad_duration /timeout is not a duration [500ms 30s 5m 2h 1d, at most 366d]\n"
           "out_of_range /mode must be one of \"fail\", \"continue\" [did you mean \"fail\"?]\n"
           "unknown_field /nmae unknown field 'nmae' [did you mean 'name'?]\n"
           "unknown_field /a~1b~0c unknown field 'a/b~c' []\n"
           "out_of_range /steps/1 must be at most 3 []\n"
           "wrong_type /steps/2 must be a whole number, not string []\n"
           "wrong_type /steps/3 must be a whole number, not a number []\n"
           "wrong_type /steps/4 must be a whole number, not object []\n");
    expect("{\"required\":[\"a\",\"b\"],\"properties\":{\"a\":{}}}", "{}",
           "missing_field /a 'a' is missing []\nmissing_field /b 'b' is missing []\n");
    expect("{\"additionalProperties\":{\"type\":\"null\"}}", "{\"x\":null,\"y\":null,\"x\":null}",
           "duplicate_key /x is there twice []\n");
    expect("{\"properties\":{\"x\":{}}}", "{\"x\":null,\"\\u0078\":null}", "duplicate_key /x is there twice []\n");
}

static void combinations_explain_the_branch_that_was_meant(void **state)
{
    const char *needs = "{\"anyOf\":[{\"type\":\"array\",\"items\":{\"type\":\"string\"}},{\"type\":\"object\"}]}";

    (void)state;
    expect(needs, "[\"a\",1]", "wrong_type /1 must be a string, not a number []\n");
    expect(needs, "7", "wrong_type  number is not allowed here []\n");
    expect("{\"if\":{\"properties\":{\"call\":{\"const\":\"http\"}}},\"then\":{\"required\":[\"url\"]},\"else\":{"
           "\"required\":[\"x\"]}}",
           "{\"call\":\"http\"}", "missing_field /url 'url' is missing []\n");
    expect("{\"oneOf\":[{\"minimum\":1},{\"minimum\":2}]}", "3",
           "out_of_range  fits more than one alternative where only one may fit []\n");
    /* The same fault by two ways is told once. */
    expect("{\"allOf\":[{\"$ref\":\"#/$defs/a\"},{\"$ref\":\"#/$defs/a\"}],\"$defs\":{\"a\":{\"type\":\"string\"}}}",
           "1", "wrong_type  must be a string, not a number []\n");
}

static void what_is_outside_the_subset_is_refused(void **state)
{
    (void)state;
    expect_refused(
        "{\"properties\":{\"a\":{\"unevaluatedProperties\":false}}}",
        "not_available /properties/a/unevaluatedProperties the keyword 'unevaluatedProperties' is not supported []\n");
    expect_refused("{\"require\":[\"a\"]}",
                   "not_available /require the keyword 'require' is not supported [did you mean required?]\n");
    expect_refused("{\"$ref\":\"https://example.com/x\"}",
                   "not_available /$ref only references into the same schema by pointer "
                   "are supported [\"#/$defs/name\"]\n");
    expect_refused("{\"$ref\":\"#/$defs/none\"}", "out_of_range /$ref names nothing in this schema []\n");
    expect_refused("{\"items\":[{}]}",
                   "not_available /items a list of schemas in items belongs to older drafts [prefixItems]\n");
    expect_refused("{\"pattern\":\"(?=a)\"}",
                   "not_available /pattern look-around is not supported, at byte 1 of the pattern []\n");
    expect_refused("{\"pattern\":\"a(\"}", "bad_expression /pattern missing ')' at byte 2 of the pattern []\n");
    expect_refused("{\"type\":\"strnig\"}",
                   "out_of_range /type must be a type or a list of types [null boolean integer number "
                   "string array object]\n");
    expect_refused("{\"minLength\":-1}", "wrong_type /minLength must be a whole number, not negative []\n");
    expect_refused("{\"allOf\":[]}", "wrong_type /allOf must be a list of schemas, not empty []\n");
    expect_refused("[]", "wrong_type  a schema must be an object, true or false []\n");
    expect("{\"x-anything\":1,\"format\":\"email\"}", "\"no address\"", "");
}

static void references_without_end_are_refused(void **state)
{
    struct told told;

    (void)state;
    expect_refused("{\"$ref\":\"#\"}", "cycle  refers to itself without looking into the value []\n");
    assert_int_equal(
        check("{\"$defs\":{\"a\":{\"allOf\":[{\"$ref\":\"#/$defs/b\"}]},\"b\":{\"not\":{\"$ref\":\"#/$defs/a\"}}}}",
              "1", &told),
        ERR_NOT_AVAILABLE);
    assert_non_null(strstr(told.text, "cycle "));
    /* A reference that looks deeper is recursion as it should be. */
    expect("{\"type\":\"object\",\"additionalProperties\":{\"$ref\":\"#\"}}", "{\"a\":{\"b\":{\"c\":1}}}",
           "wrong_type /a/b/c must be an object, not a number []\n");
}

static void a_hostile_schema_has_a_budget(void **state)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(4096);
    const struct schema *schema;
    char deep[257];
    struct err err;

    (void)state;
    /* Two branches a level: 2^128 ways through 128 arrays. */
    schema = schema_compile(arena,
                            STR("{\"anyOf\":[{\"items\":{\"$ref\":\"#\"},\"minItems\":1},"
                                "{\"items\":{\"$ref\":\"#\"},\"minItems\":1}]}"),
                            NULL, NULL, NULL);
    assert_non_null(schema);
    memset(deep, '[', 128);
    memset(deep + 128, ']', 128);
    deep[256] = '\0';
    assert_int_equal(schema_check(schema, str_of(deep), NULL, NULL, &err), ERR_TOO_LARGE);
    assert_string_equal(err.message, "checking it against its schema takes too long");
}

static void sizes_of_schemas_are_bounded(void **state)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(4096);
    CLEANUP(buf_deinit) struct buf text = {0};
    struct told told = {0};

    (void)state;
    buf_init(&text, 1 << 20);
    buf_append_str(&text, STR("{\"allOf\":[true"));
    for (int i = 0; i < 5000; i++)
        buf_append_str(&text, STR(",{}"));
    buf_append_str(&text, STR("]}"));
    assert_null(schema_compile(arena, buf_str(&text), NULL, tell, &told));
    assert_string_equal(told.text, "out_of_range /allOf the schema has more than 4096 subschemas []\n");

    told = (struct told){0};
    buf_reset(&text);
    buf_append_str(&text, STR("{\"title\":\""));
    for (int i = 0; i < 128 * 1024; i++)
        buf_append_char(&text, 'x');
    buf_append_str(&text, STR("\"}"));
    assert_null(schema_compile(arena, buf_str(&text), NULL, tell, &told));
    assert_string_equal(told.text, "out_of_range  the schema is longer than 128 KiB []\n");
}

static void numbers_are_compared_in_decimals(void **state)
{
    (void)state;
    expect("{\"multipleOf\":0.0001}", "0.0075", "");
    expect("{\"multipleOf\":0.01}", "19.99", "");
    expect("{\"multipleOf\":0.01}", "0.015", "out_of_range  must be a multiple of 0.01 []\n");
    expect("{\"multipleOf\":3}", "1e300", "out_of_range  must be a multiple of 3 []\n");
    expect("{\"multipleOf\":7}", "7000000000000000000000000000000000", "");
    expect("{\"maximum\":9007199254740992}", "9007199254740993", "out_of_range  must be at most 9007199254740992 []\n");
    expect("{\"minimum\":-0.5}", "-5e-1", "");
    expect("{\"exclusiveMinimum\":0}", "-0.0", "out_of_range  must be more than 0 []\n");
    expect("{\"type\":\"integer\"}", "1.5e1", "");
    expect("{\"type\":\"integer\"}", "15e-1", "wrong_type  must be a whole number, not a number []\n");
    expect("{\"enum\":[1,\"a\\u0062\"]}", "1.0", "");
    expect("{\"enum\":[1,\"a\\u0062\"]}", "\"\\u0061b\"", "");
    expect("{\"const\":{\"a\":[1,2],\"b\":null}}", "{\"b\":null,\"a\":[1e0,2.0]}", "");
    expect("{\"uniqueItems\":true}", "[{\"a\":1,\"b\":2},1,{\"b\":2.0,\"a\":1}]",
           "out_of_range /2 equals an earlier item []\n");
}

static void decoding_stops_at_the_first_fault_and_counts_what_it_does_not_know(void **state)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(4096);
    const struct schema *schema = schema_compile(
        arena,
        STR("{\"properties\":{\"a\":{\"type\":\"string\"},\"b\":{\"properties\":{\"c\":{}}}},\"required\":[\"a\"]}"),
        NULL, NULL, NULL);
    struct str fields[2];
    struct err err;

    (void)state;
    assert_non_null(schema);
    assert_int_equal(schema_field_count(schema), 2);
    assert_int_equal(schema_decode(schema, STR(" {\"z\":1, \"a\" : \"x\" ,\"b\":{\"y\":1,\"c\":[ ]}} "), fields, &err),
                     ERR_OK);
    assert_str_eq(fields[0], "\"x\"");
    assert_str_eq(fields[1], "{\"y\":1,\"c\":[ ]}");
    assert_int_equal(schema_decode(schema, STR("{\"b\":null}"), fields, &err), ERR_INVALID);
    assert_string_equal(err.message, "missing_field: at '/a': 'a' is missing");
    assert_null(fields[1].ptr);
    /* The rest of what a fault stopped. */
    schema_slices(schema, STR(" {\"a\":null,\"\\u0062\":[2],\"b\":3,\"z\":{},\"a\":\"y\"} "), fields);
    assert_str_eq(fields[0], "\"y\"");
    assert_str_eq(fields[1], "[2]");
    schema_slices(schema, STR("[{\"a\":1}]"), fields);
    assert_null(fields[0].ptr);
}

RUN(TEST(all_faults_are_told_at_once_with_pointers_and_hints), TEST(combinations_explain_the_branch_that_was_meant),
    TEST(what_is_outside_the_subset_is_refused), TEST(references_without_end_are_refused),
    TEST(a_hostile_schema_has_a_budget), TEST(sizes_of_schemas_are_bounded), TEST(numbers_are_compared_in_decimals),
    TEST(decoding_stops_at_the_first_fault_and_counts_what_it_does_not_know))
