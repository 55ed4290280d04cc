/* Works off operations on many runs: what has become of their commands is counted, and as many more runs are asked, by
 * whichever gateway looks. Each look is one statement, and the operation's row is locked for it, so a gateway that dies
 * has forgotten nothing and two do not ask twice. What starts new runs is only counted here: bulk_rerun.h. Loop thread
 * only. */
#pragma once
#include "gateway/gateway.h"

struct bulk_steps;
struct bulk_steps *bulk_steps_new(struct gateway *gw);
/* There is something to do: do not wait until it is looked for. */
void bulk_steps_wake(struct bulk_steps *steps);
void bulk_steps_free(struct bulk_steps *steps); /* after its connection; the loop must run once more */
