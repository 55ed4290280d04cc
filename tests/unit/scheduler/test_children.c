/* Child runs: what a batch says of them, and what parent and child hear of each other. */
#include "tests/unit/scheduler/script.h"

#include "common/base/banned.h"

#define PARENT                                                                                                         \
    "{\"name\":\"w\",\"steps\":{\"a\":{\"call\":\"workflow\",\"with\":{\"name\":\"child\",\"input\":{\"n\":0.10}}},"   \
    "\"b\":{\"needs\":[\"a\"],\"call\":\"noop\"}}}"
#define CHILD "{\"name\":\"child\",\"steps\":{\"go\":{\"call\":\"noop\"}},\"output\":{\"done\":[1,2.0]}}"
#define MIDDLE "{\"name\":\"middle\",\"steps\":{\"down\":{\"call\":\"workflow\",\"with\":{\"name\":\"child\"}}}}"
#define STRICT                                                                                                         \
    "{\"name\":\"child\",\"input_schema\":{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"string\"}}},"         \
    "\"steps\":{\"go\":{\"call\":\"noop\"}}}"

static bool says(struct script *s, struct str object, const char *key, const char *text)
{
    struct str value;

    return jt_string(jt_get(object, key), s->arena, &value) && str_is(value, text);
}

/* The newest command of a kind that was written for a run. */
static struct str body_of(const struct script *s, const struct script_run *run, const char *kind)
{
    for (size_t i = s->command_count; i > 0; i--)
        if (run_id_eq(s->commands[i - 1].row.run, run->id) && str_is(s->commands[i - 1].row.kind, kind))
            return s->commands[i - 1].row.body;
    return STR_NONE;
}

static size_t count_of(const struct script *s, const struct script_run *run, const char *kind)
{
    size_t n = 0;

    for (size_t i = 0; i < s->command_count; i++)
        n += run_id_eq(s->commands[i].row.run, run->id) && str_is(s->commands[i].row.kind, kind);
    return n;
}

/* Ends the newest task. */
static void finish(struct script *s, const char *rest)
{
    script_result(s, 5, script_last(s, "task"), "w1", rest);
    script_settle(s);
}

static void a_child_is_started_by_the_batch_that_waits_for_it(void **state)
{
    struct script *s = script_new();
    const struct sched_child_row *row;
    struct script_run *run;

    (void)state;
    script_workflow(s, "child", CHILD);
    script_own(s, 5, 1);
    run = script_run(s, 5, PARENT);
    s->hold_commits = true;
    script_settle(s);
    assert_int_equal(s->batch->child_count, 1);
    row = &s->batch->children[0];
    assert_int_equal(row->shard, 5);
    assert_true(run_id_eq(row->parent, run->id));
    assert_int_equal(run_id_slot(row->run), run_id_slot(run->id));
    assert_true(str_is(row->parent_step, "a"));
    assert_true(str_is(row->workflow, "child"));
    assert_int_equal(row->version, 0);
    assert_int_equal(row->depth, 1);
    assert_int_equal(row->priority, PRIORITY_NORMAL);
    assert_int_equal(row->created_at.us, run_id_time(row->run).us);
    assert_true(str_is(row->input, "{\"n\":0.10}"));
    script_free(s);
}

static void a_child_and_its_parent_go_on_without_waiting_for_a_poll(void **state)
{
    struct script *s = script_new();
    struct script_run *run, *child;
    struct str body;

    (void)state;
    script_workflow(s, "child", CHILD);
    script_own(s, 5, 1);
    run = script_run(s, 5, PARENT);
    script_settle(s); /* no time passes in any of this */
    child = script_child(s, run, 0);
    assert_non_null(child);
    assert_int_equal(script_count(s, "task"), 1);
    finish(s, "\"status\":\"succeeded\"");
    assert_int_equal(child->status, RUN_SUCCEEDED);
    body = body_of(s, run, "child_ended");
    assert_true(says(s, body, "status", "succeeded"));
    assert_true(says(s, body, "step", "a"));
    assert_true(str_is(jt_get(body, "output"), "{\"done\":[1,2.0]}"));
    assert_int_equal(jt_type(jt_get(body, "error")), JT_NONE);
    assert_int_equal(script_count(s, "task"), 2); /* b of the parent */
    finish(s, "\"status\":\"succeeded\"");
    assert_int_equal(run->status, RUN_SUCCEEDED);
    script_free(s);
}

