/* Reading checked JSON: iteration, look-up, decoding, numbers. */
#include "common/base/json_text.h"
#include "tests/unit/base/test.h"
#include <float.h>
#include <locale.h>
#include <stdio.h>

static void types_are_told_by_the_first_byte(void **state)
{
    (void)state;
    assert_int_equal(jt_type(STR_NONE), JT_NONE);
    assert_int_equal(jt_type(STR("  ")), JT_NONE);
    assert_int_equal(jt_type(STR("null")), JT_NULL);
    assert_int_equal(jt_type(STR("true")), JT_TRUE);
    assert_int_equal(jt_type(STR("false")), JT_FALSE);
    assert_int_equal(jt_type(STR("-1")), JT_NUMBER);
    assert_int_equal(jt_type(STR("0")), JT_NUMBER);
    assert_int_equal(jt_type(STR("\"\"")), JT_STRING);
    assert_int_equal(jt_type(STR(" \n[]")), JT_ARRAY);
    assert_int_equal(jt_type(STR("{}")), JT_OBJECT);
    assert_string_equal(jt_type_name(JT_TRUE), "boolean");
    assert_string_equal(jt_type_name(JT_OBJECT), "object");
    assert_string_equal(jt_type_name(JT_NONE), "nothing");
}

static void an_array_gives_its_elements_trimmed(void **state)
{
    struct jt_iter it;
    static const char *const expect[] = {"1", "\"a,]\\\"\"", "[ 2 , [3] ]", "{ \"x\" : \"}\" }", "null", "-1.5e3"};

    (void)state;
    jt_iter_init(&it, STR(" [ 1 ,\"a,]\\\"\", [ 2 , [3] ]\t,{ \"x\" : \"}\" },null,-1.5e3\n] "));
    for (size_t i = 0; i < 6; i++) {
        assert_true(jt_next(&it));
        assert_int_equal(it.index, i);
        assert_int_equal(it.value.len, strlen(expect[i]));
        assert_memory_equal(it.value.ptr, expect[i], it.value.len);
        assert_null(it.key.ptr);
    }
    assert_false(jt_next(&it));
    assert_false(jt_next(&it));
}

static void an_object_gives_its_members_in_order(void **state)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(0);
    struct jt_iter it;

    (void)state;
    jt_iter_init(&it, STR("{ \"a\" : 1 , \"b\\n\":[true],\"\":{} }"));
    assert_true(jt_next(&it));
    assert_str_eq(it.key, "a");
    assert_false(it.key_escaped);
    assert_str_eq(it.value, "1");
    assert_true(jt_next(&it));
    assert_true(it.key_escaped);
    assert_str_eq(it.key, "b\\n");
    assert_str_eq(jt_key(&it, arena), "b\n");
    assert_str_eq(it.value, "[true]");
    assert_int_equal(it.index, 1);
    assert_true(jt_next(&it));
    assert_false(it.key_escaped);
    assert_str_eq(jt_key(&it, arena), "");
    assert_str_eq(it.value, "{}");
    assert_false(jt_next(&it));
}

static void what_is_no_container_iterates_nothing(void **state)
{
    static const char *const none[] = {"", "[]", "{}", " [ ] ", "1", "\"[1]\"", "null", "["};
    struct jt_iter it;

    (void)state;
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        jt_iter_init(&it, str_of(none[i]));
        assert_false(jt_next(&it));
        assert_false(jt_next(&it));
        assert_int_equal(jt_count(str_of(none[i])), 0);
    }
    jt_iter_init(&it, STR_NONE);
    assert_false(jt_next(&it));
}

static void members_are_found_by_their_decoded_key(void **state)
{
    struct str o = STR("{\"a\":{\"b\":[10,20]},\"\\u0062\":2,\"c\\/\":3,\"\xf0\x9f\x98\x80\":4,\"\":5,\"a\":6}");

    (void)state;
    assert_str_eq(jt_get(o, "a"), "{\"b\":[10,20]}");
    assert_str_eq(jt_at(jt_get(jt_get(o, "a"), "b"), 1), "20");
    assert_null(jt_at(jt_get(jt_get(o, "a"), "b"), 2).ptr);
    assert_str_eq(jt_get(o, "b"), "2");
    assert_str_eq(jt_get(o, "c/"), "3");
    assert_str_eq(jt_get(o, "\xf0\x9f\x98\x80"), "4");
    assert_str_eq(jt_get(o, ""), "5");
    assert_str_eq(jt_get(STR("{\"\\ud83d\\ude00\":1}"), "\xf0\x9f\x98\x80"), "1");
    assert_str_eq(jt_get_str(STR("{\"a\\u0000b\":1}"), STR("a\0b")), "1");
    assert_null(jt_get(STR("{\"a\\u0000b\":1}"), "a").ptr);
    assert_null(jt_get(STR("{\"ab\\n\":1}"), "ab").ptr);
    assert_null(jt_get(STR("{\"ab\\n\":1}"), "ab\nc").ptr);
    assert_null(jt_get(o, "x").ptr);
    assert_null(jt_get(STR("[\"a\",1]"), "a").ptr);
    assert_null(jt_get(STR_NONE, "a").ptr);
    assert_null(jt_at(o, 0).ptr);
    assert_int_equal(jt_count(o), 6);
    assert_int_equal(jt_count(STR("[1,[2,3],\"4,5\"]")), 3);
}

