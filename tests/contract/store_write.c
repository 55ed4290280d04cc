/* The contract of the store, first part: what a batch does. */
#include "tests/contract/store_kit.h"
#include "tests/contract/store_scenarios.h"

#include "common/base/banned.h"

/* ---- fencing ---- */

static void of_an_epoch_that_is_over_nothing_is_written(void **state)
{
    struct run_id run = new_run();

    (void)state;
    assert_int_equal(commit_events(run, 1, 2), SCHED_COMMITTED);
    hand_shard(SHARD, ME, EPOCH + 1);
    assert_int_equal(commit_events(run, 3, 4), SCHED_FENCED);
    assert_int_equal(events_of(run), 2);
}

static void of_a_shard_that_was_given_up_or_taken_nothing_is_written(void **state)
{
    struct run_id run = new_run();
    struct sched_batch empty = {0};

    (void)state;
    hand_shard(SHARD, NOBODY, EPOCH);
    assert_int_equal(commit_events(run, 1, 2), SCHED_FENCED);
    hand_shard(SHARD, ANOTHER, EPOCH);
    assert_int_equal(commit_events(run, 1, 2), SCHED_FENCED);
    hand_shard(SHARD, ANOTHER, EPOCH + 1);
    assert_int_equal(commit_events(run, 1, 2), SCHED_FENCED);
    assert_int_equal(commit(&empty), SCHED_FENCED); /* also when there is nothing to write */
    assert_int_equal(events_of(run), 0);
    hand_shard(SHARD, ME, EPOCH);
    assert_commits(&empty);
}

static void one_lost_shard_fences_the_whole_batch(void **state)
{
    static const int16_t shards[] = {OTHER_SHARD, SHARD};
    static const int64_t epochs[] = {EPOCH, EPOCH};
    struct run_id run = new_run(), other = new_id(OTHER_SHARD);
    struct history h = {0};
    struct sched_batch batch;

    (void)state;
    hand_run(other, STR("{}"));
    history_of(&h, 0, run, 1);
    history_of(&h, 1, other, 1);
    batch = batch_of(&h, 2);
    batch.shard_count = 2;
    batch.shards = shards;
    batch.epochs = epochs;
    hand_shard(OTHER_SHARD, ANOTHER, EPOCH + 1);
    assert_int_equal(commit(&batch), SCHED_FENCED);
    assert_int_equal(events_of(run) + events_of(other), 0);
    hand_shard(OTHER_SHARD, ME, EPOCH);
    assert_commits(&batch);
    assert_int_equal(events_of(run) + events_of(other), 2);
}

/* ---- events ---- */

static void an_event_that_is_there_is_a_conflict_and_nothing_of_the_batch_is_written(void **state)
{
    struct run_id run = new_run(), other = new_run();
    const struct sched_open_row row = open_row(other, 1);
    struct history h = {0};
    struct sched_batch batch;

    (void)state;
    assert_int_equal(commit_events(run, 1, 2), SCHED_COMMITTED);
    history_of(&h, 0, other, 1);
    history_of(&h, 1, run, 2);
    history_of(&h, 2, run, 3);
    batch = batch_of(&h, 3);
    batch.open_count = 1;
    batch.opens = &row;
    assert_int_equal(commit(&batch), SCHED_CONFLICT);
    assert_true(!heard.outcome.has_run || run_id_eq(heard.outcome.run, run)); /* who is named is at fault */
    assert_int_equal(events_of(run), 2);
    assert_int_equal(events_of(other), 0);
    assert_int_equal(load(other)->work_count, 0);
}

static void an_event_twice_in_one_batch_is_a_conflict(void **state)
{
    struct run_id run = new_run();
    struct history h = {0};
    struct sched_batch batch;

    (void)state;
    history_of(&h, 0, run, 1);
    history_of(&h, 1, run, 1);
    batch = batch_of(&h, 2);
    assert_int_equal(commit(&batch), SCHED_CONFLICT);
    assert_int_equal(events_of(run), 0);
}

/* That there are no gaps is the core's duty. */
static void events_are_kept_under_the_numbers_they_have(void **state)
{
    struct run_id run = new_run();

    (void)state;
    assert_int_equal(commit_events(run, 1, 1), SCHED_COMMITTED);
    assert_int_equal(commit_events(run, 3, 3), SCHED_COMMITTED);
    assert_int_equal(load(run)->events[1].seq, 3);
    assert_str(body_of(run, 3), STR("{\"seq\":3}"));
    assert_str(body_of(run, 2), STR_NONE);
    assert_int_equal(commit_events(run, 3, 3), SCHED_CONFLICT);
    assert_int_equal(commit_events(run, 2, 2), SCHED_COMMITTED);
    assert_int_equal(events_of(run), 3);
    assert_str(body_of(run, 2), STR("{\"seq\":2}"));
}

