/* Values, bodies, watchers, verdicts, and what is poisonous. */
#include "tests/unit/scheduler/script.h"

#include "common/base/banned.h"

#define ASKS                                                                                                           \
    "{\"name\":\"w\",\"steps\":{\"c\":{\"call\":\"condition\",\"with\":{\"if\":\"${ .input.x > 1 }\"}},"               \
    "\"a\":{\"needs\":{\"c\":[\"true\"]},\"call\":\"noop\"}}}"

static void answer_value(struct script *s, size_t i, const char *value)
{
    struct sched_value v = {.id = s->evaluations[i].id, .status = VALUE_OK, .value = str_of(value)};

    sched_on_values(s->sched, &v, 1);
    script_settle(s);
}

static void a_value_that_comes_at_once_is_in_the_same_batch(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    s->hold_commits = true;
    run = script_run(s, 0, ASKS);
    script_settle(s);
    assert_null(s->batch);
    assert_int_equal(s->evaluation_count, 1);
    assert_true(str_is(s->evaluations[0].source, ".input.x > 1"));
    assert_true(str_is(jt_get(jt_get(s->evaluations[0].document, "input"), "x"), "3"));
    answer_value(s, 0, "true");
    assert_int_equal(s->batch->event_count, 3); /* started, c succeeded, a dispatched */
    script_commit(s, SCHED_COMMITTED, NULL);
    assert_int_equal(script_events(s, run, EVENT_STEP_SUCCEEDED), 1);
    script_free(s);
}

static void a_batch_waits_two_milliseconds_for_values_and_no_longer(void **state)
{
    struct script *s = script_new();
    struct script_run *asks, *other;

    (void)state;
    script_own(s, 0, 1);
    s->hold_commits = true;
    asks = script_run(s, 0, ASKS);
    other = script_run(s, 0, NOOP);
    script_settle(s);
    assert_null(s->batch);
    assert_true(s->wake <= s->now + 2 * MS);
    s->now += 2 * MS;
    script_settle(s);
    assert_non_null(s->batch); /* the other run goes ahead */
    assert_int_equal(s->batch->run_count, 1);
    assert_true(run_id_eq(s->batch->runs[0].run, other->id));
    assert_int_equal(s->batch->command_delete_count, 1);
    script_commit(s, SCHED_COMMITTED, NULL);
    answer_value(s, 0, "false");
    assert_non_null(s->batch);
    assert_true(run_id_eq(s->batch->runs[0].run, asks->id));
    script_commit(s, SCHED_COMMITTED, NULL);
    assert_int_equal(script_events(s, asks, EVENT_STEP_SKIPPED), 1);
    script_free(s);
}

/* What the first event of that type says went wrong. */
static const char *message_of(const struct script_run *run, enum event_type type)
{
    static char text[2048];
    struct event event = {0};
    struct arena *arena = arena_new(4096);
    struct err err;
    size_t i = 0;

    while (i < run->event_count && run->events[i].type != (int16_t)type)
        i++;
    assert_true(i < run->event_count);
    assert_int_equal(event_decode_data(run->events[i].data, arena, &event, &err), ERR_OK);
    (void)snprintf(text, sizeof(text), STR_FMT, STR_ARG(event.message));
    arena_free(arena);
    return text;
}

static void an_expressions_own_fault_fails_its_step(void **state)
{
    struct script *s = script_new();
    struct script_run *run;
    struct sched_value failed;

    (void)state;
    script_own(s, 0, 1);
    run = script_run(s, 0, ASKS);
    script_settle(s);
    failed =
        (struct sched_value){.id = s->evaluations[0].id, .status = VALUE_FAILED, .message = STR("cannot index number")};
    sched_on_values(s->sched, &failed, 1);
    script_settle(s);
    assert_int_equal(script_events(s, run, EVENT_STEP_FAILED), 1);
    assert_int_equal(script_events(s, run, EVENT_RUN_FAILED), 1);
    assert_string_equal(message_of(run, EVENT_STEP_FAILED), "cannot index number, in ${ .input.x > 1 }");
    script_free(s);
}

