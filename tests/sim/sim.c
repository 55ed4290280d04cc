/* The loop of a history: events in order of time, nodes that live, freeze and die, and the end. */
#include "tests/sim/script.h"
#include "common/base/ensure.h"
#include "common/base/map.h"

#include "common/base/banned.h"

#define FAULTS_US (40 * SEC)
#define END_US (4 * 3600 * SEC) /* virtual; a history that is not at rest by then is stuck */
#define EVENTS_MAX 3000000

/* ---- nodes ---- */

/* No fault in here explains that open work is not what the history asks for: the scheduler must not think so. */
static void no_orphans(struct sim *sim, const struct node *node)
{
    struct sched_stats stats;

    if (sim->damaged)
        return;
    sched_get_stats(node->sched, &stats);
    for (size_t i = 0; i < ORPHAN_COUNT; i++)
        if (stats.orphans[i] > 0)
            sim_fail(sim, "a scheduler has repaired a run: %s", sched_orphan_names[i]);
}

static void turn(struct sim *sim, void *what)
{
    struct node *node = what;
    struct mono_us wake;

    node->tick_planned = false;
    if (node->kind == NODE_WORKER) {
        worker_core_flush(node->worker);
        return;
    }
    wake = sched_tick(node->sched);
    no_orphans(sim, node);
    if (node->dying) {
        node_crash(sim, node);
        sim_after(sim, SEC, SEC, NULL, node_start, node);
        return;
    }
    if (wake.us == INT64_MAX)
        return;
    wake.us -= node->mono_base;
    if ((node->wake_at > node->sim->now && node->wake_at <= wake.us))
        return;
    node->wake_at = wake.us <= node->sim->now ? node->sim->now + 1 : wake.us;
    sim_at(node->sim, node->wake_at, node, turn, node);
}

void node_turn(struct node *node)
{
    if (node->tick_planned)
        return;
    node->tick_planned = true;
    sim_after(node->sim, 5, 60, node, turn, node);
}

static void connected(struct sim *sim, void *what)
{
    struct node *node = what;

    if (node->broker_up)
        return;
    if (sim->broker_down_until > sim->now || node->link_until > sim->now) {
        int64_t at = sim->broker_down_until > node->link_until ? sim->broker_down_until : node->link_until;

        sim_at(sim, at + 10 * MS, node, connected, node);
        return;
    }
    node->broker_up = true;
    if (node->kind == NODE_SCHEDULER)
        scheduler_connected(node);
    else
        worker_connected(node);
    node_turn(node);
}

void node_start(struct sim *sim, void *what)
{
    struct node *node = what;

    if (node->alive)
        return;
    node->incarnation++;
    node->alive = true;
    node->dying = false;
    node->broker_up = false;
    node->tick_planned = false;
    node->wake_at = 0;
    node->frozen_until = 0;
    node->mono_base = rng_between(&sim->rng, 0, 1000000 * SEC); /* of a machine that may have run for days */
    node->db_offset = sim->db.clock_offset;
    snprintf(node->name, sizeof(node->name), "%s%d-%u", node->kind == NODE_SCHEDULER ? "s" : "w", node->index,
             node->incarnation);
    snprintf(node->control, sizeof(node->control), "ropewalk.worker.%s", node->name);
    if (node->kind == NODE_SCHEDULER)
        scheduler_start(node);
    else
        worker_start(node);
    sim_trace(sim, "%s starts", node->name);
    sim_after(sim, 1 * MS, 50 * MS, node, connected, node);
}

void node_crash(struct sim *sim, struct node *node)
{
    if (!node->alive)
        return;
    sim_trace(sim, "%s crashes", node->name);
    node->alive = false;
    node->broker_up = false;
    sim->stats->crashes++;
    if (node->kind == NODE_SCHEDULER)
        scheduler_stop(node);
    else
        worker_stop(node);
    broker_close_node(sim, node);
}

/* It stands still; its connections live until their heartbeats are missed. */
static void connection_lost(struct sim *sim, void *what)
{
    struct node *node = what;

    if (!node->alive || node->frozen_until <= sim->now)
        return;
    broker_close_node(sim, node);
    node->broker_up = false;
}

