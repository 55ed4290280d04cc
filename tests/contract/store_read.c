/* The contract of the store, second part: what is read, and what is true when connections and processes die. */
#include "tests/contract/store_kit.h"
#include "tests/contract/store_scenarios.h"

#include "common/base/banned.h"

/* ---- as it was written ---- */

static void a_run_is_read_as_it_was_written(void **state)
{
    static const char output[] =
        "{ \"z\":1.0,\"a\":0.10, \"a\" : [1e2 ,\"\\u00e9\\\"\xc3\xa9\"],\n\"big\":123456789012345678901234567890}";
    static const char payload[] = "{\"name\":\"go\",\"payload\": {\"by\" :\"a person\", \"n\":-0.0}}";
    struct run_id run = new_run();
    const struct event events[] = {
        {.seq = 1, .type = EVENT_RUN_STARTED, .at = {now_wall().us + 1}},
        {.seq = 2, .type = EVENT_SIGNAL_RECEIVED, .at = {now_wall().us + 2}, .output = STR("null")},
        {.seq = 3,
         .type = EVENT_STEP_SUCCEEDED,
         .at = {now_wall().us + 3},
         .step = STR("each[3].\xc3\xa9"),
         .attempt = 7,
         .output = str_of(output)}};
    const struct sched_event_row rows[] = {
        {.run = run, .organisation = 1, .event = &events[0]},
        {.run = run, .organisation = 1, .event = &events[1], .data = str_of(payload)},
        {.run = run, .organisation = 1, .event = &events[2]}};
    const struct sched_open_row opens[] = {open_row(run, 3)};
    struct sched_batch batch = {.event_count = 3, .events = rows, .open_count = 1, .opens = opens};
    const struct sched_loaded_run *loaded;

    (void)state;
    assert_commits(&batch);
    loaded = load(run);
    assert_true(loaded->found && !loaded->failed && !loaded->has_parent);
    assert_int_equal(loaded->organisation, 1);
    assert_int_equal(loaded->weight, 1);
    assert_str(loaded->organisation_name, STR("default"));
    assert_str(loaded->workflow, STR("w"));
    assert_int_equal(loaded->version, 1);
    assert_int_equal(loaded->priority, PRIORITY_NORMAL);
    assert_int_equal(loaded->depth, 0);
    assert_str(loaded->input, STR("{\"a\": 1.0}"));
    assert_int_equal(loaded->event_count, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(loaded->events[i].seq, i + 1);
        assert_int_equal(loaded->events[i].type, events[i].type);
        assert_int_equal(loaded->events[i].at.us, events[i].at.us);
        assert_int_equal(loaded->events[i].attempt, events[i].attempt);
        assert_str(loaded->events[i].step, events[i].step);
        assert_str(loaded->events[i].data, rows[i].data);
        assert_int_equal(loaded->events[i].output_bytes, events[i].output.len);
        assert_str(body_of(run, (uint32_t)i + 1), events[i].output);
    }
    assert_str(body_of(run, 0), STR("{\"a\": 1.0}"));
    assert_int_equal(loaded->work_count, 1);
    assert_int_equal(loaded->work[0].seq, 3);
    assert_int_equal(loaded->work[0].kind, WORK_TASK);
    assert_str(loaded->work[0].step, STR("t"));
    assert_int_equal(loaded->work[0].attempt, 2);
    assert_int_equal(loaded->work[0].dispatch, 3);
    assert_str(loaded->work[0].pool, STR("gpu"));
    assert_int_equal(loaded->work[0].priority, PRIORITY_LOW);
    assert_int_equal(loaded->work[0].weight, 1);
    assert_int_equal(loaded->work[0].due_at.us, opens[0].due_at.us);
}

