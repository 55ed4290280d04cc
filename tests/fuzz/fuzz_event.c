/* Any JSON as the stored fields of an event: it is refused, or what is read can be written, and reads back the same. */
#include "common/base/ensure.h"
#include "common/engine/event.h"

#include "common/base/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(1024);
    CLEANUP(buf_deinit) struct buf once;
    CLEANUP(buf_deinit) struct buf twice;
    struct event event = {.seq = 1, .type = EVENT_STEP_FAILED};
    struct event again = event;
    struct str text = {(const char *)data, size};
    struct err err;

    buf_init(&once, (size_t)8 << 20);
    buf_init(&twice, (size_t)8 << 20);
    if (jt_check(text, &JT_LIMITS_API, &err) != ERR_OK ||
        event_decode_data(str_trim(text), arena, &event, &err) != ERR_OK)
        return 0;
    event_encode_data(&event, &once);
    if (once.len == 0)
        return 0;
    ENSURE(jt_check(buf_str(&once), &JT_LIMITS_MESSAGE, &err) == ERR_OK);
    ENSURE(event_decode_data(buf_str(&once), arena, &again, &err) == ERR_OK);
    event_encode_data(&again, &twice);
    ENSURE(str_eq(buf_str(&once), buf_str(&twice)));
    return 0;
}
