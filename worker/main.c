/* ropewalk-worker: the shell around worker_core.c. Two links to the broker (an alarm there stops publishing
 * connections only), the cache, http steps, a timer. Loop thread only; no decision is taken here. */
#include "common/base/ensure.h"
#include "common/base/id.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "common/io/amqp.h"
#include "common/io/cache.h"
#include "common/io/service.h"
#include "worker/http_task.h"
#include "worker/worker_core.h"

#include "common/base/banned.h"

#define HEARTBEAT_EXCHANGE "ropewalk.heartbeat"
#define AMQP_HEARTBEAT_S 5
#define TICK_MS 100
#define CACHE_WAIT_MS 1000 /* tasks are not taken before the cache is there, or this is over */
#define POOLS_MAX 32
#define DRAIN_MARGIN_MS 5000

struct config {
    char *name, *pools, *amqp_url, *redis_url, *listen, *egress_allow, *ca_file, *queue_type, *log_level;
    int64_t capacity, started_after_ms, heartbeat_ms, claim_ttl_ms, holder_ttl_ms, ack_after_ms, drain_ms;
    int64_t cache_timeout_ms;
};

#define CONFIG_STR(...) CONFIG_ROW_STR(config, __VA_ARGS__)
#define CONFIG_INT(...) CONFIG_ROW_INT(config, __VA_ARGS__)
static const struct config_row CONFIG_ROWS[] = {
#include "worker/config.def"
};
#undef CONFIG_STR
#undef CONFIG_INT
#define CONFIG_COUNT (sizeof(CONFIG_ROWS) / sizeof(CONFIG_ROWS[0]))

/* Shares of the prefetch, in eighths: work of higher classes is rarer, and whatever is free serves its own class. */
static const struct priority {
    const char *name;
    unsigned eighths;
} PRIORITIES[] = {{"critical", 1}, {"high", 2}, {"normal", 4}, {"low", 1}};
#define PRIORITY_COUNT (sizeof(PRIORITIES) / sizeof(PRIORITIES[0]))

struct worker;

struct lane { /* one queue that is consumed */
    struct worker *worker;
    char queue[256];
    uint16_t prefetch;
};

/* One consumer of a lane. A cancelled one keeps its channel while a message of it is in hand. */
struct intake {
    struct intake *next;
    struct lane *lane;
    struct amqp_consumer *consumer;
    bool cancelled;
};

struct worker {
    struct config config;
    char id[160], control_queue[200];
    struct service *service;
    struct amqp_link *in, *out;
    struct cache *cache;
    struct egress *egress;
    struct http_client *http;
    struct worker_core *core;
    uv_timer_t tick;
    struct lane lanes[POOLS_MAX * PRIORITY_COUNT];
    size_t lane_count;
    struct intake *intakes;
    bool consuming, wanted, cache_was_up;
    struct mono_us started_at;
    struct map *calls; /* running requests by job */
};

/* What an answer of the cache, a confirm or an ended request needs to find its way back. */
struct way_back {
    struct worker *worker;
    struct job *job;
    struct batch *batch;
    struct http_task *http;
};

static struct way_back *way_back(struct worker *worker, struct job *job, struct batch *batch)
{
    struct way_back *way = mem_alloc(sizeof(*way));

    *way = (struct way_back){.worker = worker, .job = job, .batch = batch};
    return way;
}

/* --- ports of the core
 * ------------------------------------------------------------------------------------------------- */

static struct mono_us port_mono(void *ctx)
{
    (void)ctx;
    return clock_mono();
}

static struct wall_us port_wall(void *ctx)
{
    (void)ctx;
    return clock_wall();
}

static void port_ack(void *ctx, struct delivery_ref ref)
{
    (void)ctx;
    amqp_ack(ref.consumer, ref.generation, ref.tag);
}

static void port_give_back(void *ctx, struct delivery_ref ref)
{
    (void)ctx;
    amqp_nack(ref.consumer, ref.generation, ref.tag, true);
}

static void on_results_confirmed(void *ctx, enum amqp_confirm outcome)
{
    struct way_back *way = ctx;

    worker_core_published(way->worker->core, way->batch,
                          outcome == AMQP_CONFIRMED ? PUBLISH_CONFIRMED : PUBLISH_FAILED);
    mem_free(way);
}

