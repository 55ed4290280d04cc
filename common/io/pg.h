/* PostgreSQL through libpq, asynchronous, on a libuv loop. One struct pg is one connection that makes itself again
 * with backoff (50 ms to 1 s); work is sent as batches in pipeline mode, one round trip each, any number in flight,
 * answered in order. A batch is one transaction: PostgreSQL runs what lies between two synchronisation points as one
 * and commits it at the second, so nothing is sent around it. Nothing calls back from inside pg_submit. Only pg*.c
 * meet libpq. Loop thread only. */
#pragma once
#include "common/base/clock.h"
#include "common/base/id.h"
#include <uv.h>

struct pg;
struct pg_batch;
struct pg_result; /* rows of one statement, binary format */

struct pg_options {
    uv_loop_t *loop;
    const char *url;          /* conninfo or URL */
    const char *application;  /* application_name */
    const char *settings;     /* more of the session's, as "-c name=value -c ..."; NULL: none */
    int statement_timeout_ms; /* 0: none */
    int idle_in_transaction_timeout_ms;
    int wait_ms;              /* how long a batch waits for a connection before ERR_UNAVAILABLE; 0: 5 s */
    int answer_timeout_ms;    /* a server silent for so long with a batch in flight counts as lost; 0: 30 s */
    bool prepared;            /* false behind a transaction pooler: unnamed statements, one batch at a time */
    void (*on_up)(void *ctx); /* connected and usable; may be NULL */
    void (*on_down)(void *ctx, const struct err *err);
    void *ctx;
};

/* Starts connecting; batches submitted while there is no connection wait for it. Faults in the URL come by on_down. */
struct pg *pg_new(const struct pg_options *options);
void pg_free(struct pg *pg); /* fails what is in flight with ERR_UNAVAILABLE; the loop must run once more */
bool pg_is_up(const struct pg *pg);
size_t pg_in_flight(const struct pg *pg); /* batches not yet answered */

/* Is the role of this connection fit for a service? Refuses superusers, BYPASSRLS and owners of any table
 * (ERR_FORBIDDEN). */
typedef void (*pg_role_fn)(void *ctx, enum err_code rc, const struct err *err);
void pg_check_role(struct pg *pg, pg_role_fn done, void *ctx);

struct pg_outcome {
    enum err_code rc;           /* ERR_OK: committed. ERR_STALE: raised by us with SQLSTATE RW001 (fencing).
                                 * ERR_CONFLICT: unique violation 23505. ERR_REFUSED_DATA: any other error of class 22
                                 * or 23. ERR_BUSY: deadlock, lock timeout, cancelled, out of disk or connections.
                                 * ERR_UNAVAILABLE: not connected or connection lost. ERR_INTERNAL: anything else. */
    bool unknown;               /* the connection broke after the commit was sent: it may or may not have happened */
    int failed_statement;       /* index of the statement that failed, -1 */
    size_t count;               /* statements */
    struct pg_result **results; /* one per statement when rc is ERR_OK; freed after the callback */
    struct wall_us db_now;      /* PostgreSQL's clock when the batch asked for it with pg_batch_sample_clock, else 0 */
    const struct err *err;      /* never NULL; SQLSTATE in it when PostgreSQL gave one */
};
typedef void (*pg_done_fn)(void *ctx, const struct pg_outcome *outcome);

/* A batch is built, submitted once, and owned by pg from then on. It is atomic; statements see those before them, and
 * each has a snapshot of its own (read committed). `transaction` says that it writes: counted, and only such a batch
 * can be unknown. */
struct pg_batch *pg_batch_new(bool transaction);
void pg_batch_free(struct pg_batch *batch); /* only when it was never submitted */
struct arena *pg_batch_arena(struct pg_batch *batch);

