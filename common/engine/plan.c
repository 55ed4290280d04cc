/* Compiles a workflow document. Shape has been checked by the schema; where a value is still not what it must be the
 * step keeps its default and the fault is reported, so that all faults come at once. */
#include "common/base/banned.h"
#include "common/base/clock.h"
#include "common/base/ensure.h"
#include "common/engine/plan_internal.h"
#include <inttypes.h>
#include <stdarg.h>

#define DAY_US (INT64_C(86400) * US_PER_S)
#define ATTEMPTS_MAX 20
#define CODE_MAX 63
#define RUN_DAYS_HINT "wait for less, or have the limit raised"

const struct plan_limits PLAN_LIMITS_DEFAULT = {
    .max_steps = 500, .max_depth = 100, .max_run_us = 366 * DAY_US, .max_items = LOOP_ITEMS_MAX};

void plan_fields_of(struct compile *c, struct str object)
{
    struct jt_iter it;

    c->open.object = STR_NONE;
    c->open.count = 0;
    jt_iter_init(&it, object);
    while (jt_next(&it)) {
        if (it.key_escaped || c->open.count == MEMBERS_KEPT)
            return; /* not what documents look like: plan_field reads it each time */
        c->open.items[c->open.count].key = it.key;
        c->open.items[c->open.count++].value = it.value;
    }
    c->open.object = object;
}

struct str plan_field(const struct compile *c, struct str object, const char *field)
{
    if (object.ptr == NULL || object.ptr != c->open.object.ptr || object.len != c->open.object.len)
        return jt_get(object, field);
    for (size_t i = 0; i < c->open.count; i++)
        if (str_is(c->open.items[i].key, field))
            return c->open.items[i].value;
    return STR_NONE;
}

static void append(struct arena *arena, struct plan_fault **items, size_t *count, size_t *cap,
                   const struct plan_fault *fault)
{
    if (*count >= FAULTS_MAX)
        return;
    if (*count == *cap) {
        struct plan_fault *grown = arena_array(arena, *cap * 2 + 8, sizeof(*grown));
        if (*count > 0)
            memcpy(grown, *items, *count * sizeof(*grown));
        *items = grown;
        *cap = *cap * 2 + 8;
    }
    (*items)[(*count)++] = (struct plan_fault){.code = fault->code,
                                               .pointer = str_arena(arena, fault->pointer),
                                               .message = str_arena(arena, fault->message),
                                               .hint = str_arena(arena, fault->hint)};
}

void plan_fault_add(struct plan_faults *faults, const char *code, struct str pointer, struct str message,
                    struct str hint)
{
    struct plan_fault fault = {.code = code, .pointer = pointer, .message = message, .hint = hint};

    append(faults->arena, &faults->items, &faults->count, &faults->cap, &fault);
}

static PRINTF_LIKE(2, 0) const char *pointer_text(struct compile *c, const char *format, va_list args)
{
    va_list again;
    char *text;
    int n;

    va_copy(again, args);
    n = vsnprintf(NULL, 0, format, again);
    va_end(again);
    ENSURE(n >= 0);
    text = arena_alloc(c->faults->arena, (size_t)n + 1);
    (void)vsnprintf(text, (size_t)n + 1, format, args);
    return text;
}

void plan_fault(struct compile *c, const char *code, const char *hint, const char *message, const char *pointer_format,
                ...)
{
    const char *pointer;
    va_list args;

    c->faulty = true;
    va_start(args, pointer_format);
    pointer = pointer_text(c, pointer_format, args);
    va_end(args);
    plan_fault_add(c->faults, code, str_of(pointer), str_of(message), str_of(hint));
}

static void add_warning(struct compile *c, const char *code, const char *hint, const char *message, const char *pointer)
{
    struct plan_faults *faults = c->faults;
    struct plan_fault fault = {
        .code = code, .pointer = str_of(pointer), .message = str_of(message), .hint = str_of(hint)};

    append(faults->arena, &faults->warnings, &faults->warning_count, &faults->warning_cap, &fault);
}

