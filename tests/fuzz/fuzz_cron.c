/* Any bytes as a cron expression, or, behind a NUL, as the file of a time zone: what is taken must have next times that
 * rise, and are what the expression says in local time. */
#include "common/base/ensure.h"
#include "common/schedule/schedule.h"

#include "common/base/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define START_S INT64_C(1767225600)
#define TIMES 8

static void walk(const struct schedule *schedule)
{
    struct wall_us t = {START_S * US_PER_S}, next, latest[TIMES];
    bool more;

    for (int i = 0; i < TIMES && schedule_next(schedule, t, &next); i++, t = next) {
        char local[SCHEDULE_LOCAL_SIZE];

        ENSURE(next.us > t.us && next.us % US_PER_S == 0);
        schedule_local(schedule, next, local);
        (void)schedule_mark(schedule, next);
        ENSURE(schedule_latest(schedule, t, next, TIMES, latest, &more) == 1 && latest[0].us == next.us && !more);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = {(const char *)data, size};
    const char *nul = size == 0 ? NULL : memchr(data, 0, size);
    struct schedule schedule = {.kind = SCHEDULE_CRON};
    struct zone *zone = NULL;
    struct cron_fault fault = {0};
    struct err err;

    if (nul != NULL)
        text.len = (size_t)(nul - text.ptr);
    if (size == 0 || !cron_parse(text, &schedule.cron, &fault)) {
        ENSURE(size == 0 || (fault.code != NULL && fault.message[0] != '\0'));
        return 0;
    }
    if (nul == NULL || zone_parse((struct str){nul + 1, size - text.len - 1}, &zone, &err) != ERR_OK)
        zone = zone_utc();
    schedule.zone = zone;
    walk(&schedule);
    schedule.gap_skip = schedule.overlap_twice = true;
    walk(&schedule);
    zone_free(zone);
    return 0;
}
