/* Open work in memory: one item per row of the shards we own. Items lie in blocks that never move, so that a confirm
 * names its item by slot and generation. All items of a run are in one chain of the table. */
#include "scheduler/core/core_internal.h"

#include "common/base/banned.h"

#define ITEM_BLOCK 256

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

struct item *item_find(const struct sched *sched, struct run_id run, uint32_t seq)
{
    uint64_t hash = run_hash(run);

    for (struct hnode *n = htable_chain(&sched->items, hash); n != NULL; n = n->next) {
        struct item *item = CONTAINER(n, struct item, node);

        if (item->seq == seq && n->hash == hash && run_id_eq(item->run, run))
            return item;
    }
    return NULL;
}

struct item *item_find_task(const struct sched *sched, struct run_id run, uint64_t step_hash)
{
    uint64_t hash = run_hash(run);

    for (struct hnode *n = htable_chain(&sched->items, hash); n != NULL; n = n->next) {
        struct item *item = CONTAINER(n, struct item, node);

        if (item->kind == WORK_TASK && item->step_hash == step_hash && n->hash == hash && run_id_eq(item->run, run))
            return item;
    }
    return NULL;
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
    htable_add(&sched->items, &item->node, run_hash(row->run));
    list_add_tail(&shard->items, &item->in_shard);
    if (row->kind == WORK_TASK) {
        item->priority = row->priority < PRIORITY_COUNT ? row->priority : PRIORITY_NORMAL;
        item->step_hash = str_hash(row->step);
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
    task_ready(sched, item, false);
    return item;
}

void item_del(struct sched *sched, struct item *item)
{
    timer_set(sched, item, (struct wall_us){0});
    if (item->kind == WORK_TASK)
        task_unready(sched, item);
    htable_del(&sched->items, &item->node);
    list_del(&item->in_shard);
    mem_free((void *)(uintptr_t)item->worker_queue.ptr);
    item->worker_queue = STR_NONE;
    item->generation++;
    list_add_head(&sched->free_items, &item->list);
}

void items_drop_unseen(struct sched *sched, struct run_id run, uint64_t mark)
{
    uint64_t hash = run_hash(run);

    for (struct hnode *n = htable_chain(&sched->items, hash), *next; n != NULL; n = next) {
        struct item *item = CONTAINER(n, struct item, node);

        next = n->next;
        if (n->hash == hash && item->mark != mark && run_id_eq(item->run, run))
            item_del(sched, item);
    }
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
    mem_free(sched->heap);
}
