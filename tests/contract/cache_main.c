/* The contract of the cache: what claims of tasks rest on (worker/worker_claim.c). */
#include "tests/contract/cache.h"

#include "common/base/banned.h"

struct cache_heard heard;

void worker_core_cache_answered(struct worker_core *core, struct job *job, enum cache_answer answer, struct str value)
{
    (void)core;
    assert_true(heard.count < ANSWERS_MAX);
    heard.answers[heard.count].job = job;
    heard.answers[heard.count].answer = answer;
    heard.answers[heard.count].len = value.len;
    snprintf(heard.answers[heard.count].value, sizeof(heard.answers[0].value), STR_FMT, STR_ARG(value));
    heard.count++;
}

/* Jobs are names here. */
static struct job *job_of(uintptr_t number)
{
    return (struct job *)(number * 64);
}

#define ARGS(...)                                                                                                      \
    sizeof((struct str[]){__VA_ARGS__}) / sizeof(struct str), (struct str[])                                           \
    {                                                                                                                  \
        __VA_ARGS__                                                                                                    \
    }

static enum cache_answer ask(size_t argc, const struct str *argv)
{
    int before = heard.count;

    cache_do(job_of(1), argc, argv);
    assert_int_equal(heard.count, before); /* not from inside the call */
    UNTIL(heard.count == before + 1);
    assert_ptr_equal(heard.answers[before].job, job_of(1));
    return heard.answers[before].answer;
}

static void assert_value(const char *value)
{
    assert_string_equal(heard.answers[heard.count - 1].value, value);
}

static enum cache_answer claim(const char *holder, const char *ttl_ms)
{
    return ask(ARGS(STR("SET"), STR("rw:claim:t"), str_of(holder), STR("PX"), str_of(ttl_ms), STR("NX")));
}

static enum cache_answer get(void)
{
    return ask(ARGS(STR("GET"), STR("rw:claim:t")));
}

static void a_claim_is_had_by_the_first(void **state)
{
    (void)state;
    assert_int_equal(get(), CACHE_ANSWER_NONE);
    assert_int_equal(claim("rA", "60000"), CACHE_ANSWER_VALUE);
    assert_int_equal(claim("rB", "60000"), CACHE_ANSWER_NONE);
    assert_int_equal(get(), CACHE_ANSWER_VALUE);
    assert_value("rA");
}

static void a_claim_ends_with_its_time(void **state)
{
    (void)state;
    assert_int_equal(claim("rA", "300"), CACHE_ANSWER_VALUE);
    world_pass(600 * US_PER_MS);
    assert_int_equal(get(), CACHE_ANSWER_NONE);
    assert_int_equal(claim("rB", "60000"), CACHE_ANSWER_VALUE);
    assert_int_equal(get(), CACHE_ANSWER_VALUE);
    assert_value("rB");
}

static void a_finished_claim_holds_the_result_as_it_is(void **state)
{
    static const char result[] = "f{\"task_id\": \"t\", \"output\":\"\xc3\xa9\\u0000 1.0\"}";

    (void)state;
    assert_int_equal(claim("rA", "300"), CACHE_ANSWER_VALUE);
    assert_int_equal(ask(ARGS(STR("SET"), STR("rw:claim:t"), str_of(result), STR("PX"), STR("60000"))),
                     CACHE_ANSWER_VALUE);
    world_pass(600 * US_PER_MS); /* the time of the claim that was */
    assert_int_equal(claim("rB", "60000"), CACHE_ANSWER_NONE);
    assert_int_equal(get(), CACHE_ANSWER_VALUE);
    assert_value(result);
    assert_int_equal(heard.answers[heard.count - 1].len, strlen(result));
}

static void a_claim_that_is_given_back_is_free(void **state)
{
    (void)state;
    assert_int_equal(claim("rA", "60000"), CACHE_ANSWER_VALUE);
    assert_int_equal(ask(ARGS(STR("DEL"), STR("rw:claim:t"))), CACHE_ANSWER_VALUE);
    assert_value("1");
    assert_int_equal(ask(ARGS(STR("DEL"), STR("rw:claim:t"))), CACHE_ANSWER_VALUE);
    assert_value("0");
    assert_int_equal(claim("rB", "60000"), CACHE_ANSWER_VALUE);
}

static void a_holder_lives_while_it_renews(void **state)
{
    static const struct str exists[] = {STR("EXISTS"), STR("rw:holder:w")};

    (void)state;
    assert_int_equal(ask(2, exists), CACHE_ANSWER_VALUE);
    assert_value("0");
    for (int i = 0; i < 4; i++) {
        /* nobody waits for these */
        cache_do(NULL, ARGS(STR("SET"), STR("rw:holder:w"), STR("1"), STR("PX"), STR("400")));
        world_pass(200 * US_PER_MS);
        assert_int_equal(ask(2, exists), CACHE_ANSWER_VALUE);
        assert_value("1");
    }
    world_pass(600 * US_PER_MS);
    assert_int_equal(ask(2, exists), CACHE_ANSWER_VALUE);
    assert_value("0");
}

static void answers_come_in_the_order_of_the_questions(void **state)
{
    (void)state;
    for (uintptr_t i = 1; i <= 20; i++)
        cache_do(job_of(i), ARGS(STR("GET"), STR("rw:claim:t")));
    UNTIL(heard.count == 20);
    for (uintptr_t i = 1; i <= 20; i++)
        assert_ptr_equal(heard.answers[i - 1].job, job_of(i));
}

static void a_flush_forgets_everything(void **state)
{
    (void)state;
    assert_int_equal(claim("rA", "60000"), CACHE_ANSWER_VALUE);
    hand_flush();
    assert_int_equal(get(), CACHE_ANSWER_NONE);
    assert_int_equal(claim("rB", "60000"), CACHE_ANSWER_VALUE);
}

static void without_redis_every_question_is_answered_so(void **state)
{
    (void)state;
    hand_take_away();
    assert_int_equal(get(), CACHE_ANSWER_FAILED);
    assert_int_equal(claim("rA", "60000"), CACHE_ANSWER_FAILED);
    assert_int_equal(ask(ARGS(STR("EXISTS"), STR("rw:holder:w"))), CACHE_ANSWER_FAILED);
    cache_do(NULL, ARGS(STR("DEL"), STR("rw:claim:t")));
    assert_int_equal(ask(ARGS(STR("DEL"), STR("rw:claim:t"))), CACHE_ANSWER_FAILED);
}

#define SCENARIO(name) cmocka_unit_test_setup_teardown(name, cache_world_begin, cache_world_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENARIO(a_claim_is_had_by_the_first),
        SCENARIO(a_claim_ends_with_its_time),
        SCENARIO(a_finished_claim_holds_the_result_as_it_is),
        SCENARIO(a_claim_that_is_given_back_is_free),
        SCENARIO(a_holder_lives_while_it_renews),
        SCENARIO(answers_come_in_the_order_of_the_questions),
        SCENARIO(a_flush_forgets_everything),
        SCENARIO(without_redis_every_question_is_answered_so),
    };

    return cmocka_run_group_tests_name("cache", tests, cache_group_begin, cache_group_end);
}
