/* The cache against a real Redis, and against none. Needs ROPEWALK_REDIS_URL; skipped without. */
#include "common/base/clock.h"
#include "common/base/id.h"
#include "common/io/cache.h"
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static const char *url;

struct fixture {
    uv_loop_t loop;
    struct cache *cache;
    char key[64];
    unsigned answers, ok, nil, error, down;
    char last[256];
};

static void on_answer(void *ctx, enum cache_status status, struct str value)
{
    struct fixture *f = ctx;

    f->answers++;
    f->ok += status == CACHE_OK;
    f->nil += status == CACHE_NIL;
    f->error += status == CACHE_ERROR;
    f->down += status == CACHE_DOWN;
    snprintf(f->last, sizeof(f->last), STR_FMT, STR_ARG(value));
}

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

static void run_until(struct fixture *f, const unsigned *counter, unsigned want, bool up)
{
    int64_t deadline = clock_mono().us + 10 * US_PER_S;
    uv_timer_t tick;

    uv_timer_init(&f->loop, &tick);
    uv_timer_start(&tick, on_tick, 5, 5);
    while ((counter != NULL && *counter < want) || (up && !cache_is_up(f->cache))) {
        if (clock_mono().us > deadline)
            fail_msg("waited 10 s");
        uv_run(&f->loop, UV_RUN_ONCE);
    }
    uv_close((uv_handle_t *)&tick, NULL);
    uv_run(&f->loop, UV_RUN_NOWAIT);
}

static int setup(void **state)
{
    struct fixture *f = mem_alloc(sizeof(*f));
    char token[13];

    random_token(token, 12);
    snprintf(f->key, sizeof(f->key), "test:%s", token);
    uv_loop_init(&f->loop);
    f->cache = cache_new(&f->loop, url, 250);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    cache_free(f->cache);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    mem_free(f);
    return 0;
}

#define COMMAND(f, done, ...)                                                                                          \
    cache_command((f)->cache, (done), (f), sizeof((struct str[]){__VA_ARGS__}) / sizeof(struct str),                   \
                  (struct str[]){__VA_ARGS__})

static void values_come_back_by_kind(void **state)
{
    struct fixture *f = *state;
    struct str key = str_of(f->key), binary = {"a\0b", 3};

    run_until(f, NULL, 0, true);
    COMMAND(f, on_answer, STR("GET"), key);
    run_until(f, &f->answers, 1, false);
    assert_int_equal(f->nil, 1);
    COMMAND(f, NULL, STR("SET"), key, binary, STR("PX"), STR("10000"));
    COMMAND(f, on_answer, STR("STRLEN"), key);
    run_until(f, &f->answers, 2, false);
    assert_string_equal(f->last, "3");
    COMMAND(f, on_answer, STR("SET"), key, STR("x"), STR("NX"));
    run_until(f, &f->answers, 3, false);
    assert_int_equal(f->nil, 2);
    COMMAND(f, on_answer, STR("INCR"), key);
    run_until(f, &f->answers, 4, false);
    assert_int_equal(f->error, 1);
    COMMAND(f, on_answer, STR("DEL"), key);
    run_until(f, &f->answers, 5, false);
    assert_string_equal(f->last, "1");
}

static void thousands_are_pipelined(void **state)
{
    struct fixture *f = *state;
    struct str key = str_of(f->key);
    int64_t begin;

    run_until(f, NULL, 0, true);
    begin = clock_mono().us;
    for (int i = 0; i < 20000; i++)
        COMMAND(f, on_answer, STR("INCR"), key);
    run_until(f, &f->answers, 20000, false);
    assert_string_equal(f->last, "20000");
    print_message("20000 commands in %lld ms\n", (long long)((clock_mono().us - begin) / 1000));
}

static void before_a_connection_stands_the_answer_is_down(void **state)
{
    struct fixture *f = *state;

    COMMAND(f, on_answer, STR("PING"));
    assert_int_equal(f->answers, 0); /* never from inside the call */
    run_until(f, &f->answers, 1, false);
    assert_int_equal(f->down, 1);
    run_until(f, NULL, 0, true);
}

