/* An operator's retry of a run that has ended: what did not succeed is done again, the rest is kept. */
#include "tests/unit/engine/world.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>

#define NOOP "\"call\":\"noop\""
#define HTTP "\"call\":\"http\",\"with\":{\"url\":\"https://a.example/\",\"method\":\"POST\"}"
#define STEPS(s) "{\"name\":\"x\",\"steps\":{" s "}}"
#define ONCE ",\"delivery\":\"at_most_once\""
#define REOPENED "command.applied, run.reopened, "

static const char *refusal(struct world *w)
{
    const struct event *event = world_event(w, EVENT_COMMAND_REFUSED, NULL);

    return event == NULL || event->seq <= w->mark ? NULL : arena_dup(w->arena, event->code.ptr, event->code.len);
}

/* What is planned is what happens: each step of the plan, and no other, is opened again. */
static void retry(struct world *w, const char *confirm)
{
    struct retry_plan plan;
    size_t reopened = 0;

    engine_plan_retry(w->state, w->arena, &plan);
    world_retry(w, confirm);
    for (size_t i = w->mark; i < w->history_count; i++) {
        if (w->history[i].type != EVENT_STEP_REOPENED)
            continue;
        assert_true(reopened < plan.count);
        assert_int_equal(run_find_step(w->state, w->history[i].step, NULL), plan.steps[reopened].node);
        reopened++;
    }
    if (plan.code == NULL && !plan.holds && refusal(w) == NULL)
        assert_int_equal(reopened, plan.count);
    if (plan.code != NULL)
        assert_string_equal(refusal(w), plan.code);
    world_reload(w);
}

static void what_failed_is_done_again_and_the_rest_is_kept(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w,
               STEPS("\"a\":{" NOOP "},\"b\":{" HTTP ",\"needs\":[\"a\"]},\"c\":{" NOOP
                     ",\"needs\":[\"b\"]},\"d\":{\"call\":\"transform\",\"with\":{\"value\":\"${ .steps.a.output }\"},"
                     "\"needs\":[\"a\",\"c\"]}"));
    world_start(&w);
    world_succeed(&w, "a", "{\"id\":1}");
    world_fail(&w, "b", "permanent", "http_422", true, true);
    assert_int_equal(w.state->status, RUN_FAILED);
    retry(&w, NULL);
    assert_string_equal(world_said(&w),
                        REOPENED "step.reopened b, step.reopened c, step.reopened d, step.dispatched b");
    assert_int_equal(world_step(&w, "b")->attempt, 2);
    assert_int_equal(world_step(&w, "b")->generation, 2); /* its receiver has answered the first key */
    world_succeed(&w, "b", "2");
    world_succeed(&w, "c", "3");
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    assert_string_equal(world_output(&w, "d"), "{\"id\":1}");
    retry(&w, NULL);
    assert_string_equal(refusal(&w), "nothing_to_retry");
    world_deinit(&w);
}

static void a_key_stays_while_what_was_sent_under_it_may_have_had_its_effect(void **unused)
{
    (void)unused;
    for (int how = 0; how < 5; how++) {
        struct world w;
        world_init(&w, STEPS("\"a\":{" HTTP ",\"retry\":{\"max_attempts\":1}}"));
        world_start(&w);
        if (how == 0) {
            world_fail(&w, "a", "transient", "reset", true, false);
        } else if (how == 1) {
            world_lost(&w, "a");
        } else {
            world_cancel(&w, false); /* of a task that is queued, as far as is known here */
            assert_int_equal(w.state->status, RUN_CANCELLED);
        }
        if (how == 3)
            world_result(&w, "a", RESULT_SUCCEEDED); /* it had been done, after all */
        if (how == 4)
            world_fail(&w, "a", "permanent", "http_422", true, true);
        retry(&w, NULL);
        assert_string_equal(world_said(&w), REOPENED "step.reopened a, step.dispatched a");
        assert_int_equal(world_step(&w, "a")->generation, how == 4 ? 2 : 1);
        world_deinit(&w);
    }
}

/* However often it is opened again in between. */
static void a_key_that_no_attempt_has_used_is_the_next_one(void **unused)
{
    (void)unused;
    for (int how = 0; how < 2; how++) {
        struct world w;
        world_init(&w, STEPS("\"a\":{" HTTP "},\"b\":{" HTTP ONCE "}"));
        world_start(&w);
        if (how == 1) /* its receiver has answered: the next attempt is of generation 2, and never begins */
            world_fail(&w, "a", "transient", "http_503", true, true);
        world_begin(&w, "b", "w1");
        world_lost(&w, "b");
        assert_int_equal(world_status(&w, "a"), STEP_CANCELLED);
        world_settle(&w, "b", "failed", NULL);
        retry(&w, "true");
        assert_int_equal(world_step(&w, "a")->generation, how == 1 ? 2 : 1);
        assert_true(world_open(&w, "a"));
        world_deinit(&w);
    }
}

