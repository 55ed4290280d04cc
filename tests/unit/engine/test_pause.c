/* Pausing: what is held back, what goes on, what people are answered, and that a resumed run does what it would have
 * done. Each state is compared with a fresh fold by the world. */
#include "tests/unit/engine/world.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define NOOP "\"call\":\"noop\""
#define STEPS(s) "{\"name\":\"x\",\"steps\":{" s "}}"
#define CHAIN STEPS("\"a\":{" NOOP "},\"b\":{" NOOP ",\"needs\":[\"a\"]}")
#define RETRIED NOOP ",\"retry\":{\"max_attempts\":5,\"initial\":\"10s\",\"factor\":1,\"jitter\":0}"

static const char *code_of(struct world *w, enum event_type type)
{
    struct event *event = world_event(w, type, NULL);

    return event == NULL ? "" : arena_dup(w->arena, event->code.ptr, event->code.len);
}

static void what_runs_may_finish_and_nothing_begins_until_the_run_is_resumed(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, CHAIN);
    world_start(&w);
    world_begin(&w, "a", "w1");
    world_pause(&w);
    assert_string_equal(world_said(&w), "command.applied, run.paused");
    assert_int_equal(w.state->status, RUN_PAUSED);
    assert_true(w.fx.status_changed);
    assert_true(str_is(world_event(&w, EVENT_RUN_PAUSED, NULL)->by, "ann"));
    world_reload(&w);
    world_succeed(&w, "a", "1");
    assert_string_equal(world_said(&w), "step.succeeded a");
    world_reload(&w);
    world_resume(&w);
    assert_string_equal(world_said(&w), "command.applied, run.resumed, step.dispatched b");
    assert_int_equal(w.state->status, RUN_ACTIVE);
    world_succeed(&w, "b", "1");
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    world_deinit(&w);
}

static void the_end_of_a_paused_run_waits_for_its_resumption(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, "{\"name\":\"x\",\"output\":\"${ .steps.a.output }\",\"steps\":{\"a\":{" NOOP "}}}");
    world_start(&w);
    world_pause(&w);
    world_succeed(&w, "a", "1");
    assert_int_equal(w.state->status, RUN_PAUSED);
    world_resume(&w);
    assert_string_equal(world_said(&w), "command.applied, run.resumed, run.succeeded");
    world_deinit(&w);
}

static void what_already_holds_is_applied_and_changes_nothing(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, CHAIN);
    world_start(&w);
    world_resume(&w);
    assert_string_equal(world_said(&w), "command.applied");
    world_pause(&w);
    world_pause(&w);
    assert_string_equal(world_said(&w), "command.applied");
    world_cancel(&w, false);
    world_cancel(&w, false);
    assert_string_equal(world_said(&w), "command.applied");
    world_cancel(&w, true); /* that is more than holds */
    assert_string_equal(code_of(&w, EVENT_COMMAND_REFUSED), "run_ended");
    world_deinit(&w);
}

static void a_cancelled_run_is_cancelled_however_often_it_is_asked_for(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, CHAIN);
    world_start(&w);
    world_begin(&w, "a", "w1");
    world_cancel(&w, false);
    world_cancel(&w, false);
    assert_string_equal(world_said(&w), "command.applied");
    world_cancel(&w, true); /* that is more than before */
    assert_string_equal(world_said(&w), "command.applied, run.cancelling");
    assert_true(w.state->compensate_wanted);
    world_fail(&w, "a", "permanent", "cancelled", true, false);
    assert_int_equal(w.state->status, RUN_CANCELLED);
    world_cancel(&w, false);
    assert_string_equal(world_said(&w), "command.applied");
    world_deinit(&w);
}

static void the_wrong_time_is_refused_with_the_reason(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, CHAIN);
    world_start(&w);
    world_begin(&w, "a", "w1");
    world_cancel(&w, false);
    world_pause(&w);
    assert_string_equal(code_of(&w, EVENT_COMMAND_REFUSED), "run_stopping");
    world_fail(&w, "a", "permanent", "cancelled", true, false);
    world_pause(&w);
    assert_string_equal(code_of(&w, EVENT_COMMAND_REFUSED), "run_ended");
    world_resume(&w);
    assert_string_equal(code_of(&w, EVENT_COMMAND_REFUSED), "run_ended");
    world_cancel(&w, true);
    assert_string_equal(code_of(&w, EVENT_COMMAND_REFUSED), "run_ended");
    world_deinit(&w);

    world_init(&w, STEPS("\"a\":{" NOOP "},\"b\":{" NOOP "}"));
    world_start(&w);
    world_begin(&w, "b", "w1");
    world_fail(&w, "a", "permanent", "http_404", true, true);
    world_pause(&w);
    assert_string_equal(code_of(&w, EVENT_COMMAND_REFUSED), "run_stopping");
    world_deinit(&w);

    world_init(&w, STEPS("\"a\":{" NOOP ",\"compensate\":{" NOOP "}},\"b\":{" NOOP ",\"needs\":[\"a\"]}"));
    world_start(&w);
    world_succeed(&w, "a", "1");
    world_fail(&w, "b", "permanent", "http_404", true, true);
    world_pause(&w);
    assert_string_equal(code_of(&w, EVENT_COMMAND_REFUSED), "compensating");
    world_deinit(&w);
}

