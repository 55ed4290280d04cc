/* The scheduler's core as a whole: its life, and the order of work in a tick. */
#include "scheduler/core/core_internal.h"

#include "common/base/banned.h"

const char *const sched_priority_names[PRIORITY_COUNT] = {"critical", "high", "normal", "low"};

/* Longer between two ticks than this with something to do means that the process stood still: what looks like silence
 * of others may be our own. */
#define FROZEN_US (1 * US_PER_S)

static void set_default_i64(int64_t *value, int64_t fallback)
{
    if (*value == 0)
        *value = fallback;
}

static void set_default_size(size_t *value, size_t fallback)
{
    if (*value == 0)
        *value = fallback;
}

static void set_default_u32(uint32_t *value, uint32_t fallback)
{
    if (*value == 0)
        *value = fallback;
}

static void settings_init(struct sched *sched, const struct sched_settings *settings)
{
    struct sched_settings *set = &sched->set;

    *set = *settings;
    sched->name = mem_strdup(settings->name == NULL ? "" : settings->name);
    sched->token_key = mem_dup(settings->token_key.ptr, settings->token_key.len);
    set->name = sched->name;
    set->token_key.ptr = sched->token_key;
    if (settings->slot_shards != NULL)
        memcpy(sched->slot_shards, settings->slot_shards, sizeof(sched->slot_shards));
    for (int i = 0; i < SLOT_COUNT && settings->slot_shards == NULL; i++)
        sched->slot_shards[i] = (int16_t)(i % 16);
    set->slot_shards = sched->slot_shards;
    set_default_size(&set->cache_runs_bytes, (size_t)256 << 20);
    set_default_size(&set->cache_bodies_bytes, (size_t)64 << 20);
    set_default_i64(&set->commands_poll_us, US_PER_S);
    set_default_i64(&set->lease_us, 6 * US_PER_S);
    set_default_i64(&set->overdue_us, 15 * US_PER_S);
    set_default_i64(&set->evaluate_wait_us, 2 * US_PER_MS);
    if (set->format == 0)
        set->format = event_format_newest();
    set_default_u32(&set->window_min, 64);
    set_default_u32(&set->window_max, 500);
    set_default_u32(&set->batch_inputs, 512);
    set_default_size(&set->batch_bytes, (size_t)4 << 20);
    set_default_size(&set->document_max_bytes, (size_t)4 << 20);
    if (set->limits.standard.of[LIMIT_OUTPUT_BYTES] == 0)
        set->limits.standard = LIMITS_DEFAULT;
}

struct sched *sched_new(const struct sched_ports *ports, const struct sched_settings *settings)
{
    struct sched *sched = mem_alloc(sizeof(*sched));

    sched->ports = *ports;
    settings_init(sched, settings);
    sched->orgs = map_new();
    sched->inbox_depths = map_new();
    sched->workers = map_new();
    list_init(&sched->plans_lru);
    list_init(&sched->plans_wanted);
    list_init(&sched->rechecks);
    list_init(&sched->lru);
    list_init(&sched->to_load);
    list_init(&sched->ready);
    list_init(&sched->delayed);
    list_init(&sched->bodies_lru);
    list_init(&sched->deliveries);
    list_init(&sched->commands_done);
    list_init(&sched->free_items);
    list_init(&sched->leases);
    list_init(&sched->doubted);
    list_init(&sched->evaluating);
    list_init(&sched->collecting);
    list_init(&sched->batches);
    buf_init(&sched->text, SIZE_MAX / 2);
    buf_init(&sched->message, (size_t)64 << 20);
    buf_init(&sched->scratch, (size_t)64 << 20);
    sched->format_oldest = sched->format_newest = sched->set.format;
    sched->now = ports->mono(ports->ctx);
    sched->wall = ports->wall(ports->ctx);
    sched->last_tick = sched->now;
    sched->reply_shard = -1;
    return sched;
}

void sched_free(struct sched *sched)
{
    if (sched == NULL)
        return;
    batches_free(sched);
    runs_free(sched);
    inputs_free(sched);
    commands_free(sched);
    asides_free(sched);
    tasks_free(sched);
    items_free(sched);
    leases_free(sched);
    workers_free(sched);
    bodies_free(sched);
    quarantine_free(sched);
    push_free(sched);
    plans_free(sched);
    shards_free(sched);
    evaluate_free(sched);
    for (size_t i = 0; i < sched->arena_count; i++)
        arena_free(sched->arenas[i]);
    mem_free(sched->arenas);
    buf_deinit(&sched->text);
    buf_deinit(&sched->message);
    buf_deinit(&sched->scratch);
    mem_free(sched->name);
    mem_free(sched->token_key);
    mem_free(sched);
}