static void a_run_that_is_refused_costs_the_batch_and_no_other_its_own(void **state)
{
    struct run_id good = new_run(), bad = new_run();
    struct history h = {0};
    struct sched_batch batch;

    (void)state;
    hand_poison(bad);
    assert_int_equal(commit_events(bad, 1, 2), SCHED_COMMITTED);
    history_of(&h, 0, good, 1);
    history_of(&h, 1, bad, 3);
    batch = batch_of(&h, 2);
    assert_int_equal(commit(&batch), SCHED_REFUSED);
    assert_true(!heard.outcome.has_run || run_id_eq(heard.outcome.run, bad));
    assert_int_equal(events_of(good), 0);
    batch = batch_of(&h, 1); /* the halves */
    assert_commits(&batch);
    batch = (struct sched_batch){.event_count = 1, .events = h.rows + 1};
    assert_int_equal(commit(&batch), SCHED_REFUSED);
    assert_int_equal(commit(&batch), SCHED_REFUSED);
    assert_int_equal(events_of(good), 1);
    assert_int_equal(events_of(bad), 2);
}

/* ---- commands ---- */

static void a_command_goes_with_the_event_that_applies_it_or_stays(void **state)
{
    struct run_id run = new_run();
    struct sched_command_key key = {SHARD, hand_command(run, "signal", STR("{\"name\": \"go\"}"), STR("gateway.1"))};
    const struct sched_command_key keys[] = {key, {SHARD, key.id + 1000000}}; /* one that is not there is no error */
    struct history h = {0};
    struct sched_batch batch;

    (void)state;
    assert_int_equal(fetched(), 1);
    assert_int_equal(heard.command_rows[0].id, key.id);
    assert_int_equal(heard.command_rows[0].shard, SHARD);
    assert_int_equal(heard.command_rows[0].organisation, 1);
    assert_true(run_id_eq(heard.command_rows[0].run, run));
    assert_str(heard.command_rows[0].kind, STR("signal"));
    assert_str(heard.command_rows[0].body, STR("{\"name\": \"go\"}"));
    assert_str(heard.command_rows[0].reply_to, STR("gateway.1"));
    history_of(&h, 0, run, 1);
    batch = batch_of(&h, 1);
    batch.command_delete_count = 2;
    batch.command_deletes = keys;
    hand_shard(SHARD, ANOTHER, EPOCH + 1);
    assert_int_equal(commit(&batch), SCHED_FENCED);
    assert_int_equal(fetched(), 1);
    hand_shard(SHARD, ME, EPOCH);
    assert_commits(&batch);
    assert_int_equal(fetched(), 0);
    batch = (struct sched_batch){.command_delete_count = 2, .command_deletes = keys};
    assert_commits(&batch); /* nor one that is gone */
}

static void what_is_held_comes_only_after_the_release_and_in_order(void **state)
{
    struct run_id run = new_run(), other = new_run();
    int64_t first = hand_command(run, "signal", STR("{}"), STR_NONE),
            second = hand_command(other, "cancel", STR_NONE, STR_NONE);
    const struct sched_command_key hold = {SHARD, first};
    const struct sched_command_insert inserts[] = {{.shard = SHARD,
                                                    .held = true,
                                                    .run = run,
                                                    .organisation = 1,
                                                    .kind = "held_result",
                                                    .body = STR("{\"x\": 1}")}};
    const struct sched_quarantine_row quarantine = {.run = run, .organisation = 0, .shard = SHARD, .reason = "accused"};
    const struct sched_close_row release = {.shard = SHARD, .run = run};
    struct sched_batch batch = {.command_hold_count = 1,
                                .command_holds = &hold,
                                .command_insert_count = 1,
                                .command_inserts = inserts,
                                .quarantine_count = 1,
                                .quarantines = &quarantine};

    (void)state;
    assert_commits(&batch);
    assert_int_equal(fetched(), 1);
    assert_int_equal(heard.command_rows[0].id, second);
    assert_str(heard.command_rows[0].body, STR_NONE);
    load_shard();
    assert_int_equal(heard.quarantined_count, 1);
    assert_true(run_id_eq(heard.quarantined[0], run));
    batch = (struct sched_batch){.quarantine_count = 1, .quarantines = &quarantine}; /* twice is no error */
    assert_commits(&batch);
    load_shard();
    assert_int_equal(heard.quarantined_count, 1);
    batch = (struct sched_batch){.release_count = 1, .releases = &release};
    assert_commits(&batch);
    assert_int_equal(fetched(), 3);
    assert_int_equal(heard.command_rows[0].id, first);
    assert_str(heard.command_rows[2].kind, STR("held_result"));
    assert_str(heard.command_rows[2].body, STR("{\"x\": 1}"));
    load_shard();
    assert_int_equal(heard.quarantined_count, 0);
}

