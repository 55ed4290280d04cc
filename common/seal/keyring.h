/* The master keys: a file that only the services can read (ROPEWALK_MASTER_KEY_FILE), never in the database. A line is
 *     ID:KEY     or     KEY
 * with a key of 32 bytes in base64 or hex; an id is [A-Za-z0-9._-]{1,32}, and without one made of the key itself (12
 * hex digits that tell nothing about it). Empty lines and lines that begin with # are skipped. The first key wraps what
 * is new; the others still open what they have wrapped. One thread. */
#pragma once
#include "common/base/clock.h"
#include "common/seal/gcm.h"

#define MASTER_ID_SIZE 33
#define MASTER_KEYS_MAX 16

struct keyring;

/* `path` "" or NULL: a keyring without keys, to which everything is refused (ERR_NOT_AVAILABLE). Otherwise the file
 * must be there and good: ERR_INVALID says what is wrong, with the line, never with a part of a key. */
enum err_code keyring_new(const char *path, struct keyring **ret, struct err *err) MUST_CHECK;
void keyring_free(struct keyring *keyring); /* wipes; accepts NULL */
bool keyring_configured(const struct keyring *keyring);
/* Reads the file again when it has changed, looking at most once a second. On ERR_INVALID the keys from before stay. */
enum err_code keyring_refresh(struct keyring *keyring, struct mono_us now, struct err *err) MUST_CHECK;
const char *keyring_primary(const struct keyring *keyring); /* id of the key that wraps; NULL when there is none */
/* NULL: no such key. Valid until the next refresh. */
const uint8_t *keyring_find(const struct keyring *keyring, struct str id);

/* The text of a file; what keyring_new does behind the reading of it. For the fuzzer and for tests. */
enum err_code keyring_parse(struct str text, struct keyring **ret, struct err *err) MUST_CHECK;
