/* Retry-After, as it comes. */
#include "common/io/retry_after.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void retry_after_is_seconds_or_a_date(void **state)
{
    struct wall_us now;

    (void)state;
    assert_true(wall_parse(STR("1994-11-06T08:49:07Z"), &now));
    assert_int_equal(http_retry_after_ms(STR("7"), now), 7000);
    assert_int_equal(http_retry_after_ms(STR(" 0 "), now), 0);
    assert_int_equal(http_retry_after_ms(STR("Sun, 06 Nov 1994 08:49:37 GMT"), now), 30000);
    assert_int_equal(http_retry_after_ms(STR("Sunday, 06-Nov-94 08:49:37 GMT"), now), 30000);
    assert_int_equal(http_retry_after_ms(STR("Sun Nov  6 08:49:37 1994"), now), 30000);
    assert_int_equal(http_retry_after_ms(STR("Sun, 06 Nov 1993 08:49:37 GMT"), now), 0);
    assert_int_equal(http_retry_after_ms(STR("9223372036854775807"), now), -1);
    assert_int_equal(http_retry_after_ms(STR("99999999999"), now), INT64_C(366) * 86400 * 1000);
    assert_int_equal(http_retry_after_ms(STR("-5"), now), -1);
    assert_int_equal(http_retry_after_ms(STR("soon"), now), -1);
    assert_int_equal(http_retry_after_ms(STR("Sun, 99 Nov 1994 08:49:37 GMT"), now), -1);
    assert_int_equal(http_retry_after_ms(STR("Sun, 06 Nov 1994 28:49:37 GMT"), now), -1);
    assert_int_equal(http_retry_after_ms(STR("1.5"), now), -1);
    assert_int_equal(http_retry_after_ms(STR_NONE, now), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(retry_after_is_seconds_or_a_date),
    };

    return cmocka_run_group_tests_name("retry_after", tests, NULL, NULL);
}
