/* The life of a task in a worker's hands; see worker_core.h and README.md. */
#include "common/base/ensure.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "worker/worker_internal.h"

#include "common/base/banned.h"

#define RESULT_SMALL ((size_t)64 << 10) /* larger ones go to the inbox for large results, alone */
#define BATCH_BYTES ((size_t)48 << 10)
#define BATCH_RESULTS 256
#define RESULT_MAX ((size_t)256 << 20)
#define MESSAGE_MAX ((size_t)128 << 20)
#define ASK_AGAIN_US (5 * US_PER_S)
#define PUBLISH_AGAIN_US (1 * US_PER_S)
#define SPENT_US (900 * US_PER_S) /* longer than any copy of an ended attempt can come */
#define DRAIN_LAST_US (3 * US_PER_S)

static struct mono_us now_of(const struct worker_core *core)
{
    return core->ports.mono(core->ports.ctx);
}

struct worker_core *worker_core_new(const struct worker_options *options, const struct worker_ports *ports)
{
    struct worker_core *core = mem_alloc(sizeof(*core));

    core->options = *options;
    core->ports = *ports;
    core->by_id = map_new();
    core->spent_ids = map_new();
    core->heartbeat_at = now_of(core);
    core->skew.largest_us[0] = core->skew.largest_us[1] = INT64_MIN;
    return core;
}

static void job_free(struct job *job)
{
    mem_free(job->result);
    arena_free(job->arena);
}

static void spent_free(struct worker_core *core, struct mono_us now)
{
    while (core->spent_first != NULL && core->spent_first->until.us <= now.us) {
        struct spent *spent = core->spent_first;

        core->spent_first = spent->next;
        if (core->spent_first == NULL)
            core->spent_last = NULL;
        map_del(core->spent_ids, str_of(spent->task_id));
        mem_free(spent->task_id);
        mem_free(spent);
    }
}

void worker_core_free(struct worker_core *core)
{
    if (core == NULL)
        return;
    while (core->first != NULL) {
        struct job *job = core->first;

        core->first = job->next;
        job_free(job);
    }
    spent_free(core, (struct mono_us){INT64_MAX});
    map_free(core->by_id);
    map_free(core->spent_ids);
    mem_free(core);
}

size_t worker_core_in_hand(const struct worker_core *core)
{
    return core->count;
}

static void log_job(enum log_level level, const char *event, const struct job *job, const char *what)
{
    log_event(level, event, log_str("task_id", job->task.task_id), log_str("organisation", job->task.organisation),
              log_str("run_id", job->task.run_id), log_str("workflow", job->task.workflow),
              log_str("step", job->task.step), log_i64("attempt", job->task.attempt), log_str("call", job->task.call),
              log_str("traceparent", job->task.traceparent), log_cstr("what", what));
}

/* --- deliveries of a job ---------------------------------------------------------------------------------------------
 */

static void job_hold(struct job *job, struct delivery_ref ref)
{
    struct held *held = arena_alloc(job->arena, sizeof(*held));

    held->ref = ref;
    held->next = job->held;
    job->held = held;
}

static void job_ack(struct worker_core *core, struct job *job)
{
    for (struct held *held = job->held; held != NULL; held = held->next)
        core->ports.ack(core->ports.ctx, held->ref);
    job->held = NULL;
}

static void job_remove(struct worker_core *core, struct job *job)
{
    if (job->prev == NULL)
        core->first = job->next;
    else
        job->prev->next = job->next;
    if (job->next == NULL)
        core->last = job->prev;
    else
        job->next->prev = job->prev;
    if (job->long_running)
        core->long_running--;
    core->count--;
    metric_set(METRIC_TASKS_RUNNING, (int64_t)core->count);
    job_free(job);
}

/* Out of hand without a result: acknowledged, or left to come again. */
void job_drop(struct worker_core *core, struct job *job, bool ack)
{
    if (ack) {
        metric_add(METRIC_TASKS_DUPLICATE, 1);
        job_ack(core, job);
    }
    if (job->state == JOB_READY)
        core->ready--;
    if (job->state != JOB_DROPPED) {
        map_del(core->by_id, job->task.task_id);
        job->state = JOB_DROPPED;
    }
    if (!job->asked)
        job_remove(core, job);
}

