/* Inside of amqp_wire.h: amqp_wire.c (login, bytes, heartbeats), amqp_wire_put.c (methods out), amqp_wire_read.c
 * (events in). The only files that meet librabbitmq. */
#pragma once
#include "common/io/amqp_wire.h"
#include <amqp.h>
#include <amqp_framing.h>

#define FRAME_OVERHEAD 8

/* Header of a message whose body is the beginning of something longer: how long that was, in bytes. */
#define WHOLE_BYTES_HEADER "whole-bytes"

/* A message whose frames are still coming in. */
struct assembly {
    enum { CONTENT_NONE, CONTENT_DELIVERY, CONTENT_RETURN } kind;
    bool header_seen, redelivered;
    uint64_t tag, left, number;
    size_t room; /* of the body that is kept */
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
    uint64_t *body_most; /* by channel: of a longer message only the beginning is kept; 0: BODY_MAX */
};

void wire_put_heartbeat(struct wire *wire);
void wire_put_method(struct wire *wire, uint16_t channel, amqp_method_number_t which, void *arguments);
