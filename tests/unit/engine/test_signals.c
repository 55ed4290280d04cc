/* What waits for signals, and the tries of a poll. */
#include "tests/unit/engine/world.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>

#define NOOP "\"call\":\"noop\""
#define STEPS(s) "{\"name\":\"x\",\"steps\":{" s "}}"
#define SIGNAL(with) "\"call\":\"wait_signal\",\"with\":{" with "}"

static const char *refusal(struct world *w)
{
    const struct event *event = world_event(w, EVENT_COMMAND_REFUSED, NULL);

    return event == NULL || event->seq <= w->mark ? NULL : arena_dup(w->arena, event->code.ptr, event->code.len);
}

/* ---- signals ---- */

static void a_signal_ends_the_step_that_waits_with_its_payload(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"s\":{" SIGNAL("\"signal\":\"go\"") "},\"a\":{\"needs\":[\"s\"]," NOOP "}"));
    world_start(&w);
    assert_string_equal(world_said(&w), "run.started, step.waiting s");
    assert_int_equal(world_step(&w, "s")->due_at.us, 0);
    world_signal(&w, "other", "1");
    assert_string_equal(world_said(&w), "command.applied, signal.received");
    world_signal(&w, "go", "{\"by\":\"ann\"}");
    assert_string_equal(world_said(&w), "command.applied, signal.received, step.succeeded s, step.dispatched a");
    assert_int_equal(world_event(&w, EVENT_STEP_SUCCEEDED, "s")->ref,
                     world_event(&w, EVENT_SIGNAL_RECEIVED, NULL)->seq);
    assert_string_equal(world_output(&w, "s"), "{\"by\":\"ann\"}");
    world_deinit(&w);
}

static void early_signals_wait_in_their_order(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w,
               STEPS("\"s1\":{\"needs\":[\"a\"]," SIGNAL(
                   "\"signal\":\"go\"") "},\"a\":{" NOOP "},\"s2\":{\"needs\":["
                                        "\"s1\"]," SIGNAL("\"signal\":\"go\"") "},\"s3\":{\"needs\":[\"s2\"]," SIGNAL(
                                            "\"signal\":\"${ .input.n }\"") "}"));
    w.input = STR("{\"n\":\"go\"}");
    world_signal(&w, "go", "1"); /* even before the start */
    world_start(&w);
    world_signal(&w, "go", "null");
    world_reload(&w);
    world_succeed(&w, "a", "1");
    assert_string_equal(world_said(&w), "step.succeeded a, step.succeeded s1, step.succeeded s2, step.waiting s3");
    assert_string_equal(world_output(&w, "s1"), "1");
    assert_string_equal(world_output(&w, "s2"), "null");
    world_signal(&w, "go", "3");
    assert_string_equal(world_output(&w, "s3"), "3");
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    world_signal(&w, "go", "4");
    assert_string_equal(refusal(&w), "run_ended");
    world_deinit(&w);
}

static void of_two_that_wait_the_first_gets_the_first_signal(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"s1\":{" SIGNAL("\"signal\":\"go\"") "},\"s2\":{" SIGNAL(
                       "\"signal\":\"go\",\"timeout\":\"1h\"") "},\"s3\":{" SIGNAL("\"signal\":\"go\"") "}"));
    world_start(&w);
    world_signal(&w, "go", "1");
    assert_int_equal(world_status(&w, "s1"), STEP_SUCCEEDED);
    assert_int_equal(world_status(&w, "s2"), STEP_WAITING);
    world_signal(&w, "go", "2");
    assert_string_equal(world_output(&w, "s2"), "2");
    world_signal(&w, "go", "3");
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    world_deinit(&w);
}

static void a_queue_holds_a_hundred_signals(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP "},\"s\":{\"needs\":[\"a\"]," SIGNAL("\"signal\":\"go\"") "}"));
    world_start(&w);
    for (int i = 0; i < SIGNALS_MAX; i++) {
        world_signal(&w, "go", "1");
        assert_null(refusal(&w));
    }
    world_signal(&w, "go", "1");
    assert_string_equal(refusal(&w), "signal_queue_full");
    world_signal(&w, "other", "1"); /* each name has its own */
    assert_null(refusal(&w));
    world_succeed(&w, "a", "1");
    world_deinit(&w);
}

static void once_is_once(void **unused)
{
    static const char *const names[] = {"\"go\"", "\"${ .input.n }\""};

    (void)unused;
    for (size_t i = 0; i < 2; i++) {
        struct world w;
        char doc[500];
        (void)snprintf(doc, sizeof(doc), STEPS("\"s\":{" SIGNAL("\"signal\":%s,\"once\":true") "},\"a\":{" NOOP "}"),
                       names[i]);
        world_init(&w, doc);
        w.input = STR("{\"n\":\"go\"}");
        if (i == 0)
            world_signal(&w, "go", "1"); /* early */
        world_start(&w);
        if (i == 1)
            world_signal(&w, "go", "1");
        assert_int_equal(world_status(&w, "s"), STEP_SUCCEEDED);
        world_signal(&w, "go", "2");
        assert_string_equal(refusal(&w), "already_signalled");
        world_reload(&w);
        world_signal(&w, "go", "2");
        assert_string_equal(refusal(&w), "already_signalled");
        world_deinit(&w);
    }
}

