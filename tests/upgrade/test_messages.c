/* Messages as older releases sent them (messages/RELEASE/TYPE-what.json) are understood; fields of a later release are
 * passed over and counted, another version is refused: the scheduler and the worker make dead letters of those. */
#include "common/base/metrics.h"
#include "common/schema/schema.h"
#include "proto/proto_messages.h"
#include "proto/results.h"
#include "tests/unit/base/test.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/banned.h"

/* By hand: the formatter would change its own result again. */
// clang-format off
#define MESSAGES(X) \
    X(task, TASK) \
    X(started, STARTED) \
    X(heartbeat, HEARTBEAT) \
    X(grant, GRANT) \
    X(cancel, CANCEL) \
    X(drain, DRAIN) \
    X(nudge, NUDGE) \
    X(watch, WATCH) \
    X(update, UPDATE)
// clang-format on

struct kind {
    const char *name;
    enum err_code (*decode)(struct str body, struct err *err);
    int recorded;
};

#define DECODE(lower, upper)                                                                                           \
    static enum err_code decode_##lower(struct str body, struct err *err)                                              \
    {                                                                                                                  \
        struct str fields[upper##_FIELDS];                                                                             \
                                                                                                                       \
        return schema_decode(&SCHEMA_##upper, body, fields, err);                                                      \
    }
MESSAGES(DECODE)

/* One result or several, each judged by itself. */
static enum err_code decode_result(struct str body, struct err *err)
{
    struct str fields[RESULT_ITEM_FIELDS];
    struct results results;
    enum err_code rc = results_open(&results, body, err), one;

    while (rc == ERR_OK && results_next(&results, fields, &one, err))
        rc = one;
    return rc;
}

#define KIND(lower, upper) {#lower, decode_##lower, 0},
static struct kind kinds[] = {{"result", decode_result, 0}, MESSAGES(KIND)};
#define KIND_COUNT (sizeof(kinds) / sizeof(kinds[0]))

static struct kind *kind_of(const char *file, char stop)
{
    for (size_t i = 0; i < KIND_COUNT; i++) {
        size_t len = strlen(kinds[i].name);

        if (strncmp(file, kinds[i].name, len) == 0 && file[len] == stop)
            return &kinds[i];
    }
    return NULL;
}

static void read_text(const char *folder, const char *name, char *text, size_t size)
{
    char *path = NULL;
    FILE *file;
    size_t len;

    assert_true(asprintf(&path, "%s/%s", folder, name) > 0);
    file = fopen(path, "rb");
    free(path);
    assert_non_null(file);
    len = fread(text, 1, size - 1, file);
    assert_true(len > 0 && len < size - 1);
    text[len] = '\0';
    (void)fclose(file);
}

static void judge(struct kind *kind, const char *name, const char *text)
{
    static char changed[65536];
    const char *open = strchr(text, '{'), *version = strstr(text, "\"v\"");
    int64_t unknown = metric_get(METRIC_MESSAGES_UNKNOWN_FIELDS);
    struct err err = {0};

    if (kind->decode(str_of(text), &err) != ERR_OK)
        fail_msg("%s is not understood: %s", name, err.message);
    if (metric_get(METRIC_MESSAGES_UNKNOWN_FIELDS) != unknown)
        fail_msg("%s has a field that is unknown today", name);
    kind->recorded++;

    assert_non_null(open);
    snprintf(changed, sizeof(changed), "{\"of_a_later_release\": {\"a\": [1]}, %s", open + 1);
    if (kind->decode(str_of(changed), &err) != ERR_OK)
        fail_msg("%s with a field of a later release is not understood: %s", name, err.message);
    assert_true(metric_get(METRIC_MESSAGES_UNKNOWN_FIELDS) > unknown);

    assert_non_null(version);
    version = strchr(version, '1');
    assert_non_null(version);
    snprintf(changed, sizeof(changed), "%.*s2%s", (int)(version - text), text, version + 1);
    assert_int_equal(kind->decode(str_of(changed), &err), ERR_INVALID);
}

static void walk(const char *release)
{
    static char text[60000];
    struct dirent *entry;
    DIR *dir = opendir(release);

    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        struct kind *kind = kind_of(entry->d_name, '-');

        if (entry->d_name[0] == '.')
            continue;
        if (kind == NULL)
            fail_msg("%s: a message that no release of today knows", entry->d_name);
        read_text(release, entry->d_name, text, sizeof(text));
        judge(kind, entry->d_name, text);
    }
    closedir(dir);
}

static void messages_of_every_release_are_understood(void **state)
{
    struct dirent *entry;
    DIR *dir = opendir(RECORDED_MESSAGES);
    int releases = 0;

    (void)state;
    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        char *path = NULL;

        if (entry->d_name[0] == '.')
            continue;
        for (size_t i = 0; i < KIND_COUNT; i++)
            kinds[i].recorded = 0;
        assert_true(asprintf(&path, "%s/%s", RECORDED_MESSAGES, entry->d_name) > 0);
        walk(path);
        free(path);
        for (size_t i = 0; i < KIND_COUNT; i++)
            if (kinds[i].recorded == 0)
                fail_msg("of release %s there is no %s", entry->d_name, kinds[i].name);
        releases++;
    }
    closedir(dir);
    assert_true(releases > 0);
}

/* proto/NAME.v1.json: each but the document of a workflow is a message, and stands in the list above. */
static void no_type_of_message_is_missing(void **state)
{
    struct dirent *entry;
    DIR *dir = opendir(PROTO);
    size_t found = 0;

    (void)state;
    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        if (strstr(entry->d_name, ".v1.json") == NULL || strcmp(entry->d_name, "workflow.v1.json") == 0)
            continue;
        if (kind_of(entry->d_name, '.') == NULL)
            fail_msg("%s is a message without records", entry->d_name);
        found++;
    }
    closedir(dir);
    assert_int_equal(found, KIND_COUNT);
}

RUN(TEST(messages_of_every_release_are_understood), TEST(no_type_of_message_is_missing))
