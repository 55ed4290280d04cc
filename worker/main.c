/* ropewalk-worker: the shell around worker_core.c. Two links to the broker (an alarm there stops publishing
 * connections only), the cache, http steps, a timer; see shell.h. */
#include "common/base/id.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "worker/shell.h"

#include "common/base/banned.h"

#define AMQP_HEARTBEAT_S 5
#define TICK_MS 100
#define DRAIN_MARGIN_MS 5000

#define CONFIG_STR(...) CONFIG_ROW_STR(config, __VA_ARGS__)
#define CONFIG_INT(...) CONFIG_ROW_INT(config, __VA_ARGS__)
static const struct config_row CONFIG_ROWS[] = {
#include "worker/config.def"
};
#undef CONFIG_STR
#undef CONFIG_INT
#define CONFIG_COUNT (sizeof(CONFIG_ROWS) / sizeof(CONFIG_ROWS[0]))

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

static void on_tick(uv_timer_t *timer)
{
    struct worker *worker = timer->data;
    bool up = cache_is_up(worker->cache);

    if (up && !worker->cache_was_up)
        worker_core_cache_up(worker->core);
    if (up != worker->cache_was_up)
        log_event(LOG_INFO, up ? "worker.cache_up" : "worker.cache_down");
    worker->cache_was_up = up;
    refusals_update(worker);
    intake_update(worker);
    worker_core_tick(worker->core);
}

/* The end of a turn: whatever ended in it goes out together. */
static void on_turn_end(uv_prepare_t *prepare)
{
    struct worker *worker = prepare->data;

    worker_core_flush(worker->core);
    amqp_flush(worker->out);
    amqp_flush(worker->in);
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
    if (!intake_plan(worker))
        good = setting_fault("POOLS", "must be names of letters, digits, - and _, at most 32, a comma between");
    if (config->holder_ttl_ms < 2 * config->heartbeat_ms)
        good = setting_fault("HOLDER_TTL_MS", "must be at least two heartbeats (ROPEWALK_HEARTBEAT_MS)");
    if (keyring_new(config->master_key_file, &worker->keyring, &err) != ERR_OK)
        good = setting_fault("MASTER_KEY_FILE", err.message);
    if (egress_new(str_of(config->egress_allow), &worker->egress, &err) != ERR_OK)
        good = setting_fault("EGRESS_ALLOW", err.message);
    return good;
}

static void start_core(struct worker *worker)
{
    const struct config *config = &worker->config;
    const struct worker_ports ports = ports_of(worker);
    char token[13];

    /* A name that comes again after a restart must not be taken for the process that was granted a request. */
    random_token(token, 12);
    snprintf(worker->id, sizeof(worker->id), "%s-%s", config->name, token);
    snprintf(worker->control_queue, sizeof(worker->control_queue), "ropewalk.worker.%s", worker->id);
    worker->core = worker_core_new(&(struct worker_options){.id = worker->id,
                                                            .control_queue = worker->control_queue,
                                                            .capacity = (unsigned)config->capacity,
                                                            .output_max = (size_t)config->output_max,
                                                            .started_after_ms = (int)config->started_after_ms,
                                                            .heartbeat_ms = (int)config->heartbeat_ms,
                                                            .claim_ttl_ms = (int)config->claim_ttl_ms,
                                                            .holder_ttl_ms = (int)config->holder_ttl_ms,
                                                            .ack_after_ms = (int)config->ack_after_ms,
                                                            .drain_ms = (int)config->drain_ms,
                                                            .cancel_grace_ms = (int)config->cancel_grace_ms},
                                   &ports);
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
    intake_declare(worker);
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
    uv_prepare_init(loop, &worker->turn_end);
    worker->turn_end.data = worker;
    uv_prepare_start(&worker->turn_end, on_turn_end);
    log_event(LOG_INFO, "worker.identity", log_cstr("worker", worker->id), log_cstr("pools", worker->config.pools));
}

/* What is still under way is reported to the core, which has nowhere to publish to any more: its messages go back to
 * the broker with the connection. Acknowledgements leave before that. */
static void stop(struct worker *worker)
{
    uv_close((uv_handle_t *)&worker->tick, NULL);
    uv_close((uv_handle_t *)&worker->turn_end, NULL);
    worker_core_publisher(worker->core, false);
    http_client_free(worker->http);
    amqp_link_free(worker->out);
    cache_free(worker->cache);
    amqp_link_free(worker->in);
    refusals_free(worker);
    intake_free(worker);
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
    keyring_free(worker.keyring);
    config_free(CONFIG_ROWS, CONFIG_COUNT, &worker.config);
    return exit_code;
}
