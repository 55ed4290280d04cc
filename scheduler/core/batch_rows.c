/* The rows of a batch, gathered from its works: what PostgreSQL gets in one transaction. */
#include "scheduler/core/core_internal.h"

#include "common/base/banned.h"

struct rows {
    struct sched *sched;
    struct batch *batch;
    struct arena *arena;
    struct sched_event_row *events;
    struct sched_open_row *opens;
    struct sched_close_row *closes, *releases;
    struct sched_change_row *changes;
    struct sched_run_row *runs;
    struct sched_child_row *children;
    struct sched_command_key *deletes, *holds;
    struct sched_command_insert *inserts;
    struct sched_admission_row *admissions;
    struct sched_dead_letter *dead;
    struct sched_quarantine_row *quarantines;
    struct sched_notice *notices;
    int16_t *shards;
    int64_t *epochs;
};

static void allocate(struct rows *r)
{
    size_t events = 0, opens = 0, closes = 0, changes = 0, inputs = 0, works = r->batch->work_count;
    size_t children = 0, told = 0, notices = 0;

    for (const struct link *at = r->batch->works.next; at != &r->batch->works; at = at->next) {
        const struct work *work = CONTAINER(at, struct work, link);

        events += work->fx.event_count;
        opens += work->fx.open_count + (work->repair == NULL ? 0 : work->repair->missing_count);
        closes += work->fx.close_count + (work->repair == NULL ? 0 : work->repair->stray_count);
        changes += work->fx.change_count;
        inputs += work->input_count;
        children += work->fx.child_count;
        notices += notices_most(work);
        told += work->fx.child_cancel_count + work->fx.child_pause_count + work->fx.admission_count +
                work->fx.child_retry_count + (work->fx.refused.retries != 0);
        for (size_t i = 0; i < work->fx.event_count; i++)
            told += event_ends_run(work->fx.events[i].type);
    }
    r->events = arena_array(r->arena, events, sizeof(*r->events));
    r->opens = arena_array(r->arena, opens, sizeof(*r->opens));
    r->closes = arena_array(r->arena, closes, sizeof(*r->closes));
    r->changes = arena_array(r->arena, changes, sizeof(*r->changes));
    r->runs = arena_array(r->arena, works, sizeof(*r->runs));
    r->deletes = arena_array(r->arena, inputs, sizeof(*r->deletes));
    r->holds = arena_array(r->arena, inputs, sizeof(*r->holds));
    r->children = arena_array(r->arena, children, sizeof(*r->children));
    r->inserts = arena_array(r->arena, inputs + told, sizeof(*r->inserts));
    r->admissions = arena_array(r->arena, inputs, sizeof(*r->admissions));
    r->dead = arena_array(r->arena, inputs + events, sizeof(*r->dead));
    r->quarantines = arena_array(r->arena, works, sizeof(*r->quarantines));
    r->notices = arena_array(r->arena, notices, sizeof(*r->notices));
    r->releases = arena_array(r->arena, works, sizeof(*r->releases));
    r->shards = arena_array(r->arena, works, sizeof(*r->shards));
    r->epochs = arena_array(r->arena, works, sizeof(*r->epochs));
}

static void add_shard(struct rows *r, struct shard *shard)
{
    struct sched_batch *rows = &r->batch->rows;

    for (size_t i = 0; i < rows->shard_count; i++)
        if (r->shards[i] == shard->number)
            return;
    r->shards[rows->shard_count] = shard->number;
    r->epochs[rows->shard_count++] = shard->epoch;
}

/* An attempt that nobody was heard of keeps its step in memory, so this finds it. */
static struct str queue_of(const struct rows *r, const struct run_state *run, struct str path)
{
    uint32_t node = run_find_step(run, path, NULL);
    const struct plan_step *step = node == NO_NODE ? NULL : run_plan_step(run, node);

    if (step == NULL)
        return STR("");
    return str_of(
        arena_printf(r->arena, "ropewalk.task." STR_FMT ".%s", STR_ARG(step->pool),
                     sched_priority_names[step->priority == PRIORITY_OF_RUN ? run->priority : step->priority]));
}

