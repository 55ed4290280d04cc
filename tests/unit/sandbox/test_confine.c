/* What is left to a child: probes from inside, and a look from outside. */
#include "tests/unit/sandbox/helper.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROBE_ARG "--probe"

/* name, call: all of them must fail with EPERM */
#define PROBES(X)                                                                                                      \
    X(open, syscall(SYS_open, "/etc/passwd", O_RDONLY))                                                                \
    X(openat, syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY))                                                  \
    X(openat2, syscall(SYS_openat2, AT_FDCWD, "/etc/passwd", NULL, 0))                                                 \
    X(creat, syscall(SYS_creat, "/tmp/x", 0600))                                                                       \
    X(stat, syscall(SYS_newfstatat, AT_FDCWD, "/etc/passwd", NULL, 0))                                                 \
    X(socket, syscall(SYS_socket, AF_INET, SOCK_STREAM, 0))                                                            \
    X(socketpair, syscall(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, NULL))                                              \
    X(connect, syscall(SYS_connect, 0, NULL, 0))                                                                       \
    X(sendmsg, syscall(SYS_sendmsg, 0, NULL, 0))                                                                       \
    X(fork, syscall(SYS_fork))                                                                                         \
    X(vfork, syscall(SYS_vfork))                                                                                       \
    X(clone, syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0))                                                                  \
    X(clone3, syscall(SYS_clone3, NULL, 0))                                                                            \
    X(execve, syscall(SYS_execve, "/bin/true", NULL, NULL))                                                            \
    X(ptrace, syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0))                                                            \
    X(process_vm_readv, syscall(SYS_process_vm_readv, 1, NULL, 0, NULL, 0, 0))                                         \
    X(kill_parent, syscall(SYS_kill, 1, 0))                                                                            \
    X(tgkill, syscall(SYS_tgkill, 1, 1, 0))                                                                            \
    X(io_uring_setup, syscall(SYS_io_uring_setup, 1, NULL))                                                            \
    X(bpf, syscall(SYS_bpf, 0, NULL, 0))                                                                               \
    X(userfaultfd, syscall(SYS_userfaultfd, 0))                                                                        \
    X(memfd_create, syscall(SYS_memfd_create, "x", 0))                                                                 \
    X(pipe, syscall(SYS_pipe, NULL))                                                                                   \
    X(dup, syscall(SYS_dup, 0))                                                                                        \
    X(fcntl, syscall(SYS_fcntl, 0, F_GETFD))                                                                           \
    X(ioctl, syscall(SYS_ioctl, 0, 0, NULL))                                                                           \
    X(unshare, syscall(SYS_unshare, 0))                                                                                \
    X(setrlimit, syscall(SYS_prlimit64, 0, RLIMIT_AS, NULL, NULL))                                                     \
    X(prctl, syscall(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0))                                                          \
    X(seccomp, syscall(SYS_seccomp, 0, 0, NULL))                                                                       \
    X(getpid, syscall(SYS_getpid))                                                                                     \
    X(uname, syscall(SYS_uname, NULL))                                                                                 \
    X(read_other, syscall(SYS_read, 3, NULL, 0))                                                                       \
    X(write_other, syscall(SYS_write, 2, "x", 1))                                                                      \
    X(mmap_exec, syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))             \
    X(mmap_file, syscall(SYS_mmap, NULL, 4096, PROT_READ, MAP_PRIVATE, 0, 0))                                          \
    X(mprotect_exec, syscall(SYS_mprotect, page, 4096, PROT_READ | PROT_EXEC))

static const char *const names[] = {
#define NAME(name, call) #name,
    PROBES(NAME)
#undef NAME
};
#define PROBE_COUNT (sizeof(names) / sizeof(names[0]))

struct report {
    char refused[PROBE_COUNT];
    char may_map, memory_is_bounded, may_read;
};

