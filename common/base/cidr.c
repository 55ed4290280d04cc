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

bool address_parse(struct str text, uint8_t ret[16])
{
    const char *colon = text.len == 0 ? NULL : memchr(text.ptr, ':', text.len);
    bool v4;

    if (text.len > 0 && text.ptr[0] == '[') {
        text = (struct str){text.ptr + 1, text.len - 1};
        text = str_cut(&text, ']');
    } else if (colon != NULL && memchr(colon + 1, ':', text.len - (size_t)(colon + 1 - text.ptr)) == NULL) {
        text.len = (size_t)(colon - text.ptr);
    }
    return parse_plain(text, ret, &v4);
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
