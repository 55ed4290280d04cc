/* A work: inputs applied to one run, and all that they change, until it is committed. Here the engine is called. */
#include "scheduler/core/core_internal.h"

#include "common/base/banned.h"

#define ARENA_BYTES 8192
#define ARENA_KEPT_BYTES 65536
#define ARENAS_KEPT 512
#define STALE_TRIES_MAX 60 /* about a minute */
#define ABSENT_TRIES_MAX 8
#define POSTPONE_US (500 * US_PER_MS)

struct work *work_new(struct sched *sched, struct run_entry *entry, struct shard *shard)
{
    struct arena *arena = sched->arena_count > 0 ? sched->arenas[--sched->arena_count] : arena_new(ARENA_BYTES);
    struct work *work = arena_alloc(arena, sizeof(*work));

    work->arena = arena;
    work->entry = entry;
    work->shard = shard;
    work->last = &work->first;
    work->now = sched->wall;
    list_init(&work->link);
    effects_init(&work->fx, arena);
    work->fx.format = sched->format_oldest;
    shard->works++;
    if (entry != NULL) {
        ENSURE(entry->work == NULL);
        entry->work = work;
        list_del(&entry->in_list);
        list_del(&entry->in_lru);
    }
    return work;
}

/* Its inputs have been dealt with; the run goes on, or dies when it is another's. */
void work_free(struct sched *sched, struct work *work)
{
    struct run_entry *entry = work->entry;
    struct shard *shard = work->shard;
    struct arena *arena = work->arena;

    evaluate_drop(sched, work);
    repair_free(work->repair);
    list_del(&work->link);
    if (arena_bytes(arena) <= ARENA_KEPT_BYTES && sched->arena_count < ARENAS_KEPT) {
        arena_reset(arena);
        if (sched->arenas == NULL)
            sched->arenas = mem_array(ARENAS_KEPT, sizeof(struct arena *));
        sched->arenas[sched->arena_count++] = arena;
    } else {
        arena_free(arena);
    }
    if (entry != NULL) {
        entry->work = NULL;
        if (entry->lost)
            run_free(sched, entry);
        else
            run_kick(sched, entry);
    }
    shard_work_ended(sched, shard);
}

void work_take_input(struct work *work, struct input *input)
{
    input->next = NULL;
    *work->last = input;
    work->last = &input->next;
    work->input_count++;
    work->bytes += input->bytes;
}

static struct input *pop_input(struct sched *sched, struct run_entry *entry)
{
    struct input *input = entry->first;

    entry->first = input->next;
    if (entry->first == NULL)
        entry->last = &entry->first;
    entry->input_count--;
    sched->inputs_waiting--;
    return input;
}

/* A body that came with an input and went into an event is one and the same. */
static size_t weight(const struct work *work)
{
    return work->bytes > work->fx.output_bytes ? work->bytes : work->fx.output_bytes;
}

void work_collect(struct sched *sched, struct work *work)
{
    if (list_empty(&sched->collecting))
        sched->collecting_since = sched->now;
    list_add_tail(&sched->collecting, &work->link);
    sched->collecting_inputs += work->input_count;
    sched->collecting_bytes += weight(work);
}

void work_uncollect(struct sched *sched, struct work *work)
{
    list_del(&work->link);
    list_init(&work->link);
    sched->collecting_inputs -= work->input_count;
    sched->collecting_bytes -= weight(work);
}

void work_alone(struct sched *sched, struct shard *shard, struct input *input)
{
    struct work *work = work_new(sched, NULL, shard);

    work_take_input(work, input);
    work_collect(sched, work);
}

static void journal(const struct sched *sched, const struct work *work, bool enter)
{
    const struct sched_journal *journal = &sched->set.journal;

    if (enter && journal->enter != NULL)
        journal->enter(journal->ctx, work->entry->id);
    else if (!enter && journal->leave != NULL)
        journal->leave(journal->ctx, work->entry->id);
}

struct str work_step_path(const struct work *work, uint32_t node)
{
    CLEANUP(buf_deinit) struct buf path = {0};

    buf_init(&path, STEP_PATH_SIZE);
    run_step_path(work->entry->run, node, &path);
    return str_arena(work->arena, buf_str(&path));
}

/* An event that the engine has no part in: the verdict on a command that is about the scheduler. */
static enum err_code emit(struct work *work, struct event event, struct err *err)
{
    struct effects *fx = &work->fx;
    enum err_code rc;

