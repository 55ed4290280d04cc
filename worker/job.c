/* The life of one task in a worker's hands: held, begun, ended, gone; see worker_core.h and README.md. */
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "worker/worker_internal.h"

#include "common/base/banned.h"

#define RESULT_MAX ((size_t)256 << 20)
#define MESSAGE_MAX ((size_t)128 << 20)
#define ASK_AGAIN_US (5 * US_PER_S)
#define LEAVE_ASKS_MAX 12 /* then the next attempt is to see to it: a scheduler of a former release never answers */
#define LEAVE_CLOCK_US (60 * US_PER_S)
#define CANCELLED_MAX 200000
#define SPENT_US (900 * US_PER_S) /* longer than any copy of an ended attempt can come */

static struct mono_us now_of(const struct worker_core *core)
{
    return core->ports.mono(core->ports.ctx);
}

void job_log(enum log_level level, const char *event, const struct job *job, const char *what)
{
    log_event(level, event, log_str("task_id", job->task.task_id), log_str("organisation", job->task.organisation),
              log_str("run_id", job->task.run_id), log_str("workflow", job->task.workflow),
              log_str("step", job->task.step), log_i64("attempt", job->task.attempt), log_str("call", job->task.call),
              log_str("traceparent", job->task.traceparent), log_cstr("what", what));
}

struct job *job_new(struct worker_core *core, struct arena *arena)
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

void job_free(struct job *job)
{
    mem_free(job->result);
    arena_free(job->arena);
}

/* --- deliveries of a job ---------------------------------------------------------------------------------------------
 */

void job_hold(struct job *job, struct delivery_ref ref)
{
    struct held *held = arena_alloc(job->arena, sizeof(*held));

    held->ref = ref;
    held->next = job->held;
    job->held = held;
}

void job_ack(struct worker_core *core, struct job *job)
{
    for (struct held *held = job->held; held != NULL; held = held->next)
        core->ports.ack(core->ports.ctx, held->ref);
    job->held = NULL;
}

void job_remove(struct worker_core *core, struct job *job)
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

static bool has_slot(enum job_state state)
{
    return state == JOB_RUNNING || state == JOB_LATE || state == JOB_ASKING; /* the latter begin as soon as they may */
}

void job_turn(struct worker_core *core, struct job *job, enum job_state state)
{
    core->ready = core->ready - (job->state == JOB_READY) + (state == JOB_READY);
    core->slots_taken = core->slots_taken - has_slot(job->state) + has_slot(state);
    job->state = state;
}

/* Out of hand without a result: acknowledged, or left to come again. */
void job_drop(struct worker_core *core, struct job *job, bool ack)
{
    if (ack) {
        metric_add(METRIC_TASKS_DUPLICATE, 1);
        job_ack(core, job);
    }
    if (job->state != JOB_DROPPED) {
        map_del(core->by_id, job->task.task_id);
        job_turn(core, job, JOB_DROPPED);
    }
    if (!job->asked)
        job_remove(core, job);
}

bool job_is_unbegun(const struct job *job)
{
    return job->state == JOB_READING || job->state == JOB_HOLDER || job->state == JOB_WATCHING ||
           job->state == JOB_CLAIMING || job->state == JOB_READY || job->state == JOB_LATE;
}

void job_give_back(struct worker_core *core, struct job *job)
{
    for (struct held *held = job->held; held != NULL; held = held->next)
        core->ports.give_back(core->ports.ctx, held->ref);
    job->held = NULL;
    claim_release(core, job);
    job_drop(core, job, false);
}

/* --- ends ------------------------------------------------------------------------------------------------------------
 */

static void spent_add(struct worker_core *core, struct str task_id)
{
    struct spent *spent = mem_alloc(sizeof(*spent));

    spent->task_id = mem_dup(task_id.ptr, task_id.len);
    spent->until.us = now_of(core).us + SPENT_US;
    map_put(core->spent_ids, task_id, spent);
    if (core->spent_last == NULL)
        core->spent_first = spent;
    else
        core->spent_last->next = spent;
    core->spent_last = spent;
    core->spent_count++;
}

/* Every worker hears of what is cancelled, and most of it will never come here: so many are remembered, no more. */
void task_never_begin(struct worker_core *core, struct str task_id)
{
    if (core->spent_count < CANCELLED_MAX && map_get(core->spent_ids, task_id) == NULL)
        spent_add(core, task_id);
}

