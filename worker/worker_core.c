/* What happens to a worker: deliveries, answers, control messages; see worker_core.h and README.md. */
#include "common/base/ensure.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "worker/worker_internal.h"

#include "common/base/banned.h"

#define ARENA_TEXT_MAX ((size_t)64 << 10) /* longer ones get a block of their own, once they are known to be tasks */

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

void worker_core_free(struct worker_core *core)
{
    if (core == NULL)
        return;
    while (core->first != NULL) {
        struct job *job = core->first;

        core->first = job->next;
        job_free(job);
    }
    jobs_forget_spent(core, (struct mono_us){INT64_MAX});
    map_free(core->by_id);
    map_free(core->spent_ids);
    mem_free(core);
}

size_t worker_core_in_hand(const struct worker_core *core)
{
    return core->count;
}

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

static void refuse_undecodable(struct worker_core *core, struct job *job, struct delivery_ref ref, struct str body,
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
    core->ports.refuse(core->ports.ctx, ref, body); /* whose it is, nobody knows: a dead letter */
    job_remove(core, job);
}

void core_notice_sleep(struct worker_core *core)
{
    struct mono_us now = now_of(core);
    int64_t ttl_ms = core->options.holder_ttl_ms;

    if (now.us - core->heartbeat_at.us >= (ttl_ms - core->options.heartbeat_ms) * US_PER_MS)
        core->claims_first_until.us = now.us + ttl_ms * US_PER_MS;
}

static bool must_read_claim(const struct worker_core *core, const struct job *job, bool redelivered)
{
    return claim_applies(job) &&
           (redelivered || job->task.publication > 1 || now_of(core).us < core->claims_first_until.us);
}

void worker_core_delivered(struct worker_core *core, struct delivery_ref ref, bool redelivered, struct wall_us sent_at,
                           struct str body)
{
    struct arena *arena = arena_new((body.len < ARENA_TEXT_MAX ? body.len : 0) + 2048);
    struct job *job = job_new(core, arena), *same;
    struct err err = {0};

    core_notice_sleep(core);
    skew_sample(core, sent_at);
    if (task_decode(body.len == 0 ? STR(" ") : body, arena, &job->task, &err) != ERR_OK) {
        refuse_undecodable(core, job, ref, body, &err);
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
    if (job->task.delivery != TASK_AT_MOST_ONCE && must_read_claim(core, job, redelivered))
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

/* What runs may finish within the grace, and counts. */
static void cancel_running(struct worker_core *core, struct job *job, enum cancel_running how)
{
    if (how == CANCEL_FINISH)
        return;
    if (how == CANCEL_NOW || core->options.cancel_grace_ms == 0)
        job_cut(core, job);
    else if (job->cut_at.us == 0)
        job->cut_at.us = core->ports.mono(core->ports.ctx).us + core->options.cancel_grace_ms * US_PER_MS;
}

static void cancel(struct worker_core *core, struct job *job, enum cancel_running how)
{
    if (job->state == JOB_RUNNING)
        cancel_running(core, job, how);
    else if (job->state == JOB_ASKING) /* it may have been granted: the scheduler waits for a word */
        job_fail(core, job, "cancelled", "the run was cancelled before the attempt began");
    else if (job_is_unbegun(job))
        job_not_begun(core, job);
}

void worker_core_control(struct worker_core *core, const struct control *control)
{
    struct job *job;

    if (control->kind == CONTROL_DRAIN) {
        worker_core_drain(core);
        return;
    }
    job = map_get(core->by_id, control->task_id);
    if (job == NULL) {
        if (control->kind == CONTROL_CANCEL)
            task_never_begin(core, control->task_id);
        return;
    }
    if (control->kind == CONTROL_CANCEL)
        cancel(core, job, control->if_running);
    else if (job->state == JOB_LATE)
        job_leave(core, job, control);
    else if (job->state == JOB_ASKING && control->go)
        job_granted(core, job);
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

/* The organisation's own limit comes with the task. 0: none. */
static size_t output_max(const struct worker_core *core, const struct job *job)
{
    return job->task.max_output != 0 ? (size_t)job->task.max_output : core->options.output_max;
}

/* Whatever a call may bring along with its body (headers, base64, escapes): this is what is stored and sent on. */
static bool is_too_large(const struct worker_core *core, const struct job *job, const struct call_outcome *outcome)
{
    size_t most = output_max(core, job);

    return outcome->ok && most != 0 && outcome->output.len > most;
}

static void refuse_output(struct worker_core *core, struct job *job, const struct call_outcome *outcome)
{
    char message[180];

    snprintf(message, sizeof(message),
             "the output has %zu bytes; at most %zu are allowed (limit output_bytes): ask for less, or have the limit "
             "raised",
             outcome->output.len, output_max(core, job));
    job_finish(
        core, job, "failed",
        &(struct call_outcome){
            .code = "too_large", .message = str_of(message), .retry_after_ms = -1, .sent = true, .answered = true});
}

void worker_core_called(struct worker_core *core, struct job *job, const struct call_outcome *outcome)
{
    struct call_outcome stopped = *outcome;

    ENSURE(job->state == JOB_RUNNING);
    if (is_too_large(core, job, outcome)) {
        refuse_output(core, job, outcome);
    } else if (outcome->ok || !outcome->aborted) {
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
    jobs_begin_waiting(core);
}
