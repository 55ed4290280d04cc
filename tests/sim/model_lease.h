/* The lease of a simulated scheduler: scheduler/lease*.c themselves, with a connection to the modelled PostgreSQL
 * (model_pg.c) in place of common/io/pg.h and timers of the simulation in place of libuv's. */
#pragma once
#include "tests/sim/sim.h"

void sim_clock_of(struct node *node); /* its code runs now: the clock that it reads is its own */
struct mono_us sim_clock_mono(void);  /* what clock_mono() is to scheduler/lease*.c here */

/* ---- statements, carried out on the rows (model_shards.c) ---- */
#define MEMBERS (SCHEDULERS + 1) /* the last is a stranger's */
#define TICK_COLUMNS 14

struct run_id member_id(const struct node *node); /* incarnation of the process, as its lease says it */

/* Each gives how many rows; those of the tick and of taking are written to `cells`, a row after the other. */
size_t rows_register(struct sim *sim, struct str name, struct run_id me, int64_t lease_ms, int format);
void rows_forget(struct sim *sim);
#define CELL_NULL INT64_MIN
size_t rows_tick(struct sim *sim, struct run_id me, int64_t lease_ms, int64_t *cells);
size_t rows_take(struct sim *sim, struct run_id me, const int16_t *shards, size_t count, int64_t *cells);
void rows_needs(struct sim *sim, struct run_id me, int16_t shard, int format);
void rows_release(struct sim *sim, struct run_id me, const int16_t *shards, size_t count);
void rows_release_all(struct sim *sim, struct run_id me);
void rows_leave(struct sim *sim, struct run_id me);
size_t rows_end_holders(struct sim *sim, const int16_t *shards, size_t count);
