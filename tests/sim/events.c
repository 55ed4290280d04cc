/* What is to happen, in order of time. */
#include "tests/sim/sim.h"

#include "common/base/banned.h"

/* In order, what is next last: there are some twenty at a time, and most that are added come soon. What is ordered is
 * one number: when, then which was planned first, then the place in `events`. */
static uint32_t room(struct sim *sim)
{
    if (sim->due_len == sim->due_cap) {
        uint32_t cap = sim->due_cap == 0 ? 256 : 2 * sim->due_cap;

        sim->due = mem_grow(sim->due, cap, sizeof(*sim->due));
        sim->events = mem_grow(sim->events, cap, sizeof(*sim->events));
        for (uint32_t i = sim->due_cap; i < cap; i++)
            sim->due[i] = i; /* behind the last: the places that are free */
        sim->due_cap = cap;
    }
    return (uint32_t)sim->due[sim->due_len];
}

static void add(struct sim *sim, const struct sim_event *event)
{
    uint32_t place = room(sim), at = 0, count = sim->due_len;
    sim_due due = (sim_due)(uint64_t)event->at << 64 | (uint64_t)event->order << 32 | place;

    while (count > 0) {
        uint32_t half = count / 2;
        bool behind = due < sim->due[at + half];

        at = behind ? at + half + 1 : at;
        count = behind ? count - half - 1 : half;
    }
    memmove(&sim->due[at + 1], &sim->due[at], (sim->due_len - at) * sizeof(*sim->due));
    sim->due[at] = due;
    sim->due_len++;
    sim->events[place] = *event;
}

void sim_at(struct sim *sim, int64_t at, struct node *node, sim_fn fn, void *what)
{
    const struct sim_event event = {.at = at < sim->now ? sim->now : at,
                                    .order = sim->next_order++,
                                    .node = node,
                                    .incarnation = node == NULL ? 0 : node->incarnation,
                                    .fn = fn,
                                    .what = what};

    add(sim, &event);
}

void sim_after(struct sim *sim, int64_t low, int64_t high, struct node *node, sim_fn fn, void *what)
{
    sim_at(sim, sim->now + rng_between(&sim->rng, low, high), node, fn, what);
}

bool sim_take(struct sim *sim, struct sim_event *ret)
{
    while (sim->due_len > 0) {
        struct sim_event event = sim->events[(uint32_t)sim->due[--sim->due_len]]; /* whose place is free now */

        sim->now = event.at;
        sim->stats->events++;
        if (event.node != NULL && (!event.node->alive || event.node->incarnation != event.incarnation))
            continue;
        if (event.node != NULL && event.node->frozen_until > sim->now) {
            event.at = event.node->frozen_until;
            add(sim, &event);
            continue;
        }
        *ret = event;
        return true;
    }
    return false;
}
