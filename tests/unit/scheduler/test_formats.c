/* Schedulers of two releases side by side. Of this one signals, settling and compensation are new, and the other cannot
 * read them (tests/tools/event_format_next.c). */
#include "tests/unit/scheduler/script.h"

#include "common/base/banned.h"

#define WAITS "{\"name\":\"w\",\"steps\":{\"a\":{\"call\":\"wait_signal\",\"with\":{\"signal\":\"go\"}}}}"

static void a_command_that_the_other_could_not_read_is_refused_with_its_own_code(void **state)
{
    struct script *s = script_new();
    struct script_run *run;
    struct str code;

    (void)state;
    script_own(s, 0, 1);
    run = script_run(s, 0, NOOP);
    script_settle(s);
    sched_on_format(s->sched, event_format_newest() - 1);
    script_command_body(s, run, "signal", "{\"name\":\"go\"}");
    script_advance(s, 2 * SEC);
    assert_true(jt_string(jt_get(script_last(s, "update")->body, "code"), s->arena, &code));
    assert_true(str_is(code, "upgrade_in_progress"));
    assert_int_equal(script_events(s, run, EVENT_SIGNAL_RECEIVED), 0);
    sched_on_format(s->sched, event_format_newest());
    script_command_body(s, run, "signal", "{\"name\":\"go\"}");
    script_advance(s, 2 * SEC);
    assert_int_equal(script_events(s, run, EVENT_SIGNAL_RECEIVED), 1);
    script_free(s);
}

static void a_start_that_needs_what_is_new_waits_and_others_do_not_wait_for_it(void **state)
{
    struct script *s = script_new();
    struct script_run *waits, *other;
    size_t commits;

    (void)state;
    sched_on_format(s->sched, event_format_newest() - 1);
    script_own(s, 0, 1);
    waits = script_run(s, 0, WAITS);
    script_advance(s, 3 * SEC);
    assert_int_equal(waits->event_count, 0);
    assert_false(s->commands[0].gone);
    commits = s->commits;
    script_advance(s, 3 * SEC);
    assert_int_equal(s->commits, commits); /* to wait costs no transaction */
    other = script_run(s, 0, NOOP);
    script_advance(s, 2 * SEC);
    assert_int_equal(script_events(s, other, EVENT_STEP_DISPATCHED), 1);
    /* what comes for the run that waits waits behind its start */
    script_command_body(s, waits, "cancel", "{}");
    script_advance(s, 2 * SEC);
    assert_int_equal(waits->event_count, 0);
    sched_on_format(s->sched, event_format_newest());
    script_advance(s, 2 * SEC);
    assert_int_equal(script_events(s, waits, EVENT_RUN_STARTED), 1);
    assert_int_equal(script_events(s, waits, EVENT_RUN_CANCELLED), 1);
    assert_true(s->commands[0].gone);
    script_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_command_that_the_other_could_not_read_is_refused_with_its_own_code),
        cmocka_unit_test(a_start_that_needs_what_is_new_waits_and_others_do_not_wait_for_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
