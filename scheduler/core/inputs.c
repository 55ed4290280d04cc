/* The life of an input: who holds it, and what becomes of its message or command when it is done, or another's. */
#include "scheduler/core/core_internal.h"

#include "common/base/banned.h"

#define FORWARD_AGAIN_US (500 * US_PER_MS)

struct delivery *delivery_new(struct sched *sched, const struct sched_message *message, size_t inputs)
{
    struct delivery *delivery = mem_alloc(sizeof(*delivery) + inputs * sizeof(struct input));
    const struct shard *shard = shard_find(sched, message->shard);

    delivery->handle = message->delivery;
    delivery->shard = message->shard;
    delivery->epoch = shard == NULL ? -1 : shard->epoch;
    delivery->again = message->redelivered;
    delivery->whole_bytes = message->whole_bytes;
    delivery->type = message->type;
    delivery->message_id = message->message_id;
    delivery->inputs = (struct input *)(delivery + 1);
    list_add_tail(&sched->deliveries, &delivery->link);
    return delivery;
}

struct arena *delivery_arena(struct delivery *delivery)
{
    if (delivery->arena == NULL)
        delivery->arena = arena_new(1024);
    return delivery->arena;
}

static bool still_ours(const struct sched *sched, const struct delivery *delivery)
{
    const struct shard *shard = shard_find(sched, delivery->shard);

    return shard != NULL && shard->epoch == delivery->epoch;
}

void delivery_unref(struct sched *sched, struct delivery *delivery)
{
    ENSURE(delivery->refs > 0);
    if (--delivery->refs > 0)
        return;
    list_del(&delivery->link);
    if (still_ours(sched, delivery))
        sched->ports.ack(sched->ports.ctx, delivery->handle);
    else
        sched->ports.forget(sched->ports.ctx, delivery->handle);
    arena_free(delivery->arena);
    mem_free(delivery);
}

struct input *input_new_internal(struct run_id run, enum engine_input_kind kind, uint32_t seq)
{
    struct input *input = mem_alloc(sizeof(*input));

    input->run = run;
    input->in.kind = kind;
    input->in.seq = seq;
    input->seq = seq;
    input->bytes = sizeof(*input);
    return input;
}

static void forward_publish(struct sched *sched, struct forward *forward)
{
    struct sched_publish publish = {.queue = forward->queue,
                                    .type = forward->type,
                                    .body = forward->body,
                                    .persistent = true,
                                    .confirm = (UINT64_C(1) << 63) | forward->id};

    if (str_is(str_of(forward->type), "result")) {
        buf_reset(&sched->message);
        buf_append_str(&sched->message, STR("{\"v\":1,\"results\":["));
        buf_append_str(&sched->message, forward->body);
        buf_append_str(&sched->message, STR("]}"));
        publish.body = buf_str(&sched->message);
    }
    forward->again_at.us = 0;
    sched->ports.publish(sched->ports.ctx, &publish);
}

/* A result or started for a run whose shard another has: published to that shard's inbox before it is acknowledged. */
static void forward(struct sched *sched, struct input *input)
{
    struct forward *f = mem_alloc(sizeof(*f));

    f->id = ++sched->next_forward;
    f->delivery = input->delivery;
    f->body = input->raw;
    f->type = input->in.kind == IN_STARTED ? "started" : "result";
    snprintf(f->queue, sizeof(f->queue), "ropewalk.inbox.%d%s", shard_of_run(sched, input->run),
             input->raw.len > LARGE_RESULT_BYTES ? ".large" : "");
    htable_add(&sched->forwards, &f->node, hash_u64(f->id));
    forward_publish(sched, f);
}

void input_drop(struct sched *sched, struct input *input)
{
    if (input->command != NULL)
        command_drop(sched, input->command);
    else if (input->delivery == NULL)
        mem_free(input);
    else if (input->dead == NULL && still_ours(sched, input->delivery))
        forward(sched, input);
    else
        delivery_unref(sched, input->delivery);
}

