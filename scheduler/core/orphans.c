/* The watch over what must always be: an open run has open work, and exactly that which its history asks for. Whenever
 * a run is read, its rows are compared with the fold; what differs is put right by an input of its own, in a
 * transaction like any other. In a healthy installation that never happens, whatever crashes: so each time is counted
 * and told. */
#include "common/base/ensure.h"
#include "scheduler/core/core_internal.h"

#include "common/base/banned.h"

#define DUE_LONG_US (60 * US_PER_S)
/* A new dispatch must be later than any there may have been, and those are not in history: it rises with time, faster
 * than deferrals and polls can. */
#define DISPATCH_US (20 * US_PER_MS)

const char *const sched_orphan_names[ORPHAN_COUNT] = {
#define ORPHAN(name, text, help) text,
#include "scheduler/core/orphans.def"
#undef ORPHAN
};

void repair_free(struct repair *repair)
{
    if (repair != NULL)
        arena_free(repair->arena);
}

static struct repair *repair_of(struct run_entry *entry)
{
    struct arena *arena;

    if (entry->repair != NULL)
        return entry->repair;
    arena = arena_new(4096);
    entry->repair = arena_alloc(arena, sizeof(*entry->repair));
    *entry->repair = (struct repair){.arena = arena};
    return entry->repair;
}

void orphan_count(struct sched *sched, struct run_entry *entry, enum sched_orphan reason, size_t count)
{
    sched->orphans[reason] += count;
    log_event(LOG_ERROR, "run.repaired", log_run("run_id", entry->id),
              log_cstr("organisation", entry->org == NULL ? NULL : entry->org->name),
              log_cstr("reason", sched_orphan_names[reason]), log_i64("rows", (int64_t)count));
}

static uint32_t later_dispatch(const struct sched *sched, struct wall_us opened_at)
{
    int64_t n = 2 + (sched->wall.us - opened_at.us) / DISPATCH_US;

    return n < 2 ? 2 : n > INT32_MAX ? INT32_MAX : (uint32_t)n;
}

/* What history does not hold of the row: what we still know of it, else what is certain to do no harm. An attempt that
 * has begun keeps its dispatch, because what has been granted must not be granted again. */
static void complete(const struct sched *sched, const struct run_entry *entry, struct repair_row *row)
{
    const struct step_state *s = row->node == NO_NODE ? NULL : run_step(entry->run, row->node);
    const struct item *item = item_find(sched, entry->id, row->work.seq);

    if (item != NULL) {
        row->work.dispatch = item->dispatch;
        row->work.due_at = item->due_at;
    } else if (row->work.kind == WORK_TASK) {
        ENSURE(s != NULL); /* only a run's timeout has no step */
        row->work.dispatch = s->status == STEP_RUNNING ? s->began_dispatch : later_dispatch(sched, row->opened_at);
        row->work.due_at = s->deadline;
    } else if (row->work.kind == WORK_ITEMS) {
        row->work.due_at = sched->wall; /* it may have more to begin */
    }
}

static void note_missing(struct sched *sched, struct run_entry *entry, const struct effect_work_open *open,
                         struct wall_us opened_at)
{
    struct repair *repair = repair_of(entry);
    const struct plan_step *step = open->node == NO_NODE ? NULL : run_plan_step(entry->run, open->node);
    struct repair_row *row = arena_alloc(repair->arena, sizeof(*row));
    char path[STEP_PATH_SIZE];

    *row = (struct repair_row){
        .next = repair->missing,
        .node = open->node,
        .opened_at = opened_at,
        .work = {.run = entry->id,
                 .seq = open->seq,
                 .organisation = entry->run->organisation,
                 .weight = entry->org->weight,
                 .kind = open->kind,
                 .step = step == NULL ? STR_NONE : str_arena(repair->arena, run_path(entry->run, open->node, path)),
                 .attempt = open->attempt,
                 .dispatch = open->dispatch,
                 .pool = step != NULL && open->kind == WORK_TASK ? step->pool : STR_NONE,
                 .priority = step == NULL || step->priority == PRIORITY_OF_RUN ? entry->run->priority : step->priority,
                 .due_at = open->due_at}};
    complete(sched, entry, row);
    repair->missing = row;
    repair->missing_count++;
}

/* Rows by seq: 200,000 at most, as many as a history has events. */
static void compare_rows(struct sched *sched, struct run_entry *entry, const struct sched_loaded_run *loaded)
{
    size_t expected = engine_open_count(entry->run), known = 0;
    struct effect_work_open *opens;
    bool *there;

    for (size_t i = 0; i < loaded->work_count; i++)
        known += engine_row_is_open(entry->run, loaded->work[i].seq, loaded->work[i].kind);
    if (known == expected && known == loaded->work_count)
        return;
    opens = arena_array(repair_of(entry)->arena, expected, sizeof(*opens));
    there = arena_array(entry->repair->arena, loaded->event_count + 1, sizeof(*there));
    entry->repair->stray = arena_array(entry->repair->arena, loaded->work_count, sizeof(uint32_t));
    for (size_t i = 0; i < loaded->work_count; i++) {
        uint32_t seq = loaded->work[i].seq;

        if (engine_row_is_open(entry->run, seq, loaded->work[i].kind))
            there[seq] = true;
        else
            entry->repair->stray[entry->repair->stray_count++] = seq;
    }
    expected = engine_open_work(entry->run, opens);
    for (size_t i = 0; i < expected; i++)
        if (!there[opens[i].seq])
            note_missing(sched, entry, &opens[i], loaded->events[opens[i].seq - 1].at);
}

