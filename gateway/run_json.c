/* A run and its steps as JSON. */
#include "gateway/event_json.h"
#include "gateway/history.h"
#include "gateway/json_more.h"

#include "common/base/banned.h"

#define JSON_MAX ((size_t)64 << 20)

static const char *const priority_names[] = {"critical", "high", "normal", "low"};

static void put_body(struct jw *w, const char *key, struct run_id run, struct str step, const struct body_view *body)
{
    jw_key(w, key);
    if (body->bytes > 0 && body->json.ptr == NULL) {
        CLEANUP(buf_deinit) struct buf reference = {0};

        buf_init(&reference, 8192);
        body_reference(run, body->type, step, body->attempt, body->bytes, &reference);
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

static void put_attempts(struct jw *w, const struct step_view *step)
{
    jw_key(w, "attempts");
    jw_arr(w);
    for (const struct attempt_view *a = step->attempts; a != NULL; a = a->next) {
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

/* What the step was given: what was rendered for it, or its constant `with`. */
static void put_step_input(struct jw *w, const struct history *h, uint32_t node)
{
    const struct plan_step *plan = &h->plan->steps[node];
    const struct step_view *step = &h->steps[node];

    if (step->input.bytes == 0 && step->attempts != NULL && plan->with.constant)
        jw_kraw(w, "input", plan->with.literal);
    else
        put_body(w, "input", h->id, plan->name, &step->input);
}

void step_json(struct jw *w, const struct history *h, uint32_t node)
{
    const struct plan_step *plan = &h->plan->steps[node];
    const struct step_state *state = run_step(h->state, node);
    const struct step_view *step = &h->steps[node];

    jw_kcstr(w, "status", history_step_status(h, node));
    jw_kstr(w, "call", plan->call);
    jw_kstr(w, "branch", state->branch == NO_BRANCH ? STR_NONE : plan->branches[state->branch]);
    jw_ktime(w, "queued_at", step->queued_at);
    jw_ktime(w, "started_at", step->started_at);
    jw_ktime(w, "ended_at", step->ended_at);
    struct wall_us due_at = {0};

    if (step->waiting != NULL)
        due_at = step->waiting->due_at;
    jw_ktime(w, "due_at", due_at);
    put_step_input(w, h, node);
    put_body(w, "output", h->id, plan->name, &step->output);
    put_error(w, step->failure);
    put_skip(w, step->skipped);
    put_attempts(w, step);
}

static void put_run_error(struct jw *w, const struct history *h)
{
    jw_key(w, "error");
    if (h->error_code.ptr == NULL) {
        jw_null(w);
        return;
    }
    jw_obj(w);
    jw_kstr(w, "code", h->error_code);
    jw_kstr(w, "step", h->error_step);
    jw_kstr(w, "message", h->error_text);
    jw_end_obj(w);
}

static void put_related(struct jw *w, const char *key, bool has, struct run_id id)
{
    if (has) {
        jw_krun(w, key, id);
    } else {
        jw_key(w, key);
        jw_null(w);
    }
}

void run_json(const struct history *h, struct buf *out)
{
    struct jw w;

    buf_init(out, JSON_MAX);
    w = jw_to(out);
    jw_obj(&w);
    jw_krun(&w, "id", h->id);
    jw_krun(&w, "run_id", h->id);
    jw_kstr(&w, "workflow", h->workflow);
    jw_ki64(&w, "version", h->version);
    jw_kcstr(&w, "organisation", h->call->caller.organisation_name);
    jw_kcstr(&w, "status", history_status(h));
    jw_kcstr(&w, "priority", priority_names[h->priority & 3]);
    put_body(&w, "input", h->id, STR_NONE, &h->input);
    put_body(&w, "output", h->id, STR_NONE, &h->output);
    put_run_error(&w, h);
    jw_kraw(&w, "labels", h->labels);
    jw_ktime(&w, "created_at", h->created_at);
    jw_ktime(&w, "started_at", h->started_at);
    jw_ktime(&w, "ended_at", h->ended_at);
    put_related(&w, "parent", h->has_parent, h->parent);
    put_related(&w, "rerun_of", h->has_rerun_of, h->rerun_of);
    jw_kraw(&w, "trigger", h->trigger);
    jw_kbool(&w, "quarantined", h->quarantined);
    jw_key(&w, "steps");
    jw_obj(&w);
    for (uint32_t i = 0; i < h->plan->root_count; i++) {
        jw_key_str(&w, h->plan->steps[i].name);
        jw_obj(&w);
        step_json(&w, h, i);
        jw_end_obj(&w);
    }
    jw_end_obj(&w);
    jw_end_obj(&w);
}
