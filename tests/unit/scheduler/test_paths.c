/* Steps that are not the workflow's own, and tasks of more than one try: their messages, keys and rows. */
#include "common/base/log.h"
#include "tests/unit/base/capture.h"
#include "tests/unit/scheduler/script.h"

#include "common/base/banned.h"

#define SUCCEEDED "\"status\":\"succeeded\""

static void tasks_of_iterations_go_by_their_paths_and_keep_their_own_keys(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = script_begin(
        s,
        "{\"name\":\"w\",\"steps\":{\"each\":{\"call\":\"foreach\",\"with\":{\"items\":[\"x\",\"y\"],"
        "\"concurrency\":1,\"steps\":{\"go\":{\"call\":\"http\",\"with\":{\"url\":\"http://h/${ .item }\"},"
        "\"idempotency\":{\"key\":\"k-${ .item }\"}}}}}}}",
        "{}");
    assert_int_equal(script_count(s, "task"), 1);
    assert_member(s, script_task(s, "each[0].go"), "call", "http");
    assert_member(s, script_task(s, "each[0].go"), "idempotency_key", "k-x:0");
    script_result(s, 0, script_task(s, "each[0].go"), "w",
                  "\"status\":\"failed\",\"error\":{\"class\":\"transient\",\"code\":\"http_503\",\"message\":\"m\"}");
    script_settle(s);
    script_advance(s, 10 * SEC); /* the second attempt has the key of the first */
    assert_int_equal(script_count(s, "task"), 2);
    assert_member(s, script_last(s, "task"), "idempotency_key", "k-x:0");
    script_own(s, 0, 2); /* also after everything has been read again */
    script_settle(s);
    script_advance(s, SEC);
    assert_member(s, script_last(s, "task"), "idempotency_key", "k-x:0");
    script_result(s, 0, script_last(s, "task"), "w", SUCCEEDED ",\"output\":{\"status\":200}");
    script_settle(s);
    assert_member(s, script_task(s, "each[1].go"), "idempotency_key", "k-y:1");
    script_result(s, 0, script_last(s, "task"), "w", SUCCEEDED);
    script_settle(s);
    assert_int_equal(script_events(s, run, EVENT_RUN_SUCCEEDED), 1);
    script_free(s);
}

static void a_cancelled_run_tells_the_workers_of_its_iterations(void **state)
{
    struct script *s = script_new();
    struct script_run *run;
    struct str id;

    (void)state;
    script_own(s, 0, 1);
    run = script_begin(s,
                       "{\"name\":\"w\",\"steps\":{\"each\":{\"call\":\"foreach\",\"with\":{\"items\":[1,2],\"steps\":{"
                       "\"go\":{\"call\":\"noop\"}}}}}}",
                       "{}");
    script_started(s, 0, script_task(s, "each[1].go"), "w1");
    script_settle(s);
    script_command(s, run, "cancel", NULL);
    script_advance(s, SEC);
    assert_int_equal(script_count(s, "cancel"), 2);
    assert_string_equal(script_last(s, "cancel")->queue, "workers"); /* nobody knows who has the other */
    assert_true(jt_string(jt_get(script_last(s, "cancel")->body, "task_id"), s->arena, &id));
    assert_json(id, script_task(s, "each[0].go")->id);
    for (size_t i = 0; i < s->sent_count; i++) {
        if (strcmp(s->sent[i].type, "cancel") != 0)
            continue;
        assert_string_equal(s->sent[i].queue, "ropewalk.worker.w1");
        assert_true(jt_string(jt_get(s->sent[i].body, "task_id"), s->arena, &id));
        assert_json(id, script_task(s, "each[1].go")->id);
        break;
    }
    script_result(s, 0, script_task(s, "each[1].go"), "w1", SUCCEEDED);
    script_settle(s);
    assert_int_equal(script_events(s, run, EVENT_RUN_CANCELLED), 1);
    script_free(s);
}

