/* The ports of the core, each handed on to who can do it. */
#include "common/base/metrics.h"
#include "scheduler/secrets.h"
#include "scheduler/shell_internal.h"

#include "common/base/banned.h"

static struct shell *shell_of(void *ctx)
{
    return ctx;
}

void shell_woken(void *ctx)
{
    shell_of(ctx)->input = true;
}

static struct mono_us port_mono(void *ctx)
{
    (void)ctx;
    return clock_mono();
}

static struct wall_us port_wall(void *ctx)
{
    return db_clock_now(&shell_of(ctx)->clock);
}

static void port_fetch_commands(void *ctx, uint64_t fetch, const struct sched_command_want *want)
{
    store_fetch_commands(shell_of(ctx)->store, fetch, want);
}

static void port_load_shard(void *ctx, int16_t shard, int64_t epoch)
{
    store_load_shard(shell_of(ctx)->store, shard, epoch);
}

static void port_load_runs(void *ctx, uint64_t load, const struct run_id *ids, size_t count)
{
    store_load_runs(shell_of(ctx)->store, load, ids, count);
}

static void port_load_bodies(void *ctx, const struct sched_body_want *wants, size_t count)
{
    store_load_bodies(shell_of(ctx)->store, wants, count);
}

static void port_load_plans(void *ctx, const struct sched_plan_want *wants, size_t count)
{
    store_load_plans(shell_of(ctx)->store, wants, count);
}

static void port_look_back(void *ctx, const int16_t *shards, size_t count)
{
    store_look_back(shell_of(ctx)->store, shards, count);
}

static void port_commit(void *ctx, const struct sched_batch *batch)
{
    store_commit(shell_of(ctx)->store, batch);
}

static void port_publish(void *ctx, const struct sched_publish *publish)
{
    struct shell *shell = ctx;

    if (publish->secret_count > 0)
        secrets_publish(shell->store, shell->broker, publish, port_wall(ctx));
    else
        broker_publish(shell->broker, publish, port_wall(ctx));
}

static void port_ack(void *ctx, void *delivery)
{
    broker_ack(shell_of(ctx)->broker, delivery);
}

static void port_forget(void *ctx, void *delivery)
{
    broker_forget(shell_of(ctx)->broker, delivery);
}

static void port_queue_depth(void *ctx, const char *queue)
{
    broker_queue_depth(shell_of(ctx)->broker, queue);
}

static void port_close_shard(void *ctx, int16_t shard)
{
    broker_close_shard(shell_of(ctx)->broker, shard);
}

static void port_shard_released(void *ctx, int16_t shard)
{
    struct shell *shell = ctx;

    if (shell->owned[shard]) {
        shell->owned[shard] = false;
        shell->owned_count--;
        metric_set(METRIC_SHARDS_OWNED, (int64_t)shell->owned_count);
    }
    lease_release(shell->lease, shard);
    shell_maybe_leave(shell);
}

static void port_needs_newer(void *ctx, int16_t shard)
{
    lease_needs_newer(shell_of(ctx)->lease, shard);
}

static void port_check_shards(void *ctx)
{
    lease_check(shell_of(ctx)->lease);
}

/* --- expressions -------------------------------------------------------------------------------------------------- */

struct evaluation {
    struct shell *shell;
    uint64_t id;
};

static void on_value(void *ctx, enum sandbox_status status, struct str value, const char *message)
{
    struct evaluation *evaluation = ctx;
    struct shell *shell = evaluation->shell;
    struct sched_value answer = {.id = evaluation->id, .value = value, .message = str_of(message)};

    switch (status) {
    case SANDBOX_OK:
        answer.status = VALUE_OK;
        break;
    case SANDBOX_FAILED:
    case SANDBOX_BAD_PROGRAM:
        answer.status = VALUE_FAILED;
        break;
    case SANDBOX_UNAVAILABLE:
        answer.status = VALUE_AGAIN;
        break;
    }
    mem_free(evaluation);
    sched_on_values(shell->sched, &answer, 1);
    shell_woken(shell);
}

static void port_evaluate(void *ctx, const struct sched_evaluation *evaluations, size_t count)
{
    struct shell *shell = ctx;

    for (size_t i = 0; i < count; i++) {
        struct evaluation *evaluation = mem_alloc(sizeof(*evaluation));

        *evaluation = (struct evaluation){shell, evaluations[i].id};
        sandbox_eval(shell->sandbox, evaluations[i].organisation, evaluations[i].source, evaluations[i].document,
                     on_value, evaluation);
    }
}

static bool port_lease_is_live(void *ctx)
{
    return lease_is_live(shell_of(ctx)->lease);
}

struct sched_ports shell_ports(struct shell *shell)
{
    return (struct sched_ports){
        .ctx = shell,
        .mono = port_mono,
        .wall = port_wall,
        .fetch_commands = port_fetch_commands,
        .load_shard = port_load_shard,
        .load_runs = port_load_runs,
        .load_bodies = port_load_bodies,
        .load_plans = port_load_plans,
        .look_back = port_look_back,
        .commit = port_commit,
        .publish = port_publish,
        .ack = port_ack,
        .forget = port_forget,
        .evaluate = port_evaluate,
        .queue_depth = port_queue_depth,
        .close_shard = port_close_shard,
        .shard_released = port_shard_released,
        .needs_newer = port_needs_newer,
        .check_shards = port_check_shards,
        .lease_is_live = port_lease_is_live,
    };
}
