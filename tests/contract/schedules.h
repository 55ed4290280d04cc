/* Schedules that are due and what is fired of them: scheduler/schedule_rows.h on a PostgreSQL, or the simulator's
 * model. */
#pragma once
#include "scheduler/core/fire.h"
#include "tests/contract/contract.h"

#define SHARD_COUNT 4
#define ROWS_MAX 32

int schedules_group_begin(void **state);
int schedules_group_end(void **state);
int schedules_world_begin(void **state); /* a workflow that is enabled; no schedules; no runs */
int schedules_world_end(void **state);

struct wall_us hand_clock(void); /* PostgreSQL's */
/* A schedule of that shard; times until then have been dealt with, and it is to be looked at then. */
struct run_id hand_schedule(int16_t shard, struct wall_us after, struct wall_us due);
enum hand_change { HAND_PAUSE, HAND_RESUME, HAND_OVERRIDE };
void hand_change(struct run_id schedule, enum hand_change change); /* as a person does, through a gateway */
void hand_enable(bool enabled);                                    /* the workflow */
void hand_end_run(struct run_id run);

/* What is due of the shards below `shards`; the rows live as long as the world. */
size_t hand_due(int16_t shards, size_t most, struct fire_row ret[ROWS_MAX]);
/* Us until the next one is due of the shards below `shards`, where none is; INT64_MAX: none will be. */
int64_t hand_next(int16_t shards, bool *ret_waiting);
size_t hand_fire(const struct fire *fires, size_t count); /* gives how many runs it has started */
/* Both are under way before one of them has ended; gives the runs that they have started together. */
size_t hand_fire_at_once(const struct fire *first, const struct fire *second);

struct hand_state {
    struct wall_us after, due;
    int32_t waiting;
    bool has_run;
    struct run_id last_run;
    size_t times, runs, cancelled; /* rows of times; runs that were started; runs that are to be cancelled for others */
};
struct hand_state hand_state(struct run_id schedule);
