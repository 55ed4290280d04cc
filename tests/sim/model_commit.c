/* Transactions of batches. */
#include "common/base/ensure.h"
#include "tests/sim/model_commit.h"

#include "common/base/banned.h"

struct transaction {
    struct node *node;
    uint32_t incarnation;
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
    COPY_ROWS(dead_letters, dead_letter_count);
    COPY_ROWS(quarantines, quarantine_count);
    COPY_ROWS(releases, release_count);
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
}

static enum sched_outcome fenced(struct sim *sim, const struct transaction *t)
{
#ifndef PLANT_NO_EPOCH
    for (size_t i = 0; i < t->batch.shard_count; i++) {
        const struct db_shard *shard = &sim->db.shards[t->batch.shards[i]];

        if (shard->owner != t->node || shard->incarnation != t->incarnation || shard->epoch != t->batch.epochs[i])
            return SCHED_FENCED;
    }
#else
    (void)sim;
    (void)t;
#endif
    return SCHED_COMMITTED;
}

static struct db_work *find_row(struct db_run *run, uint32_t seq)
{
    for (size_t i = 0; i < run->work_count; i++)
        if (run->work[i].row.seq == seq)
            return &run->work[i];
    return NULL;
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
        if (row->event->seq <= run->event_count)
            return SCHED_CONFLICT;
    }
    for (size_t i = 0; i < t->batch.child_count; i++) {
        *culprit = t->batch.children[i].parent;
        if (db_find(sim, t->batch.children[i].run) != NULL)
            return SCHED_CONFLICT;
    }
    for (size_t i = 0; i < t->batch.open_count; i++) {
        *culprit = t->batch.opens[i].run;
        if (find_row(db_find(sim, *culprit), t->batch.opens[i].seq) != NULL)
            return SCHED_CONFLICT;
    }
    return SCHED_COMMITTED;
}

static void insert_event(struct sim *sim, const struct sched_event_row *row)
{
    struct db_run *run = db_find(sim, row->run);

    if (row->event->seq != run->event_count + 1) {
        sim_fail(sim, "a gap: event %u of run %u follows %zu", row->event->seq, run->number, run->event_count);
        return;
    }
    if (run->event_count == run->event_cap) {
        struct db_event *grown;

        run->event_cap = run->event_cap == 0 ? 32 : 2 * run->event_cap;
        grown = arena_array(sim->arena, run->event_cap, sizeof(*grown));
        if (run->event_count > 0)
            memcpy(grown, run->events, run->event_count * sizeof(*grown));
        run->events = grown;
    }
    run->events[run->event_count++] = (struct db_event){.seq = row->event->seq,
                                                        .type = (int16_t)row->event->type,
                                                        .at = row->event->at.us,
                                                        .step = row->event->step,
                                                        .data = row->data,
                                                        .output = row->event->output,
                                                        .attempt = row->event->attempt};
}

static void insert_work(struct sim *sim, const struct sched_open_row *row)
{
    struct db_run *run = db_find(sim, row->run);

    if (run->work_count == run->work_cap) {
        struct db_work *grown;

        run->work_cap = run->work_cap == 0 ? 16 : 2 * run->work_cap;
        grown = arena_array(sim->arena, run->work_cap, sizeof(*grown));
        if (run->work_count > 0)
            memcpy(grown, run->work, run->work_count * sizeof(*grown));
        run->work = grown;
    }
    run->work[run->work_count++] = (struct db_work){.open = true, .row = *row};
}

static struct db_command *find_command(struct sim *sim, struct sched_command_key key)
{
    ENSURE(key.id >= 1 && (size_t)key.id <= sim->db.command_count);
    return &sim->db.commands[key.id - 1];
}

