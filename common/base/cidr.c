/* Addresses and networks. */
#include "common/base/cidr.h"
#include <arpa/inet.h>

#include "common/base/banned.h"

static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static bool parse_plain(struct str text, uint8_t ret[16], bool *ret_v4)
{
    char copy[ADDRESS_TEXT_SIZE];

    if (text.len == 0 || text.len >= sizeof(copy) || memchr(text.ptr, '\0', text.len) != NULL)
        return false;
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    *ret_v4 = strchr(copy, ':') == NULL;
    if (!*ret_v4)
        return inet_pton(AF_INET6, copy, ret) == 1;
    memcpy(ret, mapped, sizeof(mapped));
    return inet_pton(AF_INET, copy, ret + sizeof(mapped)) == 1;
}

static const char *find(struct str text, char what)
{
    return text.len == 0 ? NULL : memchr(text.ptr, what, text.len);
}

static struct str behind(struct str text, const char *at)
{
    return (struct str){at + 1, text.len - (size_t)(at + 1 - text.ptr)};
}

static bool is_port(struct str text)
{
    uint32_t port;

    return parse_u32(text, 0, UINT16_MAX, &port);
}

/* "2001:db8::1]:443" of "[2001:db8::1]:443" */
static bool parse_bracketed(struct str text, uint8_t ret[16])
{
    const char *end = find(text, ']');
    struct str address, rest;
    bool v4;

    if (end == NULL)
        return false;
    address = (struct str){text.ptr, (size_t)(end - text.ptr)};
    rest = behind(text, end);
    if (rest.len > 0 && (rest.ptr[0] != ':' || !is_port(behind(rest, rest.ptr))))
        return false;
    return parse_plain(address, ret, &v4) && !v4;
}

bool address_parse(struct str text, uint8_t ret[16])
{
    const char *colon = find(text, ':');
    bool v4;

    if (text.len > 0 && text.ptr[0] == '[')
        return parse_bracketed(behind(text, text.ptr), ret);
    if (colon == NULL || find(behind(text, colon), ':') != NULL)
        return parse_plain(text, ret, &v4);
    return is_port(behind(text, colon)) && parse_plain((struct str){text.ptr, (size_t)(colon - text.ptr)}, ret, &v4);
}

bool cidr_parse(struct str text, struct cidr *ret)
{
    struct str address = str_cut(&text, '/');
    uint32_t bits;
    bool v4;

    if (!parse_plain(address, ret->address, &v4))
        return false;
    bits = v4 ? 32 : 128;
    if (text.ptr != NULL && !parse_u32(text, 0, bits, &bits))
        return false;
    ret->bits = (uint8_t)(v4 ? bits + 96 : bits);
    for (unsigned i = ret->bits; i < 128; i++)
        if ((ret->address[i / 8] & (0x80U >> i % 8)) != 0)
            return false;
    return true;
}

bool cidr_holds(const struct cidr *cidr, const uint8_t address[16])
{
    size_t whole = cidr->bits / 8;
    unsigned rest = cidr->bits % 8;

    if (memcmp(cidr->address, address, whole) != 0)
        return false;
    return rest == 0 || ((cidr->address[whole] ^ address[whole]) & (0xff00U >> rest & 0xff)) == 0;
}

void address_format(const uint8_t address[16], char ret[ADDRESS_TEXT_SIZE])
{
    if (memcmp(address, mapped, sizeof(mapped)) == 0)
        (void)inet_ntop(AF_INET, address + sizeof(mapped), ret, ADDRESS_TEXT_SIZE);
    else
        (void)inet_ntop(AF_INET6, address, ret, ADDRESS_TEXT_SIZE);
}
