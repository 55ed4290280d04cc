/* Tasks on their way: windows, fairness, confirms, overdue ones, leases, grants, deferrals. */
#include "tests/unit/scheduler/script.h"

#include "common/base/banned.h"

#define QUEUE "ropewalk.task.default.normal"
#define GRANTED                                                                                                        \
    "{\"name\":\"w\",\"steps\":{\"a\":{\"call\":\"http\",\"delivery\":\"at_most_once\","                               \
    "\"with\":{\"url\":\"https://x.example/\"}}}}"

static size_t to_queue(const struct script *s)
{
    size_t n = 0;

    for (size_t i = 0; i < s->sent_count; i++)
        n += strcmp(s->sent[i].queue, QUEUE) == 0;
    return n;
}

static size_t asked_depth(const struct script *s, const char *queue)
{
    size_t n = 0;

    for (size_t i = 0; i < s->depth_count && i < 200; i++)
        n += strcmp(s->depths[i], queue) == 0;
    return n;
}

static void beyond_the_window_tasks_stay_in_the_backlog(void **state)
{
    struct script *s = script_new();

    (void)state;
    script_own(s, 0, 1);
    for (int i = 0; i < 100; i++)
        script_run(s, 0, NOOP);
    script_settle(s);
    assert_int_equal(to_queue(s), 16);
    assert_int_equal(asked_depth(s, QUEUE), 1);
    script_depth(s, QUEUE, 12, 1); /* four have been taken, which does not hurry */
    assert_int_equal(to_queue(s), 16);
    script_result(s, 0, &s->sent[0], "w", "\"status\":\"succeeded\""); /* one heard of: room for one */
    script_settle(s);
    assert_int_equal(to_queue(s), 17);
    script_free(s);
}

static void a_window_grows_fast_while_workers_find_the_queue_empty_and_shrinks_when_they_do_not(void **state)
{
    static const size_t sent[] = {16, 32, 64, 128, 192};
    struct script *s = script_new();

    (void)state;
    script_own(s, 0, 1);
    for (int i = 0; i < 400; i++)
        script_run(s, 0, NOOP);
    script_settle(s);
    assert_int_equal(to_queue(s), sent[0]);
    for (size_t i = 1; i < sizeof(sent) / sizeof(sent[0]); i++) {
        script_depth(s, QUEUE, 0, 1);
        assert_int_equal(to_queue(s), sent[i]);
        script_advance(s, 100 * MS);
    }
    for (int i = 0; i < 20; i++) { /* busy now: what is there stays there */
        script_depth(s, QUEUE, 40, 1);
        script_advance(s, 100 * MS);
    }
    script_depth(s, QUEUE, 3, 1);
    assert_int_equal(to_queue(s), 200); /* at the first of these looks the window was still longer than 40 */
    script_free(s);
}

/* The queue is full of another scheduler's messages, each time we look: our organisations have their places all the
 * same, by weight, and no more. */
static void a_queue_that_others_keep_full_has_places_for_each_organisation(void **state)
{
    struct script *s = script_new();
    size_t of[3] = {0};

    (void)state;
    s->weights[1] = 1;
    s->weights[2] = 3;
    script_own(s, 0, 1);
    for (int i = 0; i < 200; i++)
        script_run(s, 0, NOOP)->organisation = i < 100 ? 1 : 2;
    script_settle(s);
    for (int i = 0; i < 8; i++) {
        script_advance(s, 50 * MS);
        script_depth(s, QUEUE, 100, 1);
        script_advance(s, 50 * MS);
        for (size_t k = s->sent_count; k-- > 0;) {
            if (strcmp(s->sent[k].queue, QUEUE) != 0 || s->sent[k].answered)
                continue;
            s->sent[k].answered = true;
            script_result(s, 0, &s->sent[k], "w", "\"status\":\"succeeded\"");
            of[str_is(jt_get(s->sent[k].body, "organisation"), "\"org1\"") ? 1 : 2]++;
        }
        script_settle(s);
    }
    assert_in_range(of[1], 8, 60);
    assert_in_range(of[2] * 10, of[1] * 20, of[1] * 40);
    script_free(s);
}

