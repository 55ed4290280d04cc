/* What a worker sends by itself: results, heartbeats, and what only time asks for; see worker_core.h. */
#include "worker/worker_internal.h"

#include "common/base/banned.h"

#define RESULT_SMALL ((size_t)64 << 10) /* larger ones go to the inbox for large results, alone */
#define BATCH_BYTES ((size_t)48 << 10)
#define BATCH_RESULTS 256
#define RESULT_MAX ((size_t)256 << 20)
#define MESSAGE_MAX ((size_t)128 << 20)
#define PUBLISH_AGAIN_US (1 * US_PER_S)
#define DRAIN_LAST_US (3 * US_PER_S)

static struct mono_us now_of(const struct worker_core *core)
{
    return core->ports.mono(core->ports.ctx);
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
        job_turn(core, job, JOB_PUBLISHING);
    }
    buf_append_str(&body, STR("]}"));
    snprintf(queue, sizeof(queue), STR_FMT "%s", STR_ARG(first->task.reply_to), large ? ".large" : "");
    core->ports.publish_results(core->ports.ctx, queue, buf_str(&body), batch);
}

void worker_core_flush(struct worker_core *core)
{
    struct mono_us now;
    bool waits = false;

    jobs_begin_waiting(core);
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
            job_log(LOG_WARN, "task.result_not_taken", job, "the broker did not confirm the result; it is sent again");
        job_turn(core, job, JOB_ENDED);
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
            job_publish_started(core, job);
        job_ack(core, job);
        job->long_running = true;
        core->long_running++;
    } else if (job->state == JOB_RUNNING) {
        job_ack(core, job); /* a copy that came since */
    } else if ((job->state == JOB_WATCHING || job->state == JOB_ASKING) && !job->asked) {
        job_drop(core, job, true); /* its holder or the scheduler answers for it */
    } else if (job->state == JOB_READY || job->state == JOB_LATE) {
        job_give_back(core, job);
    }
}

static void tick_job(struct worker_core *core, struct job *job, struct mono_us now)
{
    if (job->state == JOB_RUNNING && !job->started_sent &&
        now.us - job->begun_at.us >= core->options.started_after_ms * US_PER_MS)
        job_publish_started(core, job);
    if (job->state == JOB_WATCHING && now.us >= job->due_at.us)
        claim_read(core, job);
    if (job->state == JOB_ASKING && now.us >= job->due_at.us)
        job_ask(core, job);
    if (job->state == JOB_LATE && now.us >= job->due_at.us)
        job_ask_leave(core, job);
    if (job->state == JOB_RUNNING && job->cut_at.us != 0 && now.us >= job->cut_at.us)
        job_cut(core, job);
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
    core_notice_sleep(core);
    if (now.us >= core->heartbeat_at.us) {
        CLEANUP(buf_deinit) struct buf body = {0};

        buf_init(&body, MESSAGE_MAX);
        message_heartbeat(&body, core);
        core->ports.publish_heartbeat(core->ports.ctx, buf_str(&body));
        claim_renew_holder(core);
        core->heartbeat_at.us = now.us + core->options.heartbeat_ms * US_PER_MS;
    }
    jobs_forget_spent(core, now);
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
