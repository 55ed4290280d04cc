/* Applies what is missing of the schema. Not for the rows in it: those are seed.c's. */
#include "common/db/migrate.h"
#include "common/base/ensure.h"
#include "common/db/seed.h"
#include "rw_db_sql.h"
#include <time.h>

#include "common/base/banned.h"

#ifndef MIGRATIONS_DEF /* tests migrate to a release that is yet to come */
#define MIGRATIONS_DEF "common/db/migrations.def"
#endif
#define LOCK_TRIES 60
#define LOCK_PAUSE_MS 500
#define STATEMENT_MAX 65536

static const struct migration {
    int number;
    const char *name;
    const char *sql;
    bool index; /* built concurrently */
} migrations[] = {
#define MIGRATION(number, name, text) {number, name, text, false},
#define INDEX_MIGRATION(number, name, text) {number, name, text, true},
#include MIGRATIONS_DEF
#undef MIGRATION
#undef INDEX_MIGRATION
};
#define MIGRATIONS (sizeof(migrations) / sizeof(migrations[0]))

static const struct timespec PAUSE = {.tv_nsec = LOCK_PAUSE_MS * 1000000L};

int migrate_newest(void)
{
    return migrations[MIGRATIONS - 1].number;
}

static enum err_code newest_applied(struct pg_session *session, int *ret, struct err *err)
{
    struct pg_result *res = NULL;
    enum err_code rc = pg_session_run(session, SQL_MIGRATE_NEWEST, NULL, 0, &res, err);

    if (rc != ERR_OK)
        return err_prefix(err, rc, "reading which migrations were applied");
    *ret = (int)pg_get_int(res, 0, 0);
    pg_result_free(res);
    return ERR_OK;
}

static enum err_code note(struct pg_session *session, const struct migration *m, struct err *err)
{
    const struct pg_param params[] = {pg_i32(m->number), pg_text(str_of(m->name))};

    return pg_session_run(session, SQL_MIGRATE_NOTE, params, 2, NULL, err);
}

/* In a transaction that gives up soon when it has to wait; with the note of a migration, both or nothing. */
static enum err_code transact(struct pg_session *session, const char *sql, const struct migration *noted,
                              struct err *err)
{
    struct err ignored;
    enum err_code rc = pg_session_script(session, SQL_MIGRATE_BEGIN, err);

    if (rc == ERR_OK)
        rc = pg_session_script(session, sql, err);
    if (rc == ERR_OK && noted != NULL)
        rc = note(session, noted, err);
    if (rc == ERR_OK)
        rc = pg_session_script(session, "COMMIT", err);
    if (rc != ERR_OK && pg_session_script(session, "ROLLBACK", &ignored) != ERR_OK)
        return rc; /* the connection is gone, and the transaction with it */
    return rc;
}

/* Statement after statement, each as the catalogues ask for it, until nothing is left: after a crash it goes on. */
static enum err_code build_index(struct pg_session *session, const struct migration *m, struct err *err)
{
    const struct pg_param whole = pg_text(str_of(m->sql));

    for (;;) {
        CLEANUP(buf_deinit) struct buf statement = {0};
        struct pg_result *step = NULL;
        enum err_code rc = pg_session_run(session, SQL_MIGRATE_INDEX_STEP, &whole, 1, &step, err);
        bool transaction, done;

        if (rc != ERR_OK)
            return rc;
        done = pg_rows(step) == 0;
        transaction = !done && pg_get_bool(step, 0, 1);
        buf_init(&statement, STATEMENT_MAX);
        if (!done)
            buf_append_str(&statement, pg_get_str(step, 0, 0));
        pg_result_free(step);
        if (done)
            return note(session, m, err);
        rc = transaction ? transact(session, statement.ptr, NULL, err) : pg_session_script(session, statement.ptr, err);
        if (rc != ERR_OK)
            return rc;
    }
}

static enum err_code apply(struct pg_session *session, const struct migration *m, struct err *err)
{
    enum err_code rc = m->index ? build_index(session, m, err) : transact(session, m->sql, m, err);

    return rc == ERR_OK ? ERR_OK : err_prefix(err, rc, "migration %04d_%s", m->number, m->name);
}

