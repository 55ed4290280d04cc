/* Life of the scheduler: the tick, the drain, what others may know. Its start is in shell_start.c.
 *
 *   connect → role, schema, partitions, installation, slots → core, broker, lease → shards → ... → stop → leave
 *
 * The core is made once, when PostgreSQL has answered for the first time; after that lost connections are its inputs.
 */
#include "scheduler/shell_internal.h"
#include <inttypes.h>

#include "common/base/banned.h"

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
    firing_stop(shell->firing);
    release_stop(shell->release);
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

/* What waits is told from here on; the gateways have a bound of their own. */
#define LOAD_WAITING_MIN 200
#define LOAD_BYTES_MAX 65536

static void write_load(void *ctx, const struct sched_load *load)
{
    struct buf *text = ctx;

    if (load->waiting < LOAD_WAITING_MIN || text->len > LOAD_BYTES_MAX - 100)
        return;
    buf_printf(text, "%s[%" PRId32 ",%" PRIu32 ",%" PRId64 ",%u]", text->len == 1 ? "" : ",", load->organisation,
               load->waiting, load->delay_us / US_PER_MS, (unsigned)load->priority);
}

struct str shell_load(void *ctx)
{
    struct shell *shell = ctx;
    CLEANUP(buf_deinit) struct buf text = {0};

    buf_init(&text, LOAD_BYTES_MAX);
    buf_append_char(&text, '[');
    if (sched_each_load(shell->sched, write_load, &text)) {
        buf_append_char(&text, ']');
        buf_reset(&shell->load);
        buf_append_str(&shell->load, buf_str(&text));
    }
    return shell->load.len <= 2 ? STR_NONE : buf_str(&shell->load);
}

#define HEALTH_ROOM                                                                                                    \
    1024 /* for one queue or worker, each byte of its name escaped: what is cut is no JSON, and the lease would go     \
            with it */

static void write_health(void *ctx, const struct sched_queue_stat *stat)
{
    struct jw *w = ctx;

    if (stat->backlog + stat->published == 0 || w->buf->len > LOAD_BYTES_MAX - HEALTH_ROOM)
        return;
    jw_arr(w);
    jw_str(w, stat->pool);
    jw_i64(w, stat->priority);
    jw_i64(w, stat->consumers);
    jw_i64(w, stat->backlog);
    jw_i64(w, stat->published);
    jw_i64(w, stat->oldest_us / US_PER_MS);
    jw_end_arr(w);
}

#define ASIDES_TOLD 200
struct asides_told {
    struct jw *w;
    size_t count;
    enum aside_until until;
};

static void write_aside(void *ctx, struct run_id run, enum aside_until until)
{
    struct asides_told *told = ctx;
    char id[UUID_TEXT_SIZE];

    if (until != told->until || told->count == ASIDES_TOLD)
        return;
    told->count++;
    run_id_format(run, id);
    jw_cstr(told->w, id);
}

static void write_asides(const struct shell *shell, struct jw *w, const char *key, enum aside_until until)
{
    struct asides_told told = {.w = w, .until = until};

    jw_key(w, key);
    jw_arr(w);
    sched_each_aside(shell->sched, write_aside, &told);
    jw_end_arr(w);
}

static void write_worker(void *ctx, const struct sched_worker *worker)
{
    struct jw *w = ctx;

    if (w->buf->len > LOAD_BYTES_MAX - HEALTH_ROOM)
        return;
    jw_arr(w);
    jw_str(w, worker->name);
    jw_i64(w, worker->tasks);
    jw_i64(w, worker->silent_us / US_PER_MS);
    jw_end_arr(w);
}

struct str shell_health(void *ctx)
{
    struct shell *shell = ctx;
    struct jw w;

    buf_reset(&shell->health);
    w = jw_to(&shell->health);
    jw_obj(&w);
    jw_kbool(&w, "broker", shell->broker != NULL && broker_is_up(shell->broker));
    write_asides(shell, &w, "for_older", ASIDE_UNTIL_FORMATS);
    write_asides(shell, &w, "for_newer", ASIDE_UNTIL_LOST);
    jw_key(&w, "queues");
    jw_arr(&w);
    sched_each_queue(shell->sched, write_health, &w);
    jw_end_arr(&w);
    jw_key(&w, "workers");
    jw_arr(&w);
    sched_each_worker(shell->sched, write_worker, &w);
    jw_end_arr(&w);
    jw_end_obj(&w);
    return buf_str(&shell->health);
}

