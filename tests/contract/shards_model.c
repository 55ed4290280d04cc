/* The contract of leases and shards against the simulator's rows and connections. */
#include "common/base/log.h"
#include "common/base/map.h"
#include "tests/contract/shards.h"
#include "tests/sim/model_commit.h"
#include "tests/sim/model_lease.h"

#include "common/base/banned.h"

static struct sim sim;
static struct sim_stats stats;
static const struct play play;
static uv_loop_t loops[PROCESSES];

/* Of the simulator, not looked at here. */
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

int shards_group_begin(void **state)
{
    (void)state;
    log_init("contract", "model", (enum log_level)(LOG_ERROR + 1));
    return 0;
}

int shards_group_end(void **state)
{
    (void)state;
    return 0;
}

int shards_world_begin(void **state)
{
    (void)state;
    sim = (struct sim){.play = &play, .rng = {1}, .stats = &stats, .now = 1, .start_wall = INT64_C(1800000000) * SEC};
    sim.arena = arena_new((size_t)1 << 20);
    sim.db.by_id = map_new();
    for (int i = 0; i < PROCESSES; i++)
        sim.nodes[i] = (struct node){.sim = &sim, .kind = NODE_SCHEDULER, .index = i};
    return 0;
}

int shards_world_end(void **state)
{
    (void)state;
    map_free(sim.db.by_id);
    mem_free(sim.due);
    mem_free(sim.events);
    arena_free(sim.arena);
    return 0;
}

struct lease *hand_start(int process, struct lease_options *options)
{
    struct node *node = &sim.nodes[process];

    node->incarnation++;
    node->alive = true;
    loops[process].data = node;
    options->loop = &loops[process];
    options->me = member_id(node);
    return lease_new(options);
}

void hand_die(int process, struct lease *lease)
{
    sim.nodes[process].alive = false;
    lease_free(lease);
}

void hand_freeze(int process, int64_t us)
{
    sim.nodes[process].frozen_until = sim.now + us;
}

void hand_lose_connections(void)
{
    sim.db.down_until = sim.now + 100 * MS;
}

void hand_expire(const char *name)
{
    for (int i = 0; i < PROCESSES; i++)
        if (strcmp(sim.db.members[i].name, name) == 0)
            sim.db.members[i].lease_until = db_wall(&sim) - 1;
}

void hand_batch_begin(int process, int16_t shard, int64_t epoch)
{
    const struct sched_batch batch = {.number = 1, .shard_count = 1, .shards = &shard, .epochs = &epoch};

    db_hold(&sim, true);
    db_commit(&sim.nodes[process], &batch);
    UNTIL(db_is_locked(&sim, shard));
}

bool hand_batch_end(void)
{
    bool open = sim.db.open != NULL;

    db_hold(&sim, false);
    return open;
}