static bool job_is_unbegun(const struct job *job)
{
    return job->state == JOB_READING || job->state == JOB_HOLDER || job->state == JOB_WATCHING ||
           job->state == JOB_CLAIMING || job->state == JOB_READY;
}

static void job_give_back(struct worker_core *core, struct job *job)
{
    for (struct held *held = job->held; held != NULL; held = held->next)
        core->ports.give_back(core->ports.ctx, held->ref);
    job->held = NULL;
    claim_release(core, job);
    job_drop(core, job, false);
}

/* --- ends ------------------------------------------------------------------------------------------------------------
 */

static void spent_add(struct worker_core *core, const struct job *job)
{
    struct spent *spent = mem_alloc(sizeof(*spent));

    spent->task_id = mem_dup(job->task.task_id.ptr, job->task.task_id.len);
    spent->until.us = now_of(core).us + SPENT_US;
    map_put(core->spent_ids, job->task.task_id, spent);
    if (core->spent_last == NULL)
        core->spent_first = spent;
    else
        core->spent_last->next = spent;
    core->spent_last = spent;
}

static void job_ended(struct worker_core *core, struct job *job)
{
    if (job->state == JOB_READY)
        core->ready--;
    if (job->state == JOB_RUNNING)
        core->running--;
    job->state = JOB_ENDED;
    job->due_at = now_of(core);
    core->ended = true;
}

void job_finish(struct worker_core *core, struct job *job, const char *status, const struct call_outcome *outcome)
{
    CLEANUP(buf_deinit) struct buf item = {0};

    buf_init(&item, RESULT_MAX);
    message_result_item(&item, core->options.id, job, status, outcome, core->ports.wall(core->ports.ctx));
    job->result = buf_take(&item, &job->result_len);
    if (strcmp(status, "abandoned") != 0)
        claim_finish(core, job);
    if (job->task.delivery == TASK_AT_MOST_ONCE)
        spent_add(core, job);
    if (outcome != NULL && !outcome->ok)
        log_job(LOG_INFO, "task.failed", job, outcome->code);
    else if (outcome == NULL)
        log_job(LOG_WARN, "task.abandoned", job, status);
    else
        log_job(LOG_DEBUG, "task.succeeded", job, status);
    metric_add(METRIC_TASKS_DONE, 1);
    job_ended(core, job);
}

void job_abandon(struct worker_core *core, struct job *job)
{
    job_finish(core, job, "abandoned", NULL);
}

void job_cached(struct worker_core *core, struct job *job, struct str item)
{
    struct err err;

    if (jt_check(item, &JT_LIMITS_MESSAGE, &err) != ERR_OK || jt_type(item) != JT_OBJECT) {
        job_abandon(core, job); /* somebody wrote into our key: begun, end unknown */
        return;
    }
    metric_add(METRIC_TASKS_DUPLICATE, 1);
    job->result = mem_dup(item.ptr, item.len);
    job->result_len = item.len;
    job_ended(core, job);
}

static void job_fail(struct worker_core *core, struct job *job, const char *code, const char *message)
{
    job_finish(core, job, "failed",
               &(struct call_outcome){.code = code, .message = str_of(message), .retry_after_ms = -1});
}

/* --- beginning -------------------------------------------------------------------------------------------------------
 */

static void skew_sample(struct worker_core *core, struct wall_us sent_at)
{
    struct mono_us now = now_of(core);
    int64_t difference_us;

    if (sent_at.us == 0)
        return;
    if (now.us >= core->skew.minute_until.us) {
        core->skew.largest_us[1] = core->skew.largest_us[0];
        core->skew.largest_us[0] = INT64_MIN;
        core->skew.minute_until.us = now.us + 60 * US_PER_S;
    }
    difference_us = sent_at.us - core->ports.wall(core->ports.ctx).us;
    if (difference_us > core->skew.largest_us[0])
        core->skew.largest_us[0] = difference_us;
}

