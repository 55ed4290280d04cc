/* multipart/form-data: a body is cut at its boundary, each part has a head of lines and bytes as they are. */
#include "common/webhook/multipart.h"
#include "common/base/digest.h"
#include "common/webhook/form_fields.h"
#include <strings.h>

#include "common/base/banned.h"

#define BOUNDARY_MAX 70 /* RFC 2046, 5.1.1 */
#define HEAD_MAX ((size_t)8 << 10)
#define HEADERS_MAX 16

struct part {
    struct str name, file_name, type, content;
    bool has_disposition;
};

struct reading {
    struct str boundary, rest; /* what has not been read */
    struct arena *arena;
    struct form_field *fields;
    size_t count, file_bytes;
    enum multipart_verdict verdict;
    const char *fault;
};

static bool malformed(struct reading *r, const char *fault)
{
    r->verdict = MULTIPART_MALFORMED;
    r->fault = fault;
    return false;
}

/* --- header values: TYPE *( ; NAME = VALUE ), values are tokens or quoted */

static bool is_token_char(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static void skip(struct str *s, size_t n)
{
    s->ptr += n;
    s->len -= n;
}

static void skip_blanks(struct str *s)
{
    while (s->len > 0 && (*s->ptr == ' ' || *s->ptr == '\t'))
        skip(s, 1);
}

static struct str take_token(struct str *s)
{
    struct str token = {s->ptr, 0};

    while (token.len < s->len && is_token_char(s->ptr[token.len]))
        token.len++;
    skip(s, token.len);
    return token;
}

/* What is not quoted ends at a blank or a semicolon: boundaries with a '=' come without quotes. */
static struct str take_plain(struct str *s)
{
    struct str plain = {s->ptr, 0};

    while (plain.len < s->len && (unsigned char)s->ptr[plain.len] > ' ' && strchr(";\"", s->ptr[plain.len]) == NULL)
        plain.len++;
    skip(s, plain.len);
    return plain;
}

/* A backslash stands for itself unless a quote or another one follows: browsers send paths of files as they are. */
static bool take_quoted(struct str *s, struct arena *arena, struct str *ret)
{
    char *out = arena_alloc(arena, s->len + 1);
    size_t len = 0;

    skip(s, 1);
    while (s->len > 0 && *s->ptr != '"') {
        if (*s->ptr == '\\' && s->len > 1 && (s->ptr[1] == '"' || s->ptr[1] == '\\'))
            skip(s, 1);
        out[len++] = *s->ptr;
        skip(s, 1);
    }
    if (s->len == 0)
        return false;
    skip(s, 1);
    *ret = (struct str){out, len};
    return true;
}

/* The next parameter of a header's value. False: there is none, and *bad when there is something else. */
static bool take_parameter(struct str *s, struct arena *arena, struct str *name, struct str *value, bool *bad)
{
    skip_blanks(s);
    *bad = s->len > 0 && *s->ptr != ';';
    while (s->len > 0 && *s->ptr == ';') { /* RFC 9110, 5.6.6: there may be nothing between two of them */
        skip(s, 1);
        skip_blanks(s);
    }
    if (s->len == 0 || *bad)
        return false;
    *bad = true;
    *name = take_token(s);
    if (name->len == 0 || s->len == 0 || *s->ptr != '=')
        return false;
    skip(s, 1);
    if (s->len > 0 && *s->ptr == '"') {
        if (!take_quoted(s, arena, value))
            return false;
    } else {
        *value = take_plain(s);
        if (value->len == 0)
            return false;
    }
    *bad = false;
    return true;
}

static bool is_word(struct str s, const char *lower)
{
    return s.len == strlen(lower) && strncasecmp(s.ptr, lower, s.len) == 0;
}

static bool is_boundary(struct str s)
{
    if (s.len == 0 || s.len > BOUNDARY_MAX || s.ptr[s.len - 1] == ' ')
        return false;
    for (size_t i = 0; i < s.len; i++)
        if (!((s.ptr[i] >= '0' && s.ptr[i] <= '9') || (s.ptr[i] >= 'A' && s.ptr[i] <= 'Z') ||
              (s.ptr[i] >= 'a' && s.ptr[i] <= 'z') || (s.ptr[i] != '\0' && strchr("'()+_,-./:=? ", s.ptr[i]) != NULL)))
            return false;
    return true;
}

static bool read_boundary(struct reading *r, struct str type)
{
    struct str name, value;
    bool bad = false;

    while (type.len > 0 && *type.ptr != ';')
        skip(&type, 1);
    while (take_parameter(&type, r->arena, &name, &value, &bad)) {
        if (!is_word(name, "boundary"))
            continue;
        if (r->boundary.ptr != NULL)
            return malformed(r, "the Content-Type has two boundaries");
        r->boundary = value;
    }
    if (bad)
        return malformed(r, "the Content-Type cannot be read: multipart/form-data; boundary=... is expected");
    if (r->boundary.ptr == NULL || !is_boundary(r->boundary))
        return malformed(r, "the Content-Type has no boundary of 1 to 70 of the characters that RFC 2046 allows");
    return true;
}

/* --- a part's head */

/* filename*=UTF-8''percent-encoded (RFC 8187): of clients that do not send UTF-8 as it is. */
static bool read_extended(struct str value, struct arena *arena, struct str *ret)
{
    struct str charset = str_cut(&value, '\'');
    bool bad = false;

    str_cut(&value, '\''); /* the language */
    if (value.ptr == NULL || !is_word(charset, "utf-8"))
        return false;
    *ret = form_decode_percent(value, arena, &bad);
    return !bad;
}

static bool read_disposition(struct reading *r, struct part *part, struct str value)
{
    struct str name, text, extended = STR_NONE;
    bool bad = false;

    if (part->has_disposition)
        return malformed(r, "a part has two headers Content-Disposition");
    part->has_disposition = true;
    if (!is_word(take_token(&value), "form-data"))
        return malformed(r, "a part's Content-Disposition is not form-data");
    while (take_parameter(&value, r->arena, &name, &text, &bad)) {
        struct str *place = is_word(name, "name")        ? &part->name
                            : is_word(name, "filename")  ? &part->file_name
                            : is_word(name, "filename*") ? &extended
                                                         : NULL;

        if (place != NULL && place->ptr != NULL)
            return malformed(r, "a part's Content-Disposition says the same twice");
        if (place != NULL)
            *place = text;
    }
    if (bad)
        return malformed(r, "a part's Content-Disposition cannot be read");
    if (extended.ptr != NULL && !read_extended(extended, r->arena, &part->file_name))
        return malformed(r, "a part's filename* is not percent-encoded UTF-8");
    return true;
}

/* Encodings other than these are for mail; RFC 7578, 4.7. */
static bool is_as_it_is(struct str encoding)
{
    return is_word(encoding, "7bit") || is_word(encoding, "8bit") || is_word(encoding, "binary");
}

static bool read_header(struct reading *r, struct part *part, struct str line)
{
    struct str name = take_token(&line), value;

    if (name.len == 0 || line.len == 0 || *line.ptr != ':')
        return malformed(r, "a part has a line that is no header");
    skip(&line, 1);
    value = str_trim(line);
    for (size_t i = 0; i < value.len; i++)
        if ((unsigned char)value.ptr[i] < ' ' && value.ptr[i] != '\t')
            return malformed(r, "a part's header has a control character in it");
    if (is_word(name, "content-disposition"))
        return read_disposition(r, part, value);
    if (is_word(name, "content-transfer-encoding") && !is_as_it_is(value))
        return malformed(r, "a part has a Content-Transfer-Encoding; send its bytes as they are");
    if (!is_word(name, "content-type"))
        return true;
    if (part->type.ptr != NULL)
        return malformed(r, "a part has two headers Content-Type");
    part->type = value;
    return true;
}

static bool read_head(struct reading *r, struct part *part)
{
    struct str head = {r->rest.ptr, r->rest.len < HEAD_MAX ? r->rest.len : HEAD_MAX};

    for (size_t i = 0; i <= HEADERS_MAX; i++) {
        const char *end = memmem(head.ptr, head.len, "\r\n", 2);
        struct str line;

        if (end == NULL)
            return malformed(r, "a part's headers do not end, or are larger than 8 KiB");
        line = (struct str){head.ptr, (size_t)(end - head.ptr)};
        skip(&head, line.len + 2);
        if (line.len == 0) {
            skip(&r->rest, (size_t)(head.ptr - r->rest.ptr));
            return true;
        }
        if (!read_header(r, part, line))
            return false;
    }
    return malformed(r, "a part has more than 16 headers");
}

/* --- parts */

static bool too_large(struct reading *r, const struct part *part)
{
    r->verdict = MULTIPART_TOO_LARGE;
    r->fault =
        arena_printf(r->arena,
                     "the file in field '" STR_FMT "' has %zu bytes: a file may have %zu, all of a request %zu; "
                     "send a link to it instead",
                     STR_ARG(utf8_prefix(part->name, 64)), part->content.len, MULTIPART_FILE_MAX, MULTIPART_FILES_MAX);
    return false;
}

static bool keep_part(struct reading *r, const struct part *part)
{
    struct form_field *field = &r->fields[r->count];

    if (!part->has_disposition || part->name.ptr == NULL)
        return malformed(r, "a part has no Content-Disposition: form-data; name=\"...\"");
    if (r->count == FORM_FIELDS_MAX) {
        r->verdict = MULTIPART_TOO_LARGE;
        r->fault = "the form has more than 1,000 parts";
        return false;
    }
    if (!form_is_text(part->name) || !form_is_text(part->file_name) || !form_is_text(part->type))
        return malformed(r, "a part's headers are not UTF-8, or have a NUL in them");
    *field = (struct form_field){part->name, part->content, r->count, part->file_name, part->type};
    if (part->file_name.ptr == NULL && !form_is_text(part->content))
        return malformed(r, arena_printf(r->arena, "field '" STR_FMT "' is not UTF-8, or has a NUL in it",
                                         STR_ARG(utf8_prefix(part->name, 64))));
    if (part->file_name.ptr != NULL) {
        r->file_bytes += part->content.len;
        if (part->content.len > MULTIPART_FILE_MAX || r->file_bytes > MULTIPART_FILES_MAX)
            return too_large(r, part);
    }
    r->count++;
    return true;
}

/* Behind a delimiter: *ret_last, or on to the next part's head. */
static bool end_delimiter(struct reading *r, bool *ret_last)
{
    *ret_last = r->rest.len >= 2 && memcmp(r->rest.ptr, "--", 2) == 0;
    if (*ret_last)
        skip(&r->rest, 2);
    skip_blanks(&r->rest);
    if (r->rest.len >= 2 && memcmp(r->rest.ptr, "\r\n", 2) == 0)
        skip(&r->rest, 2);
    else if (!*ret_last || r->rest.len > 0)
        return malformed(r, "something stands behind a boundary in its line");
    if (*ret_last && r->rest.len > 0)
        return malformed(r, "something stands behind the last boundary");
    return true;
}

static bool read_part(struct reading *r, struct str delimiter)
{
    struct part part = {.name = STR_NONE, .file_name = STR_NONE, .type = STR_NONE};
    const char *end;

    if (!read_head(r, &part))
        return false;
    /* the line break before a boundary is the boundary's; that of the head may be the same one */
    r->rest.ptr -= 2;
    r->rest.len += 2;
    end = memmem(r->rest.ptr, r->rest.len, delimiter.ptr, delimiter.len);
    if (end == NULL)
        return malformed(r, "the last boundary is missing: the body is cut off");
    part.content = end == r->rest.ptr ? STR("") : (struct str){r->rest.ptr + 2, (size_t)(end - r->rest.ptr) - 2};
    skip(&r->rest, (size_t)(end - r->rest.ptr) + delimiter.len);
    return keep_part(r, &part);
}

static bool read_parts(struct reading *r)
{
    char text[4 + BOUNDARY_MAX] = "\r\n--";
    struct str delimiter = {text, 4 + r->boundary.len}, first = {text + 2, 2 + r->boundary.len};
    bool last = false;

    memcpy(text + 4, r->boundary.ptr, r->boundary.len);
    if (r->rest.len >= 2 && memcmp(r->rest.ptr, "\r\n", 2) == 0)
        skip(&r->rest, 2);
    if (r->rest.len < first.len || memcmp(r->rest.ptr, first.ptr, first.len) != 0)
        return malformed(r, "the body does not begin with the boundary that the Content-Type tells");
    skip(&r->rest, first.len);
    if (!end_delimiter(r, &last))
        return false;
    while (!last)
        if (!read_part(r, delimiter) || !end_delimiter(r, &last))
            return false;
    return true;
}

enum multipart_verdict multipart_to_json(struct str content_type, struct str body, struct arena *arena, struct jw *w,
                                         const char **ret_fault)
{
    struct reading r = {.boundary = STR_NONE, .rest = body, .arena = arena, .verdict = MULTIPART_READ};

    r.fields = arena_array(arena, FORM_FIELDS_MAX + 1, sizeof(*r.fields));
    if (!read_boundary(&r, content_type) || !read_parts(&r)) {
        *ret_fault = r.fault;
        return r.verdict;
    }
    form_write_fields(r.fields, r.count, w);
    return MULTIPART_READ;
}
