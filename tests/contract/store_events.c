/* Steps that wait for events: what a wait is told of, by whoever takes the event or by its own look back, and that it
 * is told of each once, oldest first. What happens when both are under way at once: tests/service/test_event_waits.py.
 */
#include "tests/contract/store_kit.h"
#include "tests/contract/store_scenarios.h"

#include "common/base/banned.h"

static void open_wait(struct run_id run, uint32_t seq, const char *type, const char *source, int64_t look_back_us)
{
    struct sched_open_row row = open_row(run, seq);
    struct sched_batch batch = {.open_count = 1, .opens = &row};

    row.kind = WORK_EVENT;
    row.attempt = 0;
    row.dispatch = 0;
    row.pool = STR_NONE;
    row.event_type = str_of(type);
    row.event_source = source == NULL ? STR_NONE : str_of(source);
    row.look_back_us = look_back_us;
    assert_commits(&batch);
}

static void look(void)
{
    int before = heard.looks;

    ports.look_back(ports.ctx, SHARDS, 1);
    UNTIL(heard.looks == before + 1);
    assert_false(heard.failed);
}

static void remove_command(size_t i)
{
    const struct sched_command_key key = {SHARD, heard.command_rows[i].id};
    struct sched_batch batch = {.command_delete_count = 1, .command_deletes = &key};

    assert_commits(&batch);
}

/* The commands that are there tell the wait `seq` of these events, in this order, and are done with. */
static void assert_told(struct run_id run, uint32_t seq, const char *numbers)
{
    char said[256] = "";
    size_t count = fetched(), len = 0;

    for (size_t i = 0; i < count; i++) {
        struct str body = heard.command_rows[i].body;
        int64_t n = 0, at = 0;

        assert_str(heard.command_rows[i].kind, STR("event"));
        assert_true(run_id_eq(heard.command_rows[i].run, run));
        assert_true(jt_i64(jt_get(body, "seq"), &at));
        assert_int_equal(at, seq);
        assert_true(jt_i64(jt_get(jt_get(jt_get(body, "event"), "data"), "n"), &n));
        len += (size_t)snprintf(said + len, sizeof(said) - len, "%s%d", i == 0 ? "" : " ", (int)n);
    }
    assert_string_equal(said, numbers);
    while (count > 0)
        remove_command(--count);
}

static void a_wait_that_has_looked_is_told_by_whoever_takes_the_event(void **state)
{
    struct run_id run = new_run();

    (void)state;
    open_wait(run, 2, "paid", NULL, -1);
    look();
    assert_false(heard.look_told);
    assert_false(heard.look_remaining);
    hand_event("paid", 1);
    hand_event("sent", 2);
    hand_event("paid", 3);
    assert_told(run, 2, "1 3");
    look();
    assert_false(heard.look_told);
    assert_told(run, 2, "");
}

static void before_that_it_is_told_by_its_own_look_oldest_first(void **state)
{
    struct run_id run = new_run();

    (void)state;
    hand_event("paid", 1); /* after the run began, before the step did */
    open_wait(run, 2, "paid", NULL, -1);
    hand_event("paid", 2); /* after both */
    assert_told(run, 2, "");
    look();
    assert_true(heard.look_told);
    assert_told(run, 2, "1 2");
    look();
    hand_event("paid", 3);
    assert_told(run, 2, "3");
}

static void it_looks_back_as_far_as_it_says(void **state)
{
    struct run_id run = new_run(), another = new_run();

    (void)state;
    hand_event("paid", 1);
    world_pass(10000);
    open_wait(run, 2, "paid", NULL, 0);
    look();
    assert_false(heard.look_told);
    assert_false(heard.look_remaining);
    open_wait(another, 2, "paid", NULL, 3600 * US_PER_S);
    look();
    assert_told(another, 2, "1");
}

static void only_events_of_its_source_are_told(void **state)
{
    struct run_id run = new_run(), another = new_run();

    (void)state;
    hand_event("paid", 1);
    open_wait(run, 2, "paid", "/elsewhere", -1);
    open_wait(another, 2, "paid", "/s", -1);
    look();
    assert_told(another, 2, "1");
    look();
    assert_false(heard.look_remaining);
    hand_event("paid", 2);
    assert_told(another, 2, "2");
}

static void a_wait_that_is_closed_is_told_of_nothing(void **state)
{
    struct run_id run = new_run();
    const struct sched_close_row close = {.shard = SHARD, .run = run, .seq = 2};
    struct sched_batch batch = {.close_count = 1, .closes = &close};

    (void)state;
    hand_event("paid", 1);
    open_wait(run, 2, "paid", NULL, -1);
    open_wait(run, 3, "sent", NULL, -1);
    assert_commits(&batch);
    look();
    look();
    assert_false(heard.look_remaining);
    assert_told(run, 2, "");
    hand_event("paid", 2);
    assert_told(run, 2, "");
    hand_event("sent", 3);
    assert_told(run, 3, "3");
}

static void others_are_not_looked_for_and_many_are_in_turns(void **state)
{
    const int16_t others[] = {OTHER_SHARD};
    struct run_id runs[7];
    size_t told = 0;

    (void)state;
    for (size_t i = 0; i < 7; i++) {
        runs[i] = new_run();
        open_wait(runs[i], 2, i % 2 == 0 ? "paid" : "sent", NULL, 3600 * US_PER_S);
    }
    hand_event("paid", 1);
    hand_event("sent", 2);
    ports.look_back(ports.ctx, others, 1);
    UNTIL(heard.looks == 1);
    assert_false(heard.look_told);
    assert_false(heard.look_remaining);
    for (int i = 0; i < 20 && (told < 7 || heard.look_remaining); i++) {
        look();
        for (size_t count = fetched(); count > 0; told++)
            remove_command(--count);
    }
    assert_int_equal(told, 7);
    assert_false(heard.look_remaining);
}

const struct CMUnitTest store_event_tests[] = {
    STORE_SCENARIO(a_wait_that_has_looked_is_told_by_whoever_takes_the_event),
    STORE_SCENARIO(before_that_it_is_told_by_its_own_look_oldest_first),
    STORE_SCENARIO(it_looks_back_as_far_as_it_says),
    STORE_SCENARIO(only_events_of_its_source_are_told),
    STORE_SCENARIO(a_wait_that_is_closed_is_told_of_nothing),
    STORE_SCENARIO(others_are_not_looked_for_and_many_are_in_turns),
};
const size_t store_event_count = sizeof(store_event_tests) / sizeof(store_event_tests[0]);