static void a_long_expression_is_told_in_part(void **state)
{
    struct script *s = script_new();
    struct script_run *run;
    struct sched_value failed;
    const char *message;

    (void)state;
    script_own(s, 0, 1);
    run = script_run(
        s, 0,
        "{\"name\":\"w\",\"steps\":{\"c\":{\"call\":\"transform\",\"with\":{\"value\":\"${ .input.x + "
        "\\\"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
        "012345678901234567890123456789\\\" }\"}}}}");
    script_settle(s);
    failed = (struct sched_value){.id = s->evaluations[0].id, .status = VALUE_FAILED, .message = STR("no")};
    sched_on_values(s->sched, &failed, 1);
    script_settle(s);
    message = message_of(run, EVENT_STEP_FAILED);
    assert_memory_equal(message, "no, in ${ .input.x + ", 21);
    assert_string_equal(strstr(message, " ... }"), " ... }");
    script_free(s);
}

static void a_child_that_died_of_anothers_fault_is_asked_again_three_times(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = script_run(s, 0, ASKS);
    script_settle(s);
    for (size_t i = 0; i < 3; i++) {
        struct sched_value again = {.id = s->evaluations[i].id, .status = VALUE_AGAIN};

        assert_int_equal(s->evaluation_count, i + 1);
        sched_on_values(s->sched, &again, 1);
        script_settle(s);
    }
    assert_int_equal(script_events(s, run, EVENT_STEP_FAILED), 1);
    script_free(s);
}

static void values_of_a_lost_shard_find_nobody(void **state)
{
    struct script *s = script_new();

    (void)state;
    script_own(s, 0, 1);
    script_run(s, 0, ASKS);
    script_settle(s);
    script_lose(s, 0);
    answer_value(s, 0, "true");
    assert_null(s->batch);
    script_free(s);
}

static void an_output_that_is_not_cached_is_read_for_the_expression_that_names_it(void **state)
{
    struct script *s = script_new_with(&(struct sched_settings){.cache_bodies_bytes = 1});
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = script_run(
        s, 0,
        "{\"name\":\"w\",\"steps\":{\"a\":{\"call\":\"noop\"},\"b\":{\"needs\":[\"a\"],\"call\":\"noop\"},"
        "\"t\":{\"needs\":[\"b\"],\"call\":\"transform\",\"with\":{\"value\":\"${ .steps.a.output.n }\"}}}}");
    script_settle(s);
    script_result(s, 0, script_last(s, "task"), "w", "\"status\":\"succeeded\",\"output\":{\"n\":0.10}");
    script_settle(s);
    script_own(s, 0, 2); /* all caches of it are gone */
    script_settle(s);
    script_advance(s, SEC);
    script_result(s, 0, script_last(s, "task"), "w", "\"status\":\"succeeded\"");
    s->hold_bodies = true;
    script_settle(s);
    assert_int_equal(s->body_count, 1);
    assert_int_equal(script_events(s, run, EVENT_STEP_SUCCEEDED), 1);
    s->hold_bodies = false;
    script_settle(s);
    assert_int_equal(script_events(s, run, EVENT_RUN_SUCCEEDED), 1);
    for (size_t i = 0; i < run->event_count; i++)
        if (str_is(run->events[i].step, "t"))
            assert_true(str_is(run->outputs[i], "0.10"));
    script_free(s);
}

/* ---- pushed to gateways ---- */

static void a_watcher_hears_of_committed_events(void **state)
{
    struct script *s = script_new();
    struct script_run *run;
    char id[UUID_TEXT_SIZE];
    void *delivery;
    const struct sent *update;

    (void)state;
    script_own(s, 0, 1);
    run = script_run(s, 0, NOOP);
    script_settle(s);
    run_id_format(run->id, id);
    delivery = script_deliver(
        s, 0, "watch", "x",
        arena_printf(s->arena, "{\"v\":1,\"run_id\":\"%s\",\"reply_to\":\"gateway.1\",\"from_seq\":1}", id));
    script_settle(s);
    assert_true(script_was_acked(s, delivery));
    update = script_last(s, "update"); /* where it stands: the gateway reads what it has missed */
    assert_string_equal(update->queue, "gateway.1");
    assert_true(str_is(jt_get(update->body, "last_seq"), "2"));
    assert_int_equal(jt_count(jt_get(update->body, "events")), 0);
    assert_false(update->persistent);
    s->hold_commits = true;
    script_result(s, 0, script_last(s, "task"), "w", "\"status\":\"succeeded\",\"output\":{\"a\":1}");
    script_settle(s);
    assert_int_equal(script_count(s, "update"), 1);
    script_commit(s, SCHED_COMMITTED, NULL);
    update = script_last(s, "update");
    assert_int_equal(script_count(s, "update"), 2);
    assert_true(str_is(jt_get(update->body, "ended"), "true"));
    assert_int_equal(jt_count(jt_get(update->body, "events")), 2);
    assert_true(str_is(jt_get(jt_at(jt_get(update->body, "events"), 0), "type"), "\"step.succeeded\""));
    assert_true(str_is(jt_get(jt_at(jt_get(update->body, "events"), 0), "output"), "{\"a\":1}"));
    script_free(s);
}