static void probe_main(void)
{
    struct report report = {0};
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    size_t i = 0;
    void *small, *large;
    char byte;

    sandbox_confine((size_t)64 << 20);
#define TRY(name, call)                                                                                                \
    errno = 0;                                                                                                         \
    report.refused[i++] = (call) == -1 && errno == EPERM;
    PROBES(TRY)
#undef TRY
    small = mmap(NULL, (size_t)16 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    large = mmap(NULL, (size_t)65 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    report.may_map = small != MAP_FAILED;
    report.memory_is_bounded = large == MAP_FAILED;
    report.may_read = read(0, &byte, 1) == 1 && byte == 'x';
    if (write(0, &report, sizeof(report)) != (ssize_t)sizeof(report))
        _exit(1);
    _exit(0);
}

/* Runs this program again with `arg`, a socket as its descriptor 0. */
static pid_t spawn_self(const char *arg, int *ret_fd)
{
    int fds[2];
    pid_t pid;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    pid = fork();
    if (pid == 0) {
        dup2(fds[1], 0);
        execl("/proc/self/exe", "probe", arg, (char *)NULL);
        _exit(127);
    }
    close(fds[1]);
    *ret_fd = fds[0];
    return pid;
}

static void the_filter_refuses_everything_but_computing(void **state)
{
    struct report report;
    int fd, status;
    pid_t pid;

    (void)state;
    if (SANDBOX_UNDER_SANITIZER)
        skip(); /* no filter there */
    pid = spawn_self(PROBE_ARG, &fd);
    assert_int_equal(write(fd, "x", 1), 1);
    assert_int_equal(read(fd, &report, sizeof(report)), sizeof(report));
    close(fd);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    for (size_t i = 0; i < PROBE_COUNT; i++) {
        if (!report.refused[i])
            fail_msg("%s was not refused", names[i]);
    }
    assert_true(report.may_map && report.memory_is_bounded && report.may_read);
}

/* The rest of the line of /proc/PID/status that begins with `key`. */
static const char *status_of(int pid, const char *key)
{
    static char line[256];
    char path[64];
    FILE *file;
    const char *value = NULL;

    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    file = fopen(path, "r");
    assert_non_null(file);
    while (value == NULL && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, key, strlen(key)) == 0)
            value = line + strlen(key) + strspn(line + strlen(key), ":\t ");
    }
    fclose(file);
    assert_non_null(value);
    return value;
}

static size_t bytes_of(int pid, const char *file_name)
{
    char path[64], bytes[4096];
    FILE *file;
    size_t n;

    snprintf(path, sizeof(path), "/proc/%d/%s", pid, file_name);
    file = fopen(path, "r");
    if (file == NULL)
        return 0; /* not dumpable: not for our eyes either, unless we are root */
    n = fread(bytes, 1, sizeof(bytes), file);
    fclose(file);
    return n;
}

static void from_outside_a_child_has_one_descriptor_and_no_environment(void **state)
{
    struct bench b;
    int pids[4];

    (void)state;
    if (SANDBOX_UNDER_SANITIZER)
        skip();
    setenv("ROPEWALK_PROBE", "secret", 1);
    bench_init(&b, 2, NULL);
    warm_up(&b, 2);
    assert_int_equal(child_pids(pids, 4), 2);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(bytes_of(pids[i], "environ"), 0);
        assert_int_equal(status_of(pids[i], "Seccomp")[0], '2');
        assert_int_equal(status_of(pids[i], "NoNewPrivs")[0], '1');
        assert_int_equal(status_of(pids[i], "Threads")[0], '1');
        if (geteuid() == 0) {
            assert_int_equal(open_fds(pids[i]), 1);
        }
    }
    bench_deinit(&b);
}

static void a_child_ends_with_its_parent(void **state)
{
    int fd;
    pid_t pid = spawn_self("--expression-child", &fd);
    int status;

    (void)state;
    close(fd); /* also when it was started wrongly, as here without its memory limit */
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {TEST(the_filter_refuses_everything_but_computing),
                                       TEST(from_outside_a_child_has_one_descriptor_and_no_environment),
                                       TEST(a_child_ends_with_its_parent)};

    sandbox_child_main_if_asked(argc, argv);
    if (argc == 2 && strcmp(argv[1], PROBE_ARG) == 0)
        probe_main();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
