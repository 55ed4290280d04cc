/* What waits, read from PostgreSQL once a second, and five times a second under pressure; and what admission makes of
 * it. Loop thread only. */
#pragma once
#include "gateway/admission.h"
#include "gateway/gateway.h"

struct backlog;
struct backlog *backlog_new(struct gateway *gw);
void backlog_free(struct backlog *backlog); /* after the connections; the loop must run once more */
/* May this organisation start a run of that priority now? Counts what is refused. */
enum admission_verdict backlog_ask(struct backlog *backlog, int32_t organisation, uint8_t priority,
                                   int64_t *ret_after_s);