    event.seq = work->entry->run->last_seq + 1;
    event.at = work->now;
    rc = engine_fold(work->entry->run, &event, err);
    if (rc != ERR_OK)
        return rc;
    if (fx->event_count == fx->event_cap) {
        size_t cap = fx->event_cap == 0 ? 8 : 2 * fx->event_cap;
        struct event *grown = arena_array(work->arena, cap, sizeof(*grown));

        if (fx->event_count > 0)
            memcpy(grown, fx->events, fx->event_count * sizeof(*grown));
        fx->events = grown;
        fx->event_cap = cap;
    }
    fx->events[fx->event_count++] = event;
    return ERR_OK;
}

static enum err_code apply_release(struct sched *sched, struct work *work, struct input *input, struct err *err)
{
    bool held = quarantine_find(sched, work->entry->id) != NULL;

    work->release |= held;
    return emit(work,
                (struct event){.type = held ? EVENT_COMMAND_APPLIED : EVENT_COMMAND_REFUSED,
                               .command = input->command->id,
                               .code = held ? STR("release") : STR("not_quarantined"),
                               .message = held ? STR_NONE : STR("the run is not quarantined")},
                err);
}

/* IN_LOST names a row of open work: which attempt that is, the state says now. */
static bool resolve_lost(struct sched *sched, struct work *work, struct input *input)
{
    const struct run_state *run = work->entry->run;
    const struct item *item = item_find(sched, work->entry->id, input->seq);
    uint32_t node = engine_find_row(run, input->seq);

    if (item == NULL || item->state != ITEM_LOSING || node == NO_NODE)
        return false;
    input->in.step = work_step_path(work, node);
    input->in.attempt = item->attempt;
    input->in.dispatch = item->dispatch;
    return true;
}

/* Is the step of this path, whatever iteration it is in, one that asks before it begins? One that is not in memory any
 * more is answered like it. */
static bool asks_first(const struct run_state *run, struct str path)
{
    uint32_t node = run_find_step(run, path, NULL);

    return node == NO_NODE || run_plan_step(run, node)->at_most_once;
}

static void note_grant(struct work *work, const struct input *input, bool go)
{
    struct grant *grant = arena_alloc(work->arena, sizeof(*grant));
    char run[UUID_TEXT_SIZE];

    run_id_format(input->run, run);
    grant->queue = str_arena(work->arena, input->reply_to);
    grant->task_id = str_of(arena_printf(work->arena, "%s/" STR_FMT "/%" PRIu32 "/%" PRIu32, run,
                                         STR_ARG(input->in.step), input->in.attempt, input->in.dispatch));
    grant->go = go;
    grant->ask = input->in.ask;
    grant->next = work->grants;
    work->grants = grant;
}

static void note_answer(struct work *work, const struct input *input)
{
    if (work->fx.answer != STARTED_NONE && (input->in.ask != 0 || asks_first(work->entry->run, input->in.step)))
        note_grant(work, input, work->fx.answer == STARTED_GO);
}

static void note_ends(struct work *work, size_t from)
{
    for (size_t i = from; i < work->fx.event_count; i++) {
        const struct event *event = &work->fx.events[i];

        if (event->type == EVENT_RUN_STARTED)
            work->run_started = event->at;
        else if (event_ends_run(event->type))
            work->run_ended = event->at;
        else if (event->type == EVENT_RUN_REOPENED)
            work->run_ended.us = 0;
    }
}

enum err_code work_feed(struct sched *sched, struct work *work, struct engine_input *in, struct err *err)
{
    size_t events = work->fx.event_count;
    enum err_code rc;

    (void)sched;
    in->limits = &work->entry->org->limits;
    rc = engine_apply(work->entry->run, in, work->now, &work->fx, err);
    if (rc == ERR_OK)
        note_ends(work, events);
    return rc;
}

/* More than a step's output may have, whatever its worker thought of it: the attempt is over for good. */
static void refuse_too_large(struct work *work, struct engine_input *in)
{
    int64_t most = work->entry->org->limits.of[LIMIT_OUTPUT_BYTES];

    if (in->result != RESULT_SUCCEEDED || in->output.len <= (size_t)most)
        return;
    in->message = str_of(arena_printf(work->arena,
                                      "the output has %zu bytes; at most %" PRId64 " are allowed (limit output_bytes): "
                                      "ask for less, or have the limit raised",
                                      in->output.len, most));
    in->result = RESULT_FAILED;
    in->error_class = STR("permanent");
    in->code = STR("too_large");
    in->sent = in->answered = true;
    in->output = STR_NONE;
}

static enum err_code apply_one(struct sched *sched, struct work *work, struct input *input, struct err *err)
{
    enum err_code rc;