static void thawed(struct sim *sim, void *what)
{
    struct node *node = what;

    (void)sim;
    if (!node->broker_up) {
        if (node->kind == NODE_SCHEDULER)
            sched_on_broker(node->sched, false);
        else
            worker_core_publisher(node->worker, false);
        sim_after(node->sim, 1 * MS, 100 * MS, node, connected, node);
    }
    node_turn(node);
}

void node_freeze(struct sim *sim, struct node *node, int64_t us)
{
    if (!node->alive || node->frozen_until > sim->now)
        return;
    sim->stats->freezes++;
    sim_trace(sim, "%s freezes for %lld ms", node->name, (long long)(us / MS));
    node->frozen_until = sim->now + us;
    if (us > 10 * SEC)
        sim_at(sim, sim->now + 10 * SEC, NULL, connection_lost, node);
    sim_at(sim, node->frozen_until, node, thawed, node);
}

void node_disconnect(struct sim *sim, struct node *node)
{
    if (!node->alive || !node->broker_up || node->frozen_until > sim->now)
        return;
    sim_trace(sim, "%s loses its broker", node->name);
    broker_close_node(sim, node);
    node->broker_up = false;
    if (node->kind == NODE_SCHEDULER)
        sched_on_broker(node->sched, false);
    else
        worker_core_publisher(node->worker, false);
    sim_after(sim, 1 * MS, 500 * MS, node, connected, node);
    node_turn(node);
}

void broker_restart(struct sim *sim, int64_t down_us)
{
    sim->broker_down_until = sim->now + down_us;
    sim->stats->outages++;
    sim_trace(sim, "the broker is away for %lld ms", (long long)(down_us / MS));
    for (int i = 0; i < SCHEDULERS + WORKERS; i++) {
        struct node *node = &sim->nodes[i];

        if (!node->alive)
            continue;
        broker_close_node(sim, node);
        node->broker_up = false;
        if (node->kind == NODE_SCHEDULER) {
            sched_on_broker(node->sched, false);
        } else {
            worker_core_publisher(node->worker, false);
        }
        sim_at(sim, sim->broker_down_until + rng_between(&sim->rng, 10 * MS, SEC), node, connected, node);
        node_turn(node);
    }
    broker_forget(sim);
}

static bool at_rest(struct sim *sim)
{
    if (!sim->healed || !sim->db.changed)
        return false;
    if (sim->play->script != NULL && sim->now < script_rests_at(sim))
        return false;
    sim->db.changed = false;
    for (uint32_t i = 0; i < sim->db.run_count; i++)
        if (!run_ended(sim->db.runs[i]->status) && !sim->db.runs[i]->left_out && !check_excused(sim, sim->db.runs[i]))
            return false;
    for (size_t i = 0; i < sim->db.command_count; i++)
        if (!sim->db.commands[i].deleted && !sim->db.commands[i].held)
            return false;
    return true;
}

static void loop(struct sim *sim)
{
    struct sim_event event;
    uint64_t events = 0;

    while (!sim->failed && sim_take(sim, &event)) {
        if (!sim->healed && sim->now >= (sim->play->until_us > 0 ? sim->play->until_us : FAULTS_US)) {
            sim->healed = true;
            sim->db.changed = true;
            sim_heal(sim);
        }
        event.fn(sim, event.what);
        if (at_rest(sim))
            return;
        if (sim->now > (sim->play->end_us > 0 ? sim->play->end_us : END_US) || ++events > EVENTS_MAX) {
            check_end(sim);
            sim_fail(sim, "not at rest after %lld s and %llu events", (long long)(sim->now / SEC),
                     (unsigned long long)events);
        }
    }
}

static void every_second(struct sim *sim, void *what)
{
    struct node *node = what;

    if (node->kind == NODE_WORKER) {
        worker_core_tick(node->worker);
        sim_at(sim, sim->now + 100 * MS, node, every_second, node);
        return;
    }
    scheduler_check_inboxes(node);
    if (sim_chances(sim, DECIDE_HANDOVER, sim->healed ? 100 : 1000))
        db_stranger_comes(sim);
    sim_at(sim, sim->now + SEC, node, every_second, node);
}

void sim_keep_ticking(struct node *node);
void sim_keep_ticking(struct node *node)
{
    sim_at(node->sim, node->sim->now, node, every_second, node);
}

