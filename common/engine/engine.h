/* The engine: what a run does next. Pure: no I/O, no clock, no randomness of its own (jitter is drawn from a hash of
 * run, step and attempt), allocations in the caller's arena only. The state of a run is the fold of its events;
 * engine_apply turns one input into events by appending each and folding it at once, so the state after apply is by
 * construction what a fresh fold of the history gives.
 *
 * Beside events, effects say which rows of open work open, close or change. open_work is a function of history but for
 * due_at, dispatch and reason, which deferrals change without an event.                                          */
#pragma once
#include "common/engine/plan.h"

enum work_kind {
    WORK_TASK = 1,        /* dispatched to a worker; due_at is the step's deadline */
    WORK_BACKOFF = 2,     /* waits for the next attempt; due_at */
    WORK_DELAY = 3,       /* a delay step; due_at */
    WORK_RUN_TIMEOUT = 4, /* opened by run.started; due_at */
    WORK_UNKNOWN = 5,     /* on_unknown: wait; due_at is the deadline, if any */
};

enum step_status {
    STEP_PENDING,
    STEP_QUEUED,
    STEP_RUNNING,
    STEP_WAITING,
    STEP_SUCCEEDED,
    STEP_FAILED,
    STEP_TIMED_OUT,
    STEP_SKIPPED,
    STEP_CANCELLED,
    STEP_OUTCOME_UNKNOWN,
};
enum run_status {
    RUN_PENDING,
    RUN_ACTIVE,
    RUN_PAUSED,
    RUN_SUCCEEDED,
    RUN_FAILED,
    RUN_PARTIALLY_COMPLETED,
    RUN_CANCELLED,
    RUN_TIMED_OUT,
    RUN_COMPENSATED,
    RUN_COMPENSATION_FAILED,
};
const char *step_status_name(enum step_status status);
const char *run_status_name(enum run_status status); /* "pending", "active", ... */
static inline bool step_ended(enum step_status s)
{
    return s >= STEP_SUCCEEDED;
}
static inline bool run_ended(enum run_status s)
{
    return s >= RUN_SUCCEEDED;
}

#define NO_BRANCH 255

struct step_state {
    uint8_t status;           /* enum step_status */
    uint8_t branch;           /* index into plan_step.branches, NO_BRANCH */
    uint16_t attempt;         /* of the newest dispatch, from 1 */
    uint16_t generation;      /* of the idempotency key */
    uint16_t lost_in_row;     /* worker_lost attempts in a row */
    bool deferred;            /* the open task waits for due_at before it is published again */
    bool ran;                 /* reached an outcome other than skipped or cancelled */
    uint8_t asked;            /* 1 + purpose of the evaluation that is outstanding, 0: none */
    uint32_t asked_index;     /* EVAL_CASE: which */
    uint64_t unheard;         /* bit n: attempt - n ended without a word of its worker; the last 64 are remembered */
    uint32_t waiting_for;     /* parents that have not ended */
    uint64_t worker;          /* hash of the worker that began the attempt, 0: none */
    struct step_error *error; /* of a failed outcome; owned */
    struct str *pending_with; /* rendered `with` while the key is evaluated; of the batch's arena */
    uint32_t open_seq;        /* of its open work, 0: none */
    uint8_t open_kind;        /* enum work_kind */
    uint32_t dispatch;        /* of the open task, from 1; from open_work */
    uint32_t began_dispatch;  /* dispatch that a worker has begun; RUNNING only while it is the open one */
    uint32_t input_seq;       /* event that holds the rendered with, 0: none (constant) */
    uint32_t output_seq, output_bytes; /* event that holds the output, 0: null */
    uint32_t ended_seq;                /* event of its outcome */
    struct wall_us ready_at;           /* first became ready (deadline counts from here) */
    struct wall_us due_at;             /* of the open work */
};

struct step_error {
    char code[64];
    char message[256];
};

struct run_state {
    struct run_id id;
    int32_t organisation;
    struct plan *plan; /* referenced */
    uint8_t status;    /* enum run_status */
    bool cancelling, timing_out;
    bool failing;      /* a decisive failure: nothing new starts */
    uint32_t decisive; /* step index of the first unhandled failure, NO_NODE */
    uint32_t last_seq;
    uint32_t timeout_seq; /* open WORK_RUN_TIMEOUT, 0: none */
    uint32_t open_steps;  /* steps queued, running or waiting */
    uint32_t ended_steps;
    uint8_t priority;            /* of the run: steps without one of their own take it */
    bool evaluating;             /* values are outstanding: not to be committed; never true in a committed state */
    bool output_asked;           /* of the run's output */
    bool stopped;                /* what had not begun when nothing new was to start has been cancelled */
    uint32_t seek;               /* where the search for an open row begins: rows come in the order of steps */
    struct step_error run_error; /* of an end that no step explains: the run's output could not be made */
    struct wall_us created_at;
    struct step_state *steps; /* plan->step_count */
};

struct run_state *run_state_new(struct run_id id, int32_t organisation, struct plan *plan, struct wall_us created_at);
void run_state_free(struct run_state *state); /* accepts NULL */
size_t run_state_bytes(const struct run_state *state);

