/* Plain paths against libjq: the same values, the same errors in the same words, on generated documents and paths. */
#include "tests/unit/expr/helper.h"
#include <jq.h>
#include <jv.h>
#include <stdio.h>

#define PROGRAMS 40
#define PATHS 60 /* per program: compiling is what costs */
#define DOCUMENTS 30
#define PATH_MAX_BYTES 256

/* As they stand in JSON; the last two are one key. */
static const char *const keys[] = {"a",    "b",   "c d",      "",        "\\\"",     "ü",
                                   "null", "now", "\\u00e9x", "\\\\(x)", "\\u0065q", "eq"};
#define KEYS (sizeof(keys) / sizeof(keys[0]))

/* --- documents --- */

static void write_value(struct buf *out, uint64_t *seed, unsigned depth)
{
    static const char *const scalars[] = {"null", "true",  "false",
                                          "0",    "-1",    "1.50",
                                          "1e3",  "0.1",   "12345678901234567890",
                                          "\"\"", "\"a\"", "\"x\\ny\\u0041\"",
                                          "-0",   "1E-7",  "1.7976931348623157e308"};
    unsigned members = pick(seed, 5);
    unsigned kind = pick(seed, depth == 0 ? 4 : 10);

    if (kind < 4) {
        buf_append_str(out, str_of(scalars[pick(seed, sizeof(scalars) / sizeof(scalars[0]))]));
        return;
    }
    buf_append_char(out, kind < 8 ? '{' : '[');
    for (unsigned i = 0; i < members; i++) {
        buf_append_str(out, i == 0 ? STR(" ") : STR(" ,\n"));
        if (kind < 8) /* the same key twice is meant to happen */
            buf_printf(out, "\"%s\" : ", keys[pick(seed, KEYS)]);
        write_value(out, seed, depth - 1);
    }
    buf_append_char(out, kind < 8 ? '}' : ']');
}

static void write_step(struct buf *out, uint64_t *seed, size_t count)
{
    static const char *const members[] = {"status", "branch", "output", "error", "failed"};

    buf_append_char(out, '{');
    for (size_t i = 0; i < count; i++) {
        buf_printf(out, "%s\"%s\":", i == 0 ? "" : ",", members[i]);
        write_value(out, seed, 3);
    }
    buf_append_char(out, '}');
}

static struct str make_document(struct arena *arena, uint64_t *seed)
{
    CLEANUP(buf_deinit) struct buf out = {0};

    buf_init(&out, 1 << 20);
    buf_append_str(&out, STR("{\"trigger\":"));
    write_value(&out, seed, 2);
    buf_append_str(&out, STR(",\"input\":"));
    write_value(&out, seed, 5);
    buf_append_str(&out, STR(",\"steps\":{\"a\":"));
    write_step(&out, seed, 4);
    buf_append_str(&out, STR(",\"c d\":"));
    write_step(&out, seed, 5);
    buf_append_str(&out, STR("},\"item\":"));
    write_value(&out, seed, 2);
    if (pick(seed, 2) == 0) {
        buf_append_str(&out, STR(",\"output\":"));
        write_value(&out, seed, 3);
    }
    buf_printf(&out, ",\"index\":%s,\"run\":", pick(seed, 2) == 0 ? "null" : "7");
    write_value(&out, seed, 2);
    buf_append_char(&out, '}');
    return str_arena(arena, buf_str(&out));
}

/* --- paths --- */

static bool is_name(const char *key)
{
    return key[0] != '\0' && strspn(key, "abcdefghijklmnopqrstuvwxyz") == strlen(key);
}

static const char *space(uint64_t *seed)
{
    static const char *const spaces[] = {"", "", "", "", "", " ", "\n", "\t ", " # ]\"}\n"};

    return spaces[pick(seed, sizeof(spaces) / sizeof(spaces[0]))];
}

static void write_key(struct buf *out, uint64_t *seed, const char *key, bool first)
{
    switch (pick(seed, is_name(key) ? 5 : 2)) {
    case 0:
        buf_printf(out, "%s.%s\"%s\"", space(seed), space(seed), key);
        break;
    case 1:
        buf_printf(out, "%s%s[%s\"%s\"%s]", first ? "." : "", space(seed), space(seed), key, space(seed));
        break;
    default:
        buf_printf(out, "%s%s.%s", first && pick(seed, 4) == 0 ? ". " : "", space(seed), key);
    }
}

static void write_part(struct buf *out, uint64_t *seed, bool first)
{
    static const char *const numbers[] = {"0", "1", "2", "-1", "-2", "-3", "007", "999999999", "- 1"};

    if (pick(seed, 4) == 0)
        buf_printf(out, "%s[%s%s]", first ? "." : "", space(seed),
                   numbers[pick(seed, sizeof(numbers) / sizeof(numbers[0]))]);
    else
        write_key(out, seed, keys[pick(seed, KEYS)], first);
}

