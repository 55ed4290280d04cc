/* What the files of the HTTP server share. http_server.c: listener, clock, drain. http_conn.c: one connection's
 * reading. http_answer.c: its writing. Not for use outside. */
#pragma once
#include "common/io/http_server.h"
#include "common/io/http_strict.h"
#include <http_parser.h>

#define HTTP_READ_BYTES 65536
#define HTTP_TICK_MS 100

struct http_server {
    struct http_options options;
    uv_tcp_t listener;
    uv_timer_t tick;               /* deadlines of all connections */
    uv_idle_t ready;               /* runs while connections wait to be served again */
    unsigned closing;              /* handles of ours whose close callback has not come */
    struct http_conn *connections; /* list */
    struct http_conn *ready_first;
    unsigned count;
    int port;
    bool listening;
    bool draining;
    bool drained; /* done() was called */
    bool freed;
    void (*drain_done)(void *ctx);
    void *drain_ctx;
    struct mono_us drain_at;
    int64_t date_second; /* of date_text */
    char date_text[40];
    char read_buf[HTTP_READ_BYTES];
};

enum http_conn_state {
    CONN_HEAD,   /* waits for a head, or in the middle of one */
    CONN_BODY,   /* reads a body */
    CONN_BUSY,   /* the request is with its handler */
    CONN_STREAM, /* the handler streams its answer */
    CONN_LINGER, /* answered for the last time: lets the client read it before the connection is closed */
};

struct http_request {
    struct http_conn *conn;
    struct arena *arena;
    struct http_head head;
    struct buf body;
    size_t body_max;
    bool unread; /* handed over, and nobody has asked for the body that follows */
    size_t skip; /* bytes of it that go with the answer */
    void (*body_done)(void *ctx, bool whole);
    void *body_ctx;
    struct mono_us received_at;
    void (*gone)(void *ctx);
    void *gone_ctx;
    char peer[64];
};

struct http_conn {
    struct http_conn *next, *prev; /* of the server */
    struct http_conn *ready_next;
    bool in_ready;
    struct http_server *server;
    uv_tcp_t tcp;
    uv_shutdown_t shutdown;
    enum http_conn_state state;
    struct buf in;
    size_t scan; /* of http_head_find */
    struct http_request request;
    http_parser parser;
    bool parser_done;
    struct http_chunks chunks;
    uint64_t body_left; /* Content-Length */
    bool serving;       /* inside conn_serve */
    bool reading;
    bool ended;                 /* the client has shut down its side */
    bool broken;                /* nothing can be written any more */
    bool shut;                  /* our side is shut down */
    bool closing;               /* uv_close was called */
    bool close_after;           /* no request after this one */
    bool fresh;                 /* no request has been answered yet */
    struct mono_us since;       /* of the state, or of the last byte where idle */
    struct mono_us write_since; /* output has been waiting since; 0: none waits */
    size_t write_bytes;         /* bytes queued since then */
    size_t write_last;          /* queue size at the last tick: for streams */
};

/* http_conn.c */
struct http_conn *conn_new(struct http_server *server);
void conn_start(struct http_conn *conn);
void conn_serve(struct http_conn *conn); /* goes on with what has arrived */
void conn_close(struct http_conn *conn);
bool conn_output_waits(const struct http_conn *conn);
void conn_gone(struct http_conn *conn);          /* tells the handler, once */
void conn_leave_body(struct http_conn *conn);    /* it is answered: of a body that nobody has read nothing is kept */
void conn_request_ended(struct http_conn *conn); /* the answer is complete: next request, or goodbye */

/* http_deadline.c */
void conn_tick(struct http_conn *conn, struct mono_us now);

/* http_answer.c */
void conn_write(struct http_conn *conn, struct str a, struct str b);
void conn_write_continue(struct http_conn *conn);
void conn_refuse(struct http_conn *conn, const struct http_fault *fault); /* answers and ends the connection */

/* http_server.c */
void server_ready(struct http_server *server, struct http_conn *conn); /* serve it again in a moment */
void server_conn_closed(struct http_server *server, struct http_conn *conn);
