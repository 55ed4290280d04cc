/* The frame of a service process; see service.h. */
#include "common/io/service.h"
#include "common/base/ensure.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include <signal.h>

#include "common/base/banned.h"

#define HEALTH_BODY_MAX ((size_t)4 << 20)
#define HEALTH_CONNECTIONS 64

struct service {
    struct service_options options;
    uv_loop_t loop;
    uv_signal_t on_term, on_int;
    uv_timer_t drain;
    struct http_server *http;
    bool stopping, ended;
    int exit_code;
};

static void end(struct service *service, int exit_code)
{
    if (service->ended)
        return;
    service->ended = true;
    service->exit_code = exit_code;
    uv_stop(&service->loop);
}

static void on_drain_timeout(uv_timer_t *timer)
{
    struct service *service = timer->data;

    log_event(LOG_ERROR, "service.drain_timeout", log_i64("after_ms", service->options.drain_timeout_ms));
    end(service, 1);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct service *service = handle->data;

    if (service->stopping) {
        log_event(LOG_WARN, "service.stopped_at_once", log_i64("signal", number));
        end(service, 1);
        return;
    }
    service->stopping = true;
    log_event(LOG_INFO, "service.stopping", log_i64("signal", number));
    uv_timer_start(&service->drain, on_drain_timeout, (uint64_t)service->options.drain_timeout_ms, 0);
    if (service->options.on_stop == NULL)
        end(service, 0);
    else
        service->options.on_stop(service->options.ctx);
}

static void respond_text(struct http_request *request, int status, const char *type, struct str body)
{
    http_respond(request, status, type, NULL, 0, body);
}

static void respond_ready(struct service *service, struct http_request *request)
{
    CLEANUP(buf_deinit) struct buf lines = {0};
    bool ready = true;

    buf_init(&lines, HEALTH_BODY_MAX);
    if (service->options.readiness != NULL)
        service->options.readiness(service->options.ctx, &lines, &ready);
    if (service->stopping) {
        ready = false;
        buf_append_str(&lines, STR("stopping\n"));
    }
    if (lines.len == 0)
        buf_append_str(&lines, STR("ok\n"));
    respond_text(request, ready ? 200 : 503, "text/plain; charset=utf-8", buf_str(&lines));
}

static void respond_metrics(struct service *service, struct http_request *request)
{
    CLEANUP(buf_deinit) struct buf text = {0};

    buf_init(&text, HEALTH_BODY_MAX);
    metrics_write(&text);
    if (service->options.metrics != NULL)
        service->options.metrics(service->options.ctx, &text);
    respond_text(request, 200, "text/plain; version=0.0.4; charset=utf-8", buf_str(&text));
}

bool service_handle_health(struct service *service, struct http_request *request)
{
    struct str path = http_path(request);
    bool live = str_is(path, "/livez"), ready = str_is(path, "/readyz"), metrics = str_is(path, "/metrics");

    if (!live && !ready && !metrics)
        return false;
    if (!str_is(http_method(request), "GET") && !str_is(http_method(request), "HEAD")) {
        struct http_header allow = {STR("allow"), STR("GET, HEAD")};

        http_respond(request, 405, "text/plain; charset=utf-8", &allow, 1, STR("only GET\n"));
        return true;
    }
    if (live)
        respond_text(request, 200, "text/plain; charset=utf-8", STR("ok\n"));
    else if (ready)
        respond_ready(service, request);
    else
        respond_metrics(service, request);
    return true;
}

static void on_request(void *ctx, struct http_request *request)
{
    if (!service_handle_health(ctx, request))
        respond_text(request, 404, "text/plain; charset=utf-8", STR("this process answers /livez /readyz /metrics\n"));
}

