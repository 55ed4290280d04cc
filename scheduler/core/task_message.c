/* Messages to workers: tasks, grants, cancels. Schemas: proto/. */
#include "scheduler/core/core_internal.h"

#include "common/base/banned.h"

static void put_duration(struct jw *w, const char *key, int64_t us)
{
    char text[32];

    if (us <= 0)
        return;
    snprintf(text, sizeof(text), "%" PRId64 "ms", (us + US_PER_MS - 1) / US_PER_MS);
    jw_kcstr(w, key, text);
}

/* "{run}:{step}" and so on, or the text that the step's own expression gave. */
static void put_key(struct jw *w, const struct run_entry *entry, uint32_t node, struct str path)
{
    struct str own = run_plan_step(entry->run, node)->has_key ? run_own_key(entry, path) : STR_NONE;
    struct arena *arena = NULL;
    struct str text = STR_NONE;
    struct buf key;

    if (own.ptr != NULL) {
        arena = arena_new(1024);
        if (!jt_string(own, arena, &text))
            text = own; /* a number and the like: as its JSON reads */
    }
    buf_init(&key, 2048);
    engine_idempotency_key(entry->run, node, text, &key);
    if (key.len > 0)
        jw_kstr(w, "idempotency_key", buf_str(&key));
    buf_deinit(&key);
    arena_free(arena);
}

/* The trace is the run, the span the attempt: the same after a takeover. */
static void put_traceparent(struct jw *w, struct run_id run, const char *token)
{
    char text[64], trace[33];

    hex_encode(run.bytes, sizeof(run.bytes), trace);
    snprintf(text, sizeof(text), "00-%s-%.16s-01", trace, token);
    jw_kcstr(w, "traceparent", text);
}

/* Where the step's `with` refers to secrets: the values are the shell's to add, since whether there are any, and what
 * they are, is not history. The call of a poll is below its "with". Returns memory of the caller. */
static struct sched_secret *secrets_of(const struct plan_step *step, size_t *ret_count)
{
    size_t skip = step->kind == CALL_POLL ? strlen("/with") : 0, count = 0;
    struct sched_secret *secrets;

    *ret_count = 0;
    for (size_t i = 0; i < step->with.expr_count; i++)
        count += step->with.exprs[i].secret;
    if (count == 0)
        return NULL;
    secrets = mem_array(count, sizeof(*secrets));
    for (size_t i = 0; i < step->with.expr_count; i++) {
        const struct expr *expr = &step->with.exprs[i];

        if (expr->secret)
            secrets[(*ret_count)++] =
                (struct sched_secret){{expr->pointer.ptr + skip, expr->pointer.len - skip}, expr->secret_name};
    }
    return secrets;
}

/* Workers begin a first publication without looking whether somebody else has it. */
static int64_t publication_of(const struct sched *sched, const struct item *item)
{
    const struct sched_ports *ports = &sched->ports;
    bool surely_first = ports->lease_is_live == NULL || ports->lease_is_live(ports->ctx);

    return item->publications == 1 && !surely_first ? 2 : item->publications;
}

