/* The schema: migrations, who owns and sees what, partitions, fencing. */
#include "tests/sql/sql_fixture.h"
#include <pthread.h>
#include <sys/stat.h>

static struct database db;

static int make_database(void **state)
{
    struct migrate_report report;

    (void)state;
    database_make(&db, "schema");
    database_migrate(&db, &report);
    assert_int_equal(report.from, 0);
    assert_int_equal(report.to, migrate_newest());
    assert_true(report.key_made);
    return 0;
}

static int drop_database(void **state)
{
    (void)state;
    database_drop(&db);
    return 0;
}

static void migrating_again_changes_nothing(void **state)
{
    struct migrate_report report;

    (void)state;
    database_migrate(&db, &report);
    assert_int_equal(report.from, migrate_newest());
    assert_int_equal(report.to, migrate_newest());
    assert_false(report.key_made);
    assert_false(report.key_missing);
}

static void *migrate_in_thread(void *arg)
{
    struct database *other = arg;
    const struct migrate_options options = {.admin_url = other->url, .key_file = other->key_file};
    struct migrate_report report;
    struct err err;

    return migrate_run(&options, &report, &err) == ERR_OK ? other : NULL;
}

static void migrators_at_the_same_time_wait_for_each_other(void **state)
{
    struct database other = {0};
    struct pg_session *session;
    pthread_t threads[4];

    (void)state;
    database_make(&other, "together");
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, migrate_in_thread, &other);
    for (int i = 0; i < 4; i++) {
        void *ret = NULL;

        pthread_join(threads[i], &ret);
        assert_ptr_equal(ret, &other);
    }
    session = must_open(other.url);
    assert_int_equal(must_int(session, "SELECT count(*) FROM schema_migration"), migrate_newest());
    assert_int_equal(must_int(session, "SELECT count(*) FROM api_key"), 1);
    pg_session_close(session);
    database_drop(&other);
}

/* A file that the migrator does not understand would leave none. */
static void every_index_migration_leaves_a_valid_index_of_its_name(void **state)
{
    static const char *const names[] = {
#define MIGRATION(number, name, text)
#define INDEX_MIGRATION(number, name, text) name,
#include "common/db/migrations.def"
#undef MIGRATION
#undef INDEX_MIGRATION
    };
    struct pg_session *session = must_open(db.url);

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char sql[256];

        snprintf(sql, sizeof(sql),
                 "SELECT count(*) FROM pg_index WHERE indexrelid = to_regclass('ropewalk.%s') AND indisvalid",
                 names[i]);
        assert_int_equal(must_int(session, sql), 1);
    }
    pg_session_close(session);
}

static void a_newer_schema_is_refused(void **state)
{
    const struct migrate_options options = {.admin_url = db.url};
    struct pg_session *session = must_open(db.url);
    struct migrate_report report;
    struct err err;

    (void)state;
    must_script(session, "INSERT INTO schema_migration (number, name) VALUES (9999, 'later')");
    assert_int_equal(migrate_run(&options, &report, &err), ERR_CONFLICT);
    must_script(session, "DELETE FROM schema_migration WHERE number = 9999");
    pg_session_close(session);
}

static void read_key(char *ret, size_t size)
{
    FILE *file = fopen(db.key_file, "r");

    assert_non_null(file);
    assert_non_null(fgets(ret, (int)size, file));
    fclose(file);
}

