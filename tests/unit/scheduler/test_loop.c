/* The loop: what is committed, what comes after the commit, and what becomes of a batch that was not. */
#include "tests/unit/scheduler/script.h"
#include "common/base/metrics.h"

#include "common/base/banned.h"

static void a_start_is_committed_then_its_task_is_published(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 3, 5);
    s->hold_commits = true;
    run = script_run(s, 3, NOOP);
    script_settle(s);
    assert_non_null(s->batch);
    assert_int_equal(s->batch->shard_count, 1);
    assert_int_equal(s->batch->shards[0], 3);
    assert_int_equal(s->batch->epochs[0], 5);
    assert_int_equal(s->batch->event_count, 2);
    assert_int_equal(s->batch->open_count, 2); /* the run's timeout and the task */
    assert_int_equal(s->batch->run_count, 1);
    assert_int_equal(s->batch->command_delete_count, 1);
    assert_int_equal(script_count(s, "task"), 0);
    s->hold_commits = false;
    script_settle(s);
    assert_int_equal(script_count(s, "task"), 1);
    assert_string_equal(script_last(s, "task")->queue, "ropewalk.task.default.normal");
    assert_true(script_last(s, "task")->persistent);
    assert_int_equal(script_events(s, run, EVENT_STEP_DISPATCHED), 1);
    script_free(s);
}

static void a_task_says_all_that_its_schema_demands(void **state)
{
    struct script *s = script_new();
    struct str body, text;
    const struct sent *task;

    (void)state;
    script_own(s, 0, 1);
    script_run(s, 0,
               "{\"name\":\"w\",\"steps\":{\"a\":{\"call\":\"http\",\"timeout\":\"20s\",\"deadline\":\"1h\","
               "\"delivery\":\"at_most_once\",\"with\":{\"url\":\"https://x.example/\",\"query\":{\"n\":0.1}}}}}");
    script_settle(s);
    task = script_last(s, "task");
    body = task->body;
    assert_true(str_is(jt_get(body, "v"), "1"));
    assert_true(str_is(jt_get(body, "publication"), "1"));
    assert_true(str_is(jt_get(body, "attempt"), "1"));
    assert_true(str_is(jt_get(body, "call"), "\"http\""));
    assert_true(str_is(jt_get(body, "delivery"), "\"at_most_once\""));
    assert_true(str_is(jt_get(body, "organisation"), "\"org1\""));
    assert_true(str_is(jt_get(body, "timeout"), "\"20000ms\""));
    assert_int_equal(jt_type(jt_get(body, "deadline")), JT_STRING);
    assert_true(str_is(jt_get(jt_get(jt_get(body, "with"), "query"), "n"), "0.1"));
    assert_true(str_is(jt_get(body, "reply_to"), "\"ropewalk.inbox.0\""));
    assert_true(jt_string(jt_get(body, "task_id"), s->arena, &text));
    assert_true(str_is(text, task->id));
    assert_true(jt_string(jt_get(body, "token"), s->arena, &text));
    assert_true(str_eq(text, script_token(s, task->id)));
    assert_true(jt_string(jt_get(body, "traceparent"), s->arena, &text));
    assert_int_equal(text.len, 55);
    script_free(s);
}

static void a_result_is_acknowledged_after_commit_and_publication(void **state)
{
    struct script *s = script_new();
    void *delivery;
    int64_t published;

    (void)state;
    script_own(s, 0, 1);
    script_run(s, 0, CHAIN);
    script_settle(s);
    s->hold_commits = true;
    delivery = script_result(s, 0, script_last(s, "task"), "w1", "\"status\":\"succeeded\",\"output\":null");
    script_settle(s);
    assert_non_null(s->batch);
    assert_false(script_was_acked(s, delivery));
    script_commit(s, SCHED_COMMITTED, NULL);
    assert_true(script_was_acked(s, delivery));
    published = script_last(s, "task")->order;
    assert_int_equal(script_count(s, "task"), 2);
    assert_true(s->committed_order < published && published < s->acked[s->acked_count - 1].order);
    s->hold_commits = false;
    script_free(s);
}

