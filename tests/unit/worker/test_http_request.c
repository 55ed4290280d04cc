/* `with` of an http step, read and refused. */
#include "worker/http_request.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct arena *arena;

static int setup(void **state)
{
    (void)state;
    arena = arena_new(256);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    arena_free(arena);
    return 0;
}

static enum err_code read_text(const char *text, struct http_request_spec *ret, struct err *err)
{
    struct err bad = {0};

    assert_int_equal(jt_check(str_of(text), &JT_LIMITS_MESSAGE, &bad), ERR_OK);
    return http_request_read(str_of(text), arena, ret, err);
}

static void defaults_are_those_of_the_contract(void **state)
{
    struct http_request_spec spec;
    struct err err = {0};

    (void)state;
    assert_int_equal(read_text("{\"url\":\"https://x.example/a#frag\"}", &spec, &err), ERR_OK);
    assert_string_equal(spec.method.ptr, "GET");
    assert_string_equal(spec.url.ptr, "https://x.example/a");
    assert_int_equal(spec.max_response_bytes, 1 << 20);
    assert_int_equal(spec.follow_redirects, 5);
    assert_int_equal(spec.field_count, 0);
    assert_null(spec.body.ptr);
}

static void queries_are_encoded_and_numbers_stay_as_written(void **state)
{
    struct http_request_spec spec;
    struct err err = {0};

    (void)state;
    assert_int_equal(read_text("{\"url\":\"http://x/p#f\",\"query\":{\"q\":\"a b&c=d~\\u00e4\",\"n\":0.10,\"t\":true,"
                               "\"l\":[1,\"x\"],\"none\":null}}",
                               &spec, &err),
                     ERR_OK);
    assert_string_equal(spec.url.ptr, "http://x/p?q=a%20b%26c%3Dd~%C3%A4&n=0.10&t=true&l=1&l=x");
    assert_int_equal(read_text("{\"url\":\"http://x/?a=1\",\"query\":{\"b\":2}}", &spec, &err), ERR_OK);
    assert_string_equal(spec.url.ptr, "http://x/?a=1&b=2");
}

static void bodies_keep_their_bytes(void **state)
{
    struct http_request_spec spec;
    struct err err = {0};

    (void)state;
    assert_int_equal(read_text("{\"url\":\"http://x\",\"body\":{\"n\":0.10, \"m\" :1e2}}", &spec, &err), ERR_OK);
    assert_true(str_is(spec.body, "{\"n\":0.10, \"m\" :1e2}"));
    assert_string_equal(spec.body_type, "application/json");
    assert_int_equal(read_text("{\"url\":\"http://x\",\"body\":\"a\\nb\"}", &spec, &err), ERR_OK);
    assert_true(str_is(spec.body, "a\nb"));
    assert_string_equal(spec.body_type, "text/plain; charset=utf-8");
    assert_int_equal(read_text("{\"url\":\"http://x\",\"body\":null}", &spec, &err), ERR_OK);
    assert_null(spec.body.ptr);
    assert_int_equal(read_text("{\"url\":\"http://x\",\"body\":\"\"}", &spec, &err), ERR_OK);
    assert_int_equal(spec.body.len, 0);
    assert_non_null(spec.body.ptr);
}

