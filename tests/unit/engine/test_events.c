/* Steps that wait for events. */
#include "tests/unit/engine/world.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>

#define NOOP "\"call\":\"noop\""
#define STEPS(s) "{\"name\":\"x\",\"steps\":{" s "}}"
#define EVENT(with) "\"call\":\"wait_event\",\"with\":{\"type\":\"paid\"" with "}"
#define FILTER ",\"filter\":\"${ .event.data.ok }\""
#define PAID(ok) "{\"id\":\"1\",\"source\":\"/s\",\"type\":\"paid\",\"data\":{\"ok\":" ok "}}"

static const char *reason_of(struct world *w, const char *step)
{
    for (size_t i = 0; i < w->row_count; i++)
        if (w->rows[i].seq == world_step(w, step)->open_seq)
            return w->rows[i].reason;
    return NULL;
}

static void an_event_ends_the_step_that_waits_and_is_its_output(void **unused)
{
    struct world w;
    const struct event *event;

    (void)unused;
    world_init(&w,
               STEPS("\"e\":{" EVENT(",\"source\":\"/s\",\"timeout\":\"1h\"") "},\"a\":{\"needs\":[\"e\"]," NOOP "}"));
    world_start(&w);
    assert_string_equal(world_said(&w), "run.started, step.listening e");
    event = world_event(&w, EVENT_STEP_LISTENING, "e");
    assert_true(str_is(event->name, "paid") && str_is(event->source, "/s") && str_is(event->waits, "event"));
    assert_int_equal(world_step(&w, "e")->due_at.us, w.now.us + 3600 * US_PER_S);
    assert_int_equal(world_step(&w, "e")->open_kind, WORK_EVENT);
    world_event_comes(&w, "e", PAID("0.10"));
    assert_string_equal(world_said(&w), "step.succeeded e, step.dispatched a");
    assert_string_equal(world_output(&w, "e"), PAID("0.10"));
    world_deinit(&w);
}

static void only_an_event_that_the_filter_passes_wakes_it_and_others_write_nothing(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"e\":{" EVENT(FILTER) "}"));
    world_start(&w);
    world_event_comes(&w, "e", PAID("false"));
    assert_string_equal(world_said(&w), "");
    assert_true(w.fx.ignored);
    assert_int_equal(w.fx.change_count, 0);
    world_reload(&w);
    world_event_comes(&w, "e", PAID("true"));
    assert_string_equal(world_said(&w), "step.succeeded e, run.succeeded");
    world_deinit(&w);
}

static void a_filter_that_fails_is_told_in_the_row_and_wakes_nothing(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"e\":{" EVENT(FILTER) "}"));
    world_start(&w);
    world_event_comes(&w, "e", PAID("7"));
    assert_string_equal(world_said(&w), "");
    assert_string_equal(reason_of(&w, "e"), "filter_failed: it gave number, not a boolean");
    world_event_comes(&w, "e", "{\"data\":[]}");
    assert_memory_equal(reason_of(&w, "e"), "filter_failed: Cannot index array", 33);
    world_event_comes(&w, "e", PAID("false"));
    assert_int_equal(world_status(&w, "e"), STEP_WAITING);
    world_event_comes(&w, "e", PAID("true"));
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    world_deinit(&w);
}

static void it_wakes_once_and_a_copy_changes_nothing(void **unused)
{
    struct world w;
    struct engine_input copy = {.kind = IN_EVENT, .value = STR(PAID("2"))};

    (void)unused;
    world_init(&w, STEPS("\"e\":{" EVENT("") "},\"a\":{" NOOP "}"));
    world_start(&w);
    copy.seq = world_step(&w, "e")->open_seq;
    world_event_comes(&w, "e", PAID("1"));
    world_apply(&w, copy);
    assert_true(w.fx.ignored);
    assert_string_equal(world_said(&w), "");
    copy.seq = world_step(&w, "a")->open_seq; /* somebody else's row */
    world_apply(&w, copy);
    assert_true(w.fx.ignored);
    copy.seq = w.state->last_seq + 1; /* of a history that another has gone on with */
    world_apply(&w, copy);
    assert_true(w.fx.stale_cache);
    assert_string_equal(world_output(&w, "e"), PAID("1"));
    world_deinit(&w);
}

