/* A run carried out here and at once: the real engine and the real expressions, a clock that moves only to what comes
 * next, and in the place of workers, signals and operators what the caller says. No I/O but to the sandbox's children.
 * Everything lives in one arena, until rehearsal_free. */
#pragma once
#include "cli/document.h"
#include "common/engine/engine.h"
#include "common/expr/sandbox.h"

struct rehearsal;

/* A run of it: the one that was started, or a child. */
struct rehearsed {
    struct rehearsed *next;
    struct rehearsal *world;
    const struct document *document;
    struct run_state *state;
    struct rehearsed *parent; /* NULL: the run that was started */
    struct str parent_step;
    struct str input, run_json;
    struct event *history;
    size_t history_count, history_cap;
    struct rehearsed_row *rows; /* of open work */
    size_t row_count, row_cap;
    struct effects fx; /* of the input that is being applied */
};

/* Something that a step asks for: a task for a worker, or a child run. */
struct rehearsal_call {
    const struct rehearsed *run;
    struct str path;
    const struct plan_step *step;
    struct str with;     /* rendered; of a child its input */
    struct str workflow; /* of a child */
    unsigned attempt;
};
enum rehearsal_end { END_SUCCEEDED, END_FAILED, END_LOST };
struct rehearsal_answer {
    enum rehearsal_end end;
    struct str output; /* JSON or STR_NONE */
    struct str code, error_class, message, detail;
    int32_t http_status;
    int64_t retry_after_us, takes_us;
    bool sent, answered;
};

struct rehearsal_port {
    /* What comes of it. False: the rehearsal is over, for the reason that was told. */
    bool (*call)(void *ctx, const struct rehearsal_call *call, struct rehearsal_answer *ret);
    /* The workflow that a child run has; NULL: `call` answers for it. */
    const struct document *(*child)(void *ctx, const struct rehearsal_call *call);
    /* Something that the caller wanted done was refused, or could not be done any more. */
    void (*refused)(void *ctx, struct str what, struct str why);
    void *ctx;
};

struct rehearsal *rehearsal_new(const struct rehearsal_port *port, struct sandbox *sandbox, uv_loop_t *loop,
                                struct wall_us now, struct str seed);
void rehearsal_free(struct rehearsal *world); /* accepts NULL */
struct arena *rehearsal_arena(struct rehearsal *world);
struct wall_us rehearsal_now(const struct rehearsal *world);
int64_t rehearsal_took_us(const struct rehearsal *world);

/* What is to be said to the run `after_us` from its start: IN_SIGNAL, IN_CANCEL, IN_SETTLE, or IN_EVENT, which is said
 * to all that wait for it. `what` names it. */
void rehearsal_plan(struct rehearsal *world, int64_t after_us, const struct engine_input *input, struct str what);
/* When nothing but its timeout is still to come, the run is left as it waits. */
void rehearsal_let_wait(struct rehearsal *world);
/* Carries the run out until it has ended, or waits for what never comes. False: told by the port, or in err. */
bool rehearsal_run(struct rehearsal *world, const struct document *document, struct str input, struct err *err);
struct rehearsed *rehearsal_root(const struct rehearsal *world);
struct rehearsed *rehearsal_runs(const struct rehearsal *world); /* all of them, the newest first */

/* rehearsal_values.c: evaluates what the engine asked for, and feeds the value back. */
enum err_code rehearsal_answer_eval(struct rehearsed *run, const struct effect_eval *eval, struct err *err) MUST_CHECK;
/* The body of an event, of this batch too. */
struct str rehearsed_body(const struct rehearsed *run, uint32_t seq);
struct str rehearsed_output(const struct rehearsed *run, uint32_t node);
/* Does jq take every expression? Tells of each that it does not. */
bool rehearsal_check_expressions(const struct document *document, struct sandbox *sandbox, uv_loop_t *loop);
struct rehearsal_engine {
    struct sandbox *sandbox;
    uv_loop_t *loop;
};
struct rehearsal_engine rehearsal_sandbox(const struct rehearsal *world);
