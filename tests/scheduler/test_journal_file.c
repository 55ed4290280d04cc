/* The journal that remembers in which run a process died. */
#include "common/base/id.h"
#include "scheduler/journal_file.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const struct run_id A = {{0xa}}, B = {{0xb}};
static const struct wall_us NOON = {INT64_C(1795233600000000)};

static int make_folder(void **state)
{
    char *dir = strdup("/tmp/journal.XXXXXX");

    assert_non_null(mkdtemp(dir));
    *state = dir;
    return 0;
}

static int drop_folder(void **state)
{
    char path[256];

    snprintf(path, sizeof(path), "%s/journal", (char *)*state);
    unlink(path);
    rmdir(*state);
    free(*state);
    return 0;
}

static struct journal_file *open_at(const char *dir, int64_t minutes)
{
    struct journal_file *journal = NULL;
    struct err err;

    if (journal_file_open(dir, (struct wall_us){NOON.us + minutes * 60 * US_PER_S}, &journal, &err) != ERR_OK)
        fail_msg("%s", err.message);
    return journal;
}

/* A process that enters runs, leaves some, and dies. */
static void die_in(const char *dir, int64_t minutes, struct run_id left, struct run_id entered)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        struct journal_file *journal = open_at(dir, minutes);
        struct sched_journal port = journal_file_port(journal);

        port.enter(port.ctx, left);
        port.leave(port.ctx, left);
        port.enter(port.ctx, entered);
        _exit(1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
}

static size_t accused(const char *dir, int64_t minutes, struct run_id *ret)
{
    struct journal_file *journal = open_at(dir, minutes);
    size_t count = 0;

    while (journal_file_accused(journal, count, ret))
        count++;
    journal_file_close(journal);
    return count;
}

static void one_death_accuses_nobody(void **state)
{
    struct run_id run;

    die_in(*state, 0, A, B);
    assert_int_equal(accused(*state, 1, &run), 0);
}

static void two_deaths_within_an_hour_accuse(void **state)
{
    struct run_id run;

    die_in(*state, 0, A, B);
    die_in(*state, 30, A, B);
    assert_int_equal(accused(*state, 31, &run), 1);
    assert_true(run_id_eq(run, B));
    assert_int_equal(accused(*state, 32, &run), 1); /* a clean restart does not clear it */
    assert_int_equal(accused(*state, 120, &run), 0);
}

static void deaths_in_different_runs_accuse_nobody(void **state)
{
    struct run_id run;

    die_in(*state, 0, A, B);
    die_in(*state, 1, B, A);
    assert_int_equal(accused(*state, 2, &run), 0);
}

static void deaths_far_apart_accuse_nobody(void **state)
{
    struct run_id run;

    die_in(*state, 0, A, B);
    assert_int_equal(accused(*state, 1, &run), 0); /* a death counts from when it is found, at the next start */
    die_in(*state, 61, A, B);
    assert_int_equal(accused(*state, 62, &run), 0);
}

static void a_damaged_file_is_begun_anew(void **state)
{
    struct run_id run;
    char path[256];
    FILE *file;

    die_in(*state, 0, A, B);
    snprintf(path, sizeof(path), "%s/journal", (char *)*state);
    file = fopen(path, "w");
    for (int i = 0; i < 1000; i++)
        fputs("garbage", file);
    fclose(file);
    assert_int_equal(accused(*state, 1, &run), 0);
    die_in(*state, 2, A, B);
    die_in(*state, 3, A, B);
    assert_int_equal(accused(*state, 4, &run), 1);
}

static void a_second_process_is_refused(void **state)
{
    struct journal_file *first = open_at(*state, 0), *second = NULL;
    struct err err;

    assert_int_equal(journal_file_open(*state, NOON, &second, &err), ERR_BUSY);
    journal_file_close(first);
}

static void a_folder_that_is_not_there_is_told(void **state)
{
    struct journal_file *journal = NULL;
    struct err err;

    (void)state;
    assert_int_equal(journal_file_open("/nonexistent/folder", NOON, &journal, &err), ERR_UNAVAILABLE);
    assert_non_null(strstr(err.message, "/nonexistent/folder/journal"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_death_accuses_nobody, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(two_deaths_within_an_hour_accuse, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(deaths_in_different_runs_accuse_nobody, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(deaths_far_apart_accuse_nobody, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(a_damaged_file_is_begun_anew, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(a_second_process_is_refused, make_folder, drop_folder),
        cmocka_unit_test(a_folder_that_is_not_there_is_told),
    };

    return cmocka_run_group_tests_name("journal_file", tests, NULL, NULL);
}
