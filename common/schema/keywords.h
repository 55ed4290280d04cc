/* Between the files of keywords: the handlers of keywords.def and what they share. */
#pragma once
#include "common/schema/compile.h"

struct keyword;
typedef void (*keyword_fn)(struct schema_compiler *c, const struct keyword *keyword, struct str value);

struct keyword {
    const char *name;
    keyword_fn fn;
    size_t offset; /* of the field in struct schema_node */
};

#define KEYWORD(name, fn, field) void fn(struct schema_compiler *c, const struct keyword *keyword, struct str value);
#include "common/schema/keywords.def"
#undef KEYWORD

static inline struct schema_node *node_now(const struct schema_compiler *c)
{
    return &((struct schema_node *)c->nodes.ptr)[c->node];
}

/* The field of the node being compiled; only good until the next node is queued. */
static inline void *field_now(const struct schema_compiler *c, const struct keyword *keyword)
{
    return (char *)node_now(c) + keyword->offset;
}

void keyword_wrong(struct schema_compiler *c, const struct keyword *keyword, const char *message); /* wrong_type */
uint32_t keyword_text(struct schema_compiler *c, struct str text); /* its number among the texts */
/* A regular expression; its number among the patterns, or SCHEMA_NO after a fault. */
uint32_t keyword_pattern(struct schema_compiler *c, const char *keyword, struct str source);
