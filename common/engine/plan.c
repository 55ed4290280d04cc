/* Compiles a workflow document. Shape has been checked by the schema; where a value is still not what it must be the
 * step keeps its default and the fault is reported, so that all faults come at once. */
#include "common/base/banned.h"
#include "common/base/clock.h"
#include "common/base/ensure.h"
#include "common/engine/plan_internal.h"
#include <inttypes.h>
#include <stdarg.h>

#define DAY_US (INT64_C(86400) * US_PER_S)
#define FAULTS_MAX 200
#define ATTEMPTS_MAX 1000

const struct plan_limits PLAN_LIMITS_DEFAULT = {.max_steps = 500, .max_depth = 100, .max_run_us = 366 * DAY_US};

void plan_fault_add(struct plan_faults *faults, const char *code, struct str pointer, struct str message,
                    struct str hint)
{
    if (faults->count >= FAULTS_MAX)
        return;
    if (faults->count == faults->cap) {
        size_t cap = faults->cap == 0 ? 8 : 2 * faults->cap;
        struct plan_fault *grown = arena_array(faults->arena, cap, sizeof(*grown));
        if (faults->count > 0)
            memcpy(grown, faults->items, faults->count * sizeof(*grown));
        faults->items = grown;
        faults->cap = cap;
    }
    faults->items[faults->count++] = (struct plan_fault){.code = code,
                                                         .pointer = str_arena(faults->arena, pointer),
                                                         .message = str_arena(faults->arena, message),
                                                         .hint = str_arena(faults->arena, hint)};
}

void plan_fault(struct compile *c, const char *code, const char *hint, const char *message, const char *pointer_format,
                ...)
{
    char pointer[1024];
    va_list args;

    c->faulty = true;
    va_start(args, pointer_format);
    (void)vsnprintf(pointer, sizeof(pointer), pointer_format, args);
    va_end(args);
    plan_fault_add(c->faults, code, str_of(pointer), str_of(message), str_of(hint));
}

