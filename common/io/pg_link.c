/* The socket of a connection: connecting, waking up for it, losing it and making it again.
 *
 *   CONNECTING --ok--> UP --lost--> WAITING --backoff--> CONNECTING --failed--> WAITING;  any --pg_free--> CLOSED
 */
#include "common/base/ensure.h"
#include "common/base/metrics.h"
#include "common/io/pg_internal.h"

#include "common/base/banned.h"

#define BACKOFF_MAX_MS 1000

static void on_poll(uv_poll_t *handle, int status, int events);

/* --- handles ------------------------------------------------------------------------------------------------------ */

static void on_poll_closed(uv_handle_t *handle)
{
    struct pg *pg = pg_of(handle->data);

    mem_free(handle);
    pg->open_handles--;
    pg_maybe_free(pg);
}

/* The handle goes before its socket does: libuv must not watch a number that was given to another file. */
void pg_poll_drop(struct pg *pg)
{
    if (pg->poll == NULL)
        return;
    uv_poll_stop(pg->poll);
    uv_close((uv_handle_t *)pg->poll, on_poll_closed);
    pg->poll = NULL;
    pg->poll_events = 0;
}

static bool poll_make(struct pg *pg)
{
    uv_poll_t *poll = mem_alloc(sizeof(*poll));

    if (uv_poll_init(pg->options.loop, poll, PQsocket(pg->conn)) != 0) {
        mem_free(poll);
        return false;
    }
    poll->data = pg;
    pg->open_handles++;
    pg->poll = poll;
    pg->poll_events = 0;
    return true;
}

void pg_poll_for(struct pg *pg, int events)
{
    if (pg->poll_events == events)
        return;
    pg->poll_events = events;
    ENSURE(uv_poll_start(pg->poll, events, on_poll) == 0);
}

/* --- losing a connection ------------------------------------------------------------------------------------------ */

static void drop_conn(struct pg *pg)
{
    pg_resolve_forget(pg);
    pg_poll_drop(pg);
    PQfinish(pg->conn);
    pg->conn = NULL;
    pg_stmts_forget(pg);
    arena_reset(pg->stmt_arena);
}

/* The first error of the batch says what happened to it. Without one a batch whose commit was sent is undecided, unless
 * the server ended in a statement before: it runs them in order. */
void pg_finish_lost(struct pg_batch *batch, const struct err *lost, bool server_ended)
{
    struct err err = batch->err.code != ERR_OK ? batch->err : *lost;
    bool undecided = batch->commit_sent && batch->transaction && batch->err.code == ERR_OK && !server_ended;

    pg_finish(batch, &err, undecided);
}

static void wait_and_retry(struct pg *pg)
{
    int jitter = (int)(random_u64() % (uint64_t)(pg->backoff_ms / 4 + 1));

    pg->state = PG_WAITING;
    uv_timer_start(&pg->timer, pg_on_timer, (uint64_t)pg->backoff_ms + (uint64_t)jitter, 0);
    pg->backoff_ms = pg->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : pg->backoff_ms * 2;
}

/* on_down once per loss, before the batches in flight are answered. */
void pg_lost(struct pg *pg, const struct err *err)
{
    struct pg_queue flight = pg->flight;
    bool tell = !pg->told_down;
    bool server_ended = pg->fatal;
    struct err copy = *err;

    if (flight.head == NULL)
        flight.tail = &flight.head;
    pg_queue_init(&pg->flight);
    drop_conn(pg);
    wait_and_retry(pg);
    pg->told_down = true;
    if (tell && pg->options.on_down != NULL)
        pg->options.on_down(pg->options.ctx, &copy);
    for (struct pg_batch *batch = pg_queue_pop(&flight); batch != NULL; batch = pg_queue_pop(&flight))
        pg_finish_lost(batch, &copy, server_ended);
}

static void lost_now(struct pg *pg, const char *what)
{
    struct err err;

    pg_error_from_conn(&err, pg->conn, what);
    pg_lost(pg, &err);
}

/* --- input and output --------------------------------------------------------------------------------------------- */

static void flush(struct pg *pg)
{
    int rc = PQflush(pg->conn);

    if (rc < 0) {
        /* what the server said before it closed is still to be read */
        if (PQconsumeInput(pg->conn) == 1)
            pg_read_answers(pg);
        if (pg->state == PG_UP)
            lost_now(pg, "lost the connection to PostgreSQL");
        return;
    }
    pg_poll_for(pg, rc == 1 ? UV_READABLE | UV_WRITABLE : UV_READABLE);
}

static void connect_step(struct pg *pg);

