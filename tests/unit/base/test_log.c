/* Log lines: their JSON, their bounds, and what happens when nobody reads them. */
#include "common/base/json_text.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "tests/unit/base/capture.h"
#include "tests/unit/base/test.h"
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

static struct str checked_line(char *text)
{
    struct err err;
    struct str line = str_of(text);

    assert_true(line.len > 1 && line.len <= PIPE_BUF);
    assert_int_equal(text[line.len - 1], '\n');
    line.len--;
    assert_null(memchr(line.ptr, '\n', line.len));
    if (jt_check(line, &JT_LIMITS_API, &err) != ERR_OK)
        fail_msg("%s: %s", err.message, text);
    return line;
}

static void a_line_has_time_level_service_event_and_typed_fields(void **state)
{
    struct capture c = capture_begin(STDERR_FILENO);
    struct run_id id;
    struct err err = {0};
    struct wall_us t;
    struct str ts;
    char *text;
    struct str line;

    (void)state;
    assert_true(run_id_parse(STR("017f22e2-79b0-7cc3-98c4-dc0c0c07398f"), &id));
    err_set(&err, ERR_BUSY, "connection lost");
    err.lib_code = 104;
    snprintf(err.sqlstate, sizeof(err.sqlstate), "08006");
    log_init("scheduler", "s-1", LOG_INFO);
    log_event(LOG_WARN, "test.fields", log_str("s", STR("x")), log_cstr("absent", NULL), log_i64("n", INT64_MIN),
              log_bool("b", true), log_run("run_id", id), log_err(&err));
    text = capture_end(&c);
    line = checked_line(text);
    assert_true(jt_string(jt_get(line, "ts"), NULL, &ts) && wall_parse(ts, &t));
    assert_str_eq(jt_get(line, "level"), "\"warn\"");
    assert_str_eq(jt_get(line, "svc"), "\"scheduler\"");
    assert_str_eq(jt_get(line, "name"), "\"s-1\"");
    assert_str_eq(jt_get(line, "event"), "\"test.fields\"");
    assert_str_eq(jt_get(line, "s"), "\"x\"");
    assert_str_eq(jt_get(line, "absent"), "null");
    assert_str_eq(jt_get(line, "n"), "-9223372036854775808");
    assert_str_eq(jt_get(line, "b"), "true");
    assert_str_eq(jt_get(line, "run_id"), "\"017f22e2-79b0-7cc3-98c4-dc0c0c07398f\"");
    assert_str_eq(jt_get(jt_get(line, "error"), "code"), "\"busy\"");
    assert_str_eq(jt_get(jt_get(line, "error"), "message"), "\"connection lost\"");
    assert_str_eq(jt_get(jt_get(line, "error"), "lib_code"), "104");
    assert_str_eq(jt_get(jt_get(line, "error"), "sqlstate"), "\"08006\"");
    mem_free(text);
}

static void an_event_needs_no_fields(void **state)
{
    struct capture c = capture_begin(STDERR_FILENO);
    char *text;

    (void)state;
    log_event(LOG_ERROR, "test.bare");
    text = capture_end(&c);
    assert_str_eq(jt_get(checked_line(text), "event"), "\"test.bare\"");
    mem_free(text);
}

static void levels_below_the_set_one_write_nothing(void **state)
{
    struct capture c = capture_begin(STDERR_FILENO);
    enum log_level level = LOG_INFO;
    char *text;

    (void)state;
    log_event(LOG_DEBUG, "test.debug");
    text = capture_end(&c);
    assert_string_equal(text, "");
    mem_free(text);
    assert_true(log_level_parse(STR("debug"), &level) && level == LOG_DEBUG);
    assert_true(log_level_parse(STR("error"), &level) && level == LOG_ERROR);
    assert_false(log_level_parse(STR("Error"), &level));
}

static void any_bytes_in_a_field_leave_the_line_valid(void **state)
{
    (void)state;
    for (int first = 0; first < 256; first++) {
        char bytes[4] = {(char)first, '"', '\\', (char)(255 - first)};
        struct capture c = capture_begin(STDERR_FILENO);
        char *text;

        log_event(LOG_WARN, "test.bytes", log_str("s", (struct str){bytes, 4}));
        text = capture_end(&c);
        assert_int_equal(jt_type(jt_get(checked_line(text), "s")), JT_STRING);
        mem_free(text);
    }
}

static void long_fields_are_cut_and_the_line_stays_whole(void **state)
{
    static char big[100000];
    static const char fill[] = {'x', '\x01', '\xe2'};

    (void)state;
    for (size_t i = 0; i < sizeof(fill); i++) {
        struct capture c = capture_begin(STDERR_FILENO);
        struct str line;
        char *text;

        memset(big, fill[i], sizeof(big));
        log_event(LOG_WARN, "test.long", log_str("a", (struct str){big, sizeof(big)}),
                  log_str("b", (struct str){big, sizeof(big)}), log_str("c", (struct str){big, sizeof(big)}),
                  log_str("d", (struct str){big, sizeof(big)}), log_i64("last", 5));
        text = capture_end(&c);
        line = checked_line(text);
        assert_str_eq(jt_get(line, "last"), "5");
        assert_true(jt_get(line, "a").len > 60);
        mem_free(text);
    }
}

