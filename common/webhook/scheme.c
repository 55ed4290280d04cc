/* One walk for all schemes: find time, id and signatures, put together what was signed, compare. */
#include "common/webhook/scheme.h"
#include "common/base/ensure.h"
#include "common/base/id.h"
#include "common/base/json_text.h"
#include "common/webhook/form.h"

#include "common/base/banned.h"

#define SCHEME(name, header, form, prefix, digest, encoding, text, time, unit, id, key, url)                           \
    {name, header, SCHEME_##form, prefix, DIGEST_##digest,  ENCODING_##encoding,                                       \
     text, time,   unit,          id,     SCHEME_KEY_##key, url},
static const struct hook_scheme schemes[] = {
#include "common/webhook/scheme.def"
};
#undef SCHEME

#define CANDIDATES_MAX 8 /* signatures in one header */
#define HEADER_MAX 4096

const struct hook_scheme *hook_scheme_find(struct str name)
{
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
        if (str_is(name, schemes[i].name))
            return &schemes[i];
    return NULL;
}

struct reading {
    const struct hook_scheme *scheme;
    const struct hook_message *message;
    struct arena *arena;
    struct str json; /* the body when it is JSON, else STR_NONE */
    bool json_looked;
    struct str header; /* the signature's */
    struct str time, id;
};

/* --- where things are */

static struct str body_json(struct reading *r)
{
    struct jt_limits limits = JT_LIMITS_API;
    struct err err = {0};

    limits.max_bytes = r->message->body.len;
    if (!r->json_looked && jt_check(r->message->body, &limits, &err) == ERR_OK)
        r->json = r->message->body;
    r->json_looked = true;
    return r->json;
}

/* "/a/b" in the body: a string, or a number as it stands. */
static struct str at_pointer(struct reading *r, const char *pointer)
{
    struct str value = body_json(r), rest = str_of(pointer + 1), text;

    while (rest.len > 0 && value.ptr != NULL)
        value = jt_get_str(value, str_cut(&rest, '/'));
    if (jt_type(value) == JT_NUMBER)
        return value;
    return jt_string(value, r->arena, &text) ? text : STR_NONE;
}

/* The first "name=..." of a list with commas. */
static struct str field_of(struct str list, const char *name)
{
    while (list.len > 0) {
        struct str value = str_trim(str_cut(&list, ','));

        if (str_eq(str_cut(&value, '='), str_of(name)) && value.ptr != NULL)
            return value;
    }
    return STR_NONE;
}

static struct str find(struct reading *r, const char *at)
{
    struct str found = STR_NONE;

    if (at[0] == '/')
        found = at_pointer(r, at);
    else if (at[0] == '=')
        found = field_of(r->header, at + 1);
    else if (at[0] != '\0')
        found = r->message->header(r->message->ctx, at);
    return found.len > HOOK_TEXT_MAX ? STR_NONE : found;
}

static struct str find_signature(struct reading *r)
{
    const char *at = r->scheme->header;

    return at[0] == '/' ? at_pointer(r, at) : r->message->header(r->message->ctx, at);
}

/* --- what was signed */

static bool body_is_form(const struct hook_message *message)
{
    return form_type_is(message->header(message->ctx, "content-type"), "application/x-www-form-urlencoded");
}

static void put_part(const struct reading *r, struct str name, struct buf *out)
{
    if (str_is(name, "timestamp"))
        buf_append_str(out, r->time);
    else if (str_is(name, "id"))
        buf_append_str(out, r->id);
    else if (str_is(name, "body"))
        buf_append_str(out, r->message->body);
    else if (str_is(name, "url"))
        buf_append_str(out, r->message->url);
    else if (str_is(name, "method"))
        buf_append_str(out, r->message->method);
    else if (str_is(name, "form") && body_is_form(r->message))
        form_write_sorted(r->message->body, r->arena, out);
}

static void put_signed(const struct reading *r, struct buf *out)
{
    struct str rest = str_of(r->scheme->signed_text);

    while (rest.len > 0) {
        const char *open = memchr(rest.ptr, '{', rest.len);

        if (open != rest.ptr) {
            size_t literal = open == NULL ? rest.len : (size_t)(open - rest.ptr);

            buf_append(out, rest.ptr, literal);
            rest = (struct str){rest.ptr + literal, rest.len - literal};
            continue;
        }
        rest = (struct str){rest.ptr + 1, rest.len - 1};
        put_part(r, str_cut(&rest, '}'), out);
    }
}

/* Twilio signs the query of a request whose body is no form, and the digest of the body is in the query. */
static bool body_is_named(const struct reading *r)
{
    struct str query = r->message->url, hex;
    uint8_t digest[32];
    char expected[65];

    if (strstr(r->scheme->signed_text, "{form}") == NULL || body_is_form(r->message) || r->message->body.len == 0)
        return true;
    (void)str_cut(&query, '?');
    sha256(r->message->body, digest);
    hex_encode(digest, sizeof(digest), expected);
    while (query.len > 0) {
        hex = str_cut(&query, '&');
        if (str_is(str_cut(&hex, '='), "bodySHA256"))
            return digest_equal(hex, str_of(expected));
    }
    return false;
}

/* --- comparing */

struct candidates {
    size_t count;
    struct str of[CANDIDATES_MAX];
};

static bool add_candidate(struct candidates *c, struct str signature)
{
    if (c->count == CANDIDATES_MAX)
        return false;
    c->of[c->count++] = signature;
    return true;
}

/* The signatures as they were sent, without what stands before them. False: it is no such header. */
static bool read_candidates(const struct reading *r, struct candidates *ret)
{
    struct str rest = r->header;

    switch (r->scheme->form) {
    case SCHEME_TOKEN:
        return add_candidate(ret, rest);
    case SCHEME_TEXT:
        if (!str_starts(rest, r->scheme->prefix))
            return false;
        return add_candidate(ret,
                             (struct str){rest.ptr + strlen(r->scheme->prefix), rest.len - strlen(r->scheme->prefix)});
    case SCHEME_FIELDS:
        while (rest.len > 0) {
            struct str value = str_trim(str_cut(&rest, ','));

            if (str_is(str_cut(&value, '='), r->scheme->prefix) && value.ptr != NULL && !add_candidate(ret, value))
                return false;
        }
        return ret->count > 0;
    case SCHEME_WORDS:
        while (rest.len > 0)
            if (!add_candidate(ret, str_cut(&rest, ' ')))
                return false;
        return ret->count > 0;
    }
    return false;
}

static bool is_public_key(const struct reading *r, struct str secret)
{
    return r->scheme->form == SCHEME_WORDS && str_starts(secret, "whpk_");
}

static bool key_of(const struct hook_scheme *scheme, struct str secret, struct arena *arena, struct str *ret)
{
    *ret = secret;
    if (scheme->key == SCHEME_KEY_PLAIN)
        return secret.len > 0;
    for (size_t i = 0; i < 2; i++) {
        const char *prefix = i == 0 ? "whsec_" : "whpk_";

        if (str_starts(secret, prefix))
            secret = (struct str){secret.ptr + strlen(prefix), secret.len - strlen(prefix)};
    }
    return base64_read(secret, arena, ret) && ret->len > 0;
}

/* The text of the signature that this secret makes. */
static void write_expected(const struct hook_scheme *scheme, struct str key, struct str data, struct buf *out)
{
    uint8_t mac[DIGEST_BYTES_MAX];
    size_t len;

    if (scheme->form == SCHEME_TOKEN) {
        buf_append_str(out, key);
        return;
    }
    if (scheme->form == SCHEME_WORDS)
        buf_append_str(out, str_of(scheme->prefix));
    digest_hmac(scheme->digest, key, data, mac, &len);
    encoding_write(scheme->encoding, (struct str){(const char *)mac, len}, out);
}

static bool fits_public(const struct candidates *c, struct str key, struct str data, struct arena *arena)
{
    bool fits = false;
    struct str signature;

    for (size_t i = 0; i < c->count; i++) {
        struct str text = c->of[i];

        if (!str_starts(text, "v1a,"))
            continue;
        text = (struct str){text.ptr + 4, text.len - 4};
        fits |= key.len == 32 && base64_read(text, arena, &signature) &&
                digest_ed25519_verify((const uint8_t *)key.ptr, signature, data);
    }
    return fits;
}

/* Tokens have lengths that are worth hiding: digests of them are compared. */
static bool equal_hidden(struct str a, struct str b)
{
    uint8_t x[32], y[32];

    sha256(a, x);
    sha256(b, y);
    return digest_equal((struct str){(const char *)x, 32}, (struct str){(const char *)y, 32});
}

static bool fits(const struct reading *r, const struct candidates *c, struct str secret, struct str data)
{
    CLEANUP(buf_deinit) struct buf expected = {0};
    bool same = false;
    struct str key;

    if (!key_of(r->scheme, secret, r->arena, &key))
        return false;
    if (is_public_key(r, secret))
        return fits_public(c, key, data, r->arena);
    buf_init(&expected, key.len + 2 * DIGEST_BYTES_MAX + 16);
    write_expected(r->scheme, key, data, &expected);
    for (size_t i = 0; i < c->count; i++)
        same |= r->scheme->form == SCHEME_TOKEN ? equal_hidden(c->of[i], buf_str(&expected))
                                                : digest_equal(c->of[i], buf_str(&expected));
    return same;
}

/* --- time and nonce */

static bool read_time(const struct hook_scheme *scheme, struct str text, struct wall_us *ret)
{
    int64_t n;

    if (!parse_i64(text, 1, INT64_MAX / US_PER_S, &n))
        return false;
    ret->us = n * scheme->time_unit_us;
    return true;
}

/* Of a signed id; else of what was signed and by which time: a stranger cannot change either. */
static void make_nonce(const struct reading *r, struct str data, struct hook_verdict *ret)
{
    CLEANUP(buf_deinit) struct buf text = {0};
    uint8_t hash[32];

    buf_init(&text, data.len + 64 + HOOK_TEXT_MAX);
    if (ret->id.ptr != NULL) {
        buf_append_str(&text, STR("id "));
        buf_append_str(&text, ret->id);
    } else {
        buf_append_str(&text, STR("signed "));
        buf_append_str(&text, r->scheme->form == SCHEME_TOKEN ? r->message->body : data);
    }
    sha256(buf_str(&text), hash);
    hex_encode(hash, sizeof(hash), ret->nonce);
}

static bool begin(struct reading *r, struct hook_verdict *ret)
{
    const struct hook_scheme *scheme = r->scheme;

    r->header = find_signature(r);
    if (r->header.len == 0) {
        ret->refused = "no_signature";
        return false;
    }
    if (r->header.len > HEADER_MAX) {
        ret->refused = "signature_form";
        return false;
    }
    r->time = find(r, scheme->time_at);
    r->id = find(r, scheme->id_at);
    if (scheme->time_at[0] != '\0' && !read_time(scheme, r->time, &ret->at)) {
        ret->refused = "no_timestamp";
        return false;
    }
    if (strstr(scheme->signed_text, "{id}") != NULL && r->id.len == 0) {
        ret->refused = "no_id";
        return false;
    }
    if (!body_is_named(r)) {
        ret->refused = "body_differs";
        return false;
    }
    return true;
}

static size_t signed_max(const struct reading *r)
{
    return r->message->body.len + r->message->url.len + r->message->method.len + 4 * HOOK_TEXT_MAX + HEADER_MAX;
}

void hook_scheme_check(const struct hook_scheme *scheme, const struct hook_message *message, const struct str *secrets,
                       size_t secret_count, struct wall_us now, int64_t window_us, struct arena *arena,
                       struct hook_verdict *ret)
{
    CLEANUP(buf_deinit) struct buf data = {0};
    struct reading r = {.scheme = scheme, .message = message, .arena = arena};
    struct candidates candidates = {0};
    int found = -1;

    *ret = (struct hook_verdict){0};
    if (!begin(&r, ret))
        return;
    if (!read_candidates(&r, &candidates)) {
        ret->refused = "signature_form";
        return;
    }
    buf_init(&data, signed_max(&r));
    put_signed(&r, &data);
    ENSURE(!data.overflow);
    for (size_t i = 0; i < secret_count; i++)
        if (fits(&r, &candidates, secrets[i], buf_str(&data)) && found < 0)
            found = (int)i;
    if (found < 0) {
        ret->refused = "signature_differs";
        return;
    }
    if (ret->at.us != 0 && (ret->at.us > now.us + window_us || ret->at.us < now.us - window_us)) {
        ret->refused = ret->at.us > now.us ? "timestamp_in_future" : "timestamp_too_old";
        return;
    }
    ret->secret = found;
    ret->id = r.id.len > 0 ? r.id : STR_NONE;
    make_nonce(&r, buf_str(&data), ret);
}

const char *hook_scheme_secret_fault(const struct hook_scheme *scheme, struct str secret)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(512);
    struct str key;

    if (secret.len == 0)
        return "a secret is not empty";
    if (!key_of(scheme, secret, arena, &key))
        return "a secret of this scheme is base64, behind whsec_ or, of a public key, whpk_";
    if (scheme->key == SCHEME_KEY_BASE64 && str_starts(secret, "whpk_") && key.len != 32)
        return "a public Ed25519 key has 32 bytes";
    return NULL;
}

bool hook_scheme_sign(const struct hook_scheme *scheme, const struct hook_message *message, struct str secret,
                      struct arena *arena, struct buf *out)
{
    CLEANUP(buf_deinit) struct buf data = {0};
    struct reading r = {.scheme = scheme, .message = message, .arena = arena};
    struct str key;

    if (!key_of(scheme, secret, arena, &key) || is_public_key(&r, secret))
        return false;
    if (scheme->time_at[0] == '=')
        r.header = message->header(message->ctx, scheme->header);
    r.time = find(&r, scheme->time_at);
    r.id = find(&r, scheme->id_at);
    buf_init(&data, signed_max(&r));
    put_signed(&r, &data);
    if (scheme->form == SCHEME_FIELDS)
        buf_printf(out, "%s=" STR_FMT ",%s=", scheme->time_at + 1, STR_ARG(r.time), scheme->prefix);
    else if (scheme->form == SCHEME_TEXT)
        buf_append_str(out, str_of(scheme->prefix));
    write_expected(scheme, key, buf_str(&data), out);
    return !data.overflow && !out->overflow;
}
