/* What must hold: after each commit for the runs it touched, and at the end for all. */
#include "common/engine/notice.h"
#include "tests/sim/sim.h"

#include "common/base/banned.h"

static bool has_command(struct sim *sim, const struct db_run *run)
{
    for (size_t i = 0; i < sim->db.command_count; i++)
        if (!sim->db.commands[i].deleted && sim->db.commands[i].run == run->number)
            return true;
    return false;
}

static bool has_work(const struct db_run *run)
{
    for (size_t i = 0; i < run->work_count; i++)
        if (run->work[i].open && run->work[i].row.kind != WORK_RUN_TIMEOUT)
            return true;
    return false;
}

struct who {
    struct sim *sim;
    struct db_run *run;
};

static void rule_broken(void *ctx, const char *text)
{
    const struct who *who = ctx;

    sim_fail(who->sim, "run %u: %s", who->run->number, text);
}

/* ---- new events ---- */

static void note_operation(struct sim *sim, const struct event *event)
{
    if (event->type == EVENT_RUN_CANCELLING)
        stats_operation(sim, !str_is(event->code, "concurrency_limit") ? OPERATION_CANCEL
                             : str_starts(event->message, "no slot")   ? OPERATION_SKIP
                                                                       : OPERATION_OUST);
    else if (event->type == EVENT_RUN_PAUSED)
        stats_operation(sim, OPERATION_PAUSE);
    else if (event->type == EVENT_RUN_RESUMED)
        stats_operation(sim, OPERATION_RESUME);
    else if (event->type == EVENT_RUN_REOPENED && str_is(event->code, "retry"))
        stats_operation(sim, event->count != 0 ? OPERATION_CHILD_AGAIN : OPERATION_RETRY);
    else if (event->type == EVENT_STEP_CONTINUED && event->waits.ptr == NULL)
        stats_operation(sim, OPERATION_ITEM_AGAIN);
    else if (event->type == EVENT_STEP_SETTLED)
        stats_operation(sim, OPERATION_SETTLE);
    else if (event->type == EVENT_STEP_GIVEN)
        stats_operation(sim, OPERATION_GIVEN);
    else if (event->type == EVENT_RUN_ADMITTED)
        stats_operation(sim, OPERATION_ADMIT);
}

static void note_stats(struct sim_stats *stats, const struct event *event)
{
    bool item = event->step.len > 0 && event->step.ptr[event->step.len - 1] == ']';
    bool action = memchr(event->step.ptr == NULL ? "" : event->step.ptr, ':', event->step.len) != NULL;

    stats->items += item;
    stats->actions += action && event->type == EVENT_STEP_DISPATCHED && event->attempt == 1;
    stats->signals += event->type == EVENT_SIGNAL_RECEIVED;
    stats->woken += event->type == EVENT_STEP_LISTENING;
    stats->settled += event->type == EVENT_STEP_SETTLED;
    stats->reopened += event->type == EVENT_RUN_REOPENED;
}

/* A step whose child was retried ends with what came of that: before the event is taken in. */
static void check_retried_child(struct sim *sim, struct db_run *run, const struct event *event)
{
    const struct past_step *step = event->step.ptr == NULL ? NULL : history_step(run->history, event->step);
    struct db_run *child;

    if ((event->type != EVENT_STEP_FAILED && event->type != EVENT_STEP_TIMED_OUT) || step == NULL ||
        step->waits != PAST_CHILD || step->child_retries == 0 || str_is(event->code, "deadline") ||
        history_stopping(run->history, step))
        return;
    child = db_find(sim, step->child);
    if (child == NULL || child->state == NULL || child->state->retries < step->child_retries)
        sim_fail(sim, "run %u: step " STR_FMT " ends by how its child ended before it was retried", run->number,
                 STR_ARG(event->step));
}

static void check_event(struct sim *sim, struct db_run *run, const struct db_event *row)
{
    struct err err = {.code = ERR_OK};
    struct event event = {.seq = row->seq,
                          .type = (enum event_type)row->type,
                          .at = {row->at},
                          .step = row->step,
                          .attempt = row->attempt,
                          .output = row->output,
                          .output_bytes = (uint32_t)row->output.len};

    if (row->seq != run->checked + 1)
        sim_fail(sim, "a gap: event %u of run %u follows %zu", row->seq, run->number, run->checked);
    else if (event_decode_data(row->data, sim->arena, &event, &err) != ERR_OK)
        sim_fail(sim, "run %u: event %u cannot be read: %s", run->number, row->seq, err.message);
    if (row->notices != (notice_of(&event) == NOTICE_NONE ? 0 : 1))
        sim_fail(sim, "run %u: others are told %u times of event %u, %s", run->number, row->notices, event.seq,
                 event_type_name(event.type));
    check_retried_child(sim, run, &event);
    history_event(run->history, &event);
    if (engine_fold(run->state, &event, &err) != ERR_OK)
        sim_fail(sim, "run %u: %s", run->number, err.message);
    if (!sim->failed)
        check_output(sim, run, &event);
    if (!sim->failed)
        check_admission(sim, run, &event);
    if (!sim->failed && event.type == EVENT_STEP_GIVEN && run->given.ptr != NULL)
        check_given(sim, run, &event);
    note_stats(sim->stats, &event);
    note_operation(sim, &event);
    /* it was, or could not be */
    if (event.type == EVENT_RUN_PAUSED ||
        (event.type == EVENT_COMMAND_REFUSED &&
         (str_is(event.code, "run_stopping") || str_is(event.code, "compensating") || str_is(event.code, "run_ended"))))
        run->asked_to_pause = true;
}

