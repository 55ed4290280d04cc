/* See fold_stream.h. */
#include "tests/tools/fold_stream.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROWS "10000"

PGresult *fold_query(PGconn *conn, const char *sql, int count, const char *const *params)
{
    PGresult *res = PQexecParams(conn, sql, count, NULL, params, NULL, NULL, 0);

    if (PQresultStatus(res) != PGRES_TUPLES_OK && PQresultStatus(res) != PGRES_COMMAND_OK) {
        fprintf(stderr, "fold-check: %s", PQerrorMessage(conn));
        exit(2);
    }
    return res;
}

struct str fold_column(const PGresult *res, int row, int col)
{
    if (PQgetisnull(res, row, col))
        return STR_NONE;
    return (struct str){PQgetvalue(res, row, col), (size_t)PQgetlength(res, row, col)};
}

int64_t fold_number(const PGresult *res, int row, int col)
{
    return PQgetisnull(res, row, col) ? 0 : strtoll(PQgetvalue(res, row, col), NULL, 10);
}

void fold_stream_open(struct fold_stream *stream, const char *sql)
{
    char text[2048];

    (void)snprintf(text, sizeof(text), "DECLARE %s NO SCROLL CURSOR FOR %s", stream->name, sql);
    PQclear(fold_query(stream->conn, text, 0, NULL));
}

bool fold_stream_more(struct fold_stream *stream)
{
    char text[128];

    if (stream->ended || (stream->res != NULL && stream->row < PQntuples(stream->res)))
        return !stream->ended;
    PQclear(stream->res);
    (void)snprintf(text, sizeof(text), "FETCH FORWARD " ROWS " FROM %s", stream->name);
    stream->res = fold_query(stream->conn, text, 0, NULL);
    stream->row = 0;
    stream->ended = PQntuples(stream->res) == 0;
    return !stream->ended;
}

void fold_stream_next(struct fold_stream *stream)
{
    stream->row++;
}

bool fold_stream_at(struct fold_stream *stream, const char *run)
{
    while (fold_stream_more(stream)) {
        const char *of = PQgetvalue(stream->res, stream->row, 0);
        int order = strcmp(of, run); /* ids are of one length, in lower case: as they are ordered there */

        if (order >= 0)
            return order == 0;
        stream->stray(stream->ctx, stream->name, of);
        fold_stream_next(stream);
    }
    return false;
}

void fold_stream_close(struct fold_stream *stream)
{
    for (; fold_stream_more(stream); fold_stream_next(stream))
        stream->stray(stream->ctx, stream->name, PQgetvalue(stream->res, stream->row, 0));
    PQclear(stream->res);
}