/* A child run and its command, or the news for the parent that there is none: batch_child_start.sql. */
static void insert_child(struct sim *sim, const struct sched_child_row *row)
{
    const struct db_workflow *workflow = db_workflow_find(sim, row->workflow);
    const char *fault = NULL;
    struct db_run *parent = db_find(sim, row->parent), *run;
    char id[UUID_TEXT_SIZE];

    run_id_format(row->run, id);
    if (row->depth != parent->depth + 1 || row->depth > CHILD_LEVELS_MAX || row->shard != parent->shard ||
        (int16_t)(run_id_slot(row->run) % SHARDS) != parent->shard)
        sim_fail(sim, "child %s of run %u is in another shard, or too deep", id, parent->number);
    if (workflow == NULL)
        fault = "unknown_workflow";
    else if (workflow->disabled)
        fault = "workflow_disabled";
    else if (row->version > workflow->version_count)
        fault = "unknown_version";
    if (fault != NULL) {
        (void)db_command_add(
            sim, parent->number, "child_ended",
            str_of(arena_printf(sim->arena,
                                "{\"child\":\"%s\",\"step\":\"" STR_FMT
                                "\",\"status\":\"failed\",\"error\":{\"code\":\"%s\",\"message\":\"no child\"}}",
                                id, STR_ARG(row->parent_step), fault)),
            STR_NONE);
        return;
    }
    run = db_run_add(sim, row->run, workflow, row->version == 0 ? workflow->version_count : row->version);
    run->parent = parent;
    run->parent_step = row->parent_step;
    run->depth = row->depth;
    run->priority = row->priority;
    run->input = row->input;
    run->created_at = row->created_at.us;
    sim->stats->children++;
    (void)db_command_add(sim, run->number, "start", STR_NONE, STR_NONE);
}

static void insert_command(struct sim *sim, const struct sched_command_insert *row)
{
    struct db_run *run = db_find(sim, row->run);
    char text[UUID_TEXT_SIZE + 2];
    int64_t id;

    if (run == NULL)
        return;
    id = db_command_add(sim, run->number, row->kind, row->body, STR_NONE);
    sim->db.commands[id - 1].held = row->held;
    if (strcmp(row->kind, "child_ended") != 0)
        return;
    for (uint32_t i = 0; i < sim->db.run_count; i++) {
        text[0] = '"';
        run_id_format(sim->db.runs[i]->id, text + 1);
        text[UUID_TEXT_SIZE] = '"';
        if (str_eq(jt_get(row->body, "child"), (struct str){text, UUID_TEXT_SIZE + 1}))
            sim->db.runs[i]->told++;
    }
}

/* The runs of commands that are gone, of children that ended, ... are looked at like those that have new events. */
static void delete_command(struct sim *sim, struct sched_command_key key)
{
    find_command(sim, key)->deleted = true;
}

