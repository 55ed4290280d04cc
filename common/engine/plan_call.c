/* `call` and `with`: which fields a call takes, and the templates that are rendered when the step runs. */
#include "common/base/banned.h"
#include "common/base/clock.h"
#include "common/engine/plan_internal.h"
#include <inttypes.h>

enum with_type { W_ANY, W_STRING, W_INTEGER, W_OBJECT, W_CONDITION, W_ARRAY };

struct with_field {
    const char *name;
    enum with_type type;
    bool required;
    int64_t min, max;
};

static const struct with_field http_fields[] = {
    {"method", W_STRING, false, 0, 0},
    {"url", W_STRING, true, 0, 0},
    {"query", W_OBJECT, false, 0, 0},
    {"headers", W_OBJECT, false, 0, 0},
    {"body", W_ANY, false, 0, 0},
    {"max_response_bytes", W_INTEGER, false, 1, 1 << 20},
    {"follow_redirects", W_INTEGER, false, 0, 20},
    {NULL, W_ANY, false, 0, 0},
};
static const struct with_field transform_fields[] = {{"value", W_ANY, true, 0, 0}, {NULL, W_ANY, false, 0, 0}};
static const struct with_field condition_fields[] = {{"if", W_CONDITION, true, 0, 0}, {NULL, W_ANY, false, 0, 0}};
static const struct with_field switch_fields[] = {
    {"cases", W_ARRAY, true, 0, 0}, {"default", W_STRING, false, 0, 0}, {NULL, W_ANY, false, 0, 0}};
static const struct with_field delay_fields[] = {
    {"duration", W_STRING, false, 0, 0}, {"until", W_STRING, false, 0, 0}, {NULL, W_ANY, false, 0, 0}};
static const struct with_field noop_fields[] = {{NULL, W_ANY, false, 0, 0}};

static const struct call_row {
    const char *name;
    enum call_kind kind;
    const struct with_field *fields; /* NULL: not available in this release */
} calls[] = {
    {"http", CALL_TASK, http_fields},
    {"noop", CALL_TASK, noop_fields},
    {"transform", CALL_TRANSFORM, transform_fields},
    {"condition", CALL_CONDITION, condition_fields},
    {"switch", CALL_SWITCH, switch_fields},
    {"delay", CALL_DELAY, delay_fields},
    {"wait_signal", CALL_TASK, NULL},
    {"wait_event", CALL_TASK, NULL},
    {"poll", CALL_TASK, NULL},
    {"foreach", CALL_TASK, NULL},
    {"workflow", CALL_TASK, NULL},
};

/* A string that an expression fills: it may give a value of any type when the step runs. */
static bool is_expression(struct str value)
{
    return str_starts(value, "\"${") && value.len > 4 && memcmp(value.ptr + value.len - 2, "}\"", 2) == 0;
}

static void check_type(struct compile *c, const struct with_field *field, struct str value, const char *pointer)
{
    int64_t n;
    enum jt_type type = jt_type(value);
    bool text = type == JT_STRING;

    switch (field->type) {
    case W_STRING:
        if (!text)
            plan_fault(c, "wrong_type", NULL, "must be a string", "%s/%s", pointer, field->name);
        break;
    case W_OBJECT:
        if (type != JT_OBJECT && !is_expression(value))
            plan_fault(c, "wrong_type", NULL, "must be an object", "%s/%s", pointer, field->name);
        break;
    case W_ARRAY:
        if (type != JT_ARRAY)
            plan_fault(c, "wrong_type", NULL, "must be an array", "%s/%s", pointer, field->name);
        break;
    case W_INTEGER:
        if (is_expression(value))
            break; /* the worker looks at what it gave */
        if (type != JT_NUMBER || !jt_i64(value, &n))
            plan_fault(c, "wrong_type", NULL, "must be a whole number", "%s/%s", pointer, field->name);
        else if (n < field->min || n > field->max) {
            char message[96];
            (void)snprintf(message, sizeof(message), "must be between %" PRId64 " and %" PRId64, field->min,
                           field->max);
            plan_fault(c, "out_of_range", NULL, message, "%s/%s", pointer, field->name);
        }
        break;
    case W_CONDITION:
    case W_ANY:
        break;
    }
}

