/* See bulk_rerun.h. */
#include "gateway/bulk_rerun.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/json_text.h"
#include "common/base/log.h"
#include "gateway/bulk.h"
#include "gateway/rerun.h"
#include "gateway/route.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define LOOK_MS 2000   /* for what other gateways have accepted, or left */
#define HOLD_MS 10000  /* after which somebody else may try; a start in hand gives up sooner */
#define LATER_MS 2000  /* when it is too much just then, or the database is away */
#define IN_HAND_MAX 16 /* their requests hold a few bodies each */
#define TAKE_MAX 8

/* One run in hand. The call is first: what is answered is found by it. */
struct rerun_job {
    struct call call;
    struct bulk_reruns *reruns;
    struct run_id operation, run;
    struct rerun_job *next; /* of those that have ended */
};

struct bulk_reruns {
    struct gateway *gw;
    uv_timer_t timer;
    size_t in_hand;
    bool taking, more; /* more: the last look found something */
    struct mono_us look_at;
    struct rerun_job *ended;
    void (*done)(void *ctx); /* of stopping; NULL: it goes on */
    void *ctx;
};

static const struct route rerun_route = {"POST", "/v1/runs:rerun", RIGHT_OPERATE, "", NULL, "runs_bulk"};

static void on_timer(uv_timer_t *timer);

static void look_in(struct bulk_reruns *b, uint64_t ms)
{
    ENSURE(uv_timer_start(&b->timer, on_timer, ms, 0) == 0);
}

/* ---- the end of one ---- */

/* The caller is still at work in the job's arena: it goes with the next turn of the loop. */
static void end(struct rerun_job *job)
{
    struct bulk_reruns *b = job->reruns;

    job->next = b->ended;
    b->ended = job;
    look_in(b, 0);
}

/* A decision that was not written down is made again when nobody holds the row any more. */
static void on_written(void *ctx, const struct pg_outcome *outcome)
{
    struct rerun_job *job = ctx;

    if (outcome->rc != ERR_OK)
        log_event(LOG_WARN, "bulk_rerun.put_off", log_run("run_id", job->run), log_err(outcome->err));
    end(job);
}

static bool is_for_now(int status)
{
    return status == 429 || status == 503 || status == 504;
}

static void on_answered(struct call *call, int status, const char *code, const char *detail, struct str errors)
{
    struct rerun_job *job = (struct rerun_job *)call;
    struct pg_batch *batch;

    if (status < 300) { /* its row says so already */
        FAULT_POINT(gateway_bulk_rerun_made);
        end(job);
        return;
    }
    batch = call_batch(call, false);
    if (is_for_now(status))
        pg_add(batch, SQL_BULK_RERUN_LATER, pg_uuid(job->operation), pg_uuid(job->run), pg_i32(LATER_MS));
    else
        pg_add(batch, SQL_BULK_RERUN_REFUSE, pg_uuid(job->operation), pg_uuid(job->run), pg_text(str_of(code)),
               pg_text(bulk_reason(job->call.arena, detail, errors)));
    pg_submit(call->gw->writes, batch, on_written, job);
}

/* ---- taking ---- */

static void begin(struct bulk_reruns *b, const struct pg_result *rows, size_t row)
{
    struct arena *arena = arena_new(16384);
    struct rerun_job *job = arena_alloc(arena, sizeof(*job));
    struct caller *caller = &job->call.caller;

    job->reruns = b;
    job->operation = pg_get_uuid(rows, row, 3);
    job->run = pg_get_uuid(rows, row, 4);
    job->call.gw = b->gw;
    job->call.arena = arena;
    job->call.route = &rerun_route;
    job->call.answered = on_answered;
    caller->organisation = (int32_t)pg_get_int(rows, row, 0);
    caller->role = ROLE_OPERATOR;
    snprintf(caller->organisation_name, sizeof(caller->organisation_name), STR_FMT, STR_ARG(pg_get_str(rows, row, 1)));
    snprintf(caller->prefix, sizeof(caller->prefix), STR_FMT, STR_ARG(pg_get_str(rows, row, 5)));
    limits_of(&b->gw->config.limits, pg_get_str(rows, row, 2), &caller->limits);
    b->in_hand++;
    rerun_of_operation(&job->call, job->run, str_arena(arena, pg_get_str(rows, row, 6)), &job->operation);
}

static void on_taken(void *ctx, const struct pg_outcome *outcome)
{
    struct bulk_reruns *b = ctx;

    b->taking = false;
    b->more = outcome->rc == ERR_OK && pg_rows(outcome->results[0]) > 0;
    b->look_at.us = clock_mono().us + LOOK_MS * US_PER_MS;
    if (b->more) {
        FAULT_POINT(gateway_bulk_rerun_taken);
        for (size_t i = 0; i < pg_rows(outcome->results[0]); i++)
            begin(b, outcome->results[0], i);
    }
    if (outcome->rc != ERR_OK)
        log_event(LOG_WARN, "bulk_rerun.take_failed", log_err(outcome->err));
    look_in(b, b->done != NULL || b->more ? 0 : LOOK_MS);
}

static void take(struct bulk_reruns *b)
{
    struct pg_batch *batch = pg_batch_new(false);

    b->taking = true;
    pg_add(batch, SQL_BULK_RERUN_TAKE, pg_i32(TAKE_MAX / 2), pg_i32(TAKE_MAX), pg_i32(HOLD_MS));
    pg_submit(b->gw->writes, batch, on_taken, b);
}

static void drop_ended(struct bulk_reruns *b)
{
    for (struct rerun_job *job = take_ptr(b->ended), *next; job != NULL; job = next) {
        next = job->next;
        arena_free(job->call.arena);
        b->in_hand--;
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct bulk_reruns *b = timer->data;

    drop_ended(b);
    if (b->done != NULL) {
        if (!b->taking && b->in_hand == 0)
            b->done(b->ctx);
        return;
    }
    if (b->taking)
        return;
    if (b->in_hand <= IN_HAND_MAX - TAKE_MAX && b->gw->schema_ready && pg_is_up(b->gw->writes) &&
        (b->more || clock_mono().us >= b->look_at.us))
        take(b);
    else
        look_in(b, LOOK_MS);
}

/* ---- life ---- */

struct bulk_reruns *bulk_reruns_new(struct gateway *gw)
{
    struct bulk_reruns *b = mem_alloc(sizeof(*b));

    b->gw = gw;
    b->timer.data = b;
    ENSURE(uv_timer_init(gw->loop, &b->timer) == 0);
    look_in(b, LOOK_MS);
    return b;
}

void bulk_reruns_wake(struct bulk_reruns *reruns)
{
    reruns->more = true;
    look_in(reruns, 0);
}

void bulk_reruns_stop(struct bulk_reruns *reruns, void (*done)(void *ctx), void *ctx)
{
    reruns->done = done;
    reruns->ctx = ctx;
    look_in(reruns, 0);
}

static void on_closed(uv_handle_t *handle)
{
    mem_free(handle->data);
}

void bulk_reruns_free(struct bulk_reruns *reruns)
{
    if (reruns != NULL)
        uv_close((uv_handle_t *)&reruns->timer, on_closed);
}
