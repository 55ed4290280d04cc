/* What has to be done now and then: partitions for the weeks to come, and idempotency rows whose time is over, in
 * slices. Each hour and each ten seconds; only while `mine` says so (the owner of shard 0). Loop thread only. */
#pragma once
#include "common/io/pg.h"

struct upkeep;
struct upkeep_options {
    uv_loop_t *loop;
    struct pg *pg;           /* must outlive it */
    int partition_days;      /* ahead */
    int turn_ms;             /* between turns; 0: 10 s */
    bool (*mine)(void *ctx); /* is it this process's turn? */
    void *ctx;
};
struct upkeep *upkeep_new(const struct upkeep_options *options);
void upkeep_free(struct upkeep *upkeep);       /* before its pg: answers that come later are ignored */
void upkeep_partitions(struct upkeep *upkeep); /* now, whoever's turn it is */
