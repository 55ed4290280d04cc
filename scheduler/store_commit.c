/* One batch is one transaction: the guard first, then rows as arrays, one statement per table, but for large bodies. */
#include "scheduler/store_internal.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/engine/notice.h"
#include "rw_scheduler_sql.h"

#include "common/base/banned.h"

#define LARGE_BODY_BYTES 32768 /* of an output: from here on a row costs less by a statement of its own */

struct commit {
    struct store *store;
    const struct sched_batch *batch;
    int admissions; /* index of their statement, -1 */
    struct sched_commit_outcome outcome;
};

static enum sched_outcome outcome_of(const struct pg_outcome *o)
{
    if (o->unknown)
        return SCHED_UNKNOWN;
    switch (o->rc) {
    case ERR_OK:
        return SCHED_COMMITTED;
    case ERR_STALE:
        return SCHED_FENCED;
    case ERR_CONFLICT:
        return SCHED_CONFLICT;
    case ERR_REFUSED_DATA:
        return SCHED_REFUSED;
    default:
        return SCHED_UNAVAILABLE;
    }
}

static void tell(struct commit *commit)
{
    struct store *store = commit->store;

    sched_on_committed(store->sched, commit->batch->number, &commit->outcome);
    mem_free((void *)(uintptr_t)commit->outcome.told);
    mem_free(commit);
    store->options.woken(store->options.ctx);
}

static void wait_for_decision(struct commit *commit);

static void decided(void *ctx, const struct pg_outcome *o)
{
    struct commit *commit = ctx;
    bool gone = o->rc == ERR_OK;

    for (size_t i = 0; gone && i < pg_rows(o->results[0]); i++)
        gone = pg_get_bool(o->results[0], i, 0);
    if (gone || commit->store->freeing)
        tell(commit);
    else
        wait_for_decision(commit);
}

/* The server process of a lost connection may still be at work: it reads what was sent, to the end, before it notices.
 * Runs read now would lack the batch's rows, and a moment later they would be there. So the process is ended first.
 * Without a connection this waits for one (5 s each time): it does not spin. */
static void wait_for_decision(struct commit *commit)
{
    struct pg_batch *pg = pg_batch_new(false);

    (void)pg_add(pg, SQL_BATCH_END_STRAY, pg_text(str_of(commit->store->batches_name)));
    pg_submit(commit->store->writer, pg, decided, commit);
}

/* --- where tests let the process die ------------------------------------------------------------------------------ */

static bool has_event(const struct sched_batch *b, enum event_type type)
{
    for (size_t i = 0; i < b->event_count; i++)
        if (b->events[i].event->type == type)
            return true;
    return false;
}

static bool ends_a_run(const struct sched_batch *b)
{
    for (size_t i = 0; i < b->run_count; i++)
        if (b->runs[i].ended_at.us != 0)
            return true;
    return false;
}

static bool tells_a_parent(const struct sched_batch *b)
{
    for (size_t i = 0; i < b->command_insert_count; i++)
        if (strcmp(b->command_inserts[i].kind, "child_ended") == 0)
            return true;
    return false;
}

static void fault_points_applied(const struct sched_batch *b)
{
    (void)b;
    FAULT_POINT_IF(scheduler_batch_applied, b->event_count > 0);
    FAULT_POINT_IF(scheduler_child_applied, b->child_count > 0);
    FAULT_POINT_IF(scheduler_tell_applied, tells_a_parent(b));
    FAULT_POINT_IF(scheduler_timer_applied, has_event(b, EVENT_STEP_TIMED_OUT));
    FAULT_POINT_IF(scheduler_dead_letter_applied, b->dead_letter_count > 0);
    FAULT_POINT_IF(scheduler_notice_applied, b->notice_count > 0);
}

