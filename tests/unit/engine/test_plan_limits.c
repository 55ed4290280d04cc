/* Limits of plans at n and n+1, and what faults say. */
#include "common/base/clock.h"
#include "tests/unit/engine/saved.h"

#define N "{\"call\":\"noop\"}"
#define STEPS(s) "{\"name\":\"x\",\"steps\":{" s "}}"

static const struct {
    const char *document, *message;
} messages[] = {
    {STEPS("\"r\":" N ",\"d\":{\"call\":\"noop\",\"needs\":[\"c\"]},\"a\":{\"call\":\"noop\",\"needs\":[\"r\",\"c\"]},"
           "\"b\":{\"call\":\"noop\",\"needs\":[\"a\"]},\"c\":{\"call\":\"noop\",\"needs\":[\"b\"]}"),
     "the steps need each other: c -> a -> b -> c"}, /* r leads in and d hangs below: neither is part of it */
    {STEPS("\"o\":" N ",\"each\":{\"call\":\"foreach\",\"with\":{\"items\":[],\"steps\":{\"go\":{\"call\":\"noop\","
           "\"needs\":[\"o\"]}}}}"),
     "step 'o' is outside of the loop 'each': needs stay inside"},
    {STEPS("\"each\":{\"call\":\"foreach\",\"with\":{\"items\":[],\"steps\":{\"go\":" N "}}},"
           "\"a\":{\"call\":\"noop\",\"needs\":[\"go\"]}"),
     "step 'go' is inside of the loop 'each': needs stay outside"},
    {STEPS("\"each\":{\"call\":\"foreach\",\"with\":{\"items\":[],\"steps\":{\"go\":" N "}}},"
           "\"a\":{\"call\":\"noop\",\"needs\":[\"each\"],\"when\":\"${ .steps.go.output }\"}"),
     "reads step 'go', which is inside of the loop 'each'"},
    {STEPS("\"a\":{\"call\":\"delay\",\"with\":{\"duration\":\"31d\"}}"),
     "a run may last at most 30 days (limit run_days)"},
    {STEPS("\"a\":{\"call\":\"wait_signal\",\"with\":{\"signal\":\"s\",\"timeout\":\"31d\"}}"),
     "a run may last at most 30 days (limit run_days)"},
    {STEPS("\"a\":{\"call\":\"wait_event\",\"with\":{\"type\":\"t\",\"timeout\":\"31d\"}}"),
     "a run may last at most 30 days (limit run_days)"},
    {STEPS("\"a\":{\"call\":\"poll\",\"with\":{\"call\":\"noop\",\"until\":\"${ .output }\",\"timeout\":\"31d\"}}"),
     "a run may last at most 30 days (limit run_days)"},
};

static void faults_say_what_is_wrong(void **state)
{
    struct plan_limits limits = PLAN_LIMITS_DEFAULT;

    (void)state;
    limits.max_run_us = 30 * INT64_C(86400) * US_PER_S;
    for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
        struct arena *arena = arena_new(4096);
        struct plan_faults faults = {.arena = arena};

        assert_null(plan_compile(str_of(messages[i].document), &limits, &faults));
        assert_int_equal(faults.count, 1);
        assert_string_equal(str_arena(arena, faults.items[0].message).ptr, messages[i].message);
        arena_free(arena);
    }
}

static void more_faults_than_are_listed_still_refuse_the_document(void **state)
{
    struct arena *arena = arena_new(4096);
    struct plan_faults faults = {.arena = arena};

    (void)state;
    while (faults.count < 200)
        plan_fault_add(&faults, "wrong_type", STR("/x"), STR("x"), STR_NONE);
    assert_null(plan_compile(STR(STEPS("\"a\":{\"call\":\"nope\"}")), &PLAN_LIMITS_DEFAULT, &faults));
    assert_int_equal(faults.count, 200);
    arena_free(arena);
}

static const char *save_with(struct arena *arena, const char *text, const struct plan_limits *limits, int64_t *ret_us)
{
    struct plan *plan = NULL;
    const char *faults = save(arena, str_of(text), limits, &plan);

    if (plan != NULL && ret_us != NULL)
        *ret_us = plan->timeout_us;
    plan_unref(plan);
    return faults;
}

