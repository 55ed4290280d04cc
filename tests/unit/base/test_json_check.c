/* The strict checker: what it takes, what it refuses, where it says the fault is, and that hostile input costs no more
 * than linear time. */
#include "common/base/clock.h"
#include "common/base/json_text.h"
#include "tests/unit/base/test.h"
#include <stdio.h>

#define MIB ((size_t)1 << 20)

static const struct jt_limits loose = {
    .max_bytes = 64 * MIB, .max_depth = 1000000, .refuse_duplicates = false, .refuse_unstorable = false};
static const struct jt_limits strict = {
    .max_bytes = 64 * MIB, .max_depth = 1000, .refuse_duplicates = true, .refuse_unstorable = true};

static void expect_text(struct str text, const struct jt_limits *limits, enum err_code expect)
{
    struct err err = {0};
    /* An exact copy on the heap, so that reading past the end is found. */
    char *copy = mem_grow(NULL, text.len, 1);
    enum err_code rc;

    if (text.len > 0)
        memcpy(copy, text.ptr, text.len);
    rc = jt_check((struct str){copy, text.len}, limits, &err);
    mem_free(copy);
    if (rc != expect)
        fail_msg("'%.*s' gives %s (%s), not %s", text.len > 200 ? 200 : (int)text.len, text.ptr, err_code_name(rc),
                 rc == ERR_OK ? "" : err.message, err_code_name(expect));
}

static void taken(const char *text)
{
    expect_text(str_of(text), &loose, ERR_OK);
    expect_text(str_of(text), &strict, ERR_OK);
}

static void refused(const char *text)
{
    expect_text(str_of(text), &loose, ERR_SYNTAX);
    expect_text(str_of(text), &strict, ERR_SYNTAX);
}

/* Let pass where it need not be stored, refused where it must. */
static void unstorable(const char *text)
{
    expect_text(str_of(text), &loose, ERR_OK);
    expect_text(str_of(text), &strict, ERR_SYNTAX);
}

static void message_of(struct str text, const struct jt_limits *limits, const char *expect)
{
    struct err err = {0};

    assert_int_not_equal(jt_check(text, limits, &err), ERR_OK);
    assert_string_equal(err.message, expect);
}

static void every_kind_of_value_stands_alone(void **state)
{
    (void)state;
    taken("null");
    taken("true");
    taken("false");
    taken("0");
    taken("\"\"");
    taken("[]");
    taken("{}");
    taken(" \t\r\n[ 1 , { \"a\" : [ ] , \"b\" : { } } ] \n");
}

