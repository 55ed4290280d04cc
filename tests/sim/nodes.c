/* The shells of the simulated processes: ports to the models, and what a shell does by itself. */
#include "common/base/ensure.h"
#include "common/base/map.h"
#include "scheduler/lease.h"
#include "tests/sim/model_commit.h"
#include "tests/sim/model_lease.h"
#include "tests/sim/script.h"

#include "common/base/banned.h"

void sim_keep_ticking(struct node *node);

static struct mono_us mono(void *ctx)
{
    return (struct mono_us){((struct node *)ctx)->sim->now + ((struct node *)ctx)->mono_base};
}

/* A scheduler goes by PostgreSQL's clock as it last saw it; a worker has but its own. */
static struct wall_us wall(void *ctx)
{
    const struct node *node = ctx;
    int64_t offset = node->kind == NODE_SCHEDULER ? node->db_offset : node->wall_skew;

    return (struct wall_us){node->sim->start_wall + node->sim->now + offset};
}

int64_t node_wall(const struct node *node)
{
#ifdef PLANT_OWN_CLOCK
    return node->sim->start_wall + node->sim->now + node->wall_skew;
#else
    return wall((void *)(uintptr_t)node).us;
#endif
}

/* ---- scheduler ---- */

static void sched_confirm(struct sim *sim, struct node *node, uint64_t id, void *ptr, bool confirmed)
{
    (void)sim;
    (void)ptr;
    sched_on_confirm(node->sched, id, confirmed ? SCHED_CONFIRMED : SCHED_NOT_CONFIRMED);
}

/* The journal survives the process. */
static void journal_enter(void *ctx, struct run_id run)
{
    struct node *node = ctx;
    const struct script *script = node->sim->play->script;

    if (node->dying)
        return;
    node->has_journal = true;
    node->journal = run;
    node->dying = script != NULL && script->deadly && run_id_eq(run, node->sim->db.runs[0]->id);
}

static void journal_leave(void *ctx, struct run_id run)
{
    struct node *node = ctx;

    (void)run;
    if (!node->dying)
        node->has_journal = false;
}

/* What was being applied when this scheduler died, for the second time, is accused. */
static void read_journal(struct node *node)
{
    const struct db_run *run = node->has_journal ? db_find(node->sim, node->journal) : NULL;

    node->has_journal = false;
    if (run == NULL || run->number >= DEATHS_NOTED || ++node->deaths[run->number] < 2)
        return;
    sched_suspect(node->sched, run->id);
    db_find(node->sim, run->id)->suspected = true;
}

/* Of a paused run whoever has its shard hands nothing over. */
static void check_not_paused(struct node *node, const char *task_id)
{
    uint32_t attempt, dispatch;
    const struct db_run *run;
    struct run_id id;
    struct str step;
    struct err err;

    if (engine_parse_task_id(str_of(task_id), &id, &step, &attempt, &dispatch, &err) != ERR_OK)
        return;
    run = db_find(node->sim, id);
    if (run != NULL && run->status == RUN_PAUSED && db_owner(node->sim, run->shard) == node)
        sim_fail(node->sim, "task %s is handed over, and its run is paused", task_id);
}

static void to_all_workers(struct node *node, const struct sched_publish *p)
{
    for (int i = SCHEDULERS; i < SCHEDULERS + WORKERS; i++)
        if (node->sim->nodes[i].alive)
            broker_publish(node, node->sim->nodes[i].control, p->type, NULL, p->body, CARE_NONE, NULL, 0, NULL);
}

static void publish(void *ctx, const struct sched_publish *p)
{
    if (((struct node *)ctx)->dying)
        return;
    if (strcmp(p->type, "task") == 0)
        check_not_paused(ctx, p->message_id);
    if (strcmp(p->type, "task") == 0)
        effect_published(((struct node *)ctx)->sim, str_of(p->message_id));
    if (p->queue == NULL) {
        to_all_workers(ctx, p);
        return;
    }
    broker_publish(ctx, p->queue, p->type, p->message_id, p->body,
                   !p->persistent ? CARE_NONE
                   : p->in_memory ? CARE_CONFIRMED
                                  : CARE_KEPT,
                   p->confirm != 0 ? sched_confirm : NULL, p->confirm, NULL);
}

static void ack(void *ctx, void *delivery)
{
    struct sim *sim = ((struct node *)ctx)->sim;
    const struct sim_delivery *d = delivery;

    if (((struct node *)ctx)->dying)
        return;
    if (str_is(d->message.type, "result"))
        check_acknowledged(sim, d);
#ifndef PLANT_ACK_EARLY
    broker_settle(sim, delivery, false);
#endif
}