void task_publish(struct sched *sched, struct item *item, const struct run_entry *entry, uint32_t node, struct str with)
{
    const struct plan_step *step = run_plan_step(entry->run, node);
    struct jw w = jw_to(&sched->message);
    char run[UUID_TEXT_SIZE], when[WALL_TEXT_SIZE], id[640], buf[STEP_PATH_SIZE];
    struct str path = run_path(entry->run, node, buf);
    struct sched_secret *secrets;
    struct sched_publish publish = {.queue = item->queue->name,
                                    .type = "task",
                                    .message_id = id,
                                    .reply_to = sched->reply_to,
                                    .persistent = true,
                                    .in_memory = !step->at_most_once, /* a grant may be under way to who has it */
                                    .confirm = ((uint64_t)item->generation << 32) | item->slot};

    run_id_format(entry->id, run);
    snprintf(id, sizeof(id), "%s/" STR_FMT "/%u/%" PRIu32, run, STR_ARG(path), (unsigned)item->attempt, item->dispatch);
    item->reply_shard = sched->reply_shard;
    if (item->token[0] == '\0')
        sched_task_token(sched->set.token_key, sched->set.incarnation, str_of(id), item->token);
    buf_reset(&sched->message);
    jw_obj(&w);
    jw_ki64(&w, "v", 1);
    jw_kcstr(&w, "task_id", id);
    jw_kcstr(&w, "token", item->token);
    jw_ki64(&w, "publication", publication_of(sched, item));
    jw_kcstr(&w, "run_id", run);
    jw_kstr(&w, "step", path);
    jw_ki64(&w, "attempt", item->attempt);
    jw_kstr(&w, "workflow", entry->plan->workflow);
    jw_kcstr(&w, "organisation", entry->org->name);
    jw_kstr(&w, "call", step->task);
    jw_kraw(&w, "with", with.ptr == NULL ? STR("{}") : with);
    put_duration(&w, "timeout", step->timeout_us);
    if (item->due_at.us != 0 && !item->deferred) {
        wall_format(item->due_at, when);
        jw_kcstr(&w, "deadline", when);
    }
    if (!step->at_most_once && !str_is(step->task, "noop")) {
        wall_format((struct wall_us){sched->wall.us + ASK_AFTER_US}, when);
        jw_kcstr(&w, "ask_after", when);
    }
    jw_kcstr(&w, "delivery", step->at_most_once ? "at_most_once" : "at_least_once");
    put_key(&w, entry, node, path);
    put_traceparent(&w, entry->id, item->token);
    if (entry->org->limited)
        jw_ki64(&w, "max_output_bytes", entry->org->limits.of[LIMIT_OUTPUT_BYTES]);
    jw_kcstr(&w, "reply_to", sched->reply_to);
    jw_end_obj(&w);
    publish.body = buf_str(&sched->message);
    publish.organisation = entry->run->organisation;
    publish.secrets = secrets = secrets_of(step, &publish.secret_count);
    metric_add(METRIC_TASKS_PUBLISHED, 1);
    sched->ports.publish(sched->ports.ctx, &publish);
    mem_free(secrets);
}

static void send_small(struct sched *sched, const char *type, const char *queue, struct str task_id, const char *field,
                       const char *value)
{
    struct jw w = jw_to(&sched->message);
    struct sched_publish publish = {.queue = queue, .type = type};

    buf_reset(&sched->message);
    jw_obj(&w);
    jw_ki64(&w, "v", 1);
    jw_kstr(&w, "task_id", task_id);
    if (field != NULL)
        jw_kraw(&w, field, str_of(value));
    jw_end_obj(&w);
    publish.body = buf_str(&sched->message);
    sched->ports.publish(sched->ports.ctx, &publish);
}

void task_publish_grant(struct sched *sched, const struct grant *grant)
{
    struct sched_publish publish = {.type = "grant"};
    char queue[QUEUE_NAME_SIZE], when[WALL_TEXT_SIZE];
    struct jw w = jw_to(&sched->message);

    snprintf(queue, sizeof(queue), STR_FMT, STR_ARG(grant->queue));
    wall_format(sched->wall, when);
    buf_reset(&sched->message);
    jw_obj(&w);
    jw_ki64(&w, "v", 1);
    jw_kstr(&w, "task_id", grant->task_id);
    jw_kbool(&w, "go", grant->go);
    jw_kcstr(&w, "at", when);
    if (grant->ask != 0)
        jw_ki64(&w, "ask", grant->ask);
    jw_end_obj(&w);
    publish.queue = queue;
    publish.body = buf_str(&sched->message);
    sched->ports.publish(sched->ports.ctx, &publish);
}

void task_publish_cancel(struct sched *sched, const struct item *item, struct str path, enum cancel_how how)
{
    static const char *const if_running[] = {
        [CANCEL_STOP] = NULL, [CANCEL_NOW] = "\"now\"", [CANCEL_FINISH] = "\"finish\""};
    bool leased = item->state == ITEM_LEASED || item->state == ITEM_DOUBTED;
    char run[UUID_TEXT_SIZE], id[640], queue[QUEUE_NAME_SIZE];

    run_id_format(item->run, run);
    snprintf(id, sizeof(id), "%s/" STR_FMT "/%u/%" PRIu32, run, STR_ARG(path), (unsigned)item->attempt, item->dispatch);
    snprintf(queue, sizeof(queue), STR_FMT, STR_ARG(item->worker_queue));
    send_small(sched, "cancel", leased && item->worker_queue.len > 0 ? queue : NULL, str_of(id),
               if_running[how] == NULL ? NULL : "if_running", if_running[how]);
}
