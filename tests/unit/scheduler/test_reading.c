/* What expressions read: items and lists of loops, steps around, answers of polls; and the tasks of steps that are not
 * the workflow's own. */
#include "common/base/log.h"
#include "tests/unit/base/capture.h"
#include "tests/unit/scheduler/script.h"

#include "common/base/banned.h"

static void answer(struct script *s, size_t i, const char *value)
{
    struct sched_value v = {.id = s->evaluations[i].id, .status = VALUE_OK, .value = str_of(value)};

    sched_on_values(s->sched, &v, 1);
    script_settle(s);
}

/* The output of the last event of that type and step (NULL: any). */
static struct str output_of(const struct script_run *run, enum event_type type, const char *step)
{
    for (size_t i = run->event_count; i > 0; i--)
        if (run->events[i - 1].type == (int16_t)type && (step == NULL || str_is(run->events[i - 1].step, step)))
            return run->outputs[i - 1];
    fail_msg("no such event");
    return STR_NONE;
}

static void assert_json(struct str value, const char *expected)
{
    if (!str_is(value, expected))
        fail_msg("%.*s is not %s", (int)value.len, value.ptr == NULL ? "" : value.ptr, expected);
}

static struct script_run *begin(struct script *s, const char *document, const char *input)
{
    struct script_run *run = script_run(s, 0, document);

    run->input = str_of(input);
    script_settle(s);
    return run;
}

static const struct sent *task_of(const struct script *s, const char *step)
{
    for (size_t i = s->sent_count; i > 0; i--) {
        struct str name;

        if (strcmp(s->sent[i - 1].type, "task") != 0)
            continue;
        assert_true(jt_string(jt_get(s->sent[i - 1].body, "step"), s->arena, &name));
        if (str_is(name, step))
            return &s->sent[i - 1];
    }
    fail_msg("no task of %s", step);
    return NULL;
}

static void assert_member(struct script *s, const struct sent *task, const char *key, const char *expected)
{
    struct str text;

    assert_true(jt_string(jt_get(task->body, key), s->arena, &text));
    assert_json(text, expected);
}

/* A loop over .input.list whose iterations are pure; their output is an object. */
#define PURE                                                                                                           \
    "{\"name\":\"w\",\"steps\":{\"pre\":{\"call\":\"transform\",\"with\":{\"value\":7}},"                              \
    "\"each\":{\"call\":\"foreach\",\"needs\":[\"pre\"],\"with\":{\"items\":\"${ .input.list }\",\"steps\":{"          \
    "\"t\":{\"call\":\"transform\",\"with\":{\"value\":{\"n\":\"${ .item.n }\",\"i\":\"${ .index }\","                 \
    "\"pre\":\"${ .steps.pre.output }\"}}}}}}},\"output\":\"${ .steps.each.output }\"}"

static void an_iteration_reads_its_item_its_index_and_the_steps_around_it(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = begin(s, PURE, "{\"list\":[{\"n\":0.10}, {\"n\":\"b\"} ,{}]}");
    assert_json(output_of(run, EVENT_RUN_SUCCEEDED, NULL),
                "[{\"n\":0.10,\"i\":0,\"pre\":7},{\"n\":\"b\",\"i\":1,\"pre\":7},{\"n\":null,\"i\":2,\"pre\":7}]");
    script_free(s);
}

static const char *list_of(struct script *s, unsigned count)
{
    struct buf text;
    const char *input;

    buf_init(&text, 1 << 20);
    buf_append_str(&text, STR("{\"list\":["));
    for (unsigned i = 0; i < count; i++)
        buf_printf(&text, "%s{\"n\":%u}", i == 0 ? "" : ",", i);
    buf_append_str(&text, STR("]}"));
    input = str_arena(s->arena, buf_str(&text)).ptr;
    buf_deinit(&text);
    return input;
}

/* The loop is a run of many batches; what comes for another run while one of them is in flight is in the next. */
static void a_loop_of_two_thousand_items_lets_other_runs_in_between(void **state)
{
    struct script *s = script_new();
    struct script_run *giant, *other;
    size_t batches = 0;

    (void)state;
    script_own(s, 0, 1);
    s->hold_commits = true;
    giant = begin(s, PURE, list_of(s, 2000));
    assert_non_null(s->batch);
    other = script_run(s, 0, NOOP);
    script_advance(s, SEC); /* commands are looked for */
    while (s->batch != NULL) {
        assert_true(s->batch->event_count <= 1100);
        script_commit(s, SCHED_COMMITTED, NULL);
        script_settle(s);
        batches++;
        if (batches == 1)
            assert_int_equal(script_events(s, other, EVENT_RUN_STARTED), 0);
        if (batches == 2)
            assert_int_equal(script_events(s, other, EVENT_RUN_STARTED), 1);
        assert_true(batches < 30);
    }
    assert_true(batches >= 8);
    assert_int_equal(script_events(s, giant, EVENT_RUN_SUCCEEDED), 1);
    assert_int_equal(jt_count(output_of(giant, EVENT_RUN_SUCCEEDED, NULL)), 2000);
    assert_json(jt_get(jt_at(output_of(giant, EVENT_RUN_SUCCEEDED, NULL), 1999), "n"), "1999");
    script_free(s);
}