static void what_is_told_to_a_run_that_is_not_there_is_told_to_nobody(void **state)
{
    struct run_id run = new_run();
    const struct sched_command_insert inserts[] = {
        {.shard = SHARD, .run = new_id(SHARD), .organisation = 1, .kind = "cancel"},
        {.shard = SHARD, .run = run, .organisation = 0, .kind = "cancel"}};
    struct sched_batch batch = {.command_insert_count = 2, .command_inserts = inserts};

    (void)state;
    assert_commits(&batch);
    assert_int_equal(fetched(), 1);
    assert_true(run_id_eq(heard.command_rows[0].run, run));
    assert_int_equal(heard.command_rows[0].organisation, 1); /* the run's */
}

/* ---- open work ---- */

static void open_work_is_opened_changed_and_closed(void **state)
{
    struct run_id run = new_run();
    const struct sched_open_row opens[] = {open_row(run, 4), open_row(run, 2)};
    const struct wall_us later = {now_wall().us + 60 * US_PER_S};
    const struct sched_change_row changes[] = {
        {SHARD, run, 2, 5, later, "deferred"},
        {SHARD, run, 99, 5, later, "deferred"}, /* not there: no error */
        {SHARD, run, 4, 2, later, "older"}};    /* a smaller dispatch is not taken */
    const struct sched_change_row never = {SHARD, run, 2, 5, {0}, NULL};
    const struct sched_close_row closes[] = {{SHARD, run, 4}, {SHARD, run, 98}};
    struct sched_batch batch = {.open_count = 2, .opens = opens};
    const struct sched_loaded_run *loaded;

    (void)state;
    assert_commits(&batch);
    loaded = load(run);
    assert_int_equal(loaded->work_count, 2);
    batch = (struct sched_batch){.change_count = 3, .changes = changes};
    assert_commits(&batch);
    load_shard();
    assert_int_equal(heard.work_count, 2);
    for (size_t i = 0; i < 2; i++) {
        bool changed = heard.work[i].seq == 2;

        assert_int_equal(heard.work[i].dispatch, changed ? 5 : 3);
        assert_int_equal(heard.work[i].due_at.us, changed ? later.us : opens[0].due_at.us);
    }
    batch = (struct sched_batch){.change_count = 1, .changes = &never, .close_count = 2, .closes = closes};
    assert_commits(&batch);
    loaded = load(run);
    assert_int_equal(loaded->work_count, 1);
    assert_int_equal(loaded->work[0].seq, 2);
    assert_int_equal(loaded->work[0].due_at.us, 0);
}

static void open_work_that_is_there_is_a_conflict_unless_the_batch_closes_it(void **state)
{
    struct run_id run = new_run();
    struct sched_open_row opens[] = {open_row(run, 1), open_row(run, 1)};
    const struct sched_close_row close = {SHARD, run, 1};
    struct sched_batch batch = {.open_count = 1, .opens = opens};

    (void)state;
    assert_commits(&batch);
    assert_int_equal(commit(&batch), SCHED_CONFLICT);
    opens[0].dispatch = 9;
    batch.close_count = 1;
    batch.closes = &close;
    assert_commits(&batch); /* rows are closed before others are opened */
    assert_int_equal(load(run)->work_count, 1);
    assert_int_equal(load(run)->work[0].dispatch, 9);
    batch.open_count = 2;
    assert_int_equal(commit(&batch), SCHED_CONFLICT); /* twice in one batch */
    assert_int_equal(load(run)->work_count, 1);
    batch = (struct sched_batch){.close_count = 1, .closes = &close};
    assert_commits(&batch);
    batch = (struct sched_batch){.open_count = 1, .opens = opens};
    assert_commits(&batch); /* the number may be used again */
    assert_int_equal(load(run)->work_count, 1);
}

/* ---- children ---- */

static struct sched_child_row child_row(struct run_id parent, const char *workflow, int32_t version)
{
    struct run_id id = new_id(SHARD);

