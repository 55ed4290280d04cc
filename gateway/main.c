/* ropewalk-gateway: wires the parts together, tells whether it is ready, and drains. */
#include "common/expr/sandbox.h"
#include "common/base/ensure.h"
#include "common/base/log.h"
#include "common/db/migrate.h"
#include "common/io/cache.h"
#include "gateway/auth.h"
#include "gateway/backlog.h"
#include "gateway/bulk_rerun.h"
#include "gateway/bulk_step.h"
#include "gateway/flows.h"
#include "gateway/incoming/event_queue.h"
#include "gateway/live.h"
#include "gateway/outgoing/sender.h"
#include "gateway/route.h"
#include "gateway/secrets.h"
#include "gateway/start.h"
#include "gateway/stream.h"
#include "gateway/wait.h"
#include <inttypes.h>
#include <sys/resource.h>

#include "common/base/banned.h"

#define HOOK_BODY_AT_ONCE 16384 /* bytes: of what is refused the log has a beginning, and the connection goes on */
#define CACHE_TIMEOUT_MS 50     /* what waits for Redis is a sender of a webhook, and Redis only saves work */

#define CONFIG_STR(...) CONFIG_ROW_STR(gateway_config, __VA_ARGS__)
#define CONFIG_INT(...) CONFIG_ROW_INT(gateway_config, __VA_ARGS__)
#define CONFIG_BOOL(...) CONFIG_ROW_BOOL(gateway_config, __VA_ARGS__)
static const struct config_row config_rows[] = {
#include "gateway/config.def"
};
#undef CONFIG_STR
#undef CONFIG_INT
#undef CONFIG_BOOL
#define CONFIG_ROWS (sizeof(config_rows) / sizeof(config_rows[0]))

#define STATEMENT_TIMEOUT_MS 30000
#define BULK_TIMEOUT_MS 600000 /* a list of millions of runs */
#define SCHEMA_AGAIN_MS 500
#define CLOCK_AGAIN_MS 10000

/* What a connection to PostgreSQL is for, in its log lines. */
struct purpose {
    struct process *process;
    const char *what;
};

struct process {
    struct gateway gw;
    struct purpose purposes[GATEWAY_READS_MAX + 5];
    size_t purpose_count;
    uv_timer_t schema, clock;
    struct egress *egress;
    bool checking, http_drained, reruns_drained, sender_drained;
    struct err schema_err;
};

/* --- is it fit to serve? */

static void on_schema(void *ctx, enum err_code rc, const struct err *err)
{
    struct process *p = ctx;

    p->checking = false;
    p->gw.schema_ready = rc == ERR_OK;
    p->schema_err = *err;
    if (rc == ERR_OK)
        log_event(LOG_INFO, "gateway.schema_ready");
}

static void on_role(void *ctx, enum err_code rc, const struct err *err)
{
    struct process *p = ctx;

    if (rc == ERR_FORBIDDEN) {
        service_fail(p->gw.service, 2, err);
        return;
    }
    p->gw.role_ready = rc == ERR_OK;
    p->schema_err = *err;
    if (rc == ERR_OK)
        migrate_check(p->gw.writes, on_schema, p);
    else
        p->checking = false;
}

static void on_schema_timer(uv_timer_t *timer)
{
    struct process *p = timer->data;

    if (p->checking || (p->gw.schema_ready && p->gw.role_ready) || !pg_is_up(p->gw.writes))
        return;
    p->checking = true;
    pg_check_role(p->gw.writes, on_role, p);
}

static void on_clock(void *ctx, const struct pg_outcome *outcome)
{
    struct gateway *gw = ctx;

    if (outcome->rc == ERR_OK)
        gateway_sample_clock(gw, outcome->db_now);
}

/* Ids take their time from PostgreSQL. */
static void on_clock_timer(uv_timer_t *timer)
{
    struct process *p = timer->data;
    struct pg_batch *batch;

    if (!pg_is_up(p->gw.reads[0]))
        return;
    batch = pg_batch_new(false);
    pg_batch_sample_clock(batch);
    pg_submit(p->gw.reads[0], batch, on_clock, &p->gw);
}

static void on_first_up(void *ctx)
{
    struct process *p = ((struct purpose *)ctx)->process;

    log_event(LOG_INFO, "gateway.database_up");
    uv_timer_start(&p->clock, on_clock_timer, 0, CLOCK_AGAIN_MS);
}

