/* The tables behind struct schema: pools that nodes point into by index, so that proto/gen.c can print them as
 * constants. Not for use outside common/schema and proto/gen.c. */
#pragma once
#include "common/schema/pattern.h"
#include "common/schema/schema.h"

#define SCHEMA_NO UINT32_MAX /* no node, no pattern, no text */

enum schema_type {
    SCHEMA_NULL = 1,
    SCHEMA_BOOLEAN = 2,
    SCHEMA_INTEGER = 4,  /* numbers that are whole */
    SCHEMA_FRACTION = 8, /* numbers that are not: `number` is both */
    SCHEMA_STRING = 16,
    SCHEMA_ARRAY = 32,
    SCHEMA_OBJECT = 64,
    SCHEMA_NUMBER = SCHEMA_INTEGER | SCHEMA_FRACTION,
    SCHEMA_ANY = 127,
};

enum schema_flag {
    SCHEMA_UNIQUE = 1,   /* uniqueItems */
    SCHEMA_CONST = 2,    /* `values` is one, from const */
    SCHEMA_DURATION = 4, /* format x-duration */
};

/* Members [first, first + count) of a pool. */
struct schema_range {
    uint32_t first, count;
};

struct schema_node {
    uint8_t types; /* enum schema_type, bits; 0: nothing is right (`false`) */
    uint8_t flags;
    uint32_t ref;
    struct schema_range values;                           /* texts: enum, const */
    uint32_t min_length, max_length, pattern;             /* strings; code points */
    uint32_t minimum, maximum, above, below, multiple_of; /* numbers; texts */
    uint32_t min_items, max_items;                        /* arrays */
    uint32_t items, contains, min_contains, max_contains;
    struct schema_range prefix;              /* nodes */
    uint32_t min_properties, max_properties; /* objects */
    uint32_t additional, names;
    struct schema_range properties;             /* properties */
    struct schema_range required;               /* texts: those that are no properties */
    struct schema_range pattern_properties;     /* edges */
    struct schema_range dependent_required;     /* dependents */
    struct schema_range dependent_schemas;      /* edges */
    struct schema_range all_of, any_of, one_of; /* nodes */
    uint32_t not_, if_, then_, else_;
    uint32_t code, hint, max_bytes; /* x-code, x-hint: texts; x-maxBytes */
};

struct schema_property {
    struct str name;
    uint32_t node;
    bool required;
};
/* patternProperties: pattern and node; dependentSchemas: text and node. */
struct schema_edge {
    uint32_t key, node;
};
struct schema_dependent {
    struct str name;
    struct schema_range required; /* texts */
};

struct schema {
    const char *name;
    bool own_keywords;
    const struct schema_node *nodes; /* the first is the root */
    const struct schema_property *properties;
    const struct schema_edge *edges;
    const struct schema_dependent *dependents;
    const uint32_t *lists; /* nodes of prefixItems, allOf, ... */
    const struct str *texts;
    const struct pattern *patterns;
    uint32_t node_count, property_count, edge_count, dependent_count, list_count, text_count, pattern_count;
};

/* The members of an object, kept for the parts of a schema that look at it again: finding them takes a pass over the
 * text, large bodies included. */
#define SCHEMA_MEMBERS 24
struct schema_members {
    const char *of; /* beginning of the object's text, NULL: nothing kept */
    size_t count;
    struct schema_member {
        struct str key, value;
        bool key_escaped;
    } items[SCHEMA_MEMBERS];
};

/* A place in a document, linked to what holds it: pointers are only written where there is a fault. */
struct schema_place {
    const struct schema_place *up;
    struct schema_members *members; /* of the value here, when it is an object; may be NULL */
    struct str key;                 /* as it stands in the text; STR_NONE for items of arrays */
    bool key_escaped;
    size_t index;
};
void schema_place_pointer(const struct schema_place *place, struct arena *arena, struct buf *out);

/* The candidate nearest to `name` by edits, STR_NONE when none is near. Called for each candidate in turn. */
struct schema_closest {
    struct str name;
    struct str best;
    size_t distance;
};
void schema_closest_init(struct schema_closest *closest, struct str name);
void schema_closest_try(struct schema_closest *closest, struct str candidate);
