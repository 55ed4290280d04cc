/* What no fault in here leads to, and the watch is for: rows of open work that are lost, or that nobody knows of. Of
 * the watch's own walk (scheduler/watch.c) there is only what it comes to: that the run is looked at. */
#include "tests/sim/sim.h"

#include "common/base/banned.h"

#define LOOK_US (5 * SEC)

static void look(struct sim *sim, void *what)
{
    const struct db_run *run = what;
    struct node *owner = db_owner(sim, run->shard);

    if (run_ended(run->status))
        return;
    if (owner != NULL && owner->alive && owner->frozen_until <= sim->now) {
        sched_audit(owner->sched, &run->id, 1);
        node_turn(owner);
    }
    sim_at(sim, sim->now + LOOK_US, NULL, look, what);
}

/* But for the one of the run's own end, which is there as long as it is. */
static void lose_rows(struct db_run *run)
{
    for (size_t i = 0; i < run->work_count; i++)
        if (run->work[i].row.kind != WORK_RUN_TIMEOUT)
            run->work[i].open = false;
}

/* One that was done with comes back. */
static bool bring_back(struct db_run *run)
{
    for (size_t i = 0; i < run->work_count; i++)
        if (!run->work[i].open && run->work[i].row.kind == WORK_DELAY)
            return run->work[i].open = true;
    return false;
}

void db_damage(struct sim *sim, struct db_run *run, const char *kind)
{
    if (run_ended(run->status))
        return;
    sim->damaged = run->damaged = true;
    if (strcmp(kind, "lost") == 0)
        lose_rows(run);
    else if (!bring_back(run) && sim->quiet)
        sim_fail(sim, "run %u has no row that could come back", run->number);
    sim_after(sim, SEC, LOOK_US, NULL, look, run);
}
