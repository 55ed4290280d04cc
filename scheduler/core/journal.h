/* Which run is being applied right now, in memory that survives the process ("Poison" in architecture.md). The core
 * enters a run before it applies an input to it and leaves it after; the shell implements it by a small mapped file,
 * reads it at start, and accuses what was found there twice within an hour with sched_suspect. */
#pragma once
#include "common/base/id.h"

struct sched_journal {
    void *ctx;
    void (*enter)(void *ctx, struct run_id run); /* a few stores, no system call */
    void (*leave)(void *ctx, struct run_id run);
};
