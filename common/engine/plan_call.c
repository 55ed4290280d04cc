/* `call` and `with`: which fields a call takes, and the templates that are rendered when the step runs. */
#include "common/base/banned.h"
#include "common/base/clock.h"
#include "common/engine/plan_internal.h"
#include <inttypes.h>

enum with_type {
    W_ANY,
    W_STRING,
    W_INTEGER, /* or an expression */
    W_COUNT,   /* a whole number as it stands */
    W_BOOLEAN,
    W_OBJECT,
    W_MAP, /* an object or an expression */
    W_CONDITION,
    W_ARRAY
};

struct with_field {
    const char *name;
    enum with_type type;
    bool required;
    int64_t min, max;
};

static const struct with_field http_fields[] = {
    {"method", W_STRING, false, 0, 0},
    {"url", W_STRING, true, 0, 0},
    {"query", W_MAP, false, 0, 0},
    {"headers", W_MAP, false, 0, 0},
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
static const struct with_field signal_fields[] = {{"signal", W_STRING, true, 0, 0},
                                                  {"timeout", W_STRING, false, 0, 0},
                                                  {"once", W_BOOLEAN, false, 0, 0},
                                                  {NULL, W_ANY, false, 0, 0}};
static const struct with_field event_fields[] = {
    {"type", W_STRING, true, 0, 0},     {"source", W_STRING, false, 0, 0},    {"filter", W_STRING, false, 0, 0},
    {"timeout", W_STRING, false, 0, 0}, {"look_back", W_STRING, false, 0, 0}, {NULL, W_ANY, false, 0, 0}};
static const struct with_field poll_fields[] = {{"call", W_STRING, true, 0, 0},     {"with", W_OBJECT, false, 0, 0},
                                                {"until", W_STRING, true, 0, 0},    {"interval", W_STRING, false, 0, 0},
                                                {"timeout", W_STRING, false, 0, 0}, {NULL, W_ANY, false, 0, 0}};
static const struct with_field loop_fields[] = {
    {"items", W_ANY, true, 0, 0},   {"concurrency", W_COUNT, false, 1, LOOP_ITEMS_MAX}, {"steps", W_OBJECT, true, 0, 0},
    {"output", W_ANY, false, 0, 0}, {"on_item_failure", W_STRING, false, 0, 0},         {NULL, W_ANY, false, 0, 0}};
static const struct with_field child_fields[] = {{"name", W_STRING, true, 0, 0},
                                                 {"version", W_COUNT, false, 1, INT32_MAX},
                                                 {"input", W_ANY, false, 0, 0},
                                                 {NULL, W_ANY, false, 0, 0}};
static const struct with_field noop_fields[] = {{NULL, W_ANY, false, 0, 0}};

static const struct call_row {
    const char *name;
    enum call_kind kind;
    const struct with_field *fields;
} calls[] = {
    {"http", CALL_TASK, http_fields},
    {"noop", CALL_TASK, noop_fields},
    {"transform", CALL_TRANSFORM, transform_fields},
    {"condition", CALL_CONDITION, condition_fields},
    {"switch", CALL_SWITCH, switch_fields},
    {"delay", CALL_DELAY, delay_fields},
    {"wait_signal", CALL_SIGNAL, signal_fields},
    {"wait_event", CALL_EVENT, event_fields},
    {"poll", CALL_POLL, poll_fields},
    {"foreach", CALL_FOREACH, loop_fields},
    {"workflow", CALL_WORKFLOW, child_fields},
};

/* A string that an expression fills: it may give a value of any type when the step runs. */
bool plan_is_expression(struct str value)
{
    return str_starts(value, "\"${") && value.len > 4 && memcmp(value.ptr + value.len - 2, "}\"", 2) == 0;
}

static void wrong_type(struct compile *c, const struct with_field *field, const char *message, const char *pointer)
{
    plan_fault(c, "wrong_type", NULL, message, "%s/%s", pointer, field->name);
}

static void check_number(struct compile *c, const struct with_field *field, struct str value, const char *pointer)
{
    int64_t n;

    if (jt_type(value) != JT_NUMBER || !jt_i64(value, &n))
        wrong_type(c, field, "must be a whole number", pointer);
    else if (n < field->min || n > field->max)
        plan_fault(c, "out_of_range", NULL,
                   plan_text(c, "must be between %" PRId64 " and %" PRId64, field->min, field->max), "%s/%s", pointer,
                   field->name);
}

static void check_type(struct compile *c, const struct with_field *field, struct str value, const char *pointer)
{
    enum jt_type type = jt_type(value);

    switch (field->type) {
    case W_STRING:
        if (type != JT_STRING)
            wrong_type(c, field, "must be a string", pointer);
        break;
    case W_OBJECT:
    case W_MAP:
        if (type != JT_OBJECT && !(field->type == W_MAP && plan_is_expression(value)))
            wrong_type(c, field, "must be an object", pointer);
        break;
    case W_ARRAY:
        if (type != JT_ARRAY)
            wrong_type(c, field, "must be an array", pointer);
        break;
    case W_BOOLEAN:
        if (type != JT_TRUE && type != JT_FALSE)
            wrong_type(c, field, "must be true or false", pointer);
        break;
    case W_INTEGER:
        if (plan_is_expression(value))
            break; /* the worker looks at what it gave */
        check_number(c, field, value, pointer);
        break;
    case W_COUNT:
        check_number(c, field, value, pointer);
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

static void add_branch(struct compile *c, struct plan_step *step, struct str name, const char *pointer)
{
    if (plan_outcome(name) != 0)
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
        const char *at = plan_text(c, "%s/cases/%zu", pointer, it.index);
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
        (void)plan_condition(c, condition, plan_text(c, "%s/if", at), &step->cases[step->case_count++]);
    }
    if (jt_string(fallback, c->plan->arena, &name)) {
        step->has_default = true;
        add_branch(c, step, name, plan_text(c, "%s/default", pointer));
    }
}

static void compile_delay(struct compile *c, struct plan_step *step, struct str with, const char *pointer)
{
    struct str duration = jt_get(with, "duration");
    struct str until = jt_get(with, "until");
    struct str text;
    struct wall_us wall;
    const char *at;

    if ((duration.ptr == NULL) == (until.ptr == NULL)) {
        plan_fault(c, "missing_field", NULL, "a delay takes either 'duration' or 'until'", "%s", pointer);
        return;
    }
    step->delay_until = until.ptr != NULL;
    at = plan_text(c, "%s/%s", pointer, step->delay_until ? "until" : "duration");
    if (!plan_template(c, step->delay_until ? until : duration, at, NULL, &step->with))
        return;
    if (!step->delay_until)
        plan_check_duration(c, duration, at);
    else if (step->with.constant && jt_string(step->with.literal, c->faults->arena, &text) && !wall_parse(text, &wall))
        plan_fault(c, "bad_duration", "\"2026-11-21T04:00:00Z\"", "is no RFC 3339 time", "%s", at);
}

static void compile_condition(struct compile *c, struct plan_step *step, struct str with, const char *pointer)
{
    step->branches = arena_array(c->plan->arena, 2, sizeof(*step->branches));
    step->branches[0] = STR("true");
    step->branches[1] = STR("false");
    step->branch_count = 2;
    if (jt_get(with, "if").ptr != NULL)
        (void)plan_condition(c, jt_get(with, "if"), plan_text(c, "%s/if", pointer), &step->with);
}

static void compile_with(struct compile *c, struct plan_step *step, struct str with, const char *pointer)
{
    switch (step->kind) {
    case CALL_TASK:
        step->task = step->call;
        (void)plan_template(c, with, pointer, str_is(step->call, "http") ? "" : NULL, &step->with);
        break;
    case CALL_TRANSFORM:
        if (jt_get(with, "value").ptr != NULL)
            (void)plan_template(c, jt_get(with, "value"), plan_text(c, "%s/value", pointer), NULL, &step->with);
        break;
    case CALL_CONDITION:
        compile_condition(c, step, with, pointer);
        break;
    case CALL_SWITCH:
        compile_switch(c, step, with, pointer);
        break;
    case CALL_DELAY:
        compile_delay(c, step, with, pointer);
        break;
    case CALL_SIGNAL:
        plan_signal(c, step, with, pointer);
        break;
    case CALL_EVENT:
        plan_wait_event(c, step, with, pointer);
        break;
    case CALL_POLL:
        plan_poll(c, step, with, pointer);
        break;
    case CALL_FOREACH:
        plan_loop(c, step, with, pointer);
        break;
    case CALL_WORKFLOW:
        plan_child(c, step, with, pointer);
        break;
    }
}

static const struct call_row *find_call(struct str call)
{
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
        if (str_is(call, calls[i].name))
            return &calls[i];
    return NULL;
}

/* The row of a call that may be used; NULL with *ret_good for one of an integration. */
static const struct call_row *known_call(struct compile *c, struct str call, const char *pointer, bool *ret_good)
{
    const struct call_row *row = find_call(call);

    *ret_good = false;
    if (row == NULL && memchr(call.ptr, '.', call.len) == NULL)
        plan_fault(
            c, "unknown_call",
            "http, transform, condition, switch, delay, wait_signal, wait_event, poll, foreach, workflow, noop, or "
            "integration.action",
            "there is no such call", "%s/call", pointer);
    else
        *ret_good = true;
    return row;
}

/* `with` may be left out where nothing in it is required. False when there is nothing to compile. */
static bool check_with(struct compile *c, const struct call_row *row, struct str *with, const char *pointer)
{
    const struct with_field *field = row == NULL ? NULL : row->fields;

    while (with->ptr == NULL && field != NULL && field->name != NULL && !field->required)
        field++;
    if (with->ptr == NULL && field != NULL && field->name != NULL) {
        plan_fault(c, "missing_field", NULL, plan_text(c, "'%s' is required in it", field->name), "%s", pointer);
        return false;
    }
    if (with->ptr == NULL)
        *with = STR("{}");
    if (row != NULL && jt_type(*with) == JT_OBJECT)
        check_fields(c, row->fields, *with, pointer);
    return jt_type(*with) == JT_OBJECT;
}

bool plan_task_call(struct compile *c, struct str call, struct str with, const char *pointer, struct str *ret_task)
{
    const struct call_row *row;
    bool good;

    if (!jt_string(call, c->plan->arena, ret_task))
        return false; /* the schema has said so */
    row = known_call(c, *ret_task, pointer, &good);
    if (!good)
        return false;
    if (row != NULL && row->kind != CALL_TASK) {
        plan_fault(c, "out_of_range", "http, noop, or integration.action", "only a call that a worker does can be here",
                   "%s/call", pointer);
        return false;
    }
    return check_with(c, row, &with, plan_text(c, "%s/with", pointer));
}

void plan_call(struct compile *c, uint32_t index, struct str object)
{
    struct plan_step *step = &c->plan->steps[index];
    const char *pointer = plan_pointer(c, index);
    const char *at = plan_text(c, "%s/with", pointer);
    struct str with = plan_field(c, object, "with");
    const struct call_row *row;
    bool good;

    if (!jt_string(plan_field(c, object, "call"), c->plan->arena, &step->call))
        return; /* the schema has said so */
    row = known_call(c, step->call, pointer, &good);
    if (row != NULL)
        step->kind = row->kind;
    if ((good || row == NULL) && check_with(c, row, &with, at))
        compile_with(c, step, with, at);
}
