/* Values that the engine asks for: plain paths are answered here, the rest goes to the sandbox; a run whose values are
 * not there keeps its inputs and comes back when they are. */
#include "scheduler/core/core_internal.h"

#include "common/base/banned.h"

#define TRIES_MAX 3
#define VALUE_MAX_BYTES ((size_t)1 << 20)
#define FAULT_MAX_BYTES 1024
#define SOURCE_TOLD_BYTES 120

/* EXPR_NOT_HERE: a body is being brought. */
static enum expr_status eval_expr(struct sched *sched, struct work *work, struct eval_job *job, uint32_t index,
                                  struct err *err)
{
    const struct expr *expr = &job->template->exprs[index];
    struct reader reader = {.sched = sched, .work = work, .job = job, .expr = expr};
    struct expr_doc doc;
    enum expr_status status;
    struct eval_ask *ask;

    if (!reading_begin(&reader, &doc))
        return EXPR_NOT_HERE;
    if (expr->native) {
        status = expr_eval_native(expr, &doc, work->arena, &job->values[index], err);
        /* Slices of cached bodies live until the tick ends; what waits longer needs its own. */
        if (status == EXPR_OK && job->template->expr_count > 1)
            job->values[index] = str_arena(work->arena, job->values[index]);
        return status;
    }
    buf_reset(&sched->scratch);
    status = expr_document(expr, &doc, sched->set.document_max_bytes, &sched->scratch, err);
    if (reader.too_large) {
        (void)err_set(err, ERR_TOO_LARGE, "the list that the expression reads is larger than %zu bytes",
                      sched->set.document_max_bytes);
        return EXPR_FAILED;
    }
    if (status != EXPR_OK)
        return status;
    /* It outlives the work when the work is dropped: who evaluates may still be reading it. */
    ask = mem_alloc(sizeof(*ask) + sched->scratch.len + 1);
    memcpy(ask + 1, sched->scratch.ptr, sched->scratch.len);
    ask->document = (struct str){(const char *)(ask + 1), sched->scratch.len};
    ask->id = ++sched->next_ask;
    ask->work = work;
    ask->job = job;
    ask->index = index;
    ask->organisation = work->entry->run->organisation;
    ask->plan = plan_ref(work->entry->run->plan);
    ask->source = expr->source;
    ask->next_of_work = work->asks;
    work->asks = ask;
    htable_add(&sched->asks, &ask->node, hash_u64(ask->id));
    job->asked[index] = true;
    evaluate_ask(sched, ask);
    return EXPR_OK;
}

void evaluate_ask(struct sched *sched, struct eval_ask *ask)
{
    if (sched->evaluation_count == sched->evaluation_cap) {
        sched->evaluation_cap = sched->evaluation_cap == 0 ? 16 : 2 * sched->evaluation_cap;
        sched->evaluations = mem_grow(sched->evaluations, sched->evaluation_cap, sizeof(*sched->evaluations));
    }
    ask->tries++;
    sched->evaluations[sched->evaluation_count++] = (struct sched_evaluation){.id = ask->id,
                                                                              .organisation = ask->organisation,
                                                                              .plan = ask->plan,
                                                                              .source = ask->source,
                                                                              .document = ask->document};
}

static void job_failed(struct work *work, struct eval_job *job, struct str message)
{
    job->failed = true;
    job->message = str_arena(work->arena, message);
}

/* Of several expressions of a step, which it was: what jq says of values does not tell. */
static void expr_failed(struct work *work, struct eval_job *job, uint32_t index, struct str message)
{
    struct str source = utf8_prefix(job->template->exprs[index].source, SOURCE_TOLD_BYTES);
    bool cut = source.len < job->template->exprs[index].source.len;

    job->failed = true;
    job->message =
        str_of(arena_printf(work->arena, STR_FMT ", in ${ " STR_FMT "%s }",
                            STR_ARG(utf8_prefix(message, FAULT_MAX_BYTES)), STR_ARG(source), cut ? " ..." : ""));
}

/* Tries what has not been tried, or lacked a body. */
static void job_run(struct sched *sched, struct work *work, struct eval_job *job)
{
    struct err err = {.code = ERR_OK};

    job->wants_body = false;
    for (uint32_t i = 0; i < job->template->expr_count && !job->failed; i++) {
        if (job->have[i] || job->asked[i])
            continue;
        if (job->template->exprs[i].secret) {
            job->have[i] = true;
            job->missing--;
            continue;
        }
        switch (eval_expr(sched, work, job, i, &err)) {
        case EXPR_OK:
            if (job->asked[i])
                break;
            job->have[i] = true;
            job->missing--;
            break;
        case EXPR_NOT_HERE:
            job->wants_body = true;
            break;
        case EXPR_FAILED:
            expr_failed(work, job, i, str_of(err.message));
            break;
        }
    }
}

/* Its value goes to the engine, which may ask for more. */
static enum err_code job_finish(struct sched *sched, struct work *work, struct eval_job *job, struct err *err)
{
    struct engine_input in = {
        .kind = IN_VALUE, .node = job->node, .purpose = job->purpose, .index = job->index, .question = job->question};
    struct buf out;
    enum err_code rc;

    job->done = true;
    work->pending--;
    if (!job->failed) {
        buf_init(&out, VALUE_MAX_BYTES);
        rc = template_render(job->template, job->values, work->arena, &out, err);
        if (rc == ERR_OK)
            in.value = str_arena(work->arena, buf_str(&out));
        else
            job_failed(work, job, str_of(err->message));
        buf_deinit(&out);
    }
    in.failed = job->failed;
    in.message = job->message;
    work->bytes += in.value.len;
    if (sched->set.journal.enter != NULL)
        sched->set.journal.enter(sched->set.journal.ctx, work->entry->id);
    rc = work_feed(sched, work, &in, err);
    if (sched->set.journal.leave != NULL)
        sched->set.journal.leave(sched->set.journal.ctx, work->entry->id);
    return rc;
}

