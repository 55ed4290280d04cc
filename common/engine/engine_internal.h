/* What the files of the engine share. Not for callers. */
#pragma once
#include "common/engine/engine.h"

struct ctx {
    struct run_state *state;
    const struct engine_input *input;
    const struct limits *limits; /* of the run's organisation: what is decided may ask for it, the fold must not */
    struct wall_us now;
    struct effects *fx;
    struct err *err;
    enum err_code rc; /* first failure; later calls do nothing */
    bool reopened;    /* the run, by this input */
    /* worklist: steps whose parents have all ended, taken from the front, so that steps that become ready together are
     * dispatched in the order of the document */
    uint32_t *ready;
    size_t ready_head, ready_count, ready_cap;
    /* iterations of which a step has ended: perhaps they are at rest */
    struct frame **rest;
    size_t rest_count, rest_cap;
};

/* One run takes no more of a batch than this: what is left to begin comes with a timer that is due at once. */
#define BEGUN_PER_BATCH 256
#define EVENTS_PER_RUN_AND_BATCH 1000
#define OUTPUT_PER_RUN_AND_BATCH ((size_t)4 << 20)

/* A run's history is bounded: what would be tried again beyond this ends instead, and so does the run. */
#define HISTORY_MAX 200000

#define GROW(c, array, count, cap)                                                                                     \
    do {                                                                                                               \
        if ((count) == (cap)) {                                                                                        \
            size_t cap_ = (cap) == 0 ? 8 : 2 * (cap);                                                                  \
            void *grown_ = arena_array((c)->fx->arena, cap_, sizeof(*(array)));                                        \
            if ((count) > 0)                                                                                           \
                memcpy(grown_, (array), (count) * sizeof(*(array)));                                                   \
            (array) = grown_;                                                                                          \
            (cap) = cap_;                                                                                              \
        }                                                                                                              \
    } while (0)

uint8_t engine_outcome_bit(enum step_status status);
static inline bool step_is_failure(enum step_status status)
{
    return status == STEP_FAILED || status == STEP_TIMED_OUT || status == STEP_OUTCOME_UNKNOWN;
}

/* frames.c */
struct frame *frame_new(struct run_state *state, uint32_t scope, uint32_t owner, uint32_t index);
struct frame *frame_begin_item(struct run_state *state, uint32_t loop, uint32_t index);
/* An iteration has ended: its steps are forgotten unless somebody may still ask for them, or a retry may go on with
 * them. */
void frame_forget(struct run_state *state, struct frame *frame);
void frames_free(struct run_state *state);
/* A step that has ended is to be done once more: its attempts go on counting, and what was answered under its key asks
 * for a new one. */
void step_restart(struct run_state *state, struct step_state *s);

/* The generation of its key that its next attempt takes. Receivers replay the first answer of a key: what was answered
 * needs a new one. Where nobody knows, or the worker has not said a word, and where no attempt has used it, it stays.
 */
uint16_t step_next_generation(const struct step_state *s);
void step_use_generation(struct step_state *s, uint16_t generation);
struct step_extra *step_extra(struct run_state *state, struct step_state *s); /* made when there is none */
/* What a path leads to: a step (node), or an iteration itself (loop and index; frame NULL when it is not in memory). */
struct place {
    struct frame *frame;
    uint32_t node, loop, index;
    bool later; /* not found because it has not begun */
};
bool frame_resolve(struct run_state *state, struct str path, bool begin, struct place *ret);
struct str engine_path(struct arena *arena, const struct run_state *state, uint32_t node);
struct str engine_item_path(struct arena *arena, const struct run_state *state, uint32_t loop, uint32_t index);
void rows_add(struct run_state *state, uint32_t node);
void rows_del(struct run_state *state, uint32_t node);

