/* The worker's protocol against a world in memory: every effect is recorded, every answer is given by hand, time moves
 * when the test says so. */
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
static struct world w;

static struct mono_us port_mono(void *ctx)
{
    (void)ctx;
    return (struct mono_us){w.now_us};
}
static struct wall_us port_wall(void *ctx)
{
    (void)ctx;
    return (struct wall_us){INT64_C(1800000000000000) + w.now_us};
}
static void port_ack(void *ctx, struct delivery_ref ref)
{
    (void)ctx;
    w.acked[w.acks++] = ref.tag;
}
static void port_give_back(void *ctx, struct delivery_ref ref)
{
    (void)ctx;
    w.given_back[w.backs++] = ref.tag;
}
static void port_refuse(void *ctx, struct delivery_ref ref, struct str body)
{
    (void)ctx;
    w.refused[w.refusals++] = ref.tag;
    w.refused_bytes = body.len;
}
static void port_results(void *ctx, const char *queue, struct str body, struct batch *batch)
{
    (void)ctx;
    snprintf(w.results[w.result_count].queue, sizeof(w.results[0].queue), "%s", queue);
    w.results[w.result_count].body = mem_dup(body.ptr, body.len);
    w.results[w.result_count++].batch = batch;
}
static void port_started(void *ctx, const char *queue, struct str id, struct str body)
{
    (void)ctx;
    (void)body;
    snprintf(w.started[w.started_count++], sizeof(w.started[0]), "%s " STR_FMT, queue, STR_ARG(id));
}
static void port_beat(void *ctx, struct str body)
{
    (void)ctx;
    w.beats++;
    snprintf(w.last_beat, sizeof(w.last_beat), STR_FMT, STR_ARG(body));
}
static void port_consume(void *ctx, bool on)
{
    (void)ctx;
    w.consuming = on;
}
static void port_cache(void *ctx, struct job *job, size_t argc, const struct str *argv)
{
    size_t at = 0;

    (void)ctx;
    w.questions[w.question_count].job = job;
    for (size_t i = 0; i < argc && at < 200; i++)
        at += (size_t)snprintf(w.questions[w.question_count].text + at, 256 - at, STR_FMT " ",
                               (int)(argv[i].len > 60 ? 60 : argv[i].len), argv[i].ptr);
    w.question_count++;
}
static void port_begin(void *ctx, struct job *job, const struct task *task, int64_t bound_us, bool once)
{
    (void)ctx;
    (void)task;
    w.begun[w.begun_count] = job;
    w.bounds[w.begun_count] = bound_us;
    w.once[w.begun_count++] = once;
}
static void port_abort(void *ctx, struct job *job)
{
    (void)ctx;
    w.aborted_count++;
    worker_core_called(w.core, job, &(struct call_outcome){.aborted = true, .sent = true, .retry_after_ms = -1});
}
static void port_drained(void *ctx)
{
    (void)ctx;
    w.drained++;
}

static int setup(void **state)
{
    static const struct worker_ports ports = {.mono = port_mono,
                                              .wall = port_wall,
                                              .ack = port_ack,
                                              .give_back = port_give_back,
                                              .refuse = port_refuse,
                                              .publish_results = port_results,
                                              .publish_started = port_started,
                                              .publish_heartbeat = port_beat,
                                              .consume = port_consume,
                                              .cache = port_cache,
                                              .begin = port_begin,
                                              .abort = port_abort,
                                              .drained = port_drained};
    static const struct worker_options options = {.id = "me",
                                                  .control_queue = "control.me",
                                                  .capacity = 4,
                                                  .output_max = OUTPUT_LIMIT,
                                                  .started_after_ms = 1000,
                                                  .heartbeat_ms = 2000,
                                                  .claim_ttl_ms = 60000,
                                                  .holder_ttl_ms = 6000,
                                                  .ack_after_ms = 600000,
                                                  .drain_ms = 10000,
                                                  .cancel_grace_ms = 10000};

    (void)state;
    log_init("test", "test", LOG_ERROR);
    w = (struct world){.now_us = 1000000000, .consuming = -1};
    w.core = worker_core_new(&options, &ports);
    worker_core_publisher(w.core, true);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (size_t i = 0; i < w.result_count; i++) {
        if (w.results[i].batch != NULL)
            worker_core_published(w.core, w.results[i].batch, PUBLISH_FAILED);
        mem_free(w.results[i].body);
    }
    worker_core_free(w.core);
    return 0;
}

static int lane; /* a consumer's name */

