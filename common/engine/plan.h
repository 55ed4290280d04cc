/* A plan is a workflow version compiled for running: immutable, shared by reference, built once per version and
 * process. plan_compile also is the semantic check behind every save: all faults at once, with code and JSON Pointer.
 * Shape (types, unknown fields, ranges) has been checked by the schema before. Pure. */
#pragma once
#include "common/base/map.h"
#include "common/engine/event.h"
#include "common/expr/expr.h"

enum outcome_bit {
    OUT_SUCCEEDED = 1,
    OUT_FAILED = 2,
    OUT_SKIPPED = 4,
    OUT_TIMED_OUT = 8,
    OUT_CANCELLED = 16,
    OUT_UNKNOWN = 32
};

enum call_kind {
    CALL_TASK /* http, noop, integration.action: done by a worker */,
    CALL_TRANSFORM,
    CALL_CONDITION,
    CALL_SWITCH,
    CALL_DELAY
};

#define PRIORITY_OF_RUN 255

struct plan_edge {
    uint32_t parent;   /* step index */
    uint8_t outcomes;  /* accepted outcomes (OUT_*) */
    uint64_t branches; /* accepted branches, bit by index; with any_branch every success counts */
    bool any_branch;
};

struct plan_retry {
    uint16_t max_attempts;
    int64_t initial_us, max_us;
    double factor, jitter;
};

struct plan_step {
    struct str name;
    struct str call;
    enum call_kind kind;
    bool join_any;
    bool has_when;
    bool continue_on_failure;
    bool at_most_once;
    bool hold_unknown;   /* on_unknown: wait */
    bool key_per_step;   /* idempotency: {"per": "step"} */
    uint8_t priority;    /* 0 critical 1 high 2 normal 3 low, PRIORITY_OF_RUN */
    struct str pool;     /* "default" */
    int64_t timeout_us;  /* of an attempt; 0: none */
    int64_t deadline_us; /* from ready; 0: none */
    struct plan_retry retry;
    struct template when; /* one whole expression */
    struct template with; /* task: with; transform: value; condition: if; delay: duration or until */
    bool delay_until;
    struct template idempotency_key; /* chunk_count 0: none */
    bool has_key;
    size_t case_count; /* switch: cases, then default as the last branch when has_default */
    struct template *cases;
    size_t branch_count;
    struct str *branches; /* condition: true, false */
    bool has_default;
    size_t edge_count;
    struct plan_edge *edges;
    size_t child_count;
    uint32_t *children; /* steps that need this one */
};

struct plan {
    unsigned refs;
    struct arena *arena;
    struct str document; /* as saved */
    struct str name;
    struct str description;
    struct str input_schema; /* JSON or STR_NONE */
    int64_t timeout_us;      /* of the run */
    uint8_t priority;
    bool continue_on_failure; /* the workflow's default */
    size_t step_count;
    struct plan_step *steps; /* in document order */
    uint32_t *topological;   /* step indexes, parents first */
    bool has_output;
    struct template output;
    struct map *by_name; /* index + 1 */
};

struct plan_limits {
    uint32_t max_steps, max_depth;
    int64_t max_run_us;
};
extern const struct plan_limits PLAN_LIMITS_DEFAULT; /* 500, 100, 366 d */

struct plan_fault {
    const char *code;
    struct str pointer, message, hint;
};
struct plan_faults {
    struct arena *arena;
    size_t count, cap;
    struct plan_fault *items;
};
void plan_fault_add(struct plan_faults *faults, const char *code, struct str pointer, struct str message,
                    struct str hint);

/* Compiles a checked document (jt_check, schema). Returns NULL when there are faults. The text is copied. */
struct plan *plan_compile(struct str document, const struct plan_limits *limits, struct plan_faults *faults);
struct plan *plan_ref(struct plan *plan);
void plan_unref(struct plan *plan);                           /* accepts NULL */
uint32_t plan_find(const struct plan *plan, struct str step); /* NO_NODE when there is none */

/* Calls `fn` for each template that has expressions, with its JSON Pointer in the document. */
typedef void (*plan_template_fn)(void *ctx, const struct template *t, struct str pointer);
void plan_each_template(const struct plan *plan, plan_template_fn fn, void *ctx);
void plan_each_template_of(const struct plan *plan, uint32_t step, plan_template_fn fn, void *ctx);
