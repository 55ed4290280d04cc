/* What a document says of a schedule: {"cron": ...}, {"every": ...} or {"at": ...}, and how it is to be fired. */
#pragma once
#include "common/schedule/schedule.h"

#define SCHEDULE_CATCH_UP_MAX 100

enum schedule_overlap { SCHEDULE_ALLOW, SCHEDULE_SKIP, SCHEDULE_CANCEL_PREVIOUS, SCHEDULE_QUEUE };

struct schedule_definition {
    struct schedule when;
    const char *kind; /* "cron", "every", "at" */
    enum schedule_overlap overlap;
    int catch_up;      /* how many of the times are made good that were missed; 1 */
    int64_t jitter_us; /* starts are spread over so long behind their nominal time; 0 */
};

/* Zones that were read once, for as long as their holder wants them: freed, they are read again, and a change of tzdata
 * counts. */
struct zones;
struct zones *zones_new(const char *folder);
void zones_free(struct zones *zones);
enum err_code zones_get(struct zones *zones, struct str name, const struct zone **ret, struct err *err) MUST_CHECK;

/* Called for each fault; the pointer is relative to the trigger. */
typedef void (*schedule_fault_fn)(void *ctx, const char *code, const char *pointer, const char *message,
                                  const char *hint);

/* Is it a trigger of these kinds at all? */
bool schedule_is_trigger(struct str trigger);
const char *schedule_kind(struct str trigger); /* "cron", "every" or "at"; NULL when it is none */
/* Reads checked JSON. `anchor` is when an interval begins. False when there was any fault. The zone is that of `zones`.
 */
bool schedule_definition_read(struct str trigger, struct zones *zones, struct wall_us anchor, schedule_fault_fn fault,
                              void *ctx, struct schedule_definition *ret);

/* When the start for a nominal time is due: the time itself, or later by a part of the jitter that id and time decide.
 */
struct wall_us schedule_due(const struct schedule_definition *definition, struct str id, struct wall_us nominal);

/* What to do about a schedule now. Times behind `after` and not after `now` are over: those of the last minute are
 * merely late and are all fired; of older ones, which were missed, the last catch_up. At most `max` are given, the
 * oldest first: the rest is asked for with the new `after`. */
#define SCHEDULE_LATE_US (60 * US_PER_S)
struct schedule_turn {
    size_t count;
    struct wall_us *times;
    struct wall_us after; /* everything until then has been dealt with */
    struct wall_us next;  /* 0: never again */
};
void schedule_turn(const struct schedule_definition *definition, struct wall_us after, struct wall_us now,
                   struct arena *arena, size_t max, struct schedule_turn *ret);