/* One whose task has not been handed over. */
static const struct script_run *in_line(const struct script *s)
{
    for (size_t r = 0; r < s->run_count; r++) {
        bool sent = false;
        char id[UUID_TEXT_SIZE];

        run_id_format(s->runs[r].id, id);
        for (size_t i = 0; i < s->sent_count; i++)
            sent |= strncmp(s->sent[i].id, id, strlen(id)) == 0;
        if (!sent)
            return &s->runs[r];
    }
    return NULL;
}

static void tasks_of_a_paused_run_leave_the_line_and_stand_in_it_again(void **state)
{
    struct script *s = script_new();
    const struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    for (int i = 0; i < 30; i++)
        script_run(s, 0, NOOP);
    script_settle(s);
    assert_int_equal(to_queue(s), 16);
    run = in_line(s);
    assert_non_null(run);
    script_command_body(s, run, "pause", "{\"by\":\"ann\"}");
    script_advance(s, 2 * SEC);
    script_depth(s, QUEUE, 0, 1);
    assert_int_equal(to_queue(s), 29);
    assert_ptr_equal(in_line(s), run);
    script_command_body(s, run, "resume", "{}");
    script_advance(s, 2 * SEC);
    assert_int_equal(to_queue(s), 30);
    script_free(s);
}

struct one_queue {
    struct sched_queue_stat stat;
    size_t count;
};

static void note_queue(void *ctx, const struct sched_queue_stat *stat)
{
    struct one_queue *one = ctx;

    one->stat = *stat;
    one->count++;
}

static int consumers_told(struct script *s)
{
    struct one_queue one = {.count = 0};

    sched_each_queue(s->sched, note_queue, &one);
    assert_int_equal(one.count, 1);
    return one.stat.consumers;
}

/* A depth costs a question to the broker. That nobody begins a task is worth one: is there anybody? */
static void without_a_backlog_depths_are_asked_for_only_when_nobody_begins_what_is_out(void **state)
{
    struct script *s = script_new();

    (void)state;
    script_own(s, 0, 1);
    script_run(s, 0, NOOP);
    script_advance(s, SEC);
    assert_int_equal(s->depth_count, 0);
    assert_int_equal(consumers_told(s), -1);
    script_advance(s, 2 * SEC);
    assert_int_equal(s->depth_count, 1);
    script_depth(s, QUEUE, 1, 0);
    assert_int_equal(consumers_told(s), 0);
    script_advance(s, 2 * SEC);
    script_depth(s, QUEUE, 0, 1);
    assert_int_equal(consumers_told(s), 1);
    script_result(s, 0, &s->sent[0], "w", "\"status\":\"succeeded\"");
    script_settle(s);
    s->depth_count = 0;
    script_advance(s, 10 * SEC);
    assert_int_equal(s->depth_count, 0);
    script_free(s);
}

static void the_backlog_is_released_round_robin_by_weight(void **state)
{
    struct script *s = script_new_with(&(struct sched_settings){.window_min = 4, .window_max = 4});
    size_t of[3] = {0};

    (void)state;
    s->weights[1] = 1;
    s->weights[2] = 3;
    script_own(s, 0, 1);
    for (int i = 0; i < 40; i++)
        script_run(s, 0, NOOP)->organisation = i < 20 ? 1 : 2;
    script_settle(s);
    assert_int_equal(to_queue(s), 4);
    for (int round = 0; round < 4; round++) {
        script_advance(s, 100 * MS);
        script_depth(s, QUEUE, 0, 1);
    }
    assert_int_equal(to_queue(s), 20);
    for (size_t i = 4; i < 20; i++)
        of[str_is(jt_get(s->sent[i].body, "organisation"), "\"org1\"") ? 1 : 2]++;
    assert_int_equal(of[1], 4);
    assert_int_equal(of[2], 12);
    script_free(s);
}

