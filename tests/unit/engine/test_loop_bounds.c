/* foreach: how many run at a time, what one batch takes, bounds of items and outputs, what is kept in memory. */
#include "tests/unit/engine/world.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>

#define NOOP "\"call\":\"noop\""
#define GO "\"steps\":{\"go\":{" NOOP "}}"
#define EACH(with) "\"each\":{\"call\":\"foreach\",\"with\":{" with "}}"
#define STEPS(s) "{\"name\":\"x\",\"steps\":{" s "}}"

/* The mode says what a failed item means. */
static char *loop_of(uint32_t items, uint32_t concurrency, const char *mode, const char *body)
{
    struct buf doc;
    size_t len;

    buf_init(&doc, 1 << 20);
    buf_printf(&doc,
               "{\"name\":\"x\",\"timeout\":\"30d\",\"steps\":{\"each\":{\"call\":\"foreach\",\"with\":{"
               "\"concurrency\":%u,\"on_item_failure\":\"%s\",\"steps\":{\"go\":{%s}},\"items\":[",
               (unsigned)concurrency, mode, body);
    for (uint32_t i = 0; i < items; i++)
        buf_printf(&doc, "%s%u", i == 0 ? "" : ",", (unsigned)i);
    buf_append_str(&doc, STR("]}}}}"));
    return buf_take(&doc, &len);
}

static void as_many_run_as_the_loop_allows_at_every_moment(void **unused)
{
    (void)unused;
    for (uint32_t concurrency = 1; concurrency <= 7; concurrency++) {
        struct world w;
        char *doc = loop_of(11, concurrency, "continue", NOOP);
        uint64_t seed = concurrency;
        world_init(&w, doc);
        world_start(&w);
        for (uint32_t done = 0; done < 11; done++) {
            uint32_t open[11] = {0}, count = 0;
            char path[32];
            for (uint32_t i = 0; i < 11; i++) {
                (void)snprintf(path, sizeof(path), "each[%u].go", (unsigned)i);
                if (world_open(&w, path))
                    open[count++] = i;
            }
            assert_int_equal(count, concurrency < 11 - done ? concurrency : 11 - done);
            seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407U;
            (void)snprintf(path, sizeof(path), "each[%u].go", (unsigned)open[(seed >> 33) % count]);
            if (done % 4 == 3)
                world_fail(&w, path, "permanent", "x", true, true);
            else
                world_succeed(&w, path, "1");
        }
        assert_int_equal(w.state->status, RUN_PARTIALLY_COMPLETED);
        world_deinit(&w);
        mem_free(doc);
    }
}

static void a_giant_loop_takes_a_bounded_part_of_each_batch(void **unused)
{
    char *doc = loop_of(10000, 10000, "continue", "\"call\":\"transform\",\"with\":{\"value\":\"${ .index }\"}");
    struct world w;
    uint32_t batches = 0;
    size_t largest = 0;

    (void)unused;
    world_init(&w, doc);
    w.unchecked = true;
    world_start(&w);
    for (; !run_ended((enum run_status)w.state->status); batches++) {
        assert_int_equal(w.fx.change_count, batches == 0 || w.fx.change_count == 1);
        assert_string_equal(w.fx.changes[0].reason, "more_items");
        assert_int_equal(world_step(&w, "each")->due_at.us, w.now.us);
        if (w.history_count - w.mark > largest)
            largest = w.history_count - w.mark;
        if (batches == 7) { /* another scheduler goes on in the middle */
            world_check(&w);
            world_reload(&w);
        }
        w.now.us += 1000;
        world_timer(&w, "each");
    }
    assert_in_range(largest, 256, 1100);
    assert_in_range(batches, 10000 / 500, 10000 / 200);
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    assert_int_equal(world_count(&w, EVENT_STEP_SUCCEEDED, NULL), 20001);
    world_check(&w);
    world_deinit(&w);
    mem_free(doc);
}

static void iterations_with_many_steps_take_no_more_of_a_batch(void **unused)
{
    struct world w;
    struct buf doc;
    size_t largest = 0;

    (void)unused;
    buf_init(&doc, 1 << 20);
    buf_append_str(
        &doc,
        STR("{\"name\":\"x\",\"steps\":{\"each\":{\"call\":\"foreach\",\"with\":{\"concurrency\":1000,\"items\":["));
    for (int i = 0; i < 300; i++)
        buf_append_str(&doc, i == 0 ? STR("0") : STR(",0"));
    buf_append_str(&doc, STR("],\"steps\":{"));
    for (int i = 0; i < 100; i++)
        buf_printf(&doc, "%s\"s%d\":{\"call\":\"transform\",\"with\":{\"value\":1}}", i == 0 ? "" : ",", i);
    buf_append_str(&doc, STR("}}}}}"));
    world_init(&w, doc.ptr);
    w.unchecked = true;
    world_start(&w);
    while (!run_ended((enum run_status)w.state->status)) {
        if (w.history_count - w.mark > largest)
            largest = w.history_count - w.mark;
        world_timer(&w, "each");
    }
    assert_in_range(largest, 500, 1300);
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    world_check(&w);
    world_deinit(&w);
    buf_deinit(&doc);
}

static void a_loop_that_is_stopped_between_batches_ends_at_once(void **unused)
{
    char *doc = loop_of(1000, 1000, "continue", "\"call\":\"transform\",\"with\":{\"value\":1}");
    struct world w;

    (void)unused;
    world_init(&w, doc);
    world_start(&w);
    assert_int_equal(world_step(&w, "each")->extra->live, 0);
    world_cancel(&w, false);
    assert_string_equal(world_said(&w), "command.applied, run.cancelling, step.cancelled each, run.cancelled");
    world_deinit(&w);

    world_init(&w, doc); /* when a timer is under way already */
    world_start(&w);
    world_reload(&w);
    world_timer(&w, "each");
    assert_in_range(world_step(&w, "each")->extra->next, 300, 999);
    world_run_timeout(&w);
    assert_int_equal(w.state->status, RUN_TIMED_OUT);
    world_deinit(&w);
    mem_free(doc);
}

