/* Events of strangers. The first byte chooses the way: JSON as it stands, or an event put together of attributes (name,
 * value, each ended by NUL; an empty name ends them), content type and data. What is read may be kept: it is JSON that
 * is read the same once more. */
#include "common/base/ensure.h"
#include "common/cloudevent/cloudevent.h"

#include "common/base/banned.h"

#define ATTRIBUTES 80

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_fault(void *ctx, const char *code, const char *pointer, const char *message)
{
    size_t *faults = ctx;

    ENSURE(code[0] != '\0' && message[0] != '\0' && (pointer[0] == '\0' || pointer[0] == '/'));
    (*faults)++;
}

static struct str take(struct str *rest)
{
    struct str part = str_cut(rest, '\0');

    if (rest->ptr == NULL)
        *rest = STR("");
    return part;
}

static void check_same(const struct cloudevent *event, struct arena *arena)
{
    struct jt_limits limits = JT_LIMITS_API;
    struct cloudevent again;
    struct err err;
    size_t faults = 0;

    limits.max_bytes = (size_t)64 << 20;
    ENSURE(jt_check(event->json, &limits, &err) == ERR_OK);
    ENSURE(cloudevent_read(event->json, arena, on_fault, &faults, &again) && faults == 0);
    ENSURE(str_eq(again.id, event->id) && str_eq(again.source, event->source) && str_eq(again.type, event->type) &&
           str_eq(again.subject, event->subject) && str_eq(again.data, event->data));
    ENSURE(event->id.len > 0 && event->source.len > 0 && event->type.len > 0 && event->data.len > 0);
}

static bool assemble(struct str rest, struct arena *arena, size_t *faults, struct cloudevent *ret)
{
    struct cloudevent_attribute attributes[ATTRIBUTES];
    size_t count = 0;
    struct str type;

    while (count < ATTRIBUTES && rest.len > 0) {
        attributes[count].name = take(&rest);
        if (attributes[count].name.len == 0)
            break;
        attributes[count++].value = take(&rest);
    }
    type = take(&rest);
    return cloudevent_assemble(attributes, count, type.len == 0 ? STR_NONE : type, rest, &JT_LIMITS_API, arena,
                               on_fault, faults, ret);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(4096);
    struct str rest = {(const char *)data + 1, size - 1};
    struct cloudevent event;
    size_t faults = 0;
    struct err err;
    bool good;

    if (size < 2)
        return 0;
    if (data[0] % 2 == 0 && jt_check(rest, &JT_LIMITS_API, &err) != ERR_OK)
        return 0;
    good = data[0] % 2 == 0 ? cloudevent_read(rest, arena, on_fault, &faults, &event)
                            : assemble(rest, arena, &faults, &event);
    ENSURE(good == (faults == 0));
    if (good)
        check_same(&event, arena);
    return 0;
}
