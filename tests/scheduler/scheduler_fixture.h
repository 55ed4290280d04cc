/* A migrated database of its own with a login that is what a scheduler's should be. */
#pragma once
#include "tests/sql/sql_fixture.h"

static struct database db;
static char login[96], url[512];

static inline int make_database(void **state)
{
    struct migrate_report report;
    struct pg_session *admin;
    char sql[256];

    (void)state;
    database_make(&db, "scheduler");
    database_migrate(&db, &report);
    snprintf(login, sizeof(login), "%s_login", db.name);
    url_of_login(&db, login, "x", url, sizeof(url));
    admin = must_open(db.url);
    snprintf(sql, sizeof(sql), "CREATE ROLE %s LOGIN PASSWORD 'x' IN ROLE ropewalk_scheduler", login);
    must_script(admin, sql);
    pg_session_close(admin);
    return 0;
}

static inline int drop_database(void **state)
{
    struct pg_session *admin;
    char sql[128];

    (void)state;
    database_drop(&db);
    admin = must_open(test_url());
    snprintf(sql, sizeof(sql), "DROP ROLE %s", login);
    must_script(admin, sql);
    pg_session_close(admin);
    return 0;
}
