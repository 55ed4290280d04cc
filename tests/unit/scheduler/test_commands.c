/* Commands: what their bodies say, what is refused, and runs that are opened again. */
#include "tests/unit/scheduler/script.h"

#include "common/base/banned.h"

#define WAITS                                                                                                          \
    "{\"name\":\"w\",\"steps\":{\"a\":{\"call\":\"wait_signal\",\"with\":{\"signal\":\"go\"}},"                        \
    "\"b\":{\"needs\":[\"a\"],\"call\":\"noop\"}}}"
#define ONCE                                                                                                           \
    "{\"name\":\"w\",\"steps\":{\"a\":{\"call\":\"http\",\"delivery\":\"at_most_once\",\"with\":{\"url\":\"https://"   \
    "x.example/\"}}}}"

/* The newest event of a type, decoded; its text is the script's. */
static struct event newest(struct script *s, const struct script_run *run, enum event_type type)
{
    struct event event = {.type = EVENT_NONE};
    struct err err;

    for (size_t i = 0; i < run->event_count; i++) {
        if (run->events[i].type != (int16_t)type)
            continue;
        event = (struct event){.seq = run->events[i].seq, .type = type, .step = run->events[i].step};
        assert_int_equal(event_decode_data(run->events[i].data, s->arena, &event, &err), ERR_OK);
        event.output = run->outputs[i];
    }
    return event;
}

/* The verdict on the newest command, as the gateway is told it. */
static void assert_verdict(struct script *s, bool applied, const char *code)
{
    const struct sent *update = script_last(s, "update");
    struct str text;

    assert_non_null(update);
    assert_true(str_is(jt_get(update->body, "command"), arena_printf(s->arena, "%zu", s->command_count)));
    assert_true(str_is(jt_get(update->body, "applied"), applied ? "true" : "false"));
    assert_true(jt_string(jt_get(update->body, "code"), s->arena, &text));
    if (!str_is(text, code))
        fail_msg("code " STR_FMT " instead of %s", STR_ARG(text), code);
}

static void a_signal_is_kept_in_history_and_wakes_its_step(void **state)
{
    struct script *s = script_new();
    struct script_run *run;
    struct event event;

    (void)state;
    script_own(s, 3, 1);
    run = script_run(s, 3, WAITS);
    script_settle(s);
    assert_int_equal(run->work_count, 2); /* the run's timeout, and the signal */
    script_command_body(s, run, "signal", "{\"name\":\"g\\u006f\",\"payload\":{\"by\":\"Zo\\u00eb\",\"n\":0.10}}");
    script_advance(s, 2 * SEC);
    assert_verdict(s, true, "signal");
    event = newest(s, run, EVENT_SIGNAL_RECEIVED);
    assert_true(str_is(event.name, "go"));
    assert_true(str_is(event.output, "{\"by\":\"Zo\\u00eb\",\"n\":0.10}"));
    assert_int_equal(script_events(s, run, EVENT_STEP_SUCCEEDED), 1);
    assert_int_equal(script_count(s, "task"), 1);
    script_free(s);
}

static void a_body_that_says_nothing_is_refused_by_name(void **state)
{
    static const struct {
        const char *kind, *body, *reason;
    } bad[] = {{"signal", "{}", "'name' is no text of 1 to 255 bytes"},
               {"signal", "{\"name\":\"\"}", "'name' is no text of 1 to 255 bytes"},
               {"signal", "{\"name\":7}", "'name' is no text of 1 to 255 bytes"},
               {"signal", "[", "its body is not JSON, or beyond a limit"},
               {"cancel", "{\"compensate\":1}", "'compensate' is not true or false"},
               {"settle", "{\"as\":\"failed\"}", "'step' is no path of a step"},
               {"settle", "{\"step\":\"a\"}", "'as' is neither 'succeeded' nor 'failed'"},
               {"settle", "{\"step\":\"a\",\"as\":\"skipped\"}", "'as' is neither 'succeeded' nor 'failed'"}};
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = script_run(s, 0, WAITS);
    script_settle(s);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        script_command_body(s, run, bad[i].kind, bad[i].body);
        script_advance(s, 2 * SEC);
        assert_verdict(s, false, "bad_command");
        assert_true(str_is(newest(s, run, EVENT_COMMAND_REFUSED).message, bad[i].reason));
        assert_int_equal(script_events(s, run, EVENT_COMMAND_REFUSED), i + 1);
    }
    assert_false(run_ended(run->status));
    script_free(s);
}

static void a_refusal_says_why_by_its_code(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = script_run(s, 0, WAITS);
    script_settle(s);
    script_command_body(s, run, "compensate", "{}");
    script_advance(s, 2 * SEC);
    assert_verdict(s, false, "run_not_ended");
    script_command_body(s, run, "settle", "{\"step\":\"a\",\"as\":\"failed\"}");
    script_advance(s, 2 * SEC);
    assert_verdict(s, false, "not_unknown");
    script_command_body(s, run, "cancel", "{}");
    script_advance(s, 2 * SEC);
    assert_verdict(s, true, "cancel");
    script_command_body(s, run, "signal", "{\"name\":\"go\"}");
    script_advance(s, 2 * SEC);
    assert_verdict(s, false, "run_ended");
    script_command_body(s, run, "dance", "{}");
    script_advance(s, 2 * SEC);
    assert_verdict(s, false, "not_available");
    script_free(s);
}

