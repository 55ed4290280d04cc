/* A broker link against a real RabbitMQ: what is published arrives, is confirmed, acknowledged, given back; and the
 * link makes itself again. Needs ROPEWALK_AMQP_URL; skipped without. */
#include "common/base/id.h"
#include "common/io/amqp.h"
#include <arpa/inet.h>
#include <netdb.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static const char *url;

struct fixture {
    uv_loop_t loop;
    struct amqp_link *link;
    char queue[64];
    unsigned ups, downs, confirmed, returned, refused, unknown, lost, depth_answers;
    bool depth_found;
    uint32_t depth_ready, depth_consumers;
    struct amqp_delivery *first, *last;
    unsigned deliveries, batches;
    bool ack_at_once;
};

static void on_up(void *ctx)
{
    ((struct fixture *)ctx)->ups++;
}
static void on_down(void *ctx, const struct err *err)
{
    assert_true(err->message[0] != '\0');
    ((struct fixture *)ctx)->downs++;
}
static void on_lost(void *ctx)
{
    ((struct fixture *)ctx)->lost++;
}
static void on_confirm(void *ctx, enum amqp_confirm outcome)
{
    struct fixture *f = ctx;

    f->confirmed += outcome == AMQP_CONFIRMED;
    f->returned += outcome == AMQP_RETURNED;
    f->refused += outcome == AMQP_REFUSED;
    f->unknown += outcome == AMQP_UNKNOWN;
}
static void on_depth(void *ctx, bool found, uint32_t ready, uint32_t consumers)
{
    struct fixture *f = ctx;

    f->depth_answers++;
    f->depth_found = found;
    f->depth_ready = ready;
    f->depth_consumers = consumers;
}
static void on_deliveries(void *ctx, struct amqp_delivery *first)
{
    struct fixture *f = ctx;

    f->batches++;
    while (first != NULL) {
        struct amqp_delivery *next = first->next;

        first->next = NULL;
        f->deliveries++;
        if (f->ack_at_once)
            amqp_ack(first->consumer, first->generation, first->tag);
        if (f->last == NULL)
            f->first = first;
        else
            f->last->next = first;
        f->last = first;
        first = next;
    }
}

static void drop_deliveries(struct fixture *f)
{
    while (f->first != NULL) {
        struct amqp_delivery *next = f->first->next;

        amqp_delivery_free(f->first);
        f->first = next;
    }
    f->last = NULL;
}

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

/* Runs the loop until *counter reaches `want`; fails after 20 s. */
static void run_until(struct fixture *f, const unsigned *counter, unsigned want)
{
    int64_t deadline = clock_mono().us + 20 * US_PER_S;
    uv_timer_t tick;

    uv_timer_init(&f->loop, &tick);
    uv_timer_start(&tick, on_tick, 10, 10);
    while (*counter < want) {
        if (clock_mono().us > deadline)
            fail_msg("waited 20 s: %u of %u", *counter, want);
        uv_run(&f->loop, UV_RUN_ONCE);
    }
    uv_close((uv_handle_t *)&tick, NULL);
    uv_run(&f->loop, UV_RUN_NOWAIT);
}

static void run_for_ms(struct fixture *f, int ms)
{
    int64_t deadline = clock_mono().us + ms * US_PER_MS;

    while (clock_mono().us < deadline) {
        uv_run(&f->loop, UV_RUN_NOWAIT);
        usleep(1000);
    }
}

static struct amqp_link *new_link(struct fixture *f, const char *link_url)
{
    return amqp_link_new(&(struct amqp_options){.loop = &f->loop,
                                                .url = link_url,
                                                .name = "test-link",
                                                .heartbeat_s = 5,
                                                .on_up = on_up,
                                                .on_down = on_down,
                                                .ctx = f});
}

static int setup(void **state)
{
    struct fixture *f = mem_alloc(sizeof(*f));
    char token[13];

    random_token(token, 12);
    snprintf(f->queue, sizeof(f->queue), "test.%s", token);
    uv_loop_init(&f->loop);
    f->link = new_link(f, url);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    amqp_link_free(f->link);
    drop_deliveries(f);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    mem_free(f);
    return 0;
}

