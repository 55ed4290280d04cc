/* Values under data keys under master keys, bound to what they are of. */
#include "common/seal/sealed.h"
#include "tests/unit/seal/test.h"

#define KEYS_1 "one:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define KEYS_2 "two:ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

struct world {
    struct keyring *keys;
    struct buf wrapped, box, value;
    struct data_key key;
    struct sealed sealed;
};

static int setup(void **state)
{
    struct world *w = mem_alloc(sizeof(*w));
    struct err err = {0};

    assert_int_equal(keyring_parse(STR(KEYS_1), &w->keys, &err), ERR_OK);
    buf_init(&w->wrapped, 256);
    buf_init(&w->box, 4096);
    buf_init(&w->value, 4096);
    assert_int_equal(data_key_make(w->keys, STR("default"), 3, &w->wrapped, &w->key, &err), ERR_OK);
    w->key.master = STR("one"); /* the keyring's own goes with it */
    assert_int_equal(secret_seal(w->keys, &w->key, STR("PAY"), STR("sk_live_1"), &w->box, &err), ERR_OK);
    w->sealed = (struct sealed){w->key, STR("PAY"), buf_str(&w->box)};
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    keyring_free(w->keys);
    buf_deinit(&w->wrapped);
    buf_deinit(&w->box);
    seal_wipe(&w->value);
    mem_free(w);
    return 0;
}

static enum err_code unseal(struct world *w, const struct sealed *sealed)
{
    struct err err = {0};

    buf_reset(&w->value);
    return secret_unseal(w->keys, sealed, &w->value, &err);
}

static void a_value_comes_back(void **state)
{
    struct world *w = *state;

    assert_int_equal(unseal(w, &w->sealed), ERR_OK);
    assert_str(buf_str(&w->value), "sk_live_1");
    assert_null(memmem(w->box.ptr, w->box.len, "sk_live", 7));
}

static void nothing_opens_in_the_place_of_another(void **state)
{
    struct world *w = *state;
    struct sealed moved = w->sealed;

    moved.key.organisation = STR("other");
    assert_int_equal(unseal(w, &moved), ERR_INVALID);
    moved = w->sealed;
    moved.name = STR("PAX");
    assert_int_equal(unseal(w, &moved), ERR_INVALID);
    moved = w->sealed;
    moved.key.version = 4;
    assert_int_equal(unseal(w, &moved), ERR_INVALID);
    moved = w->sealed;
    moved.box = w->sealed.key.wrapped;
    assert_int_equal(unseal(w, &moved), ERR_INVALID);
    moved = w->sealed;
    moved.key.wrapped = w->sealed.box;
    assert_int_equal(unseal(w, &moved), ERR_INVALID);
    assert_int_equal(w->value.len, 0);
}

static void another_master_key_takes_over_and_the_old_one_is_needed_no_more(void **state)
{
    struct world *w = *state;
    CLEANUP(buf_deinit) struct buf wrapped = {0};
    struct data_key again;
    struct err err = {0};

    keyring_free(w->keys);
    assert_int_equal(keyring_parse(STR(KEYS_2 "\n" KEYS_1), &w->keys, &err), ERR_OK);
    assert_int_equal(unseal(w, &w->sealed), ERR_OK);
    buf_init(&wrapped, 256);
    assert_int_equal(data_key_rewrap(w->keys, &w->key, &wrapped, &again, &err), ERR_OK);
    assert_str(again.master, "two");
    keyring_free(w->keys);
    assert_int_equal(keyring_parse(STR(KEYS_2), &w->keys, &err), ERR_OK);
    assert_int_equal(unseal(w, &w->sealed), ERR_NOT_AVAILABLE);
    again.master = STR("two");
    w->sealed.key = again;
    assert_int_equal(unseal(w, &w->sealed), ERR_OK);
    assert_str(buf_str(&w->value), "sk_live_1");
}

static void without_a_master_key_everything_is_refused(void **state)
{
    struct world *w = *state;
    CLEANUP(buf_deinit) struct buf out = {0};
    struct data_key key;
    struct err err = {0};

    buf_init(&out, 256);
    keyring_free(w->keys);
    assert_int_equal(keyring_new(NULL, &w->keys, &err), ERR_OK);
    assert_int_equal(unseal(w, &w->sealed), ERR_NOT_AVAILABLE);
    assert_int_equal(data_key_make(w->keys, STR("default"), 1, &out, &key, &err), ERR_NOT_AVAILABLE);
    assert_int_equal(secret_seal(w->keys, &w->key, STR("PAY"), STR("text"), &out, &err), ERR_NOT_AVAILABLE);
    assert_int_equal(out.len, 0);
}

static void the_text_for_messages_reads_back(void **state)
{
    struct world *w = *state;
    CLEANUP(buf_deinit) struct buf text = {0};
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(1024);
    struct sealed back;

    buf_init(&text, 4096);
    sealed_write(&w->sealed, &text);
    assert_true(str_starts(buf_str(&text), "rws1:one:3:"));
    assert_true(sealed_read(buf_str(&text), arena, &back));
    back.key.organisation = STR("default");
    back.name = STR("PAY");
    assert_int_equal(unseal(w, &back), ERR_OK);
    assert_str(buf_str(&w->value), "sk_live_1");
    for (size_t len = 0; len < text.len; len++) { /* cut short it is refused, or what is left does not open */
        if (!sealed_read((struct str){text.ptr, len}, arena, &back))
            continue;
        back.key.organisation = STR("default");
        back.name = STR("PAY");
        assert_int_equal(unseal(w, &back), ERR_INVALID);
    }
}

static void texts_of_another_form_are_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "rws1",
                                      "rws1:one:3:",
                                      "rws2:one:3:AAAA:AAAA",
                                      "rws1::3:AAAA:AAAA",
                                      "rws1:one:0:AAAA:AAAA",
                                      "rws1:one:x:AAAA:AAAA",
                                      "rws1:one:3:AAAA:AAAA",
                                      "rws1:one:3:A*AA:AAAA"};
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(1024);
    struct sealed back;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(sealed_read(str_of(bad[i]), arena, &back));
}

static void names_are_those_that_can_stand_in_an_expression(void **state)
{
    static const char longest[] = "a23456789_123456789_123456789_123456789_123456789_123456789_123";

    (void)state;
    assert_true(secret_name_is_valid(STR("PAY_key2")));
    assert_true(secret_name_is_valid(STR("_")));
    assert_true(secret_name_is_valid(str_of(longest)));
    assert_false(secret_name_is_valid(STR("a23456789_123456789_123456789_123456789_123456789_123456789_1234")));
    assert_false(secret_name_is_valid(STR("")));
    assert_false(secret_name_is_valid(STR("2a")));
    assert_false(secret_name_is_valid(STR("a-b")));
    assert_false(secret_name_is_valid(STR("a\n")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_value_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_opens_in_the_place_of_another, setup, teardown),
        cmocka_unit_test_setup_teardown(another_master_key_takes_over_and_the_old_one_is_needed_no_more, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(without_a_master_key_everything_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(the_text_for_messages_reads_back, setup, teardown),
        cmocka_unit_test(texts_of_another_form_are_refused),
        cmocka_unit_test(names_are_those_that_can_stand_in_an_expression),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