/* The outcome of an attempt that must not be made twice is unknown: its worker is gone. */
static struct script_run *ended_unknown(struct script *s)
{
    struct script_run *run = script_run(s, 0, ONCE);

    script_settle(s);
    script_started(s, 0, script_last(s, "task"), "w1");
    script_settle(s);
    script_lapse(s, 0);
    assert_int_equal(script_events(s, run, EVENT_STEP_OUTCOME_UNKNOWN), 1);
    assert_int_equal(run->status, RUN_FAILED);
    assert_true(str_is(run->error_code, "worker_lost"));
    return run;
}

static void settling_opens_an_ended_run_again_and_its_row_with_it(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = ended_unknown(s);
    s->hold_commits = true;
    script_command_body(s, run, "settle", "{\"step\":\"a\",\"as\":\"succeeded\",\"output\":{\"id\":7}}");
    script_advance(s, 2 * SEC);
    assert_non_null(s->batch);
    assert_int_equal(s->batch->run_count, 1);
    assert_true(s->batch->runs[0].reopened);
    assert_int_equal(s->batch->runs[0].status, RUN_SUCCEEDED);
    assert_int_not_equal(s->batch->runs[0].ended_at.us, 0);
    assert_null(s->batch->runs[0].error_code.ptr);
    s->hold_commits = false;
    script_settle(s);
    assert_int_equal(script_events(s, run, EVENT_RUN_REOPENED), 1);
    assert_true(str_is(newest(s, run, EVENT_STEP_SETTLED).output, "{\"id\":7}"));
    assert_int_equal(run->work_count, 0);
    assert_verdict(s, true, "settle");
    script_free(s);
}

static void a_run_settled_as_failed_ends_with_that(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = ended_unknown(s);
    script_command_body(s, run, "settle", "{\"step\":\"a\",\"as\":\"failed\"}");
    script_advance(s, 2 * SEC);
    assert_int_equal(run->status, RUN_FAILED);
    assert_true(str_is(run->error_code, "settled_failed"));
    script_free(s);
}

static void an_end_and_its_reopening_in_one_batch_leave_no_end(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = script_run(
        s, 0,
        "{\"name\":\"w\",\"steps\":{\"a\":{\"call\":\"transform\",\"with\":{\"value\":1},"
        "\"compensate\":{\"call\":\"noop\"}},\"b\":{\"call\":\"wait_signal\",\"with\":{\"signal\":\"x\"}}}}");
    script_settle(s);
    s->hold_commits = true;
    script_command_body(s, run, "cancel", "{}");
    script_command_body(s, run, "compensate", "{}");
    script_advance(s, 2 * SEC);
    assert_non_null(s->batch);
    assert_int_equal(s->batch->command_delete_count, 2);
    assert_int_equal(s->batch->run_count, 1);
    assert_int_equal(s->batch->runs[0].status, RUN_ACTIVE);
    assert_int_equal(s->batch->runs[0].ended_at.us, 0);
    assert_true(s->batch->runs[0].reopened);
    s->hold_commits = false;
    script_settle(s);
    script_result(s, 0, script_last(s, "task"), "w1", "\"status\":\"succeeded\"");
    script_settle(s);
    assert_int_equal(run->status, RUN_COMPENSATED);
    script_free(s);
}

/* 80 iterations of 4,000 bytes each, and one of more than an update shows. */
static struct script_run *loop_of_bodies(struct script *s)
{
    CLEANUP(buf_deinit) struct buf document = {0};

    buf_init(&document, 1 << 20);
    buf_printf(&document,
               "{\"name\":\"w\",\"steps\":{\"w\":{\"call\":\"wait_signal\",\"with\":{\"signal\":\"go\"}},"
               "\"each\":{\"needs\":[\"w\"],\"call\":\"foreach\",\"with\":{\"concurrency\":100,\"items\":[0");
    for (int i = 1; i < 80; i++)
        buf_printf(&document, ",%d", i);
    buf_printf(&document,
               "],\"steps\":{\"t\":{\"call\":\"transform\",\"with\":{\"value\":\"%04000d\"}},"
               "\"u\":{\"needs\":[\"t\"],\"call\":\"transform\",\"with\":{\"value\":\"%05000d\"}}}}}}}",
               7, 7);
    return script_run(s, 0, arena_printf(s->arena, STR_FMT, STR_ARG(buf_str(&document))));
}

