/* Shards that come and go, fencing, takeover, and results for runs of others. */
#include "tests/unit/scheduler/script.h"

#include "common/base/banned.h"

static void runs_are_applied_only_when_the_shards_open_work_is_here(void **state)
{
    struct script *s = script_new();

    (void)state;
    s->hold_shards = true;
    script_own(s, 1, 4);
    script_run(s, 1, NOOP);
    script_settle(s);
    assert_false(s->fetching);
    assert_null(s->batch);
    s->hold_shards = false;
    script_settle(s);
    assert_int_equal(script_count(s, "task"), 1);
    script_free(s);
}

static void a_failed_load_of_a_shard_is_asked_for_again(void **state)
{
    struct script *s = script_new();

    (void)state;
    s->hold_shards = true;
    script_own(s, 1, 4);
    script_settle(s);
    assert_int_equal(s->shard_count, 1);
    s->shard_count = 0;
    sched_on_open_work(s->sched, 1, 4, NULL, 0, NULL, 0, true, true);
    script_settle(s);
    assert_int_equal(s->shard_count, 0);
    script_advance(s, SEC);
    assert_int_equal(s->shard_count, 1);
    /* an answer of an epoch that is over is none */
    sched_on_open_work(s->sched, 1, 3, NULL, 0, NULL, 0, true, false);
    script_settle(s);
    assert_false(s->fetching);
    script_free(s);
}

static void a_new_owner_publishes_open_tasks_again(void **state)
{
    struct script *s = script_new();

    (void)state;
    script_own(s, 0, 1);
    script_run(s, 0, CHAIN);
    script_settle(s);
    assert_int_equal(script_count(s, "task"), 1);
    script_own(s, 0, 3); /* lost and gained: nothing of before is believed */
    assert_int_equal(s->closed_count, 1);
    script_settle(s);
    assert_int_equal(script_count(s, "task"), 2);
    assert_string_equal(s->sent[0].id, script_last(s, "task")->id);
    assert_true(str_is(jt_get(script_last(s, "task")->body, "publication"), "2"));
    script_free(s);
}

static void assert_replies_to(struct script *s, int16_t shard, const char *inbox)
{
    size_t before = script_count(s, "task");

    script_run(s, shard, NOOP);
    script_advance(s, 2 * SEC);
    assert_int_equal(script_count(s, "task"), before + 1);
    assert_true(str_is(jt_get(script_last(s, "task")->body, "reply_to"), inbox));
}

/* Whoever had a shard before may stand still with its consumer in place: what is answered there before ours is would
 * wait with it. */
static void results_are_awaited_in_an_inbox_that_has_long_been_ours(void **state)
{
    struct script *s = script_new();

    (void)state;
    script_own(s, 1, 1);
    script_settle(s);
    assert_replies_to(s, 1, "\"ropewalk.inbox.1\"");
    s->hold_shards = true;
    script_own(s, 0, 7);
    assert_replies_to(s, 1, "\"ropewalk.inbox.1\"");
    s->hold_shards = false;
    script_settle(s);
    assert_replies_to(s, 0, "\"ropewalk.inbox.1\"");
    script_lose(s, 1);
    assert_replies_to(s, 0, "\"ropewalk.inbox.0\"");
    script_free(s);
}

static void whose_lease_has_lapsed_says_that_its_tasks_may_be_known(void **state)
{
    struct script *s = script_new();

    (void)state;
    script_own(s, 0, 1);
    s->lease_lapsed = true;
    script_run(s, 0, CHAIN);
    script_settle(s);
    assert_int_equal(script_count(s, "task"), 1);
    assert_true(str_is(jt_get(script_last(s, "task")->body, "publication"), "2"));
    script_free(s);
}

static void a_granted_task_is_never_published_again(void **state)
{
    struct script *s = script_new();
    struct script_run *run;
    struct sched_stats stats;

    (void)state;
    script_own(s, 0, 1);
    run = script_run(s, 0,
                     "{\"name\":\"w\",\"steps\":{\"a\":{\"call\":\"http\",\"delivery\":\"at_most_once\","
                     "\"with\":{\"url\":\"https://x.example/\"}}}}");
    script_settle(s);
    script_started(s, 0, script_last(s, "task"), "w1");
    script_settle(s);
    assert_int_equal(script_events(s, run, EVENT_STEP_STARTED), 1);
    script_own(s, 0, 3);
    script_settle(s);
    assert_int_equal(script_count(s, "task"), 1);
    sched_get_stats(s->sched, &stats);
    assert_int_equal(stats.leases, 1); /* afresh */
    script_free(s);
}