static void unknown_field(struct compile *c, const char *pointer, struct str key)
{
    struct buf at;

    buf_init(&at, 4096);
    buf_append_str(&at, str_of(pointer));
    jt_pointer_add(&at, key);
    plan_fault(c, "unknown_field", NULL, "this call does not take it", "%s", at.ptr);
    buf_deinit(&at);
}

static void check_fields(struct compile *c, const struct with_field *fields, struct str with, const char *pointer)
{
    struct jt_iter it;

    for (const struct with_field *f = fields; f->name != NULL; f++)
        if (f->required && jt_get(with, f->name).ptr == NULL)
            plan_fault(c, "missing_field", NULL, "is required here", "%s/%s", pointer, f->name);
    jt_iter_init(&it, with);
    while (jt_next(&it)) {
        struct str key = jt_key(&it, c->faults->arena);
        const struct with_field *found = NULL;
        for (const struct with_field *f = fields; f->name != NULL && found == NULL; f++)
            if (str_is(key, f->name))
                found = f;
        if (found == NULL)
            unknown_field(c, pointer, key);
        else
            check_type(c, found, it.value, pointer);
    }
}

static bool is_outcome(struct str name)
{
    static const char *const outcomes[] = {"succeeded", "failed",    "skipped",
                                           "timed_out", "cancelled", "outcome_unknown"};

    for (size_t i = 0; i < sizeof(outcomes) / sizeof(outcomes[0]); i++)
        if (str_is(name, outcomes[i]))
            return true;
    return false;
}

static void add_branch(struct compile *c, struct plan_step *step, struct str name, const char *pointer)
{
    if (is_outcome(name))
        plan_fault(c, "out_of_range", "outcomes have these names: choose another",
                   "a case cannot have the name of an outcome", "%s", pointer);
    for (size_t i = 0; i < step->branch_count; i++)
        if (str_eq(step->branches[i], name))
            plan_fault(c, "duplicate_key", NULL, "another case has this name", "%s", pointer);
    step->branches[step->branch_count++] = name;
}

static void compile_switch(struct compile *c, struct plan_step *step, struct str with, const char *pointer)
{
    struct str cases = jt_get(with, "cases");
    struct str fallback = jt_get(with, "default");
    size_t count = jt_count(cases);
    struct jt_iter it;
    char at[700];
    struct str name;

    if (jt_type(cases) != JT_ARRAY)
        return;
    if (count > 63) {
        plan_fault(c, "out_of_range", NULL, "at most 63 cases", "%s/cases", pointer);
        return;
    }
    step->cases = arena_array(c->plan->arena, count + 1, sizeof(*step->cases));
    step->branches = arena_array(c->plan->arena, count + 1, sizeof(*step->branches));
    jt_iter_init(&it, cases);
    while (jt_next(&it)) {
        struct str condition = jt_get(it.value, "if");
        (void)snprintf(at, sizeof(at), "%s/cases/%zu", pointer, it.index);
        if (jt_type(it.value) != JT_OBJECT || !jt_string(jt_get(it.value, "name"), c->plan->arena, &name)) {
            plan_fault(c, "missing_field", "{\"name\": ..., \"if\": ...}", "a case has a name and a condition", "%s",
                       at);
            continue;
        }
        if (condition.ptr == NULL) {
            plan_fault(c, "missing_field", NULL, "is required here", "%s/if", at);
            continue;
        }
        add_branch(c, step, name, at);
        (void)snprintf(at, sizeof(at), "%s/cases/%zu/if", pointer, it.index);
        (void)plan_condition(c, condition, at, &step->cases[step->case_count++]);
    }
    if (jt_string(fallback, c->plan->arena, &name)) {
        (void)snprintf(at, sizeof(at), "%s/default", pointer);
        step->has_default = true;
        add_branch(c, step, name, at);
    }
}

