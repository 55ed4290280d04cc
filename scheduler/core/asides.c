/* Runs that have to wait until schedulers are upgraded. Their commands are not kept in memory, where they would count
 * as in hand, nor read again, where they would stand before younger ones: they stay in the table, and fetches leave
 * them out. Nothing of this is durable: who does not know that a run waits finds it out by applying its first command.
 */
#include "scheduler/core/core_internal.h"

#include "common/base/banned.h"

struct aside {
    struct hnode node;
    struct run_id run;
    int16_t shard;
    enum aside_until until;
};

static struct aside *find(const struct sched *sched, struct run_id run)
{
    uint64_t hash = run_hash(run);

    for (struct hnode *n = htable_chain(&sched->asides, hash); n != NULL; n = n->next) {
        struct aside *aside = CONTAINER(n, struct aside, node);

        if (n->hash == hash && run_id_eq(aside->run, run))
            return aside;
    }
    return NULL;
}

bool aside_is(const struct sched *sched, struct run_id run)
{
    return sched->asides.len > 0 && find(sched, run) != NULL;
}

void aside_add(struct sched *sched, struct run_entry *entry, enum aside_until until)
{
    struct aside *aside = find(sched, entry->id);

    inputs_give_up_commands(sched, entry, command_leave);
    if (aside == NULL) {
        aside = mem_alloc(sizeof(*aside));
        aside->run = entry->id;
        htable_add(&sched->asides, &aside->node, run_hash(entry->id));
        metric_set(METRIC_RUNS_SET_ASIDE, (int64_t)sched->asides.len);
    }
    aside->shard = entry->shard->number;
    aside->until = until;
}

/* What waits for `until`; of one shard, or of all. */
static void end(struct sched *sched, enum aside_until until, const int16_t *shard)
{
    for (size_t i = 0; i < sched->asides.cap; i++) {
        for (struct hnode *n = sched->asides.slots[i], *next; n != NULL; n = next) {
            struct aside *aside = CONTAINER(n, struct aside, node);

            next = n->next;
            if (aside->until > until || (shard != NULL && aside->shard != *shard))
                continue;
            htable_del(&sched->asides, n);
            mem_free(aside);
        }
    }
    metric_set(METRIC_RUNS_SET_ASIDE, (int64_t)sched->asides.len);
}

void asides_formats_changed(struct sched *sched)
{
    if (sched->asides.len == 0)
        return;
    end(sched, ASIDE_UNTIL_FORMATS, NULL);
    commands_want(sched);
}

void asides_shard_lost(struct sched *sched, int16_t shard)
{
    end(sched, ASIDE_UNTIL_LOST, &shard);
}

size_t asides_list(struct sched *sched, struct run_id **ret)
{
    size_t n = 0;

    *ret = NULL;
    if (sched->asides.len == 0)
        return 0;
    *ret = mem_array(sched->asides.len, sizeof(**ret));
    for (size_t i = 0; i < sched->asides.cap; i++)
        for (const struct hnode *at = sched->asides.slots[i]; at != NULL; at = at->next)
            (*ret)[n++] = CONTAINER(at, struct aside, node)->run;
    return n;
}

void sched_each_aside(const struct sched *sched, void (*fn)(void *ctx, struct run_id run, enum aside_until until),
                      void *ctx)
{
    for (size_t i = 0; sched->asides.len > 0 && i < sched->asides.cap; i++) {
        for (const struct hnode *at = sched->asides.slots[i]; at != NULL; at = at->next) {
            const struct aside *aside = CONTAINER(at, struct aside, node);

            fn(ctx, aside->run, aside->until);
        }
    }
}

void asides_free(struct sched *sched)
{
    end(sched, ASIDE_UNTIL_LOST, NULL);
    htable_deinit(&sched->asides);
}
