/* What the protocol asks for, done with broker, cache and libcurl; see shell.h. */
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "worker/secrets.h"
#include "worker/shell.h"

#include "common/base/banned.h"

/* What an answer of the cache, a confirm or an ended request needs to find its way back. */
struct way_back {
    struct worker *worker;
    struct job *job;
    struct batch *batch;
    struct http_task *http;
    struct secrets *secrets; /* of its task; NULL: it has none */
};

static struct way_back *way_back(struct worker *worker, struct job *job, struct batch *batch)
{
    struct way_back *way = mem_alloc(sizeof(*way));

    *way = (struct way_back){.worker = worker, .job = job, .batch = batch};
    return way;
}

/* --- ports of the core
 * ------------------------------------------------------------------------------------------------- */

static struct mono_us port_mono(void *ctx)
{
    (void)ctx;
    return clock_mono();
}

static struct wall_us port_wall(void *ctx)
{
    (void)ctx;
    return clock_wall();
}

static void port_ack(void *ctx, struct delivery_ref ref)
{
    struct worker *worker = ctx;

    intake_done(worker, ref.consumer);
    amqp_ack(ref.consumer, ref.generation, ref.tag);
    FAULT_POINT_AFTER(worker_task_acked, true, amqp_flush(worker->in));
}

static void port_give_back(void *ctx, struct delivery_ref ref)
{
    intake_done(ctx, ref.consumer);
    amqp_nack(ref.consumer, ref.generation, ref.tag, true);
}

static void port_refuse(void *ctx, struct delivery_ref ref, struct str body)
{
    refusal_begin(ctx, ref, body, body.len);
}

static void on_results_confirmed(void *ctx, enum amqp_confirm outcome)
{
    struct way_back *way = ctx;

    FAULT_POINT_IF(worker_result_confirmed, outcome == AMQP_CONFIRMED);
    worker_core_published(way->worker->core, way->batch,
                          outcome == AMQP_CONFIRMED ? PUBLISH_CONFIRMED : PUBLISH_FAILED);
    mem_free(way);
}

static void port_publish_results(void *ctx, const char *queue, struct str body, struct batch *batch)
{
    struct worker *worker = ctx;

    amqp_publish(worker->out, &(struct amqp_message){.exchange = "",
                                                     .routing_key = queue,
                                                     .type = "result",
                                                     .persistent = true,
                                                     .body = body,
                                                     .on_confirm = on_results_confirmed,
                                                     .ctx = way_back(worker, NULL, batch)});
    FAULT_POINT_AFTER(worker_result_published, true, amqp_flush(worker->out));
}

static void port_publish_started(void *ctx, const char *queue, struct str message_id, struct str body)
{
    struct worker *worker = ctx;
    char id[600];

    snprintf(id, sizeof(id), STR_FMT, STR_ARG(message_id));
    amqp_publish(worker->out, &(struct amqp_message){.exchange = "",
                                                     .routing_key = queue,
                                                     .type = "started",
                                                     .message_id = id,
                                                     .reply_to = worker->control_queue,
                                                     .persistent = true,
                                                     .body = body});
    FAULT_POINT_AFTER(worker_started_published, true, amqp_flush(worker->out));
}

static void port_publish_heartbeat(void *ctx, struct str body)
{
    struct worker *worker = ctx;

    amqp_publish(
        worker->out,
        &(struct amqp_message){.exchange = HEARTBEAT_EXCHANGE, .routing_key = "", .type = "heartbeat", .body = body});
    FAULT_POINT_AFTER(worker_heartbeat, worker_core_in_hand(worker->core) > 0, amqp_flush(worker->out));
}

static void on_cache_answer(void *ctx, enum cache_status status, struct str value)
{
    struct way_back *way = ctx;
    enum cache_answer answer = status == CACHE_OK    ? CACHE_ANSWER_VALUE
                               : status == CACHE_NIL ? CACHE_ANSWER_NONE
                                                     : CACHE_ANSWER_FAILED;

    FAULT_POINT_IF(worker_claim_taken, str_is(value, "OK")); /* of SET NX: nothing else says so */
    worker_core_cache_answered(way->worker->core, way->job, answer, value);
    mem_free(way);
}

static void port_cache(void *ctx, struct job *job, size_t argc, const struct str *argv)
{
    struct worker *worker = ctx;

    if (job == NULL)
        cache_command(worker->cache, NULL, NULL, argc, argv);
    else
        cache_command(worker->cache, on_cache_answer, way_back(worker, job, NULL), argc, argv);
}

static struct str job_key(struct job *const *job)
{
    return (struct str){(const char *)job, sizeof(*job)};
}

static void on_call_ended(void *ctx, const struct call_outcome *outcome)
{
    struct way_back *way = ctx;

    FAULT_POINT(worker_answered);
    map_del(way->worker->calls, job_key(&way->job));
    if (way->secrets != NULL) {
        struct call_outcome clean = secrets_mask(way->secrets, outcome);

        worker_core_called(way->worker->core, way->job, &clean);
    } else {
        worker_core_called(way->worker->core, way->job, outcome);
    }
    secrets_free(way->secrets);
    mem_free(way);
}

/* False: the call has ended, with the reason. */
static bool open_secrets(struct worker *worker, const struct task *task, struct secrets **ret, struct job *job)
{
    struct call_outcome outcome;
    struct err err = {0};

    if (keyring_refresh(worker->keyring, clock_mono(), &err) != ERR_OK)
        log_event(LOG_ERROR, "worker.master_keys_unreadable", log_err(&err));
    if (secrets_open(worker->keyring, task, ret, &outcome, &err) == ERR_OK)
        return true;
    worker_core_called(worker->core, job, &outcome);
    secrets_free(*ret);
    return false;
}

static void port_begin(void *ctx, struct job *job, const struct task *task, int64_t bound_us, bool once)
{
    struct worker *worker = ctx;

    struct way_back *way = way_back(worker, job, NULL);

    FAULT_POINT(worker_effect_beginning);
    if (task_has_secrets(task) && !open_secrets(worker, task, &way->secrets, job)) {
        mem_free(way);
        return;
    }
    struct http_task *http = http_task_new(worker->http, way->secrets == NULL ? task : secrets_task(way->secrets),
                                           bound_us, once, on_call_ended, way);

    if (http != NULL)
        map_put(worker->calls, job_key(&job), http);
}

static void port_abort(void *ctx, struct job *job)
{
    struct worker *worker = ctx;
    struct http_task *http = map_get(worker->calls, job_key(&job));

    if (http != NULL)
        http_task_abort(http);
}

static void port_consume(void *ctx, bool on)
{
    struct worker *worker = ctx;

    worker->wanted = on;
    intake_update(worker);
}

static void port_drained(void *ctx)
{
    struct worker *worker = ctx;

    service_stopped(worker->service);
}

struct worker_ports ports_of(struct worker *worker)
{
    return (struct worker_ports){
        .ctx = worker,
        .mono = port_mono,
        .wall = port_wall,
        .ack = port_ack,
        .give_back = port_give_back,
        .refuse = port_refuse,
        .publish_results = port_publish_results,
        .publish_started = port_publish_started,
        .publish_heartbeat = port_publish_heartbeat,
        .consume = port_consume,
        .cache = port_cache,
        .begin = port_begin,
        .abort = port_abort,
        .drained = port_drained,
    };
}