static void a_shorter_limit_of_runs_is_also_their_default(void **state)
{
    struct arena *arena = arena_new(4096);
    struct plan_limits limits = PLAN_LIMITS_DEFAULT;
    int64_t us = 0;

    (void)state;
    limits.max_run_us = 7 * INT64_C(86400) * US_PER_S;
    assert_string_equal(save_with(arena, STEPS("\"a\":" N), &limits, &us), "");
    assert_int_equal(us, limits.max_run_us);
    assert_string_equal(save_with(arena, "{\"name\":\"x\",\"timeout\":\"7d\",\"steps\":{\"a\":" N "}}", &limits, NULL),
                        "");
    assert_string_equal(save_with(arena, "{\"name\":\"x\",\"timeout\":\"8d\",\"steps\":{\"a\":" N "}}", &limits, NULL),
                        "out_of_range /timeout");
    arena_free(arena);
}

/* `steps` of them, each after the one before it when `deep`. */
static void add_chain(struct buf *doc, int steps, bool deep)
{
    for (int i = 0; i < steps; i++) {
        buf_printf(doc, "%s\"s%d\":{\"call\":\"noop\"", i == 0 ? "" : ",", i);
        if (deep && i > 0)
            buf_printf(doc, ",\"needs\":[\"s%d\"]", i - 1);
        buf_append_str(doc, STR("}"));
    }
}

/* Two chains: one in a loop behind the other, when the second has any. */
static const char *chains(struct arena *arena, int outer, int inner, bool deep)
{
    struct buf doc;
    char *text;

    buf_init(&doc, 1 << 20);
    buf_append_str(&doc, STR("{\"name\":\"x\",\"steps\":{"));
    add_chain(&doc, outer, deep);
    if (inner > 0) {
        buf_printf(&doc, ",\"each\":{\"call\":\"foreach\",\"needs\":[\"s%d\"],\"with\":{\"items\":[],\"steps\":{",
                   outer - 1);
        add_chain(&doc, inner, deep);
        buf_append_str(&doc, STR("}}}"));
    }
    buf_append_str(&doc, STR("}}"));
    text = arena_dup(arena, doc.ptr, doc.len);
    buf_deinit(&doc);
    return text;
}

static void limits_hold_at_n_and_break_at_n_plus_1(void **state)
{
    struct arena *arena = arena_new(4096);
    const struct plan_limits *limits = &PLAN_LIMITS_DEFAULT;

    (void)state;
    assert_string_equal(save_with(arena, chains(arena, 500, 0, false), limits, NULL), "");
    assert_string_equal(save_with(arena, chains(arena, 501, 0, false), limits, NULL), "too_many_steps /steps");
    assert_string_equal(save_with(arena, chains(arena, 399, 100, false), limits, NULL), "");
    assert_string_equal(save_with(arena, chains(arena, 399, 101, false), limits, NULL), "too_many_steps /steps");
    assert_string_equal(save_with(arena, chains(arena, 100, 0, true), limits, NULL), "");
    assert_string_equal(save_with(arena, chains(arena, 101, 0, true), limits, NULL), "too_deep /steps/s100");
    assert_string_equal(save_with(arena, chains(arena, 49, 50, true), limits, NULL), "");
    assert_string_equal(save_with(arena, chains(arena, 49, 51, true), limits, NULL),
                        "too_deep /steps/each/with/steps/s50");
    arena_free(arena);
}

static const char *loop_of(struct arena *arena, int items)
{
    struct buf doc;
    char *text;

    buf_init(&doc, 1 << 20);
    buf_append_str(&doc, STR("{\"name\":\"x\",\"steps\":{\"a\":{\"call\":\"foreach\",\"with\":{\"items\":["));
    for (int i = 0; i < items; i++)
        buf_printf(&doc, "%s%d", i == 0 ? "" : ",", i % 10);
    buf_append_str(&doc, STR("],\"steps\":{\"g\":{\"call\":\"noop\"}}}}}}"));
    text = arena_dup(arena, doc.ptr, doc.len);
    buf_deinit(&doc);
    return text;
}

