/* What :retry and :rerun share: `plan` of the query, and `confirm` of the body, which says what may be repeated. */
#pragma once
#include "gateway/call.h"

/* False: answered. */
bool read_plan(struct call *call, bool *ret);
/* ret: "true", "false", or a list of names of steps. False: answered. */
bool read_confirm(struct call *call, struct str body, struct str *ret);
/* Is this step, which may not be repeated, said to be? */
bool is_confirmed(struct call *call, struct str confirm, struct str step);
