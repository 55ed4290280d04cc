/* The blocking connection of start-up work: migrations, and tests. */
#include "common/base/ensure.h"
#include "common/io/pg_internal.h"

#include "common/base/banned.h"

struct pg_session {
    PGconn *conn;
};

static void ignore_notice(void *arg, const PGresult *res)
{
    (void)arg;
    (void)res;
}

enum err_code pg_session_open(const char *url, struct pg_session **ret, struct err *err)
{
    const struct pg_options options = {.application = "ropewalk-admin", .prepared = true};
    struct pg_conninfo info = {0};
    struct pg_session *session;
    enum err_code rc = pg_conninfo_parse(url, &options, &info, err);

    if (rc != ERR_OK)
        return rc;
    session = mem_alloc(sizeof(*session));
    session->conn = PQconnectdbParams(info.keywords, info.values, 0);
    pg_conninfo_free(&info);
    if (PQstatus(session->conn) != CONNECTION_OK) {
        pg_error_from_conn(err, session->conn, "could not connect to PostgreSQL");
        pg_session_close(session);
        return err->code;
    }
    PQsetNoticeReceiver(session->conn, ignore_notice, NULL);
    *ret = session;
    return ERR_OK;
}

void pg_session_close(struct pg_session *session)
{
    if (session == NULL)
        return;
    PQfinish(session->conn);
    mem_free(session);
}

void pg_session_cleanup(struct pg_session **session)
{
    pg_session_close(*session);
}

/* Takes the result. */
static enum err_code judge(struct pg_session *session, PGresult *res, struct pg_result **ret, struct err *err)
{
    ExecStatusType status = PQresultStatus(res);

    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        if (res == NULL)
            pg_error_from_conn(err, session->conn, "lost the connection to PostgreSQL");
        else
            pg_error_from_result(err, res);
        PQclear(res);
        return err->code;
    }
    if (ret != NULL)
        *ret = (struct pg_result *)res;
    else
        PQclear(res);
    return ERR_OK;
}

enum err_code pg_session_script(struct pg_session *session, const char *sql, struct err *err)
{
    ENSURE(session != NULL);
    return judge(session, PQexec(session->conn, sql), NULL, err);
}

enum err_code pg_session_run(struct pg_session *session, const char *sql, const struct pg_param *params, size_t count,
                             struct pg_result **ret, struct err *err)
{
    struct pg_batch *batch = pg_batch_new(false);
    int formats[PG_PARAMS_MAX];
    const struct pg_op *op;
    PGresult *res;

    pg_batch_add(batch, sql, params, count);
    op = &batch->ops[0];
    for (size_t i = 0; i < count; i++)
        formats[i] = 1;
    res = PQexecParams(session->conn, sql, (int)count, op->oids, op->values, op->lens, formats, 1);
    pg_batch_free(batch);
    return judge(session, res, ret, err);
}

enum err_code pg_run_script(const char *url, const char *sql, struct err *err)
{
    CLEANUP(pg_session_cleanup) struct pg_session *session = NULL;
    enum err_code rc = pg_session_open(url, &session, err);

    return rc != ERR_OK ? rc : pg_session_script(session, sql, err);
}
