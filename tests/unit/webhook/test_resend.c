/* When an outgoing webhook is sent again. The clock is the test's: days pass in no time. */
#include "common/webhook/resend.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define HOUR_MS INT64_C(3600000)

/* Tries until the end, at each of which the endpoint answers so. Gives when the last was, in ms; *ret how many. */
static int64_t play(struct resend_answer answer, uint64_t chance, unsigned *ret, enum resend *ret_end)
{
    int64_t now = 0, delay = 0;
    unsigned tries = 0;

    while ((*ret_end = resend_decide(&answer, tries, chance, &delay)) == RESEND_AGAIN) {
        assert_true(delay >= 0);
        now += delay;
        tries++;
        assert_true(tries < 100);
    }
    *ret = tries + 1;
    return now;
}

static void who_never_answers_is_tried_ten_times_over_three_days(void **state)
{
    enum resend end;
    unsigned tries;

    (void)state;
    for (uint64_t chance = 0; chance < 1000; chance++) {
        int64_t last = play((struct resend_answer){.retry_after_ms = -1}, chance * 7919 * 7919, &tries, &end);

        assert_int_equal(tries, RESEND_TRIES);
        assert_int_equal(end, RESEND_GIVEN_UP);
        assert_true(last >= 75 * HOUR_MS && last < 92 * HOUR_MS);
    }
}

static void pauses_grow_and_jitter_only_adds_a_fifth(void **state)
{
    int64_t delay = 0;

    (void)state;
    for (unsigned tries = 0; tries + 1 < RESEND_TRIES; tries++) {
        int64_t pause = resend_pause_s(tries + 1) * 1000, least = INT64_MAX, most = 0;

        assert_true(tries == 0 || pause > resend_pause_s(tries) * 1000);
        for (uint64_t chance = 0; chance < 2000; chance++) {
            assert_int_equal(resend_decide(&(struct resend_answer){.status = 503, .retry_after_ms = -1}, tries,
                                           chance * UINT64_C(0x9e3779b97f4a7c15), &delay),
                             RESEND_AGAIN);
            assert_true(delay >= pause && delay < pause + pause / 5 + 1);
            least = delay < least ? delay : least;
            most = delay > most ? delay : most;
        }
        assert_true(most - least > pause / 10); /* what failed together does not come back together */
    }
}

static void any_success_ends_it_and_410_ends_them_all(void **state)
{
    int64_t delay = -7;

    (void)state;
    for (int status = 100; status <= 599; status++)
        for (unsigned tries = 0; tries < RESEND_TRIES; tries++) {
            enum resend is = resend_decide(&(struct resend_answer){status, -1}, tries, 1, &delay);

            if (status >= 200 && status <= 299)
                assert_int_equal(is, RESEND_DELIVERED);
            else if (status == 410)
                assert_int_equal(is, RESEND_GONE);
            else
                assert_int_equal(is, tries + 1 < RESEND_TRIES ? RESEND_AGAIN : RESEND_GIVEN_UP);
        }
}

static void retry_after_makes_it_later_never_sooner_and_a_day_at_most(void **state)
{
    int64_t delay = 0;

    (void)state;
    (void)resend_decide(&(struct resend_answer){429, HOUR_MS}, 0, 0, &delay);
    assert_int_equal(delay, HOUR_MS);
    (void)resend_decide(&(struct resend_answer){429, 1}, 3, 0, &delay);
    assert_int_equal(delay, resend_pause_s(4) * 1000);
    (void)resend_decide(&(struct resend_answer){503, INT64_MAX}, 0, 0, &delay);
    assert_int_equal(delay, 24 * HOUR_MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_never_answers_is_tried_ten_times_over_three_days),
        cmocka_unit_test(pauses_grow_and_jitter_only_adds_a_fifth),
        cmocka_unit_test(any_success_ends_it_and_410_ends_them_all),
        cmocka_unit_test(retry_after_makes_it_later_never_sooner_and_a_day_at_most),
    };

    return cmocka_run_group_tests_name("resend", tests, NULL, NULL);
}
