/* Our checker and reader against jansson's, on generated documents and on mutations of them. ROPEWALK_TEST_SEED
 * repeats a run, ROPEWALK_TEST_ROUNDS makes it longer. */
#include "common/base/json_text.h"
#include "tests/unit/base/test.h"
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t random_state;

static uint32_t rnd(uint32_t below)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 32) % below;
}

static const char *pick(const char *const *from, size_t count)
{
    return from[rnd((uint32_t)count)];
}
#define PICK(from) pick((from), sizeof(from) / sizeof((from)[0]))

static void gen_space(struct buf *out)
{
    static const char *const spaces[] = {"", "", "", "", " ", "\n", "\t ", "\r\n"};

    buf_append_str(out, str_of(PICK(spaces)));
}

static void gen_string(struct buf *out)
{
    static const char *const parts[] = {"a",
                                        "b",
                                        "ab",
                                        "key",
                                        "\\n",
                                        "\\\"",
                                        "\\\\",
                                        "\\/",
                                        "\\u0061",
                                        "\\u00e9",
                                        "\xc3\xa9",
                                        "\xe2\x82\xac",
                                        "\\ud83d\\ude00",
                                        "\xf0\x9f\x98\x80",
                                        "\\u0000",
                                        "\\ud800",
                                        "\\udc00",
                                        "plain text that is somewhat longer",
                                        "\x7f",
                                        "\\uFFFF",
                                        "{",
                                        "]",
                                        ",",
                                        ":"};
    uint32_t count = rnd(4);

    buf_append_char(out, '"');
    for (uint32_t i = 0; i < count; i++)
        buf_append_str(out, str_of(rnd(20) == 0 ? PICK(parts) : parts[rnd(14)]));
    buf_append_char(out, '"');
}

static void gen_number(struct buf *out)
{
    static const char *const numbers[] = {"0",
                                          "-0",
                                          "1",
                                          "-1",
                                          "0.5",
                                          "1e3",
                                          "1E-3",
                                          "1.25e+10",
                                          "12345678901234567890",
                                          "9223372036854775807",
                                          "-9223372036854775808",
                                          "0.1",
                                          "1e308",
                                          "1e309",
                                          "4.9e-324",
                                          "1e-400",
                                          "1.7976931348623159e308",
                                          "100000000000000000000"};

    if (rnd(2) == 0)
        buf_printf(out, "%d", (int)rnd(2000) - 1000);
    else
        buf_append_str(out, str_of(PICK(numbers)));
}

static void gen_value(struct buf *out, unsigned depth)
{
    static const char *const words[] = {"null", "true", "false"};
    uint32_t kind = rnd(depth > 6 ? 6 : 10);
    uint32_t count = rnd(5);

    gen_space(out);
    if (kind < 2) {
        buf_append_str(out, str_of(PICK(words)));
    } else if (kind < 4) {
        gen_number(out);
    } else if (kind < 6) {
        gen_string(out);
    } else {
        buf_append_char(out, kind < 8 ? '{' : '[');
        for (uint32_t i = 0; i < count; i++) {
            if (i > 0)
                buf_append_char(out, ',');
            if (kind < 8) {
                gen_space(out);
                gen_string(out);
                gen_space(out);
                buf_append_char(out, ':');
            }
            gen_value(out, depth + 1);
        }
        gen_space(out);
        buf_append_char(out, kind < 8 ? '}' : ']');
    }
    gen_space(out);
}

static void mutate(struct buf *text)
{
    static const char *const tokens[] = {"[",     "]",
                                         "{",     "}",
                                         ",",     ":",
                                         "\"",    "\\",
                                         "\\u",   "0",
                                         "1",     "-",
                                         ".",     "e",
                                         "null",  "true",
                                         " ",     "\n",
                                         "\x01",  "\x80",
                                         "\xc3",  "\xed\xa0\x80",
                                         "\xff",  "\xef\xbb\xbf",
                                         "\"a\"", "\"a\":1,",
                                         "1e999", "/",
                                         "'",     "\xe2\x82"};
    struct buf out;
    struct str old = buf_str(text);
    size_t at = rnd((uint32_t)old.len + 1);
    size_t len = rnd(4) == 0 ? rnd(12) : 1;

    if (len > old.len - at)
        len = old.len - at;
    buf_init(&out, text->max);
    buf_append(&out, old.ptr, at);
    switch (rnd(5)) {
    case 0: /* take away */
        at += len;
        break;
    case 1: /* insert a token */
        buf_append_str(&out, str_of(PICK(tokens)));
        break;
    case 2: /* repeat */
        buf_append(&out, old.ptr + at, len);
        break;
    case 3: /* any byte */
        buf_append_char(&out, (char)rnd(256));
        at += at < old.len ? 1 : 0;
        break;
    default: /* cut */
        at = old.len;
        break;
    }
    buf_append(&out, old.ptr + at, old.len - at);
    buf_deinit(text);
    *text = out;
}

static void compare(struct str value, json_t *json, struct arena *arena);

static void compare_members(struct str value, json_t *json, struct arena *arena)
{
    struct jt_iter it;
    const char *key;
    json_t *member;

    assert_int_equal(jt_count(value), json_object_size(json));
    jt_iter_init(&it, value);
    json_object_foreach(json, key, member)
    {
        struct str ours;

        assert_true(jt_next(&it));
        ours = jt_key(&it, arena);
        assert_true(str_is(ours, key));
        compare(it.value, member, arena);
        assert_ptr_equal(jt_get(value, key).ptr, it.value.ptr);
    }
    assert_false(jt_next(&it));
}