static void declare(struct fixture *f)
{
    amqp_declare_queue(f->link, &(struct amqp_queue){.name = f->queue, .durable = true, .exclusive = true});
}

static struct amqp_consumer *consume(struct fixture *f, uint16_t prefetch)
{
    return amqp_consume(
        f->link,
        &(struct amqp_consume){
            .queue = f->queue, .prefetch = prefetch, .on_deliveries = on_deliveries, .on_lost = on_lost, .ctx = f});
}

#define SENT_AT (INT64_C(1700000000) * US_PER_S)

static void publish(struct fixture *f, const char *to, struct str body)
{
    amqp_publish(f->link, &(struct amqp_message){.exchange = "",
                                                 .routing_key = to,
                                                 .type = "task",
                                                 .message_id = "id-1",
                                                 .reply_to = "back",
                                                 .persistent = true,
                                                 .body = body,
                                                 .sent_at = {SENT_AT},
                                                 .on_confirm = on_confirm,
                                                 .ctx = f});
}

static void a_message_arrives_as_it_was_sent(void **state)
{
    struct fixture *f = *state;

    declare(f);
    consume(f, 10);
    run_until(f, &f->ups, 1);
    assert_true(amqp_link_is_up(f->link));
    publish(f, f->queue, STR("{\"a\":1}"));
    run_until(f, &f->deliveries, 1);
    run_until(f, &f->confirmed, 1);
    assert_true(str_is(f->first->body, "{\"a\":1}"));
    assert_true(str_is(f->first->type, "task"));
    assert_true(str_is(f->first->message_id, "id-1"));
    assert_true(str_is(f->first->reply_to, "back"));
    assert_false(f->first->redelivered);
    assert_true(f->first->timestamp.us == SENT_AT);
}

static void what_is_only_a_beginning_says_how_long_it_was(void **state)
{
    struct fixture *f = *state;

    declare(f);
    consume(f, 10);
    run_until(f, &f->ups, 1);
    amqp_publish(f->link, &(struct amqp_message){.exchange = "",
                                                 .routing_key = f->queue,
                                                 .type = "task",
                                                 .persistent = true,
                                                 .body = STR("{\"a\""),
                                                 .whole_bytes = UINT64_C(5000000000)});
    publish(f, f->queue, STR("{}"));
    run_until(f, &f->deliveries, 2);
    assert_true(str_is(f->first->body, "{\"a\""));
    assert_true(f->first->whole_bytes == UINT64_C(5000000000));
    assert_true(f->last->whole_bytes == 0);
}

static void of_what_is_longer_than_asked_for_only_the_beginning_comes(void **state)
{
    struct fixture *f = *state;
    size_t size = ((size_t)3 << 20) + 7;
    char *body = mem_alloc(size);

    for (size_t i = 0; i < size; i++)
        body[i] = (char)('a' + i % 23);
    f->ack_at_once = true;
    declare(f);
    (void)amqp_consume(f->link, &(struct amqp_consume){.queue = f->queue,
                                                       .prefetch = 10,
                                                       .body_most = (uint64_t)2 << 20,
                                                       .on_deliveries = on_deliveries,
                                                       .on_lost = on_lost,
                                                       .ctx = f});
    run_until(f, &f->ups, 1);
    publish(f, f->queue, (struct str){body, size});
    publish(f, f->queue, (struct str){body, (size_t)2 << 20});
    publish(f, f->queue, STR("{}"));
    run_until(f, &f->deliveries, 3);
    assert_true(f->first->whole_bytes == size);
    assert_int_equal(f->first->body.len, 1 << 20);
    assert_memory_equal(f->first->body.ptr, body, 1 << 20);
    assert_true(f->first->next->whole_bytes == 0);
    assert_int_equal(f->first->next->body.len, 2 << 20);
    assert_memory_equal(f->first->next->body.ptr, body, 2 << 20);
    assert_true(str_is(f->last->body, "{}"));
    run_until(f, &f->confirmed, 3);
    mem_free(body);
}

