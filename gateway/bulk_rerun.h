/* Works off operations that have many runs done again (POST /v1/runs:rerun). Each run is asked for as its :rerun would
 * be, a few at a time, by whichever gateway takes its row; the transaction that starts the new run changes the row, so
 * a gateway that dies in the middle has forgotten nothing, and what two of them do is done once. Loop thread only. */
#pragma once
#include "gateway/gateway.h"

struct bulk_reruns;
struct bulk_reruns *bulk_reruns_new(struct gateway *gw);
/* There is something to do: do not wait until it is looked for. */
void bulk_reruns_wake(struct bulk_reruns *reruns);
/* Takes no more; `done` when what is in hand has ended, perhaps at once. */
void bulk_reruns_stop(struct bulk_reruns *reruns, void (*done)(void *ctx), void *ctx);
void bulk_reruns_free(struct bulk_reruns *reruns); /* stopped; the loop must run once more */
