/* Writing JSON: structure, strings of any bytes, the shortest digits of doubles. */
#include "common/base/json_text.h"
#include "tests/unit/base/test.h"
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static struct buf buf;

static int set_up(void **state)
{
    (void)state;
    buf_init(&buf, 1 << 20);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    buf_deinit(&buf);
    return 0;
}

static void commas_come_by_themselves(void **state)
{
    struct jw w = jw_to(&buf);

    (void)state;
    jw_obj(&w);
    jw_kstr(&w, "s", STR("x"));
    jw_kcstr(&w, "c", NULL);
    jw_ki64(&w, "n", INT64_MIN);
    jw_kbool(&w, "b", false);
    jw_kraw(&w, "raw", STR("[1 ,2]"));
    jw_key(&w, "arr");
    jw_arr(&w);
    jw_i64(&w, INT64_MAX);
    jw_obj(&w);
    jw_end_obj(&w);
    jw_arr(&w);
    jw_end_arr(&w);
    jw_null(&w);
    jw_str(&w, STR_NONE);
    jw_str(&w, STR(""));
    jw_bool(&w, true);
    jw_raw(&w, STR_NONE);
    jw_end_arr(&w);
    jw_key_str(&w, STR("last\n"));
    jw_f64(&w, 0.5);
    jw_end_obj(&w);
    assert_str_eq(buf_str(&buf), "{\"s\":\"x\",\"c\":null,\"n\":-9223372036854775808,\"b\":false,\"raw\":[1 ,2],"
                                 "\"arr\":[9223372036854775807,{},[],null,null,\"\",true,null],\"last\\n\":0.5}");
}

static void sixty_levels_can_be_written(void **state)
{
    struct jw w = jw_to(&buf);
    struct err err;

    (void)state;
    for (int i = 0; i < 60; i++) {
        jw_arr(&w);
        jw_i64(&w, i);
    }
    for (int i = 0; i < 60; i++) {
        jw_i64(&w, i);
        jw_end_arr(&w);
    }
    assert_int_equal(jt_check(buf_str(&buf), &JT_LIMITS_API, &err), ERR_OK);
    assert_int_equal(w.depth, 0);
}

static void quoting_escapes_what_json_asks_for_and_nothing_more(void **state)
{
    (void)state;
    json_quote(&buf, STR("a\"b\\c/d\b\f\n\r\t\x01\x1f\x7f\xc3\xa9\xf0\x9f\x98\x80'<>&"));
    assert_str_eq(buf_str(&buf), "\"a\\\"b\\\\c/d\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\xc3\xa9\xf0\x9f\x98\x80'<>&\"");
}

static void what_is_no_text_is_written_as_replacement_characters(void **state)
{
    (void)state;
    json_quote(&buf, STR("a\0b\xff\xe2\x82z\xed\xa0\x80\xc3"));
    assert_str_eq(buf_str(&buf), "\"a\xef\xbf\xbd"
                                 "b\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz\xef\xbf\xbd\xef\xbf\xbd"
                                 "\xef\xbf\xbd\xef\xbf\xbd\"");
}

static void any_bytes_give_a_string_that_can_be_stored(void **state)
{
    uint32_t random = 7;

    (void)state;
    for (int round = 0; round < 20000; round++) {
        char bytes[32];
        struct err err;

        for (size_t i = 0; i < sizeof(bytes); i++) {
            random = random * 1664525 + 1013904223;
            bytes[i] = (char)(random >> 24);
            if ((random >> 20) % 3 == 0)
                bytes[i] = "\xe2\x82\xac\xf0\x9f\x98\x80\xc3\xa9\"\\x"[(random >> 8) % 12];
        }
        buf_reset(&buf);
        json_quote(&buf, (struct str){bytes, random % 33});
        assert_int_equal(jt_check(buf_str(&buf), &JT_LIMITS_API, &err), ERR_OK);
    }
}

static void text_reads_back_as_it_was_written(void **state)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(0);
    struct str text = STR("\x01\x1f \"\\/\b\f\n\r\t\x7f\xc2\x80\xe2\x82\xac\xf4\x8f\xbf\xbf end");
    struct str back;

    (void)state;
    for (size_t shift = 0; shift < 12; shift++) {
        struct str s = utf8_prefix((struct str){text.ptr + shift, text.len - shift}, 12);

        if (utf8_len_at(s.ptr, s.len) == 0)
            continue;
        buf_reset(&buf);
        json_quote(&buf, s);
        assert_true(jt_string(buf_str(&buf), arena, &back));
        assert_true(str_eq(back, s));
    }
    buf_reset(&buf);
    json_quote(&buf, text);
    assert_true(jt_string(buf_str(&buf), arena, &back));
    assert_true(str_eq(back, text));
}

