/* The asynchronous connection: connecting, reading answers, losing and making again. What it sends is in pg_batch.c.
 *
 *   CONNECTING --ok--> UP --lost--> WAITING --backoff--> CONNECTING --failed--> WAITING;  any --pg_free--> CLOSED
 *
 * Batches wait in `pending` until they are sent, then in `flight` in the order of their answers. Callbacks may submit
 * and may free the connection; every loop that calls back looks at `state` afterwards. */
#include "common/io/pg.h"
#include "common/base/ensure.h"
#include "common/base/metrics.h"
#include "common/io/pg_internal.h"
#include "rw_pg_sql.h"

#include "common/base/banned.h"

#define PG_MAGIC 0x70676c6bU
#define BACKOFF_FIRST_MS 50
#define BACKOFF_MAX_MS 1000
#define WATCH_MS 100
#define WAIT_DEFAULT_MS 5000
#define ANSWER_DEFAULT_MS 30000

static void on_poll(uv_poll_t *handle, int status, int events);
static void on_timer(uv_timer_t *timer);
static void on_watch(uv_timer_t *timer);

static struct pg *pg_of(void *ptr)
{
    struct pg *pg = ptr;

    ENSURE(pg != NULL && pg->magic == PG_MAGIC);
    return pg;
}

/* --- queues ------------------------------------------------------------------------------------------------------- */

static void queue_init(struct pg_queue *queue)
{
    *queue = (struct pg_queue){.tail = &queue->head};
}

static void queue_push(struct pg_queue *queue, struct pg_batch *batch)
{
    batch->next = NULL;
    *queue->tail = batch;
    queue->tail = &batch->next;
    queue->count++;
}

static struct pg_batch *queue_pop(struct pg_queue *queue)
{
    struct pg_batch *batch = queue->head;

    if (batch == NULL)
        return NULL;
    queue->head = batch->next;
    if (queue->head == NULL)
        queue->tail = &queue->head;
    queue->count--;
    return batch;
}

/* Tells the caller and frees the batch. */
static void finish(struct pg_batch *batch, const struct err *err, bool unknown)
{
    struct pg_outcome outcome = {
        .rc = err->code,
        .unknown = unknown,
        .failed_statement = err->code == ERR_OK ? -1 : batch->failed_statement,
        .count = batch->statements,
        .results = (struct pg_result **)batch->results,
        .db_now = batch->db_now,
        .err = err,
    };

    batch->done(batch->ctx, &outcome);
    pg_batch_free(batch);
}

/* --- handles ------------------------------------------------------------------------------------------------------ */

static void maybe_free(struct pg *pg)
{
    if (pg->state != PG_CLOSED || pg->open_handles > 0)
        return;
    arena_free(pg->stmt_arena);
    mem_free((char *)pg->options.url);
    mem_free((char *)pg->options.application);
    mem_free((char *)pg->options.settings);
    pg->magic = 0;
    mem_free(pg);
}

static void on_poll_closed(uv_handle_t *handle)
{
    struct pg *pg = pg_of(handle->data);

    mem_free(handle);
    pg->open_handles--;
    maybe_free(pg);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct pg *pg = pg_of(handle->data);

    pg->open_handles--;
    maybe_free(pg);
}

/* The handle goes before its socket does: libuv must not watch a number that was given to another file. */
static void poll_drop(struct pg *pg)
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

static void poll_for(struct pg *pg, int events)
{
    if (pg->poll_events == events)
        return;
    pg->poll_events = events;
    ENSURE(uv_poll_start(pg->poll, events, on_poll) == 0);
}

/* --- losing a connection ------------------------------------------------------------------------------------------ */

static void drop_conn(struct pg *pg)
{
    poll_drop(pg);
    PQfinish(pg->conn);
    pg->conn = NULL;
    pg_stmts_forget(pg);
    arena_reset(pg->stmt_arena);
}

/* The first error of the batch says what happened to it. Without one a batch whose commit was sent is undecided, unless
 * the server ended in a statement before: it runs them in order. */
static void finish_lost(struct pg_batch *batch, const struct err *lost, bool server_ended)
{
    struct err err = batch->err.code != ERR_OK ? batch->err : *lost;
    bool undecided = batch->commit_sent && batch->transaction && batch->err.code == ERR_OK && !server_ended;

    finish(batch, &err, undecided);
}

static void wait_and_retry(struct pg *pg)
{
    int jitter = (int)(random_u64() % (uint64_t)(pg->backoff_ms / 4 + 1));

    pg->state = PG_WAITING;
    uv_timer_start(&pg->timer, on_timer, (uint64_t)(pg->backoff_ms + jitter), 0);
    pg->backoff_ms = pg->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : pg->backoff_ms * 2;
}