static void fault_points_committed(const struct sched_batch *b)
{
    (void)b;
    FAULT_POINT_IF(scheduler_batch_committed, b->event_count > 0);
    FAULT_POINT_IF(scheduler_child_committed, b->child_count > 0);
    FAULT_POINT_IF(scheduler_tell_committed, tells_a_parent(b));
    FAULT_POINT_IF(scheduler_timer_committed, has_event(b, EVENT_STEP_TIMED_OUT));
    FAULT_POINT_IF(scheduler_started_committed, has_event(b, EVENT_STEP_STARTED));
    FAULT_POINT_IF(scheduler_undo_committed, has_event(b, EVENT_RUN_COMPENSATING));
    FAULT_POINT_IF(scheduler_end_committed, ends_a_run(b));
    FAULT_POINT_IF(scheduler_verdict_committed, has_event(b, EVENT_COMMAND_APPLIED));
    FAULT_POINT_IF(scheduler_dead_letter_committed, b->dead_letter_count > 0);
    FAULT_POINT_IF(scheduler_notice_committed, b->notice_count > 0);
}

/* --- the outcome -------------------------------------------------------------------------------------------------- */

/* Whom the keys have told something. */
static void read_told(struct commit *commit, const struct pg_outcome *o)
{
    const struct pg_result *rows = commit->admissions < 0 ? NULL : o->results[commit->admissions];
    int16_t *told;

    if (rows == NULL || pg_rows(rows) == 0)
        return;
    told = mem_array(pg_rows(rows), sizeof(*told));
    for (size_t i = 0; i < pg_rows(rows); i++)
        told[i] = (int16_t)pg_get_int(rows, i, 0);
    commit->outcome.told = told;
    commit->outcome.told_count = pg_rows(rows);
}

static void committed(void *ctx, const struct pg_outcome *o)
{
    struct commit *commit = ctx;

    commit->outcome = (struct sched_commit_outcome){.outcome = outcome_of(o), .err = *o->err};
    if (commit->outcome.outcome == SCHED_COMMITTED) {
        read_told(commit, o);
        fault_points_committed(commit->batch);
    } else {
        log_event(o->rc == ERR_INTERNAL ? LOG_ERROR : LOG_WARN, "batch.not_committed",
                  log_i64("batch", (int64_t)commit->batch->number), log_i64("statement", o->failed_statement),
                  log_bool("unknown", o->unknown), log_err(o->err));
    }
    if (o->unknown && !commit->store->freeing)
        wait_for_decision(commit);
    else
        tell(commit);
}

/* In the order of the statements' parameters. */
enum { EVENT_COLUMNS = 9 };
static const enum pg_elem event_types[EVENT_COLUMNS] = {PG_E_UUID, PG_E_I32, PG_E_I32,  PG_E_TIME, PG_E_I16,
                                                        PG_E_TEXT, PG_E_I16, PG_E_JSON, PG_E_JSON};

static void event_columns(const struct sched_event_row *row, struct pg_param ret[EVENT_COLUMNS])
{
    const struct event *e = row->event;

    ret[0] = pg_uuid(row->run);
    ret[1] = pg_i32((int32_t)e->seq);
    ret[2] = pg_i32(row->organisation);
    ret[3] = pg_time(e->at);
    ret[4] = pg_i16((int16_t)e->type);
    ret[5] = pg_text(e->step);
    ret[6] = e->attempt == 0 ? pg_null() : pg_i16((int16_t)e->attempt);
    ret[7] = pg_json(row->data);
    ret[8] = pg_json(e->output);
}

static void add_events(struct pg_batch *pg, const struct sched_batch *b)
{
    struct pg_array *columns[EVENT_COLUMNS];
    struct pg_param values[EVENT_COLUMNS];
    size_t together = 0;

    if (b->event_count == 0)
        return;
    for (size_t k = 0; k < EVENT_COLUMNS; k++)
        columns[k] = pg_array_new(pg, event_types[k]);
    for (size_t i = 0; i < b->event_count; i++) {
        event_columns(&b->events[i], values);
        if (b->events[i].event->output.len >= LARGE_BODY_BYTES) {
            (void)pg_batch_add(pg, SQL_BATCH_EVENT_APPEND_ONE, values, EVENT_COLUMNS);
            continue;
        }
        for (size_t k = 0; k < EVENT_COLUMNS; k++)
            pg_array_add(columns[k], values[k]);
        together++;
    }
    if (together == 0)
        return;
    for (size_t k = 0; k < EVENT_COLUMNS; k++)
        values[k] = pg_array_param(columns[k]);
    (void)pg_batch_add(pg, SQL_BATCH_EVENT_APPEND, values, EVENT_COLUMNS);
}

