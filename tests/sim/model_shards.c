/* The rows that say who owns which shard, and for how long. */
#include "tests/sim/model_commit.h"

#include "common/base/banned.h"

#define LEASE_US (3 * SEC)

static void tell(struct node *node, int16_t shard, bool gained, int64_t epoch)
{
    struct sched_shard_change change = {.shard = shard, .gained = gained, .epoch = epoch};

    node->known_epoch[shard] = gained ? epoch : 0;
    sched_on_shards(node->sched, &change, 1);
    if (gained)
        scheduler_consume(node, shard);
    node_turn(node);
}

static bool mine(const struct db_shard *shard, const struct node *node)
{
    return shard->owner == node && shard->incarnation == node->incarnation;
}

static bool owner_is_gone(struct sim *sim, const struct db_shard *shard)
{
    return shard->owner == NULL || shard->incarnation != shard->owner->incarnation ||
           sim->db.lease_until[shard->owner->index] < sim->now;
}

void db_shards_turn(struct sim *sim, void *what)
{
    struct node *node = what;

    if (sim->db.down_until > sim->now)
        return;
    sim->db.lease_until[node->index] = sim->now + LEASE_US;
    node->db_offset = sim->db.clock_offset;
    for (int16_t s = 0; s < SHARDS; s++) {
        struct db_shard *shard = &sim->db.shards[s];

        if (node->known_epoch[s] != 0 && (!mine(shard, node) || shard->epoch != node->known_epoch[s]))
            tell(node, s, false, 0);
        if (mine(shard, node) ? node->known_epoch[s] != 0 : !owner_is_gone(sim, shard))
            continue;
        shard->owner = node;
        shard->incarnation = node->incarnation;
        shard->epoch++;
        tell(node, s, true, shard->epoch);
    }
    /* Now and then one is handed to the other. */
    if (sim_chances(sim, DECIDE_HANDOVER, sim->healed ? 100 : 1000)) {
        int16_t s = (int16_t)rng_below(&sim->streams[DECIDE_HANDOVER], SHARDS);

        if (node->known_epoch[s] != 0)
            sched_release_shard(node->sched, s);
        node_turn(node);
    }
}

struct release {
    struct node *node;
    int16_t shard;
    int64_t epoch;
};

static void released(struct sim *sim, void *what)
{
    struct release *r = what;
    struct db_shard *shard = &sim->db.shards[r->shard];
    struct node *other = &sim->nodes[1 - r->node->index];

    if (mine(shard, r->node) && shard->epoch == r->epoch && sim->db.down_until <= sim->now) {
        shard->epoch++;
        shard->owner = other->alive ? other : NULL;
        shard->incarnation = other->incarnation;
        if (other->alive && other->frozen_until <= sim->now)
            tell(other, r->shard, true, shard->epoch);
        else
            shard->owner = NULL;
    }
    if (r->node->known_epoch[r->shard] == r->epoch)
        tell(r->node, r->shard, false, 0);
}

void db_release_shard(struct node *node, int16_t shard)
{
    struct release *r = sim_new(node->sim, struct release);

    r->node = node;
    r->shard = shard;
    r->epoch = node->known_epoch[shard];
    sim_after(node->sim, 100, 5 * MS, node, released, r);
}

static void checked(struct sim *sim, void *what)
{
    struct node *node = what;

    if (sim->db.down_until > sim->now) {
        sim_after(sim, 100 * MS, SEC, node, checked, node);
        return;
    }
    db_shards_turn(sim, node);
    sched_on_shards(node->sched, NULL, 0);
    node_turn(node);
}

void db_check_shards(void *ctx)
{
    struct node *node = ctx;

    sim_after(node->sim, 100, 3 * MS, node, checked, node);
}