static void a_failure_is_told_with_code_message_and_step(void **state)
{
    struct script *s = script_new();
    struct script_run *run;
    struct str body;

    (void)state;
    script_workflow(s, "child", CHILD);
    script_own(s, 5, 1);
    run = script_run(s, 5, PARENT);
    script_settle(s);
    finish(s, "\"status\":\"failed\",\"error\":{\"class\":\"permanent\",\"code\":\"http_418\",\"message\":\"teapot\"}");
    body = jt_get(body_of(s, run, "child_ended"), "error");
    assert_true(says(s, body, "code", "http_418"));
    assert_true(says(s, body, "message", "teapot"));
    assert_true(says(s, body, "step", "go"));
    assert_int_equal(run->status, RUN_FAILED);
    assert_true(str_is(run->error_code, "http_418"));
    script_free(s);
}

static void where_there_is_no_workflow_the_step_fails(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 5, 1);
    run = script_run(s, 5, PARENT);
    script_settle(s);
    assert_int_equal(run->status, RUN_FAILED);
    assert_true(str_is(run->error_code, "unknown_workflow"));
    script_free(s);
}

static void an_input_that_breaks_the_schema_fails_the_child_before_it_begins(void **state)
{
    struct script *s = script_new();
    struct script_run *run, *child;
    struct str message = STR_NONE;

    (void)state;
    script_workflow(s, "child", STRICT);
    script_own(s, 5, 1);
    run = script_run(s, 5, PARENT);
    script_settle(s);
    child = script_child(s, run, 0);
    assert_int_equal(child->status, RUN_FAILED);
    assert_true(str_is(child->error_code, "invalid_input"));
    assert_int_equal(script_count(s, "task"), 0);
    assert_true(jt_string(jt_get(jt_get(body_of(s, run, "child_ended"), "error"), "message"), s->arena, &message));
    assert_true(str_starts(message, "invalid input: /n: "));
    assert_int_equal(run->status, RUN_FAILED);
    assert_true(str_is(run->error_code, "invalid_input"));
    script_free(s);
}

static void a_run_that_nobody_started_as_a_child_is_not_checked_again(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 5, 1);
    run = script_run(s, 5, STRICT);
    run->input = STR("{\"n\":1}"); /* the gateway would have said so */
    script_settle(s);
    assert_int_equal(script_count(s, "task"), 1);
    script_free(s);
}

static void a_cancellation_goes_down_and_the_ends_come_up(void **state)
{
    struct script *s = script_new();
    struct script_run *run, *middle, *child;

    (void)state;
    script_workflow(s, "child", CHILD);
    script_workflow(s, "middle", MIDDLE);
    script_own(s, 5, 1);
    run =
        script_run(s, 5, "{\"name\":\"w\",\"steps\":{\"top\":{\"call\":\"workflow\",\"with\":{\"name\":\"middle\"}}}}");
    script_settle(s);
    middle = script_child(s, run, 0);
    child = script_child(s, middle, 0);
    assert_int_equal(child->depth, 2);
    script_command_body(s, run, "cancel", "{}");
    script_advance(s, 2 * SEC);
    assert_int_equal(child->status, RUN_CANCELLED);
    assert_int_equal(middle->status, RUN_CANCELLED);
    assert_int_equal(run->status, RUN_CANCELLED);
    assert_true(says(s, body_of(s, run, "child_ended"), "status", "cancelled"));
    assert_int_equal(count_of(s, middle, "cancel"), 1);
    script_free(s);
}

static void a_cancel_for_a_child_that_has_ended_is_only_refused(void **state)
{
    struct script *s = script_new();
    struct script_run *run, *child;

    (void)state;
    script_workflow(s, "child", CHILD);
    script_own(s, 5, 1);
    run = script_run(s, 5, PARENT);
    script_settle(s);
    child = script_child(s, run, 0);
    s->hold_fetches = true; /* the parent does not hear of it */
    finish(s, "\"status\":\"succeeded\"");
    assert_int_equal(child->status, RUN_SUCCEEDED);
    s->hold_fetches = false;
    /* both commands are there when they are fetched: the end is older */
    script_command_body(s, child, "cancel", "{}");
    script_advance(s, 2 * SEC);
    assert_int_equal(child->status, RUN_SUCCEEDED);
    assert_int_equal(script_events(s, child, EVENT_COMMAND_REFUSED), 1);
    assert_int_equal(script_events(s, run, EVENT_STEP_SUCCEEDED), 1);
    script_free(s);
}

