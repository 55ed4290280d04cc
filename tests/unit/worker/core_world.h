/* A world in memory for the worker's core: every effect is recorded, every answer is given by hand, time moves when the
 * test says so. */
#pragma once
#include "common/base/log.h"
#include "common/base/map.h"
#include "worker/worker_core.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define MAX 64
#define OUTPUT_LIMIT 2000

struct world {
    struct worker_core *core;
    int64_t now_us;
    uint64_t acked[MAX], given_back[MAX], refused[MAX];
    size_t acks, backs, refusals, refused_bytes;
    struct {
        char queue[128], *body;
        struct batch *batch;
    } results[MAX];
    size_t result_count;
    char started[MAX][600];
    size_t started_count, beats;
    char last_beat[4096];
    struct {
        struct job *job;
        char text[256];
    } questions[MAX];
    size_t question_count;
    struct job *begun[MAX];
    int64_t bounds[MAX];
    bool once[MAX];
    size_t begun_count, aborted_count, drained;
    int consuming;
};
extern struct world w; /* of the test that runs */
extern int lane;       /* the name of its consumer */

struct wall_us port_wall(void *ctx);
int setup(void **state);
int teardown(void **state);
void deliver_to(const void *consumer, uint64_t tag, const char *id, const char *call, const char *more,
                bool redelivered);
void deliver(uint64_t tag, const char *id, const char *call, const char *more, bool redelivered);
void called(size_t index, bool ok);
void confirm(size_t index, enum publish_answer answer);
void answer(enum cache_answer kind, const char *value);
void tick_after_ms(int64_t ms);
const char *last_question(void);
bool asked(const char *prefix);
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