static void a_wait_ends_at_its_timeout_or_deadline(void **unused)
{
    static const struct {
        const char *fields, *code;
        int64_t after_s;
    } rows[] = {
        {SIGNAL("\"signal\":\"go\",\"timeout\":\"5s\""), "signal_timeout", 5},
        {SIGNAL("\"signal\":\"go\",\"timeout\":\"5s\"") ",\"deadline\":\"9s\"", "signal_timeout", 5},
        {SIGNAL("\"signal\":\"go\",\"timeout\":\"9s\"") ",\"deadline\":\"5s\"", "deadline", 5},
        {SIGNAL("\"signal\":\"go\"") ",\"deadline\":\"5s\"", "deadline", 5},
    };

    (void)unused;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (int64_t late_s = 0; late_s <= 60; late_s += 60) {
            struct world w;
            char doc[500];
            (void)snprintf(doc, sizeof(doc), STEPS("\"s\":{%s}"), rows[i].fields);
            world_init(&w, doc);
            world_start(&w);
            assert_int_equal(world_step(&w, "s")->due_at.us - w.now.us, rows[i].after_s * US_PER_S);
            w.now.us += (rows[i].after_s + late_s) * US_PER_S;
            world_timer(&w, "s");
            assert_true(str_is(world_event(&w, EVENT_STEP_TIMED_OUT, "s")->code, rows[i].code));
            world_signal(&w, "go", "1");
            assert_string_equal(refusal(&w), "run_ended");
            world_deinit(&w);
        }
    }
}

static void names_and_times_that_expressions_make_are_checked(void **unused)
{
    static const struct {
        const char *input, *code;
    } rows[] = {{"{\"n\":\"\",\"t\":\"1s\"}", "bad_signal"},
                {"{\"n\":7,\"t\":\"1s\"}", "bad_signal"},
                {"{\"n\":\"a\\nb\",\"t\":\"1s\"}", "bad_signal"}, /* which nobody could send */
                {"{\"n\":\"go\",\"t\":\"soon\"}", "bad_duration"},
                {"{\"n\":\"go\",\"t\":1}", "bad_duration"}};

    (void)unused;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct world w;
        world_init(&w, STEPS("\"s\":{" SIGNAL("\"signal\":\"${ .input.n }\",\"timeout\":\"${ .input.t }\"") "}"));
        w.input = str_of(rows[i].input);
        world_start(&w);
        assert_true(str_is(world_event(&w, EVENT_STEP_FAILED, "s")->code, rows[i].code));
        world_deinit(&w);
    }
}

/* ---- polls ---- */

#define POLL(more) "\"p\":{\"call\":\"poll\",\"with\":{\"call\":\"noop\",\"until\":\"${ .output.ok }\"" more "}}"

static void a_poll_tries_until_it_holds_and_writes_nothing_in_between(void **unused)
{
    struct world w;
    uint32_t events;

    (void)unused;
    world_init(&w, STEPS(POLL(",\"interval\":\"3s\"")));
    world_start(&w);
    assert_string_equal(world_said(&w), "run.started, step.dispatched p");
    events = w.state->last_seq;
    for (uint32_t try = 1; try <= 20; try++) {
        struct buf key;
        char tail[20];
        world_begin(&w, "p", "w1");
        assert_int_equal(w.fx.answer, STARTED_GO);
        buf_init(&key, 200);
        engine_idempotency_key(w.state, 0, STR_NONE, &key);
        (void)snprintf(tail, sizeof(tail), ":p:t%u", (unsigned)try);
        assert_string_equal(key.ptr + UUID_TEXT_SIZE - 1, tail);
        buf_deinit(&key);
        world_succeed(&w, "p", "{\"ok\":false}");
        assert_int_equal(world_step(&w, "p")->due_at.us - w.now.us, 3 * US_PER_S);
        assert_string_equal(w.fx.changes[0].reason, "poll");
        if (try % 3 == 0)
            world_reload(&w); /* the row says which try it is */
        world_timer(&w, "p");
        assert_true(w.fx.changes[0].publish);
        assert_int_equal(world_step(&w, "p")->dispatch, try + 1);
    }
    assert_int_equal(w.state->last_seq, events);
    world_succeed(&w, "p", "{\"ok\":true,\"n\":0.10}");
    assert_string_equal(world_output(&w, "p"), "{\"ok\":true,\"n\":0.10}");
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    world_deinit(&w);
}

