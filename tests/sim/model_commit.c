/* Transactions of batches. */
#include "common/base/ensure.h"
#include "tests/sim/model_commit.h"
#include "tests/sim/model_lease.h"

#include "common/base/banned.h"

struct transaction {
    struct transaction *next; /* of those that are open, or whose answers are held back */
    struct node *node;
    uint32_t incarnation;
    struct run_id me; /* of that life of the node */
    bool unheard;     /* another speaks for it */
    struct sched_batch batch;
    struct sched_commit_outcome outcome;
};

#define COPY_ROWS(field, number)                                                                                       \
    do {                                                                                                               \
        void *copy_ = arena_array(arena, from->number, sizeof(*from->field));                                          \
        if (from->number > 0)                                                                                          \
            memcpy(copy_, from->field, from->number * sizeof(*from->field));                                           \
        to->field = copy_;                                                                                             \
    } while (0)

/* The text of a batch is the core's: it may die before the server has read it. */
static void copy_batch(struct arena *arena, const struct sched_batch *from, struct sched_batch *to)
{
    struct sched_event_row *events;
    struct event *copies;

    *to = *from;
    COPY_ROWS(shards, shard_count);
    COPY_ROWS(epochs, shard_count);
    COPY_ROWS(events, event_count);
    COPY_ROWS(opens, open_count);
    COPY_ROWS(closes, close_count);
    COPY_ROWS(changes, change_count);
    COPY_ROWS(runs, run_count);
    COPY_ROWS(children, child_count);
    COPY_ROWS(command_deletes, command_delete_count);
    COPY_ROWS(command_holds, command_hold_count);
    COPY_ROWS(command_inserts, command_insert_count);
    COPY_ROWS(admissions, admission_count);
    COPY_ROWS(dead_letters, dead_letter_count);
    COPY_ROWS(quarantines, quarantine_count);
    COPY_ROWS(releases, release_count);
    COPY_ROWS(notices, notice_count);
    events = (struct sched_event_row *)(uintptr_t)to->events;
    copies = arena_array(arena, to->event_count, sizeof(*copies));
    for (size_t i = 0; i < to->event_count; i++) {
        copies[i] = *events[i].event;
        copies[i].step = str_arena(arena, copies[i].step);
        copies[i].output = str_arena(arena, copies[i].output);
        events[i].event = &copies[i];
        events[i].data = str_arena(arena, events[i].data);
    }
    for (size_t i = 0; i < to->open_count; i++) {
        struct sched_open_row *row = (struct sched_open_row *)(uintptr_t)&to->opens[i];

        row->step = str_arena(arena, row->step);
        row->pool = str_arena(arena, row->pool);
        row->event_type = str_arena(arena, row->event_type);
        row->event_source = str_arena(arena, row->event_source);
        row->reason = row->reason == NULL ? NULL : arena_dup(arena, row->reason, strlen(row->reason));
    }
    for (size_t i = 0; i < to->change_count; i++) {
        struct sched_change_row *row = (struct sched_change_row *)(uintptr_t)&to->changes[i];

        row->reason = row->reason == NULL ? NULL : arena_dup(arena, row->reason, strlen(row->reason));
    }
    for (size_t i = 0; i < to->child_count; i++) {
        struct sched_child_row *row = (struct sched_child_row *)(uintptr_t)&to->children[i];

        row->parent_step = str_arena(arena, row->parent_step);
        row->workflow = str_arena(arena, row->workflow);
        row->input = str_arena(arena, row->input);
    }
    for (size_t i = 0; i < to->command_insert_count; i++) {
        struct sched_command_insert *row = (struct sched_command_insert *)(uintptr_t)&to->command_inserts[i];

        row->body = str_arena(arena, row->body);
    }
    for (size_t i = 0; i < to->admission_count; i++) {
        struct sched_admission_row *row = (struct sched_admission_row *)(uintptr_t)&to->admissions[i];

        row->mode = str_arena(arena, row->mode);
        row->workflow = str_arena(arena, row->workflow);
        row->name = str_arena(arena, row->name);
    }
}

static enum sched_outcome fenced(struct sim *sim, const struct transaction *t)
{
#ifndef PLANT_NO_EPOCH
    for (size_t i = 0; i < t->batch.shard_count; i++) {
        const struct db_shard *shard = &sim->db.shards[t->batch.shards[i]];

        if (!shard->owned || !run_id_eq(shard->incarnation, t->me) || shard->epoch != t->batch.epochs[i])
            return SCHED_FENCED;
    }
#else
    (void)sim;
    (void)t;
#endif
    return SCHED_COMMITTED;
}