static void make_path(uint64_t *seed, char ret[PATH_MAX_BYTES])
{
    static const char *const roots[] = {"input", "input", "input", "trigger", "item",
                                        "index", "run",   "steps", "output",  "other"};
    static const char *const members[] = {"status", "branch", "output", "error", "failed", "other"};
    CLEANUP(buf_deinit) struct buf out = {0};
    const char *root = roots[pick(seed, sizeof(roots) / sizeof(roots[0]))];
    unsigned parts = pick(seed, 5);

    buf_init(&out, PATH_MAX_BYTES - 1);
    if (pick(seed, 30) == 0) {
        if (pick(seed, 2) == 0)
            buf_append_char(&out, '.');
        else
            write_part(&out, seed, true);
    } else {
        write_key(&out, seed, root, true);
        if (strcmp(root, "steps") == 0 && pick(seed, 5) == 0) {
            parts = 0; /* an unknown step is refused when a document is saved */
        } else if (strcmp(root, "steps") == 0) {
            write_key(&out, seed, pick(seed, 2) == 0 ? "a" : "c d", false);
            if (pick(seed, 5) != 0)
                write_key(&out, seed, members[pick(seed, sizeof(members) / sizeof(members[0]))], false);
        }
        for (unsigned i = 0; i < parts; i++)
            write_part(&out, seed, false);
    }
    assert_false(out.overflow);
    memcpy(ret, buf_str(&out).ptr, out.len + 1);
}

/* --- comparing --- */

static void print_compile_error(void *data, jv message)
{
    (void)data;
    print_message("%s\n", jv_string_value(message));
    jv_free(message);
}

/* [[value] or {"e": message}, ...] of all paths. */
static jq_state *compile_all(char paths[PATHS][PATH_MAX_BYTES])
{
    CLEANUP(buf_deinit) struct buf source = {0};
    jq_state *jq = jq_init();

    buf_init(&source, 1 << 20);
    for (size_t i = 0; i < PATHS; i++)
        buf_printf(&source, "%s (try [%s\n] catch {e: .})", i == 0 ? "[" : ",", paths[i]);
    buf_append_str(&source, STR("]"));
    jq_set_error_cb(jq, print_compile_error, NULL);
    assert_int_equal(jq_compile(jq, source.ptr), 1);
    return jq;
}

static jv native_answer(const struct expr *expr, struct document *d, struct arena *arena)
{
    struct str value;
    struct err err;

    if (expr_eval_native(expr, &d->doc, arena, &value, &err) != EXPR_OK)
        return jv_object_set(jv_object(), jv_string("e"), jv_string(err.message));
    return jv_array_append(jv_array(), jv_parse_sized(value.ptr, (int)value.len));
}

static void compare(const char *path, struct str document, jv expected, jv actual)
{
    if (!jv_equal(jv_copy(expected), jv_copy(actual)))
        fail_msg("%s of " STR_FMT ": jq gives %s, we %s", path, STR_ARG(document),
                 jv_string_value(jv_dump_string(expected, 0)), jv_string_value(jv_dump_string(actual, 0)));
    jv_free(expected);
    jv_free(actual);
}

static void one_program(uint64_t *seed)
{
    static char paths[PATHS][PATH_MAX_BYTES];
    struct compiled compiled[PATHS];
    jq_state *jq;

    for (size_t i = 0; i < PATHS; i++) {
        make_path(seed, paths[i]);
        compile_expr(&compiled[i], paths[i]);
        if (!compiled[i].good || !compiled[i].template.exprs[0].native)
            fail_msg("not taken for a plain path: %s", paths[i]);
    }
    jq = compile_all(paths);
    for (size_t i = 0; i < DOCUMENTS; i++) {
        CLEANUP(arena_cleanup) struct arena *arena = arena_new(0);
        struct str json = make_document(arena, seed);
        struct document d;
        jv all;

        document_init(&d, arena, json);
        d.doc.ctx = &d;
        jq_start(jq, jv_parse_sized(json.ptr, (int)json.len), 0);
        all = jq_next(jq);
        assert_true(jv_is_valid(all));
        for (int p = 0; p < PATHS; p++)
            compare(paths[p], json, jv_array_get(jv_copy(all), p),
                    native_answer(&compiled[p].template.exprs[0], &d, arena));
        jv_free(all);
    }
    jq_teardown(&jq);
    for (size_t i = 0; i < PATHS; i++)
        compiled_free(&compiled[i]);
}

static void plain_paths_answer_as_jq_does(void **state)
{
    uint64_t seed = 1;

    (void)state;
    for (size_t i = 0; i < PROGRAMS; i++)
        one_program(&seed);
}

/* What is no plain path must not be taken for one, whether jq takes it or not. */
static void what_only_looks_like_a_plain_path_is_left_to_jq(void **state)
{
    static const char *const sources[] = {".a.[\"b\"]",
                                          "..",
                                          ".a?",
                                          ".[1.5]",
                                          ".[1:2]",
                                          ".[]",
                                          ".a b",
                                          ".[\"a\" \"b\"]",
                                          ".[\"\\(1)\"]",
                                          ".a | .b",
                                          ".[\"\\x\"]",
                                          "a.b",
                                          ".a\r.b",
                                          ".[1e0]",
                                          ".[--1]",
                                          "-.a",
                                          ".[.a]",
                                          ".[9999999999]",
                                          ".a,.b",
                                          "(.a)",
                                          "[.a]",
                                          ".[\"a\"]]",
                                          ".[\"\\ud800\"]",
                                          ". a",
                                          "[0]",
                                          "\"a\"",
                                          ".a..b",
                                          ".[-]",
                                          "@text",
                                          "$x.a"};

    (void)state;
    for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
        struct compiled c;

        compile_expr(&c, sources[i]);
        if (c.good && c.template.exprs[0].native)
            fail_msg("taken for a plain path: %s", sources[i]);
        compiled_free(&c);
    }
}

RUN(TEST(plain_paths_answer_as_jq_does), TEST(what_only_looks_like_a_plain_path_is_left_to_jq))
