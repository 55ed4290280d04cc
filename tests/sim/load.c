/* What happens in a history: starts, signals and all that clients and operators ask for, and faults. */
#include "common/base/ensure.h"
#include "tests/sim/sim.h"
#include <inttypes.h>

#include "common/base/banned.h"

static void nudge(struct sim *sim, int16_t shard)
{
    broker_put(sim, arena_printf(sim->arena, "ropewalk.inbox.%d", shard), "nudge", "n",
               str_of(arena_printf(sim->arena, "{\"v\":1,\"shard\":%d}", shard)));
}

struct request {
    struct db_run *run;
    const char *kind;
    struct str body;
};

/* The gateway's transaction: from here on the run is acknowledged. */
static void accept(struct sim *sim, void *what)
{
    struct request *r = what;

    if (sim->db.down_until > sim->now) {
        sim_at(sim, sim->db.down_until + MS, NULL, accept, r);
        return;
    }
    if (strcmp(r->kind, "start") != 0 && r->run->created_at == 0)
        return; /* 404 */
    if (strcmp(r->kind, "start") == 0)
        r->run->created_at = sim->start_wall + sim->now;
    sim_trace(sim, "somebody asks to %s run %u " STR_FMT, r->kind, r->run->number, STR_ARG(r->body));
    db_command_add(sim, r->run->number, r->kind, r->body, rng_chance(&sim->rng, 3000) ? STR("gateway.1") : STR_NONE);
    nudge(sim, r->run->shard);
}

static void request(struct sim *sim, struct db_run *run, const char *kind, struct str body, int64_t at)
{
    struct request *r = sim_new(sim, struct request);

    *r = (struct request){run, kind, body};
    sim_at(sim, at, NULL, accept, r);
}

static void watch(struct sim *sim, void *what)
{
    const struct db_run *run = what;
    char id[UUID_TEXT_SIZE];

    run_id_format(run->id, id);
    broker_put(
        sim, arena_printf(sim->arena, "ropewalk.inbox.%d", run->shard), "watch", "x",
        str_of(arena_printf(sim->arena, "{\"v\":1,\"run_id\":\"%s\",\"reply_to\":\"gateway.1\",\"from_seq\":0}", id)));
}

/* ---- what is asked of runs that there are ---- */

static struct str signal_body(struct sim *sim, struct str name)
{
    struct str body;
    struct buf text;
    struct jw w;

    buf_init(&text, 65536);
    w = jw_to(&text);
    jw_obj(&w);
    jw_kstr(&w, "name", name); /* perhaps of a value that has quotes */
    jw_kraw(&w, "payload", rng_chance(&sim->rng, 2000) ? STR("null") : STR("{\"by\":\"a person\"}"));
    jw_end_obj(&w);
    body = str_arena(sim->arena, buf_str(&text));
    buf_deinit(&text);
    return body;
}

static struct str settle_body(struct sim *sim, struct str step)
{
    return str_of(arena_printf(sim->arena, "{\"step\":\"" STR_FMT "\",\"as\":\"%s\",\"output\":{\"settled\":true}}",
                               STR_ARG(step), rng_chance(&sim->rng, 6000) ? "succeeded" : "failed"));
}

/* A step of it whose outcome nobody knows; STR_NONE: none. */
static struct str unknown_step(const struct db_run *run)
{
    for (size_t i = 0; i < run->event_count; i++)
        if (run->events[i].type == EVENT_STEP_OUTCOME_UNKNOWN)
            return run->events[i].step;
    return STR_NONE;
}