const char *plan_pointer(struct compile *c, uint32_t step)
{
    struct buf buf;
    char *pointer;

    buf_init(&buf, 4096);
    buf_append_str(&buf, STR("/steps"));
    jt_pointer_add(&buf, c->plan->steps[step].name);
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

bool plan_template(struct compile *c, struct str value, const char *pointer, bool url, struct template *ret)
{
    struct fault_at at = {c, pointer};
    /* a call with a url has headers, where secrets belong: there they are not wrong, only not available yet */
    struct template_options options = {.secrets_allowed = url, .url_at_root_url = url};
    bool good = template_compile(c->plan->arena, value, &options, template_fault, &at, ret);

    for (size_t i = 0; good && i < ret->expr_count; i++)
        if (ret->exprs[i].secret)
            plan_fault(c, "not_available", NULL, "secrets are not available in this release", "%s" STR_FMT, pointer,
                       STR_ARG(ret->exprs[i].pointer));
    return good;
}

static int64_t duration_field(struct compile *c, struct str object, const char *field, const char *pointer,
                              int64_t fallback)
{
    struct str value = jt_get(object, field);
    struct str text;
    int64_t us;

    if (value.ptr == NULL)
        return fallback;
    if (!jt_string(value, c->plan->arena, &text) || !duration_parse(text, &us) || us <= 0) {
        plan_fault(c, "bad_duration", "a whole number and a unit: \"500ms\", \"30s\", \"5m\", \"2h\", \"1d\"",
                   "is no duration", "%s/%s", pointer, field);
        return fallback;
    }
    return us;
}

static void refuse_later(struct compile *c, struct str object, const char *const *fields, const char *pointer)
{
    for (; *fields != NULL; fields++)
        if (jt_get(object, *fields).ptr != NULL)
            plan_fault(c, "not_available", "leave it out", "is not available in this release", "%s/%s", pointer,
                       *fields);
}

static uint8_t priority_field(struct str object, uint8_t fallback)
{
    static const char *const names[] = {"critical", "high", "normal", "low"};
    struct str value = jt_get(object, "priority");

    if (value.len > 2)
        for (uint8_t i = 0; i < 4; i++)
            if (str_is((struct str){value.ptr + 1, value.len - 2}, names[i]))
                return i;
    return fallback;
}

static bool string_is(struct str value, const char *literal)
{
    return value.len > 1 && value.ptr[0] == '"' && str_is((struct str){value.ptr + 1, value.len - 2}, literal);
}

static void retry_field(struct compile *c, struct str step, const char *pointer, struct plan_retry *retry)
{
    static const char *const later[] = {"on", NULL};
    struct str value = jt_get(step, "retry");
    char at[600];
    int64_t n;

    *retry = (struct plan_retry){
        .max_attempts = 5, .initial_us = US_PER_S, .factor = 2, .max_us = 60 * US_PER_S, .jitter = 0.2};
    if (jt_type(value) != JT_OBJECT)
        return;
    (void)snprintf(at, sizeof(at), "%s/retry", pointer);
    refuse_later(c, value, later, at);
    if (jt_i64(jt_get(value, "max_attempts"), &n)) {
        if (n < 1 || n > ATTEMPTS_MAX)
            plan_fault(c, "out_of_range", NULL, "must be between 1 and 1000", "%s/max_attempts", at);
        else
            retry->max_attempts = (uint16_t)n;
    }
    retry->initial_us = duration_field(c, value, "initial", at, retry->initial_us);
    retry->max_us = duration_field(c, value, "max", at, retry->max_us);
    if (jt_f64(jt_get(value, "factor"), &retry->factor) && !(retry->factor >= 1 && retry->factor <= 100))
        plan_fault(c, "out_of_range", NULL, "must be between 1 and 100", "%s/factor", at);
    if (jt_f64(jt_get(value, "jitter"), &retry->jitter) && !(retry->jitter >= 0 && retry->jitter <= 1))
        plan_fault(c, "out_of_range", NULL, "must be between 0 and 1", "%s/jitter", at);
}

static void idempotency_field(struct compile *c, struct str object, const char *pointer, struct plan_step *step)
{
    struct str value = jt_get(object, "idempotency");
    struct str key = jt_get(value, "key");
    char at[600];

    step->key_per_step = string_is(jt_get(value, "per"), "step");
    if (key.ptr == NULL)
        return;
    (void)snprintf(at, sizeof(at), "%s/idempotency/key", pointer);
    step->has_key = plan_template(c, key, at, false, &step->idempotency_key);
}

bool plan_condition(struct compile *c, struct str value, const char *pointer, struct template *ret)
{
    if (!plan_template(c, value, pointer, false, ret))
        return false;
    if (jt_type(value) == JT_TRUE || jt_type(value) == JT_FALSE)
        return true;
    if (ret->expr_count == 1 && ret->exprs[0].place == EXPR_WHOLE && jt_type(value) == JT_STRING)
        return true;
    plan_fault(c, "bad_expression", "write \"${ .input.amount > 1000 }\"",
               "must be a boolean or exactly one expression", "%s", pointer);
    return false;
}

static void compile_step(struct compile *c, uint32_t index, struct str object)
{
    static const char *const later[] = {"compensate", "effect", NULL};
    struct plan_step *step = &c->plan->steps[index];
    const char *pointer = plan_pointer(c, index);
    struct str when = jt_get(object, "when");
    struct str pool = jt_get(object, "pool");
    char at[600];

    refuse_later(c, object, later, pointer);
    step->join_any = string_is(jt_get(object, "join"), "any");
    step->continue_on_failure = c->plan->continue_on_failure;
    if (jt_get(object, "on_failure").ptr != NULL)
        step->continue_on_failure = string_is(jt_get(object, "on_failure"), "continue");
    step->at_most_once = string_is(jt_get(object, "delivery"), "at_most_once");
    step->hold_unknown = string_is(jt_get(object, "on_unknown"), "wait");
    if (step->hold_unknown)
        plan_fault(c, "not_available", "leave it out: the outcome then counts as a failure at once",
                   "holding a step until it is settled is not available in this release", "%s/on_unknown", pointer);
    step->priority = priority_field(object, PRIORITY_OF_RUN);
    step->pool = STR("default");
    if (pool.ptr != NULL)
        (void)jt_string(pool, c->plan->arena, &step->pool);
    step->deadline_us = duration_field(c, object, "deadline", pointer, 0);
    retry_field(c, object, pointer, &step->retry);
    idempotency_field(c, object, pointer, step);
    if (when.ptr != NULL) {
        (void)snprintf(at, sizeof(at), "%s/when", pointer);
        step->has_when = plan_condition(c, when, at, &step->when);
    }
    plan_call(c, index, jt_get(object, "call"), jt_get(object, "with"));
    step->timeout_us = duration_field(c, object, "timeout", pointer, str_is(step->call, "http") ? 30 * US_PER_S : 0);
    c->needs[index] = jt_get(object, "needs");
}

static void compile_steps(struct compile *c, struct str steps)
{
    struct plan *plan = c->plan;
    struct jt_iter it;
    uint32_t i = 0;

    plan->step_count = jt_count(steps);
    if (plan->step_count == 0)
        plan_fault(c, "missing_field", NULL, "a workflow needs at least one step", "/steps");
    if (plan->step_count > c->limits->max_steps) {
        char message[100];
        (void)snprintf(message, sizeof(message), "has %zu steps; the limit is %" PRIu32, plan->step_count,
                       c->limits->max_steps);
        plan_fault(c, "too_many_steps", "split it into child workflows, or raise the limit", message, "/steps");
        plan->step_count = 0;
        return;
    }
    plan->steps = arena_array(plan->arena, plan->step_count + 1, sizeof(*plan->steps));
    c->needs = arena_array(plan->arena, plan->step_count + 1, sizeof(*c->needs));
    jt_iter_init(&it, steps);
    while (jt_next(&it)) {
        plan->steps[i].name = jt_key(&it, plan->arena);
        (void)map_put(plan->by_name, plan->steps[i].name, (void *)(uintptr_t)(i + 1));
        i++;
    }
    jt_iter_init(&it, steps);
    for (i = 0; jt_next(&it); i++)
        compile_step(c, i, it.value);
}

static void compile_document(struct compile *c)
{
    static const char *const later[] = {"triggers", "concurrency", "on_failure_notify", NULL};
    struct plan *plan = c->plan;
    struct str doc = plan->document;
    struct str schema = jt_get(doc, "input_schema");
    struct str output = jt_get(doc, "output");

    (void)jt_string(jt_get(doc, "name"), plan->arena, &plan->name);
    (void)jt_string(jt_get(doc, "description"), plan->arena, &plan->description);
    plan->input_schema = schema;
    /* "triggers": {} asks for nothing */
    refuse_later(c, doc, jt_count(jt_get(doc, "triggers")) == 0 ? later + 1 : later, "");
    plan->continue_on_failure = string_is(jt_get(doc, "on_failure"), "continue");
    plan->priority = priority_field(doc, 2);
    plan->timeout_us = duration_field(c, doc, "timeout", "",
                                      30 * DAY_US < c->limits->max_run_us ? 30 * DAY_US : c->limits->max_run_us);
    if (plan->timeout_us > c->limits->max_run_us) {
        char message[80];
        (void)snprintf(message, sizeof(message), "a run may last at most %" PRId64 " s",
                       c->limits->max_run_us / US_PER_S);
        plan_fault(c, "out_of_range", NULL, message, "/timeout");
    }
    compile_steps(c, jt_get(doc, "steps"));
    plan_graph(c);
    if (output.ptr != NULL)
        plan->has_output = plan_template(c, output, "/output", false, &plan->output);
    plan_check_reads(c);
}

struct plan *plan_compile(struct str document, const struct plan_limits *limits, struct plan_faults *faults)
{
    struct plan *plan = mem_alloc(sizeof(*plan));
    struct compile c = {.plan = plan, .faults = faults, .limits = limits};

    plan->refs = 1;
    plan->arena = arena_new(2 * document.len + 4096);
    plan->by_name = map_new();
    plan->document = str_trim(str_arena(plan->arena, document));
    compile_document(&c);
    if (c.faulty) {
        plan_unref(plan);
        return NULL;
    }
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
    map_free(plan->by_name);
    arena_free(plan->arena);
    mem_free(plan);
}

uint32_t plan_find(const struct plan *plan, struct str step)
{
    uintptr_t found = (uintptr_t)map_get(plan->by_name, step);

    return found == 0 ? NO_NODE : (uint32_t)(found - 1);
}
