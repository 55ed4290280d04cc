/* Reading a run and folding its history. */
#include "gateway/history.h"
#include "common/base/ensure.h"
#include "common/base/log.h"
#include "gateway/flows.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define EVENTS_MAX 250000

struct loading {
    struct history history;
    void (*done)(struct call *call, const struct history *history);
    struct event *events;
    size_t event_count;
};

const char *history_status(const struct history *history)
{
    if (!str_is(history->status, "active"))
        return arena_printf(history->call->arena, STR_FMT, STR_ARG(history->status));
    return history->running ? "running" : "waiting";
}

const char *history_step_status(const struct history *history, uint32_t node)
{
    return step_status_name((enum step_status)run_step(history->state, node)->status);
}

static struct attempt_view *attempt_of(struct loading *l, struct step_view *step, uint16_t number)
{
    struct attempt_view *a;

    for (a = step->attempts; a != NULL; a = a->next)
        if (a->number == number)
            return a;
    a = arena_alloc(l->history.call->arena, sizeof(*a));
    a->number = number;
    *step->attempts_end = a;
    step->attempts_end = &a->next;
    return a;
}

static void end_attempt(struct loading *l, struct step_view *step, const struct event *event, const char *status)
{
    struct attempt_view *a;

    if (event->attempt == 0)
        return;
    a = attempt_of(l, step, event->attempt);
    a->status = status;
    a->ended_at = event->ended_at.us != 0 ? event->ended_at : event->at;
    if (event->started_at.us != 0)
        a->started_at = event->started_at;
    if (event->worker.ptr != NULL)
        a->worker = event->worker;
    if (event->code.ptr != NULL)
        a->failure = event;
    if (step->started_at.us == 0)
        step->started_at = a->started_at;
}

static void end_step(struct loading *l, struct step_view *step, const struct event *event, const char *status)
{
    step->ended_at = event->at;
    step->waiting = NULL;
    if (event->code.ptr != NULL)
        step->failure = event;
    end_attempt(l, step, event, status);
}

/* What an event says about its step, beside what the engine's fold says. */
static void view_step(struct loading *l, struct step_view *step, const struct event *event)
{
    struct body_view body = {event->output, event->output_bytes, (int)event->type, event->attempt};
    struct attempt_view *a;

    switch (event->type) {
    case EVENT_STEP_DISPATCHED:
        if (step->queued_at.us == 0)
            step->queued_at = event->at;
        step->waiting = NULL;
        a = attempt_of(l, step, event->attempt);
        a->status = "queued";
        if (event->output_bytes > 0)
            step->input = body;
        break;
    case EVENT_STEP_STARTED:
        a = attempt_of(l, step, event->attempt);
        a->status = "running";
        a->started_at = event->started_at.us != 0 ? event->started_at : event->at;
        a->worker = event->worker;
        if (step->started_at.us == 0)
            step->started_at = a->started_at;
        break;
    case EVENT_STEP_WAITING:
        step->waiting = event;
        if (step->queued_at.us == 0)
            step->queued_at = event->at;
        break;
    case EVENT_ATTEMPT_FAILED:
        step->waiting = event;
        end_attempt(l, step, event, "failed");
        break;
    case EVENT_STEP_SUCCEEDED:
        step->output = body;
        step->failure = NULL;
        end_step(l, step, event, "succeeded");
        if (step->attempts == NULL) /* no worker had it: it was done at once, or waited */
            step->started_at = step->queued_at.us != 0 ? step->queued_at : event->at;
        break;
    case EVENT_STEP_FAILED:
        end_step(l, step, event, "failed");
        break;
    case EVENT_STEP_TIMED_OUT:
        end_step(l, step, event, "timed_out");
        break;
    case EVENT_STEP_SKIPPED:
        step->skipped = event;
        step->ended_at = event->at;
        break;
    case EVENT_STEP_CANCELLED:
        end_step(l, step, event, "cancelled");
        break;
    case EVENT_STEP_OUTCOME_UNKNOWN:
        end_step(l, step, event, "outcome_unknown");
        break;
    default: /* of the run, of commands, late results: nothing about the step's state */
        break;
    }
}

