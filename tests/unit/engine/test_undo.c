/* What happens when a run has gone wrong: it is undone, newest first, and somebody is told. And retry.on. */
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
/* a and b, both to be undone, then c */
#define ABC                                                                                                            \
    "\"a\":{" NOOP UNDO "},\"b\":{" NOOP UNDO ",\"needs\":[\"a\"]},\"c\":{" NOOP ",\"needs\":[\"b\"]},\"d\":{" NOOP    \
    ",\"needs\":[\"c\"]" UNDO "}"

static const char *refusal(struct world *w)
{
    const struct event *event = world_event(w, EVENT_COMMAND_REFUSED, NULL);

    return event == NULL || event->seq <= w->mark ? NULL : arena_dup(w->arena, event->code.ptr, event->code.len);
}

static void fail_c(struct world *w, const char *document)
{
    world_init(w, document);
    world_start(w);
    world_succeed(w, "a", "{\"id\":1}");
    world_succeed(w, "b", "{\"id\":2}");
    world_fail(w, "c", "permanent", "http_404", true, true);
}

/* ---- compensation ---- */

static void what_was_done_is_undone_newest_first(void **unused)
{
    struct world w;

    (void)unused;
    fail_c(&w, STEPS(ABC));
    assert_string_equal(world_said(&w),
                        "step.failed c, step.cancelled d, run.compensating, step.dispatched b:compensate");
    assert_true(str_is(world_event(&w, EVENT_RUN_COMPENSATING, NULL)->code, "failed"));
    world_fail(&w, "b:compensate", "transient", "http_503", true, true); /* with retries of its own */
    world_reload(&w);                                                    /* a crash in the middle */
    world_timer(&w, "b:compensate");
    world_succeed(&w, "b:compensate", "null");
    assert_string_equal(world_said(&w), "step.succeeded b:compensate, step.dispatched a:compensate");
    world_reload(&w);
    world_succeed(&w, "a:compensate", "null");
    assert_string_equal(world_said(&w), "step.succeeded a:compensate, run.compensated c");
    assert_true(str_is(world_event(&w, EVENT_RUN_COMPENSATED, NULL)->code, "http_404"));
    assert_null(world_event(&w, EVENT_RUN_COMPENSATED, NULL)->detail.ptr);
    world_deinit(&w);
}

/* No worker ever takes it, as in a pool without any: the run does not stay open for ever. */
static void an_action_that_nobody_takes_ends_by_its_deadline(void **unused)
{
    struct world w;

    (void)unused;
    fail_c(&w, STEPS(ABC));
    world_timer(&w, "b:compensate");
    assert_string_equal(world_said(&w), "step.timed_out b:compensate, step.dispatched a:compensate");
    assert_true(str_is(world_event(&w, EVENT_STEP_TIMED_OUT, "b:compensate")->code, "deadline"));
    world_reload(&w);
    world_timer(&w, "a:compensate");
    assert_string_equal(world_said(&w), "step.timed_out a:compensate, run.compensation_failed c");
    assert_non_null(strstr(world_event(&w, EVENT_RUN_COMPENSATION_FAILED, NULL)->detail.ptr, "\"a\",\"b\""));
    world_deinit(&w);
}

