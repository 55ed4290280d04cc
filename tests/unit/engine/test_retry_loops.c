/* A retry goes into loops: of the iterations those that did not end well, and in each only what failed. */
#include "tests/unit/engine/world.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define NOOP "\"call\":\"noop\""
#define HTTP "\"call\":\"http\",\"with\":{\"url\":\"https://a.example/\",\"method\":\"POST\"}"
#define ONCE ",\"delivery\":\"at_most_once\""
#define STEPS(s) "{\"name\":\"x\",\"steps\":{" s "}}"
#define EACH(with) "\"each\":{\"call\":\"foreach\",\"with\":{" with "}}"
#define TWO "\"steps\":{\"a\":{" HTTP "},\"b\":{" NOOP ",\"needs\":[\"a\"]}}"
#define REOPENED "command.applied, run.reopened, "

static void fails(struct world *w, const char *step)
{
    world_fail(w, step, "permanent", "http_422", true, true);
}

static void retry(struct world *w, const char *confirm)
{
    world_reload(w);
    world_retry(w, confirm);
    world_reload(w);
}

static void only_what_failed_of_the_iterations_that_failed(void **unused)
{
    struct world w;
    struct retry_plan plan;

    (void)unused;
    world_init(&w,
               STEPS(EACH("\"items\":[0,1,2,3],\"concurrency\":1," TWO) ",\"last\":{\"call\":\"transform\",\"with\":{"
                                                                        "\"value\":\"${ .steps.each.output }\"},"
                                                                        "\"needs\":[\"each\"]}"));
    world_start(&w);
    world_succeed(&w, "each[0].a", "1");
    world_succeed(&w, "each[0].b", "10");
    world_succeed(&w, "each[1].a", "2");
    fails(&w, "each[1].b");
    assert_int_equal(w.state->status, RUN_FAILED);
    engine_plan_retry(w.state, w.arena, &plan);
    assert_null(plan.code);
    assert_int_equal(plan.count, 2);
    assert_int_equal(plan.steps[0].items, 3);
    retry(&w, NULL);
    assert_string_equal(world_said(&w), REOPENED "step.reopened each, step.reopened last, step.continued each, "
                                                 "step.continued each[1], step.reopened each[1].b, "
                                                 "step.dispatched each[1].b");
    assert_int_equal(world_step(&w, "each[1].b")->attempt, 2);
    assert_int_equal(world_step(&w, "each[1].b")->generation, 2);
    assert_int_equal(world_step(&w, "each[1].a")->attempt, 1);
    world_succeed(&w, "each[1].b", "11");
    assert_string_equal(world_said(&w), "step.succeeded each[1].b, step.succeeded each[1], step.dispatched each[2].a");
    for (int i = 2; i < 4; i++) {
        world_succeed(&w, i == 2 ? "each[2].a" : "each[3].a", "0");
        world_succeed(&w, i == 2 ? "each[2].b" : "each[3].b", i == 2 ? "12" : "13");
    }
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    assert_string_equal(world_output(&w, "last"), "[10,11,12,13]");
    world_deinit(&w);
}

/* However many there are: those that are gone on with take room like those that begin. */
static void concurrency_and_barrier_hold(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS(EACH("\"items\":[0,1,2,3],\"concurrency\":2,\"on_item_failure\":\"continue\"," TWO)));
    world_start(&w);
    fails(&w, "each[0].a");
    fails(&w, "each[1].a");
    world_succeed(&w, "each[2].a", "1");
    world_succeed(&w, "each[2].b", "12");
    fails(&w, "each[3].a");
    assert_int_equal(w.state->status, RUN_PARTIALLY_COMPLETED);
    retry(&w, NULL);
    assert_string_equal(world_said(&w),
                        REOPENED "step.reopened each, step.continued each, step.continued each[0], "
                                 "step.reopened each[0].a, step.reopened each[0].b, step.continued each[1], "
                                 "step.reopened each[1].a, step.reopened each[1].b, step.dispatched each[0].a, "
                                 "step.dispatched each[1].a");
    fails(&w, "each[0].a"); /* judged anew: once more to be continued */
    assert_string_equal(world_said(&w), "step.failed each[0].a, step.cancelled each[0].b, step.failed each[0], "
                                        "step.continued each[3], step.reopened each[3].a, step.reopened each[3].b, "
                                        "step.dispatched each[3].a");
    world_succeed(&w, "each[1].a", "1");
    world_succeed(&w, "each[1].b", "11");
    world_succeed(&w, "each[3].a", "1");
    world_succeed(&w, "each[3].b", "13");
    assert_int_equal(w.state->status, RUN_PARTIALLY_COMPLETED);
    assert_string_equal(world_output(&w, "each"), "[null,11,12,13]");
    retry(&w, NULL);
    assert_int_equal(world_step(&w, "each[0].a")->attempt, 3);
    assert_int_equal(world_step(&w, "each[0].a")->generation, 3);
    world_succeed(&w, "each[0].a", "1");
    world_succeed(&w, "each[0].b", "10");
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    assert_string_equal(world_output(&w, "each"), "[10,11,12,13]");
    world_deinit(&w);
}