static void forget(void *ctx, void *delivery)
{
    (void)ctx;
    ((struct sim_delivery *)delivery)->settled = true;
}

struct evaluated {
    struct node *node;
    struct sched_value value;
};

static void evaluate_answered(struct sim *sim, void *what)
{
    struct evaluated *e = what;

    (void)sim;
    sched_on_values(e->node->sched, &e->value, 1);
    node_turn(e->node);
}

static void evaluate(void *ctx, const struct sched_evaluation *evaluations, size_t count)
{
    struct node *node = ctx;
    struct sim *sim = node->sim;

    for (size_t i = 0; i < count; i++) {
        struct evaluated *e = sim_new(sim, struct evaluated);
        struct point point;
        bool good = world_evaluate(sim->arena, evaluations[i].source, evaluations[i].document, &e->value.value);

        e->node = node;
        e->value.id = evaluations[i].id;
        e->value.status = good ? VALUE_OK : VALUE_FAILED;
        e->value.message = e->value.value;
        if (sim_chances(sim, DECIDE_READ, sim->fail_load))
            e->value.status = VALUE_AGAIN;
        point = sim_point(sim, node, "evaluating " STR_FMT, STR_ARG(evaluations[i].source));
        sim_after(sim, point.late_us + 50, point.late_us + (rng_chance(&sim->rng, 1000) ? 50 * MS : 1 * MS), node,
                  evaluate_answered, e);
    }
}

static void queue_depth(void *ctx, const char *queue)
{
    broker_depth(ctx, queue);
}

static void close_shard(void *ctx, int16_t shard)
{
    struct node *node = ctx;

    for (int i = 0; i < 2; i++) {
        broker_close(node->sim, node->inboxes[shard][i]);
        node->inboxes[shard][i] = NULL;
    }
    node->consuming[shard] = 0;
}

struct handing {
    struct node *node;
    int16_t shard;
};

/* The other takes it, beyond its share, as soon as the row says that it is nobody's. */
static void handed_over(struct sim *sim, void *what)
{
    struct handing *handing = what;
    struct node *other = &sim->nodes[1 - handing->node->index];
    int64_t cells[TICK_COLUMNS];

    if (!other->alive || sim->db.down_until > sim->now)
        return;
    if (rows_take(sim, member_id(other), &handing->shard, 1, cells) == 1) {
        sim_clock_of(other);
        lease_check(other->lease);
    } else if (db_owner(sim, handing->shard) == handing->node)
        sim_after(sim, 100, MS, NULL, handed_over, handing);
}

static void shard_released(void *ctx, int16_t shard)
{
    struct node *node = ctx;
    struct handing *handing = sim_new(node->sim, struct handing);

    sim_clock_of(node);
    lease_release(node->lease, shard);
    if (!node->handing[shard])
        return;
    node->handing[shard] = false;
    *handing = (struct handing){node, shard};
    handed_over(node->sim, handing);
}

void scheduler_hand_over(struct node *node, int16_t shard)
{
    if (node->consuming[shard] == 0)
        return;
    node->handing[shard] = true;
    sched_release_shard(node->sched, shard);
    node_turn(node);
}

static void needs_newer(void *ctx, int16_t shard)
{
    sim_clock_of(ctx);
    lease_needs_newer(((struct node *)ctx)->lease, shard);
}

static void check_shards(void *ctx)
{
    sim_clock_of(ctx);
    lease_check(((struct node *)ctx)->lease);
}

static bool holds_lease(void *ctx)
{
    sim_clock_of(ctx);
    return lease_is_live(((struct node *)ctx)->lease);
}

/* ---- its lease ---- */

static void consume_shard(struct node *node, int16_t shard)
{
    const struct script *script = node->sim->play->script;
    bool tight = node->tight || (script != NULL && script->tight);
    int64_t priority = node->consuming[shard]; /* a new owner is served before one that does not know yet */

    if (!node->broker_up || node->consuming[shard] == 0)
        return;
#ifdef PLANT_NO_PRIORITY
    priority = 0;
#endif
    for (int i = 0; i < 2; i++) {
        uint32_t prefetch = i == 0 ? 64 : 8;
        char name[64];

        broker_close(node->sim, node->inboxes[shard][i]);
        snprintf(name, sizeof(name), "ropewalk.inbox.%d%s", shard, i == 0 ? "" : ".large");
        node->inboxes[shard][i] = broker_consume(node, name, shard, i == 1, priority, tight ? 1 : prefetch);
    }
}