/* Of a backlog that is in memory, too. */
static void a_changed_weight_holds_from_the_next_turn_on(void **state)
{
    struct script *s = script_new_with(&(struct sched_settings){.window_min = 4, .window_max = 4});
    const struct sched_organisation changed = {.id = 2, .weight = 3, .limits = STR("{}")};
    size_t of[3] = {0};

    (void)state;
    s->weights[1] = s->weights[2] = 1;
    script_own(s, 0, 1);
    for (int i = 0; i < 40; i++)
        script_run(s, 0, NOOP)->organisation = i < 20 ? 1 : 2;
    script_settle(s);
    assert_int_equal(to_queue(s), 4);
    assert_false(sched_on_organisations(s->sched, &changed, 1)); /* no limit of running runs was raised */
    for (int round = 0; round < 4; round++) {
        script_advance(s, 100 * MS);
        script_depth(s, QUEUE, 0, 1);
    }
    for (size_t i = 4; i < 20; i++)
        of[str_is(jt_get(s->sent[i].body, "organisation"), "\"org1\"") ? 1 : 2]++;
    assert_in_range(of[2], 11, 13); /* one turn was of the old weight when the change came */
    script_free(s);
}

/* Windows are each queue's own: neither a full one nor a long backlog holds up another class. */
static void a_critical_task_passes_a_backlog_of_background_ones(void **state)
{
    struct script *s = script_new();
    const struct sent *task;
    size_t critical = 0;

    (void)state;
    script_own(s, 0, 1);
    for (int i = 0; i < 500; i++)
        script_run(s, 0, "{\"name\":\"w\",\"priority\":\"low\",\"steps\":{\"a\":{\"call\":\"noop\"}}}");
    script_settle(s);
    assert_int_equal(script_count(s, "task"), 16);
    script_run(s, 0, "{\"name\":\"w\",\"steps\":{\"a\":{\"call\":\"noop\",\"priority\":\"critical\"}}}");
    script_deliver(s, 0, "nudge", "n", "{\"v\":1,\"shard\":0}");
    script_settle(s);
    assert_int_equal(script_count(s, "task"), 17);
    task = script_last(s, "task");
    assert_string_equal(task->queue, "ropewalk.task.default.critical");
    script_own(s, 0, 2); /* nor does it when the shard is read anew */
    script_settle(s);
    for (size_t i = 0; i < s->sent_count; i++)
        critical += strcmp(s->sent[i].queue, task->queue) == 0 && strcmp(s->sent[i].id, task->id) == 0;
    assert_int_equal(critical, 2);
    script_free(s);
}

static void what_is_not_confirmed_is_published_again_after_a_pause(void **state)
{
    struct script *s = script_new();

    (void)state;
    script_own(s, 0, 1);
    script_run(s, 0, NOOP);
    script_settle(s);
    sched_on_confirm(s->sched, script_last(s, "task")->confirm, SCHED_NOT_CONFIRMED);
    script_settle(s);
    assert_int_equal(script_count(s, "task"), 1);
    script_advance(s, SEC);
    assert_int_equal(script_count(s, "task"), 2);
    assert_true(str_is(jt_get(script_last(s, "task")->body, "publication"), "2"));
    sched_on_confirm(s->sched, script_last(s, "task")->confirm, SCHED_CONFIRMED);
    script_advance(s, SEC);
    assert_int_equal(script_count(s, "task"), 2);
    script_free(s);
}

static void nothing_is_published_while_the_broker_is_away(void **state)
{
    struct script *s = script_new();

    (void)state;
    script_own(s, 0, 1);
    sched_on_broker(s->sched, false);
    script_run(s, 0, NOOP);
    script_advance(s, SEC);
    assert_int_equal(script_count(s, "task"), 0);
    sched_on_broker(s->sched, true);
    script_settle(s);
    assert_int_equal(script_count(s, "task"), 1);
    script_free(s);
}

