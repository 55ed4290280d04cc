/* See step_view.h. */
#include "gateway/step_view.h"

#include "common/base/banned.h"

enum err_code event_of_row(const struct pg_result *rows, size_t row, struct arena *arena, struct event *ret,
                           struct err *err)
{
    *ret = (struct event){.seq = (uint32_t)pg_get_int(rows, row, 0),
                          .at = pg_get_time(rows, row, 1),
                          .type = (enum event_type)pg_get_int(rows, row, 2),
                          .step = str_arena(arena, pg_get_str(rows, row, 3)),
                          .attempt = (uint16_t)pg_get_int(rows, row, 4),
                          .output_bytes = (uint32_t)pg_get_int(rows, row, 6),
                          .output = str_arena(arena, pg_get_str(rows, row, 7))};
    return event_decode_data(str_arena(arena, pg_get_str(rows, row, 5)), arena, ret, err);
}

void step_view_init(struct step_view *view, const struct plan_step *plan, struct str path)
{
    *view = (struct step_view){.plan = plan, .path = path};
    view->attempts_end = &view->attempts;
}

static struct attempt_view *attempt_of(struct step_view *view, struct arena *arena, uint16_t number)
{
    struct attempt_view *a;

    for (a = view->attempts; a != NULL; a = a->next)
        if (a->number == number)
            return a;
    a = arena_alloc(arena, sizeof(*a));
    a->number = number;
    *view->attempts_end = a;
    view->attempts_end = &a->next;
    return a;
}

static void end_attempt(struct step_view *view, struct arena *arena, const struct event *event, const char *status)
{
    struct attempt_view *a;

    if (event->attempt == 0)
        return;
    a = attempt_of(view, arena, event->attempt);
    a->status = status;
    a->ended_at = event->ended_at.us != 0 ? event->ended_at : event->at;
    if (event->started_at.us != 0)
        a->started_at = event->started_at;
    if (event->worker.ptr != NULL)
        a->worker = event->worker;
    if (event->code.ptr != NULL)
        a->failure = event;
    if (view->started_at.us == 0)
        view->started_at = a->started_at;
}

static void end_step(struct step_view *view, struct arena *arena, const struct event *event, enum step_status status)
{
    view->status = status;
    view->ended_at = event->at;
    view->waiting = NULL;
    view->failure = event->code.ptr != NULL ? event : NULL;
    end_attempt(view, arena, event, step_status_name(status));
}

static void succeed(struct step_view *view, struct arena *arena, const struct event *event)
{
    view->output = (struct body_view){event->output, event->output_bytes, (int)event->type, event->attempt};
    view->output_ref = event->ref;
    view->branch = event->branch;
    end_step(view, arena, event, STEP_SUCCEEDED);
    if (view->attempts == NULL) /* no worker had it: it was done at once, or waited */
        view->started_at = view->queued_at.us != 0 ? view->queued_at : event->at;
}

static void settle(struct step_view *view, const struct event *event)
{
    view->status = str_is(event->as, "succeeded") ? STEP_SUCCEEDED : STEP_FAILED;
    view->ended_at = event->at;
    view->waiting = NULL;
    view->failure = event->code.ptr != NULL ? event : NULL;
    view->output = (struct body_view){event->output, event->output_bytes, (int)event->type, event->attempt};
}

static void given(struct step_view *view, struct arena *arena, const struct event *event)
{
    enum step_status status = STEP_SUCCEEDED;

    while (status < STEP_STATUSES && !str_is(event->as, step_status_name(status)))
        status++;
    if (status == STEP_SUCCEEDED) {
        succeed(view, arena, event);
    } else if (status < STEP_STATUSES) {
        end_step(view, arena, event, status);
        view->skipped = status == STEP_SKIPPED ? event : NULL;
        view->failure = status == STEP_SKIPPED ? NULL : event;
    }
}

static void begin_wait(struct step_view *view, struct arena *arena, const struct event *event)
{
    if (event->code.ptr != NULL)
        end_attempt(view, arena, event, "outcome_unknown");
    view->status = STEP_WAITING;
    view->waiting = event;
    if (event->child.ptr != NULL)
        view->child = event->child;
    if (event->output_bytes > 0)
        view->input = (struct body_view){event->output, event->output_bytes, (int)event->type, event->attempt};
    if (view->queued_at.us == 0)
        view->queued_at = event->at;
}

static void begin_attempt(struct step_view *view, struct arena *arena, const struct event *event)
{
    view->status = STEP_QUEUED;
    view->waiting = NULL;
    view->ended_at.us = 0;
    view->failure = NULL;
    if (view->queued_at.us == 0)
        view->queued_at = event->at;
    attempt_of(view, arena, event->attempt)->status = "queued";
    if (event->output_bytes > 0)
        view->input = (struct body_view){event->output, event->output_bytes, (int)event->type, event->attempt};
}

static void worker_began(struct step_view *view, struct arena *arena, const struct event *event)
{
    struct attempt_view *a = attempt_of(view, arena, event->attempt);

    view->status = STEP_RUNNING;
    a->status = "running";
    a->started_at = event->started_at.us != 0 ? event->started_at : event->at;
    a->worker = event->worker;
    if (view->started_at.us == 0)
        view->started_at = a->started_at;
}

void step_view_event(struct step_view *view, struct arena *arena, const struct event *event)
{
    switch (event->type) {
    case EVENT_STEP_DISPATCHED:
        begin_attempt(view, arena, event);
        break;
    case EVENT_STEP_STARTED:
        worker_began(view, arena, event);
        break;
    case EVENT_STEP_WAITING:
    case EVENT_STEP_LISTENING:
        begin_wait(view, arena, event);
        break;
    case EVENT_ATTEMPT_FAILED:
        view->status = STEP_WAITING;
        view->waiting = event;
        end_attempt(view, arena, event, "failed");
        break;
    case EVENT_STEP_SUCCEEDED:
        succeed(view, arena, event);
        break;
    case EVENT_STEP_FAILED:
        end_step(view, arena, event, STEP_FAILED);
        break;
    case EVENT_STEP_TIMED_OUT:
        end_step(view, arena, event, STEP_TIMED_OUT);
        break;
    case EVENT_STEP_SKIPPED:
        view->status = STEP_SKIPPED;
        view->skipped = event;
        view->ended_at = event->at;
        break;
    case EVENT_STEP_CANCELLED:
        end_step(view, arena, event, STEP_CANCELLED);
        break;
    case EVENT_STEP_OUTCOME_UNKNOWN:
        end_step(view, arena, event, STEP_OUTCOME_UNKNOWN);
        break;
    case EVENT_STEP_SETTLED:
        settle(view, event);
        break;
    case EVENT_STEP_GIVEN:
        given(view, arena, event);
        break;
    case EVENT_STEP_CONTINUED: /* of an iteration: it runs again; else the step waits for what it had begun */
        view->status = event->waits.ptr == NULL ? STEP_RUNNING : STEP_WAITING;
        view->ended_at.us = 0;
        view->failure = NULL;
        break;
    case EVENT_STEP_REOPENED:
        view->status = STEP_PENDING;
        view->ended_at.us = 0;
        view->skipped = NULL;
        view->failure = NULL;
        view->output = (struct body_view){0};
        break;
    default: /* of the run, of commands, late results: nothing about the step's state */
        break;
    }
}