static void write_orphans(const struct sched_stats *stats, struct buf *text)
{
    buf_append_str(text,
                   STR("# HELP ropewalk_orphans_total what would have left an open run stuck, found and put right\n"
                       "# TYPE ropewalk_orphans_total counter\n"));
    for (size_t i = 0; i < ORPHAN_COUNT; i++)
        buf_printf(text, "ropewalk_orphans_total{reason=\"%s\"} %" PRIu64 "\n", sched_orphan_names[i],
                   stats->orphans[i]);
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
    write_orphans(&stats, text);
    buf_append_str(text,
                   STR("# HELP ropewalk_tasks_ready tasks that wait for a worker: in the database, and published\n"
                       "# TYPE ropewalk_tasks_ready gauge\n"
                       "# HELP ropewalk_tasks_ready_age_seconds how long the oldest has waited\n"
                       "# TYPE ropewalk_tasks_ready_age_seconds gauge\n"));
    sched_each_queue(shell->sched, write_queue, text);
}

/* --- life --------------------------------------------------------------------------------------------------------- */

static bool upkeep_is_mine(void *ctx)
{
    return ((struct shell *)ctx)->owned[0];
}

static void on_store_down(void *ctx, const struct err *err)
{
    (void)ctx;
    log_event(LOG_WARN, "store.connection_lost", log_err(err));
}

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

static void look_for_room(void *ctx)
{
    const struct shell *shell = ctx;

    watch_slots(shell->watch);
}

struct shell *shell_new(struct service *service, const struct config *config)
{
    struct shell *shell = mem_alloc(sizeof(*shell));

    shell->service = service;
    shell->loop = service_loop(service);
    shell->config = config;
    random_bytes(shell->me.bytes, sizeof(shell->me.bytes));
    buf_init(&shell->load, LOAD_BYTES_MAX);
    buf_init(&shell->health, LOAD_BYTES_MAX);
    make_handles(shell);
    if (!open_journal(shell))
        return shell;
    shell->store = store_new(&(struct store_options){.loop = shell->loop,
                                                     .url = config->pg_url,
                                                     .prepared = true,
                                                     .me = shell->me,
                                                     .slot_shard = shell->slot_shard,
                                                     .woken = shell_woken,
                                                     .on_up = shell_store_up,
                                                     .on_down = on_store_down,
                                                     .ctx = shell});
    shell->upkeep = upkeep_new(&(struct upkeep_options){.loop = shell->loop,
                                                        .pg = store_reader(shell->store),
                                                        .partition_days = (int)config->partition_days,
                                                        .mine = upkeep_is_mine,
                                                        .ctx = shell});
    shell->watch =
        watch_new(&(struct watch_options){.loop = shell->loop,
                                          .pg = store_reader(shell->store),
                                          .runs_per_second = (int)config->watch_runs,
                                          .sweep_ms = (int)config->watch_sweep_ms,
                                          .most_running_runs = (int32_t)limit_most(&config->limits, LIMIT_RUNNING_RUNS),
                                          .owned = shell->owned,
                                          .slot_shard = shell->slot_shard,
                                          .sched = &shell->sched,
                                          .woken = shell_woken,
                                          .ctx = shell});
    shell->org_changes = org_changes_new(&(struct org_changes_options){.loop = shell->loop,
                                                                       .pg = store_reader(shell->store),
                                                                       .sched = &shell->sched,
                                                                       .room = look_for_room,
                                                                       .ctx = shell});
    shell->firing = firing_new(&(struct firing_options){.loop = shell->loop,
                                                        .pg = store_reader(shell->store),
                                                        .me = shell->me,
                                                        .owned = shell->owned,
                                                        .epochs = shell->epochs,
                                                        .clock = &shell->clock,
                                                        .sched = &shell->sched,
                                                        .sandbox = &shell->sandbox,
                                                        .woken = shell_woken,
                                                        .ctx = shell});
    shell->release = release_new(&(struct release_options){.loop = shell->loop,
                                                           .pg = store_reader(shell->store),
                                                           .me = shell->me,
                                                           .owned = shell->owned,
                                                           .epochs = shell->epochs,
                                                           .clock = &shell->clock,
                                                           .sched = &shell->sched,
                                                           .woken = shell_woken,
                                                           .ctx = shell});
    return shell;
}

static void on_last_closed(uv_handle_t *handle)
{
    struct shell *shell = handle->data;

    buf_deinit(&shell->load);
    buf_deinit(&shell->health);
    mem_free(shell);
}

/* Whoever answers the core goes before it; the shell itself when its last handle has closed. */
void shell_free(struct shell *shell)
{
    if (shell == NULL)
        return;
    shell->stopping = true;
    firing_free(shell->firing);
    release_free(shell->release);
    org_changes_free(shell->org_changes);
    watch_free(shell->watch);
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
