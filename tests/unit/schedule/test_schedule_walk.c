/* Nominal times against a walker that looks at every minute, with the C library's time zones and its own idea of which
 * minute an expression means: expressions and zones at random, around times at which the clocks are set. */
#include "common/base/civil.h"
#include "tests/unit/schedule/kit.h"
#include "tests/unit/base/test.h"
#include <stdlib.h>
#include <time.h>

#include "common/base/banned.h"

#define ROUNDS 400
#define WALK_MINUTES (4 * 24 * 60)

/* An expression as the sets that it names, made before its text. */
struct wanted {
    bool minute[60], hour[24], day[32], month[13], weekday[7];
    bool any_day, any_weekday, elapsed;
    int last_before;  /* L-n, -1 without */
    int nth, nth_day; /* weekday#nth, nth 0 without, 6 the last */
    char text[256];
};

static uint64_t seed;

static int any(int below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (int)(seed % (uint64_t)below);
}

static void put(struct wanted *w, const char *format, ...) PRINTF_LIKE(2, 3);
static void put(struct wanted *w, const char *format, ...)
{
    size_t len = strlen(w->text);
    va_list args;

    va_start(args, format);
    vsnprintf(w->text + len, sizeof(w->text) - len, format, args);
    va_end(args);
}

/* One field: everything, a step, a range, or a list. True when it has a `*` or a step. */
static bool field(struct wanted *w, bool *set, int min, int max)
{
    int kind = any(5), from = min + any(max - min + 1), to = from + any(max - from + 1), step = 1 + any(max - min);

    if (kind == 0) {
        put(w, "* ");
        for (int i = min; i <= max; i++)
            set[i] = true;
    } else if (kind == 1) {
        put(w, "%d-%d/%d ", from, to, step);
        for (int i = from; i <= to; i += step)
            set[i] = true;
    } else if (kind == 2) {
        put(w, "%d-%d ", from, to);
        for (int i = from; i <= to; i++)
            set[i] = true;
    } else {
        if (kind == 3)
            put(w, "%d ", from);
        else
            put(w, "%d,%d ", from, to);
        set[from] = true;
        set[kind == 3 ? from : to] = true;
    }
    return kind <= 1;
}

static struct wanted make(void)
{
    struct wanted w = {.last_before = -1};
    bool minute = field(&w, w.minute, 0, 59), hour = field(&w, w.hour, 0, 23);

    w.elapsed = minute || hour;
    switch (any(4)) {
    case 0:
        field(&w, w.day, 1, 31);
        w.any_day = w.text[strlen(w.text) - 2] == '*';
        break;
    case 1:
        w.last_before = any(3);
        if (w.last_before == 0)
            put(&w, "L ");
        else
            put(&w, "L-%d ", w.last_before);
        break;
    default:
        w.any_day = true;
        put(&w, "* ");
    }
    for (int i = 1; i <= 12; i++)
        w.month[i] = true;
    put(&w, "* ");
    switch (any(4)) {
    case 0:
        field(&w, w.weekday, 0, 6);
        w.any_weekday = w.text[strlen(w.text) - 2] == '*';
        break;
    case 1:
        w.nth_day = any(7);
        w.nth = 1 + any(6);
        if (w.nth == 6)
            put(&w, "%dL", w.nth_day);
        else
            put(&w, "%d#%d", w.nth_day, w.nth);
        break;
    default:
        w.any_weekday = true;
        put(&w, "*");
    }
    return w;
}

static bool day_wanted(const struct wanted *w, const struct tm *tm)
{
    int length = civil_month_days(tm->tm_year + 1900, tm->tm_mon + 1);
    bool day = w->day[tm->tm_mday] || (w->last_before >= 0 && tm->tm_mday == length - w->last_before);
    bool weekday =
        w->weekday[tm->tm_wday] || (w->nth > 0 && tm->tm_wday == w->nth_day &&
                                    (w->nth == 6 ? tm->tm_mday + 7 > length : (tm->tm_mday - 1) / 7 + 1 == w->nth));

    if (w->any_day || w->any_weekday)
        return (w->any_day || day) && (w->any_weekday || weekday);
    return day || weekday;
}

