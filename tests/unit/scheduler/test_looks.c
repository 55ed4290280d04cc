/* Steps that wait for events: their rows, when it is asked for events that came before, and what a told event does. */
#include "tests/unit/scheduler/script.h"

#include "common/base/banned.h"

#define WAITS(more)                                                                                                    \
    "{\"name\":\"w\",\"steps\":{\"e\":{\"call\":\"wait_event\",\"with\":{\"type\":\"paid\"" more "}},"                 \
    "\"b\":{\"needs\":[\"e\"],\"call\":\"noop\"}}}"
#define FILTERED WAITS(",\"filter\":\"${ .event.data.n == .input.n }\"")
#define PAID(n) "{\"id\":\"1\",\"source\":\"/s\",\"type\":\"paid\",\"data\":{\"n\":" n "}}"

static void looked(struct script *s, bool told, bool remaining, bool failed)
{
    assert_true(s->looking);
    s->looking = false;
    sched_on_looked(s->sched, told, remaining, failed);
    script_settle(s);
}

/* A run whose step waits; what was asked before is answered. */
static struct script_run *begin(struct script *s, const char *document)
{
    struct script_run *run;

    script_own(s, 0, 1);
    script_settle(s);
    looked(s, false, false, false);
    s->look_calls = 0;
    run = script_run(s, 0, document);
    script_advance(s, 2 * SEC); /* its start is found */
    assert_int_equal(script_events(s, run, EVENT_STEP_LISTENING), 1);
    return run;
}

static void tell(struct script *s, const struct script_run *run, const char *event)
{
    (void)script_command_body(s, run, "event", arena_printf(s->arena, "{\"seq\":2,\"event\":%s}", event));
    script_advance(s, 2 * SEC);
}

static void a_wait_says_in_its_row_what_for_and_looks_back_when_it_is_committed(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    s->hold_commits = true;
    script_own(s, 0, 1);
    script_settle(s);
    looked(s, false, false, false);
    assert_int_equal(s->look_calls, 1); /* a shard is gained: its waits may not have looked */
    run = script_run(s, 0, WAITS(",\"source\":\"/s\",\"look_back\":\"2m\""));
    script_advance(s, 2 * SEC);
    assert_int_equal(s->look_calls, 1);
    script_commit(s, SCHED_COMMITTED, NULL);
    script_settle(s);
    assert_true(str_is(run->event_type, "paid"));
    assert_true(str_is(run->event_source, "/s"));
    assert_int_equal(run->look_back_us, 120 * SEC);
    assert_int_equal(s->look_calls, 2);
    assert_int_equal(s->look_shard_count, 1);
    assert_int_equal(s->look_shards[0], 0);
    script_free(s);
}

static void a_wait_that_may_have_been_committed_looks_back_too(void **state)
{
    struct script *s = script_new();

    (void)state;
    s->hold_commits = true;
    script_own(s, 0, 1);
    script_settle(s);
    looked(s, false, false, false);
    (void)script_run(s, 0, WAITS(""));
    script_advance(s, 2 * SEC);
    write_as_if_committed(s);
    script_commit(s, SCHED_UNKNOWN, NULL);
    script_settle(s);
    assert_int_equal(s->look_calls, 2);
    script_free(s);
}

static void what_is_told_wakes_the_step_once_and_is_its_output(void **state)
{
    struct script *s = script_new();
    struct script_run *run = begin(s, WAITS(""));

    (void)state;
    assert_int_equal(run->look_back_us, -1);
    looked(s, true, false, false);
    tell(s, run, PAID("0.10"));
    assert_json(script_output(run, EVENT_STEP_SUCCEEDED, "e"), PAID("0.10"));
    assert_int_equal(script_count(s, "task"), 1);
    tell(s, run, PAID("2"));
    assert_int_equal(script_events(s, run, EVENT_STEP_SUCCEEDED), 1);
    assert_true(s->commands[s->command_count - 1].gone);
    assert_int_equal(script_events(s, run, EVENT_COMMAND_REFUSED), 0);
    script_free(s);
}

