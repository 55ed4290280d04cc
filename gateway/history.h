/* A run as people look at it: its row, the fold of its history, and what each step did when. */
#pragma once
#include "common/engine/engine.h"
#include "gateway/call.h"

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

struct step_view {
    struct wall_us queued_at, started_at, ended_at;
    struct body_view input, output;
    const struct event *failure, *skipped, *waiting;
    struct attempt_view *attempts, **attempts_end;
};

struct work_view {
    enum work_kind kind;
    struct str step, pool, reason;
    int attempt, dispatch, priority, shard;
    struct wall_us due_at, opened_at;
};

struct history {
    struct call *call;
    struct run_id id;
    struct str workflow, status, labels, trigger, error_code, error_step, error_text, quarantine_reason;
    int32_t version;
    int priority;
    struct wall_us created_at, started_at, ended_at;
    bool has_parent, has_rerun_of, running, quarantined, folded;
    struct run_id parent, rerun_of;
    int64_t commands;
    struct body_view input, output;
    struct run_state *state; /* folded; freed with the history */
    const struct plan *plan;
    struct step_view *steps; /* plan->root_count */
    size_t work_count;
    struct work_view *work;
};

/* Reads and folds a run, then goes on with `done`; answers 404 or an error itself. The history is the call's, for the
 * time of the callback. */
void history_load(struct call *call, struct run_id id, void (*done)(struct call *call, const struct history *history));
/* "pending", "running", "waiting", ... as people are told. */
const char *history_status(const struct history *history);
/* The state of a step as people are told. */
const char *history_step_status(const struct history *history, uint32_t node);

/* run_json.c */
void run_json(const struct history *history, struct buf *out);
void step_json(struct jw *w, const struct history *history, uint32_t node);