static void siblings_that_the_stop_cancelled_are_begun_after_all(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP "},\"b\":{" NOOP "},\"c\":{\"call\":\"delay\",\"with\":{\"duration\":\"1h\"}},"
                         "\"d\":{" NOOP ",\"needs\":[\"c\"]}"));
    world_start(&w);
    world_begin(&w, "b", "w1");
    world_fail(&w, "a", "permanent", "http_404", true, true);
    world_succeed(&w, "b", "7");
    assert_int_equal(w.state->status, RUN_FAILED);
    assert_int_equal(world_status(&w, "c"), STEP_CANCELLED);
    retry(&w, NULL);
    assert_string_equal(world_said(&w), REOPENED "step.reopened a, step.reopened c, step.reopened d, "
                                                 "step.dispatched a, step.waiting c");
    retry(&w, NULL); /* once more: it holds already */
    assert_string_equal(world_said(&w), "command.applied");
    world_succeed(&w, "a", "1");
    world_timer(&w, "c");
    world_succeed(&w, "d", "1");
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    world_deinit(&w);
}

static void a_failure_that_was_taken_care_of_stays(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP "},\"h\":{" NOOP ",\"needs\":{\"a\":[\"failed\"]}},\"z\":{" NOOP
                         ",\"needs\":[\"h\"]}"));
    world_start(&w);
    world_fail(&w, "a", "permanent", "http_404", true, true);
    world_succeed(&w, "h", "1");
    world_fail(&w, "z", "permanent", "http_404", true, true);
    assert_int_equal(w.state->status, RUN_FAILED);
    retry(&w, NULL);
    assert_string_equal(world_said(&w), REOPENED "step.reopened z, step.dispatched z");
    world_succeed(&w, "z", "1");
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    world_deinit(&w);
}

static void what_failed_and_was_to_be_continued_is_tried_again(void **unused)
{
    struct world w;

    (void)unused;
    world_init(
        &w, STEPS("\"a\":{" NOOP ",\"on_failure\":\"continue\"},\"b\":{" NOOP ",\"needs\":[\"a\"]},\"c\":{" NOOP "}"));
    world_start(&w);
    world_fail(&w, "a", "permanent", "http_404", true, true);
    world_succeed(&w, "c", "1");
    assert_int_equal(w.state->status, RUN_PARTIALLY_COMPLETED);
    retry(&w, NULL);
    assert_string_equal(world_said(&w), REOPENED "step.reopened a, step.reopened b, step.dispatched a");
    world_succeed(&w, "a", "1");
    world_succeed(&w, "b", "1");
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    world_deinit(&w);
}

static void what_may_not_be_repeated_needs_a_word(void **unused)
{
    (void)unused;
    for (int how = 0; how < 3; how++) {
        struct world w;
        world_init(&w, STEPS("\"a\":{" HTTP ONCE "},\"b\":{" HTTP ONCE ",\"needs\":[\"a\"]}"));
        world_start(&w);
        world_begin(&w, "a", "w1");
        world_lost(&w, "a");
        assert_int_equal(world_status(&w, "a"), STEP_OUTCOME_UNKNOWN);
        retry(&w, NULL);
        assert_string_equal(refusal(&w), "confirmation_needed");
        assert_int_equal(w.state->status, RUN_FAILED);
        retry(&w, "[\"b\"]");
        assert_string_equal(refusal(&w), "confirmation_needed");
        retry(&w, how == 0 ? "true" : "[\"b\",\"a\"]");
        assert_string_equal(world_said(&w), REOPENED "step.reopened a, step.reopened b, step.dispatched a");
        assert_int_equal(world_step(&w, "a")->generation, 1); /* nobody knows */
        world_begin(&w, "a", "w2");
        assert_int_equal(w.fx.answer, STARTED_GO);
        if (how == 2)
            world_result(&w, "a", RESULT_SUCCEEDED);
        else
            world_succeed(&w, "a", "1");
        world_deinit(&w);
    }
}

static void what_was_never_begun_needs_none(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP "},\"b\":{" HTTP ONCE "}"));
    world_start(&w);
    world_fail(&w, "a", "permanent", "http_404", true, true);
    assert_int_equal(world_status(&w, "b"), STEP_CANCELLED);
    retry(&w, NULL);
    assert_string_equal(world_said(&w),
                        REOPENED "step.reopened a, step.reopened b, step.dispatched a, step.dispatched b");
    world_deinit(&w);
}