static void a_loop_that_fails_in_the_batch_that_began_it_leaves_no_row(void **unused)
{
    char *doc = loop_of(300, 300, "fail", "\"call\":\"transform\",\"with\":{\"value\":\"${ .item.x }\"}");
    struct world w;

    (void)unused;
    world_init(&w, doc);
    world_start(&w);
    assert_int_equal(world_count(&w, EVENT_STEP_WAITING, "each"), 1);
    assert_int_equal(w.state->status, RUN_FAILED);
    assert_int_equal(w.fx.open_count + w.fx.change_count + w.fx.close_count, 0);
    world_deinit(&w);
    mem_free(doc);
}

static void a_loop_takes_ten_thousand_items_and_no_more(void **unused)
{
    (void)unused;
    for (uint32_t count = LOOP_ITEMS_MAX; count <= LOOP_ITEMS_MAX + 1; count++) {
        struct world w;
        struct buf list;
        buf_init(&list, 1 << 20);
        buf_append_str(&list, STR("{\"l\":["));
        for (uint32_t i = 0; i < count; i++)
            buf_append_str(&list, i == 0 ? STR("0") : STR(",0"));
        buf_append_str(&list, STR("]}"));
        world_init(&w, STEPS(EACH("\"items\":\"${ .input.l }\"," GO)));
        w.input = buf_str(&list);
        w.unchecked = true;
        world_start(&w);
        if (count <= LOOP_ITEMS_MAX)
            assert_int_equal(world_step(&w, "each")->extra->count, count);
        else
            assert_true(str_is(world_event(&w, EVENT_STEP_FAILED, "each")->code, "too_many_items"));
        world_deinit(&w);
        buf_deinit(&list);
    }
}

/* A JSON string of so many bytes. */
static char *text_of(size_t bytes)
{
    char *text = mem_alloc(bytes + 1);

    memset(text, 'x', bytes);
    text[0] = text[bytes - 1] = '"';
    return text;
}

static void outputs_of_all_items_are_bounded_together(void **unused)
{
    static const char *const outputs[] = {"", "\"output\":{\"v\":\"${ .steps.go.output }\"},"};

    (void)unused;
    for (size_t copied = 0; copied < 2; copied++) { /* by reference, and made by an expression: {"v":...} */
        for (size_t more = 0; more < 2; more++) {
            size_t around = copied * strlen("{\"v\":}"), piece = ((size_t)1 << 19) - around;
            char *text = text_of(piece), *last = text_of(piece + more), *doc, path[32];
            struct world w;
            struct buf buf;
            size_t len;
            buf_init(&buf, 2000);
            buf_printf(&buf,
                       STEPS(EACH("%s\"concurrency\":100,\"on_item_failure\":\"continue\"," GO
                                  ",\"items\":[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,"
                                  "25,26,27,28,29,30,31,32,33,34,35,36,37,38,39,40,41,42,43,44,45,46,47,48,49,50,"
                                  "51,52,53,54,55,56,57,58,59,60,61,62,63]")),
                       outputs[copied]);
            doc = buf_take(&buf, &len);
            world_init(&w, doc);
            w.unchecked = true;
            world_start(&w);
            for (int i = 0; i < 64; i++) {
                (void)snprintf(path, sizeof(path), "each[%d].go", i);
                world_succeed(&w, path, i == 63 ? last : text);
            }
            assert_int_equal(world_has(&w, EVENT_STEP_FAILED, "each[63]"), more == 1);
            if (more == 1)
                assert_true(str_is(world_event(&w, EVENT_STEP_FAILED, "each[63]")->code, "output_too_large"));
            assert_int_equal(w.state->status, more == 1 ? RUN_PARTIALLY_COMPLETED : RUN_SUCCEEDED);
            world_deinit(&w);
            mem_free(text);
            mem_free(last);
            mem_free(doc);
        }
    }
}

static void what_is_over_is_forgotten_and_what_may_be_asked_for_is_kept(void **unused)
{
    char *doc = loop_of(2000, 10, "continue", NOOP);
    struct world w;
    size_t before;
    char path[32];

    (void)unused;
    world_init(&w, doc);
    w.unchecked = true;
    world_start(&w);
    before = run_state_bytes(w.state);
    for (uint32_t i = 0; i < 1990; i++) {
        (void)snprintf(path, sizeof(path), "each[%u].go", (unsigned)i);
        world_succeed(&w, path, "1");
    }
    assert_int_equal(run_state_bytes(w.state), before);
    world_check(&w);
    assert_int_equal(run_find_step(w.state, STR("each[1].go"), NULL), NO_NODE);
    world_deinit(&w);
    mem_free(doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_many_run_as_the_loop_allows_at_every_moment),
        cmocka_unit_test(a_giant_loop_takes_a_bounded_part_of_each_batch),
        cmocka_unit_test(iterations_with_many_steps_take_no_more_of_a_batch),
        cmocka_unit_test(a_loop_that_is_stopped_between_batches_ends_at_once),
        cmocka_unit_test(a_loop_that_fails_in_the_batch_that_began_it_leaves_no_row),
        cmocka_unit_test(a_loop_takes_ten_thousand_items_and_no_more),
        cmocka_unit_test(outputs_of_all_items_are_bounded_together),
        cmocka_unit_test(what_is_over_is_forgotten_and_what_may_be_asked_for_is_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
