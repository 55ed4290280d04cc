/* The address guard: every form of an address that is not public is refused, lists open exactly what they name. */
#include "common/io/egress.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/un.h>

#include <cmocka.h>

static bool allowed(const struct egress *egress, const char *address)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    char text[EGRESS_TEXT_SIZE];

    if (inet_pton(AF_INET, address, &in.sin_addr) == 1)
        return egress_allowed(egress, (struct sockaddr *)&in, text);
    if (inet_pton(AF_INET6, address, &in6.sin6_addr) != 1)
        fail_msg("'%s' is no address", address);
    return egress_allowed(egress, (struct sockaddr *)&in6, text);
}

static struct egress *guard(const char *list)
{
    struct egress *egress = NULL;
    struct err err = {0};

    assert_int_equal(egress_new(str_of(list), &egress, &err), ERR_OK);
    return egress;
}

static const char *const REFUSED[] = {"0.0.0.0",
                                      "0.255.255.255",
                                      "10.0.0.0",
                                      "10.255.255.255",
                                      "100.64.0.1",
                                      "100.127.255.255",
                                      "127.0.0.1",
                                      "127.255.255.255",
                                      "169.254.0.1",
                                      "169.254.169.254",
                                      "172.16.0.1",
                                      "172.31.255.255",
                                      "192.0.0.1",
                                      "192.0.2.1",
                                      "192.88.99.1",
                                      "192.168.0.1",
                                      "198.18.0.1",
                                      "198.19.255.255",
                                      "198.51.100.1",
                                      "203.0.113.1",
                                      "224.0.0.1",
                                      "239.255.255.255",
                                      "240.0.0.1",
                                      "255.255.255.255",
                                      "::",
                                      "::1",
                                      "::10.0.0.1",
                                      "::8.8.8.8",
                                      "::ffff:127.0.0.1",
                                      "::ffff:10.0.0.1",
                                      "::ffff:169.254.169.254",
                                      "::ffff:0:10.0.0.1",
                                      "64:ff9b::10.0.0.1",
                                      "64:ff9b::127.0.0.1",
                                      "64:ff9b:1::8.8.8.8",
                                      "100::1",
                                      "2001::1",
                                      "2001:0:4136:e378:8000:63bf:3fff:fdd2",
                                      "2001:2::1",
                                      "2001:10::1",
                                      "2001:20::1",
                                      "2001:db8::1",
                                      "2002:a00:1::",
                                      "2002:7f00:1::",
                                      "2002:a9fe:a9fe::",
                                      "3fff::1",
                                      "5f00::1",
                                      "fc00::1",
                                      "fd00:ec2::254",
                                      "fe80::1",
                                      "fec0::1",
                                      "ff02::1",
                                      "4000::1",
                                      "2a00:1450::5efe:10.0.0.1",
                                      "2a00:1450::200:5efe:10.0.0.1"};
static const char *const PUBLIC[] = {"1.1.1.1",
                                     "8.8.8.8",
                                     "9.255.255.255",
                                     "11.0.0.0",
                                     "100.63.255.255",
                                     "100.128.0.0",
                                     "126.255.255.255",
                                     "128.0.0.1",
                                     "172.15.255.255",
                                     "172.32.0.0",
                                     "192.0.1.1",
                                     "192.167.255.255",
                                     "192.169.0.0",
                                     "198.17.255.255",
                                     "198.20.0.0",
                                     "223.255.255.255",
                                     "::ffff:8.8.8.8",
                                     "64:ff9b::8.8.8.8",
                                     "2606:4700:4700::1111",
                                     "2a00:1450:4001::1",
                                     "2001:4860:4860::8888",
                                     "2002:808:808::",
                                     "2a00:1450::5efe:8.8.8.8"};

static void what_is_not_public_is_refused(void **state)
{
    struct egress *egress = guard("");

    (void)state;
    for (size_t i = 0; i < sizeof(REFUSED) / sizeof(REFUSED[0]); i++)
        if (allowed(egress, REFUSED[i]))
            fail_msg("%s is allowed", REFUSED[i]);
    for (size_t i = 0; i < sizeof(PUBLIC) / sizeof(PUBLIC[0]); i++)
        if (!allowed(egress, PUBLIC[i]))
            fail_msg("%s is refused", PUBLIC[i]);
    egress_free(egress);
}

static void a_list_opens_what_it_names_and_nothing_else(void **state)
{
    struct egress *egress = guard(" 10.1.0.0/16 ,::1,192.168.7.7,fd00:1::/32,, ");

    (void)state;
    assert_true(allowed(egress, "10.1.0.0"));
    assert_true(allowed(egress, "10.1.255.255"));
    assert_false(allowed(egress, "10.2.0.0"));
    assert_false(allowed(egress, "10.0.255.255"));
    assert_true(allowed(egress, "::ffff:10.1.2.3"));
    assert_true(allowed(egress, "::1"));
    assert_false(allowed(egress, "127.0.0.1"));
    assert_true(allowed(egress, "192.168.7.7"));
    assert_false(allowed(egress, "192.168.7.6"));
    assert_true(allowed(egress, "fd00:1:2::3"));
    assert_false(allowed(egress, "fd00:2::3"));
    egress_free(egress);
    egress = guard("0.0.0.0/0");
    assert_true(allowed(egress, "127.0.0.1"));
    assert_false(allowed(egress, "::1"));
    egress_free(egress);
}

static void bad_lists_are_refused_with_the_part_named(void **state)
{
    static const char *const lists[] = {"10.0.0.0/33", "10.0.0.0/",   "10.0.0/8",
                                        "::1/129",     "example.org", "10.0.0.0/8x",
                                        "1.2.3.4/-1",  "/8",          "10.0.0.0/8;11.0.0.0/8"};

    (void)state;
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        struct egress *egress = NULL;
        struct err err = {0};

        assert_int_equal(egress_new(str_of(lists[i]), &egress, &err), ERR_INVALID);
        assert_non_null(strstr(err.message, lists[i]));
    }
}

static void other_address_families_are_refused(void **state)
{
    struct egress *egress = guard("0.0.0.0/0,::/0");
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    char text[EGRESS_TEXT_SIZE];

    (void)state;
    assert_false(egress_allowed(egress, (struct sockaddr *)&un, text));
    egress_free(egress);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_public_is_refused),
        cmocka_unit_test(a_list_opens_what_it_names_and_nothing_else),
        cmocka_unit_test(bad_lists_are_refused_with_the_part_named),
        cmocka_unit_test(other_address_families_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
