/* Schemas: a named subset of JSON Schema 2020-12 (proto/README.md) as constant tables, and one walk over JSON text that
 * checks, reports every fault and hands out slices. There is no tree. The tables come from proto/gen.c at build time or
 * from schema_compile() for what users bring (`input_schema`). All functions are pure and may run in any thread.
 *
 * Text must have passed jt_check or jt_check_repair first. A hostile schema costs at most SCHEMA_BUDGET units of work
 * (about a tenth of a second), then ERR_TOO_LARGE. */
#pragma once
#include "common/base/json_text.h"

#define SCHEMA_BUDGET INT64_C(10000000)

struct schema;

/* Called once per fault: code of api.md ("wrong_type", "missing_field", ...), JSON Pointer that ends in the field at
 * fault (also where it is missing), message for people, hint or "". The texts live only during the call. */
typedef void (*schema_fault_fn)(void *ctx, const char *code, struct str pointer, const char *message, const char *hint);

/* ERR_INVALID when there was a fault: err tells the first, `fault` (may be NULL) is called for each, in the order of
 * the text but for missing fields, which come behind the fields of their object. */
enum err_code schema_check(const struct schema *schema, struct str json, schema_fault_fn fault, void *ctx,
                           struct err *err) MUST_CHECK;

/* For messages: the same check, stopped at the first fault, and in the same walk the values of the top-level
 * properties, in the order of the schema (the enum beside it in proto_messages.h). Absent and null give STR_NONE.
 * Unknown fields are passed over and counted in METRIC_MESSAGES_UNKNOWN_FIELDS. `fields` is filled also on a fault, as
 * far as the walk came. */
enum err_code schema_decode(const struct schema *schema, struct str json, struct str *fields,
                            struct err *err) MUST_CHECK;

/* The same slices without any check, for the rest of what schema_decode gave up or a part that it has checked. Of equal
 * names the first that is not null counts. */
void schema_slices(const struct schema *schema, struct str json, struct str *fields);

size_t schema_field_count(const struct schema *schema); /* top-level properties */
const char *schema_name(const struct schema *schema);
struct str schema_field_name(const struct schema *schema, size_t index);

struct schema_options {
    const char *name;    /* for messages; static or as long-lived as the arena */
    bool own_keywords;   /* x-code, x-hint, x-maxBytes and format x-duration: for our own schemas only */
    const char *subpath; /* JSON Pointer of the root schema within the text, NULL for the whole */
};

/* Compiles checked JSON. Reports all faults that it can (codes not_available for keywords outside the subset,
 * wrong_type, out_of_range, cycle, bad_expression for patterns) with pointers into the schema; NULL when there was any.
 * The result and all its memory are the arena's. Bounds: 128 KiB of text, 4,096 subschemas, 500 different $refs. */
const struct schema *schema_compile(struct arena *arena, struct str json, const struct schema_options *options,
                                    schema_fault_fn fault, void *ctx);