static void large_and_empty_bodies_arrive_whole(void **state)
{
    struct fixture *f = *state;
    size_t size = (size_t)3 << 20;
    char *body = mem_alloc(size);

    for (size_t i = 0; i < size; i++)
        body[i] = (char)('a' + i % 23);
    f->ack_at_once = true;
    declare(f);
    consume(f, 10);
    run_until(f, &f->ups, 1);
    publish(f, f->queue, (struct str){body, size});
    publish(f, f->queue, STR(""));
    run_until(f, &f->deliveries, 2);
    assert_int_equal(f->first->body.len, size);
    assert_memory_equal(f->first->body.ptr, body, size);
    assert_int_equal(f->last->body.len, 0);
    run_until(f, &f->confirmed, 2);
    mem_free(body);
}

static void thousands_arrive_in_order_and_in_batches(void **state)
{
    struct fixture *f = *state;
    unsigned n = 20000, i = 0;

    f->ack_at_once = true;
    declare(f);
    consume(f, 500);
    run_until(f, &f->ups, 1);
    for (i = 0; i < n; i++) {
        char body[32];

        snprintf(body, sizeof(body), "%u", i);
        publish(f, f->queue, str_of(body));
    }
    run_until(f, &f->deliveries, n);
    run_until(f, &f->confirmed, n);
    assert_true(f->batches < n);
    i = 0;
    for (struct amqp_delivery *d = f->first; d != NULL; d = d->next, i++) {
        int64_t number;

        assert_true(parse_i64(d->body, 0, n, &number));
        assert_int_equal(number, i);
    }
    /* every acknowledgement reached the broker: nothing is ready, nothing comes again */
    run_for_ms(f, 200);
    amqp_queue_depth(f->link, f->queue, on_depth, f);
    run_until(f, &f->depth_answers, 1);
    assert_int_equal(f->depth_ready, 0);
    assert_int_equal(f->depth_consumers, 1);
    assert_int_equal(f->deliveries, n);
}

static void a_message_to_nowhere_is_returned(void **state)
{
    struct fixture *f = *state;

    declare(f);
    run_until(f, &f->ups, 1);
    for (int i = 0; i < 100; i++)
        publish(f, i % 10 == 3 ? "no.such.queue" : f->queue, STR("{}"));
    run_until(f, &f->confirmed, 90);
    run_until(f, &f->returned, 10);
    assert_int_equal(f->unknown + f->refused, 0);
}

static void depth_tells_a_missing_queue_from_an_empty_one(void **state)
{
    struct fixture *f = *state;

    declare(f);
    run_until(f, &f->ups, 1);
    publish(f, f->queue, STR("{}"));
    run_until(f, &f->confirmed, 1);
    amqp_queue_depth(f->link, "no.such.queue", on_depth, f);
    run_until(f, &f->depth_answers, 1);
    assert_false(f->depth_found);
    amqp_queue_depth(f->link, "no.such.queue.either", on_depth, f);
    amqp_queue_depth(f->link, f->queue, on_depth, f);
    run_until(f, &f->depth_answers, 3);
    assert_true(f->depth_found);
    assert_int_equal(f->depth_ready, 1);
    assert_int_equal(f->depth_consumers, 0);
}

static void a_nacked_message_comes_again_as_redelivered(void **state)
{
    struct fixture *f = *state;

    declare(f);
    consume(f, 10);
    run_until(f, &f->ups, 1);
    publish(f, f->queue, STR("{}"));
    run_until(f, &f->deliveries, 1);
    amqp_nack(f->first->consumer, f->first->generation, f->first->tag, true);
    run_until(f, &f->deliveries, 2);
    assert_true(f->last->redelivered);
}

