/* Are the schedules of a document any good? Expressions, zones, times, and the input that their runs get. */
#pragma once
#include "common/schedule/definition.h"

/* `document` has passed jt_check. Pointers are the document's. */
void schedules_check(struct str document, schedule_fault_fn fault, void *ctx);
