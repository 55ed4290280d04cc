/* Paths of steps, what happened to a step told from its events, and which child workflows a document names. */
#include "gateway/lineage.h"
#include "gateway/step_place.h"
#include "gateway/step_view.h"
#include "tests/unit/base/test.h"

#include "common/base/banned.h"

static struct plan *compiled(struct arena *arena)
{
    static const char document[] =
        "{\"name\":\"flow\",\"on_failure_notify\":{\"call\":\"noop\"},\"steps\":{"
        "\"a\":{\"call\":\"noop\",\"compensate\":{\"call\":\"noop\"}},"
        "\"each\":{\"call\":\"foreach\",\"needs\":[\"a\"],\"with\":{\"items\":[1,2],\"steps\":{"
        "\"go\":{\"call\":\"noop\",\"compensate\":{\"call\":\"noop\"}},"
        "\"inner\":{\"call\":\"foreach\",\"with\":{\"items\":[1],\"steps\":{\"deep\":{\"call\":\"noop\"}}}}}}}}}";
    struct plan_faults faults = {.arena = arena};
    struct plan *plan = plan_compile(str_of(document), &PLAN_LIMITS_DEFAULT, &faults);

    assert_non_null(plan);
    return plan;
}

static void paths_lead_to_steps_iterations_and_actions(void **state)
{
    static const struct {
        const char *path, *name;
        enum step_role role;
        bool is_item;
        uint32_t index;
    } good[] = {
        {"a", "a", ROLE_STEP, false, 0},
        {"each", "each", ROLE_STEP, false, 0},
        {"each[0]", "each", ROLE_STEP, true, 0},
        {"each[9999]", "each", ROLE_STEP, true, 9999},
        {"each[3].go", "go", ROLE_STEP, false, 0},
        {"each[3].inner[12].deep", "deep", ROLE_STEP, false, 0},
        {"each[3].inner[12]", "inner", ROLE_STEP, true, 12},
        {"a:compensate", "a", ROLE_COMPENSATE, false, 0},
        {"each[3].go:compensate", "go", ROLE_COMPENSATE, false, 0},
        {":notify", "", ROLE_NOTIFY, false, 0},
    };
    static const char *const bad[] = {"",
                                      "b",
                                      "a[0]",
                                      "a.go",
                                      "each.go",
                                      "each[",
                                      "each[]",
                                      "each[-1]",
                                      "each[01]",
                                      "each[x]",
                                      "each[10000]",
                                      "each[0].",
                                      "each[0].a",
                                      "each[0]go",
                                      "each[0][1]",
                                      ".each",
                                      "each[0]..",
                                      "each[0].go[0]",
                                      ":compensate",
                                      "a:compensate:compensate",
                                      "each:compensate",
                                      "each[0]:compensate",
                                      "a:notify",
                                      "a:compensate.x",
                                      "each[0].inner[0].go",
                                      "each[4294967296]"};
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(4096);
    struct plan *plan = compiled(arena);
    struct step_place place;

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(step_place_find(plan, str_of(good[i].path), &place));
        assert_true(str_is(plan->steps[place.step].name, good[i].name));
        assert_int_equal(plan->steps[place.step].role, good[i].role);
        assert_int_equal(place.is_item, good[i].is_item);
        assert_int_equal(place.index, good[i].index);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (step_place_find(plan, str_of(bad[i]), &place))
            fail_msg("'%s' leads somewhere", bad[i]);
    plan_unref(plan);
}

static struct event at(enum event_type type, uint32_t seq, uint16_t attempt)
{
    return (struct event){.type = type, .seq = seq, .attempt = attempt, .at = {(int64_t)seq * US_PER_S}};
}