static void closing_a_consumer_gives_back_and_cancelling_keeps(void **state)
{
    struct fixture *f = *state;
    struct amqp_consumer *first, *second;

    declare(f);
    first = consume(f, 1);
    run_until(f, &f->ups, 1);
    publish(f, f->queue, STR("1"));
    publish(f, f->queue, STR("2"));
    run_until(f, &f->deliveries, 1);
    amqp_consumer_cancel(first);
    run_for_ms(f, 50);
    amqp_ack(first, f->first->generation, f->first->tag); /* the channel still takes it, and no new message follows */
    run_for_ms(f, 200);
    assert_int_equal(f->deliveries, 1);
    second = consume(f, 1);
    run_until(f, &f->deliveries, 2);
    assert_true(str_is(f->last->body, "2"));
    amqp_consumer_close(second);
    amqp_ack(second, f->last->generation, f->last->tag); /* too late, and harmless */
    consume(f, 1);
    run_until(f, &f->deliveries, 3);
    assert_true(str_is(f->last->body, "2"));
    assert_true(f->last->redelivered);
}

static void prefetch_bounds_what_is_in_hand(void **state)
{
    struct fixture *f = *state;

    declare(f);
    consume(f, 7);
    run_until(f, &f->ups, 1);
    for (int i = 0; i < 50; i++)
        publish(f, f->queue, STR("{}"));
    run_until(f, &f->confirmed, 50);
    run_for_ms(f, 200);
    assert_int_equal(f->deliveries, 7);
}

static void a_higher_priority_consumer_is_served_first(void **state)
{
    struct fixture *f = *state;
    struct fixture other = {0};

    declare(f);
    consume(f, 100);
    run_until(f, &f->ups, 1);
    amqp_consume(f->link,
                 &(struct amqp_consume){
                     .queue = f->queue, .prefetch = 100, .priority = 7, .on_deliveries = on_deliveries, .ctx = &other});
    run_for_ms(f, 100);
    for (int i = 0; i < 20; i++)
        publish(f, f->queue, STR("{}"));
    run_until(f, &other.deliveries, 20);
    assert_int_equal(f->deliveries, 0);
    drop_deliveries(&other);
}

static void a_fanout_reaches_its_queues_and_transient_messages_are_free(void **state)
{
    struct fixture *f = *state;
    char exchange[80];

    snprintf(exchange, sizeof(exchange), "%s.all", f->queue);
    f->ack_at_once = true;
    amqp_declare_queue(f->link, &(struct amqp_queue){.name = f->queue, .exclusive = true, .bind_exchange = exchange});
    consume(f, 10);
    run_until(f, &f->ups, 1);
    /* a transient message to an exchange that nobody declared closes a channel: the next one arrives all the same */
    amqp_publish(f->link, &(struct amqp_message){
                              .exchange = "no.such.exchange", .routing_key = "", .type = "x", .body = STR("{}")});
    run_for_ms(f, 50);
    amqp_publish(f->link, &(struct amqp_message){
                              .exchange = exchange, .routing_key = "", .type = "heartbeat", .body = STR("{}")});
    run_until(f, &f->deliveries, 1);
    assert_true(str_is(f->first->type, "heartbeat"));
    assert_true(f->first->timestamp.us > SENT_AT); /* nobody said when: by the clock of this machine */
    assert_int_equal(f->downs, 0);
}

static void a_wrong_exchange_makes_unconfirmed_messages_unknown(void **state)
{
    struct fixture *f = *state;

    declare(f);
    run_until(f, &f->ups, 1);
    amqp_publish(f->link, &(struct amqp_message){.exchange = "no.such.exchange",
                                                 .routing_key = "",
                                                 .type = "x",
                                                 .persistent = true,
                                                 .body = STR("{}"),
                                                 .on_confirm = on_confirm,
                                                 .ctx = f});
    run_until(f, &f->unknown, 1);
    publish(f, f->queue, STR("{}"));
    run_until(f, &f->confirmed, 1);
}

