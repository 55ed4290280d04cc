/* The head of a request, read strictly. What it is not: the server's parser (see http_strict.h). */
#include "common/io/http_strict.h"
#include "common/base/banned.h"

static bool refuse(struct http_fault *fault, int status, const char *code, const char *why)
{
    *fault = (struct http_fault){status, code, why};
    return false;
}

static bool malformed(struct http_fault *fault, const char *why)
{
    return refuse(fault, 400, "bad_request", why);
}

/* RFC 9110, 5.6.2: a token's characters. */
static bool is_token_char(unsigned char c)
{
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
        return true;
    return c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

static bool is_token(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!is_token_char((unsigned char)s.ptr[i]))
            return false;
    return s.len > 0;
}

static bool is_method_served(struct str method)
{
    static const char *const methods[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};

    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
        if (str_is(method, methods[i]))
            return true;
    return false;
}

/* Compares with a lower-case literal, without regard to case. */
static bool is_word(struct str s, const char *lower)
{
    size_t len = strlen(lower);

    if (s.len != len)
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = s.ptr[i];

        if (c >= 'A' && c <= 'Z')
            c = (char)(c - 'A' + 'a');
        if (c != lower[i])
            return false;
    }
    return true;
}

static bool has_prefix_word(struct str s, const char *lower)
{
    size_t len = strlen(lower);

    return s.len >= len && is_word((struct str){s.ptr, len}, lower);
}

size_t http_head_find(struct str in, size_t *scan, struct http_fault *fault)
{
    /* One empty line before a request is what old clients send behind a body (RFC 9112, 2.2). */
    size_t from = in.len >= 2 && in.ptr[0] == '\r' && in.ptr[1] == '\n' ? 2 : 0;
    size_t pos = *scan < from ? from : *scan;
    size_t line = 0; /* where the line of `pos` begins: behind the last LF */

    for (size_t i = pos; i > 0; i--)
        if (in.ptr[i - 1] == '\n') {
            line = i;
            break;
        }
    for (; pos < in.len; pos++) {
        char c = in.ptr[pos];

        if (pos >= HTTP_MAX_HEAD) {
            refuse(fault, 431, "headers_too_large", "the request line and headers are longer than 32 KiB");
            return 0;
        }
        if (c == '\0') {
            malformed(fault, "a NUL byte in the header block");
            return 0;
        }
        if (pos > line && in.ptr[pos - 1] == '\r' && c != '\n') {
            malformed(fault, "a carriage return without a line feed in the header block");
            return 0;
        }
        if (c != '\n')
            continue;
        if (pos == line || in.ptr[pos - 1] != '\r') {
            malformed(fault, "a line feed without a carriage return in the header block");
            return 0;
        }
        if (pos == line + 1) {
            if (line == from) {
                malformed(fault, "an empty line where a request line belongs");
                return 0;
            }
            *scan = pos + 1;
            return pos + 1;
        }
        line = pos + 1;
    }
    *scan = pos;
    if (line == from && pos - line > HTTP_MAX_TARGET + 64)
        refuse(fault, 414, "target_too_long", "the request target is longer than 8 KiB");
    return 0;
}

/* Splits the target into path and query. Absolute form must be understood (RFC 9112, 3.2.2): its authority is ignored.
 */
static bool read_target(struct str target, struct http_head *head, struct http_fault *fault)
{
    struct str rest = target;

    if (target.len > HTTP_MAX_TARGET)
        return refuse(fault, 414, "target_too_long", "the request target is longer than 8 KiB");
    for (size_t i = 0; i < target.len; i++) {
        unsigned char c = (unsigned char)target.ptr[i];

        if (c <= 0x20 || c >= 0x7f)
            return malformed(fault, "a character in the request target that must be percent-encoded");
        if (c == '#')
            return malformed(fault, "a fragment in the request target");
    }
    if (has_prefix_word(rest, "http://") || has_prefix_word(rest, "https://")) {
        size_t skip = rest.ptr[4] == ':' ? 7 : 8;
        const char *slash = memchr(rest.ptr + skip, '/', rest.len - skip);

        if (slash == NULL)
            return malformed(fault, "an absolute request target without a path");
        rest = (struct str){slash, rest.len - (size_t)(slash - rest.ptr)};
    }
    if (rest.len == 0 || rest.ptr[0] != '/')
        return malformed(fault, "a request target that does not begin with /");
    const char *mark = memchr(rest.ptr, '?', rest.len);

    head->path = rest;
    head->query = STR_NONE;
    if (mark != NULL) {
        head->path.len = (size_t)(mark - rest.ptr);
        head->query = (struct str){mark + 1, rest.len - head->path.len - 1};
    }
    return true;
}

static bool read_request_line(struct str line, struct http_head *head, struct http_fault *fault)
{
    const char *first = memchr(line.ptr, ' ', line.len);
    const char *end = line.ptr + line.len;

    if (line.len > HTTP_MAX_TARGET + 64)
        return refuse(fault, 414, "target_too_long", "the request target is longer than 8 KiB");
    if (first == NULL)
        return malformed(fault, "a request line without a target");
    const char *second = memchr(first + 1, ' ', (size_t)(end - first - 1));

    if (second == NULL)
        return malformed(fault, "a request line without a version (HTTP/0.9 is not served)");
    struct str target = {first + 1, (size_t)(second - first - 1)};
    struct str version = {second + 1, (size_t)(end - second - 1)};

    head->method = (struct str){line.ptr, (size_t)(first - line.ptr)};
    if (!is_token(head->method))
        return malformed(fault, "a request method that is no token");
    if (str_is(version, "HTTP/1.1"))
        head->minor = 1;
    else if (str_is(version, "HTTP/1.0"))
        head->minor = 0;
    else if (str_starts(version, "HTTP/") && version.len == 8 && version.ptr[5] >= '0' && version.ptr[5] <= '9')
        return refuse(fault, 505, "version_not_served", "only HTTP/1.1 and HTTP/1.0 are served");
    else
        return malformed(fault, "a request line that does not end in HTTP/1.1");
    if (!is_method_served(head->method))
        return refuse(fault, 501, "method_not_implemented", "a request method that is not served");
    return read_target(target, head, fault);
}