static void write_rows(struct sim *sim, const struct sched_batch *b)
{
    for (size_t i = 0; i < b->event_count && !sim->failed; i++)
        insert_event(sim, &b->events[i]);
    for (size_t i = 0; i < b->close_count; i++) {
        struct db_work *row = find_row(db_find(sim, b->closes[i].run), b->closes[i].seq);

        if (row != NULL)
            row->open = false;
    }
    for (size_t i = 0; i < b->open_count; i++)
        insert_work(sim, &b->opens[i]);
    for (size_t i = 0; i < b->change_count; i++) {
        struct db_work *row = find_row(db_find(sim, b->changes[i].run), b->changes[i].seq);

        if (row == NULL || !row->open || row->row.dispatch > b->changes[i].dispatch)
            continue;
        row->row.dispatch = b->changes[i].dispatch;
        row->row.due_at = b->changes[i].due_at;
        row->row.reason = b->changes[i].reason;
    }
    for (size_t i = 0; i < b->run_count; i++) {
        struct db_run *run = db_find(sim, b->runs[i].run);

        run->status = b->runs[i].status;
        if (b->runs[i].ended_at.us != 0 || b->runs[i].reopened)
            run->ended_at = b->runs[i].ended_at.us;
    }
    for (size_t i = 0; i < b->command_delete_count; i++)
        delete_command(sim, b->command_deletes[i]);
    for (size_t i = 0; i < b->command_hold_count; i++)
        find_command(sim, b->command_holds[i])->held = true;
    for (size_t i = 0; i < b->child_count; i++)
        insert_child(sim, &b->children[i]);
    for (size_t i = 0; i < b->command_insert_count; i++) {
#ifdef PLANT_TELL_EARLY
        if (strcmp(b->command_inserts[i].kind, "child_ended") == 0)
            continue;
#endif
        insert_command(sim, &b->command_inserts[i]);
    }
    for (size_t i = 0; i < b->quarantine_count; i++)
        db_find(sim, b->quarantines[i].run)->quarantined = true;
    for (size_t i = 0; i < b->release_count; i++) {
        struct db_run *run = db_find(sim, b->releases[i].run);

        run->quarantined = false;
        sim->stats->released++;
        run->refuses = false; /* whoever released it has mended what was wrong */
        for (size_t c = 0; c < sim->db.command_count; c++)
            if (sim->db.commands[c].run == run->number)
                sim->db.commands[c].held = false;
    }
    sim->db.dead_letters += b->dead_letter_count;
    sim->db.changed = true;
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
        const struct db_command *command = find_command(sim, b->command_deletes[i]);

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
        write_rows(sim, &t->batch);
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

static void answered(struct sim *sim, void *what)
{
    struct transaction *t = what;

    t->node->db_offset = sim->db.clock_offset;
    sched_on_committed(t->node->sched, t->batch.number, &t->outcome);
    node_turn(t->node);
}

static void late(struct sim *sim, void *what)
{
    struct transaction *t = what;

    execute(sim, t);
    if (t->outcome.outcome == SCHED_COMMITTED && t->batch.quarantine_count + t->batch.release_count > 0)
        sim->db.late_hold = true;
}

/* At the server: carried out whether or not the one that asked still lives. */
static void arrived(struct sim *sim, void *what)
{
    struct transaction *t = what;
    int64_t decided_us = 0;

    if (sim->db.down_until > sim->now) {
        t->outcome.outcome = SCHED_UNAVAILABLE;
    } else if (sim_chances(sim, DECIDE_UNKNOWN, sim->unknown_commit)) {
        struct transaction *copy = sim_new(sim, struct transaction);
        int64_t takes = 0;

        *copy = *t;
        switch (rng_below(&sim->streams[DECIDE_UNKNOWN], 3)) {
        case 0:
            execute(sim, copy);
            break;
        case 1: /* the connection is gone, the server is still at it */
            takes = rng_between(&sim->streams[DECIDE_UNKNOWN], 1 * MS, 4 * SEC);
            sim_at(sim, sim->now + takes, NULL, late, copy);
            break;
        default:
            break;
        }
        /* The store calls an outcome unknown only when it is decided. */
        decided_us = sim->late ? 0 : takes;
        sim->db.unknown++;
#ifdef PLANT_UNKNOWN_IS_DONE
        t->outcome.outcome = SCHED_COMMITTED;
#else
        t->outcome.outcome = SCHED_UNKNOWN;
#endif
    } else if (sim_chances(sim, DECIDE_UNAVAILABLE, sim->refuse_commit)) {
        t->outcome.outcome = SCHED_UNAVAILABLE;
    } else {
        execute(sim, t);
    }
    if (t->node->alive && t->node->incarnation == t->incarnation)
        sim_after(sim, decided_us + 100, decided_us + 3 * MS, t->node, answered, t);
}

void db_commit(void *ctx, const struct sched_batch *batch)
{
    struct node *node = ctx;
    struct transaction *t = sim_new(node->sim, struct transaction);

    t->node = node;
    t->incarnation = node->incarnation;
    copy_batch(node->sim->arena, batch, &t->batch);
#ifdef PLANT_TELL_EARLY
    for (size_t i = 0; i < t->batch.command_insert_count; i++)
        if (strcmp(t->batch.command_inserts[i].kind, "child_ended") == 0)
            insert_command(node->sim, &t->batch.command_inserts[i]);
#endif
    sim_after(node->sim, 100, 3 * MS, NULL, arrived, t);
}
