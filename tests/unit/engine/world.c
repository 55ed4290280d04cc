/* See world.h. */
#include "tests/unit/engine/world.h"
#include "common/base/ensure.h"
#include <inttypes.h>
#include <stdio.h>

#define BASE_US (INT64_C(1790000000) * US_PER_S)

void world_init(struct world *w, const char *document)
{
    struct plan_faults faults = {.arena = arena_new(4096)};

    *w = (struct world){.arena = arena_new(1 << 13), .now = {BASE_US}, .input = STR("{}")};
    w->plan = plan_compile(str_of(document), &PLAN_LIMITS_DEFAULT, &faults);
    for (size_t i = 0; i < faults.count; i++)
        fprintf(stderr, "fault: %s " STR_FMT " " STR_FMT "\n", faults.items[i].code, STR_ARG(faults.items[i].pointer),
                STR_ARG(faults.items[i].message));
    ENSURE(w->plan != NULL);
    arena_free(faults.arena);
    w->state = run_state_new(run_id_make(w->now, 7), 1, w->plan, w->now);
}

void world_deinit(struct world *w)
{
    run_state_free(w->state);
    plan_unref(w->plan);
    mem_free(w->history);
    mem_free(w->rows);
    arena_free(w->arena);
}

static struct str copy(struct world *w, struct str s)
{
    return str_arena(w->arena, s);
}

static void store(struct world *w, const struct event *event)
{
    struct event *row;
    struct buf data;
    struct err err;

    if (w->history_count == w->history_cap) {
        w->history_cap = w->history_cap == 0 ? 32 : 2 * w->history_cap;
        w->history = mem_grow(w->history, w->history_cap, sizeof(*w->history));
    }
    row = &w->history[w->history_count++];
    buf_init(&data, 1 << 20);
    event_encode_data(event, &data);
    *row = (struct event){.seq = event->seq,
                          .type = event->type,
                          .at = event->at,
                          .step = copy(w, event->step),
                          .attempt = event->attempt,
                          .output = copy(w, event->output),
                          .output_bytes = event->output_bytes};
    ENSURE(event_decode_data(data.len == 0 ? STR_NONE : copy(w, buf_str(&data)), w->arena, row, &err) == ERR_OK);
    buf_deinit(&data);
}

static struct world_row *row_at(const struct world *w, uint32_t seq)
{
    for (size_t i = 0; i < w->row_count; i++)
        if (w->rows[i].seq == seq)
            return &w->rows[i];
    return NULL;
}

/* The statements of one transaction: insert, update, delete. */
static void store_rows(struct world *w)
{
    for (size_t i = 0; i < w->fx.open_count; i++) {
        const struct effect_work_open *open = &w->fx.opens[i];
        ENSURE(row_at(w, open->seq) == NULL);
        if (w->row_count == w->row_cap) {
            w->row_cap = w->row_cap == 0 ? 16 : 2 * w->row_cap;
            w->rows = mem_grow(w->rows, w->row_cap, sizeof(*w->rows));
        }
        w->rows[w->row_count++] = (struct world_row){open->seq, open->dispatch, open->kind, open->due_at};
    }
    for (size_t i = 0; i < w->fx.change_count; i++) {
        struct world_row *row = row_at(w, w->fx.changes[i].seq);
        ENSURE(row != NULL && row->kind == WORK_TASK);
        row->dispatch = w->fx.changes[i].dispatch;
        row->due_at = w->fx.changes[i].due_at;
        for (size_t k = 0; k < i; k++)
            ENSURE(w->fx.changes[k].seq != w->fx.changes[i].seq);
    }
    for (size_t i = 0; i < w->fx.close_count; i++) {
        struct world_row *row = row_at(w, w->fx.closes[i]);
        ENSURE(row != NULL);
        *row = w->rows[--w->row_count];
    }
}