/* state.c: what the other files of the fold use */
enum err_code fold_refuse(const struct event *event, const char *why, struct err *err);
void fold_error(struct step_error **error, const struct event *event); /* made when there is none */
void fold_outcome(struct run_state *state, uint32_t node, const struct event *event, enum step_status status);
void work_closed(struct run_state *state, uint32_t node);
void fold_failure(struct run_state *state, uint32_t node); /* is it decisive for its frame? */
/* state_loop.c */
enum err_code fold_item(struct run_state *state, const struct place *place, const struct event *event, struct err *err);
void loop_item_runs(struct step_extra *extra, uint32_t index);
void loop_again(struct step_state *loop); /* what did not end well in it is to be gone on with */
/* The step whose output is that of the iteration as it stands; NULL when it is made by an expression. */
const struct step_state *item_output_source(const struct run_state *state, const struct frame *frame);
/* state_late.c */
void undo_note(struct run_state *state, uint32_t node);         /* it has ended, and has a compensation */
struct undo *undo_find(struct run_state *state, uint32_t node); /* NULL: nothing of it is to be undone */
void undo_again(struct run_state *state);                       /* undoing begins */
void undo_show_late_outputs(struct run_state *state);           /* to what undoes their steps */
void fold_late(struct run_state *state, uint32_t node, const struct event *event);
enum err_code fold_step_reopened(struct run_state *state, uint32_t node, const struct event *event, struct err *err);
enum err_code fold_settled(struct run_state *state, uint32_t node, const struct event *event, struct err *err);

/* signals.c */
struct signal_queue *signal_find(const struct run_state *state, struct str name);
struct signal_queue *signal_get(struct run_state *state, struct str name); /* made when there is none */
void signal_came(struct run_state *state, struct signal_queue *queue, uint32_t seq, uint32_t bytes);
bool signal_take(struct signal_queue *queue, uint32_t seq, uint32_t *ret_bytes); /* the oldest; false: it is another */
void signal_wait(struct run_state *state, struct signal_queue *queue, uint32_t node);
void signal_leave(struct signal_queue *queue, uint32_t node);
void signals_free(struct run_state *state);

/* Nothing new starts in the frame: a decisive failure in it or around it, a cancellation or the run's timeout. Actions
 * are never stopped. */
bool engine_stopping(const struct run_state *state, const struct frame *frame);

/* Appends an event (seq and at are filled in) and folds it. */
void engine_emit(struct ctx *c, struct event event);
void engine_emit_step(struct ctx *c, enum event_type type, uint32_t node, struct event event);
void engine_open_work_row(struct ctx *c, struct effect_work_open work);
void engine_close_seq(struct ctx *c, uint32_t seq);
/* The row of a step changes without an event; publish: its task is ready now. */
void engine_change_work(struct ctx *c, uint32_t node, const char *reason, bool publish);
void engine_defer(struct ctx *c, uint32_t node, int64_t after_us, const char *reason);
void engine_ask(struct ctx *c, uint32_t node, enum eval_purpose purpose, uint32_t index,
                const struct template *template);
struct wall_us engine_timeout(const struct ctx *c, struct wall_us from);
void engine_open_timeout(struct ctx *c); /* the row of the run's timeout */
struct event engine_failure(const char *code, const char *error_class, struct str message);
struct event engine_too_large(struct ctx *c, size_t bytes); /* of an output beyond the limit */

/* engine_admission.c: slots of concurrency keys. */
void engine_start(struct ctx *c);
void engine_admission_value(struct ctx *c);
void engine_admitted(struct ctx *c);
void engine_ask_again(struct ctx *c);                 /* a run that has been opened again waits like any other */
bool engine_has_asked(const struct run_state *state); /* for a slot, ever */
void engine_release(struct ctx *c, const struct admission before[ADMISSION_SCOPES]); /* it has ended */

/* engine_advance.c: what becomes of steps whose parents have ended, and what evaluated values mean. */
void engine_ready(struct ctx *c, uint32_t node);
bool engine_is_ready(const struct run_state *state, uint32_t node); /* nothing is missing but the decision */
void engine_children_ready(struct ctx *c, uint32_t node);
void engine_rest(struct ctx *c, struct frame *frame); /* all of the iteration may have ended */
void engine_advance(struct ctx *c);
void engine_value(struct ctx *c);
void engine_begin(struct ctx *c, uint32_t node); /* a step that is not skipped, or an action */
void engine_dispatch(struct ctx *c, uint32_t node);
void engine_succeed(struct ctx *c, uint32_t node, struct str branch, struct str output);

/* engine_result.c: what a worker says, and what silence means. */
void engine_result(struct ctx *c);
void engine_started(struct ctx *c);
void engine_lost(struct ctx *c);
void engine_step_failed(struct ctx *c, uint32_t node, enum event_type type, struct event event);
void engine_until_value(struct ctx *c, uint32_t node);