static void what_could_change_the_message_is_refused(void **state)
{
    static const char *const bad[] = {"{\"url\":\"http://x\",\"headers\":{\"A\":\"b\\r\\nC: d\"}}",
                                      "{\"url\":\"http://x\",\"headers\":{\"A\":\"b\\nC\"}}",
                                      "{\"url\":\"http://x\",\"headers\":{\"A\":\"\\u007f\"}}",
                                      "{\"url\":\"http://x\",\"headers\":{\"A b\":\"c\"}}",
                                      "{\"url\":\"http://x\",\"headers\":{\"\":\"c\"}}",
                                      "{\"url\":\"http://x\",\"headers\":{\"A:\":\"c\"}}",
                                      "{\"url\":\"http://x\",\"headers\":{\"HOST\":\"c\"}}",
                                      "{\"url\":\"http://x\",\"headers\":{\"ropewalk-x\":\"c\"}}",
                                      "{\"url\":\"http://x\",\"headers\":{\"Proxy-Auth\":\"c\"}}",
                                      "{\"url\":\"http://x\",\"headers\":{\"A\":[]}}",
                                      "{\"url\":\"http://x\",\"headers\":[]}",
                                      "{\"url\":\"http://x\",\"method\":\"\"}",
                                      "{\"url\":\"http://x\",\"method\":\"G ET\"}",
                                      "{\"url\":\"http://x\",\"method\":\"trace\"}",
                                      "{\"url\":\"http://x\",\"method\":1}",
                                      "{\"url\":\"http://x y\"}",
                                      "{\"url\":\"http://x\\u0009\"}",
                                      "{\"url\":\"ftp://x\"}",
                                      "{\"url\":\" http://x\"}",
                                      "{\"url\":\"\"}",
                                      "{\"url\":null}",
                                      "{}",
                                      "{\"url\":\"http://x\",\"query\":[]}",
                                      "{\"url\":\"http://x\",\"query\":{\"a\":{}}}",
                                      "{\"url\":\"http://x\",\"query\":{\"a\":[[]]}}",
                                      "{\"url\":\"http://x\",\"follow_redirects\":21}",
                                      "{\"url\":\"http://x\",\"follow_redirects\":-1}",
                                      "{\"url\":\"http://x\",\"follow_redirects\":true}",
                                      "{\"url\":\"http://x\",\"max_response_bytes\":33554433}",
                                      "{\"url\":\"http://x\",\"max_response_bytes\":1.5}",
                                      "{\"url\":\"http://x\",\"verify\":false}"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct http_request_spec spec;
        struct err err = {0};

        if (read_text(bad[i], &spec, &err) != ERR_INVALID)
            fail_msg("taken: %s", bad[i]);
        assert_true(err.message[0] != '\0');
    }
}

static void secrets_are_not_sent_as_text(void **state)
{
    struct http_request_spec spec;
    struct err err = {0};

    (void)state;
    assert_int_equal(
        read_text("{\"url\":\"http://x\",\"headers\":{\"Authorization\":\"${ .secrets.shop }\"}}", &spec, &err),
        ERR_NOT_AVAILABLE);
}

static void limits_hold_at_n_and_n_plus_1(void **state)
{
    struct http_request_spec spec;
    struct err err = {0};
    CLEANUP(buf_deinit) struct buf text = {0};

    (void)state;
    for (size_t extra = 0; extra < 2; extra++) {
        buf_init(&text, 1 << 20);
        buf_append_str(&text, STR("{\"url\":\"http://x/"));
        while (text.len < strlen("{\"url\":\"") + 16384 + extra)
            buf_append_char(&text, 'a');
        buf_append_str(&text, STR("\"}"));
        assert_int_equal(read_text(text.ptr, &spec, &err), extra == 0 ? ERR_OK : ERR_INVALID);
        buf_deinit(&text);
    }
    assert_int_equal(
        read_text("{\"url\":\"http://x\",\"follow_redirects\":20,\"max_response_bytes\":33554432}", &spec, &err),
        ERR_OK);
    assert_int_equal(read_text("{\"url\":\"http://x\",\"follow_redirects\":0,\"max_response_bytes\":0}", &spec, &err),
                     ERR_OK);
}

static void only_harmless_fields_go_to_another_origin(void **state)
{
    (void)state;
    assert_true(http_field_is_portable(STR("Accept")));
    assert_true(http_field_is_portable(STR("CONTENT-TYPE")));
    assert_false(http_field_is_portable(STR("Authorization")));
    assert_false(http_field_is_portable(STR("Cookie")));
    assert_false(http_field_is_portable(STR("X-Api-Key")));
    assert_false(http_field_is_portable(STR("Idempotency-Key")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(defaults_are_those_of_the_contract, setup, teardown),
        cmocka_unit_test_setup_teardown(queries_are_encoded_and_numbers_stay_as_written, setup, teardown),
        cmocka_unit_test_setup_teardown(bodies_keep_their_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(what_could_change_the_message_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(secrets_are_not_sent_as_text, setup, teardown),
        cmocka_unit_test_setup_teardown(limits_hold_at_n_and_n_plus_1, setup, teardown),
        cmocka_unit_test_setup_teardown(only_harmless_fields_go_to_another_origin, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
