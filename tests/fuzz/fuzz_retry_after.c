/* Any bytes as Retry-After, and behind a NUL as an endpoint's address: what a stranger's server answers, and what a
 * request names. */
#include "common/base/ensure.h"
#include "common/io/retry_after.h"
#include "common/io/transfer.h"

#include "common/base/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(256);
    struct str text = {(const char *)data, size};
    const char *nul = size == 0 ? NULL : memchr(data, 0, size);
    struct wall_us now = {INT64_C(1767225600) * US_PER_S};
    int64_t ms;

    if (nul != NULL) {
        size_t at = (size_t)(nul - text.ptr) + 1;
        const char *url = arena_dup(arena, text.ptr + at, size - at);
        const char *fault = transfer_url_fault(url);

        ENSURE(fault == NULL || fault[0] != '\0');
        ENSURE(fault != NULL || strlen(url) > 7);
        text.len = at - 1;
    }
    ms = http_retry_after_ms(text, now);
    ENSURE(ms >= -1 && ms <= INT64_C(366) * 86400 * 1000);
    return 0;
}
