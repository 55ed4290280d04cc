/* bench_core: what the scheduler's core costs per step by itself; ports that answer at once: no database, broker or
 * worker. bench_core [runs in flight] [steps of a run] [runs] [chain | items | list | open]
 * chain  noop steps, one after another
 * items  a loop of transform steps, whose outputs nobody reads
 * list   the same, and the loop's list is the run's output
 * open   a loop of noop steps, all of them open at once */
#include "common/base/log.h"
#include "scheduler/core/sched_core.h"

#include "common/base/banned.h"

struct bench {
    struct sched *sched;
    int64_t wall_at_start;
    struct str document;
    uint64_t batch;
    bool in_flight;
    size_t to_start, started, ended, events;
    int64_t next_command;
    struct buf results; /* of the tasks published since the last turn */
    size_t result_count;
    struct run_id *loads;
    size_t load_count;
    uint64_t load;
    uint64_t fetch;
    bool fetching, wants_plan;
    size_t in_flight_runs;
    char *body;
};

static struct mono_us port_mono(void *ctx)
{
    (void)ctx;
    return clock_mono();
}

static struct wall_us port_wall(void *ctx)
{
    (void)ctx;
    return clock_wall();
}

static void port_fetch(void *ctx, uint64_t fetch, const struct sched_command_want *want)
{
    struct bench *b = ctx;

    (void)want;
    b->fetch = fetch;
    b->fetching = true;
}

static void port_load_shard(void *ctx, int16_t shard, int64_t epoch)
{
    (void)ctx;
    (void)shard;
    (void)epoch;
}

static void port_load_runs(void *ctx, uint64_t load, const struct run_id *ids, size_t count)
{
    struct bench *b = ctx;

    b->load = load;
    memcpy(b->loads, ids, count * sizeof(*ids));
    b->load_count = count;
}

static void port_load_bodies(void *ctx, const struct sched_body_want *wants, size_t count)
{
    (void)ctx;
    (void)wants;
    (void)count;
}

static void port_load_plans(void *ctx, const struct sched_plan_want *wants, size_t count)
{
    (void)wants;
    (void)count;
    ((struct bench *)ctx)->wants_plan = true;
}

static void port_commit(void *ctx, const struct sched_batch *batch)
{
    struct bench *b = ctx;

    b->batch = batch->number;
    b->in_flight = true;
    b->events += batch->event_count;
    for (size_t i = 0; i < batch->run_count; i++)
        b->ended += run_ended(batch->runs[i].status);
}

static void port_publish(void *ctx, const struct sched_publish *p)
{
    struct bench *b = ctx;
    struct str id = jt_get(p->body, "task_id"), token = jt_get(p->body, "token");

    if (b->result_count++ > 0)
        buf_append_char(&b->results, ',');
    buf_append_str(&b->results, STR("{\"task_id\":"));
    buf_append_str(&b->results, id);
    buf_append_str(&b->results, STR(",\"token\":"));
    buf_append_str(&b->results, token);
    buf_append_str(&b->results, STR(",\"worker\":\"w1-abcdef\",\"status\":\"succeeded\",\"output\":null,\"started_at\":"
                                    "\"2026-11-21T04:00:00.123Z\",\"ended_at\":\"2026-11-21T04:00:00.124Z\"}"));
}

static void port_free(void *ctx, void *delivery)
{
    (void)ctx;
    mem_free(delivery);
}

static void port_evaluate(void *ctx, const struct sched_evaluation *evaluations, size_t count)
{
    (void)ctx;
    (void)evaluations;
    (void)count;
}

static void port_depth(void *ctx, const char *queue)
{
    sched_on_queue_depth(((struct bench *)ctx)->sched, queue, true, 0, 1);
}

static void port_shard(void *ctx, int16_t shard)
{
    (void)ctx;
    (void)shard;
}

static void port_check(void *ctx)
{
    (void)ctx;
}

static void answer_commands(struct bench *b)
{
    struct sched_command rows[1000];
    size_t n = 0;

    b->fetching = false;
    while (b->started < b->to_start && b->started - b->ended < b->in_flight_runs && n < 1000) {
        rows[n++] = (struct sched_command){.shard = 0,
                                           .id = ++b->next_command,
                                           .organisation = 1,
                                           .run = run_id_make(clock_wall(), 0),
                                           .kind = STR("start")};
        b->started++;
    }
    sched_on_commands(b->sched, b->fetch, rows, n, true, false);
}

static void answer_loads(struct bench *b)
{
    struct sched_loaded_run *runs = mem_array(b->load_count, sizeof(*runs));

    for (size_t i = 0; i < b->load_count; i++)
        runs[i] = (struct sched_loaded_run){.id = b->loads[i],
                                            .found = true,
                                            .organisation = 1,
                                            .organisation_name = STR("default"),
                                            .weight = 1,
                                            .workflow = STR("chain"),
                                            .version = 1,
                                            .priority = PRIORITY_NORMAL,
                                            .created_at = clock_wall(),
                                            .input = STR("{}")};
    sched_on_loaded(b->sched, b->load, runs, b->load_count);
    mem_free(runs);
    b->load_count = 0;
}

