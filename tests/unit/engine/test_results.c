/* What workers say and what their silence means: at_most_once with every form of error, generations of keys, lost
 * workers, late and foreign results, the decisive error of a run. */
#include "tests/unit/engine/world.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define NOOP "\"call\":\"noop\""
#define STEPS(s) "{\"name\":\"x\",\"steps\":{" s "}}"

static void say(struct world *w, const char *worker, enum result_status status, uint32_t attempt, uint32_t dispatch)
{
    world_apply(w, (struct engine_input){.kind = IN_RESULT,
                                         .step = STR("a"),
                                         .attempt = attempt,
                                         .dispatch = dispatch,
                                         .result = status,
                                         .worker = str_of(worker),
                                         .error_class = STR("transient"),
                                         .code = STR("connect"),
                                         .output = status == RESULT_SUCCEEDED ? STR("7") : STR_NONE});
}

static void begin(struct world *w, const char *worker)
{
    const struct step_state *s = world_step(w, "a");

    world_apply(w, (struct engine_input){.kind = IN_STARTED,
                                         .step = STR("a"),
                                         .attempt = s->attempt,
                                         .dispatch = s->dispatch,
                                         .worker = str_of(worker)});
}

/* error_class, sent, answered, may be tried again: what becomes of a granted attempt. */
static const struct {
    const char *error_class, *code;
    bool sent, answered;
    enum step_status expected;
} errors[] = {
    {"transient", "connect", false, false, STEP_WAITING},
    {"permanent", "refused_address", false, false, STEP_FAILED},
    {"transient", "reset", true, false, STEP_OUTCOME_UNKNOWN},
    {"transient", "timeout", true, false, STEP_OUTCOME_UNKNOWN},
    {"permanent", "bad_certificate", true, false, STEP_OUTCOME_UNKNOWN},
    {"transient", "http_503", true, true, STEP_FAILED},
    {"permanent", "http_404", true, true, STEP_FAILED},
};

static void at_most_once_repeats_only_what_certainly_was_not_sent(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        struct world w;
        world_init(&w, STEPS("\"a\":{" NOOP ",\"delivery\":\"at_most_once\"}"));
        world_start(&w);
        begin(&w, "w1");
        world_fail(&w, "a", errors[i].error_class, errors[i].code, errors[i].sent, errors[i].answered);
        assert_int_equal(world_status(&w, "a"), errors[i].expected);
        world_deinit(&w);
    }
}

static void a_copy_that_was_not_granted_says_nothing_about_the_one_that_was(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP ",\"delivery\":\"at_most_once\"}"));
    world_start(&w);
    begin(&w, "w1");
    say(&w, "w2", RESULT_DEFERRED, 1, 1); /* a republished copy met a rate limit while w1 sends */
    assert_true(w.fx.ignored);
    assert_int_equal(world_status(&w, "a"), STEP_RUNNING);
    begin(&w, "w3");
    assert_int_equal(w.fx.answer, STARTED_NO);
    say(&w, "w2", RESULT_FAILED, 1, 1);
    assert_true(w.fx.ignored);
    say(&w, "w2", RESULT_ABANDONED, 1, 1); /* but a dead holder is doubt */
    assert_int_equal(world_status(&w, "a"), STEP_OUTCOME_UNKNOWN);
    world_deinit(&w);
}

static void a_granted_attempt_whose_result_cannot_be_read_is_doubt(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP ",\"delivery\":\"at_most_once\"}"));
    world_start(&w);
    begin(&w, "w1");
    world_apply(&w, (struct engine_input){.kind = IN_RESULT,
                                          .step = STR("a"),
                                          .attempt = 1,
                                          .dispatch = 1,
                                          .result = RESULT_FAILED,
                                          .error_class = STR("permanent"),
                                          .code = STR("undecodable_result")});
    assert_int_equal(world_status(&w, "a"), STEP_OUTCOME_UNKNOWN);
    world_deinit(&w);
}

