/* Answers: what libpq hands over, result by result, and which batch and statement it belongs to. */
#include "common/io/pg_internal.h"

#include "common/base/banned.h"

static int first_use(const struct pg_batch *batch, const struct pg_stmt *stmt)
{
    for (size_t i = 0; i < batch->op_count; i++)
        if (batch->ops[i].sql == stmt->sql)
            return batch->ops[i].index;
    return -1;
}

/* Keeps the batch's first error. Not kept: libpq's own words for a broken connection, and a FATAL of the server where
 * the commit itself is awaited; of both lost() makes what is right. */
static void note_error(struct pg *pg, struct pg_batch *batch, const PGresult *res)
{
    const char *severity = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);
    bool fatal = severity != NULL && strcmp(severity, "ERROR") != 0;
    bool at_commit = !batch->preparing && batch->pos >= batch->op_count;
    struct err err;

    pg_error_from_result(&err, res);
    if (err.sqlstate[0] == '\0' || (fatal && at_commit))
        return;
    if (fatal)
        pg->fatal = true;
    if (batch->err.code != ERR_OK)
        return;
    if (err.code == ERR_BUSY && (strcmp(err.sqlstate, "26000") == 0 || strcmp(err.sqlstate, "0A000") == 0))
        pg_stmts_forget(pg);
    batch->err = err;
    if (!batch->preparing && !at_commit)
        batch->failed_statement = batch->ops[batch->pos].index;
    else if (batch->preparing && batch->pos < batch->prepare_count)
        batch->failed_statement = first_use(batch, batch->prepares[batch->pos]);
}

static void note_rows(struct pg_batch *batch, PGresult *res)
{
    const struct pg_op *op = &batch->ops[batch->pos];

    if (op->kind == PG_OP_CLOCK && PQntuples(res) == 1 && PQgetlength(res, 0, 0) == 8)
        batch->db_now = pg_time_decode(PQgetvalue(res, 0, 0));
    if (op->index < 0) {
        PQclear(res);
        return;
    }
    PQclear(batch->results[op->index]);
    batch->results[op->index] = res;
}

static void note_result(struct pg *pg, struct pg_batch *batch, PGresult *res)
{
    ExecStatusType status = PQresultStatus(res);

    if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK) {
        if (batch->preparing || batch->pos >= batch->op_count)
            PQclear(res);
        else
            note_rows(batch, res);
        return;
    }
    if (batch->preparing && batch->pos < batch->prepare_count) /* else the connection broke behind the last one */
        batch->prepares[batch->pos]->dead = true;
    if (status != PGRES_PIPELINE_ABORTED)
        note_error(pg, batch, res);
    PQclear(res);
}

/* The end of a section: of the prepares in front of a batch, or of the batch. */
static void note_sync(struct pg *pg, struct pg_batch *batch)
{
    if (batch->preparing) {
        batch->preparing = false;
        batch->pos = 0;
        return;
    }
    pg_queue_pop(&pg->flight);
    pg_send_pending(pg); /* behind a pooler the next had to wait; elsewhere nothing is pending */
    pg_finish(batch, &batch->err, false);
}

void pg_read_answers(struct pg *pg)
{
    while (pg->state == PG_UP && pg->flight.head != NULL && PQisBusy(pg->conn) == 0) {
        struct pg_batch *batch = pg->flight.head;
        PGresult *res = PQgetResult(pg->conn);

        if (res == NULL) {
            if (PQstatus(pg->conn) == CONNECTION_BAD)
                return;
            batch->pos++;
        } else if (PQresultStatus(res) == PGRES_PIPELINE_SYNC) {
            PQclear(res);
            note_sync(pg, batch);
        } else {
            note_result(pg, batch, res);
        }
    }
}