static struct eval_job *job_new(struct work *work, const struct effect_eval *eval)
{
    struct eval_job *job = arena_alloc(work->arena, sizeof(*job));
    size_t count = eval->template->expr_count;

    job->node = eval->node;
    job->purpose = eval->purpose;
    job->index = eval->index;
    job->question = eval->question;
    job->template = eval->template;
    job->frame = eval->frame;
    job->values = arena_array(work->arena, count, sizeof(struct str));
    job->have = arena_array(work->arena, count, sizeof(bool));
    job->asked = arena_array(work->arena, count, sizeof(bool));
    job->missing = (uint32_t)count;
    job->next = work->jobs;
    work->jobs = job;
    work->pending++;
    return job;
}

enum err_code evaluate_start(struct sched *sched, struct work *work, struct err *err)
{
    while (work->evals_seen < work->fx.eval_count) {
        struct eval_job *job = job_new(work, &work->fx.evals[work->evals_seen++]);
        enum err_code rc;

        job_run(sched, work, job);
        if (!job->failed && job->missing > 0)
            continue;
        rc = job_finish(sched, work, job, err);
        if (rc != ERR_OK)
            return rc;
    }
    return ERR_OK;
}

/* After something came: finishes what can be finished, and hands the work on when nothing is missing any more. */
static void resume(struct sched *sched, struct work *work)
{
    struct err err = {.code = ERR_OK};
    enum err_code rc = ERR_OK;
    bool progress = true;

    while (progress && rc == ERR_OK) {
        progress = false;
        for (struct eval_job *job = work->jobs; job != NULL && rc == ERR_OK; job = job->next) {
            if (job->done || (!job->failed && job->missing > 0))
                continue;
            rc = job_finish(sched, work, job, &err);
            progress = true;
        }
        if (rc == ERR_OK)
            rc = evaluate_start(sched, work, &err);
    }
    if (rc != ERR_OK)
        work_broken(sched, work, &err);
    else
        work_continue(sched, work);
}

void evaluate_again(struct sched *sched, struct run_entry *entry)
{
    struct work *work = entry->work;

    if (work->pending == 0)
        return;
    for (struct eval_job *job = work->jobs; job != NULL; job = job->next)
        if (!job->done && job->wants_body)
            job_run(sched, work, job);
    resume(sched, work);
}

static struct eval_ask *find_ask(const struct sched *sched, uint64_t id)
{
    for (struct hnode *n = htable_chain(&sched->asks, hash_u64(id)); n != NULL; n = n->next) {
        struct eval_ask *ask = CONTAINER(n, struct eval_ask, node);

        if (ask->id == id)
            return ask;
    }
    return NULL;
}

static void ask_free(struct sched *sched, struct eval_ask *ask)
{
    htable_del(&sched->asks, &ask->node);
    if (ask->work != NULL) {
        struct eval_ask **at = &ask->work->asks;

        while (*at != ask)
            at = &(*at)->next_of_work;
        *at = ask->next_of_work;
    }
    plan_unref(ask->plan);
    mem_free(ask);
}

void sched_on_values(struct sched *sched, const struct sched_value *values, size_t count)
{
    sched->now = sched->ports.mono(sched->ports.ctx);
    sched->wall = sched->ports.wall(sched->ports.ctx);
    for (size_t i = 0; i < count; i++) {
        struct eval_ask *ask = find_ask(sched, values[i].id);
        struct work *work;
        struct eval_job *job;
        uint32_t index;

        if (ask == NULL)
            continue;
        work = ask->work;
        if (work != NULL && values[i].status == VALUE_AGAIN && ask->tries < TRIES_MAX) {
            evaluate_ask(sched, ask);
            continue;
        }
        job = ask->job;
        index = ask->index;
        ask_free(sched, ask);
        metric_add(METRIC_EXPRESSIONS, 1);
        if (work == NULL || job->done || job->failed)
            continue;
        if (values[i].status == VALUE_OK) {
            job->values[index] = str_arena(work->arena, values[i].value);
            job->have[index] = true;
            job->missing--;
        } else {
            expr_failed(work, job, index,
                        values[i].status == VALUE_FAILED ? values[i].message
                                                         : STR("the sandbox died whenever it was evaluated"));
        }
        resume(sched, work);
    }
}

void evaluate_flush(struct sched *sched)
{
    if (sched->evaluation_count == 0)
        return;
    sched->ports.evaluate(sched->ports.ctx, sched->evaluations, sched->evaluation_count);
    sched->evaluation_count = 0;
}

static bool take_back(struct sched *sched, uint64_t id)
{
    for (size_t i = 0; i < sched->evaluation_count; i++) {
        if (sched->evaluations[i].id != id)
            continue;
        sched->evaluations[i] = sched->evaluations[--sched->evaluation_count];
        return true;
    }
    return false;
}

/* Questions that were sent stay until they are answered; nobody waits for them any more. */
void evaluate_drop(struct sched *sched, struct work *work)
{
    for (struct eval_ask *ask = work->asks, *next; ask != NULL; ask = next) {
        next = ask->next_of_work;
        ask->work = NULL;
        if (take_back(sched, ask->id))
            ask_free(sched, ask);
    }
    work->asks = NULL;
}

void evaluate_free(struct sched *sched)
{
    for (size_t i = 0; i < sched->asks.cap; i++) {
        while (sched->asks.slots[i] != NULL)
            ask_free(sched, CONTAINER(sched->asks.slots[i], struct eval_ask, node));
    }
    htable_deinit(&sched->asks);
    mem_free(sched->evaluations);
}
