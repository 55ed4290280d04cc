/* Interpolation: where expressions are found, where they end, what is put in their place. */
#include "tests/unit/expr/helper.h"
#include <stdio.h>

static const char document[] =
    "{\"trigger\":{\"kind\":\"api\"},\"input\":{\"a\":1.50,\"s\":\"x y/ü\\\"\\\\\\n\",\"n\":null,\"t\":true,"
    "\"o\":{ \"k\": [1, \"a b\" ] },\"big\":12345678901234567890,\"e\":\"\"},"
    "\"steps\":{\"charge\":{\"status\":\"succeeded\",\"output\":{\"id\":7}}},\"run\":{\"id\":\"r1\"}}";

/* The template, and its text once rendered, or its faults. */
static void check_renders(const char *json, const char *expected)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(0);
    struct compiled c;
    struct document d;

    compile(&c, json);
    document_init(&d, arena, str_of(document));
    assert_string_equal(c.good ? render(&c, &d) : c.faults, expected);
    compiled_free(&c);
}

static void text_without_expressions_is_left_as_it_was_written(void **state)
{
    struct compiled c;
    const char json[] = " { \"a\" : [ 0.10, 1e2, 12345678901234567890 ], \"b\": \"\\u0041 $x {y} $ {\" } ";

    (void)state;
    compile(&c, json);
    assert_true(c.template.constant);
    assert_ptr_equal(c.template.literal.ptr, c.template.source.ptr);
    assert_int_equal(c.template.expr_count, 0);
    compiled_free(&c);
    check_renders(json, json);
}

static void a_whole_expression_keeps_its_type_and_digits(void **state)
{
    (void)state;
    check_renders("[\"${ .input.a }\", \"${.input.big}\",\"${ .input.n }\" ]", "[1.50, 12345678901234567890,null ]");
    check_renders("{\"x\":\"${ .input.o }\",\"y\":\"${.input.t}\"}", "{\"x\":{ \"k\": [1, \"a b\" ] },\"y\":true}");
    check_renders("\"${ .input.s }\"", "\"x y/ü\\\"\\\\\\n\"");
}

static void in_text_null_is_empty_strings_are_bare_and_the_rest_is_json(void **state)
{
    (void)state;
    check_renders("\"<${ .input.n }|${ .input.e }|${.input.a}|${ .input.t}>\"", "\"<||1.50|true>\"");
    check_renders("\"<${ .input.s }>\"", "\"<x y/ü\\\"\\\\\\n>\"");
    check_renders("\"<${ .input.o }>\"", "\"<{\\\"k\\\":[1,\\\"a b\\\"]}>\"");
    check_renders("\" ${ .input.a }\"", "\" 1.50\"");
    check_renders("\"${ .input.a }${ .input.a }\"", "\"1.501.50\"");
}

static void in_a_url_values_are_percent_encoded_unless_they_are_all_of_it(void **state)
{
    (void)state;
    check_renders("{\"url\":\"http://h/${ .input.s }?o=${.input.o}&n=${ .input.n }-_.~${.input.a}\"}",
                  "{\"url\":\"http://h/x%20y%2F%C3%BC%22%5C%0A?o=%7B%22k%22%3A%5B1%2C%22a%20b%22%5D%7D&n=-_.~1.50\"}");
    check_renders("{\"url\":\"${ .input.s }\"}", "{\"url\":\"x y/ü\\\"\\\\\\n\"}");
    check_renders("{\"body\":{\"url\":\"/${ .input.s }\"}}", "{\"body\":{\"url\":\"/x y/ü\\\"\\\\\\n\"}}");
}

static void a_doubled_dollar_is_a_literal_brace(void **state)
{
    (void)state;
    check_renders("\"$${ .input.a }\"", "\"${ .input.a }\"");
    check_renders("\"a $${x} ${ .input.a } $${\"", "\"a ${x} 1.50 ${\"");
    check_renders("\"$$${ .input.a }\"", "\"$${ .input.a }\"");
    check_renders("\"$$ $\"", "\"$$ $\"");
    check_renders("\"$\"", "\"$\"");
}

