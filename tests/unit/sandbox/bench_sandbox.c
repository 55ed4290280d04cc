/* Figures: start of a child, evaluations per second through the sandbox, what compiling costs. */
#include "tests/unit/sandbox/helper.h"
#include <stdio.h>

static void bench_start(void)
{
    double total = 0;

    for (int i = 0; i < 20; i++) {
        struct bench b;
        double begin = now_ms();

        bench_init(&b, 1, NULL);
        warm_up(&b, 1);
        total += now_ms() - begin;
        bench_deinit(&b);
    }
    printf("start of a child and its first answer: %.1f ms\n", total / 20);
}

static void bench_rate(unsigned children, unsigned in_flight, const char *source, const char *document)
{
    struct asked *all = mem_array(in_flight, sizeof(*all));
    unsigned count = 0;
    double begin, seconds;
    struct bench b;

    bench_init(&b, children, NULL);
    warm_up(&b, children);
    for (unsigned i = 0; i < in_flight; i++)
        ask(&b, &all[i], (int32_t)i, source, document);
    wait_for_all(&b);
    begin = now_ms();
    do {
        for (unsigned i = 0; i < in_flight; i++)
            ask(&b, &all[i], (int32_t)(i % 8), source, document);
        wait_for_all(&b);
        count += in_flight;
        seconds = (now_ms() - begin) / 1000;
    } while (seconds < 1);
    printf("%u child%s, %3u at a time, document of %7zu bytes: %8.0f per second\n", children,
           children == 1 ? "  " : "ren", in_flight, strlen(document), count / seconds);
    bench_deinit(&b);
    mem_free(all);
}

static void bench_compile(void)
{
    static char sources[50][64];
    struct asked all[50];
    struct bench b;
    double begin;

    bench_init(&b, 1, NULL);
    warm_up(&b, 1);
    begin = now_ms();
    for (int i = 0; i < 50; i++) {
        snprintf(sources[i], sizeof(sources[i]), "[.a[] | select(.x > %d) | .y] | add", i);
        ask_check(&b, &all[i], sources[i]);
    }
    wait_for_all(&b);
    printf("compiling: %.1f ms\n", (now_ms() - begin) / 50);
    bench_deinit(&b);
}

int main(int argc, char **argv)
{
    struct buf large;

    sandbox_child_main_if_asked(argc, argv);
    buf_init(&large, 1 << 21);
    buf_append_str(&large, STR("{\"a\":{\"b\":1},\"list\":["));
    while (large.len < 1 << 20)
        buf_append_str(&large, STR("{\"id\":123456,\"name\":\"a name of some length\",\"tags\":[\"x\",\"y\"]},"));
    buf_append_str(&large, STR("null]}"));
    bench_start();
    bench_compile();
    bench_rate(1, 1, ".a.b + 1", "{\"a\":{\"b\":1}}");
    bench_rate(1, 64, ".a.b + 1", "{\"a\":{\"b\":1}}");
    bench_rate(2, 64, ".a.b + 1", "{\"a\":{\"b\":1}}");
    bench_rate(2, 4, ".a.b + 1", large.ptr);
    buf_deinit(&large);
    return 0;
}
