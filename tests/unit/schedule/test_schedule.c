/* Nominal times: when the clocks are set, intervals, one time, what was missed. */
#include "tests/unit/schedule/kit.h"
#include "tests/unit/base/test.h"

#include "common/base/banned.h"

static struct zone *berlin;

static void expect(const struct schedule *schedule, const char *after, const char *const *times)
{
    struct wall_us t = kit_time(after);

    for (; *times != NULL; times++) {
        char shown[WALL_TEXT_SIZE];

        assert_true(schedule_next(schedule, t, &t));
        wall_format(t, shown);
        if (t.us != kit_time(*times).us)
            fail_msg("%s, not %s", shown, *times);
    }
}
#define EXPECT(schedule, after, ...) expect(schedule, after, (const char *const[]){__VA_ARGS__, NULL})

static void test_a_time_that_the_clocks_jump_over(void **state)
{
    struct schedule s = kit_cron("30 2 * * *", berlin), hourly = kit_cron("*/30 * * * *", berlin);
    struct schedule beside = kit_cron("0,15 2,3 * * *", berlin), steps = kit_cron("*/30 2 * * *", berlin);

    (void)state;
    EXPECT(&s, "2026-03-28T00:00:00Z", "2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z");
    s.gap_skip = true;
    EXPECT(&s, "2026-03-28T00:00:00Z", "2026-03-28T01:30:00Z", "2026-03-30T00:30:00Z");
    EXPECT(&hourly, "2026-03-29T00:15:00Z", "2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z");
    EXPECT(&beside, "2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:15:00Z", "2026-03-30T00:00:00Z");
    EXPECT(&steps, "2026-03-28T01:00:00Z", "2026-03-28T01:30:00Z", "2026-03-30T00:00:00Z");
}

static void test_a_time_that_there_is_twice(void **state)
{
    struct schedule s = kit_cron("30 2 * * *", berlin), hourly = kit_cron("30 * * * *", berlin);

    (void)state;
    EXPECT(&s, "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z");
    EXPECT(&s, "2026-10-25T01:10:00Z", "2026-10-26T01:30:00Z"); /* asked between the passes, and in the second */
    s.overlap_twice = true;
    EXPECT(&s, "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z");
    EXPECT(&hourly, "2026-10-24T23:31:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z");
}

static void test_a_day_that_was_left_out(void **state)
{
    struct zone *apia = kit_zone("Pacific/Apia"); /* had no 30 December 2011 */
    struct schedule s = kit_cron("0 12 30 12 *", apia);

    (void)state;
    EXPECT(&s, "2011-01-01T00:00:00Z", "2011-12-30T10:00:00Z", "2012-12-29T22:00:00Z");
    s.gap_skip = true;
    EXPECT(&s, "2011-01-01T00:00:00Z", "2012-12-29T22:00:00Z");
    zone_free(apia);
}

static void test_half_an_hour(void **state)
{
    struct zone *howe = kit_zone("Australia/Lord_Howe");
    struct schedule s = kit_cron("15 2 * * *", howe), back = kit_cron("45 1 * * *", howe);

    (void)state;
    EXPECT(&s, "2026-10-03T00:00:00Z", "2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z");
    EXPECT(&back, "2026-04-04T00:00:00Z", "2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z");
    zone_free(howe);
}

static void test_marks_and_local_times(void **state)
{
    struct schedule s = kit_cron("30 2 * * *", berlin), edge = kit_cron("0 3 * * *", berlin);
    char local[SCHEDULE_LOCAL_SIZE];

    (void)state;
    s.overlap_twice = true;
    assert_int_equal(schedule_mark(&s, kit_time("2026-03-29T01:00:00Z")), SCHEDULE_AFTER_GAP);
    assert_int_equal(schedule_mark(&edge, kit_time("2026-03-29T01:00:00Z")), SCHEDULE_PLAIN);
    assert_int_equal(schedule_mark(&s, kit_time("2026-10-25T00:30:00Z")), SCHEDULE_FIRST_PASS);
    assert_int_equal(schedule_mark(&s, kit_time("2026-10-25T01:30:00Z")), SCHEDULE_SECOND_PASS);
    assert_int_equal(schedule_mark(&s, kit_time("2026-10-24T00:30:00Z")), SCHEDULE_PLAIN);
    schedule_local(&s, kit_time("2026-03-29T01:00:00Z"), local);
    assert_string_equal(local, "2026-03-29T03:00:00+02:00");
    schedule_local(&s, kit_time("2026-12-29T23:30:01Z"), local);
    assert_string_equal(local, "2026-12-30T00:30:01+01:00");
}

