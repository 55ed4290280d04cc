/* The store port against a real PostgreSQL. The core's inputs are this file's own, so that it sees what the core would.
 */
#include "scheduler/store.h"
#include "tests/scheduler/scheduler_fixture.h"

#include "tests/io/pg_proxy.h"

/* --- what the core would hear ------------------------------------------------------------------------------------- */

static struct heard {
    int committed, loaded, work, commands, bodies, plans;
    struct sched_commit_outcome outcome;
    size_t runs, events, work_rows, quarantined, command_count;
    bool found, failed, last, complete;
    struct sched_loaded_run run;
    uint32_t output_bytes;
    char text[256], input[64], parent_step[64];
    int64_t ids[64];
    size_t shards_filled;
} heard;

void sched_on_committed(struct sched *sched, uint64_t batch, const struct sched_commit_outcome *outcome)
{
    (void)sched;
    (void)batch;
    heard.committed++;
    heard.outcome = *outcome;
}

void sched_on_loaded(struct sched *sched, uint64_t load, const struct sched_loaded_run *runs, size_t count)
{
    (void)sched;
    (void)load;
    heard.loaded++;
    heard.runs += count;
    for (size_t i = 0; i < count; i++) {
        heard.failed = runs[i].failed;
        heard.found = runs[i].found;
        heard.events += runs[i].event_count;
        heard.work_rows += runs[i].work_count;
        if (!runs[i].found)
            continue;
        heard.run = runs[i];
        snprintf(heard.input, sizeof(heard.input), STR_FMT, STR_ARG(runs[i].input));
        snprintf(heard.parent_step, sizeof(heard.parent_step), STR_FMT, STR_ARG(runs[i].parent_step));
        snprintf(heard.text, sizeof(heard.text), STR_FMT "/" STR_FMT, STR_ARG(runs[i].organisation_name),
                 STR_ARG(runs[i].workflow));
        for (size_t e = 0; e < runs[i].event_count; e++) {
            assert_int_equal(runs[i].events[e].seq, e + 1);
            heard.output_bytes = runs[i].events[e].output_bytes;
        }
    }
}

void sched_on_open_work(struct sched *sched, int16_t shard, int64_t epoch, const struct sched_work_row *rows,
                        size_t count, const struct run_id *quarantined, size_t quarantined_count, bool last,
                        bool failed)
{
    static struct run_id previous;

    (void)sched;
    (void)shard;
    (void)epoch;
    (void)quarantined;
    heard.work++;
    for (size_t i = 0; i < count; i++) {
        if (heard.work_rows + i > 0)
            assert_true(run_id_cmp(previous, rows[i].run) <= 0);
        previous = rows[i].run;
        assert_int_equal(rows[i].weight, 1);
    }
    heard.work_rows += count;
    heard.quarantined += quarantined_count;
    heard.last = last;
    heard.failed = failed;
}

void sched_on_looked(struct sched *sched, bool told, bool remaining, bool failed)
{
    (void)sched;
    (void)told;
    (void)remaining;
    (void)failed;
    fail_msg("nobody has asked for it");
}

void sched_on_commands(struct sched *sched, uint64_t fetch, const struct sched_command *rows, size_t count,
                       bool complete, bool failed)
{
    (void)sched;
    (void)fetch;
    heard.commands++;
    heard.command_count = count;
    heard.complete = complete;
    heard.failed = failed;
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            assert_true(rows[i].id > rows[i - 1].id);
        if (i < 64)
            heard.ids[i] = rows[i].id;
    }
}

void sched_on_bodies(struct sched *sched, const struct sched_body *bodies, size_t count)
{
    (void)sched;
    heard.bodies++;
    heard.text[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        size_t len = strlen(heard.text);

        snprintf(heard.text + len, sizeof(heard.text) - len, STR_FMT "|", STR_ARG(bodies[i].body));
    }
}

void sched_on_plans(struct sched *sched, const struct sched_plan_loaded *plans, size_t count)
{
    (void)sched;
    heard.plans++;
    heard.text[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        size_t len = strlen(heard.text);

        snprintf(heard.text + len, sizeof(heard.text) - len, "%s" STR_FMT "|",
                 plans[i].document.ptr == NULL ? "none" : "", STR_ARG(plans[i].document));
    }
}

/* --- the fixture -------------------------------------------------------------------------------------------------- */

struct fixture {
    uv_loop_t loop;
    struct store *store;
    struct pg_session *admin;
    int ups, downs, woken;
    struct run_id me;
    int16_t slot_shard[SLOT_COUNT];
};

static void on_woken(void *ctx)
{
    ((struct fixture *)ctx)->woken++;
}

static void on_up(void *ctx)
{
    ((struct fixture *)ctx)->ups++;
}

static void on_down(void *ctx, const struct err *err)
{
    (void)err;
    ((struct fixture *)ctx)->downs++;
}

static void connect_store(struct fixture *f, const char *store_url)
{
    f->ups = 0;
    f->store = store_new(&(struct store_options){.loop = &f->loop,
                                                 .url = store_url,
                                                 .prepared = true,
                                                 .me = f->me,
                                                 .slot_shard = f->slot_shard,
                                                 .woken = on_woken,
                                                 .on_up = on_up,
                                                 .on_down = on_down,
                                                 .ctx = f});
    assert_true(loop_until(&f->loop, &f->ups, 1, 5000));
}

