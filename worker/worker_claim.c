/* Claims in the cache: "this task is being done by H", "it was done and this was its result". They spare duplicates; no
 * promise rests on them (worker/README.md). A claim's value is
 *     r<holder>   begun by that worker process
 *     f<item>     ended; the item of its result message
 *     F           ended with a result too large to keep
 * and a holder lives while its own key does. */
#include "worker/worker_internal.h"

#include "common/base/banned.h"

#define UNREAD_TRIES 3
#define KEY_MAX 600
#define RUNNING_EXTRA_MS 60000
#define RUNNING_UNBOUNDED_MS (INT64_C(24) * 3600 * 1000)

static struct str key_of(char space[KEY_MAX], struct str prefix, struct str id)
{
    size_t len = id.len < KEY_MAX - prefix.len ? id.len : KEY_MAX - prefix.len;

    memcpy(space, prefix.ptr, prefix.len);
    if (len > 0)
        memcpy(space + prefix.len, id.ptr, len);
    return (struct str){space, prefix.len + len};
}

static struct str ms_text(char space[24], int64_t ms)
{
    return (struct str){space, i64_format(ms, space)};
}

bool claim_applies(const struct job *job)
{
    /* at_most_once: the grant decides, and Redis has no say. noop: doing it again costs less than a claim. */
    return job->task.delivery == TASK_AT_LEAST_ONCE && !str_is(job->task.call, "noop");
}

void claim_read(struct worker_core *core, struct job *job)
{
    char key[KEY_MAX];

    job_turn(core, job, JOB_READING);
    job->asked = true;
    core->ports.cache(core->ports.ctx, job, 2,
                      (struct str[]){STR("GET"), key_of(key, STR("rw:claim:"), job->task.task_id)});
}

/* How long a claim may stand without an end: longer than the attempt can last. */
static int64_t running_ttl_ms(const struct job *job)
{
    if (job->task.timeout_us == 0)
        return RUNNING_UNBOUNDED_MS;
    return job->task.timeout_us / US_PER_MS + RUNNING_EXTRA_MS;
}

static void set_running(struct worker_core *core, struct job *job, struct job *asker)
{
    char key[KEY_MAX], ttl[24], value[KEY_MAX];

    core->ports.cache(core->ports.ctx, asker, 6,
                      (struct str[]){STR("SET"), key_of(key, STR("rw:claim:"), job->task.task_id),
                                     key_of(value, STR("r"), str_of(core->options.id)), STR("PX"),
                                     ms_text(ttl, running_ttl_ms(job)), STR("NX")});
    job->claimed = true;
}

void claim_take(struct worker_core *core, struct job *job)
{
    job_turn(core, job, JOB_CLAIMING);
    job->asked = true;
    set_running(core, job, job);
}

void claim_write(struct worker_core *core, struct job *job)
{
    if (claim_applies(job) && !job->claimed)
        set_running(core, job, NULL);
}

void claim_finish(struct worker_core *core, struct job *job)
{
    CLEANUP(buf_deinit) struct buf value = {0};
    char key[KEY_MAX], ttl[24];
    bool large = job->result_len > CACHED_RESULT_MAX;

    if (!claim_applies(job) || !job->claimed)
        return;
    buf_init(&value, CACHED_RESULT_MAX + 1);
    if (large) {
        buf_append_char(&value, 'F');
    } else {
        buf_append_char(&value, 'f');
        buf_append(&value, job->result, job->result_len);
    }
    core->ports.cache(core->ports.ctx, NULL, 5,
                      (struct str[]){STR("SET"), key_of(key, STR("rw:claim:"), job->task.task_id), buf_str(&value),
                                     STR("PX"), ms_text(ttl, large ? LARGE_MARK_MS : core->options.claim_ttl_ms)});
}

/* A task that goes back unbegun must not look as if a living holder had it. */
void claim_release(struct worker_core *core, struct job *job)
{
    char key[KEY_MAX];

    if (!job->claimed)
        return;
    job->claimed = false;
    core->ports.cache(core->ports.ctx, NULL, 2,
                      (struct str[]){STR("DEL"), key_of(key, STR("rw:claim:"), job->task.task_id)});
}

void claim_renew_holder(struct worker_core *core)
{
    char key[KEY_MAX], ttl[24];

    core->ports.cache(core->ports.ctx, NULL, 5,
                      (struct str[]){STR("SET"), key_of(key, STR("rw:holder:"), str_of(core->options.id)), STR("1"),
                                     STR("PX"), ms_text(ttl, core->options.holder_ttl_ms)});
}

static void ask_holder(struct worker_core *core, struct job *job, struct str holder)
{
    char key[KEY_MAX];

    job_turn(core, job, JOB_HOLDER);
    job->asked = true;
    core->ports.cache(core->ports.ctx, job, 2, (struct str[]){STR("EXISTS"), key_of(key, STR("rw:holder:"), holder)});
}

/* Looks again in a second. */
static void watch(struct worker_core *core, struct job *job)
{
    job_turn(core, job, JOB_WATCHING);
    job->due_at.us = core->ports.mono(core->ports.ctx).us + US_PER_S;
}

static void on_claim(struct worker_core *core, struct job *job, struct str value)
{
    char kind = value.len == 0 ? '\0' : value.ptr[0];
    struct str rest = {value.ptr + (value.len > 0), value.len - (value.len > 0)};

    if (kind == 'f') {
        job_cached(core, job, rest);
    } else if (kind == 'F') { /* its result is on its way or has arrived */
        job_drop(core, job, true);
    } else if (kind == 'r' && !str_eq(rest, str_of(core->options.id))) {
        ask_holder(core, job, rest);
    } else { /* our own claim of a task that is not in hand, or one we cannot read: begun, end unknown */
        job_abandon(core, job);
    }
}

void worker_core_cache_answered(struct worker_core *core, struct job *job, enum cache_answer answer, struct str value)
{
    job->asked = false;
    if (job->state == JOB_DROPPED) {
        job_drop(core, job, false);
        return;
    }
    /* Without the cache a repeated task cannot be told from one that runs elsewhere. It is not done here, and three
     * attempts that end so make a step poison: a cache that is only slow, or starts again, is asked some more times
     * first. */
    if (answer != CACHE_ANSWER_FAILED)
        job->unread = 0;
    if (answer == CACHE_ANSWER_FAILED && (job->state == JOB_READING || job->state == JOB_HOLDER) &&
        job->unread++ < UNREAD_TRIES) {
        watch(core, job);
    } else if (answer == CACHE_ANSWER_FAILED) {
        bool in_doubt = job->state == JOB_CLAIMING;

        job_abandon(core, job);
        /* The claim may stand, or come to stand when the cache hears of it late: who has a copy of the task would wait
         * for us, who live, until it lapses, and then do what was given up long before. */
        if (in_doubt)
            claim_finish(core, job);
    } else if (job->state == JOB_READING) {
        if (answer == CACHE_ANSWER_NONE)
            claim_take(core, job);
        else
            on_claim(core, job, value);
    } else if (job->state == JOB_CLAIMING) {
        if (answer == CACHE_ANSWER_VALUE) {
            job_ready(core, job);
        } else { /* somebody was faster */
            job->claimed = false;
            claim_read(core, job);
        }
    } else if (job->state == JOB_HOLDER) {
        if (str_is(value, "1")) {
            watch(core, job);
        } else {
            job_abandon(core, job);
        }
    }
}