static bool event_twice(const struct sched_batch *b, size_t n)
{
    /* As a rule those of a run come in order. */
    if (n == 0 || !run_id_eq(b->events[n].run, b->events[n - 1].run) ||
        b->events[n].event->seq > b->events[n - 1].event->seq)
        return false;
    for (size_t i = 0; i < n; i++)
        if (b->events[i].event->seq == b->events[n].event->seq && run_id_eq(b->events[i].run, b->events[n].run))
            return true;
    return false;
}

/* Rows are closed before others are opened. */
static bool work_is_there(struct sim *sim, const struct sched_batch *b, size_t n)
{
    const struct sched_open_row *row = &b->opens[n];
    bool there = db_find_work(db_find(sim, row->run), row->seq) != NULL;

    for (size_t i = 0; there && i < b->close_count; i++)
        there = b->closes[i].seq != row->seq || !run_id_eq(b->closes[i].run, row->run);
    for (size_t i = 0; !there && i < n; i++)
        there = b->opens[i].seq == row->seq && run_id_eq(b->opens[i].run, row->run);
    return there;
}

static bool child_is_there(struct sim *sim, const struct sched_batch *b, size_t n)
{
    bool there = db_find(sim, b->children[n].run) != NULL;

    for (size_t i = 0; !there && i < n; i++)
        there = run_id_eq(b->children[i].run, b->children[n].run) && db_child_fault(sim, &b->children[i]) == NULL;
    return there;
}

/* Would it be refused? Nothing is written yet. */
static enum sched_outcome examine(struct sim *sim, const struct transaction *t, struct run_id *culprit)
{
    /* Now and then for no reason that anybody knows of: whoever is told so has to look again. */
    if (t->batch.event_count > 0 && sim_chances(sim, DECIDE_CONFLICT, sim->refuse_commit)) {
        *culprit = t->batch.events[rng_below(&sim->streams[DECIDE_CONFLICT], (uint32_t)t->batch.event_count)].run;
        return SCHED_CONFLICT;
    }
    for (size_t i = 0; i < t->batch.event_count; i++) {
        const struct sched_event_row *row = &t->batch.events[i];
        const struct db_run *run = db_find(sim, row->run);

        *culprit = row->run;
        if (run->refuses && row->event->seq >= 3 && row->event->type < EVENT_COMMAND_APPLIED)
            return SCHED_REFUSED;
        if (db_find_event(run, row->event->seq) != NULL || event_twice(&t->batch, i))
            return SCHED_CONFLICT;
    }
    for (size_t i = 0; i < t->batch.open_count; i++) {
        *culprit = t->batch.opens[i].run;
        if (work_is_there(sim, &t->batch, i))
            return SCHED_CONFLICT;
    }
    for (size_t i = 0; i < t->batch.child_count; i++) {
        *culprit = t->batch.children[i].parent;
        if (db_child_fault(sim, &t->batch.children[i]) == NULL && child_is_there(sim, &t->batch, i))
            return SCHED_CONFLICT;
    }
    return SCHED_COMMITTED;
}

static void check_touched(struct sim *sim, const struct sched_batch *b)
{
    const struct db_run *last = NULL;

    for (size_t i = 0; i < b->event_count && !sim->failed; i++) {
        struct db_run *run = db_find(sim, b->events[i].run);

        if (run != last)
            check_run(sim, run);
        last = run;
    }
    for (size_t i = 0; i < b->command_delete_count && !sim->failed; i++) {
        const struct db_command *command = db_find_command(sim, b->command_deletes[i]);

        if (command == NULL || command->run == NO_RUN)
            continue;
        check_run(sim, sim->db.runs[command->run]);
        check_command_gone(sim, command);
    }
}

