/* What happens before the core is there: role, schema, partitions, installation, slots; tried again until it succeeds.
 */
#include "common/base/metrics.h"
#include "common/db/migrate.h"
#include "common/engine/event.h"
#include "rw_scheduler_sql.h"
#include "scheduler/shell_internal.h"

#include "common/base/banned.h"

#define RETRY_MS 1000
#define MIB ((size_t)1 << 20)

/* --- shards ------------------------------------------------------------------------------------------------------- */

static void on_shards(void *ctx, const struct sched_shard_change *changes, size_t count)
{
    struct shell *shell = ctx;

    sched_on_shards(shell->sched, changes, count);
    for (size_t i = 0; i < count; i++) {
        bool *owned = &shell->owned[changes[i].shard];

        if (*owned != changes[i].gained)
            shell->owned_count = changes[i].gained ? shell->owned_count + 1 : shell->owned_count - 1;
        *owned = changes[i].gained;
        shell->epochs[changes[i].shard] = changes[i].epoch;
        if (changes[i].gained)
            broker_consume_shard(shell->broker, changes[i].shard, changes[i].epoch);
        if (changes[i].gained && shell->stopping)
            sched_release_shard(shell->sched, changes[i].shard); /* its taking was under way when we were stopped */
    }
    metric_set(METRIC_SHARDS_OWNED, (int64_t)shell->owned_count);
    shell_woken(shell);
    shell_maybe_leave(shell);
}

static void on_surplus(void *ctx, int16_t shard)
{
    struct shell *shell = ctx;

    sched_release_shard(shell->sched, shard);
    shell_woken(shell);
}

static void on_replaced(void *ctx)
{
    struct shell *shell = ctx;
    struct err err;

    err_set_at(&err, ERR_CONFLICT, __FILE__, __LINE__, "another scheduler has taken the name '%s'",
               shell->config->name);
    service_fail(shell->service, 1, &err);
}

static void on_formats(void *ctx, int oldest, int newest)
{
    struct shell *shell = ctx;

    sched_on_formats(shell->sched, oldest, newest);
}

static void on_clock(void *ctx, struct wall_us now, struct mono_us at)
{
    struct shell *shell = ctx;

    db_clock_sample(&shell->clock, now, at);
}

/* --- broker and store --------------------------------------------------------------------------------------------- */

static void on_broker(void *ctx, bool up, const struct err *err)
{
    struct shell *shell = ctx;

    (void)err; /* the link that was lost has been logged */
    sched_on_broker(shell->sched, up);
    lease_has_news(shell->lease);
    shell_woken(shell);
}

/* --- starting ----------------------------------------------------------------------------------------------------- */

static void start(struct shell *shell);

static void on_retry(uv_timer_t *timer)
{
    start(timer->data);
}

static void start_failed(struct shell *shell, const struct err *err)
{
    log_event(LOG_WARN, "scheduler.start_waits", log_err(err));
    shell->starting = false;
    if (!shell->stopping)
        uv_timer_start(&shell->retry, on_retry, RETRY_MS, 0);
}

static void accuse(struct shell *shell)
{
    struct run_id run;

    for (size_t i = 0; journal_file_accused(shell->journal, i, &run); i++) {
        log_event(LOG_ERROR, "run.accused", log_run("run_id", run));
        sched_suspect(shell->sched, run);
    }
}

