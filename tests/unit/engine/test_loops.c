/* foreach: where items come from, the barrier, outputs, failures, stopping, keys and late results. */
#include "tests/unit/engine/world.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>

#define NOOP "\"call\":\"noop\""
#define GO "\"steps\":{\"go\":{" NOOP "}}"
#define EACH(with) "\"each\":{\"call\":\"foreach\",\"with\":{" with "}}"
#define STEPS(s) "{\"name\":\"x\",\"steps\":{" s "}}"

static void a_loop_writes_these_events_and_no_others(void **unused)
{
    struct world w;

    (void)unused;
    world_init(
        &w, STEPS(EACH("\"items\":[\"a\",\"b\",\"c\"],\"concurrency\":2," GO) ",\"after\":{\"needs\":[\"each\"]," NOOP
                                                                              "}"));
    world_start(&w);
    assert_string_equal(world_said(&w),
                        "run.started, step.waiting each, step.dispatched each[0].go, step.dispatched each[1].go");
    assert_int_equal(world_event(&w, EVENT_STEP_WAITING, "each")->count, 3);
    assert_true(str_is(world_event(&w, EVENT_STEP_WAITING, "each")->output, "[\"a\",\"b\",\"c\"]"));
    world_succeed(&w, "each[1].go", "11");
    assert_string_equal(world_said(&w),
                        "step.succeeded each[1].go, step.succeeded each[1], step.dispatched each[2].go");
    world_succeed(&w, "each[0].go", "10");
    assert_string_equal(world_said(&w), "step.succeeded each[0].go, step.succeeded each[0]");
    assert_int_equal(world_event(&w, EVENT_STEP_SUCCEEDED, "each[0]")->ref,
                     world_event(&w, EVENT_STEP_SUCCEEDED, "each[0].go")->seq);
    assert_int_equal(world_status(&w, "after"), STEP_PENDING); /* the barrier */
    world_succeed(&w, "each[2].go", "12");
    assert_string_equal(world_said(&w), "step.succeeded each[2].go, step.succeeded each[2], step.succeeded each, "
                                        "step.dispatched after");
    assert_string_equal(world_output(&w, "each"), "[10,11,12]"); /* in order, whichever came first */
    world_succeed(&w, "after", "null");
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    world_deinit(&w);
}

static void items_may_come_from_an_expression_and_be_none(void **unused)
{
    static const struct {
        const char *input, *output, *code; /* output "": it runs */
    } rows[] = {
        {"{\"l\":null}", "[]", NULL},
        {"{\"l\":[]}", "[]", NULL},
        {"{}", "[]", NULL},
        {"{\"l\":[7]}", "", NULL},
        {"{\"l\":[null,1]}", "", NULL},
        {"{\"l\":{}}", NULL, "not_a_list"},
        {"{\"l\":7}", NULL, "not_a_list"},
        {"{\"l\":\"ab\"}", NULL, "not_a_list"},
    };

    (void)unused;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct world w;
        world_init(&w, STEPS(EACH("\"items\":\"${ .input.l }\"," GO) ",\"after\":{\"needs\":[\"each\"]," NOOP "}"));
        w.input = str_of(rows[i].input);
        world_start(&w);
        if (rows[i].output == NULL) {
            assert_true(str_is(world_event(&w, EVENT_STEP_FAILED, "each")->code, rows[i].code));
        } else if (rows[i].output[0] == '\0') {
            assert_int_equal(world_status(&w, "each[0].go"), STEP_QUEUED);
        } else {
            assert_string_equal(world_said(&w), "run.started, step.succeeded each, step.dispatched after");
            assert_string_equal(world_output(&w, "each"), rows[i].output);
        }
        world_deinit(&w);
    }
}

static void item_and_index_are_those_of_the_innermost_iteration(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS(EACH("\"items\":[[1,2],[3]],\"steps\":{\"in\":{\"call\":\"foreach\",\"with\":{\"items\":\"${ "
                              ".item }\",\"steps\":{\"t\":{\"call\":\"transform\",\"with\":{\"value\":\"${ .item "
                              "}/${ .index }\"}}}}},\"u\":{\"needs\":[\"in\"],\"call\":\"transform\",\"with\":{"
                              "\"value\":{\"of\":\"${ .item }\",\"at\":\"${ .index }\",\"in\":\"${ .steps.in.output "
                              "}\"}}}}")));
    world_start(&w);
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    assert_string_equal(world_output(&w, "each"), "[{\"of\":[1,2],\"at\":0,\"in\":[\"1/0\",\"2/1\"]},"
                                                  "{\"of\":[3],\"at\":1,\"in\":[\"3/0\"]}]");
    world_deinit(&w);
}

