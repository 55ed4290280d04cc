/* First line: a schema, or @N for one of ours; the rest: JSON to check with it. Whatever comes, the compiler and the
 * walk end within their bounds, check and decode come to the same verdict, and slices lie within the text. */
#include "common/base/ensure.h"
#include "proto/proto_messages.h"
#include "proto/results.h"

#include "common/base/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct schema *const ours[] = {&SCHEMA_WORKFLOW, &SCHEMA_TASK,       &SCHEMA_RESULT, &SCHEMA_STARTED,
                                            &SCHEMA_WATCH,    &SCHEMA_UPDATE,     &SCHEMA_GRANT,  &SCHEMA_HEARTBEAT,
                                            &SCHEMA_NUDGE,    &SCHEMA_RESULT_ITEM};
#define OURS_COUNT (sizeof(ours) / sizeof(ours[0]))
#define FIELDS_MAX 4096

static void on_fault(void *ctx, const char *code, struct str pointer, const char *message, const char *hint)
{
    size_t *count = ctx;

    (*count)++;
    ENSURE(strlen(code) > 0 && strlen(message) > 0 && hint != NULL && pointer.ptr != NULL);
    ENSURE(pointer.len == 0 || pointer.ptr[0] == '/');
}

static void decode(const struct schema *schema, struct str json, enum err_code expected)
{
    static struct str fields[FIELDS_MAX];
    enum err_code rc;
    struct err err;

    if (schema_field_count(schema) > FIELDS_MAX)
        return;
    rc = schema_decode(schema, json, fields, &err);
    /* Stopping early may save what the whole walk has no budget for, and keys of maps are only compared by the check.
     */
    ENSURE(rc == expected || expected == ERR_TOO_LARGE || (rc == ERR_OK && expected == ERR_INVALID));
    for (size_t i = 0; i < schema_field_count(schema); i++)
        ENSURE(fields[i].ptr == NULL ||
               (fields[i].ptr >= json.ptr && fields[i].ptr + fields[i].len <= json.ptr + json.len));
}

static void walk_results(struct str json)
{
    struct str fields[RESULT_ITEM_FIELDS];
    struct results results;
    enum err_code rc;
    struct err err;

    if (results_open(&results, json, &err) != ERR_OK)
        return;
    while (results_next(&results, fields, &rc, &err))
        ENSURE(rc != ERR_OK ||
               (jt_type(fields[RESULT_ITEM_TASK_ID]) == JT_STRING && jt_type(fields[RESULT_ITEM_STATUS]) == JT_STRING));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(0);
    struct str rest = {size == 0 ? "" : (const char *)data, size};
    struct str line = str_cut(&rest, '\n');
    const struct schema *schema = NULL;
    size_t faults = 0;
    enum err_code rc;
    struct err err;

    rest = rest.ptr == NULL ? STR("null") : rest;
    if (line.len == 2 && line.ptr[0] == '@') {
        schema = ours[(uint8_t)line.ptr[1] % OURS_COUNT];
    } else if (jt_check(line, &JT_LIMITS_API, &err) == ERR_OK) {
        schema = schema_compile(arena, line, NULL, on_fault, &faults);
        ENSURE((schema == NULL) == (faults > 0));
    }
    if (schema == NULL || jt_check(rest, &JT_LIMITS_API, &err) != ERR_OK)
        return 0;
    faults = 0;
    rc = schema_check(schema, rest, on_fault, &faults, &err);
    ENSURE(rc == ERR_OK || rc == ERR_INVALID || rc == ERR_TOO_LARGE);
    ENSURE(rc == ERR_TOO_LARGE || (rc == ERR_INVALID) == (faults > 0));
    decode(schema, rest, rc);
    walk_results(rest);
    return 0;
}
