/* With the limits raised the cost of a step does not depend on how many there are: time (CPU) and memory per step of
 * compiling and of running 500 and 5,000 steps are compared, in several shapes. Prints the figures. */
#include "common/base/ensure.h"
#include "common/engine/engine.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <time.h>

#define SMALL 500
#define MIDDLE 1000
#define LARGE 5000
#define TIMES_FLAT 4.0 /* caches and a busy machine; a quadratic cost would be 10 */

enum shape { CHAIN, FAN, LAYERS, BRANCHES, TIMERS, RANDOM, CHAIN_AND_FAN, SHAPES };
static const char *const names[SHAPES] = {"chain", "fan", "layers", "branches", "timers", "random", "chain+fan"};

/* Any of the steps before: four of them, drawn from a hash of the number. */
static void write_random_needs(struct buf *doc, int i)
{
    uint64_t seed = (uint64_t)i;
    int parents[4];

    for (int k = 0; k < 4; k++) {
        bool twice = false;
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        parents[k] = (int)((seed >> 33) % (uint64_t)i);
        for (int e = 0; e < k; e++)
            twice = twice || parents[e] == parents[k];
        if (!twice)
            buf_printf(doc, "%s\"step_%d\"", k == 0 ? ",\"needs\":[" : ",", parents[k]);
    }
    buf_append_str(doc, STR("]"));
}

/* A chain of ten, then forty side by side, then what joins them and begins the next chain. */
static void write_chain_and_fan_needs(struct buf *doc, int i)
{
    int at = i % 50, chunk = i - at;

    if (at == 0)
        for (int k = i - 40; k < i; k++)
            buf_printf(doc, "%s\"step_%d\"", k == i - 40 ? ",\"needs\":[" : ",", k);
    else
        buf_printf(doc, ",\"needs\":[\"step_%d\"", at < 10 ? i - 1 : chunk + 9);
    buf_append_str(doc, STR("]"));
}

static void write_step(struct buf *doc, enum shape shape, int i, int steps)
{
    buf_printf(doc, "%s\"step_%d\":{", i == 0 ? "" : ",", i);
    if (shape == TIMERS)
        buf_append_str(doc, STR("\"call\":\"delay\",\"with\":{\"duration\":\"1h\"}"));
    else if (shape == BRANCHES && i % 2 == 0)
        buf_append_str(doc, STR("\"call\":\"condition\",\"with\":{\"if\":true}"));
    else
        buf_append_str(doc, STR("\"call\":\"http\",\"with\":{\"url\":\"http://x/\",\"body\":{\"a\":[1,2,3]}}"));
    if (shape == CHAIN && i > 0)
        buf_printf(doc, ",\"needs\":[\"step_%d\"]", i - 1);
    if (shape == FAN && i > 0 && i < steps - 1)
        buf_append_str(doc, STR(",\"needs\":[\"step_0\"]"));
    if (shape == FAN && i == steps - 1) {
        for (int k = 1; k < i; k++)
            buf_printf(doc, "%s\"step_%d\"", k == 1 ? ",\"needs\":[" : ",", k);
        buf_append_str(doc, STR("]"));
    }
    if (shape == LAYERS && i >= 50)
        buf_printf(doc, ",\"needs\":[\"step_%d\",\"step_%d\",\"step_%d\"]", i - 50, i - 50 + (i % 50 < 49 ? 1 : -1),
                   i - 50 + (i % 50 < 48 ? 2 : -2));
    if (shape == BRANCHES && i >= 2)
        buf_printf(doc, ",\"needs\":{\"step_%d\":[\"%s\"]}", i % 2 == 0 ? i - 2 : i - 1, "true");
    if (shape == RANDOM && i > 0)
        write_random_needs(doc, i);
    if (shape == CHAIN_AND_FAN && i > 0)
        write_chain_and_fan_needs(doc, i);
    buf_append_str(doc, STR("}"));
}

static struct plan *make_plan(enum shape shape, int steps, double *ret_us, size_t *ret_bytes)
{
    struct plan_limits limits = {.max_steps = UINT32_MAX, .max_depth = UINT32_MAX, .max_run_us = INT64_MAX};
    struct plan_faults faults = {.arena = arena_new(4096)};
    struct plan *plan;
    struct buf doc;
    clock_t begin;

