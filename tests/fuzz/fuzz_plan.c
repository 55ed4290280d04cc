/* Any JSON as a workflow document: compiling ends with a plan or with faults whose pointers are JSON Pointers. What
 * compiles, and could be saved, is run: evaluations get values, and steps, loops, signals, children and compensations
 * inputs that the bytes of the document choose, and after it the state is what a fold of the stored history gives. */
#include "common/base/ensure.h"
#include "common/engine/engine.h"
#include "proto/proto_messages.h"

#include "common/base/banned.h"

#define INPUTS_MAX 300
#define EVENTS_MAX 20000 /* when there are more no other input follows */
#define OPEN_MAX 4096    /* open rows that an input is chosen from */

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
    size_t count, cap;
};

static void check_faults(const struct plan_faults *faults)
{
    for (size_t i = 0; i < faults->count; i++) {
        struct str pointer = faults->items[i].pointer;

        ENSURE(faults->items[i].code != NULL && faults->items[i].message.len > 0);
        ENSURE(pointer.len == 0 || pointer.ptr[0] == '/');
    }
}

static struct event *new_row(struct game *g)
{
    if (g->count == g->cap) {
        g->cap = g->cap * 2 + 64;
        g->history = mem_grow(g->history, g->cap, sizeof(*g->history));
    }
    return &g->history[g->count++];
}

static void store(struct game *g, const struct event *event)
{
    struct event *row = new_row(g);
    struct buf data;
    struct err err;

    buf_init(&data, 1 << 20);
    event_encode_data(event, &data);
    *row = (struct event){.seq = event->seq,
                          .type = event->type,
                          .at = event->at,
                          .step = str_arena(g->arena, event->step),
                          .attempt = event->attempt,
                          .output_bytes = event->output_bytes};
    if (data.len > 0) {
        ENSURE(jt_check(buf_str(&data), &JT_LIMITS_MESSAGE, &err) == ERR_OK);
        ENSURE(event_decode_data(str_arena(g->arena, buf_str(&data)), g->arena, row, &err) == ERR_OK);
    }
    buf_deinit(&data);
}

/* Mostly something that the call can use. */
static struct str value_for(struct game *g, const struct effect_eval *eval)
{
    static const char *const any[] = {"true", "false", "\"5m\"", "null", "7", "{\"a\":1}", "\"2026-01-01T00:00:00Z\""};
    static const char *const items[] = {"[1,2,3]", "[]", "null", "[[1],{\"a\":2}]"};
    uint8_t what = choose(&g->chooser);

    if (what % 8 == 7 || eval->node == NO_NODE)
        return str_of(any[choose(&g->chooser) % 7]);
    if (eval->purpose == EVAL_UNTIL || eval->purpose == EVAL_WHEN || eval->purpose == EVAL_CASE ||
        eval->purpose == EVAL_FILTER)
        return str_of(any[what % 2]);
    if (eval->purpose != EVAL_WITH)
        return str_of(any[2 + what % 5]);
    switch (run_plan_step(g->state, eval->node)->kind) {
    case CALL_FOREACH:
        return str_of(items[what % 4]);
    case CALL_SIGNAL:
        return what % 2 == 0 ? STR("{\"signal\":\"s\"}") : STR("{\"signal\":\"s\",\"timeout\":\"5m\",\"once\":true}");
    case CALL_EVENT:
        return what % 2 == 0 ? STR("{}") : STR("{\"timeout\":\"5m\"}");
    case CALL_POLL:
        return STR("{\"with\":{},\"interval\":\"1s\",\"timeout\":\"1m\"}");
    case CALL_WORKFLOW:
        return STR("{\"name\":\"y\",\"input\":1}");
    case CALL_TASK:
    case CALL_TRANSFORM:
    case CALL_CONDITION:
    case CALL_SWITCH:
    case CALL_DELAY:
        break;
    }
    return str_of(any[choose(&g->chooser) % 7]);
}