static void port_publish_results(void *ctx, const char *queue, struct str body, struct batch *batch)
{
    struct worker *worker = ctx;

    amqp_publish(worker->out, &(struct amqp_message){.exchange = "",
                                                     .routing_key = queue,
                                                     .type = "result",
                                                     .persistent = true,
                                                     .body = body,
                                                     .on_confirm = on_results_confirmed,
                                                     .ctx = way_back(worker, NULL, batch)});
}

static void port_publish_started(void *ctx, const char *queue, struct str message_id, struct str body)
{
    struct worker *worker = ctx;
    char id[600];

    snprintf(id, sizeof(id), STR_FMT, STR_ARG(message_id));
    amqp_publish(worker->out, &(struct amqp_message){.exchange = "",
                                                     .routing_key = queue,
                                                     .type = "started",
                                                     .message_id = id,
                                                     .reply_to = worker->control_queue,
                                                     .persistent = true,
                                                     .body = body});
}

static void port_publish_heartbeat(void *ctx, struct str body)
{
    struct worker *worker = ctx;

    amqp_publish(
        worker->out,
        &(struct amqp_message){.exchange = HEARTBEAT_EXCHANGE, .routing_key = "", .type = "heartbeat", .body = body});
}

static void on_cache_answer(void *ctx, enum cache_status status, struct str value)
{
    struct way_back *way = ctx;
    enum cache_answer answer = status == CACHE_OK    ? CACHE_ANSWER_VALUE
                               : status == CACHE_NIL ? CACHE_ANSWER_NONE
                                                     : CACHE_ANSWER_FAILED;

    worker_core_cache_answered(way->worker->core, way->job, answer, value);
    worker_core_flush(way->worker->core);
    mem_free(way);
}

static void port_cache(void *ctx, struct job *job, size_t argc, const struct str *argv)
{
    struct worker *worker = ctx;

    if (job == NULL)
        cache_command(worker->cache, NULL, NULL, argc, argv);
    else
        cache_command(worker->cache, on_cache_answer, way_back(worker, job, NULL), argc, argv);
}

static struct str job_key(struct job *const *job)
{
    return (struct str){(const char *)job, sizeof(*job)};
}

static void on_call_ended(void *ctx, const struct call_outcome *outcome)
{
    struct way_back *way = ctx;

    map_del(way->worker->calls, job_key(&way->job));
    worker_core_called(way->worker->core, way->job, outcome);
    worker_core_flush(way->worker->core);
    mem_free(way);
}

static void port_begin(void *ctx, struct job *job, const struct task *task, int64_t bound_us, bool once)
{
    struct worker *worker = ctx;
    struct http_task *http =
        http_task_new(worker->http, task, bound_us, once, on_call_ended, way_back(worker, job, NULL));

    if (http != NULL)
        map_put(worker->calls, job_key(&job), http);
}

static void port_abort(void *ctx, struct job *job)
{
    struct worker *worker = ctx;
    struct http_task *http = map_get(worker->calls, job_key(&job));

    if (http != NULL)
        http_task_abort(http);
}

/* --- consuming
 * ---------------------------------------------------------------------------------------------------------- */

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

static void consume_if_due(struct worker *worker)
{
    bool cache_settled = worker->cache_was_up || clock_mono().us - worker->started_at.us > CACHE_WAIT_MS * US_PER_MS;

    if (worker->wanted && cache_settled && !worker->consuming) {
        worker->consuming = true;
        intakes_open(worker);
    } else if (!worker->wanted && worker->consuming) {
        worker->consuming = false;
        intakes_cancel(worker);
    }
}

static void port_consume(void *ctx, bool on)
{
    struct worker *worker = ctx;

    log_event(LOG_INFO, on ? "worker.takes_tasks" : "worker.takes_no_tasks",
              log_i64("in_hand", (int64_t)worker_core_in_hand(worker->core)));
    worker->wanted = on;
    consume_if_due(worker);
}