    switch (input->kind) {
    case INPUT_RELEASE:
        return apply_release(sched, work, input, err);
    case INPUT_UNKNOWN_COMMAND:
        return emit(work,
                    (struct event){.type = EVENT_COMMAND_REFUSED,
                                   .command = input->command->id,
                                   .code = STR("not_available"),
                                   .message = STR("this release does not know the command")},
                    err);
    case INPUT_REFUSED:
        return emit(work,
                    (struct event){.type = EVENT_COMMAND_REFUSED,
                                   .command = input->command->id,
                                   .code = STR("bad_command"),
                                   .message = str_of(input->refusal)},
                    err);
    case INPUT_ADMISSION:
    case INPUT_NOTHING:
        return ERR_OK;
    case INPUT_REPAIR:
        return orphans_apply(sched, work, input, err);
    case INPUT_ENGINE:
        break;
    }
    work->fx.stale_cache = false;
    work->fx.postponed = false;
    work->fx.ignored = true;
    if (input->in.kind == IN_RESULT)
        refuse_too_large(work, &input->in);
    if (input->in.kind == IN_START)
        input->in.refused = str_arena(work->arena, work->entry->input_fault);
    if (input->in.kind == IN_START || input->in.kind == IN_ADMIT || input->in.kind == IN_RETRY ||
        input->in.kind == IN_SETTLE || input->in.kind == IN_COMPENSATE)
        run_note_bound(sched, work->entry, &input->in);
    if (input->in.kind == IN_LOST && !resolve_lost(sched, work, input))
        return ERR_OK;
    rc = work_feed(sched, work, &input->in, err);
    if (rc != ERR_OK || work->fx.stale_cache)
        return rc;
    if (input->in.kind == IN_STARTED)
        note_answer(work, input);
    if (input->in.kind == IN_EVENT)
        metric_add(METRIC_EVENT_WAITS_TOLD, 1);
    if (input->in.kind == IN_RESULT && work->fx.ignored)
        metric_add(METRIC_RESULTS_STALE, 1);
    return ERR_OK;
}

/* The input knows of something that our state does not: never dropped, but read again; after a minute, when history
 * still does not hold what it names, it is kept as a dead letter. False: it may be done with. */
static bool set_aside_stale(struct sched *sched, struct work *work, struct input *input)
{
    struct run_entry *entry = work->entry;

    if (entry->tries >= STALE_TRIES_MAX) {
        input->dead = "it names an attempt that the run's history does not hold";
        sched_log_run(LOG_ERROR, "input.beyond_history", entry, NULL);
        entry->tries = 0;
        return false;
    }
    inputs_put_back(sched, entry, input, false);
    entry->reload = true;
    if (entry->tries > 0)
        run_delay(sched, entry, entry->tries > 7 ? US_PER_S : (int64_t)10 * US_PER_MS << entry->tries);
    entry->tries++;
    return true;
}

void work_broken(struct sched *sched, struct work *work, const struct err *err)
{
    sched_log_run(LOG_ERROR, "run.not_applied", work->entry, err);
    work_quarantine(sched, work, "the engine could not apply an input");
}

/* It needs events that a scheduler of an older release could not read: it waits until there is none. What came after it
 * waits with it: a start in the table, where there may be any number of them, all else at the run. */
static void set_aside_postponed(struct sched *sched, struct work *work, struct input *input)
{
    bool command = input->command != NULL;

    inputs_put_back(sched, work->entry, input, false);
    if (command)
        aside_add(sched, work->entry, ASIDE_UNTIL_FORMATS);
    else
        run_delay(sched, work->entry, POSTPONE_US);
    metric_add(METRIC_INPUTS_POSTPONED, 1);
}

/* True while more may be applied to this run in this batch. */
static bool has_room(const struct sched *sched, const struct work *work)
{
    return work->input_count < sched->set.batch_inputs && weight(work) < sched->set.batch_bytes &&
           work->fx.event_count < EVENTS_PER_BATCH && work->pending == 0;
}

static void hand_on(struct sched *sched, struct work *work)
{
    if (work->pending > 0) {
        work->pending_since = sched->now;
        list_add_tail(&sched->evaluating, &work->link);
    } else if (work->input_count > 0) {
        work_collect(sched, work);
    } else {
        work_free(sched, work);
    }
}

static void apply_inputs(struct sched *sched, struct work *work)
{
    struct run_entry *entry = work->entry;
    struct err err = {.code = ERR_OK};

    while (entry->first != NULL && has_room(sched, work)) {
        struct input *input = pop_input(sched, entry);
        enum err_code rc;

        input->next = NULL;
        journal(sched, work, true);
        rc = apply_one(sched, work, input, &err);
        journal(sched, work, false);
        if (rc == ERR_OK && work->fx.stale_cache && set_aside_stale(sched, work, input))
            break;
        if (rc == ERR_OK && work->fx.postponed) {
            set_aside_postponed(sched, work, input);
            break;
        }
        work_take_input(work, input);
        metric_add(METRIC_SCHED_INPUTS, 1);
        if (rc == ERR_OK && !work->fx.stale_cache) {
            entry->tries = 0;
            rc = evaluate_start(sched, work, &err);
        }
        work->fx.stale_cache = false;
        if (rc != ERR_OK) {
            work_broken(sched, work, &err);
            return;
        }
        if (work->release || work->repair != NULL)
            break;
    }
    hand_on(sched, work);
}

