/* The contract of the broker. */
#include "tests/contract/broker.h"

#include "common/base/banned.h"

struct broker_heard heard;

static void publish(enum process process, int first, int last)
{
    for (int i = first; i <= last; i++) {
        char body[16];

        snprintf(body, sizeof(body), "%d", i);
        broker_do_publish(process, QUEUE, body);
    }
}

static void published(enum process process, int first, int last)
{
    int wanted = heard.confirmed + last - first + 1;

    publish(process, first, last);
    UNTIL(heard.confirmed == wanted);
}

static void settle_down(void)
{
    world_pass(300 * US_PER_MS);
}

static int number(int delivery)
{
    return heard.deliveries[delivery].body[0] - '0';
}

static uint32_t ready(void)
{
    int wanted = heard.depths + 1;

    broker_do_depth(S0, QUEUE);
    UNTIL(heard.depths == wanted);
    assert_true(heard.found);
    return heard.ready;
}

static void what_is_confirmed_is_there_in_order(void **state)
{
    (void)state;
    published(W0, 1, 9);
    assert_int_equal(heard.not_confirmed, 0);
    (void)broker_do_consume(S0, QUEUE, 64, 1);
    UNTIL(heard.count == 9);
    for (int i = 0; i < 9; i++) {
        assert_int_equal(number(i), i + 1);
        assert_false(heard.deliveries[i].redelivered);
    }
}

static void what_goes_nowhere_is_not_confirmed(void **state)
{
    (void)state;
    broker_do_publish(W0, "no.such.queue", "1");
    UNTIL(heard.not_confirmed == 1);
    broker_do_depth(S0, "no.such.queue");
    UNTIL(heard.depths == 1);
    assert_false(heard.found);
    published(W0, 1, 1); /* and the others go on */
}

static void what_is_unacknowledged_comes_again_after_the_connection_was_lost(void **state)
{
    (void)state;
    (void)broker_do_consume(S0, QUEUE, 64, 1);
    published(W0, 1, 5);
    UNTIL(heard.count == 5);
    broker_do_ack(1);
    settle_down();
    hand_lose_connection(S0);
    UNTIL(heard.count == 9);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(number(5 + i), i == 0 ? 1 : i + 2); /* in their order */
        assert_true(heard.deliveries[5 + i].redelivered);
    }
    settle_down();
    assert_int_equal(heard.count, 9);
}

static void what_was_put_back_is_where_it_was(void **state)
{
    int first = broker_do_consume(S0, QUEUE, 2, 1), second;

    (void)state;
    published(W0, 1, 6);
    UNTIL(heard.count == 2);
    second = broker_do_consume(S1, QUEUE, 2, 1);
    UNTIL(heard.count == 4); /* 1 and 2 there, 3 and 4 here */
    settle_down();
    broker_do_close(first);
    settle_down();
    broker_do_close(second);
    settle_down();
    assert_int_equal(ready(), 6);
    (void)broker_do_consume(S0, QUEUE, 64, 1);
    UNTIL(heard.count == 10);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(number(4 + i), i + 1);
        assert_int_equal(heard.deliveries[4 + i].redelivered, i < 4);
    }
}

static void a_refused_message_comes_again(void **state)
{
    (void)state;
    (void)broker_do_consume(S0, QUEUE, 64, 1);
    published(W0, 1, 1);
    UNTIL(heard.count == 1);
    broker_do_nack(0);
    UNTIL(heard.count == 2);
    assert_true(heard.deliveries[1].redelivered);
    broker_do_ack(1);
    settle_down();
    assert_int_equal(heard.count, 2);
    assert_int_equal(ready(), 0);
}

static void prefetch_bounds_what_is_in_hand(void **state)
{
    (void)state;
    (void)broker_do_consume(S0, QUEUE, 3, 1);
    published(W0, 1, 9);
    UNTIL(heard.count == 3);
    settle_down();
    assert_int_equal(heard.count, 3);
    broker_do_ack(0);
    UNTIL(heard.count == 4);
    settle_down();
    assert_int_equal(heard.count, 4);
    assert_int_equal(number(3), 4);
}