static void a_watcher_that_is_not_renewed_is_forgotten(void **state)
{
    struct script *s = script_new();
    struct script_run *run;
    struct sched_stats stats;
    char id[UUID_TEXT_SIZE];

    (void)state;
    script_own(s, 0, 1);
    run = script_run(s, 0, NOOP);
    script_settle(s);
    run_id_format(run->id, id);
    script_deliver(s, 0, "watch", "x",
                   arena_printf(s->arena, "{\"v\":1,\"run_id\":\"%s\",\"reply_to\":\"g\",\"from_seq\":0}", id));
    script_advance(s, 29 * SEC);
    sched_get_stats(s->sched, &stats);
    assert_int_equal(stats.watchers, 1);
    script_advance(s, 10 * SEC);
    sched_get_stats(s->sched, &stats);
    assert_int_equal(stats.watchers, 0);
    script_free(s);
}

static void a_verdict_goes_to_the_gateway_that_asked(void **state)
{
    struct script *s = script_new();
    struct script_run *run;
    const struct sent *update;

    (void)state;
    script_own(s, 0, 1);
    run = script_run(s, 0, NOOP);
    script_settle(s);
    script_result(s, 0, script_last(s, "task"), "w", "\"status\":\"succeeded\"");
    script_settle(s);
    script_command(s, run, "cancel", "gateway.2");
    script_advance(s, 2 * SEC);
    update = script_last(s, "update");
    assert_string_equal(update->queue, "gateway.2");
    assert_true(str_is(jt_get(update->body, "command"), "2"));
    assert_true(str_is(jt_get(update->body, "applied"), "false"));
    assert_int_equal(jt_type(jt_get(update->body, "reason")), JT_STRING);
    script_free(s);
}

static void who_started_a_run_and_waits_hears_of_its_end_only(void **state)
{
    struct script *s = script_new();

    (void)state;
    script_own(s, 0, 1);
    script_run(s, 0, CHAIN);
    s->commands[0].row.reply_to = STR("gateway.3");
    script_settle(s);
    script_result(s, 0, script_last(s, "task"), "w", "\"status\":\"succeeded\"");
    script_settle(s);
    assert_int_equal(script_count(s, "update"), 0);
    script_result(s, 0, script_last(s, "task"), "w", "\"status\":\"succeeded\"");
    script_settle(s);
    assert_int_equal(script_count(s, "update"), 1);
    assert_true(str_is(jt_get(script_last(s, "update")->body, "ended"), "true"));
    script_free(s);
}

/* ---- poison ---- */

static void garbage_becomes_a_dead_letter_in_the_batch(void **state)
{
    struct script *s = script_new();
    void *delivery;

    (void)state;
    script_own(s, 0, 1);
    script_settle(s);
    s->hold_commits = true;
    delivery = script_deliver(s, 0, "result", "no task id", "{\"v\":1,\"results\":[{]}");
    script_settle(s);
    assert_int_equal(s->batch->dead_letter_count, 1);
    assert_string_equal(s->batch->dead_letters[0].kind, "message");
    assert_true(str_is(s->batch->dead_letters[0].body, "{\"v\":1,\"results\":[{]}"));
    assert_false(script_was_acked(s, delivery));
    script_commit(s, SCHED_COMMITTED, NULL);
    assert_true(script_was_acked(s, delivery));
    script_free(s);
}