static void words_are_spelled_exactly(void **state)
{
    static const char *const bad[] = {"nul", "nulL",         "nullx",     "True",      "tru",  "falsee",
                                      "NaN", "Infinity",     "-Infinity", "undefined", "n",    "'a'",
                                      "a",   "\xef\xbb\xbf", "//x\n1",    "/*x*/1",    "1 //x"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        refused(bad[i]);
}

static void nothing_is_no_value(void **state)
{
    (void)state;
    refused("");
    refused("  \n ");
    expect_text(STR_NONE, &strict, ERR_SYNTAX);
}

static void a_byte_order_mark_is_refused(void **state)
{
    (void)state;
    refused("\xef\xbb\xbf{}");
    refused("{}\xef\xbb\xbf");
    taken("\"\xef\xbb\xbf\"");
}

static void only_one_value_is_taken(void **state)
{
    (void)state;
    refused("1 2");
    refused("{}{}");
    refused("[],");
    refused("null null");
    refused("\"a\"\"b\"");
    expect_text(STR("1\0"), &loose, ERR_SYNTAX);
    expect_text(STR("{}\0"), &loose, ERR_SYNTAX);
    expect_text(STR("\0"
                    "1"),
                &loose, ERR_SYNTAX);
}

static void only_four_kinds_of_white_space_count(void **state)
{
    (void)state;
    refused("\v1");
    refused("\f1");
    refused("\xc2\xa0"
            "1");
    refused("[1,\xe2\x80\xa8 2]");
    refused("\x1f"
            "1");
    refused("\x7f"
            "1");
}

static void commas_and_colons_stand_where_they_belong(void **state)
{
    static const char *const bad[] = {"[1,]",
                                      "[,1]",
                                      "[,]",
                                      "[1,,2]",
                                      "[1 2]",
                                      "{,}",
                                      "{\"a\":1,}",
                                      "{\"a\"}",
                                      "{\"a\":}",
                                      "{\"a\" 1}",
                                      "{\"a\"::1}",
                                      "{:1}",
                                      "{1:1}",
                                      "{a:1}",
                                      "{'a':1}",
                                      "{\"a\":1 \"b\":2}",
                                      "{\"a\":1,,\"b\":2}",
                                      "[1;2]",
                                      "{\"a\"=1}",
                                      "{null:1}",
                                      "{\"a\",1}",
                                      "[\"a\":1]"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        refused(bad[i]);
}

static void brackets_match(void **state)
{
    static const char *const bad[] = {"[",   "]",      "{",         "}",         "[}",  "{]",
                                      "[[]", "[]]",    "{\"a\":[}", "{\"a\":1]", "[1}", "{\"a\":{}",
                                      "[1",  "{\"a\"", "{\"a\":",   "{\"a\":1",  "[1,"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        refused(bad[i]);
}

static void numbers_follow_the_grammar(void **state)
{
    static const char *const good[] = {"0",          "-0",        "1",     "-1",      "10",
                                       "1234567890", "0.0",       "-0.5",  "1.25",    "1e3",
                                       "1E3",        "1e+3",      "1e-3",  "0e0",     "0E+0",
                                       "1.5e300",    "-1.5e-300", "0.1e1", "1e00003", "123456789012345678901234567890",
                                       "1e308",      "-1e308",    "1e-400"};
    static const char *const bad[] = {"00",    "01",  "-01",  "-",   "+1",   "--1",         "1.",    ".5",    "-.5",
                                      "1.e3",  "1e",  "1e+",  "1e-", "1E",   "1ee3",        "1e3.5", "1.2.3", "0x10",
                                      "1_000", "1,5", "1f",   "-a",  "0-1",  "1-",          "1+1",   "00.5",  "-00",
                                      "1e3e3", "0b1", "1 .5", "- 1", "1 e3", "\xef\xbc\x91"};

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        taken(good[i]);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        refused(bad[i]);
}

static void numbers_beyond_a_double_cannot_be_stored(void **state)
{
    (void)state;
    unstorable("1e999999");
    unstorable("-1e999999");
    unstorable("1e309");
    unstorable("1e99999999999999999999999999999999999999");
    unstorable("[1e400]");
    unstorable("1.8e308");
    unstorable("1000e306");
    /* Half a unit above the largest double rounds up and away; what is less by one does not. */
    unstorable("1797693134862315807937289714053034150799341327100378269361737789804449682927647509466490179775872070"
               "9633028641669288791094655554785194040263065748867150582068190890200070838367627385484581771153176447"
               "5730270069855571366959622842914819860834936475292719074168444365510704342711559699508093042880177904"
               "174497792");
    taken("1797693134862315807937289714053034150799341327100378269361737789804449682927647509466490179775872070"
          "9633028641669288791094655554785194040263065748867150582068190890200070838367627385484581771153176447"
          "5730270069855571366959622842914819860834936475292719074168444365510704342711559699508093042880177904"
          "174497791");
    taken("1.7976931348623157e308");
    taken("-1.7976931348623157e308");
    taken("17976931348623157e292");
    taken("0.00000000017976931348623157e318");
    taken("0e999");
    taken("0.0e999");
}

static void numbers_with_more_decimals_than_postgresql_keeps_cannot_be_stored(void **state)
{
    struct buf buf;

    (void)state;
    taken("1e-16383");
    unstorable("1e-16384");
    unstorable("1.0e-16383");
    taken("10e-16383");
    unstorable("1e-99999999999999999999");
    unstorable("0e-16384");
    unstorable("0e99999999999999999999");
    buf_init(&buf, 20000);
    buf_append_str(&buf, STR("0."));
    for (int i = 0; i < 16383; i++)
        buf_append_char(&buf, '0');
    taken(buf.ptr);
    buf_append_char(&buf, '1');
    unstorable(buf.ptr);
    buf_append_str(&buf, STR("e1"));
    taken(buf.ptr);
    buf_deinit(&buf);
}

static void strings_end_and_hold_no_control_characters(void **state)
{
    char text[] = "\"a?b\"";

    (void)state;
    refused("\"");
    refused("\"abc");
    refused("\"abc\\\"");
    refused("\"abc\\");
    refused("[\"abc]");
    taken("\"\x7f\"");
    for (unsigned c = 0; c < 0x20; c++) {
        /* In all places of an eight-byte step. */
        for (size_t before = 0; before < 20; before++) {
            char longer[64];

            memset(longer, 'x', sizeof(longer));
            longer[0] = '"';
            longer[1 + before] = (char)c;
            longer[30] = '"';
            expect_text((struct str){longer, 31}, &loose, ERR_SYNTAX);
        }
        text[2] = (char)c;
        expect_text((struct str){text, 5}, &loose, ERR_SYNTAX);
    }
}

static void plain_strings_of_any_length_and_alignment_are_taken(void **state)
{
    char text[130];

    (void)state;
    for (size_t len = 0; len < 100; len++) {
        memset(text, 'x', sizeof(text));
        text[0] = '"';
        text[len + 1] = '"';
        expect_text((struct str){text, len + 2}, &strict, ERR_OK);
        expect_text((struct str){text, len + 1}, &strict, ERR_SYNTAX);
        text[len + 2] = '"';
        expect_text((struct str){text, len + 3}, &strict, ERR_SYNTAX);
    }
}

static void escapes_are_those_of_the_grammar(void **state)
{
    static const char *const bad[] = {"\"\\a\"",     "\"\\x41\"",      "\"\\'\"",          "\"\\0\"",
                                      "\"\\U0041\"", "\"\\u\"",        "\"\\u1\"",         "\"\\u12\"",
                                      "\"\\u123\"",  "\"\\u123g\"",    "\"\\u 123\"",      "\"\\u+123\"",
                                      "\"\\\n\"",    "\"\\\xc3\xa9\"", "\"\\ud83d\\u12\"", "\"\\ud83d\\x\""};

    (void)state;
    taken("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e9\\uABCD\\uabcd\"");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        refused(bad[i]);
}

static void strings_are_valid_utf8(void **state)
{
    static const char *const good[] = {"\"\xc3\xa9\"",     "\"\xe2\x82\xac\"",     "\"\xf0\x9f\x98\x80\"",
                                       "\"\xef\xbf\xbf\"", "\"\xf4\x8f\xbf\xbf\"", "\"\xed\x9f\xbf\"",
                                       "\"\xee\x80\x80\""};
    static const char *const bad[] = {"\"\x80\"",
                                      "\"\xc0\xaf\"",
                                      "\"\xc1\xbf\"",
                                      "\"\xe0\x80\xaf\"",
                                      "\"\xe0\x9f\xbf\"",
                                      "\"\xf0\x80\x80\xaf\"",
                                      "\"\xf0\x8f\xbf\xbf\"",
                                      "\"\xed\xa0\x80\"",
                                      "\"\xed\xbf\xbf\"",
                                      "\"\xed\xa0\xbd\xed\xb8\x80\"",
                                      "\"\xf4\x90\x80\x80\"",
                                      "\"\xf5\x80\x80\x80\"",
                                      "\"\xf8\x88\x80\x80\x80\"",
                                      "\"\xfe\"",
                                      "\"\xff\"",
                                      "\"\xc3\"",
                                      "\"\xe2\x82\"",
                                      "\"\xf0\x9f\x98\"",
                                      "\"\xc3\xc3\xa9\"",
                                      "\"\xe9\"",
                                      "\"\xc3"};

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        taken(good[i]);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        refused(bad[i]);
        expect_text(str_of(bad[i]), &strict, ERR_SYNTAX);
    }
    refused("{\"\xff\":1}");
    refused("\xc3\xa9");
}

static void nul_and_lone_surrogates_cannot_be_stored(void **state)
{
    (void)state;
    unstorable("\"\\u0000\"");
    unstorable("\"a\\u0000b\"");
    unstorable("{\"\\u0000\":1}");
    unstorable("\"\\ud800\"");
    unstorable("\"\\udfff\"");
    unstorable("\"\\ud83dx\"");
    unstorable("\"\\ud83d\\n\"");
    unstorable("\"\\ud83d\\u0041\"");
    unstorable("\"\\ud83d\\ud83d\"");
    unstorable("\"\\ude00\\ud83d\"");
    unstorable("\"\\ud83d\\ud83d\\ude00\"");
    unstorable("\"\\ud83d\\ude00\\ude00\"");
    taken("\"\\ud83d\\ude00\"");
    taken("\"\\uD83D\\uDE00\\ud83d\\ude00\"");
    taken("\"\\\\u0000\"");
    taken("\"\\\\ud800\"");
    taken("\"\\ud7ff\\ue000\"");
}

static void size_is_bounded_to_the_byte(void **state)
{
    struct jt_limits limits = strict;

    (void)state;
    limits.max_bytes = 6;
    expect_text(STR("\"1234\""), &limits, ERR_OK);
    expect_text(STR("\"12345\""), &limits, ERR_TOO_LARGE);
    expect_text(STR("\"1234\" "), &limits, ERR_TOO_LARGE);
    limits.max_bytes = 0;
    expect_text(STR("1"), &limits, ERR_TOO_LARGE);
}

static void depth_is_bounded_to_the_level(void **state)
{
    char text[1024];

    (void)state;
    for (unsigned max = 1; max < 200; max++) {
        struct jt_limits limits = strict;

        limits.max_depth = max;
        for (unsigned depth = max; depth <= max + 1; depth++) {
            memset(text, '[', depth);
            memset(text + depth, ']', depth);
            expect_text((struct str){text, 2 * depth}, &limits, depth == max ? ERR_OK : ERR_TOO_LARGE);
        }
    }
    struct jt_limits flat = strict;
    flat.max_depth = 0;
    expect_text(STR("1"), &flat, ERR_OK);
    expect_text(STR("[]"), &flat, ERR_TOO_LARGE);
    /* Beside each other is not inside each other. */
    flat.max_depth = 2;
    expect_text(STR("[[],[],{},{\"a\":1}]"), &flat, ERR_OK);
    expect_text(STR("[[],[],{},{\"a\":[]}]"), &flat, ERR_TOO_LARGE);
}

static void the_limits_of_the_contract_are_these(void **state)
{
    (void)state;
    assert_int_equal(JT_LIMITS_API.max_bytes, MIB);
    assert_int_equal(JT_LIMITS_API.max_depth, 128);
    assert_true(JT_LIMITS_API.refuse_duplicates && JT_LIMITS_API.refuse_unstorable);
    assert_int_equal(JT_LIMITS_MESSAGE.max_bytes, 40 * MIB);
    assert_int_equal(JT_LIMITS_MESSAGE.max_depth, 160);
    assert_true(!JT_LIMITS_MESSAGE.refuse_duplicates && JT_LIMITS_MESSAGE.refuse_unstorable);
}

static void duplicate(const char *text)
{
    expect_text(str_of(text), &loose, ERR_OK);
    expect_text(str_of(text), &strict, ERR_SYNTAX);
}

static void duplicate_keys_are_refused_however_they_are_spelled(void **state)
{
    (void)state;
    duplicate("{\"a\":1,\"a\":2}");
    duplicate("{\"\":1,\"\":2}");
    duplicate("{\"a\":1,\"b\":2,\"a\":1}");
    duplicate("{\"a\":1,\"\\u0061\":2}");
    duplicate("{\"\\u0061\":1,\"a\":2}");
    duplicate("{\"/\":1,\"\\/\":2}");
    duplicate("{\"\\n\":1,\"\\u000a\":2}");
    duplicate("{\"\xf0\x9f\x98\x80\":1,\"\\ud83d\\ude00\":2}");
    duplicate("[{\"x\":{\"a\":1,\"a\":2}}]");
    duplicate("{\"a\":{\"b\":1},\"a\":{}}");
    duplicate("{\"k1\":1,\"k2\":1,\"k3\":1,\"k4\":1,\"k5\":1,\"k6\":1,\"k7\":1,\"k8\":1,\"k9\":1,\"k3\":1}");
    taken("{\"a\":{\"a\":{\"a\":1}},\"b\":{\"a\":1}}");
    taken("[{\"a\":1},{\"a\":1}]");
    taken("{\"a\":1,\"A\":2,\"a \":3,\"aa\":4,\"\":5}");
    taken("{\"\\\\u0061\":1,\"a\":2}");
    /* Not normalised: the same look, not the same key. */
    taken("{\"\xc3\xa9\":1,\"e\xcc\x81\":2}");
}

static void duplicates_are_found_in_objects_of_every_size(void **state)
{
    (void)state;
    for (size_t count = 2; count < 60; count++) {
        for (size_t twin = 0; twin < count; twin += 1 + count / 7) {
            struct buf buf;

            buf_init(&buf, 10000);
            buf_append_char(&buf, '{');
            for (size_t i = 0; i < count; i++)
                buf_printf(&buf, "\"key%zu\":{\"key%zu\":[{}]},", i, i);
            buf.ptr[buf.len - 1] = '}';
            expect_text(buf_str(&buf), &strict, ERR_OK);
            buf.len--;
            buf_printf(&buf, ",\"key%zu\":0}", twin);
            expect_text(buf_str(&buf), &strict, ERR_SYNTAX);
            buf_deinit(&buf);
        }
    }
}

static void faults_tell_byte_and_place(void **state)
{
    (void)state;
    message_of(STR("[1,2"), &strict, "expected ',' or ']' at byte 4, in /1");
    message_of(STR("{\"a\":[1,{\"b/~\":x}]}"), &strict, "expected a value at byte 15, in /a/1/b~1~0");
    message_of(STR("nope"), &strict, "expected a value at byte 0");
    message_of(STR(""), &strict, "expected a value, not the end at byte 0");
    message_of(STR("{\"a\":1,}"), &strict, "expected a key at byte 7, in /a");
    message_of(STR("{\"\\u0061\":01}"), &strict, "number with a leading zero at byte 10, in /a");
    message_of(STR("[1] x"), &strict, "expected the end at byte 4");
    message_of(STR("[\"\\u0000\"]"), &strict, "character U+0000 at byte 2, in /0");
    message_of(STR("{\"a\":{\"b\":{\"x\":1,\"y\":2,\"x\":3}}}"), &strict, "duplicate key 'x' at /a/b, byte 23");
    message_of(STR("{\"x\":1,\"\\u0078\":3}"), &strict, "duplicate key 'x' at the top level, byte 7");
    message_of(STR("[[{\"x\":1,\"x\":3}]]"), &strict, "duplicate key 'x' at /0/0, byte 9");
    message_of(STR("1234567"), &(struct jt_limits){.max_bytes = 6}, "JSON of 7 bytes is larger than the limit of 6");
    message_of(STR("[[1]]"), &(struct jt_limits){.max_bytes = 6, .max_depth = 1},
               "nesting is too deep at byte 1, in /0");
}

static void faults_in_long_keys_give_short_messages_in_valid_utf8(void **state)
{
    struct buf buf;
    struct err err;

    (void)state;
    buf_init(&buf, 100000);
    buf_append_char(&buf, '{');
    for (int k = 0; k < 2; k++) {
        buf_append_str(&buf, k == 0 ? STR("\"") : STR(",\""));
        for (int i = 0; i < 5000; i++)
            buf_append_str(&buf, STR("\xe2\x82\xac"));
        buf_append_str(&buf, STR("\":1"));
    }
    buf_append_char(&buf, '}');
    assert_int_equal(jt_check(buf_str(&buf), &strict, &err), ERR_SYNTAX);
    buf.len--;
    for (int i = 0; i < 2; i++) {
        struct str rest = str_of(err.message);

        assert_true(rest.len < 400);
        while (rest.len > 0) {
            size_t n = utf8_len_at(rest.ptr, rest.len);

            assert_true(n > 0);
            rest.ptr += n;
            rest.len -= n;
        }
        assert_int_equal(jt_check(buf_str(&buf), &loose, &err), ERR_SYNTAX);
    }
    buf_deinit(&buf);
}

static void repaired(const char *text, const char *expect)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(0);
    struct str ret = STR_NONE;
    struct err err = {0};

    if (jt_check_repair(arena, str_of(text), &strict, &ret, &err) != ERR_OK)
        fail_msg("'%s': %s", text, err.message);
    assert_int_equal(ret.len, strlen(expect));
    assert_memory_equal(ret.ptr, expect, ret.len);
    expect_text(ret, &strict, ERR_OK);
    if (strcmp(text, expect) == 0)
        assert_ptr_equal(ret.ptr, text);
}

static void repair_replaces_what_cannot_be_stored_and_nothing_else(void **state)
{
    (void)state;
    repaired("{\"a\":[1,\"\\ud83d\\ude00\\n\"]}", "{\"a\":[1,\"\\ud83d\\ude00\\n\"]}");
    repaired("\"\\u0000\"", "\"\xef\xbf\xbd\"");
    repaired("\"a\\u0000b\\u0000\"", "\"a\xef\xbf\xbd"
                                     "b\xef\xbf\xbd\"");
    repaired("\"\\ud800\"", "\"\xef\xbf\xbd\"");
    repaired("\"\\udc00\\ud800\"", "\"\xef\xbf\xbd\xef\xbf\xbd\"");
    repaired("\"\\ud83d\\ud83d\\ude00\\ude00\"", "\"\xef\xbf\xbd\\ud83d\\ude00\xef\xbf\xbd\"");
    repaired("\"\\\\u0000\\u0000\\\\\"", "\"\\\\u0000\xef\xbf\xbd\\\\\"");
    repaired("{\"k\\ud800\": \"\\u0000\"}", "{\"k\xef\xbf\xbd\": \"\xef\xbf\xbd\"}");
}

static void repair_refuses_the_rest(void **state)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(0);
    static const char *const bad[] = {"1e999", "[1e999,\"\\u0000\"]", "\"\\u0000", "\"\xed\xa0\x80\"",
                                      "{\"a\":1,\"a\":2}",
                                      /* the same key only after repair */
                                      "{\"\\ud800\":1,\"\\ud801\":2}", "{\"\\u0000\":1,\"\xef\xbf\xbd\":2}"};
    struct str ret = STR("untouched");
    struct err err;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(jt_check_repair(arena, str_of(bad[i]), &strict, &ret, &err), ERR_SYNTAX);
    assert_int_equal(jt_check_repair(arena, STR("1e999"), &loose, &ret, &err), ERR_SYNTAX);
    assert_int_equal(jt_check_repair(arena, STR("\"\\u0000\""), &(struct jt_limits){.max_bytes = 7}, &ret, &err),
                     ERR_TOO_LARGE);
    assert_str_eq(ret, "untouched");
}