/* on_down once per loss, before the batches in flight are answered. */
static void lost(struct pg *pg, const struct err *err)
{
    struct pg_queue flight = pg->flight;
    bool tell = !pg->told_down;
    bool server_ended = pg->fatal;
    struct err copy = *err;

    if (flight.head == NULL)
        flight.tail = &flight.head;
    queue_init(&pg->flight);
    drop_conn(pg);
    wait_and_retry(pg);
    pg->told_down = true;
    if (tell && pg->options.on_down != NULL)
        pg->options.on_down(pg->options.ctx, &copy);
    for (struct pg_batch *batch = queue_pop(&flight); batch != NULL; batch = queue_pop(&flight))
        finish_lost(batch, &copy, server_ended);
}

static void lost_now(struct pg *pg, const char *what)
{
    struct err err;

    pg_error_from_conn(&err, pg->conn, what);
    lost(pg, &err);
}

/* --- answers ------------------------------------------------------------------------------------------------------ */

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

static void send_pending(struct pg *pg);

/* The end of a section: of the prepares in front of a batch, or of the batch. */
static void note_sync(struct pg *pg, struct pg_batch *batch)
{
    if (batch->preparing) {
        batch->preparing = false;
        batch->pos = 0;
        return;
    }
    queue_pop(&pg->flight);
    send_pending(pg); /* behind a pooler the next had to wait; elsewhere nothing is pending */
    finish(batch, &batch->err, false);
}

static void read_answers(struct pg *pg)
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

static void flush(struct pg *pg)
{
    int rc = PQflush(pg->conn);

    if (rc < 0) {
        /* what the server said before it closed is still to be read */
        if (PQconsumeInput(pg->conn) == 1)
            read_answers(pg);
        if (pg->state == PG_UP)
            lost_now(pg, "lost the connection to PostgreSQL");
        return;
    }
    poll_for(pg, rc == 1 ? UV_READABLE | UV_WRITABLE : UV_READABLE);
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
    if (status < 0 || (events & UV_READABLE) != 0) {
        pg->heard_at = clock_mono();
        alive = PQconsumeInput(pg->conn) == 1 && PQstatus(pg->conn) != CONNECTION_BAD;
        read_answers(pg);
    }
    if (pg->state != PG_UP || pg->poll != handle)
        return;
    if (!alive || PQstatus(pg->conn) == CONNECTION_BAD)
        lost_now(pg, "lost the connection to PostgreSQL");
    else
        flush(pg);
}

/* --- submitting --------------------------------------------------------------------------------------------------- */

static void watch_on(struct pg *pg)
{
    if (!uv_is_active((uv_handle_t *)&pg->watch))
        uv_timer_start(&pg->watch, on_watch, WATCH_MS, WATCH_MS);
}

/* Sends what may be sent. A connection that breaks here is found broken by the timer: no callback from a submit. */
static void send_pending(struct pg *pg)
{
    while (pg->state == PG_UP && pg->pending.head != NULL && (pg->options.prepared || pg->flight.head == NULL)) {
        struct pg_batch *batch = queue_pop(&pg->pending);

        if (pg->flight.head == NULL)
            pg->heard_at = clock_mono();
        queue_push(&pg->flight, batch);
        if (!pg_batch_send(pg, batch) || PQstatus(pg->conn) == CONNECTION_BAD) {
            uv_timer_start(&pg->timer, on_timer, 0, 0);
            return;
        }
        if (PQflush(pg->conn) != 0)
            poll_for(pg, UV_READABLE | UV_WRITABLE);
    }
}

void pg_submit(struct pg *pg, struct pg_batch *batch, pg_done_fn done, void *ctx)
{
    ENSURE(pg->magic == PG_MAGIC && done != NULL && batch->op_count > 0 && batch->done == NULL);
    batch->done = done;
    batch->ctx = ctx;
    batch->submitted_at = clock_mono();
    if (!pg->options.prepared)
        pg_batch_prepend_path(batch);
    ENSURE(pg->state != PG_CLOSED || pg->freeing);
    queue_push(&pg->pending, batch);
    if (pg->state == PG_CLOSED)
        return; /* from a callback of pg_free, which takes it from there */
    watch_on(pg);
    send_pending(pg);
}

/* Batches that waited too long for a connection, and a server that is silent for too long. */
static void on_watch(uv_timer_t *timer)
{
    struct pg *pg = pg_of(timer->data);
    struct mono_us now = clock_mono();
    struct err err;

    if (pg->flight.head != NULL && pg->state == PG_UP &&
        now.us - pg->heard_at.us > pg->options.answer_timeout_ms * US_PER_MS) {
        err_set_at(&err, ERR_UNAVAILABLE, __FILE__, __LINE__, "PostgreSQL has not answered for %d ms",
                   pg->options.answer_timeout_ms);
        lost(pg, &err);
    }
    while (pg->state != PG_CLOSED && pg->state != PG_UP && pg->pending.head != NULL &&
           now.us - pg->pending.head->submitted_at.us > pg->options.wait_ms * US_PER_MS) {
        err_set_at(&err, ERR_UNAVAILABLE, __FILE__, __LINE__, "no connection to PostgreSQL");
        finish(queue_pop(&pg->pending), &err, false);
    }
    if (pg->state != PG_CLOSED && pg->flight.head == NULL && pg->pending.head == NULL)
        uv_timer_stop(&pg->watch);
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
    pg->backoff_ms = BACKOFF_FIRST_MS;
    if (pg->told_down)
        metric_add(METRIC_PG_RECONNECTS, 1);
    pg->told_down = false;
    pg->fatal = false;
    pg->heard_at = clock_mono();
    poll_for(pg, UV_READABLE);
    send_pending(pg);
    if (pg->options.on_up != NULL)
        pg->options.on_up(pg->options.ctx);
}

