/* After the commit: open work in memory follows the table, tasks are published, events pushed, and, last of all, the
 * inputs acknowledged. A crash anywhere in here repeats work that history then recognises as done. */
#include "scheduler/core/core_internal.h"

#include "common/base/banned.h"

#define HISTORY_MAX 200000 /* of the engine */
#define HISTORY_WARN (HISTORY_MAX / 5 * 4)

/* Gives how many tasks have ended. */
static size_t close_items(struct sched *sched, const struct work *work)
{
    size_t ended = 0;

    for (size_t i = 0; i < work->fx.close_count; i++) {
        struct item *item = item_find(sched, work->entry->id, work->fx.closes[i]);

        if (item == NULL)
            continue;
        if (item->kind == WORK_TASK) {
            task_finished(sched, item);
            ended++;
        }
        item_del(sched, item);
    }
    return ended;
}

/* The event of this batch that opened the row. */
static const struct event *event_of(const struct work *work, uint32_t seq)
{
    return &work->fx.events[seq - work->fx.events[0].seq];
}

/* An iteration's first step, like a run's, is begun by nobody else's turn: a loop would go on before all others. */
static bool begins(const struct plan_step *step)
{
    return step->role == ROLE_STEP && step->edge_count == 0;
}

/* `turns`: of tasks that have ended in this work, and that nobody has been handed yet. */
static void task_opened(struct sched *sched, struct work *work, struct item *item, uint32_t node, size_t *turns)
{
    const struct event *event = event_of(work, item->seq);

    bool held = run_is_held(work->entry);

    if (!held && task_try_now(sched, item, work->entry, node, event->output))
        return;
    if (event->output.ptr != NULL)
        body_put(sched, item->run, item->seq, event->output);
    if (held)
        return;
    if (*turns == 0 || begins(run_plan_step(work->entry->run, node))) {
        task_ready(sched, item, PLACE_LINE);
        return;
    }
    (*turns)--;
    task_ready(sched, item, PLACE_NEXT);
}

static void open_items(struct sched *sched, struct work *work, size_t turns)
{
    struct run_entry *entry = work->entry;

    for (size_t i = 0; i < work->fx.open_count; i++) {
        const struct effect_work_open *open = &work->fx.opens[i];
        const struct plan_step *step = open->node == NO_NODE ? NULL : run_plan_step(entry->run, open->node);
        struct sched_work_row row = {
            .run = entry->id,
            .seq = open->seq,
            .organisation = entry->run->organisation,
            .kind = open->kind,
            .step = event_of(work, open->seq)->step,
            .attempt = open->attempt,
            .dispatch = open->dispatch,
            .pool = step == NULL ? STR_NONE : step->pool,
            .priority = step == NULL || step->priority == PRIORITY_OF_RUN ? entry->run->priority : step->priority,
            .due_at = open->due_at};
        struct item *item = item_new(sched, &row, entry->shard);

        if (open->kind == WORK_TASK)
            task_opened(sched, work, item, open->node, &turns);
    }
}

/* A deferral, or a poll's next try: another dispatch, later. Or its time has come. */
static void change_task(struct sched *sched, struct work *work, struct item *item,
                        const struct effect_work_change *change)
{
    if (!change->publish) {
        task_finished(sched, item);
        task_unready(sched, item);
    }
    if (item->dispatch != change->dispatch) {
        item->dispatch = change->dispatch;
        item->publications = 0;
        item->token[0] = '\0';
        item->tries = 0;
        item->granted = 0;
        item->told = false;
    }
    item->deferred = !change->publish;
    if (change->publish && run_step(work->entry->run, change->node)->status == STEP_RUNNING)
        lease_begin(sched, item, STR_NONE); /* some worker has it already */
    else if (change->publish && item->state == ITEM_IDLE && !run_is_held(work->entry) &&
             !task_try_now(sched, item, work->entry, change->node, STR_NONE))
        task_ready(sched, item, PLACE_LINE);
}

/* A filter is what people have written: they hear of its failure. */
static void tell_of_filter(const struct work *work, const struct effect_work_change *change)
{
    const struct run_entry *entry = work->entry;

    metric_add(METRIC_EVENT_FILTERS_FAILED, 1);
    log_event(LOG_WARN, "event.filter_failed", log_run("run_id", entry->id), log_cstr("organisation", entry->org->name),
              log_str("workflow", entry->plan->workflow), log_str("step", work_step_path(work, change->node)),
              log_cstr("reason", change->reason));
}

/* The timer of a loop that has more to begin is due at once: it is heard in the next turn, with what came meanwhile for
 * other runs. */
