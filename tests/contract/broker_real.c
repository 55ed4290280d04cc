/* The contract of the broker against common/io/amqp*.c and a RabbitMQ, each connection through a relay that can be cut.
 */
#include "common/base/id.h"
#include "common/io/amqp.h"
#include "tests/contract/broker.h"
#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <stdlib.h>

#include "tests/io/pg_proxy.h"

#include "common/base/banned.h"

#define CONSUMERS_MAX 8

struct consumer {
    int number;
    struct amqp_consumer *amqp;
};
struct connection {
    enum process process;
    struct proxy proxy;
    char url[512];
    struct amqp_link *link;
    bool up;
};
static struct {
    uv_loop_t loop;
    struct connection connections[PROCESS_COUNT];
    amqp_connection_state_t hand; /* a connection past all that */
    struct consumer consumers[CONSUMERS_MAX];
    int consumer_count;
    struct amqp_delivery *deliveries[DELIVERIES_MAX];
    char queue[64], control[64], exchange[64];
} w;

const char *hand_queue(void)
{
    return w.queue;
}
const char *hand_control(void)
{
    return w.control;
}

static void on_tick(uv_timer_t *timer)
{
    uv_stop(timer->loop);
}

void world_turn(void)
{
    uv_timer_t tick;

    uv_timer_init(&w.loop, &tick);
    uv_timer_start(&tick, on_tick, 2, 0);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    uv_close((uv_handle_t *)&tick, NULL);
    uv_run(&w.loop, UV_RUN_NOWAIT);
}

int64_t world_now_us(void)
{
    return clock_mono().us;
}

int broker_group_begin(void **state)
{
    (void)state;
    if (getenv("ROPEWALK_AMQP_URL") == NULL) {
        puts("skipped: ROPEWALK_AMQP_URL is not set");
        exit(77);
    }
    return 0;
}
int broker_group_end(void **state)
{
    (void)state;
    return 0;
}

static void on_up(void *ctx)
{
    ((struct connection *)ctx)->up = true;
}
static void on_down(void *ctx, const struct err *err)
{
    (void)err;
    ((struct connection *)ctx)->up = false;
}

static void on_heartbeats(void *ctx, struct amqp_delivery *first)
{
    struct connection *connection = ctx;

    while (first != NULL) {
        struct amqp_delivery *next = first->next;

        heard.heartbeats[connection->process]++;
        amqp_delivery_free(first);
        first = next;
    }
}

/* As scheduler/broker.c listens to heartbeats, and a worker to its control queue. */
static void listen_to(struct connection *c)
{
    static char names[PROCESS_COUNT][80];

    if (c->process == W0) {
        amqp_declare_queue(c->link, &(struct amqp_queue){.name = w.control, .exclusive = true});
        return;
    }
    snprintf(names[c->process], sizeof(names[0]), "%s.%d", w.exchange, (int)c->process);
    amqp_declare_fanout(c->link, w.exchange);
    amqp_declare_queue(c->link,
                       &(struct amqp_queue){.name = names[c->process], .exclusive = true, .bind_exchange = w.exchange});
    (void)amqp_consume(
        c->link,
        &(struct amqp_consume){.queue = names[c->process], .no_ack = true, .on_deliveries = on_heartbeats, .ctx = c});
}

static struct amqp_link *connect_to(const char *url, struct connection *c)
{
    return amqp_link_new(&(struct amqp_options){.loop = &w.loop,
                                                .url = url,
                                                .name = "contract",
                                                .heartbeat_s = 5,
                                                .on_up = on_up,
                                                .on_down = on_down,
                                                .ctx = c});
}

static amqp_connection_state_t open_hand(void)
{
    amqp_connection_state_t state = amqp_new_connection();
    struct amqp_connection_info info;
    char url[512];

    snprintf(url, sizeof(url), "%s", getenv("ROPEWALK_AMQP_URL"));
    assert_int_equal(amqp_parse_url(url, &info), AMQP_STATUS_OK);
    assert_int_equal(amqp_socket_open(amqp_tcp_socket_new(state), info.host, info.port), AMQP_STATUS_OK);
    assert_int_equal(
        amqp_login(state, info.vhost, 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, info.user, info.password).reply_type,
        AMQP_RESPONSE_NORMAL);
    assert_non_null(amqp_channel_open(state, 1));
    return state;
}

int broker_world_begin(void **state)
{
    char token[13];

    (void)state;
    memset(&w, 0, sizeof(w));
    heard = (struct broker_heard){0};
    uv_loop_init(&w.loop);
    random_token(token, 12);
    snprintf(w.queue, sizeof(w.queue), "contract.%s", token);
    snprintf(w.control, sizeof(w.control), "contract.%s.control", token);
    snprintf(w.exchange, sizeof(w.exchange), "contract.%s.all", token);
    w.hand = open_hand();
    for (int i = 0; i < PROCESS_COUNT; i++) {
        struct connection *c = &w.connections[i];

        c->process = (enum process)i;
        proxy_start(&c->proxy, getenv("ROPEWALK_AMQP_URL"), c->url, sizeof(c->url));
        c->link = connect_to(c->url, c);
        amqp_declare_queue(c->link, &(struct amqp_queue){.name = w.queue, .durable = true, .type = "classic"});
        listen_to(c);
    }
    UNTIL(w.connections[S0].up && w.connections[S1].up && w.connections[W0].up);
    return 0;
}

