/* Views, buffers, number parsers, UTF-8, the keyed hash. */
#include "common/base/str.h"
#include "tests/unit/base/test.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void absent_and_empty_views_compare_equal_in_bytes(void **state)
{
    (void)state;
    assert_true(str_eq(STR_NONE, STR("")));
    assert_true(str_is(STR("abc"), "abc"));
    assert_false(str_is(STR("abc"), "abcd"));
    assert_true(str_starts(STR("abc"), ""));
    assert_true(str_starts(STR("abc"), "ab"));
    assert_false(str_starts(STR("a"), "ab"));
    assert_true(str_starts(STR_NONE, ""));
    assert_null(str_of(NULL).ptr);
}

static void views_are_ordered_bytewise_then_by_length(void **state)
{
    (void)state;
    assert_int_equal(str_cmp(STR("a"), STR("b")), -1);
    assert_int_equal(str_cmp(STR("b"), STR("a")), 1);
    assert_int_equal(str_cmp(STR("a"), STR("ab")), -1);
    assert_int_equal(str_cmp(STR("ab"), STR("a")), 1);
    assert_int_equal(str_cmp(STR("\xff"), STR("a")), 1);
    assert_int_equal(str_cmp(STR_NONE, STR("")), 0);
    assert_int_equal(str_cmp(STR("x\0y"), STR("x\0z")), -1);
}

static void cutting_takes_parts_until_none_is_left(void **state)
{
    struct str rest = STR("a,,b,");

    (void)state;
    assert_str_eq(str_cut(&rest, ','), "a");
    assert_str_eq(str_cut(&rest, ','), "");
    assert_str_eq(str_cut(&rest, ','), "b");
    assert_non_null(rest.ptr);
    assert_str_eq(str_cut(&rest, ','), "");
    assert_null(rest.ptr);
}

static void trimming_takes_white_space_of_both_ends(void **state)
{
    (void)state;
    assert_str_eq(str_trim(STR(" \t\r\na b\n ")), "a b");
    assert_int_equal(str_trim(STR("   ")).len, 0);
    assert_int_equal(str_trim(STR_NONE).len, 0);
}

static void copies_in_an_arena_end_in_nul_and_keep_absence(void **state)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(0);
    struct str copy = str_arena(arena, (struct str){"abc", 2});

    (void)state;
    assert_string_equal(copy.ptr, "ab");
    assert_null(str_arena(arena, STR_NONE).ptr);
    assert_non_null(str_arena(arena, STR("")).ptr);
}

static void numbers_are_read_whole_or_not_at_all(void **state)
{
    int64_t n = 77;
    uint32_t u = 77;
    static const char *const bad[] = {"",
                                      "-",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "1x",
                                      "0x1",
                                      "1.0",
                                      "--1",
                                      "9223372036854775808",
                                      "-9223372036854775809",
                                      "99999999999999999999999"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(parse_i64(str_of(bad[i]), INT64_MIN, INT64_MAX, &n));
        assert_false(parse_u32(str_of(bad[i]), 0, UINT32_MAX, &u));
    }
    assert_false(parse_i64(STR_NONE, INT64_MIN, INT64_MAX, &n));
    assert_int_equal(n, 77);
    assert_true(parse_i64(STR("9223372036854775807"), INT64_MIN, INT64_MAX, &n));
    assert_true(n == INT64_MAX);
    assert_true(parse_i64(STR("-9223372036854775808"), INT64_MIN, INT64_MAX, &n));
    assert_true(n == INT64_MIN);
    assert_true(parse_u32(STR("4294967295"), 0, UINT32_MAX, &u));
    assert_true(u == UINT32_MAX);
    assert_false(parse_u32(STR("4294967296"), 0, UINT32_MAX, &u));
    assert_false(parse_u32(STR("-0"), 0, UINT32_MAX, &u));
}

static void numbers_out_of_the_given_range_are_refused(void **state)
{
    uint32_t u = 0;
    int64_t n = 0;

    (void)state;
    assert_true(parse_u32(STR("5"), 5, 6, &u) && parse_u32(STR("6"), 5, 6, &u));
    assert_false(parse_u32(STR("4"), 5, 6, &u) || parse_u32(STR("7"), 5, 6, &u));
    assert_true(parse_i64(STR("-5"), -5, 6, &n));
    assert_false(parse_i64(STR("-6"), -5, 6, &n));
}

static void integers_are_written_as_printf_writes_them(void **state)
{
    const int64_t numbers[] = {0, 1, -1, 9, 10, -10, 1234567890, INT64_MAX, INT64_MIN, INT64_MIN + 1};

    (void)state;
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        char text[I64_TEXT_SIZE], wanted[32];

        snprintf(wanted, sizeof(wanted), "%lld", (long long)numbers[i]);
        assert_int_equal(i64_format(numbers[i], text), strlen(wanted));
        assert_string_equal(text, wanted);
    }
}

static void the_hash_tells_different_bytes_and_lengths_apart(void **state)
{
    char zeros[64] = {0};
    uint64_t seen[64];

    (void)state;
    for (size_t len = 0; len < 64; len++) {
        seen[len] = str_hash((struct str){zeros, len});
        assert_true(seen[len] == str_hash((struct str){zeros, len}));
        for (size_t k = 0; k < len; k++)
            assert_true(seen[k] != seen[len]);
    }
    assert_true(str_hash(STR("abcdefgh1")) != str_hash(STR("abcdefgh2")));
}

static uint64_t hash_in_another_process(void)
{
    char text[64] = {0};
    FILE *out = popen("exec /proc/$PPID/exe --hash", "r");

    assert_non_null(out);
    assert_non_null(fgets(text, sizeof(text), out));
    pclose(out);
    return strtoull(text, NULL, 10);
}