static void the_newer_epoch_is_served_first(void **state)
{
    int newer = broker_do_consume(S1, QUEUE, 2, 8), older;

    (void)state;
    settle_down();
    older = broker_do_consume(S0, QUEUE, 64, 7); /* which came first does not matter */
    settle_down();
    published(W0, 1, 3);
    UNTIL(heard.count == 3);
    for (int i = 0; i < 3; i++) /* the third is more than the newer may have in hand */
        assert_int_equal(heard.deliveries[i].consumer, number(i) < 3 ? newer : older);
}

static void a_cancelled_consumer_gets_no_more_and_keeps_what_it_has(void **state)
{
    int consumer = broker_do_consume(W0, QUEUE, 1, 0);

    (void)state;
    published(W0, 1, 2);
    UNTIL(heard.count == 1);
    broker_do_cancel(consumer);
    settle_down();
    assert_int_equal(ready(), 1);
    assert_int_equal(heard.consumers, 0);
    broker_do_ack(0);
    settle_down();
    assert_int_equal(heard.count, 1);
    assert_int_equal(ready(), 1);
}

static void depth_counts_what_is_ready_only(void **state)
{
    (void)state;
    (void)broker_do_consume(S0, QUEUE, 2, 1);
    published(W0, 1, 5);
    UNTIL(heard.count == 2);
    assert_int_equal(ready(), 3);
    assert_int_equal(heard.consumers, 1);
}

static void a_purge_takes_what_is_ready_only(void **state)
{
    (void)state;
    (void)broker_do_consume(S0, QUEUE, 2, 1);
    published(W0, 1, 5);
    UNTIL(heard.count == 2);
    hand_purge(QUEUE);
    assert_int_equal(ready(), 0);
    broker_do_nack(0);
    UNTIL(heard.count == 3);
    assert_int_equal(number(2), 1);
}

static void a_queue_that_is_deleted_and_made_again_is_consumed_again(void **state)
{
    (void)state;
    (void)broker_do_consume(S0, QUEUE, 64, 1);
    published(W0, 1, 2);
    UNTIL(heard.count == 2);
    hand_delete(QUEUE); /* whoever consumed it is told, and what it has in hand is nobody's */
    hand_declare(QUEUE);
    published(W0, 3, 3);
    UNTIL(heard.count == 3);
    assert_int_equal(number(2), 3);
    settle_down();
    assert_int_equal(heard.count, 3);
}

static void a_control_queue_goes_with_its_connection(void **state)
{
    (void)state;
    broker_do_publish(S0, hand_control(), "1");
    UNTIL(heard.confirmed == 1);
    hand_die(W0);
    settle_down();
    broker_do_publish(S0, hand_control(), "2");
    UNTIL(heard.not_confirmed == 1);
}

static void a_heartbeat_reaches_every_scheduler(void **state)
{
    (void)state;
    broker_do_heartbeat(W0, "{}");
    UNTIL(heard.heartbeats[S0] == 1 && heard.heartbeats[S1] == 1);
    hand_die(S1);
    settle_down();
    broker_do_heartbeat(W0, "{}");
    UNTIL(heard.heartbeats[S0] == 2);
    settle_down();
    assert_int_equal(heard.heartbeats[S1], 1);
}

#define SCENARIO(name) cmocka_unit_test_setup_teardown(name, broker_world_begin, broker_world_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENARIO(what_is_confirmed_is_there_in_order),
        SCENARIO(what_goes_nowhere_is_not_confirmed),
        SCENARIO(what_is_unacknowledged_comes_again_after_the_connection_was_lost),
        SCENARIO(what_was_put_back_is_where_it_was),
        SCENARIO(a_refused_message_comes_again),
        SCENARIO(prefetch_bounds_what_is_in_hand),
        SCENARIO(the_newer_epoch_is_served_first),
        SCENARIO(a_cancelled_consumer_gets_no_more_and_keeps_what_it_has),
        SCENARIO(depth_counts_what_is_ready_only),
        SCENARIO(a_purge_takes_what_is_ready_only),
        SCENARIO(a_queue_that_is_deleted_and_made_again_is_consumed_again),
        SCENARIO(a_control_queue_goes_with_its_connection),
        SCENARIO(a_heartbeat_reaches_every_scheduler),
    };

    return cmocka_run_group_tests_name("broker", tests, broker_group_begin, broker_group_end);
}
