/* Incoming events: taken once each, with the runs that they start, in one transaction. Loop thread only. */
#pragma once
#include "common/cloudevent/cloudevent.h"
#include "gateway/gateway.h"
#include "gateway/holding.h"

enum incoming_verdict {
    INCOMING_TAKEN, /* committed */
    INCOMING_KNOWN, /* it was taken before: at and starts are of then */
    INCOMING_LATER, /* refused for now: status, code, after_s */
    INCOMING_FAILED /* err says why; nothing was written, or nobody knows: sent again it is taken once all the same */
};

struct incoming_start;

/* One event on its way. */
struct incoming {
    /* filled by the caller; memory that lives until `done` */
    struct gateway *gw;
    struct arena *arena;
    int32_t organisation;
    const struct limits *limits;
    struct cloudevent event;
    void (*done)(struct incoming *incoming, enum incoming_verdict verdict, const struct err *err);
    void *ctx;
    /* what has become of it */
    struct wall_us at;
    struct str starts; /* JSON: of each trigger workflow, trigger, and run_id, status, or code and message */
    int status;
    const char *code;
    int64_t after_s;
    /* incoming.c's own */
    size_t count, waiting;
    struct incoming_start *of;        /* each trigger that fits it by type and source */
    int written, answer, held, woken; /* where the results are; held: -1 where no trigger holds it */
    int moves;
    bool unavailable;
    const char *why;
};

/* `done` is called once, from the loop. */
void incoming_take(struct incoming *incoming);
/* incoming_start.c: what a trigger makes of it. */
struct incoming_start {
    struct incoming *incoming;
    struct str workflow, trigger_name;
    int32_t version;
    struct plan *plan;
    const struct plan_trigger *trigger;
    struct str input;    /* of the run; STR_NONE: it starts none */
    struct str document; /* JSON: what the run's expressions read of its trigger */
    struct held held;    /* its rule STR_NONE: the run starts at once */
    struct str fault;    /* JSON for `starts`; STR_NONE: none */
};
void incoming_start_make(struct incoming_start *start, void (*done)(struct incoming *incoming));

/* Adds to a batch that saves a document what brings its triggers in line with it, behind the save itself. */
struct call;
void incoming_save_triggers(struct call *call, struct pg_batch *batch, struct str workflow, struct str document,
                            const uint8_t hash[32]);