static void compile_delay(struct compile *c, struct plan_step *step, struct str with, const char *pointer)
{
    struct str duration = jt_get(with, "duration");
    struct str until = jt_get(with, "until");
    struct str text;
    int64_t us;
    struct wall_us wall;
    char at[700];

    if ((duration.ptr == NULL) == (until.ptr == NULL)) {
        plan_fault(c, "missing_field", NULL, "a delay takes either 'duration' or 'until'", "%s", pointer);
        return;
    }
    step->delay_until = until.ptr != NULL;
    (void)snprintf(at, sizeof(at), "%s/%s", pointer, step->delay_until ? "until" : "duration");
    if (!plan_template(c, step->delay_until ? until : duration, at, false, &step->with) || !step->with.constant ||
        !jt_string(step->with.literal, c->faults->arena, &text))
        return;
    if (step->delay_until ? !wall_parse(text, &wall) : !duration_parse(text, &us))
        plan_fault(c, "bad_duration",
                   step->delay_until ? "\"2026-11-21T04:00:00Z\"" : "\"500ms\", \"30s\", \"5m\", \"2h\", \"1d\"",
                   step->delay_until ? "is no RFC 3339 time" : "is no duration", "%s", at);
}

static void compile_with(struct compile *c, struct plan_step *step, struct str with, const char *pointer)
{
    static const struct str two[] = {{"true", 4}, {"false", 5}};
    char at[700];

    switch (step->kind) {
    case CALL_TASK:
        (void)plan_template(c, with, pointer, str_is(step->call, "http"), &step->with);
        break;
    case CALL_TRANSFORM:
        (void)snprintf(at, sizeof(at), "%s/value", pointer);
        if (jt_get(with, "value").ptr != NULL)
            (void)plan_template(c, jt_get(with, "value"), at, false, &step->with);
        break;
    case CALL_CONDITION:
        (void)snprintf(at, sizeof(at), "%s/if", pointer);
        step->branches = arena_array(c->plan->arena, 2, sizeof(*step->branches));
        step->branches[0] = two[0];
        step->branches[1] = two[1];
        step->branch_count = 2;
        if (jt_get(with, "if").ptr != NULL)
            (void)plan_condition(c, jt_get(with, "if"), at, &step->with);
        break;
    case CALL_SWITCH:
        compile_switch(c, step, with, pointer);
        break;
    case CALL_DELAY:
        compile_delay(c, step, with, pointer);
        break;
    }
}

void plan_call(struct compile *c, uint32_t index, struct str call, struct str with)
{
    struct plan_step *step = &c->plan->steps[index];
    const char *pointer = plan_pointer(c, index);
    const struct call_row *row = NULL;
    char at[640];

    if (!jt_string(call, c->plan->arena, &step->call))
        return; /* the schema has said so */
    (void)snprintf(at, sizeof(at), "%s/with", pointer);
    if (with.ptr == NULL)
        with = STR("{}");
    if (jt_type(with) != JT_OBJECT)
        return;
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]) && row == NULL; i++)
        if (str_is(step->call, calls[i].name))
            row = &calls[i];
    if (row == NULL) {
        if (memchr(step->call.ptr, '.', step->call.len) == NULL)
            plan_fault(c, "unknown_call", "http, transform, condition, switch, delay, noop, or integration.action",
                       "there is no such call", "%s/call", pointer);
        step->kind = CALL_TASK; /* of an integration: its worker knows the fields */
    } else if (row->fields == NULL) {
        plan_fault(c, "not_available", NULL, "this call is not available in this release", "%s/call", pointer);
        return;
    } else {
        step->kind = row->kind;
        check_fields(c, row->fields, with, at);
    }
    compile_with(c, step, with, at);
}
