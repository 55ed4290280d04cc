/* Time: deadlines against back-offs, delays and deferrals; timers that come early, late or twice; stopping while
 * something waits or is evaluated. */
#include "tests/unit/engine/world.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define NOOP "\"call\":\"noop\""
#define STEPS(s) "{\"name\":\"x\",\"steps\":{" s "}}"

static void defer(struct world *w, const char *step, const char *worker, int64_t after_us)
{
    const struct step_state *s = world_step(w, step);

    world_apply(w, (struct engine_input){.kind = IN_RESULT,
                                         .step = str_of(step),
                                         .attempt = s->attempt,
                                         .dispatch = s->dispatch,
                                         .result = RESULT_DEFERRED,
                                         .worker = str_of(worker),
                                         .retry_after_us = after_us});
}

static void begin(struct world *w, const char *step, const char *worker)
{
    const struct step_state *s = world_step(w, step);

    world_apply(w, (struct engine_input){.kind = IN_STARTED,
                                         .step = str_of(step),
                                         .attempt = s->attempt,
                                         .dispatch = s->dispatch,
                                         .worker = str_of(worker)});
}

static void a_delay_that_ended_before_the_deadline_succeeds_however_late_its_timer_comes(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"d\":{\"call\":\"delay\",\"with\":{\"duration\":\"5s\"},\"deadline\":\"10s\"}"));
    world_start(&w);
    w.now.us += 60 * US_PER_S; /* nobody was there to hear it */
    world_apply(&w, (struct engine_input){.kind = IN_TIMER, .seq = world_step(&w, "d")->open_seq});
    assert_int_equal(world_status(&w, "d"), STEP_SUCCEEDED);
    world_deinit(&w);
}

static void a_deadline_cuts_a_longer_delay(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"d\":{\"call\":\"delay\",\"with\":{\"duration\":\"1h\"},\"deadline\":\"10s\"}"));
    world_start(&w);
    assert_int_equal(world_step(&w, "d")->due_at.us - w.now.us, 10 * US_PER_S);
    world_timer(&w, "d");
    assert_int_equal(world_status(&w, "d"), STEP_TIMED_OUT);
    assert_true(str_is(world_event(&w, EVENT_STEP_TIMED_OUT, "d")->code, "deadline"));
    world_deinit(&w);
}

static void a_deadline_counts_from_ready_through_retries_and_deferrals(void **unused)
{
    struct world w;
    struct wall_us deadline;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP ",\"deadline\":\"10s\",\"retry\":{\"initial\":\"2s\",\"jitter\":0}}"));
    world_start(&w);
    deadline.us = w.now.us + 10 * US_PER_S;
    world_fail(&w, "a", "transient", "http_503", true, true);
    world_timer(&w, "a");
    assert_int_equal(world_step(&w, "a")->attempt, 2);
    assert_int_equal(world_step(&w, "a")->due_at.us, deadline.us); /* not anew for the second attempt */
    defer(&w, "a", "w1", 3 * US_PER_S);
    world_timer(&w, "a");
    assert_true(w.fx.changes[0].publish);
    assert_int_equal(world_step(&w, "a")->due_at.us, deadline.us);
    defer(&w, "a", "w1", 60 * US_PER_S); /* beyond the deadline: not published again */
    assert_int_equal(world_step(&w, "a")->due_at.us, deadline.us);
    world_timer(&w, "a");
    assert_int_equal(w.now.us, deadline.us);
    assert_int_equal(world_status(&w, "a"), STEP_TIMED_OUT);
    world_deinit(&w);
}

static void a_back_off_waits_no_longer_than_the_deadline(void **unused)
{
    struct world w;
    struct wall_us start;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP ",\"deadline\":\"10s\",\"retry\":{\"initial\":\"1m\"}}"));
    start = w.now;
    world_start(&w);
    w.now.us += 4 * US_PER_S;
    world_fail(&w, "a", "transient", "connect", false, false);
    assert_int_equal(world_step(&w, "a")->due_at.us, start.us + 10 * US_PER_S);
    world_timer(&w, "a");
    assert_int_equal(world_status(&w, "a"), STEP_TIMED_OUT);
    assert_int_equal(world_step(&w, "a")->attempt, 1); /* not tried again at the last moment */
    world_deinit(&w);
}

