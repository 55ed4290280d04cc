/* Inside of the worker's process, around worker_core.h: main.c (settings, start, stop), ports.c (what the core asks
 * for), intake.c (what the broker delivers). Loop thread only; no decision is taken here. */
#pragma once
#include "common/io/amqp.h"
#include "common/io/cache.h"
#include "common/io/service.h"
#include "common/seal/keyring.h"
#include "worker/http_task.h"
#include "worker/slots.h"
#include "worker/worker_core.h"

#define HEARTBEAT_EXCHANGE "ropewalk.heartbeat"
#define CANCEL_EXCHANGE "ropewalk.cancel" /* to every worker: what is not to be begun */

struct config {
    char *name, *pools, *amqp_url, *redis_url, *listen, *egress_allow, *ca_file, *master_key_file, *queue_type;
    char *log_level;
    int64_t capacity, output_max, started_after_ms, heartbeat_ms, claim_ttl_ms, holder_ttl_ms, ack_after_ms, drain_ms;
    int64_t cancel_grace_ms, cache_timeout_ms;
};

struct worker;

struct lane { /* one queue that is consumed */
    struct worker *worker;
    char queue[256];
};

/* One consumer of a lane, for its own slots or for a loan (slots.h). A cancelled one keeps its channel while a message
 * of it is in hand. */
struct intake {
    struct intake *next;
    struct lane *lane;
    struct amqp_consumer *consumer;
    uint16_t slots;
    unsigned in_hand;  /* messages neither acknowledged nor given back */
    unsigned refusing; /* of them on their way to a scheduler as dead letters */
    uint32_t losses;
    bool cancelled;
};

struct worker {
    struct config config;
    char id[160], control_queue[200];
    struct service *service;
    struct amqp_link *in, *out;
    struct cache *cache;
    struct egress *egress;
    struct keyring *keyring;
    struct http_client *http;
    struct worker_core *core;
    uv_timer_t tick;
    uv_prepare_t turn_end;
    struct lane lanes[SLOTS_LANES_MAX];
    struct slots slots;
    struct mono_us slots_period; /* when it began */
    struct intake *intakes;
    struct refusal *not_taken;
    struct intake *loans[SLOTS_LOANS_MAX]; /* of intakes: who has the loan, or is giving it back; NULL: nobody */
    bool consuming, wanted, cache_was_up;
    struct mono_us started_at;
    struct map *calls; /* running requests by job */
};

struct worker_ports ports_of(struct worker *worker); /* ports.c */

/* intake.c */
bool intake_plan(struct worker *worker); /* pools to lanes; false: a pool's name that no queue can have */
void intake_declare(struct worker *worker);
/* Opens or cancels consumers as wanted, closes those with nothing in hand, lends slots anew. Each tick. */
void intake_update(struct worker *worker);
struct intake *intake_of(const struct worker *worker, const struct amqp_consumer *consumer); /* NULL: it is gone */
/* A message of this consumer is acknowledged or given back. */
void intake_done(struct worker *worker, const struct amqp_consumer *consumer);
void intake_free(struct worker *worker);

/* refusals.c: to the inbox that is always there; the queue's name tells where the message was. It is acknowledged when
 * the broker has it, and given back a second later when it has not. A dead letter keeps no more than its beginning, so
 * no more is sent: what is large costs the broker as much time as hundreds of tasks. */
void refusal_begin(struct worker *worker, struct delivery_ref ref, struct str body, uint64_t whole_bytes);
void refusals_update(struct worker *worker); /* each tick */
void refusals_free(struct worker *worker);   /* after the links */
