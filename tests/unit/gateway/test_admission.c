/* Which starts are refused, and whose first. */
#include "gateway/admission.h"
#include "tests/unit/base/test.h"

#include "common/base/banned.h"

static const struct admission_limits limits = {.delay_us = 1000 * US_PER_MS, .waiting_min = 100, .waiting_max = 10000};
static int64_t now_us;

enum { CRITICAL, HIGH, NORMAL, LOW };

static void sample(struct admission *a, int64_t starts, int64_t starts_ms, const struct admission_load *loads,
                   size_t count)
{
    now_us += 200 * US_PER_MS;
    admission_sample(a, &(struct admission_sample){.at = {now_us},
                                                   .starts_waiting = starts,
                                                   .starts_delay_us = starts_ms * US_PER_MS,
                                                   .loads = loads,
                                                   .load_count = count});
}

static enum admission_verdict ask(struct admission *a, int32_t organisation)
{
    int64_t after = 0;
    enum admission_verdict verdict = admission_ask(a, organisation, NORMAL, &after);

    if (verdict != ADMISSION_TAKEN)
        assert_in_range(after, 1, 30);
    return verdict;
}

static void without_a_line_everything_is_taken(void **state)
{
    struct admission *a = admission_new(&limits);

    (void)state;
    for (int i = 0; i < 1000; i++)
        assert_int_equal(ask(a, 1 + i % 3), ADMISSION_TAKEN);
    sample(a, 99, 60000, NULL, 0); /* long, but short in number */
    assert_int_equal(ask(a, 1), ADMISSION_TAKEN);
    sample(a, 9999, 1000, NULL, 0); /* many, but quick */
    assert_int_equal(ask(a, 1), ADMISSION_TAKEN);
    admission_free(a);
}

static void a_line_closes_above_its_delay_and_opens_at_half_of_it(void **state)
{
    struct admission *a = admission_new(&limits);
    bool backlog;

    (void)state;
    sample(a, 500, 1001, NULL, 0);
    assert_int_equal(ask(a, 1), ADMISSION_BACKLOG);
    assert_int_equal(admission_refusing(a, &backlog), 0);
    assert_true(backlog);
    sample(a, 500, 501, NULL, 0);
    assert_int_equal(ask(a, 1), ADMISSION_BACKLOG);
    sample(a, 500, 500, NULL, 0);
    assert_int_equal(ask(a, 1), ADMISSION_TAKEN);
    sample(a, 500, 999, NULL, 0);
    assert_int_equal(ask(a, 1), ADMISSION_TAKEN);
    admission_free(a);
}

static void an_organisation_whose_own_tasks_wait_is_refused_alone(void **state)
{
    struct admission *a = admission_new(&limits);
    const struct admission_load loads[] = {
        {1, NORMAL, 60, 2000 * US_PER_MS}, {2, NORMAL, 90, 2000 * US_PER_MS}, {1, NORMAL, 60, 0}};

    (void)state;
    sample(a, 0, 0, loads, 3); /* what several schedulers tell of one adds up */
    assert_int_equal(ask(a, 1), ADMISSION_SHARE);
    assert_int_equal(ask(a, 2), ADMISSION_TAKEN);
    sample(a, 0, 0, NULL, 0);
    assert_int_equal(ask(a, 1), ADMISSION_TAKEN);
    admission_free(a);
}

/* What is urgent waits for what is urgent only; the rest waits for all before it. */
static void a_start_waits_for_its_priority_and_those_above(void **state)
{
    struct admission *a = admission_new(&limits);
    const struct admission_load low = {1, LOW, 500, 2000 * US_PER_MS}, high = {1, HIGH, 500, 2000 * US_PER_MS};
    int64_t after = 0;

    (void)state;
    sample(a, 0, 0, &low, 1);
    assert_int_equal(admission_ask(a, 1, CRITICAL, &after), ADMISSION_TAKEN);
    assert_int_equal(admission_ask(a, 1, NORMAL, &after), ADMISSION_TAKEN);
    assert_int_equal(admission_ask(a, 1, LOW, &after), ADMISSION_SHARE);
    sample(a, 0, 0, &high, 1);
    assert_int_equal(admission_ask(a, 1, CRITICAL, &after), ADMISSION_TAKEN);
    assert_int_equal(admission_ask(a, 1, HIGH, &after), ADMISSION_SHARE);
    assert_int_equal(admission_ask(a, 1, LOW, &after), ADMISSION_SHARE);
    admission_free(a);
}