static size_t count_of_events(const struct sched_batch *b)
{
    size_t count = 0;

    for (size_t i = 0; i < b->open_count; i++)
        count += b->opens[i].kind == WORK_EVENT;
    return count;
}

static void add_event_opens(struct pg_batch *pg, const struct sched_batch *b)
{
    static const enum pg_elem types[] = {PG_E_I16,  PG_E_UUID, PG_E_I32,  PG_E_I32,  PG_E_TEXT, PG_E_TIME,
                                         PG_E_TIME, PG_E_TEXT, PG_E_TEXT, PG_E_TEXT, PG_E_I64};
    enum { COLUMNS = sizeof(types) / sizeof(types[0]) };
    struct pg_array *c[COLUMNS];
    struct pg_param params[COLUMNS];

    for (size_t i = 0; i < COLUMNS; i++)
        c[i] = pg_array_new(pg, types[i]);
    for (size_t i = 0; i < b->open_count; i++) {
        const struct sched_open_row *row = &b->opens[i];

        if (row->kind != WORK_EVENT)
            continue;
        pg_array_add(c[0], pg_i16(row->shard));
        pg_array_add(c[1], pg_uuid(row->run));
        pg_array_add(c[2], pg_i32((int32_t)row->seq));
        pg_array_add(c[3], pg_i32(row->organisation));
        pg_array_add(c[4], pg_text(row->step));
        pg_array_add(c[5], pg_time(row->due_at));
        pg_array_add(c[6], pg_time(row->opened_at));
        pg_array_add(c[7], pg_text(str_of(row->reason)));
        pg_array_add(c[8], pg_text(row->event_type));
        pg_array_add(c[9], pg_text(row->event_source));
        pg_array_add(c[10], pg_i64(row->look_back_us));
    }
    for (size_t i = 0; i < COLUMNS; i++)
        params[i] = pg_array_param(c[i]);
    (void)pg_batch_add(pg, SQL_BATCH_EVENT_OPEN, params, COLUMNS);
}

static void add_opens(struct pg_batch *pg, const struct sched_batch *b)
{
    struct pg_array *shard, *run, *seq, *organisation, *kind, *step, *attempt, *dispatch, *pool, *priority, *due,
        *opened, *reason;
    size_t events = count_of_events(b);

    if (events > 0)
        add_event_opens(pg, b);
    if (b->open_count == events)
        return;
    shard = pg_array_new(pg, PG_E_I16);
    run = pg_array_new(pg, PG_E_UUID);
    seq = pg_array_new(pg, PG_E_I32);
    organisation = pg_array_new(pg, PG_E_I32);
    kind = pg_array_new(pg, PG_E_I16);
    step = pg_array_new(pg, PG_E_TEXT);
    attempt = pg_array_new(pg, PG_E_I16);
    dispatch = pg_array_new(pg, PG_E_I32);
    pool = pg_array_new(pg, PG_E_TEXT);
    priority = pg_array_new(pg, PG_E_I16);
    due = pg_array_new(pg, PG_E_TIME);
    opened = pg_array_new(pg, PG_E_TIME);
    reason = pg_array_new(pg, PG_E_TEXT);
    for (size_t i = 0; i < b->open_count; i++) {
        const struct sched_open_row *row = &b->opens[i];

        if (row->kind == WORK_EVENT)
            continue;
        pg_array_add(shard, pg_i16(row->shard));
        pg_array_add(run, pg_uuid(row->run));
        pg_array_add(seq, pg_i32((int32_t)row->seq));
        pg_array_add(organisation, pg_i32(row->organisation));
        pg_array_add(kind, pg_i16((int16_t)row->kind));
        pg_array_add(step, pg_text(row->step));
        pg_array_add(attempt, pg_i16((int16_t)row->attempt));
        pg_array_add(dispatch, pg_i32((int32_t)row->dispatch));
        pg_array_add(pool, pg_text(row->pool));
        pg_array_add(priority, row->kind == WORK_TASK ? pg_i16(row->priority) : pg_null());
        pg_array_add(due, pg_time(row->due_at));
        pg_array_add(opened, pg_time(row->opened_at));
        pg_array_add(reason, pg_text(str_of(row->reason)));
    }
    (void)pg_add(pg, SQL_BATCH_WORK_OPEN, pg_array_param(shard), pg_array_param(run), pg_array_param(seq),
                 pg_array_param(organisation), pg_array_param(kind), pg_array_param(step), pg_array_param(attempt),
                 pg_array_param(dispatch), pg_array_param(pool), pg_array_param(priority), pg_array_param(due),
                 pg_array_param(opened), pg_array_param(reason));
}

