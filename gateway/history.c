/* Reading a run and folding its history, in pages: of what the fold has seen only what is shown is kept. */
#include "gateway/history.h"
#include "common/base/ensure.h"
#include "gateway/event_json.h"
#include "gateway/flows.h"
#include "gateway/start.h"
#include "gateway/step_place.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define PAGE_EVENTS 5000
#define LOOKS_MAX 5      /* while a run's row and its events were of different moments */
#define FAILED_SHOWN 100 /* indexes of a loop's failed items */
#define LISTS_SHOWN 20   /* loops whose outputs are shown where they are short */

struct loading {
    struct history history;
    void (*done)(void *ctx, const struct history *history);
    void *ctx;
    bool may_miss;
    bool ended; /* its row is not read: it has ended, and what was started is known */
    struct plan *plan;
    int looks;
};

static void read_page(struct loading *l);
static void look(struct loading *l);

const char *history_status(const struct history *history)
{
    if (!str_is(history->status, "active"))
        return arena_printf(history->call->arena, STR_FMT, STR_ARG(history->status));
    return history->running ? "running" : "waiting";
}

static bool is_of_iteration(struct str path)
{
    return path.len > 0 && memchr(path.ptr, '[', path.len) != NULL;
}

struct step_view *history_view(const struct history *history, struct str path)
{
    struct step_place place;

    if (path.ptr == NULL || is_of_iteration(path) || !step_place_find(history->plan, path, &place))
        return NULL;
    return &history->views[place.step];
}

/* ---- views ---- */

static void view_run(struct history *h, const struct event *event)
{
    if (event_ends_run(event->type)) {
        h->end = event;
        h->output = (struct body_view){event->output, event->output_bytes, (int)event->type, 0};
    } else if (event->type == EVENT_RUN_PAUSED) {
        h->paused = event;
    } else if (event->type == EVENT_RUN_REOPENED) {
        h->end = NULL;
        h->output = (struct body_view){0};
    }
}

static void view_event(struct history *h, const struct event *event)
{
    struct step_view *view;

    if (event->step.ptr == NULL || event_ends_run(event->type)) {
        view_run(h, event);
        return;
    }
    view = history_view(h, event->step);
    if (view == NULL)
        return;
    if (view->path.ptr == NULL)
        view->path = event->step; /* an action: it has begun */
    if (view->plan->role == ROLE_COMPENSATE)
        h->views[view->plan->of].compensation = view;
    step_view_event(view, h->call->arena, event);
}

/* Counts, which items failed, and how long the list of their outputs is where they are put together. */
static const struct loop_view *loop_of(struct arena *arena, const struct step_state *s)
{
    const struct step_extra *extra = s->extra;
    struct loop_view *loop = arena_alloc(arena, sizeof(*loop));

    loop->total = extra->count;
    loop->failed = arena_array(arena, FAILED_SHOWN, sizeof(*loop->failed));
    loop->output_bytes = 1 + extra->count;
    for (uint32_t i = 0; i < extra->count; i++) {
        const struct loop_item *item = &extra->items[i];
        enum step_status status = (enum step_status)item->status;

        if (status == STEP_PENDING && step_ended((enum step_status)s->status))
            status = STEP_CANCELLED; /* the loop has ended before it could begin */
        loop->by_status[status]++;
        loop->output_bytes += item->output_seq == 0 ? 4 : item->output_bytes;
        if (status == STEP_FAILED && loop->failed_count < FAILED_SHOWN)
            loop->failed[loop->failed_count++] = i;
    }
    return loop;
}

/* What the fold knows better: steps that were given another chance, deferrals, loops. */
static void views_finish(struct history *h)
{
    ENSURE(h->views != NULL);
    for (size_t i = 0; i < h->work_count; i++) {
        struct step_view *view = history_view(h, h->work[i].step);

        if (view != NULL && h->work[i].kind == WORK_TASK)
            view->waiting = NULL;
    }
    for (uint32_t i = 0; i < h->plan->root_count; i++) {
        const struct step_state *s = run_step(h->state, i);
        struct step_view *view = &h->views[i];

        view->status = (enum step_status)s->status;
        if (view->status == STEP_PENDING) {
            view->ended_at.us = 0;
            view->skipped = NULL;
            view->failure = NULL;
        }
        if (h->plan->steps[i].kind != CALL_FOREACH || s->extra == NULL || s->extra->items == NULL)
            continue;
        view->loop = loop_of(h->call->arena, s);
        if (view->status == STEP_SUCCEEDED)
            view->output = (struct body_view){STR_NONE, view->loop->output_bytes, EVENT_STEP_SUCCEEDED, 0};
    }
}

