/* The contract of the broker against the simulator's model of RabbitMQ. */
#include "common/base/ensure.h"
#include "tests/contract/broker.h"
#include "tests/sim/sim.h"

#include "common/base/banned.h"

#define CONSUMERS_MAX 8

static struct sim sim;
static struct sim_stats stats;
static const struct play play;
static struct {
    struct consumer *consumer;
    bool gone;
} consumers[CONSUMERS_MAX];
static int consumer_count;
static struct sim_delivery *deliveries[DELIVERIES_MAX];

const char *hand_queue(void)
{
    return "contract";
}
const char *hand_control(void)
{
    return sim.nodes[W0].control;
}

/* ---- where the simulated processes would be ---- */

static void hear(struct sim_delivery *delivery)
{
    int number = 0;

    while (consumers[number].consumer != delivery->consumer)
        number++;
    assert_true(heard.count < DELIVERIES_MAX);
    heard.deliveries[heard.count].consumer = number;
    heard.deliveries[heard.count].redelivered = delivery->message.redelivered;
    snprintf(heard.deliveries[heard.count].body, sizeof(heard.deliveries[0].body), STR_FMT,
             STR_ARG(delivery->message.body));
    deliveries[heard.count++] = delivery;
}
void scheduler_deliver(struct node *node, struct sim_delivery *delivery)
{
    (void)node;
    hear(delivery);
}
void worker_deliver(struct node *node, struct sim_delivery *delivery)
{
    (void)node;
    hear(delivery);
}
void sched_on_heartbeat(struct sched *sched, struct str body)
{
    (void)body;
    heard.heartbeats[((struct node *)(void *)sched)->index]++;
}
void sched_on_queue_depth(struct sched *sched, const char *queue, bool known, uint32_t ready, uint32_t consuming)
{
    (void)sched;
    (void)queue;
    heard.depths++;
    heard.found = known;
    heard.ready = ready;
    heard.consumers = consuming;
}
void node_turn(struct node *node)
{
    (void)node;
}
void node_disconnect(struct sim *s, struct node *node)
{
    (void)s;
    (void)node;
}
int64_t node_wall(const struct node *node)
{
    return node->sim->start_wall + node->sim->now;
}
struct db_run *db_find(struct sim *s, struct run_id id)
{
    (void)s;
    (void)id;
    return NULL;
}
const char *const sched_priority_names[PRIORITY_COUNT] = {"critical", "high", "normal", "low"};

/* ---- the world ---- */

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

int broker_group_begin(void **state)
{
    (void)state;
    return 0;
}
int broker_group_end(void **state)
{
    (void)state;
    return 0;
}

int broker_world_begin(void **state)
{
    (void)state;
    heard = (struct broker_heard){0};
    consumer_count = 0;
    sim = (struct sim){.play = &play, .rng = {1}, .stats = &stats, .now = 1, .start_wall = INT64_C(1800000000) * SEC};
    sim.arena = arena_new((size_t)1 << 20);
    for (int i = 0; i < PROCESS_COUNT; i++) {
        struct node *node = &sim.nodes[i];

        *node = (struct node){.sim = &sim,
                              .kind = i == W0 ? NODE_WORKER : NODE_SCHEDULER,
                              .index = i,
                              .incarnation = 1,
                              .alive = true,
                              .broker_up = true};
        node->sched = (struct sched *)(void *)node;
        snprintf(node->control, sizeof(node->control), "control.%d", i);
    }
    broker_declare(&sim, QUEUE);
    broker_declare(&sim, hand_control());
    return 0;
}

int broker_world_end(void **state)
{
    (void)state;
    mem_free(sim.due);
    mem_free(sim.events);
    arena_free(sim.arena);
    return 0;
}

/* ---- what a shell asks for ---- */

int broker_do_consume(enum process process, const char *queue, uint32_t prefetch, int64_t priority)
{
    assert_true(consumer_count < CONSUMERS_MAX);
    consumers[consumer_count].gone = false;
    consumers[consumer_count].consumer = broker_consume(&sim.nodes[process], queue, 0, false, priority, prefetch);
    return consumer_count++;
}

void broker_do_close(int consumer)
{
    consumers[consumer].gone = true;
    broker_close(&sim, consumers[consumer].consumer);
}

void broker_do_cancel(int consumer)
{
    consumers[consumer].consumer->cancelled = true;
}

void broker_do_ack(int delivery)
{
    broker_settle(&sim, deliveries[delivery], false);
}

void broker_do_nack(int delivery)
{
    broker_settle(&sim, deliveries[delivery], true);
}

static void on_confirm(struct sim *s, struct node *node, uint64_t id, void *ptr, bool confirmed)
{
    (void)s;
    (void)node;
    (void)id;
    (void)ptr;
    if (confirmed)
        heard.confirmed++;
    else
        heard.not_confirmed++;
}

void broker_do_publish(enum process process, const char *queue, const char *body)
{
    broker_publish(&sim.nodes[process], queue, "result", NULL, str_of(body), CARE_KEPT, on_confirm, 0, NULL);
}

void broker_do_heartbeat(enum process process, const char *body)
{
    broker_heartbeat(&sim.nodes[process], str_of(body));
}

void broker_do_depth(enum process process, const char *queue)
{
    broker_depth(&sim.nodes[process], queue);
}

/* ---- hands ---- */

/* A link consumes again, whatever it has lost. */
static void consume_again(void)
{
    for (int i = 0; i < consumer_count; i++) {
        struct consumer *was = consumers[i].consumer;

        if (was->closed && !consumers[i].gone)
            consumers[i].consumer = broker_consume(was->node, was->queue->name, 0, false, was->priority, was->prefetch);
    }
}

void hand_lose_connection(enum process process)
{
    broker_close_node(&sim, &sim.nodes[process]);
    consume_again();
}

void hand_die(enum process process)
{
    sim.nodes[process].alive = false;
    sim.nodes[process].broker_up = false;
    broker_close_node(&sim, &sim.nodes[process]);
}

void hand_purge(const char *queue)
{
    broker_purge_queue(&sim, queue);
}

void hand_delete(const char *queue)
{
    broker_delete(&sim, queue);
}

void hand_declare(const char *queue)
{
    broker_declare(&sim, queue);
    consume_again();
}