static void listen_for_health(struct service *service)
{
    struct http_options options = {
        .loop = &service->loop,
        .listen = service->options.listen,
        .max_body_bytes = 4096,
        .max_connections = HEALTH_CONNECTIONS,
        .on_request = on_request,
        .ctx = service,
    };
    struct err err = {0};

    if (http_server_new(&options, &service->http, &err) != ERR_OK) {
        log_event(LOG_ERROR, "service.listen_failed", log_cstr("listen", service->options.listen), log_err(&err));
        end(service, 2);
        return;
    }
    log_event(LOG_INFO, "service.listening", log_i64("port", http_server_port(service->http)));
}

struct service *service_new(const struct service_options *options)
{
    struct service *service = mem_alloc(sizeof(*service));

    service->options = *options;
    signal(SIGPIPE, SIG_IGN);
    ENSURE(uv_loop_init(&service->loop) == 0);
    service->on_term.data = service->on_int.data = service->drain.data = service;
    uv_signal_init(&service->loop, &service->on_term);
    uv_signal_init(&service->loop, &service->on_int);
    uv_signal_start(&service->on_term, on_signal, SIGTERM);
    uv_signal_start(&service->on_int, on_signal, SIGINT);
    uv_timer_init(&service->loop, &service->drain);
    if (options->listen != NULL)
        listen_for_health(service);
    return service;
}

uv_loop_t *service_loop(struct service *service)
{
    return &service->loop;
}

int service_run(struct service *service)
{
    if (!service->ended) {
        log_event(LOG_INFO, "service.started", log_cstr("version", ROPEWALK_VERSION));
        uv_run(&service->loop, UV_RUN_DEFAULT);
    }
    log_event(LOG_INFO, "service.ended", log_i64("exit_code", service->exit_code));
    return service->exit_code;
}

void service_stopped(struct service *service)
{
    end(service, 0);
}

void service_fail(struct service *service, int exit_code, const struct err *err)
{
    log_event(LOG_ERROR, "service.failed", log_err(err));
    end(service, exit_code);
}

void service_free(struct service *service)
{
    if (service == NULL)
        return;
    if (service->http != NULL)
        http_server_free(service->http);
    uv_close((uv_handle_t *)&service->on_term, NULL);
    uv_close((uv_handle_t *)&service->on_int, NULL);
    uv_close((uv_handle_t *)&service->drain, NULL);
    /* Close callbacks of everything freed before; whatever still holds the loop is not waited for. */
    for (int i = 0; i < 100 && uv_run(&service->loop, UV_RUN_NOWAIT) != 0; i++)
        continue;
    if (uv_loop_close(&service->loop) != 0)
        log_event(LOG_DEBUG, "service.loop_still_in_use");
    mem_free(service);
}

static int usage(const char *svc)
{
    printf("usage: ropewalk-%s [--print-config | --print-settings-table | --version | --help]\n"
           "Settings come from the environment, ROPEWALK_*, strings also from files, ROPEWALK_*_FILE.\n",
           svc);
    return 0;
}

int service_args(int argc, char **argv, const char *svc, const struct config_row *rows, size_t count, void *config)
{
    const char *arg = argc > 1 ? argv[1] : "";
    struct err err = {0};

    if (argc > 2) {
        fprintf(stderr, "ropewalk-%s takes one argument at most; see --help\n", svc);
        return 2;
    }
    if (strcmp(arg, "--help") == 0)
        return usage(svc);
    if (strcmp(arg, "--version") == 0) {
        printf("ropewalk-%s %s\n", svc, ROPEWALK_VERSION);
        return 0;
    }
    if (strcmp(arg, "--print-settings-table") == 0) {
        config_markdown(rows, count);
        return 0;
    }
    if (argc == 2 && strcmp(arg, "--print-config") != 0) {
        fprintf(stderr, "ropewalk-%s does not know '%s'; see --help\n", svc, arg);
        return 2;
    }
    if (config_load(rows, count, config, &err) != ERR_OK) /* it has said which settings are at fault */
        return 2;
    if (argc == 2) {
        config_print(rows, count, config);
        config_free(rows, count, config);
        return 0;
    }
    return -1;
}
