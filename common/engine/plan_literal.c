/* Secrets that stand in the document itself: allowed, but everybody who may read workflows reads them, and every
 * version keeps them. Told by the names of headers and by how tokens of known kinds look; a guess, so only a warning.
 */
#include "common/base/banned.h"
#include "common/engine/plan_internal.h"
#include <ctype.h>
#include <math.h>

#define RANDOM_BYTES_MIN 20 /* of a value that looks like chance */
#define RANDOM_BITS_MIN 3.5 /* for each of its characters; words of a language have about 3 at that length */
#define TOKEN_BYTES_MIN 12  /* behind a prefix that tells what it is */

/* Headers that carry nothing else. */
static const char *const sensitive[] = {"authorization",
                                        "proxy-authorization",
                                        "x-api-key",
                                        "api-key",
                                        "apikey",
                                        "x-auth-token",
                                        "x-access-token",
                                        "x-gitlab-token",
                                        "private-token",
                                        "x-vault-token",
                                        "x-amz-security-token",
                                        "cookie"};
/* Words in the names of others. */
static const char *const hints[] = {"key", "token", "secret", "password", "auth", "signature"};
/* Stripe, GitHub, GitLab, Slack, AWS, Google, npm, SendGrid, private keys. */
static const char *const prefixes[] = {"sk_live_",
                                       "sk_test_",
                                       "rk_live_",
                                       "whsec_",
                                       "ghp_",
                                       "gho_",
                                       "ghs_",
                                       "github_pat_",
                                       "glpat-",
                                       "xoxb-",
                                       "xoxp-",
                                       "AKIA",
                                       "ASIA",
                                       "AIza",
                                       "npm_",
                                       "SG.",
                                       "-----BEGIN PRIVATE KEY",
                                       "-----BEGIN RSA PRIVATE KEY",
                                       "-----BEGIN EC PRIVATE KEY"};
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static bool is_sensitive(struct str name)
{
    for (size_t i = 0; i < COUNT(sensitive); i++)
        if (name.len == strlen(sensitive[i]) && strncasecmp(name.ptr, sensitive[i], name.len) == 0)
            return true;
    return false;
}

static bool is_hinted(struct str name)
{
    for (size_t i = 0; i < COUNT(hints); i++)
        for (size_t at = 0; at + strlen(hints[i]) <= name.len; at++)
            if (strncasecmp(name.ptr + at, hints[i], strlen(hints[i])) == 0)
                return true;
    return false;
}

static bool is_token_char(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '-' || c == '.' || c == '+' || c == '/' || c == '=';
}

static bool has_token(struct str text)
{
    for (size_t i = 0; i < COUNT(prefixes); i++) {
        const char *at = memmem(text.ptr, text.len, prefixes[i], strlen(prefixes[i]));
        size_t n = 0;

        if (at == NULL || (at > text.ptr && isalnum((unsigned char)at[-1])))
            continue;
        if (prefixes[i][0] == '-')
            return true;
        at += strlen(prefixes[i]);
        while (at + n < text.ptr + text.len && is_token_char(at[n]))
            n++;
        if (n >= TOKEN_BYTES_MIN)
            return true;
    }
    return false;
}

/* Shannon's measure over the characters of the value. */
static bool looks_random(struct str text)
{
    unsigned counts[256] = {0};
    double bits = 0;

    if (text.len < RANDOM_BYTES_MIN)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (!is_token_char(text.ptr[i]))
            return false;
        counts[(unsigned char)text.ptr[i]]++;
    }
    for (size_t i = 0; i < 256; i++)
        if (counts[i] > 0)
            bits -= counts[i] * log2((double)counts[i] / (double)text.len);
    return bits / (double)text.len >= RANDOM_BITS_MIN;
}

struct literals {
    struct compile *c;
    struct buf pointer;
};

static void check_text(struct literals *l, struct str text, struct str header)
{
    bool expression = memmem(text.ptr, text.len, "${", 2) != NULL;
    bool found = has_token(text) || (!expression && header.len > 0 && text.len > 0 &&
                                     (is_sensitive(header) || (is_hinted(header) && looks_random(text))));

    if (found)
        plan_warning_of(l->c, "secret_in_document",
                        "write it as a secret and refer to it: \"${ .secrets.NAME }\" (docs/secrets.md)",
                        "looks like a secret: everybody who may read workflows can read it, and every version keeps it",
                        "%s", buf_str(&l->pointer).ptr);
}

static void check_value(struct literals *l, struct str value, struct str header, unsigned depth);

static void check_members(struct literals *l, struct str container, struct str header, unsigned depth)
{
    size_t len = l->pointer.len;
    bool object = jt_type(container) == JT_OBJECT;
    struct jt_iter it;

    jt_iter_init(&it, container);
    while (jt_next(&it)) {
        struct str key = object ? jt_key(&it, l->c->faults->arena) : STR("");

        if (object)
            jt_pointer_add(&l->pointer, key);
        else
            buf_printf(&l->pointer, "/%zu", it.index);
        /* below `headers` a member's name is that of a header */
        if (depth == 0 && str_is(key, "headers") && jt_type(it.value) == JT_OBJECT)
            check_value(l, it.value, STR("headers"), 1);
        else
            check_value(l, it.value, depth == 1 && str_is(header, "headers") ? key : STR_NONE, depth + 1);
        l->pointer.len = len;
        l->pointer.ptr[len] = '\0';
    }
}

/* As deep as the document, which jt_check has bounded. */
static void check_value(struct literals *l, struct str value, struct str header, unsigned depth)
{
    enum jt_type type = jt_type(value);
    struct str text;

    if (type == JT_OBJECT || type == JT_ARRAY)
        check_members(l, value, header, depth);
    else if (type == JT_STRING && jt_string(value, l->c->faults->arena, &text))
        check_text(l, text, header);
}

void plan_literal_secrets(struct compile *c, struct str request, const char *pointer)
{
    struct literals l = {.c = c};

    buf_init(&l.pointer, (size_t)64 << 10);
    buf_append_str(&l.pointer, str_of(pointer));
    check_value(&l, request, STR_NONE, 0);
    buf_deinit(&l.pointer);
}