static void the_hash_has_a_key_per_process(void **state)
{
    (void)state;
    assert_true(hash_in_another_process() != str_hash(STR("key")));
}

static void utf8_sequences_are_measured_strictly(void **state)
{
    static const struct {
        const char *text;
        size_t len;
    } cases[] = {
        {"a", 1},
        {"\x7f", 1},
        {"\xc2\x80", 2},
        {"\xdf\xbf", 2},
        {"\xe0\xa0\x80", 3},
        {"\xed\x9f\xbf", 3},
        {"\xee\x80\x80", 3},
        {"\xef\xbf\xbf", 3},
        {"\xf0\x90\x80\x80", 4},
        {"\xf4\x8f\xbf\xbf", 4},
        {"\x80", 0},             /* a continuation alone */
        {"\xc0\x80", 0},         /* overlong */
        {"\xc1\xbf", 0},         /* overlong */
        {"\xe0\x9f\xbf", 0},     /* overlong */
        {"\xf0\x8f\xbf\xbf", 0}, /* overlong */
        {"\xed\xa0\x80", 0},     /* surrogate */
        {"\xed\xbf\xbf", 0},     /* surrogate */
        {"\xf4\x90\x80\x80", 0}, /* beyond U+10FFFF */
        {"\xf5\x80\x80\x80", 0},
        {"\xff", 0},
        {"\xc2", 0},         /* cut short */
        {"\xe2\x82", 0},     /* cut short */
        {"\xf0\x9f\x98", 0}, /* cut short */
        {"\xe2\x28\xa1", 0},
        {"\xf0\x9f\x28\x80", 0},
        {"\xf0\x9f\x98\x28", 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(utf8_len_at(cases[i].text, strlen(cases[i].text)), cases[i].len);
    assert_int_equal(utf8_len_at("", 0), 0);
    assert_int_equal(utf8_len_at("\0", 1), 1);
}

static void prefixes_do_not_split_characters(void **state)
{
    struct str s = STR("a\xf0\x9f\x98\x80z"); /* one, four, one byte */
    static const size_t expect[] = {0, 1, 1, 1, 1, 5, 6, 6};

    (void)state;
    for (size_t max = 0; max < 8; max++)
        assert_int_equal(utf8_prefix(s, max).len, expect[max]);
    assert_int_equal(utf8_prefix(STR("\x80\x80\x80\x80\x80\x80"), 5).len, 5);
}

static void buffers_grow_up_to_their_maximum_and_no_further(void **state)
{
    CLEANUP(buf_deinit) struct buf buf;

    (void)state;
    buf_init(&buf, 1000);
    assert_str_eq(buf_str(&buf), "");
    for (int i = 0; i < 1000; i++)
        buf_append_char(&buf, 'x');
    assert_false(buf.overflow);
    assert_int_equal(buf.len, 1000);
    assert_int_equal(buf.ptr[1000], '\0');
    buf_append_char(&buf, 'y');
    assert_true(buf.overflow);
    assert_int_equal(buf.len, 1000);
    buf_reset(&buf);
    assert_false(buf.overflow);
    assert_int_equal(buf.len, 0);
}

static void after_an_overflow_nothing_more_is_appended(void **state)
{
    CLEANUP(buf_deinit) struct buf buf;

    (void)state;
    buf_init(&buf, 5);
    buf_append_str(&buf, STR("abc"));
    buf_append_str(&buf, STR("def"));
    buf_append_char(&buf, 'g');
    buf_printf(&buf, "h");
    assert_true(buf.overflow);
    assert_str_eq(buf_str(&buf), "abc");
}

static void a_buffer_prints_consumes_and_hands_over(void **state)
{
    struct buf buf;
    size_t len;
    char *text;

    (void)state;
    buf_init(&buf, 10000);
    buf_printf(&buf, "%d-%s|", 5, "x");
    buf_printf(&buf, "%600d", 1);
    assert_int_equal(buf.len, 604);
    buf_consume(&buf, 4);
    buf_consume(&buf, 0);
    assert_int_equal(buf.len, 600);
    assert_int_equal(buf.ptr[599], '1');
    text = buf_take(&buf, &len);
    assert_int_equal(len, 600);
    assert_int_equal(strlen(text), 600);
    assert_null(buf.ptr);
    mem_free(text);
    text = buf_take(&buf, NULL);
    assert_string_equal(text, "");
    mem_free(text);
    buf_deinit(&buf);
    buf_deinit(NULL);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(absent_and_empty_views_compare_equal_in_bytes),
        TEST(views_are_ordered_bytewise_then_by_length),
        TEST(cutting_takes_parts_until_none_is_left),
        TEST(trimming_takes_white_space_of_both_ends),
        TEST(copies_in_an_arena_end_in_nul_and_keep_absence),
        TEST(numbers_are_read_whole_or_not_at_all),
        TEST(numbers_out_of_the_given_range_are_refused),
        TEST(integers_are_written_as_printf_writes_them),
        TEST(the_hash_tells_different_bytes_and_lengths_apart),
        TEST(the_hash_has_a_key_per_process),
        TEST(utf8_sequences_are_measured_strictly),
        TEST(prefixes_do_not_split_characters),
        TEST(buffers_grow_up_to_their_maximum_and_no_further),
        TEST(after_an_overflow_nothing_more_is_appended),
        TEST(a_buffer_prints_consumes_and_hands_over),
    };

    if (argc == 2 && strcmp(argv[1], "--hash") == 0) {
        printf("%" PRIu64 "\n", str_hash(STR("key")));
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