static void one_that_cannot_be_undone_does_not_stop_the_others(void **unused)
{
    struct world w;
    struct buf key;

    (void)unused;
    fail_c(&w, STEPS(ABC));
    world_fail(&w, "b:compensate", "permanent", "http_409", true, true);
    assert_string_equal(world_said(&w), "step.failed b:compensate, step.dispatched a:compensate");
    world_succeed(&w, "a:compensate", "null");
    assert_int_equal(w.state->status, RUN_COMPENSATION_FAILED);
    assert_true(str_is(world_event(&w, EVENT_RUN_COMPENSATION_FAILED, NULL)->detail,
                       "{\"stands\":[\"b\"],\"undetermined\":[]}"));

    world_compensate(&w); /* once more, on request: only what stands, and under a new key */
    assert_string_equal(world_said(&w),
                        "command.applied, run.reopened, run.compensating, step.dispatched b:compensate");
    buf_init(&key, 200);
    engine_idempotency_key(w.state, run_find_step(w.state, STR("b:compensate"), NULL), STR_NONE, &key);
    assert_string_equal(key.ptr + UUID_TEXT_SIZE - 1, ":b:compensate:2");
    buf_deinit(&key);
    world_compensate(&w);
    assert_string_equal(world_said(&w), "command.applied"); /* it is at it */
    world_fail(&w, "b:compensate", "transient", "http_503", true, true);
    world_timer(&w, "b:compensate"); /* its retries are its own again */
    world_succeed(&w, "b:compensate", "null");
    assert_int_equal(w.state->status, RUN_COMPENSATED);
    world_compensate(&w);
    assert_string_equal(world_said(&w), "command.applied");
    world_deinit(&w);
}

static void an_undo_that_may_have_happened_keeps_its_key(void **unused)
{
    struct world w;
    struct buf key;

    (void)unused;
    fail_c(&w, STEPS(ABC));
    world_fail(&w, "b:compensate", "permanent", "reset", true, false);
    world_succeed(&w, "a:compensate", "null");
    world_compensate(&w);
    buf_init(&key, 200);
    engine_idempotency_key(w.state, run_find_step(w.state, STR("b:compensate"), NULL), STR_NONE, &key);
    assert_string_equal(key.ptr + UUID_TEXT_SIZE - 1, ":b:compensate");
    buf_deinit(&key);
    world_deinit(&w);
}

/* How a step with a compensation ends. */
enum how { SUCCEEDS, FAILS, FAILS_IN_DOUBT, TIMES_OUT, UNKNOWN, CUT_QUEUED, CUT_RUNNING, HOWS };
static const enum step_status outcomes[HOWS] = {STEP_SUCCEEDED,       STEP_FAILED,    STEP_FAILED,   STEP_TIMED_OUT,
                                                STEP_OUTCOME_UNKNOWN, STEP_CANCELLED, STEP_CANCELLED};
static const bool doubtful[HOWS] = {
    [FAILS_IN_DOUBT] = true, [TIMES_OUT] = true, [UNKNOWN] = true, [CUT_RUNNING] = true};

static void end_a(struct world *w, enum how how)
{
    if (how == SUCCEEDS)
        world_succeed(w, "a", "1");
    else if (how == FAILS)
        world_fail(w, "a", "permanent", "http_404", true, true);
    else if (how == FAILS_IN_DOUBT)
        world_fail(w, "a", "permanent", "cut", true, false);
    else if (how == TIMES_OUT)
        world_fail(w, "a", "transient", "timeout", true, false);
    else if (how == UNKNOWN || how == CUT_RUNNING)
        world_begin(w, "a", "w1");
    if (how == UNKNOWN)
        world_result(w, "a", RESULT_ABANDONED);
}

