/* Settling: a person says what nobody knows, of a step that is held, or of one that ended a run. */
#include "tests/unit/engine/world.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>

#define NOOP "\"call\":\"noop\""
#define STEPS(s) "{\"name\":\"x\",\"steps\":{" s "}}"
#define NOTIFY(s) "{\"name\":\"x\",\"on_failure_notify\":{" NOOP ",\"retry\":{\"max_attempts\":2}},\"steps\":{" s "}}"
#define UNDO ",\"compensate\":{" NOOP ",\"retry\":{\"max_attempts\":2}}"
#define ONCE ",\"delivery\":\"at_most_once\""

static const char *refusal(struct world *w)
{
    const struct event *event = world_event(w, EVENT_COMMAND_REFUSED, NULL);

    return event == NULL || event->seq <= w->mark ? NULL : arena_dup(w->arena, event->code.ptr, event->code.len);
}

static void a_held_step_waits_for_a_persons_word(void **unused)
{
    (void)unused;
    for (int failed = 0; failed < 2; failed++) {
        struct world w;
        world_init(&w, STEPS("\"a\":{" NOOP ONCE ",\"on_unknown\":\"wait\"},\"b\":{" NOOP
                             ",\"needs\":[\"a\"]},\"c\":{" NOOP ",\"needs\":{\"a\":[\"failed\"]}}"));
        world_start(&w);
        world_begin(&w, "a", "w1");
        world_lost(&w, "a");
        assert_string_equal(world_said(&w), "step.waiting a");
        assert_int_equal(world_step(&w, "a")->open_kind, WORK_UNKNOWN);
        world_reload(&w);
        world_settle(&w, "b", "succeeded", NULL);
        assert_string_equal(refusal(&w), "not_unknown");
        world_settle(&w, "a", failed ? "failed" : "succeeded", "{\"id\":1}");
        assert_string_equal(world_said(&w), failed
                                                ? "command.applied, step.settled a, step.skipped b, step.dispatched c"
                                                : "command.applied, step.settled a, step.dispatched b, step.skipped c");
        assert_string_equal(world_output(&w, "a"), "{\"id\":1}");
        world_settle(&w, "a", "succeeded", NULL);
        assert_string_equal(refusal(&w), "not_unknown");
        world_deinit(&w);
    }
}

static void a_late_word_settles_a_held_step_and_a_deadline_ends_it(void **unused)
{
    struct world w;

    (void)unused;
    for (int how = 0; how < 4; how++) {
        world_init(&w, STEPS("\"a\":{" NOOP ONCE ",\"on_unknown\":\"wait\",\"deadline\":\"1h\"},\"b\":{" NOOP "}"));
        world_start(&w);
        world_begin(&w, "a", "w1");
        world_lost(&w, "a");
        if (how == 0) {
            world_succeed(&w, "a", "1");
            assert_int_equal(world_status(&w, "a"), STEP_SUCCEEDED);
        } else if (how == 1) {
            world_fail(&w, "a", "permanent", "http_404", true, true);
            assert_int_equal(world_status(&w, "a"), STEP_FAILED);
        } else if (how == 2) {
            world_timer(&w, "a");
            assert_int_equal(world_status(&w, "a"), STEP_OUTCOME_UNKNOWN);
        } else { /* all else is stopped: nobody waits for that word any more, but the doubt remains */
            world_fail(&w, "b", "permanent", "http_404", true, true);
            assert_int_equal(world_status(&w, "a"), STEP_OUTCOME_UNKNOWN);
            assert_int_equal(w.state->status, RUN_FAILED);
            world_result(&w, "a", RESULT_SUCCEEDED);
            assert_string_equal(world_said(&w), "step.late_result a");
        }
        world_deinit(&w);
    }
}

static void a_late_word_settles_a_step_that_ended_in_doubt_while_the_run_is_open(void **unused)
{
    (void)unused;
    for (int failed = 0; failed < 2; failed++) {
        struct world w;
        world_init(&w, STEPS("\"a\":{" NOOP ONCE "},\"b\":{" NOOP ",\"needs\":[\"a\"]},\"c\":{" NOOP "},\"d\":{" NOOP
                             ",\"needs\":{\"a\":[\"failed\"]}}"));
        world_start(&w);
        world_begin(&w, "a", "w1");
        world_begin(&w, "c", "w2");
        world_lost(&w, "a");
        assert_string_equal(world_said(&w), "step.outcome_unknown a, step.cancelled b, step.cancelled d");
        if (failed) {
            world_fail(&w, "a", "permanent", "http_404", true, true);
            assert_string_equal(world_said(&w), "step.settled a, step.skipped b, step.dispatched d");
            assert_string_equal(world_step(&w, "a")->error->code, "http_404");
        } else {
            world_succeed(&w, "a", "{\"id\":1}");
            assert_string_equal(world_said(&w), "step.settled a, step.dispatched b, step.skipped d");
            assert_string_equal(world_output(&w, "a"), "{\"id\":1}");
        }
        world_reload(&w);
        world_result(&w, "a", RESULT_SUCCEEDED); /* heard: a copy of it says nothing new */
        assert_string_equal(world_said(&w), "");
        world_succeed(&w, "c", "null");
        world_succeed(&w, failed ? "d" : "b", "null");
        assert_int_equal(w.state->status, RUN_SUCCEEDED);
        world_deinit(&w);
    }
}

