/* What happened to one step, told from the events that name it: times, attempts, bodies, what it waits for. Needs no
 * more of a run than that step's events in order, so it serves the workflow's own steps beside the fold, and those of
 * iterations that the fold has forgotten. */
#pragma once
#include "common/engine/engine.h"
#include "common/io/pg.h"

/* A body: shown when it is short, else referred to. */
struct body_view {
    struct str json; /* STR_NONE: none, or too long */
    size_t bytes;
    int type; /* of its event */
    int attempt;
};

struct attempt_view {
    struct attempt_view *next;
    uint16_t number;
    const char *status; /* queued running succeeded failed timed_out cancelled outcome_unknown */
    struct wall_us started_at, ended_at;
    struct str worker;
    const struct event *failure; /* what it ended with */
};

/* Of a loop. */
struct loop_view {
    uint32_t total, by_status[STEP_STATUSES];
    uint32_t failed_count; /* shown */
    uint32_t *failed;
    size_t output_bytes; /* of its list */
};

struct step_view {
    const struct plan_step *plan;
    struct str path;
    enum step_status status;
    struct str branch;
    struct wall_us queued_at, started_at, ended_at;
    struct body_view input, output;
    uint32_t output_ref; /* seq of the event whose output it is, 0: of its own */
    const struct event *failure, *skipped;
    const struct event *waiting; /* NULL: it does not wait */
    struct str child;            /* id of the child run */
    const struct loop_view *loop;
    struct step_view *compensation; /* NULL: it has not begun */
    struct attempt_view *attempts, **attempts_end;
};

void step_view_init(struct step_view *view, const struct plan_step *plan, struct str path);
/* Views keep pointers into events: those must live in `arena`, too. */
void step_view_event(struct step_view *view, struct arena *arena, const struct event *event);

/* One row of event_page.sql or its like (seq, at, type, step, attempt, data, length, output) as an event of `arena`. */
enum err_code event_of_row(const struct pg_result *rows, size_t row, struct arena *arena, struct event *ret,
                           struct err *err) MUST_CHECK;

/* Writes the members of a step's object (step_json.c). */
void step_view_json(struct jw *w, struct run_id run, const struct step_view *view);
/* A body under a key: itself, or where it is. step: the path, STR_NONE for the run. */
void body_json(struct jw *w, const char *key, struct run_id run, struct str step, const struct body_view *body);
/* What a step is given when no expression is in it, STR_NONE otherwise: then it is in the history. */
struct str step_constant_input(const struct plan_step *plan);