static void apply(struct game *g, const struct engine_input *in)
{
    struct effects fx;
    struct err err;

    effects_init(&fx, g->arena);
    ENSURE(engine_apply(g->state, in, g->now, &fx, &err) == ERR_OK);
    for (size_t i = 0; i < fx.eval_count; i++) {
        struct engine_input value = {.kind = IN_VALUE,
                                     .node = fx.evals[i].node,
                                     .purpose = fx.evals[i].purpose,
                                     .index = fx.evals[i].index,
                                     .question = fx.evals[i].question,
                                     .failed = choose(&g->chooser) % 16 == 0,
                                     .message = STR("it failed"),
                                     .value = value_for(g, &fx.evals[i])};

        ENSURE(engine_apply(g->state, &value, g->now, &fx, &err) == ERR_OK);
    }
    ENSURE(!g->state->evaluating);
    for (size_t i = 0; i < fx.event_count; i++)
        store(g, &fx.events[i]);
}

static struct str path_of(struct game *g, uint32_t node)
{
    struct str path;
    struct buf buf;

    buf_init(&buf, (size_t)1 << 20);
    run_step_path(g->state, node, &buf);
    path = str_arena(g->arena, buf_str(&buf));
    buf_deinit(&buf);
    return path;
}

/* Nodes with open work, of all frames. */
static uint32_t find_open(const struct game *g, uint32_t *nodes)
{
    uint32_t count = 0;

    for (const struct frame *frame = g->state->frames; frame != NULL; frame = frame->next)
        for (uint32_t i = 0; frame->used && i < g->state->plan->scopes[frame->scope].count && count < OPEN_MAX; i++)
            if (run_step(g->state, frame->base + i)->open_seq != 0)
                nodes[count++] = frame->base + i;
    return count;
}

static void result_of(struct game *g, const struct step_state *s, uint8_t what, struct engine_input *ret)
{
    *ret = (struct engine_input){.kind = what % 16 == 1 ? IN_STARTED : IN_RESULT,
                                 .step = ret->step,
                                 .attempt = s->attempt,
                                 .dispatch = s->dispatch,
                                 .worker = what % 2 ? STR("w1") : STR("w2"),
                                 .result = (enum result_status)(what % 4),
                                 .error_class = what % 8 < 4 ? STR("transient") : STR("permanent"),
                                 .code = STR("reset"),
                                 .sent = what % 16 < 8,
                                 .answered = what % 32 < 16,
                                 .output = STR("{\"a\":1}")};
    if (choose(&g->chooser) % 4 != 0)
        ret->result = RESULT_SUCCEEDED;
}

static struct engine_input timer_of(struct game *g, const struct step_state *s)
{
    if (s->due_at.us > g->now.us)
        g->now = s->due_at;
    return (struct engine_input){.kind = IN_TIMER, .seq = s->open_seq};
}

/* What open work of this kind waits for, or, now and then, its timer. */
static struct engine_input input_for(struct game *g, uint32_t node)
{
    const struct step_state *s = run_step(g->state, node);
    struct engine_input in = {.step = path_of(g, node)};
    uint8_t what = choose(&g->chooser);

    if (what % 16 == 0 && s->due_at.us > 0)
        return timer_of(g, s);
    if (what >= 251 && what <= 254)
        return (struct engine_input){.kind = what == 251 ? IN_PAUSE : IN_RESUME, .command = 3};
    if (what == 255)
        return (struct engine_input){.kind = IN_CANCEL, .command = 1, .compensate = choose(&g->chooser) % 2 == 0};
    switch ((enum work_kind)s->open_kind) {
    case WORK_TASK:
        result_of(g, s, what, &in);
        break;
    case WORK_SIGNAL:
        in.kind = IN_SIGNAL;
        in.name = s->extra != NULL && s->extra->signal != NULL ? str_of(s->extra->signal->name) : STR("s");
        in.value = STR("{\"ok\":true}");
        break;
    case WORK_EVENT:
        in.kind = IN_EVENT;
        in.seq = s->open_seq;
        in.value = STR("{\"data\":{\"a\":1}}");
        break;
    case WORK_CHILD:
        in.kind = IN_CHILD;
        in.child = s->extra->child;
        in.child_status = (enum run_status)(RUN_SUCCEEDED + what % 7);
        in.output = STR("[1]");
        in.code = STR("item_failed");
        break;
    case WORK_UNKNOWN:
        in.kind = IN_SETTLE;
        in.as_failed = what % 2 == 0;
        in.value = STR("3");
        break;
    case WORK_BACKOFF:
    case WORK_DELAY:
    case WORK_RUN_TIMEOUT:
    case WORK_ADMISSION:
    case WORK_ITEMS:
        in = timer_of(g, s);
        break;
    }
    return in;
}

