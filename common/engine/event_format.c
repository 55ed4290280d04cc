/* Which event format a type of event came with. In a file of its own: tests put another release's in its place. */
#include "common/engine/event.h"
#include <limits.h>

#include "common/base/banned.h"

int event_format(enum event_type type)
{
    switch (type) {
#define EVENT(number, id, name, format)                                                                                \
    case EVENT_##id:                                                                                                   \
        return format;
#include "common/engine/event.def"
#undef EVENT
    case EVENT_NONE:
        break;
    }
    return INT_MAX;
}

int event_format_newest(void)
{
    static const int formats[] = {
#define EVENT(number, id, name, format) format,
#include "common/engine/event.def"
#undef EVENT
    };
    int newest = 0;

    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
        if (formats[i] > newest)
            newest = formats[i];
    return newest;
}
