/* Decisions: what chance adds to the bare course of a history, each with a number by which it can be left out. */
#include "tests/sim/sim.h"

#include "common/base/banned.h"

#define AFTER_CRASH (5 * SEC)

/* Until workers have said again that they live, which they say to Redis every 2 s, the living look dead. */
#define HOLDER_US (2 * SEC)

const char *const decision_names[DECISIONS] = {
#define DECISION(id, name, explains, what) name,
#include "tests/sim/decisions.def"
#undef DECISION
};

const bool decision_explains[DECISIONS] = {
#define DECISION(id, name, explains, what) explains,
#include "tests/sim/decisions.def"
#undef DECISION
};

bool mask_has(const struct mask *mask, enum decision kind, uint32_t number)
{
    return mask->all[kind] || (number < MASK_BITS && (mask->bits[kind][number / 64] >> number % 64 & 1) != 0);
}

void mask_set(struct mask *mask, enum decision kind, uint32_t number, bool out)
{
    uint64_t bit = UINT64_C(1) << number % 64;

    if (number >= MASK_BITS)
        return;
    if (out)
        mask->bits[kind][number / 64] |= bit;
    else
        mask->bits[kind][number / 64] &= ~bit;
}

static bool parse_item(struct str item, struct mask *ret)
{
    struct str name = str_cut(&item, ':'), first;
    uint32_t kind = 0, low = 0, high = 0;

    while (kind < DECISIONS && !str_is(name, decision_names[kind]))
        kind++;
    if (kind == DECISIONS)
        return false;
    if (item.len == 0) {
        ret->all[kind] = true;
        return true;
    }
    first = str_cut(&item, '-');
    if (!parse_u32(first, 0, MASK_BITS - 1, &low))
        return false;
    high = low;
    if (item.len > 0 && !parse_u32(item, low, MASK_BITS - 1, &high))
        return false;
    for (uint32_t n = low; n <= high; n++)
        mask_set(ret, (enum decision)kind, n, true);
    return true;
}

bool mask_parse(const char *text, struct mask *ret)
{
    struct str rest = str_of(text);

    *ret = (struct mask){0};
    while (rest.len > 0)
        if (!parse_item(str_cut(&rest, ','), ret))
            return false;
    return true;
}

static void print_ranges(const struct mask *mask, enum decision kind, uint32_t asked, const char **comma)
{
    for (uint32_t n = 0; n < asked && n < MASK_BITS; n++) {
        uint32_t first = n;

        if (!mask_has(mask, kind, n))
            continue;
        while (n + 1 < asked && n + 1 < MASK_BITS && mask_has(mask, kind, n + 1))
            n++;
        if (n > first)
            printf("%s%s:%u-%u", *comma, decision_names[kind], first, n);
        else
            printf("%s%s:%u", *comma, decision_names[kind], n);
        *comma = ",";
    }
}

void mask_print(const struct mask *mask, const uint32_t asked[DECISIONS])
{
    const char *comma = " --without ";

    for (int kind = 0; kind < DECISIONS; kind++) {
        if (mask->all[kind]) {
            printf("%s%s", comma, decision_names[kind]);
            comma = ",";
        } else {
            print_ranges(mask, (enum decision)kind, asked[kind], &comma);
        }
    }
}

bool sim_keeps(struct sim *sim, enum decision kind, uint32_t number)
{
    if (number >= sim->asked[kind])
        sim->asked[kind] = number + 1;
    return !mask_has(&sim->play->without, kind, number);
}

bool sim_decides(struct sim *sim, enum decision kind)
{
    return sim_keeps(sim, kind, sim->asked[kind]);
}

bool sim_chances(struct sim *sim, enum decision kind, uint32_t of_ten_thousand)
{
    if (of_ten_thousand == 0 || sim->quiet || !rng_chance(&sim->streams[kind], of_ten_thousand) ||
        !sim_decides(sim, kind))
        return false;
    sim_trace(sim, "chance: %s:%u", decision_names[kind], sim->asked[kind] - 1);
    sim_happened(sim, kind, sim->now);
    return true;
}

void sim_happened(struct sim *sim, enum decision kind, int64_t until)
{
    sim->stats->happened[kind]++;
    sim->made++;
    if (kind == DECIDE_FLUSH || kind == DECIDE_CACHE || kind == DECIDE_STALE)
        until += HOLDER_US;
    if (until > sim->last[kind])
        sim->last[kind] = until;
}

void stats_operation(struct sim *sim, enum operation operation)
{
    sim->stats->operations[operation]++;
    sim->stats->crashed[operation] += sim->last[DECIDE_CRASH] != 0 && sim->now - sim->last[DECIDE_CRASH] < AFTER_CRASH;
}

struct rng sim_rng(const struct sim *sim, enum decision kind, uint64_t number)
{
    struct rng rng = {sim->seed * UINT64_C(0x9e3779b97f4a7c15) + ((uint64_t)kind + 1) * UINT64_C(0xd1342543de82ef95) +
                      number * UINT64_C(0xaf251af3b0f025b5)};

    (void)rng_next(&rng);
    return rng;
}