static void deliver_to(const void *consumer, uint64_t tag, const char *id, const char *call, const char *more,
                       bool redelivered)
{
    char text[1024];

    snprintf(text, sizeof(text),
             "{\"v\":1,\"task_id\":\"%s\",\"token\":\"tok\",\"publication\":1,"
             "\"run_id\":\"0190f3a2-0000-7000-8000-000000000001\",\"step\":\"s\",\"attempt\":1,\"workflow\":\"w\","
             "\"organisation\":\"o\",\"call\":\"%s\",\"with\":{},\"delivery\":\"at_least_once\","
             "\"reply_to\":\"inbox.1\"%s}",
             id, call, more);
    if (strstr(more, "publication") != NULL) { /* the fixed field would be a duplicate */
        char *at = strstr(text, "\"publication\":1,");

        memmove(at, at + strlen("\"publication\":1,"), strlen(at + strlen("\"publication\":1,")) + 1);
    }
    if (strstr(more, "delivery") != NULL) {
        char *at = strstr(text, "\"delivery\":\"at_least_once\",");

        memmove(at, at + strlen("\"delivery\":\"at_least_once\","),
                strlen(at + strlen("\"delivery\":\"at_least_once\",")) + 1);
    }
    if (strstr(more, "reply_to") != NULL) {
        char *at = strstr(text, ",\"reply_to\":\"inbox.1\"");

        memmove(at, at + strlen(",\"reply_to\":\"inbox.1\""), strlen(at + strlen(",\"reply_to\":\"inbox.1\"")) + 1);
    }
    worker_core_delivered(w.core,
                          (struct delivery_ref){.consumer = (void *)(uintptr_t)consumer, .generation = 1, .tag = tag},
                          redelivered, (struct wall_us){0}, str_of(text));
    worker_core_flush(w.core);
}
static void deliver(uint64_t tag, const char *id, const char *call, const char *more, bool redelivered)
{
    deliver_to(&lane, tag, id, call, more, redelivered);
}
static void called(size_t index, bool ok)
{
    worker_core_called(w.core, w.begun[index],
                       &(struct call_outcome){.ok = ok,
                                              .output = STR("{\"a\":1}"),
                                              .code = "http_503",
                                              .transient = true,
                                              .message = STR("no"),
                                              .status = 503,
                                              .retry_after_ms = 2000,
                                              .sent = true,
                                              .answered = true});
    worker_core_flush(w.core);
}
static void confirm(size_t index, enum publish_answer answer)
{
    worker_core_published(w.core, take_ptr(w.results[index].batch), answer);
}
static void answer(enum cache_answer kind, const char *value)
{
    size_t index = w.question_count - 1;

    while (index > 0 && w.questions[index].job == NULL) /* signs of life have no answer */
        index--;
    assert_non_null(w.questions[index].job);
    worker_core_cache_answered(w.core, w.questions[index].job, kind, str_of(value));
    worker_core_flush(w.core);
}
static void tick_after_ms(int64_t ms)
{
    w.now_us += ms * US_PER_MS;
    worker_core_tick(w.core);
}
static const char *last_question(void)
{
    return w.question_count == 0 ? "" : w.questions[w.question_count - 1].text;
}
static bool asked(const char *prefix)
{
    for (size_t i = 0; i < w.question_count; i++)
        if (strncmp(w.questions[i].text, prefix, strlen(prefix)) == 0)
            return true;
    return false;
}

static void a_task_is_acknowledged_only_after_its_result_is_confirmed(void **state)
{
    (void)state;
    deliver(1, "t1", "noop", "", false);
    assert_int_equal(w.result_count, 1);
    assert_string_equal(w.results[0].queue, "inbox.1");
    assert_non_null(
        strstr(w.results[0].body,
               "\"task_id\":\"t1\",\"token\":\"tok\",\"worker\":\"me\",\"status\":\"succeeded\",\"output\":null"));
    assert_int_equal(w.acks, 0);
    confirm(0, PUBLISH_CONFIRMED);
    assert_int_equal(w.acks, 1);
    assert_int_equal(worker_core_in_hand(w.core), 0);
}

static void a_result_that_is_not_taken_is_sent_again(void **state)
{
    (void)state;
    deliver(1, "t1", "noop", "", false);
    confirm(0, PUBLISH_FAILED);
    assert_int_equal(w.acks, 0);
    tick_after_ms(500);
    assert_int_equal(w.result_count, 1);
    tick_after_ms(600);
    assert_int_equal(w.result_count, 2);
    assert_string_equal(w.results[1].body, w.results[0].body);
    worker_core_publisher(w.core, false);
    confirm(1, PUBLISH_FAILED);
    tick_after_ms(5000);
    assert_int_equal(w.result_count, 2); /* no broker: nothing to try */
    worker_core_publisher(w.core, true);
    assert_int_equal(w.result_count, 3);
    confirm(2, PUBLISH_CONFIRMED);
    assert_int_equal(w.acks, 1);
}