static void each_outcome_is_undone_or_in_doubt_as_the_document_says(void **unused)
{
    static const char *const ons[] = {
        "\"succeeded\"", "\"failed\"",
        "\"timed_out\"", "\"outcome_unknown\"",
        "\"cancelled\"", "\"succeeded\",\"failed\",\"timed_out\",\"outcome_unknown\",\"cancelled\""};

    (void)unused;
    for (int how = 0; how < HOWS; how++) {
        for (size_t on = 0; on < sizeof(ons) / sizeof(ons[0]); on++) {
            bool undone = strstr(ons[on], step_status_name(outcomes[how])) != NULL;
            bool in_doubt = doubtful[how] && !undone;
            struct world w;
            char doc[600];
            (void)snprintf(doc, sizeof(doc),
                           STEPS("\"a\":{" NOOP ",\"retry\":{\"max_attempts\":1}%s,\"compensate\":{" NOOP
                                 ",\"on\":[%s]}},\"b\":{" NOOP "}"),
                           how == UNKNOWN ? ONCE : "", ons[on]);
            world_init(&w, doc);
            world_start(&w);
            world_begin(&w, "b", "w2");
            end_a(&w, (enum how)how);
            if (how == CUT_QUEUED || how == CUT_RUNNING)
                world_run_timeout(&w);
            else
                world_fail(&w, "b", "permanent", "http_404", true, true);
            assert_int_equal(world_status(&w, "a"), outcomes[how]);
            assert_int_equal(world_has(&w, EVENT_STEP_DISPATCHED, "a:compensate"), undone);
            if (undone)
                world_succeed(&w, "a:compensate", "1");
            assert_int_equal(w.state->status, undone                                    ? RUN_COMPENSATED
                                              : in_doubt                                ? RUN_COMPENSATION_FAILED
                                              : how == CUT_QUEUED || how == CUT_RUNNING ? RUN_TIMED_OUT
                                                                                        : RUN_FAILED);
            if (in_doubt)
                assert_true(str_is(world_event(&w, EVENT_RUN_COMPENSATION_FAILED, NULL)->detail,
                                   "{\"stands\":[],\"undetermined\":[\"a\"]}"));
            world_deinit(&w);
        }
    }
}

static void a_late_success_is_undone_and_its_output_is_known(void **unused)
{
    struct world w;
    struct engine_input late = {.kind = IN_RESULT,
                                .step = STR("a"),
                                .attempt = 1,
                                .dispatch = 1,
                                .result = RESULT_SUCCEEDED,
                                .worker = STR("w1"),
                                .output = STR("{\"url\":\"http://x/7\"}")};

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP ",\"deadline\":\"5s\",\"compensate\":{\"call\":\"http\",\"with\":{\"url\":"
                         "\"${ .steps.a.output.url }\"}}},\"b\":{" NOOP UNDO "}"));
    world_start(&w);
    world_begin(&w, "a", "w1");
    world_succeed(&w, "b", "1");
    world_timer(&w, "a");
    assert_true(world_open(&w, "b:compensate"));
    world_apply(&w, late);
    assert_string_equal(world_said(&w), "step.late_result a");
    world_succeed(&w, "b:compensate", "1");
    assert_string_equal(world_said(&w), "step.succeeded b:compensate, step.dispatched a:compensate");
    assert_true(str_is(world_event(&w, EVENT_STEP_DISPATCHED, "a:compensate")->output, "{\"url\":\"http://x/7\"}"));
    world_succeed(&w, "a:compensate", "1");
    assert_int_equal(w.state->status, RUN_COMPENSATED);
    world_deinit(&w);
}

static void a_late_success_gives_nothing_to_a_run_that_goes_on(void **unused)
{
    struct world w;
    struct engine_input late = {.kind = IN_RESULT,
                                .step = STR("a"),
                                .attempt = 1,
                                .dispatch = 1,
                                .result = RESULT_SUCCEEDED,
                                .worker = STR("w1"),
                                .output = STR("7")};

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP ",\"deadline\":\"5s\",\"on_failure\":\"continue\"" UNDO "},"
                         "\"b\":{" NOOP "},\"c\":{\"call\":\"transform\",\"needs\":{\"a\":[\"timed_out\"],\"b\":"
                         "[\"succeeded\"]},\"with\":{\"value\":\"${ .steps.a.output }\"}}"));
    world_start(&w);
    world_begin(&w, "a", "w1");
    world_timer(&w, "a");
    world_apply(&w, late);
    assert_string_equal(world_said(&w), "step.late_result a");
    world_reload(&w);
    world_succeed(&w, "b", "1");
    assert_string_equal(world_output(&w, "c"), "null");
    assert_true(run_ended((enum run_status)w.state->status));
    world_compensate(&w); /* what undoes it reads what it gave */
    assert_int_equal(world_step(&w, "a")->output_bytes, 1);
    world_deinit(&w);
}

