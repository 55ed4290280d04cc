/* What all contract scenarios share: cmocka, and waiting for a condition in a world that moves only when it is told to.
 */
#pragma once
#include "common/base/clock.h"
#include "common/base/ensure.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

/* Of each driver. A moment passes: events of the model, or a turn of the loop, of a few milliseconds at most. */
void world_turn(void);
int64_t world_now_us(void); /* virtual or monotonic */

/* Until the expression is true; fails after 20 s of the world's time. */
#define UNTIL(condition)                                                                                               \
    do {                                                                                                               \
        int64_t end_ = world_now_us() + INT64_C(20000000);                                                             \
        while (!(condition)) {                                                                                         \
            if (world_now_us() > end_)                                                                                 \
                fail_msg("20 s, and not yet: %s", #condition);                                                         \
            world_turn();                                                                                              \
        }                                                                                                              \
    } while (0)

/* That something does not happen can only be waited for: until the world has had this long. */
static inline void world_pass(int64_t us)
{
    for (int64_t end = world_now_us() + us; world_now_us() < end;)
        world_turn();
}
