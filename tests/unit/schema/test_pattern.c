/* Patterns: what they match, what is refused, and that nothing makes them slow. */
#include "common/base/clock.h"
#include "common/schema/pattern.h"
#include "tests/unit/base/test.h"

static bool matches(const char *source, const char *text)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(1024);
    struct pattern_scratch scratch = {0};
    int64_t budget = 100000000;
    struct pattern pattern;
    struct err err = {0};
    bool found;

    if (pattern_compile(arena, str_of(source), &pattern, &err) != ERR_OK)
        fail_msg("%s: %s", source, err.message);
    found = pattern_matches(&pattern, str_of(text), &scratch, &budget);
    pattern_scratch_deinit(&scratch);
    return found;
}

static enum err_code refused(const char *source)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(1024);
    struct pattern pattern;
    struct err err = {0};

    return pattern_compile(arena, str_of(source), &pattern, &err);
}

static void patterns_match_as_ecma_262_says(void **state)
{
    static const struct {
        const char *pattern, *text;
        bool found;
    } cases[] = {
        {"", "", true},
        {"a", "xay", true},
        {"^a", "xa", false},
        {"a$", "ab", false},
        {"^a*$", "aaa", true},
        {"^a*$", "", true},
        {"^a+$", "", false},
        {"^a?$", "aa", false},
        {"a|b|", "x", true},
        {"^(a|b)$", "b", true},
        {"^(?:ab|c)+$", "abcab", true},
        {"^(?<n>ab)$", "ab", true},
        {"^a{3}$", "aa", false},
        {"^a{3}$", "aaa", true},
        {"^a{2,}$", "aaaaa", true},
        {"^a{0,2}$", "aaa", false},
        {"^a{,2}$", "a{,2}", true},
        {"^{x}$", "{x}", true},
        {"x{", "x{", true},
        {"^.$", "\n", false},
        {"^.$", "\xe2\x82\xac", true},
        {"^..$", "\xe2\x82\xac", false},
        {"^[^a]$", "\n", true},
        {"^[a-c-]+$", "a-c", true},
        {"^[]$", "a", false},
        {"^[^]$", "a", true},
        {"^[\\d-]+$", "1-2", true},
        {"^\\d\\D\\w\\W\\s\\S$", "1a_- x", true},
        {"^\\u0041\\x42\\u{43}$", "ABC", true},
        {"^\\ud83d\\ude00$", "\xf0\x9f\x98\x80", true},
        {"^[\\u{1F600}-\\u{1F64F}]$", "\xf0\x9f\x98\x80", true},
        {"^\\cJ$", "\n", true},
        {"^[\\b]$", "\b", true},
        {"\\/\\.\\-", "/.-", true},
        {"^a$", "a\n", false},
        {"^\\s$", "\xe3\x80\x80", true},
        {"^\\W$", "\xc3\xa9", true},
        {"(a*)*b", "aaab", true},
        {"(|a)+$", "aa", true},
        {"^(a{1,3}){2}$", "aaaaaa", true},
        {"^(a{1,3}){2}$", "a", false},
        {"a^b", "ab", false},
        {"(^a|b)c", "xbc", true},
        {"a+?b*?c??", "a", true},
        {"^$", "", true},
        {"^$", "x", false},
        {"$^", "", true},
        {"]}", "]}", true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (matches(cases[i].pattern, cases[i].text) != cases[i].found)
            fail_msg("%s on %s", cases[i].pattern, cases[i].text);
    }
}

static void what_is_not_regular_is_refused(void **state)
{
    static const char *const irregular[] = {"(a)\\1", "\\k<n>", "(?=a)", "(?!a)", "(?<=a)", "\\bword", "\\p{L}"};
    static const char *const wrong[] = {"(",     ")",       "(a",     "[a",    "*",  "a**b(", "\\",
                                        "[z-a]", "[a-\\d]", "a{2,1}", "\\u12", "^*", "\\q",   "+"};
    static const char *const large[] = {"a{1001}", "(a{1000}){1000}",
                                        "((((((((((){9}){9}){9}){9}){9}){9}){9}){9}){9})"};

    (void)state;
    for (size_t i = 0; i < sizeof(irregular) / sizeof(irregular[0]); i++)
        assert_int_equal(refused(irregular[i]), ERR_NOT_AVAILABLE);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_int_equal(refused(wrong[i]), ERR_INVALID);
    for (size_t i = 0; i < sizeof(large) / sizeof(large[0]); i++)
        assert_int_equal(refused(large[i]), ERR_TOO_LARGE);
}

/* The classics of backtracking, 30,000 characters long. */
static void no_pattern_is_slow(void **state)
{
    static const char *const evil[] = {"^(a+)+$", "^(a|a)*$", "^(a|aa)+$", "(.*a){20}$", "^(([a-z])+.)+[A-Z]([a-z])+$",
                                       "(x+x+)+y"};
    struct mono_us begin = clock_mono();
    char *text = mem_array(30001, 1);

    (void)state;
    memset(text, 'a', 30000);
    text[29999] = '!';
    for (size_t i = 0; i < sizeof(evil) / sizeof(evil[0]); i++)
        assert_false(matches(evil[i], text));
    mem_free(text);
    assert_true(clock_mono().us - begin.us < 5 * US_PER_S);
}

static void matching_ends_when_the_budget_is_spent(void **state)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(1024);
    struct pattern_scratch scratch = {0};
    struct pattern pattern;
    int64_t budget = 50;
    struct err err;

    (void)state;
    assert_int_equal(pattern_compile(arena, STR("(a|b)*c"), &pattern, &err), ERR_OK);
    assert_false(pattern_matches(&pattern, STR("abababababababababababababababababababababababc"), &scratch, &budget));
    assert_true(budget <= 0);
    pattern_scratch_deinit(&scratch);
}

RUN(TEST(patterns_match_as_ecma_262_says), TEST(what_is_not_regular_is_refused), TEST(no_pattern_is_slow),
    TEST(matching_ends_when_the_budget_is_spent))
