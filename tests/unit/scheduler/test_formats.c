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
    sched_on_formats(s->sched, event_format_newest() - 1, event_format_newest());
    script_command_body(s, run, "signal", "{\"name\":\"go\"}");
    script_advance(s, 2 * SEC);
    assert_true(jt_string(jt_get(script_last(s, "update")->body, "code"), s->arena, &code));
    assert_true(str_is(code, "upgrade_in_progress"));
    assert_int_equal(script_events(s, run, EVENT_SIGNAL_RECEIVED), 0);
    sched_on_formats(s->sched, event_format_newest(), event_format_newest());
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
    sched_on_formats(s->sched, event_format_newest() - 1, event_format_newest());
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
    sched_on_formats(s->sched, event_format_newest(), event_format_newest());
    script_advance(s, 2 * SEC);
    assert_int_equal(script_events(s, waits, EVENT_RUN_STARTED), 1);
    assert_int_equal(script_events(s, waits, EVENT_RUN_CANCELLED), 1);
    assert_true(s->commands[0].gone);
    script_free(s);
}

/* More of them than one answer holds. */
static void starts_that_wait_do_not_hide_younger_ones(void **state)
{
    enum { WAITING = 650 };
    struct script *s = script_new();
    struct script_run *waits[WAITING], *other;

    (void)state;
    sched_on_formats(s->sched, event_format_newest() - 1, event_format_newest());
    script_own(s, 0, 1);
    for (size_t i = 0; i < WAITING; i++)
        waits[i] = script_run(s, 0, WAITS);
    script_advance(s, 3 * SEC);
    other = script_run(s, 0, NOOP);
    script_advance(s, SEC);
    assert_int_equal(script_events(s, other, EVENT_STEP_DISPATCHED), 1);
    assert_int_equal(s->aside_count, WAITING);
    script_own(s, 0, 3); /* a new owner finds out for itself */
    script_advance(s, 3 * SEC);
    assert_int_equal(s->aside_count, WAITING);
    other = script_run(s, 0, NOOP);
    script_advance(s, SEC);
    assert_int_equal(script_events(s, other, EVENT_STEP_DISPATCHED), 1);
    sched_on_formats(s->sched, event_format_newest(), event_format_newest());
    script_advance(s, 5 * SEC);
    for (size_t i = 0; i < WAITING; i++)
        assert_int_equal(script_events(s, waits[i], EVENT_RUN_STARTED), 1);
    assert_int_equal(s->aside_count, 0);
    script_free(s);
}

/* A scheduler of the older release, and a run with a signal in its history, which only the newer one knows.
 */
static struct script *older_with_a_newer_run(struct script_run **ret)
{
    const struct sched_settings settings = {.format = event_format_newest() - 1};
    struct script *s = script_new_with(&settings);

    sched_on_formats(s->sched, event_format_newest(),
                     event_format_newest()); /* so that it writes as the newer one would */
    script_own(s, 0, 1);
    *ret = script_run(s, 0, NOOP);
    script_settle(s);
    script_command_body(s, *ret, "signal", "{\"name\":\"other\"}");
    script_advance(s, 2 * SEC);
    assert_int_equal(script_events(s, *ret, EVENT_SIGNAL_RECEIVED), 1);
    sched_on_formats(s->sched, event_format_newest() - 1, event_format_newest());
    script_own(s, 0, 2); /* as its new owner */
    script_settle(s);
    return s;
}

static void a_run_of_a_newer_release_is_left_alone_and_its_shard_told_of(void **state)
{
    struct script_run *run, *other;
    struct script *s = older_with_a_newer_run(&run);
    size_t events = run->event_count;
    int64_t number = script_command_body(s, run, "cancel", "{}");

    (void)state;
    script_advance(s, 5 * SEC);
    assert_int_equal(s->newer_count, 1);
    assert_int_equal(s->newer[0], 0);
    assert_int_equal(run->event_count, events);
    assert_false(s->commands[number - 1].gone || s->commands[number - 1].held);
    other = script_run(s, 0, NOOP); /* the shard goes on */
    script_advance(s, 2 * SEC);
    assert_int_equal(script_events(s, other, EVENT_STEP_DISPATCHED), 1);
    sched_release_shard(s->sched, 0); /* and can be given up, whatever waits */
    script_settle(s);
    assert_int_equal(s->released_count, 1);
    script_lose(s, 0);
    script_free(s);
}