static void a_poll_asks_again_until_its_expression_holds(void **state)
{
    struct script *s = script_new();
    const struct sent *first, *second;
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = script_begin(
        s,
        "{\"name\":\"w\",\"steps\":{\"p\":{\"call\":\"poll\",\"with\":{\"call\":\"http\","
        "\"with\":{\"url\":\"http://h/${ .input.x }\"},\"interval\":\"2s\",\"timeout\":\"1m\","
        "\"until\":\"${ .output.done and .steps.p.output.done }\"}}},\"output\":\"${ .steps.p.output.n }\"}",
        "{\"x\":3}");
    first = script_task(s, "p");
    assert_member(s, first, "call", "http");
    assert_json(jt_get(first->body, "with"), "{\"url\":\"http://h/3\"}");
    script_started(s, 0, first, "w1");
    script_settle(s);
    script_result(s, 0, first, "w1", SUCCEEDED ",\"output\":{\"done\":false}");
    script_settle(s);
    assert_int_equal(s->evaluation_count, 1);
    assert_json(jt_get(jt_get(s->evaluations[0].document, "output"), "done"), "false");
    assert_json(jt_get(jt_get(jt_get(jt_get(s->evaluations[0].document, "steps"), "p"), "output"), "done"), "false");
    script_answer(s, 0, "false");
    assert_int_equal(script_count(s, "task"), 1);
    script_advance(s, 1900 * MS);
    assert_int_equal(script_count(s, "task"), 1);
    script_advance(s, 200 * MS);
    assert_int_equal(script_count(s, "task"), 2);
    second = script_task(s, "p");
    assert_string_equal(second->id + strlen(second->id) - 6, "/p/1/2");
    assert_json(jt_get(second->body, "publication"), "1");
    assert_json(jt_get(second->body, "with"), "{\"url\":\"http://h/3\"}");
    script_result(s, 0, second, "w2", SUCCEEDED ",\"output\":{\"done\":true,\"n\":5}");
    script_settle(s);
    script_answer(s, 1, "true");
    assert_json(script_output(run, EVENT_RUN_SUCCEEDED, NULL), "5");
    script_free(s);
}

static void a_poll_without_expressions_sends_only_what_its_call_takes(void **state)
{
    struct script *s = script_new();

    (void)state;
    script_own(s, 0, 1);
    script_begin(
        s,
        "{\"name\":\"w\",\"steps\":{\"p\":{\"call\":\"poll\",\"with\":{\"call\":\"http\",\"with\":{\"url\":\"http://"
        "h\"},"
        "\"interval\":\"2s\",\"until\":\"${ .output.done }\"}}}}",
        "{}");
    assert_json(jt_get(script_task(s, "p")->body, "with"), "{\"url\":\"http://h\"}");
    script_result(s, 0, script_task(s, "p"), "w", SUCCEEDED ",\"output\":{\"done\":false}");
    script_advance(s, 3 * SEC);
    assert_int_equal(script_count(s, "task"), 2);
    assert_json(jt_get(script_task(s, "p")->body, "with"), "{\"url\":\"http://h\"}");
    script_free(s);
}

/* Nothing of an iteration's keys stays behind. */
static void keys_are_forgotten_with_their_steps(void **state)
{
    struct script *s = script_new();
    struct script_run *run;
    struct sched_stats stats;

    (void)state;
    script_own(s, 0, 1);
    run = script_begin(
        s,
        "{\"name\":\"w\",\"steps\":{\"each\":{\"call\":\"foreach\",\"with\":{\"items\":\"${ .input.list }\","
        "\"concurrency\":1,\"steps\":{\"go\":{\"call\":\"noop\",\"idempotency\":{\"key\":"
        "\"123456789-123456789-123456789-123456789-123456789-123456789-123456789-123456789-123456789-${ .item.n }\""
        "}}}}},\"last\":{\"needs\":[\"each\"],\"call\":\"noop\"}}}",
        script_list(s, 200));
    for (int i = 0; i < 200; i++) {
        script_result(s, 0, script_last(s, "task"), "w", SUCCEEDED);
        script_settle(s);
    }
    assert_int_equal(script_events(s, run, EVENT_STEP_DISPATCHED), 201);
    sched_get_stats(s->sched, &stats);
    assert_true(stats.run_bytes < 16000);
    script_free(s);
}