static int begin(void **state)
{
    struct fixture *f = mem_alloc(sizeof(*f));

    assert_int_equal(uv_loop_init(&f->loop), 0);
    for (int i = 0; i < SLOT_COUNT; i++)
        f->slot_shard[i] = (int16_t)(i % 16);
    memset(f->me.bytes, 0x11, sizeof(f->me.bytes));
    f->admin = must_open(db.url);
    must_script(f->admin,
                "UPDATE shard SET incarnation = '11111111-1111-1111-1111-111111111111', epoch = 7; "
                "TRUNCATE event, run, open_work, command, quarantine, dead_letter; "
                "INSERT INTO workflow (organisation, name, version) VALUES (1, 'w', 1) ON CONFLICT DO NOTHING; "
                "INSERT INTO workflow_version (organisation, workflow, version, document, hash, created_by) "
                "VALUES (1, 'w', 1, '{\"name\":\"w\"}', '', '') ON CONFLICT DO NOTHING");
    connect_store(f, url);
    heard = (struct heard){0};
    *state = f;
    return 0;
}

static int end(void **state)
{
    struct fixture *f = *state;

    store_free(f->store);
    loop_end(&f->loop);
    pg_session_close(f->admin);
    mem_free(f);
    return 0;
}

static struct run_id make_run(struct fixture *f, unsigned slot)
{
    struct run_id id = run_id_make(clock_wall(), slot);
    const struct pg_param param = pg_uuid(id);
    struct err err;

    if (pg_session_run(
            f->admin,
            "INSERT INTO run (id, organisation, workflow, version, created_at, input) VALUES ($1, 1, 'w', 1, "
            "now(), '{\"a\": 1.0}')",
            &param, 1, NULL, &err) != ERR_OK)
        fail_msg("%s", err.message);
    return id;
}

static const int16_t SHARDS[] = {3};
static const int64_t EPOCHS[] = {7};

static void fetch(struct fixture *f, uint64_t number, const int16_t *shards, size_t count)
{
    store_fetch_commands(f->store, number, &(struct sched_command_want){.shard_count = count, .shards = shards});
}

static void commit(struct fixture *f, struct sched_batch *batch)
{
    int before = heard.committed;

    batch->number = 1;
    if (batch->shard_count == 0) {
        batch->shard_count = 1;
        batch->shards = SHARDS;
        batch->epochs = EPOCHS;
    }
    store_commit(f->store, batch);
    assert_int_equal(heard.committed, before);
    assert_true(loop_until(&f->loop, &heard.committed, before + 1, 10000));
}

/* Two events of a run, the second with a body. */
static void two_events(struct event events[2], struct sched_event_row rows[2], struct run_id run)
{
    memset(events, 0, 2 * sizeof(*events));
    events[0] = (struct event){.seq = 1, .type = EVENT_RUN_STARTED, .at = clock_wall()};
    events[1] = (struct event){.seq = 2,
                               .type = EVENT_STEP_SUCCEEDED,
                               .at = clock_wall(),
                               .step = STR("s"),
                               .attempt = 1,
                               .output = STR("{\"big\":0.1}")};
    rows[0] = (struct sched_event_row){.run = run, .organisation = 1, .event = &events[0]};
    rows[1] = (struct sched_event_row){
        .run = run, .organisation = 1, .event = &events[1], .data = STR("{\"branch\":\"true\"}")};
}

/* --- tests -------------------------------------------------------------------------------------------------------- */

