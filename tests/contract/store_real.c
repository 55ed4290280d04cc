/* The store's contract against scheduler/store.c and a PostgreSQL with a relay before it. */
#include "scheduler/store.h"
#include "tests/contract/store.h"
#include "tests/scheduler/scheduler_fixture.h"

#include "tests/io/pg_proxy.h"

#include "common/base/banned.h"

#define BATCHES "application_name LIKE 'ropewalk-scheduler batches%' AND datname = current_database()"

static struct {
    uv_loop_t loop;
    struct store *store;
    struct pg_session *admin, *holder;
    struct proxy proxy;
    char proxy_url[512];
    struct run_id me, another;
    int16_t slot_shard[SLOT_COUNT];
} w;
struct sched_ports ports;

/* ---- the ports ---- */

static struct wall_us wall(void *ctx)
{
    (void)ctx;
    return clock_wall();
}
static void fetch_commands(void *ctx, uint64_t fetch, const struct sched_command_want *want)
{
    (void)ctx;
    store_fetch_commands(w.store, fetch, want);
}
static void load_shard(void *ctx, int16_t shard, int64_t epoch)
{
    (void)ctx;
    store_load_shard(w.store, shard, epoch);
}
static void load_runs(void *ctx, uint64_t load, const struct run_id *ids, size_t count)
{
    (void)ctx;
    store_load_runs(w.store, load, ids, count);
}
static void load_bodies(void *ctx, const struct sched_body_want *wants, size_t count)
{
    (void)ctx;
    store_load_bodies(w.store, wants, count);
}
static void load_plans(void *ctx, const struct sched_plan_want *wants, size_t count)
{
    (void)ctx;
    store_load_plans(w.store, wants, count);
}
static void commit(void *ctx, const struct sched_batch *batch)
{
    (void)ctx;
    store_commit(w.store, batch);
}

static void look_back(void *ctx, const int16_t *shards, size_t count)
{
    (void)ctx;
    store_look_back(w.store, shards, count);
}

/* ---- the world ---- */

void world_turn(void)
{
    loop_for(&w.loop, 2);
}

int64_t world_now_us(void)
{
    return clock_mono().us;
}

int store_group_begin(void **state)
{
    return make_database(state);
}

int store_group_end(void **state)
{
    return drop_database(state);
}

static void ignore(void *ctx)
{
    (void)ctx;
}
static void ignore_down(void *ctx, const struct err *err)
{
    (void)ctx;
    (void)err;
}

static void open_store(void)
{
    random_bytes(w.me.bytes, sizeof(w.me.bytes));
    w.store = store_new(&(struct store_options){.loop = &w.loop,
                                                .url = w.proxy_url,
                                                .prepared = true,
                                                .me = w.me,
                                                .slot_shard = w.slot_shard,
                                                .woken = ignore,
                                                .on_up = ignore,
                                                .on_down = ignore_down});
}

int store_world_begin(void **state)
{
    (void)state;
    assert_int_equal(uv_loop_init(&w.loop), 0);
    for (int i = 0; i < SLOT_COUNT; i++)
        w.slot_shard[i] = (int16_t)(i % 16);
    random_bytes(w.another.bytes, sizeof(w.another.bytes));
    w.admin = must_open(db.url);
    w.holder = must_open(db.url);
    must_script(
        w.admin,
        "TRUNCATE event, run, open_work, command, quarantine, dead_letter, admission_key, admission, incoming_event; "
        "DELETE FROM workflow_version; DELETE FROM workflow");
    proxy_start(&w.proxy, url, w.proxy_url, sizeof(w.proxy_url));
    heard_begin();
    open_store();
    UNTIL(store_is_up(w.store)); /* what is muted before would not even connect */
    ports = (struct sched_ports){.wall = wall,
                                 .fetch_commands = fetch_commands,
                                 .load_shard = load_shard,
                                 .load_runs = load_runs,
                                 .load_bodies = load_bodies,
                                 .load_plans = load_plans,
                                 .look_back = look_back,
                                 .commit = commit};
    hand_workflow("w", 1, true);
    for (int16_t shard = 0; shard < 16; shard++)
        hand_shard(shard, ME, 7);
    return 0;
}

int store_world_end(void **state)
{
    (void)state;
    must_script(w.admin, "ALTER TABLE event DROP CONSTRAINT IF EXISTS poison");
    store_free(w.store);
    loop_end(&w.loop);
    proxy_stop(&w.proxy);
    pg_session_close(w.holder);
    pg_session_close(w.admin);
    heard_end();
    return 0;
}

/* ---- hands ---- */

static void run(const char *sql, const struct pg_param *params, size_t count, struct pg_result **ret)
{
    struct err err;

    if (pg_session_run(w.admin, sql, params, count, ret, &err) != ERR_OK)
        fail_msg("%s: %s (%s)", sql, err.message, err.sqlstate);
}
#define RUN(ret, sql, ...)                                                                                             \
    run((sql), (const struct pg_param[]){__VA_ARGS__},                                                                 \
        sizeof((const struct pg_param[]){__VA_ARGS__}) / sizeof(struct pg_param), (ret))