/* Checks within a time that quadratic work would miss by far, even with sanitizers on a busy machine. */
static void quickly(struct buf *buf, const struct jt_limits *limits, enum err_code expect)
{
    int64_t before = clock_mono().us;
    struct err err;

    assert_false(buf->overflow);
    assert_int_equal(jt_check(buf_str(buf), limits, &err), expect);
    assert_true(clock_mono().us - before < 20 * US_PER_S);
    buf_deinit(buf);
}

static void ten_megabytes_of_digits_take_linear_time(void **state)
{
    struct jt_limits limits = strict;

    (void)state;
    for (int form = 0; form < 4; form++) {
        static const char *const heads[] = {"1", "0.", "1e", "-0.0000"};
        struct buf buf;

        buf_init(&buf, 11 * MIB);
        buf_append_str(&buf, str_of(heads[form]));
        for (size_t i = 0; i < 10 * MIB; i++)
            buf_append_char(&buf, (char)('0' + i % 10));
        limits.refuse_unstorable = false;
        expect_text(buf_str(&buf), &limits, ERR_OK);
        limits.refuse_unstorable = true;
        quickly(&buf, &limits, ERR_SYNTAX);
    }
}

static void a_million_keys_take_linear_time(void **state)
{
    (void)state;
    for (int twin = 0; twin < 2; twin++) {
        struct buf buf;

        buf_init(&buf, 32 * MIB);
        buf_append_char(&buf, '{');
        for (int i = 0; i < 1000000; i++)
            buf_printf(&buf, "%s\"%s%x\":0", i == 0 ? "" : ",", i % 3 == 0 ? "\\u006b" : "k", i);
        if (twin == 1)
            buf_append_str(&buf, STR(",\"k77777\":0"));
        buf_append_char(&buf, '}');
        quickly(&buf, &strict, twin == 1 ? ERR_SYNTAX : ERR_OK);
    }
}

