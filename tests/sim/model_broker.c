/* RabbitMQ: queues, consumers with prefetch and priority, redelivery, confirms; and all that can go wrong with them. */
#include "common/base/ensure.h"
#include "tests/sim/sim.h"

#include "common/base/banned.h"

static struct queue *find_queue(struct sim *sim, const char *name)
{
    struct queue *q = sim->queues;

    while (q != NULL && strcmp(q->name, name) != 0)
        q = q->next;
    return q;
}

static bool is_up(const struct sim *sim, const struct queue *q)
{
    return sim->broker_down_until <= sim->now && q->away_until <= sim->now;
}

static struct queue *declare(struct sim *sim, const char *name)
{
    struct queue *q = find_queue(sim, name);

    if (q != NULL)
        return q;
    q = sim_new(sim, struct queue);
    q->name = arena_dup(sim->arena, name, strlen(name));
    q->home = (uint32_t)strlen(name) + (uint32_t)name[strlen(name) - 1];
    q->home %= BROKER_NODES;
    q->next = sim->queues;
    sim->queues = q;
    return q;
}

void broker_declare(struct sim *sim, const char *queue)
{
    (void)declare(sim, queue);
}

void broker_init(struct sim *sim)
{
    for (int s = 0; s < SHARDS; s++) {
        declare(sim, arena_printf(sim->arena, "ropewalk.inbox.%d", s));
        declare(sim, arena_printf(sim->arena, "ropewalk.inbox.%d.large", s));
    }
    for (int p = 0; p < PRIORITY_COUNT; p++)
        declare(sim, arena_printf(sim->arena, "ropewalk.task.default.%s", sched_priority_names[p]));
}

/* What is put back is where it was: before all that came later. */
static void enqueue(struct sim *sim, struct queue *q, struct sim_message message, bool back)
{
    size_t at = q->count;

    if (q->count == q->cap) {
        struct sim_message *grown;

        q->cap = q->cap == 0 ? 16 : 2 * q->cap;
        grown = arena_array(sim->arena, q->cap, sizeof(*grown));
        if (q->count > 0)
            memcpy(grown, q->messages, q->count * sizeof(*grown));
        q->messages = grown;
    }
    if (back) {
        message.redelivered = true;
        for (at = 0; at < q->count && q->messages[at].place < message.place;)
            at++;
        memmove(q->messages + at + 1, q->messages + at, (q->count - at) * sizeof(*q->messages));
    } else {
        message.place = ++q->places;
    }
    q->messages[at] = message;
    q->count++;
}

static struct sim_message dequeue(struct queue *q)
{
    struct sim_message message = q->messages[0];

    memmove(q->messages, q->messages + 1, (q->count - 1) * sizeof(*q->messages));
    q->count--;
    return message;
}

static void deliver(struct sim *sim, void *what)
{
    struct sim_delivery *delivery = what;
    struct consumer *consumer = delivery->consumer;

    if (consumer->closed)
        return;
    sim_trace(sim, "%s gets %s%s", consumer->node->name, delivery->message.redelivered ? "again " : "",
              arena_printf(sim->arena, STR_FMT " " STR_FMT, STR_ARG(delivery->message.type),
                           STR_ARG(delivery->message.body)));
    if (sim->on_point != NULL)
        (void)sim_point(sim, consumer->node, "delivered " STR_FMT " %s", STR_ARG(delivery->message.type),
                        sim_task_name(sim, &delivery->message));
    if (consumer->node->kind == NODE_SCHEDULER)
        scheduler_deliver(consumer->node, delivery);
    else
        worker_deliver(consumer->node, delivery);
    node_turn(consumer->node);
}

/* The consumer that gets the next message: highest priority first, then in turn. */
static struct consumer *choose(struct queue *q)
{
    struct consumer *best = NULL;
    uint32_t n = 0, at;

