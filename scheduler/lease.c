/* The lease of a scheduler: its row, and the tick that renews it and reads who shares the shards and who owns them, in
 * one round trip. What it finds becomes gains, losses, surplus, and what is worth taking (lease_shards.c). */
#include "common/base/fault.h"
#include "common/base/metrics.h"
#include "rw_scheduler_sql.h"
#include "scheduler/lease_internal.h"

#include "common/base/banned.h"

static void tick(struct lease *lease);

static void on_timer(uv_timer_t *timer)
{
    tick(timer->data);
}

void lease_tick_in(struct lease *lease, int64_t ms)
{
    if (!lease->freed && !lease->leaving)
        uv_timer_start(&lease->timer, on_timer, (uint64_t)(ms < 1 ? 1 : ms), 0);
}

/* --- gains and losses --------------------------------------------------------------------------------------------- */

static void change(struct lease *lease, int16_t shard, bool gained, int64_t epoch)
{
    if (lease->change_count == lease->change_cap) {
        lease->change_cap = 2 * lease->change_cap + 16;
        lease->changes = mem_grow(lease->changes, lease->change_cap, sizeof(*lease->changes));
    }
    lease->changes[lease->change_count++] = (struct sched_shard_change){shard, gained, epoch};
}

void lease_gain(struct lease *lease, int16_t shard, int64_t epoch)
{
    struct held *held = &lease->held[shard];

    if (held->state == SHARD_FREE)
        lease->held_count++;
    *held = (struct held){.state = SHARD_HELD, .kind = held->kind, .epoch = epoch, .busy = held->busy};
    change(lease, shard, true, epoch);
}

void lease_lost(struct lease *lease, int16_t shard)
{
    change(lease, shard, false, lease->held[shard].epoch);
}

static void lose(struct lease *lease, int16_t shard)
{
    struct held *held = &lease->held[shard];

    if (held->state == SHARD_FREE)
        return;
    held->state = SHARD_FREE;
    lease->held_count--;
    lease_lost(lease, shard);
}

void lease_tell_changes(struct lease *lease)
{
    size_t count = lease->change_count;

    if (count == 0 && !lease->check)
        return;
    lease->check = false;
    lease->change_count = 0;
    lease->options.on_shards(lease->options.ctx, lease->changes, count);
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
        lease_tick_in(lease, lease->options.renew_ms);
        return;
    }
    FAULT_POINT(scheduler_registered);
    lease->registered = true;
    lease->renewed = lease->tick_sent;
    log_event(LOG_INFO, "lease.registered", log_run("incarnation", lease->options.me));
    lease_tick_in(lease, 1);
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

/* Columns of scheduler_tick.sql. From TICK_RENEWED on they say the same in each row. */
enum tick_column {
    TICK_SHARD,
    TICK_EPOCH,
    TICK_MINE,
    TICK_FREE,
    TICK_NEEDS,
    TICK_RENEWED,
    TICK_MEMBERS,
    TICK_BEFORE,
    TICK_OLDEST,
    TICK_NEWEST,
    TICK_NEWEST_MEMBERS,
    TICK_NEWEST_BEFORE,
    TICK_EXPIRY_MS,
    TICK_CLOCK
};

/* Of each kind, by this reading: how many there are, and what could be taken. */
struct reading {
    size_t count[SHARD_KINDS], free_count[SHARD_KINDS];
    int16_t free_ones[SHARD_KINDS][SHARDS_MAX];
};

/* When nobody can go on with all of its runs, whoever has it goes on with the others. */
static enum shard_kind kind_of(const struct pg_result *rows, size_t row)
{
    int64_t needs = pg_get_int(rows, row, TICK_NEEDS);

    return needs > pg_get_int(rows, 0, TICK_OLDEST) && needs <= pg_get_int(rows, 0, TICK_NEWEST) ? SHARD_NEWER
                                                                                                 : SHARD_COMMON;
}

/* There is a shard of this number. */
static void note_shard(struct lease *lease, int16_t shard)
{
    size_t count = (size_t)shard + 1;

    ENSURE(shard >= 0 && shard < SHARDS_MAX);
    if (count <= lease->shard_count)
        return;
    lease->held = mem_grow(lease->held, count, sizeof(*lease->held));
    for (size_t i = lease->shard_count; i < count; i++)
        lease->held[i] = (struct held){0};
    lease->shard_count = count;
}

/* Compares what we hold with the rows. */
static void compare(struct lease *lease, const struct pg_result *rows, struct reading *reading)
{
    for (size_t i = 0; i < pg_rows(rows) && i < SHARDS_MAX; i++) {
        int16_t shard = (int16_t)pg_get_int(rows, i, TICK_SHARD);
        int64_t epoch = pg_get_int(rows, i, TICK_EPOCH);
        bool mine = pg_get_bool(rows, i, TICK_MINE), takeable = pg_get_bool(rows, i, TICK_FREE);
        enum shard_kind kind = kind_of(rows, i);
        struct held *held;

        note_shard(lease, shard);
        held = &lease->held[shard];
        held->kind = kind;
        reading->count[kind]++;
        if (held->busy > 0)
            continue;
        if (mine && !lease->stopping && (held->state == SHARD_FREE || held->epoch != epoch))
            lease_gain(lease, shard, epoch); /* the answer to our taking or giving up was lost */
        else if (!mine)
            lose(lease, shard);
        if (!mine && takeable)
            reading->free_ones[kind][reading->free_count[kind]++] = shard;
        else
            held->refused_since.us = 0;
    }
}

