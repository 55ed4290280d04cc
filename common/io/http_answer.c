/* Writing of the HTTP server: answers in one writev, streams in chunks, refusals. */
#include "common/base/fault.h"
#include "common/base/ensure.h"
#include "common/base/json_text.h"
#include "common/base/metrics.h"
#include "common/io/http_internal.h"

#include "common/base/banned.h"

#define HEAD_MAX (1U << 20)           /* of an answer's head: a bound that nothing of ours comes near */
#define STREAM_PENDING_MAX (8U << 20) /* a reader this far behind has gone */

struct pending_write {
    uv_write_t req;
    struct http_conn *conn;
    char bytes[];
};

static void on_written(uv_write_t *req, int status)
{
    struct pending_write *pending = req->data;
    struct http_conn *conn = pending->conn;

    mem_free(pending);
    if (conn->closing)
        return;
    if (!conn_output_waits(conn))
        conn->write_since.us = 0; /* the next answer has its own time */
    if (status != 0)
        conn->broken = true; /* the clock takes note of it */
    else if (conn->state == CONN_HEAD && conn->in.len > 0)
        server_ready(conn->server, conn);
}

/* What the kernel does not take at once is copied and waits. */
void conn_write(struct http_conn *conn, struct str a, struct str b)
{
    uv_buf_t bufs[2] = {uv_buf_init((char *)(uintptr_t)a.ptr, (unsigned)a.len),
                        uv_buf_init((char *)(uintptr_t)b.ptr, (unsigned)b.len)};
    size_t total = a.len + b.len, sent = 0;

    if (conn->broken || total == 0)
        return;
    if (uv_stream_get_write_queue_size((uv_stream_t *)&conn->tcp) == 0) {
        int n = uv_try_write((uv_stream_t *)&conn->tcp, bufs, b.len > 0 ? 2 : 1);

        if (n < 0 && n != UV_EAGAIN) {
            conn->broken = true; /* the clock takes note of it */
            return;
        }
        sent = n < 0 ? 0 : (size_t)n;
    }
    if (sent == total)
        return;
    struct pending_write *pending = mem_alloc(sizeof(*pending) + total - sent);
    size_t from_a = sent < a.len ? a.len - sent : 0;
    size_t skip_b = sent > a.len ? sent - a.len : 0;

    if (from_a > 0)
        memcpy(pending->bytes, a.ptr + sent, from_a);
    if (b.len > skip_b)
        memcpy(pending->bytes + from_a, b.ptr + skip_b, b.len - skip_b);
    pending->conn = conn;
    pending->req.data = pending;
    uv_buf_t rest = uv_buf_init(pending->bytes, (unsigned)(total - sent));

    if (uv_write(&pending->req, (uv_stream_t *)&conn->tcp, &rest, 1, on_written) != 0) {
        mem_free(pending);
        conn->broken = true;
    }
}

void conn_write_continue(struct http_conn *conn)
{
    conn_write(conn, STR("HTTP/1.1 100 Continue\r\n\r\n"), STR_NONE);
}

static const char *reason(int status)
{
    switch (status) {
#define XX(number, name, text)                                                                                         \
    case number:                                                                                                       \
        return #text;
        HTTP_STATUS_MAP(XX)
#undef XX
    default:
        return "Status";
    }
}

static const char *date(struct http_server *server)
{
    int64_t second = clock_wall().us / US_PER_S;

    if (second != server->date_second) {
        time_t t = (time_t)second;
        struct tm tm;

        gmtime_r(&t, &tm);
        strftime(server->date_text, sizeof(server->date_text), "%a, %d %b %Y %H:%M:%S GMT", &tm);
        server->date_second = second;
    }
    return server->date_text;
}

static void append_header(struct buf *out, struct str name, struct str value)
{
    buf_append_str(out, name);
    buf_append(out, ": ", 2);
    for (size_t i = 0; i < value.len; i++) {
        char c = value.ptr[i];

        buf_append_char(out, (unsigned char)c < 0x20 || c == 0x7f ? '_' : c); /* nothing ends the line from inside */
    }
    buf_append(out, "\r\n", 2);
}

static void append_status_line(struct http_conn *conn, struct buf *out, int status, const char *content_type)
{
    buf_printf(out, "HTTP/1.1 %d %s\r\ndate: %s\r\n", status, reason(status), date(conn->server));
    if (content_type != NULL)
        append_header(out, STR("content-type"), str_of(content_type));
}

static void append_connection(struct http_conn *conn, struct buf *out)
{
    if (conn->close_after)
        buf_append_str(out, STR("connection: close\r\n"));
    else if (conn->request.head.minor == 0)
        buf_append_str(out, STR("connection: keep-alive\r\n"));
}