static void a_lost_shards_messages_are_forgotten_and_its_channel_closed(void **state)
{
    struct script *s = script_new();
    void *delivery;

    (void)state;
    script_own(s, 0, 1);
    script_run(s, 0, CHAIN);
    script_settle(s);
    s->hold_commits = true;
    delivery = script_result(s, 0, script_last(s, "task"), "w", "\"status\":\"succeeded\"");
    script_settle(s);
    assert_non_null(s->batch);
    script_lose(s, 0);
    assert_int_equal(s->closed[0], 0);
    script_commit(s, SCHED_FENCED, NULL);
    assert_int_equal(s->checks, 1);
    assert_false(script_was_forgotten(s, delivery));
    sched_on_shards(s->sched, NULL, 0); /* the truth was read: nothing new */
    assert_true(script_was_forgotten(s, delivery));
    assert_false(script_was_acked(s, delivery));
    script_settle(s);
    assert_null(s->batch);
    script_free(s);
}

static void the_rest_of_a_fenced_batch_is_committed(void **state)
{
    struct script *s = script_new();
    struct script_run *kept, *gone;

    (void)state;
    script_own(s, 0, 1);
    script_own(s, 1, 1);
    s->hold_commits = true;
    kept = script_run(s, 0, NOOP);
    gone = script_run(s, 1, NOOP);
    script_settle(s);
    assert_int_equal(s->batch->shard_count, 2);
    script_commit(s, SCHED_FENCED, NULL);
    script_settle(s);
    assert_null(s->batch); /* waits for the truth */
    script_lose(s, 1);
    script_settle(s);
    assert_int_equal(s->batch->shard_count, 1);
    assert_int_equal(s->batch->shards[0], 0);
    script_commit(s, SCHED_COMMITTED, NULL);
    assert_int_equal(script_events(s, kept, EVENT_RUN_STARTED), 1);
    assert_int_equal(script_events(s, gone, EVENT_RUN_STARTED), 0);
    script_free(s);
}

/* What had been collected behind a fenced batch was dropped with its shard, but went on counting: with as many inputs
 * as a batch holds every further batch was taken for full, and nothing was committed any more. */
static void what_was_collected_for_a_lost_shard_leaves_room_for_others(void **state)
{
    struct script *s = script_new_with(&(struct sched_settings){.batch_inputs = 3});
    struct script_run *kept, *next;

    (void)state;
    script_own(s, 0, 1);
    script_own(s, 1, 1);
    s->hold_commits = true;
    kept = script_run(s, 0, NOOP);
    script_settle(s);
    assert_non_null(s->batch);
    for (int i = 0; i < 3; i++)
        script_run(s, 1, NOOP);
    script_advance(s, SEC);
    assert_int_equal(s->batch->shard_count, 1); /* they wait behind it */
    script_commit(s, SCHED_FENCED, NULL);
    script_lose(s, 1);
    s->hold_commits = false;
    script_settle(s);
    assert_int_equal(script_events(s, kept, EVENT_RUN_STARTED), 1);
    next = script_run(s, 0, NOOP);
    script_advance(s, SEC);
    assert_int_equal(script_events(s, next, EVENT_RUN_STARTED), 1);
    script_free(s);
}

static void what_was_committed_before_the_loss_is_acknowledged_but_not_published(void **state)
{
    struct script *s = script_new();
    void *delivery;

    (void)state;
    script_own(s, 0, 1);
    script_own(s, 1, 1);
    script_run(s, 1, CHAIN);
    script_settle(s);
    s->hold_commits = true;
    /* the result came by the inbox of shard 0, the run is of shard 1 */
    delivery = script_result(s, 0, script_last(s, "task"), "w", "\"status\":\"succeeded\"");
    script_settle(s);
    script_lose(s, 1);
    script_commit(s, SCHED_COMMITTED, NULL);
    script_settle(s);
    assert_true(script_was_acked(s, delivery));
    assert_int_equal(script_count(s, "task"), 1); /* the next is its new owner's business */
    script_free(s);
}