/* The order matters for latency, not for correctness: what is found out first feeds what comes after it, so that one
 * tick carries an input as far as it can go without an answer from outside. */
struct mono_us sched_tick(struct sched *sched)
{
    sched->now = sched->ports.mono(sched->ports.ctx);
    sched->wall = sched->ports.wall(sched->ports.ctx);
    if (sched->now.us - sched->last_tick.us > FROZEN_US && sched->broker_up && sched->wake.us != NEVER &&
        sched->now.us - sched->wake.us > FROZEN_US)
        sched->broker_since = sched->now;
    sched->wake.us = NEVER;
    shards_tick(sched);
    commands_tick(sched);
    looks_tick(sched);
    timers_tick(sched);
    leases_tick(sched);
    plans_tick(sched);
    runs_tick(sched);
    batches_tick(sched);
    forwards_tick(sched);
    tasks_tick(sched);
    bodies_tick(sched);
    runs_tick(sched); /* what publishing and timers asked for */
    evaluate_flush(sched);
    push_tick(sched);
    bodies_evict(sched);
    runs_evict(sched);
    sched->last_tick = sched->now;
    metric_set(METRIC_SHARDS_OWNED, (int64_t)sched->owned_count);
    metric_set(METRIC_RUNS_CACHED, (int64_t)sched->runs.len);
    return sched->wake;
}

void sched_on_broker(struct sched *sched, bool up)
{
    if (up && !sched->broker_up) {
        sched->broker_since = sched->ports.mono(sched->ports.ctx);
        tasks_doubt(sched);
    }
    sched->broker_up = up;
}

void sched_on_formats(struct sched *sched, int oldest, int newest)
{
    if (oldest != sched->format_oldest)
        asides_formats_changed(sched);
    sched->format_oldest = oldest;
    sched->format_newest = newest;
}

void sched_on_confirm(struct sched *sched, uint64_t confirm, enum sched_confirm outcome)
{
    if ((confirm >> 63) != 0)
        forward_confirmed(sched, confirm & (UINT64_MAX >> 1), outcome == SCHED_CONFIRMED);
    else
        task_confirmed(sched, confirm, outcome == SCHED_CONFIRMED);
}

void sched_log_run(enum log_level level, const char *event, const struct run_entry *entry, const struct err *err)
{
    struct err none = {.code = ERR_OK};

    log_event(level, event, log_run("run_id", entry->id),
              log_cstr("organisation", entry->org == NULL ? NULL : entry->org->name),
              log_str("workflow", entry->plan == NULL ? STR_NONE : entry->plan->workflow),
              log_i64("version", entry->plan == NULL ? 0 : entry->plan->version), log_err(err == NULL ? &none : err));
}

void sched_get_stats(const struct sched *sched, struct sched_stats *ret)
{
    *ret = (struct sched_stats){.shards = sched->owned_count,
                                .runs_cached = sched->runs.len,
                                .run_bytes = sched->run_bytes,
                                .body_bytes = sched->body_bytes,
                                .timers = sched->heap_len,
                                .leases = sched->lease_count,
                                .inputs_waiting = sched->inputs_waiting,
                                .watchers = sched->watcher_count};
    memcpy(ret->orphans, sched->orphans, sizeof(ret->orphans));
    for (size_t i = 0; i < sched->shard_cap; i++)
        if (sched->shards[i] != NULL && sched->shards[i]->owned && !sched->shards[i]->ready)
            ret->shards_loading++;
    if (!list_empty(&sched->batches))
        ret->batch_in_flight = true;
}

void sched_task_token(struct str key, int32_t incarnation, struct str task_id, char ret[SCHED_TOKEN_SIZE])
{
    char text[640];
    uint8_t digest[32];
    size_t len = i64_format(incarnation, text);

    ENSURE(task_id.len < sizeof(text) - len - 1);
    text[len++] = '/';
    memcpy(text + len, task_id.ptr, task_id.len);
    hmac_sha256(key, (struct str){text, len + task_id.len}, digest);
    hex_encode(digest, sizeof(digest), ret);
}
