/* What a child of the sandbox gives up before it sees a stranger's program. */
#include "common/expr/sandbox_child.h"
#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/base/banned.h"

/* Nobody can be told more: standard error is closed. The parent logs the exit code. */
#define EXIT_NOT_CONFINED 70
/* Of its whole life: the wall clock of the parent bounds one evaluation, this bounds a child whose parent is frozen.
 * The child asks to be replaced long before (sandbox_child.c). */
#define CPU_SECONDS 120

static void require(bool done)
{
    if (!done)
        _exit(EXIT_NOT_CONFINED);
}

static void limit(__rlimit_resource_t resource, rlim_t soft, rlim_t hard)
{
    const struct rlimit value = {.rlim_cur = soft, .rlim_max = hard};

    require(setrlimit(resource, &value) == 0);
}

static void limit_memory(size_t memory_bytes)
{
#if SANDBOX_UNDER_SANITIZER
    (void)memory_bytes;
#else
    char text[128];
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    uint32_t pages;
    struct str rest;

    require(n > 0);
    close(fd);
    rest = (struct str){text, (size_t)n};
    require(parse_u32(str_cut(&rest, ' '), 1, UINT32_MAX, &pages));
    memory_bytes += (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
    limit(RLIMIT_AS, memory_bytes, memory_bytes);
#endif
}

/* When the machine runs out of memory the kernel shall take us and not a service. Not vital. */
static void prefer_for_oom(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if (fd >= 0) {
        ssize_t n = write(fd, "1000", 4);

        (void)n;
        close(fd);
    }
}

#if !SANDBOX_UNDER_SANITIZER
/* Everything else fails with EPERM: libjq goes on when it cannot open a time zone file, and abort() still ends the
 * process by its illegal instruction. */
static void filter_calls(void)
{
    static const int plain[] = {
        SCMP_SYS(munmap),       SCMP_SYS(mremap),     SCMP_SYS(brk),          SCMP_SYS(madvise),
        SCMP_SYS(exit),         SCMP_SYS(exit_group), SCMP_SYS(rt_sigreturn), SCMP_SYS(restart_syscall),
        SCMP_SYS(clock_gettime)};
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    int rc = filter == NULL ? -1 : 0;

    for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]) && rc == 0; i++)
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, plain[i], 0);
    require(rc == 0);
    require(seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(read), 1, SCMP_A0(SCMP_CMP_EQ, 0)) == 0);
    require(seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(write), 1, SCMP_A0(SCMP_CMP_EQ, 0)) == 0);
    require(seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                             SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)) == 0);
    require(seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 2, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0),
                             SCMP_A3(SCMP_CMP_MASKED_EQ, MAP_ANONYMOUS, MAP_ANONYMOUS)) == 0);
    require(seccomp_load(filter) == 0);
    seccomp_release(filter);
}
#endif

/* Under a sanitizer standard error stays: it is where its findings go. */
static void close_descriptors(void)
{
    require(close_range(SANDBOX_UNDER_SANITIZER ? 3 : 1, ~0U, 0) == 0);
}

void sandbox_confine(size_t memory_bytes)
{
    prefer_for_oom();
    limit_memory(memory_bytes);
    close_descriptors();
    limit(RLIMIT_CPU, CPU_SECONDS, CPU_SECONDS + 1);
    limit(RLIMIT_CORE, 0, 0);
    limit(RLIMIT_FSIZE, 0, 0);
    limit(RLIMIT_NPROC, 0, 0);
    require(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
    require(prctl(PR_SET_DUMPABLE, 0) == 0);
    require(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
#if !SANDBOX_UNDER_SANITIZER
    limit(RLIMIT_NOFILE, 1, 1);
    filter_calls();
#endif
}
