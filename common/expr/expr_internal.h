/* What the files of common/expr share. */
#pragma once
#include "common/expr/expr.h"
#include "common/expr/jq_lex.h"

#define EXPR_SOURCE_MAX 16384
#define EXPR_STEPS_MAX ((size_t)4 << 20) /* .steps as a whole, and . */
#define EXPR_STEP_MAX ((size_t)64 << 20) /* one step with its output */
#define EXPR_BUF_MAX ((size_t)1 << 30)   /* pieces of what has been bounded before */

struct expr_tokens {
    size_t count; /* without the JQ_END that follows */
    struct jq_token *items;
};

/* Static texts, or memory of the arena. */
struct expr_problem {
    const char *message, *hint;
};

/* Compiles jq text that holds no unbalanced brace. All memory is the arena's; `source` must live as long. */
bool expr_compile(struct arena *arena, struct str source, enum expr_place place, struct expr *ret,
                  struct expr_problem *problem);

/* Refused words, and which parts of the document the program reads: fills steps, all_steps and uses_*. */
bool expr_refs_find(struct arena *arena, const struct expr_tokens *tokens, struct expr *expr,
                    struct expr_problem *problem);

/* One part of a plain path at tokens[i]: .name, ."name", ["name"], [1], [-1]; `root` when it is the first, where the
 * dot before a bracket belongs to it. Gives the number of tokens, 0 when there is something else. */
size_t expr_path_part_at(struct arena *arena, const struct expr_tokens *tokens, size_t i, bool root,
                         struct expr_path_part *ret);
