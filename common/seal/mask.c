/* Masking of secrets; see mask.h. Needles are compared with what the text stands for, not with how it is written, so
 * that \u0061 in an answer is an a. */
#include "common/seal/mask.h"
#include "common/seal/base64.h"
#include "common/seal/sealed.h"
#include <ctype.h>
#include <openssl/crypto.h>

#include "common/base/banned.h"

#define BASE64_NEEDLE_MIN 6 /* less of it stands for next to nothing */

enum writing { AS_IT_IS, IN_JSON, PERCENT };

struct needle {
    char *ptr;
    size_t len;
    bool percent; /* it reads differently when percent-encoded */
    struct needle *next;
};

struct masker {
    struct needle *needles;
    bool begins[256]; /* bytes with which some needle begins, as it is */
};

struct masker *masker_new(void)
{
    return mem_alloc(sizeof(struct masker));
}

void masker_free(struct masker *masker)
{
    if (masker == NULL)
        return;
    while (masker->needles != NULL) {
        struct needle *needle = masker->needles;

        masker->needles = needle->next;
        OPENSSL_cleanse(needle->ptr, needle->len);
        mem_free(needle->ptr);
        mem_free(needle);
    }
    mem_free(masker);
}

static bool is_unreserved(char c)
{
    return isalnum((unsigned char)c) || c == '-' || c == '.' || c == '_' || c == '~';
}

static void add_needle(struct masker *masker, struct str bytes)
{
    struct needle *needle = mem_alloc(sizeof(*needle));

    needle->ptr = mem_dup(bytes.ptr, bytes.len);
    needle->len = bytes.len;
    for (size_t i = 0; i < bytes.len; i++)
        needle->percent = needle->percent || !is_unreserved(bytes.ptr[i]);
    needle->next = masker->needles;
    masker->needles = needle;
    masker->begins[(unsigned char)bytes.ptr[0]] = true;
}

/* What base64 makes of the value when `before` bytes stand before it in a group of three: the characters that depend on
 * nothing else. With the other alphabet (RFC 4648, section 5) too. */
static void add_base64(struct masker *masker, struct str value, size_t before)
{
    CLEANUP(seal_wipe) struct buf bytes = {0};
    CLEANUP(seal_wipe) struct buf text = {0};
    size_t first = before == 0 ? 0 : before + 1, end = (before + value.len) * 8 / 6;
    bool differs = false;

    buf_init(&bytes, value.len + 2);
    buf_append(&bytes, "\0\0", before);
    buf_append_str(&bytes, value);
    buf_init(&text, bytes.len * 2 + 8);
    base64_encode(buf_str(&bytes), &text);
    if (end < first + BASE64_NEEDLE_MIN)
        return;
    add_needle(masker, (struct str){text.ptr + first, end - first});
    for (size_t i = first; i < end; i++) {
        differs = differs || text.ptr[i] == '+' || text.ptr[i] == '/';
        text.ptr[i] = text.ptr[i] == '+' ? '-' : text.ptr[i] == '/' ? '_' : text.ptr[i];
    }
    if (differs)
        add_needle(masker, (struct str){text.ptr + first, end - first});
}

static void add_value(struct masker *masker, struct str value)
{
    if (value.len < SECRET_VALUE_MIN)
        return;
    add_needle(masker, value);
    for (size_t before = 0; before < 3; before++)
        add_base64(masker, value, before);
}

/* "SCHEME credentials" of an Authorization header. */
static bool credentials_of(struct str value, struct str *ret)
{
    size_t scheme = 0;

    while (scheme < value.len && isalnum((unsigned char)value.ptr[scheme]))
        scheme++;
    if (scheme == 0 || scheme >= value.len || value.ptr[scheme] != ' ')
        return false;
    *ret = str_trim((struct str){value.ptr + scheme, value.len - scheme});
    return ret->len > 0;
}

