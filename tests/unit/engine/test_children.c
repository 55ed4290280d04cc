/* Child runs: their input, what their end means, how they are stopped, how deep they go. */
#include "tests/unit/engine/world.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>

#define NOOP "\"call\":\"noop\""
#define STEPS(s) "{\"name\":\"x\",\"steps\":{" s "}}"
#define CHILD "\"call\":\"workflow\",\"with\":{\"name\":\"kid\",\"version\":3,\"input\":{\"a\":\"${ .input.n }\"}}"

static void a_child_is_begun_with_its_input_and_ends_the_step(void **unused)
{
    struct world w;
    struct run_id id;
    const struct effect_child *child;

    (void)unused;
    world_init(&w, STEPS("\"c\":{" CHILD "},\"a\":{\"needs\":[\"c\"]," NOOP "}"));
    w.input = STR("{\"n\":0.10}");
    world_start(&w);
    assert_string_equal(world_said(&w), "run.started, step.waiting c");
    assert_int_equal(w.fx.child_count, 1);
    child = &w.fx.children[0];
    assert_true(str_is(child->workflow, "kid") && str_is(child->step, "c") && str_is(child->input, "{\"a\":0.10}"));
    assert_int_equal(child->version, 3);
    assert_int_equal(child->depth, 1);
    id = child->id;
    assert_true(run_id_eq(id, world_step(&w, "c")->extra->child));
    assert_int_equal(id.bytes[15], w.state->id.bytes[15]); /* the slot: the last 12 bits */
    assert_int_equal(id.bytes[14] & 15, w.state->id.bytes[14] & 15);
    assert_false(run_id_eq(id, w.state->id));
    world_apply(&w, (struct engine_input){.kind = IN_CHILD,
                                          .step = STR("c"),
                                          .child = w.state->id,
                                          .child_status = RUN_SUCCEEDED,
                                          .output = STR("2")});
    assert_true(w.fx.ignored); /* not its child */
    world_reload(&w);
    world_child_ended(&w, "c", RUN_SUCCEEDED, "{\"r\":1}", NULL);
    assert_string_equal(world_said(&w), "step.succeeded c, step.dispatched a");
    assert_string_equal(world_output(&w, "c"), "{\"r\":1}");
    world_apply(&w, (struct engine_input){.kind = IN_CHILD, .step = STR("c"), .child = id, .child_status = RUN_FAILED});
    assert_true(w.fx.ignored); /* again */
    world_deinit(&w);
}

static void the_same_input_makes_the_same_child_and_each_step_its_own(void **unused)
{
    struct run_id ids[2][2];

    (void)unused;
    for (size_t i = 0; i < 2; i++) {
        struct world w;
        world_init(&w,
                   STEPS("\"each\":{\"call\":\"foreach\",\"with\":{\"items\":[0,1],\"steps\":{\"c\":{" CHILD "}}}}"));
        memset(w.state->id.bytes + 6, 0, 9); /* what is random in it */
        world_start(&w);
        ids[i][0] = w.fx.children[0].id;
        ids[i][1] = w.fx.children[1].id;
        world_deinit(&w);
    }
    assert_true(run_id_eq(ids[0][0], ids[1][0]) && run_id_eq(ids[0][1], ids[1][1]));
    assert_false(run_id_eq(ids[0][0], ids[0][1]));
}

static void what_a_childs_end_means_for_its_parent(void **unused)
{
    static const struct {
        enum run_status child;
        const char *code; /* of the child */
        enum step_status step;
        const char *step_code;
        enum run_status run;
    } rows[] = {
        {RUN_SUCCEEDED, NULL, STEP_SUCCEEDED, NULL, RUN_SUCCEEDED},
        {RUN_PARTIALLY_COMPLETED, "http_404", STEP_SUCCEEDED, "child_partially_completed", RUN_PARTIALLY_COMPLETED},
        {RUN_FAILED, "http_404", STEP_FAILED, "http_404", RUN_FAILED},
        {RUN_FAILED, "unknown_workflow", STEP_FAILED, "unknown_workflow", RUN_FAILED},
        {RUN_FAILED, NULL, STEP_FAILED, "child_failed", RUN_FAILED},
        {RUN_TIMED_OUT, "timeout", STEP_TIMED_OUT, "timeout", RUN_FAILED},
        {RUN_CANCELLED, NULL, STEP_FAILED, "child_cancelled", RUN_FAILED},
        {RUN_COMPENSATED, "http_404", STEP_FAILED, "http_404", RUN_FAILED},
        {RUN_COMPENSATION_FAILED, "http_404", STEP_FAILED, "http_404", RUN_FAILED},
    };

    (void)unused;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct world w;
        world_init(&w, STEPS("\"c\":{" CHILD "}"));
        world_start(&w);
        world_child_ended(&w, "c", rows[i].child, rows[i].child == RUN_SUCCEEDED ? "1" : NULL, rows[i].code);
        assert_int_equal(world_status(&w, "c"), rows[i].step);
        assert_int_equal(w.state->status, rows[i].run);
        if (rows[i].step_code != NULL)
            assert_string_equal(world_step(&w, "c")->error->code, rows[i].step_code);
        if (rows[i].child == RUN_CANCELLED) /* without a code there is nothing to be told behind it */
            assert_string_equal(strstr(world_step(&w, "c")->error->message, " ended "), " ended cancelled");
        world_deinit(&w);
    }
}

