/* Signatures of webhooks: who sent these bytes, and when? Schemes are rows of scheme.def; a document's `generic` is a
 * row of its own making. Pure: no clock, no I/O. Loop thread or any other. */
#pragma once
#include "common/base/clock.h"
#include "common/base/digest.h"

enum scheme_form { SCHEME_TEXT, SCHEME_FIELDS, SCHEME_WORDS, SCHEME_TOKEN };
enum scheme_key { SCHEME_KEY_PLAIN, SCHEME_KEY_BASE64 };

struct hook_scheme {
    const char *name;
    const char *header;
    enum scheme_form form;
    const char *prefix;
    enum digest digest;
    enum encoding encoding;
    const char *signed_text;
    const char *time_at;
    int64_t time_unit_us;
    const char *id_at;
    enum scheme_key key;
    bool needs_url; /* the public URL is signed: the document has to say it */
};

const struct hook_scheme *hook_scheme_find(struct str name); /* NULL: there is none */

/* What came, raw. */
struct hook_message {
    struct str method, url, body;
    struct str (*header)(void *ctx, const char *lower_name); /* STR_NONE when absent */
    void *ctx;
};

#define HOOK_SECRETS_MAX 2 /* the one in use and the one before it */
#define HOOK_TEXT_MAX 255  /* of ids and times that are read */

struct hook_verdict {
    const char *refused; /* NULL: it is genuine; else why not, for the delivery log and never for the caller */
    int secret;          /* which one it was signed with: 0, 1 */
    struct str id;       /* the sender's, when it is signed; STR_NONE */
    struct wall_us at;   /* the sender's time, when it is signed; 0 */
    char nonce[65];      /* hex; the same for the same delivery and for no other */
};

/* Is it of the holder of one of the secrets, and of now, give or take `window_us`? All secrets are tried whichever
 * fits. What `ret` points to is of the message or the arena. */
void hook_scheme_check(const struct hook_scheme *scheme, const struct hook_message *message, const struct str *secrets,
                       size_t secret_count, struct wall_us now, int64_t window_us, struct arena *arena,
                       struct hook_verdict *ret);
/* Can the secret be one of this scheme? NULL, or what is wrong. */
const char *hook_scheme_secret_fault(const struct hook_scheme *scheme, struct str secret);
/* Appends the signature's header value that the check takes: samples and tests. False: the scheme's key signs nothing
 * (a public one). */
bool hook_scheme_sign(const struct hook_scheme *scheme, const struct hook_message *message, struct str secret,
                      struct arena *arena, struct buf *out);