static void add_events(struct rows *r, const struct work *work)
{
    struct sched_batch *rows = &r->batch->rows;
    struct buf *text = &r->sched->text;

    for (size_t i = 0; i < work->fx.event_count; i++) {
        const struct event *event = &work->fx.events[i];
        size_t before = text->len;

        event_encode_data(event, text);
        /* The text may still move: the pointer is set when all is written. */
        r->events[rows->event_count++] = (struct sched_event_row){.run = work->entry->id,
                                                                  .organisation = work->entry->run->organisation,
                                                                  .event = event,
                                                                  .data = {NULL, text->len - before}};
        /* iterations and steps without attempts fail with the code of what failed in them */
        if (event->type == EVENT_STEP_FAILED && event->attempt > 0 && str_is(event->code, "poison")) {
            r->dead[rows->dead_letter_count++] =
                (struct sched_dead_letter){.organisation = work->entry->run->organisation,
                                           .kind = "task",
                                           .source = queue_of(r, work->entry->run, event->step),
                                           .type = STR("task"),
                                           .has_run = true,
                                           .run = work->entry->id,
                                           .step = event->step,
                                           .reason = "poison",
                                           .body = event->message,
                                           .bytes = event->message.len};
            metric_add(METRIC_DEAD_LETTERS, 1);
        }
    }
}

static void set_texts(struct rows *r)
{
    const char *at = r->sched->text.ptr;

    for (size_t i = 0; i < r->batch->rows.event_count; i++) {
        if (r->events[i].data.len == 0)
            continue;
        r->events[i].data.ptr = at;
        at += r->events[i].data.len;
    }
}

/* What a step that waits for an event waits for, its document says. */
static void note_event(struct sched_open_row *row, const struct plan_step *step)
{
    if (row->kind != WORK_EVENT)
        return;
    ENSURE(step != NULL);
    row->event_type = step->event.type;
    row->event_source = step->event.source;
    row->look_back_us = step->look_back_us;
}

static void add_open(struct rows *r, const struct work *work, const struct effect_work_open *open)
{
    const struct run_state *run = work->entry->run;
    const struct effects *fx = &work->fx;
    const struct plan_step *step = open->node == NO_NODE ? NULL : run_plan_step(run, open->node);

    r->opens[r->batch->rows.open_count++] = (struct sched_open_row){
        .shard = work->shard->number,
        .run = work->entry->id,
        .seq = open->seq,
        .organisation = run->organisation,
        .kind = open->kind,
        .step = fx->events[open->seq - fx->events[0].seq].step,
        .attempt = open->attempt,
        .dispatch = open->dispatch,
        .pool = step != NULL && open->kind == WORK_TASK ? step->pool : STR_NONE,
        .priority = step == NULL || step->priority == PRIORITY_OF_RUN ? run->priority : step->priority,
        .due_at = open->due_at,
        .opened_at = fx->events[open->seq - fx->events[0].seq].at};
    note_event(&r->opens[r->batch->rows.open_count - 1], step);
}

/* One row of a batch is changed once at most: later changes replace earlier ones, and those of a row that the batch
 * itself inserts go into the insert. */
static void add_change(struct rows *r, const struct work *work, const struct effect_work_change *change,
                       size_t first_open, size_t first_change)
{
    struct sched_batch *rows = &r->batch->rows;
    size_t at = first_change;

    for (size_t i = first_open; i < rows->open_count; i++) {
        if (r->opens[i].seq != change->seq)
            continue;
        r->opens[i].dispatch = change->dispatch;
        r->opens[i].due_at = change->due_at;
        r->opens[i].reason = change->reason;
        return;
    }
    while (at < rows->change_count && r->changes[at].seq != change->seq)
        at++;
    if (at == rows->change_count)
        rows->change_count++;
    r->changes[at] = (struct sched_change_row){.shard = work->shard->number,
                                               .run = work->entry->id,
                                               .seq = change->seq,
                                               .dispatch = change->dispatch,
                                               .due_at = change->due_at,
                                               .reason = change->reason};
}

