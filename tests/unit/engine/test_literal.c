/* Which literals of a document are told as secrets, and where. */
#include "tests/unit/engine/saved.h"

/* `with` of an http step to the pointers that are warned of, a blank behind each. */
static void check(const char *with, const char *expected, const char *file, int line)
{
    struct arena *arena = arena_new(4096);
    struct plan_faults faults = {.arena = arena};
    const char *document =
        arena_printf(arena, "{\"name\":\"x\",\"steps\":{\"s\":{\"call\":\"http\",\"with\":%s}}}", with);
    struct plan *plan = plan_compile(str_of(document), &PLAN_LIMITS_DEFAULT, &faults);
    const char *told = "";

    for (size_t i = 0; i < faults.warning_count; i++)
        if (strcmp(faults.warnings[i].code, "secret_in_document") == 0)
            told = arena_printf(arena, "%s" STR_FMT " ", told, STR_ARG(faults.warnings[i].pointer));
    _assert_int_equal(plan != NULL, true, file, line);
    _assert_string_equal(told, expected, file, line);
    plan_unref(plan);
    arena_free(arena);
}
#define check_headers(headers, expected)                                                                               \
    check("{\"url\":\"http://x\",\"headers\":" headers "}", expected, __FILE__, __LINE__)

static void headers_that_carry_nothing_else_are_told(void **state)
{
    (void)state;
    check_headers("{\"Authorization\":\"Bearer abc\"}", "/steps/s/with/headers/Authorization ");
    check_headers("{\"x-api-KEY\":\"1\",\"Accept\":\"text/plain\"}", "/steps/s/with/headers/x-api-KEY ");
    check_headers("{\"Authorization\":\"${ .secrets.PAY }\"}", "");
    check_headers("{\"Authorization\":\"${ .input.token }\",\"X-Api-Key\":\"\"}", "");
}

static void tokens_of_known_kinds_are_told_anywhere(void **state)
{
    (void)state;
    check_headers("{\"X-Any\":\"ghp_0123456789abcdefghij\"}", "/steps/s/with/headers/X-Any ");
    check("{\"url\":\"http://x\",\"body\":{\"list\":[1,\"key sk_live_0123456789abcdef\"]}}",
          "/steps/s/with/body/list/1 ", __FILE__, __LINE__);
    check("{\"url\":\"http://x/?k=AKIAIOSFODNN7EXAMPLE\"}", "/steps/s/with/url ", __FILE__, __LINE__);
    check("{\"url\":\"http://x\",\"body\":\"about sk_live_ and ghp_short and xAKIAIOSFODNN7EXAMPLE\"}", "", __FILE__,
          __LINE__);
}

static void what_looks_like_chance_is_told_where_the_name_hints_at_it(void **state)
{
    (void)state;
    check_headers("{\"X-Shop-Token\":\"f3Kq9ZpLx72MvTnBw8Rj\"}", "/steps/s/with/headers/X-Shop-Token ");
    check_headers("{\"X-Shop-Order\":\"f3Kq9ZpLx72MvTnBw8Rj\"}", "");
    check_headers("{\"X-Shop-Token\":\"aaaaaaaaaaaaaaaaaaaaaaaa\"}", "");
    check_headers("{\"Idempotency-Key\":\"one order, one key\"}", "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_that_carry_nothing_else_are_told),
        cmocka_unit_test(tokens_of_known_kinds_are_told_anywhere),
        cmocka_unit_test(what_looks_like_chance_is_told_where_the_name_hints_at_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