static void the_output_of_an_item_is_what_the_document_says(void **unused)
{
    static const struct {
        const char *with, *output;
    } rows[] = {
        {"\"steps\":{\"a\":{\"call\":\"transform\",\"with\":{\"value\":\"${ .item }\"}}}", "[1,2]"},
        {"\"steps\":{\"a\":{\"call\":\"transform\",\"with\":{\"value\":\"${ .item }\"}},\"b\":{\"call\":\"transform\","
         "\"with\":{\"value\":\"${ .index }\"}}}",
         "[{\"a\":1,\"b\":0},{\"a\":2,\"b\":1}]"},
        {"\"output\":\"${ .steps.a.output }\",\"steps\":{\"a\":{\"call\":\"transform\",\"with\":{\"value\":\"${ .item "
         "}\"}},\"b\":{\"needs\":[\"a\"],\"call\":\"transform\",\"with\":{\"value\":7}}}",
         "[1,2]"},
        {"\"output\":{\"n\":\"${ .index }\",\"s\":\"${ .steps.a.status }\"},\"steps\":{\"a\":{\"call\":\"transform\","
         "\"with\":{\"value\":\"${ .item }\"}}}",
         "[{\"n\":0,\"s\":\"succeeded\"},{\"n\":1,\"s\":\"succeeded\"}]"},
        {"\"output\":5,\"steps\":{\"a\":{\"call\":\"transform\",\"with\":{\"value\":null}}}", "[5,5]"},
        {"\"output\":null,\"steps\":{\"a\":{\"call\":\"transform\",\"with\":{\"value\":1}}}", "[null,null]"},
    };

    (void)unused;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct world w;
        char doc[1000];
        (void)snprintf(doc, sizeof(doc), STEPS(EACH("\"items\":[1,2],%s")), rows[i].with);
        world_init(&w, doc);
        world_start(&w);
        assert_int_equal(w.state->status, RUN_SUCCEEDED);
        assert_string_equal(world_output(&w, "each"), rows[i].output);
        world_deinit(&w);
    }
}

/* ---- failures ---- */

static void a_failed_item_stops_the_loop_and_what_runs_may_finish(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS(EACH("\"items\":[0,1,2,3,4],\"concurrency\":3," GO)));
    world_start(&w);
    world_begin(&w, "each[0].go", "w1");
    world_fail(&w, "each[1].go", "permanent", "http_404", true, true);
    assert_string_equal(world_said(&w), "step.failed each[1].go, step.failed each[1], step.cancelled each[2].go, "
                                        "step.cancelled each[2]");
    assert_int_equal(world_status(&w, "each"), STEP_WAITING);
    world_succeed(&w, "each[0].go", "1");
    assert_string_equal(world_said(&w), "step.succeeded each[0].go, step.succeeded each[0], step.failed each, "
                                        "run.failed each");
    assert_true(str_is(world_event(&w, EVENT_STEP_FAILED, "each")->code, "item_failed"));
    assert_true(str_is(world_event(&w, EVENT_STEP_FAILED, "each")->message, "item 1: http_404: step 'go': it failed"));
    assert_true(str_is(world_event(&w, EVENT_RUN_FAILED, NULL)->step, "each"));
    world_deinit(&w);
}

static void failed_items_are_gone_on_from_when_the_loop_says_so(void **unused)
{
    struct world w;
    const struct step_extra *extra;

    (void)unused;
    world_init(&w, STEPS(EACH("\"items\":[0,1,2],\"concurrency\":1,\"on_item_failure\":\"continue\"," GO)));
    world_start(&w);
    world_succeed(&w, "each[0].go", "1");
    world_fail(&w, "each[1].go", "permanent", "http_404", true, true);
    assert_string_equal(world_said(&w), "step.failed each[1].go, step.failed each[1], step.dispatched each[2].go");
    world_succeed(&w, "each[2].go", "3");
    assert_int_equal(w.state->status, RUN_PARTIALLY_COMPLETED);
    assert_int_equal(world_status(&w, "each"), STEP_SUCCEEDED);
    assert_true(str_is(world_event(&w, EVENT_STEP_SUCCEEDED, "each")->code, "items_failed"));
    assert_string_equal(world_output(&w, "each"), "[1,null,3]");
    extra = world_step(&w, "each")->extra;
    assert_int_equal(extra->ended[STEP_FAILED], 1);
    assert_int_equal(extra->first_failed, 1);
    assert_true(str_is(world_event(&w, EVENT_RUN_PARTIALLY_COMPLETED, NULL)->step, "each"));
    world_deinit(&w);
}

