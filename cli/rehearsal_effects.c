/* What becomes of the engine's effects in a rehearsal: events are kept, rows of open work follow, tasks and child runs
 * go to the caller, workers that are told to stop do. */
#include "cli/rehearsal_internal.h"

#include "common/base/banned.h"

#define BEGAN_AFTER_US US_PER_S /* a worker says `started` of what takes longer */

static struct rehearsed *find_run(const struct rehearsal *world, struct run_id id)
{
    struct rehearsed *run = world->runs;

    while (run != NULL && !run_id_eq(run->state->id, id))
        run = run->next;
    return run;
}

static struct rehearsed_row *row_at(struct rehearsed *run, uint32_t seq)
{
    for (size_t i = 0; i < run->row_count; i++) {
        if (run->rows[i].seq == seq)
            return &run->rows[i];
    }
    return NULL;
}

static void keep_events(struct rehearsed *run)
{
    struct arena *arena = run->world->arena;

    for (size_t i = 0; i < run->fx.event_count; i++) {
        struct event *event;

        if (run->history_count == run->history_cap) {
            run->history_cap = run->history_cap == 0 ? 64 : 2 * run->history_cap;
            run->history = mem_grow(run->history, run->history_cap, sizeof(*run->history));
        }
        event = &run->history[run->history_count++];
        *event = run->fx.events[i];
        event->step = str_arena(arena, event->step);
        event->output = str_arena(arena, event->output);
    }
}

static void keep_rows(struct rehearsed *run)
{
    const struct effects *fx = &run->fx;
    struct rehearsed_row *row;

    for (size_t i = 0; i < fx->open_count; i++) {
        if (run->row_count == run->row_cap) {
            run->row_cap = run->row_cap == 0 ? 16 : 2 * run->row_cap;
            run->rows = mem_grow(run->rows, run->row_cap, sizeof(*run->rows));
        }
        run->rows[run->row_count++] = (struct rehearsed_row){.seq = fx->opens[i].seq,
                                                             .dispatch = fx->opens[i].dispatch,
                                                             .kind = fx->opens[i].kind,
                                                             .due_at = fx->opens[i].due_at};
    }
    for (size_t i = 0; i < fx->change_count; i++) {
        row = row_at(run, fx->changes[i].seq);
        if (row == NULL)
            continue;
        row->dispatch = fx->changes[i].dispatch;
        row->due_at = fx->changes[i].due_at;
        row->heard_us = 0;
    }
    for (size_t i = 0; i < fx->close_count; i++) {
        row = row_at(run, fx->closes[i]);
        if (row != NULL)
            *row = run->rows[--run->row_count];
    }
}

static struct str path_of(struct rehearsed *run, uint32_t node)
{
    CLEANUP(buf_deinit) struct buf path = {0};

    buf_init(&path, STEP_PATH_SIZE);
    run_step_path(run->state, node, &path);
    return str_arena(run->world->arena, buf_str(&path));
}

static struct str with_of(const struct rehearsed *run, uint32_t node)
{
    const struct plan_step *step = run_plan_step(run->state, node);
    struct str with = step->with.constant && step->kind != CALL_POLL
                          ? step->with.literal
                          : rehearsed_body(run, run_step(run->state, node)->input_seq);

    return with.ptr == NULL ? STR("{}") : with;
}

static void as_result(const struct rehearsal_answer *answer, struct engine_input *in)
{
    in->kind = answer->end == END_LOST ? IN_LOST : IN_RESULT;
    in->result = answer->end == END_SUCCEEDED ? RESULT_SUCCEEDED : RESULT_FAILED;
    in->output = answer->output;
    in->code = answer->code;
    in->error_class = answer->error_class;
    in->message = answer->message;
    in->detail = answer->detail;
    in->http_status = answer->http_status;
    in->retry_after_us = answer->retry_after_us;
    in->sent = answer->sent;
    in->answered = answer->answered;
}

static const struct rehearsal_answer timed_out = {.end = END_FAILED,
                                                  .code = {"timeout", 7},
                                                  .error_class = {"transient", 9},
                                                  .message = {"no complete answer in time", 26},
                                                  .sent = true};

/* A worker takes the task at once, and the answer comes when the caller says. */
static void do_task(struct rehearsed *run, uint32_t seq)
{
    struct rehearsal *world = run->world;
    uint32_t node = engine_find_row(run->state, seq);
    const struct step_state *state = node == NO_NODE ? NULL : run_step(run->state, node);
    struct rehearsal_answer answer = {0};
    struct rehearsal_call call = {.run = run};
    struct engine_input in = {.worker = STR("rehearsal")};
    int64_t timeout_us;

    if (state == NULL || state->open_kind != WORK_TASK || world->over)
        return;
    call.path = in.step = path_of(run, node);
    call.step = run_plan_step(run->state, node);
    call.with = with_of(run, node);
    call.attempt = in.attempt = state->attempt;
    in.dispatch = state->dispatch;
    if (!world->port.call(world->port.ctx, &call, &answer)) {
        world->over = true;
        return;
    }
    timeout_us = call.step->timeout_us;
    if (timeout_us > 0 && answer.takes_us > timeout_us) {
        answer = timed_out;
        answer.takes_us = timeout_us;
    }
    in.kind = IN_STARTED;
    if (call.step->at_most_once)
        (void)rehearsal_add_coming(world, run, world->now, &in);
    else if (answer.takes_us >= BEGAN_AFTER_US)
        (void)rehearsal_add_coming(world, run, (struct wall_us){world->now.us + BEGAN_AFTER_US}, &in);
    in.started_at = world->now;
    in.ended_at.us = world->now.us + answer.takes_us;
    as_result(&answer, &in);
    (void)rehearsal_add_coming(world, run, in.ended_at, &in);
}

