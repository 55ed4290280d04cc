/* What must hold in the history of any run, whoever wrote it: api.md's rules once more, over events by path. Knows the
 * plan and nothing of the engine's fold, so that the one checks the other. Feed events in order; each broken rule is
 * told as a sentence. All memory is the arena's. */
#pragma once
#include "common/engine/engine.h"

typedef void (*history_fault_fn)(void *ctx, const char *text);

/* What a step that has begun and not ended waits for, beside an attempt. */
enum past_wait { PAST_NOTHING, PAST_DELAY, PAST_ITEMS, PAST_SIGNAL, PAST_CHILD, PAST_EVENT, PAST_UNKNOWN };

struct past_place;

/* What has been said of one step so far. */
struct past_step {
    const struct plan_step *plan;
    struct past_place *place;
    enum step_status status; /* PENDING, RUNNING (begun), or the outcome */
    uint8_t branch, waits;
    bool passed;                                 /* the run began behind it */
    bool partial, attempt_open, granted, effect; /* effect: it may have had one */
    bool denied;                                 /* its newest attempt was answered, late, and did not succeed */
    uint16_t retries, retried_after;             /* by an operator; its attempts before the last of them */
    uint16_t generation;                         /* of its newest attempt */
    /* Of its newest attempt: the receiver has answered; nobody was heard of it; something sent under its key may have
     * had its effect. */
    bool answered, unheard, doubtful;
    uint16_t attempt, tried; /* tried: since an action was last begun */
    uint64_t told;           /* attempts of which a late word has been kept, counted back from `attempt` */
    uint32_t begun_seq, ended_seq, output_seq; /* output_seq: event that holds the output */
    struct str signal;
    struct run_id child;
    bool had_child;         /* ... with which it may go on */
    uint32_t child_retries; /* with it */
    /* loops */
    uint32_t count, live, over[STEP_STATUSES];
    bool item_decides, item_partial;
    struct past_place **items;
    /* compensation */
    struct past_step *action;
    enum step_status undo_status; /* what has to be undone, as far as is known */
    uint32_t undo_seq;
};

/* Steps that live together: the run's own, those of an iteration, or one action. */
struct past_place {
    struct past_step *steps; /* [scope.count] */
    struct past_step *owner; /* loop, or the step that an action belongs to; NULL */
    uint32_t scope, index, ended, output_seq;
    struct past_step *decisive; /* the failure that stops it */
    enum step_status status;    /* of an iteration: PENDING until it is over */
    bool partial;               /* it succeeded, and something in it did not */
    bool again;                 /* it did not end well, and its loop goes on: it has to be gone on with */
};

struct past_signal {
    struct past_signal *next;
    struct str name;
    uint32_t seq, bytes;
    bool taken;
};

struct history {
    const struct plan *plan;
    struct arena *arena;
    history_fault_fn fault;
    void *ctx;
    struct past_place *root;
    struct past_step *notify;
    struct past_signal *signals, **last_signal;
    struct past_step **undos; /* steps with a compensation, in the order in which they ended */
    size_t undo_count, undo_cap;
    int64_t *answered; /* commands */
    size_t answered_count, answered_cap;
    enum run_status status;
    uint32_t last_seq;
    uint32_t queued_seq; /* waits for a slot since then; 0: it does not */
    bool asked;          /* it has asked for a slot, of whichever key */
    bool admitted;       /* by the workflow's concurrency */
    bool cancelling, timing_out, compensating, wants_undo;
    bool started;
    bool reopened; /* it had ended once */
    bool retried;  /* the last event that opened it again was a retry */
    bool goes_on;  /* steps may run: not so when it was reopened only to undo, or for the record */
    bool faulty;   /* a path led nowhere: what follows makes no sense */
};

struct history *history_new(struct arena *arena, const struct plan *plan, history_fault_fn fault, void *ctx);
void history_event(struct history *h, const struct event *event);
/* The step of a path; NULL: none, or it has not begun. */
struct past_step *history_step(struct history *h, struct str path);
/* May nothing new start where this step is? */
bool history_stopping(const struct history *h, const struct past_step *step);
/* Has this command been answered, applied or refused? */
bool history_answered(const struct history *h, int64_t command);
/* Calls fn for each step that waits for a child run. */
typedef void (*history_child_fn)(void *ctx, struct run_id child);
void history_each_child(const struct history *h, history_child_fn fn, void *ctx);

/* ---- between the files of it ---- */
void history_fault(struct history *h, const struct event *event, const char *format, ...) PRINTF_LIKE(3, 4);
struct past_verdict {
    enum { PAST_SUCCEEDED, PAST_PARTIAL, PAST_FAILED } kind;
};
struct past_verdict history_verdict(const struct history *h, const struct past_place *place);
/* Does any step below take this outcome? */
bool history_accepted(const struct plan *plan, const struct past_step *step);
void history_step_event(struct history *h, struct past_step *step, const struct event *event);
/* An attempt is over: what is known of what was sent? */
void history_note_answer(struct past_step *step, const struct event *event, bool was_open);
void history_signal_came(struct history *h, const struct event *event);
void history_note_undo(struct history *h, struct past_step *step); /* it has ended: remember what may be undone */
void history_run_event(struct history *h, const struct event *event);
void history_action_begins(struct history *h, const struct past_step *action, const struct event *event);
void history_restart(struct past_step *step); /* one that has ended is to be done once more */
void history_reopened(struct history *h, struct past_step *step, const struct event *event); /* by a retry */
void history_loop_again(struct past_step *loop); /* what did not end well in it is to be gone on with */
void history_settled(struct history *h, struct past_step *step, const struct event *event);
/* A worker's late word of an attempt: each has one. */
void history_word(struct history *h, struct past_step *step, const struct event *event);