/* Whoever gave a shard up, or lost it, stops to listen: what it hears and cannot apply would wait with it for ever. Its
 * lease tells it each second, unless PostgreSQL is away or an answer is lost. */
void scheduler_check_inboxes(struct node *node)
{
    struct sim *sim = node->sim;

    for (int16_t s = 0; s < SHARDS; s++) {
        const struct db_shard *shard = &sim->db.shards[s];
        bool own = shard->owned && run_id_eq(shard->incarnation, member_id(node));

        node->strange[s] = own || node->consuming[s] == 0 || sim->db.down_until > sim->now ? 0 : node->strange[s] + 1;
        if (node->strange[s] > 8)
            sim_fail(sim, "%s still consumes the inboxes of shard %d, which is not its own", node->name, s);
    }
}

struct consuming {
    struct node *node;
    int16_t shard;
    int64_t epoch;
};

static void consume_now(struct sim *sim, void *what)
{
    const struct consuming *c = what;

    (void)sim;
    if (c->node->consuming[c->shard] == c->epoch)
        consume_shard(c->node, c->shard);
}

/* The broker has to hear of it: until then it gives what comes to whoever consumes the inbox already. */
static void begin_to_consume(struct node *node, int16_t shard, int64_t epoch)
{
    struct consuming *c = sim_new(node->sim, struct consuming);

    *c = (struct consuming){node, shard, epoch};
    node->consuming[shard] = epoch;
    sim_after(node->sim, 200, 30 * MS, node, consume_now, c);
}

static void on_shards(void *ctx, const struct sched_shard_change *changes, size_t count)
{
    struct node *node = ctx;

    sched_on_shards(node->sched, changes, count);
    for (size_t i = 0; i < count; i++) {
        if (!changes[i].gained)
            continue;
        begin_to_consume(node, changes[i].shard, changes[i].epoch);
    }
    node_turn(node);
}

static void on_surplus(void *ctx, int16_t shard)
{
    struct node *node = ctx;

    sched_release_shard(node->sched, shard);
    node_turn(node);
}

static void on_clock(void *ctx, struct wall_us now, struct mono_us at)
{
    struct node *node = ctx;

    node->db_offset = now.us - (at.us - node->mono_base) - node->sim->start_wall;
}

static void replaced(struct sim *sim, void *what)
{
    node_crash(sim, what);
    sim_after(sim, 100 * MS, SEC, NULL, node_start, what);
}

static void on_formats(void *ctx, int oldest, int newest)
{
    struct node *node = ctx;

    sched_on_formats(node->sched, oldest, newest);
}

static void on_replaced(void *ctx)
{
    struct node *node = ctx;

    sim_at(node->sim, node->sim->now, node, replaced, node);
}

static void lease_start(struct node *node)
{
    static uv_loop_t loops[SCHEDULERS];
    char name[8];
    struct lease_options options = {.loop = &loops[node->index],
                                    .url = "",
                                    .name = name,
                                    .me = member_id(node),
                                    .format = node->format,
                                    .lease_ms = 3000,
                                    .renew_ms = 1000,
                                    .on_shards = on_shards,
                                    .on_surplus = on_surplus,
                                    .on_clock = on_clock,
                                    .on_formats = on_formats,
                                    .on_replaced = on_replaced,
                                    .ctx = node};

    loops[node->index].data = node;
    snprintf(name, sizeof(name), "s%d", node->index);
    node->lease = lease_new(&options);
}

/* rw-sim-releases: while there are faults, any scheduler may be of the release before. */
static int choose_format(struct node *node)
{
#ifdef SIM_RELEASES
    if (!node->sim->healed && sim_chances(node->sim, DECIDE_RELEASE, 5000))
        return event_format_newest() - 1;
#endif
    (void)node;
    return event_format_newest();
}

#ifdef SIM_RELEASES
/* Processes are exchanged one by one, in either direction. */
static void exchanged(struct sim *sim, void *what)
{
    if (sim->healed)
        return;
    node_crash(sim, what);
    sim_after(sim, 10 * MS, SEC, NULL, node_start, what);
}
#endif