static void a_batch_writes_all_its_rows_and_a_load_reads_them(void **state)
{
    struct fixture *f = *state;
    struct run_id run = make_run(f, 3), other = run_id_make(clock_wall(), 3);
    struct event events[2];
    struct sched_event_row rows[2];
    const struct wall_us now = clock_wall();
    const struct sched_open_row opens[] = {{.shard = 3,
                                            .run = run,
                                            .seq = 2,
                                            .organisation = 1,
                                            .kind = WORK_TASK,
                                            .step = STR("t"),
                                            .attempt = 1,
                                            .dispatch = 1,
                                            .pool = STR("default"),
                                            .priority = 1,
                                            .due_at = now,
                                            .opened_at = now,
                                            .reason = NULL},
                                           {.shard = 3,
                                            .run = run,
                                            .seq = 1,
                                            .organisation = 1,
                                            .kind = WORK_RUN_TIMEOUT,
                                            .step = STR_NONE,
                                            .due_at = now,
                                            .opened_at = now,
                                            .reason = "because"}};
    const struct sched_run_row run_rows[] = {{.run = run, .organisation = 1, .status = RUN_ACTIVE, .started_at = now}};
    const struct sched_command_insert inserts[] = {
        {.shard = 3, .held = true, .run = run, .organisation = 1, .kind = "held_result", .body = STR("{}")}};
    const struct sched_dead_letter letters[] = {
        {.kind = "message", .source = STR("q"), .reason = "undecodable", .body = STR("\x00\xff")},
        {.organisation = 1,
         .kind = "task",
         .source = STR("q"),
         .has_run = true,
         .run = run,
         .step = STR("t"),
         .reason = "poison",
         .body = STR_NONE}};
    const struct sched_quarantine_row quarantines[] = {
        {.run = other, .organisation = 1, .shard = 3, .reason = "accused"}};
    struct sched_batch batch = {.event_count = 2,
                                .events = rows,
                                .open_count = 2,
                                .opens = opens,
                                .run_count = 1,
                                .runs = run_rows,
                                .command_insert_count = 1,
                                .command_inserts = inserts,
                                .dead_letter_count = 2,
                                .dead_letters = letters,
                                .quarantine_count = 1,
                                .quarantines = quarantines};
    const struct run_id wanted[] = {other, run};

    two_events(events, rows, run);
    commit(f, &batch);
    assert_int_equal(heard.outcome.outcome, SCHED_COMMITTED);
    assert_true(f->woken > 0);
    store_load_runs(f->store, 9, wanted, 2);
    assert_true(loop_until(&f->loop, &heard.loaded, 1, 5000));
    assert_int_equal(heard.runs, 2);
    assert_int_equal(heard.events, 2);
    assert_int_equal(heard.work_rows, 2);
    assert_string_equal(heard.text, "default/w");
    assert_string_equal(heard.input, "{\"a\": 1.0}");
    assert_int_equal(heard.run.version, 1);
    assert_int_equal(heard.run.priority, 2);
    assert_int_equal(heard.run.weight, 1);
    assert_int_equal(heard.output_bytes, strlen("{\"big\":0.1}"));
    assert_int_equal(must_int(f->admin,
                              "SELECT count(*) FROM run WHERE status = 'active' AND started_at IS NOT NULL AND "
                              "ended_at IS NULL"),
                     1);
    assert_int_equal(must_int(f->admin, "SELECT count(*) FROM dead_letter WHERE (organisation IS NULL AND body = "
                                        "'\\x00ff') OR (run_id IS NOT NULL AND body IS NULL)"),
                     2);
    assert_int_equal(must_int(f->admin, "SELECT count(*) FROM command WHERE held"), 1);
    assert_int_equal(must_int(f->admin, "SELECT count(*) FROM quarantine WHERE shard = 3"), 1);
}

static void rows_are_closed_changed_held_and_released(void **state)
{
    struct fixture *f = *state;
    struct run_id run = make_run(f, 3);
    const struct wall_us now = clock_wall();
    struct sched_open_row opens[2];
    const struct sched_close_row closes[] = {{3, run, 1}, {3, run, 99}};
    const struct sched_change_row changes[] = {{3, run, 2, 5, {0}, "deferred"}};
    const struct sched_quarantine_row quarantines[] = {{run, 1, 3, "twice"}, {run, 1, 3, "twice"}};
    struct sched_command_key held, gone;
    struct sched_batch batch = {.open_count = 2, .opens = opens};

    for (uint32_t i = 0; i < 2; i++)
        opens[i] = (struct sched_open_row){.shard = 3,
                                           .run = run,
                                           .seq = i + 1,
                                           .organisation = 1,
                                           .kind = WORK_DELAY,
                                           .due_at = now,
                                           .opened_at = now};
    commit(f, &batch);
    must_script(f->admin, "INSERT INTO command (shard, organisation, run_id, kind) SELECT 3, 1, id, 'cancel' FROM run, "
                          "generate_series(1, 2)");
    held = (struct sched_command_key){3, must_int(f->admin, "SELECT min(id) FROM command")};
    gone = (struct sched_command_key){3, must_int(f->admin, "SELECT max(id) FROM command")};
    batch = (struct sched_batch){.close_count = 2,
                                 .closes = closes,
                                 .change_count = 1,
                                 .changes = changes,
                                 .command_delete_count = 1,
                                 .command_deletes = &gone,
                                 .command_hold_count = 1,
                                 .command_holds = &held,
                                 .quarantine_count = 2,
                                 .quarantines = quarantines};
    commit(f, &batch);
    assert_int_equal(heard.outcome.outcome, SCHED_COMMITTED);
    assert_int_equal(must_int(f->admin,
                              "SELECT count(*) FROM open_work WHERE seq = 2 AND dispatch = 5 AND due_at IS NULL "
                              "AND reason = 'deferred'"),
                     1);
    assert_int_equal(must_int(f->admin, "SELECT count(*) FROM open_work"), 1);
    assert_int_equal(must_int(f->admin, "SELECT count(*) FROM command"), 1);
    assert_int_equal(must_int(f->admin, "SELECT count(*) FROM quarantine"), 1);

    fetch(f, 1, SHARDS, 1);
    assert_true(loop_until(&f->loop, &heard.commands, 1, 5000));
    assert_int_equal(heard.command_count, 0); /* it is held */
    batch = (struct sched_batch){.release_count = 1, .releases = closes};
    commit(f, &batch);
    fetch(f, 2, SHARDS, 1);
    assert_true(loop_until(&f->loop, &heard.commands, 2, 5000));
    assert_int_equal(heard.command_count, 1);
    assert_int_equal(heard.ids[0], held.id);
    assert_true(heard.complete);
}