static void compare_elements(struct str value, json_t *json, struct arena *arena)
{
    struct jt_iter it;

    assert_int_equal(jt_count(value), json_array_size(json));
    jt_iter_init(&it, value);
    for (size_t i = 0; i < json_array_size(json); i++) {
        assert_true(jt_next(&it));
        assert_int_equal(it.index, i);
        compare(it.value, json_array_get(json, i), arena);
    }
    assert_false(jt_next(&it));
}

static void compare(struct str value, json_t *json, struct arena *arena)
{
    struct str s;
    double n;

    if (json == NULL) {
        fail_msg("jansson has nothing for " STR_FMT, STR_ARG(value));
        return;
    }
    switch (json_typeof(json)) {
    case JSON_NULL:
        assert_int_equal(jt_type(value), JT_NULL);
        break;
    case JSON_TRUE:
        assert_int_equal(jt_type(value), JT_TRUE);
        break;
    case JSON_FALSE:
        assert_int_equal(jt_type(value), JT_FALSE);
        break;
    case JSON_STRING:
        assert_true(jt_string(value, arena, &s));
        assert_int_equal(s.len, json_string_length(json));
        assert_memory_equal(s.ptr, json_string_value(json), s.len);
        break;
    case JSON_INTEGER:
    case JSON_REAL:
        assert_true(jt_f64(value, &n));
        assert_true(n == json_number_value(json));
        break;
    case JSON_ARRAY:
        compare_elements(value, json, arena);
        break;
    case JSON_OBJECT:
        compare_members(value, json, arena);
        break;
    }
}

static json_t *jansson(struct str text)
{
    return json_loadb(text.ptr, text.len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, NULL);
}

static void canonical_says_the_same(struct str text, json_t *json)
{
    CLEANUP(buf_deinit) struct buf once;
    CLEANUP(buf_deinit) struct buf twice;
    json_t *back;

    buf_init(&once, 1 << 20);
    buf_init(&twice, 1 << 20);
    jt_canonical(text, &once);
    jt_canonical(buf_str(&once), &twice);
    assert_true(str_eq(buf_str(&once), buf_str(&twice)));
    assert_true(once.len <= text.len);
    back = jansson(buf_str(&once));
    assert_non_null(back);
    assert_true(json_equal(back, json));
    json_decref(back);
}

static void one_document(struct str text, struct arena *arena)
{
    static const struct jt_limits limits = {
        .max_bytes = 1 << 20, .max_depth = 2000, .refuse_duplicates = true, .refuse_unstorable = true};
    struct jt_limits storable_or_not = limits;
    struct err err = {0};
    struct str repaired;
    json_t *json = jansson(text);
    enum err_code rc = jt_check(text, &limits, &err);

    /* jansson swallows a NUL byte behind a number. */
    if (memchr(text.ptr, '\0', text.len) != NULL) {
        assert_int_equal(rc, ERR_SYNTAX);
        json_decref(json);
        return;
    }
    /* The one place where we are stricter: PostgreSQL's bound on decimals. */
    if (rc != ERR_OK && json != NULL && strstr(err.message, "number out of range") != NULL) {
        storable_or_not.refuse_unstorable = false;
        assert_int_equal(jt_check(text, &storable_or_not, &err), ERR_OK);
        json_decref(json);
        return;
    }
    if ((rc == ERR_OK) != (json != NULL))
        fail_msg("'%.*s': we %s, jansson %s", (int)text.len, text.ptr, rc == ERR_OK ? "take it" : err.message,
                 json != NULL ? "takes it" : "refuses it");
    if (rc == ERR_OK) {
        compare(text, json, arena);
        canonical_says_the_same(text, json);
    }
    if (jt_check_repair(arena, text, &limits, &repaired, &err) == ERR_OK) {
        assert_int_equal(jt_check(repaired, &limits, &err), ERR_OK);
        assert_int_equal(rc == ERR_OK, repaired.ptr == text.ptr);
        if (rc != ERR_OK)
            json = jansson(repaired);
        assert_non_null(json);
    } else {
        assert_int_not_equal(rc, ERR_OK);
    }
    json_decref(json);
}

static void we_and_jansson_agree_on_what_is_json_and_what_it_says(void **state)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(0);
    const char *seed = getenv("ROPEWALK_TEST_SEED");
    const char *rounds_text = getenv("ROPEWALK_TEST_ROUNDS");
    long rounds = rounds_text == NULL ? 20000 : strtol(rounds_text, NULL, 10);

    (void)state;
    random_state = seed == NULL ? 20261121 : strtoull(seed, NULL, 10);
    for (long i = 0; i < rounds; i++) {
        struct buf text;

        buf_init(&text, 1 << 20);
        gen_value(&text, 0);
        for (int k = 0; k < 6; k++) {
            one_document(buf_str(&text), arena);
            mutate(&text);
        }
        buf_deinit(&text);
        arena_reset(arena);
    }
}

RUN(TEST(we_and_jansson_agree_on_what_is_json_and_what_it_says))
