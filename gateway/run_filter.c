/* See run_filter.h. */
#include "gateway/run_filter.h"

#include "common/base/banned.h"

const char RUN_FILTER_UNKNOWN[] = "there are: workflow, status, q, parent, created_after, created_before, label.KEY";

struct run_id run_filter_bound(struct wall_us t)
{
    struct run_id id = {{0}};
    uint64_t ms = t.us < 0 ? 0 : (uint64_t)(t.us / US_PER_MS);

    for (int i = 0; i < 6; i++)
        id.bytes[i] = (uint8_t)(ms >> (8 * (5 - i)));
    return id;
}

static bool is_run_status(struct str status)
{
    static const char *const names[] = {"pending",   "active",    "running",     "waiting",
                                        "paused",    "succeeded", "failed",      "partially_completed",
                                        "cancelled", "timed_out", "compensated", "compensation_failed"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (str_is(status, names[i]))
            return true;
    return false;
}

void run_filter_init(struct run_filter *filter)
{
    *filter = (struct run_filter){.workflow = STR_NONE, .status = STR_NONE, .q = STR_NONE};
    memset(&filter->below, 0xff, sizeof(filter->below));
}

static const char *add_status(struct run_filter *filter, struct str value)
{
    if (!is_run_status(value))
        return "status is none of a run's states";
    filter->running = str_is(value, "running");
    filter->waiting = str_is(value, "waiting");
    filter->status = filter->running || filter->waiting ? STR("active") : value;
    return NULL;
}

static const char *add_label(struct run_filter *filter, struct str key, struct str value)
{
    if (filter->label_count == RUN_FILTER_LABELS_MAX)
        return "at most 16 labels at once";
    filter->label_keys[filter->label_count] = key;
    filter->label_values[filter->label_count++] = value;
    return NULL;
}

const char *run_filter_add(struct run_filter *filter, struct str name, struct str value)
{
    bool after = str_is(name, "created_after");
    struct wall_us at;

    if (str_is(name, "workflow")) {
        filter->workflow = value;
    } else if (str_is(name, "q")) {
        filter->q = value;
    } else if (str_is(name, "status")) {
        return add_status(filter, value);
    } else if (str_is(name, "parent")) {
        filter->has_parent = true;
        return run_id_parse(value, &filter->parent) ? NULL : "parent is the id of a run";
    } else if (after || str_is(name, "created_before")) {
        if (!wall_parse(value, &at))
            return after ? "created_after is a time such as 2026-11-21T04:00:00Z"
                         : "created_before is a time such as 2026-11-21T04:00:00Z";
        *(after ? &filter->from : &filter->below) = run_filter_bound(at);
    } else if (str_starts(name, "label.")) {
        return add_label(filter, (struct str){name.ptr + 6, name.len - 6}, value);
    } else {
        return RUN_FILTER_UNKNOWN;
    }
    return NULL;
}
