/* What is decided about schedules that are due. */
#include "scheduler/core/fire.h"
#include "tests/unit/base/test.h"

#include "common/base/banned.h"

#define NOW_US (INT64_C(1767225600) * US_PER_S)

static struct zones *zones;
static struct arena *arena;

static struct run_id make_run(void *ctx, unsigned slot)
{
    (void)ctx;
    return run_id_make((struct wall_us){NOW_US}, slot);
}

static void ignore(void *ctx, const char *code, const char *pointer, const char *message, const char *hint)
{
    (void)ctx, (void)code, (void)pointer, (void)message, (void)hint;
}

/* Ten seconds have gone by since it was looked at. */
static struct fire_row row_of(const char *definition)
{
    struct fire_row row = {.id_text = STR("id"), .trigger = STR("t"), .definition = str_of(definition)};

    row.anchor.us = row.after.us = NOW_US - 10 * US_PER_S;
    row.due.us = row.after.us + US_PER_S;
    row.now.us = NOW_US;
    return row;
}

static struct fire decide(const struct fire_row *row)
{
    struct fire fire;

    fire_decide(row, zones, make_run, NULL, ignore, arena, &fire);
    return fire;
}

static size_t count(const struct fire *fire, enum fire_what what)
{
    size_t n = 0;

    for (size_t i = 0; i < fire->count; i++)
        n += fire->times[i].what == what;
    return n;
}

static void test_all_that_is_due_starts_side_by_side(void **state)
{
    struct fire_row row = row_of("{\"every\":\"1s\"}");
    struct fire fire = decide(&row);

    (void)state;
    assert_int_equal(fire.count, 10);
    assert_int_equal(count(&fire, FIRE_START), 10);
    assert_int_equal(fire.after.us, NOW_US);
    assert_int_equal(fire.look_at.us, NOW_US + US_PER_S);
}

static void test_where_runs_may_not_lie_side_by_side_one_starts(void **state)
{
    struct fire_row row = row_of("{\"every\":{\"interval\":\"1s\",\"overlap\":\"skip\"}}");
    struct fire fire = decide(&row);

    (void)state;
    assert_int_equal(fire.count, 1);
    assert_int_equal(fire.times[0].what, FIRE_START);
    assert_int_equal(fire.look_at.us, row.after.us + 2 * US_PER_S);
    row.busy = true;
    fire = decide(&row);
    assert_int_equal(count(&fire, FIRE_SKIP), 10);
    row.definition = STR("{\"every\":{\"interval\":\"1s\",\"overlap\":\"cancel_previous\"}}");
    fire = decide(&row);
    assert_true(fire.count == 1 && fire.times[0].what == FIRE_START && fire.times[0].cancels);
}

static void test_times_wait_in_order_and_not_without_end(void **state)
{
    struct fire_row row = row_of("{\"every\":{\"interval\":\"1s\",\"overlap\":\"queue\"}}");
    struct fire fire;

    (void)state;
    row.busy = true;
    fire = decide(&row);
    assert_int_equal(count(&fire, FIRE_QUEUE), 10);
    row.waiting = FIRE_WAITING_MAX - 3;
    fire = decide(&row);
    assert_int_equal(count(&fire, FIRE_QUEUE), 3);
    assert_int_equal(count(&fire, FIRE_SKIP), 7);
    row.busy = false;
    row.oldest.us = row.after.us - 5 * US_PER_S;
    fire = decide(&row);
    assert_int_equal(fire.times[0].what, FIRE_RELEASE);
    assert_int_equal(fire.times[0].nominal.us, row.oldest.us);
    assert_int_equal(count(&fire, FIRE_QUEUE), 4);
    assert_int_equal(count(&fire, FIRE_START), 0);
    row.due.us = 0; /* no times of its own any more */
    fire = decide(&row);
    assert_int_equal(fire.count, 1);
    assert_int_equal(fire.look_at.us, 0);
}

static void test_what_cannot_be_read_here_is_looked_at_later(void **state)
{
    struct fire_row row = row_of("{\"cron\":{\"expression\":\"* * * * *\",\"timezone\":\"Mars/Olympus\"}}");
    struct fire fire = decide(&row);

    (void)state;
    assert_true(!fire.readable && fire.count == 0);
    assert_int_equal(fire.after.us, row.after.us);
    assert_int_equal(fire.look_at.us, NOW_US + FIRE_UNREADABLE_US);
}

/* Of 200 in line one is at fault: it is found alone, and all others are fired. */
static void test_a_slice_is_halved_until_the_one_at_fault_is_alone(void **state)
{
    (void)state;
    for (size_t bad = 0; bad < 200; bad++) {
        struct fire_pace pace;
        size_t first = 0, turns = 0;
        bool refused = false;

        fire_pace_init(&pace);
        while (first < 200) {
            size_t n = 200 - first < pace.most ? 200 - first : pace.most;
            bool hit = !refused && bad >= first && bad < first + n;

            switch (fire_pace_after(&pace, hit ? ERR_REFUSED_DATA : ERR_OK, n)) {
            case FIRE_GO_ON:
                first += n;
                break;
            case FIRE_REFUSED:
                assert_true(n == 1 && first == bad);
                refused = true;
                first++;
                break;
            case FIRE_AGAIN:
                break;
            }
            assert_true(++turns < 60);
        }
        assert_true(refused);
        assert_int_equal(fire_pace_after(&pace, ERR_UNAVAILABLE, 1), FIRE_AGAIN);
        assert_int_equal(fire_pace_after(&pace, ERR_STALE, 1), FIRE_AGAIN);
    }
}

/* Nobody looks for what is not due: until the next is, or until something may have been saved. */
static void test_nobody_looks_before_the_next_is_due(void **state)
{
    static const struct {
        int64_t next_in_us;
        bool waiting;
        int64_t after_us;
    } rows[] = {
        {-5, false, FIRE_LOOK_LEAST_US},
        {1, false, FIRE_LOOK_LEAST_US},
        {INT64_C(350) * US_PER_MS, false, INT64_C(350) * US_PER_MS},
        {INT64_C(350) * US_PER_MS, true, FIRE_LOOK_LEAST_US},
        {INT64_C(3600) * US_PER_S, false, FIRE_LOOK_MOST_US},
        {INT64_MAX, false, FIRE_LOOK_MOST_US},
        {INT64_MAX, true, FIRE_LOOK_LEAST_US},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(fire_look_after_us(rows[i].next_in_us, rows[i].waiting), rows[i].after_us);
    assert_true(FIRE_LOOK_MOST_US < US_PER_S);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_that_is_due_starts_side_by_side),
        cmocka_unit_test(test_where_runs_may_not_lie_side_by_side_one_starts),
        cmocka_unit_test(test_times_wait_in_order_and_not_without_end),
        cmocka_unit_test(test_what_cannot_be_read_here_is_looked_at_later),
        cmocka_unit_test(test_a_slice_is_halved_until_the_one_at_fault_is_alone),
        cmocka_unit_test(test_nobody_looks_before_the_next_is_due),
    };
    int failed;

    zones = zones_new(ZONEINFO_FOLDER);
    arena = arena_new(0);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    arena_free(arena);
    zones_free(zones);
    return failed;
}