static void an_unheard_task_is_overdue_when_its_queue_was_seen_empty(void **state)
{
    struct script *s = script_new();

    (void)state;
    script_own(s, 0, 1);
    script_run(s, 0, NOOP);
    script_advance(s, 14 * SEC);
    script_depth(s, QUEUE, 0, 1); /* not for long enough */
    assert_int_equal(script_count(s, "task"), 1);
    script_advance(s, 2 * SEC);
    assert_true(asked_depth(s, QUEUE) >= 1);
    script_depth(s, QUEUE, 1, 1); /* it waits there */
    assert_int_equal(script_count(s, "task"), 1);
    script_advance(s, 2 * SEC);
    script_depth(s, QUEUE, 0, 0); /* nobody consumes: nobody is to blame */
    assert_int_equal(script_count(s, "task"), 1);
    script_advance(s, 2 * SEC);
    script_depth(s, QUEUE, 0, 2); /* consumers that have only just come */
    assert_int_equal(script_count(s, "task"), 1);
    script_advance(s, 16 * SEC);
    script_depth(s, QUEUE, 0, 2);
    assert_int_equal(script_count(s, "task"), 2);
    /* again only after twice the time */
    script_advance(s, 20 * SEC);
    script_depth(s, QUEUE, 0, 2);
    assert_int_equal(script_count(s, "task"), 2);
    script_advance(s, 12 * SEC);
    script_depth(s, QUEUE, 0, 2);
    assert_int_equal(script_count(s, "task"), 3);
    assert_string_equal(s->sent[0].id, script_last(s, "task")->id);
    script_free(s);
}

static void an_unheard_task_is_overdue_when_a_later_one_has_begun(void **state)
{
    struct script *s = script_new();

    (void)state;
    script_own(s, 0, 1);
    script_run(s, 0, NOOP);
    script_settle(s);
    script_run(s, 0, NOOP);
    script_advance(s, 2 * SEC); /* also without a nudge */
    assert_int_equal(script_count(s, "task"), 2);
    script_result(s, 0, &s->sent[1], "w", "\"status\":\"succeeded\"");
    script_advance(s, 16 * SEC);
    script_depth(s, QUEUE, 5, 1);
    assert_int_equal(script_count(s, "task"), 3);
    assert_string_equal(s->sent[2].id, s->sent[0].id);
    script_free(s);
}

static void after_a_restart_of_the_broker_what_was_in_its_memory_is_published_again(void **state)
{
    struct script *s = script_new();

    (void)state;
    script_own(s, 0, 1);
    script_run(s, 0, NOOP);
    script_settle(s);
    assert_true(s->sent[0].in_memory);
    sched_on_broker(s->sched, false);
    script_advance(s, SEC / 2);
    sched_on_broker(s->sched, true);
    script_advance(s, SEC / 10);
    assert_true(asked_depth(s, QUEUE) >= 1); /* at once */
    script_depth(s, QUEUE, 0, 1);
    assert_int_equal(script_count(s, "task"), 1); /* a worker may have it that need not ask yet */
    script_advance(s, 3 * SEC);
    script_depth(s, QUEUE, 0, 0); /* nor workers that would have it */
    assert_int_equal(script_count(s, "task"), 2);
    assert_string_equal(s->sent[0].id, script_last(s, "task")->id);
    script_advance(s, 3 * SEC);
    script_depth(s, QUEUE, 0, 1); /* the broker has not been away since */
    assert_int_equal(script_count(s, "task"), 2);
    script_free(s);
}

static void after_a_loss_of_the_connection_what_the_queue_has_kept_waits_there(void **state)
{
    struct script *s = script_new();

    (void)state;
    script_own(s, 0, 1);
    script_run(s, 0, NOOP);
    script_settle(s);
    sched_on_broker(s->sched, false);
    script_advance(s, SEC);
    sched_on_broker(s->sched, true);
    script_advance(s, 3 * SEC);
    script_depth(s, QUEUE, 1, 1);
    assert_int_equal(script_count(s, "task"), 1);
    script_run(s, 0, NOOP);
    script_advance(s, 2 * SEC); /* also without a nudge */
    assert_int_equal(script_count(s, "task"), 2);
    script_result(s, 0, script_last(s, "task"), "w", "\"status\":\"succeeded\"");
    script_advance(s, 2 * SEC);
    script_depth(s, QUEUE, 5, 1); /* a later one has begun: it was lost after all, and these are others' */
    assert_int_equal(script_count(s, "task"), 3);
    assert_string_equal(s->sent[0].id, script_last(s, "task")->id);
    script_free(s);
}