static void without_a_broker_messages_are_unknown_at_once(void **state)
{
    struct fixture *f = *state;
    struct amqp_link *nowhere = new_link(f, "amqp://guest:guest@127.0.0.1:1/");

    run_until(f, &f->downs, 1);
    assert_false(amqp_link_is_up(nowhere));
    amqp_publish(nowhere, &(struct amqp_message){.exchange = "",
                                                 .routing_key = "q",
                                                 .type = "x",
                                                 .persistent = true,
                                                 .body = STR("{}"),
                                                 .on_confirm = on_confirm,
                                                 .ctx = f});
    run_until(f, &f->unknown, 1);
    run_for_ms(f, 600);
    assert_int_equal(f->downs, 1); /* once, however often it tries */
    amqp_link_free(nowhere);
}

/* --- a relay between link and broker, so that a connection can be cut or frozen
 * ---------------------------------------- */

struct relay {
    uv_thread_t thread;
    int listener, stop[2];
    char url[256];
    struct sockaddr_in broker;
    int cut, frozen; /* atomics */
};

static void pump(int from, int to, bool *open)
{
    char data[65536];
    ssize_t n = recv(from, data, sizeof(data), 0);

    if (n <= 0 || send(to, data, (size_t)n, MSG_NOSIGNAL) != n)
        *open = false;
}

static void relay_main(void *arg)
{
    struct relay *r = arg;

    for (;;) {
        struct pollfd fds[2] = {{.fd = r->listener, .events = POLLIN}, {.fd = r->stop[0], .events = POLLIN}};
        int client, broker;
        bool open = true;

        poll(fds, 2, -1);
        if (fds[1].revents != 0)
            return;
        client = accept(r->listener, NULL, NULL);
        broker = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(broker, (struct sockaddr *)&r->broker, sizeof(r->broker)) != 0)
            open = false;
        while (open) {
            struct pollfd pair[3] = {{.fd = client, .events = POLLIN},
                                     {.fd = broker, .events = POLLIN},
                                     {.fd = r->stop[0], .events = POLLIN}};

            if (__atomic_load_n(&r->frozen, __ATOMIC_SEQ_CST)) {
                usleep(10000);
            } else {
                poll(pair, 3, 20);
                if (pair[0].revents != 0)
                    pump(client, broker, &open);
                if (open && pair[1].revents != 0)
                    pump(broker, client, &open);
            }
            if (pair[2].revents != 0 || __atomic_exchange_n(&r->cut, 0, __ATOMIC_SEQ_CST))
                open = false;
        }
        close(client);
        close(broker);
    }
}

static void relay_start(struct relay *r)
{
    const char *at = strrchr(url, '@') + 1, *colon = strchr(at, ':');
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);

    memset(r, 0, sizeof(*r));
    r->broker = address;
    r->broker.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
    r->listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(r->listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(r->listener, 8), 0);
    getsockname(r->listener, (struct sockaddr *)&address, &len);
    assert_int_equal(pipe(r->stop), 0);
    snprintf(r->url, sizeof(r->url), "%.*slocalhost:%u%s", (int)(at - url), url, ntohs(address.sin_port),
             strchr(colon, '/') == NULL ? "" : strchr(colon, '/'));
    uv_thread_create(&r->thread, relay_main, r);
}

static void relay_stop(struct relay *r)
{
    assert_int_equal(write(r->stop[1], "x", 1), 1);
    __atomic_store_n(&r->frozen, 0, __ATOMIC_SEQ_CST);
    uv_thread_join(&r->thread);
    close(r->listener);
    close(r->stop[0]);
    close(r->stop[1]);
}

