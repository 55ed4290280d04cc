/* Everything at once: workflows that use the whole language under random inputs, late, early and repeated ones too,
 * where after each the state is what history says; and those histories with small changes, which the fold refuses or
 * takes, but never breaks on. */
#include "tests/unit/engine/world.h"
#include "common/base/ensure.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#define RUNS 400
#define INPUTS 120
#define CHANGES 60 /* histories made of each run's */

#define NOOP "\"call\":\"noop\""
#define UNDO ",\"compensate\":{" NOOP ",\"retry\":{\"max_attempts\":2},\"on\":[\"succeeded\",\"timed_out\"]}"

static const char *const documents[] = {
    "{\"name\":\"x\",\"timeout\":\"1d\",\"on_failure_notify\":{" NOOP
    "},\"output\":\"${ .steps.each.output }\",\"steps\":{"
    "\"a\":{" NOOP UNDO ",\"delivery\":\"at_most_once\",\"on_unknown\":\"wait\"},"
    "\"each\":{\"call\":\"foreach\",\"needs\":[\"a\"],\"with\":{\"items\":[[1,2],[],[3]],\"concurrency\":2,"
    "\"on_item_failure\":\"continue\",\"steps\":{\"in\":{\"call\":\"foreach\",\"deadline\":\"2h\",\"with\":{\"items\":"
    "\"${ .item }\",\"steps\":{\"go\":{" NOOP UNDO "},\"t\":{\"call\":\"transform\",\"needs\":[\"go\"],\"with\":{"
    "\"value\":\"${ .index }\"}}}}},\"s\":{\"call\":\"wait_signal\",\"with\":{\"signal\":\"one\",\"timeout\":\"1h\"},"
    "\"on_failure\":\"continue\"}}}},"
    "\"s\":{\"call\":\"wait_signal\",\"with\":{\"signal\":\"one\"}},"
    "\"e\":{\"call\":\"wait_event\",\"with\":{\"type\":\"paid\",\"filter\":\"${ .event.data.ok "
    "}\",\"timeout\":\"9h\"}},"
    "\"p\":{\"call\":\"poll\",\"with\":{\"call\":\"noop\",\"until\":\"${ .output.ok }\",\"timeout\":\"10h\"}}}}",
    "{\"name\":\"x\",\"on_failure\":\"continue\",\"on_failure_notify\":{" NOOP "},\"steps\":{"
    "\"c\":{\"call\":\"workflow\",\"with\":{\"name\":\"kid\"}" UNDO "},"
    "\"each\":{\"call\":\"foreach\",\"with\":{\"items\":[0,1,2,3],\"steps\":{\"k\":{\"call\":\"workflow\",\"with\":{"
    "\"name\":\"kid\"}},\"d\":{\"call\":\"delay\",\"with\":{\"duration\":\"5m\"},\"needs\":{\"k\":[\"failed\","
    "\"timed_out\"]}},\"p\":{\"call\":\"poll\",\"with\":{\"call\":\"noop\",\"until\":\"${ .output.ok }\"}}}}},"
    "\"b\":{" NOOP ",\"delivery\":\"at_most_once\",\"needs\":{\"c\":[\"succeeded\",\"failed\"]},\"join\":\"any\"" UNDO
    "}}}",
    "{\"name\":\"x\",\"concurrency\":{\"limit\":2,\"key\":\"all\"},\"steps\":{\"a\":{" NOOP UNDO "},\"b\":{" NOOP
    ",\"delivery\":\"at_most_once\",\"needs\":[\"a\"]" UNDO "},\"c\":{" NOOP
    ",\"needs\":[\"b\"],\"retry\":{\"max_attempts\":3}},\"w\":{\"call\":\"wait_signal\",\"with\":{"
    "\"signal\":\"two\",\"once\":true}},\"each\":{\"call\":\"foreach\",\"needs\":[\"a\"],\"with\":{\"items\":[1,2,3],"
    "\"concurrency\":1,\"steps\":{\"u\":{" NOOP ",\"delivery\":\"at_most_once\",\"on_unknown\":\"wait\"" UNDO "}}}}}}",
};

struct rnd {
    uint64_t state;
};

static uint32_t draw(struct rnd *r, uint32_t below)
{
    ENSURE(below > 0);
    r->state = r->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((r->state >> 33) % below);
}

