/* The messages a worker sends; see proto/result.v1.json, started.v1.json, heartbeat.v1.json. */
#include "worker/worker_internal.h"

#include "common/base/banned.h"

static void write_wall(struct jw *w, const char *key, struct wall_us at)
{
    char text[WALL_TEXT_SIZE];

    if (at.us == 0)
        return;
    wall_format(at, text);
    jw_kcstr(w, key, text);
}

static void write_error(struct jw *w, const struct call_outcome *outcome)
{
    char wait[32];

    jw_key(w, "error");
    jw_obj(w);
    jw_kcstr(w, "class", outcome->transient ? "transient" : "permanent");
    jw_kcstr(w, "code", outcome->code);
    if (outcome->message.len > 0)
        jw_kstr(w, "message", utf8_prefix(outcome->message, 1000));
    if (outcome->status >= 100 && outcome->status <= 599)
        jw_ki64(w, "status", outcome->status);
    if (outcome->retry_after_ms >= 0) {
        snprintf(wait, sizeof(wait), "%lldms", (long long)outcome->retry_after_ms);
        jw_kcstr(w, "retry_after", wait);
    }
    jw_kbool(w, "sent", outcome->sent);
    jw_kbool(w, "answered", outcome->answered);
    if (outcome->detail.len > 0)
        jw_kraw(w, "detail", outcome->detail);
    jw_end_obj(w);
}

void message_result_item(struct buf *out, const char *worker, const struct job *job, const char *status,
                         const struct call_outcome *outcome, struct wall_us ended_at)
{
    struct jw w = jw_to(out);

    jw_obj(&w);
    jw_kstr(&w, "task_id", job->task.task_id);
    jw_kstr(&w, "token", job->task.token);
    jw_kcstr(&w, "worker", worker);
    jw_kcstr(&w, "status", status);
    if (outcome != NULL && outcome->ok)
        jw_kraw(&w, "output", outcome->output);
    else if (outcome != NULL)
        write_error(&w, outcome);
    write_wall(&w, "started_at", job->begun_wall);
    write_wall(&w, "ended_at", ended_at);
    jw_end_obj(&w);
}

static void write_started(struct buf *out, const struct worker_core *core, const struct job *job, struct wall_us at,
                          unsigned ask)
{
    struct jw w = jw_to(out);

    jw_obj(&w);
    jw_ki64(&w, "v", 1);
    jw_kstr(&w, "task_id", job->task.task_id);
    jw_kstr(&w, "token", job->task.token);
    jw_kcstr(&w, "worker", core->options.id);
    jw_kcstr(&w, "reply_to", core->options.control_queue);
    write_wall(&w, "at", at);
    if (ask > 0)
        jw_ki64(&w, "ask", ask);
    jw_end_obj(&w);
}

void message_started(struct buf *out, const struct worker_core *core, const struct job *job, struct wall_us at)
{
    write_started(out, core, job, at, 0);
}

void message_ask(struct buf *out, const struct worker_core *core, const struct job *job, struct wall_us at)
{
    write_started(out, core, job, at, job->asks);
}

void message_heartbeat(struct buf *out, const struct worker_core *core)
{
    struct jw w = jw_to(out);

    jw_obj(&w);
    jw_ki64(&w, "v", 1);
    jw_kcstr(&w, "worker", core->options.id);
    jw_key(&w, "tasks");
    jw_arr(&w);
    for (const struct job *job = core->first; job != NULL; job = job->next)
        if (job->started_sent && job->state != JOB_DROPPED)
            jw_str(&w, job->task.task_id);
    jw_end_arr(&w);
    jw_end_obj(&w);
}
