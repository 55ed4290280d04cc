/* Who is next of what waits for a place in a queue: what was begun is ended first, and nobody waits for ever. */
#include "tests/unit/scheduler/script.h"

#include "common/base/banned.h"

#define OTHER "{\"name\":\"w\",\"steps\":{\"other\":{\"call\":\"noop\"}}}"
#define LONG_STEPS 60

/* One message waits at a time. */
static struct script *narrow(void)
{
    struct script *s = script_new_with(&(struct sched_settings){.window_min = 1, .window_max = 1});

    script_own(s, 0, 1);
    return s;
}

static void go(struct script *s)
{
    script_deliver(s, 0, "nudge", "n", "{\"v\":1,\"shard\":0}");
    script_settle(s);
}

/* The newest task is answered, and what comes next is the one that is expected. */
static void then(struct script *s, const char *step, const struct script_run *run)
{
    char id[UUID_TEXT_SIZE], text[64];
    size_t sent = s->sent_count;
    const struct sent *task;
    struct str found;

    script_result(s, 0, script_last(s, "task"), "w", "\"status\":\"succeeded\"");
    script_settle(s);
    task = script_last(s, "task");
    assert_true(s->sent_count > sent);
    run_id_format(run->id, id);
    found = str_of(task->id);
    snprintf(text, sizeof(text), "%s/%s/", id, step);
    assert_true(found.len > strlen(text));
    assert_memory_equal(found.ptr, text, strlen(text));
}

static void a_run_goes_on_before_another_begins(void **state)
{
    struct script *s = narrow();
    struct script_run *first = script_run(s, 0, CHAIN), *second = script_run(s, 0, CHAIN),
                      *third = script_run(s, 0, CHAIN);

    (void)state;
    go(s);
    then(s, "b", first);
    then(s, "a", second);
    then(s, "b", second);
    then(s, "a", third);
    then(s, "b", third);
    script_free(s);
}

static void of_what_one_task_makes_ready_one_has_its_turn(void **state)
{
    struct script *s = narrow();
    struct script_run *fan =
        script_run(s, 0,
                   "{\"name\":\"w\",\"steps\":{\"a\":{\"call\":\"noop\"},"
                   "\"b\":{\"needs\":[\"a\"],\"call\":\"noop\"},\"c\":{\"needs\":[\"a\"],\"call\":\"noop\"},"
                   "\"d\":{\"needs\":[\"b\",\"c\"],\"call\":\"noop\"}}}");
    struct script_run *other = script_run(s, 0, OTHER);

    (void)state;
    go(s);
    then(s, "b", fan);
    then(s, "other", other);
    then(s, "c", fan);
    then(s, "d", fan);
    script_free(s);
}

static void a_loop_that_goes_on_passes_nobody(void **state)
{
    struct script *s = narrow();
    struct script_run *loop = script_run(
        s, 0,
        "{\"name\":\"w\",\"steps\":{\"each\":{\"call\":\"foreach\",\"with\":{\"items\":[1,2,3],\"concurrency\":1,"
        "\"steps\":{\"do\":{\"call\":\"noop\"},\"and\":{\"needs\":[\"do\"],\"call\":\"noop\"}}}}}}");
    struct script_run *other = script_run(s, 0, OTHER), *more = script_run(s, 0, OTHER);

    (void)state;
    go(s);
    then(s, "each[0].and", loop);
    then(s, "other", other);
    then(s, "other", more);
    then(s, "each[1].do", loop);
    then(s, "each[1].and", loop);
    script_free(s);
}

static void what_has_stood_in_line_for_a_second_has_one_turn_in_seventeen(void **state)
{
    CLEANUP(buf_deinit) struct buf document = {0};
    struct script *s = narrow();
    struct script_run *other;
    char step[16];

    (void)state;
    buf_init(&document, SIZE_MAX / 2);
    buf_printf(&document, "{\"name\":\"w\",\"steps\":{\"s0\":{\"call\":\"noop\"}");
    for (int i = 1; i < LONG_STEPS; i++)
        buf_printf(&document, ",\"s%d\":{\"needs\":[\"s%d\"],\"call\":\"noop\"}", i, i - 1);
    buf_printf(&document, "}}");
    struct script_run *chain = script_run(s, 0, document.ptr);

    other = script_run(s, 0, OTHER);
    go(s);
    for (int i = 1; i <= 20; i++) {
        snprintf(step, sizeof(step), "s%d", i);
        then(s, step, chain);
    }
    script_advance(s, 1 * SEC);
    then(s, "other", other);
    other = script_run(s, 0, OTHER);
    go(s);
    then(s, "s21", chain);
    script_advance(s, 2 * SEC);
    for (int i = 22; i < 21 + 16; i++) {
        snprintf(step, sizeof(step), "s%d", i);
        then(s, step, chain);
    }
    then(s, "other", other);
    script_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_goes_on_before_another_begins),
        cmocka_unit_test(of_what_one_task_makes_ready_one_has_its_turn),
        cmocka_unit_test(a_loop_that_goes_on_passes_nobody),
        cmocka_unit_test(what_has_stood_in_line_for_a_second_has_one_turn_in_seventeen),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