int broker_world_end(void **state)
{
    (void)state;
    hand_delete(w.queue);
    for (int i = 0; i < PROCESS_COUNT; i++) {
        amqp_link_free(w.connections[i].link);
        proxy_cut(&w.connections[i].proxy);
    }
    amqp_destroy_connection(w.hand);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&w.loop), 0);
    for (int i = 0; i < PROCESS_COUNT; i++)
        proxy_stop(&w.connections[i].proxy);
    for (int i = 0; i < heard.count; i++)
        amqp_delivery_free(w.deliveries[i]);
    return 0;
}

/* ---- what a shell asks for ---- */

static void on_deliveries(void *ctx, struct amqp_delivery *first)
{
    const struct consumer *consumer = ctx;

    for (; first != NULL; first = first->next) {
        assert_true(heard.count < DELIVERIES_MAX);
        heard.deliveries[heard.count].consumer = consumer->number;
        heard.deliveries[heard.count].redelivered = first->redelivered;
        snprintf(heard.deliveries[heard.count].body, sizeof(heard.deliveries[0].body), STR_FMT, STR_ARG(first->body));
        w.deliveries[heard.count++] = first;
    }
}

int broker_do_consume(enum process process, const char *queue, uint32_t prefetch, int64_t priority)
{
    struct consumer *consumer = &w.consumers[w.consumer_count];

    assert_true(w.consumer_count < CONSUMERS_MAX);
    consumer->number = w.consumer_count;
    consumer->amqp = amqp_consume(w.connections[process].link, &(struct amqp_consume){.queue = queue,
                                                                                      .prefetch = (uint16_t)prefetch,
                                                                                      .priority = (int)priority,
                                                                                      .on_deliveries = on_deliveries,
                                                                                      .ctx = consumer});
    return w.consumer_count++;
}

void broker_do_close(int consumer)
{
    amqp_consumer_close(w.consumers[consumer].amqp);
}

void broker_do_cancel(int consumer)
{
    amqp_consumer_cancel(w.consumers[consumer].amqp);
}

void broker_do_ack(int delivery)
{
    const struct amqp_delivery *d = w.deliveries[delivery];

    amqp_ack(d->consumer, d->generation, d->tag);
}

void broker_do_nack(int delivery)
{
    const struct amqp_delivery *d = w.deliveries[delivery];

    amqp_nack(d->consumer, d->generation, d->tag, true);
}

static void on_confirm(void *ctx, enum amqp_confirm outcome)
{
    (void)ctx;
    if (outcome == AMQP_CONFIRMED)
        heard.confirmed++;
    else
        heard.not_confirmed++;
}

void broker_do_publish(enum process process, const char *queue, const char *body)
{
    amqp_publish(w.connections[process].link, &(struct amqp_message){.exchange = "",
                                                                     .routing_key = queue,
                                                                     .type = "result",
                                                                     .persistent = true,
                                                                     .body = str_of(body),
                                                                     .on_confirm = on_confirm});
}

void broker_do_heartbeat(enum process process, const char *body)
{
    amqp_publish(
        w.connections[process].link,
        &(struct amqp_message){.exchange = w.exchange, .routing_key = "", .type = "heartbeat", .body = str_of(body)});
}

static void on_depth(void *ctx, bool found, uint32_t ready, uint32_t consumers)
{
    (void)ctx;
    heard.depths++;
    heard.found = found;
    heard.ready = ready;
    heard.consumers = consumers;
}

void broker_do_depth(enum process process, const char *queue)
{
    amqp_queue_depth(w.connections[process].link, queue, on_depth, NULL);
}

/* ---- hands ---- */

/* As common/io/amqp.c declares it: who declares it again must say the same. */
static amqp_table_t queue_arguments(void)
{
    static amqp_table_entry_t entry;

    entry = (amqp_table_entry_t){.key = amqp_cstring_bytes("x-queue-type"),
                                 .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes("classic")}};
    return (amqp_table_t){1, &entry};
}

void hand_lose_connection(enum process process)
{
    proxy_cut(&w.connections[process].proxy);
}

void hand_die(enum process process)
{
    amqp_link_free(w.connections[process].link);
    w.connections[process].link = NULL;
}

void hand_declare(const char *queue)
{
    assert_non_null(amqp_queue_declare(w.hand, 1, amqp_cstring_bytes(queue), 0, 1, 0, 0, queue_arguments()));
}

void hand_purge(const char *queue)
{
    assert_non_null(amqp_queue_purge(w.hand, 1, amqp_cstring_bytes(queue)));
}

void hand_delete(const char *queue)
{
    assert_non_null(amqp_queue_delete(w.hand, 1, amqp_cstring_bytes(queue), 0, 0));
}
