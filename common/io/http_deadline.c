/* Deadlines of the HTTP server: what a connection may take for a head, a body, an answer, and for doing nothing. */
#include "common/io/http_internal.h"

#include "common/base/banned.h"

#define LINGER_US (2 * US_PER_S)
#define REST_US (US_PER_S / 20) /* a connection at rest for so long has nothing on its way when we drain */

static int64_t ms(unsigned value, unsigned standard)
{
    return (int64_t)(value == 0 ? standard : value) * US_PER_MS;
}

static int64_t min_rate(const struct http_options *options)
{
    return options->min_bytes_per_s == 0 ? 4096 : options->min_bytes_per_s;
}

/* Has output been waiting for longer than its grace and rate allow? A stream is never done: it only has to move. */
static bool writes_too_slowly(struct http_conn *conn, struct mono_us now)
{
    const struct http_options *o = &conn->server->options;
    size_t queued = uv_stream_get_write_queue_size((uv_stream_t *)&conn->tcp);
    int64_t allowed = ms(o->write_grace_ms, 20000);

    if (queued == 0) {
        conn->write_since.us = 0;
        return false;
    }
    if (conn->write_since.us == 0 || (conn->state == CONN_STREAM && queued < conn->write_last)) {
        conn->write_since = now;
        conn->write_bytes = queued;
    }
    conn->write_last = queued;
    if (conn->state != CONN_STREAM)
        allowed += (int64_t)conn->write_bytes * US_PER_S / min_rate(o);
    return now.us - conn->write_since.us > allowed;
}

static void refuse_slow(struct http_conn *conn, const char *why)
{
    const struct http_fault fault = {408, "request_timeout", why};

    conn_refuse(conn, &fault);
}

static void tick_head(struct http_conn *conn, struct mono_us now)
{
    const struct http_options *o = &conn->server->options;
    int64_t age = now.us - conn->since.us;
    int64_t idle = conn->fresh ? ms(o->head_timeout_ms, 10000) : ms(o->idle_timeout_ms, 60000);

    if (conn_output_waits(conn)) {
        conn->since = now;
    } else if (conn->in.len > 0) {
        if (age > ms(o->head_timeout_ms, 10000))
            refuse_slow(conn, "the request line and headers took too long");
    } else if (age > idle ||
               (conn->server->draining && age > REST_US && now.us - conn->server->drain_at.us > REST_US)) {
        conn_close(conn);
    }
}

void conn_tick(struct http_conn *conn, struct mono_us now)
{
    const struct http_options *o = &conn->server->options;
    int64_t age = now.us - conn->since.us;

    if (writes_too_slowly(conn, now))
        conn->broken = true;
    if (conn->state == CONN_BUSY || conn->state == CONN_STREAM) {
        if (conn->broken || conn->ended)
            conn_gone(conn);
        return;
    }
    if (conn->broken)
        conn_close(conn);
    else if (conn->state == CONN_HEAD)
        tick_head(conn, now);
    else if (conn->state == CONN_BODY) {
        if (age > ms(o->body_grace_ms, 10000) + (int64_t)conn->request.body.len * US_PER_S / min_rate(o))
            refuse_slow(conn, "the request body came too slowly");
    } else if (age > LINGER_US && !conn_output_waits(conn)) {
        conn_close(conn);
    }
}
