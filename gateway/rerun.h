/* What is asked of a run that is done again, alone or as one of many. */
#pragma once
#include "gateway/call.h"

#define RERUN_FIELDS "from version input outputs confirm"

struct rerun_asked {
    struct str from;    /* name of a step; STR_NONE: all of it */
    struct str input;   /* JSON; STR_NONE: that of the old run */
    struct str outputs; /* JSON object; STR_NONE: none */
    struct str confirm; /* as read_confirm() has it */
    int64_t version;    /* 0: that of the old run */
};
/* False: answered. Slices of `body`, and of the call's arena. */
bool rerun_read(struct call *call, struct str body, struct rerun_asked *ret);
/* Does a run again for an operation on many: asked twice, at whatever gateway, it is done once, and answered 202 both
 * times. `body` and `operation` live as long as the call. */
void rerun_of_operation(struct call *call, struct run_id run, struct str body, const struct run_id *operation);
/* What a rerun would do to a run, without doing it: the steps that may not be repeated, would be, and are not confirmed
 * by `body` (a JSON list of names); or the call is answered why it would not be done. `body` lives as long as the call.
 */
void rerun_planned(struct call *call, struct run_id run, struct str body,
                   void (*done)(struct call *call, struct str unconfirmed));
/* The same of :retry. */
void retry_planned(struct call *call, struct run_id run, struct str body,
                   void (*done)(struct call *call, struct str unconfirmed));
