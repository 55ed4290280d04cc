/* The parent's side of the sandbox: sandbox.c decides who serves whom, sandbox_process.c runs one child. */
#pragma once
#include "common/expr/sandbox_wire.h"

struct sandbox_child;

/* --- organisations whose programs overstepped lately (sandbox_orgs.c) --- */

#define SANDBOX_EXTRA_SLOTS 8
#define SANDBOX_STRIKES 3
#define SANDBOX_OFFENDERS_MAX 64

struct sandbox_offender {
    int32_t organisation;
    int own;                              /* its own extra slot, -1: none */
    uint64_t strikes_ms[SANDBOX_STRIKES]; /* newest first, 0: none */
};

struct sandbox_orgs {
    size_t count;
    struct sandbox_offender items[SANDBOX_OFFENDERS_MAX];
    unsigned owners[SANDBOX_EXTRA_SLOTS]; /* how many call an extra slot their own */
};
/* At the third within a minute the organisation gets the extra slot with the fewest owners. now_ms > 0. */
void sandbox_orgs_strike(struct sandbox_orgs *orgs, int32_t organisation, uint64_t now_ms);
int sandbox_orgs_own(const struct sandbox_orgs *orgs, int32_t organisation); /* its extra slot, or -1 */
void sandbox_orgs_sweep(struct sandbox_orgs *orgs, uint64_t now_ms);         /* forgives after five minutes */
unsigned sandbox_orgs_with_own(const struct sandbox_orgs *orgs);

/* --- requests --- */

/* A request lives in exactly one queue, or in a child's list of what it was sent. */
struct sandbox_request {
    struct sandbox_request *next;
    sandbox_fn done;
    void *ctx;
    int32_t organisation;
    uint32_t id;
    bool ran_before;  /* its child was killed from outside while it ran: once is nobody's fault */
    size_t frame_len; /* 0: larger than allowed */
    char frame[];     /* struct sandbox_request_head, source, document */
};

struct sandbox_queue {
    struct sandbox_request *head, **tail;
    size_t len;
};
void sandbox_queue_init(struct sandbox_queue *queue);
void sandbox_queue_add(struct sandbox_queue *queue, struct sandbox_request *request);
struct sandbox_request *sandbox_queue_take(struct sandbox_queue *queue); /* NULL when empty */

/* --- a child (sandbox_process.c) --- */

/* How a child ended. */
enum sandbox_end {
    SANDBOX_END_IDLE,    /* nobody was running: replaced */
    SANDBOX_END_RECYCLE, /* asked to be replaced */
    SANDBOX_END_START,   /* before it was ready */
    SANDBOX_END_OUTSIDE, /* killed by someone else */
    SANDBOX_END_FAULT,   /* the program that ran did it */
    SANDBOX_END_TIME,    /* killed for taking too long */
};

/* What a child tells its owner; called from the loop. */
struct sandbox_child_events {
    void (*ready)(void *owner);
    /* The running program has held the others up for STALL_MS. */
    void (*stalled)(void *owner);
    /* The answer to `request`, which is the owner's again. */
    void (*answered)(void *owner, struct sandbox_request *request, enum sandbox_status status, struct str text);
    /* The process is gone and reaped; the child frees itself. `running` may be NULL. */
    void (*ended)(void *owner, enum sandbox_end how, struct sandbox_request *running, int signal, int64_t exit_code);
};

/* Requests written to a child and not answered: few enough that little has to run again when it is killed. */
#define SANDBOX_SENT_MAX 64
#define SANDBOX_SENT_BYTES (256U << 10)

/* Starts a process. NULL when the system refuses. `owner` must live until `ended`, or sandbox_child_abandon. */
struct sandbox_child *sandbox_child_start(uv_loop_t *loop, const struct sandbox_limits *limits,
                                          const struct sandbox_child_events *events, void *owner);
/* Sends what fits of the queue in one write. */
void sandbox_child_send(struct sandbox_child *child, struct sandbox_queue *queue);
bool sandbox_child_is_ready(const struct sandbox_child *child);
/* The running request, NULL when there is none that anybody waits for. */
const struct sandbox_request *sandbox_child_running(const struct sandbox_child *child);
/* Has a program of another organisation been running for STALL_MS? */
bool sandbox_child_holds_up(const struct sandbox_child *child, int32_t organisation);
/* Takes back what was sent and does not run, of other organisations than the running one's or (everything) of all: its
 * answers are dropped. In the order in which it was sent. */
void sandbox_child_take_back(struct sandbox_child *child, bool everything, struct sandbox_queue *ret);
/* Kills it; no event follows. *ret_running: what ran. The process is reaped by the loop. */
void sandbox_child_abandon(struct sandbox_child *child, struct sandbox_request **ret_running);
