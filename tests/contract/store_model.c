/* The store's contract against the simulator's model of PostgreSQL. */
#include "common/base/map.h"
#include "tests/contract/store.h"
#include "tests/contract/store_scenarios.h"
#include "tests/sim/model_commit.h"
#include "tests/sim/model_lease.h"

#include "common/base/banned.h"

static struct sim sim;
static struct sim_stats stats;
static const struct play play;
struct sched_ports ports;

/* The simulator's own checks are not what is looked at here. */
void check_format(struct sim *s, const struct db_run *run, const struct event *event)
{
    (void)s;
    (void)run;
    (void)event;
}

void check_run(struct sim *s, struct db_run *run)
{
    (void)s;
    (void)run;
}
void check_command_gone(struct sim *s, const struct db_command *command)
{
    (void)s;
    (void)command;
}
void load_nudge(struct sim *s, int16_t shard)
{
    (void)s;
    (void)shard;
}
void node_turn(struct node *node)
{
    (void)node;
}

void world_turn(void)
{
    struct sim_event event;

    if (sim_take(&sim, &event))
        event.fn(&sim, event.what);
    else
        sim.now += MS;
    if (sim.failed)
        fail_msg("%s", sim.failure);
}

int64_t world_now_us(void)
{
    return sim.now;
}

static struct wall_us wall(void *ctx)
{
    (void)ctx;
    return (struct wall_us){db_wall(&sim)};
}

int store_group_begin(void **state)
{
    (void)state;
    return 0;
}

int store_group_end(void **state)
{
    (void)state;
    return 0;
}

int store_world_begin(void **state)
{
    (void)state;
    sim = (struct sim){
        .play = &play, .rng = {1}, .stats = &stats, .now = 1, .start_wall = clock_wall().us, .healed = true};
    sim.arena = arena_new((size_t)1 << 20);
    sim.db.by_id = map_new();
    for (int i = 0; i < SCHEDULERS; i++)
        sim.nodes[i] = (struct node){.sim = &sim, .kind = NODE_SCHEDULER, .index = i, .incarnation = 1, .alive = true};
    ports = (struct sched_ports){.ctx = &sim.nodes[0], .wall = wall, .commit = db_commit};
    db_make_scheduler_ports(&ports);
    heard_begin();
    hand_workflow("w", 1, true);
    for (int16_t shard = 0; shard < SHARDS; shard++)
        hand_shard(shard, ME, 7);
    return 0;
}

int store_world_end(void **state)
{
    (void)state;
    heard_end();
    map_free(sim.db.by_id);
    mem_free(sim.due);
    mem_free(sim.events);
    arena_free(sim.arena);
    return 0;
}

void hand_crash(void)
{
    sim.nodes[0].incarnation++;
}

void hand_workflow(const char *name, int32_t versions, bool enabled)
{
    struct db_workflow *workflow = &sim.db.workflows[sim.db.workflow_count++];

    workflow->name = name;
    workflow->disabled = !enabled;
    workflow->version_count = versions;
    for (int32_t v = 0; v < versions; v++)
        workflow->documents[v] = str_of(arena_printf(sim.arena, "{\"name\": \"%s\"}", name));
}

void hand_run(struct run_id id, struct str input)
{
    struct db_run *run = db_run_add(&sim, id, db_workflow_find(&sim, STR("w")), 1);

    run->input = input;
    run->created_at = wall(NULL).us;
}

int64_t hand_command(struct run_id run, const char *kind, struct str body, struct str reply_to)
{
    return db_command_add(&sim, db_find(&sim, run)->number, kind, body, reply_to);
}

void hand_shard(int16_t shard, enum owner owner, int64_t epoch)
{
    UNTIL(!db_is_locked(&sim, shard));
    sim.db.shards[shard] = (struct db_shard){
        .owned = owner != NOBODY, .incarnation = member_id(&sim.nodes[owner == ME ? 0 : 1]), .epoch = epoch};
}

void hand_poison(struct run_id run)
{
    db_find(&sim, run)->refuses = true;
}

void hand_event(const char *type, int n)
{
    db_event_comes(&sim, str_of(type), STR("/s"), str_of(arena_printf(sim.arena, "{\"n\":%d}", n)));
}

void hand_break_reads(bool broken)
{
    sim.fail_load = broken ? 10000 : 0;
}

void hand_hold(bool hold)
{
    db_hold(&sim, hold);
}

bool hand_is_held(void)
{
    return sim.db.open != NULL;
}

void hand_mute(bool mute)
{
    sim.db.mute = mute;
}

bool hand_is_done(struct run_id run, uint32_t seq)
{
    return db_find_event(db_find(&sim, run), seq) != NULL;
}

void hand_kill(void)
{
    db_end_holders(&sim, -1, SCHED_UNAVAILABLE);
}

void hand_cut(void)
{
    db_cut(&sim);
}

const char *hand_status(struct run_id run)
{
    return run_status_name(db_find(&sim, run)->status);
}

int hand_dead_letters(void)
{
    return (int)sim.db.dead_letters;
}
