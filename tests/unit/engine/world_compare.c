/* See world_compare.h. */
#include "tests/unit/engine/world_compare.h"
#include "common/base/ensure.h"
#include <stdio.h>

static const char *path_of(const struct run_state *state, uint32_t node)
{
    static char text[2 * STEP_PATH_SIZE];
    struct buf buf;

    if (node == NO_NODE)
        return "(none)";
    buf_init(&buf, STEP_PATH_SIZE);
    run_step_path(state, node, &buf);
    (void)snprintf(text, sizeof(text), "%s", buf.ptr);
    buf_deinit(&buf);
    return text;
}

static void differ(const struct run_state *state, uint32_t node, const char *what)
{
    fprintf(stderr, "the fold differs at '%s': %s\n", path_of(state, node), what);
    ENSURE(false);
}

#define SAME(what)                                                                                                     \
    do {                                                                                                               \
        if (!(a->what == b->what))                                                                                     \
            differ(state, node, #what);                                                                                \
    } while (0)

static void same_node(const struct run_state *x, uint32_t at, const struct run_state *y, uint32_t other)
{
    char path[2 * STEP_PATH_SIZE];

    ENSURE((at == NO_NODE) == (other == NO_NODE));
    if (at == NO_NODE)
        return;
    (void)snprintf(path, sizeof(path), "%s", path_of(x, at));
    ENSURE(strcmp(path, path_of(y, other)) == 0);
}

static void same_error(const struct run_state *state, uint32_t node, const struct step_error *a,
                       const struct step_error *b)
{
    if ((a == NULL) != (b == NULL) ||
        (a != NULL && (strcmp(a->code, b->code) != 0 || strcmp(a->message, b->message) != 0)))
        differ(state, node, "error");
}

static void same_extra(const struct run_state *state, uint32_t node, const struct step_extra *a,
                       const struct step_extra *b)
{
    if ((a == NULL) != (b == NULL))
        differ(state, node, "extra");
    if (a == NULL)
        return;
    SAME(count);
    SAME(next);
    SAME(live);
    SAME(first_failed);
    SAME(stopping);
    SAME(output_bytes);
    SAME(interval_us);
    SAME(attempts_before);
    if (!run_id_eq(a->child, b->child))
        differ(state, node, "child");
    if ((a->signal == NULL) != (b->signal == NULL) ||
        (a->signal != NULL && strcmp(a->signal->name, b->signal->name) != 0))
        differ(state, node, "signal");
    same_error(state, node, a->item_error, b->item_error);
    for (int i = 0; i < STEP_STATUSES; i++)
        SAME(ended[i]);
    for (uint32_t i = 0; i < a->count; i++) {
        SAME(items[i].status);
        SAME(items[i].output_seq);
        SAME(items[i].output_bytes);
        if ((a->items[i].frame == NULL) != (b->items[i].frame == NULL))
            differ(state, node, "an iteration in memory");
    }
}

static void same_step(const struct run_state *state, uint32_t node, const struct step_state *a,
                      const struct step_state *b)
{
    SAME(status);
    SAME(branch);
    SAME(attempt);
    SAME(generation);
    SAME(lost_in_row);
    SAME(deferred);
    SAME(ran);
    SAME(partial);
    SAME(doubtful);
    SAME(open_kind);
    SAME(unheard);
    SAME(key_used);
    SAME(waiting_for);
    SAME(step);
    SAME(open_seq);
    SAME(input_seq);
    SAME(output_seq);
    SAME(output_bytes);
    SAME(ended_seq);
    SAME(ready_at.us);
    SAME(due_at.us);
    SAME(deadline.us);
    if (a->open_kind == WORK_TASK) {
        SAME(dispatch);
        SAME(worker);
    }
    if (a->asked != 0 || b->asked != 0)
        differ(state, node, "asked");
    same_error(state, node, a->error, b->error);
    same_extra(state, node, a->extra, b->extra);
}

static void same_frame(const struct run_state *x, const struct frame *a, const struct run_state *y)
{
    const struct run_state *state = x;
    uint32_t count = x->plan->scopes[a->scope].count;
    const struct frame *b = NULL;
    uint32_t node = a->base;

    for (uint32_t i = 0; i < count; i++) {
        struct str path = str_of(path_of(x, a->base + i));
        uint32_t other = run_find_step(y, path, NULL);
        if (other == NO_NODE)
            differ(x, a->base + i, "not in the fold");
        same_step(x, a->base + i, run_step(x, a->base + i), run_step(y, other));
        b = run_step(y, other)->frame;
    }
    ENSURE(b != NULL); /* each scope has a step */
    SAME(scope);
    SAME(index);
    SAME(ended);
    SAME(failing);
    SAME(asked);
    same_node(x, a->decisive, y, b->decisive);
}

static uint32_t frames_used(const struct run_state *state)
{
    uint32_t count = 0;

    for (const struct frame *frame = state->frames; frame != NULL; frame = frame->next)
        count += frame->used;
    return count;
}

static void same_signals(const struct run_state *x, const struct run_state *y)
{
    uint32_t names = 0;

    for (const struct signal_queue *a = x->signals; a != NULL; a = a->next) {
        const struct signal_queue *b = y->signals;
        names++;
        while (b != NULL && strcmp(a->name, b->name) != 0)
            b = b->next;
        ENSURE(b != NULL && a->received == b->received && a->once == b->once && a->count == b->count);
        ENSURE(a->waiter_count == b->waiter_count);
        for (uint32_t i = 0; i < a->count; i++)
            ENSURE(a->here[i].seq == b->here[i].seq && a->here[i].bytes == b->here[i].bytes);
        for (uint32_t i = 0; i < a->waiter_count; i++)
            same_node(x, a->waiters[i], y, b->waiters[i]);
    }
    for (const struct signal_queue *b = y->signals; b != NULL; b = b->next)
        names--;
    ENSURE(names == 0);
}

static void same_undos(const struct run_state *x, const struct run_state *y)
{
    ENSURE(x->undo_count == y->undo_count);
    for (uint32_t i = 0; i < x->undo_count; i++) {
        const struct undo *a = &x->undos[i], *b = &y->undos[i];
        same_node(x, a->node, y, b->node);
        ENSURE(a->status == b->status && a->doubtful == b->doubtful && a->undone == b->undone && a->again == b->again);
    }
}

void states_same(const struct run_state *a, const struct run_state *b)
{
    const struct run_state *state = a;
    uint32_t node = NO_NODE;

    SAME(status);
    SAME(started);
    SAME(paused_by_parent);
    SAME(cancelling);
    SAME(timing_out);
    SAME(compensate_wanted);
    SAME(compensating);
    SAME(last_seq);
    SAME(timeout_seq);
    SAME(timeout_at.us);
    SAME(open_steps);
    SAME(admission_seq);
    for (int i = 0; i < ADMISSION_SCOPES; i++) {
        SAME(admissions[i].known);
        SAME(admissions[i].asked);
    }
    SAME(row_count);
    same_error(a, NO_NODE, a->run_error, b->run_error);
    same_node(a, a->decisive, b, b->decisive);
    ENSURE(frames_used(a) == frames_used(b));
    for (const struct frame *frame = a->frames; frame != NULL; frame = frame->next)
        if (frame->used)
            same_frame(a, frame, b);
    same_signals(a, b);
    same_undos(a, b);
}
