/* Lists of steps: the workflow's own, a loop's iterations, and the steps of one iteration. What the fold has forgotten
 * of iterations that are over is read from their events. */
#include "gateway/history.h"
#include "gateway/json_more.h"
#include "gateway/page.h"
#include "gateway/route.h"
#include "gateway/step_place.h"
#include "rw_gateway_sql.h"

#include "common/base/banned.h"

#define FAILED_SHOWN 100

struct listing {
    struct call *call;
    struct run_id run;
    struct page *page;
    struct str parent, status; /* STR_NONE: any */
    uint32_t from;             /* number of the first that may be on this page */
    const struct plan *plan;
    uint32_t scope; /* of an iteration's steps */
};

static void put_view(struct listing *l, const struct step_view *view, uint32_t number, size_t *rows)
{
    struct jw *w = &l->page->w;

    if (number < l->from || (l->status.ptr != NULL && !str_is(l->status, step_status_name(view->status))))
        return;
    ++*rows;
    if (!page_more(l->page))
        return;
    jw_obj(w);
    jw_kstr(w, "step", view->path);
    step_view_json(w, l->run, view);
    jw_end_obj(w);
    page_cursor(l->page, str_of(arena_printf(l->call->arena, "%u", number + 1)));
}

/* False: answered. */
static bool open_page(struct listing *l)
{
    l->page = page_open(l->call);
    if (l->page == NULL)
        return false;
    if (l->page->after.ptr == NULL || parse_u32(l->page->after, 0, INT32_MAX, &l->from))
        return true;
    call_problem(l->call, 400, "bad_page_token", "the page_token is not one that this list gave");
    return false;
}

/* ---- the workflow's own ---- */

static void on_history(struct call *call, const struct history *history)
{
    struct listing l = {.call = call, .run = history->id, .status = call_query(call, "status")};
    size_t rows = 0;

    if (!open_page(&l))
        return;
    page_begin(l.page);
    for (uint32_t i = 0; i < history->plan->root_count && rows <= l.page->size; i++)
        put_view(&l, &history->views[i], i, &rows);
    page_end(l.page, rows);
}

/* ---- a loop's iterations ---- */

static void put_item_error(struct jw *w, struct str data)
{
    static const char *const fields[] = {"class", "code", "message"};

    jw_key(w, "error");
    if (jt_get(data, "code").ptr == NULL) {
        jw_null(w);
        return;
    }
    jw_obj(w);
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        jw_kraw(w, fields[i], jt_get(data, fields[i]));
    jw_end_obj(w);
}

static void put_item(struct listing *l, const struct pg_result *rows, size_t row)
{
    uint32_t index = (uint32_t)pg_get_int(rows, row, 0);
    char *path = arena_printf(l->call->arena, STR_FMT "[%u]", STR_ARG(l->parent), index);
    struct body_view body = {pg_get_str(rows, row, 6), (size_t)pg_get_int(rows, row, 5), EVENT_STEP_SUCCEEDED, 0};
    struct jw *w = &l->page->w;

    jw_obj(w);
    jw_kcstr(w, "step", path);
    jw_ki64(w, "index", index);
    jw_kstr(w, "status", pg_get_str(rows, row, 1));
    jw_ktime(w, "started_at", pg_get_time(rows, row, 2));
    jw_ktime(w, "ended_at", pg_get_time(rows, row, 3));
    body_json(w, "output", l->run, str_of(path), &body);
    put_item_error(w, pg_get_str(rows, row, 4));
    jw_end_obj(w);
    page_cursor(l->page, str_of(arena_printf(l->call->arena, "%u", index + 1)));
}

static void on_items(void *ctx, const struct pg_outcome *outcome)
{
    struct listing *l = ctx;
    const struct pg_result *rows;

    if (!call_committed(l->call, outcome))
        return;
    rows = outcome->results[0];
    page_begin(l->page);
    for (size_t i = 0; i < pg_rows(rows) && page_more(l->page); i++)
        put_item(l, rows, i);
    page_end(l->page, pg_rows(rows));
}