/* Only what is open, of the last attempt, and says what became of the request. */
static void other_late_words_settle_nothing(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP ONCE "},\"c\":{" NOOP "}"));
    world_start(&w);
    world_begin(&w, "a", "w1");
    world_begin(&w, "c", "w2");
    world_lost(&w, "a");
    world_fail(&w, "a", "transient", "reset", true, false); /* it does not know either */
    assert_string_equal(world_said(&w), "step.late_result a");
    assert_int_equal(world_status(&w, "a"), STEP_OUTCOME_UNKNOWN);
    world_deinit(&w);

    world_init(&w, STEPS("\"a\":{" NOOP ONCE "},\"c\":{" NOOP "}"));
    world_start(&w);
    world_begin(&w, "a", "w1");
    world_begin(&w, "c", "w2");
    world_lost(&w, "a");
    world_settle(&w, "a", "failed", NULL);
    world_succeed(&w, "a", "1"); /* a person was first: kept, and changes nothing */
    assert_string_equal(world_said(&w), "step.late_result a");
    assert_int_equal(world_status(&w, "a"), STEP_FAILED);
    world_deinit(&w);
}

/* That it failed can say only the one who had begun it: not a copy that another worker held, nor a copy of the result
 * that could not be read and opened the doubt. */
static void what_others_say_of_a_failure_settles_nothing(void **unused)
{
    struct engine_input said = {.kind = IN_RESULT,
                                .step = STR("a"),
                                .attempt = 1,
                                .dispatch = 1,
                                .result = RESULT_FAILED,
                                .code = STR("worker_stopped"),
                                .error_class = STR("transient")};

    (void)unused;
    for (int held = 0; held < 2; held++) {
        for (int foreign = 0; foreign < 2; foreign++) {
            struct world w;
            world_init(&w, held ? STEPS("\"a\":{" NOOP ONCE ",\"on_unknown\":\"wait\"},\"c\":{" NOOP "}")
                                : STEPS("\"a\":{" NOOP ONCE "},\"c\":{" NOOP "}"));
            world_start(&w);
            world_begin(&w, "a", "w1");
            world_begin(&w, "c", "w2");
            world_lost(&w, "a");
            said.worker = foreign ? STR("w2") : STR_NONE;
            world_apply(&w, said);
            assert_int_equal(world_status(&w, "a"), held ? STEP_WAITING : STEP_OUTCOME_UNKNOWN);
            world_succeed(&w, "a", "7"); /* and the truth, when it comes, counts */
            assert_int_equal(world_status(&w, "a"), STEP_SUCCEEDED);
            world_deinit(&w);
        }
    }
}

static void an_ended_run_is_opened_again_by_what_is_settled(void **unused)
{
    struct world w;

    (void)unused;
    /* `a` unknown fails the run: `b` was skipped... cancelled, `q` was queued, `s` waited, `t` had been tried */
    world_init(&w, STEPS("\"a\":{" NOOP ONCE "},\"b\":{" NOOP ",\"needs\":[\"a\"]},\"q\":{" NOOP "},\"s\":{\"call\":"
                         "\"delay\",\"deadline\":\"2h\",\"with\":{\"duration\":\"1h\"}},\"t\":{" NOOP ",\"retry\":{"
                         "\"max_attempts\":2}},\"u\":{" NOOP ",\"needs\":[\"q\"]}"));
    world_start(&w);
    world_fail(&w, "t", "transient", "connect", false, false);
    world_begin(&w, "a", "w1");
    world_lost(&w, "a");
    assert_int_equal(w.state->status, RUN_FAILED);
    w.now.us += 86400 * US_PER_S;
    world_settle(&w, "a", "succeeded", "{\"id\":1}");
    assert_string_equal(world_said(&w), "command.applied, run.reopened, step.settled a, step.dispatched b, "
                                        "step.dispatched q, step.waiting s, step.dispatched t");
    assert_int_equal(w.state->timeout_at.us, w.now.us + w.plan->timeout_us);
    assert_int_equal(world_step(&w, "s")->due_at.us, w.now.us + 3600 * US_PER_S);
    assert_int_equal(world_step(&w, "t")->attempt, 2);
    world_reload(&w);
    world_fail(&w, "t", "transient", "connect", false, false); /* its attempts are counted anew */
    world_timer(&w, "t");
    world_succeed(&w, "t", "1");
    world_succeed(&w, "b", "1");
    world_succeed(&w, "q", "1");
    world_succeed(&w, "u", "1");
    world_timer(&w, "s");
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    world_deinit(&w);
}

