/* Settings: defaults, faults, files, masks. */
#include "common/base/config.h"
#include "tests/unit/base/capture.h"
#include "tests/unit/base/test.h"

struct service_config {
    char *url;
    char *name;
    char *password;
    int64_t port;
    bool strict;
};

static const struct config_row rows[] = {
    CONFIG_ROW_STR(service_config, url, "TEST_URL", NULL, PUBLIC, "where it is")
        CONFIG_ROW_STR(service_config, name, "TEST_NAME", "rope \"1\"", PUBLIC, "its name")
            CONFIG_ROW_STR(service_config, password, "TEST_PASSWORD", "", SECRET, "how it gets in")
                CONFIG_ROW_INT(service_config, port, "TEST_PORT", 8080, 1, 65535, "", "where it listens")
                    CONFIG_ROW_BOOL(service_config, strict, "TEST_STRICT", true, "whether it is strict")};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

static void clear(void)
{
    static const char *const names[] = {"URL", "NAME", "PASSWORD", "PORT", "STRICT"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char name[64];

        snprintf(name, sizeof(name), "ROPEWALK_TEST_%s", names[i]);
        unsetenv(name);
        snprintf(name, sizeof(name), "ROPEWALK_TEST_%s_FILE", names[i]);
        unsetenv(name);
    }
}

static void file_of(char path[64], const char *text, size_t len)
{
    int fd;

    strncpy(path, "/tmp/ropewalk-test-XXXXXX", 64);
    fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, text, len) == (ssize_t)len);
    close(fd);
}

static void what_is_not_set_has_its_default(void **state)
{
    struct service_config c = {0};
    struct err err;

    (void)state;
    clear();
    setenv("ROPEWALK_TEST_URL", "http://x", 1);
    assert_int_equal(config_load(rows, ROWS, &c, &err), ERR_OK);
    assert_string_equal(c.url, "http://x");
    assert_string_equal(c.name, "rope \"1\"");
    assert_string_equal(c.password, "");
    assert_int_equal(c.port, 8080);
    assert_true(c.strict);
    config_free(rows, ROWS, &c);
    assert_null(c.url);
}

static void what_is_set_is_taken(void **state)
{
    struct service_config c = {0};
    struct err err;

    (void)state;
    clear();
    setenv("ROPEWALK_TEST_URL", "u", 1);
    setenv("ROPEWALK_TEST_NAME", "", 1);
    setenv("ROPEWALK_TEST_PORT", "65535", 1);
    setenv("ROPEWALK_TEST_STRICT", "false", 1);
    assert_int_equal(config_load(rows, ROWS, &c, &err), ERR_OK);
    assert_string_equal(c.name, "");
    assert_int_equal(c.port, 65535);
    assert_false(c.strict);
    config_free(rows, ROWS, &c);
}

static void all_faults_are_told_at_once_and_no_secret_with_them(void **state)
{
    struct service_config c = {0};
    struct capture capture;
    struct err err;
    char *text;

    (void)state;
    clear();
    setenv("ROPEWALK_TEST_PORT", "65536", 1);
    setenv("ROPEWALK_TEST_STRICT", "maybe", 1);
    setenv("ROPEWALK_TEST_PASSWORD", "hunter2", 1);
    setenv("ROPEWALK_TEST_PASSWORD_FILE", "/nowhere/at/all", 1);
    setenv("ROPEWALK_TEST_NAME_FILE", "/nowhere/at/all", 1);
    capture = capture_begin(STDERR_FILENO);
    assert_int_equal(config_load(rows, ROWS, &c, &err), ERR_INVALID);
    text = capture_end(&capture);
    assert_non_null(strstr(text, "ROPEWALK_TEST_URL is required (where it is)\n"));
    assert_non_null(strstr(text, "ROPEWALK_TEST_NAME_FILE names a file that could not be read: No such file"));
    assert_non_null(strstr(text, "ROPEWALK_TEST_PASSWORD and its _FILE form are both set"));
    assert_non_null(strstr(text, "ROPEWALK_TEST_PORT is '65536', not a whole number from 1 to 65535"));
    assert_non_null(strstr(text, "ROPEWALK_TEST_STRICT is 'maybe', neither true nor false"));
    assert_null(strstr(text, "hunter2"));
    assert_string_equal(err.message, "5 of the settings are missing or bad");
    assert_null(c.url);
    assert_null(c.name);
    mem_free(text);
}