static void do_tasks(struct rehearsed *run)
{
    const struct effects *fx = &run->fx;

    for (size_t i = 0; i < fx->open_count; i++) {
        if (fx->opens[i].kind == WORK_TASK && row_at(run, fx->opens[i].seq) != NULL)
            do_task(run, fx->opens[i].seq);
    }
    for (size_t i = 0; i < fx->change_count; i++) {
        if (fx->changes[i].publish && row_at(run, fx->changes[i].seq) != NULL)
            do_task(run, fx->changes[i].seq);
    }
}

/* A worker that is told to stop says that it was. */
static void stop_task(struct rehearsed *run, uint32_t node)
{
    struct rehearsal *world = run->world;
    struct str path = path_of(run, node);

    for (struct coming *coming = world->coming; coming != NULL; coming = coming->next) {
        if (coming->run != run || coming->wanted || !str_eq(coming->input.step, path) ||
            coming->input.kind != IN_RESULT || coming->input.attempt != run_step(run->state, node)->attempt)
            continue;
        coming->at = world->now;
        coming->input.ended_at = world->now;
        as_result(&(struct rehearsal_answer){.end = END_FAILED,
                                             .code = STR("cancelled"),
                                             .error_class = STR("permanent"),
                                             .message = STR("the attempt was cancelled"),
                                             .sent = true},
                  &coming->input);
    }
}

/* The caller answers for a child that is not carried out. */
static void answer_for_child(struct rehearsed *run, const struct effect_child *child, const struct rehearsal_call *call)
{
    struct rehearsal *world = run->world;
    struct rehearsal_answer answer = {0};
    struct engine_input in = {.kind = IN_CHILD, .step = call->path, .child = child->id};

    if (!world->port.call(world->port.ctx, call, &answer)) {
        world->over = true;
        return;
    }
    in.child_status = answer.end == END_SUCCEEDED ? RUN_SUCCEEDED : RUN_FAILED;
    in.output = answer.output;
    in.code = answer.code;
    in.message = answer.message;
    (void)rehearsal_add_coming(world, run, (struct wall_us){world->now.us + answer.takes_us}, &in);
}

static void note_fault(void *ctx, const char *code, struct str pointer, const char *message, const char *hint)
{
    struct buf *first = ctx;

    (void)code;
    (void)hint;
    if (first->len == 0)
        buf_printf(first, "invalid input: " STR_FMT "%s%s", STR_ARG(pointer), pointer.len > 0 ? ": " : "", message);
}

static void begin_child(struct rehearsed *run, const struct effect_child *child)
{
    CLEANUP(buf_deinit) struct buf fault = {0};
    struct rehearsal *world = run->world;
    struct rehearsal_call call = {.run = run,
                                  .path = str_arena(world->arena, child->step),
                                  .with = str_arena(world->arena, child->input),
                                  .workflow = str_arena(world->arena, child->workflow)};
    struct engine_input start = {.kind = IN_START};
    const struct document *document;
    struct rehearsed *begun;
    struct err err;

    if (world->over)
        return;
    call.attempt = 1;
    call.step = run_plan_step(run->state, run_find_step(run->state, call.path, NULL));
    document = world->port.child(world->port.ctx, &call);
    if (document == NULL) {
        answer_for_child(run, child, &call);
        return;
    }
    begun = rehearsal_add_run(world, document, child->id, call.with);
    begun->parent = run;
    begun->parent_step = call.path;
    begun->state->depth = child->depth;
    buf_init(&fault, 65536);
    if (document->input_schema != NULL &&
        schema_check(document->input_schema, call.with, note_fault, &fault, &err) != ERR_OK)
        start.refused = str_arena(world->arena, buf_str(&fault));
    (void)rehearsal_add_coming(world, begun, world->now, &start);
}

static void tell_parent(struct rehearsed *run, const struct event *end)
{
    struct engine_input in = {.kind = IN_CHILD, .step = run->parent_step, .child = run->state->id};

    in.child_status = (enum run_status)run->state->status;
    in.output = end->output;
    in.code = end->code;
    in.message = end->message;
    (void)rehearsal_add_coming(run->world, run->parent, run->world->now, &in);
}

static void follow_effects(struct rehearsed *run)
{
    struct rehearsal *world = run->world;
    size_t first = run->history_count - run->fx.event_count;

    for (size_t i = 0; i < run->fx.cancel_count; i++)
        stop_task(run, run->fx.cancels[i]);
    for (size_t i = 0; i < run->fx.child_cancel_count; i++) {
        struct rehearsed *child = find_run(world, run->fx.child_cancels[i]);

        if (child != NULL)
            (void)rehearsal_add_coming(world, child, world->now, &(struct engine_input){.kind = IN_CANCEL});
    }
    for (size_t i = 0; i < run->fx.child_count; i++)
        begin_child(run, &run->fx.children[i]);
    do_tasks(run);
    for (size_t i = 0; i < run->fx.open_count; i++)
        if (run->fx.opens[i].kind == WORK_EVENT)
            rehearsal_look_back(run, run->fx.opens[i].seq);
    for (size_t i = first; i < run->history_count; i++) {
        const struct event *event = &run->history[i];

        if (event_ends_run(event->type) && run->parent != NULL)
            tell_parent(run, event);
        if (event->type == EVENT_COMMAND_REFUSED && world->said != NULL)
            world->port.refused(world->port.ctx, world->said->what, event->message);
    }
}

void rehearsal_commit(struct rehearsed *run)
{
    keep_events(run);
    keep_rows(run);
    follow_effects(run);
}
