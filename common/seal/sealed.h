/* A secret under two keys: its value under the data key of its organisation, that under a master key (keyring.h). What
 * is stored and sent is `struct sealed`; with it and the keyring alone the value can be had, so a worker needs no
 * database, and neither database nor broker can read it. The boxes are bound to what they are of:
 *     data key: organisation, version of the key        value: organisation, name, version of the data key
 * so that none opens in another's place. One thread: that of the keyring. */
#pragma once
#include "common/seal/keyring.h"

#define SECRET_VALUE_MIN 4 /* less could not be masked without masking everything */
#define SECRET_VALUE_MAX ((size_t)64 << 10)
#define SECRET_NAME_MAX 63
#define SECRET_MASK "********"

struct data_key {
    struct str organisation; /* its name */
    int32_t version;
    struct str master;  /* id of the master key that wraps it */
    struct str wrapped; /* box of 32 bytes */
};
struct sealed {
    struct data_key key;
    struct str name;
    struct str box; /* of the value */
};

bool secret_is_endpoints(struct str name);  /* "#...": of an outgoing webhook, nobody writes it or refers to it */
bool secret_name_is_valid(struct str name); /* ^[A-Za-z_][A-Za-z0-9_]{0,62}$, as it can stand in ${ .secrets.NAME } */

/* A new data key, wrapped with the first master key; what it gives lies in `out` and the keyring. ERR_NOT_AVAILABLE: no
 * master key is configured. */
enum err_code data_key_make(const struct keyring *keyring, struct str organisation, int32_t version, struct buf *out,
                            struct data_key *ret, struct err *err) MUST_CHECK;
/* The same data key wrapped with the first master key of now. */
enum err_code data_key_rewrap(const struct keyring *keyring, const struct data_key *key, struct buf *out,
                              struct data_key *ret, struct err *err) MUST_CHECK;

/* Appends the box of a value. ERR_NOT_AVAILABLE: no master key, or not that one; ERR_INVALID: the data key does not
 * open, so it is not what was stored. */
enum err_code secret_seal(const struct keyring *keyring, const struct data_key *key, struct str name, struct str value,
                          struct buf *out, struct err *err) MUST_CHECK;
/* Appends the value. Errors as above. Whoever keeps it wipes it. */
enum err_code secret_unseal(const struct keyring *keyring, const struct sealed *sealed, struct buf *out,
                            struct err *err) MUST_CHECK;

/* As text, for a message: "rws1:MASTER:VERSION:BASE64(wrapped):BASE64(box)". Organisation and name are not in it: who
 * reads it knows them from elsewhere, and the boxes hold them to it. */
void sealed_write(const struct sealed *sealed, struct buf *out);
/* Fills all but organisation and name; the bytes are in the arena. False: it is not of this form. */
bool sealed_read(struct str text, struct arena *arena, struct sealed *ret);