static void an_item_whose_failure_was_continued_makes_the_run_partial(void **unused)
{
    struct world w;

    (void)unused;
    world_init(
        &w, STEPS(EACH("\"items\":[0,1],\"steps\":{\"a\":{" NOOP ",\"on_failure\":\"continue\"},\"b\":{" NOOP "}}")));
    world_start(&w);
    world_fail(&w, "each[0].a", "permanent", "http_404", true, true);
    world_succeed(&w, "each[0].b", "1");
    assert_true(str_is(world_event(&w, EVENT_STEP_SUCCEEDED, "each[0]")->code, "partially_completed"));
    world_succeed(&w, "each[1].a", "1");
    world_succeed(&w, "each[1].b", "1");
    assert_int_equal(w.state->status, RUN_PARTIALLY_COMPLETED);
    assert_string_equal(world_output(&w, "each"), "[{\"a\":null,\"b\":1},{\"a\":1,\"b\":1}]");
    world_deinit(&w);
}

static void a_failure_handled_inside_an_iteration_is_none(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS(EACH("\"items\":[0],\"steps\":{\"a\":{" NOOP "},\"undo\":{\"needs\":{\"a\":[\"failed\"]}," NOOP
                              "}}")));
    world_start(&w);
    world_fail(&w, "each[0].a", "permanent", "http_404", true, true);
    world_succeed(&w, "each[0].undo", "1");
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    world_deinit(&w);
}

static void a_loop_of_a_failing_run_begins_nothing_and_ends_with_what_runs(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS(EACH("\"items\":[0,1,2],\"concurrency\":2," GO) ",\"other\":{" NOOP "}"));
    world_start(&w);
    world_begin(&w, "each[0].go", "w1");
    world_fail(&w, "other", "permanent", "http_404", true, true);
    assert_string_equal(world_said(&w), "step.failed other, step.cancelled each[1].go, step.cancelled each[1]");
    assert_int_equal(w.fx.cancel_count, 0);
    world_succeed(&w, "each[0].go", "1");
    assert_string_equal(world_said(&w),
                        "step.succeeded each[0].go, step.succeeded each[0], step.cancelled each, run.failed other");
    world_deinit(&w);

    /* with nothing running in it, at once */
    world_init(&w, STEPS(EACH("\"items\":[0,1,2],\"concurrency\":2," GO) ",\"other\":{" NOOP "}"));
    world_start(&w);
    world_fail(&w, "other", "permanent", "http_404", true, true);
    assert_string_equal(world_said(&w), "step.failed other, step.cancelled each[0].go, step.cancelled each[1].go, "
                                        "step.cancelled each[1], step.cancelled each[0], step.cancelled each, "
                                        "run.failed other");
    world_deinit(&w);
}

static void a_cancelled_run_tells_what_runs_in_its_loops(void **unused)
{
    struct world w;

    (void)unused;
    world_init(
        &w, STEPS(EACH("\"items\":[0,1],\"steps\":{\"in\":{\"call\":\"foreach\",\"with\":{\"items\":[0,1]," GO "}}}")));
    world_start(&w);
    world_begin(&w, "each[1].in[0].go", "w1");
    world_cancel(&w, false);
    assert_int_equal(w.fx.cancel_count, 1);
    assert_int_equal(w.state->status, RUN_ACTIVE);
    world_fail(&w, "each[1].in[0].go", "transient", "cancelled", true, false);
    assert_int_equal(w.state->status, RUN_CANCELLED);
    assert_int_equal(world_status(&w, "each"), STEP_CANCELLED);
    world_deinit(&w);
}