static void what_a_grant_may_be_under_way_for_is_kept_over_restarts(void **state)
{
    struct script *s = script_new();

    (void)state;
    script_own(s, 0, 1);
    script_run(s, 0, GRANTED);
    script_settle(s);
    assert_true(script_last(s, "task")->persistent && !script_last(s, "task")->in_memory);
    script_free(s);
}

static void a_started_task_lives_by_its_lease(void **state)
{
    struct script *s = script_new();
    struct script_run *run;
    struct sent task;

    (void)state;
    script_own(s, 0, 1);
    run = script_run(s, 0, NOOP);
    script_settle(s);
    task = *script_last(s, "task");
    script_started(s, 0, &task, "w1");
    for (int i = 0; i < 10; i++) {
        script_advance(s, 2 * SEC);
        script_heartbeat(s, "w1", &task);
    }
    assert_int_equal(script_count(s, "task"), 1); /* not overdue, not lost */
    script_advance(s, 7 * SEC);
    assert_true(asked_depth(s, "ropewalk.inbox.0") >= 1);
    script_depth(s, "ropewalk.inbox.0", 3, 1); /* unread messages: who knows what they say */
    assert_int_equal(script_events(s, run, EVENT_ATTEMPT_FAILED), 0);
    script_advance(s, SEC);
    script_depth(s, "ropewalk.inbox.0", 0, 1);
    assert_int_equal(script_events(s, run, EVENT_ATTEMPT_FAILED), 1);
    assert_int_equal(script_count(s, "task"), 2); /* attempt 2, at once */
    assert_true(str_is(jt_get(script_last(s, "task")->body, "attempt"), "2"));
    script_free(s);
}

static void a_heartbeat_in_time_saves_a_doubted_lease(void **state)
{
    struct script *s = script_new();
    struct script_run *run;
    struct sent task;

    (void)state;
    script_own(s, 0, 1);
    run = script_run(s, 0, NOOP);
    script_settle(s);
    task = *script_last(s, "task");
    script_heartbeat(s, "w1", &task); /* opens the lease as `started` would */
    script_advance(s, 7 * SEC);
    script_heartbeat(s, "w1", &task);
    script_depth(s, "ropewalk.inbox.0", 0, 1);
    script_advance(s, SEC);
    assert_int_equal(script_events(s, run, EVENT_ATTEMPT_FAILED), 0);
    script_free(s);
}

static void no_lease_lapses_before_the_broker_was_there_for_a_whole_lease(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = script_run(s, 0, NOOP);
    script_settle(s);
    script_started(s, 0, script_last(s, "task"), "w1");
    script_advance(s, 5 * SEC);
    sched_on_broker(s->sched, false);
    script_advance(s, 20 * SEC);
    sched_on_broker(s->sched, true);
    script_advance(s, 5 * SEC);
    assert_int_equal(asked_depth(s, "ropewalk.inbox.0"), 0);
    script_advance(s, 2 * SEC);
    script_depth(s, "ropewalk.inbox.0", 0, 1);
    script_advance(s, SEC);
    script_depth(s, "ropewalk.inbox.0", 0, 1);
    assert_int_equal(script_events(s, run, EVENT_ATTEMPT_FAILED), 1);
    script_free(s);
}

