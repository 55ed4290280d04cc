/* Plain paths on JSON text, and the document for the others. What jq itself says is in test_differential.c. */
#include "tests/unit/expr/helper.h"
#include <stdio.h>

static const char text[] =
    "{\"trigger\":null,\"input\":{\"a\":[10,20,[1]],\"a b\":1,\"d\":1,\"d\":2,\"\\u0065\":\"esc\",\"x\":5},"
    "\"steps\":{\"one\":{\"status\":\"succeeded\",\"branch\":null,\"output\":{\"body\":{\"id\":0.10}},\"error\":null},"
    "\"two\":{\"status\":\"failed\",\"branch\":null,\"output\":null,\"error\":{\"code\":\"c\"}}},"
    "\"item\":\"it\",\"output\":[6],\"index\":3,\"run\":{\"id\":\"r\"}}";

/* The result is kept until the next call. */
static const char *eval_in(const char *json, const char *source, const char *missing)
{
    static char kept[1024];
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(0);
    struct compiled c;
    struct document d;

    compile_expr(&c, source);
    document_init(&d, arena, str_of(json));
    d.missing = missing;
    snprintf(kept, sizeof(kept), "%s", render(&c, &d));
    compiled_free(&c);
    return kept;
}

static const char *eval(const char *source, const char *missing)
{
    return eval_in(text, source, missing);
}

static void paths_find_their_values(void **state)
{
    (void)state;
    assert_string_equal(eval(".input.a[1]", NULL), "20");
    assert_string_equal(eval(".input.a[-1][0]", NULL), "1");
    assert_string_equal(eval(".input.a[3]", NULL), "null");
    assert_string_equal(eval(".input.a[-4]", NULL), "null");
    assert_string_equal(eval(".input[\"a b\"]", NULL), "1");
    assert_string_equal(eval(".input.d", NULL), "2");
    assert_string_equal(eval(".input.e", NULL), "\"esc\"");
    assert_string_equal(eval(".steps.one.output.body.id", NULL), "0.10");
    assert_string_equal(eval(".steps.one.status", NULL), "\"succeeded\"");
    assert_string_equal(eval(".steps.one.other", NULL), "null");
    assert_string_equal(eval(".steps.two.error.code", NULL), "\"c\"");
    assert_string_equal(eval(".index", NULL), "3");
    assert_string_equal(eval(".output[0]", NULL), "6");
    assert_string_equal(eval(".item", NULL), "\"it\"");
    assert_string_equal(eval(".run.id", NULL), "\"r\"");
    assert_string_equal(eval(".nothing.at.all[0]", NULL), "null");
    assert_string_equal(eval(".trigger.x", NULL), "null");
}

static void wrong_indexes_fail_in_jqs_words(void **state)
{
    (void)state;
    assert_string_equal(eval(".[0]", NULL), "failed: Cannot index object with number");
    assert_string_equal(eval(".steps[0]", NULL), "failed: Cannot index object with number");
    assert_string_equal(eval(".steps.one[0]", NULL), "failed: Cannot index object with number");
    assert_string_equal(eval(".input.a.x", NULL), "failed: Cannot index array with string \"x\"");
    assert_string_equal(eval(".input.x.y", NULL), "failed: Cannot index number with string \"y\"");
    assert_string_equal(eval(".input.x[1]", NULL), "failed: Cannot index number with number");
    assert_string_equal(eval(".item.y", NULL), "failed: Cannot index string with string \"y\"");
}

static void whole_steps_are_put_together(void **state)
{
    (void)state;
    assert_string_equal(eval(".steps.two", NULL),
                        "{\"status\":\"failed\",\"branch\":null,\"output\":null,\"error\":{\"code\":\"c\"}}");
    assert_string_equal(
        eval(".steps", NULL),
        "{\"one\":{\"status\":\"succeeded\",\"branch\":null,\"output\":{\"body\":{\"id\":0.10}},\"error\":null},"
        "\"two\":{\"status\":\"failed\",\"branch\":null,\"output\":null,\"error\":{\"code\":\"c\"}}}");
}