static void start_core(struct shell *shell)
{
    const struct config *config = shell->config;
    const struct sched_ports ports = shell_ports(shell);
    const struct sched_settings settings = {
        .name = config->name,
        .token_key = {shell->token_key, shell->token_key_len},
        .slot_shards = shell->slot_shard,
        .incarnation = shell->incarnation,
        .cache_runs_bytes = (size_t)config->cache_runs_mb * MIB,
        .cache_bodies_bytes = (size_t)config->cache_bodies_mb * MIB,
        .commands_poll_us = config->commands_poll_ms * US_PER_MS,
        .lease_us = config->attempt_lease_ms * US_PER_MS,
        .overdue_us = config->overdue_ms * US_PER_MS,
        .batch_inputs = (uint32_t)config->batch_inputs,
        .limits = config->limits,
        .journal = journal_file_port(shell->journal),
    };

    shell->sandbox = sandbox_new(shell->loop, (unsigned)config->expression_children, NULL);
    shell->broker = broker_new(&(struct broker_options){.loop = shell->loop,
                                                        .url = config->amqp_url,
                                                        .name = config->name,
                                                        .queue_type = config->queue_type,
                                                        .shard_count = shell->shard_count,
                                                        .woken = shell_woken,
                                                        .on_state = on_broker,
                                                        .ctx = shell});
    shell->sched = sched_new(&ports, &settings);
    store_set_core(shell->store, shell->sched);
    broker_set_core(shell->broker, shell->sched);
    accuse(shell);
    shell->lease = lease_new(&(struct lease_options){.loop = shell->loop,
                                                     .url = config->pg_url,
                                                     .name = config->name,
                                                     .me = shell->me,
                                                     .format = event_format_newest(),
                                                     .lease_ms = (int)config->lease_ms,
                                                     .renew_ms = (int)config->renew_ms,
                                                     .on_shards = on_shards,
                                                     .on_surplus = on_surplus,
                                                     .on_replaced = on_replaced,
                                                     .on_clock = on_clock,
                                                     .on_formats = on_formats,
                                                     .load = shell_load,
                                                     .health = shell_health,
                                                     .ctx = shell});
    shell->starting = false;
    shell_woken(shell);
    log_event(LOG_INFO, "scheduler.ready", log_i64("shards", (int64_t)shell->shard_count));
}

/* Fills what the core is told of the installation; false when the rows make no sense. */
static bool take_installation(struct shell *shell, const struct pg_outcome *outcome)
{
    const struct pg_result *installation = outcome->results[0], *slots = outcome->results[1];
    struct str key;

    if (pg_rows(installation) != 1 || pg_rows(slots) != SLOT_COUNT)
        return false;
    shell->incarnation = (int32_t)pg_get_int(installation, 0, 0);
    key = pg_get_str(installation, 0, 1);
    if (key.len == 0 || key.len > sizeof(shell->token_key))
        return false;
    memcpy(shell->token_key, key.ptr, key.len);
    shell->token_key_len = key.len;
    for (size_t i = 0; i < SLOT_COUNT; i++) {
        int64_t shard = pg_get_int(slots, i, 1);

        if (shard < 0 || shard >= SLOT_COUNT)
            return false;
        shell->slot_shard[i] = (int16_t)shard;
        if ((size_t)shard + 1 > shell->shard_count)
            shell->shard_count = (size_t)shard + 1;
    }
    return true;
}

static void on_installation(void *ctx, const struct pg_outcome *outcome)
{
    struct shell *shell = ctx;
    struct err err = *outcome->err;

    if (shell->stopping)
        return;
    if (outcome->rc == ERR_OK && !take_installation(shell, outcome))
        err_set_at(&err, ERR_UNAVAILABLE, __FILE__, __LINE__,
                   "the installation has not been set up: run ropewalk-scheduler --migrate");
    if (err.code != ERR_OK) {
        start_failed(shell, &err);
        return;
    }
    db_clock_sample(&shell->clock, outcome->db_now, clock_mono());
    start_core(shell);
}

static void on_schema(void *ctx, enum err_code rc, const struct err *err)
{
    struct shell *shell = ctx;
    struct pg_batch *batch;

    if (shell->stopping)
        return;
    if (rc != ERR_OK) {
        start_failed(shell, err);
        return;
    }
    upkeep_partitions(shell->upkeep);
    batch = pg_batch_new(false);
    (void)pg_batch_add0(batch, SQL_INSTALLATION_READ);
    (void)pg_batch_add0(batch, SQL_SLOT_LIST);
    pg_batch_sample_clock(batch);
    pg_submit(store_reader(shell->store), batch, on_installation, shell);
}

static void on_role(void *ctx, enum err_code rc, const struct err *err)
{
    struct shell *shell = ctx;

    if (shell->stopping)
        return;
    if (rc == ERR_FORBIDDEN) {
        service_fail(shell->service, 2, err);
        return;
    }
    if (rc != ERR_OK) {
        start_failed(shell, err);
        return;
    }
    migrate_check(store_reader(shell->store), on_schema, shell);
}

static void start(struct shell *shell)
{
    if (shell->sched != NULL || shell->starting || shell->stopping)
        return;
    shell->starting = true;
    pg_check_role(store_reader(shell->store), on_role, shell);
}

void shell_store_up(void *ctx)
{
    struct shell *shell = ctx;

    uv_timer_stop(&shell->retry);
    start(shell);
}
