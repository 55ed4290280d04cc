/* The watch: rows of open work that are gone, that nobody knows, or that nobody hears, are put right, once; and a run
 * that lacks nothing is left alone. */
#include "tests/unit/scheduler/script.h"

#include "common/base/banned.h"

#define ALL_KINDS                                                                                                      \
    "{\"name\":\"w\",\"steps\":{\"task\":{\"call\":\"noop\"},\"once\":{\"call\":\"noop\",\"delivery\":"                \
    "\"at_most_once\"},\"nap\":{\"call\":\"delay\",\"with\":{\"duration\":\"5m\"}},\"word\":{\"call\":"                \
    "\"wait_signal\",\"with\":{\"signal\":\"go\",\"timeout\":\"1h\"}},\"each\":{\"call\":\"foreach\",\"with\":{"       \
    "\"items\":[1,2,3],\"concurrency\":2,\"steps\":{\"in\":{\"call\":\"noop\"}}}},\"kid\":{\"call\":\"workflow\","     \
    "\"with\":{\"name\":\"child\"}},\"again\":{\"call\":\"noop\",\"retry\":{\"initial\":\"10s\",\"jitter\":0}}}}"
#define WAITS "{\"name\":\"w\",\"steps\":{\"word\":{\"call\":\"wait_signal\",\"with\":{\"signal\":\"go\"}}}}"
#define NAPS "{\"name\":\"w\",\"steps\":{\"nap\":{\"call\":\"delay\",\"with\":{\"duration\":\"10s\"}}}}"

static uint64_t orphans(const struct script *s, enum sched_orphan reason)
{
    struct sched_stats stats;

    sched_get_stats(s->sched, &stats);
    return stats.orphans[reason];
}

static uint64_t all_orphans(const struct script *s)
{
    uint64_t sum = 0;

    for (int i = 0; i < ORPHAN_COUNT; i++)
        sum += orphans(s, (enum sched_orphan)i);
    return sum;
}

static void audit(struct script *s, const struct script_run *run)
{
    sched_audit(s->sched, &run->id, 1);
    script_settle(s);
}

/* Somebody deletes the rows, and another scheduler takes over: nothing of them is in memory any more. */
static size_t lose_rows(struct script *s, struct script_run *run, struct sched_work_row *kept, int64_t epoch)
{
    size_t count = run->work_count;

    memcpy(kept, run->work, count * sizeof(*kept));
    run->work_count = 0;
    script_own(s, 0, epoch);
    script_settle(s);
    return count;
}

static const struct sched_work_row *row_of(const struct script_run *run, uint32_t seq)
{
    for (size_t i = 0; i < run->work_count; i++)
        if (run->work[i].seq == seq)
            return &run->work[i];
    return NULL;
}

static void begin_all_kinds(struct script *s, struct script_run **ret_run)
{
    script_own(s, 0, 1);
    script_workflow(s, "child", NAPS);
    *ret_run = script_begin(s, ALL_KINDS, "{}");
    script_started(s, 0, script_task(s, "once"), "w1");
    script_result(s, 0, script_task(s, "again"), "w1",
                  "\"status\":\"failed\",\"error\":{\"class\":\"transient\",\"code\":\"x\",\"message\":\"y\"}");
    script_settle(s);
}

static void rows_of_every_kind_are_written_again_as_they_were(void **state)
{
    struct script *s = script_new();
    struct sched_work_row kept[32];
    struct script_run *run;
    size_t count;

    (void)state;
    begin_all_kinds(s, &run);
    count = lose_rows(s, run, kept, 2);
    assert_int_equal(count, 10); /* the timeout; task, once, nap, word, each, two items, kid, and the back-off */
    audit(s, run);
    assert_int_equal(run->work_count, count);
    assert_int_equal(orphans(s, ORPHAN_LOST_WORK), count);
    assert_int_equal(all_orphans(s), count);
    for (size_t i = 0; i < count; i++) {
        const struct sched_work_row *row = row_of(run, kept[i].seq);

        assert_non_null(row);
        assert_int_equal(row->kind, kept[i].kind);
        assert_int_equal(row->attempt, kept[i].attempt);
        assert_true(str_eq(row->step, kept[i].step));
        if (row->kind != WORK_ITEMS) /* that is due now: it may have more to begin */
            assert_int_equal(row->due_at.us, kept[i].due_at.us);
    }
    audit(s, run);
    assert_int_equal(all_orphans(s), count); /* once is enough */
    script_free(s);
}

