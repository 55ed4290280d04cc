/* Open work in memory: one item per row of the shards we own. Items lie in blocks that never move, so that a confirm
 * names its item by slot and generation. A run may have ten thousand rows: nothing but dropping what a read of the run
 * did not show walks them. */
#include "scheduler/core/core_internal.h"

#include "common/base/banned.h"

#define ITEM_BLOCK 64

static struct item *take_free(struct sched *sched)
{
    struct item *item;
    uint32_t slot, generation;

    if (list_empty(&sched->free_items)) {
        struct item *block = mem_array(ITEM_BLOCK, sizeof(*block));

        sched->slab = mem_grow(sched->slab, sched->slab_blocks + 1, sizeof(struct item *));
        sched->slab[sched->slab_blocks] = block;
        for (size_t i = 0; i < ITEM_BLOCK; i++) {
            block[i].slot = (uint32_t)(sched->slab_blocks * ITEM_BLOCK + i);
            block[i].generation = 1;
            list_add_tail(&sched->free_items, &block[i].list);
        }
        sched->slab_blocks++;
    }
    item = CONTAINER(sched->free_items.next, struct item, list);
    list_del(&item->list);
    slot = item->slot;
    generation = item->generation;
    *item = (struct item){.slot = slot, .generation = generation};
    list_init(&item->list);
    list_init(&item->in_shard);
    list_init(&item->of_run);
    return item;
}

struct item *item_of_slot(const struct sched *sched, uint32_t slot, uint32_t generation)
{
    struct item *item;

    if (slot / ITEM_BLOCK >= sched->slab_blocks)
        return NULL;
    item = &sched->slab[slot / ITEM_BLOCK][slot % ITEM_BLOCK];
    return item->generation == generation ? item : NULL;
}

static uint64_t row_hash(struct run_id run, uint32_t seq)
{
    return run_hash(run) + hash_u64(seq);
}

static uint64_t task_hash(struct run_id run, struct str step)
{
    return run_hash(run) + str_hash(step);
}

struct item *item_find(const struct sched *sched, struct run_id run, uint32_t seq)
{
    uint64_t hash = row_hash(run, seq);

    for (struct hnode *n = htable_chain(&sched->items, hash); n != NULL; n = n->next) {
        struct item *item = CONTAINER(n, struct item, node);

        if (n->hash == hash && item->seq == seq && run_id_eq(item->run, run))
            return item;
    }
    return NULL;
}

/* Within a run the same hash means the same path. */
struct item *item_find_task(const struct sched *sched, struct run_id run, struct str step)
{
    uint64_t hash = task_hash(run, step);

    for (struct hnode *n = htable_chain(&sched->task_items, hash); n != NULL; n = n->next) {
        struct item *item = CONTAINER(n, struct item, by_step);

        if (n->hash == hash && run_id_eq(item->run, run))
            return item;
    }
    return NULL;
}

static struct item *first_of_run(const struct sched *sched, struct run_id run)
{
    uint64_t hash = run_hash(run);

    for (struct hnode *n = htable_chain(&sched->item_runs, hash); n != NULL; n = n->next) {
        struct item *item = CONTAINER(n, struct item, by_run);

        if (n->hash == hash && run_id_eq(item->run, run))
            return item;
    }
    return NULL;
}

static void lead(struct sched *sched, struct item *item)
{
    item->leads = true;
    htable_add(&sched->item_runs, &item->by_run, run_hash(item->run));
}

static void join_run(struct sched *sched, struct item *item)
{
    struct item *first = first_of_run(sched, item->run);

    if (first == NULL)
        lead(sched, item);
    else
        list_add_tail(&first->of_run, &item->of_run);
}

static void leave_run(struct sched *sched, struct item *item)
{
    if (item->leads) {
        htable_del(&sched->item_runs, &item->by_run);
        if (!list_empty(&item->of_run))
            lead(sched, CONTAINER(item->of_run.next, struct item, of_run));
    }
    list_del(&item->of_run);
}

struct item *item_new(struct sched *sched, const struct sched_work_row *row, struct shard *shard)
{
    struct item *item = take_free(sched);

