/* Where http steps and outgoing webhooks may connect to. Everything that is not public unicast is refused (loopback,
 * private, link-local, metadata, documentation, multicast, IPv6 forms that embed such an IPv4 address), unless
 * ROPEWALK_EGRESS_ALLOW lists it. The decision is about the address that is about to be connected, after name
 * resolution. Pure. */
#pragma once
#include "common/base/str.h"
#include <sys/socket.h>

#define EGRESS_TEXT_SIZE 64

struct egress;
/* "10.1.0.0/16, ::1, 192.168.7.7": networks and addresses, a comma between; empty allows nothing beyond the rules. */
enum err_code egress_new(struct str allow, struct egress **ret, struct err *err) MUST_CHECK;
void egress_free(struct egress *egress);
/* Writes the address for messages. Anything but IPv4 and IPv6 is refused. */
bool egress_allowed(const struct egress *egress, const struct sockaddr *address, char ret_text[EGRESS_TEXT_SIZE]);
