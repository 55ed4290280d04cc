/* Fires schedules of this scheduler's shards: looks for due rows, has core/fire.h decide what is to be fired, and
 * starts the runs in a batch that begins with the guard, like those of the core. What makes it once is the unique row
 * of a time; the guard keeps a former owner out, and the row's revision what a gateway has changed meanwhile. Nothing
 * is kept between two turns, so a takeover has nothing to read, and an unknown outcome is looked at again. PostgreSQL's
 * clock alone says what is due. Loop thread only. */
#pragma once
#include "common/expr/sandbox.h"
#include "common/io/pg.h"
#include "scheduler/core/sched_core.h"

struct firing;
struct firing_options {
    uv_loop_t *loop;
    struct pg *pg; /* must outlive it */
    struct run_id me;
    const bool *owned;     /* by shard: ours */
    const int64_t *epochs; /* by shard */
    const struct db_clock *clock;
    struct sched *const *sched;     /* NULL inside until there is one */
    struct sandbox *const *sandbox; /* the same; answers what is outstanding when it is freed */
    void (*woken)(void *ctx);       /* the core has an input */
    void *ctx;
};
struct firing *firing_new(const struct firing_options *options);
void firing_stop(struct firing *firing); /* no more of it: the shards are being given up */
void firing_free(struct firing *firing); /* before its pg: answers that come later are ignored */