static void the_admin_key_works_and_only_its_hash_is_kept(void **state)
{
    struct pg_session *session = must_open(db.url);
    struct pg_result *res = NULL;
    struct migrate_report report;
    struct stat info;
    struct pg_param param;
    struct err err;
    char key[128], again[128];
    uint8_t hash[32];

    (void)state;
    assert_int_equal(stat(db.key_file, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    read_key(key, sizeof(key));
    assert_int_equal(strlen(key), 45);
    assert_int_equal(key[44], '\n');
    assert_memory_equal(key, "rw_", 3);
    assert_int_equal(key[11], '_');
    sha256((struct str){key, 44}, hash);
    must_script(session, "SET ROLE ropewalk_gateway");
    param = pg_bytea((struct str){(const char *)hash, sizeof(hash)});
    assert_int_equal(pg_session_run(session, "SELECT * FROM api_key_find($1)", &param, 1, &res, &err), ERR_OK);
    assert_int_equal(pg_rows(res), 1);
    assert_true(str_is(pg_get_str(res, 0, 1), "default"));
    assert_true(str_is(pg_get_str(res, 0, 3), "admin"));
    assert_true(str_eq(pg_get_str(res, 0, 4), (struct str){key, 11}));
    pg_result_free(res);
    must_script(session, "RESET ROLE");
    /* a revoked key is not usable: the next migration makes another */
    must_script(session, "UPDATE api_key SET revoked_at = now()");
    database_migrate(&db, &report);
    assert_true(report.key_made);
    read_key(again, sizeof(again));
    assert_string_not_equal(key, again);
    pg_session_close(session);
}

static void the_owner_role_owns_everything(void **state)
{
    struct pg_session *session = must_open(db.url);

    (void)state;
    assert_int_equal(must_int(session, "SELECT count(*) FROM pg_class WHERE relnamespace = 'ropewalk'::regnamespace "
                                       "AND relowner <> 'ropewalk_owner'::regrole"),
                     0);
    assert_int_equal(must_int(session, "SELECT count(*) FROM pg_proc WHERE pronamespace = 'ropewalk'::regnamespace "
                                       "AND proowner <> 'ropewalk_owner'::regrole"),
                     0);
    assert_int_equal(must_int(session, "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'ropewalk\\_%' AND rolname <> "
                                       "'ropewalk_admin' AND (rolcanlogin OR rolsuper OR rolbypassrls)"),
                     0);
    /* a function that runs as the owner names its search path, and is not for everybody */
    assert_int_equal(must_int(session, "SELECT count(*) FROM pg_proc WHERE pronamespace = 'ropewalk'::regnamespace "
                                       "AND prosecdef AND (proconfig IS NULL OR NOT proconfig::text LIKE "
                                       "'%search_path=ropewalk, pg_temp%' OR has_function_privilege('public', oid, "
                                       "'EXECUTE'))"),
                     0);
    pg_session_close(session);
}

static void row_security_is_forced_wherever_there_is_an_organisation(void **state)
{
    struct pg_session *session = must_open(db.url);

    (void)state;
    assert_true(must_int(session, "SELECT count(*) FROM pg_class c WHERE relnamespace = 'ropewalk'::regnamespace AND "
                                  "relkind IN ('r', 'p') AND relrowsecurity AND relforcerowsecurity") >= 12);
    assert_int_equal(
        must_int(session, "SELECT count(*) FROM pg_class c WHERE relnamespace = 'ropewalk'::regnamespace AND relkind "
                          "IN ('r', 'p') AND NOT (relrowsecurity AND relforcerowsecurity) AND (relname = "
                          "'organisation' OR EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND "
                          "a.attname = 'organisation'))"),
        0);
    /* the gateway's policies: one that permits and one that restricts, on each table but the partitions, which have
     * none and so show nothing */
    assert_int_equal(
        must_int(session,
                 "SELECT count(*) FROM pg_class c WHERE relnamespace = 'ropewalk'::regnamespace AND relkind IN ('r', "
                 "'p') AND NOT relispartition AND relrowsecurity AND (SELECT (count(*) FILTER (WHERE polpermissive), "
                 "count(*) FILTER (WHERE NOT polpermissive)) <> (1, 1) FROM pg_policy p WHERE p.polrelid = c.oid AND "
                 "'ropewalk_gateway'::regrole = ANY (p.polroles))"),
        0);
    assert_int_equal(must_int(session, "SELECT count(*) FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid WHERE "
                                       "0 = ANY (p.polroles)"),
                     0);
    pg_session_close(session);
}

/* One row of each kind in two organisations, by the role that writes them in life. */
static void fill(struct pg_session *session)
{
    must_script(session, "SET ROLE ropewalk_gateway; "
                         "SELECT organisation_create('other', 'first', 'rw_other000', sha256('other'))");
    must_script(
        session,
        "RESET ROLE; SET ROLE ropewalk_owner; "
        "INSERT INTO workflow (organisation, name, version) SELECT id, 'w', 1 FROM organisation; "
        "INSERT INTO workflow_version (organisation, workflow, version, document, hash, created_by) "
        "SELECT id, 'w', 1, '{}', '', 'rw_x' FROM organisation; "
        "INSERT INTO run (id, organisation, workflow, version, created_at, input) "
        "SELECT (substr(uuid_bound(now())::text, 1, 24) || lpad(to_hex(id), 12, '0'))::uuid, id, 'w', 1, now(), 'null' "
        "FROM organisation; "
        "INSERT INTO run_label SELECT organisation, 'k', 'v', id FROM run; "
        "INSERT INTO event (run_id, seq, organisation, at, type) SELECT id, 1, organisation, now(), 1 FROM run; "
        "INSERT INTO open_work (shard, run_id, seq, organisation, kind, opened_at) SELECT 0, id, 1, organisation, 1, "
        "now() FROM run; "
        "INSERT INTO command (shard, organisation, run_id, kind) SELECT 0, organisation, id, 'start' FROM run; "
        "INSERT INTO idempotency SELECT organisation, 'w', 'k', '', id, now() FROM run; "
        "INSERT INTO dead_letter (organisation, kind, source, reason) SELECT organisation, 'message', 'q', 'r' FROM "
        "run; "
        "INSERT INTO quarantine (run_id, organisation, shard, reason) SELECT id, organisation, 0, 'r' FROM run");
    must_script(session, "RESET ROLE");
}

static const char *const tenant_tables[] = {
    "api_key",     "workflow",    "workflow_version", "run",    "run_label", "event",    "open_work",   "command",
    "idempotency", "dead_letter", "quarantine",       "v_runs", "v_steps",   "v_events", "v_open_work", "organisation"};

static int64_t count_rows(struct pg_session *session, const char *table)
{
    char sql[128];

    snprintf(sql, sizeof(sql), "SELECT count(*) FROM %s", table);
    return must_int(session, sql);
}

static void without_an_organisation_the_gateway_sees_no_row(void **state)
{
    struct pg_session *session = must_open(db.url);
    int64_t own;

    (void)state;
    fill(session);
    own = must_int(session, "SELECT id FROM organisation WHERE name = 'default'");
    must_script(session, "SET ROLE ropewalk_gateway");
    for (size_t i = 0; i < sizeof(tenant_tables) / sizeof(tenant_tables[0]); i++)
        assert_int_equal(count_rows(session, tenant_tables[i]), 0);
    assert_string_equal(state_of(session, "INSERT INTO workflow (organisation, name, version) VALUES (1, 'x', 1)"),
                        "42501");
    must_script(session, "SET ropewalk.organisation = ''");
    assert_int_equal(count_rows(session, "run"), 0);
    must_script(session, own == 1 ? "SET ropewalk.organisation = '1'" : "SET ropewalk.organisation = '2'");
    assert_int_equal(count_rows(session, "run"), 1);
    assert_int_equal(count_rows(session, "event"), 1);
    assert_int_equal(count_rows(session, "organisation"), 1);
    assert_int_equal(count_rows(session, "v_runs"), 1);
    assert_int_equal(count_rows(session, "v_open_work"), 1);
    assert_int_equal(must_int(session, "SELECT count(*) FROM api_key WHERE organisation <> current_organisation()"), 0);
    /* nor can it write for another, or reach around by a partition or another role's tables */
    assert_string_equal(state_of(session, "INSERT INTO command (shard, organisation, run_id, kind) VALUES (0, "
                                          "current_organisation() + 1, gen_random_uuid(), 'cancel')"),
                        "42501");
    assert_string_equal(state_of(session, "UPDATE run SET status = 'failed'"), "42501");
    assert_string_equal(state_of(session, "INSERT INTO event (run_id, seq, organisation, at, type) VALUES "
                                          "(gen_random_uuid(), 1, current_organisation(), now(), 1)"),
                        "42501");
    assert_string_equal(state_of(session, "SELECT token_key FROM installation"), "42501");
    assert_string_equal(state_of(session, "SELECT partitions_ensure(now(), 1)"), "42501");
    assert_string_equal(state_of(session, "DO $$ DECLARE t text; BEGIN SELECT inhrelid::regclass::text INTO t FROM "
                                          "pg_inherits WHERE inhparent = 'run'::regclass LIMIT 1; EXECUTE 'SELECT * "
                                          "FROM ' || t; END $$"),
                        "42501");
    must_script(session, "RESET ROLE; SET ROLE ropewalk_scheduler; RESET ropewalk.organisation");
    for (size_t i = 0; i + 4 < sizeof(tenant_tables) / sizeof(tenant_tables[0]); i++)
        if (strcmp(tenant_tables[i], "api_key") != 0 && strcmp(tenant_tables[i], "v_runs") != 0)
            assert_int_equal(count_rows(session, tenant_tables[i]), 2);
    pg_session_close(session);
}

static void partitions_are_there_a_month_ahead_whatever_the_date(void **state)
{
    static const char insert[] =
        "INSERT INTO run (id, organisation, workflow, version, created_at, input) SELECT "
        "(substr(uuid_bound(now() + %d * interval '1 day')::text, 1, 24) || lpad(to_hex(%d), 12, '0'))::uuid, id, 'w', "
        "1, now(), 'null' FROM organisation WHERE name = 'default'; INSERT INTO event (run_id, seq, organisation, at, "
        "type) SELECT uuid_bound(now() + %d * interval '1 day'), 1, id, now(), 1 FROM organisation WHERE name = "
        "'default'";
    struct pg_session *session = must_open(db.url), *reader = must_open(db.url);
    char sql[1024];

    (void)state;
    must_script(reader, "BEGIN; SELECT count(*) FROM event; SELECT count(*) FROM run"); /* a reader that stays */
    for (int day = 0; day <= 30; day += 5) {
        snprintf(sql, sizeof(sql), insert, day, day + 100, day);
        must_script(session, sql);
    }
    snprintf(sql, sizeof(sql), insert, 60, 200, 60);
    assert_string_equal(state_of(session, sql), "23514"); /* no partition for it yet */
    must_script(session, "SET ROLE ropewalk_scheduler");
    assert_true(must_int(session, "SELECT partitions_ensure(now() + interval '60 days', 42)") > 0);
    assert_int_equal(must_int(session, "SELECT partitions_ensure(now() + interval '60 days', 42)"), 0);
    must_script(session, "RESET ROLE");
    for (int day = 60; day <= 90; day += 5) {
        snprintf(sql, sizeof(sql), insert, day, day + 300, day);
        must_script(session, sql);
    }
    must_script(reader, "COMMIT");
    pg_session_close(reader);
    pg_session_close(session);
}

/* Those of before and those made later; not "lz4" by name, because a server may be built without it. */
static void every_partition_compresses_bodies_as_the_parent_does(void **state)
{
    struct pg_session *session = must_open(db.url);

    (void)state;
    must_script(session, "SET ROLE ropewalk_scheduler; SELECT partitions_ensure(now() + interval '300 days', 1)");
    must_script(session, "RESET ROLE");
    assert_true(must_int(session,
                         "SELECT count(*) FROM pg_inherits i JOIN pg_attribute a ON a.attrelid = i.inhrelid AND "
                         "(a.attname = 'output' OR a.attname = 'input') JOIN pg_attribute p ON p.attrelid = "
                         "i.inhparent AND p.attname = a.attname WHERE a.attcompression = p.attcompression") > 12);
    assert_int_equal(must_int(session,
                              "SELECT count(*) FROM pg_inherits i JOIN pg_attribute a ON a.attrelid = i.inhrelid JOIN "
                              "pg_attribute p ON p.attrelid = i.inhparent AND p.attname = a.attname "
                              "WHERE a.attcompression <> p.attcompression"),
                     0);
    assert_int_equal(must_int(session,
                              "SELECT count(*) FROM pg_settings s, pg_attribute a WHERE s.name = "
                              "'default_toast_compression' AND ('lz4' = ANY (s.enumvals)) <> (a.attcompression "
                              "= 'l') AND a.attname = 'output' AND a.attrelid = 'event'::regclass"),
                     0);
    pg_session_close(session);
}

static void every_partition_knows_parents_and_finds_children(void **state)
{
    struct pg_session *session = must_open(db.url);

    (void)state;
    must_script(session, "SET ROLE ropewalk_scheduler; SELECT partitions_ensure(now() + interval '200 days', 1)");
    must_script(session, "RESET ROLE");
    assert_true(must_int(session, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'run'::regclass") > 7);
    assert_int_equal(must_int(session, "SELECT count(*) FROM pg_inherits i WHERE inhparent = 'run'::regclass AND (NOT "
                                       "EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = inhrelid AND a.attname "
                                       "= 'depth' AND a.attnotnull AND a.atthasdef) OR NOT EXISTS (SELECT FROM "
                                       "pg_attribute a WHERE a.attrelid = inhrelid AND a.attname = 'parent_step') OR "
                                       "NOT EXISTS (SELECT FROM pg_index x WHERE x.indrelid = inhrelid AND "
                                       "x.indisvalid AND pg_get_indexdef(x.indexrelid) LIKE '%(organisation, parent, "
                                       "id) WHERE (parent IS NOT NULL)'))"),
                     0);
    pg_session_close(session);
}

static void a_fenced_scheduler_commits_nothing(void **state)
{
    static const char guard[] = "SELECT shard_guard('11111111-1111-1111-1111-111111111111', '{3,1,2}', '{7,7,7}')";
    struct pg_session *owner = must_open(db.url), *taker = must_open(db.url);

    (void)state;
    must_script(taker, "UPDATE shard SET incarnation = '11111111-1111-1111-1111-111111111111', epoch = 7 WHERE shard "
                       "IN (1, 2, 3)");
    must_script(owner, "SET ROLE ropewalk_scheduler; BEGIN");
    must_script(owner, guard);
    /* while the batch is open nobody can take the shard */
    assert_int_equal(must_int(taker, "SELECT pg_try_advisory_xact_lock(1919119216, 2)::int"), 0);
    assert_int_equal(must_int(taker, "SELECT pg_try_advisory_xact_lock(1919119216, 4)::int"), 1);
    must_script(owner, "COMMIT");
    assert_int_equal(must_int(taker, "SELECT pg_try_advisory_xact_lock(1919119216, 2)::int"), 1);
    must_script(taker, "UPDATE shard SET epoch = 8 WHERE shard = 2");
    assert_string_equal(state_of(owner, guard), "RW001");
    must_script(taker, "UPDATE shard SET epoch = 7, incarnation = NULL WHERE shard = 2");
    assert_string_equal(state_of(owner, guard), "RW001");
    must_script(taker, "UPDATE shard SET incarnation = NULL, epoch = 0");
    pg_session_close(owner);
    pg_session_close(taker);
}

static void views_tell_what_the_history_says(void **state)
{
    struct pg_session *session = must_open(db.url);

    (void)state;
    must_script(
        session,
        "INSERT INTO event (run_id, seq, organisation, at, type, step, attempt, data) SELECT id, n, "
        "organisation, created_at + n * interval '1 s', t, s, 1, d::json FROM run, (VALUES (2, 20, 'a', "
        "NULL), (3, 21, 'a', NULL), (4, 24, 'a', NULL), (5, 20, 'b', NULL), (6, 23, 'b', '{\"code\": "
        "\"http_503\"}'), (7, 20, 'c', NULL), (8, 21, 'c', NULL), "
        "(9, 20, 'd', NULL), (10, 29, 'd', '{\"code\": \"worker_lost\"}'), (11, 31, 'd', '{\"as\": \"failed\"}'), "
        "(12, 30, 'd', NULL), (13, 28, 'e', NULL), (14, 20, 'e', NULL), (15, 22, 'f', NULL), (16, 35, 'g', NULL)) AS e "
        "(n, t, s, d) "
        "WHERE organisation = 1");
    assert_int_equal(must_int(session, "SELECT count(*) FROM v_steps WHERE organisation = 'default' AND (step, status, "
                                       "coalesce(error_code, ''), ended_at IS NOT NULL) IN (('a', 'succeeded', '', "
                                       "true), ('b', 'waiting', 'http_503', false), ('c', 'running', '', false), "
                                       "('d', 'failed', 'worker_lost', true), ('e', 'queued', '', false), ('f', "
                                       "'waiting', '', false), ('g', 'waiting', '', false))"),
                     must_int(session, "SELECT 7 * count(*) FROM run WHERE organisation = 1"));
    assert_int_equal(must_int(session,
                              "SELECT count(*) FROM generate_series(1, 10) k WHERE open_work_name(k::smallint) "
                              "LIKE 'kind %'"),
                     0);
    assert_int_equal(must_int(session, "SELECT count(*) FROM v_events WHERE type LIKE 'type %'"), 0);
    pg_session_close(session);
}

struct checked {
    int calls;
    enum err_code rc;
    struct err err;
};

static void note_check(void *ctx, enum err_code rc, const struct err *err)
{
    struct checked *checked = ctx;

    checked->calls++;
    checked->rc = rc;
    checked->err = *err;
}

static void check_as(const char *url, struct checked *role, struct checked *schema)
{
    uv_loop_t loop;
    struct pg_options options = {.loop = &loop, .url = url, .application = "test_schema", .prepared = true};
    struct pg *pg;

    *role = *schema = (struct checked){0};
    assert_int_equal(uv_loop_init(&loop), 0);
    pg = pg_new(&options);
    pg_check_role(pg, note_check, role);
    migrate_check(pg, note_check, schema);
    assert_true(loop_until(&loop, &schema->calls, 1, 10000));
    pg_free(pg);
    loop_end(&loop);
}

static void only_a_role_without_powers_may_serve(void **state)
{
    static const struct {
        const char *what, *before, *after, *word;
    } rows[] = {
        {"plain", "GRANT ropewalk_scheduler TO", "", NULL}, {"bypass", "ALTER ROLE", "BYPASSRLS", "bypass"},
        {"owner", "GRANT ropewalk_owner TO", "", "owns"},   {"super", "ALTER ROLE", "SUPERUSER", "superuser"},
        {"stranger", "ALTER ROLE", "NOSUPERUSER", NULL},
    };
    struct pg_session *session = must_open(db.url);
    struct checked role, schema;
    char sql[256], login[96], url[512];

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        snprintf(login, sizeof(login), "%s_%s", db.name, rows[i].what);
        snprintf(sql, sizeof(sql), "CREATE ROLE %s LOGIN PASSWORD 'x'", login);
        must_script(session, sql);
        snprintf(sql, sizeof(sql), "%s %s %s", rows[i].before, login, rows[i].after);
        must_script(session, sql);
        url_of_login(&db, login, "x", url, sizeof(url));
        check_as(url, &role, &schema);
        if (rows[i].word == NULL) {
            assert_int_equal(role.rc, ERR_OK);
            assert_int_equal(schema.rc, strcmp(rows[i].what, "plain") == 0 ? ERR_OK : ERR_UNAVAILABLE);
        } else {
            assert_int_equal(role.rc, ERR_FORBIDDEN);
            assert_non_null(strstr(role.err.message, rows[i].word));
        }
        snprintf(sql, sizeof(sql), "DROP OWNED BY %s; DROP ROLE %s", login, login);
        must_script(session, sql);
    }
    pg_session_close(session);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(migrating_again_changes_nothing),
        cmocka_unit_test(migrators_at_the_same_time_wait_for_each_other),
        cmocka_unit_test(every_index_migration_leaves_a_valid_index_of_its_name),
        cmocka_unit_test(a_newer_schema_is_refused),
        cmocka_unit_test(the_admin_key_works_and_only_its_hash_is_kept),
        cmocka_unit_test(the_owner_role_owns_everything),
        cmocka_unit_test(row_security_is_forced_wherever_there_is_an_organisation),
        cmocka_unit_test(without_an_organisation_the_gateway_sees_no_row),
        cmocka_unit_test(views_tell_what_the_history_says),
        cmocka_unit_test(partitions_are_there_a_month_ahead_whatever_the_date),
        cmocka_unit_test(every_partition_compresses_bodies_as_the_parent_does),
        cmocka_unit_test(every_partition_knows_parents_and_finds_children),
        cmocka_unit_test(a_fenced_scheduler_commits_nothing),
        cmocka_unit_test(only_a_role_without_powers_may_serve),
    };

    return cmocka_run_group_tests_name("schema", tests, make_database, drop_database);
}