/* each waits for a delay, so that the loop goes on when all caches are gone. */
#define SLOW_LOOP                                                                                                      \
    "{\"name\":\"w\",\"steps\":{\"each\":{\"call\":\"foreach\",\"with\":{\"items\":\"${ .input.list }\","              \
    "\"on_item_failure\":\"continue\",\"steps\":{\"t\":{\"call\":\"transform\",\"with\":{\"value\":"                   \
    "\"${ .item.n.x }\"}}}}},\"d\":{\"needs\":[\"each\"],\"call\":\"delay\",\"with\":{\"duration\":\"5s\"}},"          \
    "\"l\":{\"needs\":[\"d\"],\"call\":\"transform\",\"with\":{\"value\":{\"all\":\"${ .steps.each.output }\","        \
    "\"failed\":\"${ .steps.each.failed }\",\"second\":\"${ .steps.each.output[2] }\"}}}}}"

static void a_loops_list_is_put_together_of_bodies_asked_for_at_once(void **state)
{
    struct script *s = script_new_with(&(struct sched_settings){.cache_bodies_bytes = 1});
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = begin(s, SLOW_LOOP, "{\"list\":[{\"n\":{\"x\":1}},{\"n\":4},{\"n\":{\"x\":[2, 3]}},{\"n\":null}]}");
    assert_int_equal(script_events(s, run, EVENT_STEP_WAITING), 2); /* the loop, the delay */
    s->hold_bodies = true;
    script_advance(s, 6 * SEC);
    assert_int_equal(s->body_count, 2); /* null has none, and what failed */
    s->hold_bodies = false;
    script_settle(s);
    assert_json(output_of(run, EVENT_STEP_SUCCEEDED, "l"),
                "{\"all\":[1,null,[2, 3],null],\"failed\":[1],\"second\":[2, 3]}");
    assert_int_equal(s->bodies_read, 2);
    script_free(s);
}

/* A body arrives in parts, and the cache may hold next to nothing: it is put together all the same. */
static void a_list_larger_than_the_cache_is_put_together(void **state)
{
    struct script *s = script_new_with(&(struct sched_settings){.cache_bodies_bytes = 1});
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = begin(s,
                "{\"name\":\"w\",\"steps\":{\"each\":{\"call\":\"foreach\",\"with\":{\"items\":\"${ .input.list }\","
                "\"steps\":{\"t\":{\"call\":\"transform\",\"with\":{\"value\":{\"v\":\"${ .item.n }\"}}}}}},"
                "\"d\":{\"needs\":[\"each\"],\"call\":\"delay\",\"with\":{\"duration\":\"5s\"}}},"
                "\"output\":\"${ .steps.each.output }\"}",
                list_of(s, 300));
    s->hold_bodies = true;
    script_advance(s, 6 * SEC);
    assert_true(s->body_count > 250);
    while (s->body_count > 0) { /* one after another, each a second after the last */
        struct sched_body_want want = s->bodies[--s->body_count];

        sched_on_bodies(
            s->sched,
            &(struct sched_body){want.run, want.seq, false, want.seq == 0 ? run->input : run->outputs[want.seq - 1]},
            1);
        s->now += SEC;
        script_settle(s);
    }
    assert_int_equal(jt_count(output_of(run, EVENT_RUN_SUCCEEDED, NULL)), 300);
    assert_json(jt_at(output_of(run, EVENT_RUN_SUCCEEDED, NULL), 299), "{\"v\":299}");
    script_free(s);
}

static void a_list_that_no_expression_may_have_is_not_brought(void **state)
{
    struct script *s = script_new_with(&(struct sched_settings){.document_max_bytes = 1000});
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = begin(s,
                "{\"name\":\"w\",\"steps\":{\"each\":{\"call\":\"foreach\",\"with\":{\"items\":\"${ .input.list }\","
                "\"steps\":{\"t\":{\"call\":\"transform\",\"with\":{\"value\":{\"v\":\"${ .item.n }\"}}}}}},"
                "\"l\":{\"needs\":[\"each\"],\"call\":\"transform\",\"with\":{\"value\":"
                "\"${ .steps.each.output | length }\"}}}}",
                list_of(s, 200));
    assert_int_equal(script_events(s, run, EVENT_STEP_FAILED), 1);
    assert_int_equal(s->evaluation_count, 0);
    script_free(s);
}