/* A worker sends what it has done in one message. */
static void answer_tasks(struct bench *b)
{
    struct buf body;
    size_t len;
    char *text;

    buf_init(&body, b->results.len + 64);
    buf_append_str(&body, STR("{\"v\":1,\"results\":["));
    buf_append_str(&body, buf_str(&b->results));
    buf_append_str(&body, STR("]}"));
    text = buf_take(&body, &len);
    buf_reset(&b->results);
    b->result_count = 0;
    sched_on_message(b->sched, &(struct sched_message){.delivery = text, .type = STR("result"), .body = {text, len}});
}

static void turn(struct bench *b)
{
    sched_tick(b->sched);
    if (b->fetching)
        answer_commands(b);
    else if (b->started < b->to_start && b->started - b->ended < b->in_flight_runs)
        sched_on_message(b->sched, &(struct sched_message){.delivery = mem_alloc(1),
                                                           .type = STR("nudge"),
                                                           .body = STR("{\"v\":1,\"shard\":0}")});
    if (b->wants_plan) {
        b->wants_plan = false;
        sched_on_plans(b->sched, &(struct sched_plan_loaded){.key = {1, STR("chain"), 1}, .document = b->document}, 1);
    }
    if (b->load_count > 0)
        answer_loads(b);
    if (b->in_flight) {
        struct sched_commit_outcome committed = {.outcome = SCHED_COMMITTED};

        b->in_flight = false;
        sched_on_committed(b->sched, b->batch, &committed);
    }
    if (b->result_count > 0)
        answer_tasks(b);
}

static void put_chain(struct buf *out, int64_t steps)
{
    buf_append_str(out, STR("{\"name\":\"chain\",\"steps\":{\"s0\":{\"call\":\"noop\"}"));
    for (int64_t i = 1; i < steps; i++)
        buf_printf(out, ",\"s%lld\":{\"needs\":[\"s%lld\"],\"call\":\"noop\"}", (long long)i, (long long)i - 1);
    buf_append_str(out, STR("}}"));
}

static void put_loop(struct buf *out, int64_t items, bool open, bool list)
{
    buf_append_str(out, STR("{\"name\":\"chain\",\"steps\":{\"each\":{\"call\":\"foreach\",\"with\":{\"items\":["));
    for (int64_t i = 0; i < items; i++)
        buf_printf(out, "%s%lld", i == 0 ? "" : ",", (long long)i);
    if (open)
        buf_printf(out, "],\"concurrency\":%lld,\"steps\":{\"t\":{\"call\":\"noop\"}}}}}", (long long)items);
    else
        buf_append_str(out, STR("],\"steps\":{\"t\":{\"call\":\"transform\",\"with\":{\"value\":\"${ .item }\"}}}}}}"));
    if (list)
        buf_append_str(out, STR(",\"output\":\"${ .steps.each.output }\""));
    buf_append_char(out, '}');
}

static void put_document(struct buf *out, const char *shape, int64_t steps)
{
    if (strcmp(shape, "chain") == 0)
        put_chain(out, steps);
    else
        put_loop(out, steps, strcmp(shape, "open") == 0, strcmp(shape, "list") == 0);
}

static int64_t argument(int argc, char **argv, int i, int64_t fallback)
{
    int64_t n = fallback;

    return i < argc && !parse_i64(str_of(argv[i]), 1, 100000000, &n) ? fallback : n;
}

int main(int argc, char **argv)
{
    struct bench b = {.in_flight_runs = (size_t)argument(argc, argv, 1, 256),
                      .to_start = (size_t)argument(argc, argv, 3, 20000)};
    int64_t steps = argument(argc, argv, 2, 10), cpu;
    const char *shape = argc > 4 ? argv[4] : "chain";
    struct sched_ports ports = {.ctx = &b,
                                .mono = port_mono,
                                .wall = port_wall,
                                .fetch_commands = port_fetch,
                                .load_shard = port_load_shard,
                                .load_runs = port_load_runs,
                                .load_bodies = port_load_bodies,
                                .load_plans = port_load_plans,
                                .commit = port_commit,
                                .publish = port_publish,
                                .ack = port_free,
                                .forget = port_free,
                                .evaluate = port_evaluate,
                                .queue_depth = port_depth,
                                .close_shard = port_shard,
                                .shard_released = port_shard,
                                .check_shards = port_check};
    struct sched_settings settings = {.name = "bench", .token_key = STR("0123456789abcdef0123456789abcdef")};
    struct buf document;
    struct timespec used;

    log_init("bench", "bench", LOG_WARN);
    buf_init(&document, 1 << 20);
    put_document(&document, shape, steps);
    b.document = buf_str(&document);
    b.loads = mem_array(1000, sizeof(*b.loads));
    buf_init(&b.results, (size_t)64 << 20);
    b.sched = sched_new(&ports, &settings);
    sched_on_broker(b.sched, true);
    sched_on_shards(b.sched, &(struct sched_shard_change){.shard = 0, .gained = true, .epoch = 1}, 1);
    sched_on_open_work(b.sched, 0, 1, NULL, 0, NULL, 0, true, false);
    while (b.ended < b.to_start)
        turn(&b);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    cpu = used.tv_sec * 1000000 + used.tv_nsec / 1000;
    printf("%s: %zu runs of %lld steps, %zu in flight: %.2f us of CPU per step, %zu events\n", shape, b.to_start,
           (long long)steps, b.in_flight_runs, (double)cpu / (double)(b.to_start * (size_t)steps), b.events);
    sched_free(b.sched);
    mem_free(b.loads);
    buf_deinit(&b.results);
    buf_deinit(&document);
    return 0;
}