static void after_the_repair_the_run_goes_on_to_its_end(void **state)
{
    struct script *s = script_new();
    struct sched_work_row kept[32];
    struct script_run *run;

    (void)state;
    begin_all_kinds(s, &run);
    (void)lose_rows(s, run, kept, 2);
    audit(s, run);
    script_result(s, 0, script_task(s, "task"), "w1", "\"status\":\"succeeded\"");
    script_result(s, 0, script_task(s, "once"), "w1", "\"status\":\"succeeded\"");
    script_result(s, 0, script_task(s, "each[0].in"), "w1", "\"status\":\"succeeded\"");
    script_result(s, 0, script_task(s, "each[1].in"), "w1", "\"status\":\"succeeded\"");
    script_command_body(s, run, "signal", "{\"name\":\"go\"}");
    script_advance(s, 15 * SEC); /* the child's nap, and the back-off */
    script_result(s, 0, script_task(s, "each[2].in"), "w1", "\"status\":\"succeeded\"");
    script_result(s, 0, script_task(s, "again"), "w1", "\"status\":\"succeeded\"");
    script_advance(s, 300 * SEC);
    assert_int_equal(run->status, RUN_SUCCEEDED);
    assert_int_equal(run->work_count, 0);
    script_free(s);
}

/* What has been granted must not be granted again; what may have been deferred gets a dispatch of its own. */
static void a_repaired_task_is_never_an_older_one(void **state)
{
    struct script *s = script_new();
    struct sched_work_row kept[32];
    struct script_run *run;
    size_t sent;

    (void)state;
    begin_all_kinds(s, &run);
    script_result(s, 0, script_task(s, "task"), "w1",
                  "\"status\":\"deferred\",\"error\":{\"class\":\"transient\","
                  "\"code\":\"rate\",\"message\":\"y\",\"retry_after\":\"1s\"}");
    script_advance(s, 2 * SEC);
    sent = script_count(s, "task");
    (void)lose_rows(s, run, kept, 2);
    audit(s, run);
    for (size_t i = 0; i < run->work_count; i++) {
        const struct sched_work_row *row = &run->work[i];

        if (str_is(row->step, "once"))
            assert_int_equal(row->dispatch, 1);
        if (str_is(row->step, "task"))
            assert_true(row->dispatch > 2);
    }
    assert_int_equal(script_count(s, "task"), sent + 3); /* task and two items; not what has begun */
    script_free(s);
}

static void a_run_that_lacks_nothing_is_left_alone(void **state)
{
    struct script *s = script_new();
    struct script_run *run;
    size_t commits, tasks;

    (void)state;
    begin_all_kinds(s, &run);
    commits = s->commits;
    tasks = script_count(s, "task");
    for (int i = 0; i < 3; i++)
        audit(s, run);
    assert_int_equal(s->commits, commits);
    assert_int_equal(script_count(s, "task"), tasks);
    assert_int_equal(all_orphans(s), 0);
    script_free(s);
}

static void a_row_that_no_history_explains_is_deleted(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = script_begin(s, WAITS, "{}");
    run->work[run->work_count] = run->work[0];
    run->work[run->work_count++].seq = 77;
    script_own(s, 0, 2);
    script_settle(s);
    audit(s, run);
    assert_int_equal(run->work_count, 2);
    assert_null(row_of(run, 77));
    assert_int_equal(orphans(s, ORPHAN_STRAY_WORK), 1);
    assert_int_equal(all_orphans(s), 1);
    script_free(s);
}