/* libpq may change the socket in each step, and even give the new one the old number: the handle is made again. */
static void connect_step(struct pg *pg)
{
    PostgresPollingStatusType next;

    poll_drop(pg);
    next = PQconnectPoll(pg->conn);
    if (next == PGRES_POLLING_FAILED || !poll_make(pg)) {
        connect_failed(pg, "could not connect to PostgreSQL");
        return;
    }
    if (next == PGRES_POLLING_OK)
        connected(pg);
    else
        poll_for(pg, next == PGRES_POLLING_WRITING ? UV_WRITABLE : UV_READABLE);
}

static void ignore_notice(void *arg, const PGresult *res)
{
    (void)arg;
    (void)res;
}

static void connect_start(struct pg *pg)
{
    struct pg_conninfo info = {0};
    struct err err;

    pg->state = PG_CONNECTING;
    if (pg_conninfo_parse(pg->options.url, &pg->options, &info, &err) != ERR_OK) {
        lost(pg, &err);
        return;
    }
    pg->conn = PQconnectStartParams(info.keywords, info.values, 0);
    uv_timer_start(&pg->timer, on_timer, (uint64_t)info.connect_timeout_ms, 0);
    pg_conninfo_free(&info);
    if (pg->conn == NULL || PQstatus(pg->conn) == CONNECTION_BAD || !poll_make(pg)) {
        connect_failed(pg, "could not connect to PostgreSQL");
        return;
    }
    PQsetNoticeReceiver(pg->conn, ignore_notice, NULL);
    poll_for(pg, UV_WRITABLE);
}

static void on_timer(uv_timer_t *timer)
{
    struct pg *pg = pg_of(timer->data);
    struct err err;

    switch (pg->state) {
    case PG_WAITING:
        connect_start(pg);
        break;
    case PG_CONNECTING:
        err_set_at(&err, ERR_UNAVAILABLE, __FILE__, __LINE__, "could not connect to PostgreSQL: no answer in time");
        lost(pg, &err);
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

/* --- life --------------------------------------------------------------------------------------------------------- */

struct pg *pg_new(const struct pg_options *options)
{
    struct pg *pg = mem_alloc(sizeof(*pg));

    pg->magic = PG_MAGIC;
    pg->options = *options;
    pg->options.url = mem_strdup(options->url);
    pg->options.application = options->application == NULL ? NULL : mem_strdup(options->application);
    pg->options.settings = options->settings == NULL ? NULL : mem_strdup(options->settings);
    if (pg->options.wait_ms <= 0)
        pg->options.wait_ms = WAIT_DEFAULT_MS;
    if (pg->options.answer_timeout_ms <= 0)
        pg->options.answer_timeout_ms = ANSWER_DEFAULT_MS;
    pg->stmt_arena = arena_new(4096);
    pg->backoff_ms = BACKOFF_FIRST_MS;
    queue_init(&pg->pending);
    queue_init(&pg->flight);
    ENSURE(uv_timer_init(options->loop, &pg->timer) == 0 && uv_timer_init(options->loop, &pg->watch) == 0);
    pg->timer.data = pg;
    pg->watch.data = pg;
    pg->open_handles = 2;
    pg->state = PG_WAITING;
    uv_timer_start(&pg->timer, on_timer, 0, 0); /* the first attempt from the loop: nothing calls back from here */
    return pg;
}

void pg_free(struct pg *pg)
{
    struct err err;

    if (pg == NULL)
        return;
    ENSURE(pg->magic == PG_MAGIC && pg->state != PG_CLOSED);
    pg->state = PG_CLOSED;
    pg->freeing = true;
    poll_drop(pg);
    PQfinish(pg->conn);
    pg->conn = NULL;
    err_set_at(&err, ERR_UNAVAILABLE, __FILE__, __LINE__, "the connection to PostgreSQL is being closed");
    for (struct pg_batch *batch = queue_pop(&pg->flight); batch != NULL; batch = queue_pop(&pg->flight))
        finish_lost(batch, &err, pg->fatal);
    for (struct pg_batch *batch = queue_pop(&pg->pending); batch != NULL; batch = queue_pop(&pg->pending))
        finish(batch, &err, false);
    pg->freeing = false;
    uv_close((uv_handle_t *)&pg->timer, on_timer_closed);
    uv_close((uv_handle_t *)&pg->watch, on_timer_closed);
}

bool pg_is_up(const struct pg *pg)
{
    return pg->state == PG_UP;
}

size_t pg_in_flight(const struct pg *pg)
{
    return pg->pending.count + pg->flight.count;
}
