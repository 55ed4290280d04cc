/* AES-256-GCM (NIST SP 800-38D) by libcrypto: text that cannot be read, and not be changed unnoticed, without the key.
 * A box is nonce (96 bits, random) + ciphertext + tag (128 bits). Pure but for the nonce. Any thread. */
#pragma once
#include "common/base/str.h"
#include <stdint.h>

#define SEAL_KEY_SIZE 32
#define SEAL_NONCE_SIZE 12
#define SEAL_TAG_SIZE 16
#define SEAL_OVERHEAD (SEAL_NONCE_SIZE + SEAL_TAG_SIZE)

/* Appends a box of `plain` to `out`; `aad` is what it belongs to: it opens with the same only. One key is good for 2^32
 * boxes (SP 800-38D, 8.3). */
void gcm_seal(const uint8_t key[SEAL_KEY_SIZE], struct str aad, struct str plain, struct buf *out);
/* Appends what is in the box to `out`. False, with nothing appended: another key, another `aad`, or changed. Whoever
 * keeps the text wipes it (seal_wipe). */
bool gcm_open(const uint8_t key[SEAL_KEY_SIZE], struct str aad, struct str box, struct buf *out);
/* The same with a given nonce, for published test vectors: gcm_seal is the way to make boxes. `ret_tag` gets the tag,
 * `out` the ciphertext alone. */
void gcm_encrypt(const uint8_t key[SEAL_KEY_SIZE], const uint8_t nonce[SEAL_NONCE_SIZE], struct str aad,
                 struct str plain, struct buf *out, uint8_t ret_tag[SEAL_TAG_SIZE]);

/* Empties the buffer and its memory; also for CLEANUP: nothing of a secret stays behind. */
void seal_wipe(struct buf *buf);