static void one_message_may_carry_several_results_or_be_one(void **state)
{
    struct script *s = script_new();
    struct script_run *first, *second;
    const struct sent *a, *b;
    struct str token_a, token_b;
    void *delivery;

    (void)state;
    script_own(s, 0, 1);
    first = script_run(s, 0, NOOP);
    second = script_run(s, 0, CHAIN);
    script_settle(s);
    a = &s->sent[s->sent_count - 2];
    b = &s->sent[s->sent_count - 1];
    token_a = script_token(s, a->id);
    token_b = script_token(s, b->id);
    delivery = script_deliver(
        s, 0, "result", "m",
        arena_printf(s->arena,
                     "{\"v\":1,\"results\":[{\"task_id\":\"%s\",\"token\":\"" STR_FMT
                     "\",\"worker\":\"w\",\"status\":\"succeeded\"},{\"task_id\":\"%s\",\"token\":\"" STR_FMT
                     "\",\"worker\":\"w\",\"status\":\"succeeded\"}]}",
                     a->id, STR_ARG(token_a), b->id, STR_ARG(token_b)));
    script_settle(s);
    assert_true(script_was_acked(s, delivery));
    assert_int_equal(script_events(s, first, EVENT_STEP_SUCCEEDED) + script_events(s, second, EVENT_STEP_SUCCEEDED), 2);
    a = script_last(s, "task");
    token_a = script_token(s, a->id);
    delivery =
        script_deliver(s, 0, "result", "m",
                       arena_printf(s->arena,
                                    "{\"v\":1,\"task_id\":\"%s\",\"token\":\"" STR_FMT
                                    "\",\"worker\":\"w\",\"status\":\"succeeded\",\"output\":{\"a\":\"\\u0041\"}}",
                                    a->id, STR_ARG(token_a)));
    script_settle(s);
    assert_true(script_was_acked(s, delivery));
    assert_int_equal(script_events(s, second, EVENT_RUN_SUCCEEDED), 1);
    script_free(s);
}

static void a_batch_that_changes_nothing_still_asserts_its_epochs(void **state)
{
    struct script *s = script_new();
    struct sent task;
    void *delivery;

    (void)state;
    script_own(s, 2, 9);
    script_run(s, 2, CHAIN);
    script_settle(s);
    task = *script_last(s, "task");
    script_result(s, 2, &task, "w", "\"status\":\"succeeded\"");
    script_settle(s);
    s->hold_commits = true;
    delivery = script_result(s, 2, &task, "w", "\"status\":\"succeeded\""); /* a duplicate */
    script_settle(s);
    assert_non_null(s->batch);
    assert_int_equal(s->batch->event_count, 0);
    assert_int_equal(s->batch->shard_count, 1);
    assert_int_equal(s->batch->epochs[0], 9);
    assert_false(script_was_acked(s, delivery));
    script_commit(s, SCHED_COMMITTED, NULL);
    assert_true(script_was_acked(s, delivery));
    script_free(s);
}

static void a_result_without_the_right_token_is_dropped_and_counted(void **state)
{
    struct script *s = script_new();
    int64_t forged = metric_get(METRIC_RESULTS_FORGED);
    struct sent task;
    void *delivery;

    (void)state;
    script_own(s, 0, 1);
    script_run(s, 0, NOOP);
    script_settle(s);
    task = *script_last(s, "task");
    task.id[strlen(task.id) - 1] = '2'; /* a dispatch that was not given out; the token of another id */
    delivery = script_deliver(
        s, 0, "result", "m",
        arena_printf(s->arena,
                     "{\"v\":1,\"task_id\":\"%s\",\"token\":\"%064d\",\"worker\":\"w\",\"status\":\"succeeded\"}",
                     task.id, 7));
    s->hold_commits = true;
    script_settle(s);
    assert_null(s->batch);
    assert_true(script_was_acked(s, delivery));
    assert_int_equal(metric_get(METRIC_RESULTS_FORGED), forged + 1);
    script_free(s);
}

static void a_batch_ends_at_its_bound_and_the_next_is_collected_meanwhile(void **state)
{
    struct script *s = script_new_with(&(struct sched_settings){.batch_inputs = 3});

    (void)state;
    script_own(s, 0, 1);
    s->hold_commits = true;
    for (int i = 0; i < 5; i++)
        script_run(s, 0, NOOP);
    script_settle(s);
    assert_int_equal(s->batch->command_delete_count, 3);
    script_commit(s, SCHED_COMMITTED, NULL);
    script_settle(s);
    assert_int_equal(s->batch->command_delete_count, 2);
    script_commit(s, SCHED_COMMITTED, NULL);
    script_free(s);
}

