/* Places between two durable actions, at which a test build dies when it is told to: ROPEWALK_FAULT_KILL="NAME:K" in
 * the environment sends the process SIGKILL at its K-th passage of the place NAME (fault.def), without flushing
 * anything.
 *
 * Only programs that are built with ROPEWALK_FAULT_POINTS have the hooks (tests/kill/CMakeLists.txt builds a second set
 * of the three services so); everywhere else the macros are nothing. Hooks stand in the shells: core and engine stay
 * pure. Loop thread only. */
#pragma once
#include <stdbool.h>

#ifdef ROPEWALK_FAULT_POINTS

enum fault_point {
#define FAULT(name, durable, missing) FAULT_##name,
#include "common/base/fault.def"
#undef FAULT
    FAULT_POINT_COUNT
};

bool fault_due(enum fault_point point); /* counts a passage: is this the one to die at? */
__attribute__((noreturn)) void fault_die(enum fault_point point);

#define FAULT_POINT_AFTER(name, condition, statement)                                                                  \
    do {                                                                                                               \
        if ((condition) && fault_due(FAULT_##name)) {                                                                  \
            statement;                                                                                                 \
            fault_die(FAULT_##name);                                                                                   \
        }                                                                                                              \
    } while (0)

#else

#define FAULT_POINT_AFTER(name, condition, statement)                                                                  \
    do {                                                                                                               \
        if (false && (condition)) {                                                                                    \
            statement;                                                                                                 \
        }                                                                                                              \
    } while (0)

#endif

/* A place; one that counts only when the condition holds; and (above) one at which the statement is done first, and
 * only before dying: what would otherwise leave the process a moment later. */
#define FAULT_POINT(name) FAULT_POINT_AFTER(name, true, (void)0)
#define FAULT_POINT_IF(name, condition) FAULT_POINT_AFTER(name, condition, (void)0)
