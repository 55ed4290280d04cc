/* The contract of schedules against a PostgreSQL, as a scheduler's role and with its settings. */
#include "scheduler/schedule_rows.h"
#include "tests/contract/schedules.h"
#include "tests/scheduler/scheduler_fixture.h"

#include "common/base/banned.h"

static struct {
    uv_loop_t loop;
    struct pg *pg[2];
    struct pg_session *admin;
    struct arena *arena;
    int schedules;
} w;

struct asked {
    bool done;
    size_t rows;
    struct fire_row *ret; /* NULL: they are counted only */
    int64_t next;
    bool waiting;
};

void world_turn(void)
{
    loop_for(&w.loop, 2);
}

int64_t world_now_us(void)
{
    return clock_mono().us;
}

int schedules_group_begin(void **state)
{
    int failed = make_database(state);
    struct pg_session *session = must_open(db.url);

    must_script(session,
                "INSERT INTO workflow (organisation, name, version) VALUES (1, 'w', 1); INSERT INTO workflow_version "
                "(organisation, workflow, version, document, hash, created_by) VALUES (1, 'w', 1, '{\"name\": \"w\"}', "
                "'', '')");
    pg_session_close(session);
    return failed;
}

int schedules_group_end(void **state)
{
    return drop_database(state);
}

int schedules_world_begin(void **state)
{
    (void)state;
    assert_int_equal(uv_loop_init(&w.loop), 0);
    w.admin = must_open(db.url);
    w.arena = arena_new(0);
    must_script(w.admin,
                "TRUNCATE schedule, schedule_fire, command; DELETE FROM run; UPDATE workflow SET enabled = true");
    for (int i = 0; i < 2; i++)
        w.pg[i] = pg_new(
            &(struct pg_options){.loop = &w.loop, .url = url, .application = "test schedules", .prepared = true});
    return 0;
}

int schedules_world_end(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++)
        pg_free(w.pg[i]);
    loop_end(&w.loop);
    arena_free(w.arena);
    pg_session_close(w.admin);
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

struct wall_us hand_clock(void)
{
    return (struct wall_us){must_int(w.admin, "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")};
}

struct run_id hand_schedule(int16_t shard, struct wall_us after, struct wall_us due)
{
    struct run_id id = run_id_make(clock_wall(), (unsigned)shard);
    char trigger[16];

    snprintf(trigger, sizeof(trigger), "t%d", w.schedules++);
    RUN(NULL,
        "INSERT INTO schedule (id, organisation, shard, workflow, trigger, definition, priority, after_at, due_at) "
        "VALUES ($1, 1, $2, 'w', $3, '{}', 2, $4, $5)",
        pg_uuid(id), pg_i16(shard), pg_text(str_of(trigger)), pg_time(after), pg_time(due));
    return id;
}

void hand_change(struct run_id schedule, enum hand_change change)
{
    RUN(NULL,
        "UPDATE schedule SET paused = coalesce($2, paused), revision = revision + 1, after_at = now(), next_at = NULL, "
        "due_at = CASE WHEN NOT coalesce($2, paused) THEN now() END WHERE id = $1",
        pg_uuid(schedule), change == HAND_OVERRIDE ? pg_null() : pg_bool(change == HAND_PAUSE));
}

void hand_enable(bool enabled)
{
    must_script(w.admin, enabled ? "UPDATE workflow SET enabled = true" : "UPDATE workflow SET enabled = false");
}

void hand_end_run(struct run_id id)
{
    RUN(NULL, "UPDATE run SET status = 'succeeded', ended_at = now() WHERE id = $1", pg_uuid(id));
}

static void on_done(void *ctx, const struct pg_outcome *outcome)
{
    struct asked *asked = ctx;

    if (outcome->rc != ERR_OK)
        fail_msg("%s (%s)", outcome->err->message, outcome->err->sqlstate);
    asked->rows = pg_rows(outcome->results[0]);
    for (size_t i = 0; i < asked->rows && asked->ret != NULL; i++)
        asked->ret[i] = *schedule_row(outcome->results[0], i, w.arena);
    if (asked->ret != NULL)
        asked->next = schedule_next_row(outcome->results[1], &asked->waiting);
    asked->done = true;
}