static void an_event_that_is_there_is_a_conflict(void **state)
{
    struct fixture *f = *state;
    struct run_id run = make_run(f, 3);
    struct event events[2];
    struct sched_event_row rows[2];
    struct sched_batch batch = {.event_count = 2, .events = rows};

    two_events(events, rows, run);
    commit(f, &batch);
    commit(f, &batch);
    assert_int_equal(heard.outcome.outcome, SCHED_CONFLICT);
    assert_int_equal(must_int(f->admin, "SELECT count(*) FROM event"), 2);
}

static void another_owner_or_epoch_fences_also_an_empty_batch(void **state)
{
    struct fixture *f = *state;
    struct sched_batch empty = {0};

    commit(f, &empty);
    assert_int_equal(heard.outcome.outcome, SCHED_COMMITTED);
    must_script(f->admin, "UPDATE shard SET epoch = 8 WHERE shard = 3");
    empty = (struct sched_batch){0};
    commit(f, &empty);
    assert_int_equal(heard.outcome.outcome, SCHED_FENCED);
    must_script(f->admin, "UPDATE shard SET epoch = 7, incarnation = gen_random_uuid() WHERE shard = 3");
    empty = (struct sched_batch){0};
    commit(f, &empty);
    assert_int_equal(heard.outcome.outcome, SCHED_FENCED);
}

static void what_postgresql_refuses_is_told_as_such(void **state)
{
    struct fixture *f = *state;
    struct run_id run = make_run(f, 3);
    struct event events[2];
    struct sched_event_row rows[2];
    struct sched_batch batch = {.event_count = 2, .events = rows};

    two_events(events, rows, run);
    rows[1].data = STR("{not json");
    commit(f, &batch);
    assert_int_equal(heard.outcome.outcome, SCHED_REFUSED);
    assert_int_equal(must_int(f->admin, "SELECT count(*) FROM event"), 0);
}

/* The connection breaks behind the commit while the server has not even begun the batch: it would still do it. */
static void an_unknown_outcome_is_told_when_it_is_decided(void **state)
{
    struct fixture *f = *state;
    struct run_id run = make_run(f, 3);
    struct event events[2];
    struct sched_event_row rows[2];
    struct sched_batch empty = {0}, batch = {.number = 2,
                                             .shard_count = 1,
                                             .shards = SHARDS,
                                             .epochs = EPOCHS,
                                             .event_count = 2,
                                             .events = rows};
    struct proxy proxy;
    char proxy_url[512];

    proxy_start(&proxy, url, proxy_url, sizeof(proxy_url));
    store_free(f->store);
    connect_store(f, proxy_url);
    two_events(events, rows, run);
    commit(f, &empty);
    must_script(f->admin, "BEGIN; LOCK TABLE event IN ACCESS EXCLUSIVE MODE");
    store_commit(f->store, &batch);
    loop_for(&f->loop, 200);
    proxy_cut(&proxy);
    assert_true(loop_until(&f->loop, &heard.committed, 2, 5000));
    assert_int_equal(heard.outcome.outcome, SCHED_UNKNOWN);
    must_script(f->admin, "COMMIT");
    usleep(300000);
    assert_int_equal(must_int(f->admin, "SELECT count(*) FROM event"), 0); /* nobody does it after all */
    store_free(f->store);
    proxy_stop(&proxy);
    connect_store(f, url);
}

static void a_batch_whose_connection_is_ended_inside_it_has_not_happened(void **state)
{
    struct fixture *f = *state;
    struct run_id run = make_run(f, 3);
    struct event events[2];
    struct sched_event_row rows[2];
    struct sched_batch batch = {
        .number = 1, .shard_count = 1, .shards = SHARDS, .epochs = EPOCHS, .event_count = 2, .events = rows};
    struct pg_session *killer = must_open(db.url);

    two_events(events, rows, run);
    must_script(f->admin, "BEGIN; LOCK TABLE event IN ACCESS EXCLUSIVE MODE");
    store_commit(f->store, &batch);
    loop_for(&f->loop, 200);
    must_script(killer, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE "
                        "'ropewalk-scheduler batches%' AND datname = current_database()");
    assert_true(loop_until(&f->loop, &heard.committed, 1, 5000));
    assert_int_equal(heard.outcome.outcome, SCHED_UNAVAILABLE);
    must_script(f->admin, "COMMIT");
    assert_int_equal(must_int(f->admin, "SELECT count(*) FROM event"), 0);
    commit(f, &batch);
    assert_int_equal(heard.outcome.outcome, SCHED_COMMITTED);
    pg_session_close(killer);
}

static void a_large_shard_is_read_in_pages(void **state)
{
    struct fixture *f = *state;

    must_script(f->admin, "INSERT INTO open_work (shard, run_id, seq, organisation, kind, opened_at) SELECT 3, "
                          "gen_random_uuid(), 1, 1, 3, now() FROM generate_series(1, 12345)");
    must_script(f->admin,
                "INSERT INTO quarantine (run_id, organisation, shard, reason) SELECT gen_random_uuid(), 1, 3, "
                "'r' FROM generate_series(1, 3)");
    store_load_shard(f->store, 3, 7);
    assert_true(loop_until(&f->loop, &heard.work, 3, 10000));
    assert_int_equal(heard.work_rows, 12345);
    assert_int_equal(heard.quarantined, 3);
    assert_true(heard.last);
    assert_false(heard.failed);
}

