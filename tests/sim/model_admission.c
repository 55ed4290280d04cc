/* Concurrency keys: what the function admission_apply of the schema does. */
#include "tests/sim/model_commit.h"

#include "common/base/banned.h"

#define NO_BOUND UINT32_MAX
#define ADMITTED_MAX 100 /* of those that wait, by one batch */

struct telling { /* shards of runs that are told something */
    struct sim *sim;
    int16_t *shards;
    size_t count, cap;
    uint32_t admitted;
};

static void told_shard(struct telling *t, int16_t shard)
{
    if (t->count == t->cap) {
        int16_t *grown;

        t->cap = t->cap == 0 ? 8 : 2 * t->cap;
        grown = arena_array(t->sim->arena, t->cap, sizeof(*grown));
        if (t->count > 0)
            memcpy(grown, t->shards, t->count * sizeof(*grown));
        t->shards = grown;
    }
    t->shards[t->count++] = shard;
}

static void tell(struct telling *t, const struct db_run *run, const char *kind, const char *body)
{
    (void)db_command_add(t->sim, run->number, kind, str_of(body), STR_NONE);
    told_shard(t, run->shard);
}

static void tell_granted(struct telling *t, const struct db_run *run, uint32_t seq)
{
    tell(t, run, "slot_grant", arena_printf(t->sim->arena, "{\"seq\":%u}", seq));
}

struct db_admission *db_find_admission(struct sim *sim, struct run_id key, const struct db_run *run)
{
    for (struct db_admission *a = sim->db.admissions; a != NULL; a = a->next)
        if (!a->gone && a->run == run && run_id_eq(a->key, key))
            return a;
    return NULL;
}

static uint32_t count_of(const struct sim *sim, struct run_id key, bool granted)
{
    uint32_t count = 0;

    for (const struct db_admission *a = sim->db.admissions; a != NULL; a = a->next)
        count += !a->gone && a->granted == granted && run_id_eq(a->key, key);
    return count;
}

static uint32_t bound_of(const struct sim *sim, uint32_t bound)
{
    if (bound != 0)
        return bound;
    return sim->db.max_running_runs == 0 ? NO_BOUND : sim->db.max_running_runs;
}

static struct db_admission *add(struct sim *sim, const struct sched_admission_row *row, struct db_run *run,
                                bool granted)
{
    struct db_admission *a = sim_new(sim, struct db_admission), **last = &sim->db.admissions;

    *a = (struct db_admission){.key = row->key, .run = run, .seq = row->seq, .bound = row->bound, .granted = granted};
    while (*last != NULL)
        last = &(*last)->next;
    *last = a;
    return a;
}

/* All but the newest `bound`, each once. The list is in the order in which they asked. */
static void make_room(struct telling *t, const struct sched_admission_row *row)
{
    uint32_t stay = row->bound, all = count_of(t->sim, row->key, true) + count_of(t->sim, row->key, false);
    char id[UUID_TEXT_SIZE];

    run_id_format(row->run, id);
    for (struct db_admission *a = t->sim->db.admissions; a != NULL && all > stay; a = a->next) {
        if (a->gone || !run_id_eq(a->key, row->key))
            continue;
        all--;
        if (!a->told)
            tell(t, a->run, "cancel", arena_printf(t->sim->arena, "{\"superseded_by\":\"%s\"}", id));
        a->told = true;
    }
}

static void asked(struct telling *t, const struct sched_admission_row *row, struct db_run *run)
{
    struct sim *sim = t->sim;
    struct db_admission *mine = db_find_admission(sim, row->key, run);
    bool takes = str_is(row->mode, "take");

    if (mine != NULL) {
        if (mine->seq < row->seq)
            mine->seq = row->seq;
        if (mine->granted && !takes)
            tell_granted(t, run, mine->seq);
        return;
    }
    if (run_ended(run->status))
        return;
#ifdef PLANT_ONE_MORE
    if (takes || (count_of(sim, row->key, false) == 0 && count_of(sim, row->key, true) <= bound_of(sim, row->bound))) {
#else
    if (takes || (count_of(sim, row->key, false) == 0 && count_of(sim, row->key, true) < bound_of(sim, row->bound))) {
#endif
        (void)add(sim, row, run, true);
        if (!takes)
            tell_granted(t, run, row->seq);
    } else if (str_is(row->mode, "skip")) {
        tell(t, run, "slot_grant", arena_printf(sim->arena, "{\"seq\":%u,\"refused\":true}", row->seq));
    } else {
        (void)add(sim, row, run, false);
        stats_operation(sim, OPERATION_QUEUE);
    }
    if (str_is(row->mode, "cancel_oldest"))
        make_room(t, row);
}

/* Others wait and may go on, but not by this batch. */
static void admit_later(struct telling *t, const struct sched_admission_row *row)
{
    char id[UUID_TEXT_SIZE];

    run_id_format(row->key, id);
    if (!db_key_is_asked(t->sim, row->key))
        (void)db_key_command_add(t->sim, row->key, "slot_release",
                                 str_of(arena_printf(t->sim->arena, "{\"run\":\"%s\",\"seq\":0}", id)));
    told_shard(t, row->shard);
}

static void grant(struct telling *t, const struct sched_admission_row *row)
{
    struct run_id key = row->key;

    for (struct db_admission *a = t->sim->db.admissions; a != NULL; a = a->next) {
        if (a->gone || a->granted || a->told || !run_id_eq(a->key, key))
            continue;
        if (count_of(t->sim, key, true) >= bound_of(t->sim, a->bound))
            return;
        if (t->admitted == ADMITTED_MAX) {
            admit_later(t, row);
            return;
        }
        t->admitted++;
        a->granted = true;
        tell_granted(t, a->run, a->seq);
    }
}

void db_write_admissions(struct sim *sim, const struct sched_batch *b, struct sched_commit_outcome *outcome)
{
    struct telling t = {.sim = sim};

    for (size_t i = 0; i < b->admission_count; i++) {
        const struct sched_admission_row *row = &b->admissions[i];
        struct db_run *run = db_find(sim, row->run);
        struct db_admission *mine = run == NULL ? NULL : db_find_admission(sim, row->key, run);

        if (row->shard != (int16_t)(run_id_slot(row->key) % SHARDS))
            sim_fail(sim, "a key of another shard is written");
        if (!row->release && run != NULL)
            asked(&t, row, run);
        else if (mine != NULL && mine->seq < row->seq)
            mine->gone = true;
        grant(&t, row);
    }
    outcome->told = t.shards;
    outcome->told_count = t.count;
}