void scheduler_start(struct node *node)
{
    struct sched_ports ports = {.ctx = node,
                                .mono = mono,
                                .wall = wall,
                                .commit = db_commit,
                                .publish = publish,
                                .ack = ack,
                                .forget = forget,
                                .evaluate = evaluate,
                                .queue_depth = queue_depth,
                                .close_shard = close_shard,
                                .shard_released = shard_released,
                                .needs_newer = needs_newer,
                                .check_shards = check_shards,
                                .lease_is_live = holds_lease};
    int16_t slots[SLOT_COUNT];
    bool tight = node->tight = sim_chances(node->sim, DECIDE_TIGHT, 2000);
    struct sched_settings settings = {.name = node->name,
                                      .token_key = STR("the key of the simulation"),
                                      .incarnation = 1,
                                      .slot_shards = slots,
                                      .cache_runs_bytes = tight ? 1 : 0,
                                      .cache_bodies_bytes = tight ? 1 : 0,
                                      .window_min = tight ? 2 : 0,
                                      .window_max = tight ? 3 : 0,
                                      .batch_inputs = tight ? 3 : 0,
                                      .journal = {node, journal_enter, journal_leave}};

    node->format = settings.format = choose_format(node);
    sim_trace(node->sim, "%s is of event format %d", node->name, node->format);
    for (int i = 0; i < SLOT_COUNT; i++)
        slots[i] = (int16_t)(i % SHARDS);
    db_make_scheduler_ports(&ports);
    memset(node->consuming, 0, sizeof(node->consuming));
    memset(node->strange, 0, sizeof(node->strange));
    memset(node->handing, 0, sizeof(node->handing));
    memset(node->inboxes, 0, sizeof(node->inboxes));
    node->sched = sched_new(&ports, &settings);
    read_journal(node);
    for (uint32_t i = 0; i < node->sim->db.run_count; i++) {
        struct db_run *run = node->sim->db.runs[i];

        if (!sim_chances(node->sim, DECIDE_SUSPECT, node->sim->suspect))
            continue;
        sched_suspect(node->sched, run->id);
        run->suspected = true;
    }
    lease_start(node);
#ifdef SIM_RELEASES
    sim_after(node->sim, 2 * SEC, 20 * SEC, node, exchanged, node);
#endif
    sim_keep_ticking(node);
}

void scheduler_stop(struct node *node)
{
    lease_free(node->lease);
    sched_free(node->sched);
    node->sched = NULL;
}

void scheduler_connected(struct node *node)
{
    for (int16_t s = 0; s < SHARDS; s++)
        consume_shard(node, s);
    sched_on_broker(node->sched, true);
}

void scheduler_deliver(struct node *node, struct sim_delivery *delivery)
{
    struct sched_message message = {.delivery = delivery,
                                    .shard = delivery->consumer->shard,
                                    .large = delivery->consumer->large,
                                    .redelivered = delivery->message.redelivered,
                                    .type = delivery->message.type,
                                    .message_id = delivery->message.message_id,
                                    .body = delivery->message.body};

#ifdef PLANT_ACK_EARLY
    check_acknowledged(node->sim, delivery);
    broker_settle(node->sim, delivery, false);
#endif
    sched_on_message(node->sched, &message);
}

/* ---- worker ---- */

struct waiting_batch { /* the core's, handed out until it is answered: freed here when the process dies first */
    struct waiting_batch *next;
    struct batch *batch;
    bool answered;
};

static void worker_ack(void *ctx, struct delivery_ref ref)
{
    broker_settle(((struct node *)ctx)->sim, (struct sim_delivery *)(uintptr_t)ref.tag, false);
}

static void worker_give_back(void *ctx, struct delivery_ref ref)
{
    broker_settle(((struct node *)ctx)->sim, (struct sim_delivery *)(uintptr_t)ref.tag, true);
}

/* What becomes of nonsense at the scheduler is seen there, where it comes too. */
static void worker_refuse(void *ctx, struct delivery_ref ref, struct str body)
{
    (void)body;
    worker_ack(ctx, ref);
}

static void results_confirmed(struct sim *sim, struct node *node, uint64_t id, void *ptr, bool confirmed)
{
    struct waiting_batch *waiting = ptr;

    (void)sim;
    (void)id;
    waiting->answered = true;
    worker_core_published(node->worker, waiting->batch, confirmed ? PUBLISH_CONFIRMED : PUBLISH_FAILED);
}

static void publish_results(void *ctx, const char *queue, struct str body, struct batch *batch)
{
    struct node *node = ctx;
    struct waiting_batch *waiting = sim_new(node->sim, struct waiting_batch);

    waiting->batch = batch;
    waiting->next = node->batches;
    node->batches = waiting;
    broker_publish(node, queue, "result", NULL, body, CARE_KEPT, results_confirmed, 0, waiting);
}