static void a_grant_comes_after_its_commit_and_only_once(void **state)
{
    struct script *s = script_new();
    struct script_run *run;
    struct sent task;

    (void)state;
    script_own(s, 0, 1);
    run = script_run(s, 0, GRANTED);
    script_settle(s);
    task = *script_last(s, "task");
    s->hold_commits = true;
    script_started(s, 0, &task, "w1");
    script_settle(s);
    assert_int_equal(script_count(s, "grant"), 0);
    script_commit(s, SCHED_COMMITTED, NULL);
    s->hold_commits = false;
    assert_int_equal(script_events(s, run, EVENT_STEP_STARTED), 1);
    assert_int_equal(script_count(s, "grant"), 1);
    assert_string_equal(script_last(s, "grant")->queue, "ropewalk.worker.w1");
    assert_true(str_is(jt_get(script_last(s, "grant")->body, "go"), "true"));
    script_started(s, 0, &task, "w2"); /* another copy */
    script_settle(s);
    assert_string_equal(script_last(s, "grant")->queue, "ropewalk.worker.w2");
    assert_true(str_is(jt_get(script_last(s, "grant")->body, "go"), "false"));
    script_started(s, 0, &task, "w1"); /* its answer was lost */
    script_settle(s);
    assert_string_equal(script_last(s, "grant")->queue, "ropewalk.worker.w1");
    assert_true(str_is(jt_get(script_last(s, "grant")->body, "go"), "true"));
    script_free(s);
}

static void of_a_granted_task_only_its_worker_keeps_the_lease(void **state)
{
    struct script *s = script_new();
    struct script_run *run;
    struct sent task;

    (void)state;
    script_own(s, 0, 1);
    run = script_run(s, 0, GRANTED);
    script_settle(s);
    task = *script_last(s, "task");
    script_started(s, 0, &task, "w1");
    for (int i = 0; i < 4; i++) {
        script_advance(s, 2 * SEC);
        script_heartbeat(s, "w2", &task);
    }
    script_depth(s, "ropewalk.inbox.0", 0, 1);
    assert_int_equal(script_events(s, run, EVENT_STEP_OUTCOME_UNKNOWN), 1);
    assert_int_equal(script_count(s, "task"), 1);
    script_free(s);
}

static void a_deferral_is_another_dispatch_and_waits_for_its_time(void **state)
{
    struct script *s = script_new();
    struct script_run *run;
    struct sent task;
    size_t events;

    (void)state;
    script_own(s, 0, 1);
    run = script_run(s, 0, NOOP);
    script_settle(s);
    task = *script_last(s, "task");
    events = run->event_count;
    s->hold_commits = true;
    script_result(s, 0, &task, "w",
                  "\"status\":\"deferred\",\"error\":{\"class\":\"transient\",\"code\":\"rate_limited\","
                  "\"retry_after\":\"3s\"}");
    script_settle(s);
    assert_int_equal(s->batch->event_count, 0);
    assert_int_equal(s->batch->change_count, 1);
    assert_int_equal(s->batch->changes[0].dispatch, 2);
    assert_string_equal(s->batch->changes[0].reason, "rate_limited");
    script_commit(s, SCHED_COMMITTED, NULL);
    s->hold_commits = false;
    script_advance(s, SEC);
    assert_int_equal(script_count(s, "task"), 1);
    script_own(s, 0, 2); /* its next owner waits, too */
    script_advance(s, SEC);
    assert_int_equal(script_count(s, "task"), 1);
    script_advance(s, 2 * SEC);
    assert_int_equal(script_count(s, "task"), 2);
    assert_string_not_equal(script_last(s, "task")->id, task.id);
    assert_int_equal(run->event_count, events);
    script_free(s);
}

/* A run of one noop step whose result has an output of so many bytes: how it ended. */
static enum event_type end_with_output(struct script *s, size_t bytes)
{
    struct script_run *run = script_run(s, 0, NOOP);
    char body[2200] = "\"status\":\"succeeded\",\"output\":\"";
    size_t at = strlen(body);

    memset(body + at, 'x', bytes - 2);
    snprintf(body + at + bytes - 2, 3, "\"");
    script_deliver(s, 0, "nudge", "n", "{\"v\":1,\"shard\":0}");
    script_settle(s);
    script_result(s, 0, script_last(s, "task"), "w", body);
    script_settle(s);
    assert_int_equal(script_events(s, run, EVENT_STEP_SUCCEEDED) + script_events(s, run, EVENT_STEP_FAILED), 1);
    return script_events(s, run, EVENT_STEP_SUCCEEDED) == 1 ? EVENT_STEP_SUCCEEDED : EVENT_STEP_FAILED;
}

