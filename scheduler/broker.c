/* RabbitMQ for the core. Queues are declared before they are used: inboxes all at once, so that nobody's result is
 * returned while a shard has no owner, and task queues when the first task is published, so that tasks wait for a
 * worker that is still to come. The links keep what they declared and consume again by themselves after a loss. */
#include "scheduler/broker.h"
#include "common/base/fault.h"
#include "common/base/ensure.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "common/base/metrics.h"

#include "common/base/banned.h"

#define PREFETCH 512
#define PREFETCH_LARGE 8
/* Workers' results of more than 64 KiB have an inbox of their own; whatever else is longer than this is no message of
 * ours. Reading all of it would keep the loop from those that are. */
#define MESSAGE_BYTES ((uint64_t)4 << 20)
#define HEARTBEAT_S 5
#define HEARTBEAT_EXCHANGE "ropewalk.heartbeat"
#define CANCEL_EXCHANGE "ropewalk.cancel"
#define TASK_PREFIX "ropewalk.task."
#define QUEUE_NAME_SIZE 256

/* One consumer: of a shard's inbox, of its inbox for large messages, or of heartbeats (shard -1). */
struct inbox {
    struct broker *broker;
    int16_t shard;
    bool large;
    struct amqp_consumer *consumer; /* NULL: not ours */
    char queue[QUEUE_NAME_SIZE];
};

struct broker {
    struct broker_options options;
    struct sched *sched;
    struct amqp_link *in, *out;
    bool in_up, out_up, up;
    struct inbox *inboxes; /* two of each shard */
    struct inbox heartbeats;
    struct map *declared; /* task queues; values are the map's own */
};

/* --- links -------------------------------------------------------------------------------------------------------- */

static void tell_state(struct broker *broker, const struct err *err)
{
    bool up = broker->in_up && broker->out_up;

    if (up == broker->up)
        return;
    broker->up = up;
    broker->options.on_state(broker->options.ctx, up, err);
}

static void link_down(struct broker *broker, const char *which, const struct err *err)
{
    log_event(LOG_WARN, "broker.connection_lost", log_cstr("link", which), log_err(err));
    tell_state(broker, err);
}

static void in_up(void *ctx)
{
    struct broker *broker = ctx;

    broker->in_up = true;
    tell_state(broker, NULL);
}

static void in_down(void *ctx, const struct err *err)
{
    struct broker *broker = ctx;

    broker->in_up = false;
    link_down(broker, "consuming", err);
}

static void out_up(void *ctx)
{
    struct broker *broker = ctx;

    broker->out_up = true;
    tell_state(broker, NULL);
}

static void out_down(void *ctx, const struct err *err)
{
    struct broker *broker = ctx;

    broker->out_up = false;
    link_down(broker, "publishing", err);
}

static void out_blocked(void *ctx, bool blocked)
{
    (void)ctx;
    if (blocked)
        metric_add(METRIC_AMQP_BLOCKED, 1);
    log_event(LOG_WARN, "broker.blocked", log_bool("blocked", blocked));
}

/* --- consuming ---------------------------------------------------------------------------------------------------- */

static void on_heartbeats(void *ctx, struct amqp_delivery *first)
{
    struct inbox *inbox = ctx;

    while (first != NULL) {
        struct amqp_delivery *delivery = first;

        first = delivery->next;
        sched_on_heartbeat(inbox->broker->sched, delivery->body);
        amqp_delivery_free(delivery);
    }
    inbox->broker->options.woken(inbox->broker->options.ctx);
}

static void on_deliveries(void *ctx, struct amqp_delivery *first)
{
    struct inbox *inbox = ctx;

    while (first != NULL) {
        struct amqp_delivery *delivery = first;
        struct sched_message message = {.delivery = delivery,
                                        .shard = inbox->shard,
                                        .large = inbox->large,
                                        .redelivered = delivery->redelivered,
                                        .type = delivery->type,
                                        .message_id = delivery->message_id,
                                        .body = delivery->body,
                                        .whole_bytes = delivery->whole_bytes};

        first = delivery->next;
        delivery->next = NULL;
        FAULT_POINT_IF(scheduler_result_received, str_is(delivery->type, "result"));
        FAULT_POINT_IF(scheduler_started_received, str_is(delivery->type, "started"));
        sched_on_message(inbox->broker->sched, &message);
    }
    inbox->broker->options.woken(inbox->broker->options.ctx);
}

