/* Ids, random text, digests. */
#include "common/base/id.h"
#include "tests/unit/base/test.h"
#include <stdio.h>

static void a_run_id_is_a_uuid_of_version_7_that_tells_its_time_and_slot(void **state)
{
    struct wall_us now = {INT64_C(1795233600123456)};

    (void)state;
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++) {
        struct run_id id = run_id_make(now, slot);

        assert_int_equal(id.bytes[6] >> 4, 7);
        assert_int_equal(id.bytes[8] >> 6, 2);
        assert_int_equal(run_id_slot(id), slot);
        assert_int_equal(run_id_time(id).us, INT64_C(1795233600123000));
    }
}

static void run_ids_of_one_instant_and_slot_differ(void **state)
{
    struct run_id ids[200];

    (void)state;
    for (size_t i = 0; i < 200; i++) {
        ids[i] = run_id_make((struct wall_us){1000}, 5);
        for (size_t k = 0; k < i; k++)
            assert_false(run_id_eq(ids[i], ids[k]));
    }
}

static void run_ids_sort_by_time(void **state)
{
    struct run_id a = run_id_make((struct wall_us){1000}, 4095);
    struct run_id b = run_id_make((struct wall_us){2000}, 0);

    (void)state;
    assert_int_equal(run_id_cmp(a, b), -1);
    assert_int_equal(run_id_cmp(b, a), 1);
    assert_int_equal(run_id_cmp(a, a), 0);
}

static void run_ids_are_written_and_read_back(void **state)
{
    char text[UUID_TEXT_SIZE];
    struct run_id id, back;

    (void)state;
    assert_true(run_id_parse(STR("017f22e2-79b0-7CC3-98c4-dc0c0c07398F"), &id));
    run_id_format(id, text);
    assert_string_equal(text, "017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
    /* The example of RFC 9562, A.6: Tuesday, February 22, 2022 2:22:22.00 PM GMT-05:00. */
    assert_int_equal(run_id_time(id).us, INT64_C(1645557742000000));
    assert_int_equal(run_id_slot(id), 0x98f);
    for (int i = 0; i < 100; i++) {
        id = run_id_make(clock_wall(), 7);
        run_id_format(id, text);
        assert_true(run_id_parse(str_of(text), &back));
        assert_true(run_id_eq(id, back));
    }
}

static void what_is_no_uuid_is_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "017f22e2-79b0-7cc3-98c4-dc0c0c07398",
                                      "017f22e2-79b0-7cc3-98c4-dc0c0c07398ff",
                                      "017f22e279b0-7cc3-98c4-dc0c0c07398f-",
                                      "017f22e2-79b0-7cc3-98c4-dc0c0c07398g",
                                      "017f22e2079b007cc3098c40dc0c0c07398f",
                                      "{17f22e2-79b0-7cc3-98c4-dc0c0c07398}",
                                      "017f22e2-79b0-7cc3-98c4-dc0c0c0-398f"};
    struct run_id id;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(run_id_parse(str_of(bad[i]), &id));
}

static void slots_of_keys_never_change(void **state)
{
    unsigned count[SLOT_COUNT] = {0};

    (void)state;
    /* Stored rows depend on these. */
    assert_int_equal(slot_of_key(STR("")), 2342);
    assert_int_equal(slot_of_key(STR("order-1")), 2469);
    assert_int_equal(slot_of_key(STR("\xff")), 2263);
    for (int i = 0; i < 40960; i++) {
        char key[32];

        snprintf(key, sizeof(key), "order-%d", i);
        count[slot_of_key(str_of(key))]++;
    }
    for (size_t i = 0; i < SLOT_COUNT; i++)
        assert_in_range(count[i], 0, 40);
}

static void tokens_are_base62_and_use_all_digits_evenly(void **state)
{
    char token[33];
    unsigned count[256] = {0};

    (void)state;
    for (int i = 0; i < 2000; i++) {
        random_token(token, 32);
        assert_int_equal(strlen(token), 32);
        for (size_t k = 0; k < 32; k++)
            count[(unsigned char)token[k]]++;
    }
    for (unsigned c = 0; c < 256; c++) {
        bool digit = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');

        /* 1032 on average; ten standard deviations. */
        assert_in_range(count[c], digit ? 700 : 0, digit ? 1360 : 0);
    }
    random_token(token, 0);
    assert_string_equal(token, "");
}

static void random_numbers_do_not_repeat(void **state)
{
    (void)state;
    assert_true(random_u64() != random_u64());
}

static void digests_match_published_vectors(void **state)
{
    char key[131], data[5000];
    uint8_t digest[32];
    char hex[65];

    (void)state;
    sha256(STR("abc"), digest);
    hex_encode(digest, 32, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    sha256(STR_NONE, digest);
    hex_encode(digest, 32, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    /* RFC 4231, test case 2. */
    hmac_sha256(STR("Jefe"), STR("what do ya want for nothing?"), digest);
    hex_encode(digest, 32, hex);
    assert_string_equal(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    /* test case 6: a key longer than a block */
    memset(key, 0xaa, sizeof(key));
    hmac_sha256((struct str){key, sizeof(key)}, STR("Test Using Larger Than Block-Size Key - Hash Key First"), digest);
    hex_encode(digest, 32, hex);
    assert_string_equal(hex, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    /* more than fits on the stack; what Python's hmac says */
    memset(data, 'x', sizeof(data));
    hmac_sha256(STR("Jefe"), (struct str){data, sizeof(data)}, digest);
    hex_encode(digest, 32, hex);
    assert_string_equal(hex, "e6486c10c1e44aa7cafa88bb3e337b32c3306db30c876442193abdb704ec8c3f");
    hmac_sha256(STR_NONE, STR_NONE, digest);
    hex_encode(digest, 32, hex);
    assert_string_equal(hex, "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

static void constant_time_comparison_compares(void **state)
{
    (void)state;
    assert_true(equal_constant_time("abc", "abc", 3));
    assert_false(equal_constant_time("abc", "abd", 3));
    assert_true(equal_constant_time(NULL, NULL, 0));
}

RUN(TEST(a_run_id_is_a_uuid_of_version_7_that_tells_its_time_and_slot), TEST(run_ids_of_one_instant_and_slot_differ),
    TEST(run_ids_sort_by_time), TEST(run_ids_are_written_and_read_back), TEST(what_is_no_uuid_is_refused),
    TEST(slots_of_keys_never_change), TEST(tokens_are_base62_and_use_all_digits_evenly),
    TEST(random_numbers_do_not_repeat), TEST(digests_match_published_vectors), TEST(constant_time_comparison_compares))