/* A scheduler died between the commit and the acknowledgement, or has not heard of its own commit. */
static void a_dead_letter_that_may_be_written_already_says_so(void **state)
{
    struct script *s = script_new();
    const struct sched_message again = {.delivery = s,
                                        .redelivered = true,
                                        .type = STR("result"),
                                        .message_id = STR("no task id"),
                                        .body = STR("{\"v\":1,\"results\":[{]}")};

    (void)state;
    script_own(s, 0, 1);
    script_settle(s);
    s->hold_commits = true;
    script_deliver(s, 0, "result", "no task id", "{\"v\":1,\"results\":[{]}");
    script_settle(s);
    assert_int_equal(s->batch->dead_letter_count, 1);
    assert_false(s->batch->dead_letters[0].again);
    script_commit(s, SCHED_UNAVAILABLE, NULL); /* certainly not */
    script_advance(s, SEC);
    assert_false(s->batch->dead_letters[0].again);
    script_commit(s, SCHED_UNKNOWN, NULL);
    script_settle(s);
    assert_int_equal(s->batch->dead_letter_count, 1);
    assert_true(s->batch->dead_letters[0].again);
    script_commit(s, SCHED_COMMITTED, NULL);
    sched_on_message(s->sched, &again);
    script_settle(s);
    assert_int_equal(s->batch->dead_letter_count, 1);
    assert_true(s->batch->dead_letters[0].again);
    script_commit(s, SCHED_COMMITTED, NULL);
    script_free(s);
}

/* The iteration and the loop fail with the same code; only the task can be done again. */
static void a_task_that_three_workers_did_not_survive_is_one_dead_letter(void **state)
{
    struct script *s = script_new();

    (void)state;
    script_own(s, 0, 1);
    script_run(s, 0,
               "{\"name\":\"w\",\"steps\":{\"each\":{\"call\":\"foreach\",\"with\":{\"items\":[1],"
               "\"steps\":{\"a\":{\"call\":\"noop\"}}}}}}");
    script_settle(s);
    for (int i = 0; i < 3; i++) {
        s->hold_commits = i == 2;
        script_result(s, 0, script_last(s, "task"), "w", "\"status\":\"abandoned\"");
        script_settle(s);
    }
    assert_int_equal(s->batch->dead_letter_count, 1);
    assert_string_equal(s->batch->dead_letters[0].reason, "poison");
    assert_true(str_is(s->batch->dead_letters[0].step, "each[0].a"));
    script_commit(s, SCHED_COMMITTED, NULL);
    script_free(s);
}

static void garbage_that_names_an_open_attempt_ends_it(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = script_run(s, 0, NOOP);
    script_settle(s);
    script_deliver(s, 0, "result", script_last(s, "task")->id, "\xff\xfe");
    script_settle(s);
    assert_int_equal(script_events(s, run, EVENT_STEP_FAILED), 1);
    script_free(s);
}

/* The token is right, so nobody else will answer for the attempt. */
static void a_result_that_the_schema_refuses_ends_its_attempt(void **state)
{
    static const struct {
        const char *rest, *says;
    } cases[] = {
        {"\"status\":\"done\"", "at '/status'"},
        {"\"status\":\"failed\"", "at '/error'"},
        {"\"status\":\"failed\",\"error\":{\"class\":\"permanent\"}", "at '/error/code'"},
        {"\"status\":\"failed\",\"error\":{\"class\":\"odd\",\"code\":\"c\"}", "at '/error/class'"},
        {"\"status\":\"succeeded\",\"status\":\"failed\"", "at '/status'"},
        {"\"status\":\"succeeded\",\"v\":2", "at '/v'"},
        {"\"status\":\"succeeded\",\"ended_at\":\"soon\"", "a time is none"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct script *s = script_new();
        struct script_run *run;

        script_own(s, 0, 1);
        run = script_run(s, 0, NOOP);
        script_settle(s);
        s->hold_commits = true;
        script_result(s, 0, script_last(s, "task"), "w", cases[i].rest);
        script_settle(s);
        assert_int_equal(s->batch->dead_letter_count, 1);
        assert_non_null(strstr(s->batch->dead_letters[0].reason, cases[i].says));
        script_commit(s, SCHED_COMMITTED, NULL);
        assert_int_equal(script_events(s, run, EVENT_STEP_FAILED), 1);
        script_free(s);
    }
}

static void of_several_results_a_bad_one_does_not_lose_the_others(void **state)
{
    struct script *s = script_new();
    struct script_run *run;
    const struct sent *task;
    struct str token;

    (void)state;
    script_own(s, 0, 1);
    run = script_run(s, 0, NOOP);
    script_settle(s);
    task = script_last(s, "task");
    token = script_token(s, task->id);
    script_deliver(s, 0, "result", "several",
                   arena_printf(s->arena,
                                "{\"v\":1,\"results\":[{\"status\":7},{\"task_id\":\"%s\",\"token\":\"" STR_FMT
                                "\",\"worker\":\"w\",\"status\":\"succe\\u0065ded\"},false]}",
                                task->id, STR_ARG(token)));
    script_settle(s);
    assert_int_equal(script_events(s, run, EVENT_STEP_SUCCEEDED), 1);
    script_free(s);
}

/* One result without a list around it names its version. */
static void a_message_without_a_version_is_refused_as_a_whole(void **state)
{
    static const char *const heads[] = {"", "\"v\":2,", "\"v\":1,"};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct script *s = script_new();
        struct script_run *run;
        const struct sent *task;
        struct str token;

        script_own(s, 0, 1);
        run = script_run(s, 0, NOOP);
        script_settle(s);
        task = script_last(s, "task");
        token = script_token(s, task->id);
        script_deliver(s, 0, "result", "one",
                       arena_printf(s->arena,
                                    "{%s\"task_id\":\"%s\",\"token\":\"" STR_FMT
                                    "\",\"worker\":\"w\",\"status\":\"succeeded\"}",
                                    heads[i], task->id, STR_ARG(token)));
        script_settle(s);
        assert_int_equal(script_events(s, run, i == 2 ? EVENT_STEP_SUCCEEDED : EVENT_STEP_FAILED), 1);
        script_free(s);
    }
}

