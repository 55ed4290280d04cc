/* An AMQP connection: login, bytes, heartbeats; see amqp_wire.h. */
#include "common/base/ensure.h"
#include "common/io/amqp_wire_internal.h"
#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "common/base/banned.h"

#define CONNECT_TIMEOUT_S 5
#define CLOSE_TIMEOUT_US 300000
#define FRAME_MAX 131072
#define OUT_MAX ((size_t)256 << 20)
#define CA_FILE "/etc/ssl/certs/ca-certificates.crt"

static enum err_code reply_error(amqp_rpc_reply_t reply, const char *doing, struct err *err)
{
    switch (reply.reply_type) {
    case AMQP_RESPONSE_NORMAL:
        return ERR_OK;
    case AMQP_RESPONSE_LIBRARY_EXCEPTION:
        return err_set(err, ERR_UNAVAILABLE, "%s: %s", doing, amqp_error_string2(reply.library_error));
    case AMQP_RESPONSE_SERVER_EXCEPTION:
        if (reply.reply.id == AMQP_CONNECTION_CLOSE_METHOD) {
            amqp_connection_close_t *close_method = reply.reply.decoded;

            return err_set(err, ERR_UNAVAILABLE, "%s: the broker answered %d %.*s", doing, close_method->reply_code,
                           (int)close_method->reply_text.len, (const char *)close_method->reply_text.bytes);
        }
        break;
    case AMQP_RESPONSE_NONE:
        break;
    }
    return err_set(err, ERR_UNAVAILABLE, "%s: the broker closed the connection", doing);
}

/* Whom we trust over TLS: the variable is OpenSSL's own, which this library does not look at. */
static const char *certificates(void)
{
    const char *file = getenv("SSL_CERT_FILE");

    return file == NULL ? CA_FILE : file;
}

static enum err_code open_socket(struct wire *wire, const struct amqp_connection_info *info, struct err *err)
{
    struct timeval timeout = {.tv_sec = CONNECT_TIMEOUT_S};
    amqp_socket_t *socket = wire->tls ? amqp_ssl_socket_new(wire->conn) : amqp_tcp_socket_new(wire->conn);
    int one = 1, lost_ms = 15000, rc;

    ENSURE(socket != NULL);
    if (wire->tls) {
        amqp_ssl_socket_set_verify_peer(socket, 1);
        amqp_ssl_socket_set_verify_hostname(socket, 1);
        if (amqp_ssl_socket_set_cacert(socket, certificates()) != AMQP_STATUS_OK)
            return err_set(err, ERR_UNAVAILABLE, "could not read the certificates in '%s'", certificates());
    }
    rc = amqp_socket_open_noblock(socket, info->host, info->port, &timeout);
    if (rc != AMQP_STATUS_OK)
        return err_set(err, ERR_UNAVAILABLE, "connecting to the broker at %s:%d: %s", info->host, info->port,
                       amqp_error_string2(rc));
    wire->fd = amqp_get_sockfd(wire->conn);
    setsockopt(wire->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(wire->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &lost_ms, sizeof(lost_ms));
    return ERR_OK;
}

static amqp_table_entry_t entry_bool(const char *key, bool value)
{
    return (amqp_table_entry_t){.key = amqp_cstring_bytes(key),
                                .value = {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = value}};
}

static enum err_code login(struct wire *wire, const struct amqp_connection_info *info, const char *name,
                           struct err *err)
{
    amqp_table_entry_t capabilities[] = {
        entry_bool("connection.blocked", true),
        entry_bool("consumer_cancel_notify", true),
        entry_bool("authentication_failure_close", true),
        entry_bool("publisher_confirms", true),
        entry_bool("basic.nack", true),
    };
    amqp_table_entry_t properties[] = {
        {.key = amqp_cstring_bytes("capabilities"),
         .value = {.kind = AMQP_FIELD_KIND_TABLE,
                   .value.table = {.num_entries = sizeof(capabilities) / sizeof(capabilities[0]),
                                   .entries = capabilities}}},
        {.key = amqp_cstring_bytes("connection_name"),
         .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes(name)}},
    };
    amqp_table_t table = {.num_entries = sizeof(properties) / sizeof(properties[0]), .entries = properties};
    struct timeval timeout = {.tv_sec = CONNECT_TIMEOUT_S};
    amqp_rpc_reply_t reply;
    enum err_code rc;

