/* A workflow as a Mermaid flowchart. Pure. */
#pragma once
#include "common/engine/plan.h"

void mermaid_write(const struct plan *plan, struct buf *out);
/* The same of a run: `states` has the state of each step of the plan ("succeeded", ...), NULL where it has none to
 * show. */
void mermaid_write_states(const struct plan *plan, const char *const *states, struct buf *out);