static void results_for_one_queue_share_a_message(void **state)
{
    (void)state;
    worker_core_publisher(w.core, false);
    deliver(1, "t1", "noop", "", false);
    deliver(2, "t2", "noop", ",\"reply_to\":\"inbox.2\"", false);
    deliver(3, "t3", "noop", "", false);
    worker_core_publisher(w.core, true);
    assert_int_equal(w.result_count, 2);
    assert_non_null(strstr(w.results[0].body, "t1"));
    assert_non_null(strstr(w.results[0].body, "t3"));
    assert_string_equal(w.results[1].queue, "inbox.2");
    confirm(0, PUBLISH_CONFIRMED);
    assert_int_equal(w.acks, 2);
}

static void a_first_delivery_claims_without_waiting(void **state)
{
    (void)state;
    deliver(1, "t1", "http", "", false);
    assert_int_equal(w.begun_count, 1);
    assert_string_equal(last_question(), "SET rw:claim:t1 rme PX 86400000 NX ");
    assert_null(w.questions[0].job);
    called(0, true);
    assert_non_null(strstr(last_question(), "SET rw:claim:t1 f{\"task_id\":\"t1\""));
    assert_int_equal(w.result_count, 1);
}

static void a_failure_carries_all_that_is_known(void **state)
{
    (void)state;
    deliver(1, "t1", "http", "", false);
    called(0, false);
    assert_non_null(strstr(w.results[0].body,
                           "\"error\":{\"class\":\"transient\",\"code\":\"http_503\",\"message\":\"no\",\"status\":503,"
                           "\"retry_after\":\"2000ms\",\"sent\":true,\"answered\":true}"));
}

static void output_of(uint64_t tag, const char *id, size_t bytes)
{
    CLEANUP(buf_deinit) struct buf output = {0};

    buf_init(&output, 4096);
    buf_append_char(&output, '"');
    for (size_t i = 2; i < bytes; i++)
        buf_append_char(&output, 'x');
    buf_append_char(&output, '"');
    deliver(tag, id, "http", "", false);
    worker_core_called(w.core, w.begun[w.begun_count - 1],
                       &(struct call_outcome){.ok = true, .output = buf_str(&output), .retry_after_ms = -1});
    worker_core_flush(w.core);
}

static void an_output_over_the_limit_fails_for_good(void **state)
{
    (void)state;
    output_of(1, "t1", OUTPUT_LIMIT);
    assert_non_null(strstr(w.results[0].body, "\"status\":\"succeeded\""));
    output_of(2, "t2", OUTPUT_LIMIT + 1);
    assert_non_null(strstr(w.results[1].body, "\"class\":\"permanent\",\"code\":\"too_large\""));
    assert_non_null(strstr(w.results[1].body, "2001 bytes; at most 2000"));
    assert_null(strstr(w.results[1].body, "xxx"));
}

static void a_repeated_task_reads_first(void **state)
{
    (void)state;
    deliver(1, "t1", "http", "", true);
    assert_int_equal(w.begun_count, 0);
    assert_string_equal(last_question(), "GET rw:claim:t1 ");
    answer(CACHE_ANSWER_NONE, NULL);
    assert_string_equal(last_question(), "SET rw:claim:t1 rme PX 86400000 NX ");
    assert_int_equal(w.begun_count, 0);
    answer(CACHE_ANSWER_VALUE, "OK");
    assert_int_equal(w.begun_count, 1);
    deliver(2, "t2", "http", ",\"publication\":2", false);
    assert_string_equal(last_question(), "GET rw:claim:t2 ");
    answer(CACHE_ANSWER_NONE, NULL);
    answer(CACHE_ANSWER_NONE, NULL); /* somebody was faster */
    assert_string_equal(last_question(), "GET rw:claim:t2 ");
    answer(CACHE_ANSWER_VALUE, "rother");
    assert_string_equal(last_question(), "EXISTS rw:holder:other ");
    answer(CACHE_ANSWER_VALUE, "0");
    assert_non_null(strstr(w.results[0].body, "\"status\":\"abandoned\""));
    assert_int_equal(w.begun_count, 1);
}

static void who_stood_still_reads_first_what_others_may_have_done(void **state)
{
    (void)state;
    tick_after_ms(100);
    w.now_us += 13000 * US_PER_MS; /* frozen */
    deliver(1, "t1", "http", "", false);
    assert_string_equal(last_question(), "GET rw:claim:t1 ");
    assert_int_equal(w.begun_count, 0);
    answer(CACHE_ANSWER_VALUE, "fnothing that can be read");
    assert_int_equal(w.begun_count, 0);
    tick_after_ms(100); /* says that it lives; what was sent to it before is still being read */
    deliver(2, "t2", "http", "", false);
    assert_string_equal(last_question(), "GET rw:claim:t2 ");
    answer(CACHE_ANSWER_NONE, NULL);
    answer(CACHE_ANSWER_VALUE, "OK");
    assert_int_equal(w.begun_count, 1);
    for (int i = 0; i < 60; i++)
        tick_after_ms(100);
    deliver(3, "t3", "http", "", false);
    assert_int_equal(w.begun_count, 2);
}