/* ---- folding ---- */

static void free_state(void *state)
{
    run_state_free(state);
}

static void begin_fold(struct loading *l)
{
    struct history *h = &l->history;
    struct arena *arena = h->call->arena;

    h->plan = l->plan;
    h->state = run_state_new(h->id, h->call->caller.organisation, l->plan, h->created_at);
    arena_defer(arena, free_state, h->state);
    h->views = arena_array(arena, l->plan->step_count, sizeof(*h->views));
    for (uint32_t i = 0; i < l->plan->step_count; i++)
        step_view_init(&h->views[i], &l->plan->steps[i], i < l->plan->root_count ? l->plan->steps[i].name : STR_NONE);
}

/* Is the event shown, so that it has to stay? */
static bool is_kept(const struct pg_result *rows, size_t row)
{
    struct str step = pg_get_str(rows, row, 3);
    enum event_type type = (enum event_type)pg_get_int(rows, row, 2);

    return event_ends_run(type) || type == EVENT_RUN_PAUSED || (step.ptr != NULL && !is_of_iteration(step));
}

static enum err_code fold_page(struct loading *l, const struct pg_result *rows, struct err *err)
{
    CLEANUP(arena_cleanup) struct arena *passing = arena_new(4096);
    struct history *h = &l->history;

    for (size_t i = 0; i < pg_rows(rows); i++) {
        struct arena *arena = is_kept(rows, i) ? h->call->arena : passing;
        struct event *event = arena_alloc(arena, sizeof(*event));
        enum err_code rc = event_of_row(rows, i, arena, event, err);

        if (rc == ERR_OK)
            rc = engine_fold(h->state, event, err);
        if (rc != ERR_OK)
            return rc;
        if (event->type == EVENT_RUN_STARTED)
            h->started_at = event->at;
        if (arena != passing || event->type == EVENT_RUN_REOPENED)
            view_event(h, event);
        if (arena == passing && i % 64 == 63)
            arena_reset(passing);
    }
    return ERR_OK;
}

/* ---- bodies that others point to ---- */

/* Is the list of a loop's outputs short enough to be shown? */
static bool is_short_list(const struct step_view *view)
{
    return view->loop != NULL && view->status == STEP_SUCCEEDED && view->loop->output_bytes <= BODY_SHOWN_BYTES;
}

static void take_body(struct history *h, const struct pg_result *rows, size_t row)
{
    for (uint32_t i = 0; i < h->plan->root_count; i++) {
        struct step_view *view = &h->views[i];

        if (view->output_ref != (uint32_t)pg_get_int(rows, row, 0))
            continue;
        view->output.bytes = (size_t)pg_get_int(rows, row, 1);
        view->output.json = str_arena(h->call->arena, pg_get_str(rows, row, 2));
    }
}

static void on_bodies(void *ctx, const struct pg_outcome *outcome)
{
    struct loading *l = ctx;
    struct history *h = &l->history;
    size_t lists = 0;

    if (!call_committed(h->call, outcome))
        return;
    for (size_t i = 0; i < pg_rows(outcome->results[0]); i++)
        take_body(h, outcome->results[0], i);
    for (uint32_t i = 0; i < h->plan->root_count && lists < LISTS_SHOWN; i++)
        if (is_short_list(&h->views[i]))
            h->views[i].output.json = str_arena(h->call->arena, pg_get_str(outcome->results[++lists], 0, 0));
    l->done(l->ctx, h);
}