void plan_warning(struct compile *c, const char *hint, const char *message, const char *pointer_format, ...)
{
    const char *pointer;
    va_list args;

    va_start(args, pointer_format);
    pointer = pointer_text(c, pointer_format, args);
    va_end(args);
    add_warning(c, "no_effect", hint, message, pointer);
}

void plan_warning_of(struct compile *c, const char *code, const char *hint, const char *message,
                     const char *pointer_format, ...)
{
    const char *pointer;
    va_list args;

    va_start(args, pointer_format);
    pointer = pointer_text(c, pointer_format, args);
    va_end(args);
    add_warning(c, code, hint, message, pointer);
}

const char *plan_pointer(struct compile *c, uint32_t step)
{
    struct buf buf;
    char *pointer;

    buf_init(&buf, (size_t)64 << 10);
    plan_write_pointer(c->plan, step, &buf);
    pointer = arena_dup(c->faults->arena, buf.ptr, buf.len);
    buf_deinit(&buf);
    return pointer;
}

struct fault_at {
    struct compile *c;
    const char *prefix;
};

static void template_fault(void *ctx, const char *code, struct str pointer, const char *message, const char *hint)
{
    struct fault_at *at = ctx;

    plan_fault(at->c, code, hint, message, "%s" STR_FMT, at->prefix, STR_ARG(pointer));
}

bool plan_template(struct compile *c, struct str value, const char *pointer, const char *request_at,
                   struct template *ret)
{
    struct fault_at at = {c, pointer};
    /* a call with a url has headers, where secrets belong */
    struct template_options options = {
        .secrets_allowed = request_at != NULL, .url_at_root_url = request_at != NULL, .root = request_at};

    if (request_at != NULL)
        plan_literal_secrets(c, request_at[0] == '\0' ? value : jt_get(value, request_at + 1),
                             plan_text(c, "%s%s", pointer, request_at));
    return template_compile(c->plan->arena, value, &options, template_fault, &at, ret);
}

bool plan_string_is(struct compile *c, struct str value, const char *literal)
{
    struct str text;

    return jt_type(value) == JT_STRING && jt_string(value, c->faults->arena, &text) && str_is(text, literal);
}

uint8_t plan_outcome(struct str name)
{
    static const struct {
        const char *name;
        uint8_t bit;
    } outcomes[] = {{"succeeded", OUT_SUCCEEDED}, {"failed", OUT_FAILED},       {"skipped", OUT_SKIPPED},
                    {"timed_out", OUT_TIMED_OUT}, {"cancelled", OUT_CANCELLED}, {"outcome_unknown", OUT_UNKNOWN}};

    for (size_t i = 0; i < sizeof(outcomes) / sizeof(outcomes[0]); i++)
        if (str_is(name, outcomes[i].name))
            return outcomes[i].bit;
    return 0;
}

static void bad_duration(struct compile *c, const char *pointer)
{
    plan_fault(c, "bad_duration", "a whole number and a unit: \"500ms\", \"30s\", \"5m\", \"2h\", \"1d\"",
               "is no duration", "%s", pointer);
}

int64_t plan_duration(struct compile *c, struct str object, const char *field, const char *pointer, int64_t fallback)
{
    struct str value = plan_field(c, object, field);
    struct str text;
    int64_t us;

    if (value.ptr == NULL)
        return fallback;
    if (!jt_string(value, c->plan->arena, &text) || !duration_parse(text, &us) || us <= 0) {
        bad_duration(c, plan_text(c, "%s/%s", pointer, field));
        return fallback;
    }
    return us;
}

void plan_check_duration(struct compile *c, struct str value, const char *pointer)
{
    struct str text;
    int64_t us;

    if (!jt_string(value, c->faults->arena, &text) || memmem(text.ptr, text.len, "${", 2) != NULL)
        return; /* absent, refused before, or made by an expression */
    if (!duration_parse(text, &us) || us <= 0)
        bad_duration(c, pointer);
    else if (us > c->limits->max_run_us)
        plan_fault(
            c, "out_of_range", RUN_DAYS_HINT,
            plan_text(c, "a run may last at most %" PRId64 " days (limit run_days)", c->limits->max_run_us / DAY_US),
            "%s", pointer);
}

