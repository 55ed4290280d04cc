/* What makes a version: content, without metadata, white space and the order of keys. */
#include "gateway/document.h"
#include "tests/unit/base/test.h"

#include "common/base/banned.h"

static bool same(const char *a, const char *b)
{
    uint8_t x[32], y[32];

    document_hash(str_of(a), x);
    document_hash(str_of(b), y);
    return memcmp(x, y, 32) == 0;
}

static void order_space_and_metadata_are_no_content(void **state)
{
    (void)state;
    assert_true(same(
        "{\"name\":\"a\",\"steps\":{\"x\":{\"call\":\"noop\"}}}",
        "{ \"steps\" : {\"x\": {\"call\":\"noop\", \"metadata\":{\"a\":[1]}}}, \"metadata\":{}, \"name\":\"a\" }"));
}

static void metadata_of_steps_in_loops_is_no_content_either(void **state)
{
    (void)state;
    assert_true(same(
        "{\"steps\":{\"x\":{\"call\":\"foreach\",\"with\":{\"items\":[],\"steps\":{\"y\":{\"call\":\"foreach\","
        "\"with\":"
        "{\"items\":[],\"steps\":{\"z\":{\"call\":\"noop\"}}}}}}}}}",
        "{\"steps\":{\"x\":{\"call\":\"foreach\",\"with\":{\"items\":[],\"steps\":{\"y\":{\"metadata\":{\"at\":1},"
        "\"call\":\"foreach\",\"with\":{\"items\":[],\"steps\":{\"z\":{\"call\":\"noop\",\"metadata\":{}}}}}}}}}}"));
    /* what other calls are told is theirs */
    assert_false(same("{\"steps\":{\"x\":{\"call\":\"a.b\",\"with\":{\"steps\":{\"y\":{\"metadata\":1}}}}}}",
                      "{\"steps\":{\"x\":{\"call\":\"a.b\",\"with\":{\"steps\":{\"y\":{}}}}}}"));
}

static void everything_else_is(void **state)
{
    const char *base = "{\"name\":\"a\",\"steps\":{\"x\":{\"call\":\"noop\"},\"metadata\":{\"call\":\"noop\"}}}";

    (void)state;
    assert_false(
        same(base, "{\"name\":\"a\",\"steps\":{\"x\":{\"call\":\"noop\"}}}")); /* a step may be called metadata */
    assert_false(same(base, "{\"name\":\"a\",\"steps\":{\"x\":{\"call\":\"noop\",\"with\":{\"metadata\":1}},"
                            "\"metadata\":{\"call\":\"noop\"}}}"));
    assert_false(same("{\"steps\":{\"x\":{\"with\":{\"v\":0.1}}}}", "{\"steps\":{\"x\":{\"with\":{\"v\":0.10}}}}"));
    assert_false(
        same("{\"steps\":{\"x\":{\"with\":{\"metadata\":1}}}}", "{\"steps\":{\"x\":{\"with\":{\"metadata\":2}}}}"));
}

static void names(void **state)
{
    (void)state;
    assert_true(name_is_valid(STR("a")));
    assert_true(name_is_valid(STR("0-a-")));
    assert_true(name_is_valid(STR("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")));
    assert_false(name_is_valid(STR("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")));
    assert_false(name_is_valid(STR("")));
    assert_false(name_is_valid(STR("-a")));
    assert_false(name_is_valid(STR("A")));
    assert_false(name_is_valid(STR("a_b")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_space_and_metadata_are_no_content),
        cmocka_unit_test(metadata_of_steps_in_loops_is_no_content_either),
        cmocka_unit_test(everything_else_is),
        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
