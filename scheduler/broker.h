/* The broker port of the scheduler's core: RabbitMQ over two links, one for consuming and one for publishing (an alarm
 * of the broker stops publishing connections only). Owned shards are consumed from `ropewalk.inbox.N` and
 * `ropewalk.inbox.N.large`, each on a channel of its own with the epoch as priority, so that a new owner is served
 * before one that does not know yet; heartbeats come through the fanout exchange `ropewalk.heartbeat` into a queue that
 * ends with this process. Loop thread only. */
#pragma once
#include "common/io/amqp.h"
#include "scheduler/core/sched_core.h"

struct broker;
struct broker_options {
    uv_loop_t *loop;
    const char *url;
    const char *name;       /* of this scheduler */
    const char *queue_type; /* "classic" or "quorum": of the durable queues */
    size_t shard_count;     /* inboxes 0 .. shard_count - 1 */
    void (*woken)(void *ctx);
    void (*on_state)(void *ctx, bool up, const struct err *err); /* both links are usable, or one is not any more */
    void *ctx;
};

struct broker *broker_new(const struct broker_options *options);
void broker_free(struct broker *broker); /* what is unacknowledged comes again, to whoever owns the shard then */
void broker_set_core(struct broker *broker, struct sched *sched); /* before the first shard is consumed */
bool broker_is_up(const struct broker *broker);
void broker_consume_shard(struct broker *broker, int16_t shard, int64_t epoch);
/* After each tick of the core: what it published and acknowledged goes out with one wake-up per link. */
void broker_flush(struct broker *broker);

/* Ports (sched_ports) */
/* sent_at: by PostgreSQL's clock, which deadlines are times of. */
void broker_publish(struct broker *broker, const struct sched_publish *publish, struct wall_us sent_at);
void broker_ack(struct broker *broker, void *delivery);
void broker_forget(struct broker *broker, void *delivery);
void broker_queue_depth(struct broker *broker, const char *queue);
void broker_close_shard(struct broker *broker, int16_t shard);