static void many_objects_with_many_keys_each_take_linear_time(void **state)
{
    struct buf buf;

    (void)state;
    buf_init(&buf, 32 * MIB);
    buf_append_char(&buf, '[');
    /* One large object first, so that its table must not be cleared anew for each small one. */
    buf_append_char(&buf, '{');
    for (int i = 0; i < 200000; i++)
        buf_printf(&buf, "%s\"%x\":0", i == 0 ? "" : ",", i);
    buf_append_char(&buf, '}');
    for (int k = 0; k < 50000; k++)
        buf_append_str(&buf, STR(",{\"0\":0,\"1\":0,\"2\":0,\"3\":0,\"4\":0,\"5\":0,\"6\":0,\"7\":0,\"8\":0,\"9\":0}"));
    buf_append_char(&buf, ']');
    quickly(&buf, &strict, ERR_OK);
}

static void a_million_levels_need_no_stack(void **state)
{
    (void)state;
    for (int form = 0; form < 3; form++) {
        struct buf buf;
        struct jt_limits limits = strict;

        limits.max_depth = 1000000;
        buf_init(&buf, 32 * MIB);
        for (int i = 0; i < 1000000; i++)
            buf_append_str(&buf, form == 0 ? STR("[") : STR("{\"a\":"));
        if (form < 2) {
            quickly(&buf, &limits, ERR_SYNTAX);
            continue;
        }
        buf_append_char(&buf, '1');
        for (int i = 0; i < 1000000; i++)
            buf_append_char(&buf, '}');
        quickly(&buf, &limits, ERR_OK);
    }
}