static const char *loops_in_loops(struct arena *arena, int levels)
{
    const char *steps = "\"go\":{\"call\":\"noop\"}";

    for (int i = 0; i < levels; i++)
        steps = arena_printf(arena, "\"l%d\":{\"call\":\"foreach\",\"with\":{\"items\":[],\"steps\":{%s}}}", i, steps);
    return arena_printf(arena, "{\"name\":\"x\",\"steps\":{%s}}", steps);
}

static void limits_of_loops_hold_at_n_and_break_at_n_plus_1(void **state)
{
    struct arena *arena = arena_new(4096);
    const struct plan_limits *limits = &PLAN_LIMITS_DEFAULT;

    (void)state;
    assert_string_equal(save_with(arena, loop_of(arena, LOOP_ITEMS_MAX), limits, NULL), "");
    assert_string_equal(save_with(arena, loop_of(arena, LOOP_ITEMS_MAX + 1), limits, NULL),
                        "out_of_range /steps/a/with/items");
    assert_string_equal(save_with(arena, loops_in_loops(arena, LOOP_NESTING_MAX), limits, NULL), "");
    assert_string_equal(save_with(arena, loops_in_loops(arena, LOOP_NESTING_MAX + 1), limits, NULL),
                        "too_deep /steps/l5/with/steps/l4/with/steps/l3/with/steps/l2/with/steps/l1/with/steps/l0");
    arena_free(arena);
}

/* A save that got past the schema some other way: nothing is taken for granted. */
static void without_the_schema_nothing_odd_compiles(void **state)
{
    static const char *const documents[][2] = {
        {"{}", "missing_field /steps"},
        {"{\"name\":\"x\",\"steps\":[1]}", "missing_field /steps"},
        {STEPS("\"a\":{\"call\":\"foreach\"}"), "missing_field /steps/a/with"},
        {STEPS("\"a\":{\"call\":\"foreach\",\"with\":{\"items\":[],\"steps\":{}}}"),
         "missing_field /steps/a/with/steps"},
        {STEPS("\"a\":{\"call\":\"wait_signal\",\"with\":{\"signal\":\"\"}}"), "out_of_range /steps/a/with/signal"},
        {STEPS("\"a\":{\"call\":\"noop\",\"compensate\":{\"call\":\"noop\",\"on\":[\"skipped\"]}}"),
         "unknown_label /steps/a/compensate/on/0"},
        {STEPS("\"a\":{\"call\":\"workflow\",\"with\":{\"name\":\"-\"}}"), "out_of_range /steps/a/with/name"},
        {STEPS("\"a\":" N ",\"b\":{\"call\":\"noop\",\"needs\":[\"a\",\"a\"]}"), "duplicate_key /steps/b/needs/1"},
        {STEPS("\"a\":{\"call\":\"noop\",\"retry\":{\"on\":[\"X\"]}}"), "out_of_range /steps/a/retry/on/0"},
        {STEPS("\"a\":{\"call\":\"delay\",\"with\":{\"duration\":\"1s\",\"until\":\"2026-01-01T00:00:00Z\"}}"),
         "missing_field /steps/a/with"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(documents) / sizeof(documents[0]); i++) {
        struct arena *arena = arena_new(4096);
        struct plan_faults faults = {.arena = arena};
        const char *got;

        assert_null(plan_compile(str_of(documents[i][0]), &PLAN_LIMITS_DEFAULT, &faults));
        got = arena_printf(arena, "%s " STR_FMT, faults.items[0].code, STR_ARG(faults.items[0].pointer));
        assert_string_equal(got, documents[i][1]);
        assert_int_equal(faults.count, 1);
        arena_free(arena);
    }
}

RUN(TEST(faults_say_what_is_wrong), TEST(more_faults_than_are_listed_still_refuse_the_document),
    TEST(a_shorter_limit_of_runs_is_also_their_default), TEST(limits_hold_at_n_and_break_at_n_plus_1),
    TEST(limits_of_loops_hold_at_n_and_break_at_n_plus_1), TEST(without_the_schema_nothing_odd_compiles))
