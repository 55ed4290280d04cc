/* Is a value as it is expected to be? Every place where it is not is told. */
#include "cli/test_file.h"

#include "common/base/banned.h"

void test_fault(struct test_case *test, struct str at, struct str expected, struct str got)
{
    struct jw w = jw_to(&test->faults);

    if (test->fault_count++ > 0)
        buf_append_char(&test->faults, ',');
    jw_obj(&w);
    jw_kstr(&w, "at", at);
    jw_kraw(&w, "expected", expected);
    jw_kraw(&w, "got", got);
    jw_end_obj(&w);
}

void test_fault_text(struct test_case *test, struct str at, const char *expected, const char *got)
{
    CLEANUP(buf_deinit) struct buf a = {0}, b = {0};

    buf_init(&a, 1 << 16);
    buf_init(&b, 1 << 16);
    json_quote(&a, str_of(expected));
    json_quote(&b, str_of(got));
    test_fault(test, at, buf_str(&a), buf_str(&b));
}

static bool same_scalar(struct arena *arena, struct str a, struct str b)
{
    struct str x, y;
    double n, m;

    if (jt_type(a) != jt_type(b))
        return false;
    if (str_eq(a, b))
        return true;
    if (jt_type(a) == JT_NUMBER)
        return jt_f64(a, &n) && jt_f64(b, &m) && !(n < m) && !(m < n);
    return jt_string(a, arena, &x) && jt_string(b, arena, &y) && str_eq(x, y);
}

static void match_members(struct test_case *test, struct str at, struct str expected, struct str actual, bool exact)
{
    struct jt_iter it;

    jt_iter_init(&it, expected);
    while (jt_next(&it)) {
        struct str key = jt_key(&it, test->arena);
        struct str below = str_of(test_below(test->arena, at.ptr, key));

        test_match(test, below, it.value, jt_get_str(actual, key), exact);
    }
    if (!exact)
        return;
    jt_iter_init(&it, actual);
    while (jt_next(&it)) {
        struct str key = jt_key(&it, test->arena);

        if (jt_get_str(expected, key).ptr == NULL)
            test_fault(test, str_of(test_below(test->arena, at.ptr, key)), STR_NONE, it.value);
    }
}

void test_match(struct test_case *test, struct str at, struct str expected, struct str actual, bool exact)
{
    enum jt_type type = jt_type(expected);
    struct jt_iter a, b;

    if (type == JT_NULL && (actual.ptr == NULL || jt_type(actual) == JT_NULL))
        return;
    if (type == JT_OBJECT && jt_type(actual) == JT_OBJECT) {
        match_members(test, at, expected, actual, exact);
        return;
    }
    if (type != JT_ARRAY || jt_type(actual) != JT_ARRAY || jt_count(expected) != jt_count(actual)) {
        if (actual.ptr == NULL || type == JT_ARRAY || type == JT_OBJECT || !same_scalar(test->arena, expected, actual))
            test_fault(test, at, expected, actual);
        return;
    }
    jt_iter_init(&a, expected);
    jt_iter_init(&b, actual);
    while (jt_next(&a) && jt_next(&b))
        test_match(test, str_of(arena_printf(test->arena, STR_FMT "/%zu", STR_ARG(at), a.index)), a.value, b.value,
                   exact);
}