static const char loop[] = "{\"steps\":{\"each\":{\"status\":\"succeeded\",\"branch\":null,\"output\":[1,null],"
                           "\"error\":null,\"failed\":[1]}},\"run\":{\"id\":\"r\"}}";

static void a_loop_also_says_which_items_failed(void **state)
{
    (void)state;
    assert_string_equal(eval_in(loop, ".steps.each.failed", NULL), "[1]");
    assert_string_equal(eval_in(loop, ".steps.each.failed[0]", NULL), "1");
    assert_string_equal(eval(".steps.one.failed", NULL), "null");
    assert_string_equal(eval_in(loop, ".steps.each", NULL),
                        "{\"status\":\"succeeded\",\"branch\":null,\"output\":[1,null],\"error\":null,"
                        "\"failed\":[1]}");
}

static void an_answer_is_there_for_a_poll_only(void **state)
{
    (void)state;
    assert_string_equal(eval_in(loop, ".output", NULL), "null");
    assert_string_equal(
        eval_in(loop, ".", NULL),
        "{\"trigger\":null,\"input\":null,\"steps\":{\"each\":{\"status\":\"succeeded\",\"branch\":null,"
        "\"output\":[1,null],\"error\":null,\"failed\":[1]}},\"item\":null,\"index\":null,"
        "\"run\":{\"id\":\"r\"}}");
}

static void a_body_that_is_not_here_is_asked_for(void **state)
{
    (void)state;
    assert_string_equal(eval(".steps.one.output.body", "one"), "not here");
    assert_string_equal(eval(".steps.one", "one"), "not here");
    assert_string_equal(eval(".steps", "one"), "not here");
    assert_string_equal(eval(".", "one"), "not here");
    assert_string_equal(eval(".steps.two.status", "one"), "\"failed\"");
}

static const char *document_of(struct arena *arena, const char *source, size_t max)
{
    CLEANUP(buf_deinit) struct buf out = {0};
    struct compiled c;
    struct document d;
    struct err err;
    const char *result;

    buf_init(&out, 1 << 20);
    compile_expr(&c, source);
    document_init(&d, arena, str_of(text));
    switch (expr_document(&c.template.exprs[0], &d.doc, max, &out, &err)) {
    case EXPR_OK:
        result = str_arena(arena, buf_str(&out)).ptr;
        break;
    case EXPR_FAILED:
        assert_int_equal(err.code, ERR_TOO_LARGE);
        result = arena_printf(arena, "failed: %s", err.message);
        break;
    default:
        result = "not here";
    }
    compiled_free(&c);
    return result;
}

static void a_document_has_only_what_is_read(void **state)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(0);

    (void)state;
    assert_string_equal(document_of(arena, "1 + 1", 1000), "{\"index\":3,\"run\":{\"id\":\"r\"}}");
    assert_string_equal(document_of(arena, ".item | length", 1000),
                        "{\"item\":\"it\",\"index\":3,\"run\":{\"id\":\"r\"}}");
    assert_string_equal(document_of(arena, ".output | length", 1000),
                        "{\"output\":[6],\"index\":3,\"run\":{\"id\":\"r\"}}");
    assert_string_equal(
        document_of(arena, ".steps.two.error | length", 1000),
        "{\"steps\":{\"two\":{\"status\":\"failed\",\"branch\":null,\"output\":null,\"error\":{\"code\":\"c\"}}},"
        "\"index\":3,\"run\":{\"id\":\"r\"}}");
    assert_string_equal(document_of(arena, ".steps | length", 30),
                        "failed: what the expression reads is larger than 30 bytes; name the steps it needs, as in "
                        ".steps.NAME");
    assert_non_null(strstr(document_of(arena, "keys", 1000), "\"trigger\":null,\"input\":{"));
}

RUN(TEST(paths_find_their_values), TEST(wrong_indexes_fail_in_jqs_words), TEST(whole_steps_are_put_together),
    TEST(a_loop_also_says_which_items_failed), TEST(an_answer_is_there_for_a_poll_only),
    TEST(a_body_that_is_not_here_is_asked_for), TEST(a_document_has_only_what_is_read))
