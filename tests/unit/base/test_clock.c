/* Times and durations. */
#include "common/base/clock.h"
#include "tests/unit/base/test.h"
#include <stdio.h>
#include <time.h>

static void expect_time(const char *text, int64_t us)
{
    struct wall_us t = {0};

    if (!wall_parse(str_of(text), &t))
        fail_msg("'%s' is refused", text);
    if (t.us != us)
        fail_msg("'%s' is %lld", text, (long long)t.us);
}

static void times_are_read_as_rfc_3339_says(void **state)
{
    (void)state;
    expect_time("1970-01-01T00:00:00Z", 0);
    expect_time("1970-01-01t00:00:01z", 1000000);
    expect_time("1985-04-12T23:20:50.52Z", INT64_C(482196050520000));
    expect_time("1996-12-19T16:39:57-08:00", INT64_C(851042397000000));
    expect_time("1996-12-20T00:39:57Z", INT64_C(851042397000000));
    expect_time("1937-01-01T12:00:27.87+00:20", INT64_C(-1041337172130000));
    expect_time("1990-12-31T23:59:60Z", INT64_C(662688000000000));
    expect_time("1990-12-31T15:59:60-08:00", INT64_C(662688000000000));
    expect_time("2000-02-29T00:00:00-00:00", INT64_C(951782400000000));
    expect_time("2026-11-21T04:00:00.123456789Z", INT64_C(1795233600123456));
    expect_time("1969-12-31T23:59:59.999999Z", -1);
    expect_time("0000-01-01T00:00:00Z", INT64_C(-62167219200000000));
    expect_time("9999-12-31T23:59:59.999999Z", INT64_C(253402300799999999));
}

static void what_is_no_time_is_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "2026",
                                      "2026-11-21",
                                      "2026-11-21T04:00:00",
                                      "2026-11-21 04:00:00Z",
                                      "2026-11-21T04:00Z",
                                      "2026-13-01T00:00:00Z",
                                      "2026-00-01T00:00:00Z",
                                      "2026-02-29T00:00:00Z",
                                      "1900-02-29T00:00:00Z",
                                      "2026-04-31T00:00:00Z",
                                      "2026-04-00T00:00:00Z",
                                      "2026-11-21T24:00:00Z",
                                      "2026-11-21T23:60:00Z",
                                      "2026-11-21T23:59:61Z",
                                      "2026-11-21T12:00:60Z",
                                      "2026-11-21T04:00:00.Z",
                                      "2026-11-21T04:00:00.1234567890Z",
                                      "2026-11-21T04:00:00+24:00",
                                      "2026-11-21T04:00:00+00:60",
                                      "2026-11-21T04:00:00+0000",
                                      "2026-11-21T04:00:00+",
                                      "2026-11-21T04:00:00Zx",
                                      " 2026-11-21T04:00:00Z",
                                      "+026-11-21T04:00:00Z",
                                      "20a6-11-21T04:00:00Z",
                                      "2026-11-21T04:00:00,5Z",
                                      "9999-12-31T23:59:59-00:01",
                                      "0000-01-01T00:00:00+00:01",
                                      "2026-11--1T04:00:00Z"};
    struct wall_us t = {42};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (wall_parse(str_of(bad[i]), &t))
            fail_msg("'%s' is taken", bad[i]);
    }
    assert_false(wall_parse(STR_NONE, &t));
    assert_int_equal(t.us, 42);
}

static void times_are_written_in_utc_with_milliseconds(void **state)
{
    char text[WALL_TEXT_SIZE];

    (void)state;
    wall_format((struct wall_us){INT64_C(1795233600123999)}, text);
    assert_string_equal(text, "2026-11-21T04:00:00.123Z");
    wall_format((struct wall_us){-1}, text);
    assert_string_equal(text, "1969-12-31T23:59:59.999Z");
    wall_format((struct wall_us){INT64_MAX}, text);
    assert_string_equal(text, "9999-12-31T23:59:59.999Z");
    wall_format((struct wall_us){INT64_MIN}, text);
    assert_string_equal(text, "0000-01-01T00:00:00.000Z");
}

