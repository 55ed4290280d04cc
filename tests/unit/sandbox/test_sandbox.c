/* The sandbox with programs that mean well. */
#include "common/base/metrics.h"
#include "tests/unit/sandbox/helper.h"
#include <stdio.h>

static void programs_give_their_value(void **state)
{
    static const struct {
        const char *source, *document, *value;
    } rows[] = {
        {".a + 1", "{\"a\":1}", "2"},
        {".", "0.1", "0.1"},
        {".", "[1.0,100,1e3,-0,1e300]", "[1,100,1000,-0,1e+300]"},
        {".", "9007199254740993", "9007199254740992"},
        {".", "3.141592653589793238", "3.141592653589793"},
        {"nan", "null", "null"},
        {"infinite", "null", "1.7976931348623157e+308"},
        {"\"\\(.a) ü\"", "{\"a\":[1,\"x\"]}", "\"[1,\\\"x\\\"] ü\""},
        {"[.[] | select(. > 1)]", "[1,2,3]", "[2,3]"},
        {"@sh", "\"it's\"", "\"'it'\\\\''s'\""},
        {"test(\"^a.c$\"; \"i\")", "\"ABC\"", "true"},
        {"0 | todate", "null", "\"1970-01-01T00:00:00Z\""},
        {"\"2015-03-05T23:51:47Z\" | fromdate", "null", "1425599507"},
        {"strptime(\"%Y-%m-%d\") | mktime", "\"2020-01-01\"", "1577836800"},
        {"@base64", "\"hi\"", "\"aGk=\""},
        {"def fac: if . < 2 then 1 else . * (. - 1 | fac) end; fac", "10", "3628800"},
        {"first(range(10; 0; -1))", "null", "10"},
        {"tojson", "{\"b\":1,\"a\":[]}", "\"{\\\"b\\\":1,\\\"a\\\":[]}\""},
    };
    struct bench b;
    struct asked a;

    (void)state;
    bench_init(&b, 2, NULL);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        ask(&b, &a, (int32_t)i, rows[i].source, rows[i].document);
        wait_for(&b, &a);
        assert_string_equal(a.text, rows[i].value);
        assert_int_equal(a.status, SANDBOX_OK);
    }
    bench_deinit(&b);
}

static void faults_are_told_to_their_author(void **state)
{
    static const struct {
        const char *source, *message;
        enum sandbox_status status;
    } rows[] = {
        {"1, 2", "the expression gives more than one value; [ ... ] makes them a list", SANDBOX_FAILED},
        {"empty", "the expression gives no value", SANDBOX_FAILED},
        {".[]?", "the expression gives no value", SANDBOX_FAILED},
        {"error(\"out of stock\")", "out of stock", SANDBOX_FAILED},
        {"error({code: 7})", "{\"code\":7}", SANDBOX_FAILED},
        {"1, error(\"late\")", "late", SANDBOX_FAILED},
        {".a", "Cannot index number with string \"a\"", SANDBOX_FAILED},
        {"1 / 0", "Division by zero?", SANDBOX_BAD_PROGRAM},
        {". / 0", "number (5) and number (0) cannot be divided because the divisor is zero", SANDBOX_FAILED},
        {"test(\"(\")", "number (5) cannot be matched, as it is not a string", SANDBOX_FAILED},
        {".a |", "syntax error, unexpected $end", SANDBOX_BAD_PROGRAM},
        {"foo(1)", "foo/1 is not defined", SANDBOX_BAD_PROGRAM},
        {"$x", "$x is not defined", SANDBOX_BAD_PROGRAM},
        {"\"\\q\"", "Invalid escape at line 1, column 4 (while parsing '\"\\q\"')", SANDBOX_BAD_PROGRAM},
        {"[0] | implode", "the value cannot be kept: ", SANDBOX_FAILED},
        {"reduce range(200) as $i (1; [.])", "the value cannot be kept: ", SANDBOX_FAILED},
    };
    struct bench b;
    struct asked a;

    (void)state;
    bench_init(&b, 1, NULL);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        ask(&b, &a, 1, rows[i].source, "5");
        wait_for(&b, &a);
        if (strncmp(a.text, rows[i].message, strlen(rows[i].message)) != 0 || a.status != rows[i].status)
            fail_msg("%s: status %d, %s", rows[i].source, (int)a.status, a.text);
    }
    bench_deinit(&b);
}

static void a_check_only_compiles(void **state)
{
    struct bench b;
    struct asked good, bad, endless;

    (void)state;
    bench_init(&b, 1, NULL);
    ask_check(&b, &good, ".a | map(.b)");
    ask_check(&b, &bad, ".a | map(.b");
    ask_check(&b, &endless, "def f: f; f");
    wait_for_all(&b);
    assert_int_equal(good.status, SANDBOX_OK);
    assert_string_equal(good.text, "");
    assert_int_equal(bad.status, SANDBOX_BAD_PROGRAM);
    assert_non_null(strstr(bad.text, "syntax error"));
    assert_int_equal(endless.status, SANDBOX_OK);
    bench_deinit(&b);
}

