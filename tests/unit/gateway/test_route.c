/* Patterns and rights of the route table. */
#include "gateway/route.h"
#include "tests/unit/base/test.h"

#include "common/base/banned.h"

static void a_parameter_is_a_segment_or_what_stands_before_the_colon(void **state)
{
    static const struct {
        const char *pattern, *path, *first, *second;
    } fits[] = {
        {"/v1/workflows", "/v1/workflows", NULL, NULL},
        {"/v1/workflows/{name}", "/v1/workflows/a", "a", NULL},
        {"/v1/workflows/{name}:enable", "/v1/workflows/a-b:enable", "a-b", NULL},
        {"/v1/runs/{id}/commands/{n}", "/v1/runs/x/commands/7", "x", "7"},
        {"/v1/runs/{id}/steps/{step}:settle", "/v1/runs/x/steps/each%5B3%5D.go:settle", "x", "each%5B3%5D.go"},
        {"/v1/workflows/{name}", "/v1/workflows/a%2Fb", "a%2Fb", NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(fits) / sizeof(fits[0]); i++) {
        struct str params[CALL_PARAMS] = {0};

        assert_true(route_match(fits[i].pattern, str_of(fits[i].path), params));
        assert_true(str_eq(params[0], str_of(fits[i].first)) || (params[0].ptr == NULL && fits[i].first == NULL));
        assert_true(str_eq(params[1], str_of(fits[i].second)) || (params[1].ptr == NULL && fits[i].second == NULL));
    }
}

static void what_does_not_fit_is_not_a_route(void **state)
{
    static const char *const pairs[][2] = {
        {"/v1/workflows", "/v1/workflows/"},
        {"/v1/workflows", "/v1/workflow"},
        {"/v1/workflows/{name}", "/v1/workflows/"},
        {"/v1/workflows/{name}", "/v1/workflows/a/b"},
        {"/v1/workflows/{name}", "/v1/workflows/a:enable"},
        {"/v1/workflows/{name}:enable", "/v1/workflows/:enable"},
        {"/v1/workflows/{name}:enable", "/v1/workflows/a:enabled"},
        {"/v1/runs/{id}/commands/{n}", "/v1/runs//commands/7"},
        {"/v1/runs/{id}", ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        struct str params[CALL_PARAMS] = {0};

        assert_false(route_match(pairs[i][0], str_of(pairs[i][1]), params));
    }
}

/* A path that two patterns of one method fit would be served by the order of the rows. */
static void no_two_rows_fit_one_path(void **state)
{
    (void)state;
    for (size_t i = 0; i < route_count; i++)
        for (size_t k = 0; k < route_count; k++) {
            struct str params[CALL_PARAMS] = {0};
            char path[256];
            size_t n = 0;

            for (const char *p = routes[i].pattern; *p != '\0'; p++)
                if (*p == '{')
                    while (p[1] != '}')
                        p++;
                else
                    path[n++] = *p == '}' ? 'x' : *p;
            if (i != k && strcmp(routes[i].method, routes[k].method) == 0)
                assert_false(route_match(routes[k].pattern, (struct str){path, n}, params));
        }
}

static void rights_are_what_the_contract_says(void **state)
{
    static const struct {
        enum right right;
        bool viewer, trigger, operator_, editor, admin;
    } rows[] = {
        {RIGHT_PUBLIC, 1, 1, 1, 1, 1}, {RIGHT_READ, 1, 0, 1, 1, 1},    {RIGHT_READ_RUN, 1, 1, 1, 1, 1},
        {RIGHT_START, 0, 1, 1, 1, 1},  {RIGHT_OPERATE, 0, 0, 1, 1, 1}, {RIGHT_EDIT, 0, 0, 0, 1, 1},
        {RIGHT_ADMIN, 0, 0, 0, 0, 1},  {RIGHT_FOUND, 0, 0, 0, 0, 1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(role_may(ROLE_VIEWER, FIRST_ORGANISATION, rows[i].right), rows[i].viewer);
        assert_int_equal(role_may(ROLE_TRIGGER, FIRST_ORGANISATION, rows[i].right), rows[i].trigger);
        assert_int_equal(role_may(ROLE_OPERATOR, FIRST_ORGANISATION, rows[i].right), rows[i].operator_);
        assert_int_equal(role_may(ROLE_EDITOR, FIRST_ORGANISATION, rows[i].right), rows[i].editor);
        assert_int_equal(role_may(ROLE_ADMIN, FIRST_ORGANISATION, rows[i].right), rows[i].admin);
        assert_int_equal(role_may(ROLE_NONE, FIRST_ORGANISATION, rows[i].right), rows[i].right == RIGHT_PUBLIC);
    }
    assert_false(role_may(ROLE_ADMIN, FIRST_ORGANISATION + 1, RIGHT_FOUND));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_parameter_is_a_segment_or_what_stands_before_the_colon),
        cmocka_unit_test(what_does_not_fit_is_not_a_route),
        cmocka_unit_test(no_two_rows_fit_one_path),
        cmocka_unit_test(rights_are_what_the_contract_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
