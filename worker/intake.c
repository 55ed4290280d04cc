/* What the broker delivers: the queues of the worker's pools, a consumer each, and its control queue; see shell.h. */
#include "common/base/log.h"
#include "worker/shell.h"
#include <assert.h>

#include "common/base/banned.h"

#define CACHE_WAIT_MS 1000 /* tasks are not taken before the cache is there, or this is over */

/* Shares of the prefetch, in eighths: work of higher classes is rarer, and whatever is free serves its own class. */
static const struct priority {
    const char *name;
    unsigned eighths;
} PRIORITIES[] = {{"critical", 1}, {"high", 2}, {"normal", 4}, {"low", 1}};
static_assert(sizeof(PRIORITIES) / sizeof(PRIORITIES[0]) == PRIORITY_COUNT, "a lane for each");

bool intake_plan(struct worker *worker)
{
    struct str rest = str_of(worker->config.pools);
    size_t pools = 0;

    while (rest.len > 0) {
        struct str pool = str_trim(str_cut(&rest, ','));

        if (pool.len == 0)
            continue;
        if (pool.len > 63 || pools == POOLS_MAX)
            return false;
        for (size_t i = 0; i < pool.len; i++)
            if (strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", pool.ptr[i]) == NULL)
                return false;
        for (size_t i = 0; i < PRIORITY_COUNT; i++) {
            struct lane *lane = &worker->lanes[worker->lane_count++];

            lane->worker = worker;
            snprintf(lane->queue, sizeof(lane->queue), "ropewalk.task." STR_FMT ".%s", STR_ARG(pool),
                     PRIORITIES[i].name);
        }
        pools++;
    }
    if (pools == 0)
        return false;
    for (size_t i = 0; i < worker->lane_count; i++) {
        int64_t share = worker->config.capacity * PRIORITIES[i % PRIORITY_COUNT].eighths / (int64_t)(8 * pools);

        worker->lanes[i].prefetch = (uint16_t)(share < 1 ? 1 : share);
    }
    return true;
}

static void on_tasks(void *ctx, struct amqp_delivery *first)
{
    struct worker *worker = ((struct intake *)ctx)->lane->worker;

    while (first != NULL) {
        struct amqp_delivery *next = first->next;

        worker_core_delivered(worker->core, (struct delivery_ref){first->consumer, first->generation, first->tag},
                              first->redelivered, first->timestamp, first->body);
        amqp_delivery_free(first);
        first = next;
    }
    worker_core_flush(worker->core);
    amqp_flush(worker->out);
}

static void on_intake_lost(void *ctx)
{
    struct intake *intake = ctx;

    worker_core_consumer_lost(intake->lane->worker->core, intake->consumer);
}

static void intakes_open(struct worker *worker)
{
    for (size_t i = 0; i < worker->lane_count; i++) {
        struct lane *lane = &worker->lanes[i];
        struct intake *intake = mem_alloc(sizeof(*intake));

        intake->lane = lane;
        intake->next = worker->intakes;
        worker->intakes = intake;
        intake->consumer = amqp_consume(worker->in, &(struct amqp_consume){.queue = lane->queue,
                                                                           .prefetch = lane->prefetch,
                                                                           .on_deliveries = on_tasks,
                                                                           .on_lost = on_intake_lost,
                                                                           .ctx = intake});
    }
}

static void intakes_cancel(struct worker *worker)
{
    for (struct intake *intake = worker->intakes; intake != NULL; intake = intake->next) {
        if (!intake->cancelled)
            amqp_consumer_cancel(intake->consumer);
        intake->cancelled = true;
    }
}

static void intakes_close_empty(struct worker *worker)
{
    struct intake **at = &worker->intakes;

    while (*at != NULL) {
        struct intake *intake = *at;

        if (!intake->cancelled || worker_core_holds(worker->core, intake->consumer)) {
            at = &intake->next;
            continue;
        }
        *at = intake->next;
        amqp_consumer_close(intake->consumer);
        mem_free(intake);
    }
}

void intake_update(struct worker *worker)
{
    bool cache_settled = worker->cache_was_up || clock_mono().us - worker->started_at.us > CACHE_WAIT_MS * US_PER_MS;

    if (worker->wanted && cache_settled && !worker->consuming) {
        worker->consuming = true;
        log_event(LOG_INFO, "worker.takes_tasks", log_i64("in_hand", (int64_t)worker_core_in_hand(worker->core)));
        intakes_open(worker);
    } else if (!worker->wanted && worker->consuming) {
        worker->consuming = false;
        log_event(LOG_INFO, "worker.takes_no_tasks", log_i64("in_hand", (int64_t)worker_core_in_hand(worker->core)));
        intakes_cancel(worker);
    }
    if (worker->consuming && worker->wanted)
        intakes_close_empty(worker);
}

static void on_control(void *ctx, struct amqp_delivery *first)
{
    struct worker *worker = ctx;

    while (first != NULL) {
        struct amqp_delivery *next = first->next;
        struct arena *arena = arena_new(1024);
        struct control control;
        struct err err = {0};

        if (control_decode(first->type, first->body, arena, &control, &err) == ERR_OK)
            worker_core_control(worker->core, &control);
        else
            log_event(LOG_ERROR, "worker.control_undecodable", log_str("type", first->type), log_err(&err));
        arena_free(arena);
        amqp_delivery_free(first);
        first = next;
    }
    amqp_flush(worker->out);
}

void intake_declare(struct worker *worker)
{
    for (size_t i = 0; i < worker->lane_count; i++)
        amqp_declare_queue(
            worker->in,
            &(struct amqp_queue){.name = worker->lanes[i].queue, .durable = true, .type = worker->config.queue_type});
    amqp_declare_queue(worker->in, &(struct amqp_queue){.name = worker->control_queue, .exclusive = true});
    amqp_consume(worker->in,
                 &(struct amqp_consume){
                     .queue = worker->control_queue, .no_ack = true, .on_deliveries = on_control, .ctx = worker});
}

void intake_free(struct worker *worker)
{
    while (worker->intakes != NULL) {
        struct intake *intake = worker->intakes;

        worker->intakes = intake->next;
        mem_free(intake);
    }
}