static int64_t number_of(const char *sql, struct run_id run_id, int32_t seq)
{
    struct pg_result *res = NULL;
    int64_t number;

    RUN(&res, sql, pg_uuid(run_id), pg_i32(seq));
    number = pg_get_int(res, 0, 0);
    pg_result_free(res);
    return number;
}

void hand_crash(void)
{
    store_free(w.store);
    open_store();
}

void hand_workflow(const char *name, int32_t versions, bool enabled)
{
    RUN(NULL, "INSERT INTO workflow (organisation, name, version, enabled) VALUES (1, $1, $2, $3)",
        pg_text(str_of(name)), pg_i32(versions), pg_bool(enabled));
    RUN(NULL,
        "INSERT INTO workflow_version (organisation, workflow, version, document, hash, created_by) SELECT 1, $1, v, "
        "convert_to('{\"name\": \"' || $1 || '\"}', 'UTF8'), '', '' FROM generate_series(1, $2::int) v",
        pg_text(str_of(name)), pg_i32(versions));
}

void hand_run(struct run_id id, struct str input)
{
    RUN(NULL,
        "INSERT INTO run (id, organisation, workflow, version, created_at, input) VALUES ($1, 1, 'w', 1, now(), $2)",
        pg_uuid(id), pg_json(input));
}

int64_t hand_command(struct run_id run_id, const char *kind, struct str body, struct str reply_to)
{
    struct pg_result *res = NULL;
    int64_t id;

    RUN(&res,
        "INSERT INTO command (shard, organisation, run_id, kind, body, reply_to) VALUES ($1, 1, $2, $3, $4, $5) "
        "RETURNING id",
        pg_i16(w.slot_shard[run_id_slot(run_id)]), pg_uuid(run_id), pg_text(str_of(kind)), pg_json(body),
        pg_text(reply_to));
    id = pg_get_int(res, 0, 0);
    pg_result_free(res);
    return id;
}

void hand_event(const char *type, int n)
{
    static int number;

    number++;
    RUN(NULL,
        "INSERT INTO incoming_event (organisation, source, id, type, event, starts) VALUES (1, '/s', $1::int::text, "
        "$2, "
        "json_build_object('data', json_build_object('n', $3::int)), '[]')",
        pg_i32(number), pg_text(str_of(type)), pg_i32(n));
}

void hand_shard(int16_t shard, enum owner owner, int64_t epoch)
{
    must_script(w.admin, "BEGIN");
    RUN(NULL, "SELECT pg_advisory_xact_lock(1919119216, $1)", pg_i32(shard));
    RUN(NULL, "UPDATE shard SET incarnation = $1, epoch = $2 WHERE shard = $3",
        owner == NOBODY ? pg_null()
        : owner == ME   ? pg_uuid(w.me)
                        : pg_uuid(w.another),
        pg_i64(epoch), pg_i16(shard));
    must_script(w.admin, "COMMIT");
}

void hand_poison(struct run_id run_id)
{
    char id[UUID_TEXT_SIZE], sql[200];

    run_id_format(run_id, id);
    snprintf(sql, sizeof(sql), "ALTER TABLE event ADD CONSTRAINT poison CHECK (run_id <> '%s' OR seq < 3)", id);
    must_script(w.admin, sql);
}

void hand_break_reads(bool broken)
{
    must_script(w.admin, broken ? "ALTER TABLE event RENAME TO event_away" : "ALTER TABLE event_away RENAME TO event");
}

void hand_hold(bool hold)
{
    must_script(w.holder, hold ? "BEGIN; LOCK TABLE event IN SHARE MODE" : "COMMIT");
}

bool hand_is_held(void)
{
    return must_int(w.admin, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND " BATCHES) == 1;
}

void hand_mute(bool mute)
{
    proxy_hold_answers(&w.proxy, mute);
}

bool hand_is_done(struct run_id run_id, uint32_t seq)
{
    return number_of("SELECT count(*) FROM event WHERE run_id = $1 AND seq = $2", run_id, (int32_t)seq) == 1;
}

void hand_kill(void)
{
    must_script(w.admin,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND " BATCHES);
}

void hand_cut(void)
{
    proxy_cut(&w.proxy);
}

const char *hand_status(struct run_id run_id)
{
    static char status[64];
    struct pg_result *res = NULL;
    struct str text;

    RUN(&res, "SELECT status FROM run WHERE id = $1", pg_uuid(run_id));
    text = pg_get_str(res, 0, 0);
    snprintf(status, sizeof(status), STR_FMT, STR_ARG(text));
    pg_result_free(res);
    return status;
}

int hand_dead_letters(void)
{
    return (int)must_int(w.admin, "SELECT count(*) FROM dead_letter");
}