static void a_shard_with_more_commands_than_its_part_is_not_complete(void **state)
{
    struct fixture *f = *state;
    const int16_t two[] = {3, 4};

    must_script(f->admin,
                "INSERT INTO command (shard, organisation, run_id, kind) SELECT 3, 1, gen_random_uuid(), 'x' FROM "
                "generate_series(1, 2400)");
    fetch(f, 1, two, 2);
    assert_true(loop_until(&f->loop, &heard.commands, 1, 5000));
    assert_int_equal(heard.command_count, 2000);
    assert_false(heard.complete);
    must_script(f->admin, "DELETE FROM command WHERE id % 2 = 0");
    fetch(f, 2, two, 2);
    assert_true(loop_until(&f->loop, &heard.commands, 2, 5000));
    assert_int_equal(heard.command_count, 1200);
    assert_true(heard.complete);
}

static void commands_with_large_bodies_come_in_slices(void **state)
{
    struct fixture *f = *state;
    int16_t sixteen[16];

    for (int16_t i = 0; i < 16; i++)
        sixteen[i] = i;
    must_script(
        f->admin,
        "INSERT INTO command (shard, organisation, run_id, kind, body) SELECT 3, 1, gen_random_uuid(), 'signal', "
        "to_json(text) FROM (SELECT string_agg(md5(n::text), '') AS text FROM generate_series(1, 32768) n) t, "
        "generate_series(1, 8); "
        "INSERT INTO command (shard, organisation, run_id, kind) VALUES (4, 1, gen_random_uuid(), 'cancel')");
    fetch(f, 1, sixteen, 16);
    assert_true(loop_until(&f->loop, &heard.commands, 1, 5000));
    assert_in_range(heard.command_count, 5, 7); /* 4 MiB of the one shard, and the other's */
    assert_false(heard.complete);
    must_script(f->admin, "DELETE FROM command WHERE id < (SELECT max(id) FROM command) - 3");
    fetch(f, 2, sixteen, 16);
    assert_true(loop_until(&f->loop, &heard.commands, 2, 5000));
    assert_int_equal(heard.command_count, 4);
    assert_true(heard.complete);
}

/* They take another statement: every column of theirs must be there, and the same conflict be told. */
static void an_event_with_a_large_output_is_written_like_any_other(void **state)
{
    struct fixture *f = *state;
    struct run_id run = make_run(f, 3);
    struct event events[2];
    struct sched_event_row rows[2];
    struct sched_batch batch = {.event_count = 2, .events = rows};
    struct buf large;

    buf_init(&large, 1 << 20);
    buf_append_char(&large, '"');
    for (int i = 0; i < 40000; i++)
        buf_append_char(&large, 'x');
    buf_append_char(&large, '"');
    two_events(events, rows, run);
    events[1].output = buf_str(&large);
    commit(f, &batch);
    assert_int_equal(heard.outcome.outcome, SCHED_COMMITTED);
    assert_int_equal(must_int(f->admin,
                              "SELECT count(*) FROM event WHERE organisation = 1 AND type = 24 AND step = 's' AND "
                              "attempt = 1 AND at IS NOT NULL AND data ->> 'branch' = 'true' AND "
                              "octet_length(output::text) = 40002 AND seq = 2"),
                     1);
    commit(f, &batch);
    assert_int_equal(heard.outcome.outcome, SCHED_CONFLICT);
    batch = (struct sched_batch){.event_count = 1, .events = rows + 1}; /* no small one beside it */
    commit(f, &batch);
    assert_int_equal(heard.outcome.outcome, SCHED_CONFLICT);
    assert_int_equal(must_int(f->admin, "SELECT count(*) FROM event"), 2);
    buf_deinit(&large);
}

static void bodies_and_documents_are_found(void **state)
{
    struct fixture *f = *state;
    struct run_id run = make_run(f, 3);
    struct event events[2];
    struct sched_event_row rows[2];
    struct sched_batch batch = {.event_count = 2, .events = rows};
    const struct sched_body_want bodies[] = {{run, 0}, {run, 2}, {run, 1}, {run, 7}};
    const struct sched_plan_want plans[] = {{1, STR("w"), 1}, {1, STR("w"), 2}, {2, STR("w"), 1}};

    two_events(events, rows, run);
    commit(f, &batch);
    store_load_bodies(f->store, bodies, 4);
    assert_true(loop_until(&f->loop, &heard.bodies, 1, 5000));
    assert_string_equal(heard.text, "{\"a\": 1.0}|{\"big\":0.1}|||");
    store_load_plans(f->store, plans, 3);
    assert_true(loop_until(&f->loop, &heard.plans, 1, 5000));
    assert_string_equal(heard.text, "{\"name\":\"w\"}|none|none|");
}

