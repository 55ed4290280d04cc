/* What live.c keeps. */
#pragma once
#include "common/base/map.h"
#include "gateway/live.h"

struct live_watcher {
    struct live *live;
    struct watched *watched;
    struct live_watcher *next, *next_fresh;
    struct live_calls calls;
    void *ctx;
    uint32_t last_seq; /* given */
    bool fresh;        /* among live->fresh */
    bool reading;      /* a page is on its way */
    bool again;        /* ... and there is more behind it */
    bool told_end;
    bool gone; /* unwatched: freed as soon as nobody is inside it */
};

struct watched {
    struct run_id run;
    int32_t organisation;
    struct live_watcher *first;
    uint32_t newest; /* of its events, as far as we know */
    bool ended;
    char status[32];
    unsigned walking; /* its list of watchers is being walked */
    struct mono_us announced_at;
};

struct live {
    struct gateway *gw;
    struct map *runs;           /* by the bytes of the id */
    struct live_watcher *fresh; /* have not looked into the table yet */
    size_t watcher_count;
    uv_timer_t tick, look;
    unsigned timers, asking;
    bool asking_slots;
    struct mono_us net_at, slots_at;
    int16_t shards[SLOT_COUNT]; /* -1: not known yet */
};
