/* Which shards are ours. One row per scheduler, renewed each second on a connection of its own, so that neither a long
 * batch nor a slow read lets it lapse; a lease lasts 3 s by PostgreSQL's clock. Shards of a lapsed lease are taken,
 * each scheduler up to its share, with the epoch raised under the shard's exclusive advisory lock; a scheduler with
 * more than its share gives the rest up at a batch's end. While releases run side by side, a shard with runs that not
 * all of them can read belongs to the newest, who share these among themselves, and the others with all. Lease and
 * epoch decide who works; that nobody else's work counts is the guard's business, in every batch (sql/batch_guard.sql).
 * Loop thread only. Nothing calls back from inside these functions. */
#pragma once
#include "common/io/pg.h"
#include "scheduler/core/sched_core.h"

struct lease;
struct lease_options {
    uv_loop_t *loop;
    const char *url;
    const char *name; /* of this scheduler, unique in the installation; copied */
    struct run_id me; /* incarnation of this process */
    int format;       /* newest event format that it can write */
    int lease_ms;     /* 3000 */
    int renew_ms;     /* 1000 */
    /* Gained and lost shards; `count` may be 0 after lease_check. */
    void (*on_shards)(void *ctx, const struct sched_shard_change *changes, size_t count);
    /* More than our share: finish what is in hand of the shard, then lease_release it. */
    void (*on_surplus)(void *ctx, int16_t shard);
    /* PostgreSQL's clock, with each renewal. */
    void (*on_clock)(void *ctx, struct wall_us now, struct mono_us at);
    /* The oldest and the newest event format that live schedulers announce, with each renewal. */
    void (*on_formats)(void *ctx, int oldest, int newest);
    /* What gateways should know of our load, as JSON, at each renewal; STR_NONE: nothing. While there is something it
     * is asked for more often. Valid until the next call. May be NULL. */
    struct str (*load)(void *ctx);
    /* Likewise what people should know of our broker and queues; always something. May be NULL. */
    struct str (*health)(void *ctx);
    /* Another process has our name: this one must end. */
    void (*on_replaced)(void *ctx);
    void *ctx;
};

struct lease *lease_new(const struct lease_options *options); /* registers and takes shards as soon as it can */
void lease_free(struct lease *lease);
/* Reads who owns what now; on_shards is called afterwards in any case, as soon as PostgreSQL has answered. */
void lease_check(struct lease *lease);
/* What `health` says has changed in a way that nobody should learn of a second later: renews, and tells, now. */
void lease_has_news(struct lease *lease);
/* Gives one shard up. The caller has nothing of it in hand any more; on_shards says that it is lost when PostgreSQL has
 * answered. */
void lease_release(struct lease *lease, int16_t shard);
/* A run of the shard needs a newer event format than ours: the shard is left to schedulers that have it, as long as one
 * lives. on_surplus follows. */
void lease_needs_newer(struct lease *lease, int16_t shard);
/* Takes no more shards; on_surplus is not called again. */
void lease_stop(struct lease *lease);
/* Gives everything up in one transaction, then `done` (also when PostgreSQL cannot be reached within a second). */
void lease_leave(struct lease *lease, void (*done)(void *ctx), void *ctx);
bool lease_is_live(const struct lease *lease);  /* renewed within its time, by our own clock from before the renewal */
size_t lease_shards(const struct lease *lease); /* how many are held */