    buf_init(&doc, (size_t)64 << 20);
    buf_append_str(&doc, STR("{\"name\":\"x\",\"steps\":{"));
    for (int i = 0; i < steps; i++)
        write_step(&doc, shape, i, steps);
    buf_append_str(&doc, STR("}}"));
    begin = clock();
    plan = plan_compile(buf_str(&doc), &limits, &faults);
    *ret_us = (double)(clock() - begin) * 1e6 / CLOCKS_PER_SEC;
    assert_non_null(plan);
    *ret_bytes = arena_bytes(plan->arena) + arena_bytes(faults.arena);
    arena_free(faults.arena);
    buf_deinit(&doc);
    return plan;
}

struct queue { /* what to tell the engine next: rows that were opened */
    struct effect_work_open *rows;
    size_t head, count;
};

static void apply(struct run_state *state, struct arena *arena, struct queue *queue, const struct engine_input *in,
                  struct wall_us now)
{
    struct effects fx;
    struct err err;

    arena_reset(arena);
    effects_init(&fx, arena);
    ENSURE(engine_apply(state, in, now, &fx, &err) == ERR_OK && fx.eval_count == 0);
    for (size_t i = 0; i < fx.open_count; i++)
        if (fx.opens[i].kind != WORK_RUN_TIMEOUT)
            queue->rows[queue->count++] = fx.opens[i];
}

/* Runs it to its end: microseconds of CPU. */
static double run_all(struct plan *plan)
{
    struct wall_us now = {INT64_C(1790000000) * US_PER_S};
    struct run_state *state = run_state_new(run_id_make(now, 7), 1, plan, now);
    struct arena *arena = arena_new(1 << 20);
    struct queue queue = {.rows = mem_array(plan->step_count + 1, sizeof(*queue.rows))};
    clock_t begin = clock();

    apply(state, arena, &queue, &(struct engine_input){.kind = IN_START}, now);
    while (queue.head < queue.count) {
        const struct effect_work_open *row = &queue.rows[queue.head++];
        struct engine_input in = {.kind = IN_RESULT,
                                  .step = plan->steps[row->node].name,
                                  .attempt = 1,
                                  .dispatch = 1,
                                  .worker = STR("w"),
                                  .result = RESULT_SUCCEEDED,
                                  .output = STR("{}")};
        if (row->kind == WORK_DELAY)
            in = (struct engine_input){.kind = IN_TIMER, .seq = row->seq};
        apply(state, arena, &queue, &in, row->kind == WORK_DELAY ? row->due_at : now);
    }
    ENSURE(state->status == RUN_SUCCEEDED);
    begin = clock() - begin;
    run_state_free(state);
    arena_free(arena);
    mem_free(queue.rows);
    return (double)begin * 1e6 / CLOCKS_PER_SEC;
}

struct figures {
    double compile_us, run_us; /* per step, the best of three */
    double plan_bytes;
};

static struct figures measure(enum shape shape, int steps)
{
    struct figures best = {1e9, 1e9, 0};

    for (int round = 0; round < 3; round++) {
        double us;
        size_t bytes;
        struct plan *plan = make_plan(shape, steps, &us, &bytes);
        double run_us = run_all(plan) / steps;
        best.compile_us = us / steps < best.compile_us ? us / steps : best.compile_us;
        best.run_us = run_us < best.run_us ? run_us : best.run_us;
        best.plan_bytes = (double)bytes / steps;
        plan_unref(plan);
    }
    return best;
}

static void the_cost_of_a_step_is_flat_from_500_to_5000(void **unused)
{
    (void)unused;
    for (int shape = 0; shape < SHAPES; shape++) {
        struct figures small = measure((enum shape)shape, SMALL);
        struct figures large = measure((enum shape)shape, LARGE);
        printf("%-9s per step at %d and %d: compiled in %.2f and %.2f us, run in %.2f and %.2f us, "
               "%.0f and %.0f bytes of plan\n",
               names[shape], SMALL, LARGE, small.compile_us, large.compile_us, small.run_us, large.run_us,
               small.plan_bytes, large.plan_bytes);
        if (shape == RANDOM) {
            struct figures middle = measure(RANDOM, MIDDLE);
            printf("random    per step at %d: compiled in %.2f us, run in %.2f us, %.0f bytes of plan\n", MIDDLE,
                   middle.compile_us, middle.run_us, middle.plan_bytes);
        }
        assert_true(large.compile_us < TIMES_FLAT * small.compile_us + 1);
        assert_true(large.run_us < TIMES_FLAT * small.run_us + 1);
        assert_true(large.plan_bytes < TIMES_FLAT * small.plan_bytes);
    }
}

