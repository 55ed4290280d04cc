/* The lease of a scheduler and the shards it holds.
 *
 * A shard is FREE for us, HELD, or SURPLUS (held, on its way out). A tick renews the lease and reads who shares the
 * shards and who owns them, in one round trip; what it finds becomes gains, losses, surplus, and what is worth taking.
 * Statements of this connection are answered in order: while one of ours about a shard is under way (`busy`), what an
 * older reading says of that shard is old. */
#include "scheduler/lease.h"
#include "common/base/ensure.h"
#include "common/base/log.h"
#include "rw_scheduler_sql.h"

#include "common/base/banned.h"

#define SHARDS_MAX 4096
#define HURRY_MS 100  /* between ticks while we have less than our share, or a lease is about to lapse */
#define STUCK_MS 2000 /* how long a free shard may stay locked by a batch of its old owner */

enum held_state { SHARD_FREE, SHARD_HELD, SHARD_SURPLUS };

struct held {
    enum held_state state;
    int64_t epoch;
    unsigned busy;                /* our own statements about it that are not answered yet */
    struct mono_us refused_since; /* free, but not to be had; 0: not refused */
};

struct lease {
    struct lease_options options;
    struct pg *pg;
    uv_timer_t timer;
    unsigned open_handles;
    bool freed;
    bool registered, stopping, leaving;
    bool ticking;           /* a tick is under way */
    bool check;             /* somebody waits for on_shards */
    struct mono_us renewed; /* when the last successful renewal was sent */
    struct mono_us tick_sent;
    int format;
    bool clock_sampled;
    int64_t clock_offset; /* of the last sample that was handed on */
    struct held held[SHARDS_MAX];
    size_t held_count;
    struct sched_shard_change changes[SHARDS_MAX];
    size_t change_count;
    void (*left)(void *ctx);
    void *left_ctx;
};

static void tick(struct lease *lease);

static void on_timer(uv_timer_t *timer)
{
    tick(timer->data);
}

static void tick_in(struct lease *lease, int64_t ms)
{
    if (!lease->freed && !lease->leaving)
        uv_timer_start(&lease->timer, on_timer, (uint64_t)(ms < 1 ? 1 : ms), 0);
}

/* --- gains and losses --------------------------------------------------------------------------------------------- */

static void change(struct lease *lease, int16_t shard, bool gained, int64_t epoch)
{
    lease->changes[lease->change_count++] = (struct sched_shard_change){shard, gained, epoch};
}

static void gain(struct lease *lease, int16_t shard, int64_t epoch)
{
    struct held *held = &lease->held[shard];

    if (held->state == SHARD_FREE)
        lease->held_count++;
    *held = (struct held){.state = SHARD_HELD, .epoch = epoch, .busy = held->busy};
    change(lease, shard, true, epoch);
}

static void lose(struct lease *lease, int16_t shard)
{
    struct held *held = &lease->held[shard];

    if (held->state == SHARD_FREE)
        return;
    held->state = SHARD_FREE;
    lease->held_count--;
    change(lease, shard, false, held->epoch);
}

static void tell_changes(struct lease *lease)
{
    size_t count = lease->change_count;

    if (count == 0 && !lease->check)
        return;
    lease->check = false;
    lease->change_count = 0;
    lease->options.on_shards(lease->options.ctx, lease->changes, count);
}

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
    tick_in(lease, HURRY_MS);
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
            gain(lease, (int16_t)pg_get_int(res, i, 0), pg_get_int(res, i, 1));
        end_holders(lease, request);
        if (pg_rows(res) < request->count)
            tick_in(lease, HURRY_MS);
    }
    request_end(request);
    tell_changes(lease);
}

static void take(struct lease *lease, const int16_t *shards, size_t count)
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

    if (outcome->rc != ERR_OK && !lease->freed)
        log_event(LOG_WARN, "shard.release_failed", log_err(outcome->err)); /* the next tick finds it still ours */
    request_end(request);
}

void lease_release(struct lease *lease, int16_t shard)
{
    struct pg_batch *batch;
    struct held *held;

    ENSURE(shard >= 0 && shard < SHARDS_MAX);
    held = &lease->held[shard];
    if (held->state == SHARD_FREE)
        return;
    held->state = SHARD_FREE;
    lease->held_count--;
    log_event(LOG_INFO, "shard.released", log_i64("shard", shard), log_i64("epoch", held->epoch));
    if (lease->stopping)
        return; /* lease_leave gives them all up at once */
    batch = pg_batch_new(true);
    (void)pg_add(batch, SQL_SHARD_RELEASE, pg_uuid(lease->options.me), shard_array(batch, &shard, 1));
    pg_submit(lease->pg, batch, released, request_new(lease, &shard, 1));
}