RUN(TEST(every_kind_of_value_stands_alone), TEST(words_are_spelled_exactly), TEST(nothing_is_no_value),
    TEST(a_byte_order_mark_is_refused), TEST(only_one_value_is_taken), TEST(only_four_kinds_of_white_space_count),
    TEST(commas_and_colons_stand_where_they_belong), TEST(brackets_match), TEST(numbers_follow_the_grammar),
    TEST(numbers_beyond_a_double_cannot_be_stored),
    TEST(numbers_with_more_decimals_than_postgresql_keeps_cannot_be_stored),
    TEST(strings_end_and_hold_no_control_characters), TEST(plain_strings_of_any_length_and_alignment_are_taken),
    TEST(escapes_are_those_of_the_grammar), TEST(strings_are_valid_utf8),
    TEST(nul_and_lone_surrogates_cannot_be_stored), TEST(size_is_bounded_to_the_byte),
    TEST(depth_is_bounded_to_the_level), TEST(the_limits_of_the_contract_are_these),
    TEST(duplicate_keys_are_refused_however_they_are_spelled), TEST(duplicates_are_found_in_objects_of_every_size),
    TEST(faults_tell_byte_and_place), TEST(faults_in_long_keys_give_short_messages_in_valid_utf8),
    TEST(repair_replaces_what_cannot_be_stored_and_nothing_else), TEST(repair_refuses_the_rest),
    TEST(ten_megabytes_of_digits_take_linear_time), TEST(a_million_keys_take_linear_time),
    TEST(many_objects_with_many_keys_each_take_linear_time), TEST(a_million_levels_need_no_stack))
