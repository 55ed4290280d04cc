/* Frames: steps that live together, their node numbers and paths, and which open row is whose. */
#include "common/base/banned.h"
#include "common/base/ensure.h"
#include "common/engine/engine_internal.h"
#include <inttypes.h>

static uint32_t pages_for(const struct run_state *state, uint32_t node_count)
{
    return (node_count - state->own_count + NODES_PER_PAGE - 1) / NODES_PER_PAGE;
}

static void reserve_nodes(struct run_state *state, uint32_t count)
{
    uint32_t have, want;

    if (state->own == NULL) { /* a run without loops and actions takes no more than its steps need */
        state->own = mem_array(count, sizeof(*state->own));
        state->own_count = state->node_count = count;
        return;
    }
    have = pages_for(state, state->node_count);
    want = pages_for(state, state->node_count + count);
    if (want > have) {
        state->pages = mem_grow(state->pages, want, sizeof(struct step_state *));
        for (uint32_t i = have; i < want; i++)
            state->pages[i] = mem_array(NODES_PER_PAGE, sizeof(struct step_state));
    }
    state->node_count += count;
}

struct frame *frame_new(struct run_state *state, uint32_t scope_index, uint32_t owner, uint32_t index)
{
    const struct plan_scope *scope = &state->plan->scopes[scope_index];
    struct frame *frame = state->free[scope_index];

    if (frame != NULL) {
        struct frame *next = frame->next;
        uint32_t base = frame->base;

        state->free[scope_index] = frame->link;
        *frame = (struct frame){.next = next, .base = base};
    } else {
        frame = mem_alloc(sizeof(*frame));
        frame->base = state->node_count;
        frame->next = state->frames;
        state->frames = frame;
        state->extra_bytes += sizeof(*frame);
        reserve_nodes(state, scope->count);
    }
    frame->scope = scope_index;
    frame->owner = owner;
    frame->index = index;
    frame->decisive = NO_NODE;
    frame->used = true;
    for (uint32_t i = 0; i < scope->count; i++) {
        struct step_state *s = run_step(state, frame->base + i);

        *s = (struct step_state){.step = scope->first + i,
                                 .frame = frame,
                                 .branch = NO_BRANCH,
                                 .waiting_for = (uint32_t)state->plan->steps[scope->first + i].edge_count};
    }
    if (scope->role != ROLE_STEP) {
        frame->link = state->actions;
        state->actions = frame;
    }
    return frame;
}

static void extra_free(struct run_state *state, struct step_state *s)
{
    if (s->extra == NULL)
        return;
    state->extra_bytes -= sizeof(*s->extra) + s->extra->count * sizeof(*s->extra->items);
    mem_free(s->extra->items);
    mem_free(s->extra->item_error);
    mem_free(s->extra);
    s->extra = NULL;
}

struct step_extra *step_extra(struct run_state *state, struct step_state *s)
{
    if (s->extra == NULL) {
        s->extra = mem_alloc(sizeof(*s->extra));
        s->extra->first_failed = NO_NODE;
        state->extra_bytes += sizeof(*s->extra);
    }
    return s->extra;
}

static void steps_clear(struct run_state *state, struct frame *frame)
{
    for (uint32_t i = 0; i < state->plan->scopes[frame->scope].count; i++) {
        struct step_state *s = run_step(state, frame->base + i);

        mem_free(s->error);
        s->error = NULL;
        extra_free(state, s);
    }
}

void step_use_generation(struct step_state *s, uint16_t generation)
{
    if (generation != s->generation)
        s->key_used = false;
    s->generation = generation;
}

uint16_t step_next_generation(const struct step_state *s)
{
    bool answered = s->key_used && !s->doubtful && (s->unheard & 1) == 0;

    return (uint16_t)(s->generation + (answered ? 1 : 0));
}

void step_restart(struct run_state *state, struct step_state *s)
{
    if (s->attempt > 0) {
        step_extra(state, s)->attempts_before = s->attempt;
        step_use_generation(s, step_next_generation(s));
    }
    mem_free(s->error);
    s->error = NULL;
    s->status = STEP_PENDING;
    s->branch = NO_BRANCH;
    s->ran = false;
    s->passed = false;
    s->partial = false;
    s->lost_in_row = 0;
    s->ended_seq = 0;
    s->ready_at.us = 0;
    s->deadline.us = 0;
    s->frame->ended--;
}

