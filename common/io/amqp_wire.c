/* librabbitmq behind wire_*; see amqp_wire.h. */
#include "common/io/amqp_wire.h"
#include "common/base/ensure.h"
#include <amqp.h>
#include <amqp_framing.h>
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
#define FRAME_OVERHEAD 8
#define ARGUMENTS_MAX 4096 /* encoded method or properties; ours are at most five short strings */
#define OUT_MAX ((size_t)256 << 20)
#define BODY_MAX ((uint64_t)64 << 20) /* larger messages arrive with an empty body, which nobody can decode */
#define CA_FILE "/etc/ssl/certs/ca-certificates.crt"

/* A message whose frames are still coming in. */
struct assembly {
    enum { CONTENT_NONE, CONTENT_DELIVERY, CONTENT_RETURN } kind;
    bool header_seen, redelivered, skip;
    uint64_t tag, left, number;
    struct amqp_delivery *delivery;
    char *body;
};

struct wire {
    amqp_connection_state_t conn;
    bool tls;
    int fd;
    size_t frame_max;
    int heartbeat_s;
    struct buf out;
    size_t out_sent;
    int lib_error; /* first failure of the library's writer (TLS) */
    struct mono_us heard_at, spoke_at;
    bool drained; /* the socket had nothing more at the last read */
    struct assembly *assemblies;
};

static amqp_bytes_t bytes_of(const char *s)
{
    return s == NULL ? amqp_empty_bytes : amqp_cstring_bytes(s);
}

/* --- opening and closing --------------------------------------------------------------------------------------------
 */

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

/* --- writing --------------------------------------------------------------------------------------------------------
 */

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

static void put_u16(struct buf *buf, uint16_t n)
{
    buf_append(buf, (uint8_t[]){(uint8_t)(n >> 8), (uint8_t)n}, 2);
}

static void put_u32(struct buf *buf, uint32_t n)
{
    put_u16(buf, (uint16_t)(n >> 16));
    put_u16(buf, (uint16_t)n);
}

static void put_frame_head(struct wire *wire, uint8_t type, uint16_t channel, size_t len)
{
    buf_append_char(&wire->out, (char)type);
    put_u16(&wire->out, channel);
    put_u32(&wire->out, (uint32_t)len);
}

static void put_frame_end(struct wire *wire)
{
    buf_append_char(&wire->out, (char)AMQP_FRAME_END);
}

static void put_by_library(struct wire *wire, const amqp_frame_t *frame)
{
    int rc;

    if (wire->lib_error != 0)
        return;
    rc = amqp_send_frame(wire->conn, frame);
    if (rc != AMQP_STATUS_OK)
        wire->lib_error = rc;
}

static void put_method(struct wire *wire, uint16_t channel, amqp_method_number_t which, void *arguments)
{
    uint8_t space[ARGUMENTS_MAX];
    int len;

    if (wire->tls) {
        put_by_library(wire, &(amqp_frame_t){.frame_type = AMQP_FRAME_METHOD,
                                             .channel = channel,
                                             .payload.method = {.id = which, .decoded = arguments}});
        return;
    }
    len = amqp_encode_method(which, arguments, (amqp_bytes_t){.len = sizeof(space), .bytes = space});
    ENSURE(len >= 0);
    put_frame_head(wire, AMQP_FRAME_METHOD, channel, 4 + (size_t)len);
    put_u32(&wire->out, which);
    buf_append(&wire->out, space, (size_t)len);
    put_frame_end(wire);
}

static void put_header(struct wire *wire, uint16_t channel, amqp_basic_properties_t *properties, uint64_t body_size)
{
    uint8_t space[ARGUMENTS_MAX];
    int len;

    if (wire->tls) {
        amqp_frame_t frame = {.frame_type = AMQP_FRAME_HEADER, .channel = channel};

        frame.payload.properties.class_id = AMQP_BASIC_CLASS;
        frame.payload.properties.body_size = body_size;
        frame.payload.properties.decoded = properties;
        put_by_library(wire, &frame);
        return;
    }
    len = amqp_encode_properties(AMQP_BASIC_CLASS, properties, (amqp_bytes_t){.len = sizeof(space), .bytes = space});
    ENSURE(len >= 0);
    put_frame_head(wire, AMQP_FRAME_HEADER, channel, 12 + (size_t)len);
    put_u16(&wire->out, AMQP_BASIC_CLASS);
    put_u16(&wire->out, 0);
    put_u32(&wire->out, (uint32_t)(body_size >> 32));
    put_u32(&wire->out, (uint32_t)body_size);
    buf_append(&wire->out, space, (size_t)len);
    put_frame_end(wire);
}

