/* One connection of the HTTP server: what arrives becomes requests, one after another. */
#include "common/base/ensure.h"
#include "common/base/metrics.h"
#include "common/io/http_internal.h"

#include "common/base/banned.h"

#define IN_MAX ((size_t)4 * HTTP_READ_BYTES) /* never reached: what is over the next line's bound is not read */
#define IN_BUSY_MAX 65536 /* pipelined bytes kept while a request is in hand; then the socket waits */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct http_conn *conn = handle->data;

    (void)suggested;
    *buf = uv_buf_init(conn->server->read_buf, HTTP_READ_BYTES);
}

static void set_state(struct http_conn *conn, enum http_conn_state state)
{
    conn->state = state;
    conn->since = clock_mono();
}

static void on_closed(uv_handle_t *handle)
{
    struct http_conn *conn = handle->data;
    struct http_server *server = conn->server;

    buf_deinit(&conn->in);
    buf_deinit(&conn->request.body);
    arena_free(conn->request.arena);
    mem_free(conn);
    server_conn_closed(server, NULL);
}

void conn_close(struct http_conn *conn)
{
    if (conn->closing)
        return;
    conn->closing = true;
    conn->broken = true;
    conn->reading = false;
    server_conn_closed(conn->server, conn);
    uv_close((uv_handle_t *)&conn->tcp, on_closed);
}

void conn_gone(struct http_conn *conn)
{
    void (*gone)(void *) = conn->request.gone;

    conn->request.gone = NULL;
    if (gone != NULL)
        gone(conn->request.gone_ctx);
}

bool conn_output_waits(const struct http_conn *conn)
{
    return uv_stream_get_write_queue_size((const uv_stream_t *)&conn->tcp) > 0;
}

static void linger(struct http_conn *conn);
static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf);

static void want_reading(struct http_conn *conn, bool want)
{
    if (conn->closing || conn->ended || want == conn->reading)
        return;
    conn->reading = want;
    if (!want)
        uv_read_stop((uv_stream_t *)&conn->tcp);
    else if (uv_read_start((uv_stream_t *)&conn->tcp, on_alloc, on_read) != 0)
        conn->broken = true;
}

/* Nothing more comes in. A request in hand may still be answered (half-closed), and so may those that wait behind it.
 */
static void input_ended(struct http_conn *conn)
{
    switch (conn->state) {
    case CONN_BUSY:
    case CONN_STREAM:
        conn_gone(conn);
        break;
    case CONN_HEAD:
        if (conn->in_ready || (conn->in.len > 0 && conn_output_waits(conn)))
            break; /* requests wait behind answers that the client has not taken yet */
        if (conn_output_waits(conn))
            linger(conn);
        else
            conn_close(conn);
        break;
    case CONN_LINGER:
        if (conn->shut)
            conn_close(conn);
        break;
    case CONN_BODY:
        conn_close(conn);
        break;
    }
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct http_conn *conn = stream->data;

    if (n == 0)
        return;
    if (n < 0) {
        uv_read_stop(stream);
        conn->reading = false;
        conn->ended = true;
        conn->broken = n != UV_EOF;
        if (conn->broken && conn->state != CONN_BUSY && conn->state != CONN_STREAM)
            conn_close(conn);
        else
            input_ended(conn);
        return;
    }
    if (conn->state == CONN_LINGER)
        return;
    if (conn->state == CONN_HEAD && conn->in.len == 0)
        conn->since = clock_mono();
    buf_append(&conn->in, buf->base, (size_t)n);
    conn_serve(conn);
}

static int on_parser_headers(http_parser *parser)
{
    parser->upgrade = 0; /* upgrades are not served: the message goes on as it says */
    return 0;
}

static int on_parser_body(http_parser *parser, const char *at, size_t len)
{
    struct http_conn *conn = parser->data;

    buf_append(&conn->request.body, at, len);
    return conn->request.body.overflow ? 1 : 0;
}

static int on_parser_complete(http_parser *parser)
{
    struct http_conn *conn = parser->data;

    conn->parser_done = true;
    http_parser_pause(parser, 1);
    return 0;
}

static const http_parser_settings parser_settings = {
    .on_headers_complete = on_parser_headers,
    .on_body = on_parser_body,
    .on_message_complete = on_parser_complete,
};

/* Lets http-parser read the bytes that belong to the message; `last`: the message must end with them. */
static bool parser_reads(struct http_conn *conn, struct str bytes, bool last)
{
    size_t n = http_parser_execute(&conn->parser, &parser_settings, bytes.ptr, bytes.len);
    enum http_errno error = HTTP_PARSER_ERRNO(&conn->parser);

    return (error == HPE_OK || (error == HPE_PAUSED && last)) && n == bytes.len && conn->parser_done == last;
}

static const struct http_fault FAULT_UNCLEAR = {400, "bad_request", "a message whose framing can be read in two ways"};