    return (struct sched_child_row){.shard = SHARD,
                                    .organisation = 1,
                                    .run = id,
                                    .parent = parent,
                                    .parent_step = STR("each[3].a"),
                                    .workflow = str_of(workflow),
                                    .version = version,
                                    .priority = PRIORITY_HIGH,
                                    .depth = 1,
                                    .created_at = run_id_time(id),
                                    .input = STR("{\"n\": 0.10}")};
}

static void a_child_is_a_run_with_a_start_and_a_parent(void **state)
{
    struct run_id run = new_run();
    struct sched_child_row rows[] = {child_row(run, "kid", 0), child_row(run, "kid", 1)};
    struct sched_batch batch = {.child_count = 2, .children = rows};
    const struct sched_loaded_run *child;
    struct str text = STR_NONE;

    (void)state;
    hand_workflow("kid", 2, true);
    assert_commits(&batch);
    child = load(rows[0].run);
    assert_true(child->found && child->has_parent && run_id_eq(child->parent, run));
    assert_str(child->parent_step, STR("each[3].a"));
    assert_str(child->workflow, STR("kid"));
    assert_int_equal(child->version, 2); /* the newest */
    assert_int_equal(child->priority, PRIORITY_HIGH);
    assert_int_equal(child->depth, 1);
    assert_int_equal(child->created_at.us, rows[0].created_at.us);
    assert_str(child->input, STR("{\"n\": 0.10}"));
    assert_true(jt_string(jt_get(child->trigger, "kind"), heard.arena, &text));
    assert_str(text, STR("workflow"));
    assert_true(jt_string(jt_get(child->trigger, "name"), heard.arena, &text));
    assert_str(text, STR("each[3].a"));
    assert_int_equal(child->event_count + child->work_count, 0);
    assert_string_equal(hand_status(rows[0].run), "pending");
    assert_int_equal(load(rows[1].run)->version, 1);
    assert_int_equal(fetched(), 2);
    for (size_t i = 0; i < 2; i++) {
        assert_str(heard.command_rows[i].kind, STR("start"));
        assert_true(run_id_eq(heard.command_rows[i].run, rows[i].run));
    }
}

static void a_child_that_cannot_be_started_is_told_to_its_parent(void **state)
{
    static const char *const codes[] = {"unknown_workflow", "workflow_disabled", "unknown_version"};
    static const char *const messages[] = {"there is no workflow 'nobody'", "workflow 'off' is disabled",
                                           "workflow 'kid' has no version 9"};
    struct run_id run = new_run();
    struct sched_child_row rows[] = {child_row(run, "nobody", 0), child_row(run, "off", 0), child_row(run, "kid", 9)};
    struct sched_batch batch = {.child_count = 3, .children = rows};

    (void)state;
    hand_workflow("kid", 2, true);
    hand_workflow("off", 1, false);
    rows[1].run = run; /* what is not started takes no id */
    assert_commits(&batch);
    assert_int_equal(fetched(), 3);
    for (size_t i = 0; i < 3; i++) {
        const struct sched_command *row = &heard.command_rows[i];
        struct str error = jt_get(row->body, "error"), text = STR_NONE;
        char id[UUID_TEXT_SIZE];

        run_id_format(rows[i].run, id);
        assert_str(row->kind, STR("child_ended"));
        assert_true(run_id_eq(row->run, run));
        assert_true(jt_string(jt_get(row->body, "child"), heard.arena, &text));
        assert_str(text, str_of(id));
        assert_true(jt_string(jt_get(row->body, "step"), heard.arena, &text));
        assert_str(text, STR("each[3].a"));
        assert_true(jt_string(jt_get(row->body, "status"), heard.arena, &text));
        assert_str(text, STR("failed"));
        assert_true(jt_string(jt_get(error, "code"), heard.arena, &text));
        assert_str(text, str_of(codes[i]));
        assert_true(jt_string(jt_get(error, "message"), heard.arena, &text));
        assert_str(text, str_of(messages[i]));
    }
    assert_false(load(rows[0].run)->found);
}

static void a_child_that_is_there_is_a_conflict(void **state)
{
    struct run_id run = new_run();
    struct sched_child_row rows[] = {child_row(run, "w", 0), child_row(run, "w", 0)};
    struct sched_batch batch = {.child_count = 1, .children = rows};

    (void)state;
    assert_commits(&batch);
    assert_int_equal(commit(&batch), SCHED_CONFLICT);
    rows[0] = rows[1];
    batch.child_count = 2;
    assert_int_equal(commit(&batch), SCHED_CONFLICT); /* twice in one batch */
    assert_false(load(rows[1].run)->found);
    assert_int_equal(fetched(), 1);
}