static void give_surplus(struct lease *lease, size_t target)
{
    size_t keep = 0;

    for (size_t i = 0; i < SHARDS_MAX; i++)
        keep += lease->held[i].state == SHARD_HELD;
    for (size_t i = SHARDS_MAX; i-- > 0 && keep > target;) {
        if (lease->held[i].state != SHARD_HELD)
            continue;
        lease->held[i].state = SHARD_SURPLUS;
        keep--;
        lease->options.on_surplus(lease->options.ctx, (int16_t)i);
    }
}

/* --- the tick ----------------------------------------------------------------------------------------------------- */

static void registered(void *ctx, const struct pg_outcome *outcome)
{
    struct lease *lease = ctx;

    lease->ticking = false;
    if (lease->freed || lease->leaving)
        return;
    if (outcome->rc != ERR_OK) {
        log_event(LOG_WARN, "lease.register_failed", log_err(outcome->err));
        tick_in(lease, lease->options.renew_ms);
        return;
    }
    lease->registered = true;
    lease->renewed = lease->tick_sent;
    log_event(LOG_INFO, "lease.registered", log_run("incarnation", lease->options.me));
    tick_in(lease, 1);
}

static void register_me(struct lease *lease)
{
    struct pg_batch *batch = pg_batch_new(true);

    (void)pg_add(batch, SQL_SCHEDULER_REGISTER, pg_text(str_of(lease->options.name)), pg_uuid(lease->options.me),
                 pg_i32(lease->options.lease_ms), pg_i32(lease->options.format));
    (void)pg_batch_add0(batch, SQL_SCHEDULER_FORGET);
    pg_submit(lease->pg, batch, registered, lease);
}

/* How many shards are ours: an equal part, and one of the rest for the first by name. */
static size_t share(size_t shards, size_t live, size_t before)
{
    if (live == 0)
        return 0;
    return shards / live + (before < shards % live ? 1 : 0);
}

/* Compares what we hold with the rows; fills `free_ones` with what could be taken. */
static size_t compare(struct lease *lease, const struct pg_result *rows, int16_t *free_ones)
{
    size_t count = 0;

    for (size_t i = 0; i < pg_rows(rows) && i < SHARDS_MAX; i++) {
        int16_t shard = (int16_t)pg_get_int(rows, i, 0);
        int64_t epoch = pg_get_int(rows, i, 1);
        bool mine = pg_get_bool(rows, i, 2), takeable = pg_get_bool(rows, i, 3);
        struct held *held;

        ENSURE(shard >= 0 && shard < SHARDS_MAX);
        held = &lease->held[shard];
        if (held->busy > 0)
            continue;
        if (mine && !lease->stopping && (held->state == SHARD_FREE || held->epoch != epoch))
            gain(lease, shard, epoch); /* the answer to our taking or giving up was lost */
        else if (!mine)
            lose(lease, shard);
        if (!mine && takeable)
            free_ones[count++] = shard;
        else
            held->refused_since.us = 0;
    }
    return count;
}

static void lose_everything(struct lease *lease)
{
    for (int i = 0; i < SHARDS_MAX; i++)
        lose(lease, (int16_t)i);
    lease->check = true;
    tell_changes(lease);
}

/* The clock was read between sending and now. Within that doubt the former samples stand, so that time does not jump
 * back and forth by the length of each answer. */
static void sample_clock(struct lease *lease, struct wall_us now)
{
    struct mono_us at = clock_mono();
    int64_t doubt = at.us - lease->tick_sent.us;
    struct mono_us middle = {at.us - doubt / 2};
    int64_t offset = now.us - middle.us, change = offset - lease->clock_offset;

    if (lease->clock_sampled && change <= doubt && change >= -doubt)
        return;
    lease->clock_sampled = true;
    lease->clock_offset = offset;
    lease->options.on_clock(lease->options.ctx, now, middle);
}