    amqp_set_handshake_timeout(wire->conn, &timeout);
    reply =
        amqp_login_with_properties(wire->conn, info->vhost[0] == '\0' ? "/" : info->vhost, WIRE_CHANNELS - 1, FRAME_MAX,
                                   wire->heartbeat_s, &table, AMQP_SASL_METHOD_PLAIN, info->user, info->password);
    rc = reply_error(reply, "logging in to the broker", err);
    if (rc != ERR_OK)
        return rc;
    wire->heartbeat_s = amqp_get_heartbeat(wire->conn);
    wire->frame_max = (size_t)amqp_get_frame_max(wire->conn);
    if (wire->frame_max == 0 || wire->frame_max > FRAME_MAX)
        wire->frame_max = FRAME_MAX;
    /* The library would put its heartbeats in the middle of our half-sent frames: here we beat ourselves. */
    if (!wire->tls)
        amqp_tune_connection(wire->conn, amqp_get_channel_max(wire->conn), (int)wire->frame_max, 0);
    return ERR_OK;
}

enum err_code wire_open(const char *url, const char *name, int heartbeat_s, struct wire **ret, struct err *err)
{
    CLEANUP(mem_cleanup) char *copy = mem_strdup(url);
    struct amqp_connection_info info;
    struct wire *wire;
    enum err_code rc;

    amqp_default_connection_info(&info);
    if (amqp_parse_url(copy, &info) != AMQP_STATUS_OK)
        return err_set(err, ERR_INVALID, "the broker's URL is not of the form amqp://user:password@host:port/vhost");
    wire = mem_alloc(sizeof(*wire));
    wire->conn = amqp_new_connection();
    ENSURE(wire->conn != NULL);
    wire->tls = info.ssl != 0;
    wire->heartbeat_s = heartbeat_s;
    wire->assemblies = mem_array(WIRE_CHANNELS, sizeof(*wire->assemblies));
    wire->body_most = mem_array(WIRE_CHANNELS, sizeof(*wire->body_most));
    buf_init(&wire->out, OUT_MAX);
    rc = open_socket(wire, &info, err);
    if (rc == ERR_OK)
        rc = login(wire, &info, name, err);
    if (rc != ERR_OK) {
        wire_close(wire, false);
        return rc;
    }
    wire->heard_at = clock_mono();
    wire->spoke_at = wire->heard_at;
    *ret = wire;
    return ERR_OK;
}

void wire_close(struct wire *wire, bool polite)
{
    struct timeval timeout = {.tv_usec = CLOSE_TIMEOUT_US};

    if (wire == NULL)
        return;
    if (polite && wire_pending(wire) == 0) {
        amqp_set_rpc_timeout(wire->conn, &timeout);
        amqp_connection_close(wire->conn, AMQP_REPLY_SUCCESS);
    }
    amqp_destroy_connection(wire->conn);
    for (size_t i = 0; i < WIRE_CHANNELS; i++)
        amqp_delivery_free(wire->assemblies[i].delivery);
    mem_free(wire->assemblies);
    mem_free(wire->body_most);
    buf_deinit(&wire->out);
    mem_free(wire);
}

int wire_fd(const struct wire *wire)
{
    return wire->fd;
}

bool wire_may_block(const struct wire *wire)
{
    return wire->tls;
}

size_t wire_pending(const struct wire *wire)
{
    return wire->out.len - wire->out_sent;
}

enum err_code wire_write(struct wire *wire, struct err *err)
{
    while (wire_pending(wire) > 0) {
        ssize_t n = send(wire->fd, wire->out.ptr + wire->out_sent, wire_pending(wire), MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break;
        if (n < 0)
            return err_set(err, ERR_UNAVAILABLE, "sending to the broker: %s", strerror(errno));
        wire->out_sent += (size_t)n;
        wire->spoke_at = clock_mono();
    }
    if (wire_pending(wire) == 0) {
        buf_reset(&wire->out);
        wire->out_sent = 0;
    }
    if (wire->lib_error != 0)
        return err_set(err, ERR_UNAVAILABLE, "sending to the broker: %s", amqp_error_string2(wire->lib_error));
    if (wire->out.overflow)
        return err_set(err, ERR_UNAVAILABLE, "more than %zu bytes wait for the broker", (size_t)OUT_MAX);
    return ERR_OK;
}

enum err_code wire_tick(struct wire *wire, struct err *err)
{
    struct mono_us now = clock_mono();
    struct pollfd poll_fd = {.fd = wire->fd, .events = POLLIN};
    int64_t beat_us = (int64_t)wire->heartbeat_s * US_PER_S;

    if (wire->heartbeat_s == 0 || wire->tls) /* over TLS the library beats inside wire_read */
        return ERR_OK;
    /* At rest the broker is heard by its heartbeats; the library swallows them, the socket shows them. */
    if (now.us - wire->heard_at.us > 2 * beat_us && poll(&poll_fd, 1, 0) == 0)
        return err_set(err, ERR_UNAVAILABLE, "the broker was silent for %d s", 2 * wire->heartbeat_s);
    if (now.us - wire->spoke_at.us >= beat_us / 3 && wire_pending(wire) == 0) {
        wire_put_heartbeat(wire);
    }
    return wire_write(wire, err);
}

void wire_heard(struct wire *wire)
{
    wire->heard_at = clock_mono();
}
