/* The next local time that matches a cron expression: months, then days as a bit mask, then hours and minutes. */
#include "common/base/civil.h"
#include "common/base/ensure.h"
#include "common/schedule/cron.h"

#include "common/base/banned.h"

#define CALENDAR_YEARS 400

/* Bit of the weekday nearest to `day` that is in the same month. */
static uint32_t nearest_weekday(int day, int length, int first_weekday)
{
    int weekday = (first_weekday + day - 1) % 7;

    if (weekday == 6)
        day = day > 1 ? day - 1 : day + 2;
    else if (weekday == 0)
        day = day < length ? day + 1 : day - 2;
    return UINT32_C(1) << day;
}

static uint32_t by_day(const struct cron *cron, int length, int first_weekday)
{
    uint32_t mask = cron->days;

    for (int day = 1; day <= length; day++) {
        if ((cron->days_nearest >> day & 1) != 0)
            mask |= nearest_weekday(day, length, first_weekday);
        if ((cron->days_last >> (length - day) & 1) != 0)
            mask |= UINT32_C(1) << day;
    }
    if (cron->last_weekday)
        mask |= nearest_weekday(length, length, first_weekday);
    return mask;
}

static uint32_t by_weekday(const struct cron *cron, int length, int first_weekday)
{
    uint32_t mask = 0;

    for (int day = 1; day <= length; day++) {
        int weekday = (first_weekday + day - 1) % 7;
        bool in = (cron->weekdays >> weekday & 1) != 0 ||
                  ((cron->weekdays_last >> weekday & 1) != 0 && day + 7 > length) ||
                  (cron->weekdays_nth[weekday] >> ((day + 6) / 7) & 1) != 0;

        mask |= in ? UINT32_C(1) << day : 0;
    }
    return mask;
}

/* The days of a month that match, bits 1..31. */
static uint32_t days_of(const struct cron *cron, int year, int month)
{
    int length = civil_month_days(year, month);
    int first_weekday = civil_weekday(civil_days(year, month, 1));
    uint32_t all = (uint32_t)((UINT64_C(2) << length) - 2);

    ENSURE(length >= 28 && length <= 31);
    if ((cron->months >> month & 1) == 0)
        return 0;
    if (cron->any_day && cron->any_weekday)
        return all;
    if (cron->any_weekday)
        return by_day(cron, length, first_weekday) & all;
    if (cron->any_day)
        return by_weekday(cron, length, first_weekday);
    return (by_day(cron, length, first_weekday) & all) | by_weekday(cron, length, first_weekday);
}

/* The first matching minute of a day at or after `minute`, -1 when there is none. */
static int minute_of_day(const struct cron *cron, int minute)
{
    for (int hour = minute / 60; hour < 24; hour++) {
        uint64_t minutes = cron->minutes >> (hour == minute / 60 ? minute % 60 : 0);

        if ((cron->hours >> hour & 1) == 0 || minutes == 0)
            continue;
        return hour * 60 + (hour == minute / 60 ? minute % 60 : 0) + __builtin_ctzll(minutes);
    }
    return -1;
}

bool cron_next_local(const struct cron *cron, int64_t from, int64_t until, int64_t *ret)
{
    int64_t minute = civil_floor_div(from + 59, 60), today = civil_floor_div(minute, 24 * 60);
    int year, month, day, end_year;

    if (minute_of_day(cron, (int)(minute - today * 24 * 60)) < 0) {
        today++;
        minute = today * 24 * 60;
    }
    civil_date(today, &year, &month, &day);
    for (end_year = year + CALENDAR_YEARS; year <= end_year; day = 1) {
        int64_t first = civil_days(year, month, 1);
        uint32_t days;

        if (first * S_PER_DAY >= until)
            return false;
        days = days_of(cron, year, month) >> day << day;
        if (days != 0) {
            int64_t found = first + __builtin_ctz(days) - 1;
            int start = found == today ? (int)(minute - today * 24 * 60) : 0;
            int64_t local = (found * 24 * 60 + minute_of_day(cron, start)) * 60;

            if (local >= until)
                return false;
            *ret = local;
            return true;
        }
        month = month % 12 + 1;
        year += month == 1;
    }
    return false;
}
