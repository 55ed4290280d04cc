/* Steps as JSON. */
#include "gateway/event_json.h"
#include "gateway/json_more.h"
#include "gateway/step_view.h"

#include "common/base/banned.h"

#define REFERENCE_MAX 8192

void body_json(struct jw *w, const char *key, struct run_id run, struct str step, const struct body_view *body)
{
    jw_key(w, key);
    if (body->bytes > 0 && body->json.ptr == NULL) {
        CLEANUP(buf_deinit) struct buf reference = {0};

        buf_init(&reference, REFERENCE_MAX);
        body_reference(run, body->type, step, body->attempt, 0, body->bytes, &reference);
        jw_raw(w, buf_str(&reference));
    } else {
        jw_raw(w, body->json);
    }
}

/* {"class", "code", "message", "status", "detail"} of an event that tells of a failure; null without one. */
static void put_error(struct jw *w, const struct event *failure)
{
    jw_key(w, "error");
    if (failure == NULL) {
        jw_null(w);
        return;
    }
    jw_obj(w);
    jw_kstr(w, "class", failure->error_class);
    jw_kstr(w, "code", failure->code);
    jw_kstr(w, "message", failure->message);
    if (failure->http_status != 0)
        jw_ki64(w, "status", failure->http_status);
    if (failure->detail.ptr != NULL)
        jw_kraw(w, "detail", failure->detail);
    jw_end_obj(w);
}

static void put_skip(struct jw *w, const struct event *skipped)
{
    jw_key(w, "skipped_because");
    if (skipped == NULL) {
        jw_null(w);
        return;
    }
    jw_obj(w);
    jw_kstr(w, "kind", skipped->code);
    jw_kstr(w, "message", skipped->message);
    jw_kraw(w, "detail", skipped->detail);
    jw_end_obj(w);
}

static void put_attempts(struct jw *w, const struct step_view *view)
{
    jw_key(w, "attempts");
    jw_arr(w);
    for (const struct attempt_view *a = view->attempts; a != NULL; a = a->next) {
        jw_obj(w);
        jw_ki64(w, "attempt", a->number);
        jw_kcstr(w, "status", a->status);
        jw_ktime(w, "started_at", a->started_at);
        jw_ktime(w, "ended_at", a->ended_at);
        jw_kstr(w, "worker", a->worker);
        put_error(w, a->failure);
        jw_end_obj(w);
    }
    jw_end_arr(w);
}

struct str step_constant_input(const struct plan_step *plan)
{
    if (!plan->with.constant)
        return STR_NONE;
    return plan->kind == CALL_POLL ? jt_get(plan->with.literal, "with") : plan->with.literal;
}

/* What the step was given: what was rendered for it, or its constant `with`. */
static void put_input(struct jw *w, struct run_id run, const struct step_view *view)
{
    bool begun = view->attempts != NULL || (view->plan->kind == CALL_SIGNAL && view->queued_at.us != 0);
    struct str constant = step_constant_input(view->plan);

    if (view->input.bytes == 0 && begun && constant.ptr != NULL)
        jw_kraw(w, "input", constant);
    else
        body_json(w, "input", run, view->path, &view->input);
}

static const char *kind_of_wait(const struct event *waiting)
{
    if (waiting->type == EVENT_ATTEMPT_FAILED)
        return "retry";
    if (waiting->code.ptr != NULL)
        return "settlement";
    if (str_is(waiting->waits, "items"))
        return "items";
    if (str_is(waiting->waits, "signal"))
        return "signal";
    if (str_is(waiting->waits, "event"))
        return "event";
    return str_is(waiting->waits, "child") ? "child" : "delay";
}

static void put_wait(struct jw *w, const struct step_view *view)
{
    const struct event *waiting = view->waiting;

    jw_key(w, "waiting_for");
    if (view->status != STEP_WAITING || waiting == NULL) {
        jw_null(w);
        return;
    }
    jw_obj(w);
    jw_kcstr(w, "kind", kind_of_wait(waiting));
    if (waiting->type == EVENT_STEP_LISTENING)
        jw_kstr(w, "type", waiting->name);
    else if (waiting->name.ptr != NULL)
        jw_kstr(w, "signal", waiting->name);
    if (waiting->source.ptr != NULL)
        jw_kstr(w, "source", waiting->source);
    if (waiting->child.ptr != NULL)
        jw_kstr(w, "run_id", waiting->child);
    jw_ktime(w, "until", waiting->due_at);
    jw_end_obj(w);
}

static void put_loop(struct jw *w, const struct loop_view *loop)
{
    static const enum step_status shown[] = {STEP_PENDING, STEP_RUNNING, STEP_SUCCEEDED, STEP_FAILED, STEP_CANCELLED};

    jw_key(w, "iterations");
    if (loop == NULL) {
        jw_null(w);
    } else {
        jw_obj(w);
        jw_ki64(w, "total", loop->total);
        for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++)
            jw_ki64(w, step_status_name(shown[i]), loop->by_status[shown[i]]);
        jw_end_obj(w);
    }
    jw_key(w, "failed");
    jw_arr(w);
    for (uint32_t i = 0; loop != NULL && i < loop->failed_count; i++)
        jw_i64(w, loop->failed[i]);
    jw_end_arr(w);
}

/* What only some calls have. */
static void put_special(struct jw *w, struct run_id run, const struct step_view *view)
{
    if (view->plan->kind == CALL_FOREACH)
        put_loop(w, view->loop);
    if (view->plan->kind == CALL_WORKFLOW) {
        jw_key(w, "child");
        if (view->child.ptr == NULL) {
            jw_null(w);
        } else {
            jw_obj(w);
            jw_kstr(w, "run_id", view->child);
            jw_end_obj(w);
        }
    }
    if (view->plan->compensate == NO_NODE)
        return;
    jw_key(w, "compensation");
    if (view->compensation == NULL) {
        jw_null(w);
        return;
    }
    jw_obj(w);
    step_view_json(w, run, view->compensation);
    jw_end_obj(w);
}

void step_view_json(struct jw *w, struct run_id run, const struct step_view *view)
{
    struct wall_us due_at = {0};

    if (view->waiting != NULL)
        due_at = view->waiting->due_at;
    jw_kcstr(w, "status", step_status_name(view->status));
    jw_kstr(w, "call", view->plan->call);
    jw_kstr(w, "branch", view->branch);
    jw_ktime(w, "queued_at", view->queued_at);
    jw_ktime(w, "started_at", view->started_at);
    jw_ktime(w, "ended_at", view->ended_at);
    jw_ktime(w, "due_at", due_at);
    put_wait(w, view);
    put_input(w, run, view);
    body_json(w, "output", run, view->path, &view->output);
    put_error(w, view->failure);
    put_skip(w, view->skipped);
    put_attempts(w, view);
    put_special(w, run, view);
}
