/* The engine: what a run does next. Pure: no I/O, no clock, no randomness of its own (jitter is drawn from a hash of
 * run, step and attempt), allocations in the caller's arena only. The state of a run is the fold of its events;
 * engine_apply turns one input into events by appending each and folding it at once, so the state after apply is by
 * construction what a fresh fold of the history gives.
 *
 * Beside events, effects say which rows of open work open, close or change. open_work is a function of history but for
 * due_at, dispatch and reason, which deferrals change without an event.                                          */
#pragma once
#include "common/base/limits.h"
#include "common/engine/plan.h"

enum work_kind {
    WORK_TASK = 1,        /* dispatched to a worker; due_at is the step's deadline */
    WORK_BACKOFF = 2,     /* waits for the next attempt; due_at */
    WORK_DELAY = 3,       /* a delay step; due_at */
    WORK_RUN_TIMEOUT = 4, /* opened by run.started; due_at */
    WORK_UNKNOWN = 5,     /* on_unknown: wait; due_at is the deadline, if any */
    WORK_ITEMS = 6,       /* a loop; due_at is the deadline, or now when it has more to begin than one batch may hold */
    WORK_SIGNAL = 7,      /* waits for a signal; due_at is its timeout or deadline, if any */
    WORK_CHILD = 8,       /* waits for the end of a child run; due_at is the deadline, if any */
    WORK_ADMISSION = 9,   /* the run waits for a slot of a concurrency key; opened by run.queued */
    WORK_EVENT = 10,      /* waits for an event; due_at is its timeout or deadline, if any */
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
    STEP_STATUSES /* how many there are */
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

struct frame;
struct step_extra;

struct step_state {
    uint8_t status;           /* enum step_status */
    uint8_t branch;           /* index into plan_step.branches, NO_BRANCH */
    uint16_t attempt;         /* of the newest dispatch, from 1 */
    uint16_t generation;      /* of the idempotency key */
    uint16_t lost_in_row;     /* worker_lost attempts in a row */
    bool deferred;            /* the open task waits for due_at before it is published again */
    bool ran;                 /* reached an outcome other than skipped or cancelled */
    bool passed;              /* the run began behind it: its edges count as accepted */
    bool partial;             /* succeeded, but something in it did not, and was to be continued */
    bool doubtful;            /* an attempt may have had its effect without an answer */
    bool key_used;            /* an attempt was dispatched under this generation of the key */
    uint8_t asked;            /* 1 + purpose of the evaluation that is outstanding, 0: none */
    uint8_t open_kind;        /* enum work_kind */
    uint32_t asked_index;     /* EVAL_CASE: which */
    uint32_t question;        /* number of that evaluation */
    uint64_t unheard;         /* bit n: attempt - n ended without a word of its worker; the last 64 are remembered */
    uint32_t waiting_for;     /* parents that have not ended */
    uint32_t step;            /* index into plan->steps */
    struct frame *frame;      /* that it belongs to */
    struct step_extra *extra; /* of loops, signals, events, children and polls; owned, may be NULL */
    uint64_t worker;          /* hash of the worker that began the attempt, 0: none */
    struct step_error *error; /* of a failed outcome; owned */
    const void *pending;      /* what waits for an evaluation (rendered `with`, a try's answer); of the batch's arena */
    uint32_t open_seq;        /* of its open work, 0: none */
    uint32_t dispatch;        /* of the open task, from 1; from open_work */
    uint32_t began_dispatch;  /* dispatch that a worker has begun; RUNNING only while it is the open one */
    uint32_t input_seq;       /* event that holds the rendered with, 0: none (constant) */
    uint32_t output_seq,
        output_bytes;        /* event that holds the output, 0: null; a loop's is put together of its items' */
    uint32_t ended_seq;      /* event of its outcome */
    struct wall_us ready_at; /* first became ready (deadline counts from here) */
    struct wall_us due_at;   /* of the open work */
    struct wall_us deadline; /* 0: none */
};

/* An iteration of a loop, as its loop remembers it. */
struct loop_item {
    struct frame *frame; /* while it runs, or is kept; NULL: not begun, or forgotten */
    uint32_t output_seq, output_bytes;
    uint8_t status; /* enum step_status: PENDING (with a frame: to be gone on with), RUNNING, or the outcome */
    bool partial;   /* succeeded, but something in it did not */
};
struct step_extra {
    /* loops */
    uint32_t count;                /* of items */
    uint32_t next;                 /* first item that is to be begun, or gone on with */
    uint32_t live;                 /* iterations that have begun and not ended */
    uint32_t ended[STEP_STATUSES]; /* by outcome */
    uint32_t first_failed;         /* item; NO_NODE */
    bool stopping;                 /* an item failed: no other begins */
    bool held; /* the run was paused: what was ready in its iterations may still have to be decided. Not stored, set by
                  the fold of run.resumed and so repeated when in doubt */
    uint64_t output_bytes;         /* of all items */
    struct loop_item *items;       /* [count]; owned */
    struct step_error *item_error; /* of the first item that failed, or was partial; owned */
    /* wait_signal */
    struct signal_queue *signal;
    /* child */
    struct run_id child;
    bool had_child;         /* a run of that id was begun, as far as the parent was told */
    uint32_t child_retries; /* how often it has been asked to do again what failed in it */
    bool child_told;        /* it has been asked to stop: not stored, repeated when in doubt */
    /* poll */
    int64_t interval_us;
    /* actions */
    uint16_t attempts_before; /* of an earlier time it was tried */
};

struct step_error {
    char code[64];
    char message[256];
};

/* Steps that live together: the run's own, those of an iteration, or one action. Each step of a state has a node
 * number, those of a frame in a row; the workflow's own steps have the numbers that they have in the plan. Numbers of
 * iterations that have ended are used again: nothing but memory may hold them. */
struct frame {
    struct frame *next; /* of all frames */
    struct frame *link; /* of the free ones of its scope, or of the actions, newest first */
    uint32_t scope;     /* index into plan->scopes */
    uint32_t base;      /* node of its first step */
    uint32_t owner;     /* node of the loop, or of the step that an action belongs to; NO_NODE */
    uint32_t index;     /* of the item */
    uint32_t ended;     /* steps that have an outcome */
    uint32_t decisive;  /* node of its first unhandled failure, NO_NODE */
    uint32_t question;  /* number of the evaluation of its output */
    bool used;
    bool failing; /* a decisive failure: nothing new starts in it */
    bool stopped; /* what had not begun when nothing new was to start has been cancelled */
    bool asked;   /* its output is being evaluated */
};

/* Signals of one name: those that came and nobody has taken, oldest first, and who waits for one, oldest first. */
struct signal_queue {
    struct signal_queue *next;
    char *name;        /* owned */
    uint32_t received; /* ever */
    bool once;
    uint32_t count, cap;
    struct signal_here {
        uint32_t seq, bytes;
    } * here; /* owned */
    uint32_t waiter_count, waiter_cap;
    uint32_t *waiters; /* nodes; owned */
};

/* A step that may have to be undone, in the order in which they ended. */
struct undo {
    uint32_t node;
    uint8_t status;                /* outcome */
    bool doubtful;                 /* whatever the outcome says, it may have had its effect */
    uint8_t undone;                /* enum step_status: PENDING not tried, or the outcome of the compensation */
    bool again;                    /* it has been tried before: its action is there */
    uint32_t late_seq, late_bytes; /* event that holds the output of a success that came late, 0: none */
};

/* What bounds the runs that go on at a time: the workflow's `concurrency`, its organisation's limit. Each has keys; a
 * run holds one slot of each that it has asked, from its admission to its end. */
enum admission_scope { ADMISSION_WORKFLOW, ADMISSION_ORGANISATION, ADMISSION_SCOPES };
extern const char *const admission_scope_names[ADMISSION_SCOPES];
struct admission {
    struct run_id key; /* whose last 12 bits are its slot, as a run's */
    bool known;        /* the run has asked it once */
    bool asked;        /* and has not given back what it got, or may get */
};

struct run_state {
    struct run_id id;
    int32_t organisation;
    struct plan *plan;     /* referenced */
    uint8_t status;        /* enum run_status */
    bool paused_by_parent; /* so its resumption ends it */
    bool cancelling, timing_out;
    bool started;           /* its steps could begin */
    bool retrying;          /* it was opened again by a retry, and has not ended since */
    bool compensate_wanted; /* cancelled, with what was done to be undone */
    bool compensating;      /* what was done is being undone */
    uint32_t decisive;      /* of a run that has ended: node of the failure that explains it, NO_NODE */
    int format;             /* event format that its history needs, or will */
    uint32_t last_seq;
    uint32_t timeout_seq; /* open WORK_RUN_TIMEOUT, 0: none */
    struct wall_us timeout_at;
    uint32_t admission_seq; /* open WORK_ADMISSION, 0: none */
    bool timeout_waits;     /* with the run, opened again, for its slot: it counts from its admission */
    struct admission admissions[ADMISSION_SCOPES];
    uint32_t open_steps; /* steps queued, running or waiting, actions too */
    uint8_t priority;    /* of the run: steps without one of their own take it */
    uint8_t depth;       /* 0: not a child */
    bool has_parent;     /* its end is told to `parent` */
    uint32_t retries;    /* the last for which the parent has asked, and which was begun */
    struct run_id parent;
    bool evaluating;            /* values are outstanding: not to be committed; never true in a committed state */
    bool output_asked;          /* of the run's output */
    uint32_t questions;         /* evaluations asked for since the state was made: not history */
    const struct event *ending; /* how the run will end, while its notification is put together: of the batch's arena */
    struct step_error *run_error; /* of the end; owned, NULL: none */
    struct wall_us created_at;
    struct frame *root;        /* the workflow's own steps */
    struct frame *frames;      /* all, the free ones too */
    struct frame **free;       /* by scope */
    struct frame *actions;     /* compensations and the notification that have begun */
    size_t extra_bytes;        /* of what steps and signals own */
    struct step_state *own;    /* the nodes of the workflow's own steps */
    struct step_state **pages; /* those of all others */
    uint32_t own_count, node_count;
    uint32_t *rows; /* hash table: node + 1 of each open row, by seq */
    uint32_t row_count, row_cap;
    struct signal_queue *signals;
    uint32_t signal_count;
    struct map *signal_names; /* to the queues, once there are many; NULL before */
    struct undo *undos;
    uint32_t undo_count, undo_cap;
    uint32_t undo_at; /* none from here on is still to be undone: where the search begins, not history */
};

#define NODES_PER_PAGE 16
static inline struct step_state *run_step(const struct run_state *state, uint32_t node)
{
    uint32_t other = node - state->own_count;

    return node < state->own_count ? &state->own[node] : &state->pages[other / NODES_PER_PAGE][other % NODES_PER_PAGE];
}
static inline const struct plan_step *run_plan_step(const struct run_state *state, uint32_t node)
{
    return &state->plan->steps[run_step(state, node)->step];
}
/* The node that a path names; NO_NODE when no step of it is in memory: an iteration that is over, a name that the plan
 * does not have, or (*ret_later, may be NULL) one that has not begun. */
uint32_t run_find_step(const struct run_state *state, struct str path, bool *ret_later);
/* Appends the path of a node: "each[3].go". */
void run_step_path(const struct run_state *state, uint32_t node, struct buf *out);
/* The longest path that a plan can make, with its end. */
#define STEP_PATH_SIZE 512
/* What an expression sees: the step of that name in the frame, else in the frames around it. NO_NODE: none. */
uint32_t run_find_visible(const struct run_state *state, const struct frame *frame, struct str name);
/* The innermost iteration that a frame is in or part of: its loop's node and its index; false outside of loops. */
bool run_item_of(const struct run_state *state, const struct frame *frame, uint32_t *ret_loop, uint32_t *ret_index);
/* The rows of open work that a folded history asks for: how many, whether one of them is this, and all of them, in no
 * order, with room for engine_open_count. dispatch and due_at are as the state knows them. */
size_t engine_open_count(const struct run_state *state);
bool engine_row_is_open(const struct run_state *state, uint32_t seq, enum work_kind kind);
struct effect_work_open;
size_t engine_open_work(const struct run_state *state, struct effect_work_open *ret);
/* When the timer of this open row is to be heard: while the run is paused, only when it ends a wait by its deadline.
 * 0: never, or there is no such row. */
struct wall_us engine_timer_at(const struct run_state *state, uint32_t seq);
/* Is there something that IN_WAKE would do? Never true of a history that engine_apply has made. */
bool engine_needs_waking(const struct run_state *state);
/* The node whose open row has this seq; NO_NODE: none, or that of the run's timeout. */
uint32_t engine_find_row(const struct run_state *state, uint32_t seq);
/* The frame of an action that has begun, NULL: step is the action's index in the plan, owner the node it belongs to. */
struct frame *run_find_action(const struct run_state *state, uint32_t step, uint32_t owner);
/* What an operator's retry of the run would do: which steps are done once more, parents first; all others keep what
 * they have. Of a history that does not allow it `code` and `message` say why. */
struct retry_step {
    uint32_t node;
    bool again;              /* it may have had its effect before */
    bool needs_confirmation; /* ... which may not be repeated unless somebody says so */
    uint16_t generation;     /* of its key */
    uint32_t items;          /* of a loop that goes on: iterations that are begun, or gone on with */
};
struct retry_plan {
    const char *code; /* NULL: it can be */
    struct str message;
    bool holds; /* it is being retried */
    size_t count;
    struct retry_step *steps;
};
void engine_plan_retry(const struct run_state *state, struct arena *arena, struct retry_plan *ret);
/* May outside effects of this step have happened? Of one that has begun, conservatively. */
bool engine_may_have_acted(const struct run_state *state, uint32_t node);
bool event_ends_run(enum event_type type);
/* As what it ends; RUN_PENDING: it does not. */
enum run_status event_run_end(enum event_type type);

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
/* EVAL_UNTIL: of a poll's try, whose answer is `pending` (struct str) of the step. EVAL_FILTER: of an event that has
 * come, which is its `pending` (struct str). EVAL_ITEM: the output of the
 * iteration `index` of the loop `node`. EVAL_OUTPUT: the run's. EVAL_ADMISSION: the run's concurrency key. */
enum eval_purpose {
    EVAL_WHEN,
    EVAL_WITH,
    EVAL_CASE,
    EVAL_KEY,
    EVAL_OUTPUT,
    EVAL_UNTIL,
    EVAL_ITEM,
    EVAL_ADMISSION,
    EVAL_FILTER
};

struct engine_input {
    const struct limits *limits; /* of the run's organisation; NULL: LIMITS_DEFAULT */
    enum engine_input_kind {
        IN_START,      /* the start command */
        IN_RESULT,     /* of a worker; checked token, fields below */
        IN_STARTED,    /* of a worker: also the question of at_most_once */
        IN_LOST,       /* the attempt's lease lapsed */
        IN_TIMER,      /* open work `seq` is due */
        IN_VALUE,      /* an evaluation asked for by an effect */
        IN_CANCEL,     /* command */
        IN_PAUSE,      /* command: by, of_parent */
        IN_RESUME,     /* command: by, of_parent */
        IN_SIGNAL,     /* command: name and value */
        IN_SETTLE,     /* command: step, as_failed, value */
        IN_COMPENSATE, /* command */
        IN_CHILD,      /* a child run has ended: step, child, child_status, output, code, message */
        IN_RETRY,      /* command: confirm_all, confirm */
        IN_WAKE,       /* nothing has happened, but something should have (engine_needs_waking) */
        IN_EVENT,      /* an event that the wait `seq` may be for, in value */
        IN_ADMIT,      /* the slot that run.queued `seq` asks for is granted; failed: there is none, and none is waited
                        * for */
    } kind;
    uint32_t attempt, dispatch; /* IN_RESULT, IN_STARTED, IN_LOST */
    uint32_t seq;               /* IN_TIMER, IN_EVENT: of the open work; IN_ADMIT: of the run.queued */
    uint32_t retries;    /* IN_CHILD: after how many of the parent's retries it ended; IN_RETRY: of_parent: which */
    bool refused_retry;  /* IN_CHILD: it has not ended once more: the retry cannot be, for the reason told */
    struct str step;     /* IN_RESULT, IN_STARTED, IN_LOST, IN_SETTLE, IN_CHILD: path */
    struct str worker;   /* IN_RESULT (STR_NONE: its result could not be read), IN_STARTED, IN_LOST */
    int64_t ask;         /* IN_STARTED, not 0: it has not begun, and asks whether it may; writes nothing */
    int64_t command;     /* of a command: its number, 0: none */
    bool compensate;     /* IN_CANCEL: undo what was done. It may say why, in code and message */
    bool confirm_all;    /* IN_RETRY: whatever may not be repeated may be, this time */
    struct str confirm;  /* ... or steps of this list (JSON), STR_NONE: none */
    struct str by;       /* IN_PAUSE, IN_RESUME: who asks, STR_NONE when nobody knows */
    bool of_parent;      /* IN_PAUSE, IN_RESUME, IN_RETRY: because the parent run is */
    bool bounded;        /* of what may (re)open a run, and IN_ADMIT: the organisation bounds the runs that go on */
    uint32_t standard;   /* ... and so it is for one without a limit of its own; 0: for those it is not */
    struct str name;     /* IN_SIGNAL */
    bool as_failed;      /* IN_SETTLE */
    struct run_id child; /* IN_CHILD */
    enum run_status child_status;
    struct str start_at; /* IN_START: the run begins at this step; STR_NONE: at all that need nothing */
    struct str given;    /* IN_START: outcomes of steps that are not done, a list as rerun.h has it; STR_NONE: none */
    struct str refused;  /* IN_START: the run cannot be, for this reason (a child's input does not match); else NONE */
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
    uint32_t node; /* NO_NODE: the run's output */
    enum eval_purpose purpose;
    uint32_t index;    /* EVAL_CASE, EVAL_ITEM: which */
    uint32_t question; /* as the effect has it: the node may be another iteration's by now; 0: not compared */
    struct str value;  /* rendered JSON of the template; IN_SIGNAL, IN_SETTLE: payload, output (JSON or STR_NONE);
                          IN_EVENT: the event */
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
    uint32_t question; /* comes back with the value */
    const struct template *template;
    const struct frame *frame; /* whose steps and item it sees; NULL: a frame that is gone */
};
/* A child run to insert, pending, with its start command, in the transaction that opens the step; or, when there is no
 * such workflow, the IN_CHILD that says so. Text of the events. */
struct effect_child {
    struct run_id id;
    struct str step; /* path of the step that waits for it */
    struct str workflow;
    int32_t version;  /* 0: the newest */
    struct str input; /* JSON */
    uint8_t depth;
};
/* A task that nobody need begin any more: an earlier word of its step came late, and was the truth. */
struct effect_recall {
    uint32_t seq; /* of its row, which closes */
    struct str step;
};
/* A child run that gets a pause or resume command with its parent. */
struct effect_child_pause {
    struct run_id child;
    struct str by;
    bool resume;
};
/* A child run that is retried with its parent. Whoever writes it looks for the run: one that is gone, or has succeeded,
 * is an IN_CHILD at once. */
struct effect_child_retry {
    struct run_id child;
    struct str step; /* path of the step that waits for it */
    uint32_t retries;
};
/* The parent is told that the retry that it asked for cannot be. */
struct effect_retry_refused {
    uint32_t retries; /* 0: none */
    enum run_status status;
    const char *code;
    struct str message;
};
/* A slot of a concurrency key is asked for, or given back: a command for the key's owner, in the same transaction. */
struct effect_admission {
    bool release;
    struct run_id key;
    uint32_t seq; /* of the run.queued; release: of the end */
    enum admission_scope scope;
    uint32_t limit; /* 0: the organisation's */
    struct str as;  /* as in run.queued */
    struct str name;
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
    uint32_t *cancels; /* steps whose running attempt shall be told to stop */
    size_t recall_count, recall_cap;
    struct effect_recall *recalls;
    size_t child_count, child_cap;
    struct effect_child *children;
    size_t child_cancel_count, child_cancel_cap;
    struct run_id *child_cancels; /* child runs that get a cancel command, in the same transaction */
    size_t child_pause_count, child_pause_cap;
    struct effect_child_pause *child_pauses; /* ... and these a pause or resume command, in this order */
    size_t child_retry_count, child_retry_cap;
    struct effect_child_retry *child_retries;
    struct effect_retry_refused refused;
    size_t admission_count, admission_cap;
    struct effect_admission *admissions;
    size_t output_bytes; /* of the events, together: bounds what loops begin, too */
    uint32_t
        begun; /* iterations begun since effects_init, large ones count more: bounded, the rest comes with a timer */
    enum started_answer answer; /* to IN_STARTED, where somebody waits for it: of at_most_once, or one that only asks */
    bool status_changed;        /* the run row has to be written */
    int format;                 /* the newest event format that may be written: the oldest that a scheduler announces */
    bool postponed;             /* nothing was done: it has to wait until a newer format may be written */
    bool ignored;               /* the input changed nothing: closed attempt, ended run */
    bool stale_cache;           /* the input names an attempt or seq newer than this state: reload */
};
/* `format` is this release's newest: set it where older releases may have to read what is written. */
void effects_init(struct effects *effects, struct arena *arena);

/* Applies one input at `now` (PostgreSQL's clock). Appends to *effects. Events of a value that has to be evaluated
 * first come when its IN_VALUE is applied: while effects->evals are unanswered the run must not be committed. Events
 * borrow the text of the input: it must live until the batch has ended. ERR_INTERNAL only for our own mistakes. */
enum err_code engine_apply(struct run_state *state, const struct engine_input *input, struct wall_us now,
                           struct effects *effects, struct err *err) MUST_CHECK;

/* Names of the steps that this evaluation sees in `.steps` as a whole; all memory is the arena's. */
struct str *run_visible_names(const struct run_state *run, const struct effect_eval *eval, struct arena *arena,
                              size_t *ret_count);

/* The Idempotency-Key of an attempt: {run_id}:{path}, and :{generation} from the second on (each try of a poll is a
 * request of its own: :t{dispatch}); or the step's own key, with the indexes of its iterations. */
void engine_idempotency_key(const struct run_state *state, uint32_t node, struct str own_key, struct buf *out);
/* "run/step/attempt/dispatch" */
void engine_task_id(const struct run_state *state, uint32_t node, struct buf *out);
enum err_code engine_parse_task_id(struct str id, struct run_id *run, struct str *step, uint32_t *attempt,
                                   uint32_t *dispatch, struct err *err) MUST_CHECK;
