/* What a run does next: chains, joins, branches, retries, failures, lost workers, deadlines. */
#include "tests/unit/engine/world.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>

#define NOOP "\"call\":\"noop\""

static void a_chain_runs_to_its_end(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, "{\"name\":\"x\",\"steps\":{\"a\":{" NOOP "},\"b\":{\"needs\":[\"a\"]," NOOP
                   "}},\"output\":\"${ .steps.a.output }\"}");
    world_start(&w);
    assert_int_equal(w.state->status, RUN_ACTIVE);
    assert_int_equal(world_status(&w, "a"), STEP_QUEUED);
    assert_int_equal(world_status(&w, "b"), STEP_PENDING);
    assert_int_equal(w.fx.open_count, 2); /* the run's timeout and the task */
    world_succeed(&w, "a", "0.10");
    assert_int_equal(world_status(&w, "b"), STEP_QUEUED);
    assert_int_equal(w.fx.close_count, 1);
    world_succeed(&w, "b", "null");
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    assert_int_equal(w.fx.close_count, 2);
    assert_true(str_is(world_event(&w, EVENT_RUN_SUCCEEDED, NULL)->output, "0.10"));
    world_deinit(&w);
}

static void a_result_applied_twice_changes_nothing(void **unused)
{
    struct world w;
    struct engine_input again = {
        .kind = IN_RESULT, .step = STR("a"), .attempt = 1, .dispatch = 1, .result = RESULT_SUCCEEDED};

    (void)unused;
    world_init(&w, "{\"name\":\"x\",\"steps\":{\"a\":{" NOOP "},\"b\":{\"needs\":[\"a\"]," NOOP "}}}");
    world_start(&w);
    world_succeed(&w, "a", "1");
    world_apply(&w, again);
    assert_true(w.fx.ignored);
    assert_int_equal(w.fx.event_count, 0);
    world_deinit(&w);
}

static void an_input_of_a_newer_attempt_proves_a_stale_cache(void **unused)
{
    struct world w;
    struct engine_input newer = {
        .kind = IN_RESULT, .step = STR("a"), .attempt = 2, .dispatch = 1, .result = RESULT_SUCCEEDED};

    (void)unused;
    world_init(&w, "{\"name\":\"x\",\"steps\":{\"a\":{" NOOP "}}}");
    world_start(&w);
    world_apply(&w, newer);
    assert_true(w.fx.stale_cache);
    newer.attempt = 1;
    newer.dispatch = 2;
    world_apply(&w, newer);
    assert_true(w.fx.stale_cache);
    newer = (struct engine_input){.kind = IN_TIMER, .seq = 999};
    world_apply(&w, newer);
    assert_true(w.fx.stale_cache);
    world_deinit(&w);
}

static void a_transient_failure_is_tried_again_after_its_backoff(void **unused)
{
    struct world w;
    int64_t wait;

    (void)unused;
    world_init(&w, "{\"name\":\"x\",\"steps\":{\"a\":{" NOOP
                   ",\"retry\":{\"max_attempts\":3,\"initial\":\"1s\",\"factor\":2,\"jitter\":0.2}}}}");
    world_start(&w);
    world_fail(&w, "a", "transient", "http_503", true, true);
    assert_int_equal(world_status(&w, "a"), STEP_WAITING);
    wait = world_step(&w, "a")->due_at.us - w.now.us;
    assert_in_range(wait, US_PER_S, US_PER_S * 12 / 10);
    world_timer(&w, "a");
    assert_int_equal(world_step(&w, "a")->attempt, 2);
    assert_int_equal(world_step(&w, "a")->generation, 2); /* a definite answer: receivers would replay it */
    world_fail(&w, "a", "transient", "connect", false, false);
    wait = world_step(&w, "a")->due_at.us - w.now.us;
    assert_in_range(wait, 2 * US_PER_S, US_PER_S * 24 / 10);
    world_timer(&w, "a");
    assert_int_equal(world_step(&w, "a")->generation, 2); /* unknown outcome: the same key */
    world_fail(&w, "a", "transient", "timeout", true, false);
    assert_int_equal(world_status(&w, "a"), STEP_TIMED_OUT);
    assert_int_equal(w.state->status, RUN_FAILED);
    world_deinit(&w);
}

