/* Which workers are heard, for people: by their heartbeats, which come whether or not they have anything to do. Nothing
 * is decided by it. */
#include "scheduler/core/core_internal.h"

#include "common/base/banned.h"

#define HEARD_FOR_US (10 * US_PER_S) /* a heartbeat comes every two seconds */
#define WORKERS_MAX 1000

struct worker_heard {
    struct mono_us at;
    uint32_t tasks;
};

void worker_heard(struct sched *sched, struct str worker, size_t tasks)
{
    struct worker_heard *heard = map_get(sched->workers, worker);

    if (heard == NULL) {
        if (map_len(sched->workers) >= WORKERS_MAX)
            return;
        heard = mem_alloc(sizeof(*heard));
        (void)map_put(sched->workers, worker, heard);
    }
    heard->at = sched->now;
    heard->tasks = (uint32_t)tasks;
}

void sched_each_worker(struct sched *sched, void (*fn)(void *ctx, const struct sched_worker *worker), void *ctx)
{
    struct mono_us now = sched->ports.mono(sched->ports.ctx);
    struct str name;
    size_t pos = 0;
    void *value;

    while (map_next(sched->workers, &pos, &name, &value)) {
        struct worker_heard *heard = value;

        if (now.us - heard->at.us > HEARD_FOR_US)
            mem_free(map_del(sched->workers, name));
        else
            fn(ctx, &(struct sched_worker){.name = name, .tasks = heard->tasks, .silent_us = now.us - heard->at.us});
    }
}

void workers_free(struct sched *sched)
{
    struct str name;
    size_t pos = 0;
    void *heard;

    while (map_next(sched->workers, &pos, &name, &heard))
        mem_free(heard);
    map_free(sched->workers);
}
