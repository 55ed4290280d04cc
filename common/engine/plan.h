/* A plan is a workflow version compiled for running: immutable, shared by reference, built once per version and
 * process. plan_compile also is the semantic check behind every save: all faults at once, with code and JSON Pointer.
 * Shape (types, unknown fields, ranges) has been checked by the schema before. Pure. */
#pragma once
#include "common/base/map.h"
#include "common/engine/event.h"
#include "common/engine/plan_trigger.h"
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
    CALL_DELAY,
    CALL_SIGNAL,  /* wait_signal */
    CALL_EVENT,   /* wait_event */
    CALL_POLL,    /* a task that is repeated until an expression holds */
    CALL_FOREACH, /* a loop: its steps are a scope of their own */
    CALL_WORKFLOW /* a child run */
};

/* What a step is for. Actions are steps that the document does not list: a step's `compensate`, the workflow's
 * `on_failure_notify`. Each has a scope of its own, of one step, and runs when the engine says so. */
enum step_role { ROLE_STEP, ROLE_COMPENSATE, ROLE_NOTIFY };

/* What doing a step once more would do outside. */
enum plan_effect { EFFECT_PURE, EFFECT_IDEMPOTENT, EFFECT_NOT_REPEATABLE };

#define PRIORITY_OF_RUN 255
#define RETRY_ON_MAX 32

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
    size_t on_count; /* 0: every transient error; else only those whose code is listed ("http_5xx": any of them) */
    struct str *on;
};

