/* Time zones: the machine's own, compared with the C library's reading of the same files; and files that are no good.
 */
#include "common/base/civil.h"
#include "common/schedule/zone.h"
#include "common/schedule/zone_rule.h"
#include "tests/unit/base/test.h"
#include <stdlib.h>
#include <time.h>

#include "common/base/banned.h"

static struct zone *load(const char *name)
{
    struct zone *zone = NULL;
    struct err err = {0};

    if (zone_load(ZONEINFO_FOLDER, str_of(name), &zone, &err) != ERR_OK)
        fail_msg("%s: %s", name, err.message);
    return zone;
}

static int32_t offset_by_library(int64_t t)
{
    time_t seconds = (time_t)t;
    struct tm tm;

    assert_non_null(localtime_r(&seconds, &tm));
    return (int32_t)tm.tm_gmtoff;
}

/* Each day from 1900 to 2100, and each second beside a change. */
static void test_offsets_are_the_c_librarys(void **state)
{
    static const char *const names[] = {"Europe/Berlin",     "America/New_York",  "Australia/Lord_Howe",
                                        "Africa/Casablanca", "Europe/Dublin",     "America/St_Johns",
                                        "Asia/Kathmandu",    "Pacific/Apia",      "Antarctica/Troll",
                                        "America/Nuuk",      "Pacific/Kwajalein", "Asia/Tehran",
                                        "Etc/GMT+12",        "Africa/Cairo",      "America/Santiago",
                                        "Asia/Gaza",         "Asia/Tokyo",        "EST5EDT"};

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct zone *zone = load(names[i]);
        size_t changes = 0;

        setenv("TZ", names[i], 1);
        tzset();
        for (int64_t t = civil_days(1900, 1, 1) * S_PER_DAY; t < civil_days(2100, 1, 1) * S_PER_DAY; t += S_PER_DAY) {
            struct zone_span span = zone_span_at(zone, t);

            assert_true(span.from <= t && t < span.until);
            if (span.offset != offset_by_library(t))
                fail_msg("%s at %lld: %d, not %d", names[i], (long long)t, span.offset, offset_by_library(t));
            if (span.until < t + S_PER_DAY) {
                assert_int_equal(zone_span_at(zone, span.until - 1).offset, offset_by_library(span.until - 1));
                assert_int_equal(zone_span_at(zone, span.until).offset, offset_by_library(span.until));
                assert_int_equal(zone_span_at(zone, span.until).from, span.until);
                changes++;
            }
        }
        if (strcmp(names[i], "Europe/Berlin") == 0)
            assert_true(changes > 200);
        zone_free(zone);
    }
}

static void test_names_that_are_none(void **state)
{
    static const char *const names[] = {
        "",          "Europe",    "Europe/Bonn", "../../etc/passwd", "/etc/localtime", "Europe/.", "europe/",
        "posix/UTC", "right/UTC", "localtime",   "tzdata.zi",        "Europe//Berlin", "zone.tab"};

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct zone *zone = NULL;
        struct err err;
        enum err_code rc = zone_load(ZONEINFO_FOLDER, str_of(names[i]), &zone, &err);

        if (rc != ERR_NOT_FOUND && rc != ERR_INVALID)
            fail_msg("'%s' was taken", names[i]);
        assert_null(zone);
    }
}

static void test_a_machine_without_zones_has_utc(void **state)
{
    struct zone *zone = NULL;
    struct err err;

    (void)state;
    assert_int_equal(zone_load("/nowhere", STR("Europe/Berlin"), &zone, &err), ERR_UNAVAILABLE);
    assert_int_equal(zone_load("/nowhere", STR("UTC"), &zone, &err), ERR_OK);
    assert_int_equal(zone_span_at(zone, 1000).offset, 0);
    zone_free(zone);
}

static void test_rules(void **state)
{
    static const char *const bad[] = {"",
                                      "A1",
                                      "CET",
                                      "CET-1CEST",
                                      "CET-1CEST,M3.5.0",
                                      "CET-168",
                                      "CET-1x",
                                      "CET-1CEST,M13.5.0,M10.5.0",
                                      "CET-1CEST,M3.5.7,M10.5.0",
                                      "CET-1CEST,M3.6.0,M10.5.0",
                                      "CET-1CEST,J0,J1",
                                      "<CET-1",
                                      "CET-1CEST,M3.5.0,M10.5.0/3x"};
    struct zone_rule rule;
    int64_t start, end;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (zone_rule_parse(str_of(bad[i]), &rule))
            fail_msg("'%s' was taken", bad[i]);
    assert_true(zone_rule_parse(STR("CET-1CEST,M3.5.0,M10.5.0/3"), &rule));
    zone_rule_year(&rule, 2026, &start, &end);
    assert_int_equal(start, civil_days(2026, 3, 29) * S_PER_DAY + 3600);
    assert_int_equal(end, civil_days(2026, 10, 25) * S_PER_DAY + 3600);
    assert_true(zone_rule_parse(STR("<-02>2<-01>1:30,J60/-1:00:30,300/26"), &rule));
    assert_int_equal(rule.daylight, -5400);
    zone_rule_year(&rule, 2028, &start, &end); /* J60 is 1 March in every year, day 300 counts 29 February */
    assert_int_equal(start, civil_days(2028, 3, 1) * S_PER_DAY - 3630 + 7200);
    assert_int_equal(end, (civil_days(2028, 1, 1) + 300) * S_PER_DAY + 26 * 3600 + 5400);
}

/* Every prefix of a good file, and every byte of it changed: never more than an error. */
static void test_broken_files_are_refused_or_read(void **state)
{
    char bytes[8192], broken[8192];
    FILE *file = fopen(ZONEINFO_FOLDER "/Europe/Berlin", "rb");
    size_t len, refused = 0;

    (void)state;
    assert_non_null(file);
    len = fread(bytes, 1, sizeof(bytes), file);
    fclose(file);
    for (size_t i = 0; i < 2 * len; i++) {
        struct zone *zone = NULL;
        struct err err;
        size_t used = i < len ? i : len;

        memcpy(broken, bytes, len);
        if (i >= len)
            broken[i - len] = (char)~broken[i - len];
        if (zone_parse((struct str){broken, used}, &zone, &err) == ERR_OK) {
            struct zone_span span = zone_span_at(zone, 1800000000);

            assert_true(i >= len && span.from < span.until);
            zone_free(zone);
        } else {
            refused++;
        }
    }
    assert_true(refused > len);
}

RUN(TEST(test_offsets_are_the_c_librarys), TEST(test_names_that_are_none), TEST(test_a_machine_without_zones_has_utc),
    TEST(test_rules), TEST(test_broken_files_are_refused_or_read))