static void no_run_is_in_two_batches_at_once(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = script_run(s, 0, "{\"name\":\"w\",\"steps\":{\"a\":{\"call\":\"noop\"},\"b\":{\"call\":\"noop\"}}}");
    script_settle(s);
    s->hold_commits = true;
    script_result(s, 0, &s->sent[0], "w", "\"status\":\"succeeded\"");
    script_settle(s);
    script_result(s, 0, &s->sent[1], "w", "\"status\":\"succeeded\"");
    script_settle(s);
    assert_int_equal(s->batch->event_count, 1);
    script_commit(s, SCHED_COMMITTED, NULL);
    script_settle(s);
    assert_int_equal(s->batch->event_count, 2); /* the second step, and the end of the run */
    script_commit(s, SCHED_COMMITTED, NULL);
    assert_int_equal(script_events(s, run, EVENT_RUN_SUCCEEDED), 1);
    script_free(s);
}

static void a_conflict_takes_out_the_run_that_it_names(void **state)
{
    struct script *s = script_new();
    struct script_run *good, *stale;

    (void)state;
    script_own(s, 0, 1);
    s->hold_commits = true;
    good = script_run(s, 0, NOOP);
    stale = script_run(s, 0, NOOP);
    script_settle(s);
    assert_int_equal(s->batch->run_count, 2);
    script_commit(s, SCHED_CONFLICT, stale);
    s->hold_loads = true;
    s->hold_fetches = true;
    script_settle(s);
    assert_int_equal(s->batch->run_count, 1);
    assert_true(run_id_eq(s->batch->runs[0].run, good->id));
    script_commit(s, SCHED_COMMITTED, NULL);
    s->hold_loads = s->hold_fetches = s->hold_commits = false;
    script_settle(s); /* read again, and its command, too */
    assert_int_equal(script_events(s, stale, EVENT_RUN_STARTED), 1);
    script_free(s);
}

static void refused_data_is_halved_until_the_run_is_alone_then_quarantined(void **state)
{
    struct script *s = script_new();
    struct script_run *runs[4];
    size_t tries = 0;

    (void)state;
    script_own(s, 0, 1);
    s->hold_commits = true;
    for (int i = 0; i < 4; i++)
        runs[i] = script_run(s, 0, NOOP);
    script_settle(s);
    while (s->batch != NULL && tries < 20) {
        bool guilty = false;

        for (size_t i = 0; i < s->batch->event_count; i++)
            guilty = guilty || run_id_eq(s->batch->events[i].run, runs[2]->id);
        if (s->batch->quarantine_count > 0) {
            assert_true(run_id_eq(s->batch->quarantines[0].run, runs[2]->id));
            assert_int_equal(s->batch->command_hold_count, 1); /* its start is kept */
            assert_int_equal(s->batch->event_count, 0);
        }
        script_commit(s, guilty ? SCHED_REFUSED : SCHED_COMMITTED, NULL);
        script_settle(s);
        tries++;
    }
    for (int i = 0; i < 4; i++)
        assert_int_equal(script_events(s, runs[i], EVENT_RUN_STARTED), i == 2 ? 0 : 1);
    assert_true(s->commands[2].held && !s->commands[2].gone);
    script_free(s);
}

static void after_an_unknown_commit_runs_are_read_and_their_tasks_published_again(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    s->hold_commits = true;
    run = script_run(s, 0, NOOP);
    script_settle(s);
    write_as_if_committed(s);
    script_commit(s, SCHED_UNKNOWN, NULL);
    s->hold_commits = false;
    script_settle(s);
    assert_int_equal(script_events(s, run, EVENT_RUN_STARTED), 1);
    assert_int_equal(script_count(s, "task"), 1);
    assert_true(str_is(jt_get(script_last(s, "task")->body, "publication"), "2")); /* for all we know */
    script_free(s);
}