static void the_key_rises_only_after_a_definite_answer(void **unused)
{
    struct world w;
    struct buf key;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP ",\"retry\":{\"max_attempts\":9}}"));
    world_start(&w);
    world_fail(&w, "a", "transient", "reset", true, false);
    world_timer(&w, "a");
    assert_int_equal(world_step(&w, "a")->generation, 1);
    say(&w, "w1", RESULT_ABANDONED, 2, 1);
    assert_int_equal(world_step(&w, "a")->attempt, 3);
    assert_int_equal(world_step(&w, "a")->generation, 1);
    world_fail(&w, "a", "transient", "http_503", true, true);
    world_timer(&w, "a");
    assert_int_equal(world_step(&w, "a")->generation, 2);
    say(&w, "w1", RESULT_ABANDONED, 4, 1);
    assert_int_equal(world_step(&w, "a")->generation, 2); /* the same key for what may have happened under it */
    buf_init(&key, 200);
    engine_idempotency_key(w.state, 0, STR_NONE, &key);
    assert_string_equal(key.ptr + UUID_TEXT_SIZE - 1, ":a:2");
    buf_deinit(&key);
    world_deinit(&w);
}

static void lost_workers_in_a_row_are_counted_from_the_last_word(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP ",\"retry\":{\"max_attempts\":9}}"));
    world_start(&w);
    say(&w, "w1", RESULT_ABANDONED, 1, 1);
    say(&w, "w1", RESULT_ABANDONED, 2, 1);
    world_fail(&w, "a", "transient", "reset", true, false);
    world_timer(&w, "a");
    say(&w, "w1", RESULT_ABANDONED, 4, 1);
    say(&w, "w1", RESULT_ABANDONED, 5, 1);
    assert_int_equal(world_status(&w, "a"), STEP_QUEUED);
    say(&w, "w1", RESULT_ABANDONED, 6, 1);
    assert_true(str_is(world_event(&w, EVENT_STEP_FAILED, "a")->code, "poison"));
    world_deinit(&w);
}

static void a_late_success_counts_also_when_a_later_attempt_has_failed_since(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP "}"));
    world_start(&w);
    say(&w, "w1", RESULT_ABANDONED, 1, 1);
    world_fail(&w, "a", "transient", "reset", true, false);
    assert_int_equal(world_status(&w, "a"), STEP_WAITING); /* attempt 2 has failed and backs off */
    say(&w, "w1", RESULT_SUCCEEDED, 2, 1);                 /* it has had its word */
    assert_true(w.fx.ignored);
    say(&w, "w1", RESULT_SUCCEEDED, 1, 1);
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    assert_int_equal(world_event(&w, EVENT_STEP_SUCCEEDED, "a")->attempt, 1);
    assert_int_equal(w.fx.recall_count, 0);
    world_deinit(&w);

    /* attempt 2 is on its way: who has not begun it need not */
    world_init(&w, STEPS("\"a\":{" NOOP "}"));
    world_start(&w);
    say(&w, "w1", RESULT_ABANDONED, 1, 1);
    assert_int_equal(world_step(&w, "a")->attempt, 2);
    say(&w, "w1", RESULT_SUCCEEDED, 1, 1);
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    assert_int_equal(w.fx.recall_count, 1);
    assert_true(str_is(w.fx.recalls[0].step, "a"));
    world_deinit(&w);
}

static void a_success_of_an_earlier_dispatch_of_the_open_attempt_counts(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP "}"));
    world_start(&w);
    say(&w, "w2", RESULT_DEFERRED, 1, 1); /* one copy was deferred */
    assert_int_equal(world_step(&w, "a")->dispatch, 2);
    say(&w, "w1", RESULT_SUCCEEDED, 1, 1); /* the other was done, under the same key */
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    world_deinit(&w);
}

static size_t late_results(const struct world *w)
{
    size_t n = 0;

    for (size_t i = 0; i < w->history_count; i++)
        n += w->history[i].type == EVENT_LATE_RESULT;
    return n;
}