static struct sched_child_row child_row(struct run_id parent, const char *workflow, int32_t version)
{
    struct run_id id = run_id_make(clock_wall(), run_id_slot(parent));

    return (struct sched_child_row){.shard = 3,
                                    .organisation = 1,
                                    .run = id,
                                    .parent = parent,
                                    .parent_step = STR("each[3].a"),
                                    .workflow = str_of(workflow),
                                    .version = version,
                                    .priority = 1,
                                    .depth = 2,
                                    .created_at = run_id_time(id),
                                    .input = STR("{\"n\": 0.10}")};
}

static void workflows_for_children(struct fixture *f)
{
    must_script(f->admin,
                "INSERT INTO organisation (name) VALUES ('other') ON CONFLICT DO NOTHING; "
                "INSERT INTO workflow (organisation, name, version, enabled, deleted_at) VALUES "
                "(1, 'kid', 3, true, NULL), (1, 'off', 1, false, NULL), (1, 'gone', 1, true, now()) "
                "ON CONFLICT DO NOTHING; "
                "INSERT INTO workflow (organisation, name, version) SELECT id, 'theirs', 1 FROM organisation WHERE "
                "name = 'other' ON CONFLICT DO NOTHING; "
                "INSERT INTO workflow_version (organisation, workflow, version, document, hash, created_by) "
                "SELECT w.organisation, w.name, v, '{}', '', '' FROM workflow w, generate_series(1, 3) v WHERE v <= "
                "w.version ON CONFLICT DO NOTHING");
}

static void children_are_started_or_their_parent_is_told_why_not(void **state)
{
    struct fixture *f = *state;
    struct run_id run = make_run(f, 3);
    struct sched_child_row rows[8];
    const char *const names[] = {"kid", "kid", "kid", "nobody", "off", "gone", "theirs", "it's \"so\""};
    const int32_t versions[] = {0, 1, 4, 0, 0, 0, 0, 2};
    struct sched_batch batch = {.child_count = 8, .children = rows};

    workflows_for_children(f);
    for (size_t i = 0; i < 8; i++)
        rows[i] = child_row(run, names[i], versions[i]);
    commit(f, &batch);
    assert_int_equal(heard.outcome.outcome, SCHED_COMMITTED);
    assert_int_equal(must_int(f->admin, "SELECT count(*) FROM run WHERE parent IS NOT NULL"), 2);
    assert_int_equal(must_int(f->admin, "SELECT count(*) FROM run c JOIN run p ON p.id = c.parent WHERE c.workflow = "
                                        "'kid' AND c.version IN (1, 3) AND c.organisation = 1 AND c.status = "
                                        "'pending' AND c.priority = 1 AND c.depth = 2 AND c.parent_step = "
                                        "'each[3].a' AND c.input::text = '{\"n\": 0.10}' AND c.trigger ->> 'name' = "
                                        "'each[3].a' AND c.trigger ->> 'kind' = 'workflow' AND p.parent IS NULL AND "
                                        "date_trunc('milliseconds', c.created_at) = c.created_at AND c.id >= "
                                        "uuid_bound(c.created_at) AND c.id < uuid_bound(c.created_at + interval "
                                        "'1 ms')"),
                     2);
    assert_int_equal(must_int(f->admin, "SELECT count(*) FROM command c JOIN run r ON r.id = c.run_id WHERE c.kind = "
                                        "'start' AND c.shard = 3 AND c.organisation = 1 AND NOT c.held AND r.parent "
                                        "IS NOT NULL"),
                     2);
    assert_int_equal(must_int(f->admin, "SELECT count(*) FROM command c JOIN run r ON r.id = c.run_id WHERE c.kind = "
                                        "'child_ended' AND c.shard = 3 AND r.parent IS NULL AND c.body ->> 'step' = "
                                        "'each[3].a' AND c.body ->> 'status' = 'failed' AND (c.body ->> 'child')::uuid "
                                        "<> r.id"),
                     6);
    assert_int_equal(must_int(f->admin, "SELECT count(*) FROM command WHERE body -> 'error' ->> 'code' = "
                                        "'unknown_workflow'"),
                     4);
    assert_int_equal(must_int(f->admin, "SELECT count(*) FROM command WHERE body -> 'error' ->> 'code' = "
                                        "'unknown_version' AND body -> 'error' ->> 'message' = "
                                        "'workflow ''kid'' has no version 4'"),
                     1);
    assert_int_equal(must_int(f->admin, "SELECT count(*) FROM command WHERE body -> 'error' ->> 'code' = "
                                        "'workflow_disabled' AND body -> 'error' ->> 'message' = "
                                        "'workflow ''off'' is disabled'"),
                     1);
    /* their organisation sees all of it, and no other does */
    must_script(f->admin, "SET ROLE ropewalk_gateway; SET ropewalk.organisation = '1'");
    assert_int_equal(must_int(f->admin, "SELECT count(*) FROM v_runs WHERE depth = 2 AND parent_step = 'each[3].a'"),
                     2);
    assert_int_equal(must_int(f->admin, "SELECT count(*) FROM command"), 8);
    must_script(f->admin, "RESET ROLE; SELECT set_config('ropewalk.organisation', id::text, false) FROM organisation "
                          "WHERE name = 'other'; SET ROLE ropewalk_gateway");
    assert_int_equal(must_int(f->admin, "SELECT (SELECT count(*) FROM run) + (SELECT count(*) FROM command)"), 0);
    must_script(f->admin, "RESET ROLE; RESET ropewalk.organisation");
}

