/* Taking shards and giving them up. */
#include "common/base/fault.h"
#include "rw_scheduler_sql.h"
#include "scheduler/lease_internal.h"

#include "common/base/banned.h"

#define STUCK_MS 2000 /* how long a free shard may stay locked by a batch of its old owner */

/* --- taking ------------------------------------------------------------------------------------------------------- */

struct request {
    struct lease *lease;
    size_t count;
    int16_t shards[];
};

static struct request *request_new(struct lease *lease, const int16_t *shards, size_t count)
{
    struct request *request = mem_alloc(sizeof(*request) + count * sizeof(*shards));

    request->lease = lease;
    request->count = count;
    memcpy(request->shards, shards, count * sizeof(*shards));
    for (size_t i = 0; i < count; i++)
        lease->held[shards[i]].busy++;
    return request;
}

static void request_end(struct request *request)
{
    for (size_t i = 0; i < request->count; i++)
        request->lease->held[request->shards[i]].busy--;
    mem_free(request);
}

static struct pg_param shard_array(struct pg_batch *batch, const int16_t *shards, size_t count)
{
    struct pg_array *array = pg_array_new(batch, PG_E_I16);

    for (size_t i = 0; i < count; i++)
        pg_array_add(array, pg_i16(shards[i]));
    return pg_array_param(array);
}

static void holders_ended(void *ctx, const struct pg_outcome *outcome)
{
    struct lease *lease = ctx;

    if (outcome->rc != ERR_OK)
        log_event(LOG_WARN, "shard.holders_not_ended", log_err(outcome->err));
    else
        log_event(LOG_WARN, "shard.holders_ended", log_i64("connections", (int64_t)pg_rows(outcome->results[0])));
    lease_tick_in(lease, HURRY_MS);
}

/* A batch that its frozen owner has half sent keeps its locks for ever: its connection is ended. */
static void end_holders(struct lease *lease, const struct request *request)
{
    struct mono_us now = clock_mono();
    struct pg_batch *batch;
    int16_t stuck[SHARDS_MAX];
    size_t count = 0;

    for (size_t i = 0; i < request->count; i++) {
        struct held *held = &lease->held[request->shards[i]];

        if (held->state != SHARD_FREE)
            continue;
        if (held->refused_since.us == 0)
            held->refused_since = now;
        else if (now.us - held->refused_since.us > STUCK_MS * US_PER_MS)
            stuck[count++] = request->shards[i];
    }
    if (count == 0)
        return;
    batch = pg_batch_new(true);
    (void)pg_add(batch, SQL_SHARD_HOLDERS_END, shard_array(batch, stuck, count));
    pg_submit(lease->pg, batch, holders_ended, lease);
}

static void taken(void *ctx, const struct pg_outcome *outcome)
{
    struct request *request = ctx;
    struct lease *lease = request->lease;

    if (lease->freed) {
        request_end(request);
        return;
    }
    if (outcome->rc != ERR_OK) {
        log_event(LOG_WARN, "shard.take_failed", log_err(outcome->err));
    } else {
        const struct pg_result *res = outcome->results[0];

        for (size_t i = 0; i < pg_rows(res); i++)
            lease_gain(lease, (int16_t)pg_get_int(res, i, 0), pg_get_int(res, i, 1));
        FAULT_POINT_IF(scheduler_shard_taken, pg_rows(res) > 0);
        end_holders(lease, request);
        if (pg_rows(res) < request->count)
            lease_tick_in(lease, HURRY_MS);
    }
    request_end(request);
    lease_tell_changes(lease);
}

void lease_take(struct lease *lease, const int16_t *shards, size_t count)
{
    struct pg_batch *batch;

    if (count == 0)
        return;
    batch = pg_batch_new(true);
    (void)pg_add(batch, SQL_SHARD_TAKE, pg_text(str_of(lease->options.name)), pg_uuid(lease->options.me),
                 shard_array(batch, shards, count));
    pg_submit(lease->pg, batch, taken, request_new(lease, shards, count));
}

/* --- giving up ---------------------------------------------------------------------------------------------------- */

static void released(void *ctx, const struct pg_outcome *outcome)
{
    struct request *request = ctx;
    struct lease *lease = request->lease;

    if (lease->freed) {
        request_end(request);
        return;
    }
    if (outcome->rc != ERR_OK)
        log_event(LOG_WARN, "shard.release_failed", log_err(outcome->err)); /* the next tick finds it still ours */
    FAULT_POINT_IF(scheduler_shard_given, outcome->rc == ERR_OK);
    /* Whose it is now does not matter: who released it begins nothing of it any more, and messages that it goes on
     * hearing would wait with it for ever. */
    for (size_t i = 0; i < request->count; i++)
        lease_lost(lease, request->shards[i]);
    request_end(request);
    lease_tell_changes(lease);
}

void lease_release(struct lease *lease, int16_t shard)
{
    struct pg_batch *batch;
    struct held *held;

    ENSURE(shard >= 0);
    if ((size_t)shard >= lease->shard_count)
        return;
    held = &lease->held[shard];
    if (held->state == SHARD_FREE)
        return;
    held->state = SHARD_FREE;
    lease->held_count--;
    log_event(LOG_INFO, "shard.released", log_i64("shard", shard), log_i64("epoch", held->epoch));
    if (lease->stopping)
        return; /* lease_leave gives them all up at once */
    FAULT_POINT(scheduler_shard_giving);
    batch = pg_batch_new(true);
    (void)pg_add(batch, SQL_SHARD_RELEASE, pg_uuid(lease->options.me), shard_array(batch, &shard, 1));
    pg_submit(lease->pg, batch, released, request_new(lease, &shard, 1));
}

void lease_give_surplus(struct lease *lease, const size_t shares[SHARD_KINDS])
{
    size_t keep[SHARD_KINDS] = {0};

    for (size_t i = 0; i < lease->shard_count; i++)
        keep[lease->held[i].kind] += lease->held[i].state == SHARD_HELD;
    for (size_t i = lease->shard_count; i-- > 0;) {
        struct held *held = &lease->held[i];

        if (held->state != SHARD_HELD || keep[held->kind] <= shares[held->kind])
            continue;
        held->state = SHARD_SURPLUS;
        keep[held->kind]--;
        lease->options.on_surplus(lease->options.ctx, (int16_t)i);
    }
}

static void noted(void *ctx, const struct pg_outcome *outcome)
{
    struct lease *lease = ctx;

    if (lease->freed)
        return;
    if (outcome->rc != ERR_OK)
        log_event(LOG_WARN, "shard.need_not_noted", log_err(outcome->err)); /* said again with the next such run */
    lease_tick_in(lease, 1);
}

void lease_needs_newer(struct lease *lease, int16_t shard)
{
    struct pg_batch *batch = pg_batch_new(true);

    log_event(LOG_WARN, "shard.needs_newer_release", log_i64("shard", shard), log_i64("format", lease->options.format));
    (void)pg_add(batch, SQL_SHARD_NEEDS, pg_uuid(lease->options.me), pg_i16(shard), pg_i32(lease->options.format + 1));
    pg_submit(lease->pg, batch, noted, lease);
}