/* ---- what no port reads back ---- */

static void a_dead_letter_that_may_be_there_is_written_once(void **state)
{
    const struct sched_dead_letter first = {.kind = "message",
                                            .source = STR("q"),
                                            .type = STR("result"),
                                            .message_id = STR("1"),
                                            .reason = "undecodable",
                                            .body = STR("\x00\xff")};
    struct sched_dead_letter letters[6];
    struct sched_batch batch = {.dead_letter_count = 1, .dead_letters = letters};

    (void)state;
    for (size_t i = 0; i < 6; i++)
        letters[i] = first;
    assert_commits(&batch);
    assert_commits(&batch); /* the same was sent twice */
    assert_int_equal(hand_dead_letters(), 2);
    letters[0].again = true;
    letters[0].reason = "other words";
    assert_commits(&batch);
    assert_int_equal(hand_dead_letters(), 2);
    for (size_t i = 0; i < 6; i++)
        letters[i].again = true;
    letters[1].body = STR("\x00");
    letters[2].message_id = STR("2");
    letters[3].source = STR("other");
    letters[4].type = STR_NONE;
    letters[5].message_id = letters[5].body = STR_NONE;
    batch.dead_letter_count = 6;
    assert_commits(&batch); /* none of these five was there */
    assert_int_equal(hand_dead_letters(), 7);
    assert_commits(&batch);
    assert_int_equal(hand_dead_letters(), 7);
}

static void the_row_of_a_run_follows(void **state)
{
    struct run_id run = new_run();
    struct sched_run_row row = {.run = run, .organisation = 1, .status = RUN_ACTIVE, .started_at = now_wall()};
    const struct sched_dead_letter letters[] = {
        {.kind = "message", .source = STR("q"), .reason = "undecodable", .body = STR("\x00\xff")},
        {.organisation = 1,
         .kind = "task",
         .source = STR("q"),
         .has_run = true,
         .run = run,
         .step = STR("t"),
         .reason = "poison"}};
    struct sched_batch batch = {.run_count = 1, .runs = &row, .dead_letter_count = 2, .dead_letters = letters};

    (void)state;
    assert_string_equal(hand_status(run), "pending");
    assert_commits(&batch);
    assert_string_equal(hand_status(run), "active");
    assert_int_equal(hand_dead_letters(), 2);
    row.status = RUN_FAILED;
    row.ended_at = now_wall();
    batch = (struct sched_batch){.run_count = 1, .runs = &row};
    assert_commits(&batch);
    assert_string_equal(hand_status(run), "failed");
}

const struct CMUnitTest store_write_tests[] = {
    STORE_SCENARIO(of_an_epoch_that_is_over_nothing_is_written),
    STORE_SCENARIO(of_a_shard_that_was_given_up_or_taken_nothing_is_written),
    STORE_SCENARIO(one_lost_shard_fences_the_whole_batch),
    STORE_SCENARIO(an_event_that_is_there_is_a_conflict_and_nothing_of_the_batch_is_written),
    STORE_SCENARIO(an_event_twice_in_one_batch_is_a_conflict),
    STORE_SCENARIO(events_are_kept_under_the_numbers_they_have),
    STORE_SCENARIO(a_run_that_is_refused_costs_the_batch_and_no_other_its_own),
    STORE_SCENARIO(a_command_goes_with_the_event_that_applies_it_or_stays),
    STORE_SCENARIO(what_is_held_comes_only_after_the_release_and_in_order),
    STORE_SCENARIO(what_is_told_to_a_run_that_is_not_there_is_told_to_nobody),
    STORE_SCENARIO(open_work_is_opened_changed_and_closed),
    STORE_SCENARIO(open_work_that_is_there_is_a_conflict_unless_the_batch_closes_it),
    STORE_SCENARIO(a_child_is_a_run_with_a_start_and_a_parent),
    STORE_SCENARIO(a_child_that_cannot_be_started_is_told_to_its_parent),
    STORE_SCENARIO(a_child_that_is_there_is_a_conflict),
    STORE_SCENARIO(a_dead_letter_that_may_be_there_is_written_once),
    STORE_SCENARIO(the_row_of_a_run_follows),
};
const size_t store_write_count = sizeof(store_write_tests) / sizeof(store_write_tests[0]);