    item->run = row->run;
    item->seq = row->seq;
    item->shard = shard;
    item->kind = (uint8_t)row->kind;
    item->attempt = row->attempt;
    item->dispatch = row->dispatch;
    item->due_at = row->due_at;
    item->org = org_get(sched, row->organisation, STR_NONE, row->weight);
    htable_add(&sched->items, &item->node, row_hash(row->run, row->seq));
    join_run(sched, item);
    list_add_tail(&shard->items, &item->in_shard);
    if (row->kind == WORK_TASK) {
        item->priority = row->priority < PRIORITY_COUNT ? row->priority : PRIORITY_NORMAL;
        htable_add(&sched->task_items, &item->by_step, task_hash(row->run, row->step));
        item->queue = task_queue_get(sched, row->pool.ptr == NULL ? STR("default") : row->pool, item->priority);
        item->ready_at = sched->now;
    }
    timer_set(sched, item, item->due_at);
    return item;
}

struct item *item_add(struct sched *sched, const struct sched_work_row *row, struct shard *shard)
{
    struct item *item = item_new(sched, row, shard);

    if (item->kind != WORK_TASK)
        return item;
    item->publications = 1;
    task_ready(sched, item, PLACE_LINE);
    return item;
}

void item_del(struct sched *sched, struct item *item)
{
    timer_set(sched, item, (struct wall_us){0});
    if (item->kind == WORK_TASK) {
        task_unready(sched, item);
        htable_del(&sched->task_items, &item->by_step);
    }
    leave_run(sched, item);
    htable_del(&sched->items, &item->node);
    list_del(&item->in_shard);
    mem_free((void *)(uintptr_t)item->worker_queue.ptr);
    item->worker_queue = STR_NONE;
    item->generation++;
    list_add_head(&sched->free_items, &item->list);
}

void items_drop_unseen(struct sched *sched, struct run_id run, uint64_t mark)
{
    struct item *first = first_of_run(sched, run);

    if (first == NULL)
        return;
    for (LIST_EACH(&first->of_run, at)) {
        struct item *item = CONTAINER(at, struct item, of_run);

        if (item->mark != mark)
            item_del(sched, item);
    }
    if (first->mark != mark)
        item_del(sched, first);
}

static void hold(struct sched *sched, struct item *item)
{
    if (item->state == ITEM_BACKLOG)
        task_unready(sched, item);
}

static void offer(struct sched *sched, struct item *item)
{
    if (item->kind == WORK_TASK && item->state == ITEM_IDLE && !item->deferred)
        task_ready(sched, item, PLACE_LINE);
}

static void go_on(struct sched *sched, struct item *item)
{
    offer(sched, item);
    if (item->due_at.us != 0 && !item->firing)
        timer_set(sched, item, item->due_at);
}

static void each_of_run(struct sched *sched, struct run_id run, void (*fn)(struct sched *sched, struct item *item))
{
    struct item *first = first_of_run(sched, run);

    if (first == NULL)
        return;
    for (LIST_EACH(&first->of_run, at))
        fn(sched, CONTAINER(at, struct item, of_run));
    fn(sched, first);
}

void items_hold(struct sched *sched, struct run_id run)
{
    each_of_run(sched, run, hold);
}

void items_go_on(struct sched *sched, struct run_id run)
{
    each_of_run(sched, run, go_on);
}

void items_offer(struct sched *sched, struct run_id run)
{
    each_of_run(sched, run, offer);
}

void items_free(struct sched *sched)
{
    for (size_t i = 0; i < sched->items.cap; i++)
        for (struct hnode *n = sched->items.slots[i]; n != NULL; n = n->next)
            mem_free((void *)(uintptr_t)CONTAINER(n, struct item, node)->worker_queue.ptr);
    for (size_t i = 0; i < sched->slab_blocks; i++)
        mem_free(sched->slab[i]);
    mem_free(sched->slab);
    htable_deinit(&sched->items);
    htable_deinit(&sched->task_items);
    htable_deinit(&sched->item_runs);
    mem_free(sched->heap);
}