void masker_add(struct masker *masker, struct str value)
{
    CLEANUP(seal_wipe) struct buf decoded = {0};
    struct str credentials;

    add_value(masker, value);
    if (!credentials_of(value, &credentials))
        return;
    add_value(masker, credentials);
    buf_init(&decoded, value.len + 1);
    if (value.len > 6 && strncasecmp(value.ptr, "basic ", 6) == 0 && base64_decode(credentials, &decoded))
        add_value(masker, buf_str(&decoded));
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool hex_number(const char *p, size_t digits, unsigned *ret)
{
    *ret = 0;
    for (size_t i = 0; i < digits; i++) {
        if (hex_digit(p[i]) < 0)
            return false;
        *ret = *ret << 4 | (unsigned)hex_digit(p[i]);
    }
    return true;
}

static size_t put_utf8(unsigned code, char ret[4])
{
    if (code < 0x80) {
        ret[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        ret[0] = (char)(0xc0 | code >> 6);
        ret[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        ret[0] = (char)(0xe0 | code >> 12);
        ret[1] = (char)(0x80 | (code >> 6 & 0x3f));
        ret[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    ret[0] = (char)(0xf0 | code >> 18);
    ret[1] = (char)(0x80 | (code >> 12 & 0x3f));
    ret[2] = (char)(0x80 | (code >> 6 & 0x3f));
    ret[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

/* The escape at text.ptr[i], a backslash: what it stands for; returns its length, 0 when it is none. */
static size_t json_escape(struct str text, size_t i, char ret[4], size_t *ret_len)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    unsigned code, low;
    const char *at;

    if (text.len - i < 2)
        return 0;
    if (text.ptr[i + 1] != 'u') {
        at = text.ptr[i + 1] == '\0' ? NULL : strchr(from, text.ptr[i + 1]);
        if (at == NULL)
            return 0;
        ret[0] = to[at - from];
        *ret_len = 1;
        return 2;
    }
    if (text.len - i < 6 || !hex_number(text.ptr + i + 2, 4, &code))
        return 0;
    if (code >= 0xd800 && code < 0xdc00 && text.len - i >= 12 && text.ptr[i + 6] == '\\' && text.ptr[i + 7] == 'u' &&
        hex_number(text.ptr + i + 8, 4, &low) && low >= 0xdc00 && low < 0xe000) {
        *ret_len = put_utf8(0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00), ret);
        return 12;
    }
    *ret_len = put_utf8(code, ret);
    return 6;
}

/* One character of the text as it is written there, and the bytes that it stands for. Returns its length in the text.
 */
static size_t read_unit(struct str text, size_t i, enum writing writing, char ret[4], size_t *ret_len)
{
    unsigned code;
    size_t n;

    if (writing == IN_JSON && text.ptr[i] == '\\') {
        n = json_escape(text, i, ret, ret_len);
        if (n > 0)
            return n;
    }
    if (writing == PERCENT && text.ptr[i] == '%' && text.len - i >= 3 && hex_number(text.ptr + i + 1, 2, &code)) {
        ret[0] = (char)code;
        *ret_len = 1;
        return 3;
    }
    ret[0] = writing == PERCENT && text.ptr[i] == '+' ? ' ' : text.ptr[i];
    *ret_len = 1;
    return 1;
}

/* Bytes of the text from `at` on that are the needle in this writing; 0: they are not. */
static size_t match(const struct needle *needle, struct str text, size_t at, enum writing writing)
{
    size_t i = at, done = 0, len;
    char unit[4];

    while (done < needle->len) {
        if (i >= text.len)
            return 0;
        i += read_unit(text, i, writing, unit, &len);
        if (len > needle->len - done || memcmp(unit, needle->ptr + done, len) != 0)
            return 0;
        done += len;
    }
    return i - at;
}

/* The longest of all; 0: none begins here. */
static size_t match_any(const struct masker *masker, struct str text, size_t at, enum writing writing)
{
    char c = text.ptr[at];
    size_t longest = 0, n;

    if (!masker->begins[(unsigned char)c] && c != '\\' && c != '%' && c != '+')
        return 0;
    for (const struct needle *needle = masker->needles; needle != NULL; needle = needle->next) {
        n = match(needle, text, at, writing);
        longest = n > longest ? n : longest;
        n = needle->percent ? match(needle, text, at, PERCENT) : 0;
        longest = n > longest ? n : longest;
    }
    return longest;
}

/* Where in JSON a match begins must be the begin of a character: the u of an escape is not. */
static void mask(const struct masker *masker, struct str text, enum writing writing, struct buf *out)
{
    size_t i = 0, copied = 0, n, ignored;
    char unit[4];

    while (i < text.len) {
        n = match_any(masker, text, i, writing);
        if (n == 0) {
            i += read_unit(text, i, writing, unit, &ignored);
            continue;
        }
        buf_append(out, text.ptr + copied, i - copied);
        buf_append_str(out, STR(SECRET_MASK));
        i += n;
        copied = i;
    }
    buf_append(out, text.ptr + copied, text.len - copied);
}

void masker_text(const struct masker *masker, struct str text, struct buf *out)
{
    mask(masker, text, AS_IT_IS, out);
}

static size_t string_len(struct str json, size_t at)
{
    size_t i = at;

    while (i < json.len && json.ptr[i] != '"')
        i += json.ptr[i] == '\\' ? 2 : 1;
    return (i < json.len ? i : json.len) - at;
}

static bool is_structure(char c)
{
    return c == '{' || c == '}' || c == '[' || c == ']' || c == ',' || c == ':' || c == ' ' || c == '\t' || c == '\n' ||
           c == '\r';
}

/* A number, true, false or null. */
static size_t mask_scalar(const struct masker *masker, struct str json, size_t at, struct buf *out)
{
    size_t end = at;
    bool found = false;

    while (end < json.len && !is_structure(json.ptr[end]) && json.ptr[end] != '"')
        end++;
    for (size_t i = at; i < end && !found; i++)
        found = match_any(masker, (struct str){json.ptr, end}, i, AS_IT_IS) > 0;
    if (found)
        buf_append_str(out, STR("\"" SECRET_MASK "\""));
    else
        buf_append(out, json.ptr + at, end - at);
    return end - at;
}

void masker_json(const struct masker *masker, struct str json, struct buf *out)
{
    size_t i = 0, n;

    while (i < json.len) {
        if (json.ptr[i] == '"') {
            n = string_len(json, i + 1);
            buf_append_char(out, '"');
            mask(masker, (struct str){json.ptr + i + 1, n}, IN_JSON, out);
            buf_append(out, "\"", i + 1 + n < json.len ? 1 : 0);
            i += n + 2;
        } else if (is_structure(json.ptr[i])) {
            buf_append_char(out, json.ptr[i++]);
        } else {
            i += mask_scalar(masker, json, i, out);
        }
    }
}