static void a_run_is_undone_when_it_timed_out_or_was_cancelled_so(void **unused)
{
    (void)unused;
    for (int how = 0; how < 3; how++) {
        struct world w;
        world_init(&w, STEPS(ABC));
        world_start(&w);
        world_succeed(&w, "a", "1");
        if (how == 0)
            world_run_timeout(&w);
        else
            world_cancel(&w, how == 1);
        if (how == 2) {
            assert_int_equal(w.state->status, RUN_CANCELLED);
            world_compensate(&w); /* but it may still be */
        }
        assert_true(world_open(&w, "a:compensate"));
        if (how == 0) { /* nothing cuts it any more */
            w.now.us += 366 * INT64_C(86400) * US_PER_S;
            world_apply(&w, (struct engine_input){.kind = IN_TIMER, .seq = w.state->timeout_seq});
            assert_true(w.fx.ignored);
        }
        if (how == 1) {
            world_cancel(&w, false);
            assert_string_equal(world_said(&w), "command.applied"); /* it is cancelled already */
        }
        world_succeed(&w, "a:compensate", "1");
        assert_int_equal(w.state->status, RUN_COMPENSATED);
        world_deinit(&w);
    }
}

static void what_ended_well_is_undone_on_request_only(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP UNDO "}"));
    world_start(&w);
    world_compensate(&w);
    assert_string_equal(refusal(&w), "run_not_ended");
    world_succeed(&w, "a", "1");
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    world_compensate(&w);
    world_signal(&w, "go", "1");
    assert_string_equal(refusal(&w), "run_ended");
    world_succeed(&w, "a:compensate", "1");
    assert_int_equal(w.state->status, RUN_COMPENSATED);
    world_deinit(&w);
    world_init(&w, STEPS("\"a\":{" NOOP "}"));
    world_start(&w);
    world_succeed(&w, "a", "1");
    world_compensate(&w);
    assert_string_equal(refusal(&w), "nothing_to_compensate");
    world_deinit(&w);
}

static void iterations_are_undone_each(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w,
               STEPS("\"each\":{\"call\":\"foreach\",\"with\":{\"items\":[5,6],\"steps\":{\"in\":{\"call\":\"foreach\","
                     "\"with\":{\"items\":[7],\"steps\":{\"go\":{" NOOP ",\"compensate\":{\"call\":\"http\""
                     ",\"with\":{\"url\":\"http://x/${ .steps.go.output }/${ .item }\"}}}}}}}}},\"b\":{" NOOP
                     ",\"needs\":[\"each\"]}"));
    world_start(&w);
    world_succeed(&w, "each[1].in[0].go", "61");
    world_succeed(&w, "each[0].in[0].go", "51");
    world_fail(&w, "b", "permanent", "http_404", true, true);
    assert_string_equal(world_said(&w), "step.failed b, run.compensating, step.dispatched each[0].in[0].go:compensate");
    assert_true(str_is(world_event(&w, EVENT_STEP_DISPATCHED, "each[0].in[0].go:compensate")->output,
                       "{\"url\":\"http://x/51/7\"}"));
    world_reload(&w);
    world_succeed(&w, "each[0].in[0].go:compensate", "1");
    world_fail(&w, "each[1].in[0].go:compensate", "permanent", "http_404", true, true);
    assert_true(str_is(world_event(&w, EVENT_RUN_COMPENSATION_FAILED, NULL)->detail,
                       "{\"stands\":[\"each[1].in[0].go\"],\"undetermined\":[]}"));
    world_deinit(&w);
}

static void a_run_whose_output_cannot_be_made_is_undone_too(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, "{\"name\":\"x\",\"steps\":{\"a\":{" NOOP UNDO "}},\"output\":\"${ .steps.a.output.b.c }\"}");
    world_start(&w);
    world_succeed(&w, "a", "{\"b\":1}");
    assert_string_equal(world_said(&w), "step.succeeded a, run.compensating, step.dispatched a:compensate");
    world_reload(&w);
    world_succeed(&w, "a:compensate", "1");
    assert_int_equal(w.state->status, RUN_COMPENSATED);
    assert_string_equal(w.state->run_error->code, "expression_failed");
    world_deinit(&w);
}