static void strings_are_decoded_and_plain_ones_not_copied(void **state)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(0);
    struct str plain = STR("\"plain\"");
    struct str s;

    (void)state;
    assert_true(jt_string(plain, arena, &s));
    assert_str_eq(s, "plain");
    assert_ptr_equal(s.ptr, plain.ptr + 1);
    assert_true(jt_string(STR(" \"\" "), arena, &s));
    assert_str_eq(s, "");
    assert_true(jt_string(STR("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""), arena, &s));
    assert_str_eq(s, "\"\\/\b\f\n\r\t");
    assert_true(jt_string(STR("\"\\u0041\\u00e9\\u20AC\\ud83d\\ude00x\""), arena, &s));
    assert_str_eq(s, "A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80x");
    assert_true(jt_string(STR("\"a\\u0000b\""), arena, &s));
    assert_str_eq(s, "a\0b");
    assert_true(jt_string(STR("\"\\ud800\\ud83d\\ude00\\udc00\""), arena, &s));
    assert_str_eq(s, "\xef\xbf\xbd\xf0\x9f\x98\x80\xef\xbf\xbd");
    assert_true(jt_string(STR("\"\\uffff\\u07ff\\u0800\\u007f\\u0080\\udbff\\udfff\""), arena, &s));
    assert_str_eq(s, "\xef\xbf\xbf\xdf\xbf\xe0\xa0\x80\x7f\xc2\x80\xf4\x8f\xbf\xbf");
    s = STR("untouched");
    assert_false(jt_string(STR("1"), arena, &s));
    assert_false(jt_string(STR("null"), arena, &s));
    assert_false(jt_string(STR_NONE, arena, &s));
    assert_str_eq(s, "untouched");
}

static void whole_numbers_are_read_however_they_are_written(void **state)
{
    static const struct {
        const char *text;
        int64_t n;
    } good[] = {{"0", 0},
                {"-0", 0},
                {"0.000", 0},
                {"0e99999999999999999999", 0},
                {"0e-99999999999999999999", 0},
                {"1.0", 1},
                {"1e3", 1000},
                {"-1E+3", -1000},
                {"12.50e1", 125},
                {"1200e-2", 12},
                {"0.001e3", 1},
                {"9223372036854775807", INT64_MAX},
                {"-9223372036854775808", INT64_MIN},
                {"9223372036854775807.000", INT64_MAX},
                {"9.223372036854775807e18", INT64_MAX},
                {"922337203685477580700000e-5", INT64_MAX},
                {"1000000000000000000000000e-24", 1},
                {" 7 ", 7}};
    static const char *const bad[] = {"0.5",
                                      "1.5e0",
                                      "1e-1",
                                      "9223372036854775808",
                                      "-9223372036854775809",
                                      "1e19",
                                      "18446744073709551616",
                                      "1e99999999999999999999",
                                      "1e-99999999999999999999",
                                      "123456789012345678901234567890",
                                      "\"1\"",
                                      "null",
                                      "",
                                      "[1]",
                                      "1e2147483648",
                                      "1e18446744073709551616"};
    int64_t n;

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        if (!jt_i64(str_of(good[i].text), &n) || n != good[i].n)
            fail_msg("%s", good[i].text);
    }
    n = 42;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (jt_i64(str_of(bad[i]), &n))
            fail_msg("%s", bad[i]);
    }
    assert_int_equal(n, 42);
}

static void doubles_are_read_to_the_last_bit(void **state)
{
    static const struct {
        const char *text;
        double n;
    } good[] = {{"0", 0},
                {"0.1", 0.1},
                {"-1.5e3", -1500},
                {"1.7976931348623157e308", DBL_MAX},
                {"5e-324", 4.9406564584124654e-324},
                {"2.2250738585072011e-308", 2.2250738585072011e-308},
                {"1e-99999999999999999999", 0},
                {"0e99999999999999999999", 0},
                {"9007199254740993", 9007199254740992.0},
                {"9007199254740993.00000000000000000000000000000000000000000000000000000000000000000000001",
                 9007199254740994.0},
                {"0.00000000000000000000000000000000000000000000000000000000000000000000000000000125", 1.25e-78},
                {"12500000000000000000000000000000000000000000000000000000000000000000000000000000000", 1.25e82}};
    double n = 42;

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        /* NOLINTNEXTLINE(bugprone-suspicious-memory-comparison): every bit counts, that of -0 too */
        if (!jt_f64(str_of(good[i].text), &n) || memcmp(&n, &good[i].n, sizeof(n)) != 0)
            fail_msg("%s: %.17g", good[i].text, n);
    }
    n = 42;
    assert_false(jt_f64(STR("1e309"), &n));
    assert_false(jt_f64(STR("-1e99999999999999999999"), &n));
    assert_false(jt_f64(STR("\"1\""), &n));
    assert_false(jt_f64(STR_NONE, &n));
    assert_true(n == 42);
}

