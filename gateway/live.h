/* What happens to runs while somebody looks: waits for an end, streams of events, verdicts on commands. Schedulers push
 * committed events to this gateway's queue (update messages); a run that is watched is announced to its scheduler every
 * 10 s (watch messages). As a net one query every 2 s asks for all watched runs of an organisation at once. Loop thread
 * only. */
#pragma once
#include "gateway/gateway.h"

struct live_event {
    uint32_t seq;
    struct str type; /* "step.succeeded" */
    struct str json; /* the whole event as the API shows it */
};

struct live_watcher;
struct live_calls {
    /* Events behind the last one given, in order, without a gap. NULL: the watcher wants none. */
    void (*on_event)(void *ctx, const struct live_event *event);
    /* The run has ended, and every event of it has been given. At most once. */
    void (*on_end)(void *ctx, struct str status);
    /* A scheduler's answer to a command; may be NULL. */
    void (*on_verdict)(void *ctx, int64_t command, bool applied, struct str code, struct str reason);
};

struct live *live_new(struct gateway *gw);
void live_free(struct live *live);
/* Queue and consumer; call once the consuming link exists. */
void live_start(struct live *live);
/* Watches a run from the event after `after_seq` on; events that are there already are read and given. Callbacks come
 * from the loop, never from inside this call, and may free the watcher. announced: the run's start command names this
 * gateway, nobody needs to be told. end: the status the run is known to have ended with, or STR_NONE. */
struct live_watcher *live_watch(struct live *live, int32_t organisation, struct run_id run, uint32_t after_seq,
                                bool announced, struct str end, const struct live_calls *calls, void *ctx);
void live_unwatch(struct live_watcher *watcher); /* accepts NULL */
size_t live_count(const struct live *live);