static struct wall_us schedulers_now(const struct worker_core *core)
{
    const int64_t *both = core->skew.largest_us;
    int64_t largest_us = both[0] > both[1] ? both[0] : both[1];

    return (struct wall_us){core->ports.wall(core->ports.ctx).us + (largest_us == INT64_MIN ? 0 : largest_us)};
}

static void publish_started(struct worker_core *core, struct job *job)
{
    CLEANUP(buf_deinit) struct buf body = {0};
    char queue[256];

    buf_init(&body, MESSAGE_MAX);
    snprintf(queue, sizeof(queue), STR_FMT, STR_ARG(job->task.reply_to));
    message_started(&body, core, job, job->begun_wall.us != 0 ? job->begun_wall : core->ports.wall(core->ports.ctx));
    core->ports.publish_started(core->ports.ctx, queue, job->task.task_id, buf_str(&body));
    job->started_sent = true;
}

static void job_begin(struct worker_core *core, struct job *job)
{
    bool once = job->task.delivery == TASK_AT_MOST_ONCE;
    int64_t bound_us = job->task.timeout_us;

    if (job->state == JOB_READY)
        core->ready--;
    job->begun_at = now_of(core);
    job->begun_wall = core->ports.wall(core->ports.ctx);
    job->state = JOB_RUNNING;
    core->running++;
    if (str_is(job->task.call, "noop")) {
        job_finish(core, job, "succeeded", &(struct call_outcome){.ok = true, .output = STR("null")});
        return;
    }
    if (!str_is(job->task.call, "http")) {
        job_fail(core, job, "unknown_call", "this worker has no such call");
        return;
    }
    if (job->task.deadline.us != 0) {
        int64_t left = job->task.deadline.us - schedulers_now(core).us;

        if (left <= 0) {
            job_fail(core, job, "deadline", "the step's deadline passed before the attempt began");
            return;
        }
        if (bound_us == 0 || left < bound_us)
            bound_us = left;
    }
    claim_write(core, job);
    core->ports.begin(core->ports.ctx, job, &job->task, bound_us, once);
}

void job_ready(struct worker_core *core, struct job *job)
{
    if (core->running >= core->options.capacity && job->state != JOB_ASKING) {
        job->state = JOB_READY;
        core->ready++;
        return;
    }
    job_begin(core, job);
}

static void begin_waiting(struct worker_core *core)
{
    if (core->beginning)
        return;
    core->beginning = true;
    for (struct job *job = core->first; job != NULL; job = job->next) {
        if (core->ready == 0 || core->running >= core->options.capacity)
            break;
        if (job->state == JOB_READY)
            job_begin(core, job);
    }
    core->beginning = false;
}

static void job_ask(struct worker_core *core, struct job *job)
{
    job->state = JOB_ASKING;
    job->due_at.us = now_of(core).us + ASK_AGAIN_US;
    publish_started(core, job);
}

static void refuse_undecodable(struct worker_core *core, struct job *job, struct delivery_ref ref,
                               const struct err *err)
{
    log_event(LOG_ERROR, "task.undecodable", log_str("task_id", job->task.task_id), log_err(err));
    if (job->task.task_id.len > 0 && job->task.token.len > 0 && job->task.reply_to.len > 0 &&
        map_get(core->by_id, job->task.task_id) == NULL) {
        job->task.delivery = TASK_AT_LEAST_ONCE;
        map_put(core->by_id, job->task.task_id, job);
        job_hold(job, ref);
        job_fail(core, job, "bad_task", err->message);
        return;
    }
    core->ports.ack(core->ports.ctx, ref); /* nobody can be told; the scheduler misses its answer and asks again */
    job_remove(core, job);
}

static struct job *job_new(struct worker_core *core, struct arena *arena)
{
    struct job *job = arena_alloc(arena, sizeof(*job));

