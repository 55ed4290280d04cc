/* How a worker's capacity is divided among the queues it consumes: four classes of priority for each pool. Some slots
 * are a lane's own, the rest is lent in up to nine equal loans to lanes that use up what they have. Numbers, guarantees
 * and reasons: worker/README.md, "Shares". Pure. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PRIORITY_COUNT 4 /* critical high normal low, in this order */
#define SLOTS_POOLS_MAX 32
#define SLOTS_LANES_MAX (SLOTS_POOLS_MAX * PRIORITY_COUNT)
#define SLOTS_LOANS_MAX 9

struct slots {
    size_t lane_count;             /* lane i serves class i % PRIORITY_COUNT */
    uint16_t own[SLOTS_LANES_MAX]; /* at least 1 */
    size_t loan_count;
    uint16_t loan[SLOTS_LOANS_MAX];    /* slots of each */
    size_t lane_of[SLOTS_LOANS_MAX];   /* who has it, or shall have it next */
    unsigned most[2][SLOTS_LANES_MAX]; /* slots used at one time, in this and the last period */
    bool full[2][SLOTS_LANES_MAX];     /* all it had were in use at some time */
};

/* capacity 1..65000, pools 1..SLOTS_POOLS_MAX. Together the slots are the capacity, or one for each lane when that is
 * more. At first the first pool's `normal` has all loans. */
void slots_init(struct slots *slots, unsigned capacity, size_t pools);
/* So many slots of the lane are in use now, of so many that it really has. */
void slots_used(struct slots *slots, size_t lane, unsigned used, unsigned has);
void slots_next_period(struct slots *slots); /* what was used two periods ago counts no more */
/* Decides anew who shall have each loan, from what was used; true: some lane_of has changed. */
bool slots_divide(struct slots *slots);
