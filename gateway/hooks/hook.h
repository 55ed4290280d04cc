/* A webhook on its way: what came, what has been found out about it, and where it ended. Lives in the request's arena.
 * Loop thread only. */
#pragma once
#include "common/base/metrics.h"
#include "gateway/flows.h"
#include "common/expr/fill.h"
#include "common/webhook/scheme.h"
#include "gateway/starting.h"

#define HOOK_EXCERPT_MAX 4096

/* A delivery of the log that is taken again: past the stages that judge a sender. */
struct hook_again {
    struct run_id of;
    bool taken;       /* it started a run: then it may start another */
    struct str nonce; /* of one that started none, so that it starts one at most; STR_NONE */
    struct str key;   /* idempotency; STR_NONE */
    uint8_t body_hash[32];
};

struct hook {
    struct start start; /* first: start.done gives it back */
    struct start_delivery delivery;
    struct holding holding;
    struct call *call;
    struct plan *plan; /* held */
    int32_t version;
    const struct plan_trigger *trigger;
    struct str trigger_name;
    const struct hook_again *again; /* NULL: it comes from outside */
    struct run_id id;               /* of the delivery */
    struct wall_us at, received_at; /* they differ when it is taken again */
    uint8_t address[16];
    struct str raw;     /* the body as it came */
    bool has_body;      /* it is read */
    struct str body;    /* as JSON */
    bool raw_is_lost;   /* raw is what is left of it: the same value as JSON */
    struct str request; /* JSON for the log: {"headers", "query"} */
    struct hook_verdict verdict;
    bool genuine;                            /* the signature fits, or none is asked for */
    struct buf secrets[WEBHOOK_SECRETS_MAX]; /* opened; empty: its name stands for nothing usable */
    size_t opening;                          /* the one that is being opened, and what comes then */
    void (*opened)(struct hook *hook);
    const char *secret_fault; /* why one could not be opened, for the log */
    struct buf audit;
    bool asks;          /* a GET: whether the URL is ours */
    bool replay_passed; /* taken before, and told only */
    void (*sized)(struct hook *hook);
    void (*unseen)(struct hook *hook);
    void (*found)(struct hook *hook, bool known);
    void (*in_rate)(struct hook *hook);
    bool has_place, has_shared_place; /* under the rate limit: in our bucket, in the one of all */
    void (*with_input)(struct hook *hook);
    int64_t after_s; /* Retry-After */
    int moves;
};

/* hook_answer.c: ends it. `stage` and `reason` are for the log, `detail` is for the caller. */
void hook_refuse(struct hook *hook, const char *stage, const char *reason, int status, const char *code,
                 const char *detail);
void hook_started(struct start *start, enum start_verdict verdict, const struct err *err);
/* A stage that did not let it pass: true when it goes on all the same, because the stage only tells. */
bool hook_passes(struct hook *hook, enum hook_stage stage, const char *reason);

/* hook_stages.c. False: answered. */
bool hook_check_address(struct hook *hook);
/* Reads the body, if it is not too large: from here, or answered. */
void hook_check_size(struct hook *hook, void (*done)(struct hook *hook));
bool hook_check_signature(struct hook *hook);
/* hook_secrets.c: opens the secrets that the document names. */
void hook_open_secrets(struct hook *hook, void (*done)(struct hook *hook));

/* hook_rate.c: from here, or answered. */
void hook_check_rate(struct hook *hook, void (*done)(struct hook *hook));
void hook_leave_place(struct hook *hook); /* it should not have counted */

/* hook_request.c: the body by its type (STR_NONE: none given), and what expressions and the log see. False: answered.
 */
bool hook_read_body(struct hook *hook, struct str content_type);
void hook_write_request(struct hook *hook);
struct str hook_trigger_json(struct hook *hook);

/* hook_replay.c: from here, or answered. */
void hook_check_replay(struct hook *hook, void (*done)(struct hook *hook));
/* It was taken before: refused, or told and taken by `taken_all_the_same`. */
void hook_replayed(struct hook *hook, void (*taken_all_the_same)(struct hook *hook));
void hook_remember(const struct hook *hook); /* it is taken now */
/* Has it been taken, by the table? What cannot be read has not. */
void hook_look_for_nonce(struct hook *hook, void (*found)(struct hook *hook, bool known));

/* hook_challenge.c. True: it was one, and is answered. */
bool hook_is_challenge(struct hook *hook);
void hook_get_challenge(struct hook *hook);

/* hook_respond.c: 202, or what comes of the run when its sender waits for it. announced: see live_watch. */
bool hook_waits(const struct hook *hook);
void hook_answer_run(struct hook *hook, bool announced);

/* hook_input.c: a template of the trigger, filled in; what the run gets. */
void hook_fill(struct hook *hook, const struct template *template, const struct expr_doc *doc, fill_fn done);
void hook_make_input(struct hook *hook, void (*done)(struct hook *hook));
/* hook_log.c: a delivery that started nothing, or whose run is another's. */
void hook_log(struct hook *hook, int status, const char *stage, const char *reason, const struct run_id *run);
struct str hook_log_json(struct hook *hook); /* of one that starts a run */
/* hook.c: a hook of this call; from the workflow on, once more when it has moved; from the idempotency key on. */
void hook_init(struct hook *hook, struct call *call);
void hook_look_up(struct hook *hook, bool fresh);
void hook_go_on(struct hook *hook);
void hook_submit(struct hook *hook);
struct str hook_scope(const struct hook *hook); /* where its nonce is unique */
/* What makes it unique; STR_NONE: it may come again. */
struct str hook_nonce(const struct hook *hook);
/* hook_redeliver.c: what go_in is for those from outside. */
void hook_take_again(struct hook *hook);

/* hook_organisations.c */
typedef void (*hook_organisation_fn)(struct hook *hook);
void hook_find_organisation(struct hook *hook, struct str name, hook_organisation_fn done);
