/* Addresses and networks, also against a comparison bit by bit. */
#include "common/base/cidr.h"
#include "common/base/id.h"
#include "tests/unit/base/test.h"

#include "common/base/banned.h"

static bool holds(const char *network, const char *address)
{
    struct cidr cidr;
    uint8_t bytes[16];

    assert_true(cidr_parse(str_of(network), &cidr));
    assert_true(address_parse(str_of(address), bytes));
    return cidr_holds(&cidr, bytes);
}

static void a_network_holds_its_addresses_and_no_neighbour(void **state)
{
    static const struct {
        const char *network, *in, *out;
    } rows[] = {{"192.0.2.0/24", "192.0.2.255", "192.0.3.0"},
                {"192.0.2.128/25", "192.0.2.128", "192.0.2.127"},
                {"192.0.2.4/30", "192.0.2.7", "192.0.2.8"},
                {"192.0.2.1/32", "192.0.2.1", "192.0.2.0"},
                {"192.0.2.1", "192.0.2.1", "192.0.2.3"},
                {"2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"},
                {"2001:db8::8/125", "2001:db8::f", "2001:db8::10"},
                {"2001:db8::1", "[2001:db8::1]:443", "2001:db8::3"},
                {"0.0.0.0/0", "255.255.255.255", "2001:db8::1"},
                {"::ffff:192.0.2.0/120", "192.0.2.9", "192.0.3.9"}};

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_true(holds(rows[i].network, rows[i].in));
        assert_false(holds(rows[i].network, rows[i].out));
    }
    assert_true(holds("::/0", "2001:db8::1"));
    assert_true(holds("::/0", "192.0.2.1")); /* an IPv4 address is an IPv6 one, too */
}

static void what_is_no_network_is_refused(void **state)
{
    static const char *const texts[] = {"",
                                        "/",
                                        "192.0.2.0/",
                                        "192.0.2.0/33",
                                        "192.0.2.1/24",
                                        "192.0.2",
                                        "192.0.2.0/-1",
                                        "192.0.2.0/2 4",
                                        "300.0.2.0/24",
                                        "2001:db8::1/32",
                                        "::/129",
                                        "x",
                                        "192.0.2.0/24/",
                                        " 192.0.2.0/24",
                                        "1.2.3.4.5",
                                        "[::1]/128"};
    static const char long_text[] = "0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000";
    struct cidr cidr;

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_false(cidr_parse(str_of(texts[i]), &cidr));
    assert_false(cidr_parse(str_of(long_text), &cidr));
    assert_false(cidr_parse(STR("192.0.2.0\0/24"), &cidr));
}

static void addresses_are_read_with_and_without_ports(void **state)
{
    static const char *const rows[][2] = {{"192.0.2.1", "192.0.2.1"},       {"192.0.2.1:51234", "192.0.2.1"},
                                          {"2001:db8::1", "2001:db8::1"},   {"[2001:db8::1]:443", "2001:db8::1"},
                                          {"[2001:db8::1]", "2001:db8::1"}, {"::ffff:192.0.2.1", "192.0.2.1"}};
    static const char *const none[] = {"",
                                       ":",
                                       "unknown",
                                       "_hidden",
                                       "[",
                                       "[]:1",
                                       "fe80::1%eth0",
                                       "[::1",
                                       "[::1]443",
                                       "[::1]:",
                                       "[::1]:x",
                                       "[::1]:65536",
                                       "[::1]]",
                                       "[[::1]",
                                       "[192.0.2.1]",
                                       "192.0.2.1:",
                                       "192.0.2.1:x",
                                       "192.0.2.1:-1",
                                       "::1]",
                                       "192.0.2.1, 192.0.2.2"};
    uint8_t bytes[16];
    char text[ADDRESS_TEXT_SIZE];

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_true(address_parse(str_of(rows[i][0]), bytes));
        address_format(bytes, text);
        assert_string_equal(text, rows[i][1]);
    }
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
        assert_false(address_parse(str_of(none[i]), bytes));
}

static bool bit(const uint8_t *bytes, unsigned i)
{
    return (bytes[i / 8] >> (7 - i % 8) & 1) != 0;
}

static void every_prefix_length_counts_its_bits(void **state)
{
    (void)state;
    for (unsigned n = 0; n < 20000; n++) {
        struct cidr cidr = {.bits = (uint8_t)(n % 129)};
        uint8_t address[16];
        bool same = true;

        for (unsigned i = 0; i < 16; i++)
            cidr.address[i] = address[i] = (uint8_t)random_u64();
        if (n % 3 != 0) { /* one bit differs, in the prefix or behind it */
            unsigned at = (unsigned)(random_u64() % 128);

            address[at / 8] = (uint8_t)(address[at / 8] ^ (0x80U >> at % 8));
        }
        for (unsigned i = 0; i < cidr.bits; i++)
            same = same && bit(cidr.address, i) == bit(address, i);
        assert_int_equal(cidr_holds(&cidr, address), same);
    }
}

RUN(TEST(a_network_holds_its_addresses_and_no_neighbour), TEST(what_is_no_network_is_refused),
    TEST(addresses_are_read_with_and_without_ports), TEST(every_prefix_length_counts_its_bits))
