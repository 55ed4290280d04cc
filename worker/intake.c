/* What the broker delivers: the queues of the worker's pools, a consumer each, and its control queue; see shell.h. */
#include "common/base/fault.h"
#include "common/base/log.h"
#include "worker/shell.h"
#include <assert.h>

#include "common/base/banned.h"

#define CACHE_WAIT_MS 1000                /* tasks are not taken before the cache is there, or this is over */
#define CONTROL_BYTES ((uint64_t)1 << 20) /* no word for a worker is longer: of what is, only the beginning is read */

#define PERIOD_US (500 * US_PER_MS) /* a loan that nobody used for one or two of them can go */

static const char *const PRIORITIES[] = {"critical", "high", "normal", "low"};
static_assert(sizeof(PRIORITIES) / sizeof(PRIORITIES[0]) == PRIORITY_COUNT, "a name for each class");

bool intake_plan(struct worker *worker)
{
    struct str rest = str_of(worker->config.pools);
    size_t pools = 0;

    while (rest.len > 0) {
        struct str pool = str_trim(str_cut(&rest, ','));

        if (pool.len == 0)
            continue;
        if (pool.len > 63 || pools == SLOTS_POOLS_MAX)
            return false;
        for (size_t i = 0; i < pool.len; i++)
            if (strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", pool.ptr[i]) == NULL)
                return false;
        for (size_t i = 0; i < PRIORITY_COUNT; i++) {
            struct lane *lane = &worker->lanes[pools * PRIORITY_COUNT + i];

            lane->worker = worker;
            snprintf(lane->queue, sizeof(lane->queue), "ropewalk.task." STR_FMT ".%s", STR_ARG(pool), PRIORITIES[i]);
        }
        pools++;
    }
    if (pools == 0)
        return false;
    slots_init(&worker->slots, (unsigned)worker->config.capacity, pools);
    return true;
}

/* So many slots of a lane are in use, by messages that came with its own slots or with loans. */
static void note_use(struct worker *worker, const struct lane *lane)
{
    unsigned used = 0, has = 0;

    for (const struct intake *intake = worker->intakes; intake != NULL; intake = intake->next) {
        if (intake->lane != lane || intake->cancelled)
            continue;
        used += intake->in_hand;
        has += intake->slots;
    }
    slots_used(&worker->slots, (size_t)(lane - worker->lanes), used, has);
}

struct intake *intake_of(const struct worker *worker, const struct amqp_consumer *consumer)
{
    struct intake *intake = worker->intakes;

    while (intake != NULL && intake->consumer != consumer)
        intake = intake->next;
    return intake;
}

void intake_done(struct worker *worker, const struct amqp_consumer *consumer)
{
    struct intake *intake = intake_of(worker, consumer);

    if (intake != NULL && intake->in_hand > 0)
        intake->in_hand--;
}

static void on_tasks(void *ctx, struct amqp_delivery *first)
{
    struct intake *intake = ctx;
    struct worker *worker = intake->lane->worker;

    for (const struct amqp_delivery *delivery = first; delivery != NULL; delivery = delivery->next)
        intake->in_hand++;
    note_use(worker, intake->lane);
    while (first != NULL) {
        struct amqp_delivery *next = first->next;

        const struct delivery_ref ref = {first->consumer, first->generation, first->tag};

        FAULT_POINT(worker_task_received);
        if (first->whole_bytes > first->body.len)
            refusal_begin(worker, ref, first->body, first->whole_bytes);
        else
            worker_core_delivered(worker->core, ref, first->redelivered, first->timestamp, first->body);
        amqp_delivery_free(first);
        first = next;
    }
    /* results go out at the end of the turn, when what came with other loans of the lane is done too */
}

static void on_intake_lost(void *ctx)
{
    struct intake *intake = ctx;

    intake->in_hand = 0;
    intake->losses++;
    worker_core_consumer_lost(intake->lane->worker->core, intake->consumer);
}

static struct intake *intake_open(struct worker *worker, size_t lane, uint16_t slots)
{
    struct intake *intake = mem_alloc(sizeof(*intake));

    intake->lane = &worker->lanes[lane];
    intake->slots = slots;
    intake->next = worker->intakes;
    worker->intakes = intake;
    intake->consumer = amqp_consume(worker->in, &(struct amqp_consume){.queue = intake->lane->queue,
                                                                       .prefetch = slots,
                                                                       .on_deliveries = on_tasks,
                                                                       .on_lost = on_intake_lost,
                                                                       .ctx = intake});
    return intake;
}

static void intakes_open(struct worker *worker)
{
    for (size_t i = 0; i < worker->slots.lane_count; i++)
        intake_open(worker, i, worker->slots.own[i]);
}

static void intake_cancel(struct intake *intake)
{
    if (!intake->cancelled)
        amqp_consumer_cancel(intake->consumer);
    intake->cancelled = true;
}

static void intakes_cancel(struct worker *worker)
{
    for (struct intake *intake = worker->intakes; intake != NULL; intake = intake->next)
        intake_cancel(intake);
    memset(worker->loans, 0, sizeof(worker->loans));
}

static void intakes_close_empty(struct worker *worker)
{
    struct intake **at = &worker->intakes;

    while (*at != NULL) {
        struct intake *intake = *at;

        if (!intake->cancelled || intake->refusing > 0 || worker_core_holds(worker->core, intake->consumer)) {
            at = &intake->next;
            continue;
        }
        *at = intake->next;
        for (size_t i = 0; i < worker->slots.loan_count; i++)
            if (worker->loans[i] == intake)
                worker->loans[i] = NULL;
        amqp_consumer_close(intake->consumer);
        mem_free(intake);
    }
}

/* A loan goes from one lane to another by way of a cancelled consumer: what that has in hand ends first, so that there
 * is never more in hand than the capacity. */
static void loans_update(struct worker *worker)
{
    struct mono_us now = clock_mono();

    for (size_t i = 0; i < worker->slots.lane_count; i++)
        note_use(worker, &worker->lanes[i]); /* long tasks were delivered in an earlier period */
    slots_divide(&worker->slots);
    if (now.us - worker->slots_period.us >= PERIOD_US) {
        slots_next_period(&worker->slots);
        worker->slots_period = now;
    }
    for (size_t i = 0; i < worker->slots.loan_count; i++) {
        size_t lane = worker->slots.lane_of[i];

        if (worker->loans[i] == NULL)
            worker->loans[i] = intake_open(worker, lane, worker->slots.loan[i]);
        else if (worker->loans[i]->lane != &worker->lanes[lane])
            intake_cancel(worker->loans[i]);
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
    if (worker->consuming && worker->wanted) {
        intakes_close_empty(worker);
        loans_update(worker);
    }
}

static void on_control(void *ctx, struct amqp_delivery *first)
{
    struct worker *worker = ctx;

    while (first != NULL) {
        struct amqp_delivery *next = first->next;
        struct arena *arena = arena_new(1024);
        struct control control;
        struct err err = {0};

        if (control_decode(first->type, first->body, arena, &control, &err) == ERR_OK) {
            FAULT_POINT_IF(worker_granted, control.kind == CONTROL_GRANT && control.go);
            worker_core_control(worker->core, &control);
        } else {
            log_event(LOG_ERROR, "worker.control_undecodable", log_str("type", first->type), log_err(&err));
        }
        arena_free(arena);
        amqp_delivery_free(first);
        first = next;
    }
    amqp_flush(worker->out);
}

void intake_declare(struct worker *worker)
{
    for (size_t i = 0; i < worker->slots.lane_count; i++)
        amqp_declare_queue(
            worker->in,
            &(struct amqp_queue){.name = worker->lanes[i].queue, .durable = true, .type = worker->config.queue_type});
    amqp_declare_fanout(worker->in, CANCEL_EXCHANGE);
    amqp_declare_queue(
        worker->in,
        &(struct amqp_queue){.name = worker->control_queue, .exclusive = true, .bind_exchange = CANCEL_EXCHANGE});
    amqp_consume(worker->in, &(struct amqp_consume){.queue = worker->control_queue,
                                                    .no_ack = true,
                                                    .body_most = CONTROL_BYTES,
                                                    .on_deliveries = on_control,
                                                    .ctx = worker});
}

void intake_free(struct worker *worker)
{
    while (worker->intakes != NULL) {
        struct intake *intake = worker->intakes;

        worker->intakes = intake->next;
        mem_free(intake);
    }
}
