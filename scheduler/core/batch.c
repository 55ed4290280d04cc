/* Batches: what is collected while one commits, and what becomes of a batch that was not committed. At most one is in
 * flight; a run is in one work, and a work in one batch. */
#include "scheduler/core/core_internal.h"

#include "common/base/banned.h"

#define PAUSE_US (50 * US_PER_MS)
#define PAUSE_MAX_US (1 * US_PER_S)

static struct batch *batch_new(struct sched *sched)
{
    struct batch *batch = mem_alloc(sizeof(*batch));

    batch->number = ++sched->next_batch;
    batch->arena = arena_new(16 * 1024);
    list_init(&batch->works);
    list_init(&batch->link);
    return batch;
}

static void batch_free(struct batch *batch)
{
    list_del(&batch->link);
    arena_free(batch->arena);
    mem_free(batch);
}

static bool full(const struct sched *sched)
{
    return sched->collecting_inputs >= sched->set.batch_inputs || sched->collecting_bytes >= sched->set.batch_bytes;
}

/* Waits a moment for values of runs that were applied together with what is collected; never longer. */
static bool wait_for_values(struct sched *sched)
{
    const struct work *newest;
    int64_t until;

    if (list_empty(&sched->evaluating) || full(sched))
        return false;
    newest = CONTAINER(sched->evaluating.prev, struct work, link);
    until = newest->pending_since.us;
    if (until > sched->collecting_since.us)
        until = sched->collecting_since.us;
    until += sched->set.evaluate_wait_us;
    if (until <= sched->now.us)
        return false;
    wake_by(sched, (struct mono_us){until});
    return true;
}

static void close_batch(struct sched *sched)
{
    struct batch *batch = batch_new(sched);

    list_splice(&batch->works, &sched->collecting);
    for (const struct link *at = batch->works.next; at != &batch->works; at = at->next)
        batch->work_count++;
    sched->collecting_inputs = 0;
    sched->collecting_bytes = 0;
    list_add_tail(&sched->batches, &batch->link);
}

static void send(struct sched *sched)
{
    struct batch *batch = CONTAINER(sched->batches.next, struct batch, link);

    if (batch->in_flight || batch->fenced)
        return;
    if (batch->not_before.us > sched->now.us) {
        wake_by(sched, batch->not_before);
        return;
    }
    batch_rows(sched, batch);
    batch->in_flight = true;
    metric_add(METRIC_SCHED_BATCHES, 1);
    sched->ports.commit(sched->ports.ctx, &batch->rows);
}

void batches_tick(struct sched *sched)
{
    while (!list_empty(&sched->ready) && !full(sched)) {
        struct run_entry *entry = CONTAINER(sched->ready.next, struct run_entry, in_list);

        list_del(&entry->in_list);
        work_apply(sched, entry);
    }
    if (list_empty(&sched->batches) && !list_empty(&sched->collecting) && !wait_for_values(sched))
        close_batch(sched);
    if (!list_empty(&sched->batches))
        send(sched);
}

static struct work *find_work(const struct batch *batch, struct run_id run)
{
    for (const struct link *at = batch->works.next; at != &batch->works; at = at->next) {
        struct work *work = CONTAINER(at, struct work, link);

        if (work->entry != NULL && run_id_eq(work->entry->id, run))
            return work;
    }
    return NULL;
}

/* Works of shards that are another's now end here; the rest may be sent again. */
static void drop_lost(struct sched *sched, struct batch *batch)
{
    for (LIST_EACH(&batch->works, at)) {
        struct work *work = CONTAINER(at, struct work, link);

        if (work->shard->owned)
            continue;
        batch->work_count--;
        work_drop(sched, work);
    }
}

static void settle(struct sched *sched, struct batch *batch)
{
    drop_lost(sched, batch);
    if (batch->work_count == 0)
        batch_free(batch);
}

/* The runs of a batch that was refused for stale state are read again, or just the one that the error names. */
static void conflicted(struct sched *sched, struct batch *batch, const struct sched_commit_outcome *outcome)
{
    struct work *culprit = outcome->has_run ? find_work(batch, outcome->run) : NULL;

    metric_add(METRIC_SCHED_BATCH_CONFLICTS, 1);
    if (culprit != NULL) {
        sched_log_run(LOG_WARN, "batch.conflict", culprit->entry, &outcome->err);
        batch->work_count--;
        work_abort(sched, culprit);
        return;
    }
    log_event(LOG_WARN, "batch.conflict_of_someone", log_i64("works", batch->work_count), log_err(&outcome->err));
    for (LIST_EACH(&batch->works, at)) {
        batch->work_count--;
        work_abort(sched, CONTAINER(at, struct work, link));
    }
}

/* Whether it was committed nobody knows: reading again tells, and brings the tasks that nobody published. */
static void unknown(struct sched *sched, struct batch *batch)
{
    log_event(LOG_WARN, "batch.unknown", log_i64("works", batch->work_count));
    commands_distrust(sched);
    for (LIST_EACH(&batch->works, at)) {
        struct work *work = CONTAINER(at, struct work, link);
        struct run_entry *entry = work->entry != NULL && work->entry->lost ? NULL : work->entry;

        for (const struct input *input = work->first; input != NULL; input = input->next)
            if (input->delivery != NULL)
                input->delivery->again = true;
        batch->work_count--;
        work_abort(sched, work);
        if (entry == NULL)
            continue;
        entry->reload = true;
        run_recheck(sched, entry);
        run_kick(sched, entry);
    }
}

