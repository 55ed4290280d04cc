/* Schedules for tests. */
#pragma once
#include "common/base/ensure.h"
#include "common/schedule/schedule.h"

static inline struct zone *kit_zone(const char *name)
{
    struct zone *zone = NULL;
    struct err err;

    ENSURE(zone_load(ZONEINFO_FOLDER, str_of(name), &zone, &err) == ERR_OK);
    return zone;
}

static inline struct schedule kit_cron(const char *expression, const struct zone *zone)
{
    struct schedule schedule = {.kind = SCHEDULE_CRON, .zone = zone};
    struct cron_fault fault;

    ENSURE(cron_parse(str_of(expression), &schedule.cron, &fault));
    return schedule;
}

static inline struct wall_us kit_time(const char *text)
{
    struct wall_us t;

    ENSURE(wall_parse(str_of(text), &t));
    return t;
}