bool orphans_explain_row(const struct run_entry *entry, const struct sched_work_row *row)
{
    return entry->repair == NULL || engine_row_is_open(entry->run, row->seq, row->kind);
}

static bool is_due_long(const struct sched *sched, struct wall_us due_at)
{
    return due_at.us != 0 && due_at.us <= sched->wall.us - DUE_LONG_US;
}

/* A row that has been due for long must be somebody's: of a timer that is set, or of an input on its way. */
static void check_timers(struct sched *sched, struct run_entry *entry, const struct sched_loaded_run *loaded)
{
    for (size_t i = 0; i < loaded->work_count; i++) {
        const struct sched_work_row *row = &loaded->work[i];
        struct item *item;

        if (!is_due_long(sched, row->due_at))
            continue;
        item = item_find(sched, entry->id, row->seq);
        if (item != NULL && (item->firing || item->heap_pos != 0))
            continue;
        if (run_is_held(entry) && !is_due_long(sched, engine_timer_at(entry->run, row->seq)))
            continue; /* nobody is to hear it before the run is resumed */
        if (item != NULL)
            timer_set(sched, item, item->due_at);
        orphan_count(sched, entry, ORPHAN_UNHEARD_TIMER,
                     1); /* one that is not here comes with the others of the load */
    }
}

static void submit(struct sched *sched, struct run_entry *entry)
{
    struct input *input;

    if (entry->first != NULL && entry->first->kind == INPUT_REPAIR)
        return;
    input = input_new_internal(entry->id, IN_WAKE, 0);
    input->kind = INPUT_REPAIR;
    inputs_put_back(sched, entry, input, false); /* before all others */
}

void orphans_check(struct sched *sched, struct run_entry *entry, const struct sched_loaded_run *loaded)
{
    bool pending = entry->run->status == RUN_PENDING && loaded->event_count == 0;

    repair_free(entry->repair);
    entry->repair = NULL;
    compare_rows(sched, entry, loaded);
    if (engine_needs_waking(entry->run))
        repair_of(entry)->wake = true;
    if (pending && entry->audit)
        repair_of(entry)->start = true;
    if (entry->audit)
        check_timers(sched, entry, loaded);
    entry->audit = false;
    if (entry->repair != NULL)
        submit(sched, entry);
}

/* ---- the input ---- */

enum err_code orphans_apply(struct sched *sched, struct work *work, struct input *input, struct err *err)
{
    struct run_entry *entry = work->entry;

    work->repair = entry->repair;
    entry->repair = NULL;
    if (work->repair == NULL)
        return ERR_OK;
    for (const struct repair_row *row = work->repair->missing; row != NULL; row = row->next)
        engine_restore_work(entry->run, row->work.seq, row->work.dispatch, row->work.due_at);
    if (!work->repair->start && !work->repair->wake)
        return ERR_OK;
    input->in.kind = work->repair->start ? IN_START : IN_WAKE;
    if (work->repair->start)
        input->in.refused = entry->begins_so ? STR("what the run was to begin with has been lost: start it again")
                                             : str_arena(work->arena, entry->input_fault);
    run_note_bound(sched, entry, &input->in);
    return work_feed(sched, work, &input->in, err);
}

/* Was the row closed by what the same input did? Then it needs no repair. */
bool repair_is_closed(const struct work *work, uint32_t seq)
{
    for (size_t i = 0; i < work->fx.close_count; i++)
        if (work->fx.closes[i] == seq)
            return true;
    return false;
}

void orphans_committed(struct sched *sched, struct work *work)
{
    const struct repair *repair = work->repair;
    struct run_entry *entry = work->entry;

    if (repair == NULL)
        return;
    for (const struct repair_row *row = repair->missing; row != NULL; row = row->next)
        if (!repair_is_closed(work, row->work.seq) && item_find(sched, entry->id, row->work.seq) == NULL)
            (void)item_add(sched, &row->work, entry->shard);
    if (repair->missing_count > 0)
        orphan_count(sched, entry, ORPHAN_LOST_WORK, repair->missing_count);
    if (repair->stray_count > 0)
        orphan_count(sched, entry, ORPHAN_STRAY_WORK, repair->stray_count);
    if (repair->start && work->fx.event_count > 0)
        orphan_count(sched, entry, ORPHAN_NO_START, 1);
    if (repair->wake && work->fx.event_count > 0)
        orphan_count(sched, entry, ORPHAN_NOT_AT_REST, 1);
}

/* ---- the watch ---- */

void sched_audit(struct sched *sched, const struct run_id *runs, size_t count)
{
    sched->now = sched->ports.mono(sched->ports.ctx);
    for (size_t i = 0; i < count; i++) {
        struct shard *shard = shard_find(sched, shard_of_run(sched, runs[i]));
        struct run_entry *entry = shard == NULL ? NULL : run_find(sched, runs[i]);
        bool busy = entry != NULL && (entry->work != NULL || entry->first != NULL || entry->state == ENTRY_LOADING ||
                                      entry->state == ENTRY_PLAN || entry->state == ENTRY_BEYOND);

        /* what is in hand moves, and is compared when it is next read */
        if (shard == NULL || !shard->ready || shard->releasing || busy || quarantine_holds(sched, runs[i]))
            continue;
        if (entry == NULL) {
            entry = run_get(sched, runs[i], shard);
            entry->passing = true;
        }
        entry->audit = true;
        entry->reload = true;
        run_kick(sched, entry);
    }
}

void sched_orphan(struct sched *sched, struct run_id run, enum sched_orphan reason)
{
    (void)run;
    sched->orphans[reason]++;
    log_event(LOG_ERROR, "run.repaired_outside", log_run("run_id", run),
              log_cstr("reason", sched_orphan_names[reason]));
}
