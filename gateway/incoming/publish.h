/* Events that are asked for by a call: checked, taken, and whatever is wrong with them answered. Loop thread only. */
#pragma once
#include "gateway/call.h"

/* Takes what `json` is, one event or a list of them, for the call's organisation. Faults, and what cannot be taken now,
 * are answered; else `taken` is called once, when all of it is committed, now or before. */
void events_take_json(struct call *call, struct str json, void (*taken)(void *ctx), void *ctx);
