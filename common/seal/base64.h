/* Base64 (RFC 4648, section 4), strict: padding must be there, unused bits zero, nothing else between. Pure. */
#pragma once
#include "common/base/str.h"

void base64_encode(struct str bytes, struct buf *out);
bool base64_decode(struct str text, struct buf *out); /* false: `out` may hold a part */
