/* HTTP/1.1 server: http-parser under libuv. The header block and chunk framing are checked bytewise before the parser
 * sees them (bare LF, folded lines, NUL, two Content-Lengths, Content-Length with Transfer-Encoding, odd
 * Transfer-Encodings: 400 and close), and what the two read differently is refused. Bounds: header block 32 KiB, 100
 * headers, target 8 KiB, body and connections from the options, deadlines below. Requests of one connection are served
 * one after another, each handed over whole, or with its head first; the answer may come later. Refusals are
 * application/problem+json. Loop thread only. */
#pragma once
#include "common/base/clock.h"
#include "common/base/str.h"
#include <uv.h>

struct http_server;
struct http_request;

struct http_header {
    struct str name, value;
}; /* name lower case */

struct http_options {
    uv_loop_t *loop;
    const char *listen;       /* "127.0.0.1:8080", "[::1]:8080", port 0 for any */
    size_t max_body_bytes;    /* 413 before reading the rest */
    const char *too_large;    /* what that says; NULL: something general. Must outlive the server */
    unsigned max_connections; /* one more is answered 503 */
    /* Deadlines; 0: the default. A body or an answer gets its grace and a second for every min_bytes_per_s. */
    unsigned head_timeout_ms; /* 10,000: from the first byte (or from connecting) to the end of the head */
    unsigned idle_timeout_ms; /* 60,000: between requests */
    unsigned body_grace_ms;   /* 10,000 */
    unsigned write_grace_ms;  /* 20,000 */
    unsigned min_bytes_per_s; /* 4,096 */
    void (*on_request)(void *ctx, struct http_request *request);
    /* Is this one handed over with its head, before its body is read? Its handler then asks for the body with
     * http_read_body, or answers without. NULL: none is. */
    bool (*head_first)(void *ctx, const struct http_request *request);
    void *ctx;
};
enum err_code http_server_new(const struct http_options *options, struct http_server **ret, struct err *err) MUST_CHECK;
int http_server_port(const struct http_server *server);
/* Stops accepting, lets requests in hand end, closes idle connections; `done` when the last has gone. */
void http_server_drain(struct http_server *server, void (*done)(void *ctx), void *ctx);
void http_server_free(
    struct http_server *server); /* drops what is open; the loop must run until its handles are closed */

struct arena *http_arena(struct http_request *request); /* until the callback that gave the answer has returned */
struct str http_method(const struct http_request *request);
struct str http_path(const struct http_request *request);  /* raw, without query, begins with / */
struct str http_query(const struct http_request *request); /* raw, without ? */
struct str http_body(const struct http_request *request);
/* Reads the body of one that was handed over with its head. `done` is called once, also at once: false when it is
 * longer than max_bytes or than the server takes, and the rest is not read. Where the connection or the framing of the
 * body breaks it is never called: the request has ended then, and its arena goes. */
void http_read_body(struct http_request *request, size_t max_bytes, void (*done)(void *ctx, bool whole), void *ctx);
/* Before that: what has come of it, good until the callback returns (STR("") where it is in chunks), and how long it
 * says to be, 0 where it does not. */
struct str http_body_begun(const struct http_request *request);
uint64_t http_body_length(const struct http_request *request);
struct str http_header_get(const struct http_request *request, const char *lower_name); /* STR_NONE when absent */
const struct http_header *http_headers(const struct http_request *request, size_t *ret_count); /* all, in order */
struct str http_peer(const struct http_request *request);                                      /* "127.0.0.1:51234" */
struct mono_us http_received_at(const struct http_request *request);

/* The client went away before the answer, or said that it sends no more: called at most once, never from inside
 * on_request or this function; the request must still be ended with a response function (which sends nothing when
 * nobody is there to read it). */
void http_on_gone(struct http_request *request, void (*gone)(void *ctx), void *ctx);

/* Exactly one of http_respond, or http_stream_begin and http_stream_end, per request; both copy what they are given.
 * content_type NULL: none. HEAD is answered like GET, without the body. */
void http_respond(struct http_request *request, int status, const char *content_type, const struct http_header *headers,
                  size_t header_count, struct str body);
void http_stream_begin(struct http_request *request, int status, const char *content_type);
void http_stream_write(struct http_request *request, struct str chunk);
size_t http_stream_pending(const struct http_request *request); /* bytes the client has not taken yet */
void http_stream_end(struct http_request *request);

/* Percent-decoding into the arena; false for bad escapes, NUL or invalid UTF-8. plus_is_space for queries. */
bool http_decode(struct arena *arena, struct str raw, bool plus_is_space, struct str *ret);