/* What the events of the steps only point to: outputs of other events, and lists of loops. */
static void read_bodies(struct loading *l)
{
    struct history *h = &l->history;
    struct pg_batch *batch = call_batch_by_index(h->call);
    struct pg_array *seqs = pg_array_new(batch, PG_E_I32);
    size_t lists = 0;

    for (uint32_t i = 0; i < h->plan->root_count; i++)
        if (h->views[i].output_ref != 0)
            pg_array_add(seqs, pg_i32((int32_t)h->views[i].output_ref));
    pg_add(batch, SQL_EVENT_BODIES, pg_uuid(h->id), pg_array_param(seqs));
    for (uint32_t i = 0; i < h->plan->root_count && lists < LISTS_SHOWN; i++) {
        const struct step_view *view = &h->views[i];

        if (!is_short_list(view))
            continue;
        pg_add(batch, SQL_LOOP_OUTPUT, pg_uuid(h->id), pg_text(view->path), pg_i32((int32_t)view->loop->total));
        lists++;
    }
    if (pg_array_count(seqs) == 0 && lists == 0) {
        pg_batch_free(batch);
        l->done(l->ctx, h);
        return;
    }
    pg_submit(gateway_read(h->call->gw), batch, on_bodies, l);
}

/* ---- reading ---- */

static void read_work(struct history *h, const struct pg_result *rows)
{
    struct arena *arena = h->call->arena;

    h->work_count = pg_rows(rows);
    h->work = arena_array(arena, h->work_count + 1, sizeof(*h->work));
    for (size_t i = 0; i < h->work_count; i++) {
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
        engine_restore_work(h->state, (uint32_t)pg_get_int(rows, i, 0), (uint32_t)h->work[i].dispatch,
                            h->work[i].due_at);
    }
}

/* What the row of a run says of its end, by its history. */
static void end_of_history(struct history *h)
{
    ENSURE(h->end != NULL);
    h->status = str_of(run_status_name((enum run_status)h->state->status));
    h->ended_at = h->end->at;
    if (h->end->code.ptr == NULL)
        return;
    h->error_code = h->end->code;
    h->error_step = h->end->step;
    h->error_text = h->end->message;
}

static void on_page(void *ctx, const struct pg_outcome *outcome)
{
    struct loading *l = ctx;
    struct history *h = &l->history;
    struct err err = {0};

    if (!call_committed(h->call, outcome))
        return;
    if (fold_page(l, outcome->results[0], &err) != ERR_OK) {
        char id[UUID_TEXT_SIZE];

        run_id_format(h->id, id);
        err_prefix(&err, err.code, "folding the history of run %s", id);
        call_error(h->call, &err);
        return;
    }
    if (pg_rows(outcome->results[0]) == PAGE_EVENTS) {
        read_page(l);
        return;
    }
    if (l->ended && run_ended((enum run_status)h->state->status))
        end_of_history(h);
    if (run_ended((enum run_status)h->state->status) != (h->ended_at.us != 0) && ++l->looks < LOOKS_MAX) {
        look(l); /* it ended, or was opened again, between two of our statements */
        return;
    }
    if (!l->ended)
        read_work(h, outcome->results[1]);
    views_finish(h);
    read_bodies(l);
}

static void read_page(struct loading *l)
{
    struct history *h = &l->history;
    struct pg_batch *batch = call_batch_by_index(h->call);

    pg_add(batch, SQL_EVENT_FOLD, pg_uuid(h->id), pg_i32((int32_t)h->state->last_seq), pg_i32(PAGE_EVENTS));
    if (!l->ended)
        pg_add(batch, SQL_RUN_WORK, pg_uuid(h->id));
    pg_submit(gateway_read(h->call->gw), batch, on_page, l);
}

static void release_plan(void *plan)
{
    plan_unref(plan);
}

/* The plan for the time of the call: the flow may be forgotten meanwhile. NULL: answered. */
static struct plan *hold_plan(struct call *call, const struct flow *flow, enum err_code rc, const struct err *err)
{
    struct err fault = {0};
    struct plan *plan;

    if (rc == ERR_OK && (flow == NULL || flow->plan == NULL)) {
        (void)err_set(&fault, ERR_INTERNAL, "the version of a run cannot be read: %s",
                      flow == NULL ? "it is not there" : flow->fault);
        call_error(call, &fault);
        return NULL;
    }
    if (rc != ERR_OK) {
        call_error(call, err);
        return NULL;
    }
    plan = plan_ref(flow->plan);
    arena_defer(call->arena, release_plan, plan);
    return plan;
}

static void on_flow(void *ctx, struct flow *flow, enum err_code rc, const struct err *err)
{
    struct loading *l = ctx;

    l->plan = hold_plan(l->history.call, flow, rc, err);
    if (l->plan == NULL)
        return;
    begin_fold(l);
    read_page(l);
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
    h->parent_step = str_arena(arena, pg_get_str(rows, 0, 20));
    h->depth = (int)pg_get_int(rows, 0, 21);
    h->begins = str_arena(arena, pg_get_str(rows, 0, 22));
    h->reruns = str_arena(arena, pg_get_str(rows, 0, 23));
}

