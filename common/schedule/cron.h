/* Five-field cron expressions: what they say, and the next local time that matches. Time zones are schedule.h's.
 *
 * minute hour day-of-month month day-of-week; names (JAN, mon), ranges, steps, lists, `L` (last day), `L-3`, `15W`
 * (nearest weekday), `LW`, `5L` (last Friday), `1#2` (second Monday), `?` for `*`, @hourly and its kin. When both day
 * fields say something, a day that matches either counts (crontab(5)); a field that is just `*` or `?` says nothing. */
#pragma once
#include "common/base/str.h"

struct cron {
    uint64_t minutes;        /* bit 0..59 */
    uint32_t hours;          /* bit 0..23 */
    uint16_t months;         /* bit 1..12 */
    uint32_t days;           /* bit 1..31 */
    uint32_t days_nearest;   /* bit 1..31: `nW` */
    uint32_t days_last;      /* bit n: n days before the last, `L` is 0 */
    bool last_weekday;       /* `LW` */
    uint8_t weekdays;        /* bit 0 Sunday .. 6 */
    uint8_t weekdays_last;   /* `5L` */
    uint8_t weekdays_nth[7]; /* bit 1..5: `1#2` */
    bool any_day, any_weekday;
    bool elapsed; /* minute or hour has `*` or a step: follows elapsed time when clocks are set */
};

struct cron_fault {
    const char *code; /* bad_expression or out_of_range */
    char message[160];
    const char *hint;
};

/* False with *ret_fault filled for what is no expression, and for one that never matches any day. */
bool cron_parse(struct str text, struct cron *ret, struct cron_fault *ret_fault);

/* The first matching local time >= `from` and < `until`, in seconds of local time since 1970-01-01T00:00 as if it were
 * UTC; false when there is none. Costs at most a look at each month of 400 years, after which the calendar repeats. */
bool cron_next_local(const struct cron *cron, int64_t from, int64_t until, int64_t *ret);