static void on_pg_down(void *ctx, const struct err *err)
{
    log_event(LOG_WARN, "gateway.database_lost", log_cstr("connection", ((struct purpose *)ctx)->what), log_err(err));
}

static void readiness(void *ctx, struct buf *lines, bool *ready)
{
    struct process *p = ctx;
    struct gateway *gw = &p->gw;
    bool up = true;

    for (int64_t i = 0; i < gw->config.pg_connections; i++)
        up = up && pg_is_up(gw->reads[i]);
    up = up && pg_is_up(gw->writes) && pg_is_up(gw->plain_starts) && pg_is_up(gw->keyed_starts) && pg_is_up(gw->bulk) &&
         pg_is_up(gw->event_writes);
    if (!up)
        buf_append_str(lines, STR("postgresql: not connected\n"));
    else if (!gw->role_ready || !gw->schema_ready)
        buf_printf(lines, "postgresql: connected, but %s\n",
                   p->schema_err.message[0] == '\0' ? "the schema has not been looked at yet" : p->schema_err.message);
    else
        buf_append_str(lines, STR("postgresql: ok\n"));
    *ready = *ready && up && gw->role_ready && gw->schema_ready;
    buf_printf(lines, "rabbitmq: %s\n",
               amqp_link_is_up(gw->publish) && amqp_link_is_up(gw->consume)
                   ? "ok"
                   : "not connected (starts and reads work; live updates come within 2 s)");
}

/* --- parts */

static void on_broker_up(void *ctx)
{
    (void)ctx;
    log_event(LOG_INFO, "gateway.broker_up");
}

static void on_broker_down(void *ctx, const struct err *err)
{
    (void)ctx;
    log_event(LOG_WARN, "gateway.broker_lost", log_err(err));
}

static struct pg *connect_pg(struct process *p, const char *what, bool first, int timeout_ms)
{
    char application[128];
    struct purpose *purpose = &p->purposes[p->purpose_count++];
    struct pg_options options = {
        .loop = p->gw.loop,
        .url = p->gw.config.pg_url,
        .application = application,
        .statement_timeout_ms = timeout_ms,
        .idle_in_transaction_timeout_ms = STATEMENT_TIMEOUT_MS,
        .answer_timeout_ms = timeout_ms,
        .prepared = !p->gw.config.pg_pooler,
        .on_up = first ? on_first_up : NULL,
        .on_down = on_pg_down,
        .ctx = purpose,
    };

    *purpose = (struct purpose){p, what};
    snprintf(application, sizeof(application), "ropewalk-gateway %s %s", p->gw.config.name, what);
    return pg_new(&options);
}

static struct amqp_link *connect_amqp(struct process *p, const char *what)
{
    char name[160];
    struct amqp_options options = {
        .loop = p->gw.loop,
        .url = p->gw.config.amqp_url,
        .name = name,
        .heartbeat_s = 5,
        .on_up = on_broker_up,
        .on_down = on_broker_down,
    };

    snprintf(name, sizeof(name), "ropewalk-gateway %s %s", p->gw.config.name, what);
    return amqp_link_new(&options);
}

static void connect_all(struct process *p)
{
    struct gateway *gw = &p->gw;
    char random[13];

    random_token(random, 12);
    snprintf(gw->queue, sizeof(gw->queue), "ropewalk.gateway.%s-%s", gw->config.name, random);
    for (int64_t i = 0; i < gw->config.pg_connections; i++)
        gw->reads[i] = connect_pg(p, "reads", i == 0, STATEMENT_TIMEOUT_MS);
    gw->writes = connect_pg(p, "writes", false, STATEMENT_TIMEOUT_MS);
    gw->plain_starts = connect_pg(p, "starts", false, STATEMENT_TIMEOUT_MS);
    gw->keyed_starts = connect_pg(p, "keyed starts", false, STATEMENT_TIMEOUT_MS);
    gw->event_writes = connect_pg(p, "events", false, STATEMENT_TIMEOUT_MS);
    gw->bulk = connect_pg(p, "bulk", false, BULK_TIMEOUT_MS);
    gw->publish = connect_amqp(p, "publishes");
    gw->consume = connect_amqp(p, "consumes");
    gw->auth = auth_new(gw);
    gw->flows = flows_new(gw);
    gw->starts = starts_new(gw);
    gw->backlog = backlog_new(gw);
    gw->bulk_steps = bulk_steps_new(gw);
    gw->bulk_reruns = bulk_reruns_new(gw);
    gw->sender = sender_new(gw, p->egress);
    gw->live = live_new(gw);
    live_start(gw->live);
    gw->event_queues = event_queues_new(gw);
    p->schema.data = p->clock.data = p;
    ENSURE(uv_timer_init(gw->loop, &p->schema) == 0 && uv_timer_init(gw->loop, &p->clock) == 0);
    uv_timer_start(&p->schema, on_schema_timer, 0, SCHEMA_AGAIN_MS);
}

