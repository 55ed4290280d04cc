/* ENSURE: what a failed one leaves behind. */
#include "common/base/ensure.h"
#include "common/base/json_text.h"
#include "tests/unit/base/capture.h"
#include "tests/unit/base/test.h"
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

static void what_holds_goes_on(void **state)
{
    int calls = 0;

    (void)state;
    ENSURE(++calls == 1);
    assert_int_equal(calls, 1);
}

static void what_does_not_hold_aborts_with_one_line_of_json(void **state)
{
    struct capture c = capture_begin(STDERR_FILENO);
    pid_t pid = fork();
    int status;
    char *text;
    struct err err;

    (void)state;
    if (pid == 0) {
        struct rlimit none = {0, 0};

        setrlimit(RLIMIT_CORE, &none);
        signal(SIGABRT, SIG_DFL);
        // cppcheck-suppress literalWithCharPtrCompare ; it has to fail, and to be quoted
        ENSURE("a \"quoted\" thing" == NULL);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    text = capture_end(&c);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
    assert_int_equal(jt_check(str_of(text), &JT_LIMITS_API, &err), ERR_OK);
    assert_non_null(strstr(text, "ensure.failed"));
    assert_non_null(strstr(text, "test_ensure.c"));
    mem_free(text);
}

RUN(TEST(what_holds_goes_on), TEST(what_does_not_hold_aborts_with_one_line_of_json))