/* Folds one event of history. ERR_INTERNAL when seq is not last_seq + 1 or the event cannot follow (corrupt history);
 * the state is then as it was. */
enum err_code engine_fold(struct run_state *state, const struct event *event, struct err *err) MUST_CHECK;
/* Restores what history does not hold of an open work row: dispatch and due_at, and so whether the dispatch that began
 * is still the open one. */
void engine_restore_work(struct run_state *state, uint32_t seq, uint32_t dispatch, struct wall_us due_at);

enum result_status { RESULT_SUCCEEDED, RESULT_FAILED, RESULT_DEFERRED, RESULT_ABANDONED };
enum eval_purpose { EVAL_WHEN, EVAL_WITH, EVAL_CASE, EVAL_KEY, EVAL_OUTPUT };

struct engine_input {
    enum engine_input_kind {
        IN_START,   /* the start command */
        IN_RESULT,  /* of a worker; checked token, fields below */
        IN_STARTED, /* of a worker: also the question of at_most_once */
        IN_LOST,    /* the attempt's lease lapsed */
        IN_TIMER,   /* open work `seq` is due */
        IN_VALUE,   /* an evaluation asked for by an effect */
        IN_CANCEL,  /* command */
    } kind;
    uint32_t attempt, dispatch; /* IN_RESULT, IN_STARTED, IN_LOST */
    uint32_t seq;               /* IN_TIMER: of the open work */
    struct str step;            /* IN_RESULT, IN_STARTED, IN_LOST */
    struct str worker;          /* IN_RESULT (STR_NONE: its result could not be read), IN_STARTED, IN_LOST */
    int64_t command;            /* IN_CANCEL: number of the command, 0: none */
    /* IN_RESULT */
    enum result_status result;
    int32_t http_status;
    struct str output; /* JSON or STR_NONE for null */
    struct str code, error_class, message, detail;
    int64_t retry_after_us; /* 0: none; RESULT_DEFERRED: when to dispatch again */
    struct wall_us started_at, ended_at;
    bool sent;     /* error: the request (or a part of it) may have left */
    bool answered; /* error: a definite answer was received: the next attempt is a new generation */
    /* IN_VALUE */
    bool failed;   /* expression_failed: message says why */
    uint32_t node; /* step index; NO_NODE: the run's output */
    enum eval_purpose purpose;
    uint32_t index;   /* EVAL_CASE: which */
    struct str value; /* rendered JSON of the template */
};

struct effect_work_open {
    uint32_t seq;
    enum work_kind kind;
    uint32_t node;
    uint16_t attempt;
    uint32_t dispatch;
    struct wall_us due_at;
};
/* publish: the task is ready (again) now; otherwise it becomes ready when its timer is due. */
struct effect_work_change {
    uint32_t seq;
    uint32_t node;
    uint32_t dispatch;
    struct wall_us due_at;
    const char *reason;
    bool publish;
};
struct effect_eval {
    uint32_t node;
    enum eval_purpose purpose;
    uint32_t index;
    const struct template *template;
};
enum started_answer { STARTED_NONE, STARTED_GO, STARTED_NO };

struct effects {
    struct arena *arena; /* everything below, and text of events that had to be made */
    size_t event_count, event_cap;
    struct event *events;
    size_t open_count, open_cap;
    struct effect_work_open *opens;
    size_t close_count, close_cap;
    uint32_t *closes; /* seq; one opened in the same batch is simply not inserted */
    size_t change_count, change_cap;
    struct effect_work_change *changes;
    size_t eval_count, eval_cap;
    struct effect_eval *evals; /* values wanted before the run can be committed */
    size_t cancel_count, cancel_cap;
    uint32_t *cancels;          /* steps whose running attempt shall be told to stop */
    enum started_answer answer; /* to IN_STARTED of an at_most_once attempt */
    bool status_changed;        /* the run row has to be written */
    bool ignored;               /* the input changed nothing: closed attempt, ended run */
    bool stale_cache;           /* the input names an attempt or seq newer than this state: reload */
};
void effects_init(struct effects *effects, struct arena *arena);

/* Applies one input at `now` (PostgreSQL's clock). Appends to *effects. Events of a value that has to be evaluated
 * first come when its IN_VALUE is applied: while effects->evals are unanswered the run must not be committed. Events
 * borrow the text of the input: it must live until the batch has ended. ERR_INTERNAL only for our own mistakes. */
enum err_code engine_apply(struct run_state *state, const struct engine_input *input, struct wall_us now,
                           struct effects *effects, struct err *err) MUST_CHECK;

/* The Idempotency-Key of an attempt: {run_id}:{step}, and :{generation} from the second on; or the step's own key. */
void engine_idempotency_key(const struct run_state *state, uint32_t node, struct str own_key, struct buf *out);
/* "run/step/attempt/dispatch" */
void engine_task_id(const struct run_state *state, uint32_t node, struct buf *out);
enum err_code engine_parse_task_id(struct str id, struct run_id *run, struct str *step, uint32_t *attempt,
                                   uint32_t *dispatch, struct err *err) MUST_CHECK;
