/* Documents that are refused, each with the exact code and pointer; all faults come at once. */
#include "tests/unit/engine/world.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>

#define N "{\"call\":\"noop\"}"
#define STEPS(s) "{\"name\":\"x\",\"steps\":{" s "}}"

static const struct {
    const char *document, *faults;
} bad[] = {
    {STEPS(""), "missing_field /steps"},
    {STEPS("\"a\":{\"call\":\"nope\"}"), "unknown_call /steps/a/call"},
    {STEPS("\"a\":{\"call\":\"foreach\"}"), "not_available /steps/a/call"},
    {STEPS("\"a\":{\"call\":\"wait_signal\"}"), "not_available /steps/a/call"},
    {STEPS("\"a\":{\"call\":\"noop\",\"compensate\":{\"call\":\"noop\"}}"), "not_available /steps/a/compensate"},
    {STEPS("\"a\":{\"call\":\"noop\",\"retry\":{\"on\":[\"x\"]}}"), "not_available /steps/a/retry/on"},
    {STEPS("\"a\":{\"call\":\"noop\",\"on_unknown\":\"wait\"}"), "not_available /steps/a/on_unknown"},
    {"{\"name\":\"x\",\"triggers\":{\"t\":{}},\"steps\":{\"a\":" N "}}", "not_available /triggers"},
    {"{\"name\":\"x\",\"concurrency\":{\"limit\":1},\"steps\":{\"a\":" N "}}", "not_available /concurrency"},
    {"{\"name\":\"x\",\"timeout\":\"367d\",\"steps\":{\"a\":" N "}}", "bad_duration /timeout"},
    {"{\"name\":\"x\",\"timeout\":\"1.5h\",\"steps\":{\"a\":" N "}}", "bad_duration /timeout"},
    {STEPS("\"a\":{\"call\":\"noop\",\"needs\":[\"b\"]}"), "unknown_step /steps/a/needs/0"},
    {STEPS("\"a\":{\"call\":\"noop\",\"needs\":[\"a\"]}"), "cycle /steps/a/needs/0"},
    {STEPS("\"a\":{\"call\":\"noop\",\"needs\":[\"b\"]},\"b\":{\"call\":\"noop\",\"needs\":[\"a\"]}"),
     "cycle /steps/a/needs"},
    {STEPS("\"r\":" N ",\"a\":{\"call\":\"noop\",\"needs\":[\"r\",\"c\"]},\"b\":{\"call\":\"noop\",\"needs\":[\"a\"]},"
           "\"c\":{\"call\":\"noop\",\"needs\":[\"b\"]}"),
     "cycle /steps/a/needs"},
    {STEPS("\"a\":" N ",\"b\":{\"call\":\"noop\",\"needs\":[\"a\",\"a\"]}"), "duplicate_key /steps/b/needs/1"},
    {STEPS("\"a\":" N ",\"b\":{\"call\":\"noop\",\"needs\":{\"a\":[\"true\"]}}"), "unknown_label /steps/b/needs/a/0"},
    {STEPS("\"a\":" N ",\"b\":{\"call\":\"noop\",\"needs\":{\"a\":[\"failed\",\"oops\"]}}"),
     "unknown_label /steps/b/needs/a/1"},
    {STEPS("\"a\":{\"call\":\"condition\",\"with\":{}}"), "missing_field /steps/a/with/if"},
    {STEPS("\"a\":{\"call\":\"condition\",\"with\":{\"if\":\"yes\"}}"), "bad_expression /steps/a/with/if"},
    {STEPS("\"a\":{\"call\":\"noop\",\"with\":{\"x\":1}}"), "unknown_field /steps/a/with/x"},
    {STEPS("\"a\":{\"call\":\"http\",\"with\":{}}"), "missing_field /steps/a/with/url"},
    {STEPS("\"a\":{\"call\":\"http\",\"with\":{\"url\":1}}"), "wrong_type /steps/a/with/url"},
    {STEPS("\"a\":{\"call\":\"http\",\"with\":{\"url\":\"http://x\",\"max_response_bytes\":1048577}}"),
     "out_of_range /steps/a/with/max_response_bytes"},
    {STEPS("\"a\":{\"call\":\"delay\"}"), "missing_field /steps/a/with"},
    {STEPS("\"a\":{\"call\":\"delay\",\"with\":{\"duration\":\"soon\"}}"), "bad_duration /steps/a/with/duration"},
    {STEPS("\"a\":{\"call\":\"delay\",\"with\":{\"duration\":\"1s\",\"until\":\"2026-01-01T00:00:00Z\"}}"),
     "missing_field /steps/a/with"},
    {STEPS("\"a\":{\"call\":\"switch\",\"with\":{\"cases\":[{\"name\":\"failed\",\"if\":true}]}}"),
     "out_of_range /steps/a/with/cases/0"},
    {STEPS("\"a\":{\"call\":\"switch\",\"with\":{\"cases\":[{\"name\":\"x\",\"if\":true},{\"name\":\"x\",\"if\":true}]}"
           "}"),
     "duplicate_key /steps/a/with/cases/1"},
    {STEPS("\"a\":{\"call\":\"transform\",\"with\":{\"value\":\"${ .steps.b.output }\"}},\"b\":" N),
     "not_upstream /steps/a/with/value"},
    {STEPS("\"a\":{\"call\":\"http\",\"with\":{\"url\":\"http://x\",\"body\":{\"a/b\":[\"${ .steps.b.output "
           "}\"]}}},\"b\":" N),
     "not_upstream /steps/a/with/body/a~1b/0"},
    {STEPS("\"a\":{\"call\":\"delay\",\"with\":{\"duration\":\"${ .steps.b.output }\"}},\"b\":" N),
     "not_upstream /steps/a/with/duration"},
    {STEPS("\"a\":{\"call\":\"noop\",\"with\":{\"x/y~z\":1}}"), "unknown_field /steps/a/with/x~1y~0z"},
    {STEPS("\"a\":{\"call\":\"http\",\"with\":{\"url\":\"http://x\",\"headers\":{\"X-Key\":\"${ .secrets.k }\"}}}"),
     "not_available /steps/a/with/headers/X-Key"},
    {STEPS("\"a\":{\"call\":\"http\",\"with\":{\"url\":\"http://x\",\"body\":\"${ .secrets.k }\"}}"),
     "bad_expression /steps/a/with/body"},
    {STEPS("\"a\":{\"call\":\"noop\",\"retry\":{\"max_attempts\":1001}}"), "out_of_range /steps/a/retry/max_attempts"},
    {STEPS("\"a\":{\"call\":\"noop\",\"retry\":{\"max_attempts\":0}}"), "out_of_range /steps/a/retry/max_attempts"},
    {STEPS("\"a\":{\"call\":\"noop\",\"retry\":{\"factor\":0.5,\"jitter\":2}}"),
     "out_of_range /steps/a/retry/factor\nout_of_range /steps/a/retry/jitter"},
    /* two cycles, each said once, and what hangs below them not at all */
    {STEPS("\"a\":{\"call\":\"noop\",\"needs\":[\"b\"]},\"b\":{\"call\":\"noop\",\"needs\":[\"a\"]},"
           "\"c\":{\"call\":\"noop\",\"needs\":[\"d\",\"a\"]},\"d\":{\"call\":\"noop\",\"needs\":[\"c\"]},"
           "\"e\":{\"call\":\"noop\",\"needs\":[\"d\"]}"),
     "cycle /steps/a/needs\ncycle /steps/c/needs"},
    {STEPS("\"a\":{\"call\":\"transform\",\"with\":{\"value\":\"${ .steps.zz.output }\"}}"),
     "unknown_step /steps/a/with/value"},
    {STEPS("\"a\":{\"call\":\"noop\",\"when\":\"${ .steps.b.output }\"},\"b\":" N), "not_upstream /steps/a/when"},
    {STEPS("\"a\":{\"call\":\"transform\",\"with\":{\"value\":\"${ now }\"}}"), "bad_expression /steps/a/with/value"},
    {STEPS("\"a\":{\"call\":\"transform\",\"with\":{\"value\":\"${ .input\"}}"), "bad_expression /steps/a/with/value"},
    {STEPS(
         "\"c\":{\"call\":\"condition\",\"with\":{\"if\":true}},\"y\":{\"call\":\"noop\",\"needs\":{\"c\":[\"true\"]}},"
         "\"n\":{\"call\":\"noop\",\"needs\":{\"c\":[\"false\"]}},\"e\":{\"call\":\"noop\",\"needs\":[\"y\",\"n\"]}"),
     "unreachable_step /steps/e/needs"},
    {STEPS("\"a\":{\"call\":\"nope\"},\"b\":{\"call\":\"noop\",\"needs\":[\"q\"],\"deadline\":\"x\"}"),
     "unknown_call /steps/a/call\nbad_duration /steps/b/deadline\nunknown_step /steps/b/needs/0"},
};

