/* Words that are refused, and what an expression is found to read. */
#include "tests/unit/expr/helper.h"
#include <stdio.h>

/* "native all input trigger item steps: a b", only what holds. */
static const char *reads(const char *source)
{
    static char text[4096];
    struct compiled c;
    const struct expr *e;
    size_t len;

    compile_expr(&c, source);
    text[0] = '\0';
    if (!c.good) {
        snprintf(text, sizeof(text), "%s", c.faults);
    } else {
        e = &c.template.exprs[0];
        snprintf(text, sizeof(text), "%s%s%s%s%s%s", e->native ? "native " : "", e->all_steps ? "all " : "",
                 e->uses_input ? "input " : "", e->uses_trigger ? "trigger " : "", e->uses_item ? "item " : "",
                 e->uses_output ? "output " : "");
        for (size_t i = 0; i < e->step_count; i++) {
            len = strlen(text);
            snprintf(text + len, sizeof(text) - len, "%s" STR_FMT, i == 0 ? "steps: " : " ", STR_ARG(e->steps[i]));
        }
    }
    compiled_free(&c);
    return text;
}

static const char whole[] = "all input trigger item output ";

static void every_refused_word_is_refused_wherever_it_is_called(void **state)
{
    static const char *const words[] = {"now",
                                        "localtime",
                                        "strflocaltime(\"%Y\")",
                                        "input",
                                        "inputs",
                                        "env",
                                        "modulemeta",
                                        "get_search_list",
                                        "debug",
                                        "stderr",
                                        "halt",
                                        "halt_error",
                                        "$ENV",
                                        "$ ENV",
                                        "$__loc__",
                                        "$__prog_args",
                                        "$ENV.PATH",
                                        "input_line_number",
                                        "input_filename",
                                        "halt_error(1)",
                                        "get_jq_origin",
                                        "get_prog_origin"};
    static const char *const places[] = {"%s",
                                         ".a | %s",
                                         "[%s]",
                                         "{a: %s}",
                                         "\"x\\(%s)\"",
                                         "def f: %s; f",
                                         "map(%s)",
                                         "{(%s): 1}",
                                         "%s as $x | $x",
                                         "@base64 \"\\(%s)\"",
                                         "if %s then 1 else 2 end",
                                         "1,%s",
                                         "# c\n%s"};

    (void)state;
    for (size_t w = 0; w < sizeof(words) / sizeof(words[0]); w++) {
        for (size_t p = 0; p < sizeof(places) / sizeof(places[0]); p++) {
            char source[128];
            const char *hole = strstr(places[p], "%s");

            snprintf(source, sizeof(source), "%.*s%s%s", (int)(hole - places[p]), places[p], words[w], hole + 2);
            assert_non_null(strstr(reads(source), "cannot be used in an expression"));
        }
    }
    assert_string_equal(reads("import \"a\" as a; 1"), ": 'import' cannot be used in an expression\n");
    assert_string_equal(reads("include \"a\"; 1"), ": 'include' cannot be used in an expression\n");
    assert_string_equal(reads("module {}; 1"), ": 'module' cannot be used in an expression\n");
}

static void the_same_words_as_names_are_fine(void **state)
{
    static const char *const sources[] = {".now",
                                          ".input.now",
                                          "{input: 1}",
                                          "{now: 1, env: 2, debug: {halt: 3}}",
                                          "\"now\"",
                                          ".[\"input\"]",
                                          ".a as $input | $input",
                                          "\"input \\(.a) now\"",
                                          ".a | {now, input}",
                                          "# now\n1",
                                          ".input.import",
                                          ".a | .env.debug",
                                          ".nowhere",
                                          ".a | .\"halt\"",
                                          "{\"now\": 1, @text \"env\": 2}",
                                          ".a as {now: $x} | $x",
                                          "\"\\\"\\\\(now)\""};

    (void)state;
    for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++)
        assert_null(strstr(reads(sources[i]), "cannot"));
}