static void list_items(struct listing *l)
{
    struct pg_batch *batch = call_batch(l->call, false);

    pg_add(batch, SQL_LOOP_ITEMS, pg_uuid(l->run), pg_text(l->parent), pg_i32((int32_t)l->from),
           pg_i32((int32_t)l->page->size + 1), pg_text(l->status));
    pg_submit(gateway_read(l->call->gw), batch, on_items, l);
}

/* ---- the steps of one iteration ---- */

static struct step_view *view_of(const struct listing *l, struct step_view *views, struct str path)
{
    struct step_place place;

    if (!step_place_find(l->plan, path, &place) || place.is_item)
        return NULL;
    return &views[place.step];
}

static const struct loop_view *read_counts(struct arena *arena, const struct pg_result *rows, size_t row, bool over)
{
    struct loop_view *loop = arena_alloc(arena, sizeof(*loop));
    uint32_t begun = (uint32_t)pg_get_int(rows, row, 2);
    uint32_t *by_status = loop->by_status;
    struct jt_iter it;
    int64_t index;

    loop->total = (uint32_t)pg_get_int(rows, row, 1);
    by_status[STEP_SUCCEEDED] = (uint32_t)pg_get_int(rows, row, 3);
    by_status[STEP_FAILED] = (uint32_t)pg_get_int(rows, row, 4);
    by_status[STEP_CANCELLED] = (uint32_t)pg_get_int(rows, row, 5);
    by_status[STEP_RUNNING] = begun - by_status[STEP_SUCCEEDED] - by_status[STEP_FAILED] - by_status[STEP_CANCELLED];
    by_status[over ? STEP_CANCELLED : STEP_PENDING] += loop->total - begun;
    loop->output_bytes = (size_t)pg_get_int(rows, row, 6);
    loop->failed = arena_array(arena, FAILED_SHOWN, sizeof(*loop->failed));
    jt_iter_init(&it, pg_get_str(rows, row, 7));
    while (jt_next(&it) && loop->failed_count < FAILED_SHOWN)
        if (jt_i64(it.value, &index))
            loop->failed[loop->failed_count++] = (uint32_t)index;
    return loop;
}

static void read_loops(const struct listing *l, struct step_view *views, const struct pg_result *rows)
{
    for (size_t i = 0; i < pg_rows(rows); i++) {
        struct step_view *view = view_of(l, views, pg_get_str(rows, i, 0));

        if (view == NULL)
            continue;
        view->loop = read_counts(l->call->arena, rows, i, step_ended(view->status));
        if (view->status == STEP_SUCCEEDED)
            view->output = (struct body_view){STR_NONE, view->loop->output_bytes, EVENT_STEP_SUCCEEDED, 0};
    }
}

static enum err_code read_events(const struct listing *l, struct step_view *views, const struct pg_result *rows,
                                 struct err *err)
{
    struct arena *arena = l->call->arena;

    for (size_t i = 0; i < pg_rows(rows); i++) {
        struct event *event = arena_alloc(arena, sizeof(*event));
        struct step_view *view;

        if (event_of_row(rows, i, arena, event, err) != ERR_OK)
            return err->code;
        view = view_of(l, views, event->step);
        if (view == NULL)
            continue;
        if (view->plan->role == ROLE_COMPENSATE)
            views[view->plan->of].compensation = view;
        step_view_event(view, arena, event);
    }
    return ERR_OK;
}

static struct str path_below(const struct listing *l, const struct plan_step *step, const char *suffix)
{
    return str_of(
        arena_printf(l->call->arena, STR_FMT "." STR_FMT "%s", STR_ARG(l->parent), STR_ARG(step->name), suffix));
}

static struct step_view *views_inside(const struct listing *l)
{
    struct step_view *views = arena_array(l->call->arena, l->plan->step_count, sizeof(*views));