static void writes(double n, const char *expect)
{
    struct jw w = jw_to(&buf);

    buf_reset(&buf);
    jw_f64(&w, n);
    assert_string_equal(buf_str(&buf).ptr, expect);
}

static void doubles_have_the_shortest_digits(void **state)
{
    (void)state;
    writes(0, "0");
    writes(-0.0, "-0");
    writes(1, "1");
    writes(0.1, "0.1");
    writes(0.1 + 0.2, "0.30000000000000004");
    writes(1.0 / 3, "0.3333333333333333");
    writes(100, "100");
    writes(123456789012, "123456789012");
    writes(1e15, "1e15");
    writes(1e21, "1e21");
    writes(1e-7, "1e-7");
    writes(1.5e-10, "1.5e-10");
    writes(9007199254740993.0, "9007199254740992");
    writes(DBL_MAX, "1.7976931348623157e308");
    writes(DBL_MIN, "2.2250738585072014e-308");
    writes(4.9406564584124654e-324, "5e-324");
    writes(9.8813129168249309e-324, "1e-323");
    writes(5e-320, "5e-320");
    writes(NAN, "null");
    writes(INFINITY, "null");
    writes(-INFINITY, "null");
}

/* Just above a power of two the gaps are twice as wide as below: there the nearest 16 digits can fail where others do
 * not. All powers of two are compared with what trying every neighbour gives. */
static void powers_of_two_have_the_shortest_digits_too(void **state)
{
    (void)state;
    for (int exponent = -1074; exponent < 1024; exponent++) {
        double n = ldexp(1, exponent);
        struct jw w = jw_to(&buf);
        size_t digits = 0;
        double back;

        buf_reset(&buf);
        jw_f64(&w, n);
        assert_true(jt_f64(buf_str(&buf), &back) && back == n);
        for (size_t i = 0; i < buf.len && buf.ptr[i] != 'e'; i++)
            digits += buf.ptr[i] >= '0' && buf.ptr[i] <= '9' ? 1 : 0;
        if (digits < 17)
            continue;
        for (int up = -1; up <= 1; up++) {
            char text[40];
            char digit;

            snprintf(text, sizeof(text), "%.15e", n);
            digit = (char)(strchr(text, 'e')[-1] + up);
            /* A digit that would carry is checked as 15 digits have been. */
            if (digit < '0' || digit > '9')
                continue;
            strchr(text, 'e')[-1] = digit;
            if (strtod(text, NULL) == n)
                fail_msg("2^%d is written %s, could be %s", exponent, buf.ptr, text);
        }
    }
}

static void any_double_reads_back_the_same(void **state)
{
    uint64_t random = 88172645463325252U;

    (void)state;
    for (int round = 0; round < 100000; round++) {
        struct jw w = jw_to(&buf);
        struct err err;
        double n, back;

        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        memcpy(&n, &random, sizeof(n));
        if (!isfinite(n))
            continue;
        buf_reset(&buf);
        jw_f64(&w, n);
        assert_int_equal(jt_check(buf_str(&buf), &JT_LIMITS_API, &err), ERR_OK);
        assert_true(jt_f64(buf_str(&buf), &back));
        assert_memory_equal(&n, &back, sizeof(n));
        assert_true(buf.len <= 24);
    }
}

#define WRITE_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
RUN(WRITE_TEST(commas_come_by_themselves), WRITE_TEST(sixty_levels_can_be_written),
    WRITE_TEST(quoting_escapes_what_json_asks_for_and_nothing_more),
    WRITE_TEST(what_is_no_text_is_written_as_replacement_characters),
    WRITE_TEST(any_bytes_give_a_string_that_can_be_stored), WRITE_TEST(text_reads_back_as_it_was_written),
    WRITE_TEST(doubles_have_the_shortest_digits), WRITE_TEST(powers_of_two_have_the_shortest_digits_too),
    WRITE_TEST(any_double_reads_back_the_same))
