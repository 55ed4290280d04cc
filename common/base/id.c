/* Ids, random bytes, digests. The one place that meets libcrypto for them. */
#include "common/base/id.h"
#include "common/base/ensure.h"
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <sys/random.h>

#include "common/base/banned.h"

void random_bytes(void *ptr, size_t len)
{
    char *p = ptr;

    while (len > 0) {
        ssize_t n = getrandom(p, len, 0);

        if (n < 0 && errno == EINTR)
            continue;
        ENSURE(n > 0);
        p += n;
        len -= (size_t)n;
    }
}

uint64_t random_u64(void)
{
    uint64_t n;

    random_bytes(&n, sizeof(n));
    return n;
}

void random_token(char *ret, size_t chars)
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    uint8_t pool[64];
    size_t left = 0;

    for (size_t i = 0; i < chars;) {
        if (left == 0) {
            random_bytes(pool, sizeof(pool));
            left = sizeof(pool);
        }
        /* 248 is the largest multiple of 62: bytes beyond it would favour the first digits. */
        if (pool[--left] < 248)
            ret[i++] = digits[pool[left] % 62];
    }
    ret[chars] = '\0';
    OPENSSL_cleanse(pool, sizeof(pool));
}

struct run_id run_id_make(struct wall_us now, unsigned slot)
{
    struct run_id id;
    uint64_t ms = now.us < 0 ? 0 : (uint64_t)now.us / 1000;

    ENSURE(slot < SLOT_COUNT);
    random_bytes(id.bytes, sizeof(id.bytes));
    for (int i = 0; i < 6; i++)
        id.bytes[i] = (uint8_t)(ms >> (40 - 8 * i));
    id.bytes[6] = (uint8_t)(0x70 | (id.bytes[6] & 0x0f)); /* version 7 */
    id.bytes[8] = (uint8_t)(0x80 | (id.bytes[8] & 0x3f)); /* the variant of RFC 9562 */
    id.bytes[14] = (uint8_t)((id.bytes[14] & 0xf0) | slot >> 8);
    id.bytes[15] = (uint8_t)slot;
    return id;
}

unsigned run_id_slot(struct run_id id)
{
    return (id.bytes[14] & 0x0fU) << 8 | id.bytes[15];
}

struct wall_us run_id_time(struct run_id id)
{
    int64_t ms = 0;

    for (int i = 0; i < 6; i++)
        ms = ms * 256 + id.bytes[i];
    return (struct wall_us){ms * US_PER_MS};
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static bool is_hyphen_place(size_t i)
{
    return i == 8 || i == 13 || i == 18 || i == 23;
}

bool run_id_parse(struct str s, struct run_id *ret)
{
    struct run_id id = {{0}};
    size_t digits = 0;

    if (s.len != UUID_TEXT_SIZE - 1)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        int digit = hex_digit(s.ptr[i]);

        if (is_hyphen_place(i)) {
            if (s.ptr[i] != '-')
                return false;
            continue;
        }
        if (digit < 0)
            return false;
        id.bytes[digits / 2] = (uint8_t)(id.bytes[digits / 2] << 4 | digit);
        digits++;
    }
    *ret = id;
    return true;
}

void run_id_format(struct run_id id, char ret[UUID_TEXT_SIZE])
{
    char digits[2 * sizeof(id.bytes) + 1];
    const char *p = digits;

    hex_encode(id.bytes, sizeof(id.bytes), digits);
    for (size_t i = 0; i < UUID_TEXT_SIZE - 1; i++)
        ret[i] = is_hyphen_place(i) ? '-' : *p++;
    ret[UUID_TEXT_SIZE - 1] = '\0';
}

int run_id_cmp(struct run_id a, struct run_id b)
{
    int order = memcmp(a.bytes, b.bytes, sizeof(a.bytes));

    return (order > 0) - (order < 0);
}

bool run_id_eq(struct run_id a, struct run_id b)
{
    return run_id_cmp(a, b) == 0;
}

/* FNV-1a with the finalizer of MurmurHash3. Stored rows depend on it: it never changes. */
unsigned slot_of_key(struct str key)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < key.len; i++)
        hash = (hash ^ (unsigned char)key.ptr[i]) * UINT64_C(0x100000001b3);
    hash = (hash ^ hash >> 33) * UINT64_C(0xff51afd7ed558ccd);
    hash = (hash ^ hash >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
    return (unsigned)((hash ^ hash >> 33) % SLOT_COUNT);
}

void hex_encode(const void *ptr, size_t len, char *ret)
{
    const uint8_t *p = ptr;

    for (size_t i = 0; i < len; i++) {
        ret[2 * i] = "0123456789abcdef"[p[i] >> 4];
        ret[2 * i + 1] = "0123456789abcdef"[p[i] & 15];
    }
    ret[2 * len] = '\0';
}

/* The library's own SHA256() looks the algorithm up by its name each time, which takes longer than to digest a task id.
 */
static EVP_MD *sha256_md;

static void fetch_sha256(void)
{
    sha256_md = EVP_MD_fetch(NULL, "SHA256", NULL);
    ENSURE(sha256_md != NULL);
}

void sha256(struct str data, uint8_t ret[32])
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    ENSURE(pthread_once(&once, fetch_sha256) == 0);
    ENSURE(EVP_Digest(data.len == 0 ? "" : data.ptr, data.len, ret, NULL, sha256_md, NULL) == 1);
}

#define SHA256_BLOCK 64

/* RFC 2104, with the library's digest: its own HMAC looks algorithms up by their names each time, which takes many
 * times what they do, and a task's token is made for each publication. */
void hmac_sha256(struct str key, struct str data, uint8_t ret[32])
{
    uint8_t pad[SHA256_BLOCK] = {0}, outer[SHA256_BLOCK + 32], small[1024];
    size_t len = SHA256_BLOCK + data.len;
    uint8_t *inner = len <= sizeof(small) ? small : mem_array(len, 1);

    if (key.len > SHA256_BLOCK)
        sha256(key, pad);
    else if (key.len > 0)
        memcpy(pad, key.ptr, key.len);
    for (size_t i = 0; i < SHA256_BLOCK; i++) {
        inner[i] = pad[i] ^ 0x36;
        outer[i] = pad[i] ^ 0x5c;
    }
    if (data.len > 0)
        memcpy(inner + SHA256_BLOCK, data.ptr, data.len);
    sha256((struct str){(const char *)inner, len}, outer + SHA256_BLOCK);
    sha256((struct str){(const char *)outer, sizeof(outer)}, ret);
    OPENSSL_cleanse(pad, sizeof(pad));
    OPENSSL_cleanse(outer, sizeof(outer));
    OPENSSL_cleanse(inner, SHA256_BLOCK);
    if (inner != small)
        mem_free(inner);
}

bool equal_constant_time(const void *a, const void *b, size_t len)
{
    return len == 0 || CRYPTO_memcmp(a, b, len) == 0;
}