static void a_permanent_failure_ends_the_run_and_cancels_what_waits(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, "{\"name\":\"x\",\"steps\":{\"a\":{" NOOP "},\"b\":{" NOOP "},\"c\":{" NOOP
                   "},\"d\":{\"needs\":[\"a\"]," NOOP "}}}");
    world_start(&w);
    world_apply(&w, (struct engine_input){
                        .kind = IN_STARTED, .step = STR("b"), .attempt = 1, .dispatch = 1, .worker = STR("w1")});
    world_fail(&w, "a", "permanent", "http_404", true, true);
    assert_int_equal(world_status(&w, "c"), STEP_CANCELLED);
    assert_int_equal(world_status(&w, "d"), STEP_CANCELLED);
    assert_int_equal(world_status(&w, "b"), STEP_RUNNING); /* may finish and count */
    assert_int_equal(w.state->status, RUN_ACTIVE);
    world_succeed(&w, "b", "1");
    assert_int_equal(world_status(&w, "b"), STEP_SUCCEEDED);
    assert_int_equal(w.state->status, RUN_FAILED);
    assert_true(str_is(world_event(&w, EVENT_RUN_FAILED, NULL)->step, "a"));
    assert_true(str_is(world_event(&w, EVENT_RUN_FAILED, NULL)->code, "http_404"));
    world_deinit(&w);
}

static void a_failure_is_handled_only_by_a_step_that_has_run(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, "{\"name\":\"x\",\"steps\":{\"a\":{" NOOP "},\"undo\":{\"needs\":{\"a\":[\"failed\"]}," NOOP "}}}");
    world_start(&w);
    world_fail(&w, "a", "permanent", "x", true, true);
    assert_int_equal(world_status(&w, "undo"), STEP_QUEUED);
    world_succeed(&w, "undo", "1");
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    world_deinit(&w);

    world_init(&w, "{\"name\":\"x\",\"steps\":{\"a\":{" NOOP
                   "},\"undo\":{\"needs\":{\"a\":[\"failed\"]},\"when\":false," NOOP "}}}");
    world_start(&w);
    world_fail(&w, "a", "permanent", "x", true, true);
    assert_int_equal(world_status(&w, "undo"), STEP_SKIPPED);
    assert_int_equal(w.state->status, RUN_FAILED);
    world_deinit(&w);
}

static void continue_lets_independent_branches_go_on(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, "{\"name\":\"x\",\"steps\":{\"a\":{" NOOP ",\"on_failure\":\"continue\"},\"b\":{" NOOP "},"
                   "\"c\":{\"needs\":[\"a\"]," NOOP "}}}");
    world_start(&w);
    world_fail(&w, "a", "permanent", "x", true, true);
    assert_int_equal(world_status(&w, "c"), STEP_SKIPPED);
    world_succeed(&w, "b", "1");
    assert_int_equal(w.state->status, RUN_PARTIALLY_COMPLETED);
    world_deinit(&w);
}

static void a_condition_takes_one_branch_and_join_any_goes_on(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w,
               "{\"name\":\"x\",\"steps\":{\"large\":{\"call\":\"condition\",\"with\":{\"if\":\"${ .input.large }\"}},"
               "\"yes\":{\"needs\":{\"large\":[\"true\"]}," NOOP "},\"no\":{\"needs\":{\"large\":[false]}," NOOP "},"
               "\"end\":{\"needs\":[\"yes\",\"no\"],\"join\":\"any\"," NOOP "}}}");
    w.input = STR("{\"large\":false}");
    world_start(&w);
    assert_int_equal(world_status(&w, "yes"), STEP_SKIPPED);
    assert_true(str_is(world_event(&w, EVENT_STEP_SKIPPED, "yes")->detail,
                       "{\"step\":\"large\",\"status\":\"succeeded\",\"branch\":\"false\"}"));
    assert_int_equal(world_status(&w, "no"), STEP_QUEUED);
    world_succeed(&w, "no", "1");
    assert_int_equal(world_status(&w, "end"), STEP_QUEUED);
    world_succeed(&w, "end", "1");
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    world_deinit(&w);
}

