/* What the parts of the gateway share. One process, one loop; everything here is loop thread only. */
#pragma once
#include "common/base/limits.h"
#include "common/io/amqp.h"
#include "common/io/pg.h"
#include "common/io/service.h"

struct gateway_config {
    char *name, *listen, *pg_url, *amqp_url, *redis_url, *event_organisations, *queue_type, *master_key_file,
        *log_level, *egress_allow, *ca_file;
    int64_t pg_connections, max_connections, max_streams, start_delay_ms, backlog_min, backlog_max, drain_ms,
        trusted_proxies, webhook_timeout_ms;
    struct limit_settings limits;
    bool pg_pooler;
};

#define GATEWAY_READS_MAX 64

struct gateway {
    struct gateway_config config;
    struct service *service;
    uv_loop_t *loop;
    struct http_server *http;
    struct pg *reads[GATEWAY_READS_MAX]; /* answers come in order per connection: several, so that none waits long */
    struct pg *writes;                   /* workflows, keys, commands */
    struct pg *plain_starts, *keyed_starts, *event_writes;
    struct pg *bulk; /* statements that may take long: nobody else's stand behind them */
    struct amqp_link *publish, *consume;
    struct db_clock clock;
    struct auth *auth;
    struct secrets *secrets;
    struct cache *cache; /* NULL: no Redis is set */
    struct flows *flows;
    struct starts *starts;
    struct backlog *backlog;
    struct bulk_steps *bulk_steps;
    struct bulk_reruns *bulk_reruns;
    struct sender *sender;
    struct live *live;
    struct event_queues *event_queues;
    struct sandbox *sandbox; /* compiles expressions of what is saved */
    char queue[160];         /* this gateway's own: updates and verdicts arrive here */
    bool schema_ready, role_ready;
    bool stopping;
};

/* The reading connection with the fewest batches in flight. */
struct pg *gateway_read(struct gateway *gw);
void gateway_sample_clock(struct gateway *gw, struct wall_us db_now);
/* Tells the scheduler of a shard that it has a command; a message that is lost costs a second. The
 * caller flushes. */
void gateway_nudge(struct gateway *gw, int shard);
