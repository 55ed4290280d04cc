/* A world of one run for tests of the engine: applies inputs, answers evaluations natively, keeps the history and the
 * rows of open work as they would be stored, and after each input compares the state with a fresh fold of the decoded
 * history and those rows. Steps are compared by path: node numbers are not history. */
#pragma once
#include "common/engine/engine.h"

struct world_row { /* of open_work */
    uint32_t seq, dispatch;
    enum work_kind kind;
    struct wall_us due_at;
    const char *reason; /* of its last change, NULL */
};

struct world {
    struct arena *arena; /* everything of this world */
    struct plan *plan;
    struct run_state *state;
    struct wall_us now;
    struct str input;      /* the run's input */
    struct event *history; /* decoded again from what would be stored */
    size_t history_count, history_cap;
    struct world_row *rows;
    size_t row_count, row_cap;
    int format;                  /* event format that may be written; 0: the newest */
    const struct limits *limits; /* of its organisation; NULL: LIMITS_DEFAULT */
    bool unanswered;             /* evaluations are left alone: world_answer gives their values */
    bool unchecked;              /* no comparison after each input: world_check makes it */
    struct effects fx;           /* of the last input, evaluations included */
    size_t mark;                 /* history_count before the last input */
    size_t answered;             /* of its evaluations, by world_answer */
    struct err err;
};

void world_init(struct world *w, const char *document);
void world_init_limits(struct world *w, const char *document, const struct plan_limits *limits);
void world_deinit(struct world *w);
void world_apply(struct world *w, struct engine_input input);
void world_check(struct world *w);
/* The state is thrown away and read again, as another scheduler would. */
void world_reload(struct world *w);
void world_start(struct world *w);
void world_begin(struct world *w, const char *step, const char *worker); /* "started" */
void world_succeed(struct world *w, const char *step, const char *output);
void world_fail(struct world *w, const char *step, const char *error_class, const char *code, bool sent, bool answered);
void world_result(struct world *w, const char *step, enum result_status status);
void world_lost(struct world *w, const char *step);
void world_cancel(struct world *w, bool compensate);
void world_pause(struct world *w);
void world_resume(struct world *w);
void world_signal(struct world *w, const char *name, const char *payload);
void world_event_comes(struct world *w, const char *step, const char *event); /* for the wait of this step */
void world_settle(struct world *w, const char *step, const char *as, const char *output);
void world_compensate(struct world *w);
void world_retry(struct world *w, const char *confirm); /* "true", a list of steps, or NULL */
void world_child_ended(struct world *w, const char *step, enum run_status status, const char *output, const char *code);
/* Answers the evaluation `index` of the last input (when w->unanswered); after the last one what came is stored. */
void world_answer(struct world *w, size_t index);
void world_timer(struct world *w, const char *step); /* moves the clock to the due time of the step's open work */
void world_run_timeout(struct world *w);
struct step_state *world_step(struct world *w, const char *step);
enum step_status world_status(struct world *w, const char *step);
bool world_open(struct world *w, const char *step); /* a path that is in memory, and has open work */
bool world_has(struct world *w, enum event_type type, const char *step);
struct event *world_event(struct world *w, enum event_type type, const char *step); /* the newest, NULL when none */
size_t world_count(struct world *w, enum event_type type, const char *step);
/* What the last input wrote, "step.succeeded a, step.dispatched b"; events of the run are their names alone. */
const char *world_said(struct world *w);
/* The output of a step as JSON text, a loop's put together; "null" when there is none. */
const char *world_output(struct world *w, const char *step);
/* Compiles and returns the faults as lines "code pointer" in the order found. */
const char *faults_of(struct arena *arena, const char *document);