/* Open work as the history asks for it: what was not there, and what nobody knows. */
static void add_repair(struct rows *r, const struct work *work)
{
    struct sched_batch *rows = &r->batch->rows;
    const struct repair *repair = work->repair;

    if (repair == NULL)
        return;
    for (const struct repair_row *row = repair->missing; row != NULL; row = row->next) {
        if (repair_is_closed(work, row->work.seq))
            continue;
        r->opens[rows->open_count++] = (struct sched_open_row){.shard = work->shard->number,
                                                               .run = work->entry->id,
                                                               .seq = row->work.seq,
                                                               .organisation = row->work.organisation,
                                                               .kind = row->work.kind,
                                                               .step = row->work.step,
                                                               .attempt = row->work.attempt,
                                                               .dispatch = row->work.dispatch,
                                                               .pool = row->work.pool,
                                                               .priority = row->work.priority,
                                                               .due_at = row->work.due_at,
                                                               .opened_at = row->opened_at,
                                                               .reason = "repaired"};
        if (row->node != NO_NODE)
            note_event(&r->opens[rows->open_count - 1], run_plan_step(work->entry->run, row->node));
    }
    for (size_t i = 0; i < repair->stray_count; i++)
        r->closes[rows->close_count++] =
            (struct sched_close_row){.shard = work->shard->number, .run = work->entry->id, .seq = repair->stray[i]};
}

static void add_open_work(struct rows *r, const struct work *work)
{
    struct sched_batch *rows = &r->batch->rows;
    size_t first_open = rows->open_count, first_change = rows->change_count;

    for (size_t i = 0; i < work->fx.open_count; i++)
        add_open(r, work, &work->fx.opens[i]);
    for (size_t i = 0; i < work->fx.close_count; i++)
        r->closes[rows->close_count++] =
            (struct sched_close_row){.shard = work->shard->number, .run = work->entry->id, .seq = work->fx.closes[i]};
    for (size_t i = 0; i < work->fx.change_count; i++)
        add_change(r, work, &work->fx.changes[i], first_open, first_change);
}

/* How the run has ended, of those events; NULL when it has not, or was opened again after it. */
static const struct event *end_of(const struct work *work)
{
    const struct event *end = NULL;

    for (size_t i = 0; i < work->fx.event_count && work->run_ended.us != 0; i++)
        if (event_ends_run(work->fx.events[i].type))
            end = &work->fx.events[i];
    return end;
}

static bool was_reopened(const struct work *work)
{
    for (size_t i = 0; i < work->fx.event_count; i++)
        if (work->fx.events[i].type == EVENT_RUN_REOPENED)
            return true;
    return false;
}

static void add_run(struct rows *r, const struct work *work)
{
    const struct event *end = end_of(work);
    struct sched_run_row *row;

    if (!work->fx.status_changed)
        return;
    row = &r->runs[r->batch->rows.run_count++];
    *row = (struct sched_run_row){.run = work->entry->id,
                                  .organisation = work->entry->run->organisation,
                                  .status = (enum run_status)work->entry->run->status,
                                  .reopened = was_reopened(work),
                                  .started_at = work->run_started,
                                  .ended_at = work->run_ended};
    if (end == NULL || end->code.ptr == NULL)
        return;
    row->error_code = end->code;
    row->error_step = end->step;
    row->error_text = end->message;
}

static void tell(struct rows *r, const struct work *work, struct run_id run, const char *kind, struct str body)
{
    r->inserts[r->batch->rows.command_insert_count++] =
        (struct sched_command_insert){.shard = shard_of_run(r->sched, run),
                                      .run = run,
                                      .organisation = work->entry->run->organisation,
                                      .kind = kind,
                                      .body = body};
}

/* Child runs that begin or are to stop, and the parent of a child that has ended, also when it was opened again at
 * once: whoever waits for it has heard. All share the shard by their slot. */