static void change_items(struct sched *sched, struct work *work)
{
    for (size_t i = 0; i < work->fx.change_count; i++) {
        const struct effect_work_change *change = &work->fx.changes[i];
        struct item *item = item_find(sched, work->entry->id, change->seq);

        if (item == NULL)
            continue;
        item->due_at = change->due_at;
        item->firing = false;
        timer_set(sched, item, item->due_at);
        if (item->kind == WORK_TASK)
            change_task(sched, work, item, change);
        else if (item->kind == WORK_EVENT)
            tell_of_filter(work, change);
    }
}

/* Paused: what waits for a place in a queue leaves the line. Not paused any more: it stands in line again, and timers
 * that fell due meanwhile are heard. */
static void follow_pause(struct sched *sched, const struct work *work)
{
    bool paused = false, over = false;

    for (size_t i = 0; i < work->fx.event_count; i++) {
        enum event_type type = work->fx.events[i].type;

        paused |= type == EVENT_RUN_PAUSED;
        over |= type == EVENT_RUN_RESUMED || type == EVENT_RUN_CANCELLING;
    }
    if (paused && run_is_held(work->entry))
        items_hold(sched, work->entry->id);
    else if (over)
        items_go_on(sched, work->entry->id);
}

static void keep_outputs(struct sched *sched, const struct work *work)
{
    for (size_t i = 0; i < work->fx.event_count; i++) {
        const struct event *event = &work->fx.events[i];

        if (event->output.ptr != NULL && plan_reads(work->entry->plan, work->entry->run, event))
            body_put(sched, work->entry->id, event->seq, event->output);
    }
}

static void note_keys(const struct work *work)
{
    for (size_t i = 0; i < work->fx.event_count; i++)
        run_note_key(work->entry, &work->fx.events[i]);
}

/* A history is bounded (README of the engine); who runs the workflow shall hear of it before. */
static void warn_of_length(const struct work *work)
{
    const struct effects *fx = &work->fx;

    if (fx->event_count > 0 && fx->events[0].seq <= HISTORY_WARN && work->entry->run->last_seq > HISTORY_WARN)
        log_event(LOG_WARN, "run.history_long", log_run("run_id", work->entry->id),
                  log_cstr("organisation", work->entry->org->name), log_str("workflow", work->entry->plan->workflow),
                  log_i64("events", work->entry->run->last_seq), log_i64("limit", HISTORY_MAX));
}

/* Whoever said `started` has the attempt now; for at_most_once only the one that the history names. */
static void begin_leases(struct sched *sched, const struct work *work)
{
    const struct run_state *run = work->entry->run;

    for (const struct input *input = work->first; input != NULL; input = input->next) {
        struct item *item;
        uint32_t node;

        if (input->kind != INPUT_ENGINE || input->in.kind != IN_STARTED)
            continue;
        item = item_find_task(sched, work->entry->id, input->in.step);
        if (item == NULL || item->attempt != input->in.attempt || item->dispatch != input->in.dispatch)
            continue;
        if (input->in.ask != 0) { /* it has the message in hand, and no more */
            task_heard(sched, item);
            continue;
        }
        node = engine_find_row(run, item->seq);
        if (node == NO_NODE)
            continue;
        if (run_plan_step(run, node)->at_most_once) {
            if (run_step(run, node)->worker != str_hash(input->in.worker))
                continue;
            item->granted = run_step(run, node)->worker;
        }
        lease_begin(sched, item, input->reply_to);
    }
}

static bool was_handed_over(const struct item *item)
{
    return item->state == ITEM_PUBLISHED || item->state == ITEM_LEASED || item->state == ITEM_DOUBTED ||
           item->state == ITEM_LOSING;
}

/* A cancelled run lets what runs finish for a while, one that has timed out does not; what was only queued when
 * something failed may have begun without our knowing, and then it may finish. */
static enum cancel_how how_to_stop(const struct run_state *run, bool queued)
{
    if (run->cancelling && !run->timing_out)
        return CANCEL_STOP;
    return queued && !run->timing_out ? CANCEL_FINISH : CANCEL_NOW;
}

/* Asked before the rows close: only they know who has the attempt. Workers are told of attempts that are to stop, and
 * of queued ones that nobody is to begin: their run has been cancelled, or an earlier attempt has succeeded after all.
 */
