/* Dividing a worker's capacity; see slots.h. */
#include "worker/slots.h"
#include "common/base/ensure.h"
#include <assert.h>
#include <string.h>

#include "common/base/banned.h"

#define WHOLE 16 /* own slots and weights are sixteenths of the capacity */

static const struct class_share {
    unsigned own;    /* slots nobody else gets */
    unsigned weight; /* slots in all, when every class uses up its own */
} SHARES[] = {{2, 8}, {2, 4}, {2, 3}, {1, 1}};
static_assert(sizeof(SHARES) / sizeof(SHARES[0]) == PRIORITY_COUNT, "a share for each class");

enum { NORMAL = 2 };

void slots_init(struct slots *slots, unsigned capacity, size_t pools)
{
    unsigned rest = capacity;

    ENSURE(pools >= 1 && pools <= SLOTS_POOLS_MAX && capacity >= 1 && capacity <= UINT16_MAX);
    memset(slots, 0, sizeof(*slots));
    slots->lane_count = pools * PRIORITY_COUNT;
    for (size_t i = 0; i < slots->lane_count; i++) {
        unsigned own = capacity * SHARES[i % PRIORITY_COUNT].own / (unsigned)(WHOLE * pools);

        slots->own[i] = (uint16_t)(own < 1 ? 1 : own);
        rest = rest > slots->own[i] ? rest - slots->own[i] : 0;
    }
    slots->loan_count = rest < SLOTS_LOANS_MAX ? rest : SLOTS_LOANS_MAX;
    for (size_t i = 0; i < slots->loan_count; i++) {
        slots->loan[i] = (uint16_t)(rest / (slots->loan_count - i));
        rest -= slots->loan[i];
        slots->lane_of[i] = NORMAL;
    }
}

void slots_used(struct slots *slots, size_t lane, unsigned used, unsigned has)
{
    if (used > slots->most[0][lane])
        slots->most[0][lane] = used;
    if (used >= has)
        slots->full[0][lane] = true;
}

void slots_next_period(struct slots *slots)
{
    memcpy(slots->most[1], slots->most[0], sizeof(slots->most[1]));
    memcpy(slots->full[1], slots->full[0], sizeof(slots->full[1]));
    memset(slots->most[0], 0, sizeof(slots->most[0]));
    memset(slots->full[0], 0, sizeof(slots->full[0]));
}

/* Slots beyond its own that a lane has use for: without bound when it used all it had, else what it used and a loan
 * more, so that a loan does not go to and fro. */
static unsigned wanted(const struct slots *slots, size_t lane)
{
    unsigned most = slots->most[0][lane] > slots->most[1][lane] ? slots->most[0][lane] : slots->most[1][lane];

    if (slots->full[0][lane] || slots->full[1][lane])
        return UINT16_MAX;
    return most > slots->own[lane] ? most - slots->own[lane] + slots->loan[0] : 0;
}

/* The lane to which the next loan brings most for its weight (d'Hondt's rule); lane_count: none has use for it. */
static size_t most_deserving(const struct slots *slots, const unsigned *given, const unsigned *want)
{
    size_t best = slots->lane_count;
    uint64_t best_after = 1, best_weight = 0;

    for (size_t i = 0; i < slots->lane_count; i++) {
        uint64_t weight = SHARES[i % PRIORITY_COUNT].weight, after = slots->own[i] + given[i] + slots->loan[0];

        if (given[i] >= want[i] || weight * best_after <= best_weight * after)
            continue;
        best = i;
        best_after = after;
        best_weight = weight;
    }
    return best;
}

bool slots_divide(struct slots *slots)
{
    unsigned want[SLOTS_LANES_MAX], given[SLOTS_LANES_MAX] = {0};
    unsigned loans[SLOTS_LANES_MAX] = {0}; /* to be had by each lane */
    bool stays[SLOTS_LOANS_MAX] = {false}, changed = false;
    size_t lane = 0;

    for (size_t i = 0; i < slots->lane_count; i++)
        want[i] = wanted(slots, i);
    for (size_t i = 0; i < slots->loan_count; i++) {
        size_t to = most_deserving(slots, given, want);

        if (to == slots->lane_count)
            break; /* the rest stays where it is */
        given[to] += slots->loan[i];
        loans[to]++;
    }
    for (size_t i = 0; i < slots->loan_count; i++) {
        stays[i] = loans[slots->lane_of[i]] > 0;
        if (stays[i])
            loans[slots->lane_of[i]]--;
    }
    for (size_t i = 0; i < slots->loan_count; i++) {
        while (lane < slots->lane_count && loans[lane] == 0)
            lane++;
        if (lane == slots->lane_count)
            break;
        if (stays[i])
            continue;
        slots->lane_of[i] = lane;
        loans[lane]--;
        changed = true;
    }
    return changed;
}
