/* Masking: values go, everything else stays, and JSON stays JSON. */
#include "common/seal/mask.h"
#include "tests/unit/seal/test.h"

static void check(const char *value, bool json, const char *text, const char *expected, const char *file, int line)
{
    struct masker *masker = masker_new();
    struct buf out;

    buf_init(&out, 65536);
    masker_add(masker, str_of(value));
    (json ? masker_json : masker_text)(masker, str_of(text), &out);
    assert_str_(buf_str(&out), expected, file, line);
    buf_deinit(&out);
    masker_free(masker);
}
#define check_text(value, text, expected) check(value, false, text, expected, __FILE__, __LINE__)
#define check_json(value, text, expected) check(value, true, text, expected, __FILE__, __LINE__)

static void a_value_goes_wherever_it_stands(void **state)
{
    (void)state;
    check_text("s3cr3t", "s3cr3t", "********");
    check_text("s3cr3t", "xs3cr3ts3cr3ty s3cr3", "x****************y s3cr3");
    check_text("aab1", "aaab1", "a********");
    check_text("s3cr3t", "", "");
    check_json("s3cr3t", "{\"a\": [\"x s3cr3t y\", 1], \"s3cr3t\": null}",
               "{\"a\": [\"x ******** y\", 1], \"********\": null}");
}

static void escapes_do_not_hide_it(void **state)
{
    (void)state;
    check_json("s3cr/t", "\"s3cr\\/t \\u0073\\u0033cr/t\"", "\"******** ********\"");
    check_json("a\"b\\c\nd", "\"<a\\\"b\\\\c\\nd>\"", "\"<********>\"");
    check_json("k\xc3\xa4se\xf0\x9f\x98\x80", "\"k\\u00e4se\\ud83d\\ude00 k\xc3\xa4se\xf0\x9f\x98\x80\"",
               "\"******** ********\"");
    check_text("a b/c=d", "q=a%20b%2Fc%3dd&r=a+b%2fc=d", "q=********&r=********");
}

static void an_escape_is_not_taken_apart(void **state)
{
    (void)state;
    /* the letters of \u0061bcd are no value: what they stand for is */
    check_json("0061bcd", "\"\\u0061bcd\"", "\"\\u0061bcd\"");
    check_json("nabc", "\"\\nabc\"", "\"\\nabc\"");
}

static void json_stays_json_where_a_number_is_the_value(void **state)
{
    (void)state;
    check_json("1234", "[1234, 51234.5, -1234, 123]", "[\"********\", \"********\", \"********\", 123]");
    check_json("true", "{\"true\":true}", "{\"********\":\"********\"}");
    check_json("\":\"", "{\"a\":\"b\"}", "{\"a\":\"b\"}"); /* shorter than what is masked, and no text of a string */
    check_json("a\",\"b", "[\"a\",\"b\"]", "[\"a\",\"b\"]");
}

static void credentials_go_without_their_scheme_and_as_what_they_encode(void **state)
{
    (void)state;
    check_text("Bearer tok-12345", "Bearer tok-12345; tok-12345", "********; ********");
    check_text("Basic dXNlcjpwYXNz", "dXNlcjpwYXNz user:pass", "******** ********");
}

static void base64_of_it_goes_wherever_it_lies_in_it(void **state)
{
    (void)state;
    /* printf 'XXXplanted-valueYY' | base64, with no, one and two bytes before it */
    check_text("planted-value", "cGxhbnRlZC12YWx1ZVlZ", "********VlZ");
    check_text("planted-value", "WHBsYW50ZWQtdmFsdWVZWQ==", "WH********VZWQ==");
    check_text("planted-value", "WFhwbGFudGVkLXZhbHVlWVk=", "WFh********WVk=");
}

static void short_values_and_none_change_nothing(void **state)
{
    (void)state;
    check_text("abc", "abc", "abc");
    check_text("", "abc", "abc");
    check_json("", "{\"a\":\"\\u00e4\"}", "{\"a\":\"\\u00e4\"}");
}

static void the_longest_of_several_goes(void **state)
{
    struct masker *masker = masker_new();
    struct buf out;

    (void)state;
    buf_init(&out, 65536);
    masker_add(masker, STR("abcd"));
    masker_add(masker, STR("abcdef"));
    masker_text(masker, STR("abcdefg abcdx"), &out);
    assert_str(buf_str(&out), "********g ********x");
    buf_deinit(&out);
    masker_free(masker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_goes_wherever_it_stands),
        cmocka_unit_test(escapes_do_not_hide_it),
        cmocka_unit_test(an_escape_is_not_taken_apart),
        cmocka_unit_test(json_stays_json_where_a_number_is_the_value),
        cmocka_unit_test(credentials_go_without_their_scheme_and_as_what_they_encode),
        cmocka_unit_test(base64_of_it_goes_wherever_it_lies_in_it),
        cmocka_unit_test(short_values_and_none_change_nothing),
        cmocka_unit_test(the_longest_of_several_goes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