static void consume(struct inbox *inbox, int64_t epoch)
{
    struct amqp_consume options = {.queue = inbox->queue,
                                   .prefetch = inbox->large ? PREFETCH_LARGE : PREFETCH,
                                   .priority = (int)(epoch & INT32_MAX),
                                   .body_most = inbox->large ? 0 : MESSAGE_BYTES,
                                   .on_deliveries = on_deliveries,
                                   .ctx = inbox};

    if (inbox->consumer != NULL)
        amqp_consumer_close(inbox->consumer);
    inbox->consumer = amqp_consume(inbox->broker->in, &options);
}

void broker_consume_shard(struct broker *broker, int16_t shard, int64_t epoch)
{
    ENSURE(shard >= 0 && (size_t)shard < broker->options.shard_count);
    consume(&broker->inboxes[2 * shard], epoch);
    consume(&broker->inboxes[2 * shard + 1], epoch);
}

void broker_close_shard(struct broker *broker, int16_t shard)
{
    ENSURE(shard >= 0 && (size_t)shard < broker->options.shard_count);
    for (int i = 0; i < 2; i++) {
        struct inbox *inbox = &broker->inboxes[2 * shard + i];

        if (inbox->consumer != NULL)
            amqp_consumer_close(inbox->consumer);
        inbox->consumer = NULL;
    }
}

void broker_ack(struct broker *broker, void *delivery)
{
    struct amqp_delivery *d = delivery;

    (void)broker;
    FAULT_POINT_AFTER(scheduler_input_acking, true, amqp_flush(broker->out));
    amqp_ack(d->consumer, d->generation, d->tag);
    FAULT_POINT_AFTER(scheduler_input_acked, true, amqp_flush(broker->in));
    amqp_delivery_free(d);
}

void broker_forget(struct broker *broker, void *delivery)
{
    (void)broker;
    amqp_delivery_free(delivery);
}

/* --- publishing --------------------------------------------------------------------------------------------------- */

static void declare(struct amqp_link *link, const char *queue, const char *type)
{
    const struct amqp_queue options = {.name = queue, .durable = true, .type = type};

    amqp_declare_queue(link, &options);
}

static void declare_task_queue(struct broker *broker, const char *queue)
{
    struct str name = str_of(queue);

    if (!str_starts(name, TASK_PREFIX) || map_get(broker->declared, name) != NULL)
        return;
    map_put(broker->declared, name, broker);
    declare(broker->out, queue, broker->options.queue_type);
}

/* What a confirm needs to find the core. */
struct way_back {
    struct broker *broker;
    uint64_t confirm;
};

static void on_confirm(void *ctx, enum amqp_confirm outcome)
{
    struct way_back *way = ctx;

    FAULT_POINT_IF(scheduler_task_confirmed, outcome == AMQP_CONFIRMED);
    sched_on_confirm(way->broker->sched, way->confirm,
                     outcome == AMQP_CONFIRMED ? SCHED_CONFIRMED : SCHED_NOT_CONFIRMED);
    way->broker->options.woken(way->broker->options.ctx);
    mem_free(way);
}

void broker_publish(struct broker *broker, const struct sched_publish *publish, struct wall_us sent_at)
{
    struct amqp_message message = {.exchange = publish->queue == NULL ? CANCEL_EXCHANGE : "",
                                   .routing_key = publish->queue == NULL ? "" : publish->queue,
                                   .type = publish->type,
                                   .message_id = publish->message_id,
                                   .reply_to = publish->reply_to,
                                   .persistent = publish->persistent,
                                   .in_memory = publish->in_memory,
                                   .body = publish->body,
                                   .sent_at = sent_at};

    if (publish->queue != NULL)
        declare_task_queue(broker, publish->queue);
    if (publish->confirm != 0) {
        struct way_back *way = mem_alloc(sizeof(*way));

        *way = (struct way_back){broker, publish->confirm};
        message.on_confirm = on_confirm;
        message.ctx = way;
    }
    FAULT_POINT_IF(scheduler_task_publishing, strcmp(publish->type, "task") == 0);
    amqp_publish(broker->out, &message);
    FAULT_POINT_AFTER(scheduler_task_published, strcmp(publish->type, "task") == 0, amqp_flush(broker->out));
    FAULT_POINT_AFTER(scheduler_grant_published, strcmp(publish->type, "grant") == 0, amqp_flush(broker->out));
    FAULT_POINT_AFTER(scheduler_update_published, strcmp(publish->type, "update") == 0, amqp_flush(broker->out));
}

