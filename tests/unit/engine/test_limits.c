/* Limits of an organisation, at n and at n + 1; history never asks for them. */
#include "tests/unit/engine/world.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>

#define STEPS(s) "{\"name\":\"x\",\"steps\":{" s "}}"

static struct limits limits_with(enum limit limit, int64_t n)
{
    struct limits limits = LIMITS_DEFAULT;

    limits.of[limit] = n;
    return limits;
}

/* The code with which the step fails, "" when it does not. */
static const char *code_under(const char *document, const char *input, enum limit limit, int64_t n, const char *step)
{
    static char code[64];
    struct limits limits = limits_with(limit, n);
    const struct event *failed;
    struct world w;

    world_init(&w, document);
    w.limits = &limits;
    w.input = str_of(input);
    world_start(&w);
    failed = world_step(&w, step)->status == STEP_FAILED ? world_event(&w, EVENT_STEP_FAILED, step) : NULL;
    snprintf(code, sizeof(code), STR_FMT, STR_ARG(failed == NULL ? STR("") : failed->code));
    w.limits = NULL; /* another word for it changes nothing of what is history */
    world_reload(&w);
    world_deinit(&w);
    return code;
}

static void each_limit_holds_at_n_and_breaks_at_n_plus_1(void **unused)
{
    static const struct {
        const char *document, *input;
        enum limit limit;
        int64_t needs; /* exactly so much */
        const char *step, *code;
    } rows[] = {
        {STEPS("\"each\":{\"call\":\"foreach\",\"with\":{\"items\":\"${ .input.l "
               "}\",\"steps\":{\"go\":{\"call\":\"noop\"}}}}"),
         "{\"l\":[1,2,3,4]}", LIMIT_FOREACH_ITEMS, 4, "each", "too_many_items"},
        {STEPS("\"each\":{\"call\":\"foreach\",\"with\":{\"items\":[1,2,3],\"steps\":{\"go\":{\"call\":\"noop\"}}}}"),
         "{}", LIMIT_FOREACH_ITEMS, 3, "each", "too_many_items"},
        {STEPS("\"c\":{\"call\":\"workflow\",\"with\":{\"name\":\"child\"}}"), "{}", LIMIT_CHILD_LEVELS, 1, "c",
         "child_too_deep"},
        {STEPS("\"t\":{\"call\":\"transform\",\"with\":{\"value\":\"${ .input.v }\"}}"), "{\"v\":\"12345678\"}",
         LIMIT_OUTPUT_BYTES, 10, "t", "too_large"},
        {STEPS("\"t\":{\"call\":\"transform\",\"with\":{\"value\":\"12345678\"}}"), "{}", LIMIT_OUTPUT_BYTES, 10, "t",
         "too_large"},
        {STEPS("\"each\":{\"call\":\"foreach\",\"with\":{\"items\":[1,2],\"steps\":{\"t\":{\"call\":\"transform\","
               "\"with\":{\"value\":1}}},\"output\":\"${ .input.v }\"}}"),
         "{\"v\":\"12345678\"}", LIMIT_OUTPUT_BYTES, 10, "each", "item_failed"},
        {STEPS("\"each\":{\"call\":\"foreach\",\"with\":{\"items\":[1,2],\"steps\":{\"t\":{\"call\":\"transform\","
               "\"with\":{\"value\":\"${ .input.v }\"}}}}}"),
         "{\"v\":\"12345678\"}", LIMIT_LIST_BYTES, 20, "each", "item_failed"},
    };

    (void)unused;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_string_equal(code_under(rows[i].document, rows[i].input, rows[i].limit, rows[i].needs, rows[i].step),
                            "");
        assert_string_equal(code_under(rows[i].document, rows[i].input, rows[i].limit, rows[i].needs - 1, rows[i].step),
                            rows[i].code);
    }
}

/* When a run of this document times out under a limit of so many days, after its start. */
static int64_t days_of(const char *document, int64_t days)
{
    struct limits limits = limits_with(LIMIT_RUN_DAYS, days);
    struct world w;
    int64_t us;

    world_init(&w, document);
    w.limits = &limits;
    world_start(&w);
    us = w.state->timeout_at.us - w.state->created_at.us;
    w.limits = NULL;
    world_reload(&w);
    assert_int_equal(w.state->timeout_at.us - w.state->created_at.us, us);
    world_deinit(&w);
    return us / (INT64_C(86400) * US_PER_S);
}

static void a_run_lasts_no_longer_than_its_organisation_may(void **unused)
{
    static const char of_ten[] = "{\"name\":\"w\",\"timeout\":\"10d\",\"steps\":{\"a\":{\"call\":\"noop\"}}}";

    (void)unused;
    assert_int_equal(days_of(of_ten, 11), 10);
    assert_int_equal(days_of(of_ten, 10), 10);
    assert_int_equal(days_of(of_ten, 9), 9); /* it was saved under another limit */
    assert_int_equal(days_of(STEPS("\"a\":{\"call\":\"noop\"}"), 366), 30);
    assert_int_equal(days_of(STEPS("\"a\":{\"call\":\"noop\"}"), 7), 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_limit_holds_at_n_and_breaks_at_n_plus_1),
        cmocka_unit_test(a_run_lasts_no_longer_than_its_organisation_may),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
