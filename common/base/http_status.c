/* See http_status.h. */
#include "common/base/http_status.h"
#include "common/base/banned.h"

bool http_status_is_transient(int64_t status)
{
    switch (status) {
    case 408: /* Request Timeout */
    case 425: /* Too Early */
    case 429: /* Too Many Requests */
        return true;
    case 501: /* Not Implemented */
    case 505: /* HTTP Version Not Supported */
        return false;
    default:
        return status >= 500;
    }
}
