/* Inside of the worker's protocol: worker_core.c (inputs), job.c (one task), worker_publish.c
 * (results, time), worker_claim.c (Redis), worker_result.c (messages).
 */
#pragma once
#include "common/base/log.h"
#include "common/base/map.h"
#include "worker/worker_core.h"

#define CACHED_RESULT_MAX ((size_t)4096)
#define LARGE_MARK_MS 10000 /* a duplicate of a large result is dropped for this long */

enum job_state {
    JOB_READING,  /* asks the cache for the claim */
    JOB_HOLDER,   /* somebody holds it: asks whether they live */
    JOB_WATCHING, /* they do: looks again at due_at */
    JOB_CLAIMING, /* nobody does: takes the claim */
    JOB_READY,    /* waits for room */
    JOB_LATE,     /* has waited for long: `started` with `ask` is out, whether it may still begin */
    JOB_ASKING,   /* at_most_once: `started` is out, waits for its grant */
    JOB_RUNNING,
    JOB_ENDED, /* the result waits to be published, not before due_at */
    JOB_PUBLISHING,
    JOB_DROPPED, /* only waits for a last answer of the cache */
};

struct held {
    struct held *next;
    struct delivery_ref ref;
};

struct job {
    struct job *next, *prev;
    struct arena *arena; /* owns the task, its deliveries and the job's strings */
    struct task task;
    enum job_state state;
    struct held *held;
    bool claimed; /* our claim stands in the cache, as far as we know */
    bool started_sent, long_running, cancelled, stopping;
    bool asked; /* an answer of the cache is due: the job must not go before it */
    struct mono_us received_at, begun_at, due_at;
    struct mono_us cut_at; /* cancelled while it ran: stopped then, when it has not ended; 0: not */
    struct wall_us begun_wall;
    unsigned retries, unread; /* of its result; times in a row that its claim or holder could not be read */
    unsigned asks;            /* LATE: how often it has asked, the last time at asked_at */
    struct mono_us asked_at;
    char *result; /* one item of a result message */
    size_t result_len;
};

struct batch {
    size_t count;
    struct job *jobs[];
};

/* A finished at_most_once task, or one that was cancelled before it began: not again in this process. */
struct spent {
    struct spent *next;
    char *task_id;
    struct mono_us until;
};

/* The schedulers' clock against ours: messages say when they were sent, and a delay can only make that look earlier, so
 * the largest difference of the last minutes is the best estimate. Deadlines are times of their clock. */
struct skew {
    int64_t largest_us[2]; /* this minute's and the last one's; INT64_MIN: none */
    struct mono_us minute_until;
};

/* What the schedulers' clock says, at the most: a grant says when it was given, which was not before we asked for it.
 * Unlike `skew`, which takes it for what it says at the least, it is not wrong about a worker that has been sent
 * nothing but what had waited; for a minute, because clocks differ in pace. */
struct leave_clock {
    int64_t ahead_us; /* of our monotonic clock */
    struct mono_us until;
};

struct worker_core {
    struct worker_options options;
    struct worker_ports ports;
    struct job *first, *last;
    size_t count, slots_taken, ready, long_running;
    struct map *by_id, *spent_ids;
    struct spent *spent_first, *spent_last;
    size_t spent_count;
    bool publisher_up, paused, draining, drain_forced, drain_over;
    bool ended;     /* results wait */
    bool beginning; /* inside begin_waiting, which calls can bring back to itself */
    struct skew skew;
    struct leave_clock leave_clock;
    struct mono_us heartbeat_at, drain_until;
    struct mono_us claims_first_until; /* until then first deliveries read their claim too: we stood still */
};

/* Call with every input that time may have passed before. Where this process stood still for so long that others take
 * it for dead, what the broker had sent it meanwhile has been given to them as well, and may be done. */
void core_notice_sleep(struct worker_core *core);

/* worker_claim.c */
bool claim_applies(const struct job *job); /* calls without effects and at_most_once tasks are not claimed */
void claim_read(struct worker_core *core, struct job *job);
void claim_take(struct worker_core *core, struct job *job);
void claim_write(struct worker_core *core, struct job *job);
void claim_finish(struct worker_core *core, struct job *job);
void claim_release(struct worker_core *core, struct job *job);
void claim_renew_holder(struct worker_core *core);

/* job.c */
struct job *job_new(struct worker_core *core, struct arena *arena);
void job_free(struct job *job);
void job_hold(struct job *job, struct delivery_ref ref);
void job_ack(struct worker_core *core, struct job *job);
void job_remove(struct worker_core *core, struct job *job);
void job_drop(struct worker_core *core, struct job *job, bool ack); /* without a result: done with, or comes again */
void job_give_back(struct worker_core *core, struct job *job);
bool job_is_unbegun(const struct job *job);
/* The only way into another state; slots are counted here. */
void job_turn(struct worker_core *core, struct job *job, enum job_state state);
void job_ready(struct worker_core *core, struct job *job);   /* begins, or asks whether it may, when there is room */
void job_granted(struct worker_core *core, struct job *job); /* at_most_once: its time counts from now */
void jobs_begin_waiting(struct worker_core *core);
void job_ask(struct worker_core *core, struct job *job);       /* at_most_once: `started`, then its grant */
void job_ask_leave(struct worker_core *core, struct job *job); /* late: may it still begin? */
void job_leave(struct worker_core *core, struct job *job, const struct control *grant); /* that was answered */
void job_publish_started(struct worker_core *core, struct job *job);
void job_finish(struct worker_core *core, struct job *job, const char *status, const struct call_outcome *outcome);
void job_fail(struct worker_core *core, struct job *job, const char *code, const char *message);
void job_cached(struct worker_core *core, struct job *job, struct str item);
void job_abandon(struct worker_core *core, struct job *job);
void job_cut(struct worker_core *core, struct job *job);             /* it runs, and is cancelled: stop it */
void job_not_begun(struct worker_core *core, struct job *job);       /* cancelled: nobody is to begin it */
void task_never_begin(struct worker_core *core, struct str task_id); /* should it come */
void jobs_forget_spent(struct worker_core *core, struct mono_us now);
void job_log(enum log_level level, const char *event, const struct job *job, const char *what);

/* worker_result.c: messages as proto/ says */
void message_result_item(struct buf *out, const char *worker, const struct job *job, const char *status,
                         const struct call_outcome *outcome, struct wall_us ended_at);
void message_started(struct buf *out, const struct worker_core *core, const struct job *job, struct wall_us at);
void message_ask(struct buf *out, const struct worker_core *core, const struct job *job, struct wall_us at);
void message_heartbeat(struct buf *out, const struct worker_core *core);