static void so_is_one_whose_workflow_asks_for_what_is_new(void **state)
{
    const struct sched_settings settings = {.format = event_format_newest() - 1};
    struct script *s = script_new_with(&settings);
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = script_run(s, 0, WAITS);
    script_advance(s, 5 * SEC);
    assert_int_equal(s->newer_count, 1);
    assert_int_equal(run->event_count, 0);
    assert_false(s->commands[0].gone);
    script_free(s);
}

static void is_set_aside(void *ctx, struct run_id run, enum aside_until until)
{
    (void)run;
    *(size_t *)ctx += until == ASIDE_UNTIL_LOST;
}

/* Whether or not a newer one lives: a gateway has read it, so there will be one. Its inputs are not held, as they would
 * be in quarantine, and nobody has to release it. */
static void a_workflow_that_cannot_be_read_waits_for_a_release_that_reads_it(void **state)
{
    for (int newer = 0; newer < 2; newer++) {
        struct script *s = script_new();
        size_t aside = 0;

        (void)state;
        sched_on_formats(s->sched, event_format_newest(), event_format_newest() + newer);
        script_own(s, 0, 1);
        (void)script_run(s, 0, "{\"name\":\"w\",\"steps\":{\"a\":{\"call\":\"of the future\"}}}");
        script_advance(s, 5 * SEC);
        assert_int_equal(s->newer_count, 1);
        assert_false(s->commands[0].gone || s->commands[0].held);
        sched_each_aside(s->sched, is_set_aside, &aside);
        assert_int_equal(aside, 1);
        script_free(s);
    }
}

/* Neither are its tasks published, nor is what comes for it acknowledged: that goes with the shard. */
static void nothing_of_such_a_run_is_published_or_acknowledged(void **state)
{
    struct script_run *run;
    struct script *s = older_with_a_newer_run(&run);
    const struct sent task = *script_last(s, "task");
    size_t tasks = script_count(s, "task");
    void *delivery = script_result(s, 0, &task, "w1", "\"status\":\"succeeded\"");

    (void)state;
    script_advance(s, 70 * SEC);
    assert_int_equal(script_count(s, "task"), tasks);
    assert_false(script_was_acked(s, delivery));
    assert_int_equal(script_events(s, run, EVENT_STEP_SUCCEEDED), 0);
    script_lose(s, 0);
    script_settle(s);
    assert_true(script_was_forgotten(s, delivery));
    assert_false(script_was_acked(s, delivery));
    script_free(s);
}

static void its_commands_do_not_hide_those_of_others(void **state)
{
    struct script_run *run, *other;
    struct script *s = older_with_a_newer_run(&run);

    (void)state;
    for (size_t i = 0; i < SCRIPT_FETCH; i++)
        script_command(s, run, "cancel", NULL);
    script_advance(s, 2 * SEC);
    other = script_run(s, 0, NOOP);
    script_advance(s, SEC);
    assert_int_equal(script_events(s, other, EVENT_STEP_DISPATCHED), 1);
    assert_int_equal(s->aside_count, 1);
    script_lose(s, 0);
    script_own(s, 1, 1);
    script_settle(s);
    assert_int_equal(s->aside_count, 0);
    script_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_command_that_the_other_could_not_read_is_refused_with_its_own_code),
        cmocka_unit_test(a_run_of_a_newer_release_is_left_alone_and_its_shard_told_of),
        cmocka_unit_test(so_is_one_whose_workflow_asks_for_what_is_new),
        cmocka_unit_test(a_workflow_that_cannot_be_read_waits_for_a_release_that_reads_it),
        cmocka_unit_test(nothing_of_such_a_run_is_published_or_acknowledged),
        cmocka_unit_test(its_commands_do_not_hide_those_of_others),
        cmocka_unit_test(starts_that_wait_do_not_hide_younger_ones),
        cmocka_unit_test(a_start_that_needs_what_is_new_waits_and_others_do_not_wait_for_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