static void what_begins_again_is_undone_once(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP ONCE "},\"q\":{" NOOP ",\"compensate\":{" NOOP
                         ",\"on\":[\"succeeded\",\"cancelled\"]}},\"z\":{" NOOP ",\"needs\":[\"a\",\"q\"]}"));
    world_start(&w);
    world_begin(&w, "a", "w1");
    world_lost(&w, "a");
    assert_int_equal(world_status(&w, "q"), STEP_CANCELLED);
    world_succeed(&w, "q:compensate", "1"); /* it may have been sent */
    assert_int_equal(w.state->status, RUN_COMPENSATED);
    world_deinit(&w);

    world_init(&w, STEPS("\"a\":{" NOOP ONCE "},\"q\":{" NOOP UNDO "},\"z\":{" NOOP ",\"needs\":[\"a\",\"q\"]}"));
    world_start(&w);
    world_begin(&w, "a", "w1");
    world_lost(&w, "a");
    assert_int_equal(w.state->status, RUN_FAILED); /* `q` was cancelled, and there is nothing to undo */
    world_settle(&w, "a", "succeeded", "1");
    world_succeed(&w, "q", "1");
    world_fail(&w, "z", "permanent", "http_404", true, true);
    world_succeed(&w, "q:compensate", "1");
    assert_int_equal(w.state->status, RUN_COMPENSATED);
    assert_int_equal(w.state->undo_count, 1);
    assert_int_equal(world_count(&w, EVENT_STEP_DISPATCHED, "q:compensate"), 1);
    world_deinit(&w);
}

static void settled_as_failed_the_run_fails_again_or_goes_on_with_who_handles_it(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP ONCE "},\"b\":{" NOOP "}"));
    world_start(&w);
    world_begin(&w, "a", "w1");
    world_lost(&w, "a");
    world_settle(&w, "a", "failed", NULL);
    assert_string_equal(world_said(&w),
                        "command.applied, run.reopened, step.settled a, step.cancelled b, run.failed a");
    assert_string_equal(w.state->run_error->code, "settled_failed");
    world_deinit(&w);

    world_init(&w, STEPS("\"a\":{" NOOP ONCE "},\"b\":{" NOOP ",\"needs\":{\"a\":[\"failed\"]}}"));
    world_start(&w);
    world_begin(&w, "a", "w1");
    world_lost(&w, "a");
    world_settle(&w, "a", "failed", NULL);
    world_succeed(&w, "b", "1");
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    world_deinit(&w);
}

static void a_run_that_is_still_ending_can_be_settled_too(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP ONCE "},\"b\":{" NOOP "},\"c\":{" NOOP ",\"needs\":[\"a\",\"b\"]}"));
    world_start(&w);
    world_begin(&w, "a", "w1");
    world_begin(&w, "b", "w2");
    world_lost(&w, "a");
    assert_int_equal(w.state->status, RUN_ACTIVE); /* `b` still runs */
    assert_int_equal(world_status(&w, "c"), STEP_CANCELLED);
    world_settle(&w, "a", "succeeded", "1");
    assert_string_equal(world_said(&w), "command.applied, step.settled a");
    world_succeed(&w, "b", "1");
    world_succeed(&w, "c", "1");
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    world_deinit(&w);
}

static void what_cannot_begin_again_keeps_a_settled_run_from_ending_well(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP ONCE
                         "},\"each\":{\"call\":\"foreach\",\"with\":{\"items\":[0],\"steps\":{\"go\":{" NOOP "}}}}"));
    world_start(&w);
    world_begin(&w, "a", "w1");
    world_lost(&w, "a");
    assert_int_equal(world_status(&w, "each"), STEP_CANCELLED);
    world_settle(&w, "a", "succeeded", "1");
    assert_int_equal(w.state->status, RUN_FAILED);
    assert_true(str_is(world_event(&w, EVENT_RUN_FAILED, NULL)->step, "each"));
    assert_string_equal(w.state->run_error->code, "cancelled");
    world_deinit(&w);
}

