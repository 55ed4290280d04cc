/* What the scheduler counts on when it fires schedules. A time is one minute of a schedule of every minute here: what
 * is decided about it is core/fire.c's business, and not asked. */
#include "tests/contract/schedules.h"

#include "common/base/banned.h"

#define MINUTE (60 * US_PER_S)

static struct wall_us now; /* when the world began */
static struct fire_time times[ROWS_MAX];
static size_t time_count;

static int begin(void **state)
{
    int failed = schedules_world_begin(state);

    now = hand_clock();
    time_count = 0;
    return failed;
}

static struct wall_us ago(int64_t us)
{
    return (struct wall_us){now.us - us};
}

static struct run_id due_schedule(int16_t shard)
{
    return hand_schedule(shard, ago(10 * MINUTE), ago(5 * MINUTE));
}

static struct fire_row only_row(struct run_id schedule)
{
    struct fire_row rows[ROWS_MAX];

    assert_int_equal(hand_due(SHARD_COUNT, ROWS_MAX, rows), 1);
    assert_true(run_id_eq(rows[0].id, schedule));
    return rows[0];
}

static size_t due_count(void)
{
    struct fire_row rows[ROWS_MAX];

    return hand_due(SHARD_COUNT, ROWS_MAX, rows);
}

/* `count` times of it, a minute apart, the last one a minute ago. It is looked at again in an hour. */
static struct fire fire_of(const struct fire_row *row, enum fire_what what, size_t count)
{
    struct fire fire = {.row = row, .readable = true, .after = ago(MINUTE), .count = count};

    fire.next.us = fire.look_at.us = now.us + 60 * MINUTE;
    fire.times = &times[time_count];
    assert_true(time_count + count <= ROWS_MAX);
    for (size_t i = 0; i < count; i++)
        times[time_count++] = (struct fire_time){.nominal = ago((int64_t)(count - i) * MINUTE),
                                                 .what = what,
                                                 .run = run_id_make(now, run_id_slot(row->id)),
                                                 .trigger = STR("{}")};
    return fire;
}

static void what_is_due_is_given_the_longest_due_first(void **state)
{
    struct run_id second = hand_schedule(0, ago(MINUTE), ago(MINUTE)),
                  first = hand_schedule(1, ago(MINUTE), ago(2 * MINUTE)), third = hand_schedule(2, ago(MINUTE), ago(1));
    struct fire_row rows[ROWS_MAX];

    (void)state;
    (void)hand_schedule(3, ago(MINUTE), ago(-60 * MINUTE));
    (void)hand_schedule(3, ago(MINUTE), (struct wall_us){0});
    assert_int_equal(hand_due(SHARD_COUNT, ROWS_MAX, rows), 3);
    assert_true(run_id_eq(rows[0].id, first) && run_id_eq(rows[1].id, second) && run_id_eq(rows[2].id, third));
    assert_int_equal(rows[0].shard, 1);
    assert_int_equal(rows[0].after.us, now.us - MINUTE);
    assert_int_equal(rows[0].due.us, now.us - 2 * MINUTE);
    assert_false(rows[0].has_run || rows[0].busy || rows[0].waiting != 0);
    assert_true(rows[0].now.us >= now.us);
    assert_int_equal(hand_due(SHARD_COUNT, 2, rows), 2);
    assert_true(run_id_eq(rows[1].id, second));
    assert_int_equal(hand_due(1, ROWS_MAX, rows), 1); /* of others' shards nothing */
    assert_true(run_id_eq(rows[0].id, second));
}

static void when_the_next_one_is_due_is_told(void **state)
{
    struct run_id later;
    struct fire_row row;
    struct fire queue;
    int64_t next;
    bool waiting;

    (void)state;
    assert_true(hand_next(SHARD_COUNT, &waiting) == INT64_MAX && !waiting);
    (void)hand_schedule(0, ago(MINUTE), (struct wall_us){0});
    (void)hand_schedule(1, ago(MINUTE), ago(-60 * MINUTE));
    assert_true(hand_next(1, &waiting) == INT64_MAX && !waiting); /* the other is another's shard */
    next = hand_next(SHARD_COUNT, &waiting);
    assert_true(next > 58 * MINUTE && next <= 60 * MINUTE && !waiting);
    later = due_schedule(2);
    row = only_row(later);
    queue = fire_of(&row, FIRE_QUEUE, 1);
    assert_int_equal(hand_fire(&queue, 1), 0);
    (void)hand_next(2, &waiting);
    assert_false(waiting);
    (void)hand_next(SHARD_COUNT, &waiting);
    assert_true(waiting);
    hand_change(later, HAND_PAUSE);
    (void)hand_next(SHARD_COUNT, &waiting);
    assert_false(waiting);
}

