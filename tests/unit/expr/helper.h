/* Compiling templates in tests, and a document for them to read. */
#pragma once
#include "common/expr/expr.h"
#include "tests/unit/base/test.h"

struct compiled {
    struct arena *arena;
    struct template template;
    bool good;
    size_t fault_count;
    char faults[2048]; /* "pointer: message" per line */
    char hints[2048];
};
/* Compiles JSON text, with secrets allowed and the URL rule on. */
void compile(struct compiled *c, const char *json);
/* Compiles "${ source }". */
void compile_expr(struct compiled *c, const char *source);
void compiled_free(struct compiled *c);

/* A document out of JSON text as expressions see it: {"trigger", "input", "steps", "item", "index", "run"}. */
struct document {
    struct arena *arena;
    struct str json;
    struct expr_doc doc;
    const char *missing; /* the body of this step is not here */
};
void document_init(struct document *d, struct arena *arena, struct str json);

/* Renders with native evaluation only; the text, or "failed: message", "not here". */
const char *render(struct compiled *c, struct document *d);

/* A small generator that gives the same numbers everywhere. */
unsigned pick(uint64_t *seed, unsigned count);