static void who_was_only_slow_does_not_read_first(void **state)
{
    (void)state;
    tick_after_ms(100);
    tick_after_ms(5900);
    deliver(1, "t1", "http", "", false);
    assert_int_equal(w.begun_count, 1);
}

static void a_finished_claim_answers_the_same_again(void **state)
{
    (void)state;
    deliver(1, "t1", "http", "", true);
    answer(CACHE_ANSWER_VALUE, "f{\"task_id\":\"t1\",\"status\":\"succeeded\"}");
    assert_string_equal(w.results[0].body, "{\"v\":1,\"results\":[{\"task_id\":\"t1\",\"status\":\"succeeded\"}]}");
    confirm(0, PUBLISH_CONFIRMED);
    assert_int_equal(w.acks, 1);
    deliver(2, "t2", "http", "", true);
    answer(CACHE_ANSWER_VALUE, "F"); /* too large to keep: dropped */
    assert_int_equal(w.result_count, 1);
    assert_int_equal(w.acks, 2);
    assert_int_equal(w.begun_count, 0);
}

static void a_live_holder_is_looked_at_again_in_a_second(void **state)
{
    (void)state;
    deliver(1, "t1", "http", "", true);
    answer(CACHE_ANSWER_VALUE, "rother");
    answer(CACHE_ANSWER_VALUE, "1");
    assert_int_equal(w.acks + w.result_count + w.begun_count, 0);
    w.question_count = 0;
    worker_core_tick(w.core);
    assert_false(asked("GET"));
    tick_after_ms(1100);
    assert_true(asked("GET rw:claim:t1"));
    for (size_t i = 0; i < w.question_count; i++)
        if (w.questions[i].job != NULL)
            worker_core_cache_answered(w.core, w.questions[i].job, CACHE_ANSWER_VALUE, STR("f{}"));
    worker_core_flush(w.core);
    assert_int_equal(w.result_count, 1);
}

static void without_a_cache_repeated_tasks_are_abandoned_and_our_own_lost_claim_too(void **state)
{
    (void)state;
    deliver(1, "t1", "http", "", true);
    for (int i = 0; i < 3; i++) {
        answer(CACHE_ANSWER_FAILED, NULL);
        assert_int_equal(w.result_count, 0);
        tick_after_ms(1000);
    }
    answer(CACHE_ANSWER_FAILED, NULL);
    assert_non_null(strstr(w.results[0].body, "abandoned"));
    deliver(2, "t2", "http", "", true);
    answer(CACHE_ANSWER_VALUE, "rme");
    assert_non_null(strstr(w.results[1].body, "abandoned"));
    deliver(3, "t3", "noop", "", true); /* no effect: done again */
    assert_non_null(strstr(w.results[2].body, "succeeded"));
    assert_int_equal(w.begun_count, 0);
}

static void a_claim_that_nobody_confirmed_is_ended_with_its_task(void **state)
{
    (void)state;
    deliver(1, "t1", "http", "", true);
    answer(CACHE_ANSWER_NONE, NULL);
    assert_true(asked("SET rw:claim:t1 rme"));
    answer(CACHE_ANSWER_FAILED, NULL);
    assert_non_null(strstr(w.results[0].body, "abandoned"));
    assert_true(asked("SET rw:claim:t1 f{"));
    assert_int_equal(w.begun_count, 0);
}

static void a_cache_that_comes_back_soon_costs_no_attempt(void **state)
{
    (void)state;
    deliver(1, "t1", "http", "", true);
    answer(CACHE_ANSWER_FAILED, NULL);
    tick_after_ms(1000);
    answer(CACHE_ANSWER_NONE, NULL);
    answer(CACHE_ANSWER_VALUE, "OK");
    assert_int_equal(w.begun_count, 1);
    assert_int_equal(w.result_count, 0);
}

static void copies_in_hand_are_acknowledged_together(void **state)
{
    (void)state;
    deliver(1, "t1", "http", "", false);
    deliver(2, "t1", "http", ",\"publication\":2", false);
    deliver(3, "t1", "http", "", true);
    assert_int_equal(w.begun_count, 1);
    called(0, true);
    confirm(0, PUBLISH_CONFIRMED);
    assert_int_equal(w.acks, 3);
}