static void a_waiting_step_takes_less_than_a_kilobyte(void **unused)
{
    double us;
    size_t bytes;
    struct plan *plan = make_plan(TIMERS, 1, &us, &bytes);
    struct wall_us now = {1};
    struct run_state *state = run_state_new(run_id_make(now, 7), 1, plan, now);

    (void)unused;
    printf("a run of one step: %zu bytes, each further step %zu\n", run_state_bytes(state), sizeof(struct step_state));
    assert_true(run_state_bytes(state) < 1024);
    assert_true(sizeof(struct step_state) <= 200);
    run_state_free(state);
    plan_unref(plan);
}

/* Fails each open task of the run, or lets its timer fire: one input for each row that is open. */
static void fail_all(struct run_state *state, struct arena *arena, struct wall_us now, size_t *full)
{
    for (uint32_t node = 0; node < state->node_count; node++) {
        const struct step_state *s = run_step(state, node);
        struct engine_input in = {.kind = IN_TIMER, .seq = s->open_seq};
        struct effects fx;
        struct buf path;
        struct err err;

        if (s->open_seq == 0)
            continue;
        buf_init(&path, STEP_PATH_SIZE);
        run_step_path(state, node, &path);
        if (s->open_kind == WORK_TASK)
            in = (struct engine_input){.kind = IN_RESULT,
                                       .step = buf_str(&path),
                                       .attempt = s->attempt,
                                       .dispatch = s->dispatch,
                                       .worker = STR("w"),
                                       .result = RESULT_FAILED,
                                       .error_class = STR("transient"),
                                       .code = STR("connect")};
        arena_reset(arena);
        effects_init(&fx, arena);
        assert_int_equal(engine_apply(state, &in, now, &fx, &err), ERR_OK);
        for (size_t i = 0; i < fx.event_count; i++)
            *full += fx.events[i].type == EVENT_STEP_FAILED && str_is(fx.events[i].code, "history_limit");
        buf_deinit(&path);
    }
}

/* 6,000 items that fail and are tried again, twenty times each by their document. */
static void a_full_history_ends_what_would_be_tried_again(void **unused)
{
    struct plan_faults faults = {.arena = arena_new(4096)};
    struct wall_us now = {INT64_C(1790000000) * US_PER_S};
    struct arena *arena = arena_new(1 << 16);
    struct run_state *state;
    struct plan *plan;
    struct buf doc;
    struct effects fx;
    struct err err;
    size_t full = 0;

    (void)unused;
    buf_init(&doc, 1 << 20);
    buf_append_str(&doc, STR("{\"name\":\"x\",\"timeout\":\"366d\",\"steps\":{\"each\":{\"call\":\"foreach\",\"with\":{"
                             "\"concurrency\":10000,\"on_item_failure\":\"continue\",\"steps\":{\"a\":{"
                             "\"call\":\"noop\",\"retry\":{\"max_attempts\":20}}},\"items\":["));
    for (int i = 0; i < 6000; i++)
        buf_append_str(&doc, i == 0 ? STR("0") : STR(",0"));
    buf_append_str(&doc, STR("]}}}}"));
    plan = plan_compile(buf_str(&doc), &PLAN_LIMITS_DEFAULT, &faults);
    assert_non_null(plan);
    state = run_state_new(run_id_make(now, 7), 1, plan, now);
    effects_init(&fx, arena);
    assert_int_equal(engine_apply(state, &(struct engine_input){.kind = IN_START}, now, &fx, &err), ERR_OK);
    for (uint32_t round = 0; round < 1000 && !run_ended((enum run_status)state->status); round++) {
        now.us += 120 * US_PER_S;
        fail_all(state, arena, now, &full);
    }
    assert_int_equal(state->status, RUN_PARTIALLY_COMPLETED);
    assert_in_range(full, 1, 2 * 6000); /* steps, and the items they are of */
    assert_in_range(state->last_seq, 200000, 200000 + 4 * 6000);
    run_state_free(state);
    plan_unref(plan);
    buf_deinit(&doc);
    arena_free(arena);
    arena_free(faults.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cost_of_a_step_is_flat_from_500_to_5000),
        cmocka_unit_test(a_full_history_ends_what_would_be_tried_again),
        cmocka_unit_test(a_waiting_step_takes_less_than_a_kilobyte),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