static struct engine_input of_task(struct rnd *r, const struct step_state *s, struct str path)
{
    static const char *const outputs[] = {"{\"ok\":true}", "{\"ok\":false}", "null", "7"};
    struct engine_input in = {.kind = IN_RESULT,
                              .step = path,
                              .attempt = s->attempt,
                              .dispatch = s->dispatch,
                              .worker = draw(r, 4) == 0 ? STR("w2") : STR("w1"),
                              .result = (enum result_status)(draw(r, 3) == 0 ? draw(r, 4) : 0),
                              .error_class = draw(r, 2) ? STR("transient") : STR("permanent"),
                              .code = draw(r, 4) == 0 ? STR("timeout") : STR("reset"),
                              .sent = draw(r, 2),
                              .answered = draw(r, 2),
                              .output = str_of(outputs[draw(r, 4)])};

    in.http_status = in.answered ? 503 : 0;
    if (draw(r, 4) == 0)
        in.kind = draw(r, 4) == 0 ? IN_LOST : IN_STARTED;
    return in;
}

/* Something that the row waits for. */
static struct engine_input of_row(struct rnd *r, struct world *w, const struct world_row *row)
{
    uint32_t node = engine_find_row(w->state, row->seq);
    struct engine_input in = {.kind = IN_TIMER, .seq = row->seq};
    const struct step_state *s;
    struct buf path;

    if (row->kind == WORK_ADMISSION && draw(r, 4) > 0)
        return (struct engine_input){
            .kind = IN_ADMIT, .seq = row->seq, .bounded = draw(r, 2), .failed = draw(r, 8) == 0};
    if (node == NO_NODE)
        return in;
    s = run_step(w->state, node);
    buf_init(&path, STEP_PATH_SIZE);
    run_step_path(w->state, node, &path);
    in.step = str_arena(w->arena, buf_str(&path));
    buf_deinit(&path);
    if (row->kind == WORK_TASK && draw(r, 8) > 0)
        return of_task(r, s, in.step);
    if (row->kind == WORK_UNKNOWN && draw(r, 2)) {
        in.kind = IN_SETTLE;
        in.as_failed = draw(r, 2);
    } else if (row->kind == WORK_CHILD && draw(r, 8) > 0) {
        in.kind = IN_CHILD;
        in.child = s->extra->child;
        in.child_status = (enum run_status)(RUN_SUCCEEDED + draw(r, RUN_COMPENSATION_FAILED - RUN_SUCCEEDED + 1));
        in.code = STR("http_404");
    } else if (row->kind == WORK_SIGNAL && draw(r, 4) > 0) {
        in.kind = IN_SIGNAL;
        in.name = str_of(s->extra->signal->name);
        in.name = str_arena(w->arena, in.name);
        in.value = STR("{\"by\":1}");
    } else if (row->kind == WORK_EVENT && draw(r, 4) > 0) {
        in.kind = IN_EVENT;
        in.value = draw(r, 2) ? STR("{\"data\":{\"ok\":true}}") : STR("{\"data\":{\"ok\":1}}");
    } else if (row->due_at.us > w->now.us && draw(r, 8) > 0) {
        w->now = row->due_at;
    }
    return in;
}

static struct engine_input any_input(struct rnd *r, struct world *w)
{
    static const char *const names[] = {"one", "two", "three"};
    static const char *const steps[] = {"a", "b", "each[1].u", "each[0].in[1].go", "c"};

    switch (draw(r, 200)) {
    case 7: /* the run's time is over */
        if (w->state->timeout_at.us > w->now.us)
            w->now = w->state->timeout_at;
        return (struct engine_input){.kind = IN_TIMER, .seq = w->state->timeout_seq};
    case 0:
    case 8:
        return (struct engine_input){.kind = IN_CANCEL, .command = 1, .compensate = draw(r, 2)};
    case 1:
    case 2:
    case 9:
    case 10:
        return (struct engine_input){.kind = IN_COMPENSATE, .command = 2};
    case 3:
    case 4:
    case 11:
    case 12:
    case 13:
        return (struct engine_input){
            .kind = IN_SETTLE, .command = 3, .step = str_of(steps[draw(r, 5)]), .as_failed = draw(r, 2)};
    case 5:
    case 6:
    case 14:
    case 15:
        return (struct engine_input){
            .kind = IN_SIGNAL, .command = 4, .name = str_of(names[draw(r, 3)]), .value = STR("1")};
    case 22:
    case 23:
    case 24:
    case 25:
        return (struct engine_input){.kind = IN_RETRY, .command = 5, .confirm_all = draw(r, 4) > 0};
    case 16:
    case 17:
    case 18:
    case 19:
    case 20:
    case 21: /* a word about some attempt, of whatever time */
        return (struct engine_input){.kind = IN_RESULT,
                                     .step = str_of(steps[draw(r, 5)]),
                                     .attempt = 1 + draw(r, 2),
                                     .dispatch = 1,
                                     .worker = STR("w1"),
                                     .result = (enum result_status)draw(r, 2),
                                     .output = STR("1")};
    case 40:
    case 41:
        return (struct engine_input){.kind = IN_PAUSE, .command = 5, .of_parent = draw(r, 2)};
    case 42:
    case 43:
    case 44:
    case 45:
    case 46: /* more often, so that not all stands still */
        return (struct engine_input){.kind = IN_RESUME, .command = 6, .of_parent = draw(r, 2)};
    default:
        return w->row_count == 0 ? (struct engine_input){.kind = IN_SETTLE, .step = str_of(steps[draw(r, 5)])}
                                 : of_row(r, w, &w->rows[draw(r, (uint32_t)w->row_count)]);
    }
}