static void other_late_results_are_recorded_once_and_change_nothing(void **unused)
{
    struct world w;

    (void)unused;
    /* three were lost: the charge may have been made all the same */
    world_init(&w, STEPS("\"a\":{" NOOP "}"));
    world_start(&w);
    say(&w, "w1", RESULT_ABANDONED, 1, 1);
    say(&w, "w1", RESULT_ABANDONED, 2, 1);
    say(&w, "w1", RESULT_ABANDONED, 3, 1);
    assert_int_equal(w.state->status, RUN_FAILED);
    say(&w, "w1", RESULT_SUCCEEDED, 3, 1);
    say(&w, "w1", RESULT_SUCCEEDED, 3, 1);
    say(&w, "w1", RESULT_SUCCEEDED, 1, 1);
    assert_int_equal(late_results(&w), 2);
    assert_int_equal(w.state->status, RUN_FAILED);
    world_deinit(&w);

    /* the second attempt won, the first was lost and speaks up */
    world_init(&w, STEPS("\"a\":{" NOOP "}"));
    world_start(&w);
    say(&w, "w1", RESULT_ABANDONED, 1, 1);
    say(&w, "w2", RESULT_SUCCEEDED, 2, 1);
    say(&w, "w2", RESULT_SUCCEEDED, 2, 1); /* a duplicate is nothing new */
    assert_int_equal(late_results(&w), 0);
    say(&w, "w1", RESULT_SUCCEEDED, 1, 1);
    assert_int_equal(late_results(&w), 1);
    world_deinit(&w);

    /* cut by the deadline */
    world_init(&w, STEPS("\"a\":{" NOOP ",\"deadline\":\"10s\"}"));
    world_start(&w);
    world_timer(&w, "a");
    assert_int_equal(w.fx.cancel_count, 1);
    say(&w, "w1", RESULT_FAILED, 1, 1);
    assert_int_equal(late_results(&w), 1);
    world_deinit(&w);

    /* its own timeout was its word */
    world_init(&w, STEPS("\"a\":{" NOOP ",\"retry\":{\"max_attempts\":1}}"));
    world_start(&w);
    world_fail(&w, "a", "transient", "timeout", true, false);
    assert_int_equal(world_status(&w, "a"), STEP_TIMED_OUT);
    say(&w, "w1", RESULT_FAILED, 1, 1);
    assert_int_equal(late_results(&w), 0);
    world_deinit(&w);
}

static void the_decisive_error_is_of_the_failure_that_failed_the_run(void **unused)
{
    struct world w;

    (void)unused;
    /* `a` only continues; `b` was to be handled by `undo`, which is skipped: `b` fails the run */
    world_init(&w, STEPS("\"a\":{" NOOP ",\"on_failure\":\"continue\"},\"b\":{" NOOP
                         "},\"undo\":{\"needs\":{\"b\":[\"failed\"]},\"when\":false," NOOP "}"));
    world_start(&w);
    world_fail(&w, "a", "permanent", "first", true, true);
    world_fail(&w, "b", "permanent", "second", true, true);
    assert_int_equal(w.state->status, RUN_FAILED);
    assert_true(str_is(world_event(&w, EVENT_RUN_FAILED, NULL)->step, "b"));
    assert_true(str_is(world_event(&w, EVENT_RUN_FAILED, NULL)->code, "second"));
    world_deinit(&w);

    /* a handled failure is never decisive */
    world_init(&w, STEPS("\"a\":{" NOOP "},\"undo\":{\"needs\":{\"a\":[\"failed\"]}," NOOP
                         "},\"b\":{\"on_failure\":\"continue\",\"needs\":[\"undo\"]," NOOP "}"));
    world_start(&w);
    world_fail(&w, "a", "permanent", "first", true, true);
    world_succeed(&w, "undo", "1");
    world_fail(&w, "b", "permanent", "second", true, true);
    assert_int_equal(w.state->status, RUN_PARTIALLY_COMPLETED);
    assert_true(str_is(world_event(&w, EVENT_RUN_PARTIALLY_COMPLETED, NULL)->step, "b"));
    world_deinit(&w);
}

