/* In place of common/engine/event_format.c: of a release yet to come, or of today's as that one's predecessor
 * (FORMAT_BEFORE). Signals, settling and compensation came with the next event format. */
#include "common/engine/event.h"
#include <limits.h>

#include "common/base/banned.h"

static int todays(enum event_type type)
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

static int todays_newest(void)
{
    int newest = 0;

#define EVENT(number, id, name, format) newest = format > newest ? format : newest;
#include "common/engine/event.def"
#undef EVENT
    return newest;
}

static bool is_new(enum event_type type)
{
    return type == EVENT_SIGNAL_RECEIVED || type == EVENT_STEP_SETTLED || type == EVENT_RUN_COMPENSATING ||
           type == EVENT_RUN_COMPENSATED || type == EVENT_RUN_COMPENSATION_FAILED;
}

int event_format(enum event_type type)
{
    return is_new(type) ? todays_newest() + 1 : todays(type);
}

int event_format_newest(void)
{
#ifdef FORMAT_BEFORE
    return todays_newest();
#else
    return todays_newest() + 1;
#endif
}