static void a_switch_takes_the_first_case_that_holds_else_the_default(void **unused)
{
    struct world w;
    const char *doc = "{\"name\":\"x\",\"steps\":{\"s\":{\"call\":\"switch\",\"with\":{\"cases\":[{\"name\":\"one\","
                      "\"if\":\"${ .input.a }\"},"
                      "{\"name\":\"two\",\"if\":\"${ .input.b }\"}],\"default\":\"other\"}},"
                      "\"x1\":{\"needs\":{\"s\":[\"one\"]}," NOOP "},\"x2\":{\"needs\":{\"s\":[\"two\"]}," NOOP "},"
                      "\"x3\":{\"needs\":{\"s\":[\"other\"]}," NOOP "}}}";

    (void)unused;
    world_init(&w, doc);
    w.input = STR("{\"a\":false,\"b\":true}");
    world_start(&w);
    assert_int_equal(world_status(&w, "x1"), STEP_SKIPPED);
    assert_int_equal(world_status(&w, "x2"), STEP_QUEUED);
    assert_int_equal(world_status(&w, "x3"), STEP_SKIPPED);
    world_deinit(&w);
    world_init(&w, doc);
    w.input = STR("{\"a\":false,\"b\":false}");
    world_start(&w);
    assert_int_equal(world_status(&w, "x3"), STEP_QUEUED);
    world_deinit(&w);
    world_init(&w, doc);
    w.input = STR("{\"a\":1,\"b\":false}");
    world_start(&w);
    assert_int_equal(world_status(&w, "s"), STEP_FAILED);
    assert_int_equal(w.state->status, RUN_FAILED);
    world_deinit(&w);
}

static void a_delay_waits_until_its_time(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, "{\"name\":\"x\",\"steps\":{\"d\":{\"call\":\"delay\",\"with\":{\"duration\":\"5m\"}}}}");
    world_start(&w);
    assert_int_equal(world_status(&w, "d"), STEP_WAITING);
    assert_int_equal(world_step(&w, "d")->due_at.us - w.now.us, 300 * US_PER_S);
    world_apply(&w, (struct engine_input){.kind = IN_TIMER, .seq = world_step(&w, "d")->open_seq});
    assert_true(w.fx.ignored); /* too early */
    world_timer(&w, "d");
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    world_deinit(&w);
}

static void a_deferral_is_a_new_dispatch_without_an_event(void **unused)
{
    struct world w;
    struct engine_input in = {.kind = IN_RESULT,
                              .step = STR("a"),
                              .attempt = 1,
                              .dispatch = 1,
                              .result = RESULT_DEFERRED,
                              .retry_after_us = US_PER_S};

    (void)unused;
    world_init(&w, "{\"name\":\"x\",\"steps\":{\"a\":{" NOOP "}}}");
    world_start(&w);
    world_apply(&w, in);
    assert_int_equal(w.fx.event_count, 0);
    assert_int_equal(w.fx.change_count, 1);
    assert_int_equal(w.fx.changes[0].dispatch, 2);
    assert_false(w.fx.changes[0].publish);
    world_apply(&w, in);
    assert_true(w.fx.ignored); /* the same deferral again */
    world_timer(&w, "a");
    assert_int_equal(w.fx.change_count, 1);
    assert_true(w.fx.changes[0].publish);
    world_succeed(&w, "a", "1");
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    world_deinit(&w);
}

static void three_lost_workers_in_a_row_are_poison(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, "{\"name\":\"x\",\"steps\":{\"a\":{" NOOP "}}}");
    world_start(&w);
    world_result(&w, "a", RESULT_ABANDONED);
    assert_int_equal(world_step(&w, "a")->attempt, 2);
    assert_int_equal(world_status(&w, "a"), STEP_QUEUED); /* at once */
    world_result(&w, "a", RESULT_ABANDONED);
    world_result(&w, "a", RESULT_ABANDONED);
    assert_int_equal(world_status(&w, "a"), STEP_FAILED);
    assert_true(str_is(world_event(&w, EVENT_STEP_FAILED, "a")->code, "poison"));
    world_deinit(&w);
}

static void a_late_success_of_a_lost_attempt_closes_the_open_step(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, "{\"name\":\"x\",\"steps\":{\"a\":{" NOOP "}}}");
    world_start(&w);
    world_apply(&w, (struct engine_input){.kind = IN_LOST, .step = STR("a"), .attempt = 1, .dispatch = 1});
    assert_int_equal(world_step(&w, "a")->attempt, 2);
    world_apply(&w, (struct engine_input){.kind = IN_RESULT,
                                          .step = STR("a"),
                                          .attempt = 1,
                                          .dispatch = 1,
                                          .result = RESULT_SUCCEEDED,
                                          .output = STR("7")});
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    assert_int_equal(world_event(&w, EVENT_STEP_SUCCEEDED, "a")->attempt, 1);
    world_deinit(&w);
}