static void port_drained(void *ctx)
{
    struct worker *worker = ctx;

    service_stopped(worker->service);
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

static void on_in_up(void *ctx)
{
    (void)ctx;
    log_event(LOG_INFO, "worker.broker_up");
}

static void on_in_down(void *ctx, const struct err *err)
{
    (void)ctx;
    log_event(LOG_WARN, "worker.broker_down", log_err(err));
}

static void on_out_up(void *ctx)
{
    struct worker *worker = ctx;

    worker_core_publisher(worker->core, true);
}

static void on_out_down(void *ctx, const struct err *err)
{
    struct worker *worker = ctx;

    log_event(LOG_WARN, "worker.publisher_down", log_err(err));
    worker_core_publisher(worker->core, false);
}

static void on_out_blocked(void *ctx, bool blocked)
{
    (void)ctx;
    log_event(LOG_WARN, "worker.publisher_blocked", log_bool("blocked", blocked));
}

/* --- the process
 * ---------------------------------------------------------------------------------------------------------- */

static void on_tick(uv_timer_t *timer)
{
    struct worker *worker = timer->data;
    bool up = cache_is_up(worker->cache);

    if (up && !worker->cache_was_up)
        worker_core_cache_up(worker->core);
    if (up != worker->cache_was_up)
        log_event(LOG_INFO, up ? "worker.cache_up" : "worker.cache_down");
    worker->cache_was_up = up;
    consume_if_due(worker);
    worker_core_tick(worker->core);
    if (worker->consuming && worker->wanted)
        intakes_close_empty(worker);
}

static void on_stop(void *ctx)
{
    struct worker *worker = ctx;

    worker_core_drain(worker->core);
}

static void readiness(void *ctx, struct buf *lines, bool *ready)
{
    struct worker *worker = ctx;
    bool in = amqp_link_is_up(worker->in), out = amqp_link_is_up(worker->out);

    buf_printf(lines, "rabbitmq: %s\n", in && out ? "ok" : "not connected");
    buf_printf(lines, "redis: %s\n", cache_is_up(worker->cache) ? "ok" : "not connected (not needed to be ready)");
    *ready = in && out;
}

/* Pools become lanes; false for a name that no queue could have. */
static bool plan_lanes(struct worker *worker)
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
    for (size_t i = 0; i < worker->lane_count; i++) {
        int64_t share = worker->config.capacity * PRIORITIES[i % PRIORITY_COUNT].eighths / (int64_t)(8 * pools);

        worker->lanes[i].prefetch = (uint16_t)(share < 1 ? 1 : share);
    }
    return pools > 0;
}

static bool setting_fault(const char *name, const char *what)
{
    fprintf(stderr, "ROPEWALK_%s: %s\n", name, what);
    return false;
}

/* What the rows alone cannot say. */
static bool check_config(struct worker *worker, enum log_level *ret_level)
{
    struct config *config = &worker->config;
    struct err err = {0};
    bool good = true;

    if (!log_level_parse(str_of(config->log_level), ret_level))
        good = setting_fault("LOG_LEVEL", "must be debug, info, warn or error");
    if (strcmp(config->queue_type, "classic") != 0 && strcmp(config->queue_type, "quorum") != 0)
        good = setting_fault("QUEUE_TYPE", "must be classic or quorum");
    if (strlen(config->name) == 0 || strlen(config->name) > 100)
        good = setting_fault("NAME", "must have 1 to 100 characters");
    if (!plan_lanes(worker))
        good = setting_fault("POOLS", "must be names of letters, digits, - and _, at most 32, a comma between");
    if (config->holder_ttl_ms < 2 * config->heartbeat_ms)
        good = setting_fault("HOLDER_TTL_MS", "must be at least two heartbeats (ROPEWALK_HEARTBEAT_MS)");
    if (egress_new(str_of(config->egress_allow), &worker->egress, &err) != ERR_OK)
        good = setting_fault("EGRESS_ALLOW", err.message);
    return good;
}

static void start_core(struct worker *worker)
{
    const struct config *config = &worker->config;
    char token[13];

    /* A name that comes again after a restart must not be taken for the process that was granted a request. */
    random_token(token, 12);
    snprintf(worker->id, sizeof(worker->id), "%s-%s", config->name, token);
    snprintf(worker->control_queue, sizeof(worker->control_queue), "ropewalk.worker.%s", worker->id);
    worker->core = worker_core_new(&(struct worker_options){.id = worker->id,
                                                            .control_queue = worker->control_queue,
                                                            .capacity = (unsigned)config->capacity,
                                                            .started_after_ms = (int)config->started_after_ms,
                                                            .heartbeat_ms = (int)config->heartbeat_ms,
                                                            .claim_ttl_ms = (int)config->claim_ttl_ms,
                                                            .holder_ttl_ms = (int)config->holder_ttl_ms,
                                                            .ack_after_ms = (int)config->ack_after_ms,
                                                            .drain_ms = (int)config->drain_ms},
                                   &(struct worker_ports){.ctx = worker,
                                                          .mono = port_mono,
                                                          .wall = port_wall,
                                                          .ack = port_ack,
                                                          .give_back = port_give_back,
                                                          .publish_results = port_publish_results,
                                                          .publish_started = port_publish_started,
                                                          .publish_heartbeat = port_publish_heartbeat,
                                                          .consume = port_consume,
                                                          .cache = port_cache,
                                                          .begin = port_begin,
                                                          .abort = port_abort,
                                                          .drained = port_drained});
}