/* ---- on_failure_notify ---- */

/* Its output is asked for once before somebody is told, not again each time the run comes to rest meanwhile. */
static void a_run_with_an_output_that_completes_in_part_tells_and_ends(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, "{\"name\":\"x\",\"on_failure_notify\":{" NOOP "},\"output\":\"${ .input }\",\"steps\":{\"a\":{" NOOP
                   ",\"on_failure\":\"continue\"}}}");
    world_start(&w);
    world_fail(&w, "a", "permanent", "http_404", true, true);
    assert_string_equal(world_said(&w), "step.failed a, step.dispatched :notify");
    assert_int_equal(w.state->questions, 1);
    world_succeed(&w, ":notify", "1");
    assert_string_equal(world_said(&w), "step.succeeded :notify, run.partially_completed a");
    world_deinit(&w);
}

static void somebody_is_told_of_every_end_but_the_good_ones(void **unused)
{
    static const struct {
        const char *document;
        enum run_status end;
        bool told;
    } rows[] = {
        {NOTIFY("\"a\":{" NOOP "},\"b\":{" NOOP "}"), RUN_FAILED, true},
        {NOTIFY("\"a\":{" NOOP "},\"b\":{" NOOP "}"), RUN_SUCCEEDED, false},
        {NOTIFY("\"a\":{" NOOP "},\"b\":{" NOOP "}"), RUN_CANCELLED, false},
        {NOTIFY("\"a\":{" NOOP "},\"b\":{" NOOP "}"), RUN_TIMED_OUT, true},
        {NOTIFY("\"a\":{" NOOP "},\"b\":{" NOOP ",\"on_failure\":\"continue\"}"), RUN_PARTIALLY_COMPLETED, true},
        {NOTIFY("\"a\":{" NOOP UNDO "},\"b\":{" NOOP "}"), RUN_COMPENSATED, false},
        {NOTIFY("\"a\":{" NOOP UNDO "},\"b\":{" NOOP "}"), RUN_COMPENSATION_FAILED, true},
    };

    (void)unused;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (int fails = 0; fails < 2; fails++) {
            struct world w;
            world_init(&w, rows[i].document);
            world_start(&w);
            world_succeed(&w, "a", "1");
            if (rows[i].end == RUN_CANCELLED)
                world_cancel(&w, false);
            else if (rows[i].end == RUN_TIMED_OUT)
                world_run_timeout(&w);
            else if (rows[i].end == RUN_SUCCEEDED)
                world_succeed(&w, "b", "1");
            else
                world_fail(&w, "b", "permanent", "http_404", true, true);
            if (rows[i].end == RUN_COMPENSATED)
                world_succeed(&w, "a:compensate", "1");
            else if (rows[i].end == RUN_COMPENSATION_FAILED)
                world_fail(&w, "a:compensate", "permanent", "http_404", true, true);
            assert_int_equal(world_open(&w, ":notify"), rows[i].told);
            if (rows[i].told) {
                assert_int_equal(w.state->status, RUN_ACTIVE); /* not before it has been told */
                world_reload(&w);
                world_cancel(&w, false);
                assert_true(w.fx.event_count == 1); /* refused: it is as good as ended */
                world_fail(&w, ":notify", "transient", "http_503", true, true);
                world_timer(&w, ":notify");
                if (fails)
                    world_fail(&w, ":notify", "permanent", "http_404", true, true);
                else
                    world_succeed(&w, ":notify", "1");
            }
            assert_int_equal(w.state->status, rows[i].end); /* whatever became of that */
            world_deinit(&w);
        }
    }
}

