/* Checking what requests bring: bodies, and whole workflow documents. */
#include "gateway/document.h"
#include "gateway/schedule_check.h"
#include "common/base/ensure.h"
#include "proto/proto_messages.h"
#include <inttypes.h>

#include "common/base/banned.h"

#define FAULTS_MAX ((size_t)4 << 20) /* bytes of faults that are told */

bool name_is_valid(struct str name)
{
    if (name.len == 0 || name.len > 63 || name.ptr[0] == '-')
        return false;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];

        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'))
            return false;
    }
    return true;
}

bool call_body(struct call *call, struct str *ret)
{
    return call_body_or(call, STR("{}"), ret);
}

/* jt_check refuses two things as too large: the bytes come first. */
static void refuse_size(struct call *call, size_t bytes, const char *where)
{
    const int64_t *of = call->caller.limits.of;

    if (bytes > (size_t)of[LIMIT_BODY_BYTES])
        call_problemf(call, 413, "too_large",
                      "the body has %zu bytes; at most %" PRId64 " are allowed (limit body_bytes): send less, or have "
                      "the limit raised",
                      bytes, of[LIMIT_BODY_BYTES]);
    else
        call_problemf(call, 413, "too_large",
                      "%s: at most %" PRId64 " levels are allowed (limit json_depth): make it flatter, or have the "
                      "limit raised",
                      where, of[LIMIT_JSON_DEPTH]);
}

bool call_body_or(struct call *call, struct str empty, struct str *ret)
{
    struct jt_limits limits = JT_LIMITS_API;
    struct str body = http_body(call->http);
    struct err err = {0};

    limits.max_bytes = (size_t)call->caller.limits.of[LIMIT_BODY_BYTES];
    limits.max_depth = (unsigned)call->caller.limits.of[LIMIT_JSON_DEPTH];
    if (str_trim(body).len == 0)
        body = empty;
    switch (jt_check(body, &limits, &err)) {
    case ERR_OK:
        *ret = body;
        return true;
    case ERR_TOO_LARGE:
        refuse_size(call, body.len, err.message);
        return false;
    default:
        call_problem(call, 400, str_starts(str_of(err.message), "duplicate key") ? "duplicate_key" : "not_json",
                     err.message);
        return false;
    }
}

bool idempotency_key_is_valid(struct str key)
{
    for (size_t i = 0; i < key.len; i++)
        if ((unsigned char)key.ptr[i] < 0x20 || (unsigned char)key.ptr[i] >= 0x7f)
            return false;
    return key.len >= 1 && key.len <= 255;
}

bool call_idempotency_key(struct call *call, struct str *ret)
{
    struct str key = http_header_get(call->http, "idempotency-key");

    *ret = key;
    if (key.ptr == NULL)
        return true;
    if (idempotency_key_is_valid(key))
        return true;
    call_problem(call, 400, "bad_idempotency_key",
                 key.len < 1 || key.len > 255 ? "an Idempotency-Key has 1 to 255 bytes"
                                              : "an Idempotency-Key is printable ASCII");
    return false;
}

struct fault_list {
    struct buf *out;
    struct jw w;
    size_t count;
    struct map *told; /* pointers of what the schema found; NULL when it is not its turn */
};

static void add_fault(struct fault_list *list, const char *code, struct str pointer, struct str message,
                      struct str hint)
{
    list->count++;
    if (list->told != NULL)
        (void)map_put(list->told, pointer.ptr == NULL ? STR("") : pointer, list);
    if (list->out->len > FAULTS_MAX / 2)
        return;
    jw_obj(&list->w);
    jw_kcstr(&list->w, "code", code);
    jw_kstr(&list->w, "pointer", pointer.ptr == NULL ? STR("") : pointer);
    jw_kstr(&list->w, "message", message);
    jw_kstr(&list->w, "hint", hint.len == 0 ? STR_NONE : hint);
    jw_end_obj(&list->w);
}

void call_fault(struct call *call, const char *code, const char *pointer, const char *message)
{
    CLEANUP(buf_deinit) struct buf out = {0};
    struct fault_list list = {.out = &out};

    buf_init(&out, FAULTS_MAX);
    list.w = jw_to(&out);
    jw_arr(&list.w);
    add_fault(&list, code, str_of(pointer), str_of(message), STR_NONE);
    jw_end_arr(&list.w);
    call_problem_errors(call, 422, code, message, buf_str(&out));
}