static void an_output_over_the_limit_fails_for_good_whoever_sends_it(void **state)
{
    struct script *s = script_new_with(&(struct sched_settings){
        .limits = {.standard = {.of = {[LIMIT_OUTPUT_BYTES] = 1024, [LIMIT_RUN_DAYS] = 366}}}});

    (void)state;
    script_own(s, 0, 1);
    assert_int_equal(end_with_output(s, 1024), EVENT_STEP_SUCCEEDED);
    assert_int_equal(end_with_output(s, 1025), EVENT_STEP_FAILED);
    assert_int_equal(script_count(s, "task"), 2); /* not tried again */
    assert_null(jt_get(script_last(s, "task")->body, "max_output_bytes").ptr);
    script_free(s);
}

static void the_own_limits_of_an_organisation_go_with_its_runs_and_tasks(void **state)
{
    struct script *s = script_new();

    (void)state;
    s->limits = "{\"output_bytes\":1500}";
    script_own(s, 0, 1);
    assert_int_equal(end_with_output(s, 1500), EVENT_STEP_SUCCEEDED);
    assert_true(str_is(jt_get(script_last(s, "task")->body, "max_output_bytes"), "1500"));
    assert_int_equal(end_with_output(s, 1501), EVENT_STEP_FAILED);
    script_free(s);
}

static void a_changed_limit_holds_for_runs_that_are_in_memory(void **state)
{
    struct script *s = script_new();
    struct script_run *run;
    struct sched_organisation changed = {.id = 1, .weight = 1, .limits = STR("{\"output_bytes\":1024}")};
    char body[1100] = "\"status\":\"succeeded\",\"output\":\"";
    size_t at = strlen(body);

    (void)state;
    memset(body + at, 'x', 1023);
    snprintf(body + at + 1023, 3, "\"");
    script_own(s, 0, 1);
    run = script_run(s, 0, NOOP);
    script_settle(s);
    changed.id = run->organisation;
    sched_on_organisations(s->sched, &changed, 1);
    script_result(s, 0, script_last(s, "task"), "w", body);
    script_settle(s);
    assert_int_equal(script_events(s, run, EVENT_STEP_FAILED), 1);
    script_free(s);
}

static void delays_and_back_offs_come_due(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = script_run(s, 0,
                     "{\"name\":\"w\",\"steps\":{\"d\":{\"call\":\"delay\",\"with\":{\"duration\":\"5s\"}},"
                     "\"a\":{\"needs\":[\"d\"],\"call\":\"noop\",\"retry\":{\"max_attempts\":2,\"initial\":\"2s\","
                     "\"jitter\":0}}}}");
    script_settle(s);
    assert_true(s->wake <= s->now + 5 * SEC);
    script_advance(s, 4 * SEC);
    assert_int_equal(script_count(s, "task"), 0);
    script_advance(s, 2 * SEC);
    assert_int_equal(script_count(s, "task"), 1);
    script_result(s, 0, script_last(s, "task"), "w",
                  "\"status\":\"failed\",\"error\":{\"class\":\"transient\",\"code\":\"http_503\",\"status\":503,"
                  "\"answered\":true}");
    script_settle(s);
    assert_int_equal(script_count(s, "task"), 1);
    script_advance(s, 3 * SEC);
    assert_int_equal(script_count(s, "task"), 2);
    assert_true(str_is(jt_get(script_last(s, "task")->body, "attempt"), "2"));
    assert_int_equal(script_events(s, run, EVENT_ATTEMPT_FAILED), 1);
    script_free(s);
}