static void put_body(struct wire *wire, uint16_t channel, struct str body)
{
    size_t max = wire->frame_max - FRAME_OVERHEAD;

    while (body.len > 0) {
        size_t n = body.len < max ? body.len : max;

        if (wire->tls) {
            amqp_frame_t frame = {.frame_type = AMQP_FRAME_BODY, .channel = channel};

            frame.payload.body_fragment = (amqp_bytes_t){.len = n, .bytes = (void *)(uintptr_t)body.ptr};
            put_by_library(wire, &frame);
        } else {
            put_frame_head(wire, AMQP_FRAME_BODY, channel, n);
            buf_append(&wire->out, body.ptr, n);
            put_frame_end(wire);
        }
        body = (struct str){body.ptr + n, body.len - n};
    }
}

void wire_put_channel_open(struct wire *wire, uint16_t channel)
{
    put_method(wire, channel, AMQP_CHANNEL_OPEN_METHOD, &(amqp_channel_open_t){.out_of_band = amqp_empty_bytes});
}

void wire_put_channel_close(struct wire *wire, uint16_t channel)
{
    put_method(wire, channel, AMQP_CHANNEL_CLOSE_METHOD, &(amqp_channel_close_t){.reply_code = AMQP_REPLY_SUCCESS});
}

void wire_put_confirm_select(struct wire *wire, uint16_t channel)
{
    put_method(wire, channel, AMQP_CONFIRM_SELECT_METHOD, &(amqp_confirm_select_t){0});
}

void wire_put_queue(struct wire *wire, uint16_t channel, const struct amqp_queue *queue, bool passive)
{
    amqp_table_entry_t type = {.key = amqp_cstring_bytes("x-queue-type"),
                               .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = bytes_of(queue->type)}};
    amqp_queue_declare_t method = {.queue = bytes_of(queue->name),
                                   .passive = passive,
                                   .durable = queue->durable,
                                   .exclusive = queue->exclusive,
                                   .auto_delete = queue->auto_delete};

    if (queue->type != NULL)
        method.arguments = (amqp_table_t){.num_entries = 1, .entries = &type};
    put_method(wire, channel, AMQP_QUEUE_DECLARE_METHOD, &method);
}

void wire_put_bind(struct wire *wire, uint16_t channel, const char *queue, const char *exchange)
{
    put_method(wire, channel, AMQP_QUEUE_BIND_METHOD,
               &(amqp_queue_bind_t){.queue = bytes_of(queue), .exchange = bytes_of(exchange)});
}

void wire_put_fanout(struct wire *wire, uint16_t channel, const char *exchange)
{
    put_method(wire, channel, AMQP_EXCHANGE_DECLARE_METHOD,
               &(amqp_exchange_declare_t){
                   .exchange = bytes_of(exchange), .type = amqp_cstring_bytes("fanout"), .durable = true});
}

void wire_put_consume(struct wire *wire, uint16_t channel, const struct amqp_consume *options)
{
    amqp_table_entry_t priority = {.key = amqp_cstring_bytes("x-priority"),
                                   .value = {.kind = AMQP_FIELD_KIND_I32, .value.i32 = options->priority}};
    amqp_basic_consume_t method = {
        .queue = bytes_of(options->queue), .consumer_tag = amqp_cstring_bytes("c"), .no_ack = options->no_ack};
    amqp_basic_qos_t qos = {.prefetch_count = options->prefetch};

    if (options->priority != 0)
        method.arguments = (amqp_table_t){.num_entries = 1, .entries = &priority};
    put_method(wire, channel, AMQP_BASIC_QOS_METHOD, &qos);
    put_method(wire, channel, AMQP_BASIC_CONSUME_METHOD, &method);
}

void wire_put_cancel(struct wire *wire, uint16_t channel)
{
    put_method(wire, channel, AMQP_BASIC_CANCEL_METHOD,
               &(amqp_basic_cancel_t){.consumer_tag = amqp_cstring_bytes("c")});
}

