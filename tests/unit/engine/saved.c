#include "tests/unit/engine/saved.h"
#include "proto/proto_messages.h"

struct told {
    struct buf lines;
    struct map *pointers; /* of what the schema has said: there it has said enough */
};

static void add_line(struct told *told, const char *code, struct str pointer)
{
    buf_printf(&told->lines, "%s%s ", told->lines.len == 0 ? "" : "\n", code);
    buf_append_str(&told->lines, pointer);
}

static void on_schema_fault(void *ctx, const char *code, struct str pointer, const char *message, const char *hint)
{
    struct told *told = ctx;

    (void)hint;
    assert_true(message[0] != '\0');
    if (map_put(told->pointers, pointer, told) == NULL)
        add_line(told, code, pointer);
}

const char *save(struct arena *arena, struct str text, const struct plan_limits *limits, struct plan **ret)
{
    struct plan_faults faults = {.arena = arena};
    struct told told = {.pointers = map_new()};
    struct plan *plan;
    struct err err;
    const char *lines;

    buf_init(&told.lines, 1 << 16);
    if (jt_check(text, &JT_LIMITS_API, &err) != ERR_OK)
        fail_msg("no JSON: %s\n" STR_FMT, err.message, STR_ARG(text));
    if (schema_check(&SCHEMA_WORKFLOW, text, on_schema_fault, &told, &err) != ERR_OK)
        assert_true(told.lines.len > 0);
    plan = plan_compile(text, limits, &faults);
    assert_int_equal(plan == NULL, faults.count > 0);
    for (size_t i = 0; i < faults.count; i++)
        if (map_get(told.pointers, faults.items[i].pointer) == NULL)
            add_line(&told, faults.items[i].code, faults.items[i].pointer);
    lines = arena_dup(arena, told.lines.ptr == NULL ? "" : told.lines.ptr, told.lines.len);
    buf_deinit(&told.lines);
    map_free(told.pointers);
    if (ret != NULL && *lines == '\0')
        *ret = plan;
    else
        plan_unref(plan);
    return lines;
}

struct plan *good(const char *text)
{
    struct arena *arena = arena_new(4096);
    struct plan *plan = NULL;
    const char *faults = save(arena, str_of(text), &PLAN_LIMITS_DEFAULT, &plan);

    if (plan == NULL)
        fail_msg("%s\n%s", text, faults);
    arena_free(arena);
    return plan;
}
