/* The store port of the scheduler's core: PostgreSQL. Reads go over one connection and batches over another, so that a
 * slow read never holds up a commit. Completions are inputs of the core; `woken` tells the shell to run its next tick.
 * Loop thread only. SQL: sql/. */
#pragma once
#include "common/io/pg.h"
#include "scheduler/core/sched_core.h"

struct store;
struct store_options {
    uv_loop_t *loop;
    const char *url;
    bool prepared;
    struct run_id me;          /* incarnation of this process, as in scheduler.incarnation */
    const int16_t *slot_shard; /* SLOT_COUNT: which shard a run's slot belongs to; read when used */
    void (*woken)(void *ctx);
    void (*on_up)(void *ctx); /* both connections are usable */
    void (*on_down)(void *ctx, const struct err *err);
    void *ctx;
};
struct store *store_new(const struct store_options *options);
void store_free(struct store *store);
void store_set_core(struct store *store, struct sched *sched); /* before the first port call */
bool store_is_up(const struct store *store);
struct pg *store_reader(struct store *store); /* for reads of the shell's own */

/* Ports (sched_ports); `ctx` of the ports is the shell's, which passes its store on. */
void store_fetch_commands(struct store *store, uint64_t fetch, const struct sched_command_want *want);
void store_load_shard(struct store *store, int16_t shard, int64_t epoch);
void store_load_runs(struct store *store, uint64_t load, const struct run_id *ids, size_t count);
void store_load_bodies(struct store *store, const struct sched_body_want *wants, size_t count);
void store_load_plans(struct store *store, const struct sched_plan_want *wants, size_t count);
void store_look_back(struct store *store, const int16_t *shards, size_t count);
void store_commit(struct store *store, const struct sched_batch *batch); /* store_commit.c */
