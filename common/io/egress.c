/* The address guard; see egress.h. Networks are compared as 128 bits, IPv4 in its mapped form (::ffff:a.b.c.d), so one
 * table and one comparison serve all. Registries: iana-ipv4-special-registry, iana-ipv6-special-registry. */
#include "common/io/egress.h"
#include <arpa/inet.h>
#include <netinet/in.h>

#include "common/base/banned.h"

#define NETWORKS_MAX 256

struct network {
    uint8_t bytes[16];
    unsigned bits;
};

struct egress {
    struct network allow[NETWORKS_MAX];
    size_t count;
};

static const char *const REFUSED_V4[] = {
    "0.0.0.0/8",     "10.0.0.0/8",      "100.64.0.0/10",  "127.0.0.0/8",    "169.254.0.0/16",
    "172.16.0.0/12", "192.0.0.0/24",    "192.0.2.0/24",   "192.88.99.0/24", "192.168.0.0/16",
    "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4",    "240.0.0.0/4",
};
/* Inside 2000::/3, which is all of IPv6 that is public unicast. */
static const char *const REFUSED_V6[] = {
    "2001::/23",     /* protocol assignments: Teredo, benchmarking, ORCHID, AMT */
    "2001:db8::/32", /* documentation */
    "3fff::/20",     /* documentation */
};

static bool network_holds(const struct network *network, const uint8_t bytes[16])
{
    unsigned whole = network->bits / 8, rest = network->bits % 8;
    uint8_t mask = (uint8_t)(0xff00u >> rest);

    if (memcmp(network->bytes, bytes, whole) != 0)
        return false;
    return rest == 0 || ((network->bytes[whole] ^ bytes[whole]) & mask) == 0;
}

static void map_v4(const uint8_t v4[4], uint8_t ret[16])
{
    memset(ret, 0, 10);
    ret[10] = ret[11] = 0xff;
    memcpy(ret + 12, v4, 4);
}

static bool network_parse(struct str text, struct network *ret)
{
    struct str address = str_cut(&text, '/');
    char name[INET6_ADDRSTRLEN];
    uint8_t v4[4];
    uint32_t bits, max = 128;

    if (address.len == 0 || address.len >= sizeof(name))
        return false;
    memcpy(name, address.ptr, address.len);
    name[address.len] = '\0';
    if (inet_pton(AF_INET, name, v4) == 1) {
        map_v4(v4, ret->bytes);
        max = 32;
    } else if (inet_pton(AF_INET6, name, ret->bytes) != 1) {
        return false;
    }
    bits = max;
    if (text.ptr != NULL && !parse_u32(text, 0, max, &bits))
        return false;
    ret->bits = max == 32 ? bits + 96 : bits;
    return true;
}

enum err_code egress_new(struct str allow, struct egress **ret, struct err *err)
{
    struct egress *egress = mem_alloc(sizeof(*egress));

    while (allow.len > 0) {
        struct str part = str_trim(str_cut(&allow, ','));

        if (part.len == 0)
            continue;
        if (egress->count == NETWORKS_MAX) {
            egress_free(egress);
            return err_set(err, ERR_TOO_LARGE, "at most %d networks can be allowed", NETWORKS_MAX);
        }
        if (!network_parse(part, &egress->allow[egress->count])) {
            egress_free(egress);
            return err_set(err, ERR_INVALID, "'" STR_FMT "' is not a network such as 10.1.0.0/16 or fd00::/8",
                           STR_ARG(part));
        }
        egress->count++;
    }
    *ret = egress;
    return ERR_OK;
}

void egress_free(struct egress *egress)
{
    mem_free(egress);
}

static bool listed(const char *const *list, size_t count, const uint8_t bytes[16])
{
    struct network network;

    for (size_t i = 0; i < count; i++)
        if (network_parse(str_of(list[i]), &network) && network_holds(&network, bytes))
            return true;
    return false;
}

static bool v4_is_public(const uint8_t v4[4])
{
    uint8_t mapped[16];

    map_v4(v4, mapped);
    return !listed(REFUSED_V4, sizeof(REFUSED_V4) / sizeof(REFUSED_V4[0]), mapped);
}

static bool starts(const uint8_t bytes[16], const char *network)
{
    return listed(&network, 1, bytes);
}

static bool v6_is_public(const uint8_t bytes[16])
{
    static const uint8_t isatap[4] = {0x00, 0x00, 0x5e, 0xfe};

    if (starts(bytes, "::ffff:0:0/96") || starts(bytes, "64:ff9b::/96")) /* mapped, NAT64 */
        return v4_is_public(bytes + 12);
    if (!starts(bytes, "2000::/3") || listed(REFUSED_V6, sizeof(REFUSED_V6) / sizeof(REFUSED_V6[0]), bytes))
        return false;
    if (starts(bytes, "2002::/16")) /* 6to4 */
        return v4_is_public(bytes + 2);
    if ((bytes[8] & 0xfd) == 0 && memcmp(bytes + 9, isatap + 1, 3) == 0) /* ISATAP, with or without the u bit */
        return v4_is_public(bytes + 12);
    return true;
}

bool egress_allowed(const struct egress *egress, const struct sockaddr *address, char ret_text[EGRESS_TEXT_SIZE])
{
    uint8_t bytes[16];

    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)address;

        inet_ntop(AF_INET, &in->sin_addr, ret_text, EGRESS_TEXT_SIZE);
        map_v4((const uint8_t *)&in->sin_addr, bytes);
    } else if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)address;

        inet_ntop(AF_INET6, &in6->sin6_addr, ret_text, EGRESS_TEXT_SIZE);
        memcpy(bytes, &in6->sin6_addr, 16);
    } else {
        snprintf(ret_text, EGRESS_TEXT_SIZE, "address family %d", address->sa_family);
        return false;
    }
    for (size_t i = 0; i < egress->count; i++)
        if (network_holds(&egress->allow[i], bytes))
            return true;
    return v6_is_public(bytes);
}