static void execute(struct sim *sim, struct transaction *t)
{
    struct run_id culprit = {{0}};

    static const char *const names[] = {"committed", "fenced", "conflict", "refused", "unavailable", "unknown"};

    t->outcome.outcome = fenced(sim, t);
    if (t->outcome.outcome == SCHED_COMMITTED)
        t->outcome.outcome = examine(sim, t, &culprit);
    sim_trace(sim, "batch %llu of %s: %s, %zu events, %zu commands", (unsigned long long)t->batch.number, t->node->name,
              names[t->outcome.outcome], t->batch.event_count, t->batch.command_delete_count);
    for (size_t i = 0; i < t->batch.event_count; i++)
        sim_trace(sim, "    run %u event %u %s " STR_FMT " " STR_FMT, db_find(sim, t->batch.events[i].run)->number,
                  t->batch.events[i].event->seq, event_type_name(t->batch.events[i].event->type),
                  STR_ARG(t->batch.events[i].event->step), STR_ARG(t->batch.events[i].data));
    switch (t->outcome.outcome) {
    case SCHED_COMMITTED:
        for (size_t i = 0; i < t->batch.shard_count; i++)
            if (t->batch.epochs[i] < sim->db.shards[t->batch.shards[i]].epoch)
                sim_fail(sim, "a batch of epoch %lld was committed in epoch %lld", (long long)t->batch.epochs[i],
                         (long long)sim->db.shards[t->batch.shards[i]].epoch);
        for (size_t i = 0; i < t->batch.event_count; i++)
            check_format(sim, db_find(sim, t->batch.events[i].run), t->batch.events[i].event);
        db_write_rows(sim, &t->batch);
        db_write_admissions(sim, &t->batch, &t->outcome);
        check_touched(sim, &t->batch);
        sim->db.commits++;
        break;
    case SCHED_FENCED:
        sim->db.fenced++;
        break;
    case SCHED_CONFLICT:
    case SCHED_REFUSED:
        sim->db.conflicts += t->outcome.outcome == SCHED_CONFLICT;
        sim->db.refused += t->outcome.outcome == SCHED_REFUSED;
        t->outcome.has_run = rng_chance(&sim->streams[DECIDE_CONFLICT], 5000);
        t->outcome.run = culprit;
        break;
    case SCHED_UNAVAILABLE:
    case SCHED_UNKNOWN:
        break;
    }
}

static struct point passes(struct sim *sim, const struct transaction *t, const char *what)
{
    struct point all = {0};

    for (size_t i = 0; i < t->batch.event_count && sim->on_point != NULL; i++) {
        const struct sched_event_row *row = &t->batch.events[i];
        struct point point = sim_point(sim, t->node, "%s %u:%s " STR_FMT, what, db_find(sim, row->run)->number,
                                       event_type_name(row->event->type), STR_ARG(row->event->step));

        all.unknown |= point.unknown;
        all.undone |= point.undone;
        all.conflict |= point.conflict;
        all.unavailable |= point.unavailable;
    }
    return all;
}

static void answered(struct sim *sim, void *what)
{
    struct transaction *t = what;

    t->node->db_offset = sim->db.clock_offset;
    sched_on_committed(t->node->sched, t->batch.number, &t->outcome);
    node_turn(t->node);
}

/* It keeps its shards until it ends: nobody takes them meanwhile. */
static void open_transaction(struct sim *sim, struct transaction *t)
{
    t->next = sim->db.open;
    sim->db.open = t;
}

/* False: somebody has ended it. */
static bool close_transaction(struct sim *sim, const struct transaction *t)
{
    for (struct transaction **at = &sim->db.open; *at != NULL; at = &(*at)->next)
        if (*at == t) {
            *at = t->next;
            return true;
        }
    return false;
}

static bool is_of(const struct transaction *t, int16_t shard)
{
    for (size_t i = 0; i < t->batch.shard_count; i++)
        if (t->batch.shards[i] == shard)
            return true;
    return false;
}

bool db_is_locked(const struct sim *sim, int16_t shard)
{
    for (const struct transaction *t = sim->db.open; t != NULL; t = t->next)
        if (is_of(t, shard))
            return true;
    return false;
}

static void late(struct sim *sim, void *what)
{
    struct transaction *t = what;

    if (!sim->late && !close_transaction(sim, t))
        return;
    execute(sim, t);
    if (t->outcome.outcome == SCHED_COMMITTED && t->batch.quarantine_count + t->batch.release_count > 0)
        sim->db.late_hold = true;
}

static void reply(struct sim *sim, struct transaction *t, int64_t decided_us)
{
    if (t->unheard)
        return;
    if (sim->db.mute) {
        t->next = sim->db.muted;
        sim->db.muted = t;
    } else if (t->node->alive && t->node->incarnation == t->incarnation) {
        sim_after(sim, decided_us + 100, decided_us + 3 * MS, t->node, answered, t);
    }
}

