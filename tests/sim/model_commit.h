/* Transactions of batches (model_commit.c), what they write (model_rows.c), and who owns what (model_shards.c). */
#pragma once
#include "tests/sim/sim.h"

/* Ports of the scheduler */
void db_commit(void *ctx, const struct sched_batch *batch);

/* What may happen to batches. */
void db_hold(struct sim *sim, bool hold);
bool db_is_locked(const struct sim *sim, int16_t shard); /* by a batch that has begun and not ended */
/* Ends the server processes of such batches, of one shard or (-1) of all, which are then answered with this. */
void db_end_holders(struct sim *sim, int16_t shard, enum sched_outcome outcome);
void db_cut(
    struct sim *sim); /* connections are cut: what is not answered is unknown; what has not happened never will */

/* Rows; what is looked for and not there is NULL. */
const struct db_event *db_find_event(const struct db_run *run, uint32_t seq);
struct db_work *db_find_work(struct db_run *run, uint32_t seq); /* open */
struct db_command *db_find_command(struct sim *sim, struct sched_command_key key);
const char *db_child_fault(struct sim *sim, const struct sched_child_row *row); /* why it is not started; NULL: it is */
void db_insert_command(struct sim *sim, const struct sched_command_insert *row);
void db_write_rows(struct sim *sim, const struct sched_batch *b);
/* model_admission.c. Whom the keys have told something is in the outcome. */
void db_write_admissions(struct sim *sim, const struct sched_batch *b, struct sched_commit_outcome *outcome);
