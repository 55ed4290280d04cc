/* A workflow document on the first line and events on those that follow, as a history that was damaged: the fold takes
 * each or refuses it, and what state there is can be read, measured and freed. */
#include "common/base/ensure.h"
#include "common/engine/engine.h"

#include "common/base/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum event_type type_named(struct str name)
{
#define EVENT(number, id, text, format)                                                                                \
    if (str_is(name, text))                                                                                            \
        return EVENT_##id;
#include "common/engine/event.def"
#undef EVENT
    return EVENT_NONE;
}

/* {"type":"step.waiting","step":"each","attempt":1,"at":17,"bytes":5,"data":{...}}; the seq is the next one. */
static bool read_event(struct str line, struct arena *arena, uint32_t seq, struct event *ret)
{
    struct str name, data = jt_get(line, "data");
    int64_t attempt = 0, at = 0, bytes = 0;
    struct err err;

    *ret = (struct event){.seq = seq};
    if (!jt_string(jt_get(line, "type"), arena, &name))
        return false;
    ret->type = type_named(name);
    (void)jt_string(jt_get(line, "step"), arena, &ret->step);
    (void)jt_i64(jt_get(line, "attempt"), &attempt);
    (void)jt_i64(jt_get(line, "at"), &at);
    (void)jt_i64(jt_get(line, "bytes"), &bytes);
    ret->attempt = (uint16_t)attempt;
    ret->at.us = at;
    ret->output_bytes = (uint32_t)bytes;
    return event_decode_data(jt_type(data) == JT_OBJECT ? data : STR_NONE, arena, ret, &err) == ERR_OK;
}

static void look_at(const struct run_state *state)
{
    ENSURE(run_state_bytes(state) > 0);
    for (uint32_t node = 0; node < state->node_count; node++) {
        struct buf path;

        if (!run_step(state, node)->frame->used)
            continue;
        buf_init(&path, STEP_PATH_SIZE);
        run_step_path(state, node, &path);
        ENSURE(run_find_step(state, buf_str(&path), NULL) == node);
        buf_deinit(&path);
    }
}

static void fold_all(struct plan *plan, struct str rest, struct arena *arena)
{
    struct wall_us created = {1};
    struct run_state *state = run_state_new(run_id_make(created, 7), 1, plan, created);

    while (rest.len > 0) {
        struct str line = str_trim(str_cut(&rest, '\n'));
        struct event event;
        struct err err;

        if (jt_check(line, &JT_LIMITS_MESSAGE, &err) != ERR_OK || !read_event(line, arena, state->last_seq + 1, &event))
            continue;
        if (engine_fold(state, &event, &err) == ERR_OK)
            engine_restore_work(state, event.seq, event.attempt, event.at);
    }
    look_at(state);
    run_state_free(state);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct plan_faults faults = {.arena = arena_new(4096)};
    struct str rest = {(const char *)data, size};
    struct str document = str_trim(str_cut(&rest, '\n'));
    struct plan *plan = NULL;
    struct err err;

    if (jt_check(document, &JT_LIMITS_API, &err) == ERR_OK && jt_type(document) == JT_OBJECT)
        plan = plan_compile(document, &PLAN_LIMITS_DEFAULT, &faults);
    if (plan != NULL)
        fold_all(plan, rest, faults.arena);
    plan_unref(plan);
    arena_free(faults.arena);
    return 0;
}
