/* Schedules in PostgreSQL: those that are due, as core/fire.h decides about them, and what was decided, as statements
 * of a batch. What is counted on of them is written down in tests/contract/schedules_main.c. */
#pragma once
#include "common/io/pg.h"
#include "scheduler/core/fire.h"

/* Adds what asks for up to `most` schedules of these shards, and behind it when the next one is due. A row of the first
 * result is read by schedule_row; schedule_next_row gives us until then of the second one, INT64_MAX for never, and
 * whether times of one wait for a run to end. */
void schedule_rows_due(struct pg_batch *batch, const int16_t *shards, size_t count, size_t most);
struct fire_row *schedule_row(const struct pg_result *rows, size_t i, struct arena *arena);
int64_t schedule_next_row(const struct pg_result *rows, bool *ret_waiting);
/* Adds the firing, behind the guard. Its result: schedule, nominal time and run of each that was started. */
void schedule_rows_fire(struct pg_batch *batch, const struct fire *fires, size_t count);
/* Adds that this one is not looked at any more, until somebody changes it. why: JSON. */
void schedule_row_refuse(struct pg_batch *batch, const struct fire_row *row, struct str why);
