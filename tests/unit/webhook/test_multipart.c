/* multipart/form-data: what browsers and libraries send is read, and what could be read in two ways is not. */
#include "common/webhook/multipart.h"
#include "tests/unit/base/test.h"

#include "common/base/banned.h"

#define TYPE "multipart/form-data; boundary=xYz"
#define FIELD(name, value) "--xYz\r\nContent-Disposition: form-data; name=\"" name "\"\r\n\r\n" value "\r\n"
#define END "--xYz--\r\n"

static enum multipart_verdict read_it(const char *type, struct str body, struct arena *arena, struct str *ret)
{
    struct buf out;
    const char *fault = NULL;
    enum multipart_verdict verdict;
    struct jw w;

    buf_init(&out, body.len * 6 + 4096);
    w = jw_to(&out);
    verdict = multipart_to_json(str_of(type), body, arena, &w, &fault);
    *ret = verdict == MULTIPART_READ ? str_arena(arena, buf_str(&out)) : str_of(fault);
    buf_deinit(&out);
    return verdict;
}

static void reads(const char *type, const char *body, const char *json)
{
    struct arena *arena = arena_new(1024);
    struct str text;

    if (read_it(type, str_of(body), arena, &text) != MULTIPART_READ)
        fail_msg("%s: " STR_FMT, body, STR_ARG(text));
    assert_string_equal(text.ptr, json);
    arena_free(arena);
}

static void refuses(const char *type, const char *body, const char *part_of_the_fault)
{
    struct arena *arena = arena_new(1024);
    struct str text;

    if (read_it(type, str_of(body), arena, &text) != MULTIPART_MALFORMED)
        fail_msg("taken: %s", body);
    if (strstr(text.ptr, part_of_the_fault) == NULL)
        fail_msg("%s: " STR_FMT, body, STR_ARG(text));
    arena_free(arena);
}

static void test_fields_are_texts_in_order_and_lists_where_a_name_comes_twice(void **state)
{
    (void)state;
    reads(TYPE, FIELD("b", "1") FIELD("a", "x\r\n--xY\r\ny") FIELD("b", "") END,
          "{\"a\":\"x\\r\\n--xY\\r\\ny\",\"b\":[\"1\",\"\"]}");
    reads(TYPE, FIELD("\xc3\xa9", "\xc3\xa9") "--xYz--", "{\"\xc3\xa9\":\"\xc3\xa9\"}");
    reads(TYPE, END, "{}");
    reads(TYPE, "\r\n" FIELD("a", "1") END, "{\"a\":\"1\"}");
    /* no line break between an empty part's head and the next boundary: RFC 2046, body-part */
    reads(TYPE, "--xYz\r\nContent-Disposition: form-data; name=a\r\n\r\n" END, "{\"a\":\"\"}");
}

static void test_files_come_with_name_and_type(void **state)
{
    (void)state;
    reads(TYPE,
          "--xYz\r\ncontent-type: image/png\r\nContent-Disposition:form-data ;name=\"f\" ; filename=\"a "
          "\\\"b\\\\c:\\d;.png\"\r\n"
          "Content-Transfer-Encoding: binary\r\n\r\n\x89PNG\xff\r\n" END,
          "{\"f\":{\"name\":\"a \\\"b\\\\c:\\\\d;.png\",\"type\":\"image/png\",\"base64\":\"iVBOR/8=\"}}");
    reads(TYPE, "--xYz\r\nContent-Disposition: form-data; name=f; filename=\"\"\r\n\r\n\r\n" END,
          "{\"f\":{\"name\":\"\",\"type\":null,\"base64\":\"\"}}");
    reads(TYPE, "--xYz\r\nContent-Disposition: form-data; name=f; filename*=utf-8''%C3%A9+.txt\r\n\r\na\r\n" END,
          "{\"f\":{\"name\":\"\xc3\xa9+.txt\",\"type\":null,\"base64\":\"YQ==\"}}");
}

