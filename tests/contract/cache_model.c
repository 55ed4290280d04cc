/* The contract of the cache against the simulator's model of Redis. */
#include "common/base/map.h"
#include "tests/contract/cache.h"
#include "tests/sim/sim.h"

#include "common/base/banned.h"

static struct sim sim;
static const struct play play;

struct db_run *db_find(struct sim *s, struct run_id id)
{
    (void)s;
    (void)id;
    return NULL;
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
}

int64_t world_now_us(void)
{
    return sim.now;
}

int cache_group_begin(void **state)
{
    (void)state;
    return 0;
}
int cache_group_end(void **state)
{
    (void)state;
    return 0;
}

int cache_world_begin(void **state)
{
    static struct sim_stats stats;

    (void)state;
    heard = (struct cache_heard){0};
    sim = (struct sim){.play = &play, .rng = {1}, .stats = &stats, .now = 1};
    sim.arena = arena_new((size_t)1 << 16);
    sim.cache = map_new();
    sim.nodes[SCHEDULERS] = (struct node){.sim = &sim, .kind = NODE_WORKER, .incarnation = 1, .alive = true};
    return 0;
}

int cache_world_end(void **state)
{
    (void)state;
    map_free(sim.cache);
    mem_free(sim.due);
    mem_free(sim.events);
    arena_free(sim.arena);
    return 0;
}

void cache_do(struct job *job, size_t argc, const struct str *argv)
{
    cache_ask(&sim.nodes[SCHEDULERS], job, argc, argv);
}

void hand_flush(void)
{
    cache_flush(&sim);
}

void hand_take_away(void)
{
    sim.cache_down_until = INT64_MAX;
}