static void on_run(void *ctx, const struct pg_outcome *outcome)
{
    struct loading *l = ctx;
    struct call *call = l->history.call;

    if (!call_committed(call, outcome))
        return;
    if (pg_rows(outcome->results[0]) == 0) {
        if (l->may_miss)
            l->done(l->ctx, NULL);
        else
            call_problem(call, 404, "not_found", "there is no such run");
        return;
    }
    read_run(&l->history, outcome->results[0]);
    flows_version(call->gw->flows, call->caller.organisation, l->history.workflow, l->history.version, on_flow, l);
}

static void look(struct loading *l)
{
    struct call *call = l->history.call;
    struct pg_batch *batch = call_batch_by_index(call);

    l->ended = false;
    l->history = (struct history){.call = call, .id = l->history.id};
    pg_add(batch, SQL_RUN_GET, pg_uuid(l->history.id));
    pg_submit(gateway_read(call->gw), batch, on_run, l);
}

void history_read(struct call *call, struct run_id id, bool may_miss,
                  void (*done)(void *ctx, const struct history *history), void *ctx)
{
    struct loading *l = arena_alloc(call->arena, sizeof(*l));

    *l = (struct loading){.done = done, .ctx = ctx, .may_miss = may_miss};
    l->history.call = call;
    l->history.id = id;
    look(l);
}

struct handing {
    struct call *call;
    void (*done)(struct call *call, const struct history *history);
};

static void hand_over(void *ctx, const struct history *history)
{
    const struct handing *h = ctx;

    h->done(h->call, history);
}

void history_load(struct call *call, struct run_id id, void (*done)(struct call *call, const struct history *history))
{
    struct handing *h = arena_alloc(call->arena, sizeof(*h));

    *h = (struct handing){call, done};
    history_read(call, id, false, hand_over, h);
}

void history_load_ended(struct call *call, const struct start *start,
                        void (*done)(struct call *call, const struct history *history))
{
    struct handing *handing = arena_alloc(call->arena, sizeof(*handing));
    struct loading *l = arena_alloc(call->arena, sizeof(*l));
    struct str input = start->input.len <= BODY_SHOWN_BYTES ? start->input : STR_NONE;

    *handing = (struct handing){call, done};
    *l = (struct loading){.done = hand_over, .ctx = handing, .ended = true};
    l->history = (struct history){.call = call,
                                  .id = start->run_id,
                                  .workflow = start->workflow,
                                  .labels = start->labels,
                                  .version = start->version,
                                  .priority = start->priority,
                                  .created_at = start->created_at,
                                  .input = {input, start->input.len, EVENT_RUN_STARTED, 0}};
    flows_version(call->gw->flows, start->organisation, start->workflow, start->version, on_flow, l);
}

/* ---- only the plan ---- */

struct planning {
    struct call *call;
    void (*done)(void *ctx, struct call *call, const struct plan *plan);
    void *ctx;
};

static void on_version(void *ctx, struct flow *flow, enum err_code rc, const struct err *err)
{
    struct planning *p = ctx;
    const struct plan *plan = hold_plan(p->call, flow, rc, err);

    if (plan != NULL)
        p->done(p->ctx, p->call, plan);
}

static void on_which(void *ctx, const struct pg_outcome *outcome)
{
    struct planning *p = ctx;

    if (!call_committed(p->call, outcome))
        return;
    if (pg_rows(outcome->results[0]) == 0)
        call_problem(p->call, 404, "not_found", "there is no such run");
    else
        flows_version(p->call->gw->flows, p->call->caller.organisation, pg_get_str(outcome->results[0], 0, 0),
                      (int32_t)pg_get_int(outcome->results[0], 0, 1), on_version, p);
}

void history_plan(struct call *call, struct run_id id,
                  void (*done)(void *ctx, struct call *call, const struct plan *plan), void *ctx)
{
    struct planning *p = arena_alloc(call->arena, sizeof(*p));
    struct pg_batch *batch = call_batch_by_index(call);

    *p = (struct planning){call, done, ctx};
    pg_add(batch, SQL_RUN_VERSION, pg_uuid(id));
    pg_submit(gateway_read(call->gw), batch, on_which, p);
}