static void compare_with_fold(struct world *w)
{
    struct run_state *fresh = run_state_new(w->state->id, 1, w->plan, w->state->created_at);
    size_t open = w->state->timeout_seq != 0;
    struct err err;

    for (size_t i = 0; i < w->history_count; i++)
        if (engine_fold(fresh, &w->history[i], &err) != ERR_OK) {
            fprintf(stderr, "fold: %s\n", err.message);
            ENSURE(false);
        }
    ENSURE(fresh->status == w->state->status);
    ENSURE(fresh->failing == w->state->failing && fresh->cancelling == w->state->cancelling);
    ENSURE(fresh->open_steps == w->state->open_steps && fresh->ended_steps == w->state->ended_steps);
    ENSURE(fresh->last_seq == w->state->last_seq && fresh->timeout_seq == w->state->timeout_seq);
    ENSURE(fresh->timing_out == w->state->timing_out && fresh->decisive == w->state->decisive);
    ENSURE(strcmp(fresh->run_error.code, w->state->run_error.code) == 0);
    for (size_t i = 0; i < w->row_count; i++)
        engine_restore_work(fresh, w->rows[i].seq, w->rows[i].dispatch, w->rows[i].due_at);
    for (size_t i = 0; i < w->plan->step_count; i++) {
        const struct step_state *a = &fresh->steps[i];
        const struct step_state *b = &w->state->steps[i];
        ENSURE(a->status == b->status && a->deferred == b->deferred && a->worker == b->worker);
        ENSURE(a->due_at.us == b->due_at.us && a->unheard == b->unheard && a->input_seq == b->input_seq);
        ENSURE(a->open_kind != WORK_TASK || a->dispatch == b->dispatch);
        ENSURE((a->error == NULL) == (b->error == NULL) && a->asked == 0);
        ENSURE(a->error == NULL || strcmp(a->error->code, b->error->code) == 0);
        open += b->open_seq != 0;
        ENSURE(b->open_seq == 0 || row_at(w, b->open_seq) != NULL);
        ENSURE(a->branch == b->branch && a->attempt == b->attempt && a->generation == b->generation);
        ENSURE(a->open_seq == b->open_seq && a->open_kind == b->open_kind && a->waiting_for == b->waiting_for);
        ENSURE(a->output_seq == b->output_seq && a->output_bytes == b->output_bytes && a->ended_seq == b->ended_seq);
        ENSURE(a->ready_at.us == b->ready_at.us && a->lost_in_row == b->lost_in_row && a->ran == b->ran);
    }
    /* a row for each thing the run waits for and no other, and while it is open at least one */
    ENSURE(open == w->row_count);
    ENSURE(w->state->status != RUN_ACTIVE || open > 0);
    run_state_free(fresh);
}

static bool read_step(void *ctx, struct str name, struct str *status, struct str *branch, struct str *output,
                      struct str *error)
{
    struct world *w = ctx;
    uint32_t node = plan_find(w->plan, name);
    const struct step_state *s;

    *status = *branch = *output = *error = STR_NONE;
    if (node == NO_NODE)
        return true;
    s = &w->state->steps[node];
    *status = str_of(arena_printf(w->arena, "\"%s\"", step_status_name((enum step_status)s->status)));
    for (size_t i = 0; i < w->fx.event_count; i++)
        if (s->output_seq != 0 && w->fx.events[i].seq == s->output_seq)
            *output = w->fx.events[i].output;
    for (size_t i = 0; i < w->history_count; i++)
        if (s->output_seq != 0 && w->history[i].seq == s->output_seq)
            *output = w->history[i].output;
    return true;
}

static void answer(struct world *w, const struct effect_eval *eval)
{
    struct expr_doc doc = {.input = w->input, .index = -1, .step = read_step, .ctx = w};
    struct str *values = arena_array(w->arena, eval->template->expr_count + 1, sizeof(*values));
    struct engine_input in = {.kind = IN_VALUE, .node = eval->node, .purpose = eval->purpose, .index = eval->index};
    struct buf out;

    buf_init(&out, 1 << 20);
    for (size_t i = 0; i < eval->template->expr_count && !in.failed; i++) {
        const struct expr *expr = &eval->template->exprs[i];
        if (!expr->native) { /* tests use a few comparisons of the form `PATH OP NUMBER` only through plain paths */
            in.failed = true;
            in.message = STR("not native");
        } else if (expr_eval_native(expr, &doc, w->arena, &values[i], &w->err) != EXPR_OK) {
            in.failed = true;
            in.message = str_arena(w->arena, str_of(w->err.message));
        }
    }
    if (!in.failed) {
        ENSURE(template_render(eval->template, values, w->arena, &out, &w->err) == ERR_OK);
        in.value = copy(w, buf_str(&out));
    }
    buf_deinit(&out);
    if (engine_apply(w->state, &in, w->now, &w->fx, &w->err) != ERR_OK) {
        fprintf(stderr, "apply: %s\n", w->err.message);
        ENSURE(false);
    }
}

