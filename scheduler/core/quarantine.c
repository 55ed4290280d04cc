/* Runs that are not applied any more, because they crashed the process, or PostgreSQL refuses what they write, or their
 * history makes no sense: their inputs are kept as held commands until somebody releases them. */
#include "scheduler/core/core_internal.h"

#include "common/base/banned.h"

struct quarantined *quarantine_find(const struct sched *sched, struct run_id run)
{
    uint64_t hash = run_hash(run);

    for (struct hnode *n = htable_chain(&sched->quarantine, hash); n != NULL; n = n->next) {
        struct quarantined *q = CONTAINER(n, struct quarantined, node);

        if (n->hash == hash && run_id_eq(q->run, run))
            return q;
    }
    return NULL;
}

struct quarantined *quarantine_add(struct sched *sched, struct run_id run, bool written, const char *reason)
{
    struct quarantined *q = quarantine_find(sched, run);

    if (q == NULL) {
        q = mem_alloc(sizeof(*q));
        q->run = run;
        q->reason = reason;
        htable_add(&sched->quarantine, &q->node, run_hash(run));
        if (!written) {
            metric_add(METRIC_RUNS_QUARANTINED, 1);
            log_event(LOG_ERROR, "run.quarantined", log_run("run_id", run), log_cstr("reason", reason));
        }
    }
    q->written |= written;
    return q;
}

bool quarantine_holds(const struct sched *sched, struct run_id run)
{
    const struct quarantined *q = sched->quarantine.len == 0 ? NULL : quarantine_find(sched, run);

    return q != NULL && !q->doubtful;
}

void quarantine_doubt(struct sched *sched, struct run_id run, int64_t command)
{
    struct quarantined *q = quarantine_find(sched, run);

    if (q == NULL)
        return;
    if (command != 0)
        q->release = command;
    q->doubtful = q->release != 0;
}

void quarantine_settle(struct sched *sched, struct run_id run, bool released)
{
    struct quarantined *q = quarantine_find(sched, run);

    if (q == NULL || !q->doubtful)
        return;
    if (released)
        quarantine_del(sched, run);
    else
        q->doubtful = false;
}

void quarantine_del(struct sched *sched, struct run_id run)
{
    struct quarantined *q = quarantine_find(sched, run);

    if (q == NULL)
        return;
    htable_del(&sched->quarantine, &q->node);
    mem_free(q);
    items_offer(sched, run);
}

void sched_suspect(struct sched *sched, struct run_id run)
{
    quarantine_add(sched, run, false, "it was being applied when the scheduler died, twice within an hour")->accused =
        true;
}

/* The accused of this shard get their rows even when nothing comes for them. */
void quarantine_shard_ready(struct sched *sched, struct shard *shard)
{
    for (size_t i = 0; i < sched->quarantine.cap; i++) {
        for (struct hnode *n = sched->quarantine.slots[i]; n != NULL; n = n->next) {
            const struct quarantined *q = CONTAINER(n, struct quarantined, node);
            struct work *work;

            if (q->written || shard_of_run(sched, q->run) != shard->number)
                continue;
            work = work_new(sched, run_get(sched, q->run, shard), shard);
            work->holds = true;
            work->reason = q->reason;
            work_collect(sched, work);
        }
    }
}

/* Who has it now finds out for itself; but what the journal accuses, nobody else knows until it is written down. */
void quarantine_shard_lost(struct sched *sched, int16_t shard)
{
    for (size_t i = 0; i < sched->quarantine.cap; i++) {
        for (struct hnode *n = sched->quarantine.slots[i], *next; n != NULL; n = next) {
            struct quarantined *q = CONTAINER(n, struct quarantined, node);

            next = n->next;
            if ((q->accused && !q->written) || shard_of_run(sched, q->run) != shard)
                continue;
            htable_del(&sched->quarantine, &q->node);
            mem_free(q);
        }
    }
}

void quarantine_free(struct sched *sched)
{
    for (size_t i = 0; i < sched->quarantine.cap; i++) {
        while (sched->quarantine.slots[i] != NULL) {
            struct quarantined *q = CONTAINER(sched->quarantine.slots[i], struct quarantined, node);

            htable_del(&sched->quarantine, &q->node);
            mem_free(q);
        }
    }
    htable_deinit(&sched->quarantine);
}
