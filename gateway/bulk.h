/* What is asked of many runs at once: a request, as bulk.c reads it and bulk_plan.c tries it. Loop thread only. */
#pragma once
#include "gateway/call.h"
#include "gateway/run_filter.h"

struct bulk_kind {
    const char *name;
    const char *states; /* of runs that it is for; a space between */
    const char *option; /* a member of the body that goes to each run; NULL: none */
    bool is_signed;     /* who asks goes to each run */
    /* What it would do to one run depends on its history: looks, and ends with `done` or an answer of the call. */
    void (*planned)(struct call *call, struct run_id run, struct str body,
                    void (*done)(struct call *call, struct str unconfirmed));
    bool starts_runs; /* new ones, with the options of :rerun, and no command */
    const char *otherwise;
};

struct bulk {
    struct call *call;
    const struct bulk_kind *kind;
    struct run_filter filter;
    struct str filter_text, command, key; /* command: what is asked of each run */
    uint8_t hash[32];
    bool all, dry_run;
    struct run_id operation;
    int tries;
};

/* The first parameters of a statement that calls runs_matching(): runs that the operation is for (`fit`), or not. */
#define BULK_FILTER_PARAMS 11
void bulk_filter(struct pg_batch *batch, const struct bulk *b, bool fit, struct pg_param *ret);
/* Says what the request would do, and answers. */
void bulk_plan(struct bulk *b);
/* A problem in one sentence: its detail, and the first of its errors. In the arena. */
struct str bulk_reason(struct arena *arena, const char *detail, struct str errors);