static void a_filter_reads_the_event_and_the_run_and_holds_until_it_passes(void **state)
{
    struct script *s = script_new();
    struct script_run *run = begin(s, FILTERED);
    size_t commits;

    (void)state;
    run->input = STR("{\"n\":3}");
    looked(s, false, false, false);
    commits = s->commits;
    tell(s, run, PAID("2"));
    assert_int_equal(s->evaluation_count, 1);
    assert_true(memmem(s->evaluations[0].document.ptr, s->evaluations[0].document.len, "\"n\":2", 5) != NULL);
    script_answer(s, 0, "false");
    assert_int_equal(s->commits, commits + 1); /* the command is done with */
    assert_int_equal(script_events(s, run, EVENT_STEP_SUCCEEDED), 0);
    tell(s, run, PAID("3"));
    script_answer(s, s->evaluation_count - 1, "true");
    assert_json(script_output(run, EVENT_STEP_SUCCEEDED, "e"), PAID("3"));
    script_free(s);
}

static void an_event_that_is_not_kept_any_more_is_a_dead_letter(void **state)
{
    static const char *const bodies[] = {"{\"seq\":2}", "null", "{\"event\":{}}", "{\"seq\":0,\"event\":{}}"};
    struct script *s = script_new();
    struct script_run *run = begin(s, WAITS(""));

    (void)state;
    looked(s, false, false, false);
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        s->hold_commits = true;
        (void)script_command_body(s, run, "event", bodies[i]);
        script_advance(s, 2 * SEC);
        assert_non_null(s->batch);
        assert_int_equal(s->batch->dead_letter_count, 1);
        assert_int_equal(s->batch->event_count, 0);
        s->hold_commits = false;
        script_settle(s);
    }
    assert_int_equal(script_events(s, run, EVENT_STEP_SUCCEEDED), 0);
    script_free(s);
}

static void what_remains_is_asked_for_again_at_once_or_after_a_pause(void **state)
{
    struct script *s = script_new();

    (void)state;
    (void)begin(s, WAITS(""));
    assert_int_equal(s->look_calls, 1);
    looked(s, true, true, false); /* there is more, and it goes on */
    assert_int_equal(s->look_calls, 2);
    for (int i = 0; i < 8; i++) { /* nothing comes of it: less and less often */
        looked(s, false, true, i % 2 == 0);
        assert_false(s->looking);
        script_advance(s, 5 * SEC);
    }
    assert_int_equal(s->look_calls, 10);
    looked(s, false, false, false);
    script_advance(s, 9 * SEC);
    assert_int_equal(s->look_calls, 10);
    script_advance(s, 2 * SEC); /* and now and then for no reason */
    assert_int_equal(s->look_calls, 11);
    script_free(s);
}

static void a_wait_that_begins_while_others_look_is_looked_for_next(void **state)
{
    struct script *s = script_new();

    (void)state;
    (void)begin(s, WAITS(""));
    assert_int_equal(s->look_calls, 1);
    (void)script_run(s, 0, WAITS(""));
    script_advance(s, 2 * SEC);
    assert_int_equal(s->look_calls, 1);
    looked(s, false, false, false);
    assert_int_equal(s->look_calls, 2);
    script_free(s);
}

static void a_row_that_is_lost_is_written_again_with_what_it_waits_for(void **state)
{
    struct script *s = script_new();
    struct script_run *run = begin(s, WAITS(",\"look_back\":\"1m\""));

    (void)state;
    looked(s, false, false, false);
    run->work_count = 0;
    run->event_type = STR_NONE;
    run->look_back_us = 0;
    script_own(s, 0, 2);
    script_settle(s);
    looked(s, false, false, false);
    sched_audit(s->sched, &run->id, 1);
    script_settle(s);
    assert_int_equal(run->work_count, 2);
    assert_true(str_is(run->event_type, "paid"));
    assert_int_equal(run->look_back_us, 60 * SEC);
    assert_true(s->looking);
    script_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wait_says_in_its_row_what_for_and_looks_back_when_it_is_committed),
        cmocka_unit_test(a_wait_that_may_have_been_committed_looks_back_too),
        cmocka_unit_test(what_is_told_wakes_the_step_once_and_is_its_output),
        cmocka_unit_test(a_filter_reads_the_event_and_the_run_and_holds_until_it_passes),
        cmocka_unit_test(an_event_that_is_not_kept_any_more_is_a_dead_letter),
        cmocka_unit_test(what_remains_is_asked_for_again_at_once_or_after_a_pause),
        cmocka_unit_test(a_wait_that_begins_while_others_look_is_looked_for_next),
        cmocka_unit_test(a_row_that_is_lost_is_written_again_with_what_it_waits_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