/* Folds what is new of the run. */
static void check_events(struct sim *sim, struct db_run *run)
{
    if (run->state == NULL) {
        struct who *who = sim_new(sim, struct who);

        *who = (struct who){sim, run};
        run->state = run_state_new(run->id, 1, run->plan, (struct wall_us){run->created_at});
        run->history = history_new(sim->arena, run->plan, rule_broken, who);
    }
    for (; run->checked < run->event_count && !sim->failed; run->checked++) {
        check_event(sim, run, &run->events[run->checked]);
        if (!event_ends_run((enum event_type)run->events[run->checked].type))
            continue;
        run->ends++;
        run->closed_at = sim->now;
    }
}

/* ---- families ---- */

static bool has_command_of(struct sim *sim, const struct db_run *run, const char *kind)
{
    for (size_t i = 0; i < sim->db.command_count; i++)
        if (!sim->db.commands[i].deleted && sim->db.commands[i].run == run->number &&
            strcmp(sim->db.commands[i].kind, kind) == 0)
            return true;
    return false;
}

/* A step of the run waits for this child: it is open, or about to be opened again, or the news of its end is on the
 * way. */
static void check_child(void *ctx, struct run_id child)
{
    const struct who *who = ctx;
    const struct db_run *run = db_find(who->sim, child);
    char id[UUID_TEXT_SIZE];

    if (run != NULL && (!run_ended(run->status) || has_command_of(who->sim, run, "retry")))
        return;
    run_id_format(child, id);
    for (size_t i = 0; i < who->sim->db.command_count; i++) {
        const struct db_command *command = &who->sim->db.commands[i];
        struct str text = STR_NONE;

        if (!command->deleted && strcmp(command->kind, "child_ended") == 0 && command->run == who->run->number &&
            jt_string(jt_get(command->body, "child"), who->sim->arena, &text) && str_is(text, id))
            return;
    }
    sim_fail(who->sim, "run %u waits for child %s, which has ended, and nobody will tell", who->run->number, id);
}

/* A child that nobody waits for any more, or whose parent is stopping, is cancelled, unless it is about to end. One
 * that has ended and was opened again is its operator's affair: the parent has been told. */
static void check_cascade(struct sim *sim, struct db_run *parent, struct db_run *child)
{
    const struct past_step *step = history_step(parent->history, child->parent_step);
    bool awaited = step != NULL && step->waits == PAST_CHILD && run_id_eq(step->child, child->id) &&
                   !history_stopping(parent->history, step);

    if (awaited || child->ends > 0 || run_ended(child->status) || has_command_of(sim, child, "cancel"))
        return;
    check_events(sim, child); /* of the same transaction */
    if (child->ends > 0 || child->history->cancelling || child->history->root->ended == child->plan->root_count)
        return;
    sim_fail(sim, "run %u is not to go on, and nobody tells its child, run %u", parent->number, child->number);
}

/* A child that the paused run waits for is paused, or hears of it, unless it is about to end or somebody has let it go
 * on by itself. */
static void check_paused(void *ctx, struct run_id id)
{
    const struct who *who = ctx;
    struct db_run *child = db_find(who->sim, id);

    if (child == NULL || child->history == NULL || run_ended(child->status) || has_command_of(who->sim, child, "pause"))
        return;
    check_events(who->sim, child);
    if (child->status == RUN_PAUSED || child->asked_to_pause || child->history->cancelling || child->ends > 0)
        return;
    sim_fail(who->sim, "run %u is paused, and nobody tells its child, run %u", who->run->number, child->number);
}

static void check_family(struct sim *sim, struct db_run *run)
{
    struct who who = {sim, run};

    history_each_child(run->history, check_child, &who);
    if (run->status == RUN_PAUSED)
        history_each_child(run->history, check_paused, &who);
    for (uint32_t i = run->number + 1; i < sim->db.run_count; i++)
        if (sim->db.runs[i]->parent == run)
            check_cascade(sim, run, sim->db.runs[i]);
    if (run->parent != NULL && run->told != run->ends)
        sim_fail(sim, "run %u has ended %u times, its parent was told %u times", run->number, run->ends, run->told);
}

