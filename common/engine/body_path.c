/* Paths of bodies, as gateways and schedulers write them. */
#include "common/engine/body_path.h"
#include "common/base/banned.h"
#include <inttypes.h>

/* A step's path inside of a URL's. */
static void put_segment(struct buf *out, struct str step)
{
    for (size_t i = 0; i < step.len; i++) {
        char c = step.ptr[i];

        if (c == '[' || c == ']' || c == ':')
            buf_printf(out, "%%%02X", (unsigned)c);
        else
            buf_append_char(out, c); /* names of steps have letters, digits and _ */
    }
}

void body_path(struct run_id run, enum event_type type, struct str step, unsigned attempt, uint32_t seq,
               struct buf *out)
{
    char id[UUID_TEXT_SIZE];

    run_id_format(run, id);
    buf_printf(out, "/v1/runs/%s", id);
    if (type == EVENT_SIGNAL_RECEIVED) {
        buf_printf(out, "/events/%" PRIu32 "/output", seq);
        return;
    }
    if (step.ptr == NULL) {
        buf_append_str(out, type == EVENT_RUN_STARTED ? STR("/input") : STR("/output"));
        return;
    }
    buf_append_str(out, STR("/steps/"));
    put_segment(out, step);
    buf_printf(out, "/attempts/%u/%s", attempt > 0 ? attempt : 1,
               type == EVENT_STEP_DISPATCHED || type == EVENT_STEP_WAITING ? "input" : "output");
}