    for (struct consumer *c = q->consumers; c != NULL; c = c->next) {
        if (c->closed || c->cancelled || c->unacked_count >= c->prefetch)
            continue;
        if (best == NULL || c->priority > best->priority) {
            best = c;
            n = 1;
        } else if (c->priority == best->priority) {
            n++;
        }
    }
    if (n < 2)
        return best;
    at = q->turn++ % n;
    for (struct consumer *c = q->consumers; c != NULL; c = c->next)
        if (!c->closed && !c->cancelled && c->unacked_count < c->prefetch && c->priority == best->priority && at-- == 0)
            return c;
    return best;
}

/* What goes over one channel arrives in order. */
static int64_t in_order(struct sim *sim, int64_t *last)
{
    int64_t at = sim->now + rng_between(&sim->rng, 50, 1 * MS);

    *last = at > *last ? at : *last;
    return *last;
}

static void pump(struct sim *sim, struct queue *q)
{
    struct consumer *c;

    while (q->count > 0 && is_up(sim, q) && (c = choose(q)) != NULL) {
        struct sim_delivery *delivery = sim_new(sim, struct sim_delivery);

        delivery->consumer = c;
        delivery->message = dequeue(q);
        if (c->unacked_count == c->unacked_cap) {
            struct sim_delivery **grown;

            c->unacked_cap = c->unacked_cap == 0 ? 16 : 2 * c->unacked_cap;
            grown = arena_array(sim->arena, c->unacked_cap, sizeof(struct sim_delivery *));
            if (c->unacked_count > 0)
                memcpy(grown, c->unacked, c->unacked_count * sizeof(struct sim_delivery *));
            c->unacked = grown;
        }
        c->unacked[c->unacked_count++] = delivery;
        sim_at(sim, in_order(sim, &c->delivered_at), c->node, deliver, delivery);
    }
}

void broker_pump(struct sim *sim)
{
    for (struct queue *q = sim->queues; q != NULL; q = q->next)
        pump(sim, q);
}

struct consumer *broker_consume(struct node *node, const char *queue, int16_t shard, bool large, int64_t priority,
                                uint32_t prefetch)
{
    struct consumer *c = sim_new(node->sim, struct consumer);

    c->queue = declare(node->sim, queue);
    c->node = node;
    c->incarnation = node->incarnation;
    c->shard = shard;
    c->large = large;
    c->priority = priority;
    c->prefetch = prefetch;
    c->next = c->queue->consumers;
    c->queue->consumers = c;
    pump(node->sim, c->queue);
    return c;
}

void broker_close(struct sim *sim, struct consumer *consumer)
{
    struct consumer **at;

    if (consumer == NULL || consumer->closed)
        return;
    consumer->closed = true;
    at = &consumer->queue->consumers;
    while (*at != consumer)
        at = &(*at)->next;
    *at = consumer->next;
    for (size_t i = consumer->unacked_count; i > 0; i--)
        enqueue(sim, consumer->queue, consumer->unacked[i - 1]->message, true);
    consumer->unacked_count = 0;
    pump(sim, consumer->queue);
}

void broker_delete(struct sim *sim, const char *queue)
{
    for (struct queue **at = &sim->queues; *at != NULL; at = &(*at)->next) {
        struct queue *q = *at;

        if (strcmp(q->name, queue) != 0)
            continue;
        for (struct consumer *c = q->consumers; c != NULL; c = c->next)
            c->closed = true; /* it is told so; what it has in hand is nobody's */
        *at = q->next;
        return;
    }
}

void broker_close_node(struct sim *sim, struct node *node)
{
    node->connection++;
    for (struct queue *q = sim->queues; q != NULL; q = q->next) {
        for (struct consumer *c = q->consumers, *next; c != NULL; c = next) {
            next = c->next;
            if (c->node == node)
                broker_close(sim, c);
        }
    }
    broker_delete(sim, node->control); /* exclusive: gone with its connection */
}

