/* Ids: UUIDv7 (RFC 9562) for runs, whose low 12 bits are the slot; random ids for everything else; hex. */
#pragma once
#include "common/base/clock.h"

#define UUID_TEXT_SIZE 37
#define SLOT_COUNT 4096

struct run_id {
    uint8_t bytes[16];
};

/* A new run id: 48 bits of milliseconds, random bits, slot in the low 12 bits. */
struct run_id run_id_make(struct wall_us now, unsigned slot);
unsigned run_id_slot(struct run_id id);
struct wall_us run_id_time(struct run_id id);
bool run_id_parse(struct str s, struct run_id *ret); /* lower or upper case, with hyphens */
void run_id_format(struct run_id id, char ret[UUID_TEXT_SIZE]);
bool run_id_eq(struct run_id a, struct run_id b);
int run_id_cmp(struct run_id a, struct run_id b);
unsigned slot_of_key(struct str key); /* stable hash of a key to a slot */

void random_bytes(void *ptr, size_t len); /* from the system; aborts when there are none */
uint64_t random_u64(void);
void random_token(char *ret, size_t chars);              /* base62, NUL behind: ret holds chars + 1 */
void hex_encode(const void *ptr, size_t len, char *ret); /* ret holds 2 * len + 1 */
void sha256(struct str data, uint8_t ret[32]);
void hmac_sha256(struct str key, struct str data, uint8_t ret[32]);
bool equal_constant_time(const void *a, const void *b, size_t len);
