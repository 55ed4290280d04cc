/* What the files of the engine share. Not for callers. */
#pragma once
#include "common/engine/engine.h"

struct ctx {
    struct run_state *state;
    const struct engine_input *input;
    struct wall_us now;
    struct effects *fx;
    struct err *err;
    enum err_code rc; /* first failure; later calls do nothing */
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

/* Appends an event (seq and at are filled in) and folds it. */
/* Nothing new starts: a decisive failure, a cancellation or the run's timeout. */
bool engine_stopping(const struct run_state *state);
/* The step whose open row has this seq, NO_NODE when there is none. */
uint32_t engine_find_row(struct run_state *state, uint32_t seq);

void engine_emit(struct ctx *c, struct event event);
void engine_emit_step(struct ctx *c, enum event_type type, uint32_t node, struct event event);
void engine_close_seq(struct ctx *c, uint32_t seq);
void engine_defer(struct ctx *c, uint32_t node, int64_t after_us);
void engine_ask(struct ctx *c, uint32_t node, enum eval_purpose purpose, uint32_t index,
                const struct template *template);
struct event engine_failure(const char *code, const char *error_class, struct str message);

/* engine_advance.c: what becomes of steps whose parents have ended, and what evaluated values mean. */
void engine_ready(struct ctx *c, uint32_t node);
void engine_children_ready(struct ctx *c, uint32_t node);
void engine_advance(struct ctx *c);
void engine_value(struct ctx *c);
void engine_dispatch(struct ctx *c, uint32_t node);

/* engine_result.c: what a worker says, and what silence means. */
void engine_result(struct ctx *c);
void engine_started(struct ctx *c);
void engine_lost(struct ctx *c);
void engine_step_failed(struct ctx *c, uint32_t node, enum event_type type, struct event event);

/* engine_end.c: stopping, and the end of a run. */
void engine_tell_to_stop(struct ctx *c, uint32_t node);
void engine_stop_all(struct ctx *c);
void engine_stop_when_failing(struct ctx *c);
void engine_finish_if_at_rest(struct ctx *c);
void engine_output_value(struct ctx *c);
