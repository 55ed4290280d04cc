/* What compile.c and keywords.c share. Not for use outside common/schema. */
#pragma once
#include "common/base/map.h"
#include "common/schema/schema_internal.h"

struct pool {
    void *ptr;
    size_t count, cap;
};

/* A node's subschema and where it came from: below `keyword` of the parent, or at `pointer` (root, $ref). */
struct pending {
    struct str value;
    uint32_t parent;
    const char *keyword;
    struct str key; /* properties and the like; STR_NONE */
    size_t index;   /* allOf and the like; SIZE_MAX */
    struct str pointer;
};

struct schema_compiler {
    struct arena *arena;
    struct schema_options options;
    schema_fault_fn fault;
    void *ctx;
    size_t faults;
    struct str text;
    uint32_t node;         /* being compiled */
    struct map *known;     /* address of a subschema's text -> its node + 1 */
    struct map *ref_texts; /* text of a $ref -> its node + 1 */
    size_t refs;
    bool too_many, endless;
    struct pool nodes, pending, properties, edges, dependents, lists, texts, patterns;
};

/* Room for `count` more members; what was handed out before may move. */
void *pool_add(struct schema_compiler *c, struct pool *pool, size_t size, size_t count);
/* A fault at `keyword` (may be NULL) of the node being compiled. */
void compile_fault(struct schema_compiler *c, const char *keyword, const char *code, const char *message,
                   const char *hint);
uint32_t compile_child(struct schema_compiler *c, struct str value, const char *keyword, struct str key, size_t index);
void compile_ref(struct schema_compiler *c, struct str value);
void compile_node(struct schema_compiler *c, struct str value);
