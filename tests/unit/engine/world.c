/* See world.h. */
#include "tests/unit/engine/world.h"
#include "common/base/ensure.h"
#include "tests/unit/engine/world_compare.h"
#include <inttypes.h>
#include <stdio.h>

#define BASE_US (INT64_C(1790000000) * US_PER_S)

void world_init_limits(struct world *w, const char *document, const struct plan_limits *limits)
{
    struct plan_faults faults = {.arena = arena_new(4096)};

    *w = (struct world){.arena = arena_new(1 << 13), .now = {BASE_US}, .input = STR("{}")};
    w->plan = plan_compile(str_of(document), limits, &faults);
    for (size_t i = 0; i < faults.count; i++)
        fprintf(stderr, "fault: %s " STR_FMT " " STR_FMT "\n", faults.items[i].code, STR_ARG(faults.items[i].pointer),
                STR_ARG(faults.items[i].message));
    ENSURE(w->plan != NULL);
    arena_free(faults.arena);
    w->state = run_state_new(run_id_make(w->now, 7), 1, w->plan, w->now);
}

void world_init(struct world *w, const char *document)
{
    world_init_limits(w, document, &PLAN_LIMITS_DEFAULT);
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
        w->rows[w->row_count++] = (struct world_row){open->seq, open->dispatch, open->kind, open->due_at, NULL};
    }
    for (size_t i = 0; i < w->fx.change_count; i++) {
        struct world_row *row = row_at(w, w->fx.changes[i].seq);
        ENSURE(row != NULL && (row->kind == WORK_TASK || row->kind == WORK_ITEMS || row->kind == WORK_EVENT));
        row->dispatch = w->fx.changes[i].dispatch;
        row->due_at = w->fx.changes[i].due_at;
        row->reason = w->fx.changes[i].reason;
        for (size_t k = 0; k < i; k++)
            ENSURE(w->fx.changes[k].seq != w->fx.changes[i].seq);
    }
    for (size_t i = 0; i < w->fx.close_count; i++) {
        struct world_row *row = row_at(w, w->fx.closes[i]);
        ENSURE(row != NULL);
        *row = w->rows[--w->row_count];
    }
}

static struct run_state *read_again(const struct world *w)
{
    struct run_state *fresh = run_state_new(w->state->id, 1, w->plan, w->state->created_at);
    struct err err;

    fresh->depth = w->state->depth;
    for (size_t i = 0; i < w->history_count; i++)
        if (engine_fold(fresh, &w->history[i], &err) != ERR_OK) {
            fprintf(stderr, "fold: %s\n", err.message);
            ENSURE(false);
        }
    for (size_t i = 0; i < w->row_count; i++)
        engine_restore_work(fresh, w->rows[i].seq, w->rows[i].dispatch, w->rows[i].due_at);
    return fresh;
}

/* A row for each thing the run waits for and no other, and while it is open at least one. */
static void check_rows(const struct world *w)
{
    const struct run_state *state = w->state;
    size_t of_run = (state->timeout_seq != 0 ? 1u : 0u) + (state->admission_seq != 0 ? 1u : 0u), open = of_run;

    for (const struct frame *frame = state->frames; frame != NULL; frame = frame->next) {
        for (uint32_t i = 0; frame->used && i < w->plan->scopes[frame->scope].count; i++) {
            const struct step_state *s = run_step(state, frame->base + i);
            open += s->open_seq != 0;
            ENSURE(s->open_seq == 0 || row_at(w, s->open_seq) != NULL);
            ENSURE(s->open_seq == 0 || engine_find_row(state, s->open_seq) == frame->base + i);
            ENSURE(s->pending == NULL);
        }
    }
    ENSURE(open == w->row_count);
    ENSURE(open == state->open_steps + of_run);
    ENSURE(state->status != RUN_ACTIVE || open > 0);
    ENSURE(!run_ended((enum run_status)state->status) || open == 0);
}

void world_check(struct world *w)
{
    struct run_state *fresh = read_again(w);

    states_same(fresh, w->state);
    check_rows(w);
    run_state_free(fresh);
}

void world_reload(struct world *w)
{
    struct run_state *fresh = read_again(w);

    run_state_free(w->state);
    w->state = fresh;
}

/* ---- what expressions read ---- */

static struct str body(const struct world *w, uint32_t seq)
{
    if (seq == 0)
        return STR_NONE;
    if (seq <= w->history_count)
        return w->history[seq - 1].output;
    for (size_t i = 0; i < w->fx.event_count; i++)
        if (w->fx.events[i].seq == seq)
            return w->fx.events[i].output;
    return STR_NONE;
}

static struct str loop_output(struct world *w, const struct step_extra *extra)
{
    struct buf out;
    struct str text;

    buf_init(&out, (size_t)64 << 20);
    for (uint32_t i = 0; i < extra->count; i++) {
        struct str item = extra->items[i].status == STEP_SUCCEEDED ? body(w, extra->items[i].output_seq) : STR_NONE;
        buf_append_str(&out, i == 0 ? STR("[") : STR(","));
        buf_append_str(&out, item.ptr == NULL ? STR("null") : item);
    }
    buf_append_str(&out, STR("]"));
    text = copy(w, buf_str(&out));
    buf_deinit(&out);
    return text;
}

