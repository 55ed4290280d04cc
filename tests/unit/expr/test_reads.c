/* What an expression is said to read is enough: generated programs give the same on the document they would get as on
 * the whole one. */
#include "tests/unit/expr/helper.h"
#include <jq.h>
#include <jv.h>
#include <stdio.h>

#define PROGRAMS 250

/* libjq leaks where programs do not compile or fail; not what is tested here. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libjq";
}

static const char document[] =
    "{\"trigger\":{\"steps\":{\"a\":[1]},\"k\":\"t\"},"
    "\"input\":{\"a\":[3,1,2],\"steps\":{\"a\":{\"output\":5}},\"input\":{\"a\":[]},\"k\":\"x\",\"n\":4},"
    "\"steps\":{\"a\":{\"status\":\"succeeded\",\"branch\":null,\"output\":{\"a\":[1,2],\"n\":1,\"steps\":9},\"error\":"
    "null},"
    "\"b\":{\"status\":\"failed\",\"branch\":null,\"output\":{\"a\":[7],\"n\":2,\"input\":3},\"error\":{\"k\":\"e\"}}},"
    "\"item\":{\"a\":[8],\"n\":6,\"k\":\"i\"},\"output\":{\"a\":[4],\"k\":\"o\"},\"index\":0,\"run\":{\"id\":\"r\"}}";

static const char *const terms[] = {
    ".input",
    ".steps",
    ".item",
    ".trigger",
    ".steps.a.output",
    ".steps[\"b\"].output",
    ".[\"steps\"]",
    ".\"input\"",
    ".input.a",
    ".input.steps",
    ".steps.a",
    ".a",
    ".n",
    ".k",
    ".output",
    ".output.a",
    "{output}",
    ".",
    "..",
    ".[]?",
    "1",
    "\"s\"",
    "null",
    "true",
    "keys?",
    "length?",
    "tojson",
    "to_entries?",
    "add?",
    "$x",
    "{input, item}",
    "{steps}",
    "{\"trigger\"}",
    "{k: .k?}",
    "{a: 1}",
    "first?",
    "empty",
    ".steps.b.error.k",
    ". .item",
    ".index",
    "type",
    "@json",
    "not",
    ".input.n",
    "{\"steps\":2}",
    "any?",
};

/* %1 and %2 are programs. */
static const char *const forms[] = {
    "%1 | %2",
    "%1 | %2",
    "%1, %2",
    "[%1] | %2",
    "{a: (%1), k: (%2)}",
    "{a: 1, input: [%1]}",
    "(%1)?",
    "(%1) as $x | %2",
    "[%1] as [$x] | %2",
    "if %1 then %2 else .item end",
    "if .input then %1 else %2 end",
    "(%1) // (%2)",
    "[%1, (%2)]",
    "try (%1) catch .",
    "try error(\"x\") catch (%1)",
    "reduce (%1) as $x (0; %2)",
    "reduce .input.a[] as $x ((%1); %2)",
    "foreach (%1) as $x (%2; .; [., $x])",
    "label $out | (%1), (if %2 then break $out else 1 end)",
    "map(%1)?",
    "[limit(2; %1)] | %2",
    "first(%1)",
    "\"a \\(%1) \\(.item.k)\"",
    "def f: %1; %2",
    "def f(g): g | %1; f(%2)",
    "(%1) == (%2)",
    "(%1) and (%2)",
    ".input[(%1 | tostring)]?",
    "(%1).n?",
    "(%1)[\"steps\"]?",
    "((%1) + (%2))?",
    "select(%1)",
    "[.[]? | %1]",
    "isempty(%1)",
    "{(%1 | tostring): (%2)}",
    "{a: (%1)} | .a | %2",
    "(.input.n = (%1))?",
    "(.item.n |= (%1))?",
    "path(%1)?",
    "getpath([\"steps\", \"a\"])?, (%1)",
    "{\"k\\(%1)\": 1, input}",
    "@text \"\\(%1)\"",
    "(%1) as {a: $x} ?// [$x] | %2",
    "[%1] | sort_by(%2)?",
    "-(%1)?",
};

static void make_program(struct buf *out, uint64_t *seed, unsigned depth)
{
    const char *form;

    if (depth == 0 || pick(seed, 5) == 0) {
        buf_append_str(out, str_of(terms[pick(seed, sizeof(terms) / sizeof(terms[0]))]));
        return;
    }
    form = forms[pick(seed, sizeof(forms) / sizeof(forms[0]))];
    for (; *form != '\0'; form++) {
        if (*form == '%')
            make_program(out, seed, depth - 1);
        else if (form[0] != '1' && form[0] != '2')
            buf_append_char(out, *form);
        else if (form[-1] != '%')
            buf_append_char(out, *form);
    }
}

static void ignore_message(void *data, jv message)
{
    (void)data;
    jv_free(message);
}

/* Up to 50 values, then the error, as one list. */
static jv run(jq_state *jq, struct str json)
{
    jv all = jv_array();
    jv value;

    jq_start(jq, jv_parse_sized(json.ptr, (int)json.len), 0);
    for (int i = 0; i < 50; i++) {
        value = jq_next(jq);
        if (!jv_is_valid(value)) {
            all = jv_array_append(all, jv_array_append(jv_array(), jv_invalid_get_msg(value)));
            return all;
        }
        all = jv_array_append(all, value);
    }
    return all;
}

/* Does the program compile and, after all, read less than everything? */
static bool compare(struct str source)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(0);
    CLEANUP(buf_deinit) struct buf part = {0};
    struct compiled c;
    struct document d;
    struct err err;
    jq_state *jq = jq_init();
    bool counts;

    buf_init(&part, 1 << 20);
    compile_expr(&c, source.ptr);
    assert_true(c.good);
    document_init(&d, arena, str_of(document));
    assert_int_equal(expr_document(&c.template.exprs[0], &d.doc, 1 << 20, &part, &err), EXPR_OK);
    jq_set_error_cb(jq, ignore_message, NULL);
    counts = jq_compile(jq, source.ptr) != 0;
    if (counts) {
        jv whole = run(jq, str_of(document));
        jv partial = run(jq, buf_str(&part));

        if (!jv_equal(jv_copy(whole), jv_copy(partial)))
            fail_msg("%s: %s of the whole, %s of " STR_FMT, source.ptr, jv_string_value(jv_dump_string(whole, 0)),
                     jv_string_value(jv_dump_string(partial, 0)), STR_ARG(buf_str(&part)));
        jv_free(whole);
        jv_free(partial);
        counts = !c.template.exprs[0].all_steps || !c.template.exprs[0].uses_trigger;
    }
    jq_teardown(&jq);
    compiled_free(&c);
    return counts;
}

static void programs_give_the_same_on_what_they_are_said_to_read(void **state)
{
    uint64_t seed = 7;
    unsigned partial = 0;

    (void)state;
    for (unsigned i = 0; i < PROGRAMS; i++) {
        CLEANUP(buf_deinit) struct buf source = {0};

        buf_init(&source, 1 << 16);
        if (pick(&seed, 2) == 0) /* else $x is unknown to most of them */
            buf_append_str(&source, STR(".input.n as $x | "));
        make_program(&source, &seed, 3);
        if (source.len < 8000)
            partial += compare(buf_str(&source)) ? 1 : 0;
    }
    assert_true(partial > PROGRAMS / 20); /* or the test would prove nothing */
}

RUN(TEST(programs_give_the_same_on_what_they_are_said_to_read))