    job->arena = arena;
    job->received_at = now_of(core);
    job->prev = core->last;
    if (core->last == NULL)
        core->first = job;
    else
        core->last->next = job;
    core->last = job;
    core->count++;
    metric_set(METRIC_TASKS_RUNNING, (int64_t)core->count);
    return job;
}

void worker_core_delivered(struct worker_core *core, struct delivery_ref ref, bool redelivered, struct wall_us sent_at,
                           struct str body)
{
    struct arena *arena = arena_new(body.len + 2048);
    struct job *job = job_new(core, arena), *same;
    struct err err = {0};

    skew_sample(core, sent_at);
    if (task_decode(str_arena(arena, body.len == 0 ? STR(" ") : body), arena, &job->task, &err) != ERR_OK) {
        refuse_undecodable(core, job, ref, &err);
        return;
    }
    if (core->draining) {
        core->ports.give_back(core->ports.ctx, ref);
        job_remove(core, job);
        return;
    }
    same = map_get(core->by_id, job->task.task_id);
    if (same != NULL) { /* a copy of what is in hand: acknowledged with it */
        metric_add(METRIC_TASKS_DUPLICATE, 1);
        job_hold(same, ref);
        job_remove(core, job);
        return;
    }
    if (map_get(core->spent_ids, job->task.task_id) != NULL) {
        metric_add(METRIC_TASKS_DUPLICATE, 1);
        core->ports.ack(core->ports.ctx, ref);
        job_remove(core, job);
        return;
    }
    map_put(core->by_id, job->task.task_id, job);
    job_hold(job, ref);
    if (job->task.delivery == TASK_AT_MOST_ONCE)
        job_ask(core, job);
    else if (claim_applies(job) && (redelivered || job->task.publication > 1))
        claim_read(core, job);
    else
        job_ready(core, job);
}

/* --- other inputs
 * ----------------------------------------------------------------------------------------------------- */

void worker_core_consumer_lost(struct worker_core *core, const void *consumer)
{
    struct job *job = core->first;

    while (job != NULL) {
        struct job *next = job->next;
        struct held **at = &job->held;

        while (*at != NULL) {
            if ((*at)->ref.consumer == consumer)
                *at = (*at)->next;
            else
                at = &(*at)->next;
        }
        if (job->held == NULL && job_is_unbegun(job)) { /* it comes again, here or elsewhere */
            claim_release(core, job);
            job_drop(core, job, false);
        }
        job = next;
    }
}

bool worker_core_holds(const struct worker_core *core, const void *consumer)
{
    for (const struct job *job = core->first; job != NULL; job = job->next)
        for (const struct held *held = job->held; held != NULL; held = held->next)
            if (held->ref.consumer == consumer)
                return true;
    return false;
}

static void cancel(struct worker_core *core, struct job *job)
{
    if (job->state == JOB_RUNNING && !job->cancelled) {
        job->cancelled = true;
        core->ports.abort(core->ports.ctx, job);
        return;
    }
    if (!job_is_unbegun(job) && job->state != JOB_ASKING)
        return;
    if (job->asked) { /* a cache answer is due: the end comes with it */
        job_ack(core, job);
        claim_release(core, job);
        job_drop(core, job, false);
        return;
    }
    job_fail(core, job, "cancelled", "the run was cancelled before the attempt began");
}

void worker_core_control(struct worker_core *core, const struct control *control)
{
    struct job *job;

    if (control->kind == CONTROL_DRAIN) {
        worker_core_drain(core);
        return;
    }
    job = map_get(core->by_id, control->task_id);
    if (job == NULL)
        return;
    if (control->kind == CONTROL_CANCEL)
        cancel(core, job);
    else if (job->state == JOB_ASKING && control->go)
        job_ready(core, job); /* granted: it begins whatever else runs, because its time counts from now */
    else if (job->state == JOB_ASKING)
        job_drop(core, job, true);
    worker_core_flush(core);
}

void worker_core_cache_up(struct worker_core *core)
{
    claim_renew_holder(core);
}

