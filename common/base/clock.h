/* Time: monotonic for durations and leases, wall for what people read. Wall time is PostgreSQL's (see architecture). */
#pragma once
#include "common/base/str.h"

struct mono_us {
    int64_t us;
}; /* CLOCK_MONOTONIC, microseconds */
struct wall_us {
    int64_t us;
}; /* microseconds since 1970-01-01T00:00:00Z */

#define US_PER_S INT64_C(1000000)
#define US_PER_MS INT64_C(1000)

struct mono_us clock_mono(void);
struct wall_us clock_wall(void); /* this machine's own wall clock: only for logs and as a first guess */

/* PostgreSQL's clock, advanced by the monotonic clock between samples. */
struct db_clock {
    int64_t offset_us; /* wall - mono at the last sample */
    bool sampled;
};
void db_clock_sample(struct db_clock *clock, struct wall_us db_now, struct mono_us at);
struct wall_us db_clock_now(const struct db_clock *clock); /* own wall clock before the first sample */

#define WALL_TEXT_SIZE 28
/* "2026-11-21T04:00:00.123Z" (RFC 3339, UTC, milliseconds). */
void wall_format(struct wall_us t, char ret[WALL_TEXT_SIZE]);
bool wall_parse(struct str s, struct wall_us *ret); /* RFC 3339 with Z or an offset, up to 9 fraction digits */
void jw_wall(struct buf *buf, struct wall_us t);    /* quoted; 0 writes null */

/* "500ms" "30s" "5m" "2h" "1d": a whole number and a unit. False for anything else or beyond 366 days. */
bool duration_parse(struct str s, int64_t *ret_us);