static void test_intervals_count_from_their_beginning(void **state)
{
    struct schedule s = {.kind = SCHEDULE_EVERY, .every_us = 90 * US_PER_S, .from = kit_time("2026-01-01T00:00:00.5Z")};
    struct wall_us t;

    (void)state;
    EXPECT(&s, "2025-01-01T00:00:00Z", "2026-01-01T00:01:30.5Z", "2026-01-01T00:03:00.5Z");
    EXPECT(&s, "2026-01-01T00:01:30.4Z", "2026-01-01T00:01:30.5Z");
    EXPECT(&s, "2026-03-01T00:00:00Z", "2026-03-01T00:00:00.5Z");
    assert_false(schedule_next(&s, kit_time("9999-12-31T23:59:00Z"), &t));
}

static void test_one_time_comes_once(void **state)
{
    struct schedule s = {.kind = SCHEDULE_AT, .at = kit_time("2026-12-24T17:00:00+01:00")};
    struct wall_us t;

    (void)state;
    EXPECT(&s, "2026-01-01T00:00:00Z", "2026-12-24T16:00:00Z");
    assert_false(schedule_next(&s, s.at, &t));
}

static void test_the_calendar_ends(void **state)
{
    struct schedule s = kit_cron("0 2 * * *", berlin);
    struct wall_us t;

    (void)state;
    EXPECT(&s, "9999-12-30T12:00:00Z", "9999-12-31T01:00:00Z");
    assert_false(schedule_next(&s, kit_time("9999-12-31T12:00:00Z"), &t));
}

static void test_the_latest_of_what_was_missed(void **state)
{
    struct schedule s = kit_cron("*/5 * * * *", berlin);
    struct wall_us from = kit_time("2020-01-01T00:00:00Z"), until = kit_time("2026-01-01T00:02:00Z"), got[10], one;
    bool more;

    (void)state;
    for (size_t max = 1; max <= 10; max++) {
        assert_int_equal(schedule_latest(&s, from, until, max, got, &more), max);
        assert_true(more);
        for (size_t i = 0; i < max; i++)
            assert_int_equal(got[i].us, kit_time("2026-01-01T00:00:00Z").us - (int64_t)(max - 1 - i) * 300 * US_PER_S);
    }
    one.us = until.us - 11 * 60 * US_PER_S;
    assert_int_equal(schedule_latest(&s, one, until, 2, got, &more), 2);
    assert_false(more);
    assert_int_equal(schedule_latest(&s, one, until, 1, got, &more), 1);
    assert_true(more);
    assert_int_equal(schedule_latest(&s, one, until, 0, got, &more), 0);
    assert_true(more);
    assert_int_equal(schedule_latest(&s, kit_time("2026-01-01T00:00:00Z"), until, 5, got, &more), 0);
    assert_false(more);
}

static int begin(void **state)
{
    (void)state;
    berlin = kit_zone("Europe/Berlin");
    return 0;
}

static int end(void **state)
{
    (void)state;
    zone_free(berlin);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_a_time_that_the_clocks_jump_over),
                                       TEST(test_a_time_that_there_is_twice),
                                       TEST(test_a_day_that_was_left_out),
                                       TEST(test_half_an_hour),
                                       TEST(test_marks_and_local_times),
                                       TEST(test_intervals_count_from_their_beginning),
                                       TEST(test_one_time_comes_once),
                                       TEST(test_the_calendar_ends),
                                       TEST(test_the_latest_of_what_was_missed)};

    return cmocka_run_group_tests(tests, begin, end);
}