static struct http_fault fault_large(const struct http_conn *conn)
{
    const char *text = conn->server->options.too_large;

    return (struct http_fault){413, "too_large",
                               text != NULL ? text : "the request body is longer than is allowed here"};
}

static void hand_over(struct http_conn *conn)
{
    struct http_request *request = &conn->request;

    set_state(conn, CONN_BUSY);
    request->received_at = conn->since;
    if (!request->head.keep_alive || conn->server->draining)
        conn->close_after = true;
    conn->server->options.on_request(conn->server->options.ctx, request);
}

/* False: it is longer than may be read. */
static bool expect_body(struct http_conn *conn)
{
    const struct http_head *head = &conn->request.head;

    if (head->length > conn->request.body_max)
        return false;
    conn->body_left = head->length;
    set_state(conn, CONN_BODY);
    if (head->expect_continue && conn->in.len == 0)
        conn_write_continue(conn);
    return true;
}

static bool is_head_first(const struct http_conn *conn)
{
    const struct http_options *options = &conn->server->options;

    return options->head_first != NULL && options->head_first(options->ctx, &conn->request);
}

static void begin_request(struct http_conn *conn, size_t head_len)
{
    struct http_request *request = &conn->request;
    struct http_fault fault = {0};
    char *text;

    arena_reset(request->arena);
    buf_reset(&request->body);
    request->gone = NULL;
    request->body_done = NULL;
    request->body_max = conn->server->options.max_body_bytes;
    http_parser_init(&conn->parser, HTTP_REQUEST);
    conn->parser.data = conn;
    conn->parser_done = false;
    conn->chunks = (struct http_chunks){0};
    text = arena_dup(request->arena, conn->in.ptr, head_len);
    if (!http_head_read(request->arena, text, head_len, &request->head, &fault)) {
        conn_refuse(conn, &fault);
        return;
    }
    bool has_body = request->head.chunked || request->head.length > 0;
    bool agree = parser_reads(conn, (struct str){conn->in.ptr, head_len}, !has_body);

    buf_consume(&conn->in, head_len);
    conn->scan = 0;
    if (!agree) {
        conn_refuse(conn, &FAULT_UNCLEAR);
        return;
    }
    request->unread = has_body; /* so that its length can be asked for */
    request->unread = has_body && is_head_first(conn);
    if (!has_body || request->unread) {
        hand_over(conn);
    } else if (!expect_body(conn)) {
        fault = fault_large(conn);
        conn_refuse(conn, &fault);
    }
}

void http_read_body(struct http_request *request, size_t max_bytes, void (*done)(void *ctx, bool whole), void *ctx)
{
    struct http_conn *conn = request->conn;

    ENSURE(conn->state == CONN_BUSY);
    if (!request->unread) {
        done(ctx, request->body.len <= max_bytes);
        return;
    }
    if (max_bytes < request->body_max)
        request->body_max = max_bytes;
    if (!expect_body(conn)) {
        done(ctx, false);
        return;
    }
    request->unread = false;
    request->body_done = done;
    request->body_ctx = ctx;
    conn_serve(conn);
}

struct str http_body_begun(const struct http_request *request)
{
    const struct http_conn *conn = request->conn;
    struct str begun = buf_str(&conn->in);

    if (!request->unread)
        return buf_str(&request->body);
    if (request->head.chunked)
        return STR("");
    if (begun.len > request->head.length)
        begun.len = (size_t)request->head.length;
    return begun;
}

uint64_t http_body_length(const struct http_request *request)
{
    return request->unread ? request->head.length : request->body.len;
}

/* The next request may follow only where all of the body has come. */
void conn_leave_body(struct http_conn *conn)
{
    const struct http_head *head = &conn->request.head;

    if (!conn->request.unread)
        return;
    conn->request.unread = false;
    if (!head->chunked && head->length <= conn->in.len)
        conn->request.skip = (size_t)head->length;
    else
        conn->close_after = true;
}

/* To who has asked for it. */
static void give_body(struct http_conn *conn, bool whole)
{
    struct http_request *request = &conn->request;
    void (*done)(void *ctx, bool whole) = request->body_done;

    request->body_done = NULL;
    conn->close_after |= !whole;
    set_state(conn, CONN_BUSY);
    done(request->body_ctx, whole);
}

/* True when there may be more to do. */
static bool serve_head(struct http_conn *conn)
{
    struct http_fault fault = {0};
    size_t len = http_head_find(buf_str(&conn->in), &conn->scan, &fault);

    if (fault.status != 0)
        conn_refuse(conn, &fault);
    else if (len > 0)
        begin_request(conn, len);
    return len > 0;
}