static void a_time_starts_one_run_however_often_it_is_fired(void **state)
{
    struct run_id schedule = due_schedule(0);
    struct fire_row row = only_row(schedule);
    struct fire fire = fire_of(&row, FIRE_START, 3), again = fire_of(&row, FIRE_START, 3);
    struct hand_state after;

    (void)state;
    assert_int_equal(hand_fire(&fire, 1), 3);
    after = hand_state(schedule);
    assert_int_equal(after.after.us, fire.after.us);
    assert_int_equal(after.due.us, fire.look_at.us);
    assert_true(after.has_run && run_id_eq(after.last_run, fire.times[2].run));
    assert_int_equal(due_count(), 0);
    assert_int_equal(hand_fire(&again, 1), 0);
    after = hand_state(schedule);
    assert_int_equal(after.times, 3);
    assert_int_equal(after.runs, 3);
    assert_true(run_id_eq(after.last_run, fire.times[2].run));
}

static void two_that_fire_it_at_once_start_one_run(void **state)
{
    struct run_id schedule = due_schedule(0);
    struct fire_row row = only_row(schedule);
    struct fire one = fire_of(&row, FIRE_START, 2), other = fire_of(&row, FIRE_START, 2);
    struct hand_state after;

    (void)state;
    assert_int_equal(hand_fire_at_once(&one, &other), 2);
    after = hand_state(schedule);
    assert_int_equal(after.times, 2);
    assert_int_equal(after.runs, 2);
}

static void many_are_fired_together_and_each_by_itself(void **state)
{
    struct fire_row rows[ROWS_MAX];
    struct fire fires[4];
    struct run_id known;

    (void)state;
    for (int16_t i = 0; i < 4; i++)
        (void)due_schedule(i);
    assert_int_equal(hand_due(SHARD_COUNT, ROWS_MAX, rows), 4);
    fires[0] = fire_of(&rows[2], FIRE_START, 1);
    known = fires[0].times[0].run;
    assert_int_equal(hand_fire(fires, 1), 1);
    for (size_t i = 0; i < 4; i++)
        fires[i] = fire_of(&rows[i], FIRE_START, 2);
    assert_int_equal(hand_fire(fires, 4), 7);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(hand_state(rows[i].id).runs, 2);
    assert_true(
        run_id_eq(hand_state(rows[2].id).last_run, fires[2].times[0].run)); /* the last of what it started now */
    assert_false(run_id_eq(hand_state(rows[2].id).last_run, known));
}

static void what_somebody_has_changed_since_is_left_alone(void **state)
{
    static const enum hand_change changes[] = {HAND_OVERRIDE, HAND_PAUSE, HAND_RESUME};
    struct run_id schedule = due_schedule(0);

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct fire_row row = only_row(schedule);
        struct fire fire = fire_of(&row, FIRE_START, 1);
        struct hand_state before;

        if (changes[i] == HAND_RESUME)
            hand_change(schedule, HAND_PAUSE);
        hand_change(schedule, changes[i]);
        before = hand_state(schedule);
        assert_int_equal(hand_fire(&fire, 1), 0);
        assert_int_equal(hand_state(schedule).times, 0);
        assert_int_equal(hand_state(schedule).due.us, before.due.us);
        if (changes[i] != HAND_PAUSE)
            continue;
        assert_int_equal(due_count(), 0);
        hand_change(schedule, HAND_RESUME);
    }
}

static void of_a_disabled_workflow_nothing_is_fired(void **state)
{
    struct run_id schedule = due_schedule(0);
    struct fire_row row = only_row(schedule);
    struct fire fire = fire_of(&row, FIRE_START, 1);

    (void)state;
    hand_enable(false);
    assert_int_equal(hand_fire(&fire, 1), 0);
    assert_int_equal(hand_state(schedule).times, 0);
}

static void what_is_not_yet_there_is_not_fired(void **state)
{
    struct run_id schedule = due_schedule(0);
    struct fire_row row = only_row(schedule);
    struct fire fire = fire_of(&row, FIRE_START, 1);

    (void)state;
    fire.times[0].nominal = fire.after = ago(-30 * MINUTE); /* whoever fires has a clock that is ahead */
    assert_int_equal(hand_fire(&fire, 1), 0);
    assert_int_equal(hand_state(schedule).times, 0);
    assert_int_equal(due_count(), 1);
}

static void that_the_last_run_goes_on_is_told_until_it_has_ended(void **state)
{
    struct run_id schedule = due_schedule(0);
    struct fire_row row = only_row(schedule);
    struct fire fire = fire_of(&row, FIRE_START, 1);

    (void)state;
    fire.look_at = ago(MINUTE);
    assert_int_equal(hand_fire(&fire, 1), 1);
    row = only_row(schedule);
    assert_true(row.busy && row.has_run && run_id_eq(row.last_run, fire.times[0].run));
    hand_end_run(fire.times[0].run);
    row = only_row(schedule);
    assert_true(!row.busy && row.has_run);
}

