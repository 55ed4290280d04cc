/* Files of master keys. */
#include "common/seal/keyring.h"
#include "tests/unit/seal/test.h"
#include <sys/stat.h>
#include <unistd.h>

#define HEX_A "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define BASE64_A "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#define HEX_B "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

static enum err_code parse(const char *text, struct keyring **ret, struct err *err)
{
    *ret = NULL;
    return keyring_parse(str_of(text), ret, err);
}

static void hex_and_base64_are_the_same_key_with_the_same_made_id(void **state)
{
    struct keyring *a, *b;
    struct err err = {0};

    (void)state;
    assert_int_equal(parse(HEX_A, &a, &err), ERR_OK);
    assert_int_equal(parse("# a comment\n\n  " BASE64_A "  \r\n", &b, &err), ERR_OK);
    assert_string_equal(keyring_primary(a), keyring_primary(b));
    assert_int_equal(strlen(keyring_primary(a)), 12);
    assert_memory_equal(keyring_find(a, str_of(keyring_primary(a))), keyring_find(b, str_of(keyring_primary(b))), 32);
    assert_null(strstr(HEX_A, keyring_primary(a)));
    keyring_free(a);
    keyring_free(b);
}

static void the_first_key_is_the_one_that_wraps_and_the_others_are_found(void **state)
{
    struct keyring *keys;
    struct err err = {0};

    (void)state;
    assert_int_equal(parse("new: " HEX_B "\nold:" BASE64_A "\n", &keys, &err), ERR_OK);
    assert_string_equal(keyring_primary(keys), "new");
    assert_int_equal(keyring_find(keys, STR("new"))[0], 0xff);
    assert_int_equal(keyring_find(keys, STR("old"))[0], 0);
    assert_null(keyring_find(keys, STR("older")));
    keyring_free(keys);
}

static void what_is_wrong_is_told_with_its_line_and_without_the_key(void **state)
{
    static const char *const bad[] = {
        "",
        "# nothing\n",
        "ok:" HEX_A "\nabcdefgh12345678",
        "ok:" HEX_A "\nk:" HEX_B "00",
        "ok:" HEX_A "\nok:" HEX_B,
        "ok:" HEX_A "\nbad id:" HEX_B,
        "ok:" HEX_A "\n:" HEX_B,
        "ok:" HEX_A "\nk:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9=", /* bits beyond the last byte */
        "ok:" HEX_A "\n" HEX_B "\n" HEX_B,
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct keyring *keys;
        struct err err = {0};

        assert_int_equal(parse(bad[i], &keys, &err), ERR_INVALID);
        assert_null(keys);
        assert_true(i < 2 || strstr(err.message, "line ") != NULL);
        assert_null(strstr(err.message, "abcdefgh"));
        assert_null(strstr(err.message, "0102"));
    }
}

static void put(const char *path, const char *text)
{
    char fresh[200];
    FILE *file;

    snprintf(fresh, sizeof(fresh), "%s.new", path);
    file = fopen(fresh, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(rename(fresh, path), 0);
}

static void a_file_that_changes_is_read_again_and_a_bad_one_changes_nothing(void **state)
{
    char path[] = "/tmp/rw-keyring-XXXXXX";
    struct keyring *keys;
    struct err err = {0};

    (void)state;
    close(mkstemp(path));
    assert_int_equal(keyring_new(path, &keys, &err), ERR_INVALID);
    put(path, "one:" HEX_A);
    assert_int_equal(keyring_new(path, &keys, &err), ERR_OK);
    assert_true(keyring_configured(keys));
    put(path, "two:" HEX_B "\none:" HEX_A);
    assert_int_equal(keyring_refresh(keys, (struct mono_us){5000000}, &err), ERR_OK);
    assert_string_equal(keyring_primary(keys), "two");
    put(path, "rubbish");
    assert_int_equal(keyring_refresh(keys, (struct mono_us){5500000}, &err), ERR_OK); /* not looked at yet */
    assert_int_equal(keyring_refresh(keys, (struct mono_us){6000000}, &err), ERR_INVALID);
    assert_string_equal(keyring_primary(keys), "two");
    unlink(path);
    assert_int_equal(keyring_refresh(keys, (struct mono_us){7000000}, &err), ERR_INVALID);
    assert_non_null(keyring_find(keys, STR("one")));
    keyring_free(keys);
    assert_int_equal(keyring_new(path, &keys, &err), ERR_INVALID);
    assert_int_equal(keyring_new("", &keys, &err), ERR_OK);
    assert_false(keyring_configured(keys));
    assert_null(keyring_primary(keys));
    keyring_free(keys);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hex_and_base64_are_the_same_key_with_the_same_made_id),
        cmocka_unit_test(the_first_key_is_the_one_that_wraps_and_the_others_are_found),
        cmocka_unit_test(what_is_wrong_is_told_with_its_line_and_without_the_key),
        cmocka_unit_test(a_file_that_changes_is_read_again_and_a_bad_one_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