static void what_was_cancelled_or_undone_does_not_go_on_when_it_is_settled(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP ONCE "},\"b\":{" NOOP ",\"needs\":[\"a\"]}"));
    world_start(&w);
    world_begin(&w, "a", "w1");
    world_cancel(&w, false);
    world_lost(&w, "a");
    assert_int_equal(w.state->status, RUN_CANCELLED);
    world_settle(&w, "a", "succeeded", "1");
    assert_string_equal(world_said(&w), "command.applied, run.reopened, step.settled a, run.cancelled");
    world_deinit(&w);

    world_init(&w, STEPS("\"z\":{" NOOP UNDO "},\"a\":{" NOOP ONCE UNDO ",\"needs\":[\"z\"]},\"b\":{" NOOP
                         ",\"needs\":[\"a\"]}"));
    world_start(&w);
    world_succeed(&w, "z", "1");
    world_begin(&w, "a", "w1");
    world_lost(&w, "a");
    world_succeed(&w, "z:compensate", "1");
    assert_true(str_is(world_event(&w, EVENT_RUN_COMPENSATION_FAILED, NULL)->detail,
                       "{\"stands\":[],\"undetermined\":[\"a\"]}"));
    world_settle(&w, "a", "succeeded", "1"); /* it had happened: so it is to be undone */
    assert_string_equal(world_said(&w), "command.applied, run.reopened, step.settled a, run.compensating, "
                                        "step.dispatched a:compensate");
    world_succeed(&w, "a:compensate", "1");
    assert_int_equal(w.state->status, RUN_COMPENSATED);
    world_deinit(&w);

    world_init(&w, STEPS("\"z\":{" NOOP UNDO "},\"a\":{" NOOP ONCE UNDO ",\"needs\":[\"z\"]}"));
    world_start(&w);
    world_succeed(&w, "z", "1");
    world_begin(&w, "a", "w1");
    world_lost(&w, "a");
    world_succeed(&w, "z:compensate", "1");
    world_settle(&w, "a", "failed", NULL); /* it had not: nothing stands */
    assert_int_equal(w.state->status, RUN_COMPENSATED);
    world_deinit(&w);
}

static void a_run_that_is_opened_again_tells_of_its_end_once_more(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, NOTIFY("\"a\":{" NOOP ONCE "}"));
    world_start(&w);
    world_begin(&w, "a", "w1");
    world_lost(&w, "a");
    world_succeed(&w, ":notify", "1");
    assert_int_equal(w.state->status, RUN_FAILED);
    world_settle(&w, "a", "failed", NULL);
    assert_string_equal(world_said(&w), "command.applied, run.reopened, step.settled a, step.dispatched :notify");
    world_reload(&w);
    world_succeed(&w, ":notify", "1");
    assert_string_equal(world_said(&w), "step.succeeded :notify, run.failed a");
    world_deinit(&w);
}

static void settling_is_refused_where_there_is_nothing_to_settle(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, NOTIFY("\"a\":{" NOOP ONCE "},\"b\":{" NOOP UNDO "}"));
    world_start(&w);
    world_settle(&w, "a", "succeeded", NULL);
    assert_string_equal(refusal(&w), "not_unknown");
    world_settle(&w, "nobody", "succeeded", NULL);
    assert_string_equal(refusal(&w), "not_unknown");
    world_succeed(&w, "b", "1");
    world_begin(&w, "a", "w1");
    world_lost(&w, "a");
    world_settle(&w, "a", "succeeded", NULL); /* while it is being undone */
    assert_string_equal(refusal(&w), "not_unknown");
    world_fail(&w, "b:compensate", "permanent", "http_404", true, true);
    world_settle(&w, "a", "succeeded", NULL); /* and told of */
    assert_string_equal(refusal(&w), "not_unknown");
    world_deinit(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_held_step_waits_for_a_persons_word),
        cmocka_unit_test(a_late_word_settles_a_held_step_and_a_deadline_ends_it),
        cmocka_unit_test(a_late_word_settles_a_step_that_ended_in_doubt_while_the_run_is_open),
        cmocka_unit_test(other_late_words_settle_nothing),
        cmocka_unit_test(what_others_say_of_a_failure_settles_nothing),
        cmocka_unit_test(an_ended_run_is_opened_again_by_what_is_settled),
        cmocka_unit_test(what_begins_again_is_undone_once),
        cmocka_unit_test(settled_as_failed_the_run_fails_again_or_goes_on_with_who_handles_it),
        cmocka_unit_test(a_run_that_is_still_ending_can_be_settled_too),
        cmocka_unit_test(what_cannot_begin_again_keeps_a_settled_run_from_ending_well),
        cmocka_unit_test(what_was_cancelled_or_undone_does_not_go_on_when_it_is_settled),
        cmocka_unit_test(a_run_that_is_opened_again_tells_of_its_end_once_more),
        cmocka_unit_test(settling_is_refused_where_there_is_nothing_to_settle),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
