/* A connection as its user sees it: made, given batches, freed. Its socket is pg_link.c's, its answers are pg_read.c's,
 * and what it sends is in pg_batch.c.
 *
 * Batches wait in `pending` until they are sent, then in `flight` in the order of their answers. Callbacks may submit
 * and may free the connection; every loop that calls back looks at `state` afterwards. */
#include "common/io/pg.h"
#include "common/base/ensure.h"
#include "common/io/pg_internal.h"

#include "common/base/banned.h"

#define WATCH_MS 100
#define WAIT_DEFAULT_MS 5000
#define ANSWER_DEFAULT_MS 30000

static void on_watch(uv_timer_t *timer);

/* --- queues ------------------------------------------------------------------------------------------------------- */

void pg_queue_init(struct pg_queue *queue)
{
    *queue = (struct pg_queue){.tail = &queue->head};
}

void pg_queue_push(struct pg_queue *queue, struct pg_batch *batch)
{
    batch->next = NULL;
    *queue->tail = batch;
    queue->tail = &batch->next;
    queue->count++;
}

struct pg_batch *pg_queue_pop(struct pg_queue *queue)
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
void pg_finish(struct pg_batch *batch, const struct err *err, bool unknown)
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

/* --- submitting --------------------------------------------------------------------------------------------------- */

static void watch_on(struct pg *pg)
{
    if (!uv_is_active((uv_handle_t *)&pg->watch))
        uv_timer_start(&pg->watch, on_watch, WATCH_MS, WATCH_MS);
}

/* Sends what may be sent. A connection that breaks here is found broken by the timer: no callback from a submit. */
void pg_send_pending(struct pg *pg)
{
    while (pg->state == PG_UP && pg->pending.head != NULL && (pg->options.prepared || pg->flight.head == NULL)) {
        struct pg_batch *batch = pg_queue_pop(&pg->pending);

        if (pg->flight.head == NULL)
            pg->heard_at = clock_mono();
        pg_queue_push(&pg->flight, batch);
        if (!pg_batch_send(pg, batch) || PQstatus(pg->conn) == CONNECTION_BAD) {
            uv_timer_start(&pg->timer, pg_on_timer, 0, 0);
            return;
        }
        if (PQflush(pg->conn) != 0)
            pg_poll_for(pg, UV_READABLE | UV_WRITABLE);
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
    pg_queue_push(&pg->pending, batch);
    if (pg->state == PG_CLOSED)
        return; /* from a callback of pg_free, which takes it from there */
    watch_on(pg);
    pg_send_pending(pg);
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
        pg_lost(pg, &err);
    }
    while (pg->state != PG_CLOSED && pg->state != PG_UP && pg->pending.head != NULL &&
           now.us - pg->pending.head->submitted_at.us > pg->options.wait_ms * US_PER_MS) {
        err_set_at(&err, ERR_UNAVAILABLE, __FILE__, __LINE__, "no connection to PostgreSQL");
        pg_finish(pg_queue_pop(&pg->pending), &err, false);
    }
    if (pg->state != PG_CLOSED && pg->flight.head == NULL && pg->pending.head == NULL)
        uv_timer_stop(&pg->watch);
}

/* --- life --------------------------------------------------------------------------------------------------------- */

void pg_maybe_free(struct pg *pg)
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

static void on_timer_closed(uv_handle_t *handle)
{
    struct pg *pg = pg_of(handle->data);

    pg->open_handles--;
    pg_maybe_free(pg);
}

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
    pg->backoff_ms = PG_BACKOFF_FIRST_MS;
    pg_queue_init(&pg->pending);
    pg_queue_init(&pg->flight);
    ENSURE(uv_timer_init(options->loop, &pg->timer) == 0 && uv_timer_init(options->loop, &pg->watch) == 0);
    pg->timer.data = pg;
    pg->watch.data = pg;
    pg->open_handles = 2;
    pg->state = PG_WAITING;
    uv_timer_start(&pg->timer, pg_on_timer, 0, 0); /* the first attempt from the loop: nothing calls back from here */
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
    pg_resolve_forget(pg);
    pg_poll_drop(pg);
    PQfinish(pg->conn);
    pg->conn = NULL;
    err_set_at(&err, ERR_UNAVAILABLE, __FILE__, __LINE__, "the connection to PostgreSQL is being closed");
    for (struct pg_batch *batch = pg_queue_pop(&pg->flight); batch != NULL; batch = pg_queue_pop(&pg->flight))
        pg_finish_lost(batch, &err, pg->fatal);
    for (struct pg_batch *batch = pg_queue_pop(&pg->pending); batch != NULL; batch = pg_queue_pop(&pg->pending))
        pg_finish(batch, &err, false);
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
