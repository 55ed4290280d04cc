/* The worker's protocol: tasks, results, grants, cancellations, drains. */
#include "tests/unit/worker/core_world.h"

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

/* A task that may be begun for so many ms from now without asking. */
static void deliver_to_ask(uint64_t tag, const char *id, int64_t ms, const char *more)
{
    char when[WALL_TEXT_SIZE], fields[200];

    wall_format((struct wall_us){port_wall(NULL).us + ms * US_PER_MS}, when);
    snprintf(fields, sizeof(fields), ",\"ask_after\":\"%s\"%s", when, more);
    deliver(tag, id, "http", fields, false);
}

static void grant_ask(const char *id, bool go, int64_t ask)
{
    worker_core_control(
        w.core,
        &(struct control){.kind = CONTROL_GRANT, .task_id = str_of(id), .go = go, .ask = ask, .at = port_wall(NULL)});
}

static void what_has_waited_for_long_begins_only_when_it_still_may(void **state)
{
    (void)state;
    deliver_to_ask(1, "t1", 1000, ""); /* what time it is nobody has told yet */
    assert_int_equal(w.begun_count, 0);
    assert_string_equal(w.started[0], "inbox.1 t1");
    assert_true(asked("SET rw:claim:t1")); /* who has a copy waits */
    grant_ask("t1", true, 1);
    assert_int_equal(w.begun_count, 1);
    deliver_to_ask(2, "t2", 1000, "");
    assert_int_equal(w.begun_count, 2);
    deliver_to_ask(3, "t3", -1, ""); /* late */
    deliver_to_ask(4, "t4", 1000, ",\"publication\":2");
    answer(CACHE_ANSWER_NONE, NULL);
    answer(CACHE_ANSWER_VALUE, "OK");
    assert_int_equal(w.begun_count, 2);
    assert_int_equal(w.started_count, 3);
    grant_ask("t3", false, 1);
    grant_ask("t4", false, 1);
    assert_int_equal(w.acks, 2);
    assert_true(asked("DEL rw:claim:t4"));
    assert_int_equal(w.result_count, 0);
    deliver_to_ask(5, "t3", 1000, ""); /* nor whenever it comes again */
    assert_int_equal(w.acks, 3);
    deliver_to_ask(6, "t6", -1, "");
    tick_after_ms(5100);
    grant_ask("t6", true, 1); /* of the question before */
    assert_int_equal(w.begun_count, 2);
    grant_ask("t6", true, 2);
    assert_int_equal(w.begun_count, 3);
    tick_after_ms(61000);
    deliver_to_ask(7, "t7", 1000, ""); /* clocks drift: after a minute it is asked again */
    assert_int_equal(w.begun_count, 3);
    worker_core_control(w.core, &(struct control){.kind = CONTROL_CANCEL, .task_id = STR("t7")});
    assert_int_equal(w.acks, 4);
}

/* Capacity 4. What waits for an answer begins as soon as that comes, so it has its slot already. */
static void who_asks_has_a_slot(void **state)
{
    char id[8];

    (void)state;
    deliver_to_ask(1, "t1", -1, "");
    deliver(2, "t2", "http", ",\"delivery\":\"at_most_once\"", false);
    for (uint64_t i = 3; i <= 5; i++) {
        snprintf(id, sizeof(id), "t%d", (int)i);
        deliver(i, id, "http", "", false);
    }
    deliver(6, "t6", "http", ",\"delivery\":\"at_most_once\"", false);
    assert_int_equal(w.begun_count, 2); /* t3 and t4 */
    assert_int_equal(w.started_count, 2);
    grant_ask("t1", true, 1);
    assert_int_equal(w.begun_count, 3);
    grant_ask("t2", false, 0);
    worker_core_flush(w.core);
    assert_int_equal(w.begun_count, 4); /* t5 */
    assert_int_equal(w.started_count, 2);
    called(0, true);
    assert_int_equal(w.started_count, 3); /* t6 asks now */
    grant_ask("t6", true, 0);
    assert_int_equal(w.begun_count, 5);
}

static void a_question_that_nobody_answers_leaves_the_task_to_the_next_attempt(void **state)
{
    (void)state;
    deliver_to_ask(1, "t1", -1, "");
    for (int i = 0; i < 12; i++) {
        assert_int_equal(w.result_count, 0);
        tick_after_ms(5100);
    }
    assert_int_equal(w.started_count, 12);
    assert_int_equal(w.begun_count, 0);
    assert_non_null(strstr(w.results[0].body, "\"status\":\"abandoned\""));
    deliver_to_ask(2, "t2", -1, "");
    worker_core_consumer_lost(w.core, &lane); /* it comes again */
    grant_ask("t2", true, 1);
    assert_int_equal(w.begun_count, 0);
    deliver_to_ask(3, "t3", -1, "");
    worker_core_drain(w.core);
    assert_int_equal(w.given_back[0], 3);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_task_is_acknowledged_only_after_its_result_is_confirmed),
        TEST(a_result_that_is_not_taken_is_sent_again),
        TEST(results_for_one_queue_share_a_message),
        TEST(a_failure_carries_all_that_is_known),
        TEST(an_output_over_the_limit_fails_for_good),
        TEST(copies_in_hand_are_acknowledged_together),
        TEST(at_most_once_begins_only_when_granted),
        TEST(a_lost_channel_drops_what_has_not_begun_and_keeps_the_rest),
        TEST(no_more_than_the_capacity_runs_at_once),
        TEST(long_tasks_say_started_beat_and_are_acknowledged_in_time),
        TEST(deadlines_bound_by_the_schedulers_clock),
        TEST(cancel_ends_a_task_wherever_it_is),
        TEST(what_runs_may_finish_within_the_grace_of_a_cancellation),
        TEST(what_is_cancelled_before_it_begins_is_dropped_whenever_it_comes),
        TEST(what_has_waited_for_long_begins_only_when_it_still_may),
        TEST(who_asks_has_a_slot),
        TEST(a_question_that_nobody_answers_leaves_the_task_to_the_next_attempt),
        TEST(a_drain_gives_back_waits_and_then_insists),
        TEST(a_drain_without_a_broker_ends_too),
        TEST(nonsense_is_answered_where_possible_and_else_handed_to_a_scheduler),
        TEST(it_says_that_it_lives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
