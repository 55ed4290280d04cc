/* What waits for whose sake, for the gateways: they refuse starts before those accepted wait for long. */
#include "scheduler/core/core_internal.h"

#include "common/base/banned.h"

#define HUNGRY_FOR_US (1 * US_PER_S)
#define LOAD_EACH_US (50 * US_PER_MS) /* a pace told of less time would be chance */

/* How long the next of its tasks would wait: as long as the oldest has, or as all before it need at the pace of late.
 */
static int64_t delay_of(const struct sched *sched, const struct task_queue *q, const struct org_backlog *backlog)
{
    int64_t waited = 0, needed = 0;
    /* those that workers have taken are no longer before it; nobody waits where none is held back */
    int64_t queued = q->ready < (int64_t)backlog->published ? q->ready : (int64_t)backlog->published;

    if (!list_empty(&backlog->items))
        waited = sched->now.us - CONTAINER(backlog->items.next, struct item, list)->ready_at.us;
    if (backlog->rate > 0 && backlog->count > 0)
        needed = ((int64_t)backlog->count + (queued > 0 ? queued : 0)) * US_PER_S / backlog->rate;
    return waited > needed ? waited : needed;
}

static void queue_load(struct sched *sched, struct task_queue *q, int64_t passed_us,
                       void (*fn)(void *ctx, const struct sched_load *load), void *ctx)
{
    bool ours = sched->broker_up && q->hungry_at.us != 0 && sched->now.us - q->hungry_at.us < HUNGRY_FOR_US;
    size_t pos = 0;
    struct str key;
    void *value;

    while (map_next(q->backlogs, &pos, &key, &value)) {
        struct org_backlog *backlog = value;

        backlog->rate = (backlog->rate + backlog->finished * US_PER_S / passed_us) / 2;
        backlog->finished = 0;
        if (backlog->count + backlog->published > 0)
            fn(ctx, &(struct sched_load){.organisation = backlog->org->id,
                                         .priority = q->priority,
                                         .waiting = backlog->count + backlog->published,
                                         .delay_us = ours ? delay_of(sched, q, backlog) : 0});
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
