/* PostgreSQL as the firing of schedules sees it: a model of scheduler/sql/schedule_due.sql, schedule_next.sql and
 * schedule_fire.sql. The
 * contract that it keeps with them: tests/contract/schedules_main.c. */
#pragma once
#include "scheduler/core/fire.h"

#define DB_SCHEDULE_RUNS 64

struct db_schedule_run { /* that goes on */
    struct run_id id;
    int64_t ends; /* in us, of the model's time; INT64_MAX: when it is told to */
};
struct db_schedule {
    struct fire_row r; /* as it would be read */
    struct wall_us next;
    bool paused, disabled;
    size_t queued_count;
    struct {
        int64_t nominal;
        int32_t revision; /* of the schedule when it was put there */
    } queued[FIRE_WAITING_MAX];
    struct db_schedule_run runs[DB_SCHEDULE_RUNS];
    size_t run_count;
    uint32_t started, cancelled; /* runs, ever */
};
struct db_fired {     /* a row of schedule_fire */
    int32_t schedule; /* + 1; 0: free */
    int32_t runs;
    int64_t nominal;
};
struct db_schedules {
    struct db_schedule *all;
    size_t count;
    int64_t now;       /* the model's time, in us */
    int64_t clock_off; /* how far PostgreSQL's clock is from it */
    struct db_fired *fired;
    size_t fired_size, fired_count;
    uint64_t doubles_refused, skipped, released;
    /* Before a run is put to those that go on: looks at what it finds, and says when the run ends. asked_since: the
     * time waited, and the schedule was changed meanwhile. May be NULL. */
    int64_t (*starts)(struct db_schedules *db, size_t at, const struct fire_time *time, bool asked_since);
    void (*fault)(struct db_schedules *db, const char *what, size_t at);
    void *ctx;
};

struct db_fired *db_fired_at(struct db_schedules *db, size_t at, int64_t nominal);
bool db_schedule_goes_on(struct db_schedules *db, size_t at); /* its last run does */
bool db_schedule_is_due(struct db_schedules *db, size_t at);
/* schedule_due.sql. own: by shard. The rows are copies in the arena. */
size_t db_schedules_due(struct db_schedules *db, const bool *own, size_t most, struct arena *arena,
                        struct fire_row *ret);
/* schedule_next.sql: us until the next one is due, INT64_MAX: none will be. */
int64_t db_schedules_next(struct db_schedules *db, const bool *own, bool *ret_waiting);
/* schedule_fire.sql of one; gives how many runs it has started. */
size_t db_schedule_fire(struct db_schedules *db, const struct fire *fire);