static void loops_in_loops(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS(EACH("\"items\":[0,1],\"concurrency\":2,\"steps\":{\"in\":{\"call\":\"foreach\",\"with\":{"
                              "\"items\":[0,1],\"concurrency\":2," TWO "}}}")));
    world_start(&w);
    world_succeed(&w, "each[0].in[0].a", "1");
    world_succeed(&w, "each[0].in[0].b", "1");
    world_begin(&w, "each[1].in[0].a", "w1");
    fails(&w, "each[0].in[1].a");
    world_succeed(&w, "each[1].in[0].a", "1"); /* what runs may finish, and counts */
    assert_int_equal(w.state->status, RUN_FAILED);
    retry(&w, NULL);
    assert_true(world_open(&w, "each[0].in[1].a"));
    assert_true(world_open(&w, "each[1].in[0].b"));
    assert_true(world_open(&w, "each[1].in[1].a"));
    assert_false(world_has(&w, EVENT_STEP_REOPENED, "each[1].in[0].a"));
    assert_false(world_has(&w, EVENT_STEP_CONTINUED, "each[0].in[0]"));
    world_succeed(&w, "each[0].in[1].a", "1");
    world_succeed(&w, "each[0].in[1].b", "2");
    world_succeed(&w, "each[1].in[0].b", "3");
    world_succeed(&w, "each[1].in[1].a", "1");
    world_succeed(&w, "each[1].in[1].b", "4");
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    assert_string_equal(world_output(&w, "each"), "[[1,2],[3,4]]");
    world_deinit(&w);
}

static void what_may_not_be_repeated_in_it_needs_a_word(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS(EACH("\"items\":[0,1],\"steps\":{\"go\":{" HTTP ONCE "}}")));
    world_start(&w);
    world_begin(&w, "each[0].go", "w1");
    world_begin(&w, "each[1].go", "w2");
    world_succeed(&w, "each[0].go", "1");
    world_lost(&w, "each[1].go");
    assert_int_equal(w.state->status, RUN_FAILED);
    retry(&w, NULL);
    assert_true(str_is(world_event(&w, EVENT_COMMAND_REFUSED, NULL)->code, "confirmation_needed"));
    retry(&w, "[\"each\"]");
    assert_int_equal(world_step(&w, "each[1].go")->generation, 1); /* nobody knows */
    world_begin(&w, "each[1].go", "w3");
    world_succeed(&w, "each[1].go", "2");
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    world_deinit(&w);
}

/* None was sent, but some had begun; and of the last nobody has ever heard. */
static void a_run_that_was_stopped_goes_on_in_its_loop(void **unused)
{
    (void)unused;
    for (int timeout = 0; timeout < 2; timeout++) {
        struct world w;

        world_init(&w, STEPS(EACH("\"items\":[0,1,2],\"concurrency\":2," TWO)));
        world_start(&w);
        world_succeed(&w, "each[0].a", "1");
        if (timeout)
            world_run_timeout(&w);
        else
            world_cancel(&w, false);
        assert_int_equal(w.state->status, timeout ? RUN_TIMED_OUT : RUN_CANCELLED);
        retry(&w, NULL);
        assert_true(world_open(&w, "each[0].b"));
        assert_true(world_open(&w, "each[1].a"));
        assert_int_equal(world_step(&w, "each[1].a")->generation, 1);
        world_succeed(&w, "each[0].b", "1");
        assert_true(world_open(&w, "each[2].a"));
        world_cancel(&w, false); /* and is stopped again, and goes on again */
        retry(&w, NULL);
        world_succeed(&w, "each[1].a", "1");
        world_succeed(&w, "each[1].b", "2");
        world_succeed(&w, "each[2].a", "1");
        world_succeed(&w, "each[2].b", "3");
        assert_int_equal(w.state->status, RUN_SUCCEEDED);
        assert_string_equal(world_output(&w, "each"), "[1,2,3]");
        world_deinit(&w);
    }
}

