/* Which shards are ours, what is done when one comes, and when one goes. */
#include "scheduler/core/core_internal.h"

#include "common/base/banned.h"

#define OPEN_AGAIN_US (200 * US_PER_MS)

struct shard *shard_find(const struct sched *sched, int16_t number)
{
    struct shard *shard;

    if (number < 0 || (size_t)number >= sched->shard_cap)
        return NULL;
    shard = sched->shards[number];
    return shard != NULL && shard->owned ? shard : NULL;
}

static bool takes_replies(const struct shard *shard)
{
    return shard != NULL && shard->owned && !shard->releasing;
}

static bool is_better(const struct shard *shard, const struct shard *than)
{
    return !takes_replies(than) || (shard->ready && !than->ready);
}

/* The inbox in which results are awaited is changed only when it must be, and not to that of a shard that has just been
 * gained while there is another: until our consumer is there the broker gives what comes to whoever had the shard, and
 * if that one stands still, it keeps it until its connection is given up. With none left the last one stays: a task of
 * the batch in hand still goes out, and who owns that inbox then passes its result on. */
static void choose_reply_to(struct sched *sched)
{
    const struct shard *chosen = shard_find(sched, sched->reply_shard);

    for (size_t i = 0; i < sched->shard_cap; i++) {
        const struct shard *shard = sched->shards[i];

        if (takes_replies(shard) && is_better(shard, chosen))
            chosen = shard;
    }
    if (!takes_replies(chosen))
        return;
    sched->reply_shard = chosen->number;
    snprintf(sched->reply_to, sizeof(sched->reply_to), "ropewalk.inbox.%d", chosen->number);
}

static void open_shard(struct sched *sched, struct shard *shard)
{
    shard->opening = true;
    shard->open_again_at.us = 0;
    sched->ports.load_shard(sched->ports.ctx, shard->number, shard->epoch);
}

static void gain(struct sched *sched, int16_t number, int64_t epoch)
{
    struct shard *shard = mem_alloc(sizeof(*shard));

    if ((size_t)number >= sched->shard_cap) {
        size_t cap = (size_t)number + 1;

        sched->shards = mem_grow(sched->shards, cap, sizeof(struct shard *));
        for (size_t i = sched->shard_cap; i < cap; i++)
            sched->shards[i] = NULL;
        sched->shard_cap = cap;
    }
    shard->number = number;
    shard->owned = true;
    shard->epoch = epoch;
    shard->fetch_barrier = sched->fetch_number;
    list_init(&shard->entries);
    list_init(&shard->items);
    sched->shards[number] = shard;
    sched->owned_count++;
    choose_reply_to(sched);
    log_event(LOG_INFO, "shard.gained", log_i64("shard", number), log_i64("epoch", epoch));
    open_shard(sched, shard);
}

/* Its runs, timers and inputs are another's now. What a work has in hand stays until the work ends; what came over the
 * shard's own channel is forgotten, because the broker gives it to the new owner. */
static void lose(struct sched *sched, struct shard *shard)
{
    sched->shards[shard->number] = NULL;
    sched->owned_count--;
    shard->owned = false;
    choose_reply_to(sched);
    for (LIST_EACH(&shard->items, at))
        item_del(sched, CONTAINER(at, struct item, in_shard));
    for (LIST_EACH(&shard->entries, at)) {
        struct run_entry *entry = CONTAINER(at, struct run_entry, in_shard);
        struct input *input = entry->first;

        entry->first = NULL;
        entry->last = &entry->first;
        sched->inputs_waiting -= entry->input_count;
        entry->input_count = 0;
        while (input != NULL) {
            struct input *next = input->next;

            input_drop(sched, input);
            input = next;
        }
        if (entry->work == NULL)
            run_free(sched, entry);
        else
            entry->lost = true;
    }
    quarantine_shard_lost(sched, shard->number);
    asides_shard_lost(sched, shard->number);
    log_event(LOG_INFO, "shard.lost", log_i64("shard", shard->number), log_i64("epoch", shard->epoch));
    sched->ports.close_shard(sched->ports.ctx, shard->number);
    shard->works++; /* keeps it until here */
    shard_work_ended(sched, shard);
}

void sched_on_shards(struct sched *sched, const struct sched_shard_change *changes, size_t count)
{
    sched->now = sched->ports.mono(sched->ports.ctx);
    for (size_t i = 0; i < count; i++) {
        const struct sched_shard_change *change = &changes[i];
        struct shard *shard = shard_find(sched, change->shard);

        if (shard != NULL && (!change->gained || change->epoch != shard->epoch)) {
            lose(sched, shard);
            shard = NULL;
        }
        if (change->gained && shard == NULL)
            gain(sched, change->shard, change->epoch);
    }
    batches_unfence(sched);
}

void sched_on_open_work(struct sched *sched, int16_t number, int64_t epoch, const struct sched_work_row *rows,
                        size_t count, const struct run_id *quarantined, size_t quarantined_count, bool last,
                        bool failed)
{
    struct shard *shard = shard_find(sched, number);

    if (shard == NULL || shard->epoch != epoch || shard->ready)
        return;
    sched->now = sched->ports.mono(sched->ports.ctx);
    sched->wall = sched->ports.wall(sched->ports.ctx);
    if (failed) {
        shard->opening = false;
        shard->open_again_at = mono_after(sched->now, OPEN_AGAIN_US);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        /* asked for again after a failure in the middle: what came the first time is here already */
        if (item_find(sched, rows[i].run, rows[i].seq) == NULL)
            item_add(sched, &rows[i], shard);
    }
    for (size_t i = 0; i < quarantined_count; i++)
        quarantine_add(sched, quarantined[i], true, "");
    if (!last)
        return;
    shard->opening = false;
    shard->ready = true;
    choose_reply_to(sched);
    log_event(LOG_INFO, "shard.ready", log_i64("shard", number), log_i64("epoch", epoch));
    quarantine_shard_ready(sched, shard);
    for (LIST_EACH(&shard->entries, at))
        run_kick(sched, CONTAINER(at, struct run_entry, in_shard));
    commands_want(sched);
    looks_want(sched);
}

void sched_release_shard(struct sched *sched, int16_t number)
{
    struct shard *shard = shard_find(sched, number);

    if (shard == NULL || shard->releasing)
        return;
    shard->releasing = true;
    choose_reply_to(sched);
}

static void tell_released(struct sched *sched, struct shard *shard)
{
    if (!shard->owned || !shard->releasing || shard->released || shard->works > 0)
        return;
    shard->released = true;
    sched->ports.shard_released(sched->ports.ctx, shard->number);
}

void shard_work_ended(struct sched *sched, struct shard *shard)
{
    (void)sched;
    ENSURE(shard->works > 0);
    shard->works--;
    if (shard->works == 0 && !shard->owned)
        mem_free(shard);
}

void shards_tick(struct sched *sched)
{
    for (size_t i = 0; i < sched->shard_cap; i++) {
        struct shard *shard = sched->shards[i];

        if (shard == NULL)
            continue;
        tell_released(sched, shard);
        if (shard->open_again_at.us == 0)
            continue;
        if (shard->open_again_at.us <= sched->now.us)
            open_shard(sched, shard);
        else
            wake_by(sched, shard->open_again_at);
    }
}

void shards_free(struct sched *sched)
{
    for (size_t i = 0; i < sched->shard_cap; i++)
        mem_free(sched->shards[i]);
    mem_free(sched->shards);
}