static void teardown(struct sim *sim)
{
    for (int i = 0; i < SCHEDULERS + WORKERS; i++) {
        struct node *node = &sim->nodes[i];

        if (!node->alive)
            continue;
        node->alive = false;
        if (node->kind == NODE_SCHEDULER)
            scheduler_stop(node);
        else
            worker_stop(node);
    }
    for (uint32_t i = 0; i < sim->db.run_count; i++)
        run_state_free(sim->db.runs[i]->state);
    for (uint32_t i = 0; i < sim->db.workflow_count; i++)
        for (int v = 0; v < VERSIONS_MAX; v++)
            plan_unref(sim->db.workflows[i].plans[v]);
    map_free(sim->db.by_id);
    map_free(sim->cache);
    map_free(sim->sends);
    map_free(sim->calls);
    map_free(sim->effects);
    mem_free(sim->due);
    mem_free(sim->events);
}

static void count(struct sim *sim)
{
    struct sim_stats *stats = sim->stats;

    stats->histories++;
    stats->runs += sim->db.run_count;
    stats->commits += sim->db.commits;
    stats->conflicts += sim->db.conflicts;
    stats->fenced += sim->db.fenced;
    stats->refused += sim->db.refused;
    stats->unknown += sim->db.unknown;
    stats->dead_letters += sim->db.dead_letters;
    for (uint32_t i = 0; i < sim->db.run_count; i++) {
        stats->ended[sim->db.runs[i]->status]++;
        stats->quarantined += sim->db.runs[i]->quarantined;
    }
}

static void set_up(struct sim *sim, const struct play *play, struct sim_stats *stats)
{
    *sim = (struct sim){.play = play, .seed = play->seed, .stats = stats, .verbose = play->verbose, .late = play->late};
    sim->rng = sim_rng(sim, DECISIONS, play->delays);
    for (int kind = 0; kind < DECISIONS; kind++)
        sim->streams[kind] = sim_rng(sim, (enum decision)kind, UINT64_MAX);
    for (int kind = 0; kind < DECISIONS; kind++)
        sim->last[kind] = -1;
    sim->arena = arena_new((size_t)1 << 20);
    sim->start_wall = INT64_C(1800000000) * SEC;
    sim->now = 1;
    sim->cache = map_new();
    sim->sends = map_new();
    sim->calls = map_new();
    sim->effects = map_new();
    sim->db.by_id = map_new();
    broker_init(sim);
    for (int i = 0; i < SCHEDULERS + WORKERS; i++) {
        struct node *node = &sim->nodes[i];

        node->sim = sim;
        node->kind = i < SCHEDULERS ? NODE_SCHEDULER : NODE_WORKER;
        node->index = i < SCHEDULERS ? i : i - SCHEDULERS;
        sim_after(sim, 0, 20 * MS, NULL, node_start, node);
    }
}

static void tell(const struct sim *sim, uint64_t events_before, struct played *ret)
{
    ret->failed = sim->failed;
    memcpy(ret->failure, sim->failure, sizeof(ret->failure));
    memcpy(ret->asked, sim->asked, sizeof(ret->asked));
    ret->made = sim->made;
    ret->traced = sim->traced;
    ret->events = sim->stats->events - events_before;
    ret->rows = 0;
    for (uint32_t i = 0; i < sim->db.run_count; i++)
        ret->rows += sim->db.runs[i]->event_count;
}

void sim_run(const struct play *play, struct sim_stats *stats, struct played *ret)
{
    static struct sim storage; /* large; one at a time */
    struct sim *sim = &storage;
    uint64_t events_before = stats->events;

    set_up(sim, play, stats);
    if (play->script != NULL) {
        script_plan(sim);
    } else {
        documents_make(sim);
        generate_runs(sim);
    }
    sim->quiet = sim->healed = play->script != NULL && !play->noise;
    if (!sim->quiet) {
        faults_plan(sim);
        strangers_plan(sim);
    }
    if (play->noise)
        load_look_after(sim);
    loop(sim);
    if (!sim->failed)
        check_end(sim);
    if (!sim->failed && sim->quiet)
        script_check(sim);
    count(sim);
    tell(sim, events_before, ret);
    teardown(sim);
    arena_free(sim->arena);
}