static void add_family(struct rows *r, const struct work *work)
{
    const struct run_state *run = work->entry->run;

    for (size_t i = 0; i < work->fx.child_count; i++) {
        const struct effect_child *child = &work->fx.children[i];

        r->children[r->batch->rows.child_count++] = (struct sched_child_row){.shard = work->shard->number,
                                                                             .organisation = run->organisation,
                                                                             .run = child->id,
                                                                             .parent = run->id,
                                                                             .parent_step = child->step,
                                                                             .workflow = child->workflow,
                                                                             .version = child->version,
                                                                             .priority = run->priority,
                                                                             .depth = child->depth,
                                                                             .created_at = run_id_time(child->id),
                                                                             .input = child->input};
    }
    for (size_t i = 0; i < work->fx.child_retry_count; i++)
        tell(r, work, work->fx.child_retries[i].child, "child_retry",
             child_retry_body(r->arena, run->id, &work->fx.child_retries[i]));
    if (run->has_parent && work->fx.refused.retries != 0)
        tell(r, work, run->parent, "child_ended", child_refused_body(r->arena, work->entry, &work->fx.refused));
    for (size_t i = 0; i < work->fx.child_cancel_count; i++)
        tell(r, work, work->fx.child_cancels[i], "cancel", STR_NONE);
    for (size_t i = 0; i < work->fx.child_pause_count; i++)
        tell(r, work, work->fx.child_pauses[i].child, work->fx.child_pauses[i].resume ? "resume" : "pause",
             child_pause_body(r->arena, &work->fx.child_pauses[i]));
    for (size_t i = 0; run->has_parent && i < work->fx.event_count; i++)
        if (event_ends_run(work->fx.events[i].type))
            tell(r, work, run->parent, "child_ended", child_ended_body(r->arena, work->entry, &work->fx.events[i]));
}

/* To the owners of keys, of whatever shard. */
static void add_admissions(struct rows *r, const struct work *work)
{
    for (size_t i = 0; i < work->fx.admission_count; i++) {
        const struct effect_admission *effect = &work->fx.admissions[i];

        tell(r, work, effect->key, effect->release ? "slot_release" : "slot_ask",
             admission_body(r->arena, work->entry, effect));
    }
}

/* Text of strangers for a column: what is no plain character becomes '?'. */
static struct str plain(struct arena *arena, struct str text)
{
    char *copy;

    if (text.ptr == NULL || text.len == 0)
        return STR_NONE;
    copy = arena_dup(arena, text.ptr, text.len);
    for (size_t i = 0; i < text.len; i++)
        if (copy[i] < ' ' || copy[i] > '~')
            copy[i] = '?';
    return (struct str){copy, text.len};
}

/* Whence it came and what it called itself: of a message its properties, of a command its kind. A task that no worker
 * could read comes from the worker, which names the queue it took it from. */
static void describe(struct rows *r, const struct work *work, const struct input *input,
                     struct sched_dead_letter *letter)
{
    const struct command *command = input->command;
    const struct delivery *delivery = input->delivery;

    letter->kind = command != NULL && !command->message ? "command" : "message";
    letter->type = plain(r->arena, command != NULL ? command->kind : delivery == NULL ? STR_NONE : delivery->type);
    letter->message_id = plain(r->arena, delivery == NULL ? STR_NONE : delivery->message_id);
    letter->source =
        str_of(arena_printf(r->arena, "ropewalk.inbox.%d", delivery == NULL ? work->shard->number : delivery->shard));
    if (str_is(letter->type, "task") && str_starts(letter->message_id, "ropewalk.task."))
        letter->source = letter->message_id;
    if (command != NULL && command->requeued) {
        letter->has_ancestor = true;
        letter->ancestor = command->letter;
    }
}

/* The column is an int. */
static size_t whole_bytes(const struct input *input, struct str body)
{
    uint64_t told = input->delivery == NULL ? 0 : input->delivery->whole_bytes;

    return told <= body.len ? body.len : told < INT32_MAX ? (size_t)told : INT32_MAX;
}

static void add_dead_letter(struct rows *r, const struct work *work, const struct input *input, const char *reason)
{
    const struct run_entry *entry = work->entry;
    struct sched_dead_letter *letter = &r->dead[r->batch->rows.dead_letter_count++];
    struct str body = input->command != NULL ? input->command->body : input->raw;

    *letter =
        (struct sched_dead_letter){.organisation = entry == NULL || entry->run == NULL ? 0 : entry->run->organisation,
                                   .has_run = entry != NULL,
                                   .run = input->run,
                                   .step = entry == NULL ? STR_NONE : input->in.step,
                                   .reason = reason,
                                   .bytes = whole_bytes(input, body),
                                   .again = input->delivery != NULL && input->delivery->again};
    describe(r, work, input, letter);
    if (body.len > DEAD_LETTER_MAX_BYTES)
        body.len = DEAD_LETTER_MAX_BYTES;
    letter->body = entry == NULL && work->dead_only ? STR_NONE : body;
    metric_add(METRIC_DEAD_LETTERS, 1);
}

