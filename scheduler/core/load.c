/* What waits for whose sake, for the gateways: they refuse starts before those accepted wait for long. */
#include "scheduler/core/core_internal.h"

#include "common/base/banned.h"

#define LOAD_EACH_US (50 * US_PER_MS) /* a pace told of less time would be chance */

/* How long the first task of its next run would wait: as long as the oldest has, or until all before it in line have
 * had their turns, at the pace of late. */
static int64_t delay_of(const struct sched *sched, const struct org_backlog *backlog)
{
    int64_t waited_us = task_longest_wait(sched, backlog), needed_us = 0;

    if (backlog->rate > 0)
        needed_us = (int64_t)backlog->line_count * US_PER_S / backlog->rate;
    return waited_us > needed_us ? waited_us : needed_us;
}

static void queue_load(struct sched *sched, struct task_queue *q, int64_t passed_us,
                       void (*fn)(void *ctx, const struct sched_load *load), void *ctx)
{
    bool ours = sched->broker_up && task_workers_have_room(sched, q);
    size_t pos = 0;
    struct str key;
    void *value;

    while (map_next(q->backlogs, &pos, &key, &value)) {
        struct org_backlog *backlog = value;

        backlog->rate = (backlog->rate + backlog->begun * US_PER_S / passed_us) / 2;
        backlog->begun = 0;
        if (backlog->count + backlog->published > 0)
            fn(ctx, &(struct sched_load){.organisation = backlog->org->id,
                                         .priority = q->priority,
                                         .waiting = backlog->count + backlog->published,
                                         .delay_us = ours ? delay_of(sched, backlog) : 0});
    }
}

bool sched_each_load(struct sched *sched, void (*fn)(void *ctx, const struct sched_load *load), void *ctx)
{
    int64_t passed_us;

    sched->now = sched->ports.mono(sched->ports.ctx);
    passed_us = sched->now.us - sched->load_at.us;
    if (passed_us < LOAD_EACH_US)
        return false;
    sched->load_at = sched->now;
    for (struct task_queue *q = sched->queues; q != NULL; q = q->next)
        queue_load(sched, q, passed_us, fn, ctx);
    return true;
}