static void an_output_that_cannot_be_made_fails_the_run(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, "{\"name\":\"x\",\"steps\":{\"a\":{" NOOP "}},\"output\":\"${ .steps.a.output.b.c }\"}");
    world_start(&w);
    world_succeed(&w, "a", "{\"b\":1}");
    assert_int_equal(w.state->status, RUN_FAILED);
    assert_string_equal(w.state->run_error->code, "expression_failed");
    assert_int_equal(w.state->decisive, NO_NODE);
    world_deinit(&w);
}

static void a_key_of_its_own_must_be_text(void **unused)
{
    static const struct {
        const char *input, *key; /* NULL: the step fails */
    } rows[] = {
        {"{\"k\":\"o-1\"}", "\"o-1\""}, {"{\"k\":17}", "\"17\""}, {"{\"k\":null}", NULL},
        {"{\"k\":\"\"}", NULL},         {"{\"k\":{}}", NULL},
    };

    (void)unused;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct world w;
        world_init(&w, STEPS("\"a\":{" NOOP ",\"idempotency\":{\"key\":\"${ .input.k }\"}}"));
        w.input = str_of(rows[i].input);
        world_start(&w);
        if (rows[i].key == NULL) {
            assert_int_equal(world_status(&w, "a"), STEP_FAILED);
        } else {
            assert_true(str_is(world_event(&w, EVENT_STEP_DISPATCHED, "a")->detail, rows[i].key));
            assert_int_equal(world_step(&w, "a")->input_seq, 0); /* its `with` is constant: there is no body to read */
        }
        world_deinit(&w);
    }
}

static void an_expression_that_skips_a_step_is_named_with_its_value(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP ",\"when\":\"${ .input.k }\"}"));
    w.input = STR("{\"k\":false}");
    world_start(&w);
    assert_true(
        str_is(world_event(&w, EVENT_STEP_SKIPPED, "a")->detail, "{\"expression\":\"${ .input.k }\",\"value\":false}"));
    world_deinit(&w);
}

static void what_a_worker_says_at_length_is_cut(void **unused)
{
    struct world w;
    char *text = mem_alloc(100001);
    struct engine_input in = {.kind = IN_RESULT,
                              .step = STR("a"),
                              .attempt = 1,
                              .dispatch = 1,
                              .result = RESULT_FAILED,
                              .error_class = STR("permanent")};

    (void)unused;
    memset(text, 'x', 100000);
    in.code = in.message = (struct str){text, 100000};
    text[0] = text[99999] = '"';
    in.detail = in.message;
    world_init(&w, STEPS("\"a\":{" NOOP "}"));
    world_start(&w);
    world_apply(&w, in);
    assert_int_equal(world_event(&w, EVENT_STEP_FAILED, "a")->code.len, 63);
    assert_int_equal(world_event(&w, EVENT_STEP_FAILED, "a")->message.len, 2048);
    assert_null(world_event(&w, EVENT_STEP_FAILED, "a")->detail.ptr);
    world_deinit(&w);
    mem_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(at_most_once_repeats_only_what_certainly_was_not_sent),
        cmocka_unit_test(a_copy_that_was_not_granted_says_nothing_about_the_one_that_was),
        cmocka_unit_test(a_granted_attempt_whose_result_cannot_be_read_is_doubt),
        cmocka_unit_test(the_key_rises_only_after_a_definite_answer),
        cmocka_unit_test(lost_workers_in_a_row_are_counted_from_the_last_word),
        cmocka_unit_test(a_late_success_counts_also_when_a_later_attempt_has_failed_since),
        cmocka_unit_test(a_success_of_an_earlier_dispatch_of_the_open_attempt_counts),
        cmocka_unit_test(other_late_results_are_recorded_once_and_change_nothing),
        cmocka_unit_test(the_decisive_error_is_of_the_failure_that_failed_the_run),
        cmocka_unit_test(an_output_that_cannot_be_made_fails_the_run),
        cmocka_unit_test(a_key_of_its_own_must_be_text),
        cmocka_unit_test(an_expression_that_skips_a_step_is_named_with_its_value),
        cmocka_unit_test(what_a_worker_says_at_length_is_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