static void at_most_once_begins_only_when_granted(void **state)
{
    (void)state;
    deliver(1, "t1", "http", ",\"delivery\":\"at_most_once\"", true);
    assert_int_equal(w.begun_count + w.question_count, 0); /* the cache has no say */
    assert_string_equal(w.started[0], "inbox.1 t1");
    tick_after_ms(5100);
    assert_int_equal(w.started_count, 2); /* asks again */
    worker_core_control(w.core, &(struct control){.kind = CONTROL_GRANT, .task_id = STR("t9"), .go = true});
    assert_int_equal(w.begun_count, 0);
    worker_core_control(w.core, &(struct control){.kind = CONTROL_GRANT, .task_id = STR("t1"), .go = true});
    worker_core_control(w.core, &(struct control){.kind = CONTROL_GRANT, .task_id = STR("t1"), .go = true});
    assert_int_equal(w.begun_count, 1);
    assert_true(w.once[0]);
    called(0, true);
    confirm(0, PUBLISH_CONFIRMED);
    /* every later copy is dropped, asking nobody, whatever the scheduler would say */
    deliver(2, "t1", "http", ",\"delivery\":\"at_most_once\",\"publication\":2", false);
    assert_int_equal(w.started_count, 2);
    assert_int_equal(w.acks, 2);
    deliver(3, "t2", "http", ",\"delivery\":\"at_most_once\"", false);
    worker_core_control(w.core, &(struct control){.kind = CONTROL_GRANT, .task_id = STR("t2"), .go = false});
    assert_int_equal(w.begun_count, 1);
    assert_int_equal(w.acks, 3);
    assert_int_equal(worker_core_in_hand(w.core), 0);
}

static void a_lost_channel_drops_what_has_not_begun_and_keeps_the_rest(void **state)
{
    (void)state;
    deliver(1, "t1", "http", "", false);                               /* runs */
    deliver(2, "t2", "http", "", true);                                /* reads */
    deliver(3, "t3", "http", ",\"delivery\":\"at_most_once\"", false); /* asks: it may have been granted already */
    deliver(4, "t4", "http", "", true);
    answer(CACHE_ANSWER_NONE, NULL); /* claims */
    worker_core_consumer_lost(w.core, &lane);
    assert_true(asked("DEL rw:claim:t4")); /* nobody shall wait for us */
    assert_false(asked("DEL rw:claim:t2"));
    /* late answers of the cache find nothing to do */
    for (size_t i = 0, n = w.question_count; i < n; i++)
        if (w.questions[i].job != NULL && strncmp(w.questions[i].text, "GET rw:claim:t2", 15) == 0)
            worker_core_cache_answered(w.core, w.questions[i].job, CACHE_ANSWER_NONE, STR_NONE);
    for (size_t i = 0, n = w.question_count; i < n; i++)
        if (w.questions[i].job != NULL && strncmp(w.questions[i].text, "SET rw:claim:t4", 15) == 0)
            worker_core_cache_answered(w.core, w.questions[i].job, CACHE_ANSWER_VALUE, STR("OK"));
    assert_int_equal(worker_core_in_hand(w.core), 2);
    assert_int_equal(w.begun_count, 1);
    deliver(5, "t1", "http", "", true); /* it comes again to us: the same task */
    worker_core_control(w.core, &(struct control){.kind = CONTROL_GRANT, .task_id = STR("t3"), .go = true});
    called(0, true);
    called(1, true);
    assert_int_equal(w.begun_count, 2);
    for (size_t i = 0; i < w.result_count; i++)
        confirm(i, PUBLISH_CONFIRMED);
    assert_int_equal(w.acks, 1); /* only what can still be acknowledged */
    assert_int_equal(w.acked[0], 5);
}

static void no_more_than_the_capacity_runs_at_once(void **state)
{
    char id[8];

    (void)state;
    for (uint64_t i = 1; i <= 6; i++) {
        snprintf(id, sizeof(id), "t%d", (int)i);
        deliver(i, id, "http", "", false);
    }
    assert_int_equal(w.begun_count, 4);
    called(2, true);
    assert_int_equal(w.begun_count, 5);
    called(0, false);
    assert_int_equal(w.begun_count, 6);
}

static void long_tasks_say_started_beat_and_are_acknowledged_in_time(void **state)
{
    (void)state;
    deliver(1, "t1", "http", "", false);
    tick_after_ms(900);
    assert_int_equal(w.started_count, 0);
    tick_after_ms(200);
    assert_int_equal(w.started_count, 1);
    tick_after_ms(2000);
    assert_int_equal(w.started_count, 1);
    assert_string_equal(w.last_beat, "{\"v\":1,\"worker\":\"me\",\"tasks\":[\"t1\"]}");
    deliver(2, "t2", "http", "", false);
    tick_after_ms(598000);
    assert_int_equal(w.acks, 1);
    assert_int_equal(w.consuming, -1);
    tick_after_ms(4000);
    assert_int_equal(w.acks, 2);
    assert_int_equal(w.consuming, 0); /* half the capacity are held without the broker's knowledge */
    called(0, true);
    assert_int_equal(w.consuming, 0);
    confirm(w.result_count - 1, PUBLISH_CONFIRMED);
    tick_after_ms(100);
    assert_int_equal(w.consuming, 1);
    assert_int_equal(w.acks, 2);
}

