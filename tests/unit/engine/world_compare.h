/* Of the world: that two states of one run say the same. */
#pragma once
#include "common/engine/engine.h"

/* Aborts with the difference. Node numbers, and what is not history (the rest of a stopped frame, whether a child was
 * told to stop), may differ. */
void states_same(const struct run_state *a, const struct run_state *b);