static bool is_among(struct str name, const char *words)
{
    struct str rest = str_of(words);

    while (rest.len > 0)
        if (str_eq(str_cut(&rest, ' '), name))
            return true;
    return false;
}

bool call_body_object(struct call *call, const char *fields, struct str *ret)
{
    struct jt_iter it;

    if (!call_body(call, ret))
        return false;
    if (jt_type(*ret) != JT_OBJECT) {
        call_fault(call, "wrong_type", "", "the body must be an object");
        return false;
    }
    jt_iter_init(&it, *ret);
    while (jt_next(&it)) {
        struct str key = jt_key(&it, call->arena);

        if (!is_among(key, fields)) {
            CLEANUP(buf_deinit) struct buf pointer = {0};

            buf_init(&pointer, FAULTS_MAX);
            jt_pointer_add(&pointer, key);
            call_fault(call, "unknown_field", pointer.ptr,
                       fields[0] == '\0' ? "the body has no fields here"
                                         : arena_printf(call->arena, "the fields are: %s", fields));
            return false;
        }
    }
    return true;
}

static void on_schema_fault(void *ctx, const char *code, struct str pointer, const char *message, const char *hint)
{
    add_fault(ctx, code, pointer, str_of(message), str_of(hint));
}

/* Faults of the user's own input_schema; pointers get the place in front. */
struct nested_faults {
    struct fault_list *list;
    struct arena *arena;
};

static void on_input_schema_fault(void *ctx, const char *code, struct str pointer, const char *message,
                                  const char *hint)
{
    struct nested_faults *nested = ctx;
    char *full = arena_printf(nested->arena, "/input_schema" STR_FMT, STR_ARG(pointer));

    add_fault(nested->list, code, str_of(full), str_of(message), str_of(hint));
}

static void check_input_schema(struct arena *arena, struct str document, struct fault_list *list)
{
    struct str schema = jt_get(document, "input_schema");
    struct schema_options options = {.name = "input_schema"};
    struct nested_faults nested = {list, arena};

    if (jt_type(schema) != JT_NONE)
        (void)schema_compile(arena, schema, &options, on_input_schema_fault, &nested);
}

/* Where the schema has spoken it has said enough. */
struct schedule_faults {
    struct fault_list *list;
    const struct map *told;
};

static void on_schedule_fault(void *ctx, const char *code, const char *pointer, const char *message, const char *hint)
{
    struct schedule_faults *faults = ctx;

    if (map_get(faults->told, str_of(pointer)) == NULL)
        add_fault(faults->list, code, str_of(pointer), str_of(message), str_of(hint));
}

static struct str warnings_json(struct arena *arena, const struct plan_faults *faults)
{
    CLEANUP(buf_deinit) struct buf out = {0};
    struct fault_list list = {.out = &out};

    buf_init(&out, FAULTS_MAX);
    list.w = jw_to(&out);
    jw_arr(&list.w);
    for (size_t i = 0; i < faults->warning_count; i++)
        add_fault(&list, faults->warnings[i].code, faults->warnings[i].pointer, faults->warnings[i].message,
                  faults->warnings[i].hint);
    jw_end_arr(&list.w);
    return str_arena(arena, buf_str(&out));
}

/* Asked of what is saved only: a version that is there goes on, whatever its secret is good for. */
static void check_signature_secrets(const struct plan *plan, struct fault_list *list)
{
    for (size_t i = 0; i < plan->trigger_count; i++) {
        const struct plan_webhook *webhook = &plan->triggers[i].webhook;
        CLEANUP(buf_deinit) struct buf pointer = {0};

        buf_init(&pointer, 4096);
        for (size_t k = 0; webhook->scheme.ptr != NULL && k < webhook->secret_count; k++) {
            const char *fault = webhook->secrets[k].named ? NULL
                                                          : hook_scheme_secret_fault(hook_scheme_find(webhook->scheme),
                                                                                     webhook->secrets[k].text);

            plan_secret_pointer(&plan->triggers[i], k, &pointer);
            if (fault != NULL)
                add_fault(list, "out_of_range", buf_str(&pointer), str_of(fault), STR_NONE);
        }
    }
}