static void a_poll_ends_at_its_timeout_or_deadline(void **unused)
{
    (void)unused;
    for (int deadline = 0; deadline < 2; deadline++) {
        struct world w;
        struct wall_us start;
        world_init(
            &w, deadline ? STEPS("\"p\":{\"call\":\"poll\",\"deadline\":\"20s\",\"with\":{\"call\":\"noop\",\"until\":"
                                 "\"${ .output.ok }\"}}")
                         : STEPS(POLL(",\"timeout\":\"20s\"")));
        start = w.now;
        world_start(&w);
        world_succeed(&w, "p", "{\"ok\":false}"); /* every 10 s */
        world_timer(&w, "p");
        w.now.us += 5 * US_PER_S;
        world_succeed(&w, "p", "{\"ok\":false}");
        assert_int_equal(world_step(&w, "p")->due_at.us, start.us + 20 * US_PER_S); /* not published again */
        world_timer(&w, "p");
        assert_int_equal(world_status(&w, "p"), STEP_TIMED_OUT);
        assert_true(str_is(world_event(&w, EVENT_STEP_TIMED_OUT, "p")->code, deadline ? "deadline" : "poll_timeout"));
        world_deinit(&w);
    }
}

static void an_until_that_cannot_be_asked_fails_the_step(void **unused)
{
    static const struct {
        const char *answer, *code;
    } rows[] = {{"{\"ok\":1}", "not_boolean"}, {"null", "not_boolean"}, {"7", "expression_failed"}};

    (void)unused;
    for (size_t i = 0; i < 3; i++) {
        struct world w;
        world_init(&w, STEPS(POLL("")));
        world_start(&w);
        world_succeed(&w, "p", rows[i].answer);
        assert_true(str_is(world_event(&w, EVENT_STEP_FAILED, "p")->code, rows[i].code));
        world_deinit(&w);
    }
}

static void failures_between_tries_are_retried_and_forgiven_by_an_answer(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w,
               STEPS("\"p\":{\"call\":\"poll\",\"retry\":{\"max_attempts\":3},\"with\":{\"call\":\"noop\",\"until\":"
                     "\"${ .output.ok }\",\"timeout\":\"1h\"}}"));
    world_start(&w);
    for (int round = 0; round < 3; round++) {
        world_fail(&w, "p", "transient", "http_503", true, true);
        assert_int_equal(world_status(&w, "p"), STEP_WAITING);
        world_timer(&w, "p");
        world_succeed(&w, "p", "{\"ok\":false}"); /* the service is back */
        world_reload(&w);
        world_timer(&w, "p");
    }
    for (int more = 0; more < 3; more++) { /* three in a row are too many here */
        assert_int_equal(world_status(&w, "p"), STEP_QUEUED);
        world_fail(&w, "p", "transient", "http_503", true, true);
        if (more < 2)
            world_timer(&w, "p");
    }
    assert_int_equal(world_status(&w, "p"), STEP_FAILED);
    world_deinit(&w);
}

static void an_answer_of_some_time_ago_proves_nothing(void **unused)
{
    struct world w;
    struct engine_input old = {.kind = IN_RESULT,
                               .step = STR("p"),
                               .attempt = 1,
                               .dispatch = 1,
                               .result = RESULT_SUCCEEDED,
                               .worker = STR("w1"),
                               .output = STR("{\"ok\":true}")};

    (void)unused;
    world_init(&w, STEPS(POLL("")));
    world_start(&w);
    world_succeed(&w, "p", "{\"ok\":false}");
    world_apply(&w, old);
    assert_true(w.fx.ignored);
    world_timer(&w, "p");
    world_apply(&w, old);
    assert_true(w.fx.ignored);
    world_result(&w, "p", RESULT_ABANDONED);
    world_apply(&w, old);
    assert_true(w.fx.ignored);
    old.attempt = 3;
    world_apply(&w, old);
    assert_true(w.fx.stale_cache);
    world_deinit(&w);
}

static void polls_stop_with_their_run(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS(POLL("")));
    world_start(&w);
    world_succeed(&w, "p", "{\"ok\":false}");
    world_cancel(&w, false);
    assert_int_equal(w.state->status, RUN_CANCELLED);
    world_deinit(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_signal_ends_the_step_that_waits_with_its_payload),
        cmocka_unit_test(early_signals_wait_in_their_order),
        cmocka_unit_test(of_two_that_wait_the_first_gets_the_first_signal),
        cmocka_unit_test(a_queue_holds_a_hundred_signals),
        cmocka_unit_test(once_is_once),
        cmocka_unit_test(a_wait_ends_at_its_timeout_or_deadline),
        cmocka_unit_test(names_and_times_that_expressions_make_are_checked),
        cmocka_unit_test(a_poll_tries_until_it_holds_and_writes_nothing_in_between),
        cmocka_unit_test(a_poll_ends_at_its_timeout_or_deadline),
        cmocka_unit_test(an_until_that_cannot_be_asked_fails_the_step),
        cmocka_unit_test(failures_between_tries_are_retried_and_forgiven_by_an_answer),
        cmocka_unit_test(an_answer_of_some_time_ago_proves_nothing),
        cmocka_unit_test(polls_stop_with_their_run),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
