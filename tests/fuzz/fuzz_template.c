/* Any checked JSON as a template: compiling it must not break, what was compiled must render to JSON again, and what
 * is taken for a plain path must have an answer. */
#include "common/base/ensure.h"
#include "common/expr/expr.h"

#include "common/base/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct jt_limits limits = {.max_bytes = 1 << 16, .max_depth = 128, .refuse_unstorable = true};

static void on_fault(void *ctx, const char *code, struct str pointer, const char *message, const char *hint)
{
    unsigned *count = ctx;

    (void)hint;
    ENSURE(code != NULL && message != NULL && (pointer.len == 0 || pointer.ptr[0] == '/'));
    ++*count;
}

static bool read_step(void *ctx, struct str name, struct expr_step *ret)
{
    const struct str *json = ctx;

    (void)name;
    ret->status = STR("\"succeeded\"");
    ret->output = ret->failed = *json;
    return true;
}

static struct str value_of(const struct expr *expr, struct str json, struct arena *arena)
{
    const struct expr_doc doc = {
        .trigger = json, .input = json, .output = json, .index = -1, .step = read_step, .ctx = &json};
    struct str value = STR("\"\\\" x\"");
    struct buf out;
    struct err err;

    if (expr->native && expr_eval_native(expr, &doc, arena, &value, &err) != EXPR_OK)
        value = STR("[ null, \"x\" ]");
    buf_init(&out, 1 << 24);
    if (expr_document(expr, &doc, 1 << 24, &out, &err) == EXPR_OK)
        ENSURE(jt_type(buf_str(&out)) == JT_OBJECT);
    buf_deinit(&out);
    return value;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct template_options options = {.secrets_allowed = true, .url_at_root_url = true};
    const struct jt_limits rendered = {.max_bytes = 1 << 26, .max_depth = 300};
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(0);
    CLEANUP(buf_deinit) struct buf out = {0};
    struct str json = str_arena(arena, (struct str){(const char *)data, size});
    struct template t;
    struct str *values;
    unsigned faults = 0;
    struct err err;

    if (size == 0 || jt_check(json, &limits, &err) != ERR_OK)
        return 0;
    ENSURE(template_compile(arena, json, &options, on_fault, &faults, &t) == (faults == 0));
    if (faults > 0)
        return 0;
    values = arena_array(arena, t.expr_count + 1, sizeof(*values));
    for (size_t i = 0; i < t.expr_count; i++)
        values[i] = value_of(&t.exprs[i], json, arena);
    buf_init(&out, 1 << 25);
    if (template_render(&t, values, arena, &out, &err) == ERR_OK)
        ENSURE(jt_check(buf_str(&out), &rendered, &err) == ERR_OK);
    return 0;
}
