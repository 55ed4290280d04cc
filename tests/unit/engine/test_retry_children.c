/* A retry goes into child runs: the child does again what failed in it; where it cannot, another one begins. */
#include "tests/unit/engine/world.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define NOOP "\"call\":\"noop\""
#define STEPS(s) "{\"name\":\"x\",\"steps\":{" s "}}"
#define CHILD "\"call\":\"workflow\",\"with\":{\"name\":\"kid\",\"input\":{\"a\":\"${ .input.n }\"}}"
#define REOPENED "command.applied, run.reopened, "

static struct run_id child_of(struct world *w, const char *step)
{
    return world_step(w, step)->extra->child;
}

static void told(struct world *w, struct run_id child, enum run_status status, uint32_t retries, const char *refused)
{
    world_apply(w, (struct engine_input){.kind = IN_CHILD,
                                         .step = STR("c"),
                                         .child = child,
                                         .child_status = status,
                                         .retries = retries,
                                         .refused_retry = refused != NULL,
                                         .code = refused == NULL ? STR_NONE : str_of(refused),
                                         .output = status == RUN_SUCCEEDED ? STR("7") : STR_NONE});
    world_reload(w);
}

static void begin(struct world *w)
{
    world_init(w, STEPS("\"c\":{" CHILD "},\"a\":{\"needs\":[\"c\"]," NOOP "}"));
    w->input = STR("{\"n\":1}");
    world_start(w);
}

static void the_child_is_retried_and_no_other_begins(void **unused)
{
    struct world w;
    struct run_id child;

    (void)unused;
    begin(&w);
    child = child_of(&w, "c");
    told(&w, child, RUN_FAILED, 0, NULL);
    assert_int_equal(w.state->status, RUN_FAILED);
    world_retry(&w, NULL); /* what it does is another document's */
    assert_true(str_is(world_event(&w, EVENT_COMMAND_REFUSED, NULL)->code, "confirmation_needed"));
    for (uint32_t time = 1; time <= 2; time++) {
        world_retry(&w, "[\"c\"]");
        assert_string_equal(world_said(&w), REOPENED "step.reopened c, step.reopened a, step.continued c");
        assert_int_equal(w.fx.child_count, 0);
        assert_int_equal(w.fx.child_retry_count, 1);
        assert_true(run_id_eq(w.fx.child_retries[0].child, child));
        assert_int_equal(w.fx.child_retries[0].retries, time);
        world_reload(&w);
        told(&w, child, RUN_FAILED, time, NULL);
        assert_int_equal(w.state->status, RUN_FAILED);
    }
    world_retry(&w, "true");
    told(&w, child, RUN_SUCCEEDED, 3, NULL);
    assert_string_equal(world_said(&w), "step.succeeded c, step.dispatched a");
    assert_string_equal(world_output(&w, "c"), "7");
    world_deinit(&w);
}

/* The parent did not wait for its end, and is retried before that has come: it asks again then. */
static void a_former_end_is_not_the_end(void **unused)
{
    struct world w;
    struct run_id child;

    (void)unused;
    begin(&w);
    child = child_of(&w, "c");
    world_run_timeout(&w);
    assert_int_equal(w.state->status, RUN_TIMED_OUT);
    world_retry(&w, "true");
    told(&w, child, RUN_CANCELLED, 0, NULL);
    assert_string_equal(world_said(&w), "");
    assert_int_equal(world_status(&w, "c"), STEP_WAITING);
    world_deinit(&w);

    begin(&w);
    child = child_of(&w, "c");
    world_run_timeout(&w);
    world_retry(&w, "true");
    world_apply(
        &w, (struct engine_input){.kind = IN_CHILD, .step = STR("c"), .child = child, .child_status = RUN_CANCELLED});
    assert_int_equal(w.fx.child_retry_count, 1);
    assert_int_equal(w.fx.child_retries[0].retries, 1);
    told(&w, child, RUN_SUCCEEDED, 0, NULL); /* a success is one, whenever it came */
    assert_int_equal(world_status(&w, "c"), STEP_SUCCEEDED);
    world_deinit(&w);
}

static void while_the_step_is_pending_its_former_end_is_no_news(void **unused)
{
    struct world w;
    struct run_id child;

    (void)unused;
    world_init(&w, STEPS("\"b\":{" NOOP ",\"on_failure\":\"continue\"},\"c\":{" CHILD
                         ",\"join\":\"any\",\"needs\":{\"b\":[\"failed\",\"succeeded\"]}}"));
    w.input = STR("{\"n\":1}");
    world_start(&w);
    world_fail(&w, "b", "permanent", "http_404", true, true);
    child = child_of(&w, "c");
    world_run_timeout(&w);
    world_retry(&w, "true");
    assert_int_equal(world_status(&w, "c"), STEP_PENDING);
    world_apply(
        &w, (struct engine_input){.kind = IN_CHILD, .step = STR("c"), .child = child, .child_status = RUN_CANCELLED});
    assert_true(w.fx.ignored && !w.fx.stale_cache);
    world_succeed(&w, "b", "1");
    assert_int_equal(w.fx.child_retry_count, 1);
    world_deinit(&w);
}