static struct asked ask(int16_t shards, size_t most, struct fire_row ret[ROWS_MAX])
{
    struct asked asked = {.ret = ret};
    struct pg_batch *batch = pg_batch_new(false);
    int16_t own[SHARD_COUNT];

    for (int16_t i = 0; i < SHARD_COUNT; i++)
        own[i] = i;
    schedule_rows_due(batch, own, (size_t)shards, most);
    pg_submit(w.pg[0], batch, on_done, &asked);
    UNTIL(asked.done);
    return asked;
}

size_t hand_due(int16_t shards, size_t most, struct fire_row ret[ROWS_MAX])
{
    return ask(shards, most, ret).rows;
}

int64_t hand_next(int16_t shards, bool *ret_waiting)
{
    struct fire_row rows[ROWS_MAX];
    struct asked asked = ask(shards, ROWS_MAX, rows);

    *ret_waiting = asked.waiting;
    return asked.next;
}

static void submit(int connection, const struct fire *fires, size_t count, struct asked *asked)
{
    struct pg_batch *batch = pg_batch_new(true);

    schedule_rows_fire(batch, fires, count);
    pg_submit(w.pg[connection], batch, on_done, asked);
}

size_t hand_fire(const struct fire *fires, size_t count)
{
    struct asked asked = {0};

    submit(0, fires, count, &asked);
    UNTIL(asked.done);
    return asked.rows;
}

/* Both wait for the row of the schedule. */
size_t hand_fire_at_once(const struct fire *first, const struct fire *second)
{
    struct asked asked[2] = {{0}};

    must_script(w.admin, "BEGIN");
    RUN(NULL, "SELECT 1 FROM schedule WHERE id = $1 FOR UPDATE", pg_uuid(first->row->id));
    submit(0, first, 1, &asked[0]);
    submit(1, second, 1, &asked[1]);
    UNTIL(must_int(w.admin, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND "
                            "application_name = 'test schedules' AND datname = current_database()") == 2);
    must_script(w.admin, "COMMIT");
    UNTIL(asked[0].done && asked[1].done);
    return asked[0].rows + asked[1].rows;
}

static size_t count_of(const char *sql, struct run_id schedule)
{
    struct pg_result *res = NULL;
    size_t count;

    RUN(&res, sql, pg_uuid(schedule));
    count = (size_t)pg_get_int(res, 0, 0);
    pg_result_free(res);
    return count;
}

/* Runs are counted by their rows, and have each a command. */
struct hand_state hand_state(struct run_id schedule)
{
    struct hand_state state = {0};
    struct pg_result *res = NULL;

    RUN(&res, "SELECT after_at, due_at, waiting, last_run FROM schedule WHERE id = $1", pg_uuid(schedule));
    state.after = pg_get_time(res, 0, 0);
    state.due = pg_get_time(res, 0, 1);
    state.waiting = (int32_t)pg_get_int(res, 0, 2);
    state.has_run = !pg_is_null(res, 0, 3);
    if (state.has_run)
        state.last_run = pg_get_uuid(res, 0, 3);
    pg_result_free(res);
    state.times = count_of("SELECT count(*) FROM schedule_fire WHERE schedule = $1", schedule);
    state.runs =
        count_of("SELECT count(*) FROM run r JOIN schedule_fire f ON f.run_id = r.id WHERE f.schedule = $1", schedule);
    assert_int_equal(state.runs, count_of("SELECT count(*) FROM command c JOIN schedule_fire f ON f.run_id = c.run_id "
                                          "WHERE f.schedule = $1 AND c.kind = 'start'",
                                          schedule));
    state.cancelled = count_of("SELECT count(*) FROM command c JOIN schedule_fire f ON f.run_id = c.run_id "
                               "WHERE f.schedule = $1 AND c.kind = 'cancel'",
                               schedule);
    return state;
}