static void a_run_that_was_stopped_goes_on(void **unused)
{
    (void)unused;
    for (int timeout = 0; timeout < 2; timeout++) {
        struct world w;
        world_init(&w, STEPS("\"a\":{" NOOP "},\"b\":{" NOOP ",\"needs\":[\"a\"]}"));
        world_start(&w);
        if (timeout) {
            world_run_timeout(&w);
        } else {
            world_begin(&w, "a", "w1");
            world_cancel(&w, false);
            world_succeed(&w, "a", "1"); /* what runs may finish, and counts */
        }
        assert_int_equal(w.state->status, timeout ? RUN_TIMED_OUT : RUN_CANCELLED);
        retry(&w, NULL);
        assert_string_equal(world_said(&w), timeout ? REOPENED "step.reopened a, step.reopened b, step.dispatched a"
                                                    : REOPENED "step.reopened b, step.dispatched b");
        assert_true(w.state->timeout_at.us > w.now.us);
        world_deinit(&w);
    }
}

static void what_cannot_be_retried_is_told(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP "}"));
    world_start(&w);
    retry(&w, NULL);
    assert_string_equal(refusal(&w), "run_not_ended");
    world_deinit(&w);

    world_init(&w, STEPS("\"a\":{" NOOP ",\"compensate\":{" NOOP "}},\"b\":{" NOOP ",\"needs\":[\"a\"]}"));
    world_start(&w);
    world_succeed(&w, "a", "1");
    world_fail(&w, "b", "permanent", "http_404", true, true);
    world_succeed(&w, "a:compensate", "1");
    assert_int_equal(w.state->status, RUN_COMPENSATED);
    retry(&w, NULL);
    assert_string_equal(refusal(&w), "compensated");
    world_deinit(&w);

    world_init(&w, STEPS("\"a\":{" NOOP "}"));
    world_cancel(&w, false);
    retry(&w, NULL);
    assert_string_equal(refusal(&w), "never_started");
    world_deinit(&w);

    world_init(&w, "{\"name\":\"x\",\"output\":\"${ .steps.a.output.b }\",\"steps\":{\"a\":{" NOOP "}}}");
    world_start(&w);
    world_succeed(&w, "a", "1"); /* a number has no field */
    assert_int_equal(w.state->status, RUN_FAILED);
    retry(&w, NULL);
    assert_string_equal(refusal(&w), "nothing_to_retry");
    world_deinit(&w);
}

static void attempts_of_an_earlier_time_do_not_count(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP ",\"retry\":{\"max_attempts\":2}}"));
    world_start(&w);
    for (int time = 0; time < 3; time++) {
        world_fail(&w, "a", "transient", "http_503", true, true);
        assert_string_equal(world_said(&w), "attempt.failed a");
        world_timer(&w, "a");
        world_fail(&w, "a", "transient", "http_503", true, true);
        assert_int_equal(w.state->status, RUN_FAILED);
        assert_int_equal(world_step(&w, "a")->attempt, 2 * (time + 1));
        assert_int_equal(world_step(&w, "a")->generation, 2 * (time + 1));
        retry(&w, NULL);
    }
    world_deinit(&w);
}

/* It was begun because `b` had failed; `b` is being tried again, and may come to another end. */
static void a_late_word_does_not_end_a_step_whose_time_has_not_come_again(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP "},\"b\":{" NOOP "},\"c\":{" NOOP ",\"needs\":{\"b\":[\"failed\"]}}"));
    world_start(&w);
    world_fail(&w, "b", "permanent", "http_404", true, true);
    world_fail(&w, "a", "permanent", "http_404", true, true);
    assert_int_equal(world_status(&w, "c"), STEP_CANCELLED);
    retry(&w, NULL);
    world_succeed(&w, "c", "1");
    assert_string_equal(world_said(&w), "step.late_result c");
    assert_int_equal(world_status(&w, "c"), STEP_PENDING);
    world_reload(&w);
    world_succeed(&w, "b", "1");
    assert_int_equal(world_status(&w, "c"), STEP_SKIPPED);
    world_succeed(&w, "a", "1");
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    world_deinit(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_failed_is_done_again_and_the_rest_is_kept),
        cmocka_unit_test(a_key_stays_while_what_was_sent_under_it_may_have_had_its_effect),
        cmocka_unit_test(a_key_that_no_attempt_has_used_is_the_next_one),
        cmocka_unit_test(siblings_that_the_stop_cancelled_are_begun_after_all),
        cmocka_unit_test(a_failure_that_was_taken_care_of_stays),
        cmocka_unit_test(what_failed_and_was_to_be_continued_is_tried_again),
        cmocka_unit_test(what_may_not_be_repeated_needs_a_word),
        cmocka_unit_test(what_was_never_begun_needs_none),
        cmocka_unit_test(a_run_that_was_stopped_goes_on),
        cmocka_unit_test(what_cannot_be_retried_is_told),
        cmocka_unit_test(attempts_of_an_earlier_time_do_not_count),
        cmocka_unit_test(a_late_word_does_not_end_a_step_whose_time_has_not_come_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
