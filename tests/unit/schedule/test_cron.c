/* What cron expressions say: days of a month, and what is refused. */
#include "common/base/civil.h"
#include "common/base/clock.h"
#include "common/schedule/cron.h"
#include "tests/unit/base/test.h"

#include "common/base/banned.h"

static int64_t at(const char *text)
{
    struct wall_us t;

    assert_true(wall_parse(str_of(text), &t));
    return t.us / US_PER_S;
}

/* The times that follow `from`, one after another. */
static void expect(const char *expression, const char *from, const char *const *times)
{
    struct cron_fault fault = {0};
    struct cron cron;
    int64_t t = at(from);

    if (!cron_parse(str_of(expression), &cron, &fault))
        fail_msg("%s: %s", expression, fault.message);
    for (; *times != NULL; times++) {
        char shown[WALL_TEXT_SIZE];

        assert_true(cron_next_local(&cron, t, INT64_MAX, &t));
        wall_format((struct wall_us){t * US_PER_S}, shown);
        if (t != at(*times))
            fail_msg("%s after %s: %s, not %s", expression, from, shown, *times);
        t++;
    }
}
#define EXPECT(expression, from, ...) expect(expression, from, (const char *const[]){__VA_ARGS__, NULL})

static void test_minutes_and_hours(void **state)
{
    (void)state;
    EXPECT("0 2 * * *", "2026-11-21T02:00:01Z", "2026-11-22T02:00:00Z", "2026-11-23T02:00:00Z");
    EXPECT("0 2 * * *", "2026-11-21T02:00:00Z", "2026-11-21T02:00:00Z");
    EXPECT("*/20 9-10,23 * * *", "2026-11-21T10:20:30Z", "2026-11-21T10:40:00Z", "2026-11-21T23:00:00Z");
    EXPECT("5/30 * * * *", "2026-11-21T10:06:00Z", "2026-11-21T10:35:00Z", "2026-11-21T11:05:00Z");
    EXPECT("59 23 31 12 *", "2026-12-31T23:59:01Z", "2027-12-31T23:59:00Z");
    EXPECT("\t0  0 1 1 ? ", "2026-11-21T00:00:00Z", "2027-01-01T00:00:00Z");
}

static void test_shorthands(void **state)
{
    (void)state;
    EXPECT("@hourly", "2026-11-21T10:06:00Z", "2026-11-21T11:00:00Z");
    EXPECT("@midnight", "2026-11-21T10:06:00Z", "2026-11-22T00:00:00Z");
    EXPECT("@daily", "2026-11-21T10:06:00Z", "2026-11-22T00:00:00Z");
    EXPECT("@weekly", "2026-11-21T10:06:00Z", "2026-11-22T00:00:00Z", "2026-11-29T00:00:00Z");
    EXPECT("@monthly", "2026-11-21T10:06:00Z", "2026-12-01T00:00:00Z");
    EXPECT("@yearly", "2026-11-21T10:06:00Z", "2027-01-01T00:00:00Z");
    EXPECT("@annually", "2026-11-21T10:06:00Z", "2027-01-01T00:00:00Z");
}

static void test_names_and_weekdays(void **state)
{
    (void)state;
    EXPECT("0 0 * feb-mar,DEC mon", "2026-11-21T00:00:00Z", "2026-12-07T00:00:00Z", "2026-12-14T00:00:00Z",
           "2026-12-21T00:00:00Z", "2026-12-28T00:00:00Z", "2027-02-01T00:00:00Z");
    EXPECT("0 0 * * 7", "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z");
    EXPECT("0 0 * * FRI-SUN", "2026-11-20T00:00:00Z", "2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z",
           "2026-11-22T00:00:00Z", "2026-11-27T00:00:00Z");
    EXPECT("0 0 * * 1/2", "2026-11-21T00:00:00Z", "2026-11-23T00:00:00Z", "2026-11-25T00:00:00Z",
           "2026-11-27T00:00:00Z", "2026-11-30T00:00:00Z");
}

static void test_either_day_field_counts(void **state)
{
    (void)state;
    EXPECT("0 0 13 * FRI", "2026-11-10T00:00:00Z", "2026-11-13T00:00:00Z", "2026-11-20T00:00:00Z",
           "2026-11-27T00:00:00Z", "2026-12-04T00:00:00Z", "2026-12-11T00:00:00Z", "2026-12-13T00:00:00Z");
}

