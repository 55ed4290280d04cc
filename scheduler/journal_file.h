/* The journal of the run being applied, in a mapped file that survives the process ("Poison" in architecture.md). What
 * is found entered at start killed the process that had entered it; a run found so twice within an hour is accused.
 * The page cache keeps it through a crash of the process; after a power cut nothing is accused. Loop thread only. */
#pragma once
#include "common/base/clock.h"
#include "scheduler/core/journal.h"

struct journal_file;

/* Opens or makes `dir`/journal and notes what it finds. ERR_BUSY: another process uses it. A damaged file is begun
 * anew. */
enum err_code journal_file_open(const char *dir, struct wall_us now, struct journal_file **ret,
                                struct err *err) MUST_CHECK;
void journal_file_close(struct journal_file *journal);                /* accepts NULL */
struct sched_journal journal_file_port(struct journal_file *journal); /* NULL: functions that do nothing */
/* Runs to be handed to sched_suspect, from index 0; false behind the last. */
bool journal_file_accused(const struct journal_file *journal, size_t index, struct run_id *ret);