static void times_that_wait_start_once_oldest_first(void **state)
{
    struct run_id schedule = due_schedule(0);
    struct fire_row row = only_row(schedule);
    struct fire first = fire_of(&row, FIRE_START, 1), queue, release;

    (void)state;
    first.times[0].nominal = ago(9 * MINUTE);
    first.look_at = ago(MINUTE);
    assert_int_equal(hand_fire(&first, 1), 1);
    row = only_row(schedule);
    queue = fire_of(&row, FIRE_QUEUE, 2);
    assert_int_equal(hand_fire(&queue, 1), 0);
    assert_int_equal(hand_state(schedule).waiting, 2);
    assert_int_equal(due_count(), 0); /* the one before goes on */
    hand_end_run(first.times[0].run);
    for (size_t i = 0; i < 2; i++) {
        row = only_row(schedule); /* though its next time is in an hour */
        assert_int_equal(row.waiting, 2 - i);
        assert_int_equal(row.oldest.us, queue.times[i].nominal.us);
        release = fire_of(&row, FIRE_RELEASE, 1);
        release.times[0].nominal = row.oldest;
        assert_int_equal(hand_fire_at_once(&release, &release), 1);
        assert_int_equal(hand_state(schedule).waiting, 1 - i);
        assert_int_equal(due_count(), 0);
        hand_end_run(release.times[0].run);
    }
    assert_int_equal(due_count(), 0);
    assert_int_equal(hand_state(schedule).runs, 3);
    assert_int_equal(hand_state(schedule).times, 3);
}

static void what_waits_stays_while_it_is_paused(void **state)
{
    struct run_id schedule = due_schedule(0);
    struct fire_row row = only_row(schedule);
    struct fire queue = fire_of(&row, FIRE_QUEUE, 1);

    (void)state;
    assert_int_equal(hand_fire(&queue, 1), 0);
    hand_change(schedule, HAND_PAUSE);
    assert_int_equal(due_count(), 0);
    hand_change(schedule, HAND_RESUME);
    row = only_row(schedule);
    assert_int_equal(row.waiting, 1);
}

static void what_is_skipped_or_has_a_fault_has_its_row_and_no_run(void **state)
{
    struct run_id schedule = due_schedule(0);
    struct fire_row row = only_row(schedule);
    struct fire skip = fire_of(&row, FIRE_SKIP, 1), fault = fire_of(&row, FIRE_START, 2), again;

    (void)state;
    assert_int_equal(hand_fire(&skip, 1), 0);
    fault.times[0].error = STR("{\"code\":\"invalid_input\"}");
    again = fault; /* its second time is the one that was skipped */
    assert_int_equal(hand_fire(&fault, 1), 0);
    assert_int_equal(hand_fire(&again, 1), 0);
    assert_int_equal(hand_state(schedule).times, 2);
    assert_int_equal(hand_state(schedule).runs, 0);
    assert_false(hand_state(schedule).has_run);
}

static void the_run_before_is_cancelled_with_the_start_and_only_then(void **state)
{
    struct run_id schedule = due_schedule(0);
    struct fire_row row = only_row(schedule);
    struct fire first = fire_of(&row, FIRE_START, 1), second;

    (void)state;
    first.times[0].nominal = ago(9 * MINUTE);
    first.look_at = ago(MINUTE);
    assert_int_equal(hand_fire(&first, 1), 1);
    row = only_row(schedule);
    second = fire_of(&row, FIRE_START, 1);
    second.times[0].cancels = true;
    assert_int_equal(hand_fire(&second, 1), 1);
    assert_int_equal(hand_state(schedule).cancelled, 1);
    assert_int_equal(hand_fire(&second, 1), 0); /* fired again it cancels nobody */
    assert_int_equal(hand_state(schedule).cancelled, 1);
    assert_int_equal(hand_state(schedule).runs, 2);
}

#define SCENARIO(name) cmocka_unit_test_setup_teardown(name, begin, schedules_world_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENARIO(what_is_due_is_given_the_longest_due_first),
        SCENARIO(when_the_next_one_is_due_is_told),
        SCENARIO(a_time_starts_one_run_however_often_it_is_fired),
        SCENARIO(two_that_fire_it_at_once_start_one_run),
        SCENARIO(many_are_fired_together_and_each_by_itself),
        SCENARIO(what_somebody_has_changed_since_is_left_alone),
        SCENARIO(of_a_disabled_workflow_nothing_is_fired),
        SCENARIO(what_is_not_yet_there_is_not_fired),
        SCENARIO(that_the_last_run_goes_on_is_told_until_it_has_ended),
        SCENARIO(times_that_wait_start_once_oldest_first),
        SCENARIO(what_waits_stays_while_it_is_paused),
        SCENARIO(what_is_skipped_or_has_a_fault_has_its_row_and_no_run),
        SCENARIO(the_run_before_is_cancelled_with_the_start_and_only_then),
    };

    return cmocka_run_group_tests_name("schedules", tests, schedules_group_begin, schedules_group_end);
}