static void steps_as_a_whole_are_those_upstream_of_the_step_and_of_its_loop(void **state)
{
    struct script *s = script_new();
    struct str steps;

    (void)state;
    script_own(s, 0, 1);
    begin(s,
          "{\"name\":\"w\",\"steps\":{\"a\":{\"call\":\"transform\",\"with\":{\"value\":1}},"
          "\"beside\":{\"call\":\"transform\",\"with\":{\"value\":2}},"
          "\"each\":{\"needs\":[\"a\"],\"call\":\"foreach\",\"with\":{\"items\":[5],\"steps\":{"
          "\"b\":{\"call\":\"transform\",\"with\":{\"value\":\"${ .item }\"}},"
          "\"c\":{\"needs\":[\"b\"],\"call\":\"transform\",\"with\":{\"value\":\"${ .steps | keys }\"}},"
          "\"d\":{\"call\":\"noop\"}}}}}}",
          "{}");
    assert_int_equal(s->evaluation_count, 1);
    steps = jt_get(s->evaluations[0].document, "steps");
    assert_int_equal(jt_count(steps), 2);
    assert_json(jt_get(jt_get(steps, "a"), "output"), "1");
    assert_json(jt_get(jt_get(steps, "b"), "output"), "5");
    script_free(s);
}

/* The frame of an iteration goes to the next: what was asked for the first is no answer for the second. */
static void a_value_that_comes_too_late_is_not_taken_by_the_next_iteration(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = begin(s,
                "{\"name\":\"w\",\"steps\":{\"each\":{\"call\":\"foreach\",\"with\":{\"items\":[1,2],"
                "\"concurrency\":1,\"on_item_failure\":\"continue\",\"steps\":{"
                "\"a\":{\"call\":\"condition\",\"with\":{\"if\":\"${ .item > 1 }\"}},"
                "\"b\":{\"call\":\"transform\",\"with\":{\"value\":\"${ .item + 1 }\"}}},"
                "\"output\":\"${ .steps.b.output }\"}}}}",
                "{}");
    assert_int_equal(s->evaluation_count, 2);
    answer(s, 0, "\"no boolean\""); /* the iteration fails, and the next begins */
    assert_int_equal(s->evaluation_count, 4);
    answer(s, 1, "2");
    answer(s, 2, "true");
    answer(s, 3, "3");
    assert_int_equal(script_events(s, run, EVENT_RUN_PARTIALLY_COMPLETED), 1);
    assert_json(output_of(run, EVENT_STEP_SUCCEEDED, "each[1].b"), "3");
    script_free(s);
}

#define SUCCEEDED "\"status\":\"succeeded\""