static void a_required_setting_may_not_be_empty(void **state)
{
    struct service_config c = {0};
    struct capture capture;
    struct err err;
    char *text;

    (void)state;
    clear();
    setenv("ROPEWALK_TEST_URL", "", 1);
    capture = capture_begin(STDERR_FILENO);
    assert_int_equal(config_load(rows, ROWS, &c, &err), ERR_INVALID);
    text = capture_end(&capture);
    assert_non_null(strstr(text, "ROPEWALK_TEST_URL is required and empty"));
    assert_string_equal(err.message, "1 of the settings is missing or bad");
    mem_free(text);
}

static void a_value_may_come_from_a_file_without_its_line_end(void **state)
{
    static const struct {
        const char *text;
        const char *value;
    } cases[] = {
        {"s3cret", "s3cret"}, {"s3cret\n", "s3cret"}, {"s3cret\r\n", "s3cret"}, {"a\nb\n\n", "a\nb\n"}, {"", ""}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct service_config c = {0};
        struct err err;
        char path[64];

        clear();
        file_of(path, cases[i].text, strlen(cases[i].text));
        setenv("ROPEWALK_TEST_URL", "u", 1);
        setenv("ROPEWALK_TEST_PASSWORD_FILE", path, 1);
        assert_int_equal(config_load(rows, ROWS, &c, &err), ERR_OK);
        assert_string_equal(c.password, cases[i].value);
        config_free(rows, ROWS, &c);
        unlink(path);
    }
}

static void files_with_nul_and_files_too_long_are_refused(void **state)
{
    static char big[65537];
    static const char *const expect[] = {"a NUL byte", "more than 64 KiB"};

    (void)state;
    memset(big, 'x', sizeof(big));
    for (int i = 0; i < 2; i++) {
        struct service_config c = {0};
        struct capture capture;
        struct err err;
        char path[64];
        char *text;

        clear();
        file_of(path, i == 0 ? "a\0b" : big, i == 0 ? 3 : sizeof(big));
        setenv("ROPEWALK_TEST_URL_FILE", path, 1);
        capture = capture_begin(STDERR_FILENO);
        assert_int_equal(config_load(rows, ROWS, &c, &err), ERR_INVALID);
        text = capture_end(&capture);
        assert_non_null(strstr(text, expect[i]));
        mem_free(text);
        unlink(path);
    }
}

static void printing_masks_secrets(void **state)
{
    struct service_config c = {
        .url = (char[]){"a\nb"}, .name = (char[]){"n"}, .password = (char[]){"hunter2"}, .port = 5, .strict = true};
    struct capture capture = capture_begin(STDOUT_FILENO);
    char *text;

    (void)state;
    config_print(rows, ROWS, &c);
    text = capture_end(&capture);
    assert_string_equal(text, "ROPEWALK_TEST_URL=\"a\\nb\"\nROPEWALK_TEST_NAME=\"n\"\n"
                              "ROPEWALK_TEST_PASSWORD=\"********\"\nROPEWALK_TEST_PORT=5\n"
                              "ROPEWALK_TEST_STRICT=true\n");
    mem_free(text);
    c.password = (char[]){""};
    capture = capture_begin(STDOUT_FILENO);
    config_print(rows, ROWS, &c);
    text = capture_end(&capture);
    assert_non_null(strstr(text, "ROPEWALK_TEST_PASSWORD=\"\"\n"));
    mem_free(text);
}

static void the_table_of_the_readme_lists_all(void **state)
{
    struct capture capture = capture_begin(STDOUT_FILENO);
    char *text;

    (void)state;
    config_markdown(rows, ROWS);
    text = capture_end(&capture);
    assert_non_null(strstr(text, "| `ROPEWALK_TEST_URL` | required |  | where it is |\n"));
    assert_non_null(strstr(text, "| `ROPEWALK_TEST_PASSWORD` | empty | secret | how it gets in |\n"));
    assert_non_null(strstr(text, "| `ROPEWALK_TEST_PORT` | `8080` | 1 to 65535 | where it listens |\n"));
    assert_non_null(strstr(text, "| `ROPEWALK_TEST_STRICT` | `true` | true, false | whether it is strict |\n"));
    mem_free(text);
}

RUN(TEST(what_is_not_set_has_its_default), TEST(what_is_set_is_taken),
    TEST(all_faults_are_told_at_once_and_no_secret_with_them), TEST(a_required_setting_may_not_be_empty),
    TEST(a_value_may_come_from_a_file_without_its_line_end), TEST(files_with_nul_and_files_too_long_are_refused),
    TEST(printing_masks_secrets), TEST(the_table_of_the_readme_lists_all))
