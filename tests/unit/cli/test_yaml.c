/* YAML 1.2, core schema, to JSON. */
#include "cli/yaml.h"
#include "common/base/json_text.h"
#include "tests/unit/base/test.h"

static void expect(const char *yaml, const char *json)
{
    CLEANUP(buf_deinit) struct buf out = {0};
    struct err err = {0};

    buf_init(&out, YAML_MAX_BYTES);
    if (yaml_to_json(str_of(yaml), &out, &err) != ERR_OK)
        fail_msg("%s: %s", yaml, err.message);
    assert_string_equal(out.ptr, json);
    assert_int_equal(jt_check(buf_str(&out), &JT_LIMITS_MESSAGE, &err), ERR_OK);
}

static void refuse(const char *yaml, const char *message)
{
    CLEANUP(buf_deinit) struct buf out = {0};
    struct err err = {0};

    buf_init(&out, YAML_MAX_BYTES);
    assert_int_not_equal(yaml_to_json(str_of(yaml), &out, &err), ERR_OK);
    if (strstr(err.message, message) == NULL)
        fail_msg("%s: '%s' is not in '%s'", yaml, message, err.message);
}

static void plain_scalars_mean_what_the_core_schema_says(void **state)
{
    (void)state;
    expect("[null, Null, NULL, ~, ]", "[null,null,null,null]");
    expect("a:\nb: ~", "{\"a\":null,\"b\":null}");
    expect("[true, True, TRUE, false, False, FALSE]", "[true,true,true,false,false,false]");
    expect("[yes, no, on, off, y, n, tRUE, nULL, Yes]",
           "[\"yes\",\"no\",\"on\",\"off\",\"y\",\"n\",\"tRUE\",\"nULL\",\"Yes\"]");
    expect("[2026-11-21, 12:30, 1_000, 0b11, 1.2.3, 0x, 0o8, 0xg, +, ., 1e, e5]",
           "[\"2026-11-21\",\"12:30\",\"1_000\",\"0b11\",\"1.2.3\",\"0x\",\"0o8\",\"0xg\",\"+\",\".\",\"1e\","
           "\"e5\"]");
}

static void numbers_stay_as_written_where_json_can_say_them(void **state)
{
    (void)state;
    expect("[0.1, 0.10, 1.0, 1e3, 1E+03, -0, -0.0, 12345678901234567890123, 0.30000000000000004]",
           "[0.1,0.10,1.0,1e3,1E+03,-0,-0.0,12345678901234567890123,0.30000000000000004]");
    expect("[+1, 007, 00, .5, -.5, 5., +.5e1, -01.50, 1.e2, 0o17, 0x1F, 0xff, 0xFFFFFFFFFFFFFFFF]",
           "[1,7,0,0.5,-0.5,5,0.5e1,-1.50,1e2,15,31,255,18446744073709551615]");
    refuse("a: .inf", "line 1: infinity and NaN have no place in JSON");
    refuse("a: 1\nb: -.INF", "line 2: infinity");
    refuse("[.nan]", "NaN");
    refuse("a: 0x10000000000000000", "line 1: the number has more than 64 bits");
    refuse("a: 1e999", "line 1: the number is beyond what JSON can carry");
}

static void strings_keep_their_text(void **state)
{
    (void)state;
    expect("'1'", "\"1\"");
    expect("\"a\\tb\\u00e9\\x41\\n\"", "\"a\\tb\xc3\xa9"
                                       "A\\n\"");
    expect("'it''s'", "\"it's\"");
    expect("a: |\n  one\n   two\n\n  three\nb: >-\n  folded\n  text\n",
           "{\"a\":\"one\\n two\\n\\nthree\\n\",\"b\":\"folded text\"}");
    expect("a: ${ .input.name }", "{\"a\":\"${ .input.name }\"}");
    expect("Zo\xc3\xab: \xf0\x9f\x98\x80", "{\"Zo\xc3\xab\":\"\xf0\x9f\x98\x80\"}");
    expect("a: !!str 1\nb: ! 2\nc: !!int '3'\nd: !!map {}\ne: !!seq []",
           "{\"a\":\"1\",\"b\":\"2\",\"c\":3,\"d\":{},\"e\":[]}");
    refuse("a: !!binary aGk=", "line 1: only the tags of YAML's core schema");
    refuse("!mine {a: 1}", "only the tags");
}

static void collections_keep_their_order(void **state)
{
    (void)state;
    expect("b: 1\na:\n- x\n- {z: 1, y: [2]}\n", "{\"b\":1,\"a\":[\"x\",{\"z\":1,\"y\":[2]}]}");
    expect("needs: {large: [true]}\n1: one\nnull: none\n",
           "{\"needs\":{\"large\":[true]},\"1\":\"one\",\"null\":\"none\"}");
    expect("{\"a\": [1, {\"b\": null}], \"c\": \"d\"}", "{\"a\":[1,{\"b\":null}],\"c\":\"d\"}");
    expect("# comment\n---\na: 1 # more\n...\n", "{\"a\":1}");
    expect("base: &b {x: 1}\none: *b\n<<: *b\n", "{\"base\":{\"x\":1},\"one\":{\"x\":1},\"<<\":{\"x\":1}}");
    refuse("? [a]\n: 1", "line 1: a key must be a text");
    refuse("a: 1\nb: 2\na: 3", "line 3");
    refuse("a: 1\n---\nb: 2\n", "line 3: a second document begins; one a file");
}

