/* Directed histories: what happens at which point is written down, and how it has to end. Tables of them are in
 * histories_*.c; script.c plays them. */
#pragma once
#include "tests/sim/sim.h"

/* Whom an action is about. */
enum who { THE_ONE /* at the point */, THE_OTHER /* of its kind */, OWNER /* of run 0 */, NOT_OWNER, W0, W1, S0, S1 };

/* At a point something is done. Points are told as sentences:
 *     published|delivered task|started|grant|result RUN:STEP/ATTEMPT/DISPATCH   published heartbeat WORKER
 *     called RUN:STEP/ATTEMPT/DISPATCH   evaluating EXPRESSION (LATE)
 *     committing|committed RUN:EVENT STEP      claiming RUN:STEP/ATTEMPT/DISPATCH
 * and `on` is how one begins; NULL: the time `after`. What is done is a decision:
 *     of claims: LOSS of Redis's answer
 *     of messages published: LOSS, DUPLICATE, LATE (us), UNCONFIRMED
 *     of transactions at "committing": UNKNOWN (done all the same; `text`: not done), CONFLICT, UNAVAILABLE
 *     of processes: CRASH (starts again after us; 0: never), FREEZE (us), LINK (us), CLOCK (wrong by us), SUSPECT,
 * HANDOVER of services: DATABASE, BROKER, ALARM, CACHE (us), FLUSH, PURGE, STALE (fails over, us lost), JUMP (us), DATA
 * (rows of a run's open work: kind "lost", or "stray") of people: REQUEST (kind, text as body, run), NONSENSE: from who
 * has no business here: of the task `text` ("s0/1/1") of that run a result of status `kind`, or "garbage" (what cannot
 * be read), or "restored" (of another incarnation) */
struct rule {
    const char *on;
    int nth; /* 0: only the first time, 1: the second ..., -1: each time */
    enum decision what;
    enum who who;
    int64_t after, us;
    const char *kind, *text;
    uint32_t run;
};

/* How the world answers; what is not listed succeeds after 10 ms. */
struct script_answer {
    const char *step; /* "RUN:STEP" */
    int nth;          /* as above */
    int64_t takes;
    const char *code; /* NULL: it succeeds */
    int status;
    bool unanswered;
    uint32_t bytes; /* of output, beside the usual */
};

/* What documents are made of. */
#define CALL "\"call\":\"http\",\"with\":{\"url\":\"https://a.example/\"}"
#define ONCE CALL ",\"delivery\":\"at_most_once\""
#define RETRY(attempts, wait)                                                                                          \
    ",\"retry\":{\"max_attempts\":" #attempts ",\"initial\":\"" wait "\",\"factor\":1,\"max\":\"" wait "\"}"
#define STEP(name, rest) "\"" name "\":{" rest "}"
#define NEEDS(name) ",\"needs\":[\"" name "\"]"
#define DOCUMENT(name, steps) "{\"name\":\"" name "\",\"steps\":{" steps "}}"
#define CHAIN DOCUMENT("w0", STEP("s0", CALL) "," STEP("s1", CALL NEEDS("s0")) "," STEP("s2", CALL NEEDS("s1")))
#define CHAIN_HISTORY                                                                                                  \
    "run.started, step.dispatched s0/1, step.succeeded s0/1, step.dispatched s1/1, step.succeeded s1/1, "              \
    "step.dispatched s2/1, step.succeeded s2/1, run.succeeded"

#define RULES_MAX 12
#define RUNS_MAX 3
struct script {
    const char *name;         /* what happens */
    const char *of;           /* of pitfalls.md */
    const char *documents[2]; /* "w0", which is run; "c0", which it may call */
    const char *input;
    uint32_t runs;     /* 0: one */
    const char *begin; /* what the last of them begins with; NULL: nothing */
    bool tight;        /* schedulers have one message of an inbox in hand */
    bool deadly;       /* run 0 kills who applies it */
    bool lengthy;      /* it takes long to play: ten times less often */
    struct rule rules[RULES_MAX];
    struct script_answer answers[6];
    /* the end */
    const char
        *histories[RUNS_MAX]; /* events of these runs, in order: "EVENT STEP/ATTEMPT CODE, ..."; "A | B": either */
    const char *sent;         /* "RUN:STEP TIMES, ...", of all steps that were */
    int64_t lasts;            /* it is not over sooner after the start */
    int64_t within;           /* nor later; 0: whenever */
    uint32_t dead_letters;
    uint32_t ends_first; /* the number of the run that does, and 1; 0: whichever */
    bool quarantined;    /* run 0 stays in quarantine */
};
extern const struct script histories_retry[], histories_workers[], histories_schedulers[], histories_language[],
    histories_services[], histories_pause[], histories_admission[];

const struct script_answer *script_answer(struct sim *sim, struct str run_step, unsigned nth);
void script_plan(struct sim *sim);              /* documents, runs and what happens by the clock */
int64_t script_rests_at(const struct sim *sim); /* not over before */
void script_check(struct sim *sim);             /* is this the end that was written down? */
const struct script *script_find(const char *name);
void script_each(void (*fn)(void *ctx, const struct script *script), void *ctx);