static void add_closes(struct pg_batch *pg, const struct sched_batch *b)
{
    struct pg_array *shard, *run, *seq;

    if (b->close_count == 0)
        return;
    shard = pg_array_new(pg, PG_E_I16);
    run = pg_array_new(pg, PG_E_UUID);
    seq = pg_array_new(pg, PG_E_I32);
    for (size_t i = 0; i < b->close_count; i++) {
        pg_array_add(shard, pg_i16(b->closes[i].shard));
        pg_array_add(run, pg_uuid(b->closes[i].run));
        pg_array_add(seq, pg_i32((int32_t)b->closes[i].seq));
    }
    (void)pg_add(pg, SQL_BATCH_WORK_CLOSE, pg_array_param(shard), pg_array_param(run), pg_array_param(seq));
}

static void add_changes(struct pg_batch *pg, const struct sched_batch *b)
{
    struct pg_array *shard, *run, *seq, *dispatch, *due, *reason;

    if (b->change_count == 0)
        return;
    shard = pg_array_new(pg, PG_E_I16);
    run = pg_array_new(pg, PG_E_UUID);
    seq = pg_array_new(pg, PG_E_I32);
    dispatch = pg_array_new(pg, PG_E_I32);
    due = pg_array_new(pg, PG_E_TIME);
    reason = pg_array_new(pg, PG_E_TEXT);
    for (size_t i = 0; i < b->change_count; i++) {
        const struct sched_change_row *row = &b->changes[i];
        pg_array_add(shard, pg_i16(row->shard));
        pg_array_add(run, pg_uuid(row->run));
        pg_array_add(seq, pg_i32((int32_t)row->seq));
        pg_array_add(dispatch, pg_i32((int32_t)row->dispatch));
        pg_array_add(due, pg_time(row->due_at));
        pg_array_add(reason, pg_text(str_of(row->reason)));
    }
    (void)pg_add(pg, SQL_BATCH_WORK_CHANGE, pg_array_param(shard), pg_array_param(run), pg_array_param(seq),
                 pg_array_param(dispatch), pg_array_param(due), pg_array_param(reason));
}

static void add_runs(struct pg_batch *pg, const struct sched_batch *b)
{
    struct pg_array *run, *status, *started, *ended, *code, *step, *text, *reopened;

    if (b->run_count == 0)
        return;
    run = pg_array_new(pg, PG_E_UUID);
    status = pg_array_new(pg, PG_E_TEXT);
    started = pg_array_new(pg, PG_E_TIME);
    ended = pg_array_new(pg, PG_E_TIME);
    code = pg_array_new(pg, PG_E_TEXT);
    step = pg_array_new(pg, PG_E_TEXT);
    text = pg_array_new(pg, PG_E_TEXT);
    reopened = pg_array_new(pg, PG_E_BOOL);
    for (size_t i = 0; i < b->run_count; i++) {
        const struct sched_run_row *row = &b->runs[i];
        pg_array_add(run, pg_uuid(row->run));
        pg_array_add(status, pg_text(str_of(run_status_name(row->status))));
        pg_array_add(started, pg_time(row->started_at));
        pg_array_add(ended, pg_time(row->ended_at));
        pg_array_add(code, pg_text(row->error_code));
        pg_array_add(step, pg_text(row->error_step));
        pg_array_add(text, pg_text(row->error_text));
        pg_array_add(reopened, pg_bool(row->reopened));
    }
    (void)pg_add(pg, SQL_BATCH_RUN_UPDATE, pg_array_param(run), pg_array_param(status), pg_array_param(started),
                 pg_array_param(ended), pg_array_param(code), pg_array_param(step), pg_array_param(text),
                 pg_array_param(reopened));
}