static void send_cancels(struct sched *sched, const struct work *work)
{
    const struct run_entry *entry = work->entry;

    for (size_t i = 0; i < work->fx.cancel_count; i++) {
        struct str path = work_step_path(work, work->fx.cancels[i]);
        struct item *item = item_find_task(sched, entry->id, path);

        if (item == NULL || !was_handed_over(item))
            continue;
        item->told = true;
        task_publish_cancel(sched, item, path, how_to_stop(entry->run, false));
    }
    for (size_t i = 0; i < work->fx.event_count; i++) {
        const struct event *event = &work->fx.events[i];
        struct item *item = NULL;

        if (event->type == EVENT_STEP_CANCELLED && event->attempt != 0 && event->worker.ptr == NULL)
            item = item_find_task(sched, entry->id, event->step);
        if (item != NULL && item->attempt == event->attempt && was_handed_over(item) && !item->told)
            task_publish_cancel(sched, item, event->step, how_to_stop(entry->run, true));
    }
    for (size_t i = 0; i < work->fx.recall_count; i++) {
        const struct item *item = item_find(sched, entry->id, work->fx.recalls[i].seq);

        if (item != NULL && was_handed_over(item))
            task_publish_cancel(sched, item, work->fx.recalls[i].step, CANCEL_FINISH);
    }
}

static enum log_level level_of(enum event_type type)
{
    switch (type) {
    case EVENT_ATTEMPT_FAILED:
    case EVENT_STEP_FAILED:
    case EVENT_STEP_TIMED_OUT:
    case EVENT_STEP_OUTCOME_UNKNOWN:
        return LOG_WARN;
    default:
        return type < EVENT_STEP_DISPATCHED || type >= EVENT_COMMAND_APPLIED ? LOG_INFO : LOG_DEBUG;
    }
}

/* One line per event: a run can be told from the logs alone (at level debug, without bodies). */
static void log_events(const struct work *work)
{
    const struct run_entry *entry = work->entry;
    char trace[33];

    hex_encode(entry->id.bytes, sizeof(entry->id.bytes), trace);
    for (size_t i = 0; i < work->fx.event_count; i++) {
        const struct event *event = &work->fx.events[i];

        log_event(level_of(event->type), "run.event", log_cstr("type", event_type_name(event->type)),
                  log_run("run_id", entry->id), log_cstr("organisation", entry->org->name),
                  log_str("workflow", entry->plan->workflow), log_i64("version", entry->plan->version),
                  log_i64("seq", event->seq), log_str("step", event->step), log_i64("attempt", event->attempt),
                  log_str("code", event->code), log_str("worker", event->worker), log_cstr("trace_id", trace));
    }
}

static void count_events(const struct work *work)
{
    int64_t steps = 0;

    for (size_t i = 0; i < work->fx.event_count; i++) {
        enum event_type type = work->fx.events[i].type;

        if (type >= EVENT_STEP_SUCCEEDED && type <= EVENT_STEP_OUTCOME_UNKNOWN)
            steps++;
    }
    metric_add(METRIC_STEPS_ENDED, steps);
    if (work->run_ended.us != 0)
        metric_add(METRIC_RUNS_ENDED, 1);
}

static void follow(struct sched *sched, struct work *work)
{
    struct run_entry *entry = work->entry;
    size_t turns;

    if (work->holds)
        quarantine_add(sched, entry->id, true, work->reason)->release = 0; /* whatever was before: held from now on */
    if (work->release) {
        quarantine_del(sched, entry->id);
        commands_want(sched);
    }
    for (const struct grant *grant = work->grants; grant != NULL; grant = grant->next)
        task_publish_grant(sched, grant);
    if (entry->run == NULL)
        return;
    note_keys(work);
    send_cancels(sched, work);
    turns = close_items(sched, work);
    keep_outputs(sched, work);
    open_items(sched, work, turns);
    orphans_committed(sched, work);
    change_items(sched, work);
    begin_leases(sched, work);
    follow_pause(sched, work);
    count_events(work);
    warn_of_length(work);
    run_weigh(sched, entry);
}

static void finish(struct sched *sched, struct work *work)
{
    bool lost = work->entry != NULL && work->entry->lost;

    for (struct input *input = work->first, *next; input != NULL; input = next) {
        next = input->next;
        if (!lost)
            input_done(sched, input);
        else if (input->delivery != NULL)
            delivery_unref(sched, input->delivery); /* it is in the history: nobody else need apply it */
        else
            input_drop(sched, input);
    }
    work_free(sched, work);
}

void works_committed(struct sched *sched, struct batch *batch)
{
    for (LIST_EACH(&batch->works, at)) {
        struct work *work = CONTAINER(at, struct work, link);

        if (work->entry != NULL && !work->entry->lost)
            follow(sched, work);
    }
    for (LIST_EACH(&batch->works, at)) {
        struct work *work = CONTAINER(at, struct work, link);

        if (work->entry == NULL || work->entry->lost)
            continue;
        push_committed(sched, work);
        if (work->entry->run != NULL)
            log_events(work);
    }
    for (LIST_EACH(&batch->works, at))
        finish(sched, CONTAINER(at, struct work, link));
}
