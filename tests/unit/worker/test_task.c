/* Tasks and control messages as they come, and as they must not. */
#include "worker/task.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define GOOD                                                                                                           \
    "{\"v\":1,\"task_id\":\"r/s/1/1\",\"token\":\"k\",\"publication\":2,\"run_id\":"                                   \
    "\"0190f3a2-0000-7000-8000-000000000001\",\"step\":\"each[3].go\",\"attempt\":3,\"workflow\":\"w\","               \
    "\"organisation\":\"o\",\"call\":\"http\",\"with\":{\"n\":0.10},\"timeout\":\"20s\",\"deadline\":"                 \
    "\"2026-01-02T03:04:05Z\",\"delivery\":\"at_most_once\",\"idempotency_key\":\"a\\u0062c\",\"reply_to\":\"i\"}"

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

static void a_whole_task_is_read(void **state)
{
    struct task task;
    struct err err = {0};

    (void)state;
    assert_int_equal(task_decode(STR(GOOD), arena, &task, &err), ERR_OK);
    assert_true(str_is(task.task_id, "r/s/1/1"));
    assert_true(str_is(task.step, "each[3].go"));
    assert_true(str_is(task.with, "{\"n\":0.10}"));
    assert_true(str_is(task.idempotency_key, "abc"));
    assert_null(task.traceparent.ptr);
    assert_int_equal(task.publication, 2);
    assert_int_equal(task.attempt, 3);
    assert_int_equal(task.timeout_us, 20 * US_PER_S);
    assert_true(task.deadline.us > 0);
    assert_int_equal(task.delivery, TASK_AT_MOST_ONCE);
}

/* GOOD with one member's value replaced. */
static char *altered(const char *member, const char *value)
{
    static char text[2048];
    char key[64];
    const char *at, *end;
    int depth = 0;
    bool quoted = false;

    snprintf(key, sizeof(key), "\"%s\":", member);
    at = strstr(GOOD, key) + strlen(key);
    for (end = at; quoted || depth > 0 || (*end != ',' && *end != '}'); end++) {
        quoted = *end == '"' ? !quoted : quoted;
        depth += *end == '{' ? 1 : *end == '}' ? -1 : 0;
    }
    snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - GOOD), GOOD, value, end);
    return text;
}

static void each_wrong_field_is_named_and_the_rest_still_read(void **state)
{
    static const struct {
        const char *member, *value;
    } cases[] = {{"v", "2"},           {"v", "\"1\""},          {"task_id", "\"\""},      {"task_id", "7"},
                 {"token", "null"},    {"publication", "0"},    {"publication", "1.5"},   {"publication", "\"1\""},
                 {"run_id", "[]"},     {"step", "\"\""},        {"attempt", "65536"},     {"workflow", "false"},
                 {"call", "{}"},       {"with", "[]"},          {"with", "\"x\""},        {"timeout", "\"20\""},
                 {"timeout", "20"},    {"deadline", "\"now\""}, {"delivery", "\"once\""}, {"delivery", "null"},
                 {"reply_to", "\"\""}, {"idempotency_key", "1"}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct task task;
        struct err err = {0};

        if (task_decode(str_of(altered(cases[i].member, cases[i].value)), arena, &task, &err) != ERR_INVALID)
            fail_msg("'%s': %s was taken", cases[i].member, cases[i].value);
        assert_non_null(strstr(err.message, cases[i].member));
        if (strcmp(cases[i].member, "task_id") != 0)
            assert_true(str_is(task.task_id, "r/s/1/1"));
        if (strcmp(cases[i].member, "reply_to") != 0)
            assert_true(str_is(task.reply_to, "i"));
    }
}

static void nulls_are_absent_where_they_may_be(void **state)
{
    static const char *const optional[] = {"with", "timeout", "deadline", "idempotency_key"};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct task task;
        struct err err = {0};

        assert_int_equal(task_decode(str_of(altered(optional[i], "null")), arena, &task, &err), ERR_OK);
    }
}