static void a_run_that_fails_while_it_is_paused_undoes_nothing_before_it_is_resumed(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP ",\"compensate\":{" NOOP "}},\"b\":{" NOOP ",\"needs\":[\"a\"]}"));
    world_start(&w);
    world_succeed(&w, "a", "1");
    world_pause(&w);
    world_fail(&w, "b", "permanent", "http_404", true, true);
    assert_string_equal(world_said(&w), "step.failed b");
    world_resume(&w);
    assert_string_equal(world_said(&w), "command.applied, run.resumed, run.compensating, step.dispatched a:compensate");
    world_deinit(&w);
}

static void timers_of_what_would_begin_are_not_acted_on(void **unused)
{
    struct world w;
    uint32_t seq;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" RETRIED "},\"d\":{\"call\":\"delay\",\"with\":{\"duration\":\"5s\"}}"));
    world_start(&w);
    world_fail(&w, "a", "transient", "http_503", true, true);
    world_pause(&w);
    assert_int_equal(engine_timer_at(w.state, world_step(&w, "a")->open_seq).us, 0);
    assert_int_equal(engine_timer_at(w.state, world_step(&w, "d")->open_seq).us, 0);
    assert_int_equal(engine_timer_at(w.state, w.state->timeout_seq).us, w.state->timeout_at.us);
    world_timer(&w, "a");
    assert_true(w.fx.ignored);
    world_timer(&w, "d");
    assert_true(w.fx.ignored);
    world_reload(&w);
    world_resume(&w);
    seq = world_step(&w, "a")->open_seq;
    assert_true(engine_timer_at(w.state, seq).us <= w.now.us); /* due since: heard at once */
    world_timer(&w, "a");
    assert_string_equal(world_said(&w), "step.dispatched a");
    world_timer(&w, "d");
    assert_string_equal(world_said(&w), "step.succeeded d");
    world_deinit(&w);
}

static void deadlines_and_the_runs_timeout_go_on_counting(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w,
               STEPS("\"a\":{" RETRIED ",\"deadline\":\"30s\"},\"b\":{" NOOP ",\"needs\":{\"a\":[\"timed_out\"]}}"));
    world_start(&w);
    world_fail(&w, "a", "transient", "http_503", true, true);
    world_pause(&w);
    assert_int_equal(engine_timer_at(w.state, world_step(&w, "a")->open_seq).us, world_step(&w, "a")->deadline.us);
    w.now = world_step(&w, "a")->deadline;
    world_apply(&w, (struct engine_input){.kind = IN_TIMER, .seq = world_step(&w, "a")->open_seq});
    assert_string_equal(world_said(&w), "step.timed_out a");
    world_run_timeout(&w);
    assert_string_equal(world_said(&w), "run.timing_out, step.cancelled b, run.timed_out");
    world_deinit(&w);

    world_init(&w, STEPS("\"a\":{" NOOP "}"));
    world_start(&w);
    world_pause(&w);
    world_succeed(&w, "a", "1"); /* at rest, and held */
    world_run_timeout(&w);
    assert_int_equal(w.state->status, RUN_TIMED_OUT);
    world_deinit(&w);
}

static void a_lost_attempt_waits_too(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, CHAIN);
    world_start(&w);
    world_begin(&w, "a", "w1");
    world_pause(&w);
    world_lost(&w, "a");
    assert_string_equal(world_said(&w), "attempt.failed a");
    world_resume(&w);
    world_timer(&w, "a");
    assert_string_equal(world_said(&w), "step.dispatched a");
    world_deinit(&w);
}

