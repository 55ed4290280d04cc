/* The lease as the scheduler's shell has it, of up to three processes, and a hand on their database. scheduler/lease*.c
 * are on both sides: one driver gives them model_pg.c and model_shards.c, the other common/io/pg.h and a server. */
#pragma once
#include "scheduler/lease.h"
#include "tests/contract/contract.h"

#define SHARD_COUNT 4
#define PROCESSES 3
#define LEASE_MS 900
#define RENEW_MS 200

int shards_group_begin(void **state);
int shards_group_end(void **state);
int shards_world_begin(void **state); /* four shards that nobody has; no schedulers */
int shards_world_end(void **state);

/* Fills what is the process's own (loop, me) and starts the lease. Which of 0 .. 2 it is, is the caller's business. */
struct lease *hand_start(int process, struct lease_options *options);
void hand_die(int process, struct lease *lease); /* at once, leaving its row */
void hand_freeze(int process, int64_t us);
void hand_lose_connections(void);   /* of all leases: each has to connect again */
void hand_expire(const char *name); /* as if the database's clock said that the lease of this name is over */
/* A batch of that process has begun at the server: its first statement is done. */
void hand_batch_begin(int process, int16_t shard, int64_t epoch);
bool hand_batch_end(void); /* commits it; false: its server process was ended */
