/* Starting runs, many in one transaction: starts that arrive while a commit is in flight share the next one. Four
 * lanes: starts without an Idempotency-Key never wait for those with one, whose key another gateway may be about to
 * commit; what arrives at a trigger with debounce, throttle or batch waits for its group; and what is only looked up,
 * because new starts are refused, waits for none. */
#pragma once
#include "gateway/gateway.h"
#include "gateway/holding.h"

enum start_verdict {
    START_MADE,        /* committed */
    START_HELD,        /* committed, and no run for now: `held` says what has become of it */
    START_FULL,        /* it would have to wait where there is no room for it; nothing was written */
    START_KNOWN,       /* the key was used for the same body: run_id is that run, or `held` what was answered */
    START_KEY_DIFFERS, /* the key was used for another body */
    START_ABSENT,
    START_DISABLED,
    START_MOVED,       /* the workflow has another newest version by now: look again */
    START_IN_PROGRESS, /* the key is being used by a request that has not ended for 5 s */
    START_UNCLEAR,     /* may or may not have been made */
    START_REPLAYED,    /* the delivery was seen before */
    START_REFUSED,     /* nothing was looked for but its key, and that is not known */
    START_FAILED,      /* err says why; nothing was written */
};

/* A run that does again what another did. */
struct rerun_of {
    struct run_id run;
    struct str begins;              /* JSON, for people; STR_NONE: all of it is done */
    struct str given;               /* JSON, as sql/rerun_insert.sql has it; STR_NONE: none */
    const struct run_id *operation; /* on many runs, in which this is done once; NULL: none */
};

/* What starts with a webhook's run, in its transaction. */
struct start_delivery {
    struct str trigger; /* JSON: what the run's expressions read */
    struct str scope;   /* workflow/trigger: where the nonce is unique */
    struct str nonce;   /* STR_NONE: it may come again */
    int32_t kept_s;     /* how long the nonce is known */
    struct str log;     /* JSON: sql/start_insert.sql */
    struct run_id id;   /* of that line */
    struct held held;   /* its rule STR_NONE: it starts its run at once */
};

struct start {
    /* filled by the caller; what it points to must live until `done` */
    int32_t organisation;
    struct run_id run_id;
    struct str workflow;
    int32_t version;
    uint8_t priority;
    struct wall_us created_at;
    struct str input, labels;              /* JSON */
    struct str start_at;                   /* step that the run begins at; STR_NONE: where its workflow does */
    const struct rerun_of *rerun_of;       /* what it does again; NULL: nothing */
    const struct start_delivery *delivery; /* NULL: no webhook */
    struct str key;                        /* STR_NONE without */
    uint8_t body_hash[32];
    bool only_known;        /* started before or not at all: with a key only */
    bool wants_reply;       /* the scheduler shall tell this gateway how it goes on */
    struct mono_us give_up; /* a key in use is waited for until then */
    struct str held;        /* debounced, batched, queued or dropped; STR_NONE: there is a run */
    /* Called once, from the loop. run_id may have changed (START_KNOWN). */
    void (*done)(struct start *start, enum start_verdict verdict, const struct err *err);
    /* of the lane */
    struct start *next;
    bool alone;
    struct mono_us not_before;
};

struct starts;
struct starts *starts_new(struct gateway *gw);
void starts_free(struct starts *starts); /* the loop must run once more */
void starts_submit(struct starts *starts, struct start *start);
/* Is there room for one more that waits for its commit? In number, and in bytes of bodies. */
bool starts_have_room(const struct starts *starts);
/* The run id of a start: the database's time, and a slot that an equal key has, too. */
struct run_id start_run_id(struct gateway *gw, int32_t organisation, struct str workflow, struct str key,
                           struct wall_us *ret_created_at);