static void ticked(void *ctx, const struct pg_outcome *outcome)
{
    struct lease *lease = ctx;
    int16_t free_ones[SHARDS_MAX];
    size_t count, target, wanted;
    int64_t next = lease->options.renew_ms, expiry;
    const struct pg_result *live;

    lease->ticking = false;
    if (lease->freed || lease->leaving)
        return;
    if (outcome->rc != ERR_OK) {
        log_event(LOG_WARN, "lease.renew_failed", log_err(outcome->err));
        tick_in(lease, HURRY_MS);
        return;
    }
    if (pg_rows(outcome->results[0]) == 0) {
        log_event(LOG_ERROR, "lease.replaced", log_cstr("name", lease->options.name));
        lease->registered = false;
        lose_everything(lease);
        lease->options.on_replaced(lease->options.ctx);
        return;
    }
    lease->renewed = lease->tick_sent;
    sample_clock(lease, outcome->db_now);
    live = outcome->results[1];
    lease->format = (int)pg_get_int(live, 0, 2);
    count = compare(lease, outcome->results[2], free_ones);
    target = share(pg_rows(outcome->results[2]), (size_t)pg_get_int(live, 0, 0), (size_t)pg_get_int(live, 0, 1));
    wanted = lease->stopping || lease->held_count >= target ? 0 : target - lease->held_count;
    if (wanted > 0)
        next = HURRY_MS;
    expiry = pg_is_null(live, 0, 3) ? next : pg_get_int(live, 0, 3) + 10;
    tick_in(lease, expiry > 0 && expiry < next ? expiry : next);
    take(lease, free_ones, count < wanted ? count : wanted);
    tell_changes(lease);
    if (!lease->stopping)
        give_surplus(lease, target);
}

static void tick(struct lease *lease)
{
    struct pg_batch *batch;

    if (lease->ticking || lease->freed || lease->leaving)
        return;
    lease->ticking = true;
    lease->tick_sent = clock_mono();
    if (!lease->registered) {
        register_me(lease);
        return;
    }
    batch = pg_batch_new(true);
    (void)pg_add(batch, SQL_SCHEDULER_RENEW, pg_uuid(lease->options.me), pg_i32(lease->options.lease_ms));
    (void)pg_add(batch, SQL_SCHEDULER_LIVE, pg_uuid(lease->options.me));
    (void)pg_add(batch, SQL_SHARD_LIST, pg_uuid(lease->options.me));
    pg_batch_sample_clock(batch);
    pg_submit(lease->pg, batch, ticked, lease);
}

/* --- life --------------------------------------------------------------------------------------------------------- */

static void pg_down(void *ctx, const struct err *err)
{
    (void)ctx;
    log_event(LOG_WARN, "lease.connection_lost", log_err(err));
}

static void pg_up(void *ctx)
{
    tick_in(ctx, 1);
}

struct lease *lease_new(const struct lease_options *options)
{
    struct lease *lease = mem_alloc(sizeof(*lease));
    const struct pg_options pg = {.loop = options->loop,
                                  .url = options->url,
                                  .application = "ropewalk-scheduler lease",
                                  .statement_timeout_ms = 1000,
                                  .wait_ms = 1000,
                                  .answer_timeout_ms = 1500,
                                  .prepared = true,
                                  .on_up = pg_up,
                                  .on_down = pg_down,
                                  .ctx = lease};

    lease->options = *options;
    lease->options.name = mem_strdup(options->name);
    lease->format = options->format;
    ENSURE(uv_timer_init(options->loop, &lease->timer) == 0);
    lease->timer.data = lease;
    lease->pg = pg_new(&pg);
    return lease;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct lease *lease = handle->data;

    mem_free((char *)lease->options.name);
    mem_free(lease);
}

void lease_free(struct lease *lease)
{
    if (lease == NULL)
        return;
    lease->freed = true;
    pg_free(lease->pg); /* answers what is under way: `freed` keeps it from going on */
    uv_close((uv_handle_t *)&lease->timer, on_timer_closed);
}

void lease_check(struct lease *lease)
{
    lease->check = true;
    tick_in(lease, 1);
}

void lease_stop(struct lease *lease)
{
    lease->stopping = true;
}

static void left(void *ctx, const struct pg_outcome *outcome)
{
    struct lease *lease = ctx;

    if (outcome->rc != ERR_OK)
        log_event(LOG_WARN, "lease.leave_failed", log_err(outcome->err)); /* it lapses by itself */
    if (!lease->freed)
        lease->left(lease->left_ctx);
}

void lease_leave(struct lease *lease, void (*done)(void *ctx), void *ctx)
{
    struct pg_batch *batch = pg_batch_new(true);

    lease->stopping = lease->leaving = true;
    lease->left = done;
    lease->left_ctx = ctx;
    uv_timer_stop(&lease->timer);
    (void)pg_add(batch, SQL_SHARD_RELEASE_ALL, pg_uuid(lease->options.me));
    (void)pg_add(batch, SQL_SCHEDULER_LEAVE, pg_uuid(lease->options.me));
    pg_submit(lease->pg, batch, left, lease);
}

bool lease_is_live(const struct lease *lease)
{
    return lease->registered && clock_mono().us - lease->renewed.us < lease->options.lease_ms * US_PER_MS;
}

size_t lease_shards(const struct lease *lease)
{
    return lease->held_count;
}

int lease_format(const struct lease *lease)
{
    return lease->format;
}
