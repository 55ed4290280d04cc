/* A template filled in: plain paths are read here, the rest is the sandbox's. Loop thread only. */
#pragma once
#include "common/expr/expr.h"
#include "common/expr/sandbox.h"

enum fill_status {
    FILL_OK,          /* value is JSON, memory of the arena */
    FILL_FAILED,      /* message says why, for the author of the expressions */
    FILL_UNAVAILABLE, /* nobody's fault, try again later */
};
typedef void (*fill_fn)(void *ctx, enum fill_status status, struct str value, const char *message);

/* `done` is called once, maybe inside this call; what all of it points to, and the arena, must live until then. */
void template_fill(struct sandbox *sandbox, int32_t organisation, const struct template *template,
                   const struct expr_doc *doc, size_t max_bytes, struct arena *arena, fill_fn done, void *ctx);
