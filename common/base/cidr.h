/* Networks in CIDR notation (RFC 4632, RFC 4291), of both kinds: an IPv4 address is one with the IPv6 prefix
 * ::ffff:0:0/96. Pure. */
#pragma once
#include "common/base/str.h"
#include <stdint.h>

struct cidr {
    uint8_t address[16];
    uint8_t bits;
};

/* "192.0.2.0/24", "2001:db8::/32", or an address alone. Bits behind the prefix must be zero. */
bool cidr_parse(struct str text, struct cidr *ret);
/* An address: "192.0.2.1", "2001:db8::1", "[2001:db8::1]:443", "192.0.2.1:51234". The whole text or nothing: what was
 * cut off, or has something behind it, is nobody's address. */
bool address_parse(struct str text, uint8_t ret[16]);
bool cidr_holds(const struct cidr *cidr, const uint8_t address[16]);
#define ADDRESS_TEXT_SIZE 46
void address_format(const uint8_t address[16], char ret[ADDRESS_TEXT_SIZE]);
