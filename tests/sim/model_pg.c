/* A connection to PostgreSQL and a timer, as scheduler/lease*.c meet them: the functions of common/io/pg.h and of libuv
 * that they call, for the simulation. Statements are known by their text; they are carried out and answered in order,
 * each at a moment of its own, also when the one that asked has died meanwhile. */
#include "common/base/ensure.h"
#include "common/io/pg.h"
#include "rw_scheduler_sql.h"
#include "tests/sim/model_lease.h"

#include "common/base/banned.h"

#define STATEMENTS_MAX 2
#define PARAMS_MAX 4

static struct node *running; /* whose code runs: its clock is read */

void sim_clock_of(struct node *node)
{
    running = node;
}

struct mono_us sim_clock_mono(void)
{
    return (struct mono_us){running->sim->now + running->mono_base};
}

/* ---- timers ---- */

struct alarm {
    uv_timer_t *timer;
    unsigned number;
};

static struct node *node_of(const uv_loop_t *loop)
{
    return loop->data;
}

int uv_timer_init(uv_loop_t *loop, uv_timer_t *timer)
{
    timer->loop = loop;
    timer->start_id = 0;
    return 0;
}

static void alarm_rings(struct sim *sim, void *what)
{
    struct alarm *alarm = what;

    (void)sim;
    if (alarm->timer->start_id != alarm->number)
        return;
    running = node_of(alarm->timer->loop);
    alarm->timer->timer_cb(alarm->timer);
}

int uv_timer_start(uv_timer_t *timer, uv_timer_cb fn, uint64_t timeout, uint64_t repeat)
{
    struct node *node = node_of(timer->loop);
    struct alarm *alarm = sim_new(node->sim, struct alarm);

    ENSURE(repeat == 0);
    timer->timer_cb = fn;
    *alarm = (struct alarm){timer, (unsigned)++timer->start_id};
    sim_at(node->sim, node->sim->now + (int64_t)timeout * MS, node, alarm_rings, alarm);
    return 0;
}

int uv_timer_stop(uv_timer_t *timer)
{
    timer->start_id++;
    return 0;
}

void uv_close(uv_handle_t *handle, uv_close_cb closed)
{
    closed(handle);
}

/* ---- batches ---- */

struct param {
    struct str text;
    int64_t number;
    struct run_id id;
    const struct pg_array *array;
};
struct pg_array {
    size_t count;
    int16_t shards[SHARDS];
};
struct statement {
    const char *sql;
    struct param params[PARAMS_MAX];
};
struct pg_result {
    size_t rows;
    int64_t cells[SHARDS * TICK_COLUMNS];
};
struct pg_batch {
    size_t count;
    struct statement statements[STATEMENTS_MAX];
    struct pg_result results[STATEMENTS_MAX];
};
struct request {
    struct request *next;
    struct pg *pg;
    struct node *node;
    struct pg_batch *batch;
    pg_done_fn done;
    void *ctx;
    bool answered, good;
};
struct pg {
    struct node *node;
    struct request *requests; /* not answered */
    int64_t sent_at, answered_at;
};

struct pg_batch *pg_batch_new(bool transaction)
{
    (void)transaction;
    return sim_new(running->sim, struct pg_batch);
}

struct pg_array *pg_array_new(struct pg_batch *batch, enum pg_elem type)
{
    (void)batch;
    ENSURE(type == PG_E_I16);
    return sim_new(running->sim, struct pg_array);
}

void pg_array_add(struct pg_array *array, struct pg_param value)
{
    ENSURE(array->count < SHARDS);
    memcpy(&array->shards[array->count++], value.inline_, sizeof(int16_t));
}

enum { KIND_TEXT = 1, KIND_NUMBER, KIND_ID, KIND_ARRAY };

struct pg_param pg_array_param(struct pg_array *array)
{
    return (struct pg_param){.oid = KIND_ARRAY, .ptr = array};
}

struct pg_param pg_text(struct str s)
{
    return (struct pg_param){.oid = KIND_TEXT, .ptr = s.ptr, .len = (int)s.len};
}

struct pg_param pg_json(struct str s)
{
    return pg_text(s);
}

static struct pg_param inline_param(uint32_t kind, const void *ptr, size_t len)
{
    struct pg_param param = {.oid = kind, .len = (int)len};

    memcpy(param.inline_, ptr, len);
    return param;
}

struct pg_param pg_uuid(struct run_id id)
{
    return inline_param(KIND_ID, &id, sizeof(id));
}

struct pg_param pg_i16(int16_t n)
{
    return inline_param(KIND_NUMBER, &n, sizeof(n));
}

struct pg_param pg_i32(int32_t n)
{
    return inline_param(KIND_NUMBER, &n, sizeof(n));
}

static struct param take_param(struct sim *sim, const struct pg_param *from)
{
    struct param param = {.array = from->oid == KIND_ARRAY ? from->ptr : NULL};
    int32_t number = 0;
    int16_t small = 0;

    if (from->oid == KIND_TEXT)
        param.text = str_arena(sim->arena, (struct str){from->ptr, (size_t)from->len});
    if (from->oid == KIND_ID)
        memcpy(&param.id, from->inline_, sizeof(param.id));
    if (from->oid == KIND_NUMBER && from->len == (int)sizeof(number))
        memcpy(&number, from->inline_, sizeof(number));
    if (from->oid == KIND_NUMBER && from->len == (int)sizeof(small))
        memcpy(&small, from->inline_, sizeof(small));
    param.number = number + small;
    return param;
}

