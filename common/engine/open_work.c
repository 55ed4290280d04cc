/* What a folded history asks of open_work, row by row: so that somebody can look whether the table has it. */
#include "common/base/banned.h"
#include "common/engine/engine_internal.h"

size_t engine_open_count(const struct run_state *state)
{
    return state->row_count + (state->timeout_seq != 0 ? 1 : 0) + (state->admission_seq != 0 ? 1 : 0);
}

bool engine_row_is_open(const struct run_state *state, uint32_t seq, enum work_kind kind)
{
    uint32_t node;

    if (seq != 0 && seq == state->timeout_seq)
        return kind == WORK_RUN_TIMEOUT;
    if (seq != 0 && seq == state->admission_seq)
        return kind == WORK_ADMISSION;
    node = engine_find_row(state, seq);
    return node != NO_NODE && run_step(state, node)->open_kind == kind;
}

size_t engine_open_work(const struct run_state *state, struct effect_work_open *ret)
{
    size_t count = 0;

    if (state->timeout_seq != 0)
        ret[count++] = (struct effect_work_open){
            .seq = state->timeout_seq, .kind = WORK_RUN_TIMEOUT, .node = NO_NODE, .due_at = state->timeout_at};
    if (state->admission_seq != 0)
        ret[count++] = (struct effect_work_open){.seq = state->admission_seq, .kind = WORK_ADMISSION, .node = NO_NODE};
    for (uint32_t at = 0; at < state->row_cap; at++) {
        uint32_t node = state->rows[at] - 1;
        const struct step_state *s = state->rows[at] == 0 ? NULL : run_step(state, node);

        if (s == NULL)
            continue;
        ret[count++] = (struct effect_work_open){.seq = s->open_seq,
                                                 .kind = (enum work_kind)s->open_kind,
                                                 .node = node,
                                                 .attempt = s->attempt,
                                                 .dispatch = s->dispatch,
                                                 .due_at = s->due_at};
    }
    return count;
}

static bool signal_untaken(const struct signal_queue *queue)
{
    return queue->count > 0 && queue->waiter_count > 0;
}

bool engine_needs_waking(const struct run_state *state)
{
    if (state->status != RUN_ACTIVE)
        return false;
    if (state->open_steps == 0)
        return state->admission_seq == 0;
    for (const struct signal_queue *queue = state->signals; queue != NULL; queue = queue->next)
        if (signal_untaken(queue))
            return true;
    return false;
}

void engine_wake(struct ctx *c)
{
    if (run_ended((enum run_status)c->state->status)) {
        c->fx->ignored = true;
        return;
    }
    for (const struct signal_queue *queue = c->state->signals; queue != NULL; queue = queue->next)
        while (c->rc == ERR_OK && signal_untaken(queue))
            engine_take_signal(c, queue->waiters[0], queue);
}