static struct str output_of(struct world *w, uint32_t node)
{
    const struct step_state *s = run_step(w->state, node);

    if (s->extra != NULL && s->extra->items != NULL)
        return loop_output(w, s->extra);
    return body(w, s->output_seq);
}

struct reader {
    struct world *w;
    const struct effect_eval *eval;
};

static bool read_step(void *ctx, struct str name, struct expr_step *ret)
{
    const struct reader *reader = ctx;
    struct world *w = reader->w;
    uint32_t node = run_find_visible(w->state, reader->eval->frame, name);

    if (node == NO_NODE)
        return true;
    ret->status =
        str_of(arena_printf(w->arena, "\"%s\"", step_status_name((enum step_status)run_step(w->state, node)->status)));
    ret->output = output_of(w, node);
    if (reader->eval->purpose == EVAL_UNTIL && node == reader->eval->node)
        ret->output = *(const struct str *)run_step(w->state, node)->pending;
    return true;
}

static struct expr_doc document(struct world *w, struct reader *reader)
{
    const struct effect_eval *eval = reader->eval;
    struct expr_doc doc = {.input = w->input, .index = -1, .step = read_step, .ctx = reader};
    uint32_t loop = NO_NODE, index = 0;

    if (run_item_of(w->state, eval->frame, &loop, &index)) {
        doc.item = jt_at(body(w, run_step(w->state, loop)->input_seq), index);
        doc.index = index;
    }
    if (eval->purpose == EVAL_UNTIL && run_step(w->state, eval->node)->pending != NULL)
        doc.output = *(const struct str *)run_step(w->state, eval->node)->pending;
    if (eval->purpose == EVAL_FILTER)
        doc.event = *(const struct str *)run_step(w->state, eval->node)->pending;
    return doc;
}

static void answer(struct world *w, const struct effect_eval *eval)
{
    struct reader reader = {w, eval};
    struct expr_doc doc = document(w, &reader);
    struct str *values = arena_array(w->arena, eval->template->expr_count + 1, sizeof(*values));
    struct engine_input in = {.kind = IN_VALUE,
                              .node = eval->node,
                              .purpose = eval->purpose,
                              .index = eval->index,
                              .question = eval->question};
    struct buf out;

    buf_init(&out, 1 << 20);
    for (size_t i = 0; i < eval->template->expr_count && !in.failed; i++) {
        const struct expr *expr = &eval->template->exprs[i];
        if (!expr->native) { /* there is no jq here: tests read plain paths */
            in.failed = true;
            in.message = STR("not native");
        } else if (expr_eval_native(expr, &doc, w->arena, &values[i], &w->err) != EXPR_OK) {
            in.failed = true;
            in.message = copy(w, str_of(w->err.message));
        }
    }
    if (!in.failed) {
        ENSURE(template_render(eval->template, values, w->arena, &out, &w->err) == ERR_OK);
        in.value = copy(w, buf_str(&out));
    }
    buf_deinit(&out);
    in.limits = w->limits;
    if (engine_apply(w->state, &in, w->now, &w->fx, &w->err) != ERR_OK) {
        fprintf(stderr, "apply: %s\n", w->err.message);
        ENSURE(false);
    }
}

/* ---- inputs ---- */

static void commit(struct world *w)
{
    ENSURE(!w->state->evaluating);
    for (size_t i = 0; i < w->fx.event_count; i++)
        store(w, &w->fx.events[i]);
    store_rows(w);
    if (!w->unchecked)
        world_check(w);
}

void world_apply(struct world *w, struct engine_input input)
{
    effects_init(&w->fx, w->arena);
    if (w->format != 0)
        w->fx.format = w->format;
    w->mark = w->history_count;
    w->answered = 0;
    input.limits = w->limits;
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
    if (++w->answered == w->fx.eval_count)
        commit(w);
}

void world_start(struct world *w)
{
    world_apply(w, (struct engine_input){.kind = IN_START});
}

struct step_state *world_step(struct world *w, const char *step)
{
    uint32_t node = run_find_step(w->state, str_of(step), NULL);

    if (node == NO_NODE)
        fprintf(stderr, "there is no step '%s' in memory\n", step);
    ENSURE(node != NO_NODE);
    return run_step(w->state, node);
}

enum step_status world_status(struct world *w, const char *step)
{
    return (enum step_status)world_step(w, step)->status;
}

bool world_open(struct world *w, const char *step)
{
    uint32_t node = run_find_step(w->state, str_of(step), NULL);

    return node != NO_NODE && run_step(w->state, node)->open_seq != 0;
}

static struct engine_input about(struct world *w, const char *step, enum engine_input_kind kind)
{
    const struct step_state *s = world_step(w, step);

    return (struct engine_input){
        .kind = kind, .step = str_of(step), .attempt = s->attempt, .dispatch = s->dispatch, .worker = STR("w1")};
}

