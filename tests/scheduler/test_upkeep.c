/* What has to be done now and then, against a real PostgreSQL. */
#include "scheduler/upkeep.h"
#include "tests/scheduler/scheduler_fixture.h"

struct fixture {
    uv_loop_t loop;
    struct pg *pg;
    struct upkeep *upkeep;
    bool mine;
};

static bool is_mine(void *ctx)
{
    return ((struct fixture *)ctx)->mine;
}

static void begin(struct fixture *f)
{
    struct pg_options options = {.loop = &f->loop, .url = url, .application = "test_upkeep", .prepared = true};

    *f = (struct fixture){0};
    assert_int_equal(uv_loop_init(&f->loop), 0);
    f->pg = pg_new(&options);
    f->upkeep = upkeep_new(&(struct upkeep_options){
        .loop = &f->loop, .pg = f->pg, .partition_days = 100, .turn_ms = 50, .mine = is_mine, .ctx = f});
}

static void end(struct fixture *f)
{
    upkeep_free(f->upkeep);
    pg_free(f->pg);
    loop_end(&f->loop);
}

static int64_t wait_for(struct fixture *f, struct pg_session *admin, const char *sql, int64_t wanted)
{
    for (int i = 0; i < 1200 && must_int(admin, sql) != wanted; i++)
        loop_for(&f->loop, 25);
    return must_int(admin, sql);
}

static void expired_keys_go_in_slices_and_others_stay(void **state)
{
    static const char count[] = "SELECT count(*) FROM idempotency";
    struct pg_session *admin = must_open(db.url);
    struct fixture f;

    (void)state;
    must_script(admin,
                "INSERT INTO idempotency SELECT 1, 'w', 'k' || n, '', gen_random_uuid(), now() - interval '1 s' FROM "
                "generate_series(1, 2500) n");
    must_script(admin,
                "INSERT INTO idempotency SELECT 1, 'w', 's' || n, '', gen_random_uuid(), now() + interval '1 h' FROM "
                "generate_series(1, 10) n");
    begin(&f);
    loop_for(&f.loop, 400);
    assert_int_equal(must_int(admin, count), 2510); /* another's turn */
    f.mine = true;
    assert_int_equal(wait_for(&f, admin, count, 10), 10);
    end(&f);
    pg_session_close(admin);
}

/* Every third row cannot be removed: that costs neither the others nor what else expires anything. */
static void what_cannot_be_removed_stays_alone(void **state)
{
    static const char count[] = "SELECT count(*) FROM idempotency WHERE key LIKE 'r%'";
    struct pg_session *admin = must_open(db.url);
    struct fixture f;

    (void)state;
    must_script(admin,
                "INSERT INTO idempotency SELECT 1, 'w', 'r' || n, '', gen_random_uuid(), now() - n * interval '1 s' "
                "FROM generate_series(1, 12) n");
    must_script(admin,
                "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'kept' USING "
                "ERRCODE = '23514'; END $$");
    must_script(admin,
                "CREATE TRIGGER keep BEFORE DELETE ON idempotency FOR EACH ROW WHEN (OLD.key IN ('r3', 'r6', 'r9', "
                "'r12')) EXECUTE FUNCTION keep()");
    must_script(admin, "INSERT INTO delivery_nonce SELECT 1, 'w/t', 'n', gen_random_uuid(), now() - interval '1 s'");
    begin(&f);
    f.mine = true;
    assert_int_equal(wait_for(&f, admin, count, 4), 4);
    assert_int_equal(wait_for(&f, admin, "SELECT count(*) FROM delivery_nonce", 0), 0);
    must_script(admin, "DROP TRIGGER keep ON idempotency");
    must_script(admin, "DELETE FROM idempotency WHERE key LIKE 'r%'");
    end(&f);
    must_script(admin, "DROP FUNCTION keep()");
    pg_session_close(admin);
}

static void the_delivery_log_is_kept_for_seven_days(void **state)
{
    static const char rows[] =
        "INSERT INTO delivery (organisation, id, at, workflow, trigger, status, stage, reason, body_bytes, took_us, "
        "old_secret) SELECT 1, gen_random_uuid(), now() - interval '7 days' + n * interval '1 minute', 'w', 't', 202, "
        "'start', 'accepted', 0, 0, false FROM generate_series(-5, 5) n";
    struct pg_session *admin = must_open(db.url);
    struct fixture f;

    (void)state;
    must_script(admin, rows);
    begin(&f);
    f.mine = true;
    assert_int_equal(wait_for(&f, admin, "SELECT count(*) FROM delivery", 5), 5);
    assert_int_equal(must_int(admin, "SELECT count(*) FROM delivery WHERE at > now() - interval '7 days'"), 5);
    end(&f);
    must_script(admin, "DELETE FROM delivery");
    pg_session_close(admin);
}

static void partitions_are_made_ahead(void **state)
{
    static const char last[] =
        "SELECT (max(to_date(right(inhrelid::regclass::text, 8), 'YYYYMMDD')) >= current_date + 93)::int "
        "FROM pg_inherits WHERE inhparent = 'event'::regclass";
    struct pg_session *admin = must_open(db.url);
    struct fixture f;

    (void)state;
    begin(&f);
    f.mine = true;
    assert_int_equal(
        wait_for(&f, admin, "SELECT (count(*) > 14)::int FROM pg_inherits WHERE inhparent = 'run'::regclass", 1), 1);
    assert_int_equal(wait_for(&f, admin, last, 1), 1);
    end(&f);
    pg_session_close(admin);
}

static void it_may_end_while_something_is_under_way(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f);
    upkeep_partitions(f.upkeep);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expired_keys_go_in_slices_and_others_stay),
        cmocka_unit_test(what_cannot_be_removed_stays_alone),
        cmocka_unit_test(the_delivery_log_is_kept_for_seven_days),
        cmocka_unit_test(partitions_are_made_ahead),
        cmocka_unit_test(it_may_end_while_something_is_under_way),
    };

    return cmocka_run_group_tests_name("upkeep", tests, make_database, drop_database);
}