static void a_frozen_server_is_left_after_the_bound(void **state)
{
    struct fixture *f = *state;
    int64_t begin;

    run_until(f, NULL, 0, true);
    COMMAND(f, NULL, STR("CLIENT"), STR("PAUSE"), STR("1500"), STR("ALL"));
    begin = clock_mono().us;
    COMMAND(f, on_answer, STR("GET"), str_of(f->key));
    run_until(f, &f->answers, 1, false);
    assert_int_equal(f->down, 1);
    assert_true(clock_mono().us - begin < 1000 * US_PER_MS);
    assert_false(cache_is_up(f->cache));
    COMMAND(f, on_answer, STR("GET"), str_of(f->key)); /* nothing waits for it now */
    run_until(f, &f->answers, 2, false);
    assert_int_equal(f->down, 2);
    run_until(f, NULL, 0, true); /* by itself, once it answers again */
    COMMAND(f, on_answer, STR("GET"), str_of(f->key));
    run_until(f, &f->answers, 3, false);
    assert_int_equal(f->nil, 1);
}

static void a_killed_connection_is_made_again(void **state)
{
    struct fixture *f = *state;

    run_until(f, NULL, 0, true);
    COMMAND(f, NULL, STR("CLIENT"), STR("KILL"), STR("TYPE"), STR("normal"), STR("SKIPME"), STR("no"));
    COMMAND(f, on_answer, STR("GET"), str_of(f->key));
    run_until(f, &f->answers, 1, false);
    run_until(f, NULL, 0, true);
}

static void nobody_there_and_odd_urls_are_only_down(void **state)
{
    struct fixture *f = *state;
    struct cache *nowhere[] = {
        cache_new(&f->loop, "redis://127.0.0.1:1", 250),
        cache_new(&f->loop, "redis://[::1]:1/3", 250),
        cache_new(&f->loop, "redis://:secret@no-such-host.invalid:99", 250),
        cache_new(&f->loop, "redis://:wrong@127.0.0.1:70000/x", 250),
    };

    for (size_t i = 0; i < 4; i++)
        cache_command(nowhere[i], on_answer, f, 1, (struct str[]){STR("PING")});
    run_until(f, &f->down, 4, false);
    for (size_t i = 0; i < 4; i++)
        cache_free(nowhere[i]);
    uv_run(&f->loop, UV_RUN_NOWAIT);
}

/* A server that answers what is not Redis. */
static void garbage_is_a_lost_connection(void **state)
{
    struct fixture *f = *state;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM, 0), client;
    char garbage_url[64];
    struct cache *cache;

    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(listener, 8), 0);
    getsockname(listener, (struct sockaddr *)&address, &len);
    snprintf(garbage_url, sizeof(garbage_url), "redis://127.0.0.1:%u", ntohs(address.sin_port));
    cache = cache_new(&f->loop, garbage_url, 250);
    for (int i = 0; i < 200 && !cache_is_up(cache); i++) {
        uv_run(&f->loop, UV_RUN_NOWAIT);
        usleep(1000);
        if (i == 50) {
            client = accept(listener, NULL, NULL);
            assert_int_equal(write(client, "HTTP/1.1 400 no\r\n\r\n", 19), 19);
            close(client);
        }
    }
    assert_false(cache_is_up(cache));
    cache_command(cache, on_answer, f, 1, (struct str[]){STR("PING")});
    run_until(f, &f->down, 1, false);
    cache_free(cache);
    uv_run(&f->loop, UV_RUN_NOWAIT);
    close(listener);
}

static void freeing_answers_what_is_in_flight(void **state)
{
    struct fixture *f = *state;

    run_until(f, NULL, 0, true);
    COMMAND(f, on_answer, STR("PING"));
    COMMAND(f, on_answer, STR("PING"));
    cache_free(f->cache);
    assert_int_equal(f->down, 2);
    f->cache = cache_new(&f->loop, url, 250);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(values_come_back_by_kind, setup, teardown),
        cmocka_unit_test_setup_teardown(thousands_are_pipelined, setup, teardown),
        cmocka_unit_test_setup_teardown(before_a_connection_stands_the_answer_is_down, setup, teardown),
        cmocka_unit_test_setup_teardown(a_killed_connection_is_made_again, setup, teardown),
        cmocka_unit_test_setup_teardown(nobody_there_and_odd_urls_are_only_down, setup, teardown),
        cmocka_unit_test_setup_teardown(garbage_is_a_lost_connection, setup, teardown),
        cmocka_unit_test_setup_teardown(freeing_answers_what_is_in_flight, setup, teardown),
        cmocka_unit_test_setup_teardown(a_frozen_server_is_left_after_the_bound, setup, teardown),
    };

    url = getenv("ROPEWALK_REDIS_URL");
    if (url == NULL) {
        puts("skipped: ROPEWALK_REDIS_URL is not set");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