static uint8_t priority_field(struct compile *c, struct str object, uint8_t fallback)
{
    static const char *const names[] = {"critical", "high", "normal", "low"};
    struct str value = plan_field(c, object, "priority");

    for (uint8_t i = 0; i < 4; i++)
        if (plan_string_is(c, value, names[i]))
            return i;
    return fallback;
}

/* "http_503", "http_5xx", "reset": what a worker may call an error. */
static bool is_error_code(struct str code)
{
    for (size_t i = 0; i < code.len; i++) {
        char ch = code.ptr[i];
        if (!((ch >= 'a' && ch <= 'z') || (i > 0 && ((ch >= '0' && ch <= '9') || ch == '_'))))
            return false;
    }
    return code.len >= 1 && code.len <= CODE_MAX;
}

static void retry_on(struct compile *c, struct str on, const char *pointer, struct plan_retry *retry)
{
    bool every = false;
    struct jt_iter it;
    size_t count = jt_count(on);

    if (jt_type(on) != JT_ARRAY)
        return;
    if (count < 1 || count > RETRY_ON_MAX) {
        plan_fault(c, "out_of_range", NULL, plan_text(c, "takes 1 to %d codes", RETRY_ON_MAX), "%s", pointer);
        return;
    }
    retry->on = arena_array(c->plan->arena, count, sizeof(*retry->on));
    jt_iter_init(&it, on);
    while (jt_next(&it)) {
        struct str code;
        if (!jt_string(it.value, c->plan->arena, &code) || !is_error_code(code))
            plan_fault(c, "out_of_range", "\"http_503\", \"http_5xx\", \"reset\", or \"transient\" for all",
                       "is no code of an error", "%s/%zu", pointer, it.index);
        else
            retry->on[retry->on_count++] = code;
        every = every || plan_string_is(c, it.value, "transient");
    }
    if (every)
        retry->on_count = 0;
}

void plan_retry(struct compile *c, struct str object, const char *pointer, struct plan_retry *retry)
{
    struct str value = plan_field(c, object, "retry");
    const char *at = plan_text(c, "%s/retry", pointer);
    int64_t n;

    *retry = (struct plan_retry){
        .max_attempts = 5, .initial_us = US_PER_S, .factor = 2, .max_us = 60 * US_PER_S, .jitter = 0.2};
    if (jt_type(value) != JT_OBJECT)
        return;
    if (jt_i64(jt_get(value, "max_attempts"), &n)) {
        if (n < 1 || n > ATTEMPTS_MAX)
            plan_fault(c, "out_of_range", NULL, plan_text(c, "must be between 1 and %d", ATTEMPTS_MAX),
                       "%s/max_attempts", at);
        else
            retry->max_attempts = (uint16_t)n;
    }
    retry->initial_us = plan_duration(c, value, "initial", at, retry->initial_us);
    retry->max_us = plan_duration(c, value, "max", at, retry->max_us);
    if (jt_f64(jt_get(value, "factor"), &retry->factor) && !(retry->factor >= 1 && retry->factor <= 100))
        plan_fault(c, "out_of_range", NULL, "must be between 1 and 100", "%s/factor", at);
    if (jt_f64(jt_get(value, "jitter"), &retry->jitter) && !(retry->jitter >= 0 && retry->jitter <= 1))
        plan_fault(c, "out_of_range", NULL, "must be between 0 and 1", "%s/jitter", at);
    retry_on(c, jt_get(value, "on"), plan_text(c, "%s/on", at), retry);
}

