/* Looks at every open run of this scheduler's shards, slice by slice, whether something will move it: by one statement
 * a slice, which tells those that look stuck, and by having a part of all read and compared with their history. What is
 * wrong the core puts right (core/orphans.c). Failures are logged and made good at the next turn. Loop thread only. */
#pragma once
#include "common/io/pg.h"
#include "scheduler/core/sched_core.h"

struct watch;
struct watch_options {
    uv_loop_t *loop;
    struct pg *pg;             /* must outlive it */
    int runs_per_second;       /* open runs looked at; 0: 500 */
    int32_t most_running_runs; /* that an organisation may give itself */
    int sweep_ms;              /* a look at all of them begins at most so often; 0: 10 s */
    const bool *owned;         /* by shard: ours */
    const int16_t *slot_shard;
    struct sched *const *sched; /* NULL inside until there is one */
    void (*woken)(void *ctx);   /* the core has an input */
    void *ctx;
};
struct watch *watch_new(const struct watch_options *options);
/* Looks at who waits for a slot now, and not with the next sweep. */
void watch_slots(struct watch *watch);
void watch_free(struct watch *watch); /* before its pg: answers that come later are ignored */