static void what_is_not_there_is_answered_as_such(void **state)
{
    const struct sched_plan_want wants[] = {{1, STR("w"), 1}, {1, STR("w"), 2}, {1, STR("nobody"), 1}};

    (void)state;
    assert_false(load(new_id(SHARD))->found);
    assert_false(heard.runs[0].failed);
    assert_str(body_of(new_id(SHARD), 0), STR_NONE);
    assert_str(body_of(new_id(SHARD), 1), STR_NONE);
    ports.load_plans(ports.ctx, wants, 3);
    UNTIL(heard.plan_count == 3);
    assert_str(heard.plan_rows[0].document, STR("{\"name\": \"w\"}"));
    assert_null(heard.plan_rows[1].document.ptr);
    assert_null(heard.plan_rows[2].document.ptr);
    assert_str(heard.plan_rows[2].key.workflow, STR("nobody"));
    assert_false(heard.plan_rows[2].failed);
    load_shard();
    assert_int_equal(heard.work_count + heard.quarantined_count, 0);
}

static void each_of_many_runs_is_answered_once(void **state)
{
    enum { COUNT = 600 };
    static struct run_id ids[COUNT];
    struct run_id run = new_run();
    size_t found = 0;

    (void)state;
    for (size_t i = 0; i < COUNT; i++)
        ids[i] = i == 300 ? run : new_id(SHARD);
    ports.load_runs(ports.ctx, 1, ids, COUNT);
    UNTIL(heard.run_count >= COUNT);
    world_pass(50 * US_PER_MS);
    assert_int_equal(heard.run_count, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        size_t times = 0;

        for (size_t n = 0; n < COUNT; n++)
            times += run_id_eq(heard.runs[n].id, ids[i]);
        assert_int_equal(times, 1);
        found += heard.runs[i].found;
    }
    assert_int_equal(found, 1);
}

static void a_shard_is_read_whole_however_much_it_holds(void **state)
{
    enum { COUNT = 6000 };
    struct run_id run = new_run();
    struct sched_open_row *opens = arena_array(heard.arena, COUNT, sizeof(*opens));
    struct sched_batch batch = {.open_count = COUNT, .opens = opens};
    bool *seen = arena_array(heard.arena, COUNT + 1, sizeof(*seen));

    (void)state;
    for (uint32_t i = 0; i < COUNT; i++)
        opens[i] = open_row(run, i + 1);
    assert_commits(&batch);
    load_shard();
    assert_true(heard.last && !heard.failed);
    assert_int_equal(heard.work_count, COUNT);
    memset(seen, 0, COUNT + 1);
    for (size_t i = 0; i < COUNT; i++) {
        assert_true(heard.work[i].seq <= COUNT && !seen[heard.work[i].seq]);
        seen[heard.work[i].seq] = true;
    }
}

static void more_commands_than_a_part_are_not_complete(void **state)
{
    enum { COUNT = 2100 };
    static const int16_t two[] = {OTHER_SHARD, SHARD};
    struct run_id run = new_run();
    struct sched_command_insert *rows = arena_array(heard.arena, COUNT, sizeof(*rows));
    struct sched_command_key *keys = arena_array(heard.arena, COUNT, sizeof(*keys));
    struct sched_batch batch = {.command_insert_count = COUNT, .command_inserts = rows};
    size_t first;

    (void)state;
    for (size_t i = 0; i < COUNT; i++)
        rows[i] = (struct sched_command_insert){.shard = SHARD, .run = run, .organisation = 1, .kind = "cancel"};
    assert_commits(&batch);
    fetch(two, 2); /* each has half of 4,000 */
    assert_false(heard.complete);
    first = heard.command_count;
    assert_true(first >= 2000 && first < COUNT);
    for (size_t i = 0; i < first; i++)
        keys[i] = (struct sched_command_key){SHARD, heard.command_rows[i].id};
    batch = (struct sched_batch){.command_delete_count = first, .command_deletes = keys};
    assert_commits(&batch);
    fetch(two, 2);
    assert_true(heard.complete);
    assert_int_equal(heard.command_count, COUNT - first);
    fetch(SHARDS, 1);
    assert_true(heard.complete);
}

