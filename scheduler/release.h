/* Starts runs of what has waited at triggers with debounce, throttle or batch: looks for groups of this scheduler's
 * shards whose time has come, and has the database release them (held_fire() in common/db/migrations) in a batch that
 * begins with the guard. What makes it once is the group's row, which is locked and changed with the start; the guard
 * keeps a former owner out. Nothing is kept between two turns, so a takeover has nothing to read, and an unknown
 * outcome is looked at again. PostgreSQL's clock alone says what is due. Loop thread only. */
#pragma once
#include "common/io/pg.h"
#include "scheduler/core/sched_core.h"

struct release;
struct release_options {
    uv_loop_t *loop;
    struct pg *pg; /* must outlive it */
    struct run_id me;
    const bool *owned;     /* by shard: ours */
    const int64_t *epochs; /* by shard */
    const struct db_clock *clock;
    struct sched *const *sched; /* NULL inside until there is one */
    void (*woken)(void *ctx);   /* the core has an input */
    void *ctx;
};
struct release *release_new(const struct release_options *options);
void release_stop(struct release *release); /* no more of it: the shards are being given up */
void release_free(struct release *release); /* before its pg: answers that come later are ignored */
