/* An event as the API shows it: {"seq", "type", "at", "step", "attempt", "data", "output"} without
 * what is not there, the same as in update messages. A body over 4 KiB is {"$ref", "bytes"}. */
#pragma once
#include "common/base/id.h"
#include "common/base/json_text.h"
#include "common/io/pg.h"

#define BODY_SHOWN_BYTES 4096

/* A row of event_page.sql. */
void event_json(struct run_id run, const struct pg_result *rows, size_t row, struct buf *out);
/* Where a body is that is too long to be shown: event type by number, step and attempt of its event; a signal's by seq.
 */
void body_reference(struct run_id run, int type, struct str step, int attempt, uint32_t seq, size_t bytes,
                    struct buf *out);