struct settle {
    struct sim_delivery *delivery;
    bool requeue;
};

static void settled(struct sim *sim, void *what)
{
    struct settle *s = what;
    struct consumer *c = s->delivery->consumer;

    if (c->closed)
        return;
    for (size_t i = 0; i < c->unacked_count; i++) {
        if (c->unacked[i] != s->delivery)
            continue;
        c->unacked[i] = c->unacked[--c->unacked_count];
        if (s->requeue)
            enqueue(sim, c->queue, s->delivery->message, true);
        break;
    }
    pump(sim, c->queue);
}

void broker_settle(struct sim *sim, struct sim_delivery *delivery, bool requeue)
{
    struct settle *s = sim_new(sim, struct settle);

    ENSURE(!delivery->settled);
    delivery->settled = true;
    s->delivery = delivery;
    s->requeue = requeue;
    sim_after(sim, 20, 500, NULL, settled, s);
}

struct publication {
    struct node *node;
    uint32_t incarnation, connection;
    const char *queue;
    struct sim_message message;
    confirm_fn confirm;
    uint64_t id;
    void *ptr;
    enum care care;
    bool confirmed, was_blocked, is_late;
    struct point point;
};

static void confirmed(struct sim *sim, void *what)
{
    struct publication *p = what;

    p->confirm(sim, p->node, p->id, p->ptr, p->confirmed);
    node_turn(p->node);
}

static void put(struct sim *sim, struct queue *q, const struct sim_message *message)
{
    uint32_t copies = sim_chances(sim, DECIDE_DUPLICATE, sim->duplicate) ? 2 : 1;

    sim->stats->duplicates += copies - 1;
    for (uint32_t i = 0; i < copies; i++) {
        enqueue(sim, q, *message, false);
        if (q->count > 1 && sim_chances(sim, DECIDE_REORDER, sim->reorder)) {
            size_t other = rng_below(&sim->streams[DECIDE_REORDER], (uint32_t)q->count);
            struct sim_message swap = q->messages[other];

            q->messages[other] = q->messages[q->count - 1];
            q->messages[q->count - 1] = swap;
            q->messages[q->count - 1].place = q->messages[other].place;
            q->messages[other].place = swap.place;
        }
    }
    pump(sim, q);
}

static void arrived(struct sim *sim, void *what)
{
    struct publication *p = what;
    struct queue *q = find_queue(sim, p->queue);
    bool gone = p->was_blocked && (p->node->connection != p->connection || p->node->incarnation != p->incarnation);

    if (sim->broker_blocked_until > sim->now && !gone) {
        p->was_blocked = true;
        sim_after(sim, 50 * MS, 100 * MS, NULL, arrived, p);
        return;
    }
    p->confirmed = q != NULL && is_up(sim, q) && !gone;
    if (sim->on_point != NULL && !p->is_late) {
        p->point = sim_point(sim, p->node, "published " STR_FMT " %s", STR_ARG(p->message.type),
                             sim_task_name(sim, &p->message));
        p->is_late = p->point.late_us > 0;
        if (p->is_late) {
            sim_at(sim, sim->now + p->point.late_us, NULL, arrived, p);
            return;
        }
    }
    /* A transient message may be lost on the way; a confirmed one only with the broker's own data. */
    if (p->confirmed && !p->point.lost && (p->care != CARE_NONE || !sim_chances(sim, DECIDE_LOSS, sim->lose)))
        put(sim, q, &p->message);
    if (p->confirmed && p->point.doubled)
        put(sim, q, &p->message);
    if (p->point.unconfirmed || (p->care != CARE_NONE && sim_chances(sim, DECIDE_UNCONFIRMED, sim->lose)))
        p->confirmed = false; /* it is there, but nobody was told */
    if (p->confirm != NULL && p->node->alive && p->node->incarnation == p->incarnation)
        sim_after(sim, 50, 2 * MS, p->node, confirmed, p);
}