static void add_children(struct pg_batch *pg, const struct sched_batch *b)
{
    static const enum pg_elem types[] = {PG_E_I16, PG_E_I32, PG_E_UUID, PG_E_UUID, PG_E_TEXT, PG_E_TEXT,
                                         PG_E_I32, PG_E_I16, PG_E_I16,  PG_E_TIME, PG_E_JSON};
    enum { COLUMNS = sizeof(types) / sizeof(types[0]) };
    struct pg_array *c[COLUMNS];
    struct pg_param params[COLUMNS];

    if (b->child_count == 0)
        return;
    for (size_t i = 0; i < COLUMNS; i++)
        c[i] = pg_array_new(pg, types[i]);
    for (size_t i = 0; i < b->child_count; i++) {
        const struct sched_child_row *row = &b->children[i];

        pg_array_add(c[0], pg_i16(row->shard));
        pg_array_add(c[1], pg_i32(row->organisation));
        pg_array_add(c[2], pg_uuid(row->run));
        pg_array_add(c[3], pg_uuid(row->parent));
        pg_array_add(c[4], pg_text(row->parent_step));
        pg_array_add(c[5], pg_text(row->workflow));
        pg_array_add(c[6], pg_i32(row->version));
        pg_array_add(c[7], pg_i16(row->priority));
        pg_array_add(c[8], pg_i16(row->depth));
        pg_array_add(c[9], pg_time(row->created_at));
        pg_array_add(c[10], pg_json(row->input));
    }
    for (size_t i = 0; i < COLUMNS; i++)
        params[i] = pg_array_param(c[i]);
    (void)pg_batch_add(pg, SQL_BATCH_CHILD_START, params, COLUMNS);
}

static void add_command_keys(struct pg_batch *pg, const char *sql, const struct sched_command_key *keys, size_t count)
{
    struct pg_array *id;

    if (count == 0)
        return;
    id = pg_array_new(pg, PG_E_I64);
    for (size_t i = 0; i < count; i++)
        pg_array_add(id, pg_i64(keys[i].id));
    (void)pg_add(pg, sql, pg_array_param(id));
}

static void add_command_inserts(struct pg_batch *pg, const struct sched_batch *b)
{
    struct pg_array *shard, *run, *organisation, *kind, *body, *held;

    if (b->command_insert_count == 0)
        return;
    shard = pg_array_new(pg, PG_E_I16);
    run = pg_array_new(pg, PG_E_UUID);
    organisation = pg_array_new(pg, PG_E_I32);
    kind = pg_array_new(pg, PG_E_TEXT);
    body = pg_array_new(pg, PG_E_JSON);
    held = pg_array_new(pg, PG_E_BOOL);
    for (size_t i = 0; i < b->command_insert_count; i++) {
        const struct sched_command_insert *row = &b->command_inserts[i];
        pg_array_add(shard, pg_i16(row->shard));
        pg_array_add(run, pg_uuid(row->run));
        pg_array_add(organisation, pg_i32(row->organisation));
        pg_array_add(kind, pg_text(str_of(row->kind)));
        pg_array_add(body, pg_json(row->body));
        pg_array_add(held, pg_bool(row->held));
    }
    (void)pg_add(pg, SQL_BATCH_COMMAND_INSERT, pg_array_param(shard), pg_array_param(run), pg_array_param(organisation),
                 pg_array_param(kind), pg_array_param(body), pg_array_param(held));
}