/* Whatever comes to mind, whether it makes sense or not, of runs that are open or have ended. */
static void meddle(struct sim *sim, void *what)
{
    static const char *const names[] = {"go", "stop", "only", "n-1", "n-3", "nobody-waits"};
    struct db_run *run = sim->db.runs[rng_below(&sim->rng, sim->db.run_count)];
    struct str unknown = unknown_step(run);

    (void)what;
    switch (rng_below(&sim->rng, 8)) {
    case 0:
        for (int i = 0; i < 120 && rng_chance(&sim->rng, 9800); i++) /* more than a run keeps, now and then */
            request(sim, run, "signal", signal_body(sim, STR("nobody-waits")), sim->now);
        break;
    case 1:
        request(sim, run, "cancel", rng_chance(&sim->rng, 5000) ? STR("{\"compensate\":true}") : STR_NONE, sim->now);
        break;
    case 2:
        request(sim, run, "compensate", STR_NONE, sim->now);
        break;
    case 3:
        request(sim, run, "settle", settle_body(sim, unknown.ptr == NULL ? STR("s0") : unknown), sim->now);
        break;
    default:
        request(sim, run, "signal", signal_body(sim, str_of(names[rng_below(&sim->rng, 6)])), sim->now);
        break;
    }
}

/* A person looks after what waits for people without end. */
static void look_after(struct sim *sim, void *what)
{
    for (uint32_t i = 0; i < sim->db.run_count; i++) {
        struct db_run *run = sim->db.runs[i];

        for (size_t w = 0; w < run->work_count; w++) {
            const struct sched_open_row *row = &run->work[w].row;
            struct str name = STR_NONE;

            if (!run->work[w].open || row->due_at.us != 0 || (!sim->healed && rng_chance(&sim->rng, 7000)))
                continue;
            if (row->kind == WORK_UNKNOWN)
                request(sim, run, "settle", settle_body(sim, row->step), sim->now);
            if (row->kind == WORK_SIGNAL &&
                jt_string(jt_get(run->events[row->seq - 1].data, "name"), sim->arena, &name))
                request(sim, run, "signal", signal_body(sim, name), sim->now);
        }
        if (run_ended(run->status) && unknown_step(run).ptr != NULL && rng_chance(&sim->rng, 500))
            request(sim, run, "settle", settle_body(sim, unknown_step(run)), sim->now);
    }
    sim_after(sim, 3 * SEC, 6 * SEC, NULL, look_after, what);
}

/* Of a UUIDv7 all but the time, which nobody looks at here. */
static struct run_id make_id(struct sim *sim)
{
    uint64_t bits[2] = {rng_next(&sim->rng), rng_next(&sim->rng)};
    struct run_id id;

    memcpy(id.bytes, bits, sizeof(id.bytes));
    id.bytes[6] = (uint8_t)((id.bytes[6] & 0x0F) | 0x70);
    id.bytes[8] = (uint8_t)((id.bytes[8] & 0x3F) | 0x80);
    return id;
}

static void generate_run(struct sim *sim, const struct db_workflow *workflow)
{
    struct rng *rng = &sim->rng;
    struct db_run *run = db_run_add(sim, make_id(sim), workflow, 1);
    int64_t at = rng_between(rng, 0, 15 * SEC);

    run->input = str_of(arena_printf(sim->arena, "{\"x\":%u,\"list\":[%s]}", rng_below(rng, 5),
                                     rng_chance(rng, 5000) ? "\"one\",2" : "[1,2],[3]"));
    run->refuses = rng_chance(rng, 200);
    run->priority = (uint8_t)rng_below(rng, PRIORITY_COUNT);
    request(sim, run, "start", STR_NONE, at);
    if (rng_chance(rng, 1000))
        request(sim, run, "cancel", rng_chance(rng, 5000) ? STR("{\"compensate\":true}") : STR_NONE,
                at + rng_between(rng, 0, 10 * SEC));
    if (rng_chance(rng, 1000))
        sim_at(sim, at + rng_between(rng, 0, 5 * SEC), NULL, watch, run);
    if ((run->refuses && rng_chance(rng, 5000)) || rng_chance(rng, 100))
        request(sim, run, "release", STR_NONE, at + rng_between(rng, 5 * SEC, 25 * SEC));
    if (rng_chance(rng, 2000)) /* perhaps before anybody waits for it */
        request(sim, run, "signal", signal_body(sim, STR("go")), at + rng_between(rng, 0, 2 * SEC));
}