static void timers_that_are_early_or_come_twice_change_nothing(void **unused)
{
    struct world w;
    uint32_t seq;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP ",\"retry\":{\"initial\":\"2s\"}}"));
    world_apply(&w, (struct engine_input){.kind = IN_TIMER, .seq = 0}); /* of nothing, before the start */
    assert_true(w.fx.ignored);
    w.now.us += 31 * INT64_C(86400) * US_PER_S; /* ... even beyond what the run's timeout would be */
    world_apply(&w, (struct engine_input){.kind = IN_TIMER, .seq = 0});
    assert_true(w.fx.ignored);
    w.now.us -= 31 * INT64_C(86400) * US_PER_S;
    world_start(&w);
    world_fail(&w, "a", "transient", "connect", false, false);
    seq = world_step(&w, "a")->open_seq;
    w.now.us = world_step(&w, "a")->due_at.us - 1;
    world_apply(&w, (struct engine_input){.kind = IN_TIMER, .seq = seq});
    assert_true(w.fx.ignored);
    assert_int_equal(world_status(&w, "a"), STEP_WAITING);
    w.now.us++;
    world_apply(&w, (struct engine_input){.kind = IN_TIMER, .seq = seq});
    assert_int_equal(world_step(&w, "a")->attempt, 2);
    world_apply(&w, (struct engine_input){.kind = IN_TIMER, .seq = seq});
    assert_true(w.fx.ignored);
    assert_int_equal(world_step(&w, "a")->attempt, 2);
    world_apply(&w, (struct engine_input){.kind = IN_TIMER, .seq = w.state->timeout_seq});
    assert_true(w.fx.ignored);
    world_deinit(&w);
}

static void a_deferral_of_a_stopping_run_cancels_the_step(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP "},\"b\":{" NOOP "}"));
    world_start(&w);
    begin(&w, "b", "w1");
    world_fail(&w, "a", "permanent", "http_404", true, true);
    assert_int_equal(world_status(&w, "b"), STEP_RUNNING);
    defer(&w, "b", "w1", US_PER_S); /* waiting is what a stopping run does no more */
    assert_int_equal(world_status(&w, "b"), STEP_CANCELLED);
    assert_int_equal(w.state->status, RUN_FAILED);
    world_deinit(&w);
}

static void a_deferral_takes_the_grant_back_also_in_what_is_read_again(void **unused)
{
    struct world w;

    (void)unused;
    /* the world compares with a fresh fold and the rows: there the attempt must be queued, too, so that the next worker
     * that asks is answered `go` */
    world_init(&w, STEPS("\"a\":{" NOOP ",\"delivery\":\"at_most_once\"}"));
    world_start(&w);
    begin(&w, "a", "w1");
    defer(&w, "a", "w1", US_PER_S);
    assert_int_equal(world_status(&w, "a"), STEP_QUEUED);
    world_timer(&w, "a");
    begin(&w, "a", "w2");
    assert_int_equal(w.fx.answer, STARTED_GO);
    assert_int_equal(world_event(&w, EVENT_STEP_STARTED, "a")->dispatch, 2);
    begin(&w, "a", "w1");
    assert_int_equal(w.fx.answer, STARTED_NO);
    world_deinit(&w);
}

static void two_changes_of_a_row_in_one_batch_are_one(void **unused)
{
    struct world w;
    struct err err;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP "}"));
    world_start(&w);
    effects_init(&w.fx, w.arena);
    for (uint32_t dispatch = 1; dispatch <= 2; dispatch++)
        assert_int_equal(engine_apply(w.state,
                                      &(struct engine_input){.kind = IN_RESULT,
                                                             .step = STR("a"),
                                                             .attempt = 1,
                                                             .dispatch = dispatch,
                                                             .worker = STR("w1"),
                                                             .result = RESULT_DEFERRED,
                                                             .retry_after_us = US_PER_S},
                                      w.now, &w.fx, &err),
                         ERR_OK);
    assert_int_equal(w.fx.change_count, 1);
    assert_int_equal(w.fx.changes[0].dispatch, 3);
    world_deinit(&w);
}

static void a_deferral_is_bounded(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP "}"));
    world_start(&w);
    defer(&w, "a", "w1", INT64_MAX);
    assert_int_equal(world_step(&w, "a")->due_at.us - w.now.us, 3600 * US_PER_S);
    world_deinit(&w);
}

static void a_cancelled_run_tells_its_workers_also_when_it_was_failing(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP "},\"b\":{" NOOP "}"));
    world_start(&w);
    begin(&w, "b", "w1");
    world_fail(&w, "a", "permanent", "x", true, true);
    assert_int_equal(w.fx.cancel_count, 0); /* it may finish and count */
    world_apply(&w, (struct engine_input){.kind = IN_CANCEL, .command = 3});
    assert_int_equal(w.fx.cancel_count, 1);
    world_fail(&w, "b", "transient", "cancelled", false, false);
    assert_int_equal(world_status(&w, "b"), STEP_CANCELLED);
    assert_int_equal(w.state->status, RUN_CANCELLED);
    world_deinit(&w);
}

