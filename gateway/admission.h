/* Which starts are refused, and for how long. No I/O: samples of what waits come in, verdicts go out.
 *
 * Nothing is refused while fewer than `waiting_min` wait: a short line says nothing of its length in time. Beyond that
 *   an organisation whose own tasks of a start's priority or a higher one would wait for longer than `delay_us` is
 * refused (its share is used up: schedulers hand out turns fairly, so nobody else waits for it; and what is urgent does
 * not wait for what is not); when starts themselves wait for so long to be applied, who asks for more than half of an
 * equal share is refused, and at twice the delay everybody. What has begun to be refused goes on until the delay has
 * fallen to half: hysteresis. Beyond `waiting_max` starts are refused however long they wait, with schedulers or broker
 * away, too. Loop thread only. */
#pragma once
#include "common/base/clock.h"
#include "common/base/str.h"

struct admission;
struct admission_limits {
    int64_t delay_us, waiting_min, waiting_max;
};
enum admission_verdict { ADMISSION_TAKEN, ADMISSION_BACKLOG, ADMISSION_SHARE };

#define ADMISSION_PRIORITIES 4 /* 0 critical .. 3 low */

struct admission_load { /* of one organisation */
    int32_t organisation;
    uint8_t priority;
    int64_t waiting, delay_us;
};
struct admission_sample {
    struct mono_us at;
    int64_t starts_waiting, starts_delay_us; /* not applied yet */
    const struct admission_load *loads;      /* several of one line add up, the longest delay counts */
    size_t load_count;
};

struct admission *admission_new(const struct admission_limits *limits);
void admission_free(struct admission *admission);
void admission_sample(struct admission *admission, const struct admission_sample *sample);
/* One start. Refused: *ret_after_s is when to try again, spread at random over the time that the line should need. */
enum admission_verdict admission_ask(struct admission *admission, int32_t organisation, uint8_t priority,
                                     int64_t *ret_after_s);
/* Something is refused, or so much was asked for since the last sample that the next should come soon. */
bool admission_is_pressed(const struct admission *admission);
/* Organisations that are refused for their share, and whether starts are refused for the backlog. */
size_t admission_refusing(const struct admission *admission, bool *ret_backlog);