static void lose_everything(struct lease *lease)
{
    for (size_t i = 0; i < lease->shard_count; i++)
        lose(lease, (int16_t)i);
    lease->check = true;
    lease_tell_changes(lease);
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

/* When to look again: each renewal, and a moment after another's lease may have ended; soon while we want more. */
static int64_t next_look(const struct lease *lease, const struct pg_result *rows, bool wants_more)
{
    int64_t usual = lease->loaded && LOADED_MS < lease->options.renew_ms ? LOADED_MS : lease->options.renew_ms;
    int64_t next = wants_more ? HURRY_MS : usual;
    int64_t expiry = pg_is_null(rows, 0, TICK_EXPIRY_MS) ? next : pg_get_int(rows, 0, TICK_EXPIRY_MS) + 10;

    return expiry > 0 && expiry < next ? expiry : next;
}

/* What is common is shared by all, what is for the newest by them alone. */
static void find_shares(const struct lease *lease, const struct pg_result *rows, const struct reading *reading,
                        size_t shares[SHARD_KINDS])
{
    bool newest = lease->options.format == pg_get_int(rows, 0, TICK_NEWEST);

    shares[SHARD_COMMON] = share(reading->count[SHARD_COMMON], (size_t)pg_get_int(rows, 0, TICK_MEMBERS),
                                 (size_t)pg_get_int(rows, 0, TICK_BEFORE));
    shares[SHARD_NEWER] = !newest ? 0
                                  : share(reading->count[SHARD_NEWER], (size_t)pg_get_int(rows, 0, TICK_NEWEST_MEMBERS),
                                          (size_t)pg_get_int(rows, 0, TICK_NEWEST_BEFORE));
}

static size_t held_of(const struct lease *lease, enum shard_kind kind)
{
    size_t count = 0;

    for (size_t i = 0; i < lease->shard_count; i++)
        count += lease->held[i].state != SHARD_FREE && lease->held[i].kind == kind;
    return count;
}

static void take_in(struct lease *lease, const struct pg_result *rows)
{
    struct reading reading;
    size_t shares[SHARD_KINDS];
    bool wants_more = false;

    memset(&reading, 0, offsetof(struct reading, free_ones)); /* 16 KB that only their count makes any sense of */
    lease->renewed = lease->tick_sent;
    lease->options.on_formats(lease->options.ctx, (int)pg_get_int(rows, 0, TICK_OLDEST),
                              (int)pg_get_int(rows, 0, TICK_NEWEST));
    sample_clock(lease, pg_get_time(rows, 0, TICK_CLOCK));
    compare(lease, rows, &reading);
    find_shares(lease, rows, &reading, shares);
    for (enum shard_kind kind = 0; kind < SHARD_KINDS; kind++) {
        size_t held = held_of(lease, kind), wanted = lease->stopping || held >= shares[kind] ? 0 : shares[kind] - held;
        size_t count = reading.free_count[kind];

        wants_more |= wanted > 0;
        lease_take(lease, reading.free_ones[kind], count < wanted ? count : wanted);
    }
    lease_tick_in(lease, lease->news ? 1 : next_look(lease, rows, wants_more));
    lease_tell_changes(lease);
    if (!lease->stopping)
        lease_give_surplus(lease, shares);
    metric_set(METRIC_SHARDS_LEFT_TO_NEWER, shares[SHARD_NEWER] > 0 ? 0 : (int64_t)reading.count[SHARD_NEWER]);
}

static void ticked(void *ctx, const struct pg_outcome *outcome)
{
    struct lease *lease = ctx;

    lease->ticking = false;
    if (lease->freed || lease->leaving)
        return;
    if (outcome->rc != ERR_OK) {
        log_event(LOG_WARN, "lease.renew_failed", log_err(outcome->err));
        lease_tick_in(lease, HURRY_MS);
        return;
    }
    if (pg_rows(outcome->results[0]) == 0 || pg_get_int(outcome->results[0], 0, TICK_RENEWED) == 0) {
        log_event(LOG_ERROR, "lease.replaced", log_cstr("name", lease->options.name));
        lease->registered = false;
        lose_everything(lease);
        lease->options.on_replaced(lease->options.ctx);
        return;
    }
    take_in(lease, outcome->results[0]);
}

static void tick(struct lease *lease)
{
    struct pg_batch *batch;
    struct str load, health;

    if (lease->ticking || lease->freed || lease->leaving)
        return;
    lease->ticking = true;
    lease->tick_sent = clock_mono();
    lease->news = false;
    if (!lease->registered) {
        register_me(lease);
        return;
    }
    load = lease->options.load == NULL ? STR_NONE : lease->options.load(lease->options.ctx);
    lease->loaded = load.ptr != NULL;
    health = lease->options.health == NULL ? STR_NONE : lease->options.health(lease->options.ctx);
    batch = pg_batch_new(true);
    (void)pg_add(batch, SQL_SCHEDULER_TICK, pg_uuid(lease->options.me), pg_i32(lease->options.lease_ms), pg_json(load),
                 pg_json(health));
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
    lease_tick_in(ctx, 1);
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
    ENSURE(uv_timer_init(options->loop, &lease->timer) == 0);
    lease->timer.data = lease;
    lease->pg = pg_new(&pg);
    return lease;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct lease *lease = handle->data;

    mem_free((char *)lease->options.name);
    mem_free(lease->held);
    mem_free(lease->changes);
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

void lease_has_news(struct lease *lease)
{
    lease->news = true;
    lease_tick_in(lease, 1); /* one that is under way sees to the next */
}

void lease_check(struct lease *lease)
{
    lease->check = true;
    lease_tick_in(lease, 1);
}

void lease_stop(struct lease *lease)
{
    lease->stopping = true;
}

static void left(void *ctx, const struct pg_outcome *outcome)
{
    struct lease *lease = ctx;

    FAULT_POINT_IF(scheduler_left, outcome->rc == ERR_OK);
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
