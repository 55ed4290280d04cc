/* AES-256-GCM against published vectors, and with every bit of a box changed. */
#include "common/seal/gcm.h"
#include "tests/unit/seal/test.h"

/* McGrew and Viega, "The Galois/Counter Mode of Operation", appendix B, test cases 13 to 16 (those with 256-bit keys
 * and 96-bit nonces); the last row: NIST CAVP gcmEncryptExtIV256.rsp, [PTlen = 128] [AADlen = 0], Count 0. */
static const struct vector {
    const char *key, *nonce, *aad, *plain, *cipher, *tag;
} VECTORS[] = {
    {"0000000000000000000000000000000000000000000000000000000000000000", "000000000000000000000000", "", "", "",
     "530f8afbc74536b9a963b4f1c4cb738b"},
    {"0000000000000000000000000000000000000000000000000000000000000000", "000000000000000000000000", "",
     "00000000000000000000000000000000", "cea7403d4d606b6e074ec5d3baf39d18", "d0d1c8a799996bf0265b98b5d48ab919"},
    {"feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888", "",
     "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657"
     "ba637b391aafd255",
     "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0a"
     "bcc9f662898015ad",
     "b094dac5d93471bdec1a502270e3cc6c"},
    {"feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888",
     "feedfacedeadbeeffeedfacedeadbeefabaddad2",
     "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657"
     "ba637b39",
     "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0a"
     "bcc9f662",
     "76fc6ece0f4e1768cddf8853bb2d551b"},
    {"31bdadd96698c204aa9ce1448ea94ae1fb4a9a0b3c9d773b51bb1822666b8f22", "0d18e06c7c725ac9e362e1ce", "",
     "2db5168e932556f8089a0622981d017d", "fa4362189661d163fcd6a56d8bf0405a", "d636ac1bbedd5cc3ee727dc2ab4a9489"},
};

static struct str bytes(const uint8_t *ptr, size_t len)
{
    return (struct str){(const char *)ptr, len};
}

static void published_vectors_come_out_as_published(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(VECTORS) / sizeof(VECTORS[0]); i++) {
        const struct vector *v = &VECTORS[i];
        uint8_t key[32], nonce[12], aad[64], plain[64], cipher[64], tag[16], got[16];
        CLEANUP(buf_deinit) struct buf out = {0}, box = {0}, back = {0};
        size_t aad_len = unhex(v->aad, aad), plain_len = unhex(v->plain, plain), cipher_len = unhex(v->cipher, cipher);

        unhex(v->key, key);
        unhex(v->nonce, nonce);
        unhex(v->tag, tag);
        buf_init(&out, 1024);
        buf_init(&box, 1024);
        buf_init(&back, 1024);
        gcm_encrypt(key, nonce, bytes(aad, aad_len), bytes(plain, plain_len), &out, got);
        assert_int_equal(out.len, cipher_len);
        assert_true(cipher_len == 0 || memcmp(out.ptr, cipher, cipher_len) == 0);
        assert_memory_equal(got, tag, sizeof(tag));
        buf_append(&box, nonce, sizeof(nonce));
        buf_append_str(&box, buf_str(&out));
        buf_append(&box, tag, sizeof(tag));
        assert_true(gcm_open(key, bytes(aad, aad_len), buf_str(&box), &back));
        assert_int_equal(back.len, plain_len);
        assert_true(plain_len == 0 || memcmp(back.ptr, plain, plain_len) == 0);
    }
}

static void no_box_opens_with_a_bit_changed(void **state)
{
    uint8_t key[32] = {7};
    CLEANUP(buf_deinit) struct buf box = {0}, back = {0};

    (void)state;
    buf_init(&box, 1024);
    buf_init(&back, 1024);
    gcm_seal(key, STR("to whom"), STR("a secret"), &box);
    assert_int_equal(box.len, 8 + SEAL_OVERHEAD);
    for (size_t bit = 0; bit < box.len * 8; bit++) {
        box.ptr[bit / 8] = (char)(box.ptr[bit / 8] ^ (1 << bit % 8));
        assert_false(gcm_open(key, STR("to whom"), buf_str(&box), &back));
        box.ptr[bit / 8] = (char)(box.ptr[bit / 8] ^ (1 << bit % 8));
    }
    for (size_t len = 0; len < box.len; len++)
        assert_false(gcm_open(key, STR("to whom"), (struct str){box.ptr, len}, &back));
    assert_false(gcm_open(key, STR("to whoM"), buf_str(&box), &back));
    assert_int_equal(back.len, 0);
    assert_true(gcm_open(key, STR("to whom"), buf_str(&box), &back));
    assert_str(buf_str(&back), "a secret");
    key[31] ^= 1;
    assert_false(gcm_open(key, STR("to whom"), buf_str(&box), &back));
}

static void the_same_text_is_never_the_same_box(void **state)
{
    const uint8_t key[32] = {1};
    CLEANUP(buf_deinit) struct buf a = {0}, b = {0};

    (void)state;
    buf_init(&a, 1024);
    buf_init(&b, 1024);
    gcm_seal(key, STR(""), STR("text"), &a);
    gcm_seal(key, STR(""), STR("text"), &b);
    assert_false(str_eq(buf_str(&a), buf_str(&b)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_vectors_come_out_as_published),
        cmocka_unit_test(no_box_opens_with_a_bit_changed),
        cmocka_unit_test(the_same_text_is_never_the_same_box),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