void broker_publish(struct node *node, const char *queue, const char *type, const char *message_id, struct str body,
                    enum care care, confirm_fn confirm, uint64_t id, void *ptr)
{
    struct sim *sim = node->sim;
    struct publication *p = sim_new(sim, struct publication);

    p->node = node;
    p->incarnation = node->incarnation;
    p->connection = node->connection;
    p->queue = arena_dup(sim->arena, queue, strlen(queue));
    p->message = (struct sim_message){.type = str_arena(sim->arena, str_of(type)),
                                      .message_id = str_arena(sim->arena, str_of(message_id)),
                                      .body = str_arena(sim->arena, body),
                                      .sent_at = node_wall(node) / SEC * SEC,
                                      .in_memory = care != CARE_KEPT};
    p->confirm = confirm;
    p->id = id;
    p->ptr = ptr;
    p->care = care;
    sim_trace(sim, "%s publishes %s to %s%s", node->name, type, queue, node->broker_up ? "" : " (no connection)");
    if (!node->broker_up) {
        if (confirm != NULL)
            sim_after(sim, 1, 10, node, confirmed, p);
        return;
    }
    sim_at(sim, in_order(sim, &node->published_at), NULL, arrived, p);
}

/* From somebody outside (a gateway): may be lost. */
void broker_put(struct sim *sim, const char *queue, const char *type, const char *message_id, struct str body)
{
    struct queue *q = find_queue(sim, queue);
    struct sim_message message = {.type = str_of(type), .message_id = str_of(message_id), .body = body};

    if (q == NULL || !is_up(sim, q) || sim_chances(sim, DECIDE_LOSS, sim->lose))
        return;
    put(sim, q, &message);
}

struct heartbeat {
    struct node *node;
    struct str body;
};

static void heartbeat_arrived(struct sim *sim, void *what)
{
    struct heartbeat *h = what;

    (void)sim;
    if (!h->node->broker_up)
        return;
    sched_on_heartbeat(h->node->sched, h->body);
    node_turn(h->node);
}

void broker_heartbeat(struct node *node, struct str body)
{
    struct sim *sim = node->sim;

    if (!node->broker_up || sim->broker_down_until > sim->now || sim->broker_blocked_until > sim->now)
        return;
    if (sim_point(sim, node, "published heartbeat w%d", node->index).lost)
        return;
    body = str_arena(sim->arena, body);
    for (int i = 0; i < SCHEDULERS; i++) {
        struct heartbeat *h = sim_new(sim, struct heartbeat);

        h->node = &sim->nodes[i];
        h->body = body;
        if (h->node->alive && !sim_chances(sim, DECIDE_LOSS, sim->lose))
            sim_after(sim, 100, 2 * MS, h->node, heartbeat_arrived, h);
    }
}

struct depth {
    struct node *node;
    const char *queue;
    bool known;
    uint32_t ready, consumers;
};

static void depth_answered(struct sim *sim, void *what)
{
    struct depth *d = what;

    (void)sim;
    sched_on_queue_depth(d->node->sched, d->queue, d->known, d->ready, d->consumers);
    node_turn(d->node);
}

void broker_depth(struct node *node, const char *queue)
{
    struct sim *sim = node->sim;
    struct depth *d = sim_new(sim, struct depth);
    struct queue *q = find_queue(sim, queue);

    d->node = node;
    d->queue = arena_dup(sim->arena, queue, strlen(queue));
    d->known = node->broker_up && q != NULL && is_up(sim, q);
#ifdef PLANT_BLIND
    d->known = false; /* what is lost can then not be told from what waits */
#endif
    if (d->known) {
        d->ready = (uint32_t)q->count;
        for (const struct consumer *c = q->consumers; c != NULL; c = c->next)
            d->consumers += !c->cancelled;
    }
    sim_after(sim, 1 * MS, 3 * MS, node, depth_answered, d);
}
