/* What became of an `http` step: the answer as the step's output, or the error. Pure. */
#pragma once
#include "common/base/clock.h"
#include "common/base/json_text.h"

/* Header lines of one answer, as they come. */
struct http_headers {
    struct buf lines; /* "name:value\n", names lower case */
    size_t count;
};
void http_headers_init(struct http_headers *headers);
void http_headers_deinit(struct http_headers *headers);
void http_headers_reset(struct http_headers *headers);
void http_headers_add(struct http_headers *headers, struct str line); /* a raw line; a status line resets */
/* The first value, or STR_NONE; `lower_name` as written there. Valid until the next change. */
struct str http_headers_get(const struct http_headers *headers, const char *lower_name);

/* {"status", "headers", "body"[, "encoding"]}: JSON when the type says so and it is, else text, else base64. A body cut
 * to `max_body` is never taken for JSON. */
void http_output_write(struct buf *out, int status, const struct http_headers *headers, struct str body,
                       size_t max_body);
