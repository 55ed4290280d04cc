/* Why is this run not moving? From what is known to words: pure, no I/O. The reasons are explain.def's. */
#pragma once
#include "gateway/history.h"

enum reason_id {
#define REASON(id, code, hint) REASON_##id,
#include "gateway/explain.def"
#undef REASON
    REASON_COUNT
};

/* What is being done with the run as a whole while it waits. */
enum explain_phase {
    PHASE_NONE,
    PHASE_CANCELLING,   /* cancelled: what has begun may end */
    PHASE_STOPPING,     /* a step failed, and nobody accepts that */
    PHASE_COMPENSATING, /* what it has done is being undone */
    PHASE_NOTIFYING,    /* somebody is told before it ends */
};

/* A task queue as the scheduler that owns the run has told of it. */
struct explain_queue {
    struct str pool;
    int priority;
    int64_t consumers; /* workers' subscriptions; -1: not known */
};

/* Of a run that waits for a slot of a concurrency limit. */
struct explain_place {
    struct str workflow, key, holders; /* workflow STR_NONE: the organisation's; key STR_NONE: there are none; ids */
    int64_t limit, held, position, waiting;
};

struct explain_facts {
    struct arena *arena; /* of what is said */
    const struct history *history;
    struct wall_us now;
    int shard;
    bool owned;       /* a live scheduler looks after the shard */
    struct str owner; /* its name */
    bool told;        /* it has told of its broker and queues, of late */
    struct wall_us told_at;
    bool broker_up;
    bool for_newer; /* it cannot go on with this run: that is of a newer release than the scheduler */
    bool for_older; /* it does not begin it, while a scheduler of an older release lives that could not go on with it */
    size_t queue_count;
    const struct explain_queue *queues;
    const struct explain_place *place; /* NULL: it waits for no slot, or has just got it */
    int64_t ahead;    /* tasks of the organisation before the decisive one in its pool and priority; -1: not known */
    bool ahead_least; /* so many at least: not all of open work was looked at */
};
#define AHEAD_ROWS 20000 /* of open work, of all organisations, are looked at for `ahead` */

struct reason {
    enum reason_id id;
    struct str step, signal; /* STR_NONE: none */
    struct str child;        /* id of the child run that is waited for */
    struct wall_us since, due_at;
    bool repaired;        /* its row of open work was missing, and was put back */
    const char *sentence; /* of the arena */
};
/* What is open besides, by reason. */
struct reason_more {
    enum reason_id id;
    size_t count;
    struct reason first;
};
struct explanation {
    struct reason reason; /* the decisive one */
    enum explain_phase phase;
    size_t more_count;
    struct reason_more more[REASON_COUNT];
};

/* The open row that decides, NULL: none. A task that nobody has begun is `queued`: facts.ahead is about it. */
const struct work_view *explain_decisive(const struct history *history);
bool explain_is_queued(const struct history *history, const struct work_view *work);
void explain(const struct explain_facts *facts, struct explanation *ret);

/* For programs: the phase where there is one that says more than what is waited for, else the reason. */
const char *explain_code(const struct explanation *explanation);
const char *explain_hint(const struct explanation *explanation);
const char *explain_phase_name(enum explain_phase phase); /* NULL for none */
const char *reason_code(enum reason_id id);