static bool serve_body(struct http_conn *conn)
{
    struct http_fault fault = {0};
    size_t n;
    bool last;

    if (conn->in.len == 0)
        return false;
    if (conn->request.head.chunked) {
        n = http_chunks_walk(&conn->chunks, buf_str(&conn->in), conn->request.body_max, &fault);
        last = conn->chunks.done;
    } else {
        n = conn->in.len < conn->body_left ? conn->in.len : (size_t)conn->body_left;
        conn->body_left -= n;
        last = conn->body_left == 0;
    }
    if (fault.status == 0 && !parser_reads(conn, (struct str){conn->in.ptr, n}, last))
        fault = conn->request.body.overflow ? fault_large(conn) : FAULT_UNCLEAR;
    if (fault.status == 413 && conn->request.body_done != NULL) {
        give_body(conn, false);
        return false;
    }
    if (fault.status == 413)
        fault = fault_large(conn);
    if (fault.status != 0) {
        conn_refuse(conn, &fault);
        return false;
    }
    buf_consume(&conn->in, n);
    if (last && conn->request.body_done != NULL)
        give_body(conn, true);
    else if (last)
        hand_over(conn);
    return last;
}

void conn_serve(struct http_conn *conn)
{
    bool more = true;

    if (conn->serving)
        return;
    conn->serving = true;
    while (more && !conn->closing)
        switch (conn->state) {
        case CONN_HEAD:
            /* The next request is not looked at before the client has taken the answers to those before it. */
            more = conn->in.len > 0 && !conn_output_waits(conn) && serve_head(conn);
            break;
        case CONN_BODY:
            more = serve_body(conn);
            break;
        case CONN_BUSY:
        case CONN_STREAM:
        case CONN_LINGER:
            more = false;
            break;
        }
    conn->serving = false;
    if (conn->closing)
        return;
    want_reading(conn, conn->state == CONN_LINGER || conn->in.len < IN_BUSY_MAX);
    if (conn->ended)
        input_ended(conn);
}

static void on_shutdown(uv_shutdown_t *shutdown, int status)
{
    struct http_conn *conn = shutdown->data;

    conn->shut = true;
    if (status != 0)
        conn->broken = true;
    if (!conn->closing && (conn->broken || conn->ended))
        conn_close(conn);
}

/* Closing at once could destroy the answer on its way (a reset for bytes we have not read). So say that nothing more
 * comes, and read until the client has closed or has had its time. */
static void linger(struct http_conn *conn)
{
    set_state(conn, CONN_LINGER);
    buf_deinit(&conn->in);
    buf_init(&conn->in, IN_MAX);
    if (conn->broken) {
        conn_close(conn);
        return;
    }
    conn->shutdown.data = conn;
    if (uv_shutdown(&conn->shutdown, (uv_stream_t *)&conn->tcp, on_shutdown) != 0)
        conn_close(conn);
    else
        want_reading(conn, true);
}

void conn_request_ended(struct http_conn *conn)
{
    conn->request.gone = NULL;
    conn->fresh = false;
    buf_consume(&conn->in, conn->request.skip);
    conn->request.skip = 0;
    if (conn->request.body.cap > HTTP_READ_BYTES) {
        size_t max = conn->request.body.max;

        buf_deinit(&conn->request.body);
        buf_init(&conn->request.body, max);
    }
    if (conn->close_after || conn->broken || (conn->ended && conn->in.len == 0)) {
        linger(conn);
        return;
    }
    set_state(conn, CONN_HEAD);
    if (conn->in.len > 0 && !conn->serving && !conn_output_waits(conn))
        server_ready(conn->server, conn);
}

struct http_conn *conn_new(struct http_server *server)
{
    struct http_conn *conn = mem_alloc(sizeof(*conn));

    conn->server = server;
    conn->fresh = true;
    conn->request.conn = conn;
    conn->request.arena = arena_new(4096);
    buf_init(&conn->in, IN_MAX);
    buf_init(&conn->request.body, server->options.max_body_bytes);
    ENSURE(uv_tcp_init(server->options.loop, &conn->tcp) == 0);
    conn->tcp.data = conn;
    return conn;
}

static void remember_peer(struct http_conn *conn)
{
    struct sockaddr_storage address;
    int len = sizeof(address);
    char text[48] = "";
    int port = 0;

    if (uv_tcp_getpeername(&conn->tcp, (struct sockaddr *)&address, &len) == 0) {
        if (address.ss_family == AF_INET6) {
            uv_ip6_name((const struct sockaddr_in6 *)&address, text, sizeof(text));
            port = ntohs(((const struct sockaddr_in6 *)&address)->sin6_port);
        } else {
            uv_ip4_name((const struct sockaddr_in *)&address, text, sizeof(text));
            port = ntohs(((const struct sockaddr_in *)&address)->sin_port);
        }
    }
    snprintf(conn->request.peer, sizeof(conn->request.peer), strchr(text, ':') == NULL ? "%s:%d" : "[%s]:%d", text,
             port);
}

void conn_start(struct http_conn *conn)
{
    set_state(conn, CONN_HEAD);
    uv_tcp_nodelay(&conn->tcp, 1);
    remember_peer(conn);
    want_reading(conn, true);
}
