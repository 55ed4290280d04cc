/* Digests, message authentication and encodings as others use them: what signatures of webhooks are made of. Our own
 * ids and keys need less: id.h. Pure; any thread. */
#pragma once
#include "common/base/str.h"

enum digest { DIGEST_SHA1, DIGEST_SHA256, DIGEST_SHA384, DIGEST_SHA512 };
#define DIGEST_BYTES_MAX 64

/* *ret_len bytes of the HMAC (RFC 2104) of `data`. */
void digest_hmac(enum digest digest, struct str key, struct str data, uint8_t ret[DIGEST_BYTES_MAX], size_t *ret_len);
/* Is it the Ed25519 signature (RFC 8032) of `data` by the holder of this public key? */
bool digest_ed25519_verify(const uint8_t key[32], struct str signature, struct str data);
/* The texts, equal or not, of equal length or not: the time depends on the lengths only, which are no secret. */
bool digest_equal(struct str a, struct str b);

enum encoding { ENCODING_HEX, ENCODING_BASE64, ENCODING_BASE64URL };
/* Hex in lower case, base64 with padding, base64url without (RFC 4648). */
void encoding_write(enum encoding encoding, struct str data, struct buf *out);
/* Strict: no other characters, padding as it is written, no bits behind the end. */
bool base64_read(struct str text, struct arena *arena, struct str *ret);