static void oversized_and_twisted_messages_harm_nobody(void **state)
{
    struct script *s = script_new();
    char *long_id = arena_alloc(s->arena, 5000);
    static const char *const bodies[] = {
        "[]",
        "{\"v\":2,\"results\":[]}",
        "{\"v\":1,\"results\":[]}",
        "{\"v\":1,\"results\":[1,null,\"x\",[]]}",
        "{\"v\":1,\"results\":[{\"task_id\":null,\"token\":7}]}",
        "{\"v\":1,\"task_id\":\"a/b/c/d\",\"token\":\"t\",\"worker\":\"w\",\"status\":\"succeeded\"}",
        "{\"v\":1,\"task_id\":\"\\u0000\\ud800\",\"token\":\"t\",\"worker\":\"w\",\"status\":\"failed\"}",
        "\"\\u12\"",
        "",
    };
    size_t acked;

    (void)state;
    script_own(s, 0, 1);
    script_settle(s);
    memset(long_id, 'a', 4000);
    script_deliver(s, 0, "result", "m",
                   arena_printf(s->arena,
                                "{\"v\":1,\"task_id\":\"%s\",\"token\":\"%064d\",\"worker\":\"w\","
                                "\"status\":\"succeeded\"}",
                                long_id, 1));
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        script_deliver(s, 0, "result", "m", bodies[i]);
        script_deliver(s, 0, "started", "m", bodies[i]);
        script_deliver(s, 0, "watch", "m", bodies[i]);
        script_deliver(s, 0, "nudge", "m", bodies[i]);
        script_deliver(s, 0, "gossip", "m", bodies[i]);
        sched_on_heartbeat(s->sched, str_of(bodies[i]));
    }
    script_settle(s);
    acked = 1 + 5 * sizeof(bodies) / sizeof(bodies[0]);
    assert_int_equal(s->acked_count, acked);
    script_free(s);
}

static void a_suspect_is_quarantined_its_inputs_kept_and_freed_by_a_release(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    run = script_run(s, 0, NOOP);
    sched_suspect(s->sched, run->id);
    script_own(s, 0, 1);
    s->hold_commits = true;
    script_settle(s);
    assert_int_equal(s->batch->quarantine_count, 1);
    script_commit(s, SCHED_COMMITTED, NULL);
    script_settle(s);
    assert_int_equal(s->batch->command_hold_count, 1);
    assert_int_equal(s->batch->event_count, 0);
    script_commit(s, SCHED_COMMITTED, NULL);
    s->hold_commits = false;
    script_settle(s);
    assert_int_equal(script_events(s, run, EVENT_RUN_STARTED), 0);
    script_command(s, run, "release", "gateway.1");
    script_advance(s, 2 * SEC);
    assert_int_equal(script_events(s, run, EVENT_COMMAND_APPLIED), 1);
    assert_int_equal(script_events(s, run, EVENT_RUN_STARTED), 1);
    assert_true(str_is(jt_get(script_last(s, "update")->body, "applied"), "true"));
    script_free(s);
}