static void where_it_cannot_be_another_begins(void **unused)
{
    struct world w;
    struct run_id child;

    (void)unused;
    begin(&w);
    child = child_of(&w, "c");
    told(&w, child, RUN_COMPENSATED, 0, NULL);
    world_retry(&w, "true");
    told(&w, child, RUN_COMPENSATED, 0, "compensated"); /* of another time */
    assert_string_equal(world_said(&w), "");
    told(&w, child, RUN_COMPENSATED, 1, "compensated");
    assert_string_equal(world_said(&w), "step.reopened c, step.waiting c");
    assert_int_equal(w.fx.child_count, 1);
    assert_false(run_id_eq(child_of(&w, "c"), child));
    told(&w, child, RUN_FAILED, 0, NULL); /* it is none of ours any more */
    assert_string_equal(world_said(&w), "");
    told(&w, child_of(&w, "c"), RUN_SUCCEEDED, 0, NULL);
    assert_int_equal(world_status(&w, "c"), STEP_SUCCEEDED);
    world_deinit(&w);
}

static void who_is_stopped_meanwhile_begins_none(void **unused)
{
    struct world w;
    struct run_id child;

    (void)unused;
    begin(&w);
    child = child_of(&w, "c");
    told(&w, child, RUN_FAILED, 0, NULL);
    world_retry(&w, "true");
    world_cancel(&w, false);
    assert_int_equal(w.fx.child_cancel_count, 1);
    told(&w, child, RUN_FAILED, 1, "history_limit");
    assert_string_equal(world_said(&w), "step.reopened c, step.cancelled c, run.cancelled");
    world_deinit(&w);
}

static void as_a_child(struct world *w, const char *document)
{
    world_init(w, document);
    w->state->has_parent = true;
    world_start(w);
}

static void retried_by_parent(struct world *w, uint32_t retries)
{
    world_apply(w, (struct engine_input){
                       .kind = IN_RETRY, .command = 77, .of_parent = true, .retries = retries, .confirm_all = true});
}

/* What it says to its parent. */
static void a_child_answers_its_parent(void **unused)
{
    struct world w;

    (void)unused;
    as_a_child(&w, STEPS("\"a\":{" NOOP ",\"compensate\":{" NOOP "}},\"b\":{" NOOP ",\"needs\":[\"a\"]}"));
    world_succeed(&w, "a", "1");
    retried_by_parent(&w, 1); /* too soon: it is told how the run ends */
    assert_string_equal(world_said(&w), "command.refused");
    assert_int_equal(w.fx.refused.retries, 0);
    world_fail(&w, "b", "permanent", "http_404", true, true);
    world_succeed(&w, "a:compensate", "1");
    retried_by_parent(&w, 1);
    assert_string_equal(world_said(&w), "command.refused");
    assert_int_equal(w.fx.refused.retries, 1);
    assert_string_equal(w.fx.refused.code, "compensated");
    world_deinit(&w);

    as_a_child(&w, STEPS("\"a\":{" NOOP "},\"b\":{" NOOP ",\"needs\":[\"a\"]}"));
    world_succeed(&w, "a", "1");
    world_fail(&w, "b", "permanent", "http_404", true, true);
    retried_by_parent(&w, 1);
    assert_string_equal(world_said(&w), REOPENED "step.reopened b, step.dispatched b");
    assert_int_equal(w.state->retries, 1);
    retried_by_parent(&w, 1);
    assert_string_equal(world_said(&w), "command.applied");
    world_succeed(&w, "b", "1");
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    retried_by_parent(&w, 2); /* its parent has been told */
    assert_string_equal(world_said(&w), "command.refused");
    assert_int_equal(w.fx.refused.retries, 0);
    world_deinit(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_child_is_retried_and_no_other_begins),
        cmocka_unit_test(a_former_end_is_not_the_end),
        cmocka_unit_test(while_the_step_is_pending_its_former_end_is_no_news),
        cmocka_unit_test(where_it_cannot_be_another_begins),
        cmocka_unit_test(who_is_stopped_meanwhile_begins_none),
        cmocka_unit_test(a_child_answers_its_parent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