void db_hold(struct sim *sim, bool hold)
{
    sim->db.hold = hold;
    while (!hold && sim->db.open != NULL) {
        struct transaction *t = sim->db.open;

        sim->db.open = t->next;
        execute(sim, t);
        reply(sim, t, 0);
    }
}

void db_end_holders(struct sim *sim, int16_t shard, enum sched_outcome outcome)
{
    for (struct transaction *t = sim->db.open, *next; t != NULL; t = next) {
        next = t->next;
        if (shard >= 0 && !is_of(t, shard))
            continue;
        (void)close_transaction(sim, t);
        t->outcome.outcome = outcome;
        reply(sim, t, 0);
    }
}

void db_cut(struct sim *sim)
{
    sim->db.mute = false;
    db_end_holders(sim, -1, SCHED_UNKNOWN);
    while (sim->db.muted != NULL) {
        struct transaction *t = sim->db.muted;

        sim->db.muted = t->next;
        t->outcome.outcome = SCHED_UNKNOWN;
        reply(sim, t, 0);
    }
}

/* Nobody will know whether it was carried out: it is, it is not, or it is later. Returns when that is decided. */
static int64_t lose_answer(struct sim *sim, struct transaction *t, const struct point *point)
{
    struct transaction *copy = sim_new(sim, struct transaction);
    uint32_t luck = point->unknown ? (point->undone ? 2 : 0) : rng_below(&sim->streams[DECIDE_UNKNOWN], 3);
    int64_t takes = 0;

    *copy = *t;
    copy->unheard = true;
    if (luck == 0) {
        execute(sim, copy);
    } else if (luck == 1) { /* the connection is gone, the server is still at it */
        takes = rng_between(&sim->streams[DECIDE_UNKNOWN], 1 * MS, 4 * SEC);
        if (!sim->late && fenced(sim, copy) == SCHED_COMMITTED)
            open_transaction(sim, copy);
        sim_at(sim, sim->now + takes, NULL, late, copy);
    }
    sim->db.unknown++;
#ifdef PLANT_UNKNOWN_IS_DONE
    t->outcome.outcome = SCHED_COMMITTED;
#else
    t->outcome.outcome = SCHED_UNKNOWN;
#endif
    return sim->late ? 0 : takes; /* the store calls an outcome unknown only when it is decided */
}

/* At the server: carried out whether or not the one that asked still lives. */
static void arrived(struct sim *sim, void *what)
{
    struct transaction *t = what;
    struct point point = passes(sim, t, "committing");
    int64_t decided_us = 0;

    if (sim->db.down_until > sim->now || point.unavailable) {
        t->outcome.outcome = SCHED_UNAVAILABLE;
    } else if (sim->db.hold && fenced(sim, t) == SCHED_COMMITTED) {
        open_transaction(sim, t);
        return;
    } else if (point.conflict) {
        t->outcome.outcome = SCHED_CONFLICT;
    } else if (point.unknown || sim_chances(sim, DECIDE_UNKNOWN, sim->unknown_commit)) {
        decided_us = lose_answer(sim, t, &point);
    } else if (sim_chances(sim, DECIDE_UNAVAILABLE, sim->refuse_commit)) {
        t->outcome.outcome = SCHED_UNAVAILABLE;
    } else {
        execute(sim, t);
    }
    if (t->outcome.outcome == SCHED_COMMITTED)
        (void)passes(sim, t, "committed");
    reply(sim, t, decided_us);
}

void db_commit(void *ctx, const struct sched_batch *batch)
{
    struct node *node = ctx;
    struct transaction *t = sim_new(node->sim, struct transaction);

    if (node->dying)
        return;
    t->node = node;
    t->incarnation = node->incarnation;
    t->me = member_id(node);
    copy_batch(node->sim->arena, batch, &t->batch);
#ifdef PLANT_TELL_EARLY
    for (size_t i = 0; i < t->batch.command_insert_count; i++)
        if (strcmp(t->batch.command_inserts[i].kind, "child_ended") == 0)
            db_insert_command(node->sim, &t->batch.command_inserts[i]);
#endif
    sim_after(node->sim, 100, 3 * MS, NULL, arrived, t);
}
