/* See org_changes.h. */
#include "scheduler/org_changes.h"
#include "common/base/ensure.h"
#include "common/base/log.h"
#include "rw_scheduler_sql.h"

#include "common/base/banned.h"

#define TURN_MS 2000
#define OVERLAP_MS 30000 /* a change is visible when it is committed, and dated when its transaction began */

struct org_changes {
    struct org_changes_options options;
    uv_timer_t timer;
    bool closed, asked;
    struct mono_us asked_at, known_at; /* what was there before known_at has been told */
};

static void maybe_free(struct org_changes *changes)
{
    if (changes->closed && !changes->asked && changes->timer.data == NULL)
        mem_free(changes);
}

static void on_changed(void *ctx, const struct pg_outcome *outcome)
{
    struct org_changes *changes = ctx;
    const struct pg_result *rows;
    bool room = false;

    changes->asked = false;
    if (changes->closed) {
        maybe_free(changes);
        return;
    }
    if (outcome->rc != ERR_OK) {
        log_event(LOG_WARN, "organisations.not_read", log_err(outcome->err));
        return;
    }
    rows = outcome->results[0];
    changes->known_at = changes->asked_at;
    for (size_t i = 0; i < pg_rows(rows); i++) {
        const struct sched_organisation row = {.id = (int32_t)pg_get_int(rows, i, 0),
                                               .weight = (uint32_t)pg_get_int(rows, i, 1),
                                               .limits = pg_get_str(rows, i, 2),
                                               .outgoing = (int32_t)pg_get_int(rows, i, 3)};

        room |= sched_on_organisations(*changes->options.sched, &row, 1);
    }
    if (room)
        changes->options.room(changes->options.ctx);
}

static void on_turn(uv_timer_t *timer)
{
    struct org_changes *changes = timer->data;
    struct mono_us now = clock_mono();
    struct pg_batch *batch;

    if (changes->asked || *changes->options.sched == NULL)
        return;
    batch = pg_batch_new(false);
    changes->asked = true;
    changes->asked_at = now;
    (void)pg_add(batch, SQL_ORGANISATIONS_CHANGED, pg_i64((now.us - changes->known_at.us) / US_PER_MS + OVERLAP_MS));
    pg_submit(changes->options.pg, batch, on_changed, changes);
}

struct org_changes *org_changes_new(const struct org_changes_options *options)
{
    struct org_changes *changes = mem_alloc(sizeof(*changes));

    changes->options = *options;
    changes->known_at = clock_mono();
    ENSURE(uv_timer_init(options->loop, &changes->timer) == 0);
    changes->timer.data = changes;
    uv_timer_start(&changes->timer, on_turn, TURN_MS, TURN_MS);
    return changes;
}

static void on_closed(uv_handle_t *handle)
{
    struct org_changes *changes = handle->data;

    handle->data = NULL;
    maybe_free(changes);
}

void org_changes_free(struct org_changes *changes)
{
    if (changes == NULL)
        return;
    changes->closed = true;
    uv_close((uv_handle_t *)&changes->timer, on_closed);
}
