/* HMAC, Ed25519 and encodings. */
#include "common/base/digest.h"
#include "common/base/ensure.h"
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "common/base/banned.h"

static const EVP_MD *md_of(enum digest digest)
{
    switch (digest) {
    case DIGEST_SHA1:
        return EVP_sha1();
    case DIGEST_SHA256:
        return EVP_sha256();
    case DIGEST_SHA384:
        return EVP_sha384();
    case DIGEST_SHA512:
        return EVP_sha512();
    }
    return NULL;
}

void digest_hmac(enum digest digest, struct str key, struct str data, uint8_t ret[DIGEST_BYTES_MAX], size_t *ret_len)
{
    unsigned len = 0;

    ENSURE(key.len <= INT32_MAX);
    ENSURE(HMAC(md_of(digest), key.len == 0 ? "" : key.ptr, (int)key.len,
                (const unsigned char *)(data.len == 0 ? "" : data.ptr), data.len, ret, &len) != NULL);
    ENSURE(len > 0 && len <= DIGEST_BYTES_MAX);
    *ret_len = len;
}

static void pkey_cleanup(EVP_PKEY **key)
{
    EVP_PKEY_free(*key);
}

static void md_ctx_cleanup(EVP_MD_CTX **ctx)
{
    EVP_MD_CTX_free(*ctx);
}

bool digest_ed25519_verify(const uint8_t key[32], struct str signature, struct str data)
{
    CLEANUP(pkey_cleanup) EVP_PKEY *pkey = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, key, 32);
    CLEANUP(md_ctx_cleanup) EVP_MD_CTX *ctx = EVP_MD_CTX_new();

    ENSURE(ctx != NULL);
    if (pkey == NULL || signature.len != 64)
        return false;
    return EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, pkey) == 1 &&
           EVP_DigestVerify(ctx, (const unsigned char *)signature.ptr, signature.len,
                            (const unsigned char *)(data.len == 0 ? "" : data.ptr), data.len) == 1;
}

bool digest_equal(struct str a, struct str b)
{
    return a.len == b.len && (a.len == 0 || CRYPTO_memcmp(a.ptr, b.ptr, a.len) == 0);
}

static const char base64_plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char base64_url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void write_hex(struct str data, struct buf *out)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < data.len; i++) {
        buf_append_char(out, digits[(unsigned char)data.ptr[i] >> 4]);
        buf_append_char(out, digits[(unsigned char)data.ptr[i] & 15]);
    }
}

static void write_base64(struct str data, const char *alphabet, bool padded, struct buf *out)
{
    for (size_t i = 0; i < data.len; i += 3) {
        uint32_t group = 0;
        size_t bytes = data.len - i < 3 ? data.len - i : 3;

        for (size_t k = 0; k < 3; k++)
            group = group << 8 | (k < bytes ? (unsigned char)data.ptr[i + k] : 0);
        for (size_t k = 0; k < 4; k++) {
            if (k <= bytes)
                buf_append_char(out, alphabet[group >> (18 - 6 * k) & 63]);
            else if (padded)
                buf_append_char(out, '=');
        }
    }
}

void encoding_write(enum encoding encoding, struct str data, struct buf *out)
{
    switch (encoding) {
    case ENCODING_HEX:
        write_hex(data, out);
        break;
    case ENCODING_BASE64:
        write_base64(data, base64_plain, true, out);
        break;
    case ENCODING_BASE64URL:
        write_base64(data, base64_url, false, out);
        break;
    }
}

bool base64_read(struct str text, struct arena *arena, struct str *ret)
{
    size_t pad = 0, len = 0;
    char *out;

    if (text.len % 4 != 0)
        return false;
    while (pad < 2 && pad < text.len && text.ptr[text.len - 1 - pad] == '=')
        pad++;
    out = arena_alloc(arena, text.len / 4 * 3 + 1);
    for (size_t i = 0; i < text.len; i += 4) {
        uint32_t group = 0;
        size_t chars = i + 4 == text.len ? 4 - pad : 4;

        for (size_t k = 0; k < 4; k++) {
            const char *at = k < chars ? strchr(base64_plain, text.ptr[i + k]) : base64_plain;

            if (at == NULL || *at == '\0')
                return false;
            group = group << 6 | (uint32_t)(at - base64_plain);
        }
        if ((chars == 2 && (group & 0xffff) != 0) || (chars == 3 && (group & 0xff) != 0))
            return false;
        for (size_t k = 0; k + 1 < chars; k++)
            out[len++] = (char)(group >> (16 - 8 * k) & 255);
    }
    *ret = (struct str){out, len};
    return true;
}