/* Is it no wonder that it has not ended? It, or a child that it waits for, or who has the slot that it waits for, is in
 * quarantine. */
bool check_excused(struct sim *sim, const struct db_run *run)
{
    if (run->quarantined || check_waits_behind_excused(sim, run))
        return true;
    for (uint32_t i = run->number + 1; i < sim->db.run_count; i++)
        if (sim->db.runs[i]->parent == run &&
            (!run_ended(sim->db.runs[i]->status) || has_command_of(sim, sim->db.runs[i], "retry")) &&
            check_excused(sim, sim->db.runs[i]))
            return true;
    return false;
}

/* ---- what is open, beside what history says ---- */

static uint32_t step_of_row(const struct run_state *state, uint32_t seq)
{
    for (uint32_t i = 0; i < state->node_count; i++)
        if (run_step(state, i)->open_seq == seq)
            return i;
    return NO_NODE;
}

static void compare_row(struct sim *sim, const struct db_run *run, const struct sched_open_row *row)
{
    uint32_t node = step_of_row(run->state, row->seq);
    const struct step_state *s = node == NO_NODE ? NULL : run_step(run->state, node);
    struct buf path;

    if ((row->kind == WORK_RUN_TIMEOUT && run->state->timeout_seq == row->seq) ||
        (row->kind == WORK_ADMISSION && run->state->admission_seq == row->seq))
        return;
    if (s == NULL || s->open_kind != row->kind) {
        sim_fail(sim, "run %u: open work %u is not in the fold of its history", run->number, row->seq);
        return;
    }
    buf_init(&path, STEP_PATH_SIZE);
    run_step_path(run->state, node, &path);
    if (!str_eq(buf_str(&path), row->step) || row->attempt != s->attempt)
        sim_fail(sim, "run %u: open work %u is of " STR_FMT " attempt %u, history says " STR_FMT " %u", run->number,
                 row->seq, STR_ARG(row->step), row->attempt, STR_ARG(buf_str(&path)), s->attempt);
    buf_deinit(&path);
    if (row->kind != WORK_TASK && row->due_at.us != s->due_at.us &&
        (row->reason == NULL || strcmp(row->reason, "more_items") != 0))
        sim_fail(sim, "run %u: open work %u is due at another time than history says", run->number, row->seq);
}

static void compare_work(struct sim *sim, const struct db_run *run)
{
    const struct run_state *state = run->state;
    uint32_t open = 0, expected = state->open_steps + (state->timeout_seq != 0) + (state->admission_seq != 0);

    for (size_t i = 0; i < run->work_count; i++) {
        if (!run->work[i].open)
            continue;
        open++;
        compare_row(sim, run, &run->work[i].row);
    }
    if (open != expected)
        sim_fail(sim, "run %u: %u rows of open work, the fold has %u", run->number, open, expected);
}

/* Signals that came and were not taken are there for who comes next, and nobody waits beside one. */
static void compare_signals(struct sim *sim, const struct db_run *run)
{
    uint32_t here = 0, expected = 0;

    for (const struct signal_queue *queue = run->state->signals; queue != NULL; queue = queue->next) {
        here += queue->count;
        if (queue->count > 0 && queue->waiter_count > 0)
            sim_fail(sim, "run %u: a step waits for signal '%s', which is here", run->number, queue->name);
    }
    for (const struct past_signal *signal = run->history->signals; signal != NULL; signal = signal->next)
        expected += !signal->taken;
    if (here != expected)
        sim_fail(sim, "run %u: %u signals wait, history says %u", run->number, here, expected);
}

/* ---- after a commit ---- */

void check_run(struct sim *sim, struct db_run *run)
{
    if (run->created_at == 0)
        return;
    check_events(sim, run);
    if (sim->failed)
        return;
    if (run->state->status != run->status)
        sim_fail(sim, "run %u: its row says '%s', its history '%s'", run->number, run_status_name(run->status),
                 run_status_name((enum run_status)run->state->status));
    if (run_ended(run->status) == (run->ended_at == 0))
        sim_fail(sim, "run %u is '%s', and the time of its end is %lld", run->number, run_status_name(run->status),
                 (long long)run->ended_at);
    if (!run_ended(run->status) && run->status != RUN_PAUSED && !has_work(run) && !has_command(sim, run))
        sim_fail(sim, "run %u is open and waits for nothing after event %zu", run->number, run->event_count);
    if (!run->damaged || run_ended(run->status))
        compare_work(sim, run);
    compare_signals(sim, run);
    check_slots(sim, run);
    check_family(sim, run);
}