static void an_idempotency_key_of_the_steps_own_survives_a_takeover(void **state)
{
    struct script *s = script_new();

    (void)state;
    script_own(s, 0, 1);
    script_run(s, 0,
               "{\"name\":\"w\",\"steps\":{\"a\":{\"call\":\"http\",\"idempotency\":{\"key\":\"k-${ .input.x }\"},"
               "\"with\":{\"url\":\"https://x.example/${ .input.x }\"}}}}");
    script_settle(s);
    assert_true(str_is(jt_get(script_last(s, "task")->body, "idempotency_key"), "\"k-3\""));
    script_own(s, 0, 2);
    script_settle(s);
    assert_int_equal(script_count(s, "task"), 2);
    assert_true(str_is(jt_get(script_last(s, "task")->body, "idempotency_key"), "\"k-3\""));
    assert_true(str_is(jt_get(jt_get(script_last(s, "task")->body, "with"), "url"), "\"https://x.example/3\""));
    script_free(s);
}

static void a_cancel_reaches_the_worker_that_runs_the_attempt(void **state)
{
    struct script *s = script_new();
    struct script_run *run;
    struct sent task;

    (void)state;
    script_own(s, 0, 1);
    run = script_run(s, 0, NOOP);
    script_settle(s);
    task = *script_last(s, "task");
    script_started(s, 0, &task, "w7");
    script_settle(s);
    script_command(s, run, "cancel", "gateway.1");
    script_deliver(s, 0, "nudge", "n", "{\"v\":1,\"shard\":0}");
    script_settle(s);
    assert_int_equal(script_count(s, "cancel"), 1);
    assert_string_equal(script_last(s, "cancel")->queue, "ropewalk.worker.w7");
    assert_int_equal(script_events(s, run, EVENT_RUN_CANCELLING), 1);
    script_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(beyond_the_window_tasks_stay_in_the_backlog),
        cmocka_unit_test(tasks_of_a_paused_run_leave_the_line_and_stand_in_it_again),
        cmocka_unit_test(without_a_backlog_depths_are_asked_for_only_when_nobody_begins_what_is_out),
        cmocka_unit_test(a_window_grows_fast_while_workers_find_the_queue_empty_and_shrinks_when_they_do_not),
        cmocka_unit_test(a_queue_that_others_keep_full_has_places_for_each_organisation),
        cmocka_unit_test(the_backlog_is_released_round_robin_by_weight),
        cmocka_unit_test(a_changed_weight_holds_from_the_next_turn_on),
        cmocka_unit_test(a_critical_task_passes_a_backlog_of_background_ones),
        cmocka_unit_test(what_is_not_confirmed_is_published_again_after_a_pause),
        cmocka_unit_test(nothing_is_published_while_the_broker_is_away),
        cmocka_unit_test(an_unheard_task_is_overdue_when_its_queue_was_seen_empty),
        cmocka_unit_test(an_unheard_task_is_overdue_when_a_later_one_has_begun),
        cmocka_unit_test(after_a_restart_of_the_broker_what_was_in_its_memory_is_published_again),
        cmocka_unit_test(after_a_loss_of_the_connection_what_the_queue_has_kept_waits_there),
        cmocka_unit_test(what_a_grant_may_be_under_way_for_is_kept_over_restarts),
        cmocka_unit_test(a_started_task_lives_by_its_lease),
        cmocka_unit_test(a_heartbeat_in_time_saves_a_doubted_lease),
        cmocka_unit_test(no_lease_lapses_before_the_broker_was_there_for_a_whole_lease),
        cmocka_unit_test(a_grant_comes_after_its_commit_and_only_once),
        cmocka_unit_test(of_a_granted_task_only_its_worker_keeps_the_lease),
        cmocka_unit_test(a_deferral_is_another_dispatch_and_waits_for_its_time),
        cmocka_unit_test(an_output_over_the_limit_fails_for_good_whoever_sends_it),
        cmocka_unit_test(the_own_limits_of_an_organisation_go_with_its_runs_and_tasks),
        cmocka_unit_test(a_changed_limit_holds_for_runs_that_are_in_memory),
        cmocka_unit_test(delays_and_back_offs_come_due),
        cmocka_unit_test(an_idempotency_key_of_the_steps_own_survives_a_takeover),
        cmocka_unit_test(a_cancel_reaches_the_worker_that_runs_the_attempt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
