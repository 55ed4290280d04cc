/* A run and its steps as JSON. */
#include "gateway/history.h"
#include "gateway/json_more.h"

#include "common/base/banned.h"

#define JSON_MAX ((size_t)64 << 20)

static const char *const priority_names[] = {"critical", "high", "normal", "low"};

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

static void put_lineage(struct jw *w, const struct history *h)
{
    jw_key(w, "parent");
    if (h->has_parent) {
        jw_obj(w);
        jw_krun(w, "run_id", h->parent);
        jw_kstr(w, "step", h->parent_step);
        jw_end_obj(w);
    } else {
        jw_null(w);
    }
    jw_ki64(w, "depth", h->depth);
    if (h->has_rerun_of) {
        jw_krun(w, "rerun_of", h->rerun_of);
    } else {
        jw_key(w, "rerun_of");
        jw_null(w);
    }
    jw_kraw(w, "reruns", h->reruns.ptr == NULL ? STR("[]") : h->reruns);
    jw_kraw(w, "begins", h->begins);
}

/* What a compensation has left, and who was told. */
static void put_aftermath(struct jw *w, const struct history *h)
{
    const struct step_view *notify = h->plan->notify == NO_NODE ? NULL : &h->views[h->plan->notify];
    bool left = h->end != NULL && h->end->type == EVENT_RUN_COMPENSATION_FAILED;

    jw_kraw(w, "compensation", left ? h->end->detail : STR_NONE);
    jw_key(w, "notify");
    if (notify == NULL || notify->path.ptr == NULL) {
        jw_null(w);
        return;
    }
    jw_obj(w);
    step_view_json(w, h->id, notify);
    jw_end_obj(w);
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
    body_json(&w, "input", h->id, STR_NONE, &h->input);
    body_json(&w, "output", h->id, STR_NONE, &h->output);
    put_run_error(&w, h);
    jw_kraw(&w, "labels", h->labels);
    jw_ktime(&w, "created_at", h->created_at);
    jw_ktime(&w, "started_at", h->started_at);
    jw_ktime(&w, "ended_at", h->ended_at);
    put_lineage(&w, h);
    jw_kraw(&w, "trigger", h->trigger);
    jw_kbool(&w, "quarantined", h->quarantined);
    jw_key(&w, "steps");
    jw_obj(&w);
    for (uint32_t i = 0; i < h->plan->root_count; i++) {
        jw_key_str(&w, h->plan->steps[i].name);
        jw_obj(&w);
        step_view_json(&w, h->id, &h->views[i]);
        jw_end_obj(&w);
    }
    jw_end_obj(&w);
    put_aftermath(&w, h);
    jw_end_obj(&w);
}
