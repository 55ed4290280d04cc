/* JSON values compared as values: numbers by what they mean and exactly, however long; objects whatever the order. */
#pragma once
#include "common/base/json_text.h"

/* A number's significant digits (no zeros at either end) between first and last, a point perhaps among them:
 * 0.d1d2d3... x 10^top. No digits at all for zero. */
struct number {
    bool negative;
    const char *first, *last;
    size_t digits;
    int64_t top;
};
struct number number_of(struct str checked_number);
int number_cmp(struct str a, struct str b);
bool number_is_integer(struct str n); /* 1.0 and 1e3 are */
/* Is `n` a whole multiple of `of`, exactly? `of` must have passed number_can_divide. */
bool number_is_multiple(struct str n, struct str of);
bool number_can_divide(struct str n); /* more than zero, at most 18 significant digits */

bool value_equal(struct str a, struct str b, struct arena *arena);
/* Index of an item of the array that equals an earlier one, or SIZE_MAX. */
size_t value_first_repeated(struct str array, struct arena *arena);
