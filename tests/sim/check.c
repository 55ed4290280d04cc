/* What must hold: after each commit for the runs it touched, and at the end for all. */
#include "tests/sim/sim.h"
#include <inttypes.h>

#include "common/base/banned.h"

static bool has_command(struct sim *sim, const struct db_run *run)
{
    for (size_t i = 0; i < sim->db.command_count; i++)
        if (!sim->db.commands[i].deleted && &sim->db.runs[sim->db.commands[i].run] == run)
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

static int number(const struct sim *sim, const struct db_run *run)
{
    return (int)(run - sim->db.runs);
}

/* The cheap invariant, checked at every commit: an open run never waits for nothing. */
void check_run(struct sim *sim, struct db_run *run)
{
    if (run_ended(run->status) || has_work(run) || has_command(sim, run))
        return;
    sim_fail(sim, "run %d is open and waits for nothing after event %zu", number(sim, run), run->event_count);
}

/* The engine's rule: while one worker has the attempt, a copy that another holds cannot defer it, nor fail it when it
 * was granted. */
static bool is_of_idle_copy(struct sim *sim, const struct db_run *run, struct str step, struct str result)
{
    uint32_t node = plan_find(run->plan, step);
    struct str status = jt_get(result, "status"), worker = STR_NONE;

    if (node == NO_NODE || !jt_string(jt_get(result, "worker"), sim->arena, &worker))
        return true;
    if (!str_is(status, "\"deferred\"") && !(str_is(status, "\"failed\"") && run->plan->steps[node].at_most_once))
        return false;
    for (size_t i = run->event_count; i > 0; i--) {
        struct str granted = STR_NONE;

        if (run->events[i - 1].type != EVENT_STEP_STARTED || !str_eq(run->events[i - 1].step, step))
            continue;
        return !jt_string(jt_get(run->events[i - 1].data, "worker"), sim->arena, &granted) || !str_eq(granted, worker);
    }
    return false;
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
        const struct db_run *run;
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

/* ---- at the end: the history itself ---- */

struct step_check {
    bool ended;
    uint8_t outcome;
    uint16_t attempt; /* newest dispatched */
    bool attempt_open;
};

static void check_needs(struct sim *sim, const struct db_run *run, const struct run_state *state, uint32_t node)
{
    const struct plan_step *step = &run->plan->steps[node];

    for (size_t e = 0; e < step->edge_count; e++)
        if (!step_ended((enum step_status)state->steps[step->edges[e].parent].status))
            sim_fail(sim, "run %d: step s%u began before what it needs had ended", number(sim, run), node);
}

/* One verdict on a command, and no more. */
static void check_verdict(struct sim *sim, const struct db_run *run, const struct event *event, bool *answered)
{
    if (event->type != EVENT_COMMAND_APPLIED && event->type != EVENT_COMMAND_REFUSED)
        return;
    if (event->command < 1 || (size_t)event->command > sim->db.command_count || answered[event->command - 1])
        sim_fail(sim, "run %d: event %u answers command %lld again", number(sim, run), event->seq,
                 (long long)event->command);
    else
        answered[event->command - 1] = true;
}

static void check_attempt(struct sim *sim, const struct db_run *run, struct step_check *steps, uint32_t node,
                          const struct event *event)
{
    struct step_check *s = &steps[node];

    switch (event->type) {
    case EVENT_STEP_DISPATCHED:
        if (event->attempt != s->attempt + 1)
            sim_fail(sim, "run %d: attempt %u of step s%u follows %u", number(sim, run), event->attempt, node,
                     s->attempt);
        s->attempt = event->attempt;
        s->attempt_open = true;
        break;
    case EVENT_ATTEMPT_FAILED:
        if (!s->attempt_open)
            sim_fail(sim, "run %d: attempt %u of step s%u ended twice", number(sim, run), event->attempt, node);
        s->attempt_open = false;
        break;
    default:
        break;
    }
}

static void compare_work(struct sim *sim, const struct db_run *run, const struct run_state *state)
{
    uint32_t open = 0;

    for (size_t i = 0; i < run->work_count; i++) {
        const struct sched_open_row *row = &run->work[i].row;
        bool found = row->kind == WORK_RUN_TIMEOUT && state->timeout_seq == row->seq;

        if (!run->work[i].open)
            continue;
        open++;
        for (uint32_t n = 0; n < run->plan->step_count; n++)
            found = found || (state->steps[n].open_seq == row->seq && state->steps[n].open_kind == row->kind);
        if (!found)
            sim_fail(sim, "run %d: open work %u is not in the fold of its history", number(sim, run), row->seq);
    }
    if (open != state->open_steps + (state->timeout_seq != 0 ? 1u : 0u))
        sim_fail(sim, "run %d: %u rows of open work, the fold has %u", number(sim, run), open,
                 state->open_steps + (state->timeout_seq != 0 ? 1u : 0u));
}

static void fold_and_compare(struct sim *sim, struct db_run *run)
{
    struct run_state *state = run_state_new(run->id, 1, run->plan, (struct wall_us){run->created_at});
    struct step_check *steps = arena_array(sim->arena, run->plan->step_count, sizeof(*steps));
    bool *answered = arena_array(sim->arena, sim->db.command_count, sizeof(bool));
    struct err err = {.code = ERR_OK};

    for (size_t i = 0; i < run->event_count && !sim->failed; i++) {
        const struct db_event *row = &run->events[i];
        struct event event = {.seq = row->seq,
                              .type = (enum event_type)row->type,
                              .at = {row->at},
                              .step = row->step,
                              .attempt = row->attempt,
                              .output_bytes = (uint32_t)row->output.len};

        if (event_decode_data(row->data, sim->arena, &event, &err) != ERR_OK)
            sim_fail(sim, "run %d: event %u cannot be read: %s", number(sim, run), row->seq, err.message);
        if (event.step.ptr != NULL && event.type >= EVENT_STEP_DISPATCHED && event.type < EVENT_COMMAND_APPLIED) {
            uint32_t node = plan_find(run->plan, event.step);

            if (event.type == EVENT_STEP_DISPATCHED || event.type == EVENT_STEP_SUCCEEDED)
                check_needs(sim, run, state, node);
            check_attempt(sim, run, steps, node, &event);
        }
        check_verdict(sim, run, &event, answered);
        if (engine_fold(state, &event, &err) != ERR_OK)
            sim_fail(sim, "run %d: %s", number(sim, run), err.message);
    }
    if (!sim->failed && state->status != run->status)
        sim_fail(sim, "run %d: its row says '%s', its history '%s'", number(sim, run), run_status_name(run->status),
                 run_status_name((enum run_status)state->status));
    if (!sim->failed)
        compare_work(sim, run, state);
    run_state_free(state);
}

void check_end(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->db.run_count && !sim->failed; i++) {
        struct db_run *run = &sim->db.runs[i];

        fold_and_compare(sim, run);
        if (!run_ended(run->status) && !run->quarantined)
            sim_fail(sim,
                     "run %u was acknowledged and has not ended: '%s' after %zu events, last '%s' of step " STR_FMT, i,
                     run_status_name(run->status), run->event_count,
                     run->event_count == 0 ? "nothing"
                                           : event_type_name((enum event_type)run->events[run->event_count - 1].type),
                     STR_ARG(run->event_count == 0 ? STR_NONE : run->events[run->event_count - 1].step));
        if (run->quarantined && !run->refuses && !run->suspected && !sim->db.late_hold)
            sim_fail(sim, "run %u is quarantined without reason", i);
    }
}
