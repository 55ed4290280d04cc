/* What is to happen, in order of time. */
#include "tests/sim/sim.h"

#include "common/base/banned.h"

static bool before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at < b->at || (a->at == b->at && a->order < b->order);
}

static void push(struct sim *sim, struct sim_event event)
{
    size_t pos;

    if (sim->heap_len == sim->heap_cap) {
        sim->heap_cap = sim->heap_cap == 0 ? 1024 : 2 * sim->heap_cap;
        sim->heap = mem_grow(sim->heap, sim->heap_cap, sizeof(*sim->heap));
    }
    pos = sim->heap_len++;
    while (pos > 0 && before(&event, &sim->heap[(pos - 1) / 2])) {
        sim->heap[pos] = sim->heap[(pos - 1) / 2];
        pos = (pos - 1) / 2;
    }
    sim->heap[pos] = event;
}

static struct sim_event pop(struct sim *sim)
{
    struct sim_event first = sim->heap[0], last = sim->heap[--sim->heap_len];
    size_t pos = 0;

    for (;;) {
        size_t child = 2 * pos + 1;

        if (child >= sim->heap_len)
            break;
        if (child + 1 < sim->heap_len && before(&sim->heap[child + 1], &sim->heap[child]))
            child++;
        if (!before(&sim->heap[child], &last))
            break;
        sim->heap[pos] = sim->heap[child];
        pos = child;
    }
    sim->heap[pos] = last;
    return first;
}

void sim_at(struct sim *sim, int64_t at, struct node *node, sim_fn fn, void *what)
{
    push(sim, (struct sim_event){.at = at < sim->now ? sim->now : at,
                                 .order = sim->next_order++,
                                 .node = node,
                                 .incarnation = node == NULL ? 0 : node->incarnation,
                                 .fn = fn,
                                 .what = what});
}

void sim_after(struct sim *sim, int64_t low, int64_t high, struct node *node, sim_fn fn, void *what)
{
    sim_at(sim, sim->now + rng_between(&sim->rng, low, high), node, fn, what);
}

bool sim_take(struct sim *sim, struct sim_event *ret)
{
    while (sim->heap_len > 0) {
        struct sim_event event = pop(sim);

        sim->now = event.at;
        sim->stats->events++;
        if (event.node != NULL && (!event.node->alive || event.node->incarnation != event.incarnation))
            continue;
        if (event.node != NULL && event.node->frozen_until > sim->now) {
            event.at = event.node->frozen_until;
            push(sim, event);
            continue;
        }
        *ret = event;
        return true;
    }
    return false;
}
