/* Figures of a broker link: round trip of a lone message and messages a second, there and back with confirms and
 * acknowledgements. ROPEWALK_AMQP_URL=... bench_amqp [classic|quorum] */
#include "common/base/id.h"
#include "common/io/amqp.h"
#include <stdio.h>
#include <stdlib.h>

static struct {
    uv_loop_t loop;
    struct amqp_link *in, *out;
    char queue[64];
    unsigned ups, deliveries, confirms;
    unsigned to_send, sent, window, total;
    int64_t sent_at, trips[5000];
    bool lone;
} b;

static void publish_one(void);

/* A lone message is followed by the next one only after its confirm: the broker writes to disk for it, and a message to
 * the same queue would wait for that and not for us. */
static void on_confirm(void *ctx, enum amqp_confirm outcome)
{
    (void)ctx;
    (void)outcome;
    b.confirms++;
    if (b.lone && b.confirms == b.deliveries && b.sent < b.total) {
        publish_one();
        amqp_flush(b.out);
    }
}

static void publish_one(void)
{
    b.sent++;
    b.sent_at = clock_mono().us;
    amqp_publish(b.out, &(struct amqp_message){.exchange = "",
                                               .routing_key = b.queue,
                                               .type = "task",
                                               .message_id = "0190f3a2-0000-7000-8000-000000000001/step/1/1",
                                               .persistent = true,
                                               .body = STR("{\"v\":1,\"task_id\":\"x\",\"call\":\"noop\",\"with\":{}}"),
                                               .on_confirm = on_confirm});
}

static void on_up(void *ctx)
{
    (void)ctx;
    b.ups++;
}

static void on_deliveries(void *ctx, struct amqp_delivery *first)
{
    (void)ctx;
    while (first != NULL) {
        struct amqp_delivery *next = first->next;

        if (b.lone && b.deliveries < 5000)
            b.trips[b.deliveries] = clock_mono().us - b.sent_at;
        b.deliveries++;
        amqp_ack(first->consumer, first->generation, first->tag);
        amqp_delivery_free(first);
        first = next;
        if (b.sent < b.total && (!b.lone || b.confirms == b.deliveries))
            publish_one();
    }
    amqp_flush(b.out);
    amqp_flush(b.in);
}

static int by_size(const void *a, const void *c)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)c;

    return (x > y) - (x < y);
}

static void run(unsigned total, unsigned window)
{
    b.deliveries = b.sent = b.confirms = 0;
    b.total = total;
    for (unsigned i = 0; i < window; i++)
        publish_one();
    amqp_flush(b.out);
    while (b.deliveries < total || b.confirms < total)
        uv_run(&b.loop, UV_RUN_ONCE);
}

int main(int argc, char **argv)
{
    const char *url = getenv("ROPEWALK_AMQP_URL");
    char token[13];
    int64_t begin;

    if (url == NULL) {
        puts("ROPEWALK_AMQP_URL is not set");
        return 2;
    }
    random_token(token, 12);
    snprintf(b.queue, sizeof(b.queue), "bench.%s", token);
    uv_loop_init(&b.loop);
    b.in = amqp_link_new(
        &(struct amqp_options){.loop = &b.loop, .url = url, .name = "in", .heartbeat_s = 5, .on_up = on_up});
    b.out = amqp_link_new(
        &(struct amqp_options){.loop = &b.loop, .url = url, .name = "out", .heartbeat_s = 5, .on_up = on_up});
    amqp_declare_queue(b.in, &(struct amqp_queue){.name = b.queue,
                                                  .durable = true,
                                                  .auto_delete = argc<2, .type = argc> 1 ? argv[1] : "classic"});
    amqp_consume(b.in, &(struct amqp_consume){.queue = b.queue, .prefetch = 1000, .on_deliveries = on_deliveries});
    while (b.ups < 2)
        uv_run(&b.loop, UV_RUN_ONCE);

    b.lone = true;
    run(5000, 1);
    b.lone = false;
    qsort(b.trips, 5000, sizeof(b.trips[0]), by_size);
    printf("lone message, there and back: p50 %lld us, p99 %lld us\n", (long long)b.trips[2500],
           (long long)b.trips[4950]);
    begin = clock_mono().us;
    run(200000, 512);
    printf("512 in flight: %.0f messages/s\n", 200000.0 * 1e6 / (double)(clock_mono().us - begin));
    amqp_link_free(b.in);
    amqp_link_free(b.out);
    uv_run(&b.loop, UV_RUN_DEFAULT);
    return 0;
}