static void bad_documents_are_refused_with_code_and_pointer(void **unused)
{
    struct arena *arena = arena_new(4096);

    (void)unused;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const char *faults = faults_of(arena, bad[i].document);
        if (strcmp(faults, bad[i].faults) != 0)
            fprintf(stderr, "document %s\n  expected: %s\n  got:      %s\n", bad[i].document, bad[i].faults, faults);
        assert_string_equal(faults, bad[i].faults);
    }
    arena_free(arena);
}

static void good_documents_compile(void **unused)
{
    static const char *const good[] = {
        STEPS("\"a\":" N),
        STEPS("\"a\":{\"call\":\"crm.lookup\",\"with\":{\"anything\":1}}"),
        /* skipped is an outcome like any other: none is held to be impossible */
        STEPS("\"c\":{\"call\":\"condition\",\"with\":{\"if\":true}},\"y\":{\"call\":\"noop\",\"needs\":{\"c\":["
              "\"true\"]}},"
              "\"n\":{\"call\":\"noop\",\"needs\":{\"c\":[\"false\"]}},\"e\":{\"call\":\"noop\",\"needs\":{\"y\":["
              "\"succeeded\",\"skipped\"],\"n\":[\"succeeded\",\"skipped\"]}}"),
        STEPS("\"a\":" N ",\"b\":{\"call\":\"noop\",\"needs\":[\"a\"],\"when\":\"${ .steps.a.output.x }\"}"),
    };
    struct arena *arena = arena_new(4096);

    (void)unused;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_string_equal(faults_of(arena, good[i]), "");
    arena_free(arena);
}