static void a_task_that_the_quarantine_kept_back_goes_after_the_release(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    script_settle(s);
    sched_on_broker(s->sched, false);
    run = script_run(s, 0, NOOP);
    script_advance(s, 2 * SEC);
    assert_int_equal(script_events(s, run, EVENT_STEP_DISPATCHED), 1);
    s->hold_commits = true;
    script_command_body(s, run, "signal", "{\"name\":\"go\"}");
    script_advance(s, 2 * SEC);
    script_commit(s, SCHED_REFUSED, NULL);
    script_settle(s);
    assert_int_equal(s->batch->quarantine_count, 1);
    script_commit(s, SCHED_UNKNOWN, NULL); /* so it is read while it is in quarantine */
    s->hold_commits = false;
    script_settle(s);
    sched_on_broker(s->sched, true);
    script_advance(s, 20 * SEC);
    script_advance(s, 2 * SEC);
    assert_int_equal(script_count(s, "task"), 0);
    script_command(s, run, "release", "gateway.1");
    script_advance(s, 2 * SEC);
    assert_int_equal(script_count(s, "task"), 1);
    script_free(s);
}

static void a_history_that_cannot_be_folded_quarantines_its_run_alone(void **state)
{
    struct script *s = script_new();
    struct script_run *bad, *good;

    (void)state;
    bad = script_run(s, 0, NOOP);
    good = script_run(s, 0, NOOP);
    bad->event_count = 1;
    bad->events[0] = (struct sched_event_loaded){.seq = 7, .type = EVENT_RUN_STARTED};
    script_own(s, 0, 1);
    script_settle(s);
    assert_true(s->commands[0].held);
    assert_int_equal(script_events(s, good, EVENT_RUN_STARTED), 1);
    script_command(s, bad, "release", "gateway.1");
    script_advance(s, 2 * SEC);
    assert_true(str_is(jt_get(script_last(s, "update")->body, "applied"), "false"));
    script_free(s);
}

static void an_unknown_command_is_refused_and_kept_as_a_dead_letter(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = script_run(s, 0, NOOP);
    script_settle(s);
    script_command(s, run, "sing", "gateway.1");
    s->hold_commits = true;
    script_advance(s, 2 * SEC);
    assert_int_equal(s->batch->dead_letter_count, 1);
    script_commit(s, SCHED_COMMITTED, NULL);
    assert_int_equal(script_events(s, run, EVENT_COMMAND_REFUSED), 1);
    assert_true(str_is(jt_get(script_last(s, "update")->body, "code"), "\"not_available\""));
    script_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_that_comes_at_once_is_in_the_same_batch),
        cmocka_unit_test(a_batch_waits_two_milliseconds_for_values_and_no_longer),
        cmocka_unit_test(an_expressions_own_fault_fails_its_step),
        cmocka_unit_test(a_long_expression_is_told_in_part),
        cmocka_unit_test(a_child_that_died_of_anothers_fault_is_asked_again_three_times),
        cmocka_unit_test(values_of_a_lost_shard_find_nobody),
        cmocka_unit_test(an_output_that_is_not_cached_is_read_for_the_expression_that_names_it),
        cmocka_unit_test(a_watcher_hears_of_committed_events),
        cmocka_unit_test(a_watcher_that_is_not_renewed_is_forgotten),
        cmocka_unit_test(a_verdict_goes_to_the_gateway_that_asked),
        cmocka_unit_test(who_started_a_run_and_waits_hears_of_its_end_only),
        cmocka_unit_test(garbage_becomes_a_dead_letter_in_the_batch),
        cmocka_unit_test(a_dead_letter_that_may_be_written_already_says_so),
        cmocka_unit_test(a_task_that_three_workers_did_not_survive_is_one_dead_letter),
        cmocka_unit_test(garbage_that_names_an_open_attempt_ends_it),
        cmocka_unit_test(a_result_that_the_schema_refuses_ends_its_attempt),
        cmocka_unit_test(of_several_results_a_bad_one_does_not_lose_the_others),
        cmocka_unit_test(a_message_without_a_version_is_refused_as_a_whole),
        cmocka_unit_test(oversized_and_twisted_messages_harm_nobody),
        cmocka_unit_test(a_suspect_is_quarantined_its_inputs_kept_and_freed_by_a_release),
        cmocka_unit_test(a_task_that_the_quarantine_kept_back_goes_after_the_release),
        cmocka_unit_test(a_history_that_cannot_be_folded_quarantines_its_run_alone),
        cmocka_unit_test(an_unknown_command_is_refused_and_kept_as_a_dead_letter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
