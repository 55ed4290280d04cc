/* What differs between two texts, as the comparison of versions tells it. */
#include "gateway/diff.h"
#include "tests/unit/base/test.h"

#include "common/base/banned.h"

static void expect(const char *from, const char *to, const char *changes)
{
    CLEANUP(buf_deinit) struct buf out = {0};
    struct jw w;

    buf_init(&out, 65536);
    w = jw_to(&out);
    diff_write(&w, str_of(from), str_of(to));
    assert_string_equal(out.ptr, changes);
}

static void what_is_the_same_is_no_change(void **state)
{
    (void)state;
    expect("{}", "{ }", "[]");
    expect("{\"a\":1,\"b\":[true,null]}", "{ \"b\" : [ true , null ], \"a\": 1 }", "[]");
    expect("[]", "[]", "[]");
}

static void members_are_added_removed_and_changed(void **state)
{
    (void)state;
    expect("{\"a\":1,\"b\":2}", "{\"b\":3,\"c\":4}",
           "[{\"op\":\"removed\",\"pointer\":\"/a\",\"from\":1},"
           "{\"op\":\"changed\",\"pointer\":\"/b\",\"from\":2,\"to\":3},"
           "{\"op\":\"added\",\"pointer\":\"/c\",\"to\":4}]");
    expect("{\"a\":{\"x\":{\"y\":1}}}", "{\"a\":{\"x\":{\"y\":2}}}",
           "[{\"op\":\"changed\",\"pointer\":\"/a/x/y\",\"from\":1,\"to\":2}]");
    expect("{\"a\":null}", "{}", "[{\"op\":\"removed\",\"pointer\":\"/a\",\"from\":null}]");
}

static void lists_are_matched_by_index(void **state)
{
    (void)state;
    expect("[1,2,3]", "[1,4]",
           "[{\"op\":\"changed\",\"pointer\":\"/1\",\"from\":2,\"to\":4},{\"op\":\"removed\",\"pointer\":\"/"
           "2\",\"from\":3}]");
    expect("[]", "[{\"a\":1}]", "[{\"op\":\"added\",\"pointer\":\"/0\",\"to\":{\"a\":1}}]");
}

static void another_type_is_a_change_of_the_whole(void **state)
{
    (void)state;
    expect("{\"a\":{\"b\":1}}", "{\"a\":[1]}",
           "[{\"op\":\"changed\",\"pointer\":\"/a\",\"from\":{\"b\":1},\"to\":[1]}]");
    expect("1", "\"1\"", "[{\"op\":\"changed\",\"pointer\":\"\",\"from\":1,\"to\":\"1\"}]");
    expect("0.1", "0.10", "[{\"op\":\"changed\",\"pointer\":\"\",\"from\":0.1,\"to\":0.10}]");
}

static void keys_are_escaped_in_pointers(void **state)
{
    (void)state;
    expect("{\"a/b\":{\"c~d\":1}}", "{\"a/b\":{\"c~d\":2}}",
           "[{\"op\":\"changed\",\"pointer\":\"/a~1b/c~0d\",\"from\":1,\"to\":2}]");
    expect("{\"\\u0061\":1}", "{\"a\":2}", "[{\"op\":\"changed\",\"pointer\":\"/a\",\"from\":1,\"to\":2}]");
}

/* 50,000 members in opposite order: a cost that grew with the square would take minutes. */
static void large_objects_in_another_order_take_no_longer(void **state)
{
    CLEANUP(buf_deinit) struct buf from = {0}, to = {0}, out = {0};
    struct jw w;

    (void)state;
    buf_init(&from, 4 << 20);
    buf_init(&to, 4 << 20);
    buf_init(&out, 4 << 20);
    for (int i = 0; i < 50000; i++) {
        buf_printf(&from, "%s\"k%d\":%d", i == 0 ? "{" : ",", i, i);
        buf_printf(&to, "%s\"k%d\":%d", i == 0 ? "{" : ",", 49999 - i, 49999 - i);
    }
    buf_append_char(&from, '}');
    buf_append_char(&to, '}');
    w = jw_to(&out);
    diff_write(&w, buf_str(&from), buf_str(&to));
    assert_string_equal(out.ptr, "[]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_the_same_is_no_change),
        cmocka_unit_test(members_are_added_removed_and_changed),
        cmocka_unit_test(lists_are_matched_by_index),
        cmocka_unit_test(another_type_is_a_change_of_the_whole),
        cmocka_unit_test(keys_are_escaped_in_pointers),
        cmocka_unit_test(large_objects_in_another_order_take_no_longer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
