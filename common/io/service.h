/* What every service process has: the loop, settings, signals, and an HTTP listener for /livez /readyz /metrics.
 * SIGTERM and SIGINT ask for a drain once; a second one exits at once. */
#pragma once
#include "common/base/config.h"
#include "common/io/http_server.h"

struct service;

struct service_options {
    const char *svc;            /* "scheduler" */
    const char *name;           /* ROPEWALK_NAME */
    const char *listen;         /* NULL: the service brings its own server (the gateway) */
    void (*on_stop)(void *ctx); /* begin to drain; call service_stopped when done */
    void (*readiness)(void *ctx, struct buf *lines, bool *ready); /* a line per dependency: "postgresql: ok" */
    void (*metrics)(void *ctx, struct buf *text);                 /* more for /metrics, in its format; may be NULL */
    int drain_timeout_ms; /* exits 1 with a log line when the drain takes longer */
    void *ctx;
};
struct service *service_new(const struct service_options *options);
uv_loop_t *service_loop(struct service *service);
int service_run(struct service *service); /* returns the exit code */
void service_stopped(struct service *service);
void service_fail(struct service *service, int exit_code, const struct err *err); /* logs, leaves the loop */
void service_free(struct service *service);
/* Answers /livez, /readyz and /metrics; false when the path is another. The gateway calls it from its own server. */
bool service_handle_health(struct service *service, struct http_request *request);

/* main() of a service: --print-config, --version, --help, --print-settings-table, then config_load. Returns -1 to go
 * on, else the exit code. */
int service_args(int argc, char **argv, const char *svc, const struct config_row *rows, size_t count, void *config);