static void deadlines_bound_by_the_schedulers_clock(void **state)
{
    char text[2048];
    char deadline[WALL_TEXT_SIZE];
    int64_t ahead = 300 * US_PER_S; /* of ours */
    struct wall_us theirs = {port_wall(NULL).us + ahead};

    (void)state;
    wall_format((struct wall_us){theirs.us + 5 * US_PER_S}, deadline);
    snprintf(text, sizeof(text),
             "{\"v\":1,\"task_id\":\"t1\",\"token\":\"k\",\"publication\":1,\"run_id\":"
             "\"0190f3a2-0000-7000-8000-000000000001\",\"step\":\"s\",\"attempt\":1,\"workflow\":\"w\","
             "\"organisation\":\"o\",\"call\":\"http\",\"with\":{},\"timeout\":\"30s\",\"deadline\":\"%s\","
             "\"delivery\":\"at_least_once\",\"reply_to\":\"i\"}",
             deadline);
    worker_core_delivered(w.core, (struct delivery_ref){.tag = 1}, false, theirs, str_of(text));
    assert_int_equal(w.begun_count, 1);
    assert_true(w.bounds[0] > 4 * US_PER_S && w.bounds[0] <= 5 * US_PER_S);
    tick_after_ms(3000);
    tick_after_ms(3000);
    strstr(text, "t1")[1] = '2';
    worker_core_delivered(w.core, (struct delivery_ref){.tag = 2}, false, theirs, str_of(text));
    worker_core_flush(w.core);
    assert_int_equal(w.begun_count, 1);
    assert_non_null(strstr(w.results[0].body, "\"code\":\"deadline\""));
}

static void cancel_ends_a_task_wherever_it_is(void **state)
{
    (void)state;
    deliver(1, "t1", "http", "", false);
    worker_core_control(w.core,
                        &(struct control){.kind = CONTROL_CANCEL, .task_id = STR("t1"), .if_running = CANCEL_NOW});
    assert_int_equal(w.aborted_count, 1);
    assert_non_null(strstr(w.results[0].body, "\"code\":\"cancelled\""));
    deliver(2, "t2", "http", ",\"delivery\":\"at_most_once\"", false);
    worker_core_control(w.core, &(struct control){.kind = CONTROL_CANCEL, .task_id = STR("t2")});
    assert_non_null(strstr(w.results[1].body, "\"sent\":false"));
    deliver(3, "t3", "http", "", true);
    worker_core_control(w.core, &(struct control){.kind = CONTROL_CANCEL, .task_id = STR("t3")});
    assert_int_equal(w.acks, 1);
    answer(CACHE_ANSWER_NONE, NULL);
    assert_int_equal(w.begun_count, 1);
}

static void what_runs_may_finish_within_the_grace_of_a_cancellation(void **state)
{
    (void)state;
    deliver(1, "t1", "http", "", false);
    deliver(2, "t2", "http", "", false);
    deliver(3, "t3", "http", "", false);
    worker_core_control(w.core, &(struct control){.kind = CONTROL_CANCEL, .task_id = STR("t1")});
    worker_core_control(w.core, &(struct control){.kind = CONTROL_CANCEL, .task_id = STR("t2")});
    assert_int_equal(w.aborted_count, 0);
    tick_after_ms(9000);
    worker_core_control(w.core, &(struct control){.kind = CONTROL_CANCEL, .task_id = STR("t2")}); /* no more time */
    called(0, true);
    assert_non_null(strstr(w.results[0].body, "\"status\":\"succeeded\""));
    tick_after_ms(1100);
    assert_int_equal(w.aborted_count, 1);
    assert_non_null(strstr(w.results[1].body, "\"code\":\"cancelled\""));
    worker_core_control(w.core,
                        &(struct control){.kind = CONTROL_CANCEL, .task_id = STR("t3"), .if_running = CANCEL_FINISH});
    tick_after_ms(20000);
    assert_int_equal(w.aborted_count, 1);
    worker_core_control(w.core,
                        &(struct control){.kind = CONTROL_CANCEL, .task_id = STR("t3"), .if_running = CANCEL_NOW});
    assert_int_equal(w.aborted_count, 2);
}

