/* What becomes of RabbitMQ as a whole: a restart, a lost node of three, an alarm, queues that lose what is in them. */
#include "tests/sim/sim.h"

#include "common/base/banned.h"

static void pump(struct sim *sim, void *what)
{
    (void)what;
    broker_pump(sim);
}

static bool has_consumer(const struct queue *q, const struct node *node)
{
    for (const struct consumer *c = q->consumers; c != NULL; c = c->next)
        if (c->node == node)
            return true;
    return false;
}

/* The queues whose home it is are away until it comes back, with what was in them or without; their consumers and
 * whoever is connected to it lose their connections. Control queues are where their worker is connected. */
void broker_lose_node(struct sim *sim, uint32_t lost, int64_t down_us, bool empty)
{
    bool hit[SCHEDULERS + WORKERS] = {false};

    for (int i = 0; i < SCHEDULERS + WORKERS; i++)
        hit[i] = (uint32_t)i % BROKER_NODES == lost;
    for (struct queue *q = sim->queues; q != NULL; q = q->next) {
        if (q->home != lost)
            continue;
        q->away_until = sim->now + down_us;
        if (empty)
            q->count = 0;
        for (int i = 0; i < SCHEDULERS + WORKERS; i++)
            hit[i] = hit[i] || has_consumer(q, &sim->nodes[i]);
    }
    for (int i = 0; i < SCHEDULERS + WORKERS; i++)
        if (hit[i])
            node_disconnect(sim, &sim->nodes[i]);
    sim->stats->outages++;
    sim_at(sim, sim->now + down_us, NULL, pump, NULL);
}

/* An alarm: nobody's messages are taken, deliveries and acknowledgements go on. */
void broker_block(struct sim *sim, int64_t us)
{
    sim->broker_blocked_until = sim->now + us;
    sim->stats->outages++;
}

void broker_forget(struct sim *sim)
{
    for (struct queue *q = sim->queues; q != NULL; q = q->next) {
        size_t kept = 0;

        for (size_t i = 0; i < q->count; i++)
            if (!q->messages[i].in_memory)
                q->messages[kept++] = q->messages[i];
        q->count = kept;
    }
}

void broker_purge_queue(struct sim *sim, const char *queue)
{
    for (struct queue *q = sim->queues; q != NULL; q = q->next)
        if (strcmp(q->name, queue) == 0)
            q->count = 0;
}

void broker_purge(struct sim *sim, struct rng *rng, bool everything)
{
    for (struct queue *q = sim->queues; q != NULL; q = q->next)
        if (everything || rng_chance(rng, 3000))
            q->count = 0;
}

void broker_heal(struct sim *sim)
{
    if (sim->broker_down_until > sim->now)
        sim->broker_down_until = sim->now;
    sim->broker_blocked_until = 0;
    for (struct queue *q = sim->queues; q != NULL; q = q->next)
        q->away_until = 0;
    sim_at(sim, sim->now + 1, NULL, pump, NULL);
}
