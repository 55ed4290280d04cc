/* What the tests of common/seal share. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/str.h"
#include <stdio.h>
#include <stdlib.h>

#define assert_str(actual, expected) assert_str_((actual), (expected), __FILE__, __LINE__)
static inline void assert_str_(struct str actual, const char *expected, const char *file, int line)
{
    if (str_is(actual, expected))
        return;
    print_error("'" STR_FMT "' != '%s'\n", STR_ARG(actual), expected);
    _fail(file, line);
}

static inline size_t unhex(const char *hex, uint8_t *ret)
{
    size_t n = strlen(hex) / 2;

    for (size_t i = 0; i < n; i++) {
        char pair[3] = {hex[2 * i], hex[2 * i + 1], '\0'};

        ret[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
    return n;
}