static void an_end_that_nobody_waits_for_leaves_no_trace(void **state)
{
    struct script *s = script_new();
    struct script_run *run;
    size_t events;
    char other[UUID_TEXT_SIZE];

    (void)state;
    script_workflow(s, "child", CHILD);
    script_own(s, 5, 1);
    run = script_run(s, 5, PARENT);
    script_settle(s);
    events = run->event_count;
    run_id_format(run->id, other); /* not the child that it waits for */
    script_command_body(s, run, "child_ended",
                        arena_printf(s->arena, "{\"child\":\"%s\",\"step\":\"a\",\"status\":\"succeeded\"}", other));
    script_advance(s, 2 * SEC);
    assert_true(s->commands[s->command_count - 1].gone);
    assert_int_equal(run->event_count, events);
    script_free(s);
}

static void an_end_that_cannot_be_read_is_a_dead_letter(void **state)
{
    static const char *const bad[] = {"{\"step\":\"a\",\"status\":\"failed\"}",
                                      "{\"child\":\"x\",\"step\":\"a\",\"status\":\"failed\"}",
                                      "{\"child\":\"0190aaaa-0000-7000-8000-000000000005\",\"status\":\"failed\"}",
                                      ("{\"child\":\"0190aaaa-0000-7000-8000-000000000005\",\"step\":\"a\","
                                       "\"status\":\"active\"}"),
                                      "{\"child\""};
    struct script *s = script_new();
    struct script_run *run;
    size_t events;

    (void)state;
    script_workflow(s, "child", CHILD);
    script_own(s, 5, 1);
    run = script_run(s, 5, PARENT);
    script_settle(s);
    events = run->event_count;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        s->hold_commits = true;
        script_command_body(s, run, "child_ended", bad[i]);
        script_advance(s, 2 * SEC);
        assert_non_null(s->batch);
        assert_int_equal(s->batch->dead_letter_count, 1);
        assert_true(str_is(s->batch->dead_letters[0].body, bad[i]));
        assert_int_equal(s->batch->command_delete_count, 1);
        s->hold_commits = false;
        script_settle(s);
        assert_true(s->commands[s->command_count - 1].gone);
    }
    assert_int_equal(run->event_count, events);
    script_free(s);
}

static void a_batch_sent_again_starts_the_same_child(void **state)
{
    struct script *s = script_new();
    struct script_run *run;
    struct run_id first;

    (void)state;
    script_workflow(s, "child", CHILD);
    script_own(s, 5, 1);
    run = script_run(s, 5, PARENT);
    s->hold_commits = true;
    script_settle(s);
    first = s->batch->children[0].run;
    script_commit(s, SCHED_UNAVAILABLE, NULL);
    s->hold_commits = false;
    script_advance(s, SEC);
    assert_true(run_id_eq(script_child(s, run, 0)->id, first));
    assert_null(script_child(s, run, 1));
    script_free(s);
}

static void a_commit_that_happened_unheard_starts_no_second_child(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_workflow(s, "child", CHILD);
    script_own(s, 5, 1);
    run = script_run(s, 5, PARENT);
    s->hold_commits = true;
    script_settle(s);
    write_as_if_committed(s);
    script_commit(s, SCHED_UNKNOWN, NULL);
    s->hold_commits = false;
    script_advance(s, 12 * SEC);
    assert_non_null(script_child(s, run, 0));
    assert_null(script_child(s, run, 1));
    finish(s, "\"status\":\"succeeded\"");
    finish(s, "\"status\":\"succeeded\"");
    assert_int_equal(run->status, RUN_SUCCEEDED);
    script_free(s);
}