static void add_admissions(struct pg_batch *pg, const struct sched_batch *b, int *ret_index)
{
    static const enum pg_elem types[] = {PG_E_I16, PG_E_UUID, PG_E_I32,  PG_E_UUID, PG_E_BOOL,
                                         PG_E_I32, PG_E_I32,  PG_E_TEXT, PG_E_TEXT, PG_E_JSON};
    enum { COLUMNS = sizeof(types) / sizeof(types[0]) };
    struct pg_array *c[COLUMNS];
    struct pg_param params[COLUMNS + 1];

    if (b->admission_count == 0)
        return;
    for (size_t i = 0; i < COLUMNS; i++)
        c[i] = pg_array_new(pg, types[i]);
    for (size_t i = 0; i < b->admission_count; i++) {
        const struct sched_admission_row *row = &b->admissions[i];

        pg_array_add(c[0], pg_i16(row->shard));
        pg_array_add(c[1], pg_uuid(row->key));
        pg_array_add(c[2], pg_i32(row->organisation));
        pg_array_add(c[3], pg_uuid(row->run));
        pg_array_add(c[4], pg_bool(row->release));
        pg_array_add(c[5], pg_i32((int32_t)row->seq));
        pg_array_add(c[6], row->bound == 0 ? pg_null() : pg_i32((int32_t)row->bound));
        pg_array_add(c[7], pg_text(row->mode));
        pg_array_add(c[8], pg_text(row->workflow));
        pg_array_add(c[9], pg_json(row->name));
    }
    for (size_t i = 0; i < COLUMNS; i++)
        params[i] = pg_array_param(c[i]);
    params[COLUMNS] = pg_i32(b->most_running_runs);
    *ret_index = pg_batch_add(pg, SQL_BATCH_ADMISSION, params, COLUMNS + 1);
}

static void add_dead_letters(struct pg_batch *pg, const struct sched_batch *b)
{
    struct pg_array *organisation, *kind, *source, *run, *step, *reason, *body, *type, *message_id, *bytes, *ancestor,
        *again;

    if (b->dead_letter_count == 0)
        return;
    organisation = pg_array_new(pg, PG_E_I32);
    kind = pg_array_new(pg, PG_E_TEXT);
    source = pg_array_new(pg, PG_E_TEXT);
    run = pg_array_new(pg, PG_E_UUID);
    step = pg_array_new(pg, PG_E_TEXT);
    reason = pg_array_new(pg, PG_E_TEXT);
    body = pg_array_new(pg, PG_E_BYTEA);
    type = pg_array_new(pg, PG_E_TEXT);
    message_id = pg_array_new(pg, PG_E_TEXT);
    bytes = pg_array_new(pg, PG_E_I32);
    ancestor = pg_array_new(pg, PG_E_UUID);
    again = pg_array_new(pg, PG_E_BOOL);
    for (size_t i = 0; i < b->dead_letter_count; i++) {
        const struct sched_dead_letter *row = &b->dead_letters[i];
        pg_array_add(organisation, row->organisation == 0 ? pg_null() : pg_i32(row->organisation));
        pg_array_add(kind, pg_text(str_of(row->kind)));
        pg_array_add(source, pg_text(row->source));
        pg_array_add(run, row->has_run ? pg_uuid(row->run) : pg_null());
        pg_array_add(step, pg_text(row->step));
        pg_array_add(reason, pg_text(str_of(row->reason)));
        pg_array_add(body, pg_bytea(row->body));
        pg_array_add(type, pg_text(row->type));
        pg_array_add(message_id, pg_text(row->message_id));
        pg_array_add(bytes, pg_i32((int32_t)row->bytes));
        pg_array_add(ancestor, row->has_ancestor ? pg_uuid(row->ancestor) : pg_null());
        pg_array_add(again, pg_bool(row->again));
    }
    (void)pg_add(pg, SQL_BATCH_DEAD_LETTER, pg_array_param(organisation), pg_array_param(kind), pg_array_param(source),
                 pg_array_param(run), pg_array_param(step), pg_array_param(reason), pg_array_param(body),
                 pg_array_param(type), pg_array_param(message_id), pg_array_param(bytes), pg_array_param(ancestor),
                 pg_array_param(again));
}