/* May a worker, or a person, still have to say something of a step in it, or may it have to be undone? */
static bool must_keep(const struct run_state *state, const struct frame *frame)
{
    const struct plan_scope *scope = &state->plan->scopes[frame->scope];

    for (uint32_t i = 0; i < scope->count; i++) {
        const struct step_state *s = run_step(state, frame->base + i);

        if (s->unheard != 0 || s->status == STEP_OUTCOME_UNKNOWN)
            return true;
        for (uint32_t n = 0; s->extra != NULL && n < s->extra->count; n++)
            if (s->extra->items[n].frame != NULL && must_keep(state, s->extra->items[n].frame))
                return true;
    }
    return scope->keep;
}

static void forget(struct run_state *state, struct frame *frame)
{
    /* iterations in it that were kept only because they might have been gone on with */
    for (uint32_t i = 0; i < state->plan->scopes[frame->scope].count; i++) {
        const struct step_extra *extra = run_step(state, frame->base + i)->extra;

        for (uint32_t n = 0; extra != NULL && n < extra->count; n++)
            if (extra->items[n].frame != NULL)
                forget(state, extra->items[n].frame);
    }
    steps_clear(state, frame);
    run_step(state, frame->owner)->extra->items[frame->index].frame = NULL;
    frame->used = false;
    frame->link = state->free[frame->scope];
    state->free[frame->scope] = frame;
}

void frame_forget(struct run_state *state, struct frame *frame)
{
    const struct loop_item *item = &run_step(state, frame->owner)->extra->items[frame->index];

    if (item->status == STEP_SUCCEEDED && !item->partial && !must_keep(state, frame))
        forget(state, frame);
}

void frames_free(struct run_state *state)
{
    for (struct frame *frame = state->frames, *next; frame != NULL; frame = next) {
        next = frame->next;
        if (frame->used)
            steps_clear(state, frame);
        mem_free(frame);
    }
    for (uint32_t i = 0; i < pages_for(state, state->node_count); i++)
        mem_free(state->pages[i]);
    mem_free(state->own);
    mem_free(state->pages);
    mem_free(state->free);
    mem_free(state->rows);
}

struct frame *frame_begin_item(struct run_state *state, uint32_t loop, uint32_t index)
{
    struct step_extra *extra = run_step(state, loop)->extra;
    struct frame *frame = frame_new(state, run_plan_step(state, loop)->body, loop, index);

    extra->items[index].frame = frame;
    loop_item_runs(extra, index);
    return frame;
}

struct frame *run_find_action(const struct run_state *state, uint32_t step, uint32_t owner)
{
    struct frame *frame = state->actions;

    while (frame != NULL && (run_step(state, frame->base)->step != step || frame->owner != owner))
        frame = frame->link;
    return frame;
}

/* ---- paths ---- */

/* Takes "name", "name[12]" or "name:compensate" off the front of a path. */
struct part {
    struct str name;
    bool has_index, is_compensation;
    uint32_t index;
};

static bool take_part(struct str *rest, struct part *ret)
{
    struct str text = str_cut(rest, '.');
    const char *bracket = text.len == 0 ? NULL : memchr(text.ptr, '[', text.len);
    const char *colon = text.len == 0 ? NULL : memchr(text.ptr, ':', text.len);

    *ret = (struct part){.name = text};
    if (colon != NULL) {
        ret->name.len = (size_t)(colon - text.ptr);
        ret->is_compensation = str_is((struct str){colon, text.len - ret->name.len}, ":compensate");
        return ret->is_compensation && rest->len == 0;
    }
    if (bracket == NULL)
        return text.len > 0;
    ret->name.len = (size_t)(bracket - text.ptr);
    ret->has_index = true;
    return text.ptr[text.len - 1] == ']' &&
           parse_u32((struct str){bracket + 1, text.len - ret->name.len - 2}, 0, LOOP_ITEMS_MAX - 1, &ret->index);
}