void wire_put_ack(struct wire *wire, uint16_t channel, uint64_t tag, bool multiple)
{
    put_method(wire, channel, AMQP_BASIC_ACK_METHOD, &(amqp_basic_ack_t){.delivery_tag = tag, .multiple = multiple});
}

void wire_put_nack(struct wire *wire, uint16_t channel, uint64_t tag, bool requeue)
{
    put_method(wire, channel, AMQP_BASIC_NACK_METHOD, &(amqp_basic_nack_t){.delivery_tag = tag, .requeue = requeue});
}

void wire_put_publish(struct wire *wire, uint16_t channel, const struct amqp_message *message, uint64_t number)
{
    char correlation[24];
    amqp_basic_publish_t method = {.exchange = bytes_of(message->exchange),
                                   .routing_key = bytes_of(message->routing_key),
                                   .mandatory = number != 0};
    amqp_basic_properties_t properties = {
        ._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_TIMESTAMP_FLAG |
                  AMQP_BASIC_TYPE_FLAG,
        .content_type = amqp_cstring_bytes("application/json"),
        .delivery_mode = number != 0 ? 2 : 1,
        .timestamp = (uint64_t)(clock_wall().us / US_PER_S),
        .type = bytes_of(message->type),
    };

    if (message->message_id != NULL) {
        properties._flags |= AMQP_BASIC_MESSAGE_ID_FLAG;
        properties.message_id = bytes_of(message->message_id);
    }
    if (message->reply_to != NULL) {
        properties._flags |= AMQP_BASIC_REPLY_TO_FLAG;
        properties.reply_to = bytes_of(message->reply_to);
    }
    if (number != 0) {
        /* basic.return carries no number of its own; this is how we know which message came back */
        snprintf(correlation, sizeof(correlation), "%llu", (unsigned long long)number);
        properties._flags |= AMQP_BASIC_CORRELATION_ID_FLAG;
        properties.correlation_id = amqp_cstring_bytes(correlation);
    }
    put_method(wire, channel, AMQP_BASIC_PUBLISH_METHOD, &method);
    put_header(wire, channel, &properties, message->body.len);
    put_body(wire, channel, message->body);
}

/* --- reading --------------------------------------------------------------------------------------------------------
 */

static struct str piece(char **tail, amqp_bytes_t bytes)
{
    struct str s = {*tail, bytes.len};

    if (bytes.len > 0)
        memcpy(*tail, bytes.bytes, bytes.len);
    *tail += bytes.len;
    *(*tail)++ = '\0';
    return s;
}

static struct amqp_delivery *delivery_new(const struct assembly *assembly, const amqp_basic_properties_t *properties,
                                          size_t body_size, char **ret_body)
{
    amqp_bytes_t type = amqp_empty_bytes, message_id = amqp_empty_bytes, reply_to = amqp_empty_bytes;
    struct amqp_delivery *delivery;
    char *tail;

    if ((properties->_flags & AMQP_BASIC_TYPE_FLAG) != 0)
        type = properties->type;
    if ((properties->_flags & AMQP_BASIC_MESSAGE_ID_FLAG) != 0)
        message_id = properties->message_id;
    if ((properties->_flags & AMQP_BASIC_REPLY_TO_FLAG) != 0)
        reply_to = properties->reply_to;
    delivery = mem_alloc(sizeof(*delivery) + type.len + message_id.len + reply_to.len + body_size + 4);
    tail = (char *)(delivery + 1);
    delivery->tag = assembly->tag;
    delivery->redelivered = assembly->redelivered;
    delivery->type = piece(&tail, type);
    delivery->message_id = piece(&tail, message_id);
    delivery->reply_to = piece(&tail, reply_to);
    delivery->body = (struct str){tail, body_size};
    /* Seconds from outside: a value beyond what microseconds can hold says nothing. */
    if ((properties->_flags & AMQP_BASIC_TIMESTAMP_FLAG) != 0 &&
        properties->timestamp < (uint64_t)(INT64_MAX / US_PER_S))
        delivery->timestamp.us = (int64_t)properties->timestamp * US_PER_S;
    *ret_body = tail;
    return delivery;
}

static void content_complete(struct assembly *assembly, struct wire_event *ret)
{
    if (assembly->kind == CONTENT_DELIVERY) {
        ret->kind = WIRE_DELIVERY;
        ret->delivery = take_ptr(assembly->delivery);
    } else {
        ret->kind = WIRE_RETURNED;
        ret->number = assembly->number;
    }
    *assembly = (struct assembly){0};
}

