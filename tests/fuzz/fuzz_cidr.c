/* Networks of documents and addresses of strangers (a proxy's header): a line of each. What is taken is the same when
 * it is written and read again, and membership is what comparing bit by bit says. */
#include "common/base/cidr.h"
#include "common/base/ensure.h"

#include "common/base/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool holds(const struct cidr *cidr, const uint8_t address[16])
{
    for (unsigned bit = 0; bit < cidr->bits; bit++)
        if (((cidr->address[bit / 8] ^ address[bit / 8]) >> (7 - bit % 8) & 1) != 0)
            return false;
    return true;
}

static bool is_v4(const uint8_t address[16])
{
    char text[ADDRESS_TEXT_SIZE];

    address_format(address, text);
    return strchr(text, ':') == NULL;
}

static void address_again(const uint8_t address[16])
{
    char text[ADDRESS_TEXT_SIZE];
    uint8_t again[16];

    address_format(address, text);
    ENSURE(address_parse(str_of(text), again) && memcmp(address, again, sizeof(again)) == 0);
}

static void network_again(const struct cidr *cidr)
{
    char address[ADDRESS_TEXT_SIZE], text[ADDRESS_TEXT_SIZE + 8];
    struct cidr again;

    if (is_v4(cidr->address) && cidr->bits < 96)
        return; /* part of ::/n, which is written in the other kind */
    address_format(cidr->address, address);
    snprintf(text, sizeof(text), "%s/%d", address, is_v4(cidr->address) ? cidr->bits - 96 : cidr->bits);
    ENSURE(cidr_parse(str_of(text), &again) && again.bits == cidr->bits);
    ENSURE(memcmp(again.address, cidr->address, sizeof(again.address)) == 0);
    ENSURE(cidr_holds(cidr, cidr->address));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str rest = {size == 0 ? "" : (const char *)data, size};
    struct str network = str_cut(&rest, '\n'), text = str_cut(&rest, '\n');
    uint8_t address[16];
    struct cidr cidr;
    bool is_network = cidr_parse(network, &cidr), is_address = address_parse(text, address);

    if (is_network)
        network_again(&cidr);
    if (is_address)
        address_again(address);
    if (is_network && is_address)
        ENSURE(cidr_holds(&cidr, address) == holds(&cidr, address));
    if (is_network && rest.len >= sizeof(address))
        ENSURE(cidr_holds(&cidr, (const uint8_t *)rest.ptr) == holds(&cidr, (const uint8_t *)rest.ptr));
    return 0;
}
