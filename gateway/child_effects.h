/* What doing the steps of a plan once more would do outside, child runs looked into: a step that starts a child run has
 * the strongest effect of the workflow's newest version, or of the version that it names, and of what that starts in
 * turn. Where the document says `effect` itself, that holds; what cannot be known beforehand (a workflow
 * that is not there or cannot be read, more than 500 to look at) is not to be repeated. */
#pragma once
#include "common/engine/plan.h"
#include "gateway/call.h"

/* effects: enum plan_effect by step of the plan's root, in the call's arena. When the database cannot be asked the call
 * is answered, and `done` not called. */
void child_effects(struct call *call, const struct plan *plan, void (*done)(void *ctx, const uint8_t *effects),
                   void *ctx);
