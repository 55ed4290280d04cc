/* What an organisation may: the installation's word, its own, and which of them holds. */
#include "common/base/json_text.h"
#include "common/base/limits.h"
#include "tests/unit/base/test.h"

static struct limit_settings settings_of(int64_t standard, int64_t most)
{
    struct limit_settings settings = {.standard = LIMITS_DEFAULT};

    settings.standard.of[LIMIT_STEPS] = standard;
    settings.most.of[LIMIT_STEPS] = most;
    return settings;
}

static void an_own_value_holds_as_far_as_the_installation_allows(void **state)
{
    static const struct {
        int64_t standard, most;
        const char *own;
        int64_t value;
        enum limit_source source;
    } rows[] = {
        {500, 0, "{}", 500, LIMIT_OF_INSTALLATION},
        {500, 0, "{\"depth\":7}", 500, LIMIT_OF_INSTALLATION},
        {500, 0, "{\"steps\":200}", 200, LIMIT_OF_ORGANISATION},
        {500, 0, "{\"steps\":500}", 500, LIMIT_OF_ORGANISATION},
        {500, 0, "{\"steps\":501}", 500, LIMIT_CUT},
        {500, 2000, "{}", 500, LIMIT_OF_INSTALLATION},
        {500, 2000, "{\"steps\":2000}", 2000, LIMIT_OF_ORGANISATION},
        {500, 2000, "{\"steps\":2001}", 2000, LIMIT_CUT},
        {500, 100, "{\"steps\":500}", 500, LIMIT_OF_ORGANISATION}, /* a most below the standard takes nothing away */
        {500, 0, "{\"steps\":0}", 500, LIMIT_OF_INSTALLATION},     /* none that could have been saved */
        {500, 0, "{\"steps\":\"7\"}", 500, LIMIT_OF_INSTALLATION},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct limit_settings settings = settings_of(rows[i].standard, rows[i].most);
        struct limits limits;
        enum limit_source source;

        assert_int_equal(limit_of(&settings, str_of(rows[i].own), LIMIT_STEPS, &source), rows[i].value);
        assert_int_equal(source, rows[i].source);
        limits_of(&settings, str_of(rows[i].own), &limits);
        assert_int_equal(limits.of[LIMIT_STEPS], rows[i].value);
        assert_int_equal(limits.of[LIMIT_FOREACH_ITEMS], LIMITS_DEFAULT.of[LIMIT_FOREACH_ITEMS]);
    }
}

static void every_limit_has_a_name_and_a_default_within_its_range(void **state)
{
    (void)state;
    for (int i = 0; i < LIMIT_COUNT; i++) {
        assert_int_equal(limit_find(str_of(LIMIT_INFO[i].name)), i);
        assert_in_range(LIMITS_DEFAULT.of[i], LIMIT_INFO[i].least, LIMIT_INFO[i].ceiling);
        assert_true(str_starts(str_of(LIMIT_INFO[i].setting), "LIMIT_"));
    }
    assert_int_equal(limit_find(STR("step")), LIMIT_COUNT);
    assert_int_equal(limit_find(STR("")), LIMIT_COUNT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_own_value_holds_as_far_as_the_installation_allows),
        cmocka_unit_test(every_limit_has_a_name_and_a_default_within_its_range),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
