/* Life of the scheduler: what is read before it starts, shards coming and going, the tick, and the drain.
 *
 *   connect → role, schema, partitions, installation, slots → core, broker, lease → shards → ... → stop → leave
 *
 * The core is made once, when PostgreSQL has answered for the first time; after that lost connections are its inputs.
 */
#include "common/base/metrics.h"
#include "common/db/migrate.h"
#include "common/engine/event.h"
#include "scheduler/shell_internal.h"
#include "rw_scheduler_sql.h"
#include <inttypes.h>

#include "common/base/banned.h"

#define RETRY_MS 1000
#define MIB ((size_t)1 << 20)

/* --- the tick ----------------------------------------------------------------------------------------------------- */

static void on_wake(uv_timer_t *timer)
{
    shell_woken(timer->data);
}

static void set_alarm(struct shell *shell, struct mono_us next)
{
    int64_t in_us = next.us - clock_mono().us;

    if (next.us == INT64_MAX) {
        uv_timer_stop(&shell->wake);
        return;
    }
    uv_update_time(shell->loop);
    uv_timer_start(&shell->wake, on_wake, in_us <= 0 ? 0 : (uint64_t)((in_us + US_PER_MS - 1) / US_PER_MS), 0);
}

static void work(struct shell *shell)
{
    if (!shell->input || shell->sched == NULL)
        return;
    shell->input = false;
    set_alarm(shell, sched_tick(shell->sched));
    broker_flush(shell->broker);
}

static void on_prepare(uv_prepare_t *prepare)
{
    work(prepare->data);
}

static void on_check(uv_check_t *check)
{
    work(check->data);
}

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

static void on_clock(void *ctx, struct wall_us now, struct mono_us at)
{
    struct shell *shell = ctx;

    db_clock_sample(&shell->clock, now, at);
}

static bool upkeep_is_mine(void *ctx)
{
    return ((struct shell *)ctx)->owned[0];
}

/* --- broker and store --------------------------------------------------------------------------------------------- */

static void on_broker(void *ctx, bool up, const struct err *err)
{
    struct shell *shell = ctx;

    (void)err; /* the link that was lost has been logged */
    sched_on_broker(shell->sched, up);
    shell_woken(shell);
}

