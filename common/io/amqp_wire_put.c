/* Methods and messages as frames; see amqp_wire.h. */
#include "common/base/ensure.h"
#include "common/io/amqp_wire_internal.h"

#include "common/base/banned.h"

#define ARGUMENTS_MAX 4096 /* encoded method or properties; ours are at most five short strings and a number */

static amqp_bytes_t bytes_of(const char *s)
{
    return s == NULL ? amqp_empty_bytes : amqp_cstring_bytes(s);
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

void wire_put_method(struct wire *wire, uint16_t channel, amqp_method_number_t which, void *arguments)
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
    wire_put_method(wire, channel, AMQP_CHANNEL_OPEN_METHOD, &(amqp_channel_open_t){.out_of_band = amqp_empty_bytes});
}

void wire_put_channel_close(struct wire *wire, uint16_t channel)
{
    wire_put_method(wire, channel, AMQP_CHANNEL_CLOSE_METHOD,
                    &(amqp_channel_close_t){.reply_code = AMQP_REPLY_SUCCESS});
}

void wire_put_confirm_select(struct wire *wire, uint16_t channel)
{
    wire_put_method(wire, channel, AMQP_CONFIRM_SELECT_METHOD, &(amqp_confirm_select_t){0});
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
    wire_put_method(wire, channel, AMQP_QUEUE_DECLARE_METHOD, &method);
}

void wire_put_bind(struct wire *wire, uint16_t channel, const char *queue, const char *exchange)
{
    wire_put_method(wire, channel, AMQP_QUEUE_BIND_METHOD,
                    &(amqp_queue_bind_t){.queue = bytes_of(queue), .exchange = bytes_of(exchange)});
}

void wire_put_exchange(struct wire *wire, uint16_t channel, const char *exchange, const char *type)
{
    wire_put_method(
        wire, channel, AMQP_EXCHANGE_DECLARE_METHOD,
        &(amqp_exchange_declare_t){.exchange = bytes_of(exchange), .type = bytes_of(type), .durable = true});
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
    wire->body_most[channel] = options->body_most;
    wire_put_method(wire, channel, AMQP_BASIC_QOS_METHOD, &qos);
    wire_put_method(wire, channel, AMQP_BASIC_CONSUME_METHOD, &method);
}

void wire_put_cancel(struct wire *wire, uint16_t channel)
{
    wire_put_method(wire, channel, AMQP_BASIC_CANCEL_METHOD,
                    &(amqp_basic_cancel_t){.consumer_tag = amqp_cstring_bytes("c")});
}

void wire_put_ack(struct wire *wire, uint16_t channel, uint64_t tag, bool multiple)
{
    wire_put_method(wire, channel, AMQP_BASIC_ACK_METHOD,
                    &(amqp_basic_ack_t){.delivery_tag = tag, .multiple = multiple});
}

void wire_put_nack(struct wire *wire, uint16_t channel, uint64_t tag, bool requeue)
{
    wire_put_method(wire, channel, AMQP_BASIC_NACK_METHOD,
                    &(amqp_basic_nack_t){.delivery_tag = tag, .requeue = requeue});
}

void wire_put_publish(struct wire *wire, uint16_t channel, const struct amqp_message *message, uint64_t number)
{
    char correlation[24];
    amqp_table_entry_t whole = {.key = amqp_cstring_bytes(WHOLE_BYTES_HEADER),
                                .value = {.kind = AMQP_FIELD_KIND_I64, .value.i64 = (int64_t)message->whole_bytes}};
    amqp_basic_publish_t method = {.exchange = bytes_of(message->exchange),
                                   .routing_key = bytes_of(message->routing_key),
                                   .mandatory = number != 0};
    amqp_basic_properties_t properties = {
        ._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_TIMESTAMP_FLAG |
                  AMQP_BASIC_TYPE_FLAG,
        .content_type = bytes_of(message->content_type != NULL ? message->content_type : "application/json"),
        .delivery_mode = number != 0 && !message->in_memory ? 2 : 1,
        .timestamp = (uint64_t)((message->sent_at.us != 0 ? message->sent_at.us : clock_wall().us) / US_PER_S),
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
    if (message->whole_bytes != 0) {
        properties._flags |= AMQP_BASIC_HEADERS_FLAG;
        properties.headers = (amqp_table_t){.num_entries = 1, .entries = &whole};
    }
    if (number != 0) {
        /* basic.return carries no number of its own; this is how we know which message came back */
        snprintf(correlation, sizeof(correlation), "%llu", (unsigned long long)number);
        properties._flags |= AMQP_BASIC_CORRELATION_ID_FLAG;
        properties.correlation_id = amqp_cstring_bytes(correlation);
    }
    wire_put_method(wire, channel, AMQP_BASIC_PUBLISH_METHOD, &method);
    put_header(wire, channel, &properties, message->body.len);
    put_body(wire, channel, message->body);
}

void wire_put_heartbeat(struct wire *wire)
{
    put_frame_head(wire, AMQP_FRAME_HEARTBEAT, 0, 0);
    put_frame_end(wire);
}