static void a_cancelled_run_cancels_its_children_and_waits_for_them(void **unused)
{
    struct world w;
    struct run_id child;

    (void)unused;
    for (int failing = 0; failing < 2; failing++) {
        world_init(&w, STEPS("\"c\":{" CHILD "},\"b\":{" NOOP "}"));
        world_start(&w);
        child = world_step(&w, "c")->extra->child;
        if (failing)
            world_fail(&w, "b", "permanent", "http_404", true, true);
        else
            world_cancel(&w, false);
        assert_int_equal(w.fx.child_cancel_count, 1);
        assert_true(run_id_eq(w.fx.child_cancels[0], child));
        assert_int_equal(w.state->status, RUN_ACTIVE);
        world_child_ended(&w, "c", RUN_CANCELLED, NULL, NULL);
        assert_int_equal(world_status(&w, "c"), STEP_CANCELLED);
        assert_int_equal(w.state->status, failing ? RUN_FAILED : RUN_CANCELLED);
        world_deinit(&w);
    }
}

static void a_deadline_and_the_runs_timeout_do_not_wait_for_a_child(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"c\":{\"deadline\":\"5s\"," CHILD "}"));
    world_start(&w);
    world_timer(&w, "c");
    assert_int_equal(w.fx.child_cancel_count, 1);
    assert_int_equal(world_status(&w, "c"), STEP_TIMED_OUT);
    assert_int_equal(w.state->status, RUN_FAILED);
    world_child_ended(&w, "c", RUN_CANCELLED, NULL, NULL);
    assert_true(w.fx.ignored);
    world_deinit(&w);
    world_init(&w, STEPS("\"each\":{\"call\":\"foreach\",\"with\":{\"items\":[0],\"steps\":{\"c\":{" CHILD "}}}}"));
    world_start(&w);
    world_run_timeout(&w);
    assert_int_equal(w.fx.child_cancel_count, 1);
    assert_int_equal(w.state->status, RUN_TIMED_OUT);
    world_deinit(&w);
}

#define LEVELS 3
static void children_go_three_levels_deep(void **unused)
{
    (void)unused;
    for (uint8_t depth = LEVELS - 1; depth <= LEVELS; depth++) {
        struct world w;
        world_init(&w, STEPS("\"c\":{" CHILD "}"));
        w.state->depth = depth;
        world_start(&w);
        if (depth < LEVELS)
            assert_int_equal(w.fx.children[0].depth, LEVELS);
        else
            assert_true(str_is(world_event(&w, EVENT_STEP_FAILED, "c")->code, "child_too_deep"));
        world_deinit(&w);
    }
}

static void a_child_that_our_state_does_not_know_yet_proves_it_stale(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP "},\"c\":{\"needs\":[\"a\"]," CHILD "},\"each\":{\"needs\":[\"a\"],\"call\":"
                         "\"foreach\",\"with\":{\"items\":[0],\"steps\":{\"c\":{" CHILD "}}}}"));
    world_start(&w);
    world_apply(&w, (struct engine_input){.kind = IN_CHILD, .step = STR("c"), .child_status = RUN_SUCCEEDED});
    assert_true(w.fx.stale_cache && !w.fx.ignored);
    world_apply(&w, (struct engine_input){.kind = IN_CHILD, .step = STR("each[0].c"), .child_status = RUN_SUCCEEDED});
    assert_true(w.fx.stale_cache && !w.fx.ignored);
    world_apply(&w, (struct engine_input){.kind = IN_CHILD, .step = STR("nobody"), .child_status = RUN_SUCCEEDED});
    assert_true(w.fx.ignored);
    world_deinit(&w);
}

static void a_child_whose_input_is_refused_fails_before_its_first_step(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP "},\"b\":{" NOOP "}"));
    world_apply(&w, (struct engine_input){.kind = IN_START, .refused = STR("/amount is missing")});
    assert_string_equal(world_said(&w), "run.started, step.cancelled a, step.cancelled b, run.failed");
    assert_string_equal(w.state->run_error->code, "invalid_input");
    assert_int_equal(w.fx.open_count + w.fx.close_count, 0);
    world_deinit(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_child_is_begun_with_its_input_and_ends_the_step),
        cmocka_unit_test(the_same_input_makes_the_same_child_and_each_step_its_own),
        cmocka_unit_test(what_a_childs_end_means_for_its_parent),
        cmocka_unit_test(a_cancelled_run_cancels_its_children_and_waits_for_them),
        cmocka_unit_test(a_deadline_and_the_runs_timeout_do_not_wait_for_a_child),
        cmocka_unit_test(children_go_three_levels_deep),
        cmocka_unit_test(a_child_that_our_state_does_not_know_yet_proves_it_stale),
        cmocka_unit_test(a_child_whose_input_is_refused_fails_before_its_first_step),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