static void after_a_cut_everything_stands_again(void **state)
{
    struct fixture *f = *state;
    struct relay relay;
    uint64_t generation, tag;
    struct amqp_consumer *consumer;

    relay_start(&relay);
    amqp_link_free(f->link);
    f->link = new_link(f, relay.url);
    /* not exclusive: the broker may notice the end of the old connection after we are back */
    amqp_declare_queue(f->link, &(struct amqp_queue){.name = f->queue, .auto_delete = true, .durable = true});
    consumer = consume(f, 10);
    run_until(f, &f->ups, 1);
    for (int round = 1; round <= 3; round++) {
        unsigned before = f->deliveries;

        publish(f, f->queue, STR("{}"));
        run_until(f, &f->deliveries, before + 1);
        generation = f->last->generation;
        tag = f->last->tag;
        __atomic_store_n(&relay.cut, 1, __ATOMIC_SEQ_CST);
        run_until(f, &f->lost, (unsigned)round);
        run_until(f, &f->ups, (unsigned)round + 1);
        assert_int_equal(f->downs, round);
        amqp_ack(consumer, generation, tag); /* of the old channel: ignored */
    }
    publish(f, f->queue, STR("after"));
    run_until(f, &f->confirmed, 1);
    while (!str_is(f->last->body, "after")) {
        unsigned next = f->deliveries + 1;

        run_until(f, &f->deliveries, next);
    }
    relay_stop(&relay);
}

static void a_silent_broker_is_given_up(void **state)
{
    struct fixture *f = *state;
    struct relay relay;
    int64_t frozen_at;

    relay_start(&relay);
    amqp_link_free(f->link);
    f->link = amqp_link_new(&(struct amqp_options){.loop = &f->loop,
                                                   .url = relay.url,
                                                   .name = "test-silent",
                                                   .heartbeat_s = 1,
                                                   .on_up = on_up,
                                                   .on_down = on_down,
                                                   .ctx = f});
    run_until(f, &f->ups, 1);
    run_for_ms(f, 3500); /* heartbeats keep an idle connection */
    assert_int_equal(f->downs, 0);
    frozen_at = clock_mono().us;
    __atomic_store_n(&relay.frozen, 1, __ATOMIC_SEQ_CST);
    publish(f, f->queue, STR("{}"));
    run_until(f, &f->unknown, 1);
    run_until(f, &f->downs, 1);
    assert_true(clock_mono().us - frozen_at < 5 * US_PER_S);
    relay_stop(&relay);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_message_arrives_as_it_was_sent, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_only_a_beginning_says_how_long_it_was, setup, teardown),
        cmocka_unit_test_setup_teardown(of_what_is_longer_than_asked_for_only_the_beginning_comes, setup, teardown),
        cmocka_unit_test_setup_teardown(large_and_empty_bodies_arrive_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(thousands_arrive_in_order_and_in_batches, setup, teardown),
        cmocka_unit_test_setup_teardown(a_message_to_nowhere_is_returned, setup, teardown),
        cmocka_unit_test_setup_teardown(depth_tells_a_missing_queue_from_an_empty_one, setup, teardown),
        cmocka_unit_test_setup_teardown(a_nacked_message_comes_again_as_redelivered, setup, teardown),
        cmocka_unit_test_setup_teardown(closing_a_consumer_gives_back_and_cancelling_keeps, setup, teardown),
        cmocka_unit_test_setup_teardown(prefetch_bounds_what_is_in_hand, setup, teardown),
        cmocka_unit_test_setup_teardown(a_higher_priority_consumer_is_served_first, setup, teardown),
        cmocka_unit_test_setup_teardown(a_fanout_reaches_its_queues_and_transient_messages_are_free, setup, teardown),
        cmocka_unit_test_setup_teardown(a_wrong_exchange_makes_unconfirmed_messages_unknown, setup, teardown),
        cmocka_unit_test_setup_teardown(without_a_broker_messages_are_unknown_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(after_a_cut_everything_stands_again, setup, teardown),
        cmocka_unit_test_setup_teardown(a_silent_broker_is_given_up, setup, teardown),
    };

    url = getenv("ROPEWALK_AMQP_URL");
    if (url == NULL) {
        puts("skipped: ROPEWALK_AMQP_URL is not set");
        return 77;
    }
    if (getenv("CMOCKA_TEST_FILTER") != NULL)
        cmocka_set_test_filter(getenv("CMOCKA_TEST_FILTER"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
