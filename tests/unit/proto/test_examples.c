/* Every good example passes, every bad one fails at the field that its name says: bad-FIELD--what.json. */
#include "common/base/metrics.h"
#include "common/schema/schema.h"
#include "proto/proto_messages.h"
#include "proto/results.h"
#include "tests/unit/base/test.h"
#include <dirent.h>
#include <stdio.h>

#include "common/base/banned.h"

static const struct {
    const char *name;
    const struct schema *schema;
} kinds[] = {
    {"workflow", &SCHEMA_WORKFLOW}, {"task", &SCHEMA_TASK},           {"result", &SCHEMA_RESULT},
    {"started", &SCHEMA_STARTED},   {"heartbeat", &SCHEMA_HEARTBEAT}, {"grant", &SCHEMA_GRANT},
    {"cancel", &SCHEMA_CANCEL},     {"drain", &SCHEMA_DRAIN},         {"nudge", &SCHEMA_NUDGE},
    {"watch", &SCHEMA_WATCH},       {"update", &SCHEMA_UPDATE},
};
#define KIND_COUNT (sizeof(kinds) / sizeof(kinds[0]))

static struct str read_file(struct arena *arena, const char *path)
{
    char *text = arena_alloc(arena, 1 << 20);
    FILE *file = fopen(path, "rb");
    size_t len;

    assert_non_null(file);
    len = fread(text, 1, 1 << 20, file);
    (void)fclose(file);
    return (struct str){text, len};
}

struct seen {
    struct str field; /* the last part of the pointer that is looked for */
    bool found;
    char all[2048];
};

static void on_fault(void *ctx, const char *code, struct str pointer, const char *message, const char *hint)
{
    struct seen *seen = ctx;
    struct str last = STR("");
    size_t len = strlen(seen->all);

    for (size_t i = pointer.len; i-- > 0;) {
        if (pointer.ptr[i] == '/') {
            last = (struct str){pointer.ptr + i + 1, pointer.len - i - 1};
            break;
        }
    }
    seen->found = seen->found || str_eq(last, seen->field);
    snprintf(seen->all + len, sizeof(seen->all) - len, "%s at " STR_FMT ": %s (%s)\n", code, STR_ARG(pointer), message,
             hint);
    assert_true(strlen(code) > 0 && strlen(message) > 0);
}

/* The field of bad-FIELD--what.json. */
static struct str field_of(const char *name)
{
    const char *begin = name + strlen("bad-");
    const char *end = strstr(begin, "--");

    assert_non_null(end);
    return (struct str){begin, (size_t)(end - begin)};
}

static void check_example(const struct schema *schema, const char *path, const char *name)
{
    CLEANUP(arena_cleanup) struct arena *arena = arena_new(4096);
    struct str text = read_file(arena, path);
    struct jt_limits limits = JT_LIMITS_MESSAGE;
    struct seen seen = {.field = STR("")};
    struct str fields[64];
    struct err err = {0};
    enum err_code rc;

    limits.max_bytes = 1 << 20;
    assert_int_equal(jt_check(text, &limits, &err), ERR_OK);
    if (strncmp(name, "bad-", 4) == 0)
        seen.field = field_of(name);
    rc = schema_check(schema, text, on_fault, &seen, &err);
    if (strncmp(name, "ok-", 3) == 0) {
        if (rc != ERR_OK)
            fail_msg("%s: %s", path, seen.all);
        assert_int_equal(schema_decode(schema, text, fields, &err), ERR_OK);
    } else if (rc != ERR_INVALID || !seen.found) {
        fail_msg("%s: %s", path, seen.all);
    } else if (strcmp(schema_name(schema), "workflow") != 0) {
        /* The decoder stops at the first fault but comes to the same verdict. */
        assert_int_equal(schema_decode(schema, text, fields, &err), ERR_INVALID);
    }
}

static void examples_are_judged_as_their_names_say(void **state)
{
    (void)state;
    for (size_t i = 0; i < KIND_COUNT; i++) {
        char folder[512];
        unsigned good = 0, bad = 0;
        struct dirent *entry;
        DIR *dir;

        snprintf(folder, sizeof(folder), "%s/%s.v1", PROTO_EXAMPLES, kinds[i].name);
        dir = opendir(folder);
        assert_non_null(dir);
        // cppcheck-suppress readdirCalled ; one thread
        while ((entry = readdir(dir)) != NULL) {
            char path[1024];

            if (entry->d_name[0] == '.')
                continue;
            snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
            check_example(kinds[i].schema, path, entry->d_name);
            good += strncmp(entry->d_name, "ok-", 3) == 0 ? 1 : 0;
            bad += strncmp(entry->d_name, "bad-", 4) == 0 ? 1 : 0;
        }
        (void)closedir(dir);
        assert_true(good >= 2 && bad >= 1);
    }
}

