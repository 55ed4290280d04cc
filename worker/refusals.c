/* Messages that no worker can read go to a scheduler, who keeps them as dead letters; see shell.h. */
#include "worker/shell.h"

#include "common/base/banned.h"

#define DEAD_LETTER_BYTES ((size_t)1 << 20)
#define GIVE_BACK_US (1 * US_PER_S) /* the broker would bring it again at once */

struct refusal {
    struct refusal *next; /* of those that were not taken */
    struct intake *intake;
    struct delivery_ref ref;
    uint32_t losses; /* of its intake, then: after another the message has come again */
    struct mono_us due_at;
};

static bool is_ours(const struct refusal *refusal)
{
    return refusal->losses == refusal->intake->losses;
}

static void done(struct refusal *refusal)
{
    refusal->intake->refusing--;
    if (is_ours(refusal))
        intake_done(refusal->intake->lane->worker, refusal->ref.consumer);
    mem_free(refusal);
}

static void on_confirm(void *ctx, enum amqp_confirm outcome)
{
    struct refusal *refusal = ctx;
    struct worker *worker = refusal->intake->lane->worker;

    if (outcome != AMQP_CONFIRMED) {
        refusal->due_at = (struct mono_us){clock_mono().us + GIVE_BACK_US};
        refusal->next = worker->not_taken;
        worker->not_taken = refusal;
        return;
    }
    if (is_ours(refusal))
        amqp_ack(refusal->ref.consumer, refusal->ref.generation, refusal->ref.tag);
    done(refusal);
}

void refusal_begin(struct worker *worker, struct delivery_ref ref, struct str body, uint64_t whole_bytes)
{
    struct str kept = {body.ptr, body.len < DEAD_LETTER_BYTES ? body.len : DEAD_LETTER_BYTES};
    struct intake *intake = intake_of(worker, ref.consumer);
    struct refusal *refusal = mem_alloc(sizeof(*refusal));

    intake->refusing++;
    *refusal = (struct refusal){.intake = intake, .ref = ref, .losses = intake->losses};
    amqp_publish(worker->out, &(struct amqp_message){.exchange = "",
                                                     .routing_key = "ropewalk.inbox.0",
                                                     .type = "task",
                                                     .message_id = intake->lane->queue,
                                                     .persistent = true,
                                                     .body = kept,
                                                     .whole_bytes = kept.len < whole_bytes ? whole_bytes : 0,
                                                     .on_confirm = on_confirm,
                                                     .ctx = refusal});
}

void refusals_update(struct worker *worker)
{
    struct refusal **at = &worker->not_taken;
    struct mono_us now = clock_mono();

    while (*at != NULL) {
        struct refusal *refusal = *at;

        if (refusal->due_at.us > now.us) {
            at = &refusal->next;
            continue;
        }
        *at = refusal->next;
        if (is_ours(refusal))
            amqp_nack(refusal->ref.consumer, refusal->ref.generation, refusal->ref.tag, true);
        done(refusal);
    }
}

void refusals_free(struct worker *worker)
{
    while (worker->not_taken != NULL) {
        struct refusal *refusal = worker->not_taken;

        worker->not_taken = refusal->next;
        mem_free(refusal);
    }
}
