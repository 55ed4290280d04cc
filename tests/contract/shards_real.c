/* The contract of leases and shards against a PostgreSQL. Each process has a loop of its own; one whose loop does not
 * run stands still. */
#include "tests/contract/shards.h"
#include "tests/scheduler/scheduler_fixture.h"

#include "common/base/banned.h"

static struct process {
    uv_loop_t loop;
    bool used, alive;
    struct run_id me;
    int64_t frozen_until;
} processes[PROCESSES];
static struct pg_session *admin, *holder;

void world_turn(void)
{
    bool any = false;

    for (int i = 0; i < PROCESSES; i++)
        if (processes[i].alive && clock_mono().us >= processes[i].frozen_until) {
            loop_for(&processes[i].loop, 2);
            any = true;
        }
    if (!any)
        usleep(2000);
}

int64_t world_now_us(void)
{
    return clock_mono().us;
}

int shards_group_begin(void **state)
{
    int failed = make_database(state);
    struct pg_session *session = must_open(db.url);

    must_script(session, "UPDATE slot SET shard = slot % 4; DELETE FROM shard WHERE shard >= 4");
    pg_session_close(session);
    return failed;
}

int shards_group_end(void **state)
{
    return drop_database(state);
}

int shards_world_begin(void **state)
{
    (void)state;
    admin = must_open(db.url);
    holder = must_open(url);
    must_script(admin, "UPDATE shard SET owner = NULL, incarnation = NULL, epoch = 0; TRUNCATE scheduler");
    memset(processes, 0, sizeof(processes));
    return 0;
}

int shards_world_end(void **state)
{
    (void)state;
    for (int i = 0; i < PROCESSES; i++)
        if (processes[i].used)
            loop_end(&processes[i].loop);
    pg_session_close(holder);
    pg_session_close(admin);
    return 0;
}

struct lease *hand_start(int process, struct lease_options *options)
{
    struct process *p = &processes[process];

    assert_int_equal(uv_loop_init(&p->loop), 0);
    p->used = p->alive = true;
    random_bytes(p->me.bytes, sizeof(p->me.bytes));
    options->loop = &p->loop;
    options->url = url;
    options->me = p->me;
    return lease_new(options);
}

void hand_die(int process, struct lease *lease)
{
    processes[process].alive = false;
    lease_free(lease);
    uv_run(&processes[process].loop, UV_RUN_DEFAULT);
}

void hand_freeze(int process, int64_t us)
{
    processes[process].frozen_until = clock_mono().us + us;
}

void hand_lose_connections(void)
{
    must_script(admin, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = "
                       "'ropewalk-scheduler lease' AND datname = current_database()");
}

void hand_expire(const char *name)
{
    char sql[200];

    snprintf(sql, sizeof(sql), "UPDATE scheduler SET lease_until = now() - interval '1 ms' WHERE name = '%s'", name);
    must_script(admin, sql);
}

void hand_batch_begin(int process, int16_t shard, int64_t epoch)
{
    char sql[200], me[2 * sizeof(struct run_id) + 1];

    hex_encode(processes[process].me.bytes, sizeof(struct run_id), me);
    snprintf(sql, sizeof(sql), "BEGIN; SELECT shard_guard('%s', '{%d}', '{%lld}')", me, shard, (long long)epoch);
    must_script(holder, sql);
}

bool hand_batch_end(void)
{
    struct err err;

    return pg_session_script(holder, "COMMIT", &err) == ERR_OK;
}