static bool is_head(const struct http_conn *conn)
{
    return str_is(conn->request.head.method, "HEAD");
}

static void count_answer(struct http_conn *conn)
{
    metric_add(METRIC_HTTP_REQUESTS, 1);
    metric_observe_us(METRIC_HTTP_SECONDS, clock_mono().us - conn->request.received_at.us);
}

void http_respond(struct http_request *request, int status, const char *content_type, const struct http_header *headers,
                  size_t header_count, struct str body)
{
    struct http_conn *conn = request->conn;
    CLEANUP(buf_deinit) struct buf out;

    ENSURE(conn->state == CONN_BUSY);
    buf_init(&out, HEAD_MAX);
    conn_leave_body(conn);
    if (conn->server->draining)
        conn->close_after = true;
    append_status_line(conn, &out, status, content_type);
    for (size_t i = 0; i < header_count; i++)
        append_header(&out, headers[i].name, headers[i].value);
    if (status != 204 && status != 304)
        buf_printf(&out, "content-length: %zu\r\n", body.len);
    append_connection(conn, &out);
    buf_append(&out, "\r\n", 2);
    FAULT_POINT_AFTER(gateway_answer_half, status == 202,
                      conn_write(conn, buf_str(&out), (struct str){body.ptr, body.len / 2}));
    conn_write(conn, buf_str(&out), is_head(conn) || status == 204 || status == 304 ? STR_NONE : body);
    count_answer(conn);
    conn_request_ended(conn);
}

void http_stream_begin(struct http_request *request, int status, const char *content_type)
{
    struct http_conn *conn = request->conn;
    CLEANUP(buf_deinit) struct buf out;

    ENSURE(conn->state == CONN_BUSY);
    buf_init(&out, HEAD_MAX);
    conn_leave_body(conn);
    if (conn->request.head.minor == 0 || conn->server->draining)
        conn->close_after = true;
    append_status_line(conn, &out, status, content_type);
    buf_append_str(&out, STR("cache-control: no-store\r\nx-accel-buffering: no\r\n"));
    if (conn->request.head.minor == 1)
        buf_append_str(&out, STR("transfer-encoding: chunked\r\n"));
    append_connection(conn, &out);
    buf_append(&out, "\r\n", 2);
    conn->state = CONN_STREAM;
    conn->since = clock_mono();
    conn_write(conn, buf_str(&out), STR_NONE);
    count_answer(conn);
}

void http_stream_write(struct http_request *request, struct str chunk)
{
    struct http_conn *conn = request->conn;
    CLEANUP(buf_deinit) struct buf framed = {0};

    ENSURE(conn->state == CONN_STREAM);
    if (chunk.len == 0 || is_head(conn) || conn->broken)
        return;
    if (http_stream_pending(request) > STREAM_PENDING_MAX) {
        conn->broken = true;
        return;
    }
    if (conn->request.head.minor == 0) {
        conn_write(conn, chunk, STR_NONE);
        return;
    }
    buf_init(&framed, chunk.len + 64);
    buf_printf(&framed, "%zx\r\n", chunk.len);
    buf_append_str(&framed, chunk);
    buf_append(&framed, "\r\n", 2);
    conn_write(conn, buf_str(&framed), STR_NONE);
}

size_t http_stream_pending(const struct http_request *request)
{
    return uv_stream_get_write_queue_size((const uv_stream_t *)&request->conn->tcp);
}

void http_stream_end(struct http_request *request)
{
    struct http_conn *conn = request->conn;

    ENSURE(conn->state == CONN_STREAM);
    if (conn->server->draining)
        conn->close_after = true;
    if (conn->request.head.minor == 1 && !is_head(conn))
        conn_write(conn, STR("0\r\n\r\n"), STR_NONE);
    conn_request_ended(conn);
}

void conn_refuse(struct http_conn *conn, const struct http_fault *fault)
{
    CLEANUP(buf_deinit) struct buf out, body;
    struct jw w;

    metric_add(METRIC_HTTP_REFUSED, 1);
    buf_init(&out, HEAD_MAX);
    buf_init(&body, HEAD_MAX);
    w = jw_to(&body);
    jw_obj(&w);
    jw_kcstr(&w, "type", "about:blank");
    jw_kcstr(&w, "title", reason(fault->status));
    jw_ki64(&w, "status", fault->status);
    jw_kcstr(&w, "code", fault->code);
    jw_kcstr(&w, "detail", fault->why);
    jw_end_obj(&w);
    conn->close_after = true;
    append_status_line(conn, &out, fault->status, "application/problem+json");
    buf_printf(&out, "content-length: %zu\r\nconnection: close\r\n\r\n", body.len);
    conn_write(conn, buf_str(&out), buf_str(&body));
    conn_request_ended(conn);
}