static void each_step_that_waits_has_a_wait_of_its_own(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"each\":{\"call\":\"foreach\",\"with\":{\"items\":[1,2],\"steps\":{\"e\":{" EVENT(
                       ",\"filter\":\"${ .event.data.ok }\"") "}}}},\"e\":{" EVENT("") "}"));
    world_start(&w);
    world_event_comes(&w, "each[1].e", PAID("true"));
    assert_string_equal(world_said(&w), "step.succeeded each[1].e, step.succeeded each[1]");
    assert_true(world_open(&w, "each[0].e"));
    assert_true(world_open(&w, "e"));
    world_event_comes(&w, "e", PAID("false"));
    world_event_comes(&w, "each[0].e", PAID("true"));
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    world_deinit(&w);
}

static void its_timeout_or_deadline_ends_the_wait_whichever_is_sooner(void **unused)
{
    static const struct {
        const char *with, *rest, *code;
    } rows[] = {{",\"timeout\":\"1h\"", "", "event_timeout"},
                {",\"timeout\":\"1h\"", ",\"deadline\":\"2h\"", "event_timeout"},
                {",\"timeout\":\"3h\"", ",\"deadline\":\"2h\"", "deadline"},
                {"", ",\"deadline\":\"2h\"", "deadline"}};

    (void)unused;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct world w;
        char document[512];

        snprintf(document, sizeof(document), STEPS("\"e\":{" EVENT("%s") "%s}"), rows[i].with, rows[i].rest);
        world_init(&w, document);
        world_start(&w);
        world_timer(&w, "e");
        assert_int_equal(world_status(&w, "e"), STEP_TIMED_OUT);
        assert_true(str_is(world_event(&w, EVENT_STEP_TIMED_OUT, "e")->code, rows[i].code));
        assert_int_equal(w.state->status, RUN_FAILED);
        world_deinit(&w);
    }
}

static void a_timeout_that_is_no_duration_fails_the_step(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"e\":{" EVENT(",\"timeout\":\"${ .input.t }\"") "}"));
    w.input = STR("{\"t\":\"soon\"}");
    world_start(&w);
    assert_true(str_is(world_event(&w, EVENT_STEP_FAILED, "e")->code, "bad_duration"));
    world_deinit(&w);
}

static void what_is_paused_hears_events_and_goes_on_when_it_is_resumed(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"e\":{" EVENT(FILTER) "},\"a\":{\"needs\":[\"e\"]," NOOP "}"));
    world_start(&w);
    world_pause(&w);
    world_event_comes(&w, "e", PAID("true"));
    assert_string_equal(world_said(&w), "step.succeeded e");
    world_resume(&w);
    assert_int_equal(world_status(&w, "a"), STEP_QUEUED);
    world_deinit(&w);
}

static void a_cancelled_run_hears_no_more_and_a_retried_one_waits_anew(void **unused)
{
    struct world w;
    struct engine_input late = {.kind = IN_EVENT, .value = STR(PAID("true"))};

    (void)unused;
    world_init(&w, STEPS("\"e\":{" EVENT(FILTER ",\"timeout\":\"1h\"") "}"));
    world_start(&w);
    late.seq = world_step(&w, "e")->open_seq;
    world_cancel(&w, false);
    assert_int_equal(w.state->status, RUN_CANCELLED);
    world_apply(&w, late);
    assert_true(w.fx.ignored);
    world_retry(&w, NULL);
    assert_int_equal(world_status(&w, "e"), STEP_WAITING);
    assert_int_equal(world_count(&w, EVENT_STEP_LISTENING, "e"), 2);
    world_apply(&w, late); /* it was for the wait of before */
    assert_int_equal(world_status(&w, "e"), STEP_WAITING);
    world_event_comes(&w, "e", PAID("true"));
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    world_deinit(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_event_ends_the_step_that_waits_and_is_its_output),
        cmocka_unit_test(only_an_event_that_the_filter_passes_wakes_it_and_others_write_nothing),
        cmocka_unit_test(a_filter_that_fails_is_told_in_the_row_and_wakes_nothing),
        cmocka_unit_test(it_wakes_once_and_a_copy_changes_nothing),
        cmocka_unit_test(each_step_that_waits_has_a_wait_of_its_own),
        cmocka_unit_test(its_timeout_or_deadline_ends_the_wait_whichever_is_sooner),
        cmocka_unit_test(a_timeout_that_is_no_duration_fails_the_step),
        cmocka_unit_test(what_is_paused_hears_events_and_goes_on_when_it_is_resumed),
        cmocka_unit_test(a_cancelled_run_hears_no_more_and_a_retried_one_waits_anew),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