void document_check(struct arena *arena, const struct limits *most, struct str text, struct document *ret)
{
    CLEANUP(buf_deinit) struct buf out = {0};
    struct plan_limits limits = {(uint32_t)most->of[LIMIT_STEPS], (uint32_t)most->of[LIMIT_DEPTH],
                                 most->of[LIMIT_RUN_DAYS] * 86400 * US_PER_S, (uint32_t)most->of[LIMIT_FOREACH_ITEMS]};
    struct fault_list list = {.out = &out, .told = map_new()};
    struct plan_faults faults = {.arena = arena};
    struct err err = {0};

    *ret = (struct document){.text = text};
    buf_init(&out, FAULTS_MAX);
    list.w = jw_to(&out);
    jw_arr(&list.w);
    if (schema_check(&SCHEMA_WORKFLOW, text, on_schema_fault, &list, &err) != ERR_OK && list.count == 0)
        add_fault(&list, "wrong_type", STR_NONE, str_of(err.message), STR_NONE);
    check_input_schema(arena, text, &list);
    /* The graph is looked at whatever the shape: all faults come at once. Where the schema has spoken it has said
     * enough. */
    struct map *told = take_ptr(list.told);

    ret->plan = plan_compile(text, &limits, &faults);
    ret->warnings = warnings_json(arena, &faults);
    for (size_t i = 0; i < faults.count; i++)
        if (map_get(told, faults.items[i].pointer) == NULL)
            add_fault(&list, faults.items[i].code, faults.items[i].pointer, faults.items[i].message,
                      faults.items[i].hint);
    struct schedule_faults schedules = {&list, told};

    schedules_check(text, on_schedule_fault, &schedules);
    if (ret->plan != NULL)
        check_signature_secrets(ret->plan, &list);
    if (list.count > 0) {
        plan_unref(ret->plan);
        ret->plan = NULL;
    }
    map_free(told);
    jw_end_arr(&list.w);
    ret->error_count = list.count;
    ret->errors = str_arena(arena, buf_str(&out));
    if (jt_string(jt_get(text, "name"), arena, &ret->name) == false)
        ret->name = STR_NONE;
    ENSURE((ret->plan == NULL) == (list.count > 0));
}

/* What write_content is in: a document, its steps, a step, the `with` of a loop, whose steps are steps again. */
enum content { IN_DOCUMENT, IN_STEPS, IN_STEP, IN_LOOP };

static bool goes_below(struct str object, enum content level, struct str key)
{
    switch (level) {
    case IN_DOCUMENT:
    case IN_LOOP:
        return str_is(key, "steps");
    case IN_STEPS:
        return true;
    case IN_STEP:
        return str_is(key, "with") && str_is(jt_get(object, "call"), "\"foreach\"");
    }
    return false;
}

/* Writes an object without its member "metadata"; those of its steps likewise. */
static void write_content(struct jw *w, struct str object, enum content level)
{
    struct jt_iter it;

    jw_obj(w);
    jt_iter_init(&it, object);
    while (jt_next(&it)) {
        if (level != IN_STEPS && str_is(it.key, "metadata"))
            continue;
        CLEANUP(arena_cleanup) struct arena *arena = it.key_escaped ? arena_new(256) : NULL;

        jw_key_str(w, it.key_escaped ? jt_key(&it, arena) : it.key);
        bool below = jt_type(it.value) == JT_OBJECT && goes_below(object, level, it.key);

        if (below)
            write_content(w, it.value, level == IN_LOOP ? IN_STEPS : level + 1);
        else
            jw_raw(w, it.value);
    }
    jw_end_obj(w);
}

void document_content(struct str text, struct buf *out)
{
    struct jw w;

    buf_init(out, text.len * 6 + 4096);
    w = jw_to(out);
    write_content(&w, text, IN_DOCUMENT);
    ENSURE(!out->overflow);
}

void document_hash(struct str text, uint8_t ret[32])
{
    CLEANUP(buf_deinit) struct buf content = {0}, canonical = {0};

    document_content(text, &content);
    buf_init(&canonical, text.len * 6 + 4096);
    jt_canonical(buf_str(&content), &canonical);
    ENSURE(!canonical.overflow);
    sha256(buf_str(&canonical), ret);
}
