/* From rows to a run in memory: fold the history, take over what is open. */
#include "scheduler/core/core_internal.h"

#include "common/base/banned.h"

#define LOAD_AGAIN_US (200 * US_PER_MS)

static enum err_code fold(struct run_entry *entry, int format, const struct sched_loaded_run *loaded, int64_t release,
                          bool *ret_released, struct arena *arena, struct err *err)
{
    enum err_code rc;

    *ret_released = false;

    for (size_t i = 0; i < loaded->event_count; i++) {
        const struct sched_event_loaded *row = &loaded->events[i];
        struct event event = {.seq = row->seq,
                              .type = (enum event_type)row->type,
                              .at = row->at,
                              .step = row->step,
                              .attempt = row->attempt,
                              .output_bytes = row->output_bytes};

        if (event_format(event.type) > format)
            return err_set(err, ERR_NOT_AVAILABLE, "event %" PRIu32 " is of type %d, which came with a newer release",
                           row->seq, (int)row->type);
        rc = event_decode_data(row->data, arena, &event, err);
        if (rc != ERR_OK)
            return err_prefix(err, rc, "event %" PRIu32, row->seq);
        rc = engine_fold(entry->run, &event, err);
        if (rc != ERR_OK)
            return rc;
        if (event.type == EVENT_COMMAND_APPLIED && event.command == release)
            *ret_released = true;
        run_note_key(entry, &event);
    }
    for (size_t i = 0; i < loaded->work_count; i++)
        engine_restore_work(entry->run, loaded->work[i].seq, loaded->work[i].dispatch, loaded->work[i].due_at);
    return ERR_OK;
}

/* What we hold of its open work gives way to what the table holds. */
static void reconcile_item(struct sched *sched, struct run_entry *entry, const struct sched_work_row *row,
                           uint64_t mark)
{
    struct item *item = item_find(sched, row->run, row->seq);

    if (item != NULL && (item->dispatch != row->dispatch || item->due_at.us != row->due_at.us)) {
        item_del(sched, item);
        item = NULL;
    }
    if (item == NULL)
        item = item_add(sched, row, entry->shard);
    item->mark = mark;
}

static struct str keep(struct str text)
{
    return text.ptr == NULL ? STR_NONE : (struct str){mem_dup(text.ptr, text.len), text.len};
}

/* A child's input comes from an expression: whether it keeps the workflow's input_schema is found out here, where the
 * input is at hand, and is said when the run starts. Others were checked before they were written. */
static void note_family(struct run_entry *entry, const struct sched_loaded_run *loaded)
{
    entry->begins_so = loaded->begins_so;
    entry->run->depth = loaded->depth;
    entry->run->has_parent = loaded->has_parent;
    if (!loaded->has_parent)
        return;
    entry->run->parent = loaded->parent;
    entry->parent_step = keep(loaded->parent_step);
    if (loaded->event_count == 0)
        entry->input_fault = child_input_fault(entry->plan, loaded->input);
}

/* Only a newer release can go on with it. Nothing of it is lost or changed: messages for it wait here, commands where
 * they are, and all go with the shard. */
static void leave_to_newer(struct sched *sched, struct run_entry *entry, const struct err *err)
{
    sched_log_run(LOG_WARN, "run.beyond_this_release", entry, err);
    metric_add(METRIC_RUNS_BEYOND, 1);
    run_forget_state(sched, entry);
    entry->state = ENTRY_BEYOND;
    aside_add(sched, entry, ASIDE_UNTIL_LOST);
    if (sched->ports.needs_newer != NULL)
        sched->ports.needs_newer(sched->ports.ctx, entry->shard->number);
}

static void loaded_here(struct sched *sched, struct run_entry *entry, const struct sched_loaded_run *loaded)
{
    struct arena *arena;
    const struct quarantined *q = sched->quarantine.len == 0 ? NULL : quarantine_find(sched, entry->id);
    struct err err = {.code = ERR_OK};
    enum err_code rc;
    bool released;

    if (entry->plan->plan->format > sched->set.format) {
        (void)err_set(&err, ERR_NOT_AVAILABLE, "its workflow asks for what came with a newer release");
        leave_to_newer(sched, entry, &err);
        return;
    }
    arena = arena_new((size_t)16 * 1024);
    entry->run = run_state_new(entry->id, loaded->organisation, entry->plan->plan, loaded->created_at);
    entry->run->priority = loaded->priority < PRIORITY_COUNT ? loaded->priority : PRIORITY_NORMAL;
    entry->trigger = keep(loaded->trigger);
    note_family(entry, loaded);
    if (sched->set.journal.enter != NULL)
        sched->set.journal.enter(sched->set.journal.ctx, entry->id);
    rc = fold(entry, sched->set.format, loaded, q == NULL ? 0 : q->release, &released, arena, &err);
    if (sched->set.journal.leave != NULL)
        sched->set.journal.leave(sched->set.journal.ctx, entry->id);
    arena_free(arena);
    run_weigh(sched, entry);
    if (rc == ERR_NOT_AVAILABLE) {
        leave_to_newer(sched, entry, &err);
        return;
    }
    if (rc != ERR_OK) {
        sched_log_run(LOG_ERROR, "run.history_not_folded", entry, &err);
        run_forget_state(sched, entry);
        entry->unloadable = true;
        quarantine_add(sched, entry->id, false, "its history cannot be folded");
        return;
    }
    entry->state = ENTRY_HERE;
    if (q != NULL)
        quarantine_settle(sched, entry->id, released && q->release != 0);
    if (!quarantine_holds(sched, entry->id))
        orphans_check(sched, entry, loaded);
    if (entry->plan->input_read && !run_ended((enum run_status)entry->run->status))
        body_put(sched, entry->id, 0, loaded->input);
    for (size_t i = 0; i < loaded->work_count; i++)
        if (orphans_explain_row(entry, &loaded->work[i]))
            reconcile_item(sched, entry, &loaded->work[i], entry->load);
    items_drop_unseen(sched, entry->id, entry->load);
    if (!run_is_held(entry) && !quarantine_holds(sched, entry->id))
        items_go_on(sched, entry->id); /* it was resumed by a batch of ours of which we have heard only now */
}