/* A value that PostgreSQL refuses: halved until the run at fault is alone. */
static void refused(struct sched *sched, struct batch *batch, const struct sched_commit_outcome *outcome)
{
    struct work *culprit = outcome->has_run ? find_work(batch, outcome->run) : NULL;
    struct batch *half;
    uint32_t keep = batch->work_count / 2;

    if (culprit == NULL && batch->work_count == 1)
        culprit = CONTAINER(batch->works.next, struct work, link);
    if (culprit != NULL) {
        if (culprit->entry != NULL)
            sched_log_run(LOG_ERROR, "batch.refused", culprit->entry, &outcome->err);
        batch->work_count--;
        work_quarantine(sched, culprit, "PostgreSQL refuses what it writes");
        return;
    }
    half = batch_new(sched);
    while (batch->work_count > keep) {
        struct link *last = batch->works.prev;

        list_del(last);
        list_add_head(&half->works, last);
        batch->work_count--;
        half->work_count++;
    }
    list_add_head(&batch->link, &half->link);
}

/* Commands that the batch itself has written are there at once. */
static void want_own_commands(struct sched *sched, const struct sched_batch *rows)
{
    bool some = rows->child_count > 0;

    for (size_t i = 0; i < rows->command_insert_count; i++)
        some |= !rows->command_inserts[i].held;
    if (some)
        commands_want(sched);
}

/* Steps that have begun to wait for an event look for it among those that came before. */
static void want_own_looks(struct sched *sched, const struct sched_batch *rows)
{
    for (size_t i = 0; i < rows->open_count; i++) {
        if (rows->opens[i].kind == WORK_EVENT) {
            looks_want(sched);
            return;
        }
    }
}

void sched_on_committed(struct sched *sched, uint64_t number, const struct sched_commit_outcome *outcome)
{
    struct batch *batch;

    if (list_empty(&sched->batches))
        return;
    batch = CONTAINER(sched->batches.next, struct batch, link);
    if (batch->number != number || !batch->in_flight)
        return;
    sched->now = sched->ports.mono(sched->ports.ctx);
    sched->wall = sched->ports.wall(sched->ports.ctx);
    batch->in_flight = false;
    switch (outcome->outcome) {
    case SCHED_COMMITTED:
        works_committed(sched, batch);
        want_own_commands(sched, &batch->rows);
        want_own_looks(sched, &batch->rows);
        admissions_committed(sched, &batch->rows, outcome);
        batch_free(batch);
        return;
    case SCHED_FENCED:
        metric_add(METRIC_SCHED_BATCH_CONFLICTS, 1);
        batch->fenced = true;
        sched->ports.check_shards(sched->ports.ctx);
        return;
    case SCHED_CONFLICT:
        conflicted(sched, batch, outcome);
        break;
    case SCHED_REFUSED:
        refused(sched, batch, outcome);
        break;
    case SCHED_UNKNOWN:
        want_own_looks(sched, &batch->rows); /* it may be there after all */
        unknown(sched, batch);
        break;
    case SCHED_UNAVAILABLE:
        batch->not_before = mono_after(sched->now, batch->tries > 4 ? PAUSE_MAX_US : (int64_t)PAUSE_US << batch->tries);
        batch->tries++;
        break;
    }
    settle(sched, batch);
}

/* The truth about the shards has been read. */
void batches_unfence(struct sched *sched)
{
    for (LIST_EACH(&sched->batches, at)) {
        struct batch *batch = CONTAINER(at, struct batch, link);

        if (batch->in_flight)
            continue;
        batch->fenced = false;
        settle(sched, batch);
    }
    for (LIST_EACH(&sched->collecting, at)) {
        struct work *work = CONTAINER(at, struct work, link);

        if (work->shard->owned)
            continue;
        work_uncollect(sched, work); /* or the next batch would count as full for ever */
        work_drop(sched, work);
    }
    for (LIST_EACH(&sched->evaluating, at)) {
        struct work *work = CONTAINER(at, struct work, link);

        if (!work->shard->owned)
            work_drop(sched, work);
    }
}

static void free_works(struct sched *sched, struct link *works)
{
    for (LIST_EACH(works, at)) {
        struct work *work = CONTAINER(at, struct work, link);

        for (struct input *input = work->first, *next; input != NULL; input = next) {
            next = input->next;
            if (input->delivery == NULL && input->command == NULL)
                mem_free(input);
        }
        if (work->entry != NULL) {
            work->entry->work = NULL;
            if (work->entry->lost)
                run_free(sched, work->entry);
            work->entry = NULL;
        }
        work_free(sched, work);
    }
}

void batches_free(struct sched *sched)
{
    for (LIST_EACH(&sched->batches, at)) {
        struct batch *batch = CONTAINER(at, struct batch, link);

        free_works(sched, &batch->works);
        batch_free(batch);
    }
    free_works(sched, &sched->collecting);
    free_works(sched, &sched->evaluating);
}
