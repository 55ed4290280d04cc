/* Frames as events; see amqp_wire.h. */
#include "common/io/amqp_wire_internal.h"

#include "common/base/banned.h"

#define BODY_MAX ((uint64_t)64 << 20)
#define BODY_KEPT ((size_t)1 << 20) /* of a longer one: as much as a dead letter holds */

static struct str piece(char **tail, amqp_bytes_t bytes)
{
    struct str s = {*tail, bytes.len};

    if (bytes.len > 0)
        memcpy(*tail, bytes.bytes, bytes.len);
    *tail += bytes.len;
    *(*tail)++ = '\0';
    return s;
}

/* Headers come from anybody: whatever is no length says nothing. */
static uint64_t whole_bytes_of(const amqp_basic_properties_t *properties)
{
    if ((properties->_flags & AMQP_BASIC_HEADERS_FLAG) == 0)
        return 0;
    for (int i = 0; i < properties->headers.num_entries; i++) {
        const amqp_table_entry_t *entry = &properties->headers.entries[i];

        if (str_is((struct str){entry->key.bytes, entry->key.len}, WHOLE_BYTES_HEADER) &&
            entry->value.kind == AMQP_FIELD_KIND_I64 && entry->value.value.i64 > 0)
            return (uint64_t)entry->value.value.i64;
    }
    return 0;
}

/* The body is left as it comes: where it is large, clearing it first would cost as much as reading it. */
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
    delivery = mem_grow(NULL, sizeof(*delivery) + type.len + message_id.len + reply_to.len + body_size + 4, 1);
    *delivery = (struct amqp_delivery){0};
    tail = (char *)(delivery + 1);
    delivery->tag = assembly->tag;
    delivery->redelivered = assembly->redelivered;
    delivery->type = piece(&tail, type);
    delivery->message_id = piece(&tail, message_id);
    delivery->reply_to = piece(&tail, reply_to);
    delivery->body = (struct str){tail, body_size};
    tail[body_size] = '\0';
    delivery->whole_bytes = whole_bytes_of(properties);
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

static void content_header(struct wire *wire, const amqp_frame_t *frame, struct wire_event *ret)
{
    const amqp_basic_properties_t *properties = frame->payload.properties.decoded;
    struct assembly *assembly = &wire->assemblies[frame->channel];
    uint64_t most = wire->body_most[frame->channel] != 0 ? wire->body_most[frame->channel] : BODY_MAX;

    if (assembly->kind == CONTENT_NONE || assembly->header_seen)
        return;
    assembly->header_seen = true;
    assembly->left = frame->payload.properties.body_size;
    if (assembly->kind == CONTENT_RETURN) {
        amqp_bytes_t id = properties->correlation_id;
        int64_t number = 0;

        if ((properties->_flags & AMQP_BASIC_CORRELATION_ID_FLAG) != 0 &&
            parse_i64((struct str){id.bytes, id.len}, 1, INT64_MAX, &number))
            assembly->number = (uint64_t)number;
    } else {
        assembly->room = assembly->left <= most ? (size_t)assembly->left : BODY_KEPT;
        assembly->delivery = delivery_new(assembly, properties, assembly->room, &assembly->body);
        if (assembly->left > assembly->room)
            assembly->delivery->whole_bytes = assembly->left;
    }
    if (assembly->left == 0)
        content_complete(assembly, ret);
}

static void content_body(struct assembly *assembly, amqp_bytes_t fragment, struct wire_event *ret)
{
    size_t kept = fragment.len < assembly->room ? fragment.len : assembly->room;

    if (!assembly->header_seen || fragment.len > assembly->left)
        return;
    if (kept > 0) {
        memcpy(assembly->body, fragment.bytes, kept);
        assembly->body += kept;
        assembly->room -= kept;
    }
    assembly->left -= fragment.len;
    ret->bytes = fragment.len;
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

    wire_put_method(wire, 0, AMQP_CONNECTION_CLOSE_OK_METHOD, &(amqp_connection_close_ok_t){0});
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
        wire_put_method(wire, frame->channel, AMQP_CHANNEL_CLOSE_OK_METHOD, &(amqp_channel_close_ok_t){0});
        break;
    }
    case AMQP_CHANNEL_CLOSE_OK_METHOD:
        ret->kind = WIRE_CHANNEL_ENDED;
        content_begin(assembly, &(struct assembly){0});
        break;
    case AMQP_CHANNEL_FLOW_METHOD: {
        const amqp_channel_flow_t *method = decoded;
        amqp_channel_flow_ok_t answer = {.active = method->active};

        wire_put_method(wire, frame->channel, AMQP_CHANNEL_FLOW_OK_METHOD, &answer);
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
            content_header(wire, &frame, ret);
        else if (frame.frame_type == AMQP_FRAME_BODY)
            content_body(&wire->assemblies[frame.channel], frame.payload.body_fragment, ret);
    }
    ret->channel = frame.channel;
    amqp_maybe_release_buffers_on_channel(wire->conn, frame.channel);
    return rc;
}
