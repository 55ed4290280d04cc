/* What the pg*.c files share. pg.c: the connection as its user sees it. pg_link.c: its socket, connecting and losing
 * it. pg_resolve.c: names of hosts. pg_connect.c: what a connection is opened with. pg_read.c: answers. pg_batch.c:
 * parameters, arrays, building and sending a batch. pg_result.c: rows, and PostgreSQL's errors turned into ours.
 * pg_role.c: is a role fit for a service. pg_session.c: the blocking connection. */
#pragma once
#include "common/base/ensure.h"
#include "common/io/pg.h"
#include <libpq-fe.h>

#define PG_PARAMS_MAX 64

enum pg_oid {
    OID_BOOL = 16,
    OID_BYTEA = 17,
    OID_INT8 = 20,
    OID_INT2 = 21,
    OID_INT4 = 23,
    OID_TEXT = 25,
    OID_JSON = 114,
    OID_TIMESTAMPTZ = 1184,
    OID_UUID = 2950,
    OID_JSONB = 3802,
};

/* A prepared statement of one connection; a text used with other types is another statement. */
struct pg_stmt {
    struct pg_stmt *next;
    const char *sql; /* compared by address */
    size_t count;
    const uint32_t *oids;
    char name[16];
    bool dead; /* PREPARE failed */
};
#define PG_STMT_BUCKETS 64

struct pg_op {
    enum pg_op_kind { PG_OP_STATEMENT, PG_OP_SETTING, PG_OP_CLOCK } kind;
    const char *sql;
    size_t count;
    uint32_t *oids;
    const char **values;
    int *lens;
    int index; /* of the statement, -1 for what the caller does not see */
};

struct pg_batch {
    struct pg_batch *next;
    struct arena *arena;
    bool transaction;
    struct pg_op *ops;
    size_t op_count, op_cap;
    size_t statements;
    pg_done_fn done;
    void *ctx;
    struct mono_us submitted_at;
    /* on the wire */
    struct pg_stmt *
        *prepares; /* a section of their own in front of the batch, so that one outlives the batch's failure */
    size_t prepare_count;
    bool preparing;
    bool commit_sent;
    size_t pos; /* prepare or op whose answer is awaited */
    PGresult **results;
    struct wall_us db_now;
    int failed_statement;
    struct err err; /* the first error; code ERR_OK: none */
};

struct pg_queue {
    struct pg_batch *head, **tail;
    size_t count;
};

enum pg_state { PG_CONNECTING, PG_UP, PG_WAITING, PG_CLOSED };

struct pg {
    uint32_t magic;
    struct pg_options options; /* strings are copies */
    enum pg_state state;
    PGconn *conn;
    struct pg_lookup *lookup; /* NULL: none */
    uv_poll_t *poll;          /* NULL: none */
    int poll_events;
    uv_timer_t timer; /* connect timeout while connecting, backoff while waiting, 0 ms for "lost" found in a submit */
    uv_timer_t watch; /* runs while batches wait or are in flight */
    unsigned open_handles;
    int backoff_ms;
    bool told_down;
    bool fatal; /* the server said FATAL in the middle of a batch: what was sent behind it has not run */
    bool freeing;
    struct pg_queue pending, flight;
    struct mono_us heard_at; /* last bytes from the server, or the moment when the first batch went out */
    struct arena *stmt_arena;
    struct pg_stmt *stmts[PG_STMT_BUCKETS];
    unsigned stmt_number;
};

/* pg.c */
#define PG_MAGIC 0x70676c6bU
#define PG_BACKOFF_FIRST_MS 50
static inline struct pg *pg_of(void *ptr)
{
    struct pg *pg = ptr;

    ENSURE(pg != NULL && pg->magic == PG_MAGIC);
    return pg;
}
void pg_queue_init(struct pg_queue *queue);
void pg_queue_push(struct pg_queue *queue, struct pg_batch *batch);
struct pg_batch *pg_queue_pop(struct pg_queue *queue);
/* Tells the caller and frees the batch. */
void pg_finish(struct pg_batch *batch, const struct err *err, bool unknown);
void pg_send_pending(struct pg *pg);
void pg_maybe_free(struct pg *pg); /* when it is closed and its last handle has gone */
/* pg_link.c */
void pg_poll_drop(struct pg *pg);
void pg_poll_for(struct pg *pg, int events);
void pg_lost(struct pg *pg, const struct err *err);
void pg_finish_lost(struct pg_batch *batch, const struct err *lost, bool server_ended);
void pg_on_timer(uv_timer_t *timer);
void pg_connect_to(struct pg *pg, const char *hosts, const char *addresses);
/* pg_read.c */
void pg_read_answers(struct pg *pg);
/* pg_batch.c */
bool pg_batch_send(struct pg *pg, struct pg_batch *batch); /* false: the connection is gone */
void pg_batch_prepend_path(struct pg_batch *batch);
void pg_stmts_forget(struct pg *pg);
/* pg_connect.c */
struct pg_conninfo {
    PQconninfoOption *parsed;
    const char **keywords, **values; /* NULL at the end */
    size_t count;
    struct arena *arena;
    int connect_timeout_ms;
};
enum err_code pg_conninfo_parse(const char *url, const struct pg_options *options, struct pg_conninfo *ret,
                                struct err *err) MUST_CHECK;
void pg_conninfo_free(struct pg_conninfo *info);
/* Adds a word, or takes the place of one that is there. At most 4; the value must live until the info is used. */
void pg_conninfo_put(struct pg_conninfo *info, const char *keyword, const char *value);
/* The one name of a host that has to be looked up; NULL: an address, a socket, several hosts (those are libpq's). */
const char *pg_conninfo_name(const struct pg_conninfo *info);
/* pg_resolve.c */
void pg_resolve(struct pg *pg, const char *host); /* then pg_connect_to or pg_lost, from the loop */
void pg_resolve_forget(struct pg *pg);            /* nothing comes of what is under way */
/* pg_result.c */
enum err_code pg_error_code(const char *sqlstate);
void pg_error_from_result(struct err *err, const PGresult *res);
void pg_error_from_conn(struct err *err, const PGconn *conn, const char *what);
struct wall_us pg_time_decode(const char *bytes);
