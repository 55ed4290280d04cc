/* Values under data keys under master keys; see sealed.h. */
#include "common/seal/sealed.h"
#include "common/base/id.h"
#include "common/seal/base64.h"
#include <openssl/crypto.h>

#include "common/base/banned.h"

#define FORM "rws1"
#define AAD_MAX 512
#define WRAPPED_SIZE (SEAL_KEY_SIZE + SEAL_OVERHEAD)
#define TEXT_MAX ((SECRET_VALUE_MAX + SEAL_OVERHEAD) * 4 / 3 + 512)

bool secret_name_is_valid(struct str name)
{
    if (name.len == 0 || name.len > SECRET_NAME_MAX || (name.ptr[0] >= '0' && name.ptr[0] <= '9'))
        return false;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'))
            return false;
    }
    return true;
}

bool secret_is_endpoints(struct str name)
{
    return name.len > 1 && name.len <= SECRET_NAME_MAX && name.ptr[0] == '#';
}

/* What a box belongs to. Neither part can hold a line end. */
static void write_aad(struct buf *aad, const char *what, struct str organisation, struct str name, int32_t version)
{
    buf_init(aad, AAD_MAX);
    buf_printf(aad, "ropewalk %s 1\n" STR_FMT "\n" STR_FMT "\n%d", what, STR_ARG(organisation), STR_ARG(name),
               (int)version);
}

static enum err_code find_master(const struct keyring *keyring, struct str id, const uint8_t **ret, struct err *err)
{
    if (!keyring_configured(keyring))
        return err_set(err, ERR_NOT_AVAILABLE, "no master key is configured (ROPEWALK_MASTER_KEY_FILE)");
    *ret = keyring_find(keyring, id);
    if (*ret == NULL)
        return err_set(err, ERR_NOT_AVAILABLE,
                       "the file of ROPEWALK_MASTER_KEY_FILE has no key '" STR_FMT "', which wraps the data key",
                       STR_ARG(id));
    return ERR_OK;
}

/* `plain` holds the data key; its owner wipes it. */
static enum err_code unwrap(const struct keyring *keyring, const struct data_key *key, struct buf *plain,
                            struct err *err)
{
    CLEANUP(buf_deinit) struct buf aad = {0};
    const uint8_t *master = NULL;
    enum err_code rc = find_master(keyring, key->master, &master, err);

    if (rc != ERR_OK)
        return rc;
    write_aad(&aad, "data key", key->organisation, STR(""), key->version);
    buf_init(plain, SEAL_KEY_SIZE);
    if (key->wrapped.len != WRAPPED_SIZE || !gcm_open(master, buf_str(&aad), key->wrapped, plain))
        return err_set(err, ERR_INVALID,
                       "data key %d of organisation '" STR_FMT "' does not open with master key '" STR_FMT "'",
                       (int)key->version, STR_ARG(key->organisation), STR_ARG(key->master));
    return ERR_OK;
}

static void wrap(const struct keyring *keyring, struct str organisation, int32_t version, const uint8_t *plain,
                 struct buf *out, struct data_key *ret)
{
    CLEANUP(buf_deinit) struct buf aad = {0};
    const char *id = keyring_primary(keyring);

    write_aad(&aad, "data key", organisation, STR(""), version);
    gcm_seal(keyring_find(keyring, str_of(id)), buf_str(&aad), (struct str){(const char *)plain, SEAL_KEY_SIZE}, out);
    *ret = (struct data_key){organisation, version, str_of(id), buf_str(out)};
}

enum err_code data_key_make(const struct keyring *keyring, struct str organisation, int32_t version, struct buf *out,
                            struct data_key *ret, struct err *err)
{
    uint8_t plain[SEAL_KEY_SIZE];

    if (!keyring_configured(keyring))
        return err_set(err, ERR_NOT_AVAILABLE, "no master key is configured (ROPEWALK_MASTER_KEY_FILE)");
    random_bytes(plain, sizeof(plain));
    wrap(keyring, organisation, version, plain, out, ret);
    OPENSSL_cleanse(plain, sizeof(plain));
    return ERR_OK;
}

enum err_code data_key_rewrap(const struct keyring *keyring, const struct data_key *key, struct buf *out,
                              struct data_key *ret, struct err *err)
{
    CLEANUP(seal_wipe) struct buf plain = {0};
    enum err_code rc = unwrap(keyring, key, &plain, err);

    if (rc == ERR_OK)
        wrap(keyring, key->organisation, key->version, (const uint8_t *)plain.ptr, out, ret);
    return rc;
}

enum err_code secret_seal(const struct keyring *keyring, const struct data_key *key, struct str name, struct str value,
                          struct buf *out, struct err *err)
{
    CLEANUP(seal_wipe) struct buf plain = {0};
    CLEANUP(buf_deinit) struct buf aad = {0};
    enum err_code rc = unwrap(keyring, key, &plain, err);

    if (rc != ERR_OK)
        return rc;
    write_aad(&aad, "secret", key->organisation, name, key->version);
    gcm_seal((const uint8_t *)plain.ptr, buf_str(&aad), value, out);
    return ERR_OK;
}

enum err_code secret_unseal(const struct keyring *keyring, const struct sealed *sealed, struct buf *out,
                            struct err *err)
{
    CLEANUP(seal_wipe) struct buf plain = {0};
    CLEANUP(buf_deinit) struct buf aad = {0};
    enum err_code rc = unwrap(keyring, &sealed->key, &plain, err);

    if (rc != ERR_OK)
        return rc;
    write_aad(&aad, "secret", sealed->key.organisation, sealed->name, sealed->key.version);
    if (!gcm_open((const uint8_t *)plain.ptr, buf_str(&aad), sealed->box, out))
        return err_set(err, ERR_INVALID, "secret '" STR_FMT "' does not open with data key %d of its organisation",
                       STR_ARG(sealed->name), (int)sealed->key.version);
    return ERR_OK;
}

void sealed_write(const struct sealed *sealed, struct buf *out)
{
    buf_printf(out, FORM ":" STR_FMT ":%d:", STR_ARG(sealed->key.master), (int)sealed->key.version);
    base64_encode(sealed->key.wrapped, out);
    buf_append_char(out, ':');
    base64_encode(sealed->box, out);
}

static bool read_bytes(struct str text, struct arena *arena, struct str *ret)
{
    CLEANUP(buf_deinit) struct buf bytes = {0};

    buf_init(&bytes, TEXT_MAX);
    if (!base64_decode(text, &bytes))
        return false;
    *ret = str_arena(arena, buf_str(&bytes));
    return true;
}

bool sealed_read(struct str text, struct arena *arena, struct sealed *ret)
{
    struct str form, master, version, wrapped;
    uint32_t number;

    if (text.len > TEXT_MAX)
        return false;
    form = str_cut(&text, ':');
    master = str_cut(&text, ':');
    version = str_cut(&text, ':');
    wrapped = str_cut(&text, ':');
    if (!str_is(form, FORM) || master.len == 0 || master.len >= MASTER_ID_SIZE ||
        !parse_u32(version, 1, INT32_MAX, &number))
        return false;
    *ret = (struct sealed){.key = {.version = (int32_t)number, .master = str_arena(arena, master)}};
    return read_bytes(wrapped, arena, &ret->key.wrapped) && ret->key.wrapped.len == WRAPPED_SIZE &&
           read_bytes(text, arena, &ret->box) && ret->box.len >= SEAL_OVERHEAD;
}
