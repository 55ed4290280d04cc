/* When something happens by the calendar: cron expressions in a time zone, fixed intervals, one time. Pure: the same
 * question has the same answer, whoever asks and when. What is done at that time is the scheduler's
 * (scheduler/firing.h). */
#pragma once
#include "common/base/clock.h"
#include "common/schedule/cron.h"
#include "common/schedule/zone.h"

enum schedule_kind { SCHEDULE_CRON, SCHEDULE_EVERY, SCHEDULE_AT };

struct schedule {
    enum schedule_kind kind;
    struct cron cron;
    const struct zone *zone; /* of cron; borrowed */
    bool gap_skip;           /* a fixed time that the clocks jump over: not at all, instead of right after the jump */
    bool overlap_twice;      /* a fixed time that there is twice: both times, instead of the first */
    int64_t every_us;        /* > 0 */
    struct wall_us from;     /* every: counted from then, which is no time of it */
    struct wall_us at;
};

/* The first nominal time after `after`; false when there is none (any more) before the year 10000. Bounded: see
 * cron_next_local; as a rule about a microsecond. */
bool schedule_next(const struct schedule *schedule, struct wall_us after, struct wall_us *ret);

/* The last times in (after, until], at most `max`, ascending. Costs about as much as `max` times do, however long that
 * was. Gives their number; *ret_more says that there are earlier ones. */
size_t schedule_latest(const struct schedule *schedule, struct wall_us after, struct wall_us until, size_t max,
                       struct wall_us *ret, bool *ret_more);

/* How a nominal time of a cron expression stands to the clocks' being set, for people. */
enum schedule_mark { SCHEDULE_PLAIN, SCHEDULE_AFTER_GAP, SCHEDULE_FIRST_PASS, SCHEDULE_SECOND_PASS };
enum schedule_mark schedule_mark(const struct schedule *schedule, struct wall_us nominal);
/* "2026-03-29T03:00:00+02:00" in the schedule's zone (UTC where it has none). */
#define SCHEDULE_LOCAL_SIZE 32
void schedule_local(const struct schedule *schedule, struct wall_us t, char ret[SCHEDULE_LOCAL_SIZE]);