static void a_loaded_child_knows_who_waits_for_it(void **state)
{
    struct fixture *f = *state;
    struct run_id run = make_run(f, 3);
    struct sched_child_row row = child_row(run, "kid", 0);
    struct sched_batch batch = {.child_count = 1, .children = &row};

    workflows_for_children(f);
    commit(f, &batch);
    store_load_runs(f->store, 1, &row.run, 1);
    assert_true(loop_until(&f->loop, &heard.loaded, 1, 5000));
    assert_true(heard.found && heard.run.has_parent);
    assert_true(run_id_eq(heard.run.parent, run));
    assert_int_equal(heard.run.depth, 2);
    assert_int_equal(heard.run.created_at.us, row.created_at.us);
    assert_string_equal(heard.parent_step, "each[3].a");
    store_load_runs(f->store, 2, &run, 1);
    assert_true(loop_until(&f->loop, &heard.loaded, 2, 5000));
    assert_false(heard.run.has_parent);
    assert_int_equal(heard.run.depth, 0);
}

static void a_batch_sent_twice_or_fenced_starts_nothing_more(void **state)
{
    static const int64_t old_epoch[] = {6};
    struct fixture *f = *state;
    struct run_id run = make_run(f, 3);
    struct sched_child_row row = child_row(run, "kid", 0), missing = child_row(run, "nobody", 0);
    struct sched_child_row rows[] = {row, missing};
    struct event events[2];
    struct sched_event_row event_rows[2];
    struct sched_batch batch = {.event_count = 2, .events = event_rows, .child_count = 2, .children = rows};

    workflows_for_children(f);
    two_events(events, event_rows, run);
    batch.shard_count = 1;
    batch.shards = SHARDS;
    batch.epochs = old_epoch;
    commit(f, &batch);
    assert_int_equal(heard.outcome.outcome, SCHED_FENCED);
    assert_int_equal(must_int(f->admin, "SELECT count(*) FROM command"), 0);
    batch.epochs = EPOCHS;
    commit(f, &batch);
    assert_int_equal(heard.outcome.outcome, SCHED_COMMITTED);
    /* the next try after a commit that nobody heard of: the same events, and the child may have another id */
    rows[0].run = run_id_make(clock_wall(), 3);
    commit(f, &batch);
    assert_int_equal(heard.outcome.outcome, SCHED_CONFLICT);
    assert_int_equal(must_int(f->admin, "SELECT count(*) FROM run WHERE parent IS NOT NULL"), 1);
    assert_int_equal(must_int(f->admin, "SELECT count(*) FROM command"), 2);
}

static void commands_for_other_runs_carry_their_organisation(void **state)
{
    struct fixture *f = *state;
    struct run_id run = make_run(f, 3), absent = run_id_make(clock_wall(), 3);
    const struct sched_command_insert inserts[] = {
        {.shard = 3, .run = run, .organisation = 1, .kind = "child_ended", .body = STR("{\"step\":\"a\"}")},
        {.shard = 3, .run = absent, .organisation = 1, .kind = "cancel"},
        {.shard = 3, .run = run, .organisation = 1, .kind = "cancel"},
        {.shard = 3, .run = run, .held = true, .kind = "held_result", .body = STR("{}")}};
    const struct sched_quarantine_row quarantine = {.run = run, .shard = 3, .reason = "twice"};
    struct sched_batch batch = {
        .command_insert_count = 4, .command_inserts = inserts, .quarantine_count = 1, .quarantines = &quarantine};

    commit(f, &batch);
    assert_int_equal(heard.outcome.outcome, SCHED_COMMITTED);
    assert_int_equal(must_int(f->admin, "SELECT count(*) FROM command"), 3);
    assert_int_equal(must_int(f->admin, "SELECT count(*) FROM command a JOIN command b ON b.id > a.id WHERE a.kind = "
                                        "'child_ended' AND NOT a.held AND b.kind = 'cancel' AND NOT b.held AND b.body "
                                        "IS NULL"),
                     1);
    assert_int_equal(must_int(f->admin, "SELECT count(*) FROM command WHERE organisation = 1"), 3);
    assert_int_equal(must_int(f->admin, "SELECT count(*) FROM command WHERE held AND kind = 'held_result'"), 1);
    assert_int_equal(must_int(f->admin, "SELECT count(*) FROM quarantine WHERE organisation = 1"), 1);
}

