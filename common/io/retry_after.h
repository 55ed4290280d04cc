/* What an answer's Retry-After asks for. Pure. */
#pragma once
#include "common/base/clock.h"

/* Seconds or an HTTP date (any of its three forms), as milliseconds from `now`; -1 when there is none. */
int64_t http_retry_after_ms(struct str value, struct wall_us now);
