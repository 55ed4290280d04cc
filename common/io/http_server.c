/* The HTTP server's listener, its clock and its drain. Reading: http_conn.c; writing: http_answer.c. */
#include "common/io/http_server.h"
#include "common/base/ensure.h"
#include "common/base/metrics.h"
#include "common/io/http_internal.h"
#include <signal.h>

#include "common/base/banned.h"

static void maybe_done(struct http_server *server)
{
    if (server->count > 0 || server->listening)
        return;
    if (server->draining && !server->drained && !server->freed) {
        server->drained = true;
        if (server->drain_done != NULL)
            server->drain_done(server->drain_ctx);
    }
    if (server->freed && server->closing == 0)
        mem_free(server);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct http_server *server = handle->data;

    server->closing--;
    if (handle == (uv_handle_t *)&server->listener)
        server->listening = false;
    maybe_done(server);
}

static void close_handle(struct http_server *server, uv_handle_t *handle)
{
    if (uv_is_closing(handle))
        return;
    server->closing++;
    uv_close(handle, on_handle_closed);
}

void server_conn_closed(struct http_server *server, struct http_conn *conn)
{
    if (conn == NULL) { /* its memory has gone */
        server->count--;
        metric_set(METRIC_HTTP_CONNECTIONS, server->count);
        maybe_done(server);
        return;
    }
    if (conn->prev != NULL)
        conn->prev->next = conn->next;
    else
        server->connections = conn->next;
    if (conn->next != NULL)
        conn->next->prev = conn->prev;
    for (struct http_conn **p = &server->ready_first; conn->in_ready && *p != NULL; p = &(*p)->ready_next)
        if (*p == conn) {
            *p = conn->ready_next;
            break;
        }
}

/* Pipelined requests are served from here, so that an answer never recurses into the next request. */
static void on_idle(uv_idle_t *idle)
{
    struct http_server *server = idle->data;
    struct http_conn *last = NULL;

    for (struct http_conn *c = server->ready_first; c != NULL; c = c->ready_next)
        last = c;
    while (server->ready_first != NULL) {
        struct http_conn *conn = server->ready_first;
        bool stop = conn == last;

        server->ready_first = conn->ready_next;
        conn->in_ready = false;
        conn_serve(conn);
        if (stop)
            break;
    }
    if (server->ready_first == NULL)
        uv_idle_stop(idle);
}

void server_ready(struct http_server *server, struct http_conn *conn)
{
    struct http_conn **end = &server->ready_first;

    if (conn->in_ready || server->freed)
        return;
    while (*end != NULL)
        end = &(*end)->ready_next;
    *end = conn;
    conn->ready_next = NULL;
    conn->in_ready = true;
    uv_idle_start(&server->ready, on_idle);
}

static void on_tick(uv_timer_t *timer)
{
    struct http_server *server = timer->data;
    struct mono_us now = clock_mono();

    for (struct http_conn *conn = server->connections, *next; conn != NULL; conn = next) {
        next = conn->next;
        conn_tick(conn, now);
    }
}

static void on_connection(uv_stream_t *listener, int status)
{
    static const struct http_fault full = {503, "busy", "too many connections; try again in a moment"};
    struct http_server *server = listener->data;
    struct http_conn *conn;

    if (status != 0)
        return; /* out of descriptors or the like: libuv has dropped it */
    conn = conn_new(server);
    conn->next = server->connections;
    if (conn->next != NULL)
        conn->next->prev = conn;
    server->connections = conn;
    server->count++;
    metric_set(METRIC_HTTP_CONNECTIONS, server->count);
    if (uv_accept(listener, (uv_stream_t *)&conn->tcp) != 0) {
        conn_close(conn);
        return;
    }
    conn_start(conn);
    if (server->count > server->options.max_connections)
        conn_refuse(conn, &full);
}

/* "127.0.0.1:8080", "[::1]:8080" */
static enum err_code parse_listen(const char *listen, struct sockaddr_storage *ret, struct err *err)
{
    const char *colon = strrchr(listen, ':');
    char host[64] = "";
    uint32_t port = 0;
    size_t len;