int pg_batch_add(struct pg_batch *batch, const char *sql, const struct pg_param *params, size_t count)
{
    struct statement *statement = &batch->statements[batch->count];

    ENSURE(batch->count < STATEMENTS_MAX && count <= PARAMS_MAX);
    statement->sql = sql;
    for (size_t i = 0; i < count; i++)
        statement->params[i] = take_param(running->sim, &params[i]);
    return (int)batch->count++;
}

int pg_batch_add0(struct pg_batch *batch, const char *sql)
{
    return pg_batch_add(batch, sql, NULL, 0);
}

/* ---- at the server ---- */

static size_t carry_out(struct sim *sim, const struct statement *s, int64_t *cells)
{
    const struct param *p = s->params;

    if (s->sql == SQL_SCHEDULER_TICK)
        return rows_tick(sim, p[0].id, p[1].number, cells);
    if (s->sql == SQL_SHARD_TAKE)
        return rows_take(sim, p[1].id, p[2].array->shards, p[2].array->count, cells);
    if (s->sql == SQL_SCHEDULER_REGISTER)
        return rows_register(sim, p[0].text, p[1].id, p[2].number, (int)p[3].number);
    if (s->sql == SQL_SHARD_HOLDERS_END)
        return rows_end_holders(sim, p[0].array->shards, p[0].array->count);
    if (s->sql == SQL_SHARD_RELEASE)
        rows_release(sim, p[0].id, p[1].array->shards, p[1].array->count);
    else if (s->sql == SQL_SHARD_NEEDS)
        rows_needs(sim, p[0].id, (int16_t)p[1].number, (int)p[2].number);
    else if (s->sql == SQL_SCHEDULER_FORGET)
        rows_forget(sim);
    else if (s->sql == SQL_SHARD_RELEASE_ALL)
        rows_release_all(sim, p[0].id);
    else if (s->sql == SQL_SCHEDULER_LEAVE)
        rows_leave(sim, p[0].id);
    else
        sim_fail(sim, "the model of PostgreSQL does not know this statement of a lease: %.60s", s->sql);
    return 0;
}

static void answer(struct request *request, bool good)
{
    static const struct err ok = {.code = ERR_OK}, lost = {.code = ERR_UNAVAILABLE, .message = "connection lost"};
    struct pg_result *results[STATEMENTS_MAX];
    struct pg_outcome outcome = {.rc = good ? ERR_OK : ERR_UNAVAILABLE,
                                 .failed_statement = -1,
                                 .count = request->batch->count,
                                 .results = results,
                                 .err = good ? &ok : &lost};

    for (size_t i = 0; i < STATEMENTS_MAX; i++)
        results[i] = &request->batch->results[i];
    request->answered = true;
    running = request->node;
    request->done(request->ctx, &outcome);
}

static void answered(struct sim *sim, void *what)
{
    struct request *request = what;
    struct request **at;

    (void)sim;
    if (request->answered)
        return;
    at = &request->pg->requests;
    while (*at != request)
        at = &(*at)->next;
    *at = request->next;
    answer(request, request->good);
    node_turn(request->node);
}

/* In order, whatever the delay of each. */
static int64_t in_order(struct sim *sim, int64_t *last, int64_t low, int64_t high)
{
    int64_t at = sim->now + rng_between(&sim->rng, low, high);

    *last = at > *last ? at : *last;
    return *last;
}

static void arrived(struct sim *sim, void *what)
{
    struct request *request = what;
    bool up = sim->db.down_until <= sim->now;
    bool lost = up && sim_chances(sim, DECIDE_LEASE, sim->unknown_commit); /* carried out or not, nobody is told */

    if (up && (!lost || rng_chance(&sim->streams[DECIDE_LEASE], 5000)))
        for (size_t i = 0; i < request->batch->count; i++)
            request->batch->results[i].rows =
                carry_out(sim, &request->batch->statements[i], request->batch->results[i].cells);
    request->good = up && !lost;
    if (request->answered)
        return;
    sim_at(sim, in_order(sim, &request->pg->answered_at, 50, request->good ? 2 * MS : SEC), request->node, answered,
           request);
}

void pg_submit(struct pg *pg, struct pg_batch *batch, pg_done_fn done, void *ctx)
{
    struct sim *sim = pg->node->sim;
    struct request *request = sim_new(sim, struct request);

    *request =
        (struct request){.next = pg->requests, .pg = pg, .node = pg->node, .batch = batch, .done = done, .ctx = ctx};
    pg->requests = request;
    sim_at(sim, in_order(sim, &pg->sent_at, 50, MS), NULL, arrived, request);
}

/* ---- connections ---- */

struct pg *pg_new(const struct pg_options *options)
{
    struct node *node = node_of(options->loop);
    struct pg *pg = sim_new(node->sim, struct pg);

    running = node;
    pg->node = node;
    options->on_up(options->ctx);
    return pg;
}

void pg_free(struct pg *pg)
{
    while (pg->requests != NULL) {
        struct request *request = pg->requests;

        pg->requests = request->next;
        answer(request, false);
    }
}

/* ---- answers ---- */

size_t pg_rows(const struct pg_result *res)
{
    return res->rows;
}

int64_t pg_get_int(const struct pg_result *res, size_t row, int col)
{
    return res->cells[row * TICK_COLUMNS + (size_t)col];
}

bool pg_is_null(const struct pg_result *res, size_t row, int col)
{
    return pg_get_int(res, row, col) == CELL_NULL;
}

bool pg_get_bool(const struct pg_result *res, size_t row, int col)
{
    return pg_get_int(res, row, col) != 0;
}

struct wall_us pg_get_time(const struct pg_result *res, size_t row, int col)
{
    return (struct wall_us){pg_get_int(res, row, col)};
}
