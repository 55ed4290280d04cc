/* Which runs: the conditions of a list of runs, also of what is asked of many at once. Pure. */
#pragma once
#include "common/base/clock.h"
#include "common/base/id.h"
#include "common/base/str.h"

#define RUN_FILTER_LABELS_MAX 16

struct run_filter {
    struct str workflow, status, q;
    bool running, waiting; /* status asked for beneath "active" */
    struct run_id from, below, parent;
    bool has_parent;
    size_t label_count;
    struct str label_keys[RUN_FILTER_LABELS_MAX], label_values[RUN_FILTER_LABELS_MAX];
};

void run_filter_init(struct run_filter *filter);
/* One condition: workflow, status, q, parent, created_after, created_before, label.KEY. Gives what is wrong, or NULL;
 * RUN_FILTER_UNKNOWN for another name. Borrows both texts. */
const char *run_filter_add(struct run_filter *filter, struct str name, struct str value);
extern const char RUN_FILTER_UNKNOWN[];
/* The lowest id of a point in time: its milliseconds, the rest zero. */
struct run_id run_filter_bound(struct wall_us t);