static bool minute_wanted(const struct wanted *w, time_t local)
{
    struct tm tm;

    assert_non_null(gmtime_r(&local, &tm));
    return w->minute[tm.tm_min] && w->hour[tm.tm_hour] && w->month[tm.tm_mon + 1] && day_wanted(w, &tm);
}

static time_t local_of(time_t t)
{
    struct tm tm;

    assert_non_null(localtime_r(&t, &tm));
    return t + tm.tm_gmtoff;
}

/* Is this minute a time of the schedule? Local time either went on by a minute, or was set. */
static bool is_time(const struct wanted *w, const struct schedule *s, time_t t, time_t *highest)
{
    time_t before = local_of(t - 60), now = local_of(t);
    bool again = now <= *highest;

    if (!w->elapsed && !s->gap_skip)
        for (time_t jumped = before + 60; jumped < now; jumped += 60)
            if (minute_wanted(w, jumped))
                return true;
    if (now > *highest)
        *highest = now;
    return minute_wanted(w, now) && (w->elapsed || s->overlap_twice || !again);
}

static void walk(const struct wanted *w, const struct schedule *s, time_t from, const char *zone, size_t *times)
{
    struct wall_us next = {(int64_t)(from - 1) * US_PER_S};
    time_t highest = local_of(from - 1500 * 60);

    for (time_t t = from - 1499 * 60; t < from; t += 60)
        highest = local_of(t) > highest ? local_of(t) : highest;
    if (!schedule_next(s, next, &next))
        next.us = INT64_MAX;
    for (time_t t = from; t < from + WALK_MINUTES * 60; t += 60) {
        bool expected = is_time(w, s, t, &highest);

        if (expected != (next.us == (int64_t)t * US_PER_S))
            fail_msg("'%s' in %s at %lld: %s (gap_skip %d, overlap_twice %d)", w->text, zone, (long long)t,
                     expected ? "left out" : "too much", s->gap_skip, s->overlap_twice);
        if (!expected)
            continue;
        ++*times;
        if (!schedule_next(s, next, &next))
            next.us = INT64_MAX;
    }
}

/* A time shortly before the clocks are set next after a random one. */
static time_t before_change(const struct zone *zone)
{
    int64_t t = civil_days(2020 + any(30), 1 + any(12), 1) * S_PER_DAY;
    struct zone_span span = zone_span_at(zone, t);

    if (span.until < civil_days(2060, 1, 1) * S_PER_DAY)
        t = span.until;
    return (time_t)(t / 60 * 60 - 60 * any(3 * 24 * 60));
}

static void test_every_minute_is_as_the_walker_says(void **state)
{
    static const char *const names[] = {"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca",
                                        "Europe/Dublin", "America/St_Johns", "America/Nuuk",        "Antarctica/Troll",
                                        "Asia/Gaza",     "Africa/Cairo",     "America/Santiago",    "Pacific/Chatham",
                                        "Asia/Beirut",   "America/Havana",   "Asia/Kolkata",        "UTC"};
    size_t times = 0;

    (void)state;
    seed = UINT64_C(0x9e3779b97f4a7c15);
    for (int round = 0; round < ROUNDS; round++) {
        const char *name = names[any((int)(sizeof(names) / sizeof(names[0])))];
        struct zone *zone = kit_zone(name);
        struct wanted w = make();
        struct cron_fault fault;
        struct schedule s = {.kind = SCHEDULE_CRON, .zone = zone};

        setenv("TZ", name, 1);
        tzset();
        s.gap_skip = any(2) == 0;
        s.overlap_twice = any(2) == 0;
        if (!cron_parse(str_of(w.text), &s.cron, &fault))
            fail_msg("'%s': %s", w.text, fault.message);
        assert_int_equal(s.cron.elapsed, w.elapsed);
        walk(&w, &s, before_change(zone), name, &times);
        zone_free(zone);
    }
    assert_true(times > 10 * ROUNDS);
}

RUN(TEST(test_every_minute_is_as_the_walker_says))