/* Name and value of one line, checked; the name becomes lower case in place. */
static bool read_header_line(char *ptr, size_t len, struct http_header *ret, struct http_fault *fault)
{
    char *colon = memchr(ptr, ':', len);

    if (ptr[0] == ' ' || ptr[0] == '\t')
        return malformed(fault, "a folded header line (obs-fold)");
    if (colon == NULL)
        return malformed(fault, "a header line without a colon");
    struct str name = {ptr, (size_t)(colon - ptr)};

    if (!is_token(name))
        return malformed(fault, "a header name that is no token (a space before the colon is not allowed)");
    for (char *p = ptr; p < colon; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p - 'A' + 'a');
    struct str value = {colon + 1, len - name.len - 1};

    for (size_t i = 0; i < value.len; i++) {
        unsigned char c = (unsigned char)value.ptr[i];

        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return malformed(fault, "a control character in a header value");
    }
    while (value.len > 0 && (value.ptr[0] == ' ' || value.ptr[0] == '\t')) {
        value.ptr++;
        value.len--;
    }
    while (value.len > 0 && (value.ptr[value.len - 1] == ' ' || value.ptr[value.len - 1] == '\t'))
        value.len--;
    *ret = (struct http_header){name, value};
    return true;
}

static bool read_length(struct str value, uint64_t *ret)
{
    *ret = 0;
    if (value.len == 0 || value.len > 18)
        return false;
    for (size_t i = 0; i < value.len; i++) {
        if (value.ptr[i] < '0' || value.ptr[i] > '9')
            return false;
        *ret = *ret * 10 + (uint64_t)(value.ptr[i] - '0');
    }
    return true;
}

static void read_connection(struct str value, struct http_head *head)
{
    while (value.len > 0) {
        struct str part = str_trim(str_cut(&value, ','));

        if (is_word(part, "close"))
            head->keep_alive = false;
        else if (is_word(part, "keep-alive") && head->minor == 0)
            head->keep_alive = true;
    }
}

static bool is_host(struct str value)
{
    for (size_t i = 0; i < value.len; i++)
        if (value.ptr[i] <= 0x20 || value.ptr[i] >= 0x7f || strchr("/\\@?#,", value.ptr[i]) != NULL)
            return false;
    return true;
}

/* The headers that decide where the message ends, and the few that the server itself acts on. */
static bool read_framing(struct http_head *head, struct http_fault *fault)
{
    unsigned lengths = 0, codings = 0, hosts = 0;

    for (size_t i = 0; i < head->header_count; i++) {
        const struct http_header *h = &head->headers[i];

        if (str_is(h->name, "content-length")) {
            if (++lengths > 1)
                return malformed(fault, "two Content-Length headers");
            if (!read_length(h->value, &head->length))
                return malformed(fault, "a Content-Length that is no whole number");
        } else if (str_is(h->name, "transfer-encoding")) {
            if (++codings > 1)
                return malformed(fault, "two Transfer-Encoding headers");
            if (!is_word(h->value, "chunked"))
                return malformed(fault, "a Transfer-Encoding other than chunked");
            head->chunked = true;
        } else if (str_is(h->name, "host")) {
            if (++hosts > 1 || !is_host(h->value))
                return malformed(fault, "two Host headers, or one that is no host");
        } else if (str_is(h->name, "connection")) {
            read_connection(h->value, head);
        } else if (str_is(h->name, "expect")) {
            if (!is_word(h->value, "100-continue"))
                return refuse(fault, 417, "expectation_failed", "an Expect other than 100-continue");
            head->expect_continue = head->minor == 1;
        }
    }
    if (head->chunked && lengths > 0)
        return malformed(fault, "Content-Length together with Transfer-Encoding");
    if (head->chunked && head->minor == 0)
        return malformed(fault, "Transfer-Encoding in HTTP/1.0");
    if (hosts == 0 && head->minor == 1)
        return malformed(fault, "no Host header");
    return true;
}

bool http_head_read(struct arena *arena, char *text, size_t len, struct http_head *ret, struct http_fault *fault)
{
    struct http_head head = {0};
    size_t lines = 0;

    if (len >= 2 && text[0] == '\r') {
        text += 2;
        len -= 2;
    }
    for (size_t i = 0; i < len; i++)
        lines += text[i] == '\n';
    if (lines < 2 || lines - 2 > HTTP_MAX_HEADERS)
        return refuse(fault, 431, "headers_too_large", "more than 100 headers");
    char *end = memchr(text, '\r', len);

    if (!read_request_line((struct str){text, (size_t)(end - text)}, &head, fault))
        return false;
    head.keep_alive = head.minor == 1;
    head.headers = arena_array(arena, lines - 1, sizeof(head.headers[0]));
    for (char *line = end + 2; *line != '\r'; line = end + 2) {
        end = memchr(line, '\r', len - (size_t)(line - text));
        if (!read_header_line(line, (size_t)(end - line), &head.headers[head.header_count], fault))
            return false;
        head.header_count++;
    }
    if (!read_framing(&head, fault))
        return false;
    *ret = head;
    return true;
}
