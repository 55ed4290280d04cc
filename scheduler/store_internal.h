/* What store.c and store_commit.c share. */
#pragma once
#include "scheduler/store.h"

struct store {
    struct store_options options;
    struct pg *reader, *writer;
    struct sched *sched;
    bool reader_up, writer_up, up, told_down;
    bool freeing;
    char batches_name[64]; /* application_name of this process's batch connections, and of no other's */
};
