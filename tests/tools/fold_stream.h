/* Rows of a table in order of their run, a few thousand in memory at a time: what lets fold-check walk run, event,
 * open_work and command side by side. Inside one transaction; a query that fails ends the program with status 2. */
#pragma once
#include "common/base/str.h"
#include <libpq-fe.h>

PGresult *fold_query(PGconn *conn, const char *sql, int count, const char *const *params);
struct str fold_column(const PGresult *res, int row, int col); /* STR_NONE: NULL */
int64_t fold_number(const PGresult *res, int row, int col);    /* NULL: 0 */

struct fold_stream {
    PGconn *conn;
    const char *name; /* of the cursor */
    PGresult *res;
    int row; /* the current one of res */
    bool ended;
    void (*stray)(void *ctx, const char *name, const char *run); /* rows of a run that is not there, told once a row */
    void *ctx;
};

/* `sql` gives the run's id first and is ordered by it. */
void fold_stream_open(struct fold_stream *stream, const char *sql);
bool fold_stream_more(struct fold_stream *stream); /* is there a current row? */
void fold_stream_next(struct fold_stream *stream);
/* Is the current row this run's? Runs are asked for in order; rows of runs in between are strays. */
bool fold_stream_at(struct fold_stream *stream, const char *run);
void fold_stream_close(struct fold_stream *stream); /* what is left are strays */
