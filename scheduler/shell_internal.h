/* What shell.c (life: the tick, the drain), shell_start.c (what comes before the core) and ports.c (the core's ports)
 * share. */
#pragma once
#include "common/base/ensure.h"
#include "common/base/log.h"
#include "common/expr/sandbox.h"
#include "scheduler/broker.h"
#include "scheduler/firing.h"
#include "scheduler/journal_file.h"
#include "scheduler/lease.h"
#include "scheduler/shell.h"
#include "scheduler/store.h"
#include "scheduler/org_changes.h"
#include "scheduler/release.h"
#include "scheduler/upkeep.h"
#include "scheduler/watch.h"

struct shell {
    struct service *service;
    uv_loop_t *loop;
    const struct config *config;
    struct run_id me; /* incarnation of this process */

    struct store *store;
    struct broker *broker;
    struct lease *lease;
    struct sandbox *sandbox;
    struct journal_file *journal;
    struct upkeep *upkeep;
    struct watch *watch;
    struct org_changes *org_changes;
    struct firing *firing;
    struct release *release;
    struct sched *sched; /* NULL until everything it needs was read */

    /* read at start */
    struct db_clock clock;
    char token_key[64];
    size_t token_key_len;
    int32_t incarnation; /* of the installation */
    int16_t slot_shard[SLOT_COUNT];
    size_t shard_count;

    uv_prepare_t prepare;
    uv_check_t check;
    uv_timer_t wake;  /* when the core wants its next tick */
    uv_timer_t retry; /* of a start that failed; the end of a drain */
    bool input;       /* the core has inputs that it has not worked on */
    bool starting, stopping, leaving;
    bool owned[SLOT_COUNT];
    int64_t epochs[SLOT_COUNT]; /* of shards that are owned */
    size_t owned_count;
    struct buf load; /* as it was told last */
    struct buf health;
};

/* ports.c */
struct sched_ports shell_ports(struct shell *shell);
void shell_woken(void *ctx); /* the core has an input */
/* shell.c */
void shell_maybe_leave(struct shell *shell); /* when nothing is owned any more */
struct str shell_load(void *ctx);
struct str shell_health(void *ctx);
/* shell_start.c */
void shell_store_up(void *ctx);