static void a_decoded_task_gives_its_slices(void **state)
{
    struct str text =
        STR("{\"v\":1,\"task_id\":\"r/a/1/1\",\"token\":\"t\",\"publication\":1,"
            "\"run_id\":\"019aa3f0-7c00-7a12-8f3e-5b6c7d8e9042\",\"step\":\"a\",\"attempt\":1,\"hue\":[1,{}],"
            "\"workflow\":\"w\",\"organisation\":\"o\",\"call\":\"noop\",\"with\": {\"x\": 0.10} ,"
            "\"timeout\":null,\"delivery\":\"at_least_once\",\"reply_to\":\"q\"}");
    struct str fields[TASK_FIELDS];
    struct err err;

    (void)state;
    assert_int_equal(schema_decode(&SCHEMA_TASK, text, fields, &err), ERR_OK);
    assert_true(str_is(fields[TASK_WITH], "{\"x\": 0.10}"));
    assert_true(str_is(fields[TASK_STEP], "\"a\""));
    assert_null(fields[TASK_TIMEOUT].ptr);
    assert_null(fields[TASK_DEADLINE].ptr);
    assert_true(str_is(schema_field_name(&SCHEMA_TASK, TASK_REPLY_TO), "reply_to"));
}

static void next_result(struct results *results, struct str *fields, enum err_code expected)
{
    enum err_code rc = ERR_INTERNAL;
    struct err err;

    assert_true(results_next(results, fields, &rc, &err));
    assert_int_equal(rc, expected);
}

static void no_more(struct results *results)
{
    struct str fields[RESULT_ITEM_FIELDS];
    enum err_code rc;
    struct err err;

    assert_false(results_next(results, fields, &rc, &err));
}

static void results_come_one_or_many(void **state)
{
    struct str one = STR(
        "{\"v\":1,\"task_id\":\"a\",\"t\\u006fken\":\"x\",\"worker\":\"w\",\"status\":\"succeeded\",\"output\":null}");
    struct str many =
        STR("{\"v\":1,\"results\":[{\"task_id\":\"a\",\"token\":\"x\",\"worker\":\"w\",\"status\":\"abandoned\"},"
            "{\"task_id\":\"b\",\"token\":\"x\",\"worker\":\"w\",\"status\":\"succeeded\",\"output\":0.10}]}");
    struct str fields[RESULT_ITEM_FIELDS];
    int64_t unknown = metric_get(METRIC_MESSAGES_UNKNOWN_FIELDS);
    struct results results;
    struct err err;

    (void)state;
    assert_int_equal(results_open(&results, one, &err), ERR_OK);
    next_result(&results, fields, ERR_OK);
    assert_str_eq(fields[RESULT_ITEM_TASK_ID], "\"a\"");
    assert_str_eq(fields[RESULT_ITEM_TOKEN], "\"x\"");
    assert_null(fields[RESULT_ITEM_OUTPUT].ptr);
    no_more(&results);

    assert_int_equal(results_open(&results, many, &err), ERR_OK);
    next_result(&results, fields, ERR_OK);
    assert_str_eq(fields[RESULT_ITEM_STATUS], "\"abandoned\"");
    next_result(&results, fields, ERR_OK);
    assert_str_eq(fields[RESULT_ITEM_OUTPUT], "0.10");
    no_more(&results);
    assert_int_equal(metric_get(METRIC_MESSAGES_UNKNOWN_FIELDS), unknown);
}

static void a_bad_result_does_not_lose_the_others(void **state)
{
    struct str text = STR("{\"v\":1,\"results\":[{\"task_id\":7},{\"hue\":1,\"status\":\"failed\",\"worker\":\"w\","
                          "\"task_id\":\"b\",\"token\":\"x\"},"
                          "9,{\"task_id\":\"c\",\"token\":\"x\",\"worker\":\"w\",\"status\":\"succeeded\"}]}");
    struct str fields[RESULT_ITEM_FIELDS];
    int64_t unknown = metric_get(METRIC_MESSAGES_UNKNOWN_FIELDS);
    struct results results;
    struct err err;

    (void)state;
    assert_int_equal(results_open(&results, STR("{\"v\":2,\"results\":[{}]}"), &err), ERR_INVALID);
    assert_int_equal(results_open(&results, STR("{\"v\":1,\"results\":[]}"), &err), ERR_INVALID);
    assert_int_equal(results_open(&results, text, &err), ERR_OK);
    next_result(&results, fields, ERR_INVALID);
    assert_str_eq(fields[RESULT_ITEM_TASK_ID], "7");
    next_result(&results, fields, ERR_INVALID);
    assert_str_eq(fields[RESULT_ITEM_TASK_ID], "\"b\"");
    assert_str_eq(fields[RESULT_ITEM_TOKEN], "\"x\"");
    next_result(&results, fields, ERR_INVALID);
    assert_null(fields[RESULT_ITEM_TASK_ID].ptr);
    assert_str_eq(results.item, "9");
    next_result(&results, fields, ERR_OK);
    assert_str_eq(fields[RESULT_ITEM_TASK_ID], "\"c\"");
    no_more(&results);
    assert_int_equal(metric_get(METRIC_MESSAGES_UNKNOWN_FIELDS), unknown + 1);
}

RUN(TEST(examples_are_judged_as_their_names_say), TEST(a_decoded_task_gives_its_slices), TEST(results_come_one_or_many),
    TEST(a_bad_result_does_not_lose_the_others))
