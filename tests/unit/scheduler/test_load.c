/* What waits, and for whose sake: what is told of it, and what is held back from a broker that is slow to take it. */
#include "tests/unit/scheduler/script.h"

#include "common/base/banned.h"

#define QUEUE "ropewalk.task.default.normal"

struct told {
    struct sched_load of[8]; /* by organisation */
    size_t count;
};

static void note(void *ctx, const struct sched_load *load)
{
    struct told *told = ctx;

    told->of[load->organisation] = *load;
    told->count++;
}

static struct told load_of(struct script *s)
{
    struct told told = {0};

    assert_true(sched_each_load(s->sched, note, &told));
    return told;
}

static void runs(struct script *s, int count, int32_t organisation)
{
    for (int i = 0; i < count; i++)
        script_run(s, 0, NOOP)->organisation = organisation;
    script_deliver(s, 0, "nudge", "n", "{\"v\":1,\"shard\":0}");
    script_settle(s);
}

/* Workers have taken all there is, whenever one looks. */
static void take_all(struct script *s)
{
    for (int i = 0; i < 8; i++) {
        script_depth(s, QUEUE, 0, 1);
        script_advance(s, 20 * MS);
    }
}

static void what_waits_for_us_is_told_with_its_delay(void **state)
{
    struct script *s = script_new_with(&(struct sched_settings){.window_min = 10, .window_max = 10});
    struct told told;

    (void)state;
    script_own(s, 0, 1);
    runs(s, 300, 1);
    take_all(s);
    script_advance(s, 100 * MS);
    script_depth(s, QUEUE, 60, 1);
    told = load_of(s);
    assert_int_equal(told.count, 1);
    assert_int_equal(told.of[1].waiting, 300);
    assert_true(told.of[1].delay_us >= 100 * MS);
    script_free(s);
}

static void what_waits_for_workers_has_no_delay_of_ours(void **state)
{
    struct script *s = script_new();
    struct told told;

    (void)state;
    script_own(s, 0, 1);
    runs(s, 300, 1);
    script_advance(s, 100 * MS);
    script_depth(s, QUEUE, 64, 1); /* nobody has room */
    script_advance(s, 3 * SEC);
    told = load_of(s);
    assert_int_equal(told.of[1].waiting, 300);
    assert_int_equal(told.of[1].delay_us, 0);
    script_free(s);
}

/* Who went to workers is no longer in line. */
static void the_delay_is_what_all_before_in_line_need_at_the_pace_of_late(void **state)
{
    struct script *s = script_new_with(&(struct sched_settings){.window_min = 10, .window_max = 10});
    struct told told;

    (void)state;
    script_own(s, 0, 1);
    runs(s, 310, 1);
    take_all(s);
    (void)load_of(s);
    for (size_t i = 0; i < 20; i++) {
        script_result(s, 0, &s->sent[i], "w", "\"status\":\"succeeded\"");
        script_settle(s);
    }
    script_advance(s, 100 * MS);
    told = load_of(s);
    assert_int_equal(told.of[1].waiting, 290);
    assert_in_range(told.of[1].delay_us, 1000 * MS, 2000 * MS); /* 200 in line, 100 to 200 a second */
    script_free(s);
}

static void what_workers_are_doing_is_no_line(void **state)
{
    struct script *s = script_new();
    struct told told;

    (void)state;
    script_own(s, 0, 1);
    runs(s, 50, 1);
    (void)load_of(s);
    for (size_t i = 0; i < 5; i++)
        script_result(s, 0, &s->sent[i], "w", "\"status\":\"succeeded\"");
    script_advance(s, 100 * MS);
    script_depth(s, QUEUE, 0, 1); /* they have all begun, and take their time */
    told = load_of(s);
    assert_int_equal(told.of[1].waiting, 45);
    assert_int_equal(told.of[1].delay_us, 0);
    script_free(s);
}

static void an_organisation_without_work_is_not_told_of(void **state)
{
    struct script *s = script_new();
    struct told told;

    (void)state;
    script_own(s, 0, 1);
    runs(s, 2, 2);
    for (size_t i = 0; i < 2; i++)
        script_result(s, 0, &s->sent[i], "w", "\"status\":\"succeeded\"");
    script_settle(s);
    told = load_of(s);
    assert_int_equal(told.count, 0);
    assert_false(sched_each_load(s->sched, note, &told)); /* so soon no pace could be told */
    script_free(s);
}

static size_t tasks_to(const struct script *s, const char *queue)
{
    size_t n = 0;

    for (size_t i = 0; i < s->sent_count; i++)
        n += strcmp(s->sent[i].queue, queue) == 0;
    return n;
}

/* Depths do not count what has not arrived: without a bound of its own all of the backlog would go into the connection.
 */
static void a_broker_that_takes_nothing_is_not_sent_everything(void **state)
{
    struct script *s = script_new_with(&(struct sched_settings){.window_min = 10, .window_max = 10});

    (void)state;
    s->hold_confirms = true;
    script_own(s, 0, 1);
    runs(s, 200, 1);
    for (int i = 0; i < 30; i++) {
        script_depth(s, QUEUE, 0, 1);
        script_advance(s, 100 * MS);
    }
    assert_int_equal(tasks_to(s, QUEUE), 10);
    script_run(s, 0, "{\"name\":\"w\",\"steps\":{\"a\":{\"call\":\"noop\",\"priority\":\"critical\"}}}");
    script_deliver(s, 0, "nudge", "m", "{\"v\":1,\"shard\":0}");
    script_settle(s);
    assert_int_equal(tasks_to(s, "ropewalk.task.default.critical"), 1); /* another queue's bound is its own */
    s->hold_confirms = false;
    script_advance(s, 100 * MS);
    script_depth(s, QUEUE, 0, 1);
    script_advance(s, 100 * MS);
    assert_true(tasks_to(s, QUEUE) > 10);
    script_free(s);
}

/* A result tells as much as a confirm: what was heard of has arrived, whichever comes first. */
static void what_was_heard_of_is_not_on_its_way(void **state)
{
    struct script *s = script_new_with(&(struct sched_settings){.window_min = 10, .window_max = 10});

    (void)state;
    s->hold_confirms = true;
    script_own(s, 0, 1);
    runs(s, 200, 1);
    for (size_t i = 0; i < 150; i++) {
        assert_true(tasks_to(s, QUEUE) > i);
        script_result(s, 0, &s->sent[i], "w", "\"status\":\"succeeded\"");
        script_settle(s);
    }
    s->hold_confirms = false;
    script_settle(s); /* confirms that come late change nothing */
    assert_in_range(tasks_to(s, QUEUE), 151, 200);
    script_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_waits_for_us_is_told_with_its_delay),
        cmocka_unit_test(what_waits_for_workers_has_no_delay_of_ours),
        cmocka_unit_test(what_workers_are_doing_is_no_line),
        cmocka_unit_test(the_delay_is_what_all_before_in_line_need_at_the_pace_of_late),
        cmocka_unit_test(an_organisation_without_work_is_not_told_of),
        cmocka_unit_test(a_broker_that_takes_nothing_is_not_sent_everything),
        cmocka_unit_test(what_was_heard_of_is_not_on_its_way),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
