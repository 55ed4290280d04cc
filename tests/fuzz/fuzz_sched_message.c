/* Any bytes as a message to the scheduler: result, started, watch, nudge, heartbeat or something unknown. Each is
 * acknowledged exactly once in the end, and whatever it says changes nothing but dead letters. */
#include "common/base/ensure.h"
#include "common/base/log.h"
#include "scheduler/core/sched_core.h"

#include "common/base/banned.h"

struct shell {
    struct sched *sched;
    const struct sched_batch *batch;
    struct run_id wanted[600];
    size_t wanted_count;
    uint64_t load;
    int64_t now;
    size_t settled;
};

static struct mono_us port_mono(void *ctx)
{
    return (struct mono_us){((struct shell *)ctx)->now};
}

static struct wall_us port_wall(void *ctx)
{
    return (struct wall_us){((struct shell *)ctx)->now};
}

static void port_fetch(void *ctx, uint64_t fetch, const struct sched_command_want *want)
{
    (void)ctx;
    (void)fetch;
    (void)want;
}

static void port_load_shard(void *ctx, int16_t shard, int64_t epoch)
{
    (void)ctx;
    (void)shard;
    (void)epoch;
}

static void port_load_runs(void *ctx, uint64_t load, const struct run_id *ids, size_t count)
{
    struct shell *shell = ctx;

    shell->load = load;
    shell->wanted_count = count;
    memcpy(shell->wanted, ids, count * sizeof(*ids));
}

static void port_commit(void *ctx, const struct sched_batch *batch)
{
    ENSURE(batch->event_count == 0);
    ((struct shell *)ctx)->batch = batch;
}

static void port_publish(void *ctx, const struct sched_publish *publish)
{
    struct err err;

    (void)ctx;
    ENSURE(jt_check(publish->body, &JT_LIMITS_MESSAGE, &err) == ERR_OK);
}

static void port_settle(void *ctx, void *delivery)
{
    (void)delivery;
    ((struct shell *)ctx)->settled++;
}

static void answer(struct shell *shell)
{
    for (int i = 0; i < 4; i++) {
        sched_tick(shell->sched);
        for (size_t r = 0; r < shell->wanted_count; r++)
            sched_on_loaded(shell->sched, shell->load, &(struct sched_loaded_run){.id = shell->wanted[r]}, 1);
        shell->wanted_count = 0;
        if (shell->batch != NULL) {
            uint64_t number = shell->batch->number;

            shell->batch = NULL;
            sched_on_committed(shell->sched, number, &(struct sched_commit_outcome){.outcome = SCHED_COMMITTED});
        }
        shell->now += US_PER_S;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first byte chooses the type, the rest is the body; it is the message id, too. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const types[] = {"result", "started", "watch", "nudge", "heartbeat", "gossip"};
    struct shell shell = {.now = US_PER_S};
    struct sched_ports ports = {.ctx = &shell,
                                .mono = port_mono,
                                .wall = port_wall,
                                .fetch_commands = port_fetch,
                                .load_shard = port_load_shard,
                                .load_runs = port_load_runs,
                                .commit = port_commit,
                                .publish = port_publish,
                                .ack = port_settle,
                                .forget = port_settle};
    struct sched_settings settings = {.name = "fuzz", .token_key = STR("key")};
    const char *type;
    struct str body;

    if (size == 0)
        return 0;
    log_init("fuzz", "fuzz", (enum log_level)(LOG_ERROR + 1));
    type = types[data[0] % (sizeof(types) / sizeof(types[0]))];
    body = (struct str){(const char *)data + 1, size - 1};
    shell.sched = sched_new(&ports, &settings);
    sched_on_broker(shell.sched, true);
    sched_on_shards(shell.sched, &(struct sched_shard_change){.shard = 0, .gained = true, .epoch = 1}, 1);
    sched_on_open_work(shell.sched, 0, 1, NULL, 0, NULL, 0, true, false);
    if (strcmp(type, "heartbeat") == 0)
        sched_on_heartbeat(shell.sched, body);
    else
        sched_on_message(shell.sched, &(struct sched_message){.delivery = &shell,
                                                              .type = str_of(type),
                                                              .message_id = utf8_prefix(body, 40),
                                                              .body = body});
    answer(&shell);
    sched_free(shell.sched);
    ENSURE(shell.settled == (strcmp(type, "heartbeat") == 0 ? 0 : 1));
    return 0;
}
