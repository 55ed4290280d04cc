/* Steps that wait for an event and have to look for it among those that came before they began. A row of open work says
 * that it has not looked yet, so whoever has its shard finds it, whatever became of the one who opened it; here is only
 * decided when to ask. */
#include "scheduler/core/core_internal.h"

#include "common/base/banned.h"

#define PAUSE_US (50 * US_PER_MS) /* where nothing came of it: events are arriving, or a batch has the row in hand */
#define PAUSE_MAX_US (5 * US_PER_S)
#define REGULAR_US (10 * US_PER_S) /* for what nobody thought of: there is nothing then, as a rule */

void looks_want(struct sched *sched)
{
    sched->look_wanted = true;
    sched->look_at.us = 0;
    sched->look_pause_us = 0;
}

void looks_tick(struct sched *sched)
{
    int16_t shards[256];
    size_t n = 0;

    if (sched->looking || sched->owned_count == 0 || sched->ports.look_back == NULL)
        return;
    if (sched->look_at.us > sched->now.us) {
        wake_by(sched, sched->look_at);
        return;
    }
    for (size_t i = 0; i < sched->shard_cap && n < 256; i++)
        if (sched->shards[i] != NULL && sched->shards[i]->ready && !sched->shards[i]->releasing)
            shards[n++] = sched->shards[i]->number;
    if (n == 0)
        return;
    sched->looking = true;
    sched->look_wanted = false;
    sched->ports.look_back(sched->ports.ctx, shards, n);
}

/* What was asked for meanwhile is asked again: it may have been too late for this answer. */
void sched_on_looked(struct sched *sched, bool told, bool remaining, bool failed)
{
    sched->now = sched->ports.mono(sched->ports.ctx);
    sched->looking = false;
    if (told)
        commands_want(sched);
    if (sched->look_wanted)
        return;
    if (told && remaining) {
        looks_want(sched);
        return;
    }
    if (!remaining && !failed) {
        sched->look_pause_us = 0;
        sched->look_at = mono_after(sched->now, REGULAR_US);
        return;
    }
    sched->look_pause_us = sched->look_pause_us == 0 ? PAUSE_US : 2 * sched->look_pause_us;
    if (sched->look_pause_us > PAUSE_MAX_US)
        sched->look_pause_us = PAUSE_MAX_US;
    sched->look_at = mono_after(sched->now, sched->look_pause_us);
}