static void a_compensation_reads_what_it_undoes_and_a_notification_how_the_run_ends(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = script_begin(
        s,
        "{\"name\":\"w\",\"steps\":{\"each\":{\"call\":\"foreach\",\"with\":{\"items\":[{\"id\":8}],\"steps\":{"
        "\"go\":{\"call\":\"noop\",\"compensate\":{\"call\":\"http\",\"with\":{\"method\":\"DELETE\","
        "\"url\":\"http://h/${ .item.id }/${ .index }/${ .steps.go.output.n }\"}}}}}},"
        "\"bad\":{\"needs\":[\"each\"],\"call\":\"noop\",\"retry\":{\"max_attempts\":1}}},"
        "\"on_failure_notify\":{\"call\":\"http\",\"with\":{\"url\":\"http://mail\",\"body\":"
        "\"${ .run.status } ${ .run.error.code } ${ .run.error.step } ${ .steps.each.status }\"}}}",
        "{}");
    script_result(s, 0, script_task(s, "each[0].go"), "w", SUCCEEDED ",\"output\":{\"n\":\"v\"}");
    script_settle(s);
    script_result(s, 0, script_task(s, "bad"), "w",
                  "\"status\":\"failed\",\"error\":{\"class\":\"permanent\",\"code\":\"refused\",\"message\":\"m\"}");
    script_settle(s);
    assert_json(jt_get(jt_get(script_task(s, "each[0].go:compensate")->body, "with"), "url"), "\"http://h/8/0/v\"");
    assert_true(str_starts(jt_get(script_task(s, "each[0].go:compensate")->body, "idempotency_key"), "\""));
    script_result(s, 0, script_task(s, "each[0].go:compensate"), "w",
                  "\"status\":\"failed\",\"error\":{\"class\":\"permanent\",\"code\":\"gone\",\"message\":\"m\"}");
    script_settle(s);
    assert_json(jt_get(jt_get(script_task(s, ":notify")->body, "with"), "body"),
                "\"compensation_failed refused bad succeeded\"");
    script_result(s, 0, script_task(s, ":notify"), "w", SUCCEEDED);
    script_settle(s);
    assert_int_equal(script_events(s, run, EVENT_RUN_COMPENSATION_FAILED), 1);
    script_free(s);
}

/* A value of a step that was cancelled comes while that of its run's compensation is awaited. */
static void a_value_that_nobody_wants_begins_no_second_compensation(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run =
        script_begin(s,
                     "{\"name\":\"w\",\"steps\":{\"a\":{\"call\":\"transform\",\"with\":{\"value\":1},"
                     "\"compensate\":{\"call\":\"http\",\"with\":{\"url\":\"${ \\\"http://h\\\" + .run.id }\"}}},"
                     "\"bad\":{\"needs\":[\"a\"],\"call\":\"condition\",\"with\":{\"if\":\"${ .input.x + 1 }\"}},"
                     "\"late\":{\"needs\":[\"a\"],\"call\":\"transform\",\"with\":{\"value\":\"${ .input.x + 2 }\"}}}}",
                     "{\"x\":1}");
    assert_int_equal(s->evaluation_count, 2);
    script_answer(s, 0, "\"no boolean\"");
    assert_int_equal(s->evaluation_count, 3);
    script_answer(s, 1, "3");
    assert_int_equal(s->evaluation_count, 3);
    script_answer(s, 2, "\"http://h/1\"");
    assert_int_equal(script_count(s, "task"), 1);
    assert_int_equal(run->work_count, 2);
    script_result(s, 0, script_task(s, "a:compensate"), "w", SUCCEEDED);
    script_settle(s);
    assert_int_equal(script_events(s, run, EVENT_RUN_COMPENSATED), 1);
    script_free(s);
}

static void a_signals_payload_is_the_output_of_the_step_that_takes_it(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = script_begin(s,
                       "{\"name\":\"w\",\"steps\":{\"a\":{\"call\":\"wait_signal\",\"with\":{\"signal\":\"go\"}},"
                       "\"d\":{\"needs\":[\"a\"],\"call\":\"delay\",\"with\":{\"duration\":\"1s\"}}},"
                       "\"output\":\"${ .steps.a.output.by }\"}",
                       "{}");
    script_command_body(s, run, "signal", "{\"name\":\"go\",\"payload\":{\"by\":\"zoe\"}}");
    script_advance(s, 500 * MS);
    script_own(s, 0, 2);
    script_advance(s, 2 * SEC);
    assert_json(script_output(run, EVENT_RUN_SUCCEEDED, NULL), "\"zoe\"");
    assert_int_equal(s->bodies_read, 0);
    script_free(s);
}