static void on_store_down(void *ctx, const struct err *err)
{
    (void)ctx;
    log_event(LOG_WARN, "store.connection_lost", log_err(err));
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
                                                     .format = EVENT_FORMAT,
                                                     .lease_ms = (int)config->lease_ms,
                                                     .renew_ms = (int)config->renew_ms,
                                                     .on_shards = on_shards,
                                                     .on_surplus = on_surplus,
                                                     .on_replaced = on_replaced,
                                                     .on_clock = on_clock,
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

static void on_store_up(void *ctx)
{
    struct shell *shell = ctx;

    uv_timer_stop(&shell->retry);
    start(shell);
}

/* --- stopping ----------------------------------------------------------------------------------------------------- */

static void on_left(void *ctx)
{
    struct shell *shell = ctx;

    log_event(LOG_INFO, "scheduler.left");
    service_stopped(shell->service);
}

static void leave(struct shell *shell)
{
    if (shell->leaving)
        return;
    shell->leaving = true;
    lease_leave(shell->lease, on_left, shell);
}

void shell_maybe_leave(struct shell *shell)
{
    if (shell->stopping && shell->lease != NULL && shell->owned_count == 0)
        leave(shell);
}

static void on_drain_over(uv_timer_t *timer)
{
    struct shell *shell = timer->data;

    log_event(LOG_WARN, "scheduler.drain_incomplete", log_i64("shards", (int64_t)shell->owned_count));
    leave(shell);
}

void shell_stop(struct shell *shell)
{
    shell->stopping = true;
    if (shell->lease == NULL) {
        service_stopped(shell->service);
        return;
    }
    uv_timer_start(&shell->retry, on_drain_over, (uint64_t)shell->config->drain_ms, 0);
    lease_stop(shell->lease);
    for (int shard = 0; shard < SLOT_COUNT; shard++)
        if (shell->owned[shard])
            sched_release_shard(shell->sched, (int16_t)shard);
    shell_woken(shell);
    shell_maybe_leave(shell);
}

/* --- what others may know ----------------------------------------------------------------------------------------- */

void shell_readiness(struct shell *shell, struct buf *lines, bool *ready)
{
    bool store = store_is_up(shell->store);
    bool broker = shell->broker != NULL && broker_is_up(shell->broker);
    bool lease = shell->lease != NULL && lease_is_live(shell->lease);

    buf_printf(lines, "postgresql: %s\n", store ? "ok" : "not connected");
    buf_printf(lines, "rabbitmq: %s\n", broker ? "ok" : "not connected");
    buf_printf(lines, "lease: %s, %zu shards\n", lease ? "ok" : "not held", shell->owned_count);
    *ready = store && broker && lease;
}

static void write_queue(void *ctx, const struct sched_queue_stat *stat)
{
    struct buf *text = ctx;
    const char *priority = stat->priority < PRIORITY_COUNT ? sched_priority_names[stat->priority] : "?";

    buf_printf(text, "ropewalk_tasks_ready{pool=\"" STR_FMT "\",priority=\"%s\"} %" PRIu32 "\n", STR_ARG(stat->pool),
               priority, stat->backlog + stat->published);
    buf_printf(text, "ropewalk_tasks_ready_age_seconds{pool=\"" STR_FMT "\",priority=\"%s\"} %.3f\n",
               STR_ARG(stat->pool), priority, (double)stat->oldest_us / (double)US_PER_S);
}

void shell_metrics(struct shell *shell, struct buf *text)
{
    struct sched_stats stats;

    if (shell->sched == NULL)
        return;
    sched_get_stats(shell->sched, &stats);
    buf_printf(
        text,
        "# HELP ropewalk_scheduler_size what the scheduler holds in memory\n# TYPE ropewalk_scheduler_size gauge\n"
        "ropewalk_scheduler_size{of=\"run_bytes\"} %zu\nropewalk_scheduler_size{of=\"body_bytes\"} %zu\n"
        "ropewalk_scheduler_size{of=\"timers\"} %zu\nropewalk_scheduler_size{of=\"leases\"} %zu\n"
        "ropewalk_scheduler_size{of=\"inputs_waiting\"} %zu\nropewalk_scheduler_size{of=\"watchers\"} %zu\n"
        "ropewalk_scheduler_size{of=\"shards_loading\"} %zu\n",
        stats.run_bytes, stats.body_bytes, stats.timers, stats.leases, stats.inputs_waiting, stats.watchers,
        stats.shards_loading);
    buf_append_str(text,
                   STR("# HELP ropewalk_tasks_ready tasks that wait for a worker: in the database, and published\n"
                       "# TYPE ropewalk_tasks_ready gauge\n"
                       "# HELP ropewalk_tasks_ready_age_seconds how long the oldest has waited\n"
                       "# TYPE ropewalk_tasks_ready_age_seconds gauge\n"));
    sched_each_queue(shell->sched, write_queue, text);
}

/* --- life --------------------------------------------------------------------------------------------------------- */

static void make_handles(struct shell *shell)
{
    ENSURE(uv_prepare_init(shell->loop, &shell->prepare) == 0 && uv_check_init(shell->loop, &shell->check) == 0);
    ENSURE(uv_timer_init(shell->loop, &shell->wake) == 0 && uv_timer_init(shell->loop, &shell->retry) == 0);
    shell->prepare.data = shell->check.data = shell->wake.data = shell->retry.data = shell;
    uv_prepare_start(&shell->prepare, on_prepare);
    uv_check_start(&shell->check, on_check);
}

static bool open_journal(struct shell *shell)
{
    struct err err;

    if (*shell->config->state_dir == '\0') {
        log_event(LOG_WARN, "journal.none");
        return true;
    }
    if (journal_file_open(shell->config->state_dir, clock_wall(), &shell->journal, &err) == ERR_OK)
        return true;
    service_fail(shell->service, 2, &err);
    return false;
}

struct shell *shell_new(struct service *service, const struct config *config)
{
    struct shell *shell = mem_alloc(sizeof(*shell));

    shell->service = service;
    shell->loop = service_loop(service);
    shell->config = config;
    random_bytes(shell->me.bytes, sizeof(shell->me.bytes));
    make_handles(shell);
    if (!open_journal(shell))
        return shell;
    shell->store = store_new(&(struct store_options){.loop = shell->loop,
                                                     .url = config->pg_url,
                                                     .prepared = true,
                                                     .me = shell->me,
                                                     .slot_shard = shell->slot_shard,
                                                     .woken = shell_woken,
                                                     .on_up = on_store_up,
                                                     .on_down = on_store_down,
                                                     .ctx = shell});
    shell->upkeep = upkeep_new(&(struct upkeep_options){.loop = shell->loop,
                                                        .pg = store_reader(shell->store),
                                                        .partition_days = (int)config->partition_days,
                                                        .mine = upkeep_is_mine,
                                                        .ctx = shell});
    return shell;
}

static void on_last_closed(uv_handle_t *handle)
{
    mem_free(handle->data);
}

/* Whoever answers the core goes before it; the shell itself when its last handle has closed. */
void shell_free(struct shell *shell)
{
    if (shell == NULL)
        return;
    shell->stopping = true;
    upkeep_free(shell->upkeep);
    lease_free(shell->lease);
    store_free(shell->store);
    sandbox_free(shell->sandbox);
    broker_free(shell->broker);
    if (shell->sched != NULL)
        sched_free(shell->sched);
    journal_file_close(shell->journal);
    uv_close((uv_handle_t *)&shell->prepare, NULL);
    uv_close((uv_handle_t *)&shell->check, NULL);
    uv_close((uv_handle_t *)&shell->wake, NULL);
    uv_close((uv_handle_t *)&shell->retry, on_last_closed);
}