/* 55P03: a lock was not to be had soon. 40P01: a migrator of an older release waits for us, and an index for it. */
static bool may_work_later(const struct err *err)
{
    return strcmp(err->sqlstate, "55P03") == 0 || strcmp(err->sqlstate, "40P01") == 0;
}

/* A lock that is not to be had soon is not waited for: what queues behind us would wait as long. */
static enum err_code apply_patiently(struct pg_session *session, const struct migration *m, struct err *err)
{
    enum err_code rc = apply(session, m, err);

    for (int tries = 1; rc != ERR_OK && may_work_later(err) && tries < LOCK_TRIES; tries++) {
        nanosleep(&PAUSE, NULL);
        rc = apply(session, m, err);
    }
    return rc;
}

static enum err_code apply_missing(struct pg_session *session, struct migrate_report *report, struct err *err)
{
    enum err_code rc = newest_applied(session, &report->from, err);

    if (rc != ERR_OK)
        return rc;
    report->to = report->from;
    if (report->from > migrate_newest())
        return err_set(err, ERR_CONFLICT, "the schema is at migration %d, this release knows %d: use the newer release",
                       report->from, migrate_newest());
    for (size_t i = 0; i < MIGRATIONS; i++) {
        ENSURE(migrations[i].number == (int)i + 1);
        if (migrations[i].number <= report->from)
            continue;
        rc = apply_patiently(session, &migrations[i], err);
        if (rc != ERR_OK)
            return rc;
        report->to = migrations[i].number;
    }
    return ERR_OK;
}

static enum err_code lock(struct pg_session *session, struct err *err)
{
    for (;;) {
        struct pg_result *res = NULL;
        enum err_code rc = pg_session_run(session, SQL_MIGRATE_LOCK, NULL, 0, &res, err);
        bool mine = rc == ERR_OK && pg_get_bool(res, 0, 0);

        pg_result_free(res);
        if (rc != ERR_OK || mine)
            return rc;
        nanosleep(&PAUSE, NULL);
    }
}

enum err_code migrate_run(const struct migrate_options *options, struct migrate_report *ret, struct err *err)
{
    CLEANUP(pg_session_cleanup) struct pg_session *session = NULL;
    enum err_code rc = pg_session_open(options->admin_url, &session, err);

    *ret = (struct migrate_report){0};
    if (rc != ERR_OK)
        return rc;
    rc = lock(session, err);
    if (rc != ERR_OK)
        return err_prefix(err, rc, "waiting for another migrator");
    rc = pg_session_script(session, SQL_MIGRATE_PREPARE, err);
    if (rc != ERR_OK)
        return err_prefix(err, rc, "making roles and schema");
    rc = apply_missing(session, ret, err);
    if (rc != ERR_OK)
        return rc;
    return seed_run(session, options->key_file, ret, err);
}

/* --- asked by services -------------------------------------------------------------------------------------------- */

struct schema_check {
    pg_role_fn done;
    void *ctx;
};

static void on_answer(void *ctx, const struct pg_outcome *outcome)
{
    struct schema_check *check = ctx;
    struct err err = *outcome->err;
    enum err_code rc = outcome->rc;

    /* 3F000, 42P01, 42501: no schema, no table, no right to it: nobody has migrated yet */
    if (rc == ERR_INTERNAL && (err.sqlstate[0] == '3' || err.sqlstate[0] == '4'))
        rc = err_set(&err, ERR_UNAVAILABLE, "the database has no Ropewalk schema yet, or this role may not use it");
    else if (rc == ERR_OK && !pg_get_bool(outcome->results[0], 0, 0))
        rc = err_set(&err, ERR_UNAVAILABLE, "the schema is older than this release: run ropewalk-scheduler --migrate");
    check->done(check->ctx, rc, &err);
    mem_free(check);
}

void migrate_check(struct pg *pg, pg_role_fn done, void *ctx)
{
    struct pg_batch *batch = pg_batch_new(false);
    struct schema_check *check = mem_alloc(sizeof(*check));

    *check = (struct schema_check){done, ctx};
    pg_add(batch, SQL_SCHEMA_CHECK, pg_i32(migrate_newest()));
    pg_submit(pg, batch, on_answer, check);
}
