/* A run as people look at it: its row, the fold of its history, and what each of its own steps did when. */
#pragma once
#include "gateway/call.h"
#include "gateway/step_view.h"

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
    int priority, depth;
    struct wall_us created_at, started_at, ended_at;
    bool has_parent, has_rerun_of, running, quarantined;
    struct run_id parent, rerun_of;
    struct str parent_step, begins, reruns;
    int64_t commands;
    struct body_view input, output;
    const struct event *end;    /* of a run that has ended */
    const struct event *paused; /* the last time that it was; NULL: never */
    struct run_state *state;    /* folded; freed with the history */
    const struct plan *plan;
    struct step_view *views; /* by plan step: the workflow's own steps, and the actions for them and for the workflow */
    size_t work_count;
    struct work_view *work;
};

/* Reads and folds a run, then goes on with `done`; answers an error itself, and 404 when there is no such run, unless
 * it `may_miss`: then `done` is given NULL. The history is the call's. What it costs to keep does not depend on how
 * many iterations the run has had. */
void history_read(struct call *call, struct run_id id, bool may_miss,
                  void (*done)(void *ctx, const struct history *history), void *ctx);
/* The same of a run that must be there, with the call alone to go on with. */
void history_load(struct call *call, struct run_id id, void (*done)(struct call *call, const struct history *history));
/* The same of a run that this gateway has started and that has ended: what its row says is in its start and in its
 * history, so only that is read. */
struct start;
void history_load_ended(struct call *call, const struct start *start,
                        void (*done)(struct call *call, const struct history *history));
/* The version that a run runs, for the time of the call; answers 404 or an error itself. */
void history_plan(struct call *call, struct run_id id,
                  void (*done)(void *ctx, struct call *call, const struct plan *plan), void *ctx);
/* "pending", "running", "waiting", ... as people are told. */
const char *history_status(const struct history *history);
/* The view of a path among history.views; NULL: it is a step of an iteration, or there is none. */
struct step_view *history_view(const struct history *history, struct str path);

/* run_json.c */
void run_json(const struct history *history, struct buf *out);
