/* Runs of a family: what a child is given, and what its parent is told. */
#include "common/schema/schema.h"
#include "scheduler/core/core_internal.h"

#include "common/base/banned.h"

#define FAULT_MAX_BYTES 240

static const struct schema *schema_of(struct plan_info *plan)
{
    const struct schema_options options = {.name = "input_schema"};

    if (plan->schema_arena == NULL) {
        plan->schema_arena = arena_new(1024);
        if (plan->plan->input_schema.ptr != NULL)
            plan->schema = schema_compile(plan->schema_arena, plan->plan->input_schema, &options, NULL, NULL);
    }
    return plan->schema;
}

static void note_fault(void *ctx, const char *code, struct str pointer, const char *message, const char *hint)
{
    struct buf *first = ctx;

    (void)code;
    (void)hint;
    if (first->len > 0)
        return;
    buf_append_str(first, STR("invalid input: "));
    if (pointer.len > 0)
        buf_printf(first, STR_FMT ": ", STR_ARG(pointer));
    buf_printf(first, "%s", message);
}

struct str child_input_fault(struct plan_info *plan, struct str input)
{
    CLEANUP(buf_deinit) struct buf first = {0};
    const struct schema *schema = schema_of(plan);
    struct str text;
    struct err err;

    if (schema == NULL)
        return STR_NONE;
    buf_init(&first, 65536);
    if (schema_check(schema, input, note_fault, &first, &err) == ERR_OK)
        return STR_NONE;
    if (first.len == 0)
        buf_printf(&first, "invalid input: %s", err.message);
    text = utf8_prefix(buf_str(&first), FAULT_MAX_BYTES);
    text.ptr = mem_dup(text.ptr, text.len);
    return text;
}

static void put_error(struct jw *w, struct str code, struct str message, struct str step)
{
    jw_key(w, "error");
    jw_obj(w);
    jw_kstr(w, "code", code);
    jw_kstr(w, "message", message);
    if (step.ptr != NULL)
        jw_kstr(w, "step", step);
    jw_end_obj(w);
}

/* What the parent is told begins alike, whatever it is. */
static struct jw begin_body(struct buf *text, const struct run_entry *entry, enum run_status status, uint32_t retries)
{
    char id[UUID_TEXT_SIZE];
    struct jw w;

    run_id_format(entry->id, id);
    buf_init(text, SIZE_MAX / 2);
    w = jw_to(text);
    jw_obj(&w);
    jw_kcstr(&w, "child", id);
    jw_kstr(&w, "step", entry->parent_step);
    if (retries != 0)
        jw_ki64(&w, "retries", retries);
    jw_kcstr(&w, "status", run_status_name(status));
    return w;
}

static struct str end_body(struct arena *arena, struct jw *w, struct buf *text)
{
    struct str body;

    jw_end_obj(w);
    body = str_arena(arena, buf_str(text));
    buf_deinit(text);
    return body;
}

struct str child_ended_body(struct arena *arena, const struct run_entry *entry, const struct event *end)
{
    size_t most = (size_t)entry->org->limits.of[LIMIT_OUTPUT_BYTES];
    bool too_large = end->output.len > most; /* it becomes the output of the parent's step */
    struct buf text;
    struct jw w = begin_body(&text, entry, too_large ? RUN_FAILED : event_run_end(end->type), entry->run->retries);

    if (too_large) {
        put_error(
            &w, STR("too_large"),
            str_of(arena_printf(arena,
                                "the child run's output has %zu bytes; at most %zu are allowed (limit output_bytes): "
                                "give out less, or have the limit raised",
                                end->output.len, most)),
            STR_NONE);
    } else {
        if (end->output.ptr != NULL)
            jw_kraw(&w, "output", end->output);
        if (end->code.ptr != NULL)
            put_error(&w, end->code, end->message, end->step);
    }
    return end_body(arena, &w, &text);
}

struct str child_refused_body(struct arena *arena, const struct run_entry *entry,
                              const struct effect_retry_refused *refused)
{
    struct buf text;
    struct jw w = begin_body(&text, entry, refused->status, refused->retries);

    jw_kbool(&w, "refused", true);
    put_error(&w, str_of(refused->code), refused->message, STR_NONE);
    return end_body(arena, &w, &text);
}

struct str child_retry_body(struct arena *arena, struct run_id parent, const struct effect_child_retry *retry)
{
    char id[UUID_TEXT_SIZE];
    struct buf text;
    struct str body;
    struct jw w;

    run_id_format(parent, id);
    buf_init(&text, SIZE_MAX / 2);
    w = jw_to(&text);
    jw_obj(&w);
    jw_kcstr(&w, "parent", id);
    jw_kstr(&w, "step", retry->step);
    jw_ki64(&w, "retries", retry->retries);
    jw_kbool(&w, "confirm", true); /* whoever retried the parent said so of the step */
    jw_end_obj(&w);
    body = str_arena(arena, buf_str(&text));
    buf_deinit(&text);
    return body;
}

struct str child_pause_body(struct arena *arena, const struct effect_child_pause *pause)
{
    struct buf text;
    struct str body;
    struct jw w;

    buf_init(&text, SIZE_MAX / 2);
    w = jw_to(&text);
    jw_obj(&w);
    jw_kbool(&w, "parent", true);
    if (pause->by.ptr != NULL)
        jw_kstr(&w, "by", pause->by);
    jw_end_obj(&w);
    body = str_arena(arena, buf_str(&text));
    buf_deinit(&text);
    return body;
}
