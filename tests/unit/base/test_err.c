/* Errors: classes, codes, messages and their prefixes. */
#include "common/base/err.h"
#include "common/base/str.h"
#include "tests/unit/base/test.h"
#include <stdio.h>

static enum err_code fails(struct err *err)
{
    return err_set(err, ERR_BUSY, "lost connection %d", 7);
}

static void the_value_of_err_set_is_the_code(void **state)
{
    struct err err = {.lib_code = 5, .sqlstate = "40001"};

    (void)state;
    assert_int_equal(fails(&err), ERR_BUSY);
    assert_int_equal(err.code, ERR_BUSY);
    assert_string_equal(err.message, "lost connection 7");
    assert_int_equal(err.lib_code, 0);
    assert_string_equal(err.sqlstate, "");
    assert_non_null(strstr(err.file, "test_err.c"));
    assert_true(err.line > 0);
}

static void the_value_of_the_macros_may_be_left_unused(void **state)
{
    struct err err = {0};

    (void)state;
    err_set(&err, ERR_INVALID, "x");
    err_prefix(&err, ERR_INVALID, "y");
    assert_string_equal(err.message, "y: x");
}

static void a_prefix_says_what_we_were_doing_and_keeps_the_rest(void **state)
{
    struct err err = {0};

    (void)state;
    err_set(&err, ERR_STALE, "row is gone");
    err.lib_code = 11;
    assert_int_equal(err_prefix(&err, ERR_STALE, "finishing run '%s'", "r1"), ERR_STALE);
    assert_string_equal(err.message, "finishing run 'r1': row is gone");
    assert_int_equal(err.lib_code, 11);
}

static void a_message_may_quote_the_message_it_replaces(void **state)
{
    struct err err = {0};

    (void)state;
    err_set(&err, ERR_STALE, "inner");
    err_set(&err, ERR_INTERNAL, "outer: %s", err.message);
    assert_string_equal(err.message, "outer: inner");
}

static void messages_are_cut_between_characters(void **state)
{
    struct err err = {0};
    char text[600];

    (void)state;
    for (size_t shift = 0; shift < 4; shift++) {
        memset(text, 'a', shift);
        for (size_t i = shift; i + 3 < sizeof(text); i += 3)
            memcpy(text + i, "\xe2\x82\xac", 4);
        err_set(&err, ERR_INVALID, "%s", text);
        assert_in_range(strlen(err.message), sizeof(err.message) - 4, sizeof(err.message) - 1);
        for (size_t i = shift; i < strlen(err.message); i += 3)
            assert_int_equal(utf8_len_at(err.message + i, strlen(err.message) - i), 3);
        err_prefix(&err, ERR_INVALID, "p");
        for (size_t i = shift + 3; i < strlen(err.message); i += 3)
            assert_int_equal(utf8_len_at(err.message + i, strlen(err.message) - i), 3);
    }
}

static void a_prefix_longer_than_a_message_is_cut_too(void **state)
{
    struct err err = {0};
    char text[2000];

    (void)state;
    memset(text, 'p', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    err_set(&err, ERR_INVALID, "x");
    err_prefix(&err, ERR_INVALID, "%s", text);
    assert_int_equal(strlen(err.message), sizeof(err.message) - 1);
}

static void codes_have_names_classes_and_statuses(void **state)
{
    (void)state;
    assert_string_equal(err_code_name(ERR_OK), "ok");
    assert_string_equal(err_code_name(ERR_NOT_FOUND), "not_found");
    assert_string_equal(err_code_name(ERR_TOO_LARGE), "too_large");
    assert_int_equal(err_class_of(ERR_OK), ERR_CLASS_NONE);
    assert_int_equal(err_class_of(ERR_INVALID), ERR_CLASS_CALLER);
    assert_int_equal(err_class_of(ERR_TIMEOUT), ERR_CLASS_TRANSIENT);
    assert_int_equal(err_class_of(ERR_REFUSED_DATA), ERR_CLASS_BUG);
    assert_int_equal(err_http_status(ERR_TOO_LARGE), 413);
    assert_int_equal(err_http_status(ERR_INTERNAL), 500);
}

static void a_code_that_is_none_counts_as_our_mistake(void **state)
{
    (void)state;
    assert_int_equal(err_class_of((enum err_code)999), ERR_CLASS_BUG);
    assert_int_equal(err_http_status((enum err_code)999), 500);
}

RUN(TEST(the_value_of_err_set_is_the_code), TEST(the_value_of_the_macros_may_be_left_unused),
    TEST(a_prefix_says_what_we_were_doing_and_keeps_the_rest), TEST(a_message_may_quote_the_message_it_replaces),
    TEST(messages_are_cut_between_characters), TEST(a_prefix_longer_than_a_message_is_cut_too),
    TEST(codes_have_names_classes_and_statuses), TEST(a_code_that_is_none_counts_as_our_mistake))
