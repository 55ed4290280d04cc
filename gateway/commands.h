/* Commands: what is asked of a run, written for its scheduler. */
#pragma once
#include "gateway/wait.h"

#define VERDICT_US (2 * US_PER_S) /* how long an answer waits for the verdict */

/* Writes the command for the run of the path, and answers with its verdict, or 202 when that takes longer. */
void command_ask(struct call *call, const char *kind, struct str body);
/* "/v1/runs/{id}/commands/{n}" in the call's arena. */
const char *command_location(struct call *call, struct run_id run, int64_t command);
/* Answers 409 with the verdict's reason. */
void command_refused(struct call *call, const struct verdict *verdict);
