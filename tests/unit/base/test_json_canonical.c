/* The canonical form that hashes are made of. */
#include "common/base/clock.h"
#include "common/base/json_text.h"
#include "tests/unit/base/test.h"
#include <stdio.h>

static void canonical(const char *text, const char *expect)
{
    struct buf buf;

    buf_init(&buf, 100000);
    jt_canonical(str_of(text), &buf);
    assert_string_equal(buf_str(&buf).ptr, expect);
    buf_deinit(&buf);
}

static void white_space_goes_and_strings_and_numbers_stay(void **state)
{
    (void)state;
    canonical(" [ 1.0 , 1e3 , \"a  b\\u0041\" , true , null ] ", "[1.0,1e3,\"a  b\\u0041\",true,null]");
    canonical("{}", "{}");
    canonical(" [\n] ", "[]");
    canonical(" 12 ", "12");
    canonical("\" { \"", "\" { \"");
}

static void keys_are_sorted_at_every_level(void **state)
{
    (void)state;
    canonical("{\"b\":1,\"a\":2}", "{\"a\":2,\"b\":1}");
    canonical("{\"b\" : { \"d\":[{\"z\":1,\"y\":2}], \"c\":0 }, \"a\":{}}",
              "{\"a\":{},\"b\":{\"c\":0,\"d\":[{\"y\":2,\"z\":1}]}}");
    canonical("{\"aa\":1,\"a\":2,\"\":3,\"B\":4,\"\xc3\xa9\":5}", "{\"\":3,\"B\":4,\"a\":2,\"aa\":1,\"\xc3\xa9\":5}");
    canonical("{\"a!\":1,\"a\":2}", "{\"a\":2,\"a!\":1}");
}

static void keys_that_look_like_structure_are_left_whole(void **state)
{
    (void)state;
    canonical("{\"b,\":\"}\",\"a\\\"{\":\"]\"}", "{\"a\\\"{\":\"]\",\"b,\":\"}\"}");
}

static void equal_keys_keep_their_order(void **state)
{
    (void)state;
    canonical("{\"b\":0,\"a\":1,\"a\":2,\"a\":3}", "{\"a\":1,\"a\":2,\"a\":3,\"b\":0}");
}

static void it_is_appended_to_what_is_there(void **state)
{
    struct buf buf;

    (void)state;
    buf_init(&buf, 100);
    buf_append_str(&buf, STR("x="));
    jt_canonical(STR("[ 1 ]"), &buf);
    jt_canonical(STR_NONE, &buf);
    assert_str_eq(buf_str(&buf), "x=[1]");
    buf_deinit(&buf);
}

static void orders_of_many_keys_come_to_the_same(void **state)
{
    struct buf in[2], out[2];

    (void)state;
    for (int k = 0; k < 2; k++) {
        buf_init(&in[k], 1 << 20);
        buf_init(&out[k], 1 << 20);
        for (int i = 0; i < 1000; i++)
            buf_printf(&in[k], "%s\"k%d\":{\"z\":%d,\"a\":[]}", i == 0 ? "{" : " , ", k == 0 ? i : i * 389 % 1000,
                       k == 0 ? i : i * 389 % 1000);
        buf_append_char(&in[k], '}');
        jt_canonical(buf_str(&in[k]), &out[k]);
    }
    assert_true(str_eq(buf_str(&out[0]), buf_str(&out[1])));
    for (int k = 0; k < 2; k++) {
        buf_deinit(&in[k]);
        buf_deinit(&out[k]);
    }
}

static void deep_nesting_needs_no_stack(void **state)
{
    struct buf in, out;

    (void)state;
    buf_init(&in, 32 << 20);
    buf_init(&out, 32 << 20);
    for (int i = 0; i < 1000000; i++)
        buf_append_str(&in, STR("{\"a\":"));
    buf_append_char(&in, '1');
    for (int i = 0; i < 1000000; i++)
        buf_append_char(&in, '}');
    jt_canonical(buf_str(&in), &out);
    assert_true(str_eq(buf_str(&in), buf_str(&out)));
    buf_deinit(&in);
    buf_deinit(&out);
}

RUN(TEST(white_space_goes_and_strings_and_numbers_stay), TEST(keys_are_sorted_at_every_level),
    TEST(keys_that_look_like_structure_are_left_whole), TEST(equal_keys_keep_their_order),
    TEST(it_is_appended_to_what_is_there), TEST(orders_of_many_keys_come_to_the_same),
    TEST(deep_nesting_needs_no_stack))
