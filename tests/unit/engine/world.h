/* A world of one run for tests of the engine: applies inputs, answers evaluations natively, keeps the history and the
 * rows of open work as they would be stored, and after each input compares the state with a fresh fold of the decoded
 * history and those rows. */
#pragma once
#include "common/engine/engine.h"

struct world_row { /* of open_work */
    uint32_t seq, dispatch;
    enum work_kind kind;
    struct wall_us due_at;
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
    bool unanswered;   /* evaluations are left alone: world_answer gives their values */
    struct effects fx; /* of the last input, evaluations included */
    struct err err;
};

void world_init(struct world *w, const char *document);
void world_deinit(struct world *w);
void world_apply(struct world *w, struct engine_input input);
void world_start(struct world *w);
void world_succeed(struct world *w, const char *step, const char *output);
void world_fail(struct world *w, const char *step, const char *error_class, const char *code, bool sent, bool answered);
void world_result(struct world *w, const char *step, enum result_status status);
/* Answers the evaluation `index` of the last input (when w->unanswered), and stores what came of it. */
void world_answer(struct world *w, size_t index);
void world_timer(struct world *w, const char *step); /* moves the clock to the due time of the step's open work */
struct step_state *world_step(struct world *w, const char *step);
enum step_status world_status(struct world *w, const char *step);
bool world_has(struct world *w, enum event_type type, const char *step);
struct event *world_event(struct world *w, enum event_type type, const char *step); /* the newest, NULL when none */
/* Compiles and returns the faults as lines "code pointer" in the order found. */
const char *faults_of(struct arena *arena, const char *document);
