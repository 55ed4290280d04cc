/* See schedule_check.h. */
#include "gateway/schedule_check.h"
#include "common/expr/expr.h"
#include "common/schema/schema.h"

#include "common/base/banned.h"

struct checking {
    schedule_fault_fn fault;
    void *ctx;
    struct arena *arena;
    const char *pointer; /* of the trigger */
};

static void on_fault(void *ctx, const char *code, const char *pointer, const char *message, const char *hint)
{
    const struct checking *c = ctx;

    c->fault(c->ctx, code, arena_printf(c->arena, "%s%s", c->pointer, pointer), message, hint);
}

static void on_input_fault(void *ctx, const char *code, struct str pointer, const char *message, const char *hint)
{
    const struct checking *c = ctx;

    c->fault(c->ctx, code, arena_printf(c->arena, "%s/input" STR_FMT, c->pointer, STR_ARG(pointer)), message, hint);
}

static void ignore(void *ctx, const char *code, struct str pointer, const char *message, const char *hint)
{
    (void)ctx, (void)code, (void)pointer, (void)message, (void)hint;
}

/* A schedule has nobody to tell that its input is refused, so it is known now, unless expressions make it: then it is
 * checked with each run (scheduler/firing.c). The plan has found their faults. */
static void check_input(struct checking *c, struct str document, struct str trigger)
{
    struct str input = jt_get(trigger, "input"), schema = jt_get(document, "input_schema");
    const struct template_options plain = {0};
    struct schema_options options = {.name = "input_schema"};
    const struct schema *compiled;
    struct template template;
    struct err err;

    if (schema.ptr == NULL)
        return;
    if (input.ptr != NULL) {
        if (!template_compile(c->arena, input, &plain, ignore, NULL, &template) || !template.constant)
            return;
        input = template.literal;
    }
    compiled = schema_compile(c->arena, schema, &options, ignore, NULL);
    if (compiled != NULL &&
        schema_check(compiled, input.ptr == NULL ? STR("{}") : input, on_input_fault, c, &err) == ERR_TOO_LARGE)
        c->fault(c->ctx, "out_of_range", arena_printf(c->arena, "%s/input", c->pointer), "is more than can be checked",
                 NULL);
}

void schedules_check(struct str document, schedule_fault_fn fault, void *ctx)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(0);
    struct zones *zones = zones_new(ZONEINFO_FOLDER);
    struct jt_iter it;

    jt_iter_init(&it, jt_get(document, "triggers"));
    while (jt_next(&it)) {
        CLEANUP(buf_deinit) struct buf pointer = {0};
        struct schedule_definition definition;
        struct checking c = {fault, ctx, arena, NULL};

        if (jt_type(it.value) != JT_OBJECT || !schedule_is_trigger(it.value))
            continue;
        buf_init(&pointer, 1 << 20);
        buf_append_str(&pointer, STR("/triggers"));
        jt_pointer_add(&pointer, jt_key(&it, arena));
        c.pointer = pointer.ptr;
        (void)schedule_definition_read(it.value, zones, (struct wall_us){0}, on_fault, &c, &definition);
        check_input(&c, document, it.value);
    }
    zones_free(zones);
}
