/* Due times of open work: a binary heap by wall time (PostgreSQL's), each item knowing its place. */
#include "scheduler/core/core_internal.h"

#include "common/base/banned.h"

#define AGAIN_US (1 * US_PER_S)
#define QUARANTINED_US (60 * US_PER_S)

static void place(struct sched *sched, size_t pos, struct item *item)
{
    sched->heap[pos] = item;
    item->heap_pos = (uint32_t)pos;
}

static void sift_up(struct sched *sched, size_t pos)
{
    struct item *item = sched->heap[pos];

    while (pos > 1 && sched->heap[pos / 2]->fire_at.us > item->fire_at.us) {
        place(sched, pos, sched->heap[pos / 2]);
        pos /= 2;
    }
    place(sched, pos, item);
}

static void sift_down(struct sched *sched, size_t pos)
{
    struct item *item = sched->heap[pos];

    for (;;) {
        size_t child = 2 * pos;

        if (child > sched->heap_len)
            break;
        if (child < sched->heap_len && sched->heap[child + 1]->fire_at.us < sched->heap[child]->fire_at.us)
            child++;
        if (sched->heap[child]->fire_at.us >= item->fire_at.us)
            break;
        place(sched, pos, sched->heap[child]);
        pos = child;
    }
    place(sched, pos, item);
}

static void take_out(struct sched *sched, struct item *item)
{
    size_t pos = item->heap_pos;
    struct item *last = sched->heap[sched->heap_len--];

    item->heap_pos = 0;
    if (last == item)
        return;
    place(sched, pos, last);
    sift_up(sched, pos);
    sift_down(sched, last->heap_pos);
}

void timer_set(struct sched *sched, struct item *item, struct wall_us at)
{
    if (item->heap_pos != 0)
        take_out(sched, item);
    if (at.us == 0)
        return;
    if (sched->heap_len + 1 >= sched->heap_cap) {
        sched->heap_cap = sched->heap_cap == 0 ? 64 : 2 * sched->heap_cap;
        sched->heap = mem_grow(sched->heap, sched->heap_cap, sizeof(struct item *));
    }
    item->fire_at = at;
    place(sched, ++sched->heap_len, item);
    sift_up(sched, sched->heap_len);
}

void timers_tick(struct sched *sched)
{
    while (sched->heap_len > 0) {
        struct item *item = sched->heap[1];
        int64_t in_us = item->fire_at.us - sched->wall.us;

        if (in_us > 0) {
            wake_by(sched, mono_after(sched->now, in_us));
            return;
        }
        take_out(sched, item);
        if (sched->quarantine.len > 0 && quarantine_find(sched, item->run) != NULL) {
            timer_set(sched, item, (struct wall_us){sched->wall.us + QUARANTINED_US});
            continue;
        }
        item->firing = true;
        input_submit(sched, input_new_internal(item->run, IN_TIMER, item->seq));
    }
}

struct wall_us timer_due(const struct sched *sched, const struct item *item)
{
    const struct run_entry *entry = run_find(sched, item->run);

    return entry != NULL && run_is_held(entry) ? engine_timer_at(entry->run, item->seq) : item->due_at;
}

/* The input of a timer or lapsed lease is done with. When its row is still open, it was early, or the run is held. */
void timer_answered(struct sched *sched, struct run_id run, uint32_t seq)
{
    struct item *item = item_find(sched, run, seq);
    struct wall_us due;

    if (item == NULL)
        return;
    if (item->state == ITEM_LOSING)
        lease_begin(sched, item, STR_NONE);
    if (!item->firing)
        return;
    item->firing = false;
    due = timer_due(sched, item);
    if (item->heap_pos == 0 && due.us != 0) {
        int64_t soonest = sched->wall.us + AGAIN_US;

        timer_set(sched, item, (struct wall_us){due.us > soonest ? due.us : soonest});
    }
}
