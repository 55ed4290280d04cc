/* Dates and days. Calendar arithmetic is done here, since the library's depends on time zones. */
#include "common/base/civil.h"

#include "common/base/banned.h"

/* Years are counted from March, so that the leap day is a year's last (H. Hinnant, "chrono-compatible low-level date
 * algorithms"). Years are >= -1. */
int64_t civil_days(int64_t year, int month, int day)
{
    int64_t y = (month <= 2 ? year - 1 : year) + 400; /* never negative */
    int64_t era = y / 400;
    int64_t year_of_era = y % 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

    return (era - 1) * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

void civil_date(int64_t days, int *ret_year, int *ret_month, int *ret_day)
{
    int64_t z = days + 719468 + 146097; /* never negative in our range */
    int64_t era = z / 146097;
    int64_t day_of_era = z % 146097;
    int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month_from_march = (5 * day_of_year + 2) / 153;

    *ret_day = (int)(day_of_year - (153 * month_from_march + 2) / 5 + 1);
    *ret_month = (int)(month_from_march < 10 ? month_from_march + 3 : month_from_march - 9);
    *ret_year = (int)(year_of_era + (era - 1) * 400 + (*ret_month <= 2 ? 1 : 0));
}

int64_t civil_floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0 ? 1 : 0);
}

int civil_weekday(int64_t days)
{
    int64_t since_thursday = days % 7;

    return (int)((since_thursday + 7 + 4) % 7);
}

int civil_month_days(int64_t year, int month)
{
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

    return lengths[month - 1] + (month == 2 && leap ? 1 : 0);
}
