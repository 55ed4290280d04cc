/* What is to be done about schedules that are due: pure. scheduler/firing.c reads the rows and writes what is decided
 * here; tests/sim/schedules.c does it with a model. What makes a time's start happen once is neither's, but the unique
 * row that PostgreSQL keeps of each time (sql/schedule_fire.sql). */
#pragma once
#include "common/base/err.h"
#include "common/base/id.h"
#include "common/schedule/definition.h"

#define FIRE_SLICE 200       /* schedules in one transaction */
#define FIRE_SLICE_LEAST 20  /* so many also when many starts wait: sql/schedule_due.sql */
#define FIRE_TIMES_OF_ONE 20 /* of one schedule in one transaction; more are the next one's */
#define FIRE_TIMES 400       /* of all together */
#define FIRE_WAITING_MAX 100 /* times of one schedule that wait for the run before (overlap: queue) */
#define FIRE_UNREADABLE_US (INT64_C(60) * US_PER_S)

/* A schedule as sql/schedule_due.sql gives it. */
struct fire_row {
    struct run_id id;
    int32_t organisation;
    struct str id_text, workflow, trigger, definition;
    struct str input, input_schema; /* JSON; STR_NONE: none */
    int16_t shard;
    int32_t revision;
    struct wall_us anchor, after, due, now; /* due 0: only what waits is looked at */
    bool busy;                              /* last_run goes on */
    bool has_run;
    struct run_id last_run;
    int32_t waiting; /* times that wait for the run before */
    struct wall_us oldest;
};

enum fire_what {
    FIRE_START,
    FIRE_RELEASE, /* a time that has waited: starts now */
    FIRE_SKIP,    /* no run: the one before goes on, or too many wait */
    FIRE_QUEUE,   /* waits for the end of the one before */
};
struct fire_time {
    struct wall_us nominal;
    enum fire_what what;
    struct run_id run;       /* of START and RELEASE */
    bool cancels;            /* last_run is cancelled for it */
    int64_t late_us;         /* behind when it was due */
    struct str trigger;      /* JSON: what the run's expressions read as .trigger */
    struct str input, error; /* JSON, filled by the shell; error: why there is no run after all */
};
struct fire { /* of one schedule */
    const struct fire_row *row;
    bool readable;
    struct wall_us after, next; /* next 0: never again */
    struct wall_us look_at;     /* 0: not any more */
    size_t count;
    struct fire_time *times;
};

typedef struct run_id (*fire_run_fn)(void *ctx, unsigned slot);
/* Where runs do not lie side by side (overlap other than allow) at most one is started at a time: what follows is
 * decided when it is known what has become of it. Faults of the definition go to `fault` with the row as ctx: what
 * cannot be read here (a zone that this machine does not have) is looked at again a minute later. */
void fire_decide(const struct fire_row *row, struct zones *zones, fire_run_fn make_run, void *ctx,
                 schedule_fault_fn fault, struct arena *arena, struct fire *ret);

/* How many schedules go into a transaction: half as many after one that PostgreSQL refused, until the one at fault is
 * alone, and twice as many after one that it took. */
struct fire_pace {
    size_t most;
};
enum fire_verdict { FIRE_GO_ON, FIRE_AGAIN, FIRE_REFUSED /* the only one of it is at fault */ };
void fire_pace_init(struct fire_pace *pace);
enum fire_verdict fire_pace_after(struct fire_pace *pace, enum err_code rc, size_t schedules);

/* How long nobody needs to look when nothing was due: until the next one is, within these bounds. What is saved
 * meanwhile, or comes with a shard, is seen within the greater; so is, where times wait for a run to end, that end
 * within the less. */
#define FIRE_LOOK_LEAST_US (INT64_C(200) * US_PER_MS)
#define FIRE_LOOK_MOST_US (INT64_C(800) * US_PER_MS)
int64_t fire_look_after_us(int64_t next_in_us /* INT64_MAX: none will be */, bool waiting);
