/* Secrets that endpoints sign with: made here, shown once, sealed like those that people write. */
#include "common/base/digest.h"
#include "gateway/outgoing/endpoint.h"
#include "gateway/secret_keys.h"
#include <openssl/crypto.h>

#include "common/base/banned.h"

#define KEY_BYTES 24 /* Standard Webhooks: 24 to 64 */
#define NUMBERS 1000000000U

struct making {
    struct call *call;
    struct endpoint_secret secret;
    endpoint_secret_fn next;
    void *ctx;
};

void endpoint_secret_name(struct run_id endpoint, int32_t number, char ret[ENDPOINT_SECRET_NAME_SIZE])
{
    char id[UUID_TEXT_SIZE];

    run_id_format(endpoint, id);
    snprintf(ret, ENDPOINT_SECRET_NAME_SIZE, "#%s.%d", id, (int)number);
}

static void wipe(void *secret)
{
    OPENSSL_cleanse(secret, sizeof(struct endpoint_secret));
}

static void make_text(char ret[ENDPOINT_SECRET_SIZE])
{
    CLEANUP(buf_deinit) struct buf text = {0};
    uint8_t key[KEY_BYTES];

    buf_init(&text, ENDPOINT_SECRET_SIZE - 1);
    buf_append_str(&text, STR("whsec_"));
    random_bytes(key, sizeof(key));
    encoding_write(ENCODING_BASE64, (struct str){(const char *)key, sizeof(key)}, &text);
    memcpy(ret, text.ptr, text.len + 1);
    OPENSSL_cleanse(key, sizeof(key));
    OPENSSL_cleanse(text.ptr, text.len);
}

static void on_key(void *ctx, const struct data_key *key)
{
    struct making *m = ctx;
    struct buf *box = arena_alloc(m->call->arena, sizeof(*box));
    struct err err = {0};

    buf_init(box, ENDPOINT_SECRET_SIZE + SEAL_OVERHEAD);
    if (secret_seal(secrets_keyring(m->call->gw->secrets), key, str_of(m->secret.name), str_of(m->secret.text), box,
                    &err) != ERR_OK) {
        buf_deinit(box);
        secret_problem(m->call, &err);
        return;
    }
    m->secret.key_version = key->version;
    m->secret.box = str_arena(m->call->arena, buf_str(box));
    buf_deinit(box);
    m->next(m->ctx, &m->secret);
}

void endpoint_secret_make(struct call *call, struct run_id endpoint, endpoint_secret_fn next, void *ctx)
{
    struct making *m = arena_alloc(call->arena, sizeof(*m));

    m->call = call;
    m->next = next;
    m->ctx = ctx;
    m->secret.number = (int32_t)(random_u64() % NUMBERS);
    endpoint_secret_name(endpoint, m->secret.number, m->secret.name);
    make_text(m->secret.text);
    arena_defer(call->arena, wipe, &m->secret);
    secret_key_active(call, on_key, m);
}