static void a_run_cancelled_before_its_start_ends_at_once_and_never_starts(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP "}"));
    world_apply(&w, (struct engine_input){.kind = IN_CANCEL, .command = 3});
    assert_int_equal(w.state->status, RUN_CANCELLED);
    world_start(&w);
    assert_true(w.fx.ignored);
    assert_int_equal(w.state->status, RUN_CANCELLED);
    world_deinit(&w);
}

static void cancel_in_the_same_batch(struct world *w)
{
    struct engine_input cancel = {.kind = IN_CANCEL, .command = 3};

    assert_int_equal(engine_apply(w->state, &cancel, w->now, &w->fx, &w->err), ERR_OK);
}

static void stopping_while_values_are_awaited_drops_them(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"a\":{\"call\":\"transform\",\"with\":{\"value\":\"${ .input }\"}}"));
    w.unanswered = true;
    world_start(&w);
    assert_int_equal(w.fx.eval_count, 1);
    cancel_in_the_same_batch(&w);
    world_answer(&w, 0);
    assert_true(w.fx.ignored);
    assert_int_equal(world_status(&w, "a"), STEP_CANCELLED);
    assert_int_equal(w.state->status, RUN_CANCELLED);
    world_deinit(&w);

    /* a run of which only the output is missing has come too far to be cancelled */
    world_init(&w, "{\"name\":\"x\",\"steps\":{\"a\":{" NOOP "}},\"output\":\"${ .input }\"}");
    world_start(&w);
    w.unanswered = true;
    world_succeed(&w, "a", "1");
    cancel_in_the_same_batch(&w);
    world_answer(&w, 0);
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    assert_true(str_is(world_event(&w, EVENT_COMMAND_REFUSED, NULL)->code, "run_ended"));
    world_deinit(&w);
}

static void values_that_nobody_asked_for_are_ignored(void **unused)
{
    struct world w;
    struct engine_input value = {.kind = IN_VALUE, .node = NO_NODE, .purpose = EVAL_OUTPUT, .value = STR("1")};

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP "},\"b\":{\"call\":\"transform\",\"needs\":[\"a\"],\"with\":{\"value\":"
                         "\"${ .steps.a.output }\"}}"));
    world_start(&w);
    world_apply(&w, value);
    assert_true(w.fx.ignored);
    assert_int_equal(w.state->status, RUN_ACTIVE);
    value.node = 1;
    value.purpose = EVAL_WITH;
    world_apply(&w, value); /* its parent has not even ended */
    assert_true(w.fx.ignored);
    assert_int_equal(world_status(&w, "b"), STEP_PENDING);
    world_deinit(&w);
}

static void steps_ready_together_are_dispatched_in_the_order_of_the_document(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP "},\"b\":{" NOOP "},\"c\":{" NOOP "}"));
    world_start(&w);
    assert_int_equal(world_step(&w, "a")->open_seq, 2);
    assert_int_equal(world_step(&w, "b")->open_seq, 3);
    assert_int_equal(world_step(&w, "c")->open_seq, 4);
    world_deinit(&w);
}

static void a_run_that_timed_out_says_so(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, "{\"name\":\"x\",\"timeout\":\"1m\",\"steps\":{\"a\":{" NOOP "}}}");
    world_start(&w);
    w.now.us += 60 * US_PER_S;
    world_apply(&w, (struct engine_input){.kind = IN_TIMER, .seq = w.state->timeout_seq});
    assert_int_equal(w.state->status, RUN_TIMED_OUT);
    assert_string_equal(w.state->run_error->code, "timeout");
    world_deinit(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_delay_that_ended_before_the_deadline_succeeds_however_late_its_timer_comes),
        cmocka_unit_test(a_deadline_cuts_a_longer_delay),
        cmocka_unit_test(a_deadline_counts_from_ready_through_retries_and_deferrals),
        cmocka_unit_test(a_back_off_waits_no_longer_than_the_deadline),
        cmocka_unit_test(timers_that_are_early_or_come_twice_change_nothing),
        cmocka_unit_test(a_deferral_of_a_stopping_run_cancels_the_step),
        cmocka_unit_test(a_deferral_takes_the_grant_back_also_in_what_is_read_again),
        cmocka_unit_test(two_changes_of_a_row_in_one_batch_are_one),
        cmocka_unit_test(a_deferral_is_bounded),
        cmocka_unit_test(a_cancelled_run_tells_its_workers_also_when_it_was_failing),
        cmocka_unit_test(a_run_cancelled_before_its_start_ends_at_once_and_never_starts),
        cmocka_unit_test(stopping_while_values_are_awaited_drops_them),
        cmocka_unit_test(values_that_nobody_asked_for_are_ignored),
        cmocka_unit_test(steps_ready_together_are_dispatched_in_the_order_of_the_document),
        cmocka_unit_test(a_run_that_timed_out_says_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