static void test_boundaries_come_quoted_or_not(void **state)
{
    (void)state;
    reads("Multipart/Form-Data; charset=utf-8; Boundary=\"xYz\"", FIELD("a", "1") END, "{\"a\":\"1\"}");
    reads("multipart/form-data; boundary=--=_a/b:1",
          "----=_a/b:1\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n----=_a/b:1--", "{\"a\":\"1\"}");
    reads("multipart/form-data;; boundary=xYz;", FIELD("a", "1") END, "{\"a\":\"1\"}");
    reads(TYPE, "--xYz \t\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--xYz--  ", "{\"a\":\"1\"}");
    refuses("multipart/form-data", END, "no boundary");
    refuses("multipart/form-data; boundary=\"\"", END, "no boundary");
    refuses("multipart/form-data; boundary=\"a \"", END, "no boundary");
    refuses("multipart/form-data; boundary=\"a\\\"b\"", END, "no boundary");
    refuses("multipart/form-data; boundary=xYz; boundary=xYz", END, "two boundaries");
    refuses("multipart/form-data; boundary=\"xYz", END, "cannot be read");
    refuses("multipart/form-data; boundary=xYz charset", END, "cannot be read");
    refuses("multipart/form-data; boundary=1234567890123456789012345678901234567890123456789012345678901234567890x",
            END, "no boundary");
}

static void test_what_is_cut_off_or_can_be_read_in_two_ways_is_refused(void **state)
{
    static const char whole[] =
        FIELD("a", "1") "--xYz\r\nContent-Disposition: form-data; name=f; filename=n\r\n\r\n2\r\n--xYz--";
    struct arena *arena = arena_new(1024);

    (void)state;
    for (size_t i = 0; i < sizeof(whole) - 1; i++) {
        struct str fault;

        if (read_it(TYPE, (struct str){whole, i}, arena, &fault) == MULTIPART_READ)
            fail_msg("%zu bytes of the body are taken for all of it", i);
    }
    arena_free(arena);
    refuses(TYPE, "preamble\r\n" FIELD("a", "1") END, "does not begin");
    refuses(TYPE, FIELD("a", "1") END "epilogue", "behind the last boundary");
    refuses(TYPE, FIELD("a", "1\r\n--xYzz"), "behind a boundary");
    refuses(TYPE, "--xYz\nContent-Disposition: form-data; name=a\n\n1\n--xYz--", "behind a boundary");
    refuses(TYPE, "--xYz\r\nContent-Disposition: form-data\r\n\r\n1\r\n" END, "no Content-Disposition");
    refuses(TYPE, "--xYz\r\nX-A: b\r\n\r\n1\r\n" END, "no Content-Disposition");
    refuses(TYPE, "--xYz\r\n\r\n1\r\n" END, "no Content-Disposition");
    refuses(TYPE, "--xYz\r\nContent-Disposition: attachment; name=a\r\n\r\n1\r\n" END, "not form-data");
    refuses(TYPE, "--xYz\r\nContent-Disposition: form-data; name=a; name=b\r\n\r\n1\r\n" END, "the same twice");
    refuses(TYPE, "--xYz\r\nContent-Disposition: form-data; name=a; =b\r\n\r\n1\r\n" END, "cannot be read");
    refuses(
        TYPE,
        "--xYz\r\nContent-Disposition: form-data; name=a\r\nContent-Disposition: form-data; name=b\r\n\r\n1\r\n" END,
        "two headers");
    refuses(TYPE, "--xYz\r\nContent-Disposition: form-data; name=a; filename*=latin1''x\r\n\r\n1\r\n" END, "filename*");
    refuses(TYPE, "--xYz\r\nContent-Disposition: form-data; name=a; filename*=utf-8''%zz\r\n\r\n1\r\n" END,
            "filename*");
    refuses(TYPE,
            "--xYz\r\nContent-Disposition: form-data; name=a\r\nContent-Transfer-Encoding: base64\r\n\r\nMQ==\r\n" END,
            "Content-Transfer-Encoding");
    refuses(TYPE, "--xYz\r\nContent-Disposition: form-data;\r\n name=a\r\n\r\n1\r\n" END, "no header");
    refuses(TYPE, "--xYz\r\nContent-Disposition: form-data; name=\"a\nb\"\r\n\r\n1\r\n" END, "control character");
    refuses(
        TYPE,
        "--xYz\r\nContent-Type: a/b\r\nContent-Type: a/b\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n" END,
        "two headers Content-Type");
    refuses(TYPE, FIELD("a", "\xff") END, "field 'a' is not UTF-8");
    refuses(TYPE, FIELD("\xff", "1") END, "not UTF-8");
}

