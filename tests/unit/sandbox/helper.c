#include "tests/unit/sandbox/helper.h"
#include "common/base/clock.h"
#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

double now_ms(void)
{
    return (double)clock_mono().us / 1000;
}

static unsigned count_matches(const char *pattern)
{
    glob_t found;
    unsigned count;
    int rc = glob(pattern, GLOB_NOSORT, NULL, &found);

    assert_true(rc == 0 || rc == GLOB_NOMATCH);
    count = (unsigned)found.gl_pathc;
    globfree(&found);
    return count;
}

unsigned open_fds(int pid)
{
    char pattern[64];

    if (pid == 0)
        return count_matches("/proc/self/fd/*") - 1; /* the directory itself */
    snprintf(pattern, sizeof(pattern), "/proc/%d/fd/*", pid);
    return count_matches(pattern);
}

/* A process's state and parent are in /proc/PID/stat, behind the name in parentheses. */
static bool is_our_child(const char *proc)
{
    char path[64], text[512];
    struct str rest, process_state;
    const char *behind;
    uint32_t parent;
    FILE *file;
    size_t n;

    snprintf(path, sizeof(path), "%s/stat", proc);
    file = fopen(path, "r");
    if (file == NULL)
        return false;
    n = fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    text[n] = '\0';
    behind = strrchr(text, ')');
    if (behind == NULL || strlen(behind) < 2)
        return false;
    rest = str_of(behind + 2);
    process_state = str_cut(&rest, ' ');
    return parse_u32(str_cut(&rest, ' '), 0, INT32_MAX, &parent) && (pid_t)parent == getpid() &&
           !str_is(process_state, "Z");
}

unsigned child_pids(int *ret, unsigned max)
{
    unsigned count = 0;
    uint32_t pid;
    glob_t found;

    assert_int_equal(glob("/proc/[0-9]*", GLOB_NOSORT, NULL, &found), 0);
    for (size_t i = 0; i < found.gl_pathc && count < max; i++) {
        if (is_our_child(found.gl_pathv[i]) &&
            parse_u32(str_of(found.gl_pathv[i] + strlen("/proc/")), 1, INT32_MAX, &pid))
            ret[count++] = (int)pid;
    }
    globfree(&found);
    return count;
}

void bench_init(struct bench *b, unsigned children, const struct sandbox_limits *limits)
{
    uv_loop_t first; /* of the process: what libuv opens then it keeps */

    assert_int_equal(uv_loop_init(&first), 0);
    assert_int_equal(uv_loop_close(&first), 0);
    *b = (struct bench){.fds_before = (int)open_fds(0)};
    assert_int_equal(uv_loop_init(&b->loop), 0);
    b->sandbox = sandbox_new(&b->loop, children, limits);
}

void bench_deinit(struct bench *b)
{
    sandbox_free(b->sandbox);
    assert_int_equal(uv_run(&b->loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&b->loop), 0);
    assert_int_equal(b->waiting, 0);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    assert_int_equal(open_fds(0), b->fds_before);
}

static void on_done(void *ctx, enum sandbox_status status, struct str value, const char *message)
{
    struct asked *a = ctx;

    assert_false(a->done);
    a->done = true;
    a->status = status;
    a->order = a->bench->order++;
    a->took_ms = now_ms() - a->asked_ms;
    a->bench->waiting--;
    if (status == SANDBOX_OK)
        snprintf(a->text, sizeof(a->text), STR_FMT, STR_ARG(value));
    else
        snprintf(a->text, sizeof(a->text), "%s", message);
}

static void begin(struct bench *b, struct asked *a, const char *source)
{
    a->bench = b;
    a->source = source;
    a->done = false;
    a->asked_ms = now_ms();
    b->waiting++;
}

void ask(struct bench *b, struct asked *a, int32_t organisation, const char *source, const char *document)
{
    begin(b, a, source);
    sandbox_eval(b->sandbox, organisation, str_of(source), str_of(document), on_done, a);
    assert_false(a->done);
}

void ask_check(struct bench *b, struct asked *a, const char *source)
{
    begin(b, a, source);
    sandbox_check(b->sandbox, 1, str_of(source), on_done, a);
    assert_false(a->done);
}

void wait_for(struct bench *b, struct asked *a)
{
    while (!a->done)
        (void)uv_run(&b->loop, UV_RUN_ONCE);
}

void wait_for_all(struct bench *b)
{
    while (b->waiting > 0)
        (void)uv_run(&b->loop, UV_RUN_ONCE);
}

void warm_up(struct bench *b, unsigned children)
{
    struct asked *a = mem_array(children, sizeof(*a));

    for (unsigned i = 0; i < children; i++)
        ask(b, &a[i], (int32_t)i, ".", "1");
    wait_for_all(b);
    for (unsigned i = 0; i < children; i++)
        assert_int_equal(a[i].status, SANDBOX_OK);
    mem_free(a);
}