/* Nothing waits for the run that would have it read: its task is out in the table, and nowhere else. */
static void a_run_that_could_not_be_read_after_an_unknown_commit_is_read_again(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    s->hold_commits = true;
    run = script_run(s, 0, NOOP);
    script_settle(s);
    write_as_if_committed(s);
    s->fail_loads = 3;
    script_commit(s, SCHED_UNKNOWN, NULL);
    s->hold_commits = false;
    script_advance(s, 30 * SEC);
    assert_int_equal(s->fail_loads, 0);
    assert_int_equal(script_events(s, run, EVENT_RUN_STARTED), 1);
    assert_int_equal(script_count(s, "task"), 1);
    script_free(s);
}

static void a_batch_that_could_not_be_sent_is_sent_again(void **state)
{
    struct script *s = script_new();
    size_t loads;

    (void)state;
    script_own(s, 0, 1);
    s->hold_commits = true;
    script_run(s, 0, NOOP);
    script_settle(s);
    loads = s->load_count;
    script_commit(s, SCHED_UNAVAILABLE, NULL);
    script_settle(s);
    assert_null(s->batch);
    assert_true(s->wake > s->now && s->wake <= s->now + SEC);
    script_advance(s, 100 * MS);
    assert_non_null(s->batch);
    assert_int_equal(s->load_count, loads);
    script_commit(s, SCHED_COMMITTED, NULL);
    assert_int_equal(script_count(s, "task"), 1);
    script_free(s);
}

static void a_command_seen_twice_is_applied_once(void **state)
{
    struct script *s = script_new();
    struct script_run *run;
    struct sched_command stale;

    (void)state;
    script_own(s, 0, 1);
    run = script_run(s, 0, CHAIN);
    stale = s->commands[0].row;
    s->hold_commits = true;
    script_settle(s);
    script_deliver(s, 0, "nudge", "n", "{\"v\":1,\"shard\":0}");
    s->hold_fetches = true;
    script_settle(s);
    assert_true(s->fetching); /* asked before the commit ... */
    script_commit(s, SCHED_COMMITTED, NULL);
    sched_on_commands(s->sched, s->fetch, &stale, 1, true, false); /* ... answered with what was there then */
    s->fetching = false;
    script_settle(s);
    assert_null(s->batch);
    assert_int_equal(script_events(s, run, EVENT_RUN_STARTED), 1);
    script_free(s);
}

/* The first has to be fetched again: the second, which was in memory behind it, may not overtake it. */
static void commands_of_a_run_keep_their_order_when_a_batch_fails(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = script_run(s, 0, "{\"name\":\"w\",\"steps\":{\"a\":{\"call\":\"delay\",\"with\":{\"duration\":\"1h\"}}}}");
    script_settle(s);
    s->hold_commits = true;
    script_command(s, run, "pause", NULL);
    script_advance(s, 2 * SEC);
    assert_int_equal(s->batch->command_delete_count, 1);
    script_command(s, run, "resume", NULL);
    script_advance(s, 2 * SEC);
    script_commit(s, SCHED_CONFLICT, run);
    s->hold_commits = false;
    script_advance(s, 5 * SEC);
    assert_int_equal(script_events(s, run, EVENT_RUN_PAUSED), 1);
    assert_int_equal(script_events(s, run, EVENT_RUN_RESUMED), 1);
    script_free(s);
}

static void an_input_of_a_newer_attempt_reloads_and_is_never_dropped(void **state)
{
    struct script *s = script_new();
    struct script_run *run;
    struct sent task;
    void *delivery;

    (void)state;
    script_own(s, 0, 1);
    run = script_run(s, 0, NOOP);
    script_settle(s);
    task = *script_last(s, "task");
    task.id[strlen(task.id) - 3] = '2'; /* attempt 2: another owner has opened it */
    run->events[run->event_count] = (struct sched_event_loaded){.seq = 3,
                                                                .type = EVENT_ATTEMPT_FAILED,
                                                                .at = {1800000000 * SEC},
                                                                .step = STR("a"),
                                                                .attempt = 1,
                                                                .data = STR("{\"code\":\"x\",\"class\":\"transient\","
                                                                            "\"generation\":1}")};
    run->events[run->event_count + 1] = (struct sched_event_loaded){.seq = 4,
                                                                    .type = EVENT_STEP_DISPATCHED,
                                                                    .at = {1800000000 * SEC},
                                                                    .step = STR("a"),
                                                                    .attempt = 2,
                                                                    .data = STR("{\"generation\":1}")};
    run->event_count += 2;
    for (size_t w = 0; w < run->work_count; w++)
        if (run->work[w].kind == WORK_TASK)
            run->work[w].seq = 4, run->work[w].attempt = 2;
    delivery = script_result(s, 0, &task, "w", "\"status\":\"succeeded\"");
    script_advance(s, 2 * SEC);
    assert_true(script_was_acked(s, delivery));
    assert_int_equal(script_events(s, run, EVENT_RUN_SUCCEEDED), 1);
    script_free(s);
}

