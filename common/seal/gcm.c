/* AES-256-GCM; see gcm.h. The only file that meets EVP's ciphers. */
#include "common/seal/gcm.h"
#include "common/base/ensure.h"
#include "common/base/id.h"
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "common/base/banned.h"

static const unsigned char *bytes_of(struct str s)
{
    return (const unsigned char *)(s.ptr == NULL ? "" : s.ptr);
}

void gcm_encrypt(const uint8_t key[SEAL_KEY_SIZE], const uint8_t nonce[SEAL_NONCE_SIZE], struct str aad,
                 struct str plain, struct buf *out, uint8_t ret_tag[SEAL_TAG_SIZE])
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    size_t room = plain.len + SEAL_TAG_SIZE;
    unsigned char *cipher = mem_alloc(room);
    int len = 0, rest = 0, ignored = 0;

    /* None of these can fail but for a fault of ours, or of memory. */
    ENSURE(ctx != NULL && plain.len <= INT32_MAX / 2 && aad.len <= INT32_MAX / 2);
    ENSURE(EVP_EncryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, nonce) == 1);
    ENSURE(EVP_EncryptUpdate(ctx, NULL, &ignored, bytes_of(aad), (int)aad.len) == 1);
    ENSURE(EVP_EncryptUpdate(ctx, cipher, &len, bytes_of(plain), (int)plain.len) == 1);
    ENSURE(EVP_EncryptFinal_ex(ctx, cipher + len, &rest) == 1 && (size_t)len + (size_t)rest == plain.len);
    ENSURE(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, SEAL_TAG_SIZE, ret_tag) == 1);
    EVP_CIPHER_CTX_free(ctx);
    buf_append(out, cipher, plain.len);
    mem_free(cipher);
}

void gcm_seal(const uint8_t key[SEAL_KEY_SIZE], struct str aad, struct str plain, struct buf *out)
{
    uint8_t nonce[SEAL_NONCE_SIZE], tag[SEAL_TAG_SIZE];

    random_bytes(nonce, sizeof(nonce));
    buf_append(out, nonce, sizeof(nonce));
    gcm_encrypt(key, nonce, aad, plain, out, tag);
    buf_append(out, tag, sizeof(tag));
}

bool gcm_open(const uint8_t key[SEAL_KEY_SIZE], struct str aad, struct str box, struct buf *out)
{
    uint8_t tag[SEAL_TAG_SIZE];
    EVP_CIPHER_CTX *ctx;
    unsigned char *plain;
    size_t cipher_len;
    int len = 0, rest = 0, ignored = 0;
    bool good;

    if (box.len < SEAL_OVERHEAD || box.len > INT32_MAX / 2)
        return false;
    cipher_len = box.len - SEAL_OVERHEAD;
    memcpy(tag, box.ptr + SEAL_NONCE_SIZE + cipher_len, sizeof(tag));
    plain = mem_alloc(cipher_len + SEAL_TAG_SIZE);
    ctx = EVP_CIPHER_CTX_new();
    ENSURE(ctx != NULL);
    good =
        EVP_DecryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, (const unsigned char *)box.ptr) == 1 &&
        EVP_DecryptUpdate(ctx, NULL, &ignored, bytes_of(aad), (int)aad.len) == 1 &&
        EVP_DecryptUpdate(ctx, plain, &len, (const unsigned char *)box.ptr + SEAL_NONCE_SIZE, (int)cipher_len) == 1 &&
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, SEAL_TAG_SIZE, tag) == 1 &&
        EVP_DecryptFinal_ex(ctx, plain + len, &rest) == 1;
    EVP_CIPHER_CTX_free(ctx);
    if (good)
        buf_append(out, plain, (size_t)len + (size_t)rest);
    OPENSSL_cleanse(plain, cipher_len + SEAL_TAG_SIZE);
    mem_free(plain);
    return good;
}

void seal_wipe(struct buf *buf)
{
    if (buf->ptr != NULL)
        OPENSSL_cleanse(buf->ptr, buf->cap);
    buf_deinit(buf);
}