static void what_is_no_yaml_is_told_by_line(void **state)
{
    (void)state;
    refuse("", "is empty");
    refuse("# nothing\n", "is empty");
    refuse("a: 1\nb: [1, 2\nc: 3", "line");
    refuse("a: 1\n\tb: 2", "line 1: invalid multiline plain key");
    refuse("a: *nowhere", "line 1");
    refuse("a: \"b", "line 1");
    refuse("a: \xff", "byte 3 is not UTF-8 text");
}

/* Aliases that refer to what they are part of, or that multiply, end within the bounds. */
static void aliases_are_bounded(void **state)
{
    (void)state;
    refuse("a: &a [*a]", "nested too deep");
    refuse("a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
           "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n"
           "f: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f,*f,*f]\n",
           "grows beyond 4 MiB");
}

static void pointers_have_lines(void **state)
{
    static const char yaml[] = "name: x\n"           /* 1 */
                               "steps:\n"            /* 2 */
                               "  a/b:\n"            /* 3 */
                               "    call: http\n"    /* 4 */
                               "    needs: [one,\n"  /* 5 */
                               "      two]\n"        /* 6 */
                               "  c: {call: noop,\n" /* 7 */
                               "      wiht: {}}\n"   /* 8 */
                               "  list:\n"           /* 9 */
                               "  - x: 1\n"          /* 10 */
                               "  - y: 2\n";         /* 11 */

    (void)state;
    assert_int_equal(yaml_line(str_of(yaml), STR("")), 1);
    assert_int_equal(yaml_line(str_of(yaml), STR("/steps/a~1b")), 3);
    assert_int_equal(yaml_line(str_of(yaml), STR("/steps/a~1b/call")), 4);
    assert_int_equal(yaml_line(str_of(yaml), STR("/steps/a~1b/needs/1")), 6);
    assert_int_equal(yaml_line(str_of(yaml), STR("/steps/c/wiht")), 8);
    assert_int_equal(yaml_line(str_of(yaml), STR("/steps/list/1/y")), 11);
    /* A missing field: the line of what should have it. */
    assert_int_equal(yaml_line(str_of(yaml), STR("/steps/a~1b/with/url")), 3);
    assert_int_equal(yaml_line(str_of(yaml), STR("/nothing")), 1);
    assert_int_equal(yaml_line(STR("{\n \"a\": {\n  \"b\": 1}}"), STR("/a/b")), 3);
    assert_int_equal(yaml_line(STR("a: ["), STR("/a")), 0);
}

static void json_is_written_as_yaml_that_means_the_same(void **state)
{
    static const struct {
        const char *json, *yaml;
    } rows[] = {
        {"{}", "{}\n"},
        {"[]", "[]\n"},
        {"null", "null\n"},
        {"0.10", "0.10\n"},
        {"\"a b\"", "a b\n"},
        {"\"\"", "\"\"\n"},
        {"{\"a\":1,\"b\":[],\"c\":{}}", "a: 1\nb: []\nc: {}\n"},
        {"{\"a\":{\"b\":{\"c\":[1,\"x\"]}}}", "a:\n  b:\n    c:\n      - 1\n      - x\n"},
        {"[[1,2],[{\"a\":1,\"b\":2}]]", "- - 1\n  - 2\n- - a: 1\n    b: 2\n"},
        {"[{\"a\":{\"b\":1}},3]", "- a:\n    b: 1\n- 3\n"},
        /* what might be taken for something else stays a string of JSON */
        {"[\"yes\",\"No\",\"null\",\"1\",\"1e3\",\"0x1f\",\"2026-11-21\",\"-\",\"- a\",\"a: b\",\"a "
         "#b\",\"&a\",\"~\",\".5\"]",
         "- \"yes\"\n- \"No\"\n- \"null\"\n- \"1\"\n- \"1e3\"\n- \"0x1f\"\n- \"2026-11-21\"\n- \"-\"\n- \"- a\"\n- "
         "\"a: b\"\n"
         "- \"a #b\"\n- \"&a\"\n- \"~\"\n- \".5\"\n"},
        {"[\"a \",\" a\",\"a  b\",\"a\\nb\",\"\\u001b[2J\"]",
         "- \"a \"\n- \" a\"\n- \"a  b\"\n- \"a\\nb\"\n- \"\\u001b[2J\"\n"},
        {"{\"yes\":1,\"1\":2,\"a b\":3,\"each[0].go\":4}", "\"yes\": 1\n\"1\": 2\na b: 3\n\"each[0].go\": 4\n"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        CLEANUP(buf_deinit) struct buf out = {0};
        buf_init(&out, YAML_MAX_BYTES);
        yaml_from_json(str_of(rows[i].json), &out);
        assert_string_equal(out.ptr, rows[i].yaml);
        expect(rows[i].yaml, rows[i].json);
    }
    {
        CLEANUP(buf_deinit) struct buf out = {0};
        buf_init(&out, YAML_MAX_BYTES);
        yaml_from_json(STR("[\"\\ud83d\\ude00\"]"), &out);
        assert_string_equal(out.ptr, "- \"\xf0\x9f\x98\x80\"\n");
    }
}

RUN(TEST(plain_scalars_mean_what_the_core_schema_says), TEST(numbers_stay_as_written_where_json_can_say_them),
    TEST(strings_keep_their_text), TEST(collections_keep_their_order), TEST(what_is_no_yaml_is_told_by_line),
    TEST(aliases_are_bounded), TEST(pointers_have_lines), TEST(json_is_written_as_yaml_that_means_the_same))
