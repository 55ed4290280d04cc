#include "tests/unit/expr/helper.h"
#include <stdio.h>

static void on_fault(void *ctx, const char *code, struct str pointer, const char *message, const char *hint)
{
    struct compiled *c = ctx;
    size_t len = strlen(c->faults);

    assert_string_equal(code, "bad_expression");
    snprintf(c->faults + len, sizeof(c->faults) - len, STR_FMT ": %s\n", STR_ARG(pointer), message);
    len = strlen(c->hints);
    snprintf(c->hints + len, sizeof(c->hints) - len, "%s\n", hint == NULL ? "-" : hint);
    c->fault_count++;
}

void compile(struct compiled *c, const char *json)
{
    const struct template_options options = {.secrets_allowed = true, .url_at_root_url = true};
    struct jt_limits limits = JT_LIMITS_API;
    struct err err;

    *c = (struct compiled){.arena = arena_new(0)};
    limits.refuse_duplicates = false;
    assert_int_equal(jt_check(str_of(json), &limits, &err), ERR_OK);
    /* A copy, since the text must live as long as the template. */
    c->good = template_compile(c->arena, str_arena(c->arena, str_of(json)), &options, on_fault, c, &c->template);
    assert_int_equal(c->good, c->fault_count == 0);
}

void compile_expr(struct compiled *c, const char *source)
{
    struct buf text, json;

    buf_init(&text, 1 << 20);
    buf_init(&json, 1 << 20);
    buf_printf(&text, "${%s}", source);
    json_quote(&json, buf_str(&text));
    compile(c, json.ptr);
    buf_deinit(&text);
    buf_deinit(&json);
}

void compiled_free(struct compiled *c)
{
    arena_free(c->arena);
}

static bool read_step(void *ctx, struct str name, struct expr_step *ret)
{
    struct document *d = ctx;
    struct str step = jt_get_str(jt_get(d->json, "steps"), name);

    ret->status = jt_get(step, "status");
    ret->branch = jt_get(step, "branch");
    ret->output = jt_get(step, "output");
    ret->error = jt_get(step, "error");
    ret->failed = jt_get(step, "failed");
    return d->missing == NULL || !str_is(name, d->missing);
}

static bool name_step(void *ctx, size_t index, struct str *ret)
{
    struct document *d = ctx;
    struct jt_iter it;

    jt_iter_init(&it, jt_get(d->json, "steps"));
    while (jt_next(&it)) {
        if (it.index == index) {
            *ret = jt_key(&it, d->arena);
            return true;
        }
    }
    return false;
}

void document_init(struct document *d, struct arena *arena, struct str json)
{
    *d = (struct document){.arena = arena, .json = json};
    d->doc = (struct expr_doc){.trigger = jt_get(json, "trigger"),
                               .input = jt_get(json, "input"),
                               .item = jt_get(json, "item"),
                               .run = jt_get(json, "run"),
                               .output = jt_get(json, "output"),
                               .step = read_step,
                               .step_name = name_step,
                               .ctx = d};
    if (!jt_i64(jt_get(json, "index"), &d->doc.index))
        d->doc.index = -1;
}

const char *render(struct compiled *c, struct document *d)
{
    struct str *values = arena_array(c->arena, c->template.expr_count, sizeof(*values));
    CLEANUP(buf_deinit) struct buf out = {0};
    struct err err;

    d->doc.ctx = d;
    buf_init(&out, 1 << 20);
    for (size_t i = 0; i < c->template.expr_count; i++) {
        if (c->template.exprs[i].secret)
            continue;
        assert_true(c->template.exprs[i].native);
        switch (expr_eval_native(&c->template.exprs[i], &d->doc, c->arena, &values[i], &err)) {
        case EXPR_OK:
            break;
        case EXPR_NOT_HERE:
            return "not here";
        case EXPR_FAILED:
            return arena_printf(c->arena, "failed: %s", err.message);
        }
    }
    if (template_render(&c->template, values, c->arena, &out, &err) != ERR_OK)
        return arena_printf(c->arena, "failed: %s", err.message);
    return str_arena(c->arena, buf_str(&out)).ptr;
}

unsigned pick(uint64_t *seed, unsigned count)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(*seed >> 33) % count;
}
