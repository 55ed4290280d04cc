/* Arrivals at triggers with debounce, throttle or batch: the group that one belongs to, and what it is told by. What
 * comes of it is decided by the database, under the lock of the group's row: held_take() in common/db/migrations. Loop
 * thread only. */
#pragma once
#include "common/engine/plan.h"
#include "common/expr/fill.h"
#include "gateway/gateway.h"

struct held {
    struct str workflow, trigger;
    struct str how, key; /* of the group; key: JSON or its hash, empty without a key */
    struct str rule;     /* JSON for held_take(); STR_NONE: the trigger has none of the three */
    unsigned slot;       /* of the group */
};

/* Who arrives. All of it lives until `done`, which is called once, maybe inside this call. */
struct holding {
    struct gateway *gw;
    int32_t organisation;
    const struct limits *limits;
    struct arena *arena;
    struct str workflow;
    const struct plan_trigger *trigger; /* one that holds */
    struct expr_doc doc;                /* what its key reads */
    struct held *to;
    void (*done)(void *ctx, enum fill_status status, const char *message);
    void *ctx;
};
void holding_make(struct holding *holding);

/* Locks the groups of arrivals of one organisation, in a transaction that has locked the starts. */
struct held_groups {
    struct pg_array *columns[5];
};
void held_groups_init(struct held_groups *groups, struct pg_batch *batch);
void held_groups_add(struct held_groups *groups, const struct held *held);
int held_groups_lock(struct held_groups *groups, struct pg_batch *batch); /* index of its result */

/* Counts an arrival that started no run, by the verdict of held_take(). */
void held_count(struct str verdict);
