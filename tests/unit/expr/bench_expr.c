/* Figures: plain paths per second by size of the body they look into, and templates compiled per second. */
#include "common/base/clock.h"
#include "tests/unit/expr/helper.h"
#include <stdio.h>

/* A body of about `bytes`; what is looked for is its last member. */
static struct str make_body(struct arena *arena, size_t bytes)
{
    CLEANUP(buf_deinit) struct buf out = {0};

    buf_init(&out, 1 << 24);
    buf_append_char(&out, '{');
    for (unsigned i = 0; out.len < bytes; i++)
        buf_printf(&out, "\"member%u\":[%u,\"some text of a usual length\",{\"k\":null}],", i, i);
    buf_append_str(&out, STR("\"id\":\"ch_123\"}"));
    return str_arena(arena, buf_str(&out));
}

static void bench_native(size_t bytes)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(0);
    struct mono_us begin;
    struct compiled c;
    struct document d;
    struct str value;
    struct err err;
    double seconds;
    unsigned count = 0;

    document_init(&d, arena, STR("{}"));
    d.doc.input = make_body(arena, bytes);
    compile_expr(&c, ".input.id");
    begin = clock_mono();
    do {
        for (unsigned i = 0; i < 100; i++)
            assert_int_equal(expr_eval_native(&c.template.exprs[0], &d.doc, arena, &value, &err), EXPR_OK);
        count += 100;
        seconds = (double)(clock_mono().us - begin.us) / 1e6;
    } while (seconds < 0.5);
    printf("plain path, body of %7zu bytes: %10.0f per second\n", d.doc.input.len, count / seconds);
    compiled_free(&c);
}

static void bench_compile(void)
{
    struct mono_us begin = clock_mono();
    unsigned count = 0;
    double seconds;

    do {
        struct compiled c;

        compile(&c, "{\"method\":\"POST\",\"url\":\"https://pay.example/charges/${ .steps.charge.output.body.id }\","
                    "\"body\":{\"order\":\"${ .input.order_id }\",\"lines\":\"${ .input.lines | map(.sku) }\"}}");
        assert_true(c.good);
        compiled_free(&c);
        count++;
        seconds = (double)(clock_mono().us - begin.us) / 1e6;
    } while (seconds < 0.5);
    printf("templates with three expressions: %9.0f compiled per second\n", count / seconds);
}

int main(void)
{
    bench_native(100);
    bench_native(1000);
    bench_native(65536);
    bench_native(1000000);
    bench_compile();
    return 0;
}
