/* See fault.h. Linked into test programs only. */
#include "common/base/fault.h"
#include "common/base/str.h"
#include <signal.h>
#include <unistd.h>

#include "common/base/banned.h"

static const char *const names[FAULT_POINT_COUNT] = {
#define FAULT(name, durable, missing) #name,
#include "common/base/fault.def"
#undef FAULT
};

static struct {
    enum fault_point point; /* FAULT_POINT_COUNT: none */
    uint32_t left;          /* passages until the last one */
} armed = {FAULT_POINT_COUNT, 0};

static bool arm(struct str order)
{
    struct str name = str_cut(&order, ':');

    for (unsigned i = 0; i < FAULT_POINT_COUNT; i++)
        if (str_is(name, names[i]))
            armed.point = (enum fault_point)i;
    return armed.point != FAULT_POINT_COUNT && parse_u32(order, 1, UINT32_MAX, &armed.left);
}

/* Before main: a wrong order must not look like a place that is never passed. */
__attribute__((constructor)) static void read_order(void)
{
    const char *order = getenv("ROPEWALK_FAULT_KILL");

    if (order == NULL || *order == '\0' || arm(str_of(order)))
        return;
    (void)dprintf(STDERR_FILENO,
                  "ropewalk: ROPEWALK_FAULT_KILL is '%s', not NAME:K with a name of common/base/fault.def\n", order);
    _exit(2);
}

bool fault_due(enum fault_point point)
{
    return point == armed.point && armed.left > 0 && --armed.left == 0;
}

void fault_die(enum fault_point point)
{
    (void)dprintf(STDERR_FILENO, "fault: killed at %s\n", names[point]);
    (void)kill(getpid(), SIGKILL);
    for (;;)
        (void)pause();
}
