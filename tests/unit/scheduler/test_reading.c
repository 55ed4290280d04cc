/* What expressions read: items and lists of loops, and the steps around. */
#include "tests/unit/scheduler/script.h"

#include "common/base/banned.h"

/* A loop over .input.list whose iterations are pure; their output is an object. */
#define PURE                                                                                                           \
    "{\"name\":\"w\",\"steps\":{\"pre\":{\"call\":\"transform\",\"with\":{\"value\":7}},"                              \
    "\"each\":{\"call\":\"foreach\",\"needs\":[\"pre\"],\"with\":{\"items\":\"${ .input.list }\",\"steps\":{"          \
    "\"t\":{\"call\":\"transform\",\"with\":{\"value\":{\"n\":\"${ .item.n }\",\"i\":\"${ .index }\","                 \
    "\"pre\":\"${ .steps.pre.output }\"}}}}}}},\"output\":\"${ .steps.each.output }\"}"

static void an_iteration_reads_its_item_its_index_and_the_steps_around_it(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = script_begin(s, PURE, "{\"list\":[{\"n\":0.10}, {\"n\":\"b\"} ,{}]}");
    assert_json(script_output(run, EVENT_RUN_SUCCEEDED, NULL),
                "[{\"n\":0.10,\"i\":0,\"pre\":7},{\"n\":\"b\",\"i\":1,\"pre\":7},{\"n\":null,\"i\":2,\"pre\":7}]");
    script_free(s);
}

/* The loop is a run of many batches; what comes for another run while one of them is in flight is in the next. */
static void a_loop_of_two_thousand_items_lets_other_runs_in_between(void **state)
{
    struct script *s = script_new();
    struct script_run *giant, *other;
    size_t batches = 0;

    (void)state;
    script_own(s, 0, 1);
    s->hold_commits = true;
    giant = script_begin(s, PURE, script_list(s, 2000));
    assert_non_null(s->batch);
    other = script_run(s, 0, NOOP);
    script_advance(s, SEC); /* commands are looked for */
    while (s->batch != NULL) {
        assert_true(s->batch->event_count <= 1100);
        script_commit(s, SCHED_COMMITTED, NULL);
        script_settle(s);
        batches++;
        if (batches == 1)
            assert_int_equal(script_events(s, other, EVENT_RUN_STARTED), 0);
        if (batches == 2)
            assert_int_equal(script_events(s, other, EVENT_RUN_STARTED), 1);
        assert_true(batches < 30);
    }
    assert_true(batches >= 8);
    assert_int_equal(script_events(s, giant, EVENT_RUN_SUCCEEDED), 1);
    assert_int_equal(jt_count(script_output(giant, EVENT_RUN_SUCCEEDED, NULL)), 2000);
    assert_json(jt_get(jt_at(script_output(giant, EVENT_RUN_SUCCEEDED, NULL), 1999), "n"), "1999");
    assert_int_equal(s->bodies_read, 0); /* what will be read is kept when it is written */
    script_free(s);
}

/* each waits for a delay, so that the loop goes on when all caches are gone. */
#define SLOW_LOOP                                                                                                      \
    "{\"name\":\"w\",\"steps\":{\"each\":{\"call\":\"foreach\",\"with\":{\"items\":\"${ .input.list }\","              \
    "\"on_item_failure\":\"continue\",\"steps\":{\"t\":{\"call\":\"transform\",\"with\":{\"value\":"                   \
    "\"${ .item.n.x }\"}}}}},\"d\":{\"needs\":[\"each\"],\"call\":\"delay\",\"with\":{\"duration\":\"5s\"}},"          \
    "\"l\":{\"needs\":[\"d\"],\"call\":\"transform\",\"with\":{\"value\":{\"all\":\"${ .steps.each.output }\","        \
    "\"failed\":\"${ .steps.each.failed }\",\"second\":\"${ .steps.each.output[2] }\"}}}}}"

static void a_loops_list_is_put_together_of_bodies_asked_for_at_once(void **state)
{
    struct script *s = script_new_with(&(struct sched_settings){.cache_bodies_bytes = 1});
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = script_begin(s, SLOW_LOOP, "{\"list\":[{\"n\":{\"x\":1}},{\"n\":4},{\"n\":{\"x\":[2, 3]}},{\"n\":null}]}");
    assert_int_equal(script_events(s, run, EVENT_STEP_WAITING), 2); /* the loop, the delay */
    s->hold_bodies = true;
    script_advance(s, 6 * SEC);
    assert_int_equal(s->body_count, 2); /* null has none, and what failed */
    s->hold_bodies = false;
    script_settle(s);
    assert_json(script_output(run, EVENT_STEP_SUCCEEDED, "l"),
                "{\"all\":[1,null,[2, 3],null],\"failed\":[1],\"second\":[2, 3]}");
    assert_int_equal(s->bodies_read, 2);
    script_free(s);
}