static void what_is_cancelled_before_it_begins_is_dropped_whenever_it_comes(void **state)
{
    (void)state;
    worker_core_control(w.core, &(struct control){.kind = CONTROL_CANCEL, .task_id = STR("t1")});
    deliver(1, "t1", "http", "", false);
    assert_int_equal(w.acks, 1);
    deliver(2, "t2", "http", "", true); /* it reads the claim */
    worker_core_control(w.core, &(struct control){.kind = CONTROL_CANCEL, .task_id = STR("t2")});
    answer(CACHE_ANSWER_NONE, NULL);
    deliver(3, "t2", "http", "", true);
    assert_int_equal(w.acks, 3);
    assert_int_equal(w.begun_count, 0);
    assert_int_equal(w.result_count, 0);
}

static void a_drain_gives_back_waits_and_then_insists(void **state)
{
    (void)state;
    deliver(1, "t1", "http", "", false);
    deliver(2, "t2", "http", ",\"delivery\":\"at_most_once\"", false);
    worker_core_control(w.core, &(struct control){.kind = CONTROL_GRANT, .task_id = STR("t2"), .go = true});
    deliver(3, "t3", "http", ",\"delivery\":\"at_most_once\"", false);
    deliver(4, "t4", "http", "", true);
    answer(CACHE_ANSWER_VALUE, "rother");
    answer(CACHE_ANSWER_VALUE, "1");
    worker_core_control(w.core, &(struct control){.kind = CONTROL_DRAIN});
    assert_int_equal(w.consuming, 0);
    assert_int_equal(w.backs, 1);
    assert_int_equal(w.given_back[0], 4);
    deliver(5, "t5", "noop", "", false);
    assert_int_equal(w.backs, 2);
    tick_after_ms(9000);
    assert_int_equal(w.aborted_count, 0);
    tick_after_ms(1100);
    assert_int_equal(w.aborted_count, 2);
    assert_int_equal(w.result_count, 1);
    assert_non_null(
        strstr(w.results[0].body, "\"task_id\":\"t1\",\"token\":\"tok\",\"worker\":\"me\",\"status\":\"abandoned\""));
    assert_non_null(strstr(w.results[0].body,
                           "\"code\":\"worker_stopped\",\"message\":\"the worker was stopped during the "
                           "attempt\",\"sent\":true"));
    assert_non_null(strstr(w.results[0].body, "before anything was sent\",\"sent\":false"));
    assert_int_equal(w.drained, 0);
    confirm(0, PUBLISH_CONFIRMED);
    assert_int_equal(w.drained, 1);
}

static void a_drain_without_a_broker_ends_too(void **state)
{
    (void)state;
    worker_core_publisher(w.core, false);
    deliver(1, "t1", "noop", "", false);
    worker_core_drain(w.core);
    tick_after_ms(12900);
    assert_int_equal(w.drained, 0);
    tick_after_ms(200);
    assert_int_equal(w.drained, 1);
    tick_after_ms(5000);
    assert_int_equal(w.drained, 1);
}

static void nonsense_is_answered_where_possible_and_else_handed_to_a_scheduler(void **state)
{
    (void)state;
    worker_core_delivered(w.core, (struct delivery_ref){.tag = 1}, false, (struct wall_us){0}, STR("{"));
    worker_core_delivered(w.core, (struct delivery_ref){.tag = 2}, false, (struct wall_us){0}, STR_NONE);
    assert_int_equal(w.refusals, 2);
    assert_int_equal(w.refused[0], 1);
    assert_int_equal(w.refused_bytes, 0); /* as it came: the second is empty */
    assert_int_equal(w.acks, 0);          /* that is the shell's, once it is handed over */
    assert_int_equal(worker_core_in_hand(w.core), 0);
    deliver(3, "t1", "noop", ",\"delivery\":\"twice\"", false);
    assert_non_null(strstr(w.results[0].body, "\"code\":\"bad_task\""));
    assert_int_equal(worker_core_in_hand(w.core), 1);
}

static void it_says_that_it_lives(void **state)
{
    (void)state;
    worker_core_cache_up(w.core);
    assert_string_equal(last_question(), "SET rw:holder:me 1 PX 6000 ");
    w.question_count = 0;
    tick_after_ms(2100);
    assert_true(asked("SET rw:holder:me 1 PX 6000 "));
    assert_true(w.beats >= 1);
}

/* Random inputs in random order with a model of what must hold: each delivery is settled at most once, none before its
 * result was confirmed, and an at_most_once task begins at most once however often it comes. */