static void commit(struct world *w)
{
    for (size_t i = 0; i < w->fx.event_count; i++)
        store(w, &w->fx.events[i]);
    store_rows(w);
    compare_with_fold(w);
}

void world_apply(struct world *w, struct engine_input input)
{
    effects_init(&w->fx, w->arena);
    if (engine_apply(w->state, &input, w->now, &w->fx, &w->err) != ERR_OK) {
        fprintf(stderr, "apply: %s\n", w->err.message);
        ENSURE(false);
    }
    if (w->unanswered && w->fx.eval_count > 0)
        return;
    for (size_t i = 0; i < w->fx.eval_count; i++) {
        struct effect_eval eval = w->fx.evals[i];
        answer(w, &eval);
    }
    commit(w);
}

void world_answer(struct world *w, size_t index)
{
    struct effect_eval eval = w->fx.evals[index];

    w->unanswered = false;
    answer(w, &eval);
    if (!w->state->evaluating)
        commit(w);
}

void world_start(struct world *w)
{
    world_apply(w, (struct engine_input){.kind = IN_START});
}

struct step_state *world_step(struct world *w, const char *step)
{
    uint32_t node = plan_find(w->plan, str_of(step));

    ENSURE(node != NO_NODE);
    return &w->state->steps[node];
}

enum step_status world_status(struct world *w, const char *step)
{
    return (enum step_status)world_step(w, step)->status;
}

static struct engine_input result_of(struct world *w, const char *step, enum result_status status)
{
    const struct step_state *s = world_step(w, step);

    return (struct engine_input){.kind = IN_RESULT,
                                 .step = str_of(step),
                                 .attempt = s->attempt,
                                 .dispatch = s->dispatch,
                                 .result = status,
                                 .worker = STR("w1")};
}

void world_succeed(struct world *w, const char *step, const char *output)
{
    struct engine_input in = result_of(w, step, RESULT_SUCCEEDED);

    in.output = str_of(output);
    world_apply(w, in);
}

void world_fail(struct world *w, const char *step, const char *error_class, const char *code, bool sent, bool answered)
{
    struct engine_input in = result_of(w, step, RESULT_FAILED);

    in.error_class = str_of(error_class);
    in.code = str_of(code);
    in.message = STR("it failed");
    in.sent = sent;
    in.answered = answered;
    world_apply(w, in);
}

void world_result(struct world *w, const char *step, enum result_status status)
{
    world_apply(w, result_of(w, step, status));
}

void world_timer(struct world *w, const char *step)
{
    const struct step_state *s = world_step(w, step);

    ENSURE(s->due_at.us != 0);
    w->now = s->due_at;
    world_apply(w, (struct engine_input){.kind = IN_TIMER, .seq = s->open_seq});
}

struct event *world_event(struct world *w, enum event_type type, const char *step)
{
    for (size_t i = w->history_count; i > 0; i--)
        if (w->history[i - 1].type == type && (step == NULL || str_is(w->history[i - 1].step, step)))
            return &w->history[i - 1];
    return NULL;
}

bool world_has(struct world *w, enum event_type type, const char *step)
{
    return world_event(w, type, step) != NULL;
}

const char *faults_of(struct arena *arena, const char *document)
{
    struct plan_faults faults = {.arena = arena};
    struct plan *plan = plan_compile(str_of(document), &PLAN_LIMITS_DEFAULT, &faults);
    struct buf out;
    char *text;

    buf_init(&out, 1 << 16);
    for (size_t i = 0; i < faults.count; i++)
        buf_printf(&out, "%s%s " STR_FMT, i == 0 ? "" : "\n", faults.items[i].code, STR_ARG(faults.items[i].pointer));
    ENSURE((plan == NULL) == (faults.count > 0));
    plan_unref(plan);
    text = arena_dup(arena, out.ptr == NULL ? "" : out.ptr, out.len);
    buf_deinit(&out);
    return text;
}