static void content_begin(struct assembly *assembly, const struct assembly *first)
{
    amqp_delivery_free(assembly->delivery);
    *assembly = *first;
}

static void content_header(struct assembly *assembly, const amqp_frame_t *frame, struct wire_event *ret)
{
    const amqp_basic_properties_t *properties = frame->payload.properties.decoded;

    if (assembly->kind == CONTENT_NONE || assembly->header_seen)
        return;
    assembly->header_seen = true;
    assembly->left = frame->payload.properties.body_size;
    if (assembly->kind == CONTENT_RETURN) {
        amqp_bytes_t id = properties->correlation_id;
        int64_t number = 0;

        assembly->skip = true;
        if ((properties->_flags & AMQP_BASIC_CORRELATION_ID_FLAG) != 0 &&
            parse_i64((struct str){id.bytes, id.len}, 1, INT64_MAX, &number))
            assembly->number = (uint64_t)number;
    } else {
        assembly->skip = assembly->left > BODY_MAX;
        assembly->delivery =
            delivery_new(assembly, properties, assembly->skip ? 0 : (size_t)assembly->left, &assembly->body);
    }
    if (assembly->left == 0)
        content_complete(assembly, ret);
}

static void content_body(struct assembly *assembly, amqp_bytes_t fragment, struct wire_event *ret)
{
    if (!assembly->header_seen || fragment.len > assembly->left)
        return;
    if (!assembly->skip) {
        memcpy(assembly->body, fragment.bytes, fragment.len);
        assembly->body += fragment.len;
    }
    assembly->left -= fragment.len;
    if (assembly->left == 0)
        content_complete(assembly, ret);
}

static void copy_text(struct wire_event *ret, uint16_t code, amqp_bytes_t text)
{
    ret->code = code;
    snprintf(ret->text, sizeof(ret->text), STR_FMT,
             STR_ARG(((struct str){text.bytes, text.len > 120 ? 120 : text.len})));
}

static enum err_code closed_by_broker(struct wire *wire, const amqp_connection_close_t *method, struct err *err)
{
    struct err ignored;

    put_method(wire, 0, AMQP_CONNECTION_CLOSE_OK_METHOD, &(amqp_connection_close_ok_t){0});
    if (wire_write(wire, &ignored) != ERR_OK)
        (void)0; /* the connection ends either way */
    return err_set(err, ERR_UNAVAILABLE, "the broker closed the connection: %d %.*s", method->reply_code,
                   (int)method->reply_text.len, (const char *)method->reply_text.bytes);
}

static enum err_code on_method(struct wire *wire, const amqp_frame_t *frame, struct wire_event *ret, struct err *err)
{
    void *decoded = frame->payload.method.decoded;
    struct assembly *assembly = &wire->assemblies[frame->channel];

