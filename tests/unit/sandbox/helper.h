/* A sandbox on a loop of its own, and requests that remember their answers. */
#pragma once
#include "common/expr/sandbox.h"
#include "common/expr/sandbox_child.h"
#include "tests/unit/base/test.h"

struct bench {
    uv_loop_t loop;
    struct sandbox *sandbox;
    int fds_before;
    unsigned waiting;
    unsigned order; /* of answers */
};
void bench_init(struct bench *b, unsigned children, const struct sandbox_limits *limits);
void bench_deinit(struct bench *b); /* and checks that no descriptor and no process is left */

struct asked {
    struct bench *bench;
    const char *source;
    bool done;
    unsigned order;
    enum sandbox_status status;
    char text[4096]; /* value or message */
    double asked_ms, took_ms;
};
void ask(struct bench *b, struct asked *a, int32_t organisation, const char *source, const char *document);
void ask_check(struct bench *b, struct asked *a, const char *source);
void wait_for(struct bench *b, struct asked *a);
void wait_for_all(struct bench *b);
/* Turns the loop until a child is ready to answer in every shared place. */
void warm_up(struct bench *b, unsigned children);

double now_ms(void);
/* Processes of this one that are alive; up to `max` ids. */
unsigned child_pids(int *ret, unsigned max);
unsigned open_fds(int pid); /* 0: this process */

/* main() of a test program that has a sandbox. */
#define RUN_WITH_CHILDREN(...)                                                                                         \
    int main(int argc, char **argv)                                                                                    \
    {                                                                                                                  \
        const struct CMUnitTest tests[] = {__VA_ARGS__};                                                               \
                                                                                                                       \
        sandbox_child_main_if_asked(argc, argv);                                                                       \
        return cmocka_run_group_tests(tests, NULL, NULL);                                                              \
    }
