/* How much of a task queue is whose: how long its window is, and which places each organisation has in it. The window
 * is a wait for everybody who comes later, so it is no longer than it takes for workers not to find the queue empty;
 * and since several schedulers fill one queue, each organisation of each has places in it however full the others keep
 * it. */
#include "scheduler/core/core_internal.h"

#include "common/base/banned.h"

#define RESERVE_IDLE 16U /* for the first of a burst, when nothing is known of the workers yet */
#define RESERVE_LEAST 1U
#define EMPTY_LOOKS 2 /* one may fall between a burst of results and what follows it */
#define LOOK_SHARE 8U /* of what is known of a queue each look makes up one part of so many */
#define EMPTY_WHOLE 1024U
#define LOOKED_FOR_US (1 * US_PER_S)
#define PLACES_EACH 2U /* messages of an organisation in a queue, for each weight, whatever else is in it */
#define PLACES_MOST 32U
#define IN_HAND_MOST 3 /* of four messages that nobody has answered so many are believed to be in hand, at most */

static uint32_t least_of(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* What is finished in 25 ms, by the last 200, and a reserve that grows while workers find the queue empty. */
uint32_t task_window(const struct sched *sched, const struct task_queue *q)
{
    return least_of((q->finished + q->finished_before) / 8 + q->reserve, sched->set.window_max);
}

uint32_t task_reserve_idle(const struct sched *sched)
{
    return least_of(RESERVE_IDLE, sched->set.window_min);
}

/* Workers that find the queue empty lose time, messages that wait in it lose fairness. Growing is fast, so that it is
 * found out within some questions how much many idle workers take. */
void task_reserve_learn(const struct sched *sched, struct task_queue *q, uint32_t depth)
{
    uint32_t most = task_window(sched, q), least = least_of(RESERVE_LEAST, sched->set.window_min);

    q->empty_looks = depth <= most / 8 ? q->empty_looks + 1 : 0;
    if (q->empty_looks >= EMPTY_LOOKS)
        q->reserve = least_of(2 * q->reserve, sched->set.window_min);
    else if (depth > most / 4)
        q->reserve -= (q->reserve + 3) / 4;
    if (q->reserve < least)
        q->reserve = least;
}

void task_looked(const struct sched *sched, struct task_queue *q, uint32_t depth)
{
    q->empty_share -= (q->empty_share + LOOK_SHARE - 1) / LOOK_SHARE;
    if (depth == 0)
        q->empty_share += EMPTY_WHOLE / LOOK_SHARE;
    q->looked_at = sched->now;
}

/* Workers that have room leave nothing in the queue: then what waits does not wait for them, but for us and the broker.
 */
bool task_workers_have_room(const struct sched *sched, const struct task_queue *q)
{
    return q->looked_at.us != 0 && sched->now.us - q->looked_at.us < LOOKED_FOR_US && q->empty_share > EMPTY_WHOLE / 2;
}

/* How long until the answer comes, and how much of it the task itself takes: the rest is the queue's. */
void task_answered(struct sched *sched, const struct input *input)
{
    const struct item *item = item_find_task(sched, input->run, input->in.step);
    int64_t took_us = input->in.ended_at.us - input->in.started_at.us, total_us;

    if (item == NULL || item->state != ITEM_PUBLISHED || item->publications != 1 || item->queue->backlog_count == 0 ||
        item->attempt != input->in.attempt || item->dispatch != input->in.dispatch || input->in.started_at.us == 0)
        return;
    total_us = sched->now.us - item->published_at.us;
    if (took_us < 0 || took_us > total_us)
        return;
    item->queue->took_us += (took_us - item->queue->took_us) / 8;
    item->queue->total_us += (total_us - item->queue->total_us) / 8;
}

/* Of the messages of an organisation that nobody has answered those that stand in the queue are counted: as large a
 * part as they spend of their time there. The count only falls when something was answered, so what is late to be
 * noticed cannot make a queue overflow. */
bool task_place_free(const struct org_backlog *backlog)
{
    const struct task_queue *q = backlog->queue;
    uint64_t places = least_of(PLACES_EACH * backlog->org->weight, PLACES_MOST);
    int64_t total = q->total_us > 0 ? q->total_us : 1, took = q->took_us;

    if (took > total / 4 * IN_HAND_MOST)
        took = total / 4 * IN_HAND_MOST;
    return ((uint64_t)backlog->picked + backlog->published) * (uint64_t)(total - took) < places * (uint64_t)total;
}
