/* The contract of the cache against common/io/cache.c and a Redis; the port as worker/ports.c has it. */
#include "common/base/clock.h"
#include "common/io/cache.h"
#include "tests/contract/cache.h"
#include <stdlib.h>

#include "common/base/banned.h"

static uv_loop_t loop;
static struct cache *cache;
static int flushed;

static void on_tick(uv_timer_t *timer)
{
    uv_stop(timer->loop);
}

void world_turn(void)
{
    uv_timer_t tick;

    uv_timer_init(&loop, &tick);
    uv_timer_start(&tick, on_tick, 2, 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_close((uv_handle_t *)&tick, NULL);
    uv_run(&loop, UV_RUN_NOWAIT);
}

int64_t world_now_us(void)
{
    return clock_mono().us;
}

int cache_group_begin(void **state)
{
    (void)state;
    if (getenv("ROPEWALK_REDIS_URL") == NULL) {
        puts("skipped: ROPEWALK_REDIS_URL is not set");
        exit(77);
    }
    return 0;
}
int cache_group_end(void **state)
{
    (void)state;
    return 0;
}

int cache_world_begin(void **state)
{
    const char *server = getenv("ROPEWALK_REDIS_URL");
    char url[512];

    (void)state;
    /* a database of its own on the server: it is flushed, and others' tests use the first */
    snprintf(url, sizeof(url), "%.*s/9", (int)(strrchr(server, '/') - server), server);
    uv_loop_init(&loop);
    heard = (struct cache_heard){0};
    cache = cache_new(&loop, url, 2000);
    UNTIL(cache_is_up(cache));
    hand_flush();
    return 0;
}

int cache_world_end(void **state)
{
    (void)state;
    cache_free(cache);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    return 0;
}

static void on_answer(void *ctx, enum cache_status status, struct str value)
{
    worker_core_cache_answered(NULL, ctx,
                               status == CACHE_OK    ? CACHE_ANSWER_VALUE
                               : status == CACHE_NIL ? CACHE_ANSWER_NONE
                                                     : CACHE_ANSWER_FAILED,
                               value);
}

void cache_do(struct job *job, size_t argc, const struct str *argv)
{
    cache_command(cache, job == NULL ? NULL : on_answer, job, argc, argv);
}

static void on_flushed(void *ctx, enum cache_status status, struct str value)
{
    (void)ctx;
    (void)value;
    assert_int_equal(status, CACHE_OK);
    flushed++;
}

void hand_flush(void)
{
    int before = flushed;

    cache_command(cache, on_flushed, NULL, 1, (struct str[]){STR("FLUSHDB")});
    UNTIL(flushed == before + 1);
}

void hand_take_away(void)
{
    cache_free(cache);
    cache = cache_new(&loop, "redis://127.0.0.1:1/0", 2000);
}