/* A commit of which nobody knows the outcome, and somebody has deleted the first rows. */
static void read_again_without_ten(struct script *s, struct script_run *run)
{
    s->hold_commits = true;
    script_command_body(s, run, "signal", "{\"name\":\"nobody\"}");
    script_advance(s, SEC);
    write_as_if_committed(s);
    run->work_count -= 10;
    memmove(run->work, run->work + 10, run->work_count * sizeof(*run->work));
    s->hold_commits = false;
    script_commit(s, SCHED_UNKNOWN, NULL);
    script_settle(s);
}

/* More open rows than any batch begins: each is found again, and those that are not in the table any more are written
 * again, because the history asks for them. */
static void a_run_with_thousands_of_open_rows_is_read_again(void **state)
{
    struct script *s = script_new();
    struct script_run *run;
    struct sched_stats stats;

    (void)state;
    script_own(s, 0, 1);
    run = script_begin(
        s,
        "{\"name\":\"w\",\"steps\":{\"each\":{\"call\":\"foreach\",\"with\":{\"items\":\"${ .input.list }\","
        "\"concurrency\":3000,\"steps\":{\"d\":{\"call\":\"delay\",\"with\":{\"duration\":\"1h\"}}}}}}}",
        script_list(s, 3000));
    sched_get_stats(s->sched, &stats);
    assert_int_equal(stats.timers, 3001); /* the run's timeout, too */
    assert_int_equal(run->work_count, 3002);
    read_again_without_ten(s, run);
    sched_get_stats(s->sched, &stats);
    assert_int_equal(stats.timers, 3001);
    assert_int_equal(run->work_count, 3002);
    assert_int_equal(stats.orphans[ORPHAN_LOST_WORK], 10);
    read_again_without_ten(s, run);
    sched_get_stats(s->sched, &stats);
    assert_int_equal(stats.timers, 3001);
    assert_int_equal(run->work_count, 3002);
    assert_int_equal(stats.orphans[ORPHAN_LOST_WORK], 20);
    assert_int_equal(stats.orphans[ORPHAN_STRAY_WORK], 0);
    script_free(s);
}

static size_t lines_with(const char *text, const char *word)
{
    size_t n = 0;

    for (const char *at = text; (at = strstr(at, word)) != NULL; at++)
        n++;
    return n;
}

/* Loops inside loops reach the bound without any attempt that is tried again. */
static void a_history_that_grows_long_is_warned_of_once_and_then_ends_its_run(void **state)
{
    struct script *s = script_new();
    struct script_run *run;
    struct capture capture;
    char *text;

    (void)state;
    script_own(s, 0, 1);
    log_init("test", "test", LOG_WARN);
    capture = capture_begin(STDERR_FILENO);
    run = script_begin(
        s,
        "{\"name\":\"w\",\"steps\":{\"each\":{\"call\":\"foreach\",\"with\":{\"items\":\"${ .input.list }\","
        "\"steps\":{\"in\":{\"call\":\"foreach\",\"with\":{\"items\":\"${ .input.list }\",\"steps\":{"
        "\"t\":{\"call\":\"transform\",\"with\":{\"value\":1}}}}}}}}}}",
        script_list(s, 400));
    text = capture_end(&capture);
    assert_int_equal(lines_with(text, "run.history_long"), 1);
    mem_free(text);
    assert_int_equal(script_events(s, run, EVENT_RUN_FAILED), 1);
    assert_true(str_is(run->error_code, "history_limit"));
    assert_true(run->event_count >= 200000 && run->event_count < 202000);
    script_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tasks_of_iterations_go_by_their_paths_and_keep_their_own_keys),
        cmocka_unit_test(a_cancelled_run_tells_the_workers_of_its_iterations),
        cmocka_unit_test(a_poll_asks_again_until_its_expression_holds),
        cmocka_unit_test(a_poll_without_expressions_sends_only_what_its_call_takes),
        cmocka_unit_test(keys_are_forgotten_with_their_steps),
        cmocka_unit_test(a_compensation_reads_what_it_undoes_and_a_notification_how_the_run_ends),
        cmocka_unit_test(a_value_that_nobody_wants_begins_no_second_compensation),
        cmocka_unit_test(a_signals_payload_is_the_output_of_the_step_that_takes_it),
        cmocka_unit_test(a_run_with_thousands_of_open_rows_is_read_again),
        cmocka_unit_test(a_history_that_grows_long_is_warned_of_once_and_then_ends_its_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
