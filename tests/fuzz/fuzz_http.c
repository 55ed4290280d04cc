/* Any bytes as a request's head and chunked body: the strict reading never reads outside, says the same in pieces, and
 * where http-parser takes the same bytes too, both mean the same method, framing and body. */
#include "common/base/ensure.h"
#include "common/io/http_strict.h"
#include <http_parser.h>

#include "common/base/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
    size_t body;
    bool headers, complete;
};

static int on_headers(http_parser *parser)
{
    struct seen *seen = parser->data;

    seen->headers = true;
    parser->upgrade = 0;
    return 0;
}

static int on_body(http_parser *parser, const char *at, size_t len)
{
    struct seen *seen = parser->data;

    (void)at;
    seen->body += len;
    return 0;
}

static int on_complete(http_parser *parser)
{
    struct seen *seen = parser->data;

    seen->complete = true;
    http_parser_pause(parser, 1);
    return 0;
}

static const http_parser_settings settings = {
    .on_headers_complete = on_headers, .on_body = on_body, .on_message_complete = on_complete};

/* A walk in two pieces says what a walk in one says. */
static void check_pieces(struct str in, size_t cut, const struct http_chunks *whole, bool refused, size_t used)
{
    struct http_chunks chunks = {0};
    struct http_fault fault = {0};
    size_t n = http_chunks_walk(&chunks, (struct str){in.ptr, cut}, 1000, &fault);

    if (fault.status == 0 && !chunks.done)
        n += http_chunks_walk(&chunks, (struct str){in.ptr + cut, in.len - cut}, 1000, &fault);
    ENSURE((fault.status != 0) == refused);
    if (!refused)
        ENSURE(n == used && chunks.done == whole->done && chunks.total == whole->total);
}

static void check_body(http_parser *parser, struct seen *seen, const struct http_head *head, struct str rest)
{
    struct http_chunks chunks = {0};
    struct http_fault fault = {0};
    size_t n;

    if (!head->chunked) {
        ENSURE(head->length == 0 ? seen->complete : parser->content_length == head->length);
        return;
    }
    n = http_chunks_walk(&chunks, rest, 1000, &fault);
    check_pieces(rest, rest.len / 2, &chunks, fault.status != 0, n);
    if (fault.status != 0 || !chunks.done)
        return;
    if (http_parser_execute(parser, &settings, rest.ptr, n) == n) /* else the server refuses it */
        ENSURE(seen->complete && seen->body == chunks.total);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new(4096);
    char *copy = arena_dup(arena, (const char *)data, size);
    struct http_fault fault = {0};
    struct http_head head;
    struct seen seen = {0};
    http_parser parser;
    struct str decoded;
    size_t scan = 0, len;

    len = http_head_find((struct str){copy, size / 2}, &scan, &fault);
    if (len == 0 && fault.status == 0)
        len = http_head_find((struct str){copy, size}, &scan, &fault);
    if (len > 0 && http_head_read(arena, arena_dup(arena, copy, len), len, &head, &fault)) {
        http_parser_init(&parser, HTTP_REQUEST);
        parser.data = &seen;
        size_t n = http_parser_execute(&parser, &settings, copy, len);

        if (n == len) { /* else the server refuses it: the two do not agree */
            ENSURE(seen.headers);
            ENSURE(str_is(head.method, http_method_str((enum http_method)parser.method)));
            check_body(&parser, &seen, &head, (struct str){copy + len, size - len});
        }
        if (http_decode(arena, head.path, false, &decoded))
            ENSURE(decoded.len <= head.path.len && memchr(decoded.ptr, '\0', decoded.len) == NULL);
    }
    arena_free(arena);
    return 0;
}
