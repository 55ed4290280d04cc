/* Answering later: when a run has ended or a command has its verdict, or when the time for it is over or the client has
 * gone, whichever comes first. */
#pragma once
#include "gateway/call.h"
#include "gateway/live.h"

/* Watches the run until it ends, at most `wait_us`; then `done` once (ended or not). announced: see live_watch. */
void wait_for_end(struct call *call, struct run_id run, int64_t wait_us, bool announced,
                  void (*done)(struct call *call, struct run_id run, bool ended));

struct verdict {
    bool given, applied;
    struct str code, reason; /* valid during the callback */
};
/* A wait for the verdict on a command whose number is not known before it has been written: begins to listen at once.
 */
struct verdict_wait;
struct verdict_wait *verdict_wait_begin(struct call *call, struct run_id run, int64_t wait_us,
                                        void (*done)(struct call *call, int64_t command,
                                                     const struct verdict *verdict));
/* The command is written; its verdict may have come already. 0: it was not, end without an answer. */
void verdict_wait_command(struct verdict_wait *wait, int64_t command);

void waits_stop(struct gateway *gw); /* SIGTERM: every wait is over now */
