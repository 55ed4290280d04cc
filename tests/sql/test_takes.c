/* What takes a number of rows takes no more than that, however the planner joins. */
#include "tests/sql/sql_fixture.h"

static struct database db;

static int make_database(void **state)
{
    struct migrate_report report;

    (void)state;
    database_make(&db, "takes");
    database_migrate(&db, &report);
    return 0;
}

static int drop_database(void **state)
{
    (void)state;
    database_drop(&db);
    return 0;
}

/* Two organisations, three operations of each, ten runs of each operation. */
static void fill(struct pg_session *session)
{
    must_script(session,
                "SET ROLE ropewalk_gateway; "
                "SELECT organisation_create('other', 'first', 'rw_other000', sha256('other')); "
                "RESET ROLE; SET ROLE ropewalk_owner; "
                "INSERT INTO bulk_operation (organisation, id, kind, filter, runs, created_by, expires_at, body) "
                "SELECT o.id, gen_random_uuid(), 'rerun', '{}', 10, 'rw_x', now() + interval '1 day', '{}' "
                "FROM organisation o, generate_series(1, 3); "
                "INSERT INTO bulk_run (organisation, operation, run_id) "
                "SELECT p.organisation, p.id, gen_random_uuid() FROM bulk_operation p, generate_series(1, 10); "
                "RESET ROLE");
}

static void reruns_are_taken_no_more_than_asked_for_however_they_are_joined(void **state)
{
    static const char *const plans[] = {
        "",
        /* what is taken is the inner side of a loop: read anew for each row of the outer */
        "SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_material = off; SET enable_memoize = off",
        "SET enable_nestloop = off",
        "SET enable_hashjoin = off; SET enable_nestloop = off",
    };
    struct pg_session *session = must_open(db.url);

    (void)state;
    fill(session);
    for (size_t i = 0; i < sizeof(plans) / sizeof(plans[0]); i++) {
        if (plans[i][0] != '\0')
            must_script(session, plans[i]);
        must_script(session, "SET ROLE ropewalk_gateway");
        assert_int_equal(must_int(session, "SELECT count(*) FROM bulk_rerun_take(2, 3, interval '1 minute')"), 3);
        assert_int_equal(must_int(session, "SELECT max(n) FROM (SELECT count(*) AS n FROM bulk_rerun_take(2, 100, "
                                           "interval '1 minute') GROUP BY organisation) s"),
                         2);
        must_script(session, "RESET ROLE; RESET ALL");
    }
    assert_int_equal(must_int(session, "SELECT count(*) FROM bulk_run WHERE not_before > now()"), 4 * (3 + 2 * 2));
    pg_session_close(session);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reruns_are_taken_no_more_than_asked_for_however_they_are_joined),
    };

    return cmocka_run_group_tests_name("takes", tests, make_database, drop_database);
}
