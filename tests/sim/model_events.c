/* Events that gateways take, and the steps that wait for them: incoming_event and its triggers, event_look. An arrival
 * and a look are one moment each: that events of a type and looks for them keep each other waiting is shown on
 * PostgreSQL (tests/contract/store_events.c). */
#include "tests/sim/sim.h"

#include "common/base/banned.h"

#define LOOKS_MAX 2 /* next to nothing at once, so that there is always more */
#define LOOK_EVENTS 2

bool db_waits_for(const struct db_work *work, const struct db_incoming *event)
{
    return work->row.kind == WORK_EVENT && str_eq(work->row.event_type, event->type) &&
           (work->row.event_source.ptr == NULL || str_eq(work->row.event_source, event->source));
}

static void tell(struct sim *sim, const struct db_run *run, const struct db_work *work, const struct db_incoming *event)
{
    struct str body =
        str_of(arena_printf(sim->arena, "{\"seq\":%u,\"event\":" STR_FMT "}", work->row.seq, STR_ARG(event->json)));

    (void)db_command_add(sim, run->number, "event", body, STR_NONE);
}

void db_event_comes(struct sim *sim, struct str type, struct str source, struct str data)
{
    struct db *db = &sim->db;
    struct db_incoming *event;

    if (db->incoming_count == db->incoming_cap) {
        struct db_incoming *grown;

        db->incoming_cap = db->incoming_cap == 0 ? 16 : 2 * db->incoming_cap;
        grown = arena_array(sim->arena, db->incoming_cap, sizeof(*grown));
        if (db->incoming_count > 0)
            memcpy(grown, db->incoming, db->incoming_count * sizeof(*grown));
        db->incoming = grown;
    }
    event = &db->incoming[db->incoming_count++];
    *event = (struct db_incoming){
        .at = db_wall(sim), .type = str_arena(sim->arena, type), .source = str_arena(sim->arena, source)};
    event->json = str_of(arena_printf(
        sim->arena, "{\"id\":\"%zu\",\"type\":\"" STR_FMT "\",\"source\":\"" STR_FMT "\",\"data\":" STR_FMT "}",
        db->incoming_count, STR_ARG(type), STR_ARG(source), STR_ARG(data)));
    sim_trace(sim, "event " STR_FMT, STR_ARG(event->json));
    for (uint32_t i = 0; i < db->run_count; i++)
        for (size_t w = 0; w < db->runs[i]->work_count; w++)
            if (db->runs[i]->work[w].open && db->runs[i]->work[w].looked &&
                db_waits_for(&db->runs[i]->work[w], event)) {
                tell(sim, db->runs[i], &db->runs[i]->work[w], event);
                load_nudge(sim, db->runs[i]->shard);
            }
}

void db_wait_opened(struct sim *sim, const struct db_run *run, struct db_work *work)
{
    int64_t now = db_wall(sim), opened_at = work->row.opened_at.us;

    if (work->row.look_back_us < 0)
        work->since = run->created_at;
    else
        work->since = (opened_at < now ? opened_at : now) - work->row.look_back_us;
}

/* ---- looking back ---- */

struct look {
    struct node *node;
    size_t count;
    int16_t shards[SHARDS];
    bool told, remaining, failed;
};

static bool is_told(const struct sim *sim, const struct db_run *run)
{
    for (size_t i = 0; i < sim->db.command_count; i++) {
        const struct db_command *c = &sim->db.commands[i];

        if (!c->deleted && c->run == run->number && strcmp(c->kind, "event") == 0)
            return true;
    }
    return false;
}

/* The rows that are to look, in any order. */
static struct db_work **due_rows(struct sim *sim, const struct look *look, struct db_run ***ret_runs,
                                 uint32_t *ret_count)
{
    struct db_work **rows;
    size_t most = 0;

    for (uint32_t i = 0; i < sim->db.run_count; i++)
        most += sim->db.runs[i]->work_count;
    rows = arena_array(sim->arena, most, sizeof(struct db_work *));
    *ret_runs = arena_array(sim->arena, most, sizeof(struct db_run *));
    *ret_count = 0;
    for (uint32_t i = 0; i < sim->db.run_count; i++) {
        struct db_run *run = sim->db.runs[i];

        for (size_t w = 0; w < run->work_count; w++) {
            struct db_work *work = &run->work[w];
            bool mine = false;

            for (size_t s = 0; s < look->count; s++)
                mine |= look->shards[s] == run->shard;
            if (!mine || !work->open || work->row.kind != WORK_EVENT || work->looked)
                continue;
            (*ret_runs)[*ret_count] = run;
            rows[(*ret_count)++] = work;
        }
    }
    return rows;
}

/* Gives how many commands. */
static size_t look_for(struct sim *sim, const struct db_run *run, struct db_work *work)
{
    size_t told = 0;

#ifdef PLANT_NO_LOOK_BACK
    work->seen = sim->db.incoming_count;
#endif
    while (work->seen < sim->db.incoming_count && told < LOOK_EVENTS) {
        const struct db_incoming *event = &sim->db.incoming[work->seen++];

        if (!db_waits_for(work, event) || event->at < work->since)
            continue;
        tell(sim, run, work, event);
        told++;
    }
    work->looked = told < LOOK_EVENTS;
    return told;
}

static void looked(struct sim *sim, void *what)
{
    struct look *look = what;

    (void)sim;
    sched_on_looked(look->node->sched, look->told, look->remaining, look->failed);
    node_turn(look->node);
}

static void look_back(struct sim *sim, void *what)
{
    struct look *look = what;
    struct db_run **runs;
    uint32_t count, left;
    struct db_work **rows = due_rows(sim, look, &runs, &count);
    bool away = sim->db.down_until > sim->now, fails = away || sim_chances(sim, DECIDE_READ, sim->fail_load);

    /* what fails may have been done all the same */
    for (uint32_t i = 0, looks = 0; i < count && looks < LOOKS_MAX && !away; i++) {
        if (is_told(sim, runs[i]))
            continue;
        look->told |= look_for(sim, runs[i], rows[i]) > 0;
        looks++;
    }
    (void)due_rows(sim, look, &runs, &left);
    look->remaining = left > 0;
    look->failed = fails;
    if (sim_chances(sim, DECIDE_LATE, sim->late_answers))
        sim_at(sim, sim->now + rng_between(&sim->streams[DECIDE_LATE], 10 * MS, 8 * SEC), look->node, looked, look);
    else
        sim_after(sim, 50, 2 * MS, look->node, looked, look);
}

void db_look_back(void *ctx, const int16_t *shards, size_t count)
{
    struct node *node = ctx;
    struct look *look = sim_new(node->sim, struct look);

    *look = (struct look){.node = node, .count = count};
    memcpy(look->shards, shards, count * sizeof(*shards));
    sim_after(node->sim, 100, 2 * MS, node, look_back, look);
}