static void publish_started(void *ctx, const char *queue, struct str message_id, struct str body)
{
    struct node *node = ctx;

#ifdef PLANT_NO_GRANT
    struct sim_message grant = {
        .type = STR("grant"),
        .body = str_of(
            arena_printf(node->sim->arena, "{\"v\":1,\"task_id\":\"" STR_FMT "\",\"go\":true}", STR_ARG(message_id)))};

    broker_put(node->sim, node->control, "grant", "g", grant.body);
#endif
    broker_publish(node, queue, "started", arena_dup(node->sim->arena, message_id.ptr, message_id.len), body, CARE_KEPT,
                   NULL, 0, NULL);
}

static void publish_heartbeat(void *ctx, struct str body)
{
    broker_heartbeat(ctx, body);
}

static void consume_tasks(struct node *node)
{
    char name[64];

    for (int p = 0; p < PRIORITY_COUNT; p++) {
        snprintf(name, sizeof(name), "ropewalk.task.default.%s", sched_priority_names[p]);
        node->tasks[p] = broker_consume(node, name, 0, false, 0, 8);
    }
}

static void consume(void *ctx, bool on)
{
    struct node *node = ctx;

    for (int p = 0; p < PRIORITY_COUNT; p++)
        if (node->tasks[p] != NULL)
            node->tasks[p]->cancelled = true;
    if (on && node->broker_up)
        consume_tasks(node);
}

static void cache(void *ctx, struct job *job, size_t argc, const struct str *argv)
{
    cache_ask(ctx, job, argc, argv);
}

static void begin(void *ctx, struct job *job, const struct task *task, int64_t bound_us, bool once)
{
    world_begin(ctx, job, task, bound_us, once);
}

static void abort_call(void *ctx, struct job *job)
{
    world_abort(ctx, job);
}

static void drained(void *ctx)
{
    (void)ctx;
}

void worker_start(struct node *node)
{
    struct worker_ports ports = {.ctx = node,
                                 .mono = mono,
                                 .wall = wall,
                                 .ack = worker_ack,
                                 .give_back = worker_give_back,
                                 .refuse = worker_refuse,
                                 .publish_results = publish_results,
                                 .publish_started = publish_started,
                                 .publish_heartbeat = publish_heartbeat,
                                 .consume = consume,
                                 .cache = cache,
                                 .begin = begin,
                                 .abort = abort_call,
                                 .drained = drained};
    struct worker_options options = {.id = node->name,
                                     .control_queue = node->control,
                                     .capacity = 32,
                                     .started_after_ms = 1000,
                                     .heartbeat_ms = 2000,
                                     .claim_ttl_ms = 60000,
                                     .holder_ttl_ms = 6000,
                                     .ack_after_ms = 600000,
                                     .drain_ms = 10000,
                                     .cancel_grace_ms = 3000};

    node->calls = NULL;
    node->batches = NULL;
    memset(node->tasks, 0, sizeof(node->tasks));
    node->worker = worker_core_new(&options, &ports);
    sim_keep_ticking(node);
}

void worker_stop(struct node *node)
{
    for (struct waiting_batch *waiting = node->batches; waiting != NULL; waiting = waiting->next)
        if (!waiting->answered)
            mem_free(waiting->batch);
    worker_core_free(node->worker);
    node->worker = NULL;
}

void worker_connected(struct node *node)
{
    for (int p = 0; p < PRIORITY_COUNT; p++)
        if (node->tasks[p] != NULL)
            worker_core_consumer_lost(node->worker, node->tasks[p]);
    consume_tasks(node);
    node->control_consumer = broker_consume(node, node->control, 0, false, 0, 1000);
    worker_core_publisher(node->worker, true);
    worker_core_cache_up(node->worker);
}

void worker_deliver(struct node *node, struct sim_delivery *delivery)
{
    struct sim *sim = node->sim;
    const struct sim_message *message = &delivery->message;

    if (delivery->consumer == node->control_consumer) {
        struct control control;
        struct err err;

        if (control_decode(message->type, message->body, sim->arena, &control, &err) == ERR_OK)
            worker_core_control(node->worker, &control);
        else
            sim_fail(sim, "a worker cannot read '" STR_FMT "': %s", STR_ARG(message->body), err.message);
        broker_settle(sim, delivery, false);
        return;
    }
    if (stranger_takes(node, delivery))
        return;
    worker_core_delivered(node->worker, (struct delivery_ref){delivery->consumer, 0, (uint64_t)(uintptr_t)delivery},
                          message->redelivered, (struct wall_us){message->sent_at}, message->body);
}