void world_begin(struct world *w, const char *step, const char *worker)
{
    struct engine_input in = about(w, step, IN_STARTED);

    in.worker = str_of(worker);
    world_apply(w, in);
}

void world_succeed(struct world *w, const char *step, const char *output)
{
    struct engine_input in = about(w, step, IN_RESULT);

    in.result = RESULT_SUCCEEDED;
    in.output = str_of(output);
    world_apply(w, in);
}

void world_fail(struct world *w, const char *step, const char *error_class, const char *code, bool sent, bool answered)
{
    struct engine_input in = about(w, step, IN_RESULT);

    in.result = RESULT_FAILED;
    in.error_class = str_of(error_class);
    in.code = str_of(code);
    in.message = STR("it failed");
    in.sent = sent;
    in.answered = answered;
    in.http_status = answered ? 500 : 0;
    world_apply(w, in);
}

void world_result(struct world *w, const char *step, enum result_status status)
{
    struct engine_input in = about(w, step, IN_RESULT);

    in.result = status;
    world_apply(w, in);
}

void world_lost(struct world *w, const char *step)
{
    world_apply(w, about(w, step, IN_LOST));
}

void world_cancel(struct world *w, bool compensate)
{
    world_apply(w, (struct engine_input){.kind = IN_CANCEL, .command = 5, .compensate = compensate});
}

void world_pause(struct world *w)
{
    world_apply(w, (struct engine_input){.kind = IN_PAUSE, .command = 8, .by = STR("ann")});
}

void world_resume(struct world *w)
{
    world_apply(w, (struct engine_input){.kind = IN_RESUME, .command = 9, .by = STR("bob")});
}

void world_signal(struct world *w, const char *name, const char *payload)
{
    world_apply(w,
                (struct engine_input){.kind = IN_SIGNAL, .command = 6, .name = str_of(name), .value = str_of(payload)});
}

void world_event_comes(struct world *w, const char *step, const char *event)
{
    world_apply(w,
                (struct engine_input){.kind = IN_EVENT, .seq = world_step(w, step)->open_seq, .value = str_of(event)});
}

void world_settle(struct world *w, const char *step, const char *as, const char *output)
{
    world_apply(w, (struct engine_input){.kind = IN_SETTLE,
                                         .command = 7,
                                         .step = str_of(step),
                                         .as_failed = strcmp(as, "failed") == 0,
                                         .value = output == NULL ? STR_NONE : str_of(output)});
}

void world_compensate(struct world *w)
{
    world_apply(w, (struct engine_input){.kind = IN_COMPENSATE, .command = 8});
}

void world_retry(struct world *w, const char *confirm)
{
    bool all = confirm != NULL && confirm[0] == 't';

    world_apply(w, (struct engine_input){.kind = IN_RETRY,
                                         .command = 12,
                                         .confirm_all = all,
                                         .confirm = confirm == NULL || all ? STR_NONE : str_of(confirm)});
}

void world_child_ended(struct world *w, const char *step, enum run_status status, const char *output, const char *code)
{
    world_apply(w, (struct engine_input){.kind = IN_CHILD,
                                         .step = str_of(step),
                                         .child = world_step(w, step)->extra->child,
                                         .child_status = status,
                                         .output = output == NULL ? STR_NONE : str_of(output),
                                         .code = code == NULL ? STR_NONE : str_of(code),
                                         .message = code == NULL ? STR_NONE : STR("it went wrong")});
}

void world_timer(struct world *w, const char *step)
{
    const struct step_state *s = world_step(w, step);

    ENSURE(s->due_at.us != 0);
    if (s->due_at.us > w->now.us)
        w->now = s->due_at;
    world_apply(w, (struct engine_input){.kind = IN_TIMER, .seq = s->open_seq});
}

void world_run_timeout(struct world *w)
{
    if (w->state->timeout_at.us > w->now.us)
        w->now = w->state->timeout_at;
    world_apply(w, (struct engine_input){.kind = IN_TIMER, .seq = w->state->timeout_seq});
}

/* ---- what came of it ---- */

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

size_t world_count(struct world *w, enum event_type type, const char *step)
{
    size_t count = 0;

    for (size_t i = 0; i < w->history_count; i++)
        count += w->history[i].type == type && (step == NULL || str_is(w->history[i].step, step));
    return count;
}

const char *world_said(struct world *w)
{
    struct buf out;
    const char *text;

    buf_init(&out, 1 << 20);
    for (size_t i = w->mark; i < w->history_count; i++)
        buf_printf(&out, "%s%s%s" STR_FMT, i == w->mark ? "" : ", ", event_type_name(w->history[i].type),
                   w->history[i].step.len == 0 ? "" : " ", STR_ARG(w->history[i].step));
    text = arena_dup(w->arena, out.len == 0 ? "" : out.ptr, out.len);
    buf_deinit(&out);
    return text;
}

const char *world_output(struct world *w, const char *step)
{
    uint32_t node = run_find_step(w->state, str_of(step), NULL);
    struct str output = node == NO_NODE ? STR_NONE : output_of(w, node);

    return output.ptr == NULL ? "null" : arena_dup(w->arena, output.ptr, output.len);
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