/* Now and then at a step, or with an outcome that is given. */
static void begin(struct rnd *r, struct world *w)
{
    struct engine_input in = {.kind = IN_START};

    if (draw(r, 8) == 0)
        in.start_at = STR("b");
    else if (draw(r, 8) == 0)
        in.given = draw(r, 2) ? STR("[{\"step\":\"a\",\"as\":\"succeeded\",\"output\":1}]")
                              : STR("[{\"step\":\"a\",\"as\":\"failed\",\"code\":\"http_404\"}]");
    world_apply(w, in);
}

/* Some of the inputs come once more, some time later. */
static void play(struct rnd *r, struct world *w)
{
    struct engine_input old[8] = {{.kind = IN_START}};
    uint32_t kept = 1;

    begin(r, w);
    for (int i = 0; i < INPUTS; i++) {
        struct engine_input in = draw(r, 10) == 0 ? old[draw(r, kept)] : any_input(r, w);
        bool ended = run_ended((enum run_status)w->state->status);
        uint32_t seq = w->state->last_seq;
        world_apply(w, in);
        assert_false(w->fx.ignored && w->fx.event_count > 0);
        /* an end is an end, but for what opens the run again */
        if (ended && w->state->last_seq > seq && !run_ended((enum run_status)w->state->status))
            assert_true(world_has(w, EVENT_RUN_REOPENED, NULL));
        old[kept < 8 ? kept : draw(r, 8)] = in;
        kept += kept < 8;
        if (draw(r, 16) == 0)
            world_reload(w);
    }
}

/* In the end nothing hangs: with everybody answering, and the clock going on, each run ends. */
static void finish(struct rnd *r, struct world *w)
{
    for (int i = 0; i < 2000 && !run_ended((enum run_status)w->state->status); i++) {
        const struct world_row *row;
        assert_true(w->row_count > 0);
        row = &w->rows[draw(r, (uint32_t)w->row_count)];
        if (row->kind == WORK_RUN_TIMEOUT && row->due_at.us > w->now.us)
            w->now = row->due_at;
        world_apply(w, row->kind == WORK_RUN_TIMEOUT ? (struct engine_input){.kind = IN_TIMER, .seq = row->seq}
                                                     : of_row(r, w, row));
    }
    assert_true(run_ended((enum run_status)w->state->status));
}

static void a_state_is_its_history_whatever_comes(void **unused)
{
    const char *seed = getenv("ROPEWALK_TEST_SEED");
    struct rnd r = {seed == NULL ? 7 : strtoull(seed, NULL, 10)};
    size_t ends[RUN_COMPENSATION_FAILED + 1] = {0}, kinds[64] = {0};

    (void)unused;
    for (int i = 0; i < RUNS; i++) {
        struct world w;
        world_init(&w, documents[i % 3]);
        play(&r, &w);
        finish(&r, &w);
        ends[w.state->status]++;
        for (size_t e = 0; e < w.history_count; e++)
            kinds[w.history[e].type]++;
        world_deinit(&w);
    }
    for (int end = RUN_SUCCEEDED; end <= RUN_COMPENSATION_FAILED; end++)
        if (ends[end] == 0)
            print_message("no run ended %s\n", run_status_name((enum run_status)end));
#define EVENT(number, id, name, format)                                                                                \
    if (kinds[number] == 0)                                                                                            \
        print_message("no event " name "\n");                                                                          \
    assert_true(kinds[number] > 0);
#include "common/engine/event.def"
#undef EVENT
}

/* ---- histories with small changes ---- */