struct depth {
    struct broker *broker;
    char queue[QUEUE_NAME_SIZE];
};

static void on_depth(void *ctx, bool found, uint32_t ready, uint32_t consumers)
{
    struct depth *depth = ctx;

    sched_on_queue_depth(depth->broker->sched, depth->queue, found, ready, consumers);
    depth->broker->options.woken(depth->broker->options.ctx);
    mem_free(depth);
}

void broker_queue_depth(struct broker *broker, const char *queue)
{
    struct depth *depth = mem_alloc(sizeof(*depth));

    depth->broker = broker;
    snprintf(depth->queue, sizeof(depth->queue), "%s", queue);
    amqp_queue_depth(broker->in, queue, on_depth, depth);
}

void broker_flush(struct broker *broker)
{
    amqp_flush(broker->out);
    amqp_flush(broker->in);
}

/* --- life --------------------------------------------------------------------------------------------------------- */

static void make_inboxes(struct broker *broker)
{
    broker->inboxes = mem_array(broker->options.shard_count * 2, sizeof(*broker->inboxes));
    for (size_t i = 0; i < broker->options.shard_count * 2; i++) {
        struct inbox *inbox = &broker->inboxes[i];

        inbox->broker = broker;
        inbox->shard = (int16_t)(i / 2);
        inbox->large = i % 2 == 1;
        snprintf(inbox->queue, sizeof(inbox->queue), "ropewalk.inbox.%d%s", inbox->shard, inbox->large ? ".large" : "");
        declare(broker->in, inbox->queue, broker->options.queue_type);
    }
}

static void consume_heartbeats(struct broker *broker)
{
    struct inbox *inbox = &broker->heartbeats;
    char token[13];
    struct amqp_queue queue = {.name = inbox->queue, .exclusive = true, .bind_exchange = HEARTBEAT_EXCHANGE};
    struct amqp_consume options = {.queue = inbox->queue,
                                   .no_ack = true,
                                   .body_most = MESSAGE_BYTES,
                                   .on_deliveries = on_heartbeats,
                                   .ctx = inbox};

    random_token(token, 12); /* after a crash the broker may hold the old one for a while */
    inbox->broker = broker;
    inbox->shard = -1;
    snprintf(inbox->queue, sizeof(inbox->queue), "ropewalk.scheduler.%s-%s", broker->options.name, token);
    amqp_declare_fanout(broker->in, HEARTBEAT_EXCHANGE);
    amqp_declare_queue(broker->in, &queue);
    inbox->consumer = amqp_consume(broker->in, &options);
}

struct broker *broker_new(const struct broker_options *options)
{
    struct broker *broker = mem_alloc(sizeof(*broker));
    struct amqp_options link = {.loop = options->loop, .url = options->url, .heartbeat_s = HEARTBEAT_S, .ctx = broker};
    char name[200];

    broker->options = *options;
    broker->declared = map_new();
    snprintf(name, sizeof(name), "%s inbox", options->name);
    link.name = name;
    link.on_up = in_up;
    link.on_down = in_down;
    broker->in = amqp_link_new(&link);
    snprintf(name, sizeof(name), "%s tasks", options->name);
    link.on_up = out_up;
    link.on_down = out_down;
    link.on_blocked = out_blocked;
    broker->out = amqp_link_new(&link);
    amqp_declare_fanout(broker->out, CANCEL_EXCHANGE);
    make_inboxes(broker);
    return broker;
}

void broker_free(struct broker *broker)
{
    if (broker == NULL)
        return;
    amqp_link_free(broker->out);
    amqp_link_free(broker->in);
    map_free(broker->declared);
    mem_free(broker->inboxes);
    mem_free(broker);
}

void broker_set_core(struct broker *broker, struct sched *sched)
{
    broker->sched = sched;
    consume_heartbeats(broker);
}

bool broker_is_up(const struct broker *broker)
{
    return broker->up;
}
