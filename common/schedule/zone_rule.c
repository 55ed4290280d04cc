/* POSIX TZ rules: "CET-1CEST,M3.5.0,M10.5.0/3". */
#include "common/base/civil.h"
#include "common/schedule/zone_rule.h"

#include "common/base/banned.h"

#define HOURS_MAX 167

static bool take(struct str *s, char c)
{
    if (s->len == 0 || s->ptr[0] != c)
        return false;
    s->ptr++;
    s->len--;
    return true;
}

static bool take_number(struct str *s, uint32_t min, uint32_t max, int *ret)
{
    size_t digits = 0;
    uint32_t n;

    while (digits < s->len && s->ptr[digits] >= '0' && s->ptr[digits] <= '9')
        digits++;
    if (!parse_u32((struct str){s->ptr, digits}, min, max, &n))
        return false;
    s->ptr += digits;
    s->len -= digits;
    *ret = (int)n;
    return true;
}

/* [+-]hh[:mm[:ss]] */
static bool take_time(struct str *s, int32_t *ret)
{
    int sign = take(s, '-') ? -1 : 1, hours, minutes = 0, seconds = 0;

    if (sign == 1)
        (void)take(s, '+');
    if (!take_number(s, 0, HOURS_MAX, &hours) || (take(s, ':') && !take_number(s, 0, 59, &minutes)) ||
        (take(s, ':') && !take_number(s, 0, 59, &seconds)))
        return false;
    *ret = sign * (hours * 3600 + minutes * 60 + seconds);
    return true;
}

/* CET, or <+03>. */
static bool take_name(struct str *s)
{
    bool quoted = take(s, '<');
    size_t len = 0;

    while (len < s->len &&
           (quoted ? s->ptr[len] != '>'
                   : (s->ptr[len] >= 'A' && s->ptr[len] <= 'Z') || (s->ptr[len] >= 'a' && s->ptr[len] <= 'z')))
        len++;
    s->ptr += len;
    s->len -= len;
    return len >= 3 && (!quoted || take(s, '>'));
}

static bool take_date(struct str *s, struct zone_date *ret)
{
    bool good;

    *ret = (struct zone_date){.time = 2 * 3600};
    if (take(s, 'M')) {
        ret->kind = ZONE_MONTH_WEEK_DAY;
        good = take_number(s, 1, 12, &ret->month) && take(s, '.') && take_number(s, 1, 5, &ret->week) && take(s, '.') &&
               take_number(s, 0, 6, &ret->day);
    } else if (take(s, 'J')) {
        ret->kind = ZONE_JULIAN;
        good = take_number(s, 1, 365, &ret->day);
    } else {
        ret->kind = ZONE_DAY_OF_YEAR;
        good = take_number(s, 0, 365, &ret->day);
    }
    return good && (!take(s, '/') || take_time(s, &ret->time));
}

bool zone_rule_parse(struct str s, struct zone_rule *ret)
{
    struct zone_rule rule = {0};

    if (!take_name(&s) || !take_time(&s, &rule.standard))
        return false;
    rule.standard = -rule.standard; /* POSIX counts west of Greenwich */
    rule.has_daylight = s.len > 0;
    if (rule.has_daylight) {
        rule.daylight = rule.standard + 3600;
        if (!take_name(&s))
            return false;
        if (s.len > 0 && s.ptr[0] != ',') {
            if (!take_time(&s, &rule.daylight))
                return false;
            rule.daylight = -rule.daylight;
        }
        if (!take(&s, ',') || !take_date(&s, &rule.start) || !take(&s, ',') || !take_date(&s, &rule.end))
            return false;
    }
    if (s.len > 0)
        return false;
    *ret = rule;
    return true;
}

/* Local seconds at which a rule's date comes in a year. */
static int64_t date_in(const struct zone_date *date, int64_t year)
{
    int64_t day = civil_days(year, 1, 1);

    if (date->kind == ZONE_MONTH_WEEK_DAY) {
        int64_t first = civil_days(year, date->month, 1);
        int offset = (date->day - civil_weekday(first) + 7) % 7 + (date->week - 1) * 7;

        if (offset >= civil_month_days(year, date->month))
            offset -= 7;
        day = first + offset;
    } else if (date->kind == ZONE_JULIAN) { /* 29 February is never counted */
        day += date->day - 1 + (date->day >= 60 && civil_month_days(year, 2) == 29 ? 1 : 0);
    } else {
        day += date->day;
    }
    return day * S_PER_DAY + date->time;
}

void zone_rule_year(const struct zone_rule *rule, int64_t year, int64_t *ret_start, int64_t *ret_end)
{
    *ret_start = date_in(&rule->start, year) - rule->standard;
    *ret_end = date_in(&rule->end, year) - rule->daylight;
}