static void escapes_around_expressions_survive(void **state)
{
    (void)state;
    check_renders("\"\\u0024{ .input.a }\"", "1.50");
    check_renders("\"\\\"\\\\\\n\\u00e9 ${ .input.a }\\t\"", "\"\\\"\\\\\\né 1.50\\t\"");
    check_renders("\"${ .input[\\\"a\\\"] }\"", "1.50");
    check_renders("\"${ .input[\\\"\\\\u0061\\\"] }\"", "1.50");
}

static void keys_are_no_templates(void **state)
{
    (void)state;
    check_renders("{\"${ .input.a }\":1}", "{\"${ .input.a }\":1}");
}

static void an_expression_ends_at_its_matching_brace(void **state)
{
    static const struct {
        const char *json, *source;
    } rows[] = {
        {"\"${ {a: {b: 1}} }\"", "{a: {b: 1}}"},
        {"\"${ \\\"}\\\" }\"", "\"}\""},
        {"\"${ \\\"\\\\\\\"}\\\" }\"", "\"\\\"}\""},
        {"\"${ \\\"a\\\\({b: \\\"}\\\"} | .b)}\\\" }\"", "\"a\\({b: \"}\"} | .b)}\""},
        {"\"${ .a # not here: }\\n | .b }\"", ".a # not here: }\n | .b"},
        {"\"${.}\"", "."},
        {"\"${ [.[] | {(.k): .v}] }\"", "[.[] | {(.k): .v}]"},
        {"\"${\\n\\t.a\\n}\"", ".a"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct compiled c;

        compile(&c, rows[i].json);
        assert_true(c.good);
        assert_int_equal(c.template.expr_count, 1);
        assert_int_equal(c.template.exprs[0].place, EXPR_WHOLE);
        assert_int_equal(c.template.exprs[0].source.len, strlen(rows[i].source));
        assert_memory_equal(c.template.exprs[0].source.ptr, rows[i].source, strlen(rows[i].source));
        compiled_free(&c);
    }
}

static void all_faults_are_told_with_their_places(void **state)
{
    struct compiled c;

    (void)state;
    compile(&c, "\"${\"");
    assert_string_equal(c.faults, ": an expression is not closed\n");
    compiled_free(&c);
    compile(&c, "{\"a/b\":\"${ .x\",\"c\":[1,{\"~\":\"x ${ } y ${ now }\"}],\"d\":\"${ .a) }\",\"e\":\"${ \\\"x }\","
                "\"f\":\"${ .ok }\",\"g\":\"${ [.a }\"}");
    assert_false(c.good);
    assert_string_equal(c.faults, "/a~1b: an expression is not closed\n"
                                  "/c/1/~0: there is nothing between the braces\n"
                                  "/c/1/~0: 'now' cannot be used in an expression\n"
                                  "/d: a closing bracket does not match\n"
                                  "/e: a string is not closed\n"
                                  "/g: a closing bracket does not match\n");
    assert_non_null(strstr(c.hints, "use .run.created_at"));
    compiled_free(&c);
}

static void an_expression_at_the_root_has_an_empty_pointer(void **state)
{
    struct compiled c;

    (void)state;
    compile(&c, "\"${ .a }\"");
    assert_int_equal(c.template.exprs[0].pointer.len, 0);
    assert_true(template_is_expression(&c.template));
    compiled_free(&c);
    compile(&c, "{\"k\":[\"${ .a }\"]}");
    assert_str_eq(c.template.exprs[0].pointer, "/k/0");
    assert_false(template_is_expression(&c.template));
    compiled_free(&c);
    compile(&c, "\" ${ .a }\"");
    assert_false(template_is_expression(&c.template));
    compiled_free(&c);
    compile(&c, "true");
    assert_false(template_is_expression(&c.template));
    compiled_free(&c);
}

static void secrets_stay_in_place_in_headers_and_auth(void **state)
{
    struct compiled c;

    (void)state;
    compile(&c, "{\"headers\":{\"X\":\"${ .secrets.shop }\"},\"auth\":\"${.secrets[\\\"a_b\\\"]}\"}");
    assert_true(c.good);
    assert_true(c.template.constant);
    assert_int_equal(c.template.expr_count, 2);
    assert_true(c.template.exprs[0].secret && c.template.exprs[1].secret);
    assert_str_eq(c.template.exprs[0].secret_name, "shop");
    assert_str_eq(c.template.exprs[0].pointer, "/headers/X");
    assert_str_eq(c.template.exprs[1].secret_name, "a_b");
    assert_str_eq(c.template.literal,
                  "{\"headers\":{\"X\":\"${ .secrets.shop }\"},\"auth\":\"${.secrets[\\\"a_b\\\"]}\"}");
    compiled_free(&c);
    check_renders("{\"headers\":{\"X\":\"${ .secrets.shop }\",\"Y\":\"${ .input.a }\"}}",
                  "{\"headers\":{\"X\":\"${ .secrets.shop }\",\"Y\":1.50}}");
}

static void secrets_elsewhere_or_in_parts_are_refused(void **state)
{
    (void)state;
    check_renders("{\"body\":\"${ .secrets.shop }\"}", "/body: a secret cannot be used here\n");
    check_renders("{\"headers\":{\"X\":\"Bearer ${ .secrets.shop }\"}}",
                  "/headers/X: a secret can only be a whole string\n");
    check_renders("{\"headers\":{\"X\":\"${ .secrets.shop | length }\"}}",
                  "/headers/X: a secret can only be a whole string\n");
    check_renders("{\"headers\":{\"X\":\"${ .secrets }\"}}", "/headers/X: a secret can only be a whole string\n");
    check_renders("{\"headers\":{\"X\":\"${ {secrets} }\"}}", "/headers/X: a secret can only be a whole string\n");
    check_renders("{\"x\":{\"headers\":\"${ .secrets.shop }\"}}", "/x/headers: a secret cannot be used here\n");
    check_renders("{\"headers\":\"${ .secrets.shop }\"}", "/headers: a secret cannot be used here\n");
    check_renders("{\"auth\":\"${ .secrets[\\\"a b\\\"] }\"}", "/auth: no secret can have this name\n");
}

static void a_rendered_text_beyond_its_bound_is_refused(void **state)
{
    struct compiled c;
    struct str value = STR("\"0123456789\"");
    struct buf out;
    struct err err;

    (void)state;
    compile(&c, "[\"${ .a }\"]");
    buf_init(&out, 14);
    assert_int_equal(template_render(&c.template, &value, c.arena, &out, &err), ERR_OK);
    assert_str_eq(buf_str(&out), "[\"0123456789\"]");
    buf_deinit(&out);
    buf_init(&out, 13);
    assert_int_equal(template_render(&c.template, &value, c.arena, &out, &err), ERR_TOO_LARGE);
    buf_deinit(&out);
    compiled_free(&c);
}

static void long_and_deep_expressions_are_refused_not_crashed_on(void **state)
{
    char source[40000];
    struct compiled c;

    (void)state;
    memset(source, ' ', sizeof(source));
    memcpy(source, ".a", 2);
    source[16385] = '\0';
    compile_expr(&c, source);
    assert_string_equal(c.faults, ": an expression is longer than 16384 bytes\n");
    compiled_free(&c);
    memset(source, '[', 300);
    memset(source + 300, ']', 300);
    source[600] = '\0';
    compile_expr(&c, source);
    assert_string_equal(c.faults, ": brackets are too deep inside each other\n");
    compiled_free(&c);
    source[0] = '\0';
    for (size_t i = 0; i < 1000; i++)
        memcpy(source + i * 3, "if ", 4);
    compile_expr(&c, source);
    assert_string_equal(c.faults, ": it is nested too deeply\n");
    compiled_free(&c);
}

RUN(TEST(text_without_expressions_is_left_as_it_was_written), TEST(a_whole_expression_keeps_its_type_and_digits),
    TEST(in_text_null_is_empty_strings_are_bare_and_the_rest_is_json),
    TEST(in_a_url_values_are_percent_encoded_unless_they_are_all_of_it), TEST(a_doubled_dollar_is_a_literal_brace),
    TEST(escapes_around_expressions_survive), TEST(keys_are_no_templates),
    TEST(an_expression_ends_at_its_matching_brace), TEST(all_faults_are_told_with_their_places),
    TEST(an_expression_at_the_root_has_an_empty_pointer), TEST(secrets_stay_in_place_in_headers_and_auth),
    TEST(secrets_elsewhere_or_in_parts_are_refused), TEST(a_rendered_text_beyond_its_bound_is_refused),
    TEST(long_and_deep_expressions_are_refused_not_crashed_on))