static void idempotency_field(struct compile *c, struct str object, const char *pointer, struct plan_step *step)
{
    struct str value = plan_field(c, object, "idempotency");
    struct str key = jt_get(value, "key");

    step->key_per_step = plan_string_is(c, jt_get(value, "per"), "step");
    if (key.ptr != NULL)
        step->has_key =
            plan_template(c, key, plan_text(c, "%s/idempotency/key", pointer), NULL, &step->idempotency_key);
}

bool plan_condition(struct compile *c, struct str value, const char *pointer, struct template *ret)
{
    if (jt_type(value) == JT_TRUE || jt_type(value) == JT_FALSE)
        return plan_template(c, value, pointer, NULL, ret);
    return plan_expression(c, value, pointer, "must be a boolean or exactly one expression", ret);
}

bool plan_expression(struct compile *c, struct str value, const char *pointer, const char *what, struct template *ret)
{
    if (!plan_template(c, value, pointer, NULL, ret))
        return false;
    if (ret->expr_count == 1 && ret->exprs[0].place == EXPR_WHOLE && jt_type(value) == JT_STRING)
        return true;
    plan_fault(c, "bad_expression", "write \"${ .input.amount > 1000 }\"", what, "%s", pointer);
    return false;
}

/* A step that no worker does has no outcome that nobody knows. */
static void on_unknown_field(struct compile *c, struct str object, const char *pointer, struct plan_step *step)
{
    step->hold_unknown = plan_string_is(c, plan_field(c, object, "on_unknown"), "wait");
    if (step->hold_unknown && step->call.ptr != NULL && step->task.ptr == NULL && step->kind != CALL_TASK &&
        step->kind != CALL_POLL)
        plan_fault(c, "out_of_range", "leave it out", "only the outcome of what a worker does can be unknown",
                   "%s/on_unknown", pointer);
}

/* Fields that only mean something where a worker is asked to do something. */
static void warn_of_idle_fields(struct compile *c, struct str object, const char *pointer, const struct plan_step *step)
{
    static const char *const fields[] = {"timeout", "delivery", "idempotency", "pool"};

    if (step->call.ptr == NULL || step->kind == CALL_TASK || step->kind == CALL_POLL)
        return;
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        if (plan_field(c, object, fields[i]).ptr != NULL)
            plan_warning(c, str_is(STR("timeout"), fields[i]) ? "'deadline' bounds a step of any call" : NULL,
                         plan_text(c, "changes nothing: no worker does '" STR_FMT "'", STR_ARG(step->call)), "%s/%s",
                         pointer, fields[i]);
}

static void compile_step(struct compile *c, uint32_t index)
{
    struct plan_step *step = &c->plan->steps[index];
    const char *pointer = plan_pointer(c, index);
    struct str object = c->objects[index];
    struct str when, pool;

    plan_fields_of(c, object);
    when = plan_field(c, object, "when");
    pool = plan_field(c, object, "pool");
    step->join_any = plan_string_is(c, plan_field(c, object, "join"), "any");
    step->continue_on_failure = c->plan->continue_on_failure;
    if (plan_field(c, object, "on_failure").ptr != NULL)
        step->continue_on_failure = plan_string_is(c, plan_field(c, object, "on_failure"), "continue");
    step->at_most_once = plan_string_is(c, plan_field(c, object, "delivery"), "at_most_once");
    step->priority = priority_field(c, object, PRIORITY_OF_RUN);
    step->pool = STR("default");
    if (pool.ptr != NULL)
        (void)jt_string(pool, c->plan->arena, &step->pool);
    step->deadline_us = plan_duration(c, object, "deadline", pointer, 0);
    plan_retry(c, object, pointer, &step->retry);
    idempotency_field(c, object, pointer, step);
    if (when.ptr != NULL)
        step->has_when = plan_condition(c, when, plan_text(c, "%s/when", pointer), &step->when);
    plan_call(c, index, object);
    on_unknown_field(c, object, pointer, step);
    plan_effect(c, object, pointer, step);
    warn_of_idle_fields(c, object, pointer, step);
    step->timeout_us = plan_duration(c, object, "timeout", pointer, str_is(step->task, "http") ? 30 * US_PER_S : 0);
}