/* Something for a step whose work is open; false when nothing is. */
static bool next_input(struct game *g, struct engine_input *ret)
{
    static uint32_t nodes[OPEN_MAX];
    uint32_t count = find_open(g, nodes);
    uint32_t choice = (uint32_t)choose(&g->chooser) * 251 + choose(&g->chooser);

    if (count == 0)
        return false;
    *ret = input_for(g, nodes[choice % count]);
    return true;
}

static void compare_steps(const struct step_state *a, const struct step_state *b)
{
    ENSURE(a->status == b->status && a->open_seq == b->open_seq && a->ended_seq == b->ended_seq);
    ENSURE(a->branch == b->branch && a->attempt == b->attempt && a->output_seq == b->output_seq);
    ENSURE(a->partial == b->partial && a->open_kind == b->open_kind);
}

static void compare(struct game *g)
{
    const struct run_state *state = g->state;
    struct run_state *fresh = run_state_new(state->id, 1, state->plan, state->created_at);
    struct err err;

    for (size_t i = 0; i < g->count; i++)
        ENSURE(engine_fold(fresh, &g->history[i], &err) == ERR_OK);
    ENSURE(fresh->admission_seq == state->admission_seq &&
           memcmp(fresh->admissions, state->admissions, sizeof(state->admissions)) == 0);
    ENSURE(fresh->status == state->status && fresh->root->ended == state->root->ended);
    ENSURE(fresh->open_steps == state->open_steps && fresh->root->decisive == state->root->decisive);
    for (const struct frame *frame = state->frames; frame != NULL; frame = frame->next) {
        for (uint32_t i = 0; frame->used && i < state->plan->scopes[frame->scope].count; i++) {
            uint32_t found = run_find_step(fresh, path_of(g, frame->base + i), NULL);

            ENSURE(found != NO_NODE);
            compare_steps(run_step(state, frame->base + i), run_step(fresh, found));
        }
    }
    run_state_free(fresh);
}

static bool has_actions(const struct plan *plan)
{
    return plan->step_count > 0 && plan->steps[plan->step_count - 1].role != ROLE_STEP;
}

static void play_on(struct game *g)
{
    struct engine_input in;

    for (int i = 0; i < INPUTS_MAX && g->count < EVENTS_MAX && next_input(g, &in); i++)
        apply(g, &in);
}

static void play(struct plan *plan, const uint8_t *data, size_t size)
{
    struct game g = {.chooser = {data, size, 0}, .arena = arena_new(1 << 14), .now = {INT64_C(1790000000) * US_PER_S}};

    g.state = run_state_new(run_id_make(g.now, 7), 1, plan, g.now);
    apply(&g, &(struct engine_input){.kind = IN_START, .bounded = choose(&g.chooser) % 8 == 0});
    for (int i = 0; i < ADMISSION_SCOPES && g.state->admission_seq != 0; i++)
        apply(&g, &(struct engine_input){.kind = IN_ADMIT,
                                         .seq = g.state->admission_seq,
                                         .bounded = i == 0,
                                         .failed = choose(&g.chooser) % 8 == 0});
    play_on(&g);
    if (!run_ended((enum run_status)g.state->status)) {
        g.now.us += plan->timeout_us;
        apply(&g, &(struct engine_input){.kind = IN_TIMER, .seq = g.state->timeout_seq});
        play_on(&g); /* what is to be undone, and who is to be told */
        ENSURE(run_ended((enum run_status)g.state->status) || has_actions(plan));
    }
    if (choose(&g.chooser) % 2 == 0) {
        apply(&g, &(struct engine_input){.kind = IN_COMPENSATE, .command = 2});
        play_on(&g);
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
    ENSURE(plan == NULL || faults.count == 0);
    if (plan != NULL && schema_check(&SCHEMA_WORKFLOW, str_trim(text), NULL, NULL, &err) == ERR_OK)
        play(plan, data, size);
    plan_unref(plan);
    arena_free(faults.arena);
    return 0;
}