/* However many: they take no room from others. */
static void commands_of_runs_that_are_set_aside_are_left_out(void **state)
{
    enum { COUNT = 4100 };
    struct run_id run = new_run(), aside = new_run();
    struct sched_command_insert *rows = arena_array(heard.arena, COUNT + 1, sizeof(*rows));
    struct sched_batch batch = {.command_insert_count = COUNT + 1, .command_inserts = rows};
    struct sched_command_want want = {.shard_count = 1, .shards = SHARDS, .aside_count = 1, .asides = &aside};

    (void)state;
    for (size_t i = 0; i < COUNT; i++)
        rows[i] = (struct sched_command_insert){.shard = SHARD, .run = aside, .organisation = 1, .kind = "cancel"};
    rows[COUNT] = (struct sched_command_insert){.shard = SHARD, .run = run, .organisation = 1, .kind = "cancel"};
    assert_commits(&batch);
    fetch_wanted(&want);
    assert_true(heard.complete);
    assert_int_equal(heard.command_count, 1);
    assert_true(run_id_eq(heard.command_rows[0].run, run));
    want.asides = &run;
    fetch_wanted(&want);
    assert_false(heard.complete);
    assert_int_equal(heard.command_count, 4000);
    assert_true(run_id_eq(heard.command_rows[3999].run, aside));
}

static void a_read_that_cannot_be_made_is_answered(void **state)
{
    struct run_id run = new_run();

    (void)state;
    hand_break_reads(true);
    assert_true(load(run)->failed);
    hand_break_reads(false);
    assert_true(load(run)->found);
}

/* ---- while a batch is under way ---- */

static struct sched_batch two_events(struct history *h, struct run_id run)
{
    history_of(h, 0, run, 1);
    history_of(h, 1, run, 2);
    return batch_of(h, 2);
}

static void a_read_sees_all_of_a_batch_or_nothing(void **state)
{
    struct run_id run = new_run();
    struct history h = {0};
    struct sched_batch batch = two_events(&h, run);
    int wanted;

    (void)state;
    hand_hold(true);
    wanted = send_batch(&batch);
    UNTIL(hand_is_held());
    assert_int_equal(events_of(run), 0);
    assert_int_equal(heard.committed, wanted - 1);
    hand_hold(false);
    UNTIL(heard.committed == wanted);
    assert_int_equal(heard.outcome.outcome, SCHED_COMMITTED);
    assert_int_equal(events_of(run), 2);
}

static void a_batch_whose_server_process_ends_has_not_happened(void **state)
{
    struct run_id run = new_run();
    struct history h = {0};
    struct sched_batch batch = two_events(&h, run);
    int wanted;

    (void)state;
    hand_hold(true);
    wanted = send_batch(&batch);
    UNTIL(hand_is_held());
    hand_kill();
    UNTIL(heard.committed == wanted);
    assert_int_equal(heard.outcome.outcome, SCHED_UNAVAILABLE);
    hand_hold(false);
    assert_int_equal(events_of(run), 0);
    assert_commits(&batch); /* sent again, as it is */
    assert_int_equal(events_of(run), 2);
}

static void an_unknown_batch_that_had_not_happened_never_will(void **state)
{
    struct run_id run = new_run();
    struct history h = {0};
    struct sched_batch batch = two_events(&h, run);
    int wanted;

    (void)state;
    hand_hold(true);
    wanted = send_batch(&batch);
    UNTIL(hand_is_held());
    hand_cut();
    UNTIL(heard.committed == wanted);
    assert_int_equal(heard.outcome.outcome, SCHED_UNKNOWN);
    hand_hold(false);
    assert_int_equal(events_of(run), 0);
    world_pass(300 * US_PER_MS);
    assert_int_equal(events_of(run), 0);
    assert_commits(&batch);
}

