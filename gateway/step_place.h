/* Where a step's path leads in a plan: "charge", "each[3]", "each[3].go", "charge:compensate", ":notify". Looks at
 * nothing but the plan: whether an iteration has begun is for the history to say. */
#pragma once
#include "common/engine/plan.h"

struct step_place {
    uint32_t step;  /* index into plan.steps; of an iteration: its loop */
    bool is_item;   /* an iteration itself */
    uint32_t index; /* of it */
};

/* False: the plan has no such step. */
bool step_place_find(const struct plan *plan, struct str path, struct step_place *ret);
