/* A request that starts a run, from its admission to its answer: of a workflow (run_start.c), or of what a run did
 * (rerun.c). */
#pragma once
#include "gateway/admission.h"
#include "gateway/call.h"
#include "gateway/flows.h"
#include "gateway/start.h"

struct starting {
    struct start start;
    struct call *call;
    struct str given_priority; /* STR_NONE: the workflow's */
    int64_t wait_us;
    enum admission_verdict admission;
    int64_t after_s;
    int moves;
};

/* The request's Idempotency-Key, and what the request is told by: its body, and `asked` where its path says more than
 * the workflow. False: answered. */
bool starting_read_key(struct starting *s, const char *asked, struct str body);
/* Does the input keep the workflow's input_schema? False: answered. */
bool starting_check_input(struct call *call, const struct flow *flow, struct str input);
/* The same without an answer. */
bool starting_input_fits(const struct flow *flow, struct str input);
/* The input that a trigger has made; of a batch it will be one of a list, and has to keep the schema as a list of its
 * own. */
bool starting_trigger_input_fits(const struct flow *flow, const struct plan_trigger *trigger, struct str input,
                                 struct arena *arena);
/* 202 without a run: what has become of it instead (debounced, batched, queued, dropped). */
void starting_answer_held(struct call *call, struct str held);
/* 202 with the run. */
void starting_answer_accepted(struct call *call, struct run_id run);
/* Is there room for a new run of its priority? False: answered, or only looked for under its key. */
bool starting_admit(struct starting *s);
/* From the workflow on: priority, admission, input_schema, the start itself, the answer. What is started is filled in.
 */
void starting_go(struct starting *s);
/* start.done: answers. */
void starting_done(struct start *start, enum start_verdict verdict, const struct err *err);