static void a_run_opened_again_has_a_row_without_an_end(void **state)
{
    struct fixture *f = *state;
    struct run_id run = make_run(f, 3);
    const struct wall_us now = clock_wall();
    struct sched_run_row row = {.run = run,
                                .organisation = 1,
                                .status = RUN_FAILED,
                                .started_at = now,
                                .ended_at = now,
                                .error_code = STR("worker_lost"),
                                .error_step = STR("a"),
                                .error_text = STR("gone")};
    struct sched_batch batch = {.run_count = 1, .runs = &row};

    commit(f, &batch);
    assert_int_equal(must_int(f->admin, "SELECT count(*) FROM run WHERE error_step = 'a' AND ended_at IS NOT NULL"), 1);
    row = (struct sched_run_row){.run = run, .organisation = 1, .status = RUN_ACTIVE, .reopened = true};
    commit(f, &batch);
    assert_int_equal(must_int(f->admin, "SELECT count(*) FROM run WHERE status = 'active' AND started_at IS NOT NULL "
                                        "AND ended_at IS NULL AND error_code IS NULL AND error_step IS NULL AND "
                                        "error_text IS NULL"),
                     1);
    row = (struct sched_run_row){.run = run, .organisation = 1, .status = RUN_COMPENSATED, .ended_at = now};
    commit(f, &batch);
    assert_int_equal(
        must_int(f->admin, "SELECT count(*) FROM run WHERE status = 'compensated' AND ended_at IS NOT NULL"), 1);
}

/* open_work is empty at one moment and full at the next, and statements are planned once per connection. */
static void plans_made_for_an_empty_table_stay_good(void **state)
{
    enum { ROWS = 60000, SOME = 512 };
    static struct sched_close_row closes[SOME];
    static struct sched_change_row changes[SOME];
    struct fixture *f = *state;
    struct run_id run = make_run(f, 3);
    struct sched_batch batch = {.close_count = SOME, .closes = closes, .change_count = SOME, .changes = changes};
    struct mono_us start;

    must_script(f->admin, "VACUUM ANALYZE open_work");
    for (uint32_t i = 0; i < SOME; i++) {
        closes[i] = (struct sched_close_row){3, run, i + 1};
        changes[i] = (struct sched_change_row){3, run, 10000 + i, 2, clock_wall(), "deferred"};
    }
    commit(f, &batch);
    store_load_runs(f->store, 1, &run, 1);
    assert_true(loop_until(&f->loop, &heard.loaded, 1, 5000));
    must_script(f->admin,
                "INSERT INTO open_work (shard, run_id, seq, organisation, kind, opened_at) SELECT 3, id, n, 1, 3, "
                "now() FROM run, generate_series(1, 60000) n");
    start = clock_mono();
    batch = (struct sched_batch){.close_count = SOME, .closes = closes, .change_count = SOME, .changes = changes};
    commit(f, &batch);
    assert_int_equal(heard.outcome.outcome, SCHED_COMMITTED);
    assert_true(clock_mono().us - start.us < 1000 * US_PER_MS);
    assert_int_equal(must_int(f->admin, "SELECT count(*) FROM open_work"), ROWS - SOME);
    assert_int_equal(must_int(f->admin, "SELECT count(*) FROM open_work WHERE reason = 'deferred'"), SOME);
    must_script(f->admin, "TRUNCATE open_work");
}

static void a_read_that_cannot_be_made_is_answered(void **state)
{
    struct fixture *f = *state;
    const struct run_id run = run_id_make(clock_wall(), 3);

    must_script(f->admin, "ALTER TABLE event RENAME TO event_away");
    store_load_runs(f->store, 1, &run, 1);
    assert_true(loop_until(&f->loop, &heard.loaded, 1, 5000));
    assert_true(heard.failed);
    must_script(f->admin, "ALTER TABLE event_away RENAME TO event");
    store_load_runs(f->store, 2, &run, 1);
    assert_true(loop_until(&f->loop, &heard.loaded, 2, 5000));
    assert_false(heard.failed);
    assert_false(heard.found);
}

#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(a_batch_writes_all_its_rows_and_a_load_reads_them),
        STORE_TEST(rows_are_closed_changed_held_and_released),
        STORE_TEST(an_event_that_is_there_is_a_conflict),
        STORE_TEST(an_event_with_a_large_output_is_written_like_any_other),
        STORE_TEST(another_owner_or_epoch_fences_also_an_empty_batch),
        STORE_TEST(what_postgresql_refuses_is_told_as_such),
        STORE_TEST(an_unknown_outcome_is_told_when_it_is_decided),
        STORE_TEST(a_batch_whose_connection_is_ended_inside_it_has_not_happened),
        STORE_TEST(a_large_shard_is_read_in_pages),
        STORE_TEST(a_shard_with_more_commands_than_its_part_is_not_complete),
        STORE_TEST(commands_with_large_bodies_come_in_slices),
        STORE_TEST(bodies_and_documents_are_found),
        STORE_TEST(children_are_started_or_their_parent_is_told_why_not),
        STORE_TEST(a_loaded_child_knows_who_waits_for_it),
        STORE_TEST(a_batch_sent_twice_or_fenced_starts_nothing_more),
        STORE_TEST(commands_for_other_runs_carry_their_organisation),
        STORE_TEST(a_run_opened_again_has_a_row_without_an_end),
        STORE_TEST(plans_made_for_an_empty_table_stay_good),
        STORE_TEST(a_read_that_cannot_be_made_is_answered),
    };

    return cmocka_run_group_tests_name("store", tests, make_database, drop_database);
}
