/* Workflow versions in memory: compiled plan and input schema, by organisation, name and version. Versions never
 * change, so they are kept; which one is the newest may be out of date and is decided where it matters (the starting
 * transaction). Bounded; the least recently used go first. */
#pragma once
#include "common/engine/plan.h"
#include "common/schema/schema.h"
#include "gateway/gateway.h"

struct flow {
    int32_t organisation;
    struct str name;
    int32_t version;
    struct plan *plan;                 /* NULL: this release cannot run it; the first fault says why */
    const struct schema *input_schema; /* NULL: any input */
    char fault[256];
    struct arena *arena;
    uint64_t used;
};

struct flows;
struct flows *flows_new(struct gateway *gw);
void flows_free(struct flows *flows);

/* flow NULL: there is none (rc OK) or it could not be read. Valid during the callback, which may come at once. */
typedef void (*flow_fn)(void *ctx, struct flow *flow, enum err_code rc, const struct err *err);
/* The newest version; fresh: asks PostgreSQL even when one is at hand. */
void flows_newest(struct flows *flows, int32_t organisation, struct str name, bool fresh, flow_fn done, void *ctx);
void flows_version(struct flows *flows, int32_t organisation, struct str name, int32_t version, flow_fn done,
                   void *ctx);