    for (uint32_t i = 0; i < l->plan->step_count; i++) {
        const struct plan_step *step = &l->plan->steps[i];
        bool action = step->role == ROLE_COMPENSATE && l->plan->steps[step->of].scope == l->scope;
        struct str path = STR_NONE;

        if (action || step->scope == l->scope)
            path = path_below(l, step, action ? ":compensate" : "");
        step_view_init(&views[i], step, path);
    }
    return views;
}

static void on_events(void *ctx, const struct pg_outcome *outcome)
{
    struct listing *l = ctx;
    const struct plan_scope *scope = &l->plan->scopes[l->scope];
    struct step_view *views;
    struct err err = {0};
    size_t rows = 0;

    if (!call_committed(l->call, outcome))
        return;
    if (pg_rows(outcome->results[0]) == 0) {
        call_problem(l->call, 404, "not_found", "the loop has no such item");
        return;
    }
    views = views_inside(l);
    if (read_events(l, views, outcome->results[1], &err) != ERR_OK) {
        call_error(l->call, &err);
        return;
    }
    read_loops(l, views, outcome->results[2]);
    page_begin(l->page);
    for (uint32_t i = 0; i < scope->count && rows <= l->page->size; i++)
        put_view(l, &views[scope->first + i], i, &rows);
    page_end(l->page, rows);
}

static void list_inside(struct listing *l, const struct step_place *item)
{
    const struct plan_scope *scope = &l->plan->scopes[l->scope];
    struct pg_batch *batch = call_batch(l->call, false);
    struct pg_array *paths = pg_array_new(batch, PG_E_TEXT), *loops = pg_array_new(batch, PG_E_TEXT);
    struct str loop = {l->parent.ptr, l->parent.len - 1};

    while (loop.ptr[loop.len] != '[')
        loop.len--;
    for (uint32_t i = scope->first; i < scope->first + scope->count; i++) {
        const struct plan_step *step = &l->plan->steps[i];

        pg_array_add(paths, pg_text(path_below(l, step, "")));
        if (step->compensate != NO_NODE)
            pg_array_add(paths, pg_text(path_below(l, step, ":compensate")));
        if (step->kind == CALL_FOREACH)
            pg_array_add(loops, pg_text(path_below(l, step, "")));
    }
    pg_add(batch, SQL_LOOP_ITEMS, pg_uuid(l->run), pg_text(loop), pg_i32((int32_t)item->index), pg_i32(1), pg_null());
    pg_add(batch, SQL_STEP_EVENTS, pg_uuid(l->run), pg_array_param(paths));
    pg_add(batch, SQL_LOOP_COUNTS, pg_uuid(l->run), pg_array_param(loops));
    pg_submit(gateway_read(l->call->gw), batch, on_events, l);
}

static void on_plan(void *ctx, struct call *call, const struct plan *plan)
{
    struct listing *l = ctx;
    struct step_place place;

    if (!step_place_find(plan, l->parent, &place) || plan->steps[place.step].kind != CALL_FOREACH) {
        call_problem(call, 404, "not_found", "the run has no loop or iteration of this name");
        return;
    }
    l->plan = plan;
    l->scope = plan->steps[place.step].body;
    if (!open_page(l))
        return;
    if (place.is_item)
        list_inside(l, &place);
    else
        list_items(l);
}

static bool is_step_status(struct str status)
{
    for (int i = STEP_PENDING; i < STEP_STATUSES; i++)
        if (str_is(status, step_status_name((enum step_status)i)))
            return true;
    return false;
}

void route_run_steps(struct call *call)
{
    struct listing *l = arena_alloc(call->arena, sizeof(*l));

    l->call = call;
    l->status = call_query(call, "status");
    l->parent = call_query(call, "parent");
    if (!call_run_id(call, 0, &l->run))
        return;
    if (l->status.ptr != NULL && !is_step_status(l->status))
        call_problem(call, 400, "bad_query", "status is none of a step's states");
    else if (l->parent.ptr == NULL)
        history_load(call, l->run, on_history);
    else
        history_plan(call, l->run, on_plan, l);
}