static void what_comes_while_it_is_paused_is_recorded(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"s\":{\"call\":\"wait_signal\",\"with\":{\"signal\":\"go\"}},\"b\":{" NOOP
                         ",\"needs\":[\"s\"]},\"c\":{\"call\":\"workflow\",\"with\":{\"name\":\"child\"}}"));
    world_start(&w);
    world_pause(&w);
    assert_int_equal(w.fx.child_pause_count, 1);
    assert_false(w.fx.child_pauses[0].resume);
    world_signal(&w, "go", "1");
    assert_string_equal(world_said(&w), "command.applied, signal.received, step.succeeded s");
    world_child_ended(&w, "c", RUN_SUCCEEDED, "1", NULL);
    assert_string_equal(world_said(&w), "step.succeeded c");
    world_resume(&w);
    assert_int_equal(w.fx.child_pause_count, 0); /* it has ended */
    assert_string_equal(world_said(&w), "command.applied, run.resumed, step.dispatched b");
    world_deinit(&w);
}

static void a_child_goes_with_its_parent_unless_it_was_paused_by_itself(void **unused)
{
    struct world w;

    (void)unused;
    for (int alone = 0; alone < 2; alone++) {
        world_init(&w, CHAIN);
        world_start(&w);
        world_apply(&w, (struct engine_input){.kind = IN_PAUSE, .of_parent = alone == 0});
        world_reload(&w);
        world_apply(&w, (struct engine_input){.kind = IN_RESUME, .of_parent = true});
        assert_int_equal(w.state->status, alone ? RUN_PAUSED : RUN_ACTIVE);
        world_resume(&w);
        assert_int_equal(w.state->status, RUN_ACTIVE);
        world_deinit(&w);
    }
}

static void loops_begin_no_items_and_decide_nothing_in_them(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"each\":{\"call\":\"foreach\",\"with\":{\"items\":[1,2,3,4],\"concurrency\":2,\"steps\":{"
                         "\"x\":{" NOOP "},\"y\":{" NOOP ",\"needs\":[\"x\"]}}}}"));
    world_start(&w);
    world_succeed(&w, "each[0].x", "1");
    world_pause(&w);
    world_succeed(&w, "each[0].y", "1");
    assert_string_equal(world_said(&w), "step.succeeded each[0].y, step.succeeded each[0]");
    world_succeed(&w, "each[1].x", "1");
    assert_string_equal(world_said(&w), "step.succeeded each[1].x");
    world_reload(&w);
    world_resume(&w);
    assert_string_equal(world_said(&w),
                        "command.applied, run.resumed, step.dispatched each[1].y, step.dispatched each[2].x");
    for (int i = 2; i < 4; i++) {
        world_succeed(&w, arena_printf(w.arena, "each[%d].x", i), "1");
        world_succeed(&w, arena_printf(w.arena, "each[%d].y", i), "1");
        if (i == 2)
            world_succeed(&w, "each[1].y", "1");
    }
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    world_deinit(&w);
}

/* What was held in more iterations than one batch may take comes with the loop's timer, whatever else comes between. */
static void a_wide_loop_goes_on_in_portions(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w,
               STEPS("\"l\":{\"call\":\"transform\",\"with\":{\"value\":\"${ .input }\"}},\"each\":{\"needs\":[\"l\"],"
                     "\"call\":\"foreach\",\"with\":{\"items\":\"${ .steps.l.output }\",\"concurrency\":600,"
                     "\"steps\":{\"x\":{" NOOP "},\"y\":{" NOOP ",\"needs\":[\"x\"]}}}}"));
    w.unchecked = true;
    w.input = STR("[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,"
                  "36,37,38,39,40,41,42,43,44,45,46,47,48,49,50,51,52,53,54,55,56,57,58,59,60,61,62,63,64,65,66,67,68,"
                  "69,70,71,72,73,74,75,76,77,78,79,80,81,82,83,84,85,86,87,88,89,90,91,92,93,94,95,96,97,98,99,0,1,2,"
                  "3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36,37,"
                  "38,39,40,41,42,43,44,45,46,47,48,49,50,51,52,53,54,55,56,57,58,59,60,61,62,63,64,65,66,67,68,69,70,"
                  "71,72,73,74,75,76,77,78,79,80,81,82,83,84,85,86,87,88,89,90,91,92,93,94,95,96,97,98,99,0,1,2,3,4,5,"
                  "6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36,37,38,39,"
                  "40,41,42,43,44,45,46,47,48,49,50,51,52,53,54,55,56,57,58,59,60,61,62,63,64,65,66,67,68,69,70,71,72,"
                  "73,74,75,76,77,78,79,80,81,82,83,84,85,86,87,88,89,90,91,92,93,94,95,96,97,98,99]");
    world_start(&w);
    world_timer(&w, "each");
    assert_int_equal(world_step(&w, "each")->extra->live, 300);
    world_pause(&w);
    for (int i = 0; i < 300; i++)
        world_succeed(&w, arena_printf(w.arena, "each[%d].x", i), "1");
    world_resume(&w);
    assert_int_equal(world_count(&w, EVENT_STEP_DISPATCHED, NULL), 300 + 256);
    world_succeed(&w, "each[0].y", "1"); /* an end comes first: its room must not hide what is held */
    assert_int_equal(world_count(&w, EVENT_STEP_DISPATCHED, NULL), 600);
    world_check(&w);
    world_reload(&w);
    for (int i = 1; i < 300; i++)
        world_succeed(&w, arena_printf(w.arena, "each[%d].y", i), "1");
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    world_deinit(&w);
}