void worker_core_publisher(struct worker_core *core, bool up)
{
    core->publisher_up = up;
    if (!up)
        return;
    for (struct job *job = core->first; job != NULL; job = job->next)
        if (job->state == JOB_ENDED)
            job->due_at = now_of(core);
    worker_core_flush(core);
}

void worker_core_called(struct worker_core *core, struct job *job, const struct call_outcome *outcome)
{
    struct call_outcome stopped = *outcome;

    ENSURE(job->state == JOB_RUNNING);
    if (outcome->ok || !outcome->aborted) {
        job_finish(core, job, outcome->ok ? "succeeded" : "failed", outcome);
    } else if (job->stopping && job->task.delivery == TASK_AT_LEAST_ONCE) {
        job_abandon(core, job); /* another worker takes the next attempt at once */
    } else {
        stopped.transient = job->stopping;
        stopped.code = job->stopping ? "worker_stopped" : "cancelled";
        stopped.message = job->stopping ? STR("the worker was stopped during the attempt")
                                        : STR("the run was cancelled during the attempt");
        job_finish(core, job, "failed", &stopped);
    }
    begin_waiting(core);
}

/* --- publishing
 * ------------------------------------------------------------------------------------------------------- */

static bool job_is_due(const struct job *job, struct mono_us now)
{
    return job->state == JOB_ENDED && job->due_at.us <= now.us;
}

/* All that go to the queue of `first`, as many as one message takes. Starts looking at `first`. */
static void publish_batch(struct worker_core *core, struct job *first, struct mono_us now)
{
    CLEANUP(buf_deinit) struct buf body = {0};
    bool large = first->result_len > RESULT_SMALL;
    struct batch *batch = mem_alloc(sizeof(*batch) + BATCH_RESULTS * sizeof(struct job *));
    char queue[300];

    buf_init(&body, RESULT_MAX + 64);
    buf_append_str(&body, STR("{\"v\":1,\"results\":["));
    for (struct job *job = first; job != NULL && batch->count < BATCH_RESULTS; job = job->next) {
        if (!job_is_due(job, now) || !str_eq(job->task.reply_to, first->task.reply_to))
            continue;
        if (job != first && (large || body.len + job->result_len > BATCH_BYTES))
            continue;
        if (batch->count > 0)
            buf_append_char(&body, ',');
        buf_append(&body, job->result, job->result_len);
        batch->jobs[batch->count++] = job;
        job->state = JOB_PUBLISHING;
    }
    buf_append_str(&body, STR("]}"));
    snprintf(queue, sizeof(queue), STR_FMT "%s", STR_ARG(first->task.reply_to), large ? ".large" : "");
    core->ports.publish_results(core->ports.ctx, queue, buf_str(&body), batch);
}

void worker_core_flush(struct worker_core *core)
{
    struct mono_us now;
    bool waits = false;

    begin_waiting(core);
    if (!core->ended || !core->publisher_up)
        return;
    now = now_of(core);
    for (struct job *job = core->first; job != NULL; job = job->next) {
        if (job_is_due(job, now))
            publish_batch(core, job, now);
        waits = waits || job->state == JOB_ENDED;
    }
    core->ended = waits;
}

static void check_drained(struct worker_core *core)
{
    if (!core->draining || core->drain_over)
        return;
    if (core->count > 0 && now_of(core).us < core->drain_until.us + DRAIN_LAST_US)
        return;
    core->drain_over = true;
    core->ports.drained(core->ports.ctx);
}

void worker_core_published(struct worker_core *core, struct batch *batch, enum publish_answer answer)
{
    for (size_t i = 0; i < batch->count; i++) {
        struct job *job = batch->jobs[i];

        if (answer == PUBLISH_CONFIRMED) {
            job_ack(core, job);
            map_del(core->by_id, job->task.task_id);
            job_remove(core, job);
            continue;
        }
        if (job->retries++ == 0)
            log_job(LOG_WARN, "task.result_not_taken", job, "the broker did not confirm the result; it is sent again");
        job->state = JOB_ENDED;
        job->due_at.us = now_of(core).us + PUBLISH_AGAIN_US;
        core->ended = true;
    }
    mem_free(batch);
    check_drained(core);
}

