/* What goes wrong: planned before a history begins, so that each fault can be left out and leaves the others as they
 * are; and the end of all faults. */
#include "tests/sim/sim.h"

#include "common/base/banned.h"

#define HOUR (3600 * SEC)

struct fault {
    enum decision kind;
    struct rng rng;
    uint32_t number;
};

static struct node *any_node(struct sim *sim, struct rng *rng)
{
    return &sim->nodes[rng_below(rng, SCHEDULERS + WORKERS)];
}

/* Seconds or minutes, now and then hours; forward or back. A timer set before a jump back waits that much longer. */
static int64_t jump_us(struct rng *rng)
{
    int64_t us = rng_chance(rng, 7000) ? rng_between(rng, MS, 2 * 60 * SEC) : rng_between(rng, 60 * SEC, 5 * HOUR);

    if (rng_chance(rng, 5000))
        return us;
    return rng_chance(rng, 9000) ? -(us % (60 * SEC)) : -(us % HOUR);
}

static void process_fault(struct sim *sim, struct fault *f)
{
    struct node *node = any_node(sim, &f->rng);
    int64_t us;

    switch ((int)f->kind) {
    case DECIDE_CRASH:
        us = rng_between(&f->rng, 10 * MS, 8 * SEC);
        node_crash(sim, node);
        sim_at(sim, sim->now + us, NULL, node_start, node);
        sim_happened(sim, f->kind, sim->now + us);
        break;
    case DECIDE_FREEZE:
        us = rng_chance(&f->rng, 9500) ? rng_between(&f->rng, 100 * MS, 20 * SEC)
                                       : rng_between(&f->rng, 60 * SEC, 90 * SEC);
        node_freeze(sim, node, us);
        sim_happened(sim, f->kind, sim->now + us);
        break;
    case DECIDE_LINK:
        node_disconnect(sim, node);
        sim_happened(sim, f->kind, sim->now + SEC);
        break;
    default: /* the clock of its machine */
        node->wall_skew = jump_us(&f->rng);
        sim_happened(sim, f->kind, sim->now);
        sim_trace(sim, "the clock of %s is wrong by %lld ms", node->name, (long long)(node->wall_skew / MS));
        break;
    }
}

static void service_fault(struct sim *sim, struct fault *f)
{
    int64_t us = rng_between(&f->rng, 100 * MS, 8 * SEC);
    bool other = rng_chance(&f->rng, 3000);

    sim_happened(sim, f->kind, sim->now + us);
    switch ((int)f->kind) {
    case DECIDE_DATABASE:
        sim->db.down_until = sim->now + us;
        break;
    case DECIDE_BROKER:
        broker_restart(sim, us);
        if (other)
            broker_purge(sim, &f->rng, true);
        break;
    case DECIDE_NODE:
        broker_lose_node(sim, rng_below(&f->rng, BROKER_NODES), us, other);
        break;
    case DECIDE_ALARM:
        broker_block(sim, us);
        break;
    case DECIDE_PURGE:
        broker_purge(sim, &f->rng, other);
        break;
    case DECIDE_FLUSH:
        cache_flush(sim);
        break;
    case DECIDE_CACHE:
        sim->cache_down_until = sim->now + us;
        break;
    case DECIDE_STALE:
        if (other)
            cache_fail_over(sim, us / 3);
        else
            cache_read_old(sim, us / 3, us);
        break;
    default:
        db_jump(sim, jump_us(&f->rng));
        break;
    }
    sim_trace(sim, "fault: %s:%u for %lld ms", decision_names[f->kind], f->number, (long long)(us / MS));
}

static void fault(struct sim *sim, void *what)
{
    struct fault *f = what;

    if (sim->healed)
        return;
    switch ((int)f->kind) {
    case DECIDE_CRASH:
    case DECIDE_FREEZE:
    case DECIDE_LINK:
    case DECIDE_CLOCK:
        process_fault(sim, f);
        break;
    default:
        service_fault(sim, f);
        break;
    }
}

static void plan_fault(struct sim *sim, struct rng *rng)
{
    static const uint8_t kinds[] = {DECIDE_CRASH,    DECIDE_CRASH,  DECIDE_CRASH,  DECIDE_CRASH, DECIDE_CRASH,
                                    DECIDE_FREEZE,   DECIDE_FREEZE, DECIDE_FREEZE, DECIDE_LINK,  DECIDE_LINK,
                                    DECIDE_DATABASE, DECIDE_BROKER, DECIDE_NODE,   DECIDE_ALARM, DECIDE_PURGE,
                                    DECIDE_FLUSH,    DECIDE_CACHE,  DECIDE_STALE,  DECIDE_CLOCK, DECIDE_JUMP};
    struct fault *f = sim_new(sim, struct fault);
    int64_t at = rng_between(rng, 0, 35 * SEC);

    f->kind = (enum decision)kinds[rng_below(rng, sizeof(kinds))];
    f->number = sim->asked[f->kind];
    f->rng = sim_rng(sim, f->kind, f->number);
    if (sim_decides(sim, f->kind))
        sim_at(sim, at, NULL, fault, f);
}

void faults_plan(struct sim *sim)
{
    struct rng own = sim_rng(sim, DECIDE_CRASH, UINT32_MAX), *rng = &own;
    uint32_t badness = rng_below(rng, 4);
    uint32_t faults = badness == 0 ? 0 : rng_below(rng, 4 * badness);

    sim->suspect = badness > 0 && rng_chance(rng, 300) ? 500 : 0;
    sim->lose = badness * rng_below(rng, 150);
    sim->duplicate = badness * rng_below(rng, 300);
    sim->reorder = badness * rng_below(rng, 500);
    sim->unknown_commit = badness * rng_below(rng, 100);
    sim->refuse_commit = badness * rng_below(rng, 50);
    sim->fail_load = badness * rng_below(rng, 50);
    sim->late_answers = badness == 0 ? 0 : 100;
    for (uint32_t i = 0; i < faults; i++)
        plan_fault(sim, rng);
    for (int i = 0; i < SCHEDULERS + WORKERS; i++) /* machines whose clocks nobody sets */
        if (badness > 0 && rng_chance(rng, 1500) && sim_decides(sim, DECIDE_CLOCK)) {
            sim->nodes[i].wall_skew = rng_between(rng, -2 * HOUR, 2 * HOUR);
            sim_happened(sim, DECIDE_CLOCK, 0);
        }
}

static void upgraded(struct sim *sim, void *what)
{
    node_crash(sim, what);
    sim_after(sim, 0, SEC, NULL, node_start, what);
}

/* The end of all faults: everybody comes back, nothing is lost any more, and all must come to its end. */
void sim_heal(struct sim *sim)
{
    sim->lose = sim->duplicate = sim->reorder = sim->unknown_commit = sim->refuse_commit = sim->fail_load = 0;
    sim->late_answers = 0;
    sim->db.down_until = 0;
    sim->cache_down_until = 0;
    sim->cache_old_until = 0;
    broker_heal(sim);
    for (int i = 0; i < SCHEDULERS + WORKERS; i++) {
        struct node *node = &sim->nodes[i];

        if (node->kind == NODE_SCHEDULER && node->alive && node->format < event_format_newest())
            sim_at(sim, sim->now, NULL, upgraded, node);
        if (!node->alive)
            sim_after(sim, 0, SEC, NULL, node_start, node);
    }
}