static void on_request(void *ctx, struct http_request *request)
{
    route_serve(ctx, request);
}

/* Of strangers no more than this is read before it is known whether they may send it. */
static bool head_first(void *ctx, const struct http_request *request)
{
    uint64_t length = http_body_length(request);

    (void)ctx;
    return (length == 0 || length > HOOK_BODY_AT_ONCE) && str_starts(http_path(request), "/hooks/") &&
           str_is(http_method(request), "POST");
}

static bool is_drained(const struct process *p)
{
    return p->http_drained && p->reruns_drained && p->sender_drained;
}

static void stop_when_drained(struct process *p)
{
    if (is_drained(p))
        service_stopped(p->gw.service);
}

/* Waits and streams end at once; requests that are with PostgreSQL get their answers. */
static void on_http_drained(void *ctx)
{
    struct process *p = ctx;

    p->http_drained = true;
    stop_when_drained(p);
}

static void on_reruns_drained(void *ctx)
{
    struct process *p = ctx;

    p->reruns_drained = true;
    stop_when_drained(p);
}

static void on_sender_drained(void *ctx)
{
    struct process *p = ctx;

    p->sender_drained = true;
    stop_when_drained(p);
}

static void on_stop(void *ctx)
{
    struct process *p = ctx;

    p->gw.stopping = true;
    event_queues_stop(p->gw.event_queues);
    waits_stop(&p->gw);
    streams_stop(&p->gw);
    bulk_reruns_stop(p->gw.bulk_reruns, on_reruns_drained, p);
    sender_stop(p->gw.sender, on_sender_drained, p);
    http_server_drain(p->gw.http, on_http_drained, p);
}

static void close_all(struct process *p)
{
    struct gateway *gw = &p->gw;

    if (gw->cache != NULL)
        cache_free(gw->cache); /* first: who waits for it goes on */
    sandbox_free(gw->sandbox);
    amqp_link_free(gw->publish);
    amqp_link_free(gw->consume);
    for (int64_t i = 0; i < gw->config.pg_connections; i++)
        pg_free(gw->reads[i]);
    pg_free(gw->writes);
    pg_free(gw->plain_starts);
    pg_free(gw->keyed_starts);
    pg_free(gw->event_writes);
    pg_free(gw->bulk);
    uv_run(gw->loop, UV_RUN_NOWAIT);
    http_server_free(gw->http);
    uv_close((uv_handle_t *)&p->schema, NULL);
    uv_close((uv_handle_t *)&p->clock, NULL);
    starts_free(gw->starts);
    backlog_free(gw->backlog);
    bulk_steps_free(gw->bulk_steps);
    bulk_reruns_free(gw->bulk_reruns);
    sender_free(gw->sender);
    live_free(gw->live);
    event_queues_free(gw->event_queues);
    auth_free(gw->auth);
    secrets_free(gw->secrets);
    flows_free(gw->flows);
    for (int i = 0; i < 50 && uv_run(gw->loop, UV_RUN_NOWAIT) != 0; i++)
        ;
    service_free(gw->service);
}

/* What the rows of config.def cannot say. From the environment itself, so that it is told together with their faults.
 */