static void the_bounds_on_sizes_hold_at_n_and_n_plus_1(void **state)
{
    const struct sandbox_limits limits = {
        .wall_ms = 2000, .document_bytes = 12, .output_bytes = 100, .memory_bytes = (size_t)256 << 20};
    struct bench b;
    struct asked a;

    (void)state;
    bench_init(&b, 1, &limits);
    ask(&b, &a, 1, ".", "\"0123456789\"");
    wait_for(&b, &a);
    assert_string_equal(a.text, "\"0123456789\"");
    ask(&b, &a, 1, ".", "\"0123456789+\"");
    wait_for(&b, &a);
    assert_int_equal(a.status, SANDBOX_FAILED);
    assert_string_equal(a.text, "what the expression reads is too large");
    ask(&b, &a, 1, "\"x\" * 98", "null");
    wait_for(&b, &a);
    assert_int_equal(a.status, SANDBOX_OK);
    assert_int_equal(strlen(a.text), 100);
    ask(&b, &a, 1, "\"x\" * 99", "null");
    wait_for(&b, &a);
    assert_int_equal(a.status, SANDBOX_FAILED);
    assert_string_equal(a.text, "the value has 101 bytes, 100 are allowed");
    bench_deinit(&b);
}

static void large_documents_pass_and_programs_after_them(void **state)
{
    struct bench b;
    struct asked a, after;
    struct buf document;

    (void)state;
    buf_init(&document, (size_t)8 << 20);
    buf_append_char(&document, '[');
    while (document.len < (size_t)4 << 20)
        buf_append_str(&document, STR("\"0123456789012345678901234567890123456789\","));
    buf_append_str(&document, STR("0]"));
    bench_init(&b, 1, NULL);
    ask(&b, &a, 1, "length", document.ptr);
    ask(&b, &after, 1, ".", "1");
    wait_for_all(&b);
    assert_int_equal(a.status, SANDBOX_OK);
    assert_string_equal(after.text, "1");
    buf_deinit(&document);
    bench_deinit(&b);
}

static void many_requests_come_back_each_once(void **state)
{
    enum { COUNT = 3000 };
    struct asked *all = mem_array(COUNT, sizeof(*all));
    int64_t counted = metric_get(METRIC_EXPRESSIONS);
    char document[32];
    struct bench b;

    (void)state;
    bench_init(&b, 2, NULL);
    for (int i = 0; i < COUNT; i++) {
        snprintf(document, sizeof(document), "{\"n\":%d}", i);
        ask(&b, &all[i], i % 7, i % 2 == 0 ? ".n + 1" : "[.n]", document);
    }
    assert_int_equal(sandbox_stats(b.sandbox).waiting, COUNT);
    wait_for_all(&b);
    for (int i = 0; i < COUNT; i++) {
        char expected[32];

        snprintf(expected, sizeof(expected), i % 2 == 0 ? "%d" : "[%d]", i % 2 == 0 ? i + 1 : i);
        assert_string_equal(all[i].text, expected);
    }
    assert_int_equal(metric_get(METRIC_EXPRESSIONS) - counted, COUNT);
    mem_free(all);
    bench_deinit(&b);
}

static void more_programs_than_are_kept_compiled_still_run(void **state)
{
    enum { COUNT = 270 };
    struct asked *all = mem_array(COUNT, sizeof(*all));
    char(*sources)[32] = mem_array(COUNT, sizeof(*sources));
    struct bench b;

    (void)state;
    bench_init(&b, 1, NULL);
    for (int i = 0; i < COUNT; i++) {
        snprintf(sources[i], sizeof(sources[i]), ". + %d", i);
        ask(&b, &all[i], 1, sources[i], "1");
    }
    wait_for_all(&b);
    for (int i = 0; i < COUNT; i++) {
        char expected[16];

        snprintf(expected, sizeof(expected), "%d", i + 1);
        assert_string_equal(all[i].text, expected);
    }
    mem_free(all);
    mem_free(sources);
    bench_deinit(&b);
}

static void freeing_answers_what_is_outstanding(void **state)
{
    struct bench b;
    struct asked running, sent, queued;

    (void)state;
    bench_init(&b, 1, NULL);
    warm_up(&b, 1);
    ask(&b, &running, 1, "def f: f; f", "1");
    ask(&b, &sent, 1, ".", "1");
    for (int i = 0; i < 10; i++)
        (void)uv_run(&b.loop, UV_RUN_NOWAIT);
    ask(&b, &queued, 2, ".", "1");
    bench_deinit(&b);
    assert_true(running.done && sent.done && queued.done);
    assert_int_equal(running.status, SANDBOX_UNAVAILABLE);
    assert_int_equal(sent.status, SANDBOX_UNAVAILABLE);
    assert_int_equal(queued.status, SANDBOX_UNAVAILABLE);
}

static void on_done_free(void *ctx, enum sandbox_status status, struct str value, const char *message)
{
    struct bench *b = ctx;

    (void)value;
    (void)message;
    assert_int_equal(status, SANDBOX_OK);
    sandbox_free(b->sandbox);
    b->sandbox = NULL;
}

static void it_may_be_freed_from_inside_an_answer(void **state)
{
    struct bench b;
    struct asked behind;

    (void)state;
    bench_init(&b, 1, NULL);
    sandbox_eval(b.sandbox, 1, STR("."), STR("1"), on_done_free, &b);
    ask(&b, &behind, 1, ".", "2");
    while (b.sandbox != NULL)
        (void)uv_run(&b.loop, UV_RUN_ONCE);
    bench_deinit(&b);
    assert_int_equal(behind.status, SANDBOX_UNAVAILABLE);
}

RUN_WITH_CHILDREN(TEST(programs_give_their_value), TEST(faults_are_told_to_their_author), TEST(a_check_only_compiles),
                  TEST(the_bounds_on_sizes_hold_at_n_and_n_plus_1), TEST(large_documents_pass_and_programs_after_them),
                  TEST(many_requests_come_back_each_once), TEST(more_programs_than_are_kept_compiled_still_run),
                  TEST(freeing_answers_what_is_outstanding), TEST(it_may_be_freed_from_inside_an_answer))
