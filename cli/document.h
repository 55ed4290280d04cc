/* A workflow from a file, checked here and compiled with the engine's own compiler: no server is asked. */
#pragma once
#include "cli/cli.h"
#include "common/engine/plan.h"
#include "common/schema/schema.h"

struct document {
    struct source source;
    struct plan *plan;
    struct arena *arena; /* of `input_schema` and texts */
    struct str name;
    const struct schema *input_schema; /* NULL: any input will do */
};

/* Prints every fault with its line. What jq says of an expression is not asked. End with document_deinit. */
bool document_load(const char *path, struct document *ret);
bool document_from(const struct source *source, struct document *ret); /* of what has been read, which is taken over */
/* The same of text that a server has saved; quiet about what it warns of. */
struct plan *document_compile(struct str text);
void document_deinit(struct document *document);
