/* A small server on the HTTP library, for test_http_server.py: prints its port, serves until SIGTERM, drains. */
#include "common/base/ensure.h"
#include "common/io/http_server.h"
#include <signal.h>

#include "common/base/banned.h"

static uv_loop_t loop;
static uv_signal_t sigterm;
static struct http_server *server;
static size_t streams;

struct waiter {
    uv_timer_t timer;
    struct http_request *request;
    bool stream, gone;
    int ticks;
};

static void say(const char *what)
{
    printf("%s\n", what);
    fflush(stdout);
}

static void on_timer_closed(uv_handle_t *handle)
{
    mem_free(handle->data);
}

static void on_timer(uv_timer_t *timer)
{
    struct waiter *w = timer->data;
    char text[64];

    if (!w->stream) {
        http_respond(w->request, 200, "text/plain", NULL, 0, w->gone ? STR("gone") : STR("slow"));
    } else if (!w->gone && w->ticks++ < 40) {
        snprintf(text, sizeof(text), "data: %d\n\n", w->ticks);
        http_stream_write(w->request, str_of(text));
        return;
    } else {
        http_stream_end(w->request);
        streams--;
    }
    uv_timer_stop(timer);
    uv_close((uv_handle_t *)timer, on_timer_closed);
}

static void on_gone(void *ctx)
{
    struct waiter *w = ctx;

    w->gone = true;
    say("gone");
    if (w->stream)
        uv_timer_start(&w->timer, on_timer, 0, 0);
}

static void later(struct http_request *request, bool stream, uint64_t ms)
{
    struct waiter *w = mem_alloc(sizeof(*w));

    w->request = request;
    w->stream = stream;
    w->timer.data = w;
    uv_timer_init(&loop, &w->timer);
    uv_timer_start(&w->timer, on_timer, ms, stream ? ms : 0);
    http_on_gone(request, on_gone, w);
    if (stream) {
        streams++;
        http_stream_begin(request, 200, "text/event-stream");
    }
}

/* ---- with their heads first ---- */

static void on_body(void *ctx, bool whole)
{
    struct http_request *request = ctx;

    if (whole)
        http_respond(request, 200, "application/octet-stream", NULL, 0, http_body(request));
    else
        http_respond(request, 413, "text/plain", NULL, 0, STR("too long"));
}

static void read_held(struct http_request *request)
{
    uint32_t most = 0;

    ENSURE(parse_u32(http_query(request), 0, 1U << 30, &most));
    http_read_body(request, most, on_body, request);
}

static void on_held_timer(uv_timer_t *timer)
{
    struct waiter *w = timer->data;

    if (!w->gone)
        http_on_gone(w->request, NULL, NULL);
    read_held(w->request);
    uv_close((uv_handle_t *)timer, on_timer_closed);
}

static void read_later(struct http_request *request)
{
    struct waiter *w = mem_alloc(sizeof(*w));

    w->request = request;
    w->timer.data = w;
    uv_timer_init(&loop, &w->timer);
    uv_timer_start(&w->timer, on_held_timer, 50, 0);
    http_on_gone(request, on_gone, w);
}

static bool head_first(void *ctx, const struct http_request *request)
{
    (void)ctx;
    return str_starts(http_path(request), "/held");
}

static void on_request(void *ctx, struct http_request *request)
{
    struct str path = http_path(request);
    uint32_t n = 0;

    (void)ctx;
    if (str_is(path, "/echo")) {
        http_respond(request, 200, "application/octet-stream", NULL, 0, http_body(request));
    } else if (str_is(path, "/held")) {
        read_held(request);
    } else if (str_is(path, "/held/later")) {
        read_later(request);
    } else if (str_is(path, "/held/unread")) {
        http_respond(request, 403, "text/plain", NULL, 0, http_body_begun(request));
    } else if (str_is(path, "/slow")) {
        ENSURE(parse_u32(http_query(request), 0, 100000, &n));
        later(request, false, n);
    } else if (str_is(path, "/stream")) {
        later(request, true, 50);
    } else if (str_is(path, "/big")) {
        ENSURE(parse_u32(http_query(request), 0, 1U << 30, &n));
        char *bytes = mem_alloc(n + 1);

        memset(bytes, 'x', n);
        http_respond(request, 200, "text/plain", NULL, 0, (struct str){bytes, n});
        mem_free(bytes);
    } else if (str_is(path, "/header")) {
        struct http_header header = {STR("x-echo"), http_body(request)};

        http_respond(request, 201, NULL, &header, 1, STR_NONE);
    } else {
        http_respond(request, 200, "text/plain", NULL, 0, STR("ok"));
    }
}

static void on_drained(void *ctx)
{
    (void)ctx;
    say("drained");
    http_server_free(server);
    uv_close((uv_handle_t *)&sigterm, NULL);
}

static void on_sigterm(uv_signal_t *handle, int number)
{
    (void)number;
    uv_signal_stop(handle);
    http_server_drain(server, on_drained, NULL);
}

int main(void)
{
    struct err err = {0};
    struct http_options options = {
        .loop = &loop,
        .listen = "127.0.0.1:0",
        .max_body_bytes = 1048576,
        .max_connections = 1500,
        .head_timeout_ms = 700,
        .idle_timeout_ms = 1500,
        .body_grace_ms = 700,
        .write_grace_ms = 1000,
        .min_bytes_per_s = 1048576,
        .on_request = on_request,
        .head_first = head_first,
    };
    char line[32];

    uv_loop_init(&loop);
    uv_signal_init(&loop, &sigterm);
    uv_signal_start(&sigterm, on_sigterm, SIGTERM);
    if (http_server_new(&options, &server, &err) != ERR_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    snprintf(line, sizeof(line), "%d", http_server_port(server));
    say(line);
    uv_run(&loop, UV_RUN_DEFAULT);
    ENSURE(uv_loop_close(&loop) == 0);
    return streams == 0 ? 0 : 1;
}