static void add_notices(struct pg_batch *pg, const struct sched_batch *b)
{
    static const enum pg_elem types[] = {PG_E_I32, PG_E_UUID, PG_E_TEXT, PG_E_TEXT, PG_E_TIME, PG_E_TEXT, PG_E_JSON};
    enum { COLUMNS = sizeof(types) / sizeof(types[0]) };
    struct pg_array *c[COLUMNS];
    struct pg_param params[COLUMNS];

    if (b->notice_count == 0)
        return;
    for (size_t i = 0; i < COLUMNS; i++)
        c[i] = pg_array_new(pg, types[i]);
    for (size_t i = 0; i < b->notice_count; i++) {
        const struct sched_notice *row = &b->notices[i];
        char id[NOTICE_ID_SIZE];

        notice_id(row->run, row->seq, id);
        pg_array_add(c[0], pg_i32(row->organisation));
        pg_array_add(c[1], pg_uuid(row->run));
        pg_array_add(c[2], pg_text(str_of(id)));
        pg_array_add(c[3], pg_text(str_of(row->type)));
        pg_array_add(c[4], pg_time(row->at));
        pg_array_add(c[5], pg_text(row->workflow));
        pg_array_add(c[6], pg_json(row->body));
    }
    for (size_t i = 0; i < COLUMNS; i++)
        params[i] = pg_array_param(c[i]);
    (void)pg_batch_add(pg, SQL_BATCH_NOTICE, params, COLUMNS);
}

static void add_quarantine(struct pg_batch *pg, const struct sched_batch *b)
{
    struct pg_array *run, *organisation, *shard, *reason;

    if (b->quarantine_count > 0) {
        run = pg_array_new(pg, PG_E_UUID);
        organisation = pg_array_new(pg, PG_E_I32);
        shard = pg_array_new(pg, PG_E_I16);
        reason = pg_array_new(pg, PG_E_TEXT);
        for (size_t i = 0; i < b->quarantine_count; i++) {
            pg_array_add(run, pg_uuid(b->quarantines[i].run));
            pg_array_add(organisation, pg_i32(b->quarantines[i].organisation));
            pg_array_add(shard, pg_i16(b->quarantines[i].shard));
            pg_array_add(reason, pg_text(str_of(b->quarantines[i].reason)));
        }
        (void)pg_add(pg, SQL_BATCH_QUARANTINE, pg_array_param(run), pg_array_param(organisation), pg_array_param(shard),
                     pg_array_param(reason));
    }
    if (b->release_count > 0) {
        run = pg_array_new(pg, PG_E_UUID);
        for (size_t i = 0; i < b->release_count; i++)
            pg_array_add(run, pg_uuid(b->releases[i].run));
        (void)pg_add(pg, SQL_BATCH_RELEASE, pg_array_param(run));
        (void)pg_add(pg, SQL_BATCH_RELEASE_COMMANDS, pg_array_param(run));
    }
}

void store_commit(struct store *store, const struct sched_batch *b)
{
    struct pg_batch *pg = pg_batch_new(true);
    struct commit *commit = mem_alloc(sizeof(*commit));
    struct pg_array *shards = pg_array_new(pg, PG_E_I16);
    struct pg_array *epochs = pg_array_new(pg, PG_E_I64);

    *commit = (struct commit){.store = store, .batch = b, .admissions = -1};
    for (size_t i = 0; i < b->shard_count; i++) {
        pg_array_add(shards, pg_i16(b->shards[i]));
        pg_array_add(epochs, pg_i64(b->epochs[i]));
    }
    (void)pg_add(pg, SQL_BATCH_GUARD, pg_uuid(store->options.me), pg_array_param(shards), pg_array_param(epochs));
    add_events(pg, b);
    add_closes(pg, b);
    add_opens(pg, b);
    add_changes(pg, b);
    add_runs(pg, b);
    add_children(pg, b);
    add_command_keys(pg, SQL_BATCH_COMMAND_DELETE, b->command_deletes, b->command_delete_count);
    add_command_keys(pg, SQL_BATCH_COMMAND_HOLD, b->command_holds, b->command_hold_count);
    add_command_inserts(pg, b);
    add_admissions(pg, b, &commit->admissions);
    add_dead_letters(pg, b);
    add_quarantine(pg, b);
    add_notices(pg, b);
    fault_points_applied(b);
    pg_submit(store->writer, pg, committed, commit);
    FAULT_POINT_IF(scheduler_batch_sent, b->event_count > 0);
}