static void a_result_for_anothers_run_is_passed_on_before_it_is_acknowledged(void **state)
{
    struct script *s = script_new();
    struct sent task;
    const struct sent *passed;
    void *delivery;

    (void)state;
    script_own(s, 0, 1);
    script_own(s, 1, 1);
    script_run(s, 1, CHAIN);
    script_settle(s);
    task = *script_last(s, "task");
    script_lose(s, 1);
    delivery = script_result(s, 0, &task, "w", "\"status\":\"succeeded\",\"output\":{\"n\":0.10}");
    script_settle(s);
    passed = script_last(s, "result");
    assert_non_null(passed);
    assert_string_equal(passed->queue, "ropewalk.inbox.1");
    assert_true(passed->persistent && passed->confirm != 0);
    assert_true(str_is(jt_get(jt_at(jt_get(passed->body, "results"), 0), "output"), "{\"n\":0.10}"));
    assert_false(script_was_acked(s, delivery));
    sched_on_confirm(s->sched, passed->confirm, SCHED_NOT_CONFIRMED);
    script_advance(s, SEC);
    assert_int_equal(script_count(s, "result"), 2);
    assert_false(script_was_acked(s, delivery));
    sched_on_confirm(s->sched, script_last(s, "result")->confirm, SCHED_CONFIRMED);
    assert_true(script_was_acked(s, delivery));
    script_free(s);
}

static void a_message_of_a_shard_that_is_gone_is_forgotten(void **state)
{
    struct script *s = script_new();
    void *delivery;

    (void)state;
    script_own(s, 0, 1);
    script_settle(s);
    script_lose(s, 0);
    delivery = script_deliver(s, 0, "nudge", "n", "{\"v\":1,\"shard\":0}");
    assert_true(script_was_forgotten(s, delivery));
    script_free(s);
}

static void a_released_shard_finishes_what_is_in_hand_and_begins_nothing(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = script_run(s, 0, CHAIN);
    script_settle(s);
    s->hold_commits = true;
    script_result(s, 0, script_last(s, "task"), "w", "\"status\":\"succeeded\"");
    script_settle(s);
    sched_release_shard(s->sched, 0);
    script_run(s, 0, NOOP);
    script_settle(s);
    assert_int_equal(s->released_count, 0);
    script_commit(s, SCHED_COMMITTED, NULL);
    script_settle(s);
    assert_int_equal(s->released_count, 1);
    assert_null(s->batch); /* the new run waits for the next owner */
    assert_int_equal(script_events(s, run, EVENT_STEP_SUCCEEDED), 1);
    /* the step that became ready went out, and its result will find an inbox */
    assert_true(str_is(jt_get(script_last(s, "task")->body, "reply_to"), "\"ropewalk.inbox.0\""));
    script_lose(s, 0);
    script_free(s);
}

static void a_stale_answer_of_a_load_is_not_believed(void **state)
{
    struct script *s = script_new();
    struct script_run *run;
    struct sched_loaded_run nothing;

    (void)state;
    script_own(s, 0, 1);
    run = script_run(s, 0, NOOP);
    s->hold_loads = true;
    script_settle(s);
    assert_int_equal(s->load_count, 1);
    nothing = (struct sched_loaded_run){.id = run->id};
    script_own(s, 0, 2); /* gone and back */
    script_settle(s);
    assert_int_equal(s->load_count, 2);
    sched_on_loaded(s->sched, s->loads[0].load, &nothing, 1); /* "no such run": an answer to the old question */
    s->hold_loads = false;
    script_settle(s);
    assert_int_equal(script_events(s, run, EVENT_RUN_STARTED), 1);
    script_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_are_applied_only_when_the_shards_open_work_is_here),
        cmocka_unit_test(a_failed_load_of_a_shard_is_asked_for_again),
        cmocka_unit_test(a_new_owner_publishes_open_tasks_again),
        cmocka_unit_test(whose_lease_has_lapsed_says_that_its_tasks_may_be_known),
        cmocka_unit_test(results_are_awaited_in_an_inbox_that_has_long_been_ours),
        cmocka_unit_test(a_granted_task_is_never_published_again),
        cmocka_unit_test(a_lost_shards_messages_are_forgotten_and_its_channel_closed),
        cmocka_unit_test(the_rest_of_a_fenced_batch_is_committed),
        cmocka_unit_test(what_was_collected_for_a_lost_shard_leaves_room_for_others),
        cmocka_unit_test(what_was_committed_before_the_loss_is_acknowledged_but_not_published),
        cmocka_unit_test(a_result_for_anothers_run_is_passed_on_before_it_is_acknowledged),
        cmocka_unit_test(a_message_of_a_shard_that_is_gone_is_forgotten),
        cmocka_unit_test(a_released_shard_finishes_what_is_in_hand_and_begins_nothing),
        cmocka_unit_test(a_stale_answer_of_a_load_is_not_believed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
