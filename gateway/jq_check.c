/* See jq_check.h. */
#include "gateway/jq_check.h"
#include "common/expr/sandbox.h"

#include "common/base/banned.h"

#define ERRORS_MAX ((size_t)4 << 20)

struct checking {
    struct call *call;
    struct document *document;
    void (*done)(void *ctx, struct document *document);
    void *ctx;
    size_t waiting; /* answers still to come, and one for the walk itself */
    bool unavailable;
    struct question *first, **last;
};

struct question {
    struct question *next;
    struct checking *checking;
    struct str source, pointer;
    const char *message; /* of libjq, NULL: it compiles */
};

static void finish(struct checking *c)
{
    CLEANUP(buf_deinit) struct buf errors = {0};
    struct document *document = c->document;
    size_t before = document->error_count;
    struct jw w;

    plan_unref(document->plan);
    document->plan = NULL;
    if (c->unavailable) {
        call_problem(c->call, 503, "unavailable", "expressions cannot be checked just now; try again in a moment");
        return;
    }
    buf_init(&errors, ERRORS_MAX);
    w = jw_to(&errors);
    jw_arr(&w);
    for (const struct question *q = c->first; q != NULL; q = q->next) {
        if (q->message == NULL || errors.len > ERRORS_MAX / 2)
            continue;
        document->error_count++;
        jw_obj(&w);
        jw_kcstr(&w, "code", "bad_expression");
        jw_kstr(&w, "pointer", q->pointer);
        jw_kcstr(&w, "message", q->message);
        jw_kcstr(&w, "hint", "try it with jq on the command line");
        jw_end_obj(&w);
    }
    jw_end_arr(&w);
    if (document->error_count > before)
        document->errors = str_arena(c->call->arena, buf_str(&errors));
    c->done(c->ctx, document);
}

static void on_checked(void *ctx, enum sandbox_status status, struct str value, const char *message)
{
    struct question *q = ctx;
    struct checking *c = q->checking;

    (void)value;
    if (status == SANDBOX_UNAVAILABLE)
        c->unavailable = true;
    else if (status != SANDBOX_OK)
        q->message = arena_dup(c->call->arena, message, strlen(message));
    if (--c->waiting == 0)
        finish(c);
}

static void on_template(void *ctx, const struct template *t, struct str pointer)
{
    struct checking *c = ctx;

    for (size_t i = 0; i < t->expr_count; i++) {
        const struct expr *expr = &t->exprs[i];
        struct question *q;

        if (expr->native || expr->secret)
            continue;
        q = arena_alloc(c->call->arena, sizeof(*q));
        q->checking = c;
        q->source = expr->source;
        q->pointer = str_of(arena_printf(c->call->arena, STR_FMT STR_FMT, STR_ARG(pointer), STR_ARG(expr->pointer)));
        *c->last = q;
        c->last = &q->next;
    }
}

void jq_check(struct call *call, struct document *document, void (*done)(void *ctx, struct document *document),
              void *ctx)
{
    struct checking *c;

    if (document->plan == NULL) { /* it has faults already: the expressions wait until they are mended */
        done(ctx, document);
        return;
    }
    c = arena_alloc(call->arena, sizeof(*c));
    *c = (struct checking){.call = call, .document = document, .done = done, .ctx = ctx, .waiting = 1};
    c->last = &c->first;
    plan_each_template(document->plan, on_template, c);
    for (struct question *q = c->first; q != NULL; q = q->next) {
        c->waiting++;
        sandbox_check(call->gw->sandbox, call->caller.organisation, q->source, on_checked, q);
    }
    if (--c->waiting == 0)
        finish(c);
}
