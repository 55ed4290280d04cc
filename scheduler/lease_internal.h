/* What lease.c (the row, the tick) and lease_shards.c (taking and giving up) share.
 *
 * A shard is FREE for us, HELD, or SURPLUS (held, on its way out). Statements of the lease's connection are answered in
 * order: while one of ours about a shard is under way (`busy`), what an older reading says of that shard is old. */
#pragma once
#include "common/base/ensure.h"
#include "common/base/log.h"
#include "scheduler/lease.h"

#define SHARDS_MAX 4096
#define HURRY_MS 100  /* between ticks while we have less than our share */
#define LOADED_MS 200 /* ... while gateways should know of our load */

/* What not everybody who lives can go on with is NEWER: for those of the newest event format. */
enum shard_kind { SHARD_COMMON, SHARD_NEWER, SHARD_KINDS };
enum held_state { SHARD_FREE, SHARD_HELD, SHARD_SURPLUS };

struct held {
    enum held_state state;
    enum shard_kind kind;
    int64_t epoch;
    unsigned busy;                /* our own statements about it that are not answered yet */
    struct mono_us refused_since; /* free, but not to be had; 0: not refused */
};

struct lease {
    struct lease_options options;
    struct pg *pg;
    uv_timer_t timer;
    bool freed;
    bool registered, stopping, leaving;
    bool ticking;           /* a tick is under way */
    bool check;             /* somebody waits for on_shards */
    bool news;              /* there is something to tell that the newest tick did not say */
    struct mono_us renewed; /* when the last successful renewal was sent */
    struct mono_us tick_sent;
    bool loaded; /* the newest tick told of a load */
    bool clock_sampled;
    int64_t clock_offset; /* of the last sample that was handed on */
    size_t shard_count;   /* there are no others */
    struct held *held;    /* one of each */
    size_t held_count;
    struct sched_shard_change *changes;
    size_t change_count, change_cap;
    void (*left)(void *ctx);
    void *left_ctx;
};

/* lease.c */
void lease_tick_in(struct lease *lease, int64_t ms);
void lease_gain(struct lease *lease, int16_t shard, int64_t epoch);
void lease_lost(struct lease *lease, int16_t shard); /* to be told, as what is gained is */
void lease_tell_changes(struct lease *lease);
/* lease_shards.c */
void lease_take(struct lease *lease, const int16_t *shards, size_t count);
void lease_give_surplus(struct lease *lease,
                        const size_t shares[SHARD_KINDS]); /* what is held beyond becomes surplus */
