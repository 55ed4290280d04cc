/* A workflow as a Mermaid flowchart. Pure. */
#pragma once
#include "common/engine/plan.h"

void mermaid_write(const struct plan *plan, struct buf *out);
