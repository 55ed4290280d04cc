/* The master keys; see keyring.h. */
#include "common/seal/keyring.h"
#include "common/base/id.h"
#include "common/seal/base64.h"
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/banned.h"

#define FILE_MAX ((size_t)16 << 10)
#define LOOK_US US_PER_S
#define MADE_ID_BYTES 6

struct master_key {
    char id[MASTER_ID_SIZE];
    uint8_t bytes[SEAL_KEY_SIZE];
};

struct keyring {
    char *path; /* NULL: none is configured */
    struct stat seen;
    struct mono_us looked_at;
    size_t count;
    struct master_key keys[MASTER_KEYS_MAX];
};

static bool is_id(struct str id)
{
    if (id.len == 0 || id.len >= MASTER_ID_SIZE)
        return false;
    for (size_t i = 0; i < id.len; i++) {
        char c = id.ptr[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
              c == '-'))
            return false;
    }
    return true;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool read_hex(struct str text, uint8_t ret[SEAL_KEY_SIZE])
{
    if (text.len != 2 * SEAL_KEY_SIZE)
        return false;
    for (size_t i = 0; i < SEAL_KEY_SIZE; i++) {
        int high = hex_value(text.ptr[2 * i]), low = hex_value(text.ptr[2 * i + 1]);

        if (high < 0 || low < 0)
            return false;
        ret[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static bool read_key(struct str text, uint8_t ret[SEAL_KEY_SIZE])
{
    struct buf bytes = {0};
    bool good;

    if (read_hex(text, ret))
        return true;
    buf_init(&bytes, FILE_MAX);
    good = base64_decode(text, &bytes) && bytes.len == SEAL_KEY_SIZE;
    if (good)
        memcpy(ret, bytes.ptr, SEAL_KEY_SIZE);
    seal_wipe(&bytes);
    return good;
}

/* An id that is the key's own, whatever the order of lines: of a hash, of which nobody gets back to 256 random bits. */
static void make_id(struct master_key *key)
{
    uint8_t hash[32];

    hmac_sha256(STR("ropewalk master key id"), (struct str){(const char *)key->bytes, SEAL_KEY_SIZE}, hash);
    hex_encode(hash, MADE_ID_BYTES, key->id);
}

static enum err_code read_line(struct keyring *keyring, struct str line, unsigned number, struct err *err)
{
    struct master_key *key = &keyring->keys[keyring->count];
    struct str text = line, id = STR_NONE;

    if (keyring->count == MASTER_KEYS_MAX)
        return err_set(err, ERR_INVALID, "line %u: there are more than %d keys", number, MASTER_KEYS_MAX);
    if (memchr(line.ptr, ':', line.len) != NULL) {
        id = str_trim(str_cut(&text, ':'));
        text = str_trim(text);
        if (!is_id(id))
            return err_set(err, ERR_INVALID, "line %u: an id has 1 to 32 of the characters A-Z a-z 0-9 . _ -", number);
        snprintf(key->id, sizeof(key->id), STR_FMT, STR_ARG(id));
    }
    if (!read_key(text, key->bytes))
        return err_set(err, ERR_INVALID,
                       "line %u: a key is 32 bytes in base64 or hex, with an id and a colon before it or without",
                       number);
    if (id.ptr == NULL)
        make_id(key);
    if (keyring_find(keyring, str_of(key->id)) != NULL)
        return err_set(err, ERR_INVALID, "line %u: another key has the id '%s'", number, key->id);
    keyring->count++;
    return ERR_OK;
}

/* Into an empty keyring. */
static enum err_code read_keys(struct keyring *keyring, struct str text, struct err *err)
{
    unsigned number = 0;

    while (text.len > 0) {
        struct str line = str_trim(str_cut(&text, '\n'));
        enum err_code rc;

        number++;
        if (line.len == 0 || line.ptr[0] == '#')
            continue;
        rc = read_line(keyring, line, number, err);
        if (rc != ERR_OK)
            return rc;
    }
    return keyring->count > 0 ? ERR_OK : err_set(err, ERR_INVALID, "there is no key in it");
}

static enum err_code read_file(const char *path, struct buf *ret, struct stat *ret_stat, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    char part[1024];
    ssize_t n = 0;
    int saved;

    if (fd < 0)
        return err_set(err, ERR_INVALID, "it could not be read: %s", strerrordesc_np(errno));
    while (ret->len <= FILE_MAX) {
        n = read(fd, part, sizeof(part));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        buf_append(ret, part, (size_t)n);
    }
    saved = errno;
    if (fstat(fd, ret_stat) != 0)
        *ret_stat = (struct stat){0};
    close(fd);
    OPENSSL_cleanse(part, sizeof(part));
    if (n < 0)
        return err_set(err, ERR_INVALID, "it could not be read: %s", strerrordesc_np(saved));
    if (ret->len > FILE_MAX)
        return err_set(err, ERR_INVALID, "it has more than %zu bytes", FILE_MAX);
    return ERR_OK;
}

enum err_code keyring_parse(struct str text, struct keyring **ret, struct err *err)
{
    struct keyring *keyring = mem_alloc(sizeof(*keyring));
    enum err_code rc = read_keys(keyring, text, err);

    if (rc != ERR_OK) {
        keyring_free(keyring);
        return rc;
    }
    *ret = keyring;
    return ERR_OK;
}

static enum err_code load(const char *path, struct keyring **ret, struct err *err)
{
    struct buf text = {0};
    struct stat seen = {0};
    enum err_code rc;

    buf_init(&text, 2 * FILE_MAX);
    rc = read_file(path, &text, &seen, err);
    if (rc == ERR_OK)
        rc = keyring_parse(buf_str(&text), ret, err);
    seal_wipe(&text);
    if (rc != ERR_OK)
        return rc;
    (*ret)->path = mem_strdup(path);
    (*ret)->seen = seen;
    return ERR_OK;
}

enum err_code keyring_new(const char *path, struct keyring **ret, struct err *err)
{
    if (path != NULL && path[0] != '\0')
        return load(path, ret, err);
    *ret = mem_alloc(sizeof(**ret));
    return ERR_OK;
}

void keyring_free(struct keyring *keyring)
{
    if (keyring == NULL)
        return;
    mem_free(keyring->path);
    OPENSSL_cleanse(keyring->keys, sizeof(keyring->keys));
    mem_free(keyring);
}

bool keyring_configured(const struct keyring *keyring)
{
    return keyring->count > 0;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

enum err_code keyring_refresh(struct keyring *keyring, struct mono_us now, struct err *err)
{
    struct keyring *fresh = NULL;
    struct stat seen;
    enum err_code rc;

    if (keyring->path == NULL || (keyring->looked_at.us != 0 && now.us - keyring->looked_at.us < LOOK_US))
        return ERR_OK;
    keyring->looked_at = now;
    if (stat(keyring->path, &seen) == 0 && same_file(&seen, &keyring->seen))
        return ERR_OK;
    rc = load(keyring->path, &fresh, err);
    if (rc != ERR_OK)
        return rc;
    memcpy(keyring->keys, fresh->keys, sizeof(keyring->keys));
    keyring->count = fresh->count;
    keyring->seen = fresh->seen;
    keyring_free(fresh);
    return ERR_OK;
}

const char *keyring_primary(const struct keyring *keyring)
{
    return keyring->count == 0 ? NULL : keyring->keys[0].id;
}

const uint8_t *keyring_find(const struct keyring *keyring, struct str id)
{
    for (size_t i = 0; i < keyring->count; i++)
        if (str_is(id, keyring->keys[i].id))
            return keyring->keys[i].bytes;
    return NULL;
}