/* Parameters, binary. What they point to is copied by pg_add, unless `stable`: memory of the batch's arena. */
struct pg_param {
    uint32_t oid;
    const void *ptr; /* NULL: SQL NULL */
    int len;
    bool stable;
    char inline_[16];
};
struct pg_param pg_text(struct str s); /* STR_NONE: NULL; also for json (pg_json) */
struct pg_param pg_json(struct str s);
struct pg_param pg_bytea(struct str s);
struct pg_param pg_i16(int16_t n);
struct pg_param pg_i32(int32_t n);
struct pg_param pg_i64(int64_t n);
struct pg_param pg_bool(bool b);
struct pg_param pg_uuid(struct run_id id);
struct pg_param pg_time(struct wall_us t); /* 0: NULL */
struct pg_param pg_null(void);

/* Array columns for unnest(): filled value by value, then used as one parameter. */
struct pg_array;
enum pg_elem { PG_E_TEXT, PG_E_JSON, PG_E_BYTEA, PG_E_I16, PG_E_I32, PG_E_I64, PG_E_BOOL, PG_E_UUID, PG_E_TIME };
struct pg_array *pg_array_new(struct pg_batch *batch, enum pg_elem type);
void pg_array_add(struct pg_array *array, struct pg_param value); /* of the array's type or NULL */
size_t pg_array_count(const struct pg_array *array);
struct pg_param pg_array_param(struct pg_array *array);

#define pg_add(batch, sql, ...)                                                                                        \
    pg_batch_add((batch), (sql), (const struct pg_param[]){__VA_ARGS__},                                               \
                 sizeof((const struct pg_param[]){__VA_ARGS__}) / sizeof(struct pg_param))
int pg_batch_add(struct pg_batch *batch, const char *sql, const struct pg_param *params, size_t count); /* -> index */
int pg_batch_add0(struct pg_batch *batch, const char *sql); /* no parameters */
/* Sets ropewalk.organisation for the statements that follow in this transaction (row-level security). */
void pg_batch_organisation(struct pg_batch *batch, int32_t organisation);
/* The same for statements that read some rows by index, whatever their parameters are: they are planned once. */
void pg_batch_organisation_by_index(struct pg_batch *batch, int32_t organisation);
void pg_batch_sample_clock(struct pg_batch *batch); /* counts as a statement of its own, but not in results */

void pg_submit(struct pg *pg, struct pg_batch *batch, pg_done_fn done, void *ctx);

/* Result access; column by index, row by index. NULL gives 0 / STR_NONE / false. Views live until the callback ends. */
size_t pg_rows(const struct pg_result *res);
int64_t pg_affected(const struct pg_result *res);
bool pg_is_null(const struct pg_result *res, size_t row, int col);
int64_t pg_get_int(const struct pg_result *res, size_t row, int col); /* int2, int4, int8 */
double pg_get_double(const struct pg_result *res, size_t row, int col);
bool pg_get_bool(const struct pg_result *res, size_t row, int col);
struct str pg_get_str(const struct pg_result *res, size_t row, int col); /* text, json, bytea */
struct run_id pg_get_uuid(const struct pg_result *res, size_t row, int col);
struct wall_us pg_get_time(const struct pg_result *res, size_t row, int col);

/* Blocking, for start-up work without a loop (migrations). A session is one connection, search_path ropewalk. */
struct pg_session;
enum err_code pg_session_open(const char *url, struct pg_session **ret, struct err *err) MUST_CHECK;
void pg_session_close(struct pg_session *session); /* accepts NULL; rolls back what is open */
void pg_session_cleanup(struct pg_session **session);
/* Several statements without parameters; without BEGIN in them they are one transaction. */
enum err_code pg_session_script(struct pg_session *session, const char *sql, struct err *err) MUST_CHECK;
/* One statement; *ret is freed with pg_result_free and may be NULL when nobody looks. */
enum err_code pg_session_run(struct pg_session *session, const char *sql, const struct pg_param *params, size_t count,
                             struct pg_result **ret, struct err *err) MUST_CHECK;
void pg_result_free(struct pg_result *res);
/* All at once: connect, run, close. */
enum err_code pg_run_script(const char *url, const char *sql, struct err *err) MUST_CHECK;