static void an_update_stays_small_and_says_where_bodies_are(void **state)
{
    struct script *s = script_new();
    struct script_run *run;
    struct jt_iter it;
    char id[UUID_TEXT_SIZE];
    struct str text, want;
    size_t whole = 0, referenced = 0;

    (void)state;
    script_own(s, 0, 1);
    run = loop_of_bodies(s);
    script_settle(s);
    run_id_format(run->id, id);
    script_deliver(s, 0, "watch", "x",
                   arena_printf(s->arena, "{\"v\":1,\"run_id\":\"%s\",\"reply_to\":\"gateway.1\",\"from_seq\":1}", id));
    script_settle(s);
    script_command(s, run, "signal", NULL);
    s->commands[s->command_count - 1].row.body = STR("{\"name\":\"go\"}");
    script_advance(s, 2 * SEC);
    assert_int_equal(run->status, RUN_SUCCEEDED);
    text = script_last(s, "update")->body;
    assert_in_range(text.len, 256 * 1024, 384 * 1024); /* not the 720 KB that it would be */
    for (jt_iter_init(&it, jt_get(text, "events")); jt_next(&it);) {
        struct str output = jt_get(it.value, "output");

        whole += jt_type(output) == JT_STRING;
        if (jt_type(output) != JT_OBJECT)
            continue;
        referenced++;
        if (!jt_string(jt_get(it.value, "step"), s->arena, &want) || !str_is(want, "each[3].u"))
            continue;
        want = str_of(arena_printf(s->arena, "/v1/runs/%s/steps/each%%5B3%%5D.u/attempts/1/output", id));
        assert_true(jt_string(jt_get(output, "$ref"), s->arena, &text));
        assert_true(str_eq(text, want));
        assert_true(str_is(jt_get(output, "bytes"), "5002"));
    }
    assert_in_range(whole, 50, 65);
    assert_int_equal(whole + referenced, 160);
    script_free(s);
}

/* What a loop makes of nothing counts like what comes in. */
static void a_batch_is_bounded_by_the_outputs_of_loops(void **state)
{
    struct script *s = script_new();
    struct script_run *run;
    CLEANUP(buf_deinit) struct buf document = {0};
    size_t bytes = 0;

    (void)state;
    buf_init(&document, 2 << 20);
    buf_printf(&document, "{\"name\":\"w\",\"steps\":{\"each\":{\"call\":\"foreach\",\"with\":{\"items\":[0");
    for (int i = 1; i < 100; i++)
        buf_printf(&document, ",%d", i);
    buf_printf(&document, "],\"steps\":{\"t\":{\"call\":\"transform\",\"with\":{\"value\":\"%0200000d\"}}}}}}}", 7);
    script_own(s, 0, 1);
    s->hold_commits = true;
    run = script_run(s, 0, arena_printf(s->arena, STR_FMT, STR_ARG(buf_str(&document))));
    script_settle(s);
    for (size_t i = 0; i < s->batch->event_count; i++)
        bytes += s->batch->events[i].event->output.len;
    assert_in_range(bytes, 4 << 20, 6 << 20);
    s->hold_commits = false;
    script_advance(s, 2 * SEC);
    assert_int_equal(run->status, RUN_SUCCEEDED);
    script_free(s);
}

static void waiting_costs_no_query(void **state)
{
    enum { WAITING = 100000 };
    struct script *s = script_new();
    struct sched_work_row *rows = mem_array(WAITING, sizeof(*rows));
    size_t loads, commits;

    (void)state;
    s->hold_shards = true;
    script_own(s, 0, 1);
    script_settle(s);
    for (uint32_t i = 0; i < WAITING; i++)
        rows[i] = (struct sched_work_row){.run = run_id_make((struct wall_us){1800000000 * SEC}, 0),
                                          .seq = 3,
                                          .organisation = 1,
                                          .kind = (enum work_kind)(WORK_ITEMS + (int)i % 3),
                                          .step = STR("a"),
                                          .due_at = {i % 2 == 0 ? 0 : 1800000000 * SEC + 3600 * SEC}};
    sched_on_open_work(s->sched, 0, 1, rows, WAITING, NULL, 0, true, false);
    script_settle(s);
    loads = s->load_calls;
    commits = s->commits;
    s->fetch_calls = 0;
    script_advance(s, 60 * SEC);
    assert_int_equal(s->load_calls, loads);
    assert_int_equal(s->commits, commits);
    assert_in_range(s->fetch_calls, 50, 70); /* commands, once a second, whoever waits */
    mem_free(rows);
    script_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_signal_is_kept_in_history_and_wakes_its_step),
        cmocka_unit_test(a_body_that_says_nothing_is_refused_by_name),
        cmocka_unit_test(a_refusal_says_why_by_its_code),
        cmocka_unit_test(settling_opens_an_ended_run_again_and_its_row_with_it),
        cmocka_unit_test(a_run_settled_as_failed_ends_with_that),
        cmocka_unit_test(an_end_and_its_reopening_in_one_batch_leave_no_end),
        cmocka_unit_test(an_update_stays_small_and_says_where_bodies_are),
        cmocka_unit_test(a_batch_is_bounded_by_the_outputs_of_loops),
        cmocka_unit_test(waiting_costs_no_query),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
