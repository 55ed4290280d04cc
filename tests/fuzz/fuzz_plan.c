/* Any JSON as a workflow document: compiling ends with a plan or with faults whose pointers are JSON Pointers. What
 * compiles is run: evaluations get values, tasks results and timers that the bytes of the document choose, and after it
 * the state is what a fold of the stored history gives. */
#include "common/base/ensure.h"
#include "common/engine/engine.h"

#include "common/base/banned.h"

#define INPUTS_MAX 300
#define EVENTS_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct chooser {
    const uint8_t *data;
    size_t size, at;
};

static uint8_t choose(struct chooser *c)
{
    uint8_t byte = c->size == 0 ? 0 : c->data[c->at % c->size];

    c->at++;
    return (uint8_t)(byte + c->at); /* so that a short input does not choose the same for ever */
}

struct game {
    struct chooser chooser;
    struct arena *arena;
    struct run_state *state;
    struct wall_us now;
    struct event *history;
    size_t count;
};

static void check_faults(const struct plan_faults *faults)
{
    for (size_t i = 0; i < faults->count; i++) {
        struct str pointer = faults->items[i].pointer;

        ENSURE(faults->items[i].code != NULL && faults->items[i].message.len > 0);
        ENSURE(pointer.len == 0 || pointer.ptr[0] == '/');
    }
}

static void store(struct game *g, const struct event *event)
{
    struct event *row = &g->history[g->count++];
    struct buf data;
    struct err err;

    ENSURE(g->count < EVENTS_MAX);
    buf_init(&data, 1 << 20);
    event_encode_data(event, &data);
    *row = (struct event){.seq = event->seq,
                          .type = event->type,
                          .at = event->at,
                          .step = event->step,
                          .attempt = event->attempt,
                          .output_bytes = event->output_bytes};
    if (data.len > 0) {
        ENSURE(jt_check(buf_str(&data), &JT_LIMITS_MESSAGE, &err) == ERR_OK);
        ENSURE(event_decode_data(str_arena(g->arena, buf_str(&data)), g->arena, row, &err) == ERR_OK);
    }
    buf_deinit(&data);
}

static void apply(struct game *g, const struct engine_input *in)
{
    static const char *const values[] = {
        "true", "false", "\"5m\"", "null", "7", "{\"a\":1}", "\"2026-01-01T00:00:00Z\""};
    struct effects fx;
    struct err err;

    effects_init(&fx, g->arena);
    ENSURE(engine_apply(g->state, in, g->now, &fx, &err) == ERR_OK);
    for (size_t i = 0; i < fx.eval_count; i++) {
        struct engine_input value = {.kind = IN_VALUE,
                                     .node = fx.evals[i].node,
                                     .purpose = fx.evals[i].purpose,
                                     .index = fx.evals[i].index,
                                     .failed = choose(&g->chooser) % 16 == 0,
                                     .message = STR("it failed"),
                                     .value = str_of(values[choose(&g->chooser) % 7])};

        ENSURE(engine_apply(g->state, &value, g->now, &fx, &err) == ERR_OK);
    }
    for (size_t i = 0; i < fx.event_count; i++)
        store(g, &fx.events[i]);
}

/* Something for the step whose row is the oldest after a chosen one; false when nothing is open. */
static bool next_input(struct game *g, struct engine_input *ret)
{
    const struct plan *plan = g->state->plan;
    size_t from = choose(&g->chooser);

    for (size_t i = 0; i < plan->step_count; i++) {
        const struct step_state *s = &g->state->steps[(i + from) % plan->step_count];
        uint8_t what = choose(&g->chooser);

        if (s->open_seq == 0)
            continue;
        *ret = (struct engine_input){.kind = IN_RESULT,
                                     .step = plan->steps[(i + from) % plan->step_count].name,
                                     .attempt = s->attempt,
                                     .dispatch = s->dispatch,
                                     .worker = what % 2 ? STR("w1") : STR("w2"),
                                     .result = (enum result_status)(what % 4),
                                     .error_class = what % 8 < 4 ? STR("transient") : STR("permanent"),
                                     .code = STR("reset"),
                                     .sent = what % 16 < 8,
                                     .answered = what % 32 < 16,
                                     .output = STR("{\"a\":1}")};
        if (s->open_kind != WORK_TASK || what % 16 == 0) {
            ret->kind = IN_TIMER;
            ret->seq = s->open_seq;
            if (s->due_at.us > g->now.us)
                g->now = s->due_at;
        } else if (what % 16 == 1) {
            ret->kind = IN_STARTED;
        } else if (what == 255) {
            ret->kind = IN_CANCEL;
        }
        return true;
    }
    return false;
}

static void compare(const struct game *g)
{
    struct run_state *fresh = run_state_new(g->state->id, 1, g->state->plan, g->state->created_at);
    struct err err;

    for (size_t i = 0; i < g->count; i++)
        ENSURE(engine_fold(fresh, &g->history[i], &err) == ERR_OK);
    ENSURE(fresh->status == g->state->status && fresh->ended_steps == g->state->ended_steps);
    ENSURE(fresh->open_steps == g->state->open_steps && fresh->decisive == g->state->decisive);
    for (size_t i = 0; i < fresh->plan->step_count; i++) {
        ENSURE(fresh->steps[i].open_seq == g->state->steps[i].open_seq);
        ENSURE(fresh->steps[i].ended_seq == g->state->steps[i].ended_seq);
        ENSURE(fresh->steps[i].branch == g->state->steps[i].branch);
    }
    run_state_free(fresh);
}

static void play(struct plan *plan, const uint8_t *data, size_t size)
{
    struct game g = {.chooser = {data, size, 0}, .arena = arena_new(1 << 14), .now = {INT64_C(1790000000) * US_PER_S}};
    struct engine_input in = {.kind = IN_START};

    g.state = run_state_new(run_id_make(g.now, 7), 1, plan, g.now);
    g.history = mem_array(EVENTS_MAX, sizeof(*g.history));
    apply(&g, &in);
    for (int i = 0; i < INPUTS_MAX && g.count + 2 * plan->step_count + 64 < EVENTS_MAX && next_input(&g, &in); i++)
        apply(&g, &in);
    if (!run_ended((enum run_status)g.state->status) && g.count + 2 * plan->step_count + 64 < EVENTS_MAX) {
        g.now.us += plan->timeout_us;
        in = (struct engine_input){.kind = IN_TIMER, .seq = g.state->timeout_seq};
        apply(&g, &in);
        ENSURE(run_ended((enum run_status)g.state->status));
    }
    compare(&g);
    run_state_free(g.state);
    mem_free(g.history);
    arena_free(g.arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct plan_faults faults = {.arena = arena_new(4096)};
    struct str text = {(const char *)data, size};
    struct plan *plan = NULL;
    struct err err;

    if (jt_check(text, &JT_LIMITS_API, &err) == ERR_OK && jt_type(str_trim(text)) == JT_OBJECT)
        plan = plan_compile(str_trim(text), &PLAN_LIMITS_DEFAULT, &faults);
    check_faults(&faults);
    if (plan != NULL) {
        ENSURE(faults.count == 0);
        play(plan, data, size);
    }
    plan_unref(plan);
    arena_free(faults.arena);
    return 0;
}