static void job_ended(struct worker_core *core, struct job *job)
{
    job_turn(core, job, JOB_ENDED);
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
        spent_add(core, job->task.task_id);
    if (outcome != NULL && !outcome->ok)
        job_log(LOG_INFO, "task.failed", job, outcome->code);
    else if (outcome == NULL)
        job_log(LOG_WARN, "task.abandoned", job, status);
    else
        job_log(LOG_DEBUG, "task.succeeded", job, status);
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

void job_fail(struct worker_core *core, struct job *job, const char *code, const char *message)
{
    job_finish(core, job, "failed",
               &(struct call_outcome){.code = code, .message = str_of(message), .retry_after_ms = -1});
}

void job_cut(struct worker_core *core, struct job *job)
{
    if (job->cancelled)
        return;
    job->cancelled = true;
    core->ports.abort(core->ports.ctx, job);
}

/* Without a result: its step has ended, or another who has begun it answers for it. */
void job_not_begun(struct worker_core *core, struct job *job)
{
    task_never_begin(core, job->task.task_id);
    job_log(LOG_INFO, "task.not_begun", job, "it is not wanted any more");
    job_ack(core, job);
    claim_release(core, job);
    job_drop(core, job, false);
}

void jobs_forget_spent(struct worker_core *core, struct mono_us now)
{
    while (core->spent_first != NULL && core->spent_first->until.us <= now.us) {
        struct spent *spent = core->spent_first;

        core->spent_first = spent->next;
        if (core->spent_first == NULL)
            core->spent_last = NULL;
        core->spent_count--;
        map_del(core->spent_ids, str_of(spent->task_id));
        mem_free(spent->task_id);
        mem_free(spent);
    }
}

/* --- beginning -------------------------------------------------------------------------------------------------------
 */
static struct wall_us schedulers_now(const struct worker_core *core)
{
    const int64_t *both = core->skew.largest_us;
    int64_t largest_us = both[0] > both[1] ? both[0] : both[1];

    return (struct wall_us){core->ports.wall(core->ports.ctx).us + (largest_us == INT64_MIN ? 0 : largest_us)};
}

void job_publish_started(struct worker_core *core, struct job *job)
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

    job->begun_at = now_of(core);
    job->begun_wall = core->ports.wall(core->ports.ctx);
    job_turn(core, job, JOB_RUNNING);
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

/* Has it waited for so long, for all we know, that its run may be cancelled and the word of it lost? A publication of
 * which the scheduler was not sure (it had been published before, or its lease was not) says so by itself. */
static bool is_late(const struct worker_core *core, const struct job *job)
{
    struct mono_us now = now_of(core);

    if (job->task.ask_after.us == 0 || !claim_applies(job))
        return false;
    return job->task.publication > 1 || now.us >= core->leave_clock.until.us ||
           now.us + core->leave_clock.ahead_us > job->task.ask_after.us;
}

/* There is room for it. */
static void job_go(struct worker_core *core, struct job *job)
{
    if (job->task.delivery == TASK_AT_MOST_ONCE)
        job_ask(core, job);
    else if (is_late(core, job))
        job_ask_leave(core, job);
    else
        job_begin(core, job);
}

void job_ready(struct worker_core *core, struct job *job)
{
    if (core->slots_taken < core->options.capacity)
        job_go(core, job);
    else
        job_turn(core, job, JOB_READY);
}

void job_ask_leave(struct worker_core *core, struct job *job)
{
    CLEANUP(buf_deinit) struct buf body = {0};
    char queue[256];

    job_turn(core, job, JOB_LATE);
    job->asked_at = now_of(core);
    if (job->asks++ == LEAVE_ASKS_MAX) {
        job_abandon(core, job);
        return;
    }
    job->due_at.us = job->asked_at.us + ASK_AGAIN_US;
    claim_write(core, job); /* now, not when it begins: who has a copy of it must not begin meanwhile */
    buf_init(&body, MESSAGE_MAX);
    snprintf(queue, sizeof(queue), STR_FMT, STR_ARG(job->task.reply_to));
    message_ask(&body, core, job, core->ports.wall(core->ports.ctx));
    core->ports.publish_started(core->ports.ctx, queue, job->task.task_id, buf_str(&body));
}

void job_leave(struct worker_core *core, struct job *job, const struct control *grant)
{
    if (grant->ask != job->asks)
        return; /* what was true when it asked before need not be true now */
    if (grant->at.us != 0) {
        core->leave_clock.ahead_us = grant->at.us - job->asked_at.us;
        core->leave_clock.until.us = now_of(core).us + LEAVE_CLOCK_US;
    }
    if (grant->go)
        job_begin(core, job);
    else
        job_not_begun(core, job);
}

void jobs_begin_waiting(struct worker_core *core)
{
    if (core->beginning)
        return;
    core->beginning = true;
    for (struct job *job = core->first; job != NULL; job = job->next) {
        if (core->ready == 0 || core->slots_taken >= core->options.capacity)
            break;
        if (job->state == JOB_READY)
            job_go(core, job);
    }
    core->beginning = false;
}

void job_granted(struct worker_core *core, struct job *job)
{
    job_begin(core, job);
}

void job_ask(struct worker_core *core, struct job *job)
{
    job_turn(core, job, JOB_ASKING);
    job->due_at.us = now_of(core).us + ASK_AGAIN_US;
    job_publish_started(core, job);
}