/* A body of `count` parts with `size` bytes each, the names 'f'. */
static enum multipart_verdict of_parts(size_t count, size_t size, const char *file, struct str *ret,
                                       struct arena *arena)
{
    struct buf body;
    enum multipart_verdict verdict;

    buf_init(&body, (size_t)4 << 20);
    for (size_t i = 0; i < count; i++) {
        buf_printf(&body, "--xYz\r\nContent-Disposition: form-data; name=f%s\r\n\r\n", file);
        for (size_t k = 0; k < size; k++)
            buf_append_char(&body, 'a');
        buf_append_str(&body, STR("\r\n"));
    }
    buf_append_str(&body, STR(END));
    verdict = read_it(TYPE, buf_str(&body), arena, ret);
    buf_deinit(&body);
    return verdict;
}

static void test_files_are_small_and_parts_are_few(void **state)
{
    struct arena *arena = arena_new(1024);
    struct str text;

    (void)state;
    assert_int_equal(of_parts(1, MULTIPART_FILE_MAX, ";filename=n", &text, arena), MULTIPART_READ);
    assert_int_equal(of_parts(1, MULTIPART_FILE_MAX + 1, ";filename=n", &text, arena), MULTIPART_TOO_LARGE);
    assert_string_equal(text.ptr,
                        "the file in field 'f' has 65537 bytes: a file may have 65536, all of a request 262144; send a "
                        "link to it instead");
    assert_int_equal(of_parts(4, MULTIPART_FILE_MAX, ";filename=n", &text, arena), MULTIPART_READ);
    assert_int_equal(of_parts(5, MULTIPART_FILE_MAX, ";filename=n", &text, arena), MULTIPART_TOO_LARGE);
    assert_int_equal(of_parts(1, (size_t)1 << 20, "", &text, arena), MULTIPART_READ);
    assert_int_equal(of_parts(1000, 0, "", &text, arena), MULTIPART_READ);
    assert_int_equal(of_parts(1001, 0, "", &text, arena), MULTIPART_TOO_LARGE);
    arena_free(arena);
}

static void test_a_head_is_bounded(void **state)
{
    struct arena *arena = arena_new(1024);
    struct buf body;
    struct str text;

    (void)state;
    for (int count = 16; count <= 17; count++) {
        buf_init(&body, 1 << 20);
        buf_append_str(&body, STR("--xYz\r\nContent-Disposition: form-data; name=f\r\n"));
        for (int i = 1; i < count; i++)
            buf_printf(&body, "X-%d: a\r\n", i);
        buf_append_str(&body, STR("\r\n1\r\n" END));
        assert_int_equal(read_it(TYPE, buf_str(&body), arena, &text),
                         count == 16 ? MULTIPART_READ : MULTIPART_MALFORMED);
        buf_deinit(&body);
    }
    buf_init(&body, 1 << 20);
    buf_printf(&body, "--xYz\r\nContent-Disposition: form-data; name=f\r\nX-Long: %08200d\r\n\r\n1\r\n" END, 1);
    assert_int_equal(read_it(TYPE, buf_str(&body), arena, &text), MULTIPART_MALFORMED);
    buf_deinit(&body);
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields_are_texts_in_order_and_lists_where_a_name_comes_twice),
        cmocka_unit_test(test_files_come_with_name_and_type),
        cmocka_unit_test(test_boundaries_come_quoted_or_not),
        cmocka_unit_test(test_what_is_cut_off_or_can_be_read_in_two_ways_is_refused),
        cmocka_unit_test(test_files_are_small_and_parts_are_few),
        cmocka_unit_test(test_a_head_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