/* An iteration that a path leads through, or is about. False: there is none to go on with. */
static bool enter_item(struct run_state *state, struct place *place, const struct part *part, bool is_last, bool begin)
{
    const struct step_extra *extra = run_step(state, place->node)->extra;
    struct loop_item *item;

    if (extra == NULL || extra->items == NULL) {
        place->later = !step_ended((enum step_status)run_step(state, place->node)->status);
        return false;
    }
    if (part->index >= extra->count)
        return false;
    item = &extra->items[part->index];
    place->loop = place->node;
    place->index = part->index;
    if (item->frame == NULL && item->status == STEP_PENDING) {
        place->later = !step_ended((enum step_status)run_step(state, place->node)->status);
        if (begin && place->later && !is_last)
            (void)frame_begin_item(state, place->node, part->index);
    }
    place->frame = item->frame;
    place->node = NO_NODE;
    return item->frame != NULL;
}

bool frame_resolve(struct run_state *state, struct str path, bool begin, struct place *ret)
{
    const struct plan *plan = state->plan;
    struct str rest = path;

    *ret = (struct place){.frame = state->root, .node = NO_NODE, .loop = NO_NODE};
    if (str_is(path, ":notify")) {
        struct frame *frame = plan->notify == NO_NODE ? NULL : run_find_action(state, plan->notify, NO_NODE);

        ret->later = plan->notify != NO_NODE && frame == NULL;
        if (ret->later && begin)
            frame = frame_new(state, plan->steps[plan->notify].scope, NO_NODE, 0);
        ret->frame = frame;
        ret->node = frame == NULL ? NO_NODE : frame->base;
        return frame != NULL;
    }
    while (rest.len > 0) {
        struct part part;
        uint32_t step;

        if (ret->frame == NULL || !take_part(&rest, &part))
            return false;
        step = plan_find_in(plan, ret->frame->scope, part.name);
        if (step == NO_NODE)
            return false;
        ret->loop = NO_NODE;
        ret->node = ret->frame->base + (step - plan->scopes[ret->frame->scope].first);
        if (part.has_index && !enter_item(state, ret, &part, rest.len == 0, begin))
            return rest.len == 0 && ret->loop != NO_NODE;
        if (part.is_compensation) {
            uint32_t action = plan->steps[step].compensate;
            uint32_t owner = ret->node;

            ret->frame = action == NO_NODE ? NULL : run_find_action(state, action, owner);
            ret->later = action != NO_NODE && ret->frame == NULL;
            if (ret->later && begin)
                ret->frame = frame_new(state, plan->steps[action].scope, owner, 0);
            ret->node = ret->frame == NULL ? NO_NODE : ret->frame->base;
            return ret->frame != NULL;
        }
    }
    return ret->node != NO_NODE || ret->loop != NO_NODE;
}

uint32_t run_find_step(const struct run_state *state, struct str path, bool *ret_later)
{
    struct place place;
    bool found;

    /* nothing is begun: the state is only looked at */
    found = frame_resolve((struct run_state *)(uintptr_t)state, path, false, &place);
    if (ret_later != NULL)
        *ret_later = place.later;
    return found ? place.node : NO_NODE;
}

static void frame_path(const struct run_state *state, const struct frame *frame, struct buf *out)
{
    if (frame->owner == NO_NODE)
        return;
    run_step_path(state, frame->owner, out);
    if (state->plan->scopes[frame->scope].role == ROLE_STEP)
        buf_printf(out, "[%" PRIu32 "].", frame->index);
}

void run_step_path(const struct run_state *state, uint32_t node, struct buf *out)
{
    const struct step_state *s = run_step(state, node);
    const struct plan_step *step = &state->plan->steps[s->step];

    frame_path(state, s->frame, out);
    if (step->role == ROLE_NOTIFY)
        buf_append_str(out, STR(":notify"));
    else if (step->role == ROLE_COMPENSATE)
        buf_append_str(out, STR(":compensate"));
    else
        buf_append_str(out, step->name);
}

