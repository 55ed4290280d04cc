/* What may be written while a scheduler of an older release is alive. Of this release of tomorrow signals, settling and
 * compensation are new (tests/tools/event_format_next.c). */
#include "tests/unit/engine/world.h"
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define NOOP "\"call\":\"noop\""
#define PLAIN "{\"name\":\"x\",\"steps\":{\"a\":{" NOOP "}}}"
#define UNDONE "{\"name\":\"x\",\"steps\":{\"a\":{" NOOP ",\"compensate\":{" NOOP "}}}}"
#define WAITS "{\"name\":\"x\",\"steps\":{\"a\":{\"call\":\"wait_signal\",\"with\":{\"signal\":\"go\"}}}}"

static int newest(void)
{
    return event_format_newest();
}

static void assert_refused(struct world *w, size_t times)
{
    const struct event *event = world_event(w, EVENT_COMMAND_REFUSED, NULL);

    assert_int_equal(world_count(w, EVENT_COMMAND_REFUSED, NULL), times);
    assert_non_null(event);
    assert_true(str_is(event->code, "upgrade_in_progress"));
    assert_true(event->message.len > 0);
}

static void each_type_has_a_format_and_an_unknown_one_is_beyond_all(void **unused)
{
    (void)unused;
    assert_int_equal(event_format(EVENT_RUN_STARTED), 1);
    assert_int_equal(event_format(EVENT_STEP_SETTLED), newest());
    assert_int_equal(event_format(EVENT_NONE), INT_MAX);
    assert_int_equal(event_format((enum event_type)32767), INT_MAX);
}

static void a_command_that_needs_a_newer_event_is_refused_until_all_can_read_it(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, PLAIN);
    w.format = newest() - 1;
    world_start(&w);
    world_signal(&w, "go", "1");
    assert_string_equal(world_said(&w), "command.refused");
    assert_refused(&w, 1);
    world_settle(&w, "a", "failed", NULL);
    assert_refused(&w, 2);
    world_compensate(&w);
    assert_refused(&w, 3);
    assert_true(w.state->format < newest());
    w.format = newest();
    world_signal(&w, "go", "1");
    assert_string_equal(world_said(&w), "command.applied, signal.received");
    assert_int_equal(w.state->format, newest());
    world_deinit(&w);
}

static void what_older_releases_can_read_is_not_held_back(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, PLAIN);
    w.format = newest() - 1;
    world_start(&w);
    world_cancel(&w, false);
    assert_string_equal(world_said(&w), "command.applied, run.cancelling, step.cancelled a, run.cancelled");
    world_deinit(&w);
}

static void a_start_whose_run_would_need_them_waits(void **unused)
{
    static const char *const documents[] = {UNDONE, WAITS};

    (void)unused;
    for (size_t i = 0; i < 2; i++) {
        struct world w;

        world_init(&w, documents[i]);
        assert_int_equal(w.plan->format, newest());
        w.format = newest() - 1;
        world_start(&w);
        assert_true(w.fx.postponed);
        assert_int_equal(w.history_count, 0);
        assert_int_equal(w.row_count, 0);
        assert_int_equal(w.state->status, RUN_PENDING);
        w.format = newest();
        world_start(&w);
        assert_false(w.fx.postponed);
        assert_int_equal(w.state->status, RUN_ACTIVE);
        world_deinit(&w);
    }
}

/* An older scheduler cannot have it any more: to stop half-way would help nobody. */
static void a_run_that_has_begun_in_a_newer_format_goes_on_in_it(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, WAITS);
    world_start(&w);
    w.format = newest() - 1;
    world_reload(&w);
    world_signal(&w, "go", "1");
    assert_string_equal(world_said(&w), "command.applied, signal.received, step.succeeded a, run.succeeded");
    world_deinit(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_type_has_a_format_and_an_unknown_one_is_beyond_all),
        cmocka_unit_test(a_command_that_needs_a_newer_event_is_refused_until_all_can_read_it),
        cmocka_unit_test(what_older_releases_can_read_is_not_held_back),
        cmocka_unit_test(a_start_whose_run_would_need_them_waits),
        cmocka_unit_test(a_run_that_has_begun_in_a_newer_format_goes_on_in_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