static void literal_paths_name_what_is_read(void **state)
{
    (void)state;
    assert_string_equal(reads(".input.a"), "native input ");
    assert_string_equal(reads(".trigger"), "native trigger ");
    assert_string_equal(reads(".item[0]"), "native item ");
    assert_string_equal(reads(".run.id"), "native ");
    assert_string_equal(reads(".output.done"), "native output ");
    assert_string_equal(reads(".input.output | .output"), "input ");
    assert_string_equal(reads(".steps.a.output.x"), "native steps: a");
    assert_string_equal(reads(".steps[\"a b\"]"), "native steps: a b");
    assert_string_equal(reads(".[\"steps\"][\"a\"]"), "native steps: a");
    assert_string_equal(reads(".\"steps\".\"a\""), "native steps: a");
    assert_string_equal(reads(". .steps .a"), "native steps: a");
    assert_string_equal(reads(".steps"), "native all ");
    assert_string_equal(reads("."), "native all input trigger item output ");
    assert_string_equal(reads(".input.steps.a"), "native input ");
    assert_string_equal(reads(".steps.a.output + .steps.b.output + .steps.a.status"), "steps: a b");
}

static void programs_read_what_stands_where_dot_is_the_document(void **state)
{
    (void)state;
    assert_string_equal(reads(".input.items | map(.steps) | length"), "input ");
    assert_string_equal(reads(".steps.a.output | .steps.b"), "steps: a");
    assert_string_equal(reads("(.input | .x), .steps.b.output"), "input steps: b");
    assert_string_equal(reads(".input | .x, .steps.b"), "input ");
    assert_string_equal(reads("{a: .input | .x, b: .steps.b.output}"), "input steps: b");
    assert_string_equal(reads("[.input.list[] | select(.ok) | {id, q: .qty}]"), "input ");
    assert_string_equal(reads("if .steps.a.output | .ok then .steps.b.output | .x else .item end"), "item steps: a b");
    assert_string_equal(reads(".input.a as $x | .steps.b.output | . + $x"), "input steps: b");
    assert_string_equal(reads("reduce .steps.a.output[] as $x (0; . + $x.steps)"), "steps: a");
    assert_string_equal(reads("foreach .input[] as $x (.item; . + $x; [., .trigger])"), "input item ");
    assert_string_equal(reads("label $out | .input[] | if . > 3 then ., break $out else . end"), "input ");
    assert_string_equal(reads("try .steps.a.output.x catch ."), "steps: a");
    assert_string_equal(reads("\"\\(.input.a) \\(.steps.b.output | .c)\""), "input steps: b");
    assert_string_equal(reads(".input[.steps.a.output]"), "input steps: a");
    assert_string_equal(reads("limit(3; .input[])"), "input ");
    assert_string_equal(reads("{input, item}"), "input item ");
    assert_string_equal(reads("{\"input\"}"), "input ");
    assert_string_equal(reads("{\"input\": 1, (\"k\\(.item)\"): 2, \"k\\(.item)\": 3}"), "item ");
    assert_string_equal(reads(".input.a? // .item"), "input item ");
    assert_string_equal(reads("@base64 \"x\\(.input)\""), "input ");
    assert_string_equal(reads("[1, true, null, infinite]"), "");
}

static void where_it_is_not_clear_everything_is_read(void **state)
{
    static const char *const sources[] = {". as $d | $d.steps.a",
                                          ".[]",
                                          "..",
                                          "keys",
                                          "to_entries",
                                          "select(.input.a)",
                                          "map_values(1)",
                                          "getpath([\"steps\", \"a\"])",
                                          "def f: .steps.a; f",
                                          ".input.a = 3",
                                          ".input.a |= . + 1",
                                          "@json",
                                          "{@text \"steps\"}",
                                          "{\"a\\(1)\"}",
                                          "[.]",
                                          "length",
                                          "first",
                                          ".[\"a\" + \"b\"]",
                                          "reduce .input as $x (.; .)",
                                          "with_entries(.value)",
                                          "{steps: .}",
                                          ".. | .steps?"};

    (void)state;
    for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
        const char *text = reads(sources[i]);

        if (strncmp(text, whole, strlen(whole)) != 0)
            fail_msg("%s reads: %s", sources[i], text);
    }
    assert_string_equal(reads(".steps | keys"), "all ");
    assert_string_equal(reads(".steps[.input.name]"), "all input ");
    assert_string_equal(reads(".steps[]"), "all ");
    assert_string_equal(reads("{steps}"), "all ");
    assert_string_equal(reads(".steps as $s | $s.a.output"), "all ");
}

RUN(TEST(every_refused_word_is_refused_wherever_it_is_called), TEST(the_same_words_as_names_are_fine),
    TEST(literal_paths_name_what_is_read), TEST(programs_read_what_stands_where_dot_is_the_document),
    TEST(where_it_is_not_clear_everything_is_read))
