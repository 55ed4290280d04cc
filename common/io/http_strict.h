/* The strict reading of a request's head and of chunk framing, bytewise and pure. Not a parser to serve from by itself:
 * http_server.c lets http-parser read the same bytes and refuses what the two do not agree on. What is refused here is
 * what other servers and proxies read differently (RFC 9112, 11.2 "request smuggling"). */
#pragma once
#include "common/base/str.h"
#include "common/io/http_server.h"

#define HTTP_MAX_HEAD 32768
#define HTTP_MAX_TARGET 8192
#define HTTP_MAX_HEADERS 100

/* Why a request is refused: HTTP status, a code for programs and a sentence; the connection ends with it. */
struct http_fault {
    int status;
    const char *code;
    const char *why;
};

struct http_head {
    struct str method; /* upper case */
    struct str path;   /* raw, begins with / */
    struct str query;  /* raw; STR_NONE without ? */
    int minor;         /* HTTP/1.minor */
    size_t header_count;
    struct http_header *headers; /* names in lower case, values trimmed */
    bool chunked;
    uint64_t length; /* Content-Length, 0 without */
    bool keep_alive;
    bool expect_continue;
};

/* Where a head ends in what has arrived. Returns its length with the empty line, 0 when more is needed, or fills
 * *fault (line ends other than CRLF, NUL, too long). *scan is the caller's, 0 for a new head. */
size_t http_head_find(struct str in, size_t *scan, struct http_fault *fault);
/* Reads a whole head as http_head_find measured it. `text` is changed (names become lower case) and must live as long
 * as the result; arrays are the arena's. False: *fault says why. */
bool http_head_read(struct arena *arena, char *text, size_t len, struct http_head *ret, struct http_fault *fault);

/* Chunked framing. Zeroed is the start. */
struct http_chunks {
    int state;
    uint64_t left;   /* bytes of the current chunk */
    uint64_t total;  /* data bytes so far */
    unsigned digits; /* of the size */
    size_t extra;    /* bytes of extensions and trailers so far */
    bool line_has_colon;
    bool done;
};
/* Walks framing in `in`; returns how many bytes belong to the message (all of them until done). When it fills *fault
 * the return value means nothing. max: bound of the data, judged by the announced sizes. */
size_t http_chunks_walk(struct http_chunks *chunks, struct str in, uint64_t max, struct http_fault *fault);