static void an_unknown_batch_that_had_happened_is_there_when_it_is_told(void **state)
{
    struct run_id run = new_run();
    struct history h = {0};
    struct sched_batch batch = two_events(&h, run);
    int wanted;

    (void)state;
    hand_mute(true);
    wanted = send_batch(&batch);
    UNTIL(hand_is_done(run, 2));
    assert_int_equal(heard.committed, wanted - 1);
    hand_cut();
    hand_mute(false);
    UNTIL(heard.committed == wanted);
    assert_int_equal(heard.outcome.outcome, SCHED_UNKNOWN);
    assert_int_equal(events_of(run), 2);
    assert_int_equal(commit(&batch), SCHED_CONFLICT);
    assert_int_equal(events_of(run), 2);
}

/* ---- when the process dies ---- */

static void who_takes_over_reads_what_was_committed_and_no_more_comes(void **state)
{
    struct run_id run = new_run();
    const struct sched_open_row row = open_row(run, 2);
    struct history h = {0};
    struct sched_batch batch = two_events(&h, run);
    size_t count;

    (void)state;
    batch.open_count = 1;
    batch.opens = &row;
    assert_commits(&batch);
    history_of(&h, 0, run, 3);
    batch = batch_of(&h, 1);
    (void)send_batch(&batch);
    hand_crash(); /* perhaps before the server has heard of it */
    hand_shard(SHARD, ME, EPOCH + 1);
    count = events_of(run);
    assert_in_range(count, 2, 3);
    load_shard();
    assert_int_equal(heard.work_count, 1);
    assert_int_equal(heard.work[0].dispatch, 3);
    world_pass(300 * US_PER_MS);
    assert_int_equal(events_of(run), count); /* whatever it was, it is decided */
    assert_int_equal(commit_events(run, 4, 4), SCHED_FENCED);
}

static void a_crash_before_the_first_row_leaves_nothing(void **state)
{
    struct run_id run = new_run();
    struct history h = {0};
    struct sched_batch batch = two_events(&h, run);

    (void)state;
    hand_hold(true);
    (void)send_batch(&batch);
    UNTIL(hand_is_held());
    hand_crash();
    hand_kill();
    hand_hold(false);
    hand_shard(SHARD, ME, EPOCH + 1);
    assert_int_equal(events_of(run), 0);
}

static void a_crash_after_the_commit_leaves_all(void **state)
{
    struct run_id run = new_run();
    struct history h = {0};
    struct sched_batch batch = two_events(&h, run);

    (void)state;
    hand_mute(true);
    (void)send_batch(&batch);
    UNTIL(hand_is_done(run, 2));
    hand_crash();
    hand_mute(false);
    hand_shard(SHARD, ME, EPOCH + 1);
    assert_int_equal(events_of(run), 2);
}

const struct CMUnitTest store_read_tests[] = {
    STORE_SCENARIO(a_run_is_read_as_it_was_written),
    STORE_SCENARIO(what_is_not_there_is_answered_as_such),
    STORE_SCENARIO(each_of_many_runs_is_answered_once),
    STORE_SCENARIO(a_shard_is_read_whole_however_much_it_holds),
    STORE_SCENARIO(more_commands_than_a_part_are_not_complete),
    STORE_SCENARIO(commands_of_runs_that_are_set_aside_are_left_out),
    STORE_SCENARIO(a_read_that_cannot_be_made_is_answered),
    STORE_SCENARIO(a_read_sees_all_of_a_batch_or_nothing),
    STORE_SCENARIO(a_batch_whose_server_process_ends_has_not_happened),
    STORE_SCENARIO(an_unknown_batch_that_had_not_happened_never_will),
    STORE_SCENARIO(an_unknown_batch_that_had_happened_is_there_when_it_is_told),
    STORE_SCENARIO(who_takes_over_reads_what_was_committed_and_no_more_comes),
    STORE_SCENARIO(a_crash_before_the_first_row_leaves_nothing),
    STORE_SCENARIO(a_crash_after_the_commit_leaves_all),
};
const size_t store_read_count = sizeof(store_read_tests) / sizeof(store_read_tests[0]);