static void a_child_that_is_cancelled_and_retried_at_once_has_ended_for_its_parent(void **state)
{
    struct script *s = script_new();
    struct script_run *run, *child;

    (void)state;
    script_workflow(s, "child", CHILD);
    script_own(s, 5, 1);
    run = script_run(s, 5, PARENT);
    script_settle(s);
    child = script_child(s, run, 0);
    s->hold_fetches = true; /* both come in one batch */
    script_command_body(s, child, "cancel", "{}");
    script_command_body(s, child, "retry", "{}");
    s->hold_fetches = false;
    script_advance(s, 2 * SEC);
    assert_int_equal(child->status, RUN_ACTIVE);
    assert_int_equal(count_of(s, run, "child_ended"), 1);
    assert_true(says(s, body_of(s, run, "child_ended"), "status", "cancelled"));
    assert_int_equal(run->status, RUN_FAILED);
    finish(s, "\"status\":\"succeeded\"");
    assert_int_equal(child->status, RUN_SUCCEEDED);
    assert_int_equal(count_of(s, run, "child_ended"), 2);
    assert_int_equal(run->status, RUN_FAILED);
    script_free(s);
}

static void a_child_that_is_opened_again_tells_again(void **state)
{
    struct script *s = script_new();
    struct script_run *run, *child;

    (void)state;
    script_workflow(s, "child",
                    "{\"name\":\"child\",\"steps\":{\"a\":{\"call\":\"http\",\"delivery\":\"at_most_once\","
                    "\"with\":{\"url\":\"https://x.example/\"}}}}");
    script_own(s, 5, 1);
    run = script_run(s, 5, PARENT);
    script_settle(s);
    child = script_child(s, run, 0);
    script_started(s, 5, script_last(s, "task"), "w1");
    script_lapse(s, 5);
    assert_int_equal(child->status, RUN_FAILED);
    assert_int_equal(run->status, RUN_FAILED);
    script_command_body(s, child, "settle", "{\"step\":\"a\",\"as\":\"succeeded\"}");
    script_advance(s, 2 * SEC);
    assert_int_equal(child->status, RUN_SUCCEEDED);
    assert_int_equal(count_of(s, run, "child_ended"), 2);
    assert_int_equal(run->status, RUN_FAILED); /* it does not wait for it any more */
    script_free(s);
}

static void an_output_beyond_a_mebibyte_fails_the_step(void **state)
{
    struct script *s = script_new();
    struct script_run *run;
    char *large = mem_alloc((1 << 20) + 600);
    size_t n = (size_t)snprintf(large, 600,
                                "{\"name\":\"child\",\"steps\":{\"go\":{\"call\":\"transform\",\"with\":"
                                "{\"value\":null}}},\"output\":\"");

    (void)state;
    memset(large + n, 'x', 1 << 20);
    memcpy(large + n + (1 << 20), "\"}", 3);
    script_workflow(s, "child", large);
    script_own(s, 5, 1);
    run = script_run(s, 5, PARENT);
    script_settle(s);
    assert_int_equal(run->status, RUN_FAILED);
    assert_true(str_is(run->error_code, "too_large"));
    script_free(s);
    mem_free(large);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_child_is_started_by_the_batch_that_waits_for_it),
        cmocka_unit_test(a_child_and_its_parent_go_on_without_waiting_for_a_poll),
        cmocka_unit_test(a_failure_is_told_with_code_message_and_step),
        cmocka_unit_test(where_there_is_no_workflow_the_step_fails),
        cmocka_unit_test(an_input_that_breaks_the_schema_fails_the_child_before_it_begins),
        cmocka_unit_test(a_run_that_nobody_started_as_a_child_is_not_checked_again),
        cmocka_unit_test(a_cancellation_goes_down_and_the_ends_come_up),
        cmocka_unit_test(a_cancel_for_a_child_that_has_ended_is_only_refused),
        cmocka_unit_test(an_end_that_nobody_waits_for_leaves_no_trace),
        cmocka_unit_test(an_end_that_cannot_be_read_is_a_dead_letter),
        cmocka_unit_test(a_batch_sent_again_starts_the_same_child),
        cmocka_unit_test(a_commit_that_happened_unheard_starts_no_second_child),
        cmocka_unit_test(a_child_that_is_opened_again_tells_again),
        cmocka_unit_test(a_child_that_is_cancelled_and_retried_at_once_has_ended_for_its_parent),
        cmocka_unit_test(an_output_beyond_a_mebibyte_fails_the_step),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