static void compile_steps(struct compile *c)
{
    for (uint32_t i = 0; i < c->plan->step_count; i++) {
        if (c->plan->steps[i].role == ROLE_STEP)
            compile_step(c, i);
        else
            plan_action(c, i);
    }
    plan_graph(c);
    plan_loop_effects(c);
    plan_loop_outputs(c);
}

static void compile_document(struct compile *c)
{
    struct plan *plan = c->plan;
    struct str doc = plan->document;
    struct str schema, output, triggers;

    plan_fields_of(c, doc);
    schema = plan_field(c, doc, "input_schema");
    output = plan_field(c, doc, "output");
    triggers = plan_field(c, doc, "triggers"); /* looked at when the steps are known, which are opened in turn */
    (void)jt_string(plan_field(c, doc, "name"), plan->arena, &plan->name);
    (void)jt_string(plan_field(c, doc, "description"), plan->arena, &plan->description);
    plan->input_schema = schema;
    plan->continue_on_failure = plan_string_is(c, plan_field(c, doc, "on_failure"), "continue");
    plan->priority = priority_field(c, doc, 2);
    plan_concurrency(c, plan_field(c, doc, "concurrency"));
    plan->timeout_us =
        plan_duration(c, doc, "timeout", "", 30 * DAY_US < c->limits->max_run_us ? 30 * DAY_US : c->limits->max_run_us);
    if (plan->timeout_us > c->limits->max_run_us)
        plan_fault(
            c, "out_of_range", RUN_DAYS_HINT,
            plan_text(c, "a run may last at most %" PRId64 " days (limit run_days)", c->limits->max_run_us / DAY_US),
            "/timeout");
    plan->notify = NO_NODE;
    if (plan_collect(c, plan_field(c, doc, "steps"), plan_field(c, doc, "on_failure_notify")))
        compile_steps(c);
    plan_triggers(c, triggers);
    if (output.ptr != NULL)
        plan->has_output = plan_template(c, output, "/output", NULL, &plan->output);
    plan_check_reads(c);
}

static void need_format(struct plan *plan, enum event_type type)
{
    if (event_format(type) > plan->format)
        plan->format = event_format(type);
}

/* What the workflow asks for by itself; what commands do to its runs is decided when they come. */
static void find_format(struct plan *plan)
{
    need_format(plan, EVENT_RUN_STARTED);
    if (plan->concurrency.limit != 0)
        need_format(plan, EVENT_RUN_ADMITTED);
    for (size_t i = 0; i < plan->step_count; i++) {
        if (plan->steps[i].kind == CALL_SIGNAL)
            need_format(plan, EVENT_SIGNAL_RECEIVED);
        if (plan->steps[i].kind == CALL_EVENT)
            need_format(plan, EVENT_STEP_LISTENING);
        if (plan->steps[i].role == ROLE_COMPENSATE)
            need_format(plan, EVENT_RUN_COMPENSATING);
    }
}

struct plan *plan_compile(struct str document, const struct plan_limits *limits, struct plan_faults *faults)
{
    struct plan *plan = mem_alloc(sizeof(*plan));
    struct compile c = {.plan = plan, .faults = faults, .limits = limits};

    plan->refs = 1;
    plan->arena = arena_new(2 * document.len + 4096);
    plan->document = str_trim(str_arena(plan->arena, document));
    compile_document(&c);
    if (c.faulty) {
        plan_unref(plan);
        return NULL;
    }
    find_format(plan);
    return plan;
}

struct plan *plan_ref(struct plan *plan)
{
    plan->refs++;
    return plan;
}

void plan_unref(struct plan *plan)
{
    if (plan == NULL || --plan->refs > 0)
        return;
    for (size_t i = 0; i < plan->scope_count; i++)
        map_free(plan->scopes[i].by_name);
    arena_free(plan->arena);
    mem_free(plan);
}