static const char *chain(struct arena *arena, int steps, bool deep)
{
    struct buf doc;
    char *text;

    buf_init(&doc, 1 << 20);
    buf_append_str(&doc, STR("{\"name\":\"x\",\"steps\":{"));
    for (int i = 0; i < steps; i++) {
        buf_printf(&doc, "%s\"s%d\":{\"call\":\"noop\"", i == 0 ? "" : ",", i);
        if (deep && i > 0)
            buf_printf(&doc, ",\"needs\":[\"s%d\"]", i - 1);
        buf_append_str(&doc, STR("}"));
    }
    buf_append_str(&doc, STR("}}"));
    text = arena_dup(arena, doc.ptr, doc.len);
    buf_deinit(&doc);
    return text;
}

static void a_cycle_is_said_with_its_whole_path(void **unused)
{
    struct arena *arena = arena_new(4096);
    struct plan_faults faults = {.arena = arena};

    (void)unused;
    /* r leads in and d hangs below: neither is part of it */
    assert_null(plan_compile(STR(STEPS("\"r\":" N ",\"d\":{\"call\":\"noop\",\"needs\":[\"c\"]},"
                                       "\"a\":{\"call\":\"noop\",\"needs\":[\"r\",\"c\"]},"
                                       "\"b\":{\"call\":\"noop\",\"needs\":[\"a\"]},"
                                       "\"c\":{\"call\":\"noop\",\"needs\":[\"b\"]}")),
                             &PLAN_LIMITS_DEFAULT, &faults));
    assert_int_equal(faults.count, 1);
    assert_true(str_is(faults.items[0].message, "the steps need each other: c -> a -> b -> c"));
    arena_free(arena);
}