static void what_is_told_may_be_made_of_what_the_run_has(void **unused)
{
    struct world w;
    struct buf key;

    (void)unused;
    world_init(
        &w,
        "{\"name\":\"x\",\"on_failure_notify\":{\"call\":\"http\",\"with\":{\"url\":\"http://x/${ .input.order }\"}},"
        "\"steps\":{\"a\":{" NOOP "}}}");
    w.input = STR("{\"order\":17}");
    world_start(&w);
    world_fail(&w, "a", "permanent", "http_404", true, true);
    assert_string_equal(world_said(&w), "step.failed a, step.dispatched :notify");
    assert_true(str_is(world_event(&w, EVENT_STEP_DISPATCHED, ":notify")->output, "{\"url\":\"http://x/17\"}"));
    buf_init(&key, 200);
    engine_idempotency_key(w.state, run_find_step(w.state, STR(":notify"), NULL), STR_NONE, &key);
    assert_string_equal(key.ptr + UUID_TEXT_SIZE - 1, ":notify");
    buf_deinit(&key);
    world_succeed(&w, ":notify", "1");
    assert_int_equal(w.state->status, RUN_FAILED);
    assert_true(str_is(world_event(&w, EVENT_RUN_FAILED, NULL)->step, "a"));
    world_deinit(&w);

    /* and when it cannot be made, the run ends all the same */
    world_init(&w, "{\"name\":\"x\",\"on_failure_notify\":{\"call\":\"http\",\"with\":{\"url\":\"${ .input.a.b }\"}},"
                   "\"steps\":{\"a\":{" NOOP "}}}");
    w.input = STR("{\"a\":17}");
    world_start(&w);
    world_fail(&w, "a", "permanent", "http_404", true, true);
    assert_string_equal(world_said(&w), "step.failed a, step.failed :notify, run.failed a");
    world_deinit(&w);
}

/* ---- retry.on ---- */

static void only_errors_that_are_listed_are_retried(void **unused)
{
    static const struct {
        const char *on, *error_class, *code;
        enum step_status expected;
    } rows[] = {
        {"\"http_503\"", "transient", "http_503", STEP_WAITING},
        {"\"http_503\"", "transient", "http_500", STEP_FAILED},
        {"\"http_5xx\"", "transient", "http_500", STEP_WAITING},
        {"\"http_5xx\"", "transient", "http_429", STEP_FAILED},
        {"\"http_429\",\"connect\"", "transient", "connect", STEP_WAITING},
        {"\"connect\"", "transient", "timeout", STEP_TIMED_OUT},
        {"\"timeout\"", "transient", "timeout", STEP_WAITING},
        {"\"http_5xx\"", "permanent", "http_501", STEP_FAILED},
    };

    (void)unused;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct world w;
        char doc[300];
        (void)snprintf(doc, sizeof(doc), STEPS("\"a\":{" NOOP ",\"retry\":{\"on\":[%s]}}"), rows[i].on);
        world_init(&w, doc);
        world_start(&w);
        world_fail(&w, "a", rows[i].error_class, rows[i].code, false, false);
        assert_int_equal(world_status(&w, "a"), rows[i].expected);
        world_deinit(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_done_is_undone_newest_first),
        cmocka_unit_test(an_action_that_nobody_takes_ends_by_its_deadline),
        cmocka_unit_test(one_that_cannot_be_undone_does_not_stop_the_others),
        cmocka_unit_test(an_undo_that_may_have_happened_keeps_its_key),
        cmocka_unit_test(each_outcome_is_undone_or_in_doubt_as_the_document_says),
        cmocka_unit_test(a_late_success_is_undone_and_its_output_is_known),
        cmocka_unit_test(a_late_success_gives_nothing_to_a_run_that_goes_on),
        cmocka_unit_test(a_run_is_undone_when_it_timed_out_or_was_cancelled_so),
        cmocka_unit_test(what_ended_well_is_undone_on_request_only),
        cmocka_unit_test(iterations_are_undone_each),
        cmocka_unit_test(a_run_whose_output_cannot_be_made_is_undone_too),
        cmocka_unit_test(a_run_with_an_output_that_completes_in_part_tells_and_ends),
        cmocka_unit_test(somebody_is_told_of_every_end_but_the_good_ones),
        cmocka_unit_test(what_is_told_may_be_made_of_what_the_run_has),
        cmocka_unit_test(only_errors_that_are_listed_are_retried),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