static void at_most_once_is_granted_to_one_worker_and_never_repeated(void **unused)
{
    struct world w;
    struct engine_input started = {
        .kind = IN_STARTED, .step = STR("a"), .attempt = 1, .dispatch = 1, .worker = STR("w1")};

    (void)unused;
    world_init(&w, "{\"name\":\"x\",\"steps\":{\"a\":{" NOOP ",\"delivery\":\"at_most_once\"}}}");
    world_start(&w);
    world_apply(&w, started);
    assert_int_equal(w.fx.answer, STARTED_GO);
    started.worker = STR("w2");
    world_apply(&w, started);
    assert_int_equal(w.fx.answer, STARTED_NO);
    world_result(&w, "a", RESULT_ABANDONED);
    assert_int_equal(world_status(&w, "a"), STEP_OUTCOME_UNKNOWN);
    assert_int_equal(w.state->status, RUN_FAILED);
    world_deinit(&w);

    world_init(&w, "{\"name\":\"x\",\"steps\":{\"a\":{" NOOP ",\"delivery\":\"at_most_once\"}}}");
    world_start(&w);
    world_result(&w, "a", RESULT_ABANDONED); /* before the grant it may be repeated freely */
    assert_int_equal(world_status(&w, "a"), STEP_QUEUED);
    world_apply(&w, (struct engine_input){
                        .kind = IN_STARTED, .step = STR("a"), .attempt = 2, .dispatch = 1, .worker = STR("w1")});
    world_fail(&w, "a", "transient", "connect", false, false); /* no byte has left */
    assert_int_equal(world_status(&w, "a"), STEP_WAITING);
    world_timer(&w, "a");
    world_fail(&w, "a", "transient", "reset", true, false);
    assert_int_equal(world_status(&w, "a"), STEP_OUTCOME_UNKNOWN);
    world_deinit(&w);
}

static void who_only_asks_is_told_whether_the_attempt_is_open_and_begins_nothing(void **unused)
{
    struct world w;
    struct engine_input ask = {
        .kind = IN_STARTED, .step = STR("a"), .attempt = 1, .dispatch = 1, .worker = STR("w1"), .ask = 1};
    uint32_t before;

    (void)unused;
    world_init(&w, "{\"name\":\"x\",\"steps\":{\"a\":{" NOOP "},\"each\":{\"call\":\"foreach\",\"with\":{\"items\":[1],"
                   "\"steps\":{\"go\":{" NOOP "}}}}}}");
    world_start(&w);
    before = w.state->last_seq;
    world_apply(&w, ask);
    assert_int_equal(w.fx.answer, STARTED_GO);
    assert_int_equal(w.state->last_seq, before);
    assert_int_equal(world_status(&w, "a"), STEP_QUEUED);
    world_succeed(&w, "each[0].go", "1");
    world_apply(&w, (struct engine_input){.kind = IN_CANCEL, .command = 1});
    world_apply(&w, ask);
    assert_int_equal(w.fx.answer, STARTED_NO);
    ask.step = STR("each[0].go"); /* the fold has forgotten it */
    world_apply(&w, ask);
    assert_int_equal(w.fx.answer, STARTED_NO);
    world_deinit(&w);
}

static void a_deadline_ends_the_step_with_all_its_retries(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, "{\"name\":\"x\",\"steps\":{\"a\":{" NOOP ",\"deadline\":\"10s\",\"retry\":{\"initial\":\"1m\"}}}}");
    world_start(&w);
    assert_int_equal(w.fx.opens[1].due_at.us - w.now.us, 10 * US_PER_S);
    world_fail(&w, "a", "transient", "http_503", true, true);
    world_timer(&w, "a");
    assert_int_equal(world_status(&w, "a"), STEP_TIMED_OUT);
    world_deinit(&w);
}

static void the_run_timeout_cuts_everything(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w,
               "{\"name\":\"x\",\"timeout\":\"1m\",\"steps\":{\"a\":{" NOOP "},\"b\":{\"needs\":[\"a\"]," NOOP "}}}");
    world_start(&w);
    world_apply(&w, (struct engine_input){
                        .kind = IN_STARTED, .step = STR("a"), .attempt = 1, .dispatch = 1, .worker = STR("w1")});
    w.now.us += 60 * US_PER_S;
    world_apply(&w, (struct engine_input){.kind = IN_TIMER, .seq = w.state->timeout_seq});
    assert_int_equal(w.state->status, RUN_TIMED_OUT);
    assert_int_equal(w.fx.cancel_count, 1);
    world_deinit(&w);
}