/* A body arrives in parts, and the cache may hold next to nothing: it is put together all the same. */
static void a_list_larger_than_the_cache_is_put_together(void **state)
{
    struct script *s = script_new_with(&(struct sched_settings){.cache_bodies_bytes = 1});
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = script_begin(
        s,
        "{\"name\":\"w\",\"steps\":{\"each\":{\"call\":\"foreach\",\"with\":{\"items\":\"${ .input.list }\","
        "\"steps\":{\"t\":{\"call\":\"transform\",\"with\":{\"value\":{\"v\":\"${ .item.n }\"}}}}}},"
        "\"d\":{\"needs\":[\"each\"],\"call\":\"delay\",\"with\":{\"duration\":\"5s\"}}},"
        "\"output\":\"${ .steps.each.output }\"}",
        script_list(s, 300));
    s->hold_bodies = true;
    script_advance(s, 6 * SEC);
    assert_true(s->body_count > 250);
    for (int i = 0; s->body_count > 0; i++) { /* one after another, each a second after the last */
        assert_true(i < 1000);
        struct sched_body_want want = s->bodies[--s->body_count];

        sched_on_bodies(
            s->sched,
            &(struct sched_body){want.run, want.seq, false, want.seq == 0 ? run->input : run->outputs[want.seq - 1]},
            1);
        s->now += SEC;
        script_settle(s);
    }
    assert_int_equal(jt_count(script_output(run, EVENT_RUN_SUCCEEDED, NULL)), 300);
    assert_json(jt_at(script_output(run, EVENT_RUN_SUCCEEDED, NULL), 299), "{\"v\":299}");
    script_free(s);
}

static void a_list_that_no_expression_may_have_is_not_brought(void **state)
{
    struct script *s = script_new_with(&(struct sched_settings){.document_max_bytes = 1000, .cache_bodies_bytes = 1});
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = script_begin(
        s,
        "{\"name\":\"w\",\"steps\":{\"each\":{\"call\":\"foreach\",\"with\":{\"items\":\"${ .input.list }\","
        "\"steps\":{\"t\":{\"call\":\"transform\",\"with\":{\"value\":{\"v\":\"${ .item.n }\"}}}}}},"
        "\"d\":{\"needs\":[\"each\"],\"call\":\"delay\",\"with\":{\"duration\":\"5s\"}},"
        "\"l\":{\"needs\":[\"d\"],\"call\":\"transform\",\"with\":{\"value\":"
        "\"${ .steps.each.output | length }\"}}}}",
        script_list(s, 200));
    s->bodies_read = 0;
    script_advance(s, 6 * SEC);
    assert_int_equal(script_events(s, run, EVENT_STEP_FAILED), 1);
    assert_int_equal(s->evaluation_count, 0);
    assert_int_equal(s->bodies_read, 0);
    script_free(s);
}

static void assert_steps(const struct script *s, size_t evaluation, size_t count)
{
    struct str steps = jt_get(s->evaluations[evaluation].document, "steps");

    assert_int_equal(jt_count(steps), count);
    assert_json(jt_get(jt_get(steps, "a"), "output"), "1");
    assert_json(jt_get(jt_get(steps, "b"), "output"), "5");
}

static void steps_as_a_whole_are_those_upstream_of_the_step_and_of_its_loop(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = script_begin(s,
                       "{\"name\":\"w\",\"steps\":{\"a\":{\"call\":\"transform\",\"with\":{\"value\":1}},"
                       "\"beside\":{\"call\":\"transform\",\"with\":{\"value\":2}},"
                       "\"each\":{\"needs\":[\"a\"],\"call\":\"foreach\",\"with\":{\"items\":[5],\"steps\":{"
                       "\"b\":{\"call\":\"transform\",\"with\":{\"value\":\"${ .item }\"}},"
                       "\"c\":{\"needs\":[\"b\"],\"call\":\"transform\",\"with\":{\"value\":\"${ .steps | keys }\"}},"
                       "\"d\":{\"call\":\"delay\",\"with\":{\"duration\":\"1s\"}}},"
                       "\"output\":\"${ .steps | length }\"}}},\"output\":\"${ .steps | length + 1 }\"}",
                       "{}");
    assert_int_equal(s->evaluation_count, 1);
    assert_steps(s, 0, 2);
    script_answer(s, 0, "[]");
    script_advance(s, 2 * SEC);
    assert_int_equal(s->evaluation_count, 2);
    assert_steps(s, 1, 4); /* a, and all of the body */
    script_answer(s, 1, "4");
    assert_int_equal(s->evaluation_count, 3);
    assert_int_equal(jt_count(jt_get(s->evaluations[2].document, "steps")), 3);
    script_answer(s, 2, "4");
    assert_int_equal(script_events(s, run, EVENT_RUN_SUCCEEDED), 1);
    script_free(s);
}

