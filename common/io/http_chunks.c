/* Chunked framing, walked strictly: sizes of at most 8 hex digits, CRLF everywhere, extensions and trailers bounded and
 * ignored. */
#include "common/io/http_strict.h"

#include "common/base/banned.h"

#define MAX_EXTRA 4096 /* bytes of extensions and trailers in one message */

enum {
    SIZE = 0,
    EXTENSION,
    SIZE_LF,
    DATA,
    DATA_CR,
    DATA_LF,
    TRAILER_START,
    TRAILER,
    TRAILER_LF,
    END_LF,
};

static int hex_value(unsigned char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static bool is_text(unsigned char c)
{
    return (c >= 0x20 && c != 0x7f) || c == '\t';
}

/* What is wrong with `c` in this state, or NULL; moves on to the next state. */
static const char *step_size(struct http_chunks *s, unsigned char c)
{
    int digit = hex_value(c);

    if (digit >= 0) {
        if (++s->digits > 8)
            return "a chunk size of more than 8 digits";
        s->left = s->left * 16 + (uint64_t)digit;
        return NULL;
    }
    if (s->digits == 0)
        return "a chunk without a size";
    if (c == '\r')
        s->state = SIZE_LF;
    else if (c == ';')
        s->state = EXTENSION;
    else
        return "a chunk size that is no hexadecimal number";
    return NULL;
}

static const char *step_trailer(struct http_chunks *s, unsigned char c)
{
    if (s->state == TRAILER_START) {
        s->line_has_colon = false;
        if (c == '\r') {
            s->state = END_LF;
            return NULL;
        }
        if (c <= ' ' || c == ':' || !is_text(c))
            return "a trailer line that is no header";
        s->state = TRAILER;
        return NULL;
    }
    if (c == '\r') {
        s->state = TRAILER_LF;
        return s->line_has_colon ? NULL : "a trailer line without a colon";
    }
    if (c == ':')
        s->line_has_colon = true;
    if (!is_text(c) || (c == ' ' && !s->line_has_colon))
        return "a character in a trailer that does not belong there";
    return NULL;
}

static const char *step(struct http_chunks *s, unsigned char c)
{
    switch (s->state) {
    case SIZE:
        return step_size(s, c);
    case EXTENSION:
        if (c == '\r')
            s->state = SIZE_LF;
        return c == '\r' || is_text(c) ? NULL : "a control character in a chunk extension";
    case SIZE_LF:
        s->state = s->left > 0 ? DATA : TRAILER_START;
        return c == '\n' ? NULL : "a chunk size that does not end in CRLF";
    case DATA_CR:
        s->state = DATA_LF;
        return c == '\r' ? NULL : "chunk data longer than its size";
    case DATA_LF:
        s->state = SIZE;
        s->digits = 0;
        return c == '\n' ? NULL : "chunk data that does not end in CRLF";
    case TRAILER_START:
    case TRAILER:
        return step_trailer(s, c);
    case TRAILER_LF:
        s->state = TRAILER_START;
        return c == '\n' ? NULL : "a trailer that does not end in CRLF";
    default:
        s->done = true;
        return c == '\n' ? NULL : "a chunked body that does not end in CRLF";
    }
}

size_t http_chunks_walk(struct http_chunks *s, struct str in, uint64_t max, struct http_fault *fault)
{
    size_t pos = 0;

    while (pos < in.len && !s->done) {
        if (s->state == DATA) {
            uint64_t n = in.len - pos < s->left ? in.len - pos : s->left;

            pos += n;
            s->left -= n;
            if (s->left == 0)
                s->state = DATA_CR;
            continue;
        }
        bool in_extra = s->state == EXTENSION || s->state >= TRAILER_START;
        const char *why = step(s, (unsigned char)in.ptr[pos++]);

        if (why == NULL && in_extra && ++s->extra > MAX_EXTRA)
            why = "more than 4 KiB of chunk extensions and trailers";
        if (why != NULL) {
            *fault = (struct http_fault){400, "bad_request", why};
            return 0;
        }
        if (s->state == DATA) {
            s->total += s->left;
            if (s->total > max) {
                *fault = (struct http_fault){413, "too_large", "the request body is longer than is allowed here"};
                return 0;
            }
        }
    }
    return pos;
}