static void start_links(struct worker *worker)
{
    uv_loop_t *loop = service_loop(worker->service);
    char name[200];

    snprintf(name, sizeof(name), "%s results", worker->id);
    worker->out = amqp_link_new(&(struct amqp_options){.loop = loop,
                                                       .url = worker->config.amqp_url,
                                                       .name = name,
                                                       .heartbeat_s = AMQP_HEARTBEAT_S,
                                                       .on_up = on_out_up,
                                                       .on_down = on_out_down,
                                                       .on_blocked = on_out_blocked,
                                                       .ctx = worker});
    amqp_declare_fanout(worker->out, HEARTBEAT_EXCHANGE);
    snprintf(name, sizeof(name), "%s tasks", worker->id);
    worker->in = amqp_link_new(&(struct amqp_options){.loop = loop,
                                                      .url = worker->config.amqp_url,
                                                      .name = name,
                                                      .heartbeat_s = AMQP_HEARTBEAT_S,
                                                      .on_up = on_in_up,
                                                      .on_down = on_in_down,
                                                      .ctx = worker});
    for (size_t i = 0; i < worker->lane_count; i++)
        amqp_declare_queue(
            worker->in,
            &(struct amqp_queue){.name = worker->lanes[i].queue, .durable = true, .type = worker->config.queue_type});
    amqp_declare_queue(worker->in, &(struct amqp_queue){.name = worker->control_queue, .exclusive = true});
    amqp_consume(worker->in,
                 &(struct amqp_consume){
                     .queue = worker->control_queue, .no_ack = true, .on_deliveries = on_control, .ctx = worker});
}

static void start(struct worker *worker)
{
    uv_loop_t *loop = service_loop(worker->service);

    worker->started_at = clock_mono();
    worker->wanted = true;
    worker->calls = map_new();
    worker->cache = cache_new(loop, worker->config.redis_url, (int)worker->config.cache_timeout_ms);
    worker->http = http_client_new(
        &(struct http_client_options){.loop = loop, .egress = worker->egress, .ca_file = worker->config.ca_file});
    start_core(worker);
    start_links(worker);
    uv_timer_init(loop, &worker->tick);
    worker->tick.data = worker;
    uv_timer_start(&worker->tick, on_tick, 10, TICK_MS);
    log_event(LOG_INFO, "worker.identity", log_cstr("worker", worker->id), log_cstr("pools", worker->config.pools));
}

/* What is still under way is reported to the core, which has nowhere to publish to any more: its messages go back to
 * the broker with the connection. Acknowledgements leave before that. */
static void stop(struct worker *worker)
{
    uv_close((uv_handle_t *)&worker->tick, NULL);
    worker_core_publisher(worker->core, false);
    http_client_free(worker->http);
    amqp_link_free(worker->out);
    cache_free(worker->cache);
    amqp_link_free(worker->in);
    while (worker->intakes != NULL) {
        struct intake *intake = worker->intakes;

        worker->intakes = intake->next;
        mem_free(intake);
    }
    worker_core_free(worker->core);
    map_free(worker->calls);
}

int main(int argc, char **argv)
{
    static struct worker worker;
    enum log_level level = LOG_INFO;
    int exit_code = service_args(argc, argv, "worker", CONFIG_ROWS, CONFIG_COUNT, &worker.config);

    if (exit_code >= 0)
        return exit_code;
    if (!check_config(&worker, &level))
        return 2;
    log_init("worker", worker.config.name, level);
    worker.service = service_new(&(struct service_options){
        .svc = "worker",
        .name = worker.config.name,
        .listen = worker.config.listen,
        .on_stop = on_stop,
        .readiness = readiness,
        .drain_timeout_ms = (int)worker.config.drain_ms + DRAIN_MARGIN_MS,
        .ctx = &worker,
    });
    start(&worker);
    exit_code = service_run(worker.service);
    stop(&worker);
    service_free(worker.service);
    egress_free(worker.egress);
    config_free(CONFIG_ROWS, CONFIG_COUNT, &worker.config);
    return exit_code;
}