/* It has been opened again, and no slot was free. */
static inline bool engine_waits_for_slot(const struct run_state *state)
{
    return state->started && state->admission_seq != 0;
}

/* engine_pause.c: nothing new begins until the run is resumed, or admitted. */
static inline bool engine_held(const struct run_state *state)
{
    return state->status == RUN_PAUSED || engine_waits_for_slot(state);
}
void engine_pause(struct ctx *c);
void engine_resume(struct ctx *c);

/* engine_loop.c: iterations. */
void engine_items(struct ctx *c, uint32_t node, struct str items); /* the loop begins */
void engine_items_again(struct ctx *c, uint32_t node);             /* ... or goes on after a retry */
void engine_fill(struct ctx *c, uint32_t loop);                    /* begins iterations as far as may be */
void engine_frame_rest(struct ctx *c, struct frame *frame);        /* ends the iteration when all of it has */
void engine_item_value(struct ctx *c);
void engine_cut_loop(struct ctx *c, uint32_t loop); /* all that is in it ends cancelled */

/* engine_wait.c: signals, child runs, settling. */
void engine_wait_signal(struct ctx *c, uint32_t node, struct str with);
void engine_signal(struct ctx *c);
/* Takes the oldest signal of the queue for a step that waits, or begins to. */
void engine_take_signal(struct ctx *c, uint32_t node, const struct signal_queue *queue);
/* engine_event.c: steps that wait for events. */
void engine_listen(struct ctx *c, uint32_t node, struct str with);
void engine_event_came(struct ctx *c);
void engine_filter_value(struct ctx *c, uint32_t node);
/* open_work.c */
void engine_wake(struct ctx *c);
void engine_child_begin(struct ctx *c, uint32_t node, struct str with);
void engine_child_again(struct ctx *c, uint32_t node); /* it is retried with its parent */
void engine_child_stop(struct ctx *c, uint32_t node);
void engine_child_ended(struct ctx *c);
void engine_settle(struct ctx *c);
/* Why nobody can say what became of `node`, or NULL when somebody can. */
const char *engine_cannot_settle(const struct run_state *state, uint32_t node);
/* The worker itself says, late, what became of a step that ended in doubt: `event` as for its success or failure. */
void engine_settle_by_word(struct ctx *c, uint32_t node, struct event event);
void engine_refuse(struct ctx *c, const char *code, struct str message);
void engine_apply_command(struct ctx *c, const char *code);

/* engine_given.c: what a run does not do itself. Says why its start is no good, or gives STR_NONE. */
struct str engine_give(struct ctx *c);
void engine_mark_below(const struct plan *plan, uint32_t step, bool *below); /* it, and what is below it */
/* engine_retry.c */
void engine_retry(struct ctx *c);
void engine_reopen(struct ctx *c, const struct frame *frame); /* the steps of it that are done once more */

/* engine_end.c: stopping, and the end of a run. */
struct frame_verdict {
    enum { VERDICT_SUCCEEDED, VERDICT_PARTIAL, VERDICT_FAILED } kind;
    uint32_t decisive; /* node of the failure that explains it, NO_NODE */
};
struct frame_verdict engine_verdict(const struct run_state *state, const struct frame *frame);
/* Has a step run that accepts this failure? */
bool engine_handled(const struct run_state *state, const struct frame *frame, uint32_t node);
void engine_tell_to_stop(struct ctx *c, uint32_t node);
void engine_never_settled(struct ctx *c, uint32_t node); /* nothing waits for the word of a person any more */
void engine_stop_frame(struct ctx *c, struct frame *frame);
void engine_stop_when_failing(struct ctx *c, struct frame *frame);
void engine_finish_if_at_rest(struct ctx *c);
void engine_output_value(struct ctx *c);
/* It could not even begin. */
void engine_end_refused(struct ctx *c, struct str message);

/* engine_undo.c: compensation. */
/* Something is to be undone (again: also what was tried and did not go), or nobody knows. */
bool engine_has_to_undo(const struct run_state *state, bool again);
bool engine_undo_next(struct ctx *c); /* begins the next action; false: nothing is left */
struct str engine_undo_report(struct ctx *c, bool *ret_clean);
void engine_compensate(struct ctx *c);