static void view_event(struct loading *l, const struct event *event)
{
    uint32_t node = event->step.ptr == NULL ? NO_NODE : plan_find(l->history.plan, event->step);

    if (event->type >= EVENT_RUN_SUCCEEDED && event->type <= EVENT_RUN_TIMED_OUT)
        l->history.output = (struct body_view){event->output, event->output_bytes, (int)event->type, 0};
    else if (node != NO_NODE)
        view_step(l, &l->history.steps[node], event);
}

static void free_state(void *state)
{
    run_state_free(state);
}

static enum err_code fold(struct loading *l, struct plan *plan, struct err *err)
{
    struct history *h = &l->history;
    enum err_code rc = ERR_OK;

    h->plan = plan;
    h->state = run_state_new(h->id, h->call->caller.organisation, plan, h->created_at);
    arena_defer(h->call->arena, free_state, h->state);
    h->steps = arena_array(h->call->arena, plan->root_count, sizeof(*h->steps));
    for (size_t i = 0; i < plan->root_count; i++)
        h->steps[i].attempts_end = &h->steps[i].attempts;
    for (size_t i = 0; i < l->event_count && rc == ERR_OK; i++) {
        rc = engine_fold(h->state, &l->events[i], err);
        if (rc == ERR_OK)
            view_event(l, &l->events[i]);
    }
    for (size_t i = 0; i < h->work_count; i++)
        if (h->work[i].kind == WORK_TASK && h->work[i].step.ptr != NULL && plan_find(plan, h->work[i].step) != NO_NODE)
            h->steps[plan_find(plan, h->work[i].step)].waiting = NULL;
    return rc;
}

static void on_flow(void *ctx, struct flow *flow, enum err_code rc, const struct err *err)
{
    struct loading *l = ctx;
    struct call *call = l->history.call;
    struct err fault = {0};

    if (rc != ERR_OK) {
        call_error(call, err);
        return;
    }
    if (flow == NULL || flow->plan == NULL) {
        (void)err_set(&fault, ERR_INTERNAL, "version %d of workflow '" STR_FMT "' cannot be read: %s",
                      (int)l->history.version, STR_ARG(l->history.workflow),
                      flow == NULL ? "it is not there" : flow->fault);
        call_error(call, &fault);
        return;
    }
    if (fold(l, flow->plan, &fault) != ERR_OK) {
        char id[UUID_TEXT_SIZE];

        run_id_format(l->history.id, id);
        err_prefix(&fault, fault.code, "folding the history of run %s", id);
        call_error(call, &fault);
        return;
    }
    if (run_ended((enum run_status)l->history.state->status) && l->history.ended_at.us == 0) {
        history_load(call, l->history.id, l->done); /* it ended between two of our statements: look once more */
        return;
    }
    l->done(call, &l->history);
}

static enum err_code read_events(struct loading *l, const struct pg_result *rows, struct err *err)
{
    struct arena *arena = l->history.call->arena;

    l->event_count = pg_rows(rows);
    l->events = arena_array(arena, l->event_count + 1, sizeof(*l->events));
    for (size_t i = 0; i < l->event_count; i++) {
        struct event *e = &l->events[i];
        enum err_code rc;

        e->seq = (uint32_t)pg_get_int(rows, i, 0);
        e->at = pg_get_time(rows, i, 1);
        e->type = (enum event_type)pg_get_int(rows, i, 2);
        e->step = str_arena(arena, pg_get_str(rows, i, 3));
        e->attempt = (uint16_t)pg_get_int(rows, i, 4);
        e->output_bytes = (uint32_t)pg_get_int(rows, i, 6);
        e->output = str_arena(arena, pg_get_str(rows, i, 7));
        rc = event_decode_data(str_arena(arena, pg_get_str(rows, i, 5)), arena, e, err);
        if (rc != ERR_OK)
            return rc;
    }
    return ERR_OK;
}