static void a_run_without_its_start_is_started(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    script_settle(s);
    run = script_run(s, 0, WAITS);
    s->commands[s->command_count - 1].gone = true;
    script_settle(s);
    assert_int_equal(run->status, RUN_PENDING);
    audit(s, run);
    assert_int_equal(script_events(s, run, EVENT_RUN_STARTED), 1);
    assert_int_equal(run->work_count, 2);
    assert_int_equal(orphans(s, ORPHAN_NO_START), 1);
    assert_int_equal(all_orphans(s), 1);
    script_free(s);
}

static void a_signal_that_nobody_took_is_taken(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = script_begin(s, WAITS, "{}");
    run->events[run->event_count] = (struct sched_event_loaded){.seq = (uint32_t)run->event_count + 1,
                                                                .type = EVENT_SIGNAL_RECEIVED,
                                                                .at = {s->now},
                                                                .data = STR("{\"name\":\"go\",\"command\":1}")};
    run->event_count++;
    script_own(s, 0, 2);
    script_settle(s);
    audit(s, run);
    assert_int_equal(run->status, RUN_SUCCEEDED);
    assert_int_equal(orphans(s, ORPHAN_NOT_AT_REST), 1);
    assert_int_equal(all_orphans(s), 1);
    script_free(s);
}

static void a_row_that_is_long_due_and_in_nobodys_hand_is_heard(void **state)
{
    struct script *s = script_new();
    struct sched_work_row kept[32];
    struct script_run *run;
    size_t count;

    (void)state;
    script_own(s, 0, 1);
    run = script_begin(s, NAPS, "{}");
    count = lose_rows(s, run, kept, 2);
    memcpy(run->work, kept, count * sizeof(*kept)); /* back again, but nobody has read them */
    run->work_count = count;
    script_advance(s, 75 * SEC);
    assert_int_equal(run->status, RUN_ACTIVE);
    audit(s, run);
    assert_int_equal(orphans(s, ORPHAN_UNHEARD_TIMER), 1);
    assert_int_equal(all_orphans(s), 1);
    script_advance(s, SEC);
    assert_int_equal(run->status, RUN_SUCCEEDED);
    script_free(s);
}

static void a_repair_that_meets_another_owner_is_not_made(void **state)
{
    struct script *s = script_new();
    struct sched_work_row kept[32];
    struct script_run *run;

    (void)state;
    begin_all_kinds(s, &run);
    (void)lose_rows(s, run, kept, 2);
    s->hold_commits = true;
    sched_audit(s->sched, &run->id, 1);
    script_settle(s);
    assert_non_null(s->batch);
    assert_int_equal(s->batch->shards[0], 0);
    assert_int_equal(s->batch->epochs[0], 2);
    script_lose(s, 0);
    s->hold_commits = false;
    script_commit(s, SCHED_FENCED, NULL);
    script_settle(s);
    assert_int_equal(run->work_count, 0);
    assert_int_equal(all_orphans(s), 0);
    script_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_every_kind_are_written_again_as_they_were),
        cmocka_unit_test(after_the_repair_the_run_goes_on_to_its_end),
        cmocka_unit_test(a_repaired_task_is_never_an_older_one),
        cmocka_unit_test(a_run_that_lacks_nothing_is_left_alone),
        cmocka_unit_test(a_row_that_no_history_explains_is_deleted),
        cmocka_unit_test(a_run_without_its_start_is_started),
        cmocka_unit_test(a_signal_that_nobody_took_is_taken),
        cmocka_unit_test(a_row_that_is_long_due_and_in_nobodys_hand_is_heard),
        cmocka_unit_test(a_repair_that_meets_another_owner_is_not_made),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
