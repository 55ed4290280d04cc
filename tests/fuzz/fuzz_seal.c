/* Sealed values, files of master keys and masking: whatever bytes come, nothing opens that was not sealed, and masked
 * JSON is JSON without the value. */
#include "common/base/ensure.h"
#include "common/base/json_text.h"
#include "common/seal/mask.h"
#include "common/seal/sealed.h"

#include "common/base/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void masking(struct str text)
{
    struct masker *masker = masker_new();
    struct buf out;
    struct err err;

    masker_add(masker, STR("Basic cGxhbnRlZDoxMjM0"));
    masker_add(masker, STR("12.5"));
    buf_init(&out, 64 * text.len + 1024);
    masker_text(masker, text, &out);
    ENSURE(!out.overflow && memmem(out.ptr == NULL ? "" : out.ptr, out.len, "planted:1234", 12) == NULL);
    buf_reset(&out);
    if (jt_check(text, &JT_LIMITS_MESSAGE, &err) == ERR_OK) {
        masker_json(masker, text, &out);
        ENSURE(!out.overflow && jt_check(buf_str(&out), &JT_LIMITS_MESSAGE, &err) == ERR_OK);
        ENSURE(jt_type(text) != JT_OBJECT || jt_count(text) == jt_count(buf_str(&out)));
    }
    buf_deinit(&out);
    masker_free(masker);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = {(const char *)data, size};
    struct arena *arena = arena_new(1024);
    struct keyring *keyring = NULL;
    struct sealed sealed;
    struct err err = {0};
    struct buf value, again;

    buf_init(&value, SECRET_VALUE_MAX + 1024);
    buf_init(&again, 2 * SECRET_VALUE_MAX + 1024);
    if (keyring_parse(text, &keyring, &err) == ERR_OK)
        ENSURE(keyring_find(keyring, str_of(keyring_primary(keyring))) != NULL);
    keyring_free(keyring);
    ENSURE(keyring_parse(STR("one:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"), &keyring, &err) ==
           ERR_OK);
    if (sealed_read(text, arena, &sealed)) {
        sealed_write(&sealed, &again);
        ENSURE(str_eq(buf_str(&again), text)); /* one text for one value */
        sealed.key.organisation = STR("default");
        sealed.name = STR("PAY");
        ENSURE(secret_unseal(keyring, &sealed, &value, &err) != ERR_OK && value.len == 0);
    }
    masking(text);
    keyring_free(keyring);
    buf_deinit(&value);
    buf_deinit(&again);
    arena_free(arena);
    return 0;
}