static void a_cancelled_run_ends_when_what_runs_has_ended(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, "{\"name\":\"x\",\"steps\":{\"a\":{" NOOP "},\"b\":{\"needs\":[\"a\"]," NOOP "}}}");
    world_start(&w);
    world_apply(&w, (struct engine_input){
                        .kind = IN_STARTED, .step = STR("a"), .attempt = 1, .dispatch = 1, .worker = STR("w1")});
    world_apply(&w, (struct engine_input){.kind = IN_CANCEL, .command = 5});
    assert_int_equal(w.state->status, RUN_ACTIVE);
    assert_int_equal(w.fx.cancel_count, 1);
    world_succeed(&w, "a", "1");
    assert_int_equal(world_status(&w, "b"), STEP_CANCELLED);
    assert_int_equal(w.state->status, RUN_CANCELLED);
    world_apply(&w, (struct engine_input){.kind = IN_CANCEL, .command = 6});
    assert_true(world_has(&w, EVENT_COMMAND_APPLIED, NULL));
    world_deinit(&w);
}

static void a_fan_of_a_thousand_joins_once(void **unused)
{
    struct world w;
    struct buf doc;
    char name[20];

    (void)unused;
    buf_init(&doc, 1 << 20);
    buf_append_str(&doc, STR("{\"name\":\"x\",\"steps\":{"));
    for (int i = 0; i < 400; i++)
        buf_printf(&doc, "\"s%d\":{" NOOP "},", i);
    buf_append_str(&doc, STR("\"end\":{" NOOP ",\"needs\":["));
    for (int i = 0; i < 400; i++)
        buf_printf(&doc, "%s\"s%d\"", i == 0 ? "" : ",", i);
    buf_append_str(&doc, STR("]}}}"));
    world_init(&w, doc.ptr);
    world_start(&w);
    for (int i = 399; i >= 0; i--) {
        assert_int_equal(world_status(&w, "end"), STEP_PENDING);
        (void)snprintf(name, sizeof(name), "s%d", i);
        world_succeed(&w, name, "null");
    }
    assert_int_equal(world_status(&w, "end"), STEP_QUEUED);
    world_deinit(&w);
    buf_deinit(&doc);
}

static void task_ids_and_keys_read_back(void **unused)
{
    struct world w;
    struct buf out;
    struct run_id run;
    struct str step;
    uint32_t attempt, dispatch;
    struct err err;

    (void)unused;
    world_init(&w, "{\"name\":\"x\",\"steps\":{\"a\":{" NOOP "}}}");
    world_start(&w);
    buf_init(&out, 1000);
    engine_task_id(w.state, 0, &out);
    assert_int_equal(engine_parse_task_id(buf_str(&out), &run, &step, &attempt, &dispatch, &err), ERR_OK);
    assert_true(run_id_eq(run, w.state->id) && str_is(step, "a") && attempt == 1 && dispatch == 1);
    assert_int_equal(engine_parse_task_id(STR("x/a/1/1"), &run, &step, &attempt, &dispatch, &err), ERR_INVALID);
    assert_int_equal(engine_parse_task_id(STR(""), &run, &step, &attempt, &dispatch, &err), ERR_INVALID);
    buf_deinit(&out);
    world_deinit(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chain_runs_to_its_end),
        cmocka_unit_test(a_result_applied_twice_changes_nothing),
        cmocka_unit_test(an_input_of_a_newer_attempt_proves_a_stale_cache),
        cmocka_unit_test(a_transient_failure_is_tried_again_after_its_backoff),
        cmocka_unit_test(a_permanent_failure_ends_the_run_and_cancels_what_waits),
        cmocka_unit_test(a_failure_is_handled_only_by_a_step_that_has_run),
        cmocka_unit_test(continue_lets_independent_branches_go_on),
        cmocka_unit_test(a_condition_takes_one_branch_and_join_any_goes_on),
        cmocka_unit_test(a_switch_takes_the_first_case_that_holds_else_the_default),
        cmocka_unit_test(a_delay_waits_until_its_time),
        cmocka_unit_test(a_deferral_is_a_new_dispatch_without_an_event),
        cmocka_unit_test(three_lost_workers_in_a_row_are_poison),
        cmocka_unit_test(a_late_success_of_a_lost_attempt_closes_the_open_step),
        cmocka_unit_test(at_most_once_is_granted_to_one_worker_and_never_repeated),
        cmocka_unit_test(who_only_asks_is_told_whether_the_attempt_is_open_and_begins_nothing),
        cmocka_unit_test(a_deadline_ends_the_step_with_all_its_retries),
        cmocka_unit_test(the_run_timeout_cuts_everything),
        cmocka_unit_test(a_cancelled_run_ends_when_what_runs_has_ended),
        cmocka_unit_test(a_fan_of_a_thousand_joins_once),
        cmocka_unit_test(task_ids_and_keys_read_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