static const char *const paths[] = {"",
                                    "a",
                                    "b",
                                    "each",
                                    "each[0]",
                                    "each[1].in[0].go",
                                    "each[0].in",
                                    "each[2].in[0]",
                                    "each[2].u",
                                    "a:compensate",
                                    "each[1].in[0].go:compensate",
                                    ":notify",
                                    "each:compensate",
                                    "each[0]:compensate",
                                    "each[",
                                    "each[]",
                                    "each[9999].in[9999].go",
                                    "each[99999999999]",
                                    "each[-1].s",
                                    ".",
                                    "each[0]..s",
                                    "s[0].s",
                                    "nobody",
                                    ":",
                                    "[0]"};

static uint32_t odd_number(struct rnd *r, uint32_t was)
{
    switch (draw(r, 6)) {
    case 0:
        return 0;
    case 1:
        return was + 1;
    case 2:
        return was - 1;
    case 3:
        return UINT32_MAX;
    default:
        return draw(r, 40);
    }
}

static void change(struct rnd *r, struct event *e, const struct event *other)
{
    switch (draw(r, 20)) {
    case 0:
        e->type = (enum event_type)draw(r, 45);
        break;
    case 1:
        e->step = str_of(paths[draw(r, sizeof(paths) / sizeof(paths[0]))]);
        break;
    case 2:
        e->step = draw(r, 2) ? other->step : STR_NONE;
        break;
    case 3:
        e->attempt = (uint16_t)odd_number(r, e->attempt);
        break;
    case 4:
        e->output_bytes = odd_number(r, e->output_bytes);
        break;
    case 5:
        e->count = odd_number(r, e->count);
        break;
    case 6:
        e->ref = odd_number(r, e->ref);
        break;
    case 7:
        e->name = draw(r, 2) ? STR_NONE : STR("one");
        break;
    case 8:
        e->child = draw(r, 2) ? STR_NONE : STR("kid");
        break;
    case 9:
        e->waits = draw(r, 4) == 0 ? STR_NONE : draw(r, 2) ? STR("items") : draw(r, 2) ? STR("child") : STR("signal");
        break;
    case 10:
        e->code = draw(r, 2) ? STR_NONE : STR("poison");
        break;
    case 11:
        e->generation = (uint16_t)odd_number(r, e->generation);
        break;
    case 12:
        e->dispatch = odd_number(r, e->dispatch);
        break;
    case 13:
        e->due_at.us = (int64_t)draw(r, 2) * INT64_MAX;
        break;
    case 14:
        e->as = draw(r, 2) ? STR("succeeded") : STR_NONE;
        break;
    case 15:
        e->worker = draw(r, 2) ? STR_NONE : STR("w1");
        break;
    case 16:
        e->interval_us = (int64_t)draw(r, 2);
        break;
    default:
        *e = *other; /* another event in its place */
        break;
    }
}

/* Folds the history with a few changes; what is refused is left out, and the rest goes on. */
static size_t fold_changed(struct rnd *r, const struct world *w)
{
    struct run_state *state = run_state_new(w->state->id, 1, w->plan, w->state->created_at);
    size_t refused = 0;
    struct err err;

    for (size_t i = 0; i < w->history_count; i++) {
        struct event e = w->history[i];
        if (draw(r, 12) == 0)
            change(r, &e, &w->history[draw(r, (uint32_t)w->history_count)]);
        e.seq = draw(r, 200) == 0 ? e.seq : state->last_seq + 1;
        refused += engine_fold(state, &e, &err) != ERR_OK;
        if (draw(r, 20) == 0)
            engine_restore_work(state, draw(r, state->last_seq + 2), draw(r, 4), w->now);
    }
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
        (void)run_find_step(state, str_of(paths[i]), NULL);
    for (uint32_t node = 0; node < state->node_count; node++) {
        struct buf path;
        if (!run_step(state, node)->frame->used)
            continue;
        buf_init(&path, STEP_PATH_SIZE);
        run_step_path(state, node, &path);
        ENSURE(run_find_step(state, buf_str(&path), NULL) == node);
        buf_deinit(&path);
    }
    ENSURE(run_state_bytes(state) > 0);
    run_state_free(state);
    return refused;
}

static void a_history_with_small_changes_never_breaks_the_fold(void **unused)
{
    struct rnd r = {11};
    size_t refused = 0, events = 0;

    (void)unused;
    for (int i = 0; i < RUNS; i++) {
        struct world w;
        world_init(&w, documents[i % 3]);
        w.unchecked = true;
        play(&r, &w);
        for (int k = 0; k < CHANGES; k++) {
            refused += fold_changed(&r, &w);
            events += w.history_count;
        }
        world_deinit(&w);
    }
    print_message("%zu events folded, %zu of them refused\n", events, refused);
    assert_in_range(refused, events / 100, events);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_state_is_its_history_whatever_comes),
        cmocka_unit_test(a_history_with_small_changes_never_breaks_the_fold),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