static void how_a_text_is_escaped_does_not_matter(void **state)
{
    struct task task;
    struct err err = {0};

    (void)state;
    assert_int_equal(task_decode(str_of(altered("delivery", "\"at_most_\\u006fnce\"")), arena, &task, &err), ERR_OK);
    assert_int_equal(task.delivery, TASK_AT_MOST_ONCE);
    assert_int_equal(task_decode(str_of(altered("timeout", "\"\\u0030s\"")), arena, &task, &err), ERR_OK);
    assert_int_equal(task.timeout_us, 1);
}

/* 63 characters, but 126 bytes. */
static void texts_are_bounded_in_bytes_too(void **state)
{
    char name[200] = "\"";
    struct task task;
    struct err err = {0};

    (void)state;
    for (int i = 1; i < 127; i += 2) {
        name[i] = '\xc3';
        name[i + 1] = '\xa9';
    }
    name[127] = '"';
    assert_int_equal(task_decode(str_of(altered("workflow", name)), arena, &task, &err), ERR_INVALID);
    assert_non_null(strstr(err.message, "workflow"));
    assert_true(str_is(task.task_id, "r/s/1/1"));
}

static void what_is_no_task_is_refused(void **state)
{
    static const char *const texts[] = {"", " ", "{", "[]", "1", "null", "{}", "{\"v\":1,\"v\":1}", "\xff"};

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct task task;
        struct err err = {0};

        assert_int_not_equal(task_decode(str_of(texts[i]), arena, &task, &err), ERR_OK);
        assert_null(task.task_id.ptr);
    }
}

static void every_prefix_of_a_task_is_refused(void **state)
{
    (void)state;
    for (size_t len = 0; len < strlen(GOOD); len++) {
        struct task task;
        struct err err = {0};
        char *copy = mem_dup(GOOD, len);

        assert_int_not_equal(task_decode((struct str){copy, len}, arena, &task, &err), ERR_OK);
        mem_free(copy);
    }
}

static void control_messages_are_read_by_type(void **state)
{
    struct control control;
    struct err err = {0};

    (void)state;
    assert_int_equal(
        control_decode(STR("grant"), STR("{\"v\":1,\"task_id\":\"t\",\"go\":true}"), arena, &control, &err), ERR_OK);
    assert_true(control.go && str_is(control.task_id, "t"));
    assert_int_equal(control_decode(STR("cancel"), STR("{\"v\":1,\"task_id\":\"t\"}"), arena, &control, &err), ERR_OK);
    assert_int_equal(control.kind, CONTROL_CANCEL);
    assert_int_equal(control_decode(STR("drain"), STR("{\"v\":1}"), arena, &control, &err), ERR_OK);
    assert_int_equal(control_decode(STR("grant"), STR("{\"v\":1,\"task_id\":\"t\"}"), arena, &control, &err),
                     ERR_INVALID);
    assert_int_equal(
        control_decode(STR("grant"), STR("{\"v\":1,\"task_id\":\"t\",\"go\":\"true\"}"), arena, &control, &err),
        ERR_INVALID);
    assert_false(control.go);
    assert_int_equal(
        control_decode(STR("grant"), STR("{\"v\":2,\"task_id\":\"t\",\"go\":true}"), arena, &control, &err),
        ERR_INVALID);
    assert_int_equal(control_decode(STR("cancel"), STR("{\"v\":1}"), arena, &control, &err), ERR_INVALID);
    assert_int_equal(control_decode(STR("reboot"), STR("{\"v\":1}"), arena, &control, &err), ERR_INVALID);
    assert_int_not_equal(control_decode(STR("grant"), STR("nonsense"), arena, &control, &err), ERR_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_whole_task_is_read, setup, teardown),
        cmocka_unit_test_setup_teardown(each_wrong_field_is_named_and_the_rest_still_read, setup, teardown),
        cmocka_unit_test_setup_teardown(nulls_are_absent_where_they_may_be, setup, teardown),
        cmocka_unit_test_setup_teardown(how_a_text_is_escaped_does_not_matter, setup, teardown),
        cmocka_unit_test_setup_teardown(texts_are_bounded_in_bytes_too, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_task_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(every_prefix_of_a_task_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(control_messages_are_read_by_type, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