static void every_day_of_ten_thousand_years_reads_back(void **state)
{
    char text[WALL_TEXT_SIZE];
    struct wall_us t, back;

    (void)state;
    for (int64_t s = INT64_C(-62167219200); s <= INT64_C(253402300799); s += 86399) {
        struct tm tm;
        time_t seconds = (time_t)s;
        char expect[WALL_TEXT_SIZE + 48];

        t.us = s * US_PER_S + 5000;
        wall_format(t, text);
        assert_true(wall_parse(str_of(text), &back));
        assert_int_equal(back.us, t.us);
        if (s % 37 != 0)
            continue;
        assert_non_null(gmtime_r(&seconds, &tm));
        snprintf(expect, sizeof(expect), "%04d-%02d-%02dT%02d:%02d:%02d.005Z", tm.tm_year + 1900, tm.tm_mon + 1,
                 tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
        assert_string_equal(text, expect);
    }
}

static void json_times_are_quoted_and_zero_is_null(void **state)
{
    CLEANUP(buf_deinit) struct buf buf;

    (void)state;
    buf_init(&buf, 100);
    jw_wall(&buf, (struct wall_us){0});
    jw_wall(&buf, (struct wall_us){1000});
    assert_str_eq(buf_str(&buf), "null\"1970-01-01T00:00:00.001Z\"");
}

static void the_monotonic_clock_goes_forward(void **state)
{
    struct mono_us before = clock_mono();

    (void)state;
    for (int i = 0; i < 1000; i++) {
        struct mono_us now = clock_mono();

        assert_true(now.us >= before.us);
        before = now;
    }
    assert_true(clock_wall().us > INT64_C(1600000000) * US_PER_S);
}

static void the_database_clock_runs_on_between_samples(void **state)
{
    struct db_clock clock = {0};
    struct wall_us now;

    (void)state;
    assert_true(db_clock_now(&clock).us > INT64_C(1600000000) * US_PER_S);
    db_clock_sample(&clock, (struct wall_us){5000000}, (struct mono_us){clock_mono().us - 1000000});
    now = db_clock_now(&clock);
    assert_true(now.us >= 6000000 && now.us < 6000000 + 60 * US_PER_S);
}

static void durations_are_a_whole_number_and_a_unit(void **state)
{
    static const struct {
        const char *text;
        int64_t us;
    } good[] = {{"0s", 0},
                {"500ms", 500000},
                {"30s", 30000000},
                {"5m", 300000000},
                {"2h", INT64_C(7200000000)},
                {"1d", INT64_C(86400000000)},
                {"366d", INT64_C(31622400000000)},
                {"31622400000ms", INT64_C(31622400000000)},
                {"8784h", INT64_C(31622400000000)}};
    static const char *const bad[] = {"",
                                      "s",
                                      "5",
                                      "5 s",
                                      " 5s",
                                      "5s ",
                                      "5S",
                                      "-5s",
                                      "+5s",
                                      "1.5s",
                                      "5us",
                                      "5min",
                                      "367d",
                                      "8785h",
                                      "31622400001ms",
                                      "99999999999999999999d",
                                      "1h30m",
                                      "5w"};
    int64_t us = 42;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (duration_parse(str_of(bad[i]), &us))
            fail_msg("'%s' is taken", bad[i]);
    }
    assert_false(duration_parse(STR_NONE, &us));
    assert_int_equal(us, 42);
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(duration_parse(str_of(good[i].text), &us));
        assert_int_equal(us, good[i].us);
    }
}

RUN(TEST(times_are_read_as_rfc_3339_says), TEST(what_is_no_time_is_refused),
    TEST(times_are_written_in_utc_with_milliseconds), TEST(every_day_of_ten_thousand_years_reads_back),
    TEST(json_times_are_quoted_and_zero_is_null), TEST(the_monotonic_clock_goes_forward),
    TEST(the_database_clock_runs_on_between_samples), TEST(durations_are_a_whole_number_and_a_unit))
