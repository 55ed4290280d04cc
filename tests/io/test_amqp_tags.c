/* Acknowledgements become one where they are contiguous, and confirms find their messages in any order. */
#include "common/io/amqp_tags.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct sent {
    uint64_t tag[4096];
    bool multiple[4096];
    size_t count;
};

static void on_send(void *ctx, uint64_t tag, bool multiple)
{
    struct sent *sent = ctx;

    sent->tag[sent->count] = tag;
    sent->multiple[sent->count++] = multiple;
}

static void deliver(struct ack_window *window, uint64_t from, uint64_t to)
{
    for (uint64_t tag = from; tag <= to; tag++)
        ack_window_delivered(window, tag);
}

static void contiguous_acks_become_one(void **state)
{
    struct ack_window window;
    struct sent sent = {0};

    (void)state;
    ack_window_init(&window);
    deliver(&window, 1, 200);
    for (uint64_t tag = 200; tag >= 1; tag--) /* any order */
        assert_true(ack_window_settle(&window, tag, false));
    ack_window_flush(&window, on_send, &sent);
    assert_int_equal(sent.count, 1);
    assert_int_equal(sent.tag[0], 200);
    assert_true(sent.multiple[0]);
    ack_window_deinit(&window);
}

static void gaps_are_acknowledged_one_by_one(void **state)
{
    struct ack_window window;
    struct sent sent = {0};

    (void)state;
    ack_window_init(&window);
    deliver(&window, 1, 10);
    ack_window_settle(&window, 1, false);
    ack_window_settle(&window, 5, false);
    ack_window_settle(&window, 7, false);
    ack_window_flush(&window, on_send, &sent);
    assert_int_equal(sent.count, 3);
    assert_int_equal(sent.tag[0], 1);
    assert_false(sent.multiple[0]);
    assert_int_equal(sent.tag[1], 5);
    assert_false(sent.multiple[1]);
    /* 2-4 and 6 close the gap: one ack up to 6 must not take 8 in, and 7 is not sent twice */
    sent.count = 0;
    for (uint64_t tag = 2; tag <= 6; tag++)
        ack_window_settle(&window, tag, false);
    ack_window_flush(&window, on_send, &sent);
    assert_int_equal(sent.count, 1);
    assert_int_equal(sent.tag[0], 6);
    assert_true(sent.multiple[0]);
    assert_int_equal(window.base, 8);
    ack_window_deinit(&window);
}

static void unknown_and_repeated_tags_are_refused(void **state)
{
    struct ack_window window;
    struct sent sent = {0};

    (void)state;
    ack_window_init(&window);
    deliver(&window, 1, 3);
    assert_false(ack_window_settle(&window, 4, false));
    assert_false(ack_window_settle(&window, 0, false));
    assert_true(ack_window_settle(&window, 2, true)); /* a nack, sent by the caller */
    assert_false(ack_window_settle(&window, 2, false));
    assert_true(ack_window_settle(&window, 1, false));
    ack_window_flush(&window, on_send, &sent);
    assert_int_equal(sent.count, 1);
    assert_int_equal(sent.tag[0], 1);
    assert_int_equal(window.base, 3);
    ack_window_deinit(&window);
}

/* Random settling against a plain model: each tag is covered exactly once, none before it was settled. */
static void random_settling_matches_a_model(void **state)
{
    static uint8_t settled[2001], covered[2001];
    struct ack_window window;
    struct sent sent = {0};
    uint64_t seed = 42, next = 1;

    (void)state;
    memset(settled, 0, sizeof(settled));
    memset(covered, 0, sizeof(covered));
    ack_window_init(&window);
    for (int turn = 0; turn < 20000; turn++) {
        uint64_t tag;

        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        tag = 1 + (seed >> 33) % 2000;
        if (turn % 3 == 0 && next <= 2000) {
            ack_window_delivered(&window, next++);
            continue;
        }
        if (ack_window_settle(&window, tag, false)) {
            assert_true(tag < next);
            assert_false(settled[tag]);
            settled[tag] = 1;
        }
        if (turn % 7 != 0)
            continue;
        sent.count = 0;
        ack_window_flush(&window, on_send, &sent);
        for (size_t i = 0; i < sent.count; i++) {
            assert_false(covered[sent.tag[i]]);
            for (uint64_t t = sent.multiple[i] ? 1 : sent.tag[i]; t <= sent.tag[i]; t++) {
                assert_true(settled[t]);
                covered[t] = 1;
            }
        }
        assert_memory_equal(settled, covered, sizeof(settled));
    }
    ack_window_deinit(&window);
}

struct outcomes {
    enum amqp_confirm outcome[600];
    unsigned reports[600];
};
static struct outcomes seen;

static void on_confirm(void *ctx, const struct confirm_entry *entry, enum amqp_confirm outcome)
{
    size_t index = (size_t)(uintptr_t)entry->ctx;

    (void)ctx;
    seen.outcome[index] = outcome;
    seen.reports[index]++;
}

static void confirms_come_in_any_order_and_once(void **state)
{
    struct confirm_window window;

    (void)state;
    memset(&seen, 0, sizeof(seen));
    confirm_window_init(&window);
    for (uintptr_t i = 1; i <= 500; i++)
        assert_int_equal(confirm_window_add(&window, NULL, (void *)i), i);
    confirm_window_settle(&window, 7, false, AMQP_CONFIRMED, on_confirm, NULL);
    confirm_window_returned(&window, 9);
    confirm_window_settle(&window, 8, false, AMQP_REFUSED, on_confirm, NULL);
    confirm_window_settle(&window, 300, true, AMQP_CONFIRMED, on_confirm, NULL);
    confirm_window_settle(&window, 300, true, AMQP_CONFIRMED, on_confirm, NULL);
    confirm_window_settle(&window, 9000, true, AMQP_CONFIRMED, on_confirm, NULL); /* never given */
    confirm_window_lose(&window, on_confirm, NULL);
    for (size_t i = 1; i <= 500; i++) {
        assert_int_equal(seen.reports[i], 1);
        assert_int_equal(seen.outcome[i], i == 8    ? AMQP_REFUSED
                                          : i == 9  ? AMQP_RETURNED
                                          : i > 300 ? AMQP_UNKNOWN
                                                    : AMQP_CONFIRMED);
    }
    assert_int_equal(confirm_window_add(&window, NULL, NULL), 1); /* a new channel counts from one */
    confirm_window_deinit(&window);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contiguous_acks_become_one),
        cmocka_unit_test(gaps_are_acknowledged_one_by_one),
        cmocka_unit_test(unknown_and_repeated_tags_are_refused),
        cmocka_unit_test(random_settling_matches_a_model),
        cmocka_unit_test(confirms_come_in_any_order_and_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