void check_command_gone(struct sim *sim, const struct db_command *command)
{
    static const char *const kinds[] = {"cancel", "compensate", "signal", "settle", "retry", "sing", "pause", "resume"};
    const struct db_run *run = sim->db.runs[command->run];

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (strcmp(command->kind, kinds[i]) == 0 && !history_answered(run->history, command->id))
            sim_fail(sim, "run %u: command %lld (%s) is gone and was not answered", run->number, (long long)command->id,
                     command->kind);
}

/* ---- results ---- */

/* The engine's rule: while one worker has the attempt, a copy that another holds cannot defer it, nor fail it when it
 * was granted. */
static bool is_of_idle_copy(struct sim *sim, struct db_run *run, struct str step, struct str result)
{
    const struct past_step *past = run->history == NULL ? NULL : history_step(run->history, step);
    struct str status = jt_get(result, "status"), worker = STR_NONE;

    if (past == NULL || !jt_string(jt_get(result, "worker"), sim->arena, &worker))
        return true;
    if (!str_is(status, "\"deferred\"") && !(str_is(status, "\"failed\"") && past->plan->at_most_once))
        return false;
    for (size_t i = run->event_count; i > 0; i--) {
        struct str granted = STR_NONE;

        if (run->events[i - 1].type != EVENT_STEP_STARTED || !str_eq(run->events[i - 1].step, step))
            continue;
        return !jt_string(jt_get(run->events[i - 1].data, "worker"), sim->arena, &granted) || !str_eq(granted, worker);
    }
    return false;
}

/* What was applied before somebody of an older release came may still be on its way. */
#define ON_ITS_WAY_US (15 * SEC)

void check_format(struct sim *sim, const struct db_run *run, const struct event *event)
{
    int needed = event_format(event->type);
    int format = db_oldest_format(sim, ON_ITS_WAY_US);

    if ((event->type == EVENT_RUN_STARTED || event->type == EVENT_RUN_QUEUED || event->type == EVENT_STEP_GIVEN) &&
        run->plan->format > needed)
        needed = run->plan->format;
    if (needed > format && (run->state == NULL || run->state->format <= format))
        sim_fail(sim, "run %u gets event %u, %s, of format %d, while a scheduler of format %d is alive", run->number,
                 event->seq, event_type_name(event->type), needed, format);
}

static bool is_forged(struct sim *sim, struct str task_id, struct str result)
{
    char token[SCHED_TOKEN_SIZE];
    struct str given = STR_NONE;

    sched_task_token(STR("the key of the simulation"), 1, task_id, token);
    return !jt_string(jt_get(result, "token"), sim->arena, &given) || !str_is(given, token);
}

void check_acknowledged(struct sim *sim, const struct sim_delivery *delivery)
{
    struct jt_iter it;

    for (jt_iter_init(&it, jt_get(delivery->message.body, "results")); jt_next(&it);) {
        struct str id = STR_NONE, step;
        struct run_id run_id;
        uint32_t attempt, dispatch;
        struct db_run *run;
        struct err err;

        if (!jt_string(jt_get(it.value, "task_id"), sim->arena, &id) ||
            engine_parse_task_id(id, &run_id, &step, &attempt, &dispatch, &err) != ERR_OK)
            continue;
        run = db_find(sim, run_id);
        if (run == NULL || is_forged(sim, id, it.value) || is_of_idle_copy(sim, run, step, it.value))
            continue;
        /* Of another shard's run it may have been passed on instead. */
        if (run->quarantined || run->shard != delivery->consumer->shard)
            continue;
        for (size_t i = 0; i < run->work_count; i++) {
            const struct sched_open_row *row = &run->work[i].row;

            if (run->work[i].open && row->kind == WORK_TASK && str_eq(row->step, step) && row->attempt == attempt &&
                row->dispatch == dispatch)
                sim_fail(sim, "the result of " STR_FMT " is acknowledged and not in the history", STR_ARG(id));
        }
    }
}

void check_end(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->db.run_count && !sim->failed; i++) {
        struct db_run *run = sim->db.runs[i];
        const struct db_event *last = run->event_count == 0 ? NULL : &run->events[run->event_count - 1];

        check_run(sim, run);
        if (!run_ended(run->status) && !run->left_out && !check_excused(sim, run))
            sim_fail(sim,
                     "run %u was acknowledged and has not ended: '%s' after %zu events, last '%s' of step " STR_FMT, i,
                     run_status_name(run->status), run->event_count,
                     last == NULL ? "nothing" : event_type_name((enum event_type)last->type),
                     STR_ARG(last == NULL ? STR_NONE : last->step));
        if (run->quarantined && !run->refuses && !run->suspected && !sim->db.late_hold)
            sim_fail(sim, "run %u is quarantined without reason", i);
    }
    check_slots_free(sim);
}