static void read_work(struct history *h, const struct pg_result *rows)
{
    struct arena *arena = h->call->arena;

    h->work_count = pg_rows(rows);
    h->work = arena_array(arena, h->work_count + 1, sizeof(*h->work));
    for (size_t i = 0; i < h->work_count; i++)
        h->work[i] = (struct work_view){.kind = (enum work_kind)pg_get_int(rows, i, 1),
                                        .step = str_arena(arena, pg_get_str(rows, i, 2)),
                                        .attempt = (int)pg_get_int(rows, i, 3),
                                        .dispatch = (int)pg_get_int(rows, i, 4),
                                        .pool = str_arena(arena, pg_get_str(rows, i, 5)),
                                        .priority = (int)pg_get_int(rows, i, 6),
                                        .due_at = pg_get_time(rows, i, 7),
                                        .reason = str_arena(arena, pg_get_str(rows, i, 8)),
                                        .opened_at = pg_get_time(rows, i, 9),
                                        .shard = (int)pg_get_int(rows, i, 10)};
}

static void read_run(struct history *h, const struct pg_result *rows)
{
    struct arena *arena = h->call->arena;

    h->workflow = str_arena(arena, pg_get_str(rows, 0, 0));
    h->version = (int32_t)pg_get_int(rows, 0, 1);
    h->status = str_arena(arena, pg_get_str(rows, 0, 2));
    h->priority = (int)pg_get_int(rows, 0, 3);
    h->created_at = pg_get_time(rows, 0, 4);
    h->started_at = pg_get_time(rows, 0, 5);
    h->ended_at = pg_get_time(rows, 0, 6);
    h->input = (struct body_view){str_arena(arena, pg_get_str(rows, 0, 8)), (size_t)pg_get_int(rows, 0, 7),
                                  EVENT_RUN_STARTED, 0};
    h->labels = str_arena(arena, pg_get_str(rows, 0, 9));
    h->trigger = str_arena(arena, pg_get_str(rows, 0, 10));
    h->has_parent = !pg_is_null(rows, 0, 11);
    h->parent = pg_get_uuid(rows, 0, 11);
    h->has_rerun_of = !pg_is_null(rows, 0, 12);
    h->rerun_of = pg_get_uuid(rows, 0, 12);
    h->error_code = str_arena(arena, pg_get_str(rows, 0, 13));
    h->error_step = str_arena(arena, pg_get_str(rows, 0, 14));
    h->error_text = str_arena(arena, pg_get_str(rows, 0, 15));
    h->running = pg_get_bool(rows, 0, 16);
    h->commands = pg_get_int(rows, 0, 17);
    h->quarantined = pg_get_bool(rows, 0, 18);
    h->quarantine_reason = str_arena(arena, pg_get_str(rows, 0, 19));
}

static void on_read(void *ctx, const struct pg_outcome *outcome)
{
    struct loading *l = ctx;
    struct call *call = l->history.call;
    struct err err = {0};

    if (!call_committed(call, outcome))
        return;
    if (pg_rows(outcome->results[0]) == 0) {
        call_problem(call, 404, "not_found", "there is no such run");
        return;
    }
    read_run(&l->history, outcome->results[0]);
    read_work(&l->history, outcome->results[2]);
    if (read_events(l, outcome->results[1], &err) != ERR_OK) {
        call_error(call, &err);
        return;
    }
    flows_version(call->gw->flows, call->caller.organisation, l->history.workflow, l->history.version, on_flow, l);
}

void history_load(struct call *call, struct run_id id, void (*done)(struct call *call, const struct history *history))
{
    struct loading *l = arena_alloc(call->arena, sizeof(*l));
    struct pg_batch *batch = call_batch(call, false);

    l->history.call = call;
    l->history.id = id;
    l->done = done;
    pg_add(batch, SQL_RUN_GET, pg_uuid(id));
    pg_add(batch, SQL_EVENT_PAGE, pg_uuid(id), pg_i32(0), pg_i32(EVENTS_MAX));
    pg_add(batch, SQL_RUN_WORK, pg_uuid(id));
    pg_submit(gateway_read(call->gw), batch, on_read, l);
}
