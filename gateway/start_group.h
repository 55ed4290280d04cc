/* Starts of one organisation in a transaction: their statements, and where the answers are. Of start.c. */
#pragma once
#include "gateway/start.h"

enum lane_kind { LANE_PLAIN, LANE_KEYED, LANE_HELD, LANE_KNOWN };

struct start_group {
    int32_t organisation;
    size_t count;
    struct start **starts;
    int insert, known; /* index of the statement's result */
};

/* Adds the statements. `queue` is the gateway's own. */
void start_group_add(struct pg_batch *pg, enum lane_kind kind, struct start_group *group, const char *queue);
/* Does it arrive at a trigger with debounce, throttle or batch? */
static inline bool start_is_held(const struct start *start)
{
    return start->delivery != NULL && start->delivery->held.rule.ptr != NULL;
}