static void add_held(struct rows *r, const struct work *work, const struct input *input)
{
    struct sched_batch *rows = &r->batch->rows;

    if (input->command != NULL) {
        struct sched_command_key key = {input->command->shard->number, input->command->id};

        if (input->kind == INPUT_RELEASE)
            r->deletes[rows->command_delete_count++] = key;
        else
            r->holds[rows->command_hold_count++] = key;
        return;
    }
    if (input->delivery == NULL)
        return;
    if (work->dead_only || input->dead != NULL) {
        add_dead_letter(r, work, input, input->dead != NULL ? input->dead : "the run is quarantined");
        return;
    }
    r->inserts[rows->command_insert_count++] =
        (struct sched_command_insert){.shard = work->shard->number,
                                      .held = true,
                                      .run = work->entry->id,
                                      .kind = input->in.kind == IN_STARTED ? "held_started" : "held_result",
                                      .body = input->raw};
}

static void add_inputs(struct rows *r, const struct work *work)
{
    struct sched_batch *rows = &r->batch->rows;

    for (const struct input *input = work->first; input != NULL; input = input->next) {
        if (work->holds) {
            add_held(r, work, input);
            continue;
        }
        if (input->command != NULL)
            r->deletes[rows->command_delete_count++] =
                (struct sched_command_key){input->command->shard->number, input->command->id};
        if (input->admission != NULL && !work->dead_only)
            r->admissions[rows->admission_count++] = *input->admission;
        else if (input->admission != NULL)
            add_dead_letter(r, work, input, "PostgreSQL refuses it");
        if (input->dead != NULL)
            add_dead_letter(r, work, input, input->dead);
        else if (input->kind == INPUT_UNKNOWN_COMMAND)
            add_dead_letter(r, work, input, "unknown command");
    }
}

static void add_work(struct rows *r, const struct work *work)
{
    struct sched_batch *rows = &r->batch->rows;

    add_shard(r, work->shard);
    add_inputs(r, work);
    if (work->holds)
        r->quarantines[rows->quarantine_count++] =
            (struct sched_quarantine_row){.run = work->entry->id, .shard = work->shard->number, .reason = work->reason};
    if (work->release)
        r->releases[rows->release_count++] =
            (struct sched_close_row){.shard = work->shard->number, .run = work->entry->id};
    if (work->entry == NULL || work->entry->run == NULL)
        return;
    add_events(r, work);
    add_repair(r, work);
    add_open_work(r, work);
    add_run(r, work);
    add_family(r, work);
    add_admissions(r, work);
    rows->notice_count += notices_add(work, r->arena, r->notices + rows->notice_count);
}

void batch_rows(struct sched *sched, struct batch *batch)
{
    struct rows r = {.sched = sched, .batch = batch, .arena = batch->arena};

    arena_reset(batch->arena);
    buf_reset(&sched->text);
    batch->rows = (struct sched_batch){.number = batch->number};
    allocate(&r);
    for (const struct link *at = batch->works.next; at != &batch->works; at = at->next)
        add_work(&r, CONTAINER(at, struct work, link));
    set_texts(&r);
    batch->rows.shards = r.shards;
    batch->rows.epochs = r.epochs;
    batch->rows.events = r.events;
    batch->rows.opens = r.opens;
    batch->rows.closes = r.closes;
    batch->rows.changes = r.changes;
    batch->rows.runs = r.runs;
    batch->rows.children = r.children;
    batch->rows.command_deletes = r.deletes;
    batch->rows.command_holds = r.holds;
    batch->rows.command_inserts = r.inserts;
    batch->rows.admissions = r.admissions;
    batch->rows.most_running_runs = (int32_t)limit_most(&sched->set.limits, LIMIT_RUNNING_RUNS);
    batch->rows.dead_letters = r.dead;
    batch->rows.quarantines = r.quarantines;
    batch->rows.releases = r.releases;
    batch->rows.notices = r.notices;
}