static void values_that_come_after_the_pause_are_asked_for_again(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP "},\"b\":{\"needs\":[\"a\"],\"when\":\"${ .steps.a.output }\"," NOOP "}"));
    world_start(&w);
    w.unanswered = true;
    w.unchecked = true;
    world_succeed(&w, "a", "true");
    assert_int_equal(w.fx.eval_count, 1);
    assert_int_equal(
        engine_apply(w.state, &(struct engine_input){.kind = IN_PAUSE, .command = 8}, w.now, &w.fx, &w.err), ERR_OK);
    world_answer(&w, 0);
    assert_int_equal(world_status(&w, "b"), STEP_PENDING);
    w.unchecked = false;
    world_check(&w);
    world_resume(&w);
    assert_string_equal(world_said(&w), "command.applied, run.resumed, step.dispatched b");
    world_deinit(&w);
}

static void a_paused_run_can_be_cancelled_and_begun_things_are_told(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP "},\"b\":{" NOOP ",\"needs\":[\"a\"]},\"c\":{" NOOP "}"));
    world_start(&w);
    world_begin(&w, "c", "w1");
    world_pause(&w);
    world_succeed(&w, "a", "1");
    world_cancel(&w, false);
    assert_string_equal(world_said(&w), "command.applied, run.cancelling, step.cancelled b");
    assert_true(w.fx.status_changed);
    assert_int_equal(w.fx.cancel_count, 1);
    assert_int_equal(w.state->status, RUN_ACTIVE); /* until what runs has ended */
    world_fail(&w, "c", "permanent", "cancelled", true, false);
    assert_int_equal(w.state->status, RUN_CANCELLED);
    world_deinit(&w);
}

static void one_that_has_not_started_is_paused_all_the_same(void **unused)
{
    struct world w;

    (void)unused;
    for (int cancelled = 0; cancelled < 2; cancelled++) {
        world_init(&w, CHAIN);
        world_pause(&w);
        assert_int_equal(w.state->status, RUN_PAUSED);
        if (cancelled) {
            world_cancel(&w, false);
            assert_int_equal(w.state->status, RUN_CANCELLED);
        } else {
            world_start(&w);
            assert_string_equal(world_said(&w), "run.started");
            assert_int_equal(w.state->status, RUN_PAUSED);
            world_start(&w);
            assert_true(w.fx.ignored);
            world_resume(&w);
            assert_string_equal(world_said(&w), "command.applied, run.resumed, step.dispatched a");
        }
        world_deinit(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_runs_may_finish_and_nothing_begins_until_the_run_is_resumed),
        cmocka_unit_test(the_end_of_a_paused_run_waits_for_its_resumption),
        cmocka_unit_test(what_already_holds_is_applied_and_changes_nothing),
        cmocka_unit_test(a_cancelled_run_is_cancelled_however_often_it_is_asked_for),
        cmocka_unit_test(the_wrong_time_is_refused_with_the_reason),
        cmocka_unit_test(a_run_that_fails_while_it_is_paused_undoes_nothing_before_it_is_resumed),
        cmocka_unit_test(timers_of_what_would_begin_are_not_acted_on),
        cmocka_unit_test(deadlines_and_the_runs_timeout_go_on_counting),
        cmocka_unit_test(a_lost_attempt_waits_too),
        cmocka_unit_test(what_comes_while_it_is_paused_is_recorded),
        cmocka_unit_test(a_child_goes_with_its_parent_unless_it_was_paused_by_itself),
        cmocka_unit_test(loops_begin_no_items_and_decide_nothing_in_them),
        cmocka_unit_test(a_wide_loop_goes_on_in_portions),
        cmocka_unit_test(values_that_come_after_the_pause_are_asked_for_again),
        cmocka_unit_test(a_paused_run_can_be_cancelled_and_begun_things_are_told),
        cmocka_unit_test(one_that_has_not_started_is_paused_all_the_same),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
