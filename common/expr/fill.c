/* See fill.h. */
#include "common/expr/fill.h"

#include "common/base/banned.h"

struct filling {
    const struct template *template;
    struct arena *arena;
    size_t max_bytes;
    struct str *values;
    size_t waiting;
    bool failed, unavailable;
    const char *message;
    fill_fn done;
    void *ctx;
};
struct hole {
    struct filling *filling;
    size_t at;
};

static void fail(struct filling *f, const char *message)
{
    f->failed = true;
    f->message = arena_printf(f->arena, "%s", message);
}

static void finish(struct filling *f)
{
    CLEANUP(buf_deinit) struct buf out = {0};
    struct err err = {0};

    if (f->unavailable) {
        f->done(f->ctx, FILL_UNAVAILABLE, STR_NONE, "expressions cannot be evaluated just now");
        return;
    }
    buf_init(&out, f->max_bytes);
    if (!f->failed && template_render(f->template, f->values, f->arena, &out, &err) != ERR_OK)
        fail(f, err.message);
    if (f->failed)
        f->done(f->ctx, FILL_FAILED, STR_NONE, f->message);
    else
        f->done(f->ctx, FILL_OK, str_arena(f->arena, buf_str(&out)), NULL);
}

static void on_value(void *ctx, enum sandbox_status status, struct str value, const char *message)
{
    struct hole *hole = ctx;
    struct filling *f = hole->filling;

    if (status == SANDBOX_UNAVAILABLE)
        f->unavailable = true;
    else if (status != SANDBOX_OK)
        fail(f, message);
    else
        f->values[hole->at] = str_arena(f->arena, value);
    if (--f->waiting == 0)
        finish(f);
}

static void evaluate(struct filling *f, struct sandbox *sandbox, int32_t organisation, const struct expr_doc *doc,
                     size_t i)
{
    const struct expr *expr = &f->template->exprs[i];
    CLEANUP(buf_deinit) struct buf document = {0};
    struct err err = {0};
    struct hole *hole;

    if (expr->native) {
        if (expr_eval_native(expr, doc, f->arena, &f->values[i], &err) != EXPR_OK)
            fail(f, err.message);
        return;
    }
    buf_init(&document, SANDBOX_LIMITS_DEFAULT.document_bytes);
    if (expr_document(expr, doc, SANDBOX_LIMITS_DEFAULT.document_bytes, &document, &err) != EXPR_OK) {
        fail(f, err.message);
        return;
    }
    hole = arena_alloc(f->arena, sizeof(*hole));
    *hole = (struct hole){f, i};
    f->waiting++;
    sandbox_eval(sandbox, organisation, expr->source, buf_str(&document), on_value, hole);
}

void template_fill(struct sandbox *sandbox, int32_t organisation, const struct template *template,
                   const struct expr_doc *doc, size_t max_bytes, struct arena *arena, fill_fn done, void *ctx)
{
    struct filling *f = arena_alloc(arena, sizeof(*f));

    *f = (struct filling){
        .template = template, .arena = arena, .max_bytes = max_bytes, .waiting = 1, .done = done, .ctx = ctx};
    f->values = arena_array(arena, template->expr_count + 1, sizeof(*f->values));
    for (size_t i = 0; i < template->expr_count; i++)
        evaluate(f, sandbox, organisation, doc, i);
    if (--f->waiting == 0)
        finish(f);
}
