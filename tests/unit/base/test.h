/* cmocka with the headers that it wants before it. */
#pragma once
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#define TEST(name) cmocka_unit_test(name)
#define RUN(...)                                                                                                       \
    int main(void)                                                                                                     \
    {                                                                                                                  \
        const struct CMUnitTest tests[] = {__VA_ARGS__};                                                               \
                                                                                                                       \
        return cmocka_run_group_tests(tests, NULL, NULL);                                                              \
    }

#define assert_str_eq(s, literal)                                                                                      \
    do {                                                                                                               \
        struct str assert_str_ = (s);                                                                                  \
                                                                                                                       \
        assert_non_null(assert_str_.ptr);                                                                              \
        assert_int_equal(assert_str_.len, sizeof(literal) - 1);                                                        \
        assert_memory_equal(assert_str_.ptr, literal, sizeof(literal) - 1);                                            \
    } while (0)