    if (colon == NULL || !parse_u32(str_of(colon + 1), 0, 65535, &port))
        return err_set(err, ERR_INVALID, "'%s' is no address to listen at: it must look like 127.0.0.1:8080", listen);
    len = (size_t)(colon - listen);
    if (len >= 2 && listen[0] == '[' && listen[len - 1] == ']') {
        listen++;
        len -= 2;
    }
    if (len == 0 || len >= sizeof(host))
        return err_set(err, ERR_INVALID, "'%s' is no address to listen at: the host must be an IP address", listen);
    memcpy(host, listen, len);
    if (uv_ip4_addr(host, (int)port, (struct sockaddr_in *)ret) == 0 ||
        uv_ip6_addr(host, (int)port, (struct sockaddr_in6 *)ret) == 0)
        return ERR_OK;
    return err_set(err, ERR_INVALID, "'%s' is no address to listen at: the host must be an IP address", host);
}

static enum err_code start_listening(struct http_server *server, const struct sockaddr_storage *address,
                                     struct err *err)
{
    struct sockaddr_storage bound;
    int len = sizeof(bound);
    int rc = uv_tcp_bind(&server->listener, (const struct sockaddr *)address, 0);

    if (rc == 0)
        rc = uv_listen((uv_stream_t *)&server->listener, 1024, on_connection);
    if (rc == 0)
        rc = uv_tcp_getsockname(&server->listener, (struct sockaddr *)&bound, &len);
    if (rc != 0) {
        enum err_code code =
            err_set(err, ERR_UNAVAILABLE, "could not listen at %s: %s", server->options.listen, uv_strerror(rc));
        err->lib_code = -rc;
        return code;
    }
    server->port = ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port
                                                     : ((struct sockaddr_in *)&bound)->sin_port);
    return ERR_OK;
}

enum err_code http_server_new(const struct http_options *options, struct http_server **ret, struct err *err)
{
    struct sockaddr_storage address = {0};
    struct http_server *server;
    enum err_code rc = parse_listen(options->listen, &address, err);

    if (rc != ERR_OK)
        return rc;
    signal(SIGPIPE, SIG_IGN); /* a client that has gone is an error of the write */
    server = mem_alloc(sizeof(*server));
    server->options = *options;
    server->listening = true;
    server->listener.data = server->tick.data = server->ready.data = server;
    ENSURE(uv_tcp_init(options->loop, &server->listener) == 0);
    ENSURE(uv_timer_init(options->loop, &server->tick) == 0);
    ENSURE(uv_idle_init(options->loop, &server->ready) == 0);
    rc = start_listening(server, &address, err);
    if (rc != ERR_OK) {
        http_server_free(server);
        return rc;
    }
    uv_timer_start(&server->tick, on_tick, HTTP_TICK_MS, HTTP_TICK_MS);
    *ret = server;
    return ERR_OK;
}

int http_server_port(const struct http_server *server)
{
    return server->port;
}

void http_server_drain(struct http_server *server, void (*done)(void *ctx), void *ctx)
{
    ENSURE(!server->draining);
    server->draining = true;
    server->drain_at = clock_mono();
    server->drain_done = done;
    server->drain_ctx = ctx;
    close_handle(server, (uv_handle_t *)&server->listener);
}

void http_server_free(struct http_server *server)
{
    if (server == NULL)
        return;
    server->freed = true;
    for (struct http_conn *conn = server->connections, *next; conn != NULL; conn = next) {
        next = conn->next;
        conn->request.gone = NULL;
        conn_close(conn);
    }
    close_handle(server, (uv_handle_t *)&server->listener);
    close_handle(server, (uv_handle_t *)&server->tick);
    close_handle(server, (uv_handle_t *)&server->ready);
}

struct arena *http_arena(struct http_request *request)
{
    return request->arena;
}

struct str http_method(const struct http_request *request)
{
    return request->head.method;
}

struct str http_path(const struct http_request *request)
{
    return request->head.path;
}

struct str http_query(const struct http_request *request)
{
    return request->head.query;
}

struct str http_body(const struct http_request *request)
{
    return buf_str(&request->body);
}

struct str http_header_get(const struct http_request *request, const char *lower_name)
{
    for (size_t i = 0; i < request->head.header_count; i++)
        if (str_is(request->head.headers[i].name, lower_name))
            return request->head.headers[i].value;
    return STR_NONE;
}

const struct http_header *http_headers(const struct http_request *request, size_t *ret_count)
{
    *ret_count = request->head.header_count;
    return request->head.headers;
}

struct str http_peer(const struct http_request *request)
{
    return str_of(request->peer);
}

struct mono_us http_received_at(const struct http_request *request)
{
    return request->received_at;
}

void http_on_gone(struct http_request *request, void (*gone)(void *ctx), void *ctx)
{
    request->gone = gone;
    request->gone_ctx = ctx;
}
