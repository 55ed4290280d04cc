/* What loops and waiting cost: time and memory per item at 1,000 and 10,000 items, with few and with all at a time; the
 * heap that runs hold which wait for a signal, a delay, a poll or a child. Prints the figures; no absolute time is
 * asserted. */
#include "common/base/ensure.h"
#include "common/engine/engine.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <malloc.h>
#include <stdio.h>
#include <time.h>

#define TIMES_FLAT 2.0
#define TRIES 6 /* a busy machine gets another chance */
#define WAITING_RUNS 10000

static struct plan *compile(const char *text)
{
    struct plan_faults faults = {.arena = arena_new(4096)};
    struct plan *plan = plan_compile(str_of(text), &PLAN_LIMITS_DEFAULT, &faults);

    ENSURE(plan != NULL);
    arena_free(faults.arena);
    return plan;
}

static struct plan *loop_of(uint32_t items, uint32_t concurrency, bool undo)
{
    struct plan *plan;
    struct buf doc;

    buf_init(&doc, 1 << 20);
    buf_printf(&doc,
               "{\"name\":\"x\",\"steps\":{\"each\":{\"call\":\"foreach\",\"with\":{\"concurrency\":%u,\"steps\":{"
               "\"go\":{\"call\":\"http\",\"with\":{\"url\":\"http://x/\"}%s}},\"items\":[",
               (unsigned)concurrency, undo ? ",\"compensate\":{\"call\":\"noop\"}" : "");
    for (uint32_t i = 0; i < items; i++)
        buf_append_str(&doc, i == 0 ? STR("0") : STR(",0"));
    buf_append_str(&doc, undo ? STR("]}},\"last\":{\"call\":\"noop\",\"needs\":[\"each\"]}}}") : STR("]}}}}"));
    plan = compile(doc.ptr);
    buf_deinit(&doc);
    return plan;
}

struct figures {
    double us;              /* per item, of CPU */
    double waiting, ended;  /* bytes of state per item: most while it runs, and after its end */
    double events, batches; /* per item; in all */
};

struct run {
    struct run_state *state;
    struct arena *arena;
    struct wall_us now;
    struct queue { /* rows that were opened, in order */
        struct effect_work_open *rows;
        uint32_t head, count;
    } queue;
    uint32_t loop_seq;
    bool more; /* the loop has more to begin: its timer is due */
};

static void apply(struct run *run, const struct engine_input *in)
{
    struct effects fx;
    struct err err;

    arena_reset(run->arena);
    effects_init(&fx, run->arena);
    ENSURE(engine_apply(run->state, in, run->now, &fx, &err) == ERR_OK && fx.eval_count == 0);
    for (size_t i = 0; i < fx.open_count; i++) {
        if (fx.opens[i].kind == WORK_TASK)
            run->queue.rows[run->queue.count++] = fx.opens[i];
        else if (fx.opens[i].kind == WORK_ITEMS)
            run->loop_seq = fx.opens[i].seq;
    }
    for (size_t i = 0; i < fx.change_count; i++)
        run->more = fx.changes[i].reason != NULL;
}

static void answer(struct run *run)
{
    const struct effect_work_open *row = &run->queue.rows[run->queue.head++];
    bool last = str_is(run_plan_step(run->state, row->node)->name, "last");
    struct engine_input in = {.kind = IN_RESULT,
                              .attempt = 1,
                              .dispatch = 1,
                              .worker = STR("w"),
                              .result = last ? RESULT_FAILED : RESULT_SUCCEEDED,
                              .error_class = STR("permanent"),
                              .output = STR("{\"a\":1}")};
    struct buf path;

    buf_init(&path, STEP_PATH_SIZE);
    run_step_path(run->state, row->node, &path);
    in.step = buf_str(&path);
    apply(run, &in);
    buf_deinit(&path);
}

static struct figures run_loop(uint32_t items, uint32_t concurrency, bool undo)
{
    struct plan *plan = loop_of(items, concurrency, undo);
    struct run run = {.arena = arena_new(1 << 20), .now = {INT64_C(1790000000) * US_PER_S}};
    struct figures f = {0};
    size_t empty, most = 0;
    clock_t begin;

    run.state = run_state_new(run_id_make(run.now, 7), 1, plan, run.now);
    run.queue.rows = mem_array(2 * (size_t)items + 1, sizeof(*run.queue.rows));
    empty = run_state_bytes(run.state);
    begin = clock();
    apply(&run, &(struct engine_input){.kind = IN_START});
    while (!run_ended((enum run_status)run.state->status)) {
        if (run.more) {
            apply(&run, &(struct engine_input){.kind = IN_TIMER, .seq = run.loop_seq});
            f.batches++;
        } else {
            if (run_state_bytes(run.state) > most)
                most = run_state_bytes(run.state);
            answer(&run);
        }
    }
    f.us = (double)(clock() - begin) * 1e6 / CLOCKS_PER_SEC / items;
    ENSURE(run.state->status == (undo ? RUN_COMPENSATED : RUN_SUCCEEDED));
    f.events = (double)run.state->last_seq / items;
    f.waiting = (double)(most - empty) / (concurrency < items ? concurrency : items);
    f.ended = (double)(run_state_bytes(run.state) - empty) / items;
    run_state_free(run.state);
    plan_unref(plan);
    arena_free(run.arena);
    mem_free(run.queue.rows);
    return f;
}