struct str engine_path(struct arena *arena, const struct run_state *state, uint32_t node)
{
    const struct step_state *s = run_step(state, node);
    struct buf path;
    struct str text;

    if (s->frame == state->root)
        return state->plan->steps[s->step].name;
    buf_init(&path, STEP_PATH_SIZE);
    run_step_path(state, node, &path);
    text = str_arena(arena, buf_str(&path));
    buf_deinit(&path);
    return text;
}

struct str engine_item_path(struct arena *arena, const struct run_state *state, uint32_t loop, uint32_t index)
{
    struct str text = engine_path(arena, state, loop);

    return str_of(arena_printf(arena, STR_FMT "[%" PRIu32 "]", STR_ARG(text), index));
}

/* The frame around one: that of the loop, or of the step that is undone; NULL around the workflow. */
static const struct frame *around(const struct run_state *state, const struct frame *frame)
{
    if (frame == state->root)
        return NULL;
    return frame->owner == NO_NODE ? state->root : run_step(state, frame->owner)->frame;
}

uint32_t run_find_visible(const struct run_state *state, const struct frame *frame, struct str name)
{
    for (; frame != NULL; frame = around(state, frame)) {
        const struct plan_scope *scope = &state->plan->scopes[frame->scope];
        uint32_t step = scope->by_name == NULL ? NO_NODE : plan_find_in(state->plan, frame->scope, name);

        if (step != NO_NODE)
            return frame->base + (step - scope->first);
    }
    return NO_NODE;
}

bool run_item_of(const struct run_state *state, const struct frame *frame, uint32_t *ret_loop, uint32_t *ret_index)
{
    for (; frame != NULL; frame = around(state, frame)) {
        if (frame == state->root || state->plan->scopes[frame->scope].role != ROLE_STEP)
            continue;
        *ret_loop = frame->owner;
        *ret_index = frame->index;
        return true;
    }
    return false;
}

/* ---- open rows by seq: open addressing, the slot of a row is free when it holds 0 ---- */

static uint32_t row_slot(const struct run_state *state, uint32_t seq)
{
    return (seq * UINT32_C(2654435761)) & (state->row_cap - 1);
}

static void row_put(struct run_state *state, uint32_t node)
{
    uint32_t at = row_slot(state, run_step(state, node)->open_seq);

    while (state->rows[at] != 0)
        at = (at + 1) & (state->row_cap - 1);
    state->rows[at] = node + 1;
}

void rows_add(struct run_state *state, uint32_t node)
{
    if (2 * (state->row_count + 1) > state->row_cap) {
        uint32_t *old = state->rows;
        uint32_t cap = state->row_cap;

        state->row_cap = cap == 0 ? 8 : 2 * cap;
        state->rows = mem_array(state->row_cap, sizeof(*state->rows));
        for (uint32_t i = 0; i < cap; i++)
            if (old[i] != 0)
                row_put(state, old[i] - 1);
        mem_free(old);
    }
    row_put(state, node);
    state->row_count++;
}

void rows_del(struct run_state *state, uint32_t node)
{
    uint32_t mask = state->row_cap - 1;
    uint32_t hole = row_slot(state, run_step(state, node)->open_seq);

    while (state->rows[hole] != node + 1)
        hole = (hole + 1) & mask;
    /* what follows moves up where that brings it no further than its own slot */
    for (uint32_t at = (hole + 1) & mask; state->rows[at] != 0; at = (at + 1) & mask) {
        uint32_t home = row_slot(state, run_step(state, state->rows[at] - 1)->open_seq);

        if (((at - home) & mask) < ((at - hole) & mask))
            continue;
        state->rows[hole] = state->rows[at];
        hole = at;
    }
    state->rows[hole] = 0;
    state->row_count--;
}

uint32_t engine_find_row(const struct run_state *state, uint32_t seq)
{
    if (seq == 0 || state->row_count == 0)
        return NO_NODE;
    for (uint32_t at = row_slot(state, seq); state->rows[at] != 0; at = (at + 1) & (state->row_cap - 1))
        if (run_step(state, state->rows[at] - 1)->open_seq == seq)
            return state->rows[at] - 1;
    return NO_NODE;
}
