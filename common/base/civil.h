/* The proleptic Gregorian calendar, without time zones. Years are >= -1. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define S_PER_DAY INT64_C(86400)

/* Days since 1970-01-01 of a date, and back. Months and days count from 1. */
int64_t civil_days(int64_t year, int month, int day);
void civil_date(int64_t days, int *ret_year, int *ret_month, int *ret_day);
int civil_weekday(int64_t days); /* 0 Sunday .. 6 */
int civil_month_days(int64_t year, int month);
int64_t civil_floor_div(int64_t a, int64_t b); /* rounds down; b > 0 */