static struct sched_loaded_run *copy_loaded(struct arena *arena, const struct sched_loaded_run *from)
{
    struct sched_loaded_run *to = arena_alloc(arena, sizeof(*to));
    struct sched_event_loaded *events = arena_array(arena, from->event_count, sizeof(*events));
    struct sched_work_row *work = arena_array(arena, from->work_count, sizeof(*work));

    *to = *from;
    to->organisation_name = str_arena(arena, from->organisation_name);
    to->workflow = str_arena(arena, from->workflow);
    to->input = str_arena(arena, from->input);
    to->trigger = str_arena(arena, from->trigger);
    to->parent_step = str_arena(arena, from->parent_step);
    for (size_t i = 0; i < from->event_count; i++) {
        events[i] = from->events[i];
        events[i].step = str_arena(arena, from->events[i].step);
        events[i].data = str_arena(arena, from->events[i].data);
    }
    for (size_t i = 0; i < from->work_count; i++) {
        work[i] = from->work[i];
        work[i].step = str_arena(arena, from->work[i].step);
        work[i].pool = str_arena(arena, from->work[i].pool);
    }
    to->events = events;
    to->work = work;
    return to;
}

void run_plan_here(struct sched *sched, struct run_entry *entry)
{
    struct plan_info *plan = entry->plan;

    list_del(&entry->waits_plan);
    if (plan->plan == NULL && plan->unreadable) {
        struct err err;

        /* A gateway has read it when it was saved: there is a release that can, whether or not one of its schedulers
         * lives already. */
        (void)err_set(&err, ERR_NOT_AVAILABLE, "its workflow version cannot be read by this release");
        leave_to_newer(sched, entry, &err);
    } else if (plan->plan == NULL) {
        run_forget_state(sched, entry);
        entry->unloadable = true;
        quarantine_add(sched, entry->id, false, "its workflow version is not there");
    } else {
        struct sched_loaded_run *loaded = entry->pending;
        struct arena *arena = entry->pending_arena;

        entry->pending_arena = NULL;
        entry->pending = NULL;
        loaded_here(sched, entry, loaded);
        arena_free(arena);
    }
    run_kick(sched, entry);
}

static void one_loaded(struct sched *sched, struct run_entry *entry, const struct sched_loaded_run *loaded)
{
    struct plan_info *plan;

    if (loaded->failed) {
        entry->state = ENTRY_EMPTY;
        entry->reload = true; /* after a commit of unknown outcome nothing waits for it that would ask again */
        run_delay(sched, entry, LOAD_AGAIN_US);
        return;
    }
    if (!loaded->found) {
        entry->state = ENTRY_ABSENT;
        return;
    }
    entry->org = org_get(sched, loaded->organisation, loaded->organisation_name, loaded->weight);
    org_set_limits(sched, entry->org, loaded->limits);
    org_note_outgoing(entry->org, loaded->outgoing);
    plan = plan_get(sched, loaded->organisation, loaded->workflow, loaded->version);
    entry->plan = plan;
    plan->entries++;
    if (plan->plan != NULL) {
        loaded_here(sched, entry, loaded);
        return;
    }
    entry->state = ENTRY_PLAN;
    entry->pending_arena = arena_new(4096);
    entry->pending = copy_loaded(entry->pending_arena, loaded);
    plan_wait(sched, plan, entry);
}

void sched_on_loaded(struct sched *sched, uint64_t load, const struct sched_loaded_run *runs, size_t count)
{
    sched->now = sched->ports.mono(sched->ports.ctx);
    sched->wall = sched->ports.wall(sched->ports.ctx);
    for (size_t i = 0; i < count; i++) {
        struct run_entry *entry = run_find(sched, runs[i].id);

        if (entry == NULL || entry->state != ENTRY_LOADING || entry->load != load)
            continue;
        one_loaded(sched, entry, &runs[i]);
        run_kick(sched, entry);
    }
}