struct plan_step {
    struct str name;       /* of an action: that of the step it belongs to, empty for the workflow's */
    struct str call;       /* as written */
    struct str task;       /* what a worker is asked to do: the call, or that which a poll repeats */
    uint32_t scope;        /* index of the scope it belongs to */
    uint8_t role;          /* enum step_role */
    uint32_t of;           /* ROLE_COMPENSATE: the step it undoes; else NO_NODE */
    uint32_t compensate;   /* step index of its compensation, NO_NODE */
    uint8_t compensate_on; /* of a compensation: outcomes (OUT_*) that it undoes */
    enum call_kind kind;
    bool join_any;
    bool has_when;
    bool continue_on_failure;
    bool at_most_once;
    bool hold_unknown;   /* on_unknown: wait */
    bool key_per_step;   /* idempotency: {"per": "step"} */
    uint8_t effect;      /* enum plan_effect; of a loop the strongest of what is in it */
    uint8_t priority;    /* 0 critical 1 high 2 normal 3 low, PRIORITY_OF_RUN */
    struct str pool;     /* "default" */
    int64_t timeout_us;  /* of an attempt; 0: none */
    int64_t deadline_us; /* from ready; 0: none */
    struct plan_retry retry;
    struct template when; /* one whole expression */
    struct template with; /* transform: value; condition: if; delay: duration or until; foreach: items; poll: all but
                             `until`; wait_event: its timeout; other calls: the whole of `with` */
    bool delay_until;
    struct template until;       /* poll: one whole expression; reads the try's answer as .output */
    struct str signal;           /* wait_signal: its name when no expression makes it, else STR_NONE */
    bool once;                   /* wait_signal */
    struct plan_event event;     /* wait_event: which; its filter reads what the step's expressions read, too */
    int64_t look_back_us;        /* wait_event: how old it may be when the wait begins; -1: as old as the run */
    uint32_t body;               /* foreach: index of the scope of its steps, NO_NODE for other calls */
    uint32_t concurrency;        /* foreach: iterations at a time */
    bool continue_on_item;       /* foreach: on_item_failure: continue */
    struct template item_output; /* foreach: of an iteration; always compiled: what is left out is the last steps' */
    uint32_t item_output_of;     /* foreach: step whose output an iteration's output is as a whole, else NO_NODE */
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

/* Steps that live and end together: those of the workflow, those of a loop's body, or one action. */
struct plan_scope {
    uint32_t first, count; /* its steps are plan.steps[first .. first + count) */
    uint32_t owner;        /* step index: the foreach, or the step that an action belongs to; NO_NODE */
    uint32_t parent;       /* scope of the owner; of an action: the scope whose steps it sees; NO_NODE for the first */
    uint8_t role;          /* enum step_role: ROLE_STEP for the workflow and for loops */
    bool keep;             /* iterations stay in memory after their end: something in them may have to be undone */
    uint32_t *topological; /* step indexes, parents first */
    struct map *by_name;   /* step index + 1; NULL for actions */
};

/* What becomes of a run that finds no slot free. */
enum on_limit { ON_LIMIT_QUEUE, ON_LIMIT_SKIP, ON_LIMIT_CANCEL_OLDEST };
struct plan_concurrency {
    uint32_t limit; /* runs at a time; 0: there is none */
    enum on_limit on_limit;
    bool has_key; /* else all runs of the workflow share one */
    struct template key;
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
    int format; /* event format that its runs may need */
    struct plan_concurrency concurrency;
    bool continue_on_failure; /* the workflow's default */
    size_t step_count;        /* of all scopes */
    size_t root_count;        /* of the workflow itself: steps[0 .. root_count), in document order */
    struct plan_step *steps;  /* scope after scope */
    size_t scope_count;
    struct plan_scope *scopes; /* the first is the workflow's */
    uint32_t notify;           /* step index of on_failure_notify, NO_NODE */
    bool has_output;
    struct template output;
    size_t trigger_count;
    struct plan_trigger *triggers;
};

struct plan_limits {
    uint32_t max_steps, max_depth; /* steps of all loops count; depth too */
    int64_t max_run_us;
    uint32_t max_items; /* of a loop whose list is in the document */
};
extern const struct plan_limits PLAN_LIMITS_DEFAULT; /* 500, 100, 366 d, 10000 */
#define LOOP_NESTING_MAX 5
#define LOOP_ITEMS_MAX 10000 /* whatever an organisation may: the ceiling of its limit */
#define SIGNALS_MAX 100      /* that wait, of one name */
#define LOOK_BACK_MAX_US (INT64_C(7) * 86400 * INT64_C(1000000)) /* events are kept for so long */
#define CONCURRENCY_MAX 10000
#define CONCURRENCY_KEY_MAX 1024 /* bytes */

struct plan_fault {
    const char *code;
    struct str pointer, message, hint;
};
struct plan_faults {
    struct arena *arena;
    size_t count, cap;
    struct plan_fault *items;
    size_t warning_count, warning_cap;
    struct plan_fault *warnings; /* what is allowed, but does not do what it seems to ("no_effect"), or more */
};
void plan_fault_add(struct plan_faults *faults, const char *code, struct str pointer, struct str message,
                    struct str hint);

/* Compiles a checked document (jt_check, schema). Returns NULL when there are faults. The text is copied. */
struct plan *plan_compile(struct str document, const struct plan_limits *limits, struct plan_faults *faults);
struct plan *plan_ref(struct plan *plan);
void plan_unref(struct plan *plan);                           /* accepts NULL */
uint32_t plan_find(const struct plan *plan, struct str step); /* among the workflow's own; NO_NODE when there is none */
const struct plan_trigger *plan_find_trigger(const struct plan *plan, struct str name); /* NULL: there is none */
const char *plan_effect_name(enum plan_effect effect); /* "pure", "idempotent", "not_repeatable" */
uint32_t plan_find_in(const struct plan *plan, uint32_t scope, struct str step); /* among those of one scope */
/* A step of that name as seen from a scope: in it, or around it. NO_NODE: none. */
uint32_t plan_find_visible(const struct plan *plan, uint32_t scope, struct str name);
/* Can a signal have that name? 1 to 255 bytes, no control characters; what the API takes. */
bool plan_signal_name(struct str name);

/* Calls `fn` for each template that has expressions, with its JSON Pointer in the document. */
typedef void (*plan_template_fn)(void *ctx, const struct template *t, struct str pointer);
void plan_each_template(const struct plan *plan, plan_template_fn fn, void *ctx);
void plan_each_template_of(const struct plan *plan, uint32_t step, plan_template_fn fn, void *ctx);
