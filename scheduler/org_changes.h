/* Tells the core when limits or weight of an organisation have changed: it asks every two seconds for those that have
 * changed since it last had an answer. Runs bring their organisation's with them when they are read, so this is for
 * runs that stay in memory. Loop thread only. */
#pragma once
#include "common/io/pg.h"
#include "scheduler/core/sched_core.h"

struct org_changes;
struct org_changes_options {
    uv_loop_t *loop;
    struct pg *pg;              /* must outlive it */
    struct sched *const *sched; /* NULL inside until there is one */
    void (*room)(void *ctx);    /* more runs of an organisation may go on at a time than before */
    void *ctx;
};
struct org_changes *org_changes_new(const struct org_changes_options *options);
void org_changes_free(struct org_changes *changes); /* before its pg: answers that come later are ignored */
