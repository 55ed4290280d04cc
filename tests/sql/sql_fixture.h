/* A database of its own for a test: made beside the stack's, migrated, dropped at the end. */
#pragma once
#include "common/db/migrate.h"
#include "tests/io/pg_fixture.h"
#include <unistd.h>

struct database {
    char name[64];
    char url[512];
    char key_file[128];
};

static inline void must_script(struct pg_session *session, const char *sql)
{
    struct err err;

    if (pg_session_script(session, sql, &err) != ERR_OK)
        fail_msg("%s: %s (%s)", sql, err.message, err.sqlstate);
}

/* SQLSTATE of a script, "" when it succeeds. */
static inline const char *state_of(struct pg_session *session, const char *sql)
{
    static char state[6];
    struct err err = {0};

    if (pg_session_script(session, sql, &err) == ERR_OK)
        return "";
    memcpy(state, err.sqlstate, sizeof(state));
    return state;
}

static inline int64_t must_int(struct pg_session *session, const char *sql)
{
    struct pg_result *res = NULL;
    struct err err;
    int64_t n;

    if (pg_session_run(session, sql, NULL, 0, &res, &err) != ERR_OK)
        fail_msg("%s: %s (%s)", sql, err.message, err.sqlstate);
    n = pg_get_int(res, 0, 0);
    pg_result_free(res);
    return n;
}

static inline struct pg_session *must_open(const char *url)
{
    struct pg_session *session = NULL;
    struct err err;

    if (pg_session_open(url, &session, &err) != ERR_OK)
        fail_msg("%s", err.message);
    return session;
}

/* The administrator's URL with another database. */
static inline void url_of_database(const char *name, char *ret, size_t size)
{
    const char *url = test_url();
    const char *path = strchr(strstr(url, "://") + 3, '/');

    assert_non_null(path);
    snprintf(ret, size, "%.*s/%s", (int)(path - url), url, name);
}

/* The same server and database with another login. */
static inline void url_of_login(const struct database *db, const char *login, const char *password, char *ret,
                                size_t size)
{
    snprintf(ret, size, "postgresql://%s:%s%s", login, password, strchr(strstr(db->url, "://") + 3, '@'));
}

static inline void database_make(struct database *db, const char *what)
{
    struct pg_session *admin = must_open(test_url());
    char sql[128];

    snprintf(db->name, sizeof(db->name), "test_%s_%d", what, (int)getpid());
    snprintf(db->key_file, sizeof(db->key_file), "/tmp/%s.key", db->name);
    url_of_database(db->name, db->url, sizeof(db->url));
    snprintf(sql, sizeof(sql), "CREATE DATABASE %s", db->name);
    must_script(admin, sql);
    pg_session_close(admin);
}

static inline void database_migrate(struct database *db, struct migrate_report *report)
{
    const struct migrate_options options = {.admin_url = db->url, .key_file = db->key_file};
    struct err err;

    if (migrate_run(&options, report, &err) != ERR_OK)
        fail_msg("%s (%s)", err.message, err.sqlstate);
}

static inline void database_drop(struct database *db)
{
    struct pg_session *admin = must_open(test_url());
    char sql[128];

    snprintf(sql, sizeof(sql), "DROP DATABASE IF EXISTS %s WITH (FORCE)", db->name);
    must_script(admin, sql);
    pg_session_close(admin);
    unlink(db->key_file);
}
