/* Redis as the worker's core has it: the port `cache` and its answers. */
#pragma once
#include "tests/contract/contract.h"
#include "worker/worker_core.h"

int cache_group_begin(void **state);
int cache_group_end(void **state);
int cache_world_begin(void **state); /* connected, and empty */
int cache_world_end(void **state);

void cache_do(struct job *job, size_t argc, const struct str *argv); /* the port */
void hand_flush(void);
void hand_take_away(void); /* there is no Redis any more */

#define ANSWERS_MAX 64
struct cache_heard {
    int count;
    struct {
        const struct job *job;
        enum cache_answer answer;
        char value[256];
        size_t len;
    } answers[ANSWERS_MAX];
};
extern struct cache_heard heard;