static void who_floods_is_refused_first(void **state)
{
    struct admission *a = admission_new(&limits);

    (void)state;
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 190; i++)
            (void)ask(a, 1);
        for (int i = 0; i < 10; i++)
            (void)ask(a, 2);
        sample(a, 5000, round < 2 ? 0 : 1500, NULL, 0);
    }
    assert_int_equal(ask(a, 1), ADMISSION_BACKLOG);
    assert_int_equal(ask(a, 2), ADMISSION_TAKEN);
    sample(a, 5000, 2001, NULL, 0); /* too late for distinctions */
    assert_int_equal(ask(a, 2), ADMISSION_BACKLOG);
    admission_free(a);
}

static void equals_are_refused_alike(void **state)
{
    struct admission *a = admission_new(&limits);

    (void)state;
    for (int i = 0; i < 100; i++)
        (void)ask(a, 1 + i % 2);
    sample(a, 5000, 1500, NULL, 0);
    assert_int_equal(ask(a, 1), ADMISSION_BACKLOG);
    assert_int_equal(ask(a, 2), ADMISSION_BACKLOG);
    admission_free(a);
}

static void the_most_that_may_wait_holds_without_a_delay(void **state)
{
    struct admission *a = admission_new(&limits);
    const struct admission_load load = {7, NORMAL, 10000, 0};

    (void)state;
    sample(a, 10000, 0, NULL, 0);
    assert_int_equal(ask(a, 1), ADMISSION_BACKLOG);
    sample(a, 9999, 0, &load, 1);
    assert_int_equal(ask(a, 1), ADMISSION_TAKEN);
    assert_int_equal(ask(a, 7), ADMISSION_SHARE);
    admission_free(a);
}

static void those_refused_are_told_different_times(void **state)
{
    struct admission *a = admission_new(&limits);
    int seen[31] = {0}, different = 0;

    (void)state;
    sample(a, 5000, 6000, NULL, 0);
    sample(a, 5000, 5800, NULL, 0); /* as fast as time: 5.3 s to go */
    for (int i = 0; i < 1000; i++) {
        int64_t after = 0;

        assert_int_equal(admission_ask(a, 1, NORMAL, &after), ADMISSION_BACKLOG);
        assert_in_range(after, 1, 12);
        seen[after]++;
    }
    for (int i = 0; i < 31; i++)
        different += seen[i] > 0;
    assert_true(different >= 8);
    admission_free(a);
}

static void pressure_is_when_something_is_refused_or_much_is_asked(void **state)
{
    struct admission *a = admission_new(&limits);

    (void)state;
    sample(a, 0, 0, NULL, 0);
    assert_false(admission_is_pressed(a));
    for (int i = 0; i < 50; i++)
        (void)ask(a, 1);
    assert_true(admission_is_pressed(a));
    sample(a, 0, 0, NULL, 0);
    assert_false(admission_is_pressed(a));
    sample(a, 500, 5000, NULL, 0);
    assert_true(admission_is_pressed(a));
    admission_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_line_everything_is_taken),
        cmocka_unit_test(a_line_closes_above_its_delay_and_opens_at_half_of_it),
        cmocka_unit_test(an_organisation_whose_own_tasks_wait_is_refused_alone),
        cmocka_unit_test(a_start_waits_for_its_priority_and_those_above),
        cmocka_unit_test(who_floods_is_refused_first),
        cmocka_unit_test(equals_are_refused_alike),
        cmocka_unit_test(the_most_that_may_wait_holds_without_a_delay),
        cmocka_unit_test(those_refused_are_told_different_times),
        cmocka_unit_test(pressure_is_when_something_is_refused_or_much_is_asked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