    switch (frame->payload.method.id) {
    case AMQP_BASIC_DELIVER_METHOD: {
        const amqp_basic_deliver_t *method = decoded;

        content_begin(assembly, &(struct assembly){.kind = CONTENT_DELIVERY,
                                                   .tag = method->delivery_tag,
                                                   .redelivered = method->redelivered != 0});
        break;
    }
    case AMQP_BASIC_RETURN_METHOD:
        content_begin(assembly, &(struct assembly){.kind = CONTENT_RETURN});
        break;
    case AMQP_BASIC_ACK_METHOD: {
        const amqp_basic_ack_t *method = decoded;

        *ret = (struct wire_event){
            .kind = WIRE_CONFIRM, .number = method->delivery_tag, .multiple = method->multiple != 0, .ok = true};
        break;
    }
    case AMQP_BASIC_NACK_METHOD: {
        const amqp_basic_nack_t *method = decoded;

        *ret = (struct wire_event){
            .kind = WIRE_CONFIRM, .number = method->delivery_tag, .multiple = method->multiple != 0};
        break;
    }
    case AMQP_QUEUE_DECLARE_OK_METHOD: {
        const amqp_queue_declare_ok_t *method = decoded;

        *ret = (struct wire_event){
            .kind = WIRE_DECLARE_OK, .ready = method->message_count, .consumers = method->consumer_count};
        break;
    }
    case AMQP_QUEUE_BIND_OK_METHOD:
    case AMQP_EXCHANGE_DECLARE_OK_METHOD:
        *ret = (struct wire_event){.kind = WIRE_DECLARE_OK, .bound = true};
        break;
    case AMQP_CONFIRM_SELECT_OK_METHOD:
        ret->kind = WIRE_SELECT_OK;
        break;
    case AMQP_BASIC_CONSUME_OK_METHOD:
        ret->kind = WIRE_CONSUME_OK;
        break;
    case AMQP_BASIC_CANCEL_METHOD:
        ret->kind = WIRE_CONSUMER_GONE;
        break;
    case AMQP_CHANNEL_CLOSE_METHOD: {
        const amqp_channel_close_t *method = decoded;

        ret->kind = WIRE_CHANNEL_CLOSED;
        copy_text(ret, method->reply_code, method->reply_text);
        content_begin(assembly, &(struct assembly){0});
        put_method(wire, frame->channel, AMQP_CHANNEL_CLOSE_OK_METHOD, &(amqp_channel_close_ok_t){0});
        break;
    }
    case AMQP_CHANNEL_CLOSE_OK_METHOD:
        ret->kind = WIRE_CHANNEL_ENDED;
        content_begin(assembly, &(struct assembly){0});
        break;
    case AMQP_CHANNEL_FLOW_METHOD: {
        const amqp_channel_flow_t *method = decoded;
        amqp_channel_flow_ok_t answer = {.active = method->active};

        put_method(wire, frame->channel, AMQP_CHANNEL_FLOW_OK_METHOD, &answer);
        break;
    }
    case AMQP_CONNECTION_BLOCKED_METHOD:
        *ret = (struct wire_event){.kind = WIRE_BLOCKED, .ok = true};
        break;
    case AMQP_CONNECTION_UNBLOCKED_METHOD:
        *ret = (struct wire_event){.kind = WIRE_BLOCKED, .ok = false};
        break;
    case AMQP_CONNECTION_CLOSE_METHOD:
        return closed_by_broker(wire, decoded, err);
    default: /* open-ok, qos-ok, cancel-ok: nothing waits for them */
        break;
    }
    return ERR_OK;
}

/* Without TLS an empty library buffer after one read means that the socket is drained, which saves the two system calls
 * that asking again would cost. TLS may hold decrypted bytes back, so there only the library's own answer counts. */
static bool nothing_buffered(struct wire *wire)
{
    return !wire->tls && wire->drained && !amqp_data_in_buffer(wire->conn) && !amqp_frames_enqueued(wire->conn);
}

enum err_code wire_read(struct wire *wire, struct wire_event *ret, struct err *err)
{
    amqp_frame_t frame;
    struct timeval zero = {0};
    enum err_code rc = ERR_OK;
    int status;

    *ret = (struct wire_event){.kind = WIRE_NOTHING};
    if (nothing_buffered(wire)) {
        wire->drained = false;
        return ERR_OK;
    }
    status = amqp_simple_wait_frame_noblock(wire->conn, &frame, &zero);
    if (status == AMQP_STATUS_TIMEOUT) {
        wire->drained = false;
        return ERR_OK;
    }
    if (status != AMQP_STATUS_OK)
        return err_set(err, ERR_UNAVAILABLE, "the connection to the broker is lost: %s", amqp_error_string2(status));
    wire->drained = true;
    ret->kind = WIRE_OTHER;
    if (frame.channel < WIRE_CHANNELS) {
        if (frame.frame_type == AMQP_FRAME_METHOD)
            rc = on_method(wire, &frame, ret, err);
        else if (frame.frame_type == AMQP_FRAME_HEADER)
            content_header(&wire->assemblies[frame.channel], &frame, ret);
        else if (frame.frame_type == AMQP_FRAME_BODY)
            content_body(&wire->assemblies[frame.channel], frame.payload.body_fragment, ret);
    }
    ret->channel = frame.channel;
    amqp_maybe_release_buffers_on_channel(wire->conn, frame.channel);
    return rc;
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
        put_frame_head(wire, AMQP_FRAME_HEARTBEAT, 0, 0);
        put_frame_end(wire);
    }
    return wire_write(wire, err);
}

void wire_heard(struct wire *wire)
{
    wire->heard_at = clock_mono();
}
