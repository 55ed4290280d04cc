/* What the files that compile a plan share. Not for callers. */
#pragma once
#include "common/engine/plan.h"

struct compile {
    struct plan *plan;
    struct plan_faults *faults;
    const struct plan_limits *limits;
    struct str *needs; /* JSON of each step's `needs`, STR_NONE */
    bool faulty;       /* something was refused, also when there was no room to say so */
    bool cyclic;       /* there is no order, and so no upstream to speak of */
};

/* A fault at the pointer that the format makes; the hint may be NULL. */
void plan_fault(struct compile *c, const char *code, const char *hint, const char *message, const char *pointer_format,
                ...) PRINTF_LIKE(5, 6);
/* "/steps/NAME" with the name escaped for a JSON Pointer. */
const char *plan_pointer(struct compile *c, uint32_t step);
/* Compiles the template at a pointer; faults are reported with it as prefix. */
bool plan_template(struct compile *c, struct str value, const char *pointer, bool url, struct template *ret);
/* `when` and `if`: a boolean, or a string that is exactly one expression. */
bool plan_condition(struct compile *c, struct str value, const char *pointer, struct template *ret);

/* plan_call.c: `call` and `with`. */
void plan_call(struct compile *c, uint32_t step, struct str call, struct str with);
/* plan_graph.c: edges, cycles, depth, branches that exclude each other, expressions that read what is not upstream. */
void plan_graph(struct compile *c);
void plan_check_reads(struct compile *c);
