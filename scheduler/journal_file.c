/* The mapped file: one line for the run being applied, and the last runs in which a process died. */
#include "scheduler/journal_file.h"
#include "common/base/fault.h"
#include "common/base/ensure.h"
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/banned.h"

#define JOURNAL_MAGIC UINT64_C(0x315f6c61746b7770) /* of this layout */
#define DEATHS 64
#define ACCUSE_AFTER 2
#define ACCUSE_WITHIN_US (INT64_C(3600) * US_PER_S)

struct death {
    struct run_id run;
    int64_t at_us;
};

struct page {
    uint64_t magic;
    _Atomic uint32_t entered;
    uint32_t next; /* place of the next death */
    struct run_id run;
    struct death deaths[DEATHS];
};

struct journal_file {
    int fd;
    struct page *page;
    struct run_id accused[DEATHS];
    size_t accused_count;
};

static void enter(void *ctx, struct run_id run)
{
    struct journal_file *journal = ctx;

    journal->page->run = run;
    atomic_store_explicit(&journal->page->entered, 1, memory_order_release);
    FAULT_POINT(scheduler_journal_written);
}

static void leave(void *ctx, struct run_id run)
{
    struct journal_file *journal = ctx;

    (void)run;
    atomic_store_explicit(&journal->page->entered, 0, memory_order_release);
    FAULT_POINT(scheduler_journal_cleared);
}

static size_t deaths_of(const struct page *page, struct run_id run, struct wall_us now)
{
    size_t count = 0;

    for (size_t i = 0; i < DEATHS; i++)
        if (page->deaths[i].at_us > now.us - ACCUSE_WITHIN_US && run_id_eq(page->deaths[i].run, run))
            count++;
    return count;
}

static bool is_accused(const struct journal_file *journal, struct run_id run)
{
    for (size_t i = 0; i < journal->accused_count; i++)
        if (run_id_eq(journal->accused[i], run))
            return true;
    return false;
}

static void note_what_was_left(struct journal_file *journal, struct wall_us now)
{
    struct page *page = journal->page;

    if (page->magic != JOURNAL_MAGIC || page->next >= DEATHS) {
        *page = (struct page){.magic = JOURNAL_MAGIC};
        return;
    }
    if (atomic_load(&page->entered) != 0) {
        page->deaths[page->next] = (struct death){page->run, now.us};
        page->next = (page->next + 1) % DEATHS;
        atomic_store(&page->entered, 0);
    }
    for (size_t i = 0; i < DEATHS; i++)
        if (page->deaths[i].at_us != 0 && !is_accused(journal, page->deaths[i].run) &&
            deaths_of(page, page->deaths[i].run, now) >= ACCUSE_AFTER)
            journal->accused[journal->accused_count++] = page->deaths[i].run;
}

enum err_code journal_file_open(const char *dir, struct wall_us now, struct journal_file **ret, struct err *err)
{
    struct journal_file *journal = mem_alloc(sizeof(*journal));
    char path[4096];
    void *map = MAP_FAILED;

    snprintf(path, sizeof(path), "%s/journal", dir);
    journal->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (journal->fd < 0) {
        mem_free(journal);
        return err_set(err, ERR_UNAVAILABLE, "could not open '%s': %s", path, strerror(errno));
    }
    if (flock(journal->fd, LOCK_EX | LOCK_NB) != 0) {
        journal_file_close(journal);
        return err_set(err, ERR_BUSY, "'%s' is in use by another process", path);
    }
    /* With its blocks: a full disk is told here, and not by SIGBUS at the first write. */
    errno = posix_fallocate(journal->fd, 0, sizeof(struct page));
    if (errno == 0)
        map = mmap(NULL, sizeof(struct page), PROT_READ | PROT_WRITE, MAP_SHARED, journal->fd, 0);
    if (map == MAP_FAILED) {
        int number = errno;

        journal_file_close(journal);
        return err_set(err, ERR_UNAVAILABLE, "could not map '%s': %s", path, strerror(number));
    }
    journal->page = map;
    note_what_was_left(journal, now);
    *ret = journal;
    return ERR_OK;
}

void journal_file_close(struct journal_file *journal)
{
    if (journal == NULL)
        return;
    if (journal->page != NULL)
        munmap(journal->page, sizeof(*journal->page));
    close(journal->fd);
    mem_free(journal);
}

struct sched_journal journal_file_port(struct journal_file *journal)
{
    if (journal == NULL)
        return (struct sched_journal){0};
    return (struct sched_journal){.ctx = journal, .enter = enter, .leave = leave};
}

bool journal_file_accused(const struct journal_file *journal, size_t index, struct run_id *ret)
{
    if (journal == NULL || index >= journal->accused_count)
        return false;
    *ret = journal->accused[index];
    return true;
}
