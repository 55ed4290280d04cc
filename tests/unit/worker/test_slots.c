/* How a worker's capacity is divided among classes of priority: what each class always has, what is lent to whom. */
#include "worker/slots.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

enum { CRITICAL, HIGH, NORMAL, LOW };

static unsigned has(const struct slots *slots, size_t lane)
{
    unsigned sum = slots->own[lane];

    for (size_t i = 0; i < slots->loan_count; i++)
        if (slots->lane_of[i] == lane)
            sum += slots->loan[i];
    return sum;
}

/* A second in which these lanes have more work than slots, and the others have none. */
static void second(struct slots *slots, const bool *busy)
{
    for (int tick = 0; tick < 10; tick++) {
        for (size_t i = 0; i < slots->lane_count; i++)
            slots_used(slots, i, busy[i] ? has(slots, i) : 0, has(slots, i));
        slots_divide(slots);
        if (tick % 5 == 4)
            slots_next_period(slots);
    }
}

static void when_all_classes_are_busy_each_has_its_weight(void **state)
{
    static const bool all[] = {true, true, true, true};
    static const unsigned sixteenths[] = {8, 4, 3, 1};

    (void)state;
    for (unsigned capacity = 16; capacity <= 4096; capacity *= 2) {
        struct slots slots;

        slots_init(&slots, capacity, 1);
        second(&slots, all);
        for (size_t i = 0; i < 4; i++)
            assert_int_equal(has(&slots, i), capacity * sixteenths[i] / 16);
    }
}

/* Whoever is busy and whatever was lent before: no class has less than its own, nor more loans than there are, and one
 * that is busy alone has all of them. */
static void no_class_ever_has_less_than_its_own(void **state)
{
    static const unsigned own[] = {64, 64, 64, 32};
    struct slots slots;

    (void)state;
    slots_init(&slots, 512, 1);
    for (unsigned before = 0; before < 16; before++) {
        for (unsigned now = 0; now < 16; now++) {
            bool first[4], then[4];
            unsigned sum = 0;

            for (unsigned i = 0; i < 4; i++) {
                first[i] = (before >> i & 1) != 0;
                then[i] = (now >> i & 1) != 0;
            }
            second(&slots, first);
            second(&slots, first);
            second(&slots, then);
            second(&slots, then);
            for (size_t i = 0; i < 4; i++) {
                assert_true(has(&slots, i) >= own[i]);
                if (now == 1U << i)
                    assert_int_equal(has(&slots, i), 288 + own[i]);
                sum += has(&slots, i);
            }
            assert_int_equal(sum, 512);
        }
    }
}

static void the_slots_are_never_more_than_the_capacity(void **state)
{
    (void)state;
    for (size_t pools = 1; pools <= SLOTS_POOLS_MAX; pools += 3) {
        for (unsigned capacity = 1; capacity <= 65000; capacity += capacity < 300 ? 1 : 4999) {
            struct slots slots;
            unsigned sum = 0;

            slots_init(&slots, capacity, pools);
            for (size_t i = 0; i < slots.lane_count; i++) {
                assert_true(slots.own[i] >= 1);
                sum += has(&slots, i);
            }
            assert_true(sum >= capacity || slots.loan_count == 0);
            assert_true(sum == capacity || sum == slots.lane_count || capacity < 16 * pools);
            assert_true(sum <= capacity || capacity < 8 * pools);
        }
    }
}

static void a_few_slots_are_one_for_each_class_first(void **state)
{
    static const bool none[4] = {0}, low[4] = {[LOW] = true}, both[4] = {[CRITICAL] = true, [LOW] = true};
    struct slots slots;

    (void)state;
    slots_init(&slots, 8, 1);
    assert_int_equal(has(&slots, NORMAL), 5);
    second(&slots, low);
    assert_int_equal(has(&slots, LOW), 5);
    second(&slots, both);
    assert_int_equal(has(&slots, CRITICAL), 5);
    assert_int_equal(has(&slots, LOW), 1);
    second(&slots, none);
    second(&slots, low);
    assert_int_equal(has(&slots, LOW), 5);
    slots_init(&slots, 1, 1);
    second(&slots, both);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(has(&slots, i), 1);
}

static void a_lane_that_uses_a_part_keeps_a_part(void **state)
{
    struct slots slots;

    (void)state;
    slots_init(&slots, 160, 1); /* loans of 10 */
    for (int tick = 0; tick < 20; tick++) {
        slots_used(&slots, NORMAL, 45, has(&slots, NORMAL)); /* 25 beyond its own */
        slots_used(&slots, LOW, has(&slots, LOW), has(&slots, LOW));
        slots_divide(&slots);
        if (tick % 5 == 4)
            slots_next_period(&slots);
    }
    assert_int_equal(has(&slots, NORMAL), 60); /* what it used, rounded up, and one to grow */
    assert_int_equal(has(&slots, LOW), 60);
    assert_false(slots_divide(&slots));
}

static void a_loan_is_asked_back_for_a_higher_class_and_given_only_where_it_is_used(void **state)
{
    struct slots slots;

    (void)state;
    slots_init(&slots, 16, 1);
    for (int i = 0; i < 3; i++) {
        slots_used(&slots, LOW, has(&slots, LOW), has(&slots, LOW));
        slots_divide(&slots);
    }
    slots_next_period(&slots);
    slots_next_period(&slots);
    slots_used(&slots, LOW, has(&slots, LOW), has(&slots, LOW));
    slots_divide(&slots);
    assert_int_equal(has(&slots, LOW), 10);
    slots_used(&slots, CRITICAL, 1, 2); /* it has a slot to spare */
    assert_false(slots_divide(&slots));
    slots_used(&slots, CRITICAL, 2, 2);
    assert_true(slots_divide(&slots));
    assert_int_equal(has(&slots, CRITICAL), 11);
    assert_int_equal(has(&slots, LOW), 1);
    assert_false(slots_divide(&slots)); /* also while the loans are still on their way */
}

static void pools_share_by_class(void **state)
{
    bool busy[8];
    struct slots slots;

    (void)state;
    for (size_t i = 0; i < 8; i++)
        busy[i] = true;
    slots_init(&slots, 512, 2);
    second(&slots, busy);
    assert_int_equal(has(&slots, LOW), 16);
    assert_int_equal(has(&slots, 4 + LOW), 16);
    assert_true(has(&slots, 4 + CRITICAL) >= 96);
    assert_true(has(&slots, CRITICAL) >= 96);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(when_all_classes_are_busy_each_has_its_weight),
        cmocka_unit_test(no_class_ever_has_less_than_its_own),
        cmocka_unit_test(the_slots_are_never_more_than_the_capacity),
        cmocka_unit_test(a_few_slots_are_one_for_each_class_first),
        cmocka_unit_test(a_lane_that_uses_a_part_keeps_a_part),
        cmocka_unit_test(a_loan_is_asked_back_for_a_higher_class_and_given_only_where_it_is_used),
        cmocka_unit_test(pools_share_by_class),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