/* It failed in nothing that could be done once more but in what is made of its steps. */
static void an_output_that_could_not_be_made_is_made_anew(void **unused)
{
    struct world w;

    (void)unused;
    world_init(
        &w, STEPS(EACH("\"items\":[0,1],\"output\":\"${ .steps.a.output.x }\",\"on_item_failure\":\"continue\"," TWO)));
    world_start(&w);
    world_succeed(&w, "each[0].a", "1"); /* a number has no field */
    world_succeed(&w, "each[0].b", "1");
    world_succeed(&w, "each[1].a", "{\"x\":7}");
    world_succeed(&w, "each[1].b", "1");
    assert_int_equal(w.state->status, RUN_PARTIALLY_COMPLETED);
    retry(&w, NULL);
    assert_string_equal(world_said(&w), REOPENED
                        "step.reopened each, step.continued each, step.continued each[0], step.failed each[0], "
                        "step.succeeded each, run.partially_completed each");
    world_deinit(&w);
}

/* Those that did not end well are kept for it, all others are forgotten; and so are those once they have ended well. */
static void what_ended_well_is_not_remembered(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS(EACH("\"items\":[0,1],\"on_item_failure\":\"continue\"," TWO)));
    world_start(&w);
    world_succeed(&w, "each[0].a", "1");
    world_succeed(&w, "each[0].b", "1");
    fails(&w, "each[1].a");
    assert_int_equal(run_find_step(w.state, STR("each[0].a"), NULL), NO_NODE);
    assert_int_not_equal(run_find_step(w.state, STR("each[1].a"), NULL), NO_NODE);
    retry(&w, NULL);
    world_succeed(&w, "each[1].a", "1");
    world_succeed(&w, "each[1].b", "1");
    assert_int_equal(run_find_step(w.state, STR("each[1].a"), NULL), NO_NODE);
    world_deinit(&w);
}

/* What it needs is done once more, and may come to another end: the loop is decided anew then, and goes on. */
static void a_loop_waits_for_what_it_needs(void **unused)
{
    struct world w;

    (void)unused;
    world_init(
        &w, STEPS("\"s\":{" NOOP ",\"on_failure\":\"continue\"},\"t\":{" NOOP "},"
                  "\"each\":{\"call\":\"foreach\",\"join\":\"any\",\"needs\":[\"s\",\"t\"],\"with\":{\"items\":[0]," TWO
                  "}}"));
    world_start(&w);
    fails(&w, "s");
    world_succeed(&w, "t", "1");
    fails(&w, "each[0].a");
    retry(&w, NULL);
    assert_string_equal(world_said(&w), REOPENED "step.reopened s, step.reopened each, step.dispatched s");
    world_pause(&w);
    world_succeed(&w, "s", "1");
    world_resume(&w);
    assert_true(world_open(&w, "each[0].a"));
    world_pause(&w);
    fails(&w, "each[0].a");
    world_resume(&w);
    assert_int_equal(w.state->status, RUN_FAILED);
    world_deinit(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_what_failed_of_the_iterations_that_failed),
        cmocka_unit_test(concurrency_and_barrier_hold),
        cmocka_unit_test(loops_in_loops),
        cmocka_unit_test(what_may_not_be_repeated_in_it_needs_a_word),
        cmocka_unit_test(a_run_that_was_stopped_goes_on_in_its_loop),
        cmocka_unit_test(an_output_that_could_not_be_made_is_made_anew),
        cmocka_unit_test(what_ended_well_is_not_remembered),
        cmocka_unit_test(a_loop_waits_for_what_it_needs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