void generate_runs(struct sim *sim)
{
    uint32_t meddling = rng_chance(&sim->rng, 5000) ? rng_below(&sim->rng, 12) : 0;
    uint32_t workflows = 0;

    while (workflows < sim->db.workflow_count && sim->db.workflows[workflows].name[0] == 'w')
        generate_run(sim, &sim->db.workflows[workflows++]);
    for (uint32_t i = rng_below(&sim->rng, 4); i > 0; i--) /* more of one of them */
        generate_run(sim, &sim->db.workflows[rng_below(&sim->rng, workflows)]);
    for (uint32_t i = 0; i < meddling; i++)
        sim_after(sim, 0, 45 * SEC, NULL, meddle, NULL);
    sim_after(sim, 3 * SEC, 6 * SEC, NULL, look_after, NULL);
}

/* ---- faults ---- */

static void fault(struct sim *sim, void *what)
{
    struct node *node = &sim->nodes[rng_below(&sim->rng, SCHEDULERS + WORKERS)];

    (void)what;
    if (sim->healed)
        return;
    switch (rng_below(&sim->rng, 12)) {
    case 0:
    case 1:
    case 2:
    case 3:
        node_crash(sim, node);
        sim_after(sim, 10 * MS, 8 * SEC, NULL, node_start, node);
        break;
    case 4:
    case 5:
        node_freeze(sim, node, rng_between(&sim->rng, 100 * MS, 20 * SEC));
        break;
    case 6:
        sim->db.down_until = sim->now + rng_between(&sim->rng, 100 * MS, 6 * SEC);
        sim->stats->outages++;
        break;
    case 7:
        broker_restart(sim, rng_between(&sim->rng, 100 * MS, 8 * SEC));
        if (rng_chance(&sim->rng, 3000))
            broker_purge(sim, true);
        break;
    case 8:
        broker_purge(sim, rng_chance(&sim->rng, 3000));
        break;
    case 9:
        cache_flush(sim);
        break;
    case 10:
        sim->cache_down_until = sim->now + rng_between(&sim->rng, 100 * MS, 10 * SEC);
        break;
    default:
        node_disconnect(sim, node);
        break;
    }
}

void faults_plan(struct sim *sim)
{
    uint32_t badness = rng_below(&sim->rng, 4);
    uint32_t faults = badness == 0 ? 0 : rng_below(&sim->rng, 4 * badness);

    sim->suspect = badness > 0 && rng_chance(&sim->rng, 300) ? 500 : 0;
    sim->lose = badness * rng_below(&sim->rng, 150);
    sim->duplicate = badness * rng_below(&sim->rng, 300);
    sim->reorder = badness * rng_below(&sim->rng, 500);
    sim->unknown_commit = badness * rng_below(&sim->rng, 100);
    sim->refuse_commit = badness * rng_below(&sim->rng, 50);
    sim->fail_load = badness * rng_below(&sim->rng, 50);
    for (uint32_t i = 0; i < faults; i++)
        sim_after(sim, 0, 35 * SEC, NULL, fault, NULL);
}

/* The end of all faults: everybody comes back, nothing is lost any more, and all must come to its end. */
void sim_heal(struct sim *sim)
{
    sim->lose = sim->duplicate = sim->reorder = sim->unknown_commit = sim->refuse_commit = sim->fail_load = 0;
    sim->db.down_until = 0;
    sim->cache_down_until = 0;
    if (sim->broker_down_until > sim->now)
        sim->broker_down_until = sim->now;
    for (int i = 0; i < SCHEDULERS + WORKERS; i++)
        if (!sim->nodes[i].alive)
            sim_after(sim, 0, SEC, NULL, node_start, &sim->nodes[i]);
}
