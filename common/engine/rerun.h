/* A new run that takes what it can from an old one: which steps are done, and whose outcome is taken over. Pure; asked
 * beforehand for the plan, and again for the start, so that they are the same.
 *
 * The start's list of given outcomes, `given`: [{"step", "as", "branch", "code", "message", "detail", "output"}],
 * parents first. */
#pragma once
#include "common/engine/engine.h"

struct rerun_fault {
    const char *code;
    struct str pointer, message;
};

struct rerun_step {
    enum { RERUN_DONE, RERUN_REUSED, RERUN_OVERRIDDEN } what;
    uint32_t old;            /* node of the old run; NO_NODE: it has no such step */
    bool again;              /* done, and may have had its effect in the old run */
    bool needs_confirmation; /* ... which may not be repeated unless somebody says so */
};

struct rerun {
    /* filled by the caller */
    const struct run_state *old;
    const struct plan *plan; /* of the new run */
    struct str from;         /* STR_NONE: from the beginning */
    struct str outputs;      /* JSON object: outputs that are given, by step; STR_NONE: none */
    const uint8_t *effects;  /* enum plan_effect by step of the plan's root, child runs looked into; NULL: the plan's */
    /* the answer */
    struct rerun_step *steps; /* by step of the plan's root */
    bool whole;               /* all is done: a start like any other */
    size_t fault_count;
    struct rerun_fault *faults; /* why not; all at once */
};
void rerun_plan(struct rerun *rerun, struct arena *arena);