static void what_names_a_future_that_never_comes_ends_as_a_dead_letter(void **state)
{
    struct script *s = script_new();
    struct sent task;
    void *delivery;

    (void)state;
    script_own(s, 0, 1);
    script_run(s, 0, NOOP);
    script_settle(s);
    task = *script_last(s, "task");
    task.id[strlen(task.id) - 3] = '9';
    s->hold_commits = true;
    delivery = script_result(s, 0, &task, "w", "\"status\":\"succeeded\"");
    script_advance(s, 30 * SEC);
    assert_false(script_was_acked(s, delivery));
    script_advance(s, 60 * SEC);
    assert_non_null(s->batch);
    assert_int_equal(s->batch->dead_letter_count, 1);
    assert_true(s->batch->dead_letters[0].has_run);
    script_commit(s, SCHED_COMMITTED, NULL);
    assert_true(script_was_acked(s, delivery));
    script_free(s);
}

static void the_journal_is_entered_around_everything_that_is_applied(void **state)
{
    struct script *s = script_new();

    (void)state;
    script_own(s, 0, 1);
    script_run(s, 0, NOOP);
    script_settle(s);
    assert_true(s->entered >= 2); /* the fold and the start */
    assert_int_equal(s->entered, s->left);
    script_free(s);
}

static void a_full_cache_forgets_runs_and_reads_them_again(void **state)
{
    struct script *s = script_new_with(&(struct sched_settings){.cache_runs_bytes = 1, .cache_bodies_bytes = 1});
    struct script_run *run;
    struct sched_stats stats;

    (void)state;
    script_own(s, 0, 1);
    run = script_run(s, 0, CHAIN);
    script_settle(s);
    sched_get_stats(s->sched, &stats);
    assert_int_equal(stats.runs_cached, 0);
    script_result(s, 0, script_last(s, "task"), "w", "\"status\":\"succeeded\"");
    script_settle(s);
    script_result(s, 0, script_last(s, "task"), "w", "\"status\":\"succeeded\"");
    script_settle(s);
    assert_int_equal(script_events(s, run, EVENT_RUN_SUCCEEDED), 1);
    script_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_start_is_committed_then_its_task_is_published),
        cmocka_unit_test(a_task_says_all_that_its_schema_demands),
        cmocka_unit_test(a_result_is_acknowledged_after_commit_and_publication),
        cmocka_unit_test(one_message_may_carry_several_results_or_be_one),
        cmocka_unit_test(a_batch_that_changes_nothing_still_asserts_its_epochs),
        cmocka_unit_test(a_result_without_the_right_token_is_dropped_and_counted),
        cmocka_unit_test(a_batch_ends_at_its_bound_and_the_next_is_collected_meanwhile),
        cmocka_unit_test(no_run_is_in_two_batches_at_once),
        cmocka_unit_test(a_conflict_takes_out_the_run_that_it_names),
        cmocka_unit_test(refused_data_is_halved_until_the_run_is_alone_then_quarantined),
        cmocka_unit_test(after_an_unknown_commit_runs_are_read_and_their_tasks_published_again),
        cmocka_unit_test(a_run_that_could_not_be_read_after_an_unknown_commit_is_read_again),
        cmocka_unit_test(a_batch_that_could_not_be_sent_is_sent_again),
        cmocka_unit_test(a_command_seen_twice_is_applied_once),
        cmocka_unit_test(commands_of_a_run_keep_their_order_when_a_batch_fails),
        cmocka_unit_test(an_input_of_a_newer_attempt_reloads_and_is_never_dropped),
        cmocka_unit_test(what_names_a_future_that_never_comes_ends_as_a_dead_letter),
        cmocka_unit_test(the_journal_is_entered_around_everything_that_is_applied),
        cmocka_unit_test(a_full_cache_forgets_runs_and_reads_them_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