static void test_last_and_nearest_days(void **state)
{
    (void)state;
    EXPECT("0 0 L * *", "2027-02-01T00:00:00Z", "2027-02-28T00:00:00Z", "2027-03-31T00:00:00Z");
    EXPECT("0 0 L-2,1 * *", "2028-02-02T00:00:00Z", "2028-02-27T00:00:00Z", "2028-03-01T00:00:00Z");
    EXPECT("0 0 LW * *", "2027-01-01T00:00:00Z", "2027-01-29T00:00:00Z", "2027-02-26T00:00:00Z");
    EXPECT("0 0 15W * *", "2026-11-01T00:00:00Z", "2026-11-16T00:00:00Z", "2026-12-15T00:00:00Z");
    EXPECT("0 0 1W 8 *", "2026-08-01T00:00:00Z", "2026-08-03T00:00:00Z"); /* the 1st is a Saturday */
    EXPECT("0 0 31W 1,5 *", "2026-01-01T00:00:00Z", "2026-01-30T00:00:00Z", "2026-05-29T00:00:00Z");
    EXPECT("0 0 * * 5L", "2026-11-01T00:00:00Z", "2026-11-27T00:00:00Z", "2026-12-25T00:00:00Z");
    EXPECT("0 0 * * MON#1,fri#5", "2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z", "2026-12-07T00:00:00Z",
           "2027-01-04T00:00:00Z", "2027-01-29T00:00:00Z");
}

static void test_rare_days_are_found(void **state)
{
    (void)state;
    EXPECT("0 0 29 2 *", "2097-01-01T00:00:00Z", "2104-02-29T00:00:00Z");
    EXPECT("0 0 * 2 MON#5", "2000-01-01T00:00:00Z", "2016-02-29T00:00:00Z", "2044-02-29T00:00:00Z");
}

static void test_a_bound_is_kept(void **state)
{
    struct cron_fault fault;
    struct cron cron;
    int64_t t = 1;

    (void)state;
    assert_true(cron_parse(STR("0 12 * * *"), &cron, &fault));
    assert_false(cron_next_local(&cron, 0, 12 * 3600, &t));
    assert_int_equal(t, 1);
    assert_true(cron_next_local(&cron, 0, 12 * 3600 + 1, &t));
    assert_int_equal(t, 12 * 3600);
    assert_true(cron_next_local(&cron, -1, INT64_MAX, &t));
    assert_true(cron_next_local(&cron, -12 * 3600 - 59, INT64_MAX, &t));
    assert_int_equal(t, -12 * 3600);
}

static void test_what_is_no_expression_is_refused(void **state)
{
    static const struct {
        const char *text, *code, *message;
    } bad[] = {
        {"", "bad_expression", "must have five fields"},
        {"* * * *", "bad_expression", "must have five fields"},
        {"* * * * * *", "bad_expression", "must have five fields"},
        {"@reboot", "bad_expression", "is no shorthand that there is"},
        {"60 * * * *", "out_of_range", "'60' is outside of what there is in the field of the minute"},
        {"* 24 * * *", "out_of_range", "'24' is outside of what there is in the field of the hour"},
        {"* * 0 * *", "out_of_range", "'0' is outside of what there is in the field of the day of month"},
        {"* * 32 * *", "out_of_range", NULL},
        {"* * * 13 *", "out_of_range", NULL},
        {"* * * * 8", "out_of_range", NULL},
        {"*/0 * * * *", "out_of_range", NULL},
        {"*/61 * * * *", "out_of_range", NULL},
        {"10-5 * * * *", "out_of_range", "'10-5' ends before it begins in the field of the minute"},
        {"1,,2 * * * *", "bad_expression", "'' is empty in the field of the minute"},
        {"1, * * * *", "bad_expression", NULL},
        {"1- * * * *", "bad_expression", NULL},
        {"-1 * * * *", "bad_expression", NULL},
        {"1x * * * *", "bad_expression", NULL},
        {"L * * * *", "bad_expression", NULL},
        {"? * * * *", "bad_expression", NULL},
        {"* * * MONDAY *", "bad_expression", NULL},
        {"* * * * MONDAY", "bad_expression", NULL},
        {"* * * * L", "bad_expression", "'L' does not say which day in the field of the day of week"},
        {"* * * * 1#6", "out_of_range", NULL},
        {"* * * * 1#0", "out_of_range", NULL},
        {"* * * * 1#1L", "bad_expression", NULL},
        {"* * 1-5W * *", "bad_expression", NULL},
        {"* * LWW * *", "bad_expression", NULL},
        {"* * L-31 * *", "out_of_range", NULL},
        {"* * 99999999999999999999 * *", "out_of_range", NULL},
        {"0 0 30 2 *", "out_of_range", "names no day that there ever is"},
        {"0 0 31 4,6,9,11 *", "out_of_range", "names no day that there ever is"},
        {"0 0 L-30 4 *", "out_of_range", "names no day that there ever is"},
        {"0 0 31W 2 *", "out_of_range", "names no day that there ever is"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct cron_fault fault = {0};
        struct cron cron;

        if (cron_parse(str_of(bad[i].text), &cron, &fault))
            fail_msg("'%s' was taken", bad[i].text);
        assert_string_equal(fault.code, bad[i].code);
        if (bad[i].message != NULL)
            assert_string_equal(fault.message, bad[i].message);
    }
}

RUN(TEST(test_minutes_and_hours), TEST(test_shorthands), TEST(test_names_and_weekdays),
    TEST(test_either_day_field_counts), TEST(test_last_and_nearest_days), TEST(test_rare_days_are_found),
    TEST(test_a_bound_is_kept), TEST(test_what_is_no_expression_is_refused))
