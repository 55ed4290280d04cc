/* Where the API has the body of an event that is too large to be shown with it. */
#pragma once
#include "common/engine/event.h"

#define BODY_PATH_SIZE 1664 /* the longest, with its end */

/* Appends "/v1/runs/{id}/steps/each%5B3%5D.go/attempts/2/output" or the like. step STR_NONE: of the run. attempt 0: of
 * what has no attempts, and counts as the first. seq: of the event; only signals are named by it. */
void body_path(struct run_id run, enum event_type type, struct str step, unsigned attempt, uint32_t seq,
               struct buf *out);