static void a_loops_deadline_and_the_runs_timeout_cut_what_runs_in_it(void **unused)
{
    struct world w;

    (void)unused;
    for (int run = 0; run < 2; run++) {
        world_init(&w, run == 0
                           ? STEPS("\"each\":{\"call\":\"foreach\",\"deadline\":\"10s\",\"with\":{\"items\":[0,1]," GO
                                   "}},\"after\":{\"needs\":{\"each\":[\"timed_out\"]}," NOOP "}")
                           : STEPS(EACH("\"items\":[0,1]," GO) ",\"after\":{\"needs\":[\"each\"]," NOOP "}"));
        world_start(&w);
        world_begin(&w, "each[0].go", "w1");
        if (run == 0)
            world_timer(&w, "each");
        else
            world_run_timeout(&w);
        assert_string_equal(world_said(&w), run == 0
                                                ? "step.cancelled each[0].go, step.cancelled each[0], step.cancelled "
                                                  "each[1].go, step.cancelled each[1], step.timed_out each, "
                                                  "step.dispatched after"
                                                : "run.timing_out, step.cancelled each[0].go, step.cancelled each[0], "
                                                  "step.cancelled each[1].go, step.cancelled each[1], step.cancelled "
                                                  "each, step.cancelled after, run.timed_out");
        assert_int_equal(w.fx.cancel_count, 2);
        world_apply(&w, (struct engine_input){.kind = IN_RESULT,
                                              .step = STR("each[0].go"),
                                              .attempt = 1,
                                              .dispatch = 1,
                                              .result = RESULT_SUCCEEDED,
                                              .worker = STR("w1")});
        assert_string_equal(world_said(&w), "step.late_result each[0].go"); /* it is remembered as cut */
        world_deinit(&w);
    }
}

static void a_value_that_comes_for_an_iteration_that_is_over_is_not_anothers(void **unused)
{
    struct world w;
    struct effect_eval stale;

    (void)unused;
    world_init(&w, STEPS(EACH("\"items\":[{\"v\":1},{\"v\":2}],\"concurrency\":1,\"on_item_failure\":\"continue\","
                              "\"output\":\"${ .steps.b.output }\",\"steps\":{\"a\":{\"call\":\"transform\",\"with\":{"
                              "\"value\":\"${ .item.v.w }\"}},\"b\":{\"call\":\"transform\",\"with\":{\"value\":\"${ "
                              ".item.v }\"}}}")));
    w.unanswered = true;
    world_start(&w);
    assert_int_equal(w.fx.eval_count, 2);
    stale = w.fx.evals[1];
    world_answer(
        &w, 0); /* `a` fails: `b` is cancelled, and is kept for a retry; the second iteration has nodes of its own */
    assert_int_equal(w.fx.eval_count, 4);
    assert_int_not_equal(w.fx.evals[3].node, stale.node);
    assert_int_equal(engine_apply(w.state,
                                  &(struct engine_input){.kind = IN_VALUE,
                                                         .node = stale.node,
                                                         .purpose = stale.purpose,
                                                         .question = stale.question,
                                                         .value = STR("1")},
                                  w.now, &w.fx, &w.err),
                     ERR_OK);
    assert_true(w.fx.ignored);
    assert_int_equal(run_step(w.state, stale.node)->status, STEP_CANCELLED);
    assert_int_equal(run_step(w.state, w.fx.evals[3].node)->status, STEP_PENDING);
    world_deinit(&w);
}

static void a_back_off_is_drawn_from_what_history_holds(void **unused)
{
    struct run_id id = {{1}};
    int64_t due[2];

    (void)unused;
    for (int reloaded = 0; reloaded < 2; reloaded++) {
        struct world w;
        world_init(
            &w,
            STEPS(EACH("\"items\":[\"a\",\"b\"],\"steps\":{\"go\":{\"call\":\"http\",\"with\":{\"url\":\"http://x/${ "
                       ".item }\"}}}")));
        w.state->id = id;
        w.unanswered = true;
        world_start(&w);
        world_answer(&w, 1); /* so that who reads it again finds the second iteration first, and gives it other nodes */
        world_answer(&w, 0);
        if (reloaded)
            world_reload(&w);
        world_fail(&w, "each[1].go", "transient", "http_503", true, true);
        due[reloaded] = world_step(&w, "each[1].go")->due_at.us;
        world_deinit(&w);
    }
    assert_int_equal(due[0], due[1]);
}

/* ---- keys, late and early results ---- */

