/* The protocol of a worker: which delivery is done, claimed, asked about, waited for or reported as abandoned; when
 * results, `started` and heartbeats go out and when a message is acknowledged. Inputs are function calls, effects go
 * through `struct worker_ports`; there is no socket, loop, clock or randomness in here, so a simulator can drive it.
 * Rules: worker/README.md, "What happens to a delivery". One thread. */
#pragma once
#include "common/base/clock.h"
#include "worker/task.h"

struct worker_core;
struct job;   /* a task in hand; valid from begin/ask_cache/publish until the answer to it has been given */
struct batch; /* results in one message */

/* Names a delivery at the broker. */
struct delivery_ref {
    void *consumer;
    uint64_t generation, tag;
};

enum cache_answer { CACHE_ANSWER_VALUE, CACHE_ANSWER_NONE, CACHE_ANSWER_FAILED };
enum publish_answer { PUBLISH_CONFIRMED, PUBLISH_FAILED };

/* How a call ended. */
struct call_outcome {
    bool ok;
    bool aborted;           /* because of ports.abort */
    struct str output;      /* ok: JSON */
    bool transient;         /* else */
    const char *code;       /* "http_503", "dns", ... */
    struct str message;     /* for people, no secrets */
    int status;             /* HTTP status, 0: none */
    int64_t retry_after_ms; /* -1: none */
    bool sent;              /* a part of the request may have left */
    bool answered;          /* a definite answer was received */
    struct str detail;      /* JSON or STR_NONE */
};

struct worker_ports {
    void *ctx;
    struct mono_us (*mono)(void *ctx);
    struct wall_us (*wall)(void *ctx);
    /* broker */
    void (*ack)(void *ctx, struct delivery_ref ref);
    void (*give_back)(void *ctx, struct delivery_ref ref);
    void (*refuse)(void *ctx, struct delivery_ref ref, struct str body); /* hand it to a scheduler as it is, and ack */
    /* Results: persistent; answered once by worker_core_published, not from inside the call. */
    void (*publish_results)(void *ctx, const char *queue, struct str body, struct batch *batch);
    void (*publish_started)(void *ctx, const char *queue, struct str message_id, struct str body); /* persistent */
    void (*publish_heartbeat)(void *ctx, struct str body); /* transient, fanout */
    void (*consume)(void *ctx, bool on); /* take tasks or take no more; channels stay for acknowledgements */
    /* cache: with a job it is answered once by worker_core_cache_answered, not from inside the call; without, nobody
     * waits */
    void (*cache)(void *ctx, struct job *job, size_t argc, const struct str *argv);
    /* the world: answered once by worker_core_called, maybe from inside; bound_us 0: none; once: at_most_once */
    void (*begin)(void *ctx, struct job *job, const struct task *task, int64_t bound_us, bool once);
    void (*abort)(void *ctx, struct job *job);
    void (*drained)(void *ctx); /* once, after worker_core_drain */
};

struct worker_options {
    const char *id;            /* of this process, never used again: name and random part */
    const char *control_queue; /* where grants come */
    unsigned capacity;
    size_t output_max; /* bytes of an output's JSON; a longer one fails its attempt; 0: no bound */
    int started_after_ms, heartbeat_ms, claim_ttl_ms, holder_ttl_ms, ack_after_ms, drain_ms, cancel_grace_ms;
};

struct worker_core *worker_core_new(const struct worker_options *options, const struct worker_ports *ports);
void worker_core_free(struct worker_core *core); /* nothing must be unanswered but what the caller drops too */

/* sent_at: the message's timestamp, 0 when it has none. */
void worker_core_delivered(struct worker_core *core, struct delivery_ref ref, bool redelivered, struct wall_us sent_at,
                           struct str body);
/* The consumer's channel is gone: its deliveries cannot be acknowledged and come again somewhere. */
void worker_core_consumer_lost(struct worker_core *core, const void *consumer);
void worker_core_control(struct worker_core *core, const struct control *control);
void worker_core_cache_answered(struct worker_core *core, struct job *job, enum cache_answer answer, struct str value);
void worker_core_cache_up(struct worker_core *core); /* connected (again): says who lives */
void worker_core_published(struct worker_core *core, struct batch *batch, enum publish_answer answer);
void worker_core_publisher(struct worker_core *core, bool up);
void worker_core_called(struct worker_core *core, struct job *job, const struct call_outcome *outcome);
void worker_core_tick(struct worker_core *core); /* every 100 ms or so */
/* Publishes the results at hand, those for one queue together. Call at the end of each turn's inputs. */
void worker_core_flush(struct worker_core *core);
/* Takes no more tasks, gives back what has not begun, lets the rest end within drain_ms, then drained(). */
void worker_core_drain(struct worker_core *core);

size_t worker_core_in_hand(const struct worker_core *core);
bool worker_core_holds(const struct worker_core *core, const void *consumer); /* a delivery of it unacknowledged */