/* --- time
 * --------------------------------------------------------------------------------------------------------------- */

/* A message held for so long would end the channel by the broker's own limit: the attempt lives by its lease now. */
static void acknowledge_early(struct worker_core *core, struct job *job)
{
    if (job->state == JOB_RUNNING && !job->long_running) {
        if (!job->started_sent)
            publish_started(core, job);
        job_ack(core, job);
        job->long_running = true;
        core->long_running++;
    } else if (job->state == JOB_RUNNING) {
        job_ack(core, job); /* a copy that came since */
    } else if ((job->state == JOB_WATCHING || job->state == JOB_ASKING) && !job->asked) {
        job_drop(core, job, true); /* its holder or the scheduler answers for it */
    } else if (job->state == JOB_READY) {
        job_give_back(core, job);
    }
}

static void tick_job(struct worker_core *core, struct job *job, struct mono_us now)
{
    if (job->state == JOB_RUNNING && !job->started_sent &&
        now.us - job->begun_at.us >= core->options.started_after_ms * US_PER_MS)
        publish_started(core, job);
    if (job->state == JOB_WATCHING && now.us >= job->due_at.us)
        claim_read(core, job);
    if (job->state == JOB_ASKING && now.us >= job->due_at.us)
        job_ask(core, job);
    if (now.us - job->received_at.us >= core->options.ack_after_ms * US_PER_MS)
        acknowledge_early(core, job);
}

/* Tasks that the broker no longer counts would let it send ever more: at half the capacity no more are taken. */
static void pause_or_resume(struct worker_core *core)
{
    size_t half = (core->options.capacity + 1) / 2;

    if (core->draining)
        return;
    if (!core->paused && core->long_running >= half) {
        core->paused = true;
        core->ports.consume(core->ports.ctx, false);
    } else if (core->paused && core->long_running * 4 < half * 3) {
        core->paused = false;
        core->ports.consume(core->ports.ctx, true);
    }
}

static void force_drain(struct worker_core *core)
{
    struct job *job = core->first;

    core->drain_forced = true;
    while (job != NULL) {
        struct job *next = job->next;

        if (job->state == JOB_RUNNING) {
            job->stopping = true;
            core->ports.abort(core->ports.ctx, job);
        } else if (job->state == JOB_ASKING) { /* nothing left: the scheduler may let another send it */
            job_finish(core, job, "failed",
                       &(struct call_outcome){.transient = true,
                                              .code = "worker_stopped",
                                              .message = STR("the worker was stopped before anything was sent"),
                                              .retry_after_ms = -1});
        }
        job = next;
    }
}

void worker_core_tick(struct worker_core *core)
{
    struct mono_us now = now_of(core);
    struct job *job = core->first;

    while (job != NULL) {
        struct job *next = job->next;

        tick_job(core, job, now);
        job = next;
    }
    if (now.us >= core->heartbeat_at.us) {
        CLEANUP(buf_deinit) struct buf body = {0};

        buf_init(&body, MESSAGE_MAX);
        message_heartbeat(&body, core);
        core->ports.publish_heartbeat(core->ports.ctx, buf_str(&body));
        claim_renew_holder(core);
        core->heartbeat_at.us = now.us + core->options.heartbeat_ms * US_PER_MS;
    }
    spent_free(core, now);
    pause_or_resume(core);
    if (core->draining && !core->drain_forced && now.us >= core->drain_until.us)
        force_drain(core);
    worker_core_flush(core);
    check_drained(core);
}

void worker_core_drain(struct worker_core *core)
{
    struct job *job = core->first;

    if (core->draining)
        return;
    core->draining = true;
    core->drain_until.us = now_of(core).us + core->options.drain_ms * US_PER_MS;
    core->ports.consume(core->ports.ctx, false);
    while (job != NULL) {
        struct job *next = job->next;

        if (job_is_unbegun(job))
            job_give_back(core, job);
        job = next;
    }
    worker_core_flush(core);
    check_drained(core);
}