static void outputs_that_are_made_by_an_expression_are_kept_for_the_list(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = script_begin(
        s,
        "{\"name\":\"w\",\"steps\":{\"each\":{\"call\":\"foreach\",\"with\":{\"items\":\"${ .input.list }\","
        "\"steps\":{\"t\":{\"call\":\"transform\",\"with\":{\"value\":1}}},"
        "\"output\":{\"n\":\"${ .item.n }\"}}}},\"output\":\"${ .steps.each.output[599].n }\"}",
        script_list(s, 600));
    assert_json(script_output(run, EVENT_RUN_SUCCEEDED, NULL), "599");
    assert_int_equal(s->bodies_read, 0);
    script_free(s);
}

/* The frame of an iteration goes to the next: what was asked for the first is no answer for the second. */
static void a_value_that_comes_too_late_is_not_taken_by_the_next_iteration(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = script_begin(s,
                       "{\"name\":\"w\",\"steps\":{\"each\":{\"call\":\"foreach\",\"with\":{\"items\":[1,2],"
                       "\"concurrency\":1,\"on_item_failure\":\"continue\",\"steps\":{"
                       "\"a\":{\"call\":\"condition\",\"with\":{\"if\":\"${ .item > 1 }\"}},"
                       "\"b\":{\"call\":\"transform\",\"with\":{\"value\":\"${ .item + 1 }\"}}},"
                       "\"output\":\"${ .steps.b.output }\"}}}}",
                       "{}");
    assert_int_equal(s->evaluation_count, 2);
    script_answer(s, 0, "\"no boolean\""); /* the iteration fails, and the next begins */
    assert_int_equal(s->evaluation_count, 4);
    script_answer(s, 1, "2");
    script_answer(s, 2, "true");
    script_answer(s, 3, "3");
    assert_int_equal(script_events(s, run, EVENT_RUN_PARTIALLY_COMPLETED), 1);
    assert_json(script_output(run, EVENT_STEP_SUCCEEDED, "each[1].b"), "3");
    script_free(s);
}

static void loops_inside_loops_read_the_innermost_item(void **state)
{
    struct script *s = script_new();
    struct script_run *run;

    (void)state;
    script_own(s, 0, 1);
    run = script_begin(
        s,
        "{\"name\":\"w\",\"steps\":{\"each\":{\"call\":\"foreach\",\"with\":{\"items\":[[1,2],[],[3]],\"steps\":{"
        "\"o\":{\"call\":\"transform\",\"with\":{\"value\":\"${ .index }\"}},"
        "\"in\":{\"needs\":[\"o\"],\"call\":\"foreach\",\"with\":{\"items\":\"${ .item }\",\"steps\":{"
        "\"t\":{\"call\":\"transform\",\"with\":{\"value\":[\"${ .item }\",\"${ .index }\","
        "\"${ .steps.o.output }\"]}}}}}}}}},\"output\":\"${ .steps.each }\"}",
        "{}");
    assert_json(script_output(run, EVENT_RUN_SUCCEEDED, NULL),
                "{\"status\":\"succeeded\",\"branch\":null,\"output\":[[[1,0,0],[2,1,0]],[],[[3,0,2]]],"
                "\"error\":null,\"failed\":[]}");
    script_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_iteration_reads_its_item_its_index_and_the_steps_around_it),
        cmocka_unit_test(a_loop_of_two_thousand_items_lets_other_runs_in_between),
        cmocka_unit_test(a_loops_list_is_put_together_of_bodies_asked_for_at_once),
        cmocka_unit_test(a_list_larger_than_the_cache_is_put_together),
        cmocka_unit_test(a_list_that_no_expression_may_have_is_not_brought),
        cmocka_unit_test(outputs_that_are_made_by_an_expression_are_kept_for_the_list),
        cmocka_unit_test(steps_as_a_whole_are_those_upstream_of_the_step_and_of_its_loop),
        cmocka_unit_test(a_value_that_comes_too_late_is_not_taken_by_the_next_iteration),
        cmocka_unit_test(loops_inside_loops_read_the_innermost_item),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