void input_done(struct sched *sched, struct input *input)
{
    if (input->delivery != NULL) {
        delivery_unref(sched, input->delivery);
    } else if (input->command != NULL) {
        command_done(sched, input->command);
    } else {
        timer_answered(sched, input->run, input->seq);
        mem_free(input);
    }
}

void input_submit(struct sched *sched, struct input *input)
{
    struct shard *shard = shard_find(sched, shard_of_run(sched, input->run));
    struct run_entry *entry;

    if (shard == NULL) {
        input_drop(sched, input);
        return;
    }
    entry = run_get(sched, input->run, shard);
    input->next = NULL;
    *entry->last = input;
    entry->last = &input->next;
    entry->input_count++;
    sched->inputs_waiting++;
    run_kick(sched, entry);
}

void inputs_give_up_commands(struct sched *sched, struct run_entry *entry, command_end_fn give_up)
{
    struct input **at = &entry->first;

    while (*at != NULL) {
        struct input *input = *at;

        if (input->command == NULL) {
            at = &input->next;
            continue;
        }
        *at = input->next;
        entry->input_count--;
        sched->inputs_waiting--;
        give_up(sched, input->command);
    }
    entry->last = at;
}

void inputs_put_back(struct sched *sched, struct run_entry *entry, struct input *first, bool drop_commands)
{
    struct input *kept = NULL, **last = &kept;
    bool dropped = false;
    uint32_t count = 0;

    while (first != NULL) {
        struct input *next = first->next;

        if (entry->lost || (drop_commands && first->command != NULL)) {
            dropped |= !entry->lost;
            input_drop(sched, first);
        } else {
            *last = first;
            last = &first->next;
            count++;
        }
        first = next;
    }
    /* Commands of a run are applied in the order in which they were given: what is behind one that has to be fetched
     * again is fetched again, too. */
    if (dropped)
        inputs_give_up_commands(sched, entry, command_drop);
    if (count == 0)
        return;
    *last = entry->first;
    if (entry->first == NULL)
        entry->last = last;
    entry->first = kept;
    entry->input_count += count;
    sched->inputs_waiting += count;
}

static struct forward *forward_find(const struct sched *sched, uint64_t id)
{
    for (struct hnode *n = htable_chain(&sched->forwards, hash_u64(id)); n != NULL; n = n->next) {
        struct forward *f = CONTAINER(n, struct forward, node);

        if (f->id == id)
            return f;
    }
    return NULL;
}

void forward_confirmed(struct sched *sched, uint64_t id, bool confirmed)
{
    struct forward *f = forward_find(sched, id);

    if (f == NULL)
        return;
    if (!confirmed && still_ours(sched, f->delivery)) {
        f->again_at = mono_after(sched->ports.mono(sched->ports.ctx), FORWARD_AGAIN_US);
        return;
    }
    htable_del(&sched->forwards, &f->node);
    delivery_unref(sched, f->delivery);
    mem_free(f);
}

void forwards_tick(struct sched *sched)
{
    if (sched->forwards.len == 0)
        return;
    for (size_t i = 0; i < sched->forwards.cap; i++) {
        for (struct hnode *n = sched->forwards.slots[i]; n != NULL; n = n->next) {
            struct forward *f = CONTAINER(n, struct forward, node);

            if (f->again_at.us == 0)
                continue;
            if (f->again_at.us <= sched->now.us)
                forward_publish(sched, f);
            else
                wake_by(sched, f->again_at);
        }
    }
}

void inputs_free(struct sched *sched)
{
    for (size_t i = 0; i < sched->forwards.cap; i++) {
        while (sched->forwards.slots[i] != NULL) {
            struct forward *f = CONTAINER(sched->forwards.slots[i], struct forward, node);

            htable_del(&sched->forwards, &f->node);
            mem_free(f);
        }
    }
    htable_deinit(&sched->forwards);
    for (LIST_EACH(&sched->deliveries, at)) {
        struct delivery *delivery = CONTAINER(at, struct delivery, link);

        sched->ports.forget(sched->ports.ctx, delivery->handle);
        arena_free(delivery->arena);
        mem_free(delivery);
    }
}