static void digits_far_behind_still_decide_how_a_double_is_rounded(void **state)
{
    struct buf buf;
    double n;

    (void)state;
    buf_init(&buf, 20000);
    buf_append_str(&buf, STR("-9007199254740993."));
    for (int i = 0; i < 10000; i++)
        buf_append_char(&buf, '0');
    assert_true(jt_f64(buf_str(&buf), &n) && n == -9007199254740992.0);
    buf_append_char(&buf, '1');
    assert_true(jt_f64(buf_str(&buf), &n) && n == -9007199254740994.0);
    buf_append_str(&buf, STR("e-3"));
    assert_true(jt_f64(buf_str(&buf), &n) && n == -9007199254740.993);
    buf_deinit(&buf);
}

static void the_locale_does_not_matter(void **state)
{
    double n;

    (void)state;
    if (setlocale(LC_NUMERIC, "de_DE.UTF-8") == NULL)
        skip();
    assert_true(jt_f64(STR("1.5"), &n) && n == 1.5);
    setlocale(LC_NUMERIC, "C");
}

static void booleans_are_true_and_false_only(void **state)
{
    bool b = false;

    (void)state;
    assert_true(jt_bool(STR("true"), &b) && b);
    assert_true(jt_bool(STR(" false"), &b) && !b);
    assert_false(jt_bool(STR("null"), &b) || jt_bool(STR("1"), &b) || jt_bool(STR_NONE, &b));
}

static void pointers_escape_tilde_and_slash(void **state)
{
    struct buf buf;

    (void)state;
    buf_init(&buf, 100);
    jt_pointer_add(&buf, STR("a/b~c"));
    jt_pointer_add(&buf, STR(""));
    jt_pointer_add(&buf, STR("0"));
    assert_str_eq(buf_str(&buf), "/a~1b~0c//0");
    buf_deinit(&buf);
}

/* What was never checked is read without leaving the slice; only sanitizers see it fail. */
static void text_that_nobody_checked_is_read_within_its_bounds(void **state)
{
    static const char tokens[] = "[]{},:\"\\u0dx 1-.e\n";
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(0);
    uint32_t random = 1;

    (void)state;
    for (int round = 0; round < 100000; round++) {
        char text[24];
        size_t len = random % 24;
        char *copy;
        struct jt_iter it;
        struct buf out;
        int64_t n;
        double f;
        struct str s;

        for (size_t i = 0; i < len; i++) {
            random = random * 1664525 + 1013904223;
            text[i] = tokens[(random >> 16) % (sizeof(tokens) - 1)];
        }
        random = random * 1664525 + 1013904223;
        copy = mem_grow(NULL, len, 1);
        // cppcheck-suppress uninitvar ; the first len bytes were just drawn
        memcpy(copy, text, len);
        jt_iter_init(&it, (struct str){copy, len});
        for (int i = 0; jt_next(&it); i++) {
            assert_true(i < 24);
            jt_key(&it, arena);
            jt_i64(it.value, &n);
            jt_f64(it.value, &f);
            jt_string(it.value, arena, &s);
        }
        jt_get((struct str){copy, len}, "ud");
        buf_init(&out, 100);
        jt_canonical((struct str){copy, len}, &out);
        buf_deinit(&out);
        mem_free(copy);
        arena_reset(arena);
    }
}

RUN(TEST(types_are_told_by_the_first_byte), TEST(an_array_gives_its_elements_trimmed),
    TEST(an_object_gives_its_members_in_order), TEST(what_is_no_container_iterates_nothing),
    TEST(members_are_found_by_their_decoded_key), TEST(strings_are_decoded_and_plain_ones_not_copied),
    TEST(whole_numbers_are_read_however_they_are_written), TEST(doubles_are_read_to_the_last_bit),
    TEST(digits_far_behind_still_decide_how_a_double_is_rounded), TEST(the_locale_does_not_matter),
    TEST(booleans_are_true_and_false_only), TEST(pointers_escape_tilde_and_slash),
    TEST(text_that_nobody_checked_is_read_within_its_bounds))