static void more_faults_than_are_listed_still_refuse_the_document(void **unused)
{
    struct arena *arena = arena_new(4096);
    struct plan_faults faults = {.arena = arena};

    (void)unused;
    while (faults.count < 200)
        plan_fault_add(&faults, "wrong_type", STR("/x"), STR("x"), STR_NONE);
    assert_null(plan_compile(STR(STEPS("\"a\":{\"call\":\"nope\"}")), &PLAN_LIMITS_DEFAULT, &faults));
    assert_int_equal(faults.count, 200);
    arena_free(arena);
}

static void a_shorter_limit_of_runs_is_also_their_default(void **unused)
{
    struct arena *arena = arena_new(4096);
    struct plan_faults faults = {.arena = arena};
    struct plan_limits limits = PLAN_LIMITS_DEFAULT;
    struct plan *plan;

    (void)unused;
    limits.max_run_us = 7 * INT64_C(86400) * US_PER_S;
    plan = plan_compile(STR(STEPS("\"a\":" N)), &limits, &faults);
    assert_non_null(plan);
    assert_int_equal(plan->timeout_us, limits.max_run_us);
    plan_unref(plan);
    plan = plan_compile(STR("{\"name\":\"x\",\"timeout\":\"7d\",\"steps\":{\"a\":" N "}}"), &limits, &faults);
    assert_non_null(plan);
    plan_unref(plan);
    assert_null(plan_compile(STR("{\"name\":\"x\",\"timeout\":\"8d\",\"steps\":{\"a\":" N "}}"), &limits, &faults));
    assert_string_equal(faults.items[0].code, "out_of_range");
    arena_free(arena);
}

static void retries_go_to_a_thousand(void **unused)
{
    struct arena *arena = arena_new(4096);
    struct plan_faults faults = {.arena = arena};
    struct plan *plan = plan_compile(STR(STEPS("\"a\":{\"call\":\"noop\",\"retry\":{\"max_attempts\":1000}}")),
                                     &PLAN_LIMITS_DEFAULT, &faults);

    (void)unused;
    assert_non_null(plan);
    assert_int_equal(plan->steps[0].retry.max_attempts, 1000);
    plan_unref(plan);
    arena_free(arena);
}

static void limits_hold_at_n_and_break_at_n_plus_1(void **unused)
{
    struct arena *arena = arena_new(4096);

    (void)unused;
    assert_string_equal(faults_of(arena, chain(arena, 500, false)), "");
    assert_string_equal(faults_of(arena, chain(arena, 501, false)), "too_many_steps /steps");
    assert_string_equal(faults_of(arena, chain(arena, 100, true)), "");
    assert_string_equal(faults_of(arena, chain(arena, 101, true)), "too_deep /steps/s100");
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_documents_are_refused_with_code_and_pointer),
        cmocka_unit_test(good_documents_compile),
        cmocka_unit_test(a_cycle_is_said_with_its_whole_path),
        cmocka_unit_test(more_faults_than_are_listed_still_refuse_the_document),
        cmocka_unit_test(a_shorter_limit_of_runs_is_also_their_default),
        cmocka_unit_test(retries_go_to_a_thousand),
        cmocka_unit_test(limits_hold_at_n_and_break_at_n_plus_1),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