static void tasks_of_iterations_go_by_their_paths_and_keep_their_own_keys(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = begin(s,
                "{\"name\":\"w\",\"steps\":{\"each\":{\"call\":\"foreach\",\"with\":{\"items\":[\"x\",\"y\"],"
                "\"concurrency\":1,\"steps\":{\"go\":{\"call\":\"http\",\"with\":{\"url\":\"http://h/${ .item }\"},"
                "\"idempotency\":{\"key\":\"k-${ .item }\"}}}}}}}",
                "{}");
    assert_int_equal(script_count(s, "task"), 1);
    assert_member(s, task_of(s, "each[0].go"), "call", "http");
    assert_member(s, task_of(s, "each[0].go"), "idempotency_key", "k-x:0");
    script_result(s, 0, task_of(s, "each[0].go"), "w",
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
    assert_member(s, task_of(s, "each[1].go"), "idempotency_key", "k-y:1");
    script_result(s, 0, script_last(s, "task"), "w", SUCCEEDED);
    script_settle(s);
    assert_int_equal(script_events(s, run, EVENT_RUN_SUCCEEDED), 1);
    script_free(s);
}

static void a_poll_asks_again_until_its_expression_holds(void **state)
{
    struct script *s = script_new();
    const struct sent *first, *second;
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = begin(s,
                "{\"name\":\"w\",\"steps\":{\"p\":{\"call\":\"poll\",\"with\":{\"call\":\"http\","
                "\"with\":{\"url\":\"http://h/${ .input.x }\"},\"interval\":\"2s\",\"timeout\":\"1m\","
                "\"until\":\"${ .output.done and .steps.p.output.done }\"}}},\"output\":\"${ .steps.p.output.n }\"}",
                "{\"x\":3}");
    first = task_of(s, "p");
    assert_member(s, first, "call", "http");
    assert_json(jt_get(first->body, "with"), "{\"url\":\"http://h/3\"}");
    script_started(s, 0, first, "w1");
    script_settle(s);
    script_result(s, 0, first, "w1", SUCCEEDED ",\"output\":{\"done\":false}");
    script_settle(s);
    assert_int_equal(s->evaluation_count, 1);
    assert_json(jt_get(jt_get(s->evaluations[0].document, "output"), "done"), "false");
    assert_json(jt_get(jt_get(jt_get(jt_get(s->evaluations[0].document, "steps"), "p"), "output"), "done"), "false");
    answer(s, 0, "false");
    assert_int_equal(script_count(s, "task"), 1);
    script_advance(s, 1900 * MS);
    assert_int_equal(script_count(s, "task"), 1);
    script_advance(s, 200 * MS);
    assert_int_equal(script_count(s, "task"), 2);
    second = task_of(s, "p");
    assert_string_equal(second->id + strlen(second->id) - 6, "/p/1/2");
    assert_json(jt_get(second->body, "publication"), "1");
    assert_json(jt_get(second->body, "with"), "{\"url\":\"http://h/3\"}");
    script_result(s, 0, second, "w2", SUCCEEDED ",\"output\":{\"done\":true,\"n\":5}");
    script_settle(s);
    answer(s, 1, "true");
    assert_json(output_of(run, EVENT_RUN_SUCCEEDED, NULL), "5");
    script_free(s);
}

static void a_compensation_reads_what_it_undoes_and_a_notification_how_the_run_ends(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = begin(s,
                "{\"name\":\"w\",\"steps\":{\"each\":{\"call\":\"foreach\",\"with\":{\"items\":[{\"id\":8}],\"steps\":{"
                "\"go\":{\"call\":\"noop\",\"compensate\":{\"call\":\"http\",\"with\":{\"method\":\"DELETE\","
                "\"url\":\"http://h/${ .item.id }/${ .index }/${ .steps.go.output.n }\"}}}}}},"
                "\"bad\":{\"needs\":[\"each\"],\"call\":\"noop\",\"retry\":{\"max_attempts\":1}}},"
                "\"on_failure_notify\":{\"call\":\"http\",\"with\":{\"url\":\"http://mail\",\"body\":"
                "\"${ .run.status } ${ .run.error.code } ${ .run.error.step } ${ .steps.each.status }\"}}}",
                "{}");
    script_result(s, 0, task_of(s, "each[0].go"), "w", SUCCEEDED ",\"output\":{\"n\":\"v\"}");
    script_settle(s);
    script_result(s, 0, task_of(s, "bad"), "w",
                  "\"status\":\"failed\",\"error\":{\"class\":\"permanent\",\"code\":\"refused\",\"message\":\"m\"}");
    script_settle(s);
    assert_json(jt_get(jt_get(task_of(s, "each[0].go:compensate")->body, "with"), "url"), "\"http://h/8/0/v\"");
    assert_true(str_starts(jt_get(task_of(s, "each[0].go:compensate")->body, "idempotency_key"), "\""));
    script_result(s, 0, task_of(s, "each[0].go:compensate"), "w",
                  "\"status\":\"failed\",\"error\":{\"class\":\"permanent\",\"code\":\"gone\",\"message\":\"m\"}");
    script_settle(s);
    assert_json(jt_get(jt_get(task_of(s, ":notify")->body, "with"), "body"),
                "\"compensation_failed refused bad succeeded\"");
    script_result(s, 0, task_of(s, ":notify"), "w", SUCCEEDED);
    script_settle(s);
    assert_int_equal(script_events(s, run, EVENT_RUN_COMPENSATION_FAILED), 1);
    script_free(s);
}

static void a_signals_payload_is_the_output_of_the_step_that_takes_it(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = begin(s,
                "{\"name\":\"w\",\"steps\":{\"a\":{\"call\":\"wait_signal\",\"with\":{\"signal\":\"go\"}},"
                "\"d\":{\"needs\":[\"a\"],\"call\":\"delay\",\"with\":{\"duration\":\"1s\"}}},"
                "\"output\":\"${ .steps.a.output.by }\"}",
                "{}");
    script_command_body(s, run, "signal", "{\"name\":\"go\",\"payload\":{\"by\":\"zoe\"}}");
    script_advance(s, 500 * MS);
    script_own(s, 0, 2);
    script_advance(s, 2 * SEC);
    assert_json(output_of(run, EVENT_RUN_SUCCEEDED, NULL), "\"zoe\"");
    script_free(s);
}

/* More open rows than any batch begins: each task is found again, and what is not in the table any more is dropped. */
static void a_run_with_thousands_of_open_rows_is_read_again(void **state)
{
    struct script *s = script_new();
    struct script_run *run;
    struct sched_stats stats;

    (void)state;
    script_own(s, 0, 1);
    run = begin(s,
                "{\"name\":\"w\",\"steps\":{\"each\":{\"call\":\"foreach\",\"with\":{\"items\":\"${ .input.list }\","
                "\"concurrency\":3000,\"steps\":{\"d\":{\"call\":\"delay\",\"with\":{\"duration\":\"1h\"}}}}}}}",
                list_of(s, 3000));
    sched_get_stats(s->sched, &stats);
    assert_int_equal(stats.timers, 3001); /* the run's timeout, too */
    assert_int_equal(run->work_count, 3002);
    s->hold_commits = true;
    script_command_body(s, run, "signal", "{\"name\":\"nobody\"}");
    script_advance(s, SEC);
    write_as_if_committed(s);
    run->work_count -= 10; /* somebody else has closed them */
    s->hold_commits = false;
    script_commit(s, SCHED_UNKNOWN, NULL);
    script_settle(s);
    sched_get_stats(s->sched, &stats);
    assert_int_equal(stats.timers, 3001 - 10);
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
    run = begin(s,
                "{\"name\":\"w\",\"steps\":{\"each\":{\"call\":\"foreach\",\"with\":{\"items\":\"${ .input.list }\","
                "\"steps\":{\"in\":{\"call\":\"foreach\",\"with\":{\"items\":\"${ .input.list }\",\"steps\":{"
                "\"t\":{\"call\":\"transform\",\"with\":{\"value\":1}}}}}}}}}}",
                list_of(s, 400));
    text = capture_end(&capture);
    assert_int_equal(lines_with(text, "run.history_long"), 1);
    mem_free(text);
    assert_int_equal(script_events(s, run, EVENT_RUN_FAILED), 1);
    assert_true(str_is(run->error_code, "history_limit"));
    assert_true(run->event_count >= 200000 && run->event_count < 202000);
    script_free(s);
}

static void loops_inside_loops_read_the_innermost_item(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run =
        begin(s,
              "{\"name\":\"w\",\"steps\":{\"each\":{\"call\":\"foreach\",\"with\":{\"items\":[[1,2],[],[3]],\"steps\":{"
              "\"o\":{\"call\":\"transform\",\"with\":{\"value\":\"${ .index }\"}},"
              "\"in\":{\"needs\":[\"o\"],\"call\":\"foreach\",\"with\":{\"items\":\"${ .item }\",\"steps\":{"
              "\"t\":{\"call\":\"transform\",\"with\":{\"value\":[\"${ .item }\",\"${ .index }\","
              "\"${ .steps.o.output }\"]}}}}}}}}},\"output\":\"${ .steps.each }\"}",
              "{}");
    assert_json(output_of(run, EVENT_RUN_SUCCEEDED, NULL),
                "{\"status\":\"succeeded\",\"branch\":null,\"output\":[[[1,0,0],[2,1,0]],[],[[3,0,2]]],"
                "\"error\":null,\"failed\":[]}");
    script_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_iteration_reads_its_item_its_index_and_the_steps_around_it),
        cmocka_unit_test(a_loop_of_two_thousand_items_lets_other_runs_in_between),
        cmocka_unit_test(a_loops_list_is_put_together_of_bodies_asked_for_at_once),
        cmocka_unit_test(a_list_larger_than_the_cache_is_put_together),
        cmocka_unit_test(a_list_that_no_expression_may_have_is_not_brought),
        cmocka_unit_test(steps_as_a_whole_are_those_upstream_of_the_step_and_of_its_loop),
        cmocka_unit_test(a_value_that_comes_too_late_is_not_taken_by_the_next_iteration),
        cmocka_unit_test(tasks_of_iterations_go_by_their_paths_and_keep_their_own_keys),
        cmocka_unit_test(a_poll_asks_again_until_its_expression_holds),
        cmocka_unit_test(a_compensation_reads_what_it_undoes_and_a_notification_how_the_run_ends),
        cmocka_unit_test(a_signals_payload_is_the_output_of_the_step_that_takes_it),
        cmocka_unit_test(a_run_with_thousands_of_open_rows_is_read_again),
        cmocka_unit_test(a_history_that_grows_long_is_warned_of_once_and_then_ends_its_run),
        cmocka_unit_test(loops_inside_loops_read_the_innermost_item),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