/* The release comes first, whatever waits before it. */
static void bring_release_forward(struct run_entry *entry)
{
    struct input **at = &entry->first;
    struct input *release;

    while ((*at)->kind != INPUT_RELEASE)
        at = &(*at)->next;
    release = *at;
    if (at == &entry->first)
        return;
    *at = release->next;
    if (*at == NULL)
        entry->last = at;
    release->next = entry->first;
    entry->first = release;
}

static void take_all(struct sched *sched, struct work *work)
{
    work->entry->tries = 0;
    while (work->entry->first != NULL) {
        struct input *input = pop_input(sched, work->entry);

        if (!work->holds && input->command != NULL)
            input->dead = "there is no such run";
        /* Who asks whether it may begin a step of a run that is not there must not. */
        if (!work->holds && input->in.kind == IN_STARTED && input->kind == INPUT_ENGINE)
            note_grant(work, input, false);
        work_take_input(work, input);
    }
    work_collect(sched, work);
}

/* A command is written together with its run or after it: when the run was not found, we looked too early. */
static bool absent_too_early(struct sched *sched, struct run_entry *entry)
{
    const struct input *input = entry->first;

    while (input != NULL && input->command == NULL)
        input = input->next;
    if (input == NULL || entry->tries >= ABSENT_TRIES_MAX)
        return false;
    entry->reload = true;
    run_delay(sched, entry, (int64_t)10 * US_PER_MS << entry->tries);
    entry->tries++;
    run_kick(sched, entry);
    return true;
}

void work_apply(struct sched *sched, struct run_entry *entry)
{
    const struct quarantined *held = sched->quarantine.len > 0 ? quarantine_find(sched, entry->id) : NULL;
    struct work *work;

    if (entry->state == ENTRY_ABSENT && (held == NULL || run_has_release(entry)) && absent_too_early(sched, entry))
        return;
    work = work_new(sched, entry, entry->shard);
    if (held != NULL && !run_has_release(entry)) {
        work->holds = true;
        work->reason = held->reason;
        take_all(sched, work);
    } else if (entry->state == ENTRY_ABSENT) {
        take_all(sched, work);
    } else {
        if (held != NULL)
            bring_release_forward(entry);
        apply_inputs(sched, work);
    }
}

void work_continue(struct sched *sched, struct work *work)
{
    if (work->pending > 0)
        return;
    list_del(&work->link);
    work_collect(sched, work);
}

void work_abort(struct sched *sched, struct work *work)
{
    struct run_entry *entry = work->entry;
    struct input *first;

    if (entry == NULL) {
        list_del(&work->link); /* a dead letter: the same again */
        work_collect(sched, work);
        return;
    }
    first = work->first;
    work->first = NULL;
    work->last = &work->first;
    for (const struct input *input = first; input != NULL && work->release; input = input->next)
        if (input->kind == INPUT_RELEASE)
            quarantine_doubt(sched, entry->id, input->command->id);
    inputs_put_back(sched, entry, first, true);
    if (!work->holds)
        run_forget_state(sched, entry);
    work_free(sched, work);
}

/* Its shard is another's now. */
void work_drop(struct sched *sched, struct work *work)
{
    if (work->entry != NULL) {
        work_abort(sched, work);
        return;
    }
    for (struct input *input = work->first, *next; input != NULL; input = next) {
        next = input->next;
        input_drop(sched, input);
    }
    work_free(sched, work);
}

void work_quarantine(struct sched *sched, struct work *work, const char *reason)
{
    if (work->entry == NULL || work->holds) {
        /* What was to be kept is refused as well: less of it, and in the end nothing but a line in the log. */
        if (work->dead_only) {
            log_event(LOG_ERROR, "inputs.dropped", log_i64("shard", work->shard->number),
                      log_i64("inputs", work->input_count));
            for (struct input *input = work->first, *next; input != NULL; input = next) {
                next = input->next;
                input_done(sched, input);
            }
            work_free(sched, work);
            return;
        }
        work->dead_only = true;
        list_del(&work->link);
        work_collect(sched, work);
        return;
    }
    quarantine_add(sched, work->entry->id, false, reason);
    if (work->release)
        work->entry->unloadable = true; /* not even that can be written: the release is answered without it */
    work_abort(sched, work);
}