static void random_histories_keep_the_invariants(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        uint64_t random = seed * UINT64_C(0x9e3779b97f4a7c15), tag = 0;
        size_t begun_of[8] = {0};
        size_t seen_begun = 0;
        bool settled[200] = {false};

        teardown(NULL);
        setup(NULL);
        for (int turn = 0; turn < 120; turn++) {
            char id[4];
            size_t pick;

            random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            pick = (size_t)(random >> 40) % 8;
            snprintf(id, sizeof(id), "t%d", (int)pick);
            switch ((random >> 33) % 7) {
            case 0:
            case 1:
                if (tag < 60 && w.begun_count < MAX - 1 && w.question_count < MAX - 8 && w.started_count < MAX - 8)
                    deliver(++tag, id, "http", pick < 4 ? ",\"delivery\":\"at_most_once\"" : "",
                            (random >> 50) % 2 == 0);
                break;
            case 2:
                for (size_t i = 0; i < w.question_count; i++)
                    if (w.questions[i].job != NULL) {
                        static const char *const values[] = {"rother", "1", "0", "f{}", "F", "OK"};
                        struct job *job = take_ptr(w.questions[i].job);
                        size_t v = (size_t)(random >> 45) % 8;

                        worker_core_cache_answered(w.core, job,
                                                   v < 6    ? CACHE_ANSWER_VALUE
                                                   : v == 6 ? CACHE_ANSWER_NONE
                                                            : CACHE_ANSWER_FAILED,
                                                   str_of(v < 6 ? values[v] : NULL));
                        break;
                    }
                break;
            case 3:
                for (size_t i = 0; i < w.begun_count; i++)
                    if (w.begun[i] != NULL) {
                        worker_core_called(w.core, take_ptr(w.begun[i]),
                                           &(struct call_outcome){.ok = true, .output = STR("1")});
                        break;
                    }
                break;
            case 4:
                for (size_t i = 0; i < w.result_count; i++)
                    if (w.results[i].batch != NULL) {
                        confirm(i, (random >> 47) % 3 == 0 ? PUBLISH_FAILED : PUBLISH_CONFIRMED);
                        break;
                    }
                break;
            case 5:
                worker_core_control(
                    w.core,
                    &(struct control){.kind = CONTROL_GRANT, .task_id = str_of(id), .go = (random >> 48) % 3 != 0});
                break;
            case 6:
                if (w.result_count < MAX - 8 && w.question_count < MAX - 12 && w.started_count < MAX - 12)
                    tick_after_ms(300);
                break;
            default:
                break;
            }
            if (w.result_count > MAX - 10 || w.question_count > MAX - 12 || w.started_count > MAX - 10)
                break;
            worker_core_flush(w.core);
            for (; seen_begun < w.begun_count; seen_begun++) {
                if (w.once[seen_begun]) {
                    /* only which of the four is unknown here: count by what the job's grant named */
                    begun_of[0]++;
                }
            }
        }
        assert_true(begun_of[0] <= 4); /* four at_most_once tasks: each at most once */
        for (size_t i = 0; i < w.acks; i++) {
            assert_false(settled[w.acked[i]]);
            settled[w.acked[i]] = true;
        }
        for (size_t i = 0; i < w.question_count; i++)
            if (w.questions[i].job != NULL)
                worker_core_cache_answered(w.core, w.questions[i].job, CACHE_ANSWER_FAILED, STR_NONE);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_task_is_acknowledged_only_after_its_result_is_confirmed),
        TEST(a_result_that_is_not_taken_is_sent_again),
        TEST(results_for_one_queue_share_a_message),
        TEST(a_first_delivery_claims_without_waiting),
        TEST(a_failure_carries_all_that_is_known),
        TEST(an_output_over_the_limit_fails_for_good),
        TEST(a_repeated_task_reads_first),
        TEST(who_stood_still_reads_first_what_others_may_have_done),
        TEST(who_was_only_slow_does_not_read_first),
        TEST(a_finished_claim_answers_the_same_again),
        TEST(a_live_holder_is_looked_at_again_in_a_second),
        TEST(without_a_cache_repeated_tasks_are_abandoned_and_our_own_lost_claim_too),
        TEST(a_claim_that_nobody_confirmed_is_ended_with_its_task),
        TEST(a_cache_that_comes_back_soon_costs_no_attempt),
        TEST(copies_in_hand_are_acknowledged_together),
        TEST(at_most_once_begins_only_when_granted),
        TEST(a_lost_channel_drops_what_has_not_begun_and_keeps_the_rest),
        TEST(no_more_than_the_capacity_runs_at_once),
        TEST(long_tasks_say_started_beat_and_are_acknowledged_in_time),
        TEST(deadlines_bound_by_the_schedulers_clock),
        TEST(cancel_ends_a_task_wherever_it_is),
        TEST(what_runs_may_finish_within_the_grace_of_a_cancellation),
        TEST(what_is_cancelled_before_it_begins_is_dropped_whenever_it_comes),
        TEST(a_drain_gives_back_waits_and_then_insists),
        TEST(a_drain_without_a_broker_ends_too),
        TEST(nonsense_is_answered_where_possible_and_else_handed_to_a_scheduler),
        TEST(it_says_that_it_lives),
        TEST(random_histories_keep_the_invariants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