static void a_view_follows_attempts_to_the_end(void **state)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(4096);
    struct plan *plan = compiled(arena);
    struct step_view view;
    struct event events[] = {at(EVENT_STEP_DISPATCHED, 1, 1), at(EVENT_STEP_STARTED, 2, 1),
                             at(EVENT_ATTEMPT_FAILED, 3, 1), at(EVENT_STEP_DISPATCHED, 4, 2),
                             at(EVENT_STEP_SUCCEEDED, 5, 2)};
    static const enum step_status expected[] = {STEP_QUEUED, STEP_RUNNING, STEP_WAITING, STEP_QUEUED, STEP_SUCCEEDED};

    (void)state;
    events[2].code = STR("http_503");
    events[4].output = STR("7");
    events[4].output_bytes = 1;
    step_view_init(&view, &plan->steps[0], STR("a"));
    assert_int_equal(view.status, STEP_PENDING);
    for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
        step_view_event(&view, arena, &events[i]);
        assert_int_equal(view.status, expected[i]);
        assert_int_equal(view.waiting != NULL, expected[i] == STEP_WAITING);
    }
    assert_int_equal(view.queued_at.us, US_PER_S);
    assert_int_equal(view.started_at.us, 2 * US_PER_S);
    assert_int_equal(view.ended_at.us, 5 * US_PER_S);
    assert_null(view.failure);
    assert_true(str_is(view.output.json, "7"));
    assert_string_equal(view.attempts->status, "failed");
    assert_true(str_is(view.attempts->failure->code, "http_503"));
    assert_string_equal(view.attempts->next->status, "succeeded");
    assert_null(view.attempts->next->next);
    plan_unref(plan);
}

static void a_held_outcome_is_settled(void **state)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(4096);
    struct plan *plan = compiled(arena);
    struct step_view view;
    struct event events[] = {at(EVENT_STEP_DISPATCHED, 1, 1), at(EVENT_STEP_WAITING, 2, 1),
                             at(EVENT_STEP_SETTLED, 3, 0)};

    (void)state;
    events[1].code = STR("unknown_outcome");
    events[2].as = STR("failed");
    events[2].code = STR("settled_failed");
    step_view_init(&view, &plan->steps[0], STR("a"));
    step_view_event(&view, arena, &events[0]);
    step_view_event(&view, arena, &events[1]);
    assert_int_equal(view.status, STEP_WAITING);
    assert_string_equal(view.attempts->status, "outcome_unknown");
    step_view_event(&view, arena, &events[2]);
    assert_int_equal(view.status, STEP_FAILED);
    assert_true(str_is(view.failure->code, "settled_failed"));
    plan_unref(plan);
}

static void an_end_with_a_code_is_partial(void **state)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(4096);
    struct plan *plan = compiled(arena);
    struct step_view view;
    struct event events[] = {at(EVENT_STEP_WAITING, 1, 0), at(EVENT_STEP_SUCCEEDED, 2, 0)};

    (void)state;
    events[0].waits = STR("child");
    events[0].child = STR("0190");
    events[1].code = STR("child_partially_completed");
    events[1].ref = 9;
    step_view_init(&view, &plan->steps[0], STR("a"));
    step_view_event(&view, arena, &events[0]);
    assert_true(str_is(view.child, "0190"));
    step_view_event(&view, arena, &events[1]);
    assert_int_equal(view.status, STEP_SUCCEEDED);
    assert_true(str_is(view.failure->code, "child_partially_completed"));
    assert_int_equal(view.output_ref, 9);
    assert_true(str_is(view.child, "0190"));
    plan_unref(plan);
}

static void note_child(void *ctx, struct str name, struct str pointer)
{
    buf_printf(ctx, STR_FMT " " STR_FMT "\n", STR_ARG(name), STR_ARG(pointer));
}

static void children_are_found_in_loops_too(void **state)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(4096);
    CLEANUP(buf_deinit) struct buf seen = {0};

    (void)state;
    buf_init(&seen, 65536);
    lineage_each(
        arena,
        STR("{\"steps\":{\"a\":{\"call\":\"workflow\",\"with\":{\"name\":\"x\"}},\"b\":{\"call\":\"noop\",\"with\":{"
            "\"name\":\"no\"}},\"c\":{\"call\":\"foreach\",\"with\":{\"steps\":{\"d\":{\"call\":\"workflow\",\"with\":"
            "{\"name\":\"y\"}}}}},\"e\":7,\"f\":{\"call\":\"workflow\"}}}"),
        note_child, &seen);
    assert_string_equal(seen.ptr, "x /steps/a/with/name\ny /steps/c/with/steps/d/with/name\n");
    buf_reset(&seen);
    lineage_each(arena, STR("[]"), note_child, &seen);
    lineage_each(arena, STR("{\"steps\":[1]}"), note_child, &seen);
    assert_int_equal(seen.len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_lead_to_steps_iterations_and_actions),
        cmocka_unit_test(a_view_follows_attempts_to_the_end),
        cmocka_unit_test(a_held_outcome_is_settled),
        cmocka_unit_test(an_end_with_a_code_is_partial),
        cmocka_unit_test(children_are_found_in_loops_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
