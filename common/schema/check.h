/* What the files of the walk share. Not for use outside common/schema. */
#pragma once
#include "common/base/map.h"
#include "common/schema/schema_internal.h"

/* One walk. While `probing` (inside anyOf, not, if, ...) nothing is reported and the first fault ends the branch. */
struct walk {
    const struct schema *schema;
    schema_fault_fn fault;
    void *ctx;
    struct err *err;
    struct arena *arena;  /* made when first needed */
    struct map *reported; /* code and pointer of each fault: combinations meet a value more than once */
    struct pattern_scratch scratch;
    int64_t budget;
    unsigned depth;
    bool decoding; /* a message: stop at the first fault, count unknown fields */
    bool probing;
    bool spent; /* budget or depth: no verdict */
    size_t faults;
    int64_t unknown;
    struct str *fields;
};

/* Where a subschema is applied: `main_path` is false below combinations, whose properties are only part of the story.
 */
bool walk_node(struct walk *w, uint32_t index, struct str value, const struct schema_place *place, bool main_path);
bool walk_object(struct walk *w, const struct schema_node *node, struct str value, const struct schema_place *place,
                 bool main_path);
bool walk_array(struct walk *w, const struct schema_node *node, struct str value, const struct schema_place *place,
                bool main_path);
/* allOf, anyOf, oneOf, not, if: what looks at the same value again. */
bool walk_combinations(struct walk *w, const struct schema_node *node, struct str value,
                       const struct schema_place *place);
bool walk_probe(struct walk *w, uint32_t index, struct str value, const struct schema_place *place);

struct arena *walk_arena(struct walk *w);
/* Is it time to stop this branch? After a fault that is when nobody wants to hear of another. */
static inline bool walk_enough(const struct walk *w, bool ok)
{
    return w->spent || w->budget <= 0 || (!ok && (w->probing || w->decoding));
}
/* Reports (unless probing) and is always false. */
bool walk_fault(struct walk *w, const struct schema_place *place, const char *code, const char *hint,
                const char *format, ...) PRINTF_LIKE(5, 6);
/* Decodes the string `value`, and takes its bytes off the budget when that needs memory. */
struct str walk_string(struct walk *w, struct str value);
const char *walk_hint(struct walk *w, struct str hint); /* with a NUL behind, "" for none */