static void on_poll(uv_poll_t *handle, int status, int events)
{
    struct pg *pg = pg_of(handle->data);
    bool alive = true;

    if (pg->state == PG_CONNECTING) {
        connect_step(pg);
        return;
    }
    if (status < 0) /* a reset: libuv has stopped watching. What the server said before is read first, then its end. */
        pg->poll_events = 0;
    if (status < 0 || (events & UV_READABLE) != 0) {
        pg->heard_at = clock_mono();
        alive = PQconsumeInput(pg->conn) == 1 && PQstatus(pg->conn) != CONNECTION_BAD;
        pg_read_answers(pg);
    }
    if (pg->state != PG_UP || pg->poll != handle)
        return;
    if (!alive || PQstatus(pg->conn) == CONNECTION_BAD)
        lost_now(pg, "lost the connection to PostgreSQL");
    else
        flush(pg);
}

/* --- connecting --------------------------------------------------------------------------------------------------- */

static void connect_failed(struct pg *pg, const char *what)
{
    lost_now(pg, what);
}

static void connected(struct pg *pg)
{
    if (PQsetnonblocking(pg->conn, 1) != 0 || PQenterPipelineMode(pg->conn) != 1) {
        connect_failed(pg, "could not set up the connection to PostgreSQL");
        return;
    }
    uv_timer_stop(&pg->timer);
    pg->state = PG_UP;
    pg->backoff_ms = PG_BACKOFF_FIRST_MS;
    if (pg->told_down)
        metric_add(METRIC_PG_RECONNECTS, 1);
    pg->told_down = false;
    pg->fatal = false;
    pg->heard_at = clock_mono();
    pg_poll_for(pg, UV_READABLE);
    pg_send_pending(pg);
    if (pg->options.on_up != NULL)
        pg->options.on_up(pg->options.ctx);
}

/* libpq may change the socket in each step, and even give the new one the old number: the handle is made again. */
static void connect_step(struct pg *pg)
{
    PostgresPollingStatusType next;

    pg_poll_drop(pg);
    next = PQconnectPoll(pg->conn);
    if (next == PGRES_POLLING_FAILED || !poll_make(pg)) {
        connect_failed(pg, "could not connect to PostgreSQL");
        return;
    }
    if (next == PGRES_POLLING_OK)
        connected(pg);
    else
        pg_poll_for(pg, next == PGRES_POLLING_WRITING ? UV_WRITABLE : UV_READABLE);
}

static void ignore_notice(void *arg, const PGresult *res)
{
    (void)arg;
    (void)res;
}

/* Everything is known: `addresses` of `hosts`, or NULL where libpq needs none. */
void pg_connect_to(struct pg *pg, const char *hosts, const char *addresses)
{
    struct pg_conninfo info = {0};
    struct err err;

    if (pg_conninfo_parse(pg->options.url, &pg->options, &info, &err) != ERR_OK) {
        pg_lost(pg, &err);
        return;
    }
    if (addresses != NULL) {
        pg_conninfo_put(&info, "host", hosts);
        pg_conninfo_put(&info, "hostaddr", addresses);
    }
    pg->conn = PQconnectStartParams(info.keywords, info.values, 0);
    pg_conninfo_free(&info);
    if (pg->conn == NULL || PQstatus(pg->conn) == CONNECTION_BAD || !poll_make(pg)) {
        connect_failed(pg, "could not connect to PostgreSQL");
        return;
    }
    PQsetNoticeReceiver(pg->conn, ignore_notice, NULL);
    pg_poll_for(pg, UV_WRITABLE);
}

static void connect_start(struct pg *pg)
{
    struct pg_conninfo info = {0};
    const char *host;
    struct err err;

    pg->state = PG_CONNECTING;
    if (pg_conninfo_parse(pg->options.url, &pg->options, &info, &err) != ERR_OK) {
        pg_lost(pg, &err);
        return;
    }
    uv_timer_start(&pg->timer, pg_on_timer, (uint64_t)info.connect_timeout_ms, 0);
    host = pg_conninfo_name(&info);
    if (host != NULL)
        pg_resolve(pg, host);
    else
        pg_connect_to(pg, NULL, NULL);
    pg_conninfo_free(&info);
}

void pg_on_timer(uv_timer_t *timer)
{
    struct pg *pg = pg_of(timer->data);
    struct err err;

    switch (pg->state) {
    case PG_WAITING:
        connect_start(pg);
        break;
    case PG_CONNECTING:
        err_set_at(&err, ERR_UNAVAILABLE, __FILE__, __LINE__, "could not connect to PostgreSQL: no answer in time");
        pg_lost(pg, &err);
        break;
    case PG_UP: /* a send has failed */
        flush(pg);
        if (pg->state == PG_UP)
            lost_now(pg, "could not send to PostgreSQL");
        break;
    case PG_CLOSED:
        break;
    }
}
