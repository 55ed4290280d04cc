/* What the worker asks the cache before it does a task, and what it makes of the answers. */
#include "tests/unit/worker/core_world.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_first_delivery_claims_without_waiting),
        TEST(a_repeated_task_reads_first),
        TEST(who_stood_still_reads_first_what_others_may_have_done),
        TEST(who_was_only_slow_does_not_read_first),
        TEST(a_finished_claim_answers_the_same_again),
        TEST(a_live_holder_is_looked_at_again_in_a_second),
        TEST(without_a_cache_repeated_tasks_are_abandoned_and_our_own_lost_claim_too),
        TEST(a_claim_that_nobody_confirmed_is_ended_with_its_task),
        TEST(a_cache_that_comes_back_soon_costs_no_attempt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
