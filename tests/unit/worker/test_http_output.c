/* Answers as outputs: JSON as it came, text, base64; headers joined; Retry-After in all its forms. */
#include "common/base/http_status.h"
#include "worker/http_output.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static char text[1 << 16];

static const char *written(const char *type, struct str body, size_t max)
{
    CLEANUP(buf_deinit) struct buf out = {0};
    struct http_headers headers;
    struct err err = {0};
    char line[128];

    buf_init(&out, 1 << 16);
    http_headers_init(&headers);
    if (type != NULL) {
        snprintf(line, sizeof(line), "Content-Type: %s\r\n", type);
        http_headers_add(&headers, str_of(line));
    }
    http_output_write(&out, 200, &headers, body, max);
    assert_int_equal(jt_check(buf_str(&out), &JT_LIMITS_MESSAGE, &err), ERR_OK);
    snprintf(text, sizeof(text), STR_FMT, STR_ARG(jt_get(buf_str(&out), "body")));
    if (jt_get(buf_str(&out), "encoding").len > 0)
        strncat(text, " base64", sizeof(text) - strlen(text) - 1);
    http_headers_deinit(&headers);
    return text;
}

static void bodies_are_told_apart_by_type_and_content(void **state)
{
    (void)state;
    assert_string_equal(written("application/json", STR(" {\"a\": 0.10} "), SIZE_MAX), "{\"a\": 0.10}");
    assert_string_equal(written("Application/JSON; charset=utf-8", STR("[1,2]"), SIZE_MAX), "[1,2]");
    assert_string_equal(written("application/problem+json", STR("{}"), SIZE_MAX), "{}");
    assert_string_equal(written("application/json", STR("{broken"), SIZE_MAX), "\"{broken\"");
    assert_string_equal(written("application/json", STR("1e999"), SIZE_MAX), "\"1e999\"");
    assert_string_equal(written("application/json", STR("\"\\u0000\""), SIZE_MAX), "\"\xef\xbf\xbd\"");
    assert_string_equal(written("text/plain", STR("{\"a\":1}"), SIZE_MAX), "\"{\\\"a\\\":1}\"");
    assert_string_equal(written(NULL, STR("hi"), SIZE_MAX), "\"hi\"");
    assert_string_equal(written(NULL, STR(""), SIZE_MAX), "null");
    assert_string_equal(written("application/json", STR(""), SIZE_MAX), "null");
    assert_string_equal(written(NULL, STR("a\0b"), SIZE_MAX), "\"YQBi\" base64");
    assert_string_equal(written("text/plain", STR("\xff"), SIZE_MAX), "\"/w==\" base64");
    assert_string_equal(written("text/plain", STR("\xff\xfe"), SIZE_MAX), "\"//4=\" base64");
}

static void a_cut_body_is_text_and_splits_no_character(void **state)
{
    (void)state;
    assert_string_equal(written("application/json", STR("[1,2,3,4]"), 4), "\"[1,2\"");
    assert_string_equal(written("text/plain", STR("ab\xc3\xa4"), 3), "\"ab\"");
    assert_string_equal(written("text/plain", STR("\xff\xff\xff\xff"), 3), "\"////\" base64");
}

static void headers_are_lower_case_joined_and_of_the_last_answer(void **state)
{
    CLEANUP(buf_deinit) struct buf out = {0};
    struct http_headers headers;

    (void)state;
    buf_init(&out, 1 << 16);
    http_headers_init(&headers);
    http_headers_add(&headers, STR("HTTP/1.1 100 Continue\r\n"));
    http_headers_add(&headers, STR("X-Old: 1\r\n"));
    http_headers_add(&headers, STR("HTTP/1.1 200 OK\r\n"));
    http_headers_add(&headers, STR("X-One:  a \r\n"));
    http_headers_add(&headers, STR("Other: \xe4\r\n"));
    http_headers_add(&headers, STR("x-ONE: b\r\n"));
    http_headers_add(&headers, STR("no colon\r\n"));
    http_headers_add(&headers, STR(": no name\r\n"));
    http_headers_add(&headers, STR("\r\n"));
    http_output_write(&out, 200, &headers, STR(""), SIZE_MAX);
    assert_string_equal(out.ptr,
                        "{\"status\":200,\"headers\":{\"x-one\":\"a, b\",\"other\":\"\xc3\xa4\"},\"body\":null}");
    assert_true(str_is(http_headers_get(&headers, "x-one"), "a"));
    assert_null(http_headers_get(&headers, "x-old").ptr);
    http_headers_deinit(&headers);
}

static void a_flood_of_headers_is_bounded(void **state)
{
    CLEANUP(buf_deinit) struct buf out = {0};
    struct http_headers headers;
    int64_t begin = clock_mono().us;

    (void)state;
    buf_init(&out, 1 << 20);
    http_headers_init(&headers);
    for (int i = 0; i < 100000; i++) {
        char line[32];

        snprintf(line, sizeof(line), "h%d: v\r\n", i);
        http_headers_add(&headers, str_of(line));
    }
    http_output_write(&out, 200, &headers, STR(""), SIZE_MAX);
    assert_true(clock_mono().us - begin < 2 * US_PER_S);
    http_headers_deinit(&headers);
}

static void statuses_are_classed_as_the_contract_says(void **state)
{
    static const int transient[] = {408, 425, 429, 500, 502, 503, 504, 506, 507, 599};
    static const int permanent[] = {300, 304, 400, 401, 403, 404, 409, 410, 422, 451, 501, 505};

    (void)state;
    for (size_t i = 0; i < sizeof(transient) / sizeof(int); i++)
        assert_true(http_status_is_transient(transient[i]));
    for (size_t i = 0; i < sizeof(permanent) / sizeof(int); i++)
        assert_false(http_status_is_transient(permanent[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bodies_are_told_apart_by_type_and_content),
        cmocka_unit_test(a_cut_body_is_text_and_splits_no_character),
        cmocka_unit_test(headers_are_lower_case_joined_and_of_the_last_answer),
        cmocka_unit_test(a_flood_of_headers_is_bounded),
        cmocka_unit_test(statuses_are_classed_as_the_contract_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
