/* Signals of a run: per name a queue of those that came and nobody has taken, and of the steps that wait for one. */
#include "common/base/banned.h"
#include "common/base/ensure.h"
#include "common/engine/engine_internal.h"

#define MAP_FROM 16 /* names: a run of fewer is searched one by one, and does without the map's memory */

struct signal_queue *signal_find(const struct run_state *state, struct str name)
{
    struct signal_queue *queue = state->signals;

    if (state->signal_names != NULL)
        return map_get(state->signal_names, name);
    while (queue != NULL && !str_is(name, queue->name))
        queue = queue->next;
    return queue;
}

static void put_name(struct run_state *state, struct signal_queue *queue)
{
    (void)map_put(state->signal_names, str_of(queue->name), queue);
    state->extra_bytes += sizeof(void *) * 4 + strlen(queue->name); /* about what the map takes for one */
}

/* A loop may wait for a name for each of its items. */
static void note_name(struct run_state *state, struct signal_queue *queue)
{
    if (++state->signal_count < MAP_FROM)
        return;
    if (state->signal_names != NULL) {
        put_name(state, queue);
        return;
    }
    state->signal_names = map_new();
    for (queue = state->signals; queue != NULL; queue = queue->next)
        put_name(state, queue);
}

struct signal_queue *signal_get(struct run_state *state, struct str name)
{
    struct signal_queue *queue = signal_find(state, name);

    if (queue != NULL)
        return queue;
    queue = mem_alloc(sizeof(*queue));
    queue->name = mem_dup(name.ptr, name.len);
    queue->next = state->signals;
    state->signals = queue;
    note_name(state, queue);
    state->extra_bytes += sizeof(*queue) + name.len;
    /* one that comes before its step begins is refused a second time all the same */
    for (size_t i = 0; i < state->plan->step_count; i++)
        if (state->plan->steps[i].once && str_eq(state->plan->steps[i].signal, name))
            queue->once = true;
    return queue;
}

void signal_came(struct run_state *state, struct signal_queue *queue, uint32_t seq, uint32_t bytes)
{
    if (queue->count == queue->cap) {
        queue->cap = queue->cap == 0 ? 4 : 2 * queue->cap;
        queue->here = mem_grow(queue->here, queue->cap, sizeof(*queue->here));
        state->extra_bytes += (queue->cap == 4 ? 4 : queue->cap / 2) * sizeof(*queue->here);
    }
    queue->here[queue->count++] = (struct signal_here){seq, bytes};
    queue->received++;
}

bool signal_take(struct signal_queue *queue, uint32_t seq, uint32_t *ret_bytes)
{
    if (queue == NULL || queue->count == 0 || queue->here[0].seq != seq)
        return false;
    *ret_bytes = queue->here[0].bytes;
    queue->count--;
    memmove(queue->here, queue->here + 1, queue->count * sizeof(*queue->here));
    return true;
}

void signal_wait(struct run_state *state, struct signal_queue *queue, uint32_t node)
{
    if (queue->waiter_count == queue->waiter_cap) {
        queue->waiter_cap = queue->waiter_cap == 0 ? 1 : 2 * queue->waiter_cap;
        queue->waiters = mem_grow(queue->waiters, queue->waiter_cap, sizeof(*queue->waiters));
        state->extra_bytes += (queue->waiter_cap == 1 ? 1 : queue->waiter_cap / 2) * sizeof(*queue->waiters);
    }
    queue->waiters[queue->waiter_count++] = node;
}

void signal_leave(struct signal_queue *queue, uint32_t node)
{
    uint32_t at = 0;

    while (at < queue->waiter_count && queue->waiters[at] != node)
        at++;
    ENSURE(at < queue->waiter_count);
    queue->waiter_count--;
    memmove(queue->waiters + at, queue->waiters + at + 1, (queue->waiter_count - at) * sizeof(*queue->waiters));
}

void signals_free(struct run_state *state)
{
    map_free(state->signal_names);
    for (struct signal_queue *queue = state->signals, *next; queue != NULL; queue = next) {
        next = queue->next;
        mem_free(queue->name);
        mem_free(queue->here);
        mem_free(queue->waiters);
        mem_free(queue);
    }
}