static bool check_environment(void)
{
    const char *level = getenv("ROPEWALK_LOG_LEVEL"), *name = getenv("ROPEWALK_NAME"),
               *organisations = getenv("ROPEWALK_EVENT_ORGANISATIONS");
    enum log_level ignored;
    bool ok = true;

    if (level != NULL && !log_level_parse(str_of(level), &ignored)) {
        fprintf(stderr, "ropewalk: ROPEWALK_LOG_LEVEL is '%s', none of debug, info, warn, error\n", level);
        ok = false;
    }
    if (organisations != NULL && event_queues_check(organisations) != NULL) {
        fprintf(stderr, "ropewalk: ROPEWALK_EVENT_ORGANISATIONS is '%s', %s\n", organisations,
                event_queues_check(organisations));
        ok = false;
    }
    if (name != NULL &&
        (name[0] == '\0' || strlen(name) > 64 ||
         strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") != strlen(name))) {
        fprintf(stderr, "ropewalk: ROPEWALK_NAME is '%s', not 1 to 64 of A-Z a-z 0-9 . _ -\n", name);
        ok = false;
    }
    return ok;
}

/* Every connection is a descriptor: the soft limit is often 1,024, whatever the hard one is. */
static void raise_descriptor_limit(int64_t connections)
{
    struct rlimit limit;
    rlim_t wanted = (rlim_t)connections + 256;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur < wanted)
        log_event(LOG_WARN, "gateway.few_descriptors", log_i64("limit", (int64_t)limit.rlim_cur),
                  log_i64("wanted", (int64_t)wanted));
}

int main(int argc, char **argv)
{
    static struct process process;
    struct gateway *gw = &process.gw;
    enum log_level level = LOG_INFO;
    struct err err = {0};
    bool ok = true;
    int rc;

    sandbox_child_main_if_asked(argc, argv);
    if (argc == 2 && strcmp(argv[1], "--routes") == 0) {
        routes_print();
        return 0;
    }
    if (argc == 1)
        ok = check_environment();
    rc = service_args(argc, argv, "gateway", config_rows, CONFIG_ROWS, &gw->config);
    if (rc >= 0)
        return rc;
    if (secrets_new(gw, &gw->secrets, &err) != ERR_OK) {
        fprintf(stderr, "ropewalk: ROPEWALK_MASTER_KEY_FILE is '%s': %s\n", gw->config.master_key_file, err.message);
        ok = false;
    }
    if (egress_new(str_of(gw->config.egress_allow), &process.egress, &err) != ERR_OK) {
        fprintf(stderr, "ropewalk: ROPEWALK_EGRESS_ALLOW is '%s': %s\n", gw->config.egress_allow, err.message);
        ok = false;
    }
    if (!ok || !log_level_parse(str_of(gw->config.log_level), &level))
        return 2;
    log_init("gateway", gw->config.name, level);
    raise_descriptor_limit(gw->config.max_connections);
    gw->service = service_new(&(struct service_options){.svc = "gateway",
                                                        .name = gw->config.name,
                                                        .on_stop = on_stop,
                                                        .readiness = readiness,
                                                        .drain_timeout_ms = (int)gw->config.drain_ms,
                                                        .ctx = &process});
    gw->loop = service_loop(gw->service);
    char too_large[160];
    int64_t body_max = limit_most(&gw->config.limits, LIMIT_BODY_BYTES);
    struct http_options http = {.loop = gw->loop,
                                .listen = gw->config.listen,
                                .max_body_bytes = (size_t)body_max,
                                .too_large = too_large,
                                .max_connections = (unsigned)gw->config.max_connections,
                                .on_request = on_request,
                                .head_first = head_first,
                                .ctx = gw};

    snprintf(too_large, sizeof(too_large),
             "the body has more than %" PRId64 " bytes (limit body_bytes): send less, or have the limit raised",
             body_max);
    gw->sandbox = sandbox_new(gw->loop, 1, NULL);
    if (gw->config.redis_url[0] != '\0')
        gw->cache = cache_new(gw->loop, gw->config.redis_url, CACHE_TIMEOUT_MS);
    connect_all(&process);
    if (http_server_new(&http, &gw->http, &err) != ERR_OK)
        service_fail(gw->service, 2, &err);
    else
        log_event(LOG_INFO, "gateway.listening", log_cstr("listen", gw->config.listen),
                  log_i64("port", http_server_port(gw->http)));
    rc = service_run(gw->service);
    log_event(LOG_INFO, "gateway.stopped", log_i64("exit_code", rc));
    if (rc == 0 && is_drained(&process))
        close_all(&process);
    egress_free(process.egress);
    config_free(config_rows, CONFIG_ROWS, &gw->config);
    return rc;
}