static void the_cost_of_an_item_is_flat_from_1000_to_10000(void **unused)
{
    static const struct {
        uint32_t concurrency;
        bool undo;
    } rows[] = {{10, false}, {10000, false}, {10, true}};

    (void)unused;
    for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
        struct figures small = {.us = 1e9}, large = {.us = 1e9};
        for (int try = 0; try < TRIES && (try < 2 || large.us > TIMES_FLAT * small.us); try++) {
            struct figures a = run_loop(1000, rows[k].concurrency, rows[k].undo);
            struct figures b = run_loop(10000, rows[k].concurrency, rows[k].undo);
            small = a.us < small.us ? a : small;
            large = b.us < large.us ? b : large;
        }
        printf("foreach, %u at a time%s, per item of 1,000 and 10,000: %.2f and %.2f us (x %.2f), %.0f and %.0f bytes "
               "after "
               "it, %.2f events\n",
               (unsigned)rows[k].concurrency, rows[k].undo ? ", all undone" : "", small.us, large.us,
               large.us / small.us, small.ended, large.ended, large.events);
        assert_true(large.us <= TIMES_FLAT * small.us);
        /* dispatched, succeeded, and the item itself; dispatched and succeeded once more */
        assert_true(large.events < (rows[k].undo ? 5.01 : 3.01));
        if (rows[k].concurrency == 10 && !rows[k].undo)
            assert_true(large.ended <= 100);
        assert_true(large.waiting <= 1024 || rows[k].concurrency == 10);
        if (rows[k].concurrency == 10000)
            assert_in_range((uint32_t)large.batches, 10000 / 256 - 1, 10000 / 256 + 2);
    }
}

/* ---- waiting ---- */

static size_t heap(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

static void wait_somehow(struct run_state *state, struct arena *arena, struct wall_us now)
{
    struct effects fx;
    struct err err;

    arena_reset(arena);
    effects_init(&fx, arena);
    ENSURE(engine_apply(state, &(struct engine_input){.kind = IN_START}, now, &fx, &err) == ERR_OK);
    ENSURE(fx.eval_count == 0 && state->open_steps == 1);
}

static void a_run_that_waits_holds_less_than_a_kilobyte(void **unused)
{
    static const struct {
        const char *what, *step;
    } rows[] = {
        {"signal", "\"call\":\"wait_signal\",\"with\":{\"signal\":\"approved\",\"timeout\":\"2d\"}"},
        {"delay", "\"call\":\"delay\",\"with\":{\"duration\":\"30d\"}"},
        {"poll", "\"call\":\"poll\",\"with\":{\"call\":\"noop\",\"until\":\"${ .output.ok }\"}"},
        {"event", "\"call\":\"wait_event\",\"with\":{\"type\":\"t\",\"filter\":\"${ .event.data.ok }\"}"},
        {"child", "\"call\":\"workflow\",\"with\":{\"name\":\"kid\"}"},
        {"task", "\"call\":\"noop\""},
    };

    (void)unused;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct wall_us now = {INT64_C(1790000000) * US_PER_S};
        struct run_state **states = mem_array(WAITING_RUNS, sizeof(struct run_state *));
        struct arena *arena = arena_new(1 << 16);
        struct plan *plan;
        size_t before, bytes, said = 0;
        char doc[300];
        (void)snprintf(doc, sizeof(doc), "{\"name\":\"x\",\"steps\":{\"w\":{%s}}}", rows[i].step);
        plan = compile(doc);
        before = heap();
        for (size_t n = 0; n < WAITING_RUNS; n++) {
            states[n] = run_state_new(run_id_make(now, 7), 1, plan, now);
            wait_somehow(states[n], arena, now);
            said += run_state_bytes(states[n]);
        }
        bytes = (heap() - before) / WAITING_RUNS;
        printf("a run that waits for a %s: %zu bytes of heap, %zu by its own account\n", rows[i].what, bytes,
               said / WAITING_RUNS);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        assert_in_range(bytes, 300, 1023);
#endif
        assert_in_range(said / WAITING_RUNS, 300, 1023);
        for (size_t n = 0; n < WAITING_RUNS; n++)
            run_state_free(states[n]);
        mem_free(states);
        arena_free(arena);
        plan_unref(plan);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cost_of_an_item_is_flat_from_1000_to_10000),
        cmocka_unit_test(a_run_that_waits_holds_less_than_a_kilobyte),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
