/* Compiled plans, for all who want them. */
#include "tests/sim/sim.h"

#include "common/base/banned.h"

#define PLANS_KEPT                                                                                                     \
    64 /* more than a history has documents; who shrinks one, or plays a directed one, has them again                  \
        */

static struct plan *kept[PLANS_KEPT];

/* Limits make no other plan: they only refuse, and who could save a document within them compiles it without. */
struct plan *sim_plan_compile(struct str document, const struct plan_limits *limits, struct plan_faults *faults)
{
    struct plan **place = &kept[str_hash(document) % PLANS_KEPT];
    struct plan *plan;

    if (*place != NULL && str_eq((*place)->document, document))
        return plan_ref(*place);
    plan = plan_compile(document, limits, faults);
    if (plan == NULL)
        return NULL;
    plan_unref(*place);
    *place = plan_ref(plan);
    return plan;
}
