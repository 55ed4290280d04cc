/* Ports of the scheduler that write. */
#pragma once
#include "tests/sim/sim.h"

void db_commit(void *ctx, const struct sched_batch *batch);
void db_check_shards(void *ctx);