static void keys_of_iterations_have_their_index(void **unused)
{
    static const struct {
        const char *idempotency, *key;
    } rows[] = {{"", "each[1].in[0].go"}, {",\"idempotency\":{\"key\":\"k\"}", "k:1:0"}};

    (void)unused;
    for (size_t i = 0; i < 2; i++) {
        struct world w;
        struct buf key;
        char doc[500], expected[200], run[UUID_TEXT_SIZE];
        (void)snprintf(doc, sizeof(doc),
                       STEPS(EACH("\"items\":[0,1],\"steps\":{\"in\":{\"call\":\"foreach\",\"with\":{\"items\":[0],"
                                  "\"steps\":{\"go\":{" NOOP "%s}}}}}")),
                       rows[i].idempotency);
        world_init(&w, doc);
        world_start(&w);
        buf_init(&key, 1000);
        run_id_format(w.state->id, run);
        (void)snprintf(expected, sizeof(expected), "%s%s%s", i == 0 ? run : "", i == 0 ? ":" : "", rows[i].key);
        engine_idempotency_key(w.state, run_find_step(w.state, STR("each[1].in[0].go"), NULL), STR("k"), &key);
        assert_string_equal(key.ptr, expected);
        buf_deinit(&key);
        world_deinit(&w);
    }
}

static void say(struct world *w, const char *step, uint32_t attempt, enum result_status result)
{
    world_apply(w, (struct engine_input){.kind = IN_RESULT,
                                         .step = str_of(step),
                                         .attempt = attempt,
                                         .dispatch = 1,
                                         .result = result,
                                         .output = STR("1"),
                                         .worker = STR("w1")});
}

static void results_of_iterations_that_are_over_or_have_not_begun(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"first\":{" NOOP "},\"each\":{\"needs\":[\"first\"],\"call\":\"foreach\",\"with\":{"
                         "\"items\":[0,1,2],\"concurrency\":1," GO "}},\"none\":{\"needs\":[\"each\"],\"call\":"
                         "\"foreach\",\"with\":{\"items\":[]," GO "}}"));
    world_start(&w);
    say(&w, "each[0].go", 1, RESULT_SUCCEEDED); /* the loop itself has not begun, here */
    assert_true(w.fx.stale_cache && !w.fx.ignored);
    world_succeed(&w, "first", "1");
    say(&w, "each[1].go", 1, RESULT_SUCCEEDED);
    assert_true(w.fx.stale_cache && !w.fx.ignored);
    say(&w, "each[3].go", 1, RESULT_SUCCEEDED); /* no such item */
    assert_true(w.fx.ignored);
    say(&w, "each[0].stop", 1, RESULT_SUCCEEDED); /* no such step */
    assert_true(w.fx.ignored);
    say(&w, "each[0].go", 1, RESULT_SUCCEEDED);
    say(&w, "each[0].go", 1, RESULT_SUCCEEDED); /* forgotten: it had its word */
    assert_true(w.fx.ignored);
    say(&w, "each[1].go", 1, RESULT_ABANDONED);
    say(&w, "each[1].go", 2, RESULT_SUCCEEDED);
    assert_int_equal(world_status(&w, "each[1].go"), STEP_SUCCEEDED); /* kept: the first attempt is unheard of */
    say(&w, "each[1].go", 1, RESULT_SUCCEEDED);
    assert_string_equal(world_said(&w), "step.late_result each[1].go");
    say(&w, "each[1].go", 1, RESULT_SUCCEEDED);
    assert_true(w.fx.ignored);
    say(&w, "each[2].go", 1, RESULT_SUCCEEDED);
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    say(&w, "none[0].go", 1, RESULT_SUCCEEDED);
    assert_true(w.fx.ignored);
    world_deinit(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_loop_writes_these_events_and_no_others),
        cmocka_unit_test(items_may_come_from_an_expression_and_be_none),
        cmocka_unit_test(item_and_index_are_those_of_the_innermost_iteration),
        cmocka_unit_test(the_output_of_an_item_is_what_the_document_says),
        cmocka_unit_test(a_failed_item_stops_the_loop_and_what_runs_may_finish),
        cmocka_unit_test(failed_items_are_gone_on_from_when_the_loop_says_so),
        cmocka_unit_test(an_item_whose_failure_was_continued_makes_the_run_partial),
        cmocka_unit_test(a_failure_handled_inside_an_iteration_is_none),
        cmocka_unit_test(a_loop_of_a_failing_run_begins_nothing_and_ends_with_what_runs),
        cmocka_unit_test(a_cancelled_run_tells_what_runs_in_its_loops),
        cmocka_unit_test(a_loops_deadline_and_the_runs_timeout_cut_what_runs_in_it),
        cmocka_unit_test(a_value_that_comes_for_an_iteration_that_is_over_is_not_anothers),
        cmocka_unit_test(a_back_off_is_drawn_from_what_history_holds),
        cmocka_unit_test(keys_of_iterations_have_their_index),
        cmocka_unit_test(results_of_iterations_that_are_over_or_have_not_begun),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
