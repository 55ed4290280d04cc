/* The last line of a TZif file: the rule for all times behind its table (POSIX TZ, with RFC 8536's hours up to 167). */
#pragma once
#include "common/base/str.h"

struct zone_date {
    enum { ZONE_MONTH_WEEK_DAY, ZONE_JULIAN, ZONE_DAY_OF_YEAR } kind;
    int month, week, day; /* M; J and n use `day` */
    int32_t time;         /* seconds of local time behind that day's start */
};

struct zone_rule {
    int32_t standard, daylight; /* seconds east of UTC */
    bool has_daylight;
    struct zone_date start, end;
};

bool zone_rule_parse(struct str text, struct zone_rule *ret);
/* When daylight time starts and ends in a year, UTC seconds. */
void zone_rule_year(const struct zone_rule *rule, int64_t year, int64_t *ret_start, int64_t *ret_end);