static void fields_that_cannot_fit_are_dropped_and_that_is_said(void **state)
{
    struct capture c = capture_begin(STDERR_FILENO);
    struct log_field fields[400];
    char *text;

    (void)state;
    for (size_t i = 0; i < 400; i++)
        fields[i] = log_cstr("some_name", "some value");
    log_write(LOG_WARN, "test.many", fields, 400);
    text = capture_end(&c);
    assert_str_eq(jt_get(checked_line(text), "fields_dropped"), "true");
    mem_free(text);
}

/* Fills `fd` up without blocking, then makes it block again. */
static void fill_up(int fd)
{
    static char block[4096];
    int flags = fcntl(fd, F_GETFL);

    assert_int_equal(fcntl(fd, F_SETFL, flags | O_NONBLOCK), 0);
    while (write(fd, block, sizeof(block)) > 0 || write(fd, block, 1) > 0)
        ;
    assert_int_equal(fcntl(fd, F_SETFL, flags & ~O_NONBLOCK), 0);
}

static void full(bool is_socket)
{
    int fds[2];
    int saved = dup(STDERR_FILENO);
    uint64_t lost = log_lost();
    static char drained[1 << 20];
    ssize_t n;

    assert_int_equal(is_socket ? socketpair(AF_UNIX, SOCK_STREAM, 0, fds) : pipe(fds), 0);
    fill_up(fds[1]);
    assert_int_equal(dup2(fds[1], STDERR_FILENO), STDERR_FILENO);
    alarm(20); /* kills the test should a write block */
    for (int i = 0; i < 100; i++)
        log_event(LOG_WARN, "test.full");
    alarm(0);
    assert_int_equal(log_lost() - lost, 100);
    assert_int_equal(metric_get(METRIC_LOG_LOST), log_lost());
    assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    while (read(fds[0], drained, sizeof(drained)) > 0)
        ;
    log_event(LOG_WARN, "test.after_full");
    dup2(saved, STDERR_FILENO);
    close(saved);
    n = read(fds[0], drained, sizeof(drained) - 1);
    assert_true(n > 0);
    drained[n] = '\0';
    assert_str_eq(jt_get(checked_line(drained), "event"), "\"test.after_full\"");
    close(fds[0]);
    close(fds[1]);
}

static void a_full_pipe_does_not_block_and_lost_lines_are_counted(void **state)
{
    (void)state;
    full(false);
}

static void a_full_socket_does_not_block_either(void **state)
{
    (void)state;
    full(true);
}

static void a_reader_that_is_gone_does_not_kill_us(void **state)
{
    int fds[2];
    int saved = dup(STDERR_FILENO);
    uint64_t lost = log_lost();

    (void)state;
    assert_int_equal(pipe(fds), 0);
    close(fds[0]);
    signal(SIGPIPE, SIG_DFL);
    dup2(fds[1], STDERR_FILENO);
    log_event(LOG_WARN, "test.gone");
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(fds[1]);
    assert_int_equal(log_lost() - lost, 1);
}

static void *log_much(void *arg)
{
    for (int i = 0; i < 500; i++)
        log_event(LOG_WARN, "test.threads", log_cstr("text", arg), log_i64("i", i));
    return NULL;
}

static void lines_of_many_threads_do_not_mix(void **state)
{
    struct capture c = capture_begin(STDERR_FILENO);
    pthread_t threads[4];
    struct str rest;
    char *text;
    int lines = 0;

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, log_much, (void *)"some text"), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    text = capture_end(&c);
    rest = str_of(text);
    while (rest.len > 0) {
        struct err err;
        struct str line = str_cut(&rest, '\n');

        assert_int_equal(jt_check(line, &JT_LIMITS_API, &err), ERR_OK);
        lines++;
    }
    assert_int_equal(lines, 2000);
    mem_free(text);
}

RUN(TEST(a_line_has_time_level_service_event_and_typed_fields), TEST(an_event_needs_no_fields),
    TEST(levels_below_the_set_one_write_nothing), TEST(any_bytes_in_a_field_leave_the_line_valid),
    TEST(long_fields_are_cut_and_the_line_stays_whole), TEST(fields_that_cannot_fit_are_dropped_and_that_is_said),
    TEST(a_full_pipe_does_not_block_and_lost_lines_are_counted), TEST(a_full_socket_does_not_block_either),
    TEST(a_reader_that_is_gone_does_not_kill_us), TEST(lines_of_many_threads_do_not_mix))
