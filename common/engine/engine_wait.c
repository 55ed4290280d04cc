/* What waits for others than workers: signals and child runs; and what a person says of a step whose outcome nobody
 * knows. */
#include "common/base/banned.h"
#include "common/engine/engine_internal.h"
#include <inttypes.h>

/* Takes the oldest signal of the queue for a step that waits, or begins to. */
void engine_take_signal(struct ctx *c, uint32_t node, const struct signal_queue *queue)
{
    struct event event = {.name = str_arena(c->fx->arena, str_of(queue->name)), .ref = queue->here[0].seq};

    engine_emit_step(c, EVENT_STEP_SUCCEEDED, node, event);
    engine_children_ready(c, node);
}

static void bad_value(struct ctx *c, uint32_t node, const char *code, const char *message)
{
    engine_step_failed(c, node, EVENT_STEP_FAILED, engine_failure(code, "permanent", str_of(message)));
}

void engine_wait_signal(struct ctx *c, uint32_t node, struct str with)
{
    const struct plan_step *step = run_plan_step(c->state, node);
    struct event event = {.waits = STR("signal"), .once = step->once};
    struct str timeout = jt_get(with, "timeout");
    const struct signal_queue *queue;
    struct str text;
    int64_t us;

    if (!jt_string(jt_get(with, "signal"), c->fx->arena, &event.name) || !plan_signal_name(event.name)) {
        bad_value(c, node, "bad_signal", "'signal' is no name of 1 to 255 bytes without control characters");
        return;
    }
    if (timeout.ptr != NULL && (!jt_string(timeout, c->fx->arena, &text) || !duration_parse(text, &us) || us <= 0)) {
        bad_value(c, node, "bad_duration", "'timeout' is no duration such as \"2d\"");
        return;
    }
    queue = signal_find(c->state, event.name);
    if (queue != NULL && queue->count > 0) {
        engine_take_signal(c, node, queue);
        return;
    }
    if (timeout.ptr != NULL)
        event.due_at.us = c->now.us + us;
    if (step->deadline_us != 0 && (timeout.ptr == NULL || step->deadline_us < us))
        event.due_at.us = c->now.us + step->deadline_us;
    engine_emit_step(c, EVENT_STEP_WAITING, node, event);
}

void engine_signal(struct ctx *c)
{
    struct run_state *state = c->state;
    const struct engine_input *in = c->input;
    struct signal_queue *queue;

    if (run_ended((enum run_status)state->status) || state->compensating) {
        engine_refuse(c, "run_ended",
                      str_of(arena_printf(c->fx->arena, "the run %s '%s'", state->compensating ? "is" : "has ended",
                                          state->compensating ? "compensating"
                                                              : run_status_name((enum run_status)state->status))));
        return;
    }
    queue = signal_find(state, in->name); /* a refused one leaves none behind */
    if (queue != NULL && queue->once && queue->received > 0) {
        engine_refuse(c, "already_signalled", STR("a signal of this name has come, and is taken only once"));
        return;
    }
    if (state->last_seq >= HISTORY_MAX) {
        engine_refuse(c, "history_limit", STR("the run's history is full"));
        return;
    }
    if (queue != NULL && queue->count >= SIGNALS_MAX) {
        engine_refuse(c, "signal_queue_full", STR("100 signals of this name wait already"));
        return;
    }
    engine_apply_command(c, "signal");
    engine_emit(c, (struct event){.type = EVENT_SIGNAL_RECEIVED,
                                  .name = in->name,
                                  .command = in->command,
                                  .output = str_is(in->value, "null") ? STR_NONE : in->value});
    queue = signal_find(state, in->name);
    if (c->rc == ERR_OK && queue->waiter_count > 0)
        engine_take_signal(c, queue->waiters[0], queue);
}

/* ---- child runs ---- */

/* A UUIDv7 of now in the parent's slot; what is random in others is drawn from who asks, so that an input applied again
 * makes the same child. */
static struct run_id child_id(const struct ctx *c, struct str path)
{
    struct run_id id = c->state->id;
    uint64_t ms = (uint64_t)(c->now.us / US_PER_MS);
    uint8_t digest[32];
    struct buf seed;

    buf_init(&seed, STEP_PATH_SIZE + 64);
    buf_append(&seed, c->state->id.bytes, sizeof(c->state->id.bytes));
    buf_printf(&seed, "%" PRIu32 "/" STR_FMT, c->state->last_seq, STR_ARG(path));
    sha256(buf_str(&seed), digest);
    buf_deinit(&seed);
    for (int i = 0; i < 6; i++)
        id.bytes[i] = (uint8_t)(ms >> (40 - 8 * i));
    id.bytes[6] = (uint8_t)(0x70 | (digest[0] & 0x0f));
    id.bytes[7] = digest[1];
    id.bytes[8] = (uint8_t)(0x80 | (digest[2] & 0x3f));
    memcpy(id.bytes + 9, digest + 3, 5);
    id.bytes[14] = (uint8_t)((digest[8] & 0xf0) | (c->state->id.bytes[14] & 0x0f)); /* the slot: the last 12 bits */
    return id;
}

void engine_child_begin(struct ctx *c, uint32_t node, struct str with)
{
    const struct plan_step *step = run_plan_step(c->state, node);
    struct effect_child child = {.step = engine_path(c->fx->arena, c->state, node),
                                 .input = jt_get(with, "input"),
                                 .depth = (uint8_t)(c->state->depth + 1)};
    struct event event = {.waits = STR("child"), .output = with};
    struct str version = jt_get(with, "version");
    int64_t number = 0;
    char id[UUID_TEXT_SIZE];

    if (child.depth > c->limits->of[LIMIT_CHILD_LEVELS]) {
        bad_value(c, node, "child_too_deep",
                  arena_printf(c->fx->arena,
                               "child runs go at most %" PRId64
                               " levels deep (limit child_levels), this would be level "
                               "%u: put the inner steps into the workflow above, or have the limit raised",
                               c->limits->of[LIMIT_CHILD_LEVELS], (unsigned)child.depth));
        return;
    }
    if (!jt_string(jt_get(with, "name"), c->fx->arena, &child.workflow)) {
        bad_value(c, node, "bad_workflow", "'name' is no text");
        return;
    }
    if (version.ptr != NULL && jt_type(version) != JT_NULL &&
        (!jt_i64(version, &number) || number < 1 || number > INT32_MAX)) {
        bad_value(c, node, "bad_workflow", "'version' is no version number");
        return;
    }
    child.version = (int32_t)number;
    if (child.input.ptr == NULL)
        child.input = STR("{}");
    child.id = child_id(c, child.step);
    run_id_format(child.id, id);
    event.child = str_of(arena_dup(c->fx->arena, id, strlen(id)));
    if (step->deadline_us != 0)
        event.due_at.us = c->now.us + step->deadline_us;
    engine_emit_step(c, EVENT_STEP_WAITING, node, event);
    GROW(c, c->fx->children, c->fx->child_count, c->fx->child_cap);
    c->fx->children[c->fx->child_count++] = child;
}

static void retry_child(struct ctx *c, uint32_t node)
{
    const struct step_extra *extra = run_step(c->state, node)->extra;

    GROW(c, c->fx->child_retries, c->fx->child_retry_count, c->fx->child_retry_cap);
    c->fx->child_retries[c->fx->child_retry_count++] = (struct effect_child_retry){
        .child = extra->child, .step = engine_path(c->fx->arena, c->state, node), .retries = extra->child_retries};
}

void engine_child_again(struct ctx *c, uint32_t node)
{
    const struct plan_step *step = run_plan_step(c->state, node);
    const struct step_extra *extra = run_step(c->state, node)->extra;
    struct event event = {.waits = STR("child"), .count = extra->child_retries + 1};
    char id[UUID_TEXT_SIZE];

    run_id_format(extra->child, id);
    event.child = str_of(arena_dup(c->fx->arena, id, strlen(id)));
    if (step->deadline_us != 0)
        event.due_at.us = c->now.us + step->deadline_us;
    engine_emit_step(c, EVENT_STEP_CONTINUED, node, event);
    if (c->rc == ERR_OK)
        retry_child(c, node);
}

void engine_child_stop(struct ctx *c, uint32_t node)
{
    struct step_extra *extra = run_step(c->state, node)->extra;

    if (extra->child_told)
        return;
    extra->child_told = true;
    GROW(c, c->fx->child_cancels, c->fx->child_cancel_count, c->fx->child_cancel_cap);
    c->fx->child_cancels[c->fx->child_cancel_count++] = extra->child;
}

static void child_failed(struct ctx *c, uint32_t node)
{
    const struct engine_input *in = c->input;
    const struct run_state *state = c->state;
    char id[UUID_TEXT_SIZE];
    struct event event;

    if (in->child_status == RUN_CANCELLED && engine_stopping(state, run_step(state, node)->frame)) {
        engine_emit_step(c, EVENT_STEP_CANCELLED, node, (struct event){0});
        engine_children_ready(c, node);
        return;
    }
    if (str_is(in->code, "unknown_workflow") || str_is(in->code, "unknown_version") ||
        str_is(in->code, "workflow_disabled")) { /* it never was */
        event = engine_failure("child_failed", "permanent", in->message);
        event.code = in->code;
        engine_step_failed(c, node, EVENT_STEP_FAILED, event);
        return;
    }
    run_id_format(in->child, id);
    event =
        engine_failure("child_failed", "permanent",
                       str_of(arena_printf(c->fx->arena, "child run %s ended %s%s" STR_FMT "%s" STR_FMT, id,
                                           run_status_name(in->child_status), in->code.len > 0 ? ": " : "",
                                           STR_ARG(in->code), in->message.len > 0 ? ": " : "", STR_ARG(in->message))));
    if (in->child_status == RUN_CANCELLED)
        event.code = STR("child_cancelled");
    else if (in->code.ptr != NULL)
        event.code = in->code;
    engine_step_failed(c, node, in->child_status == RUN_TIMED_OUT ? EVENT_STEP_TIMED_OUT : EVENT_STEP_FAILED, event);
}

/* Is this not the end that the step waits for? What it ended with before is no news; a retry that had come too soon is
 * asked for again, and where there can be none another child begins. A success is one whenever it came. */
static bool of_before(struct ctx *c, uint32_t node)
{
    const struct engine_input *in = c->input;
    const struct step_state *s = run_step(c->state, node);
    bool former = in->retries < s->extra->child_retries;

    if (in->refused_retry && former) {
        c->fx->ignored = true;
        return true;
    }
    if (in->refused_retry) {
        engine_emit_step(
            c, EVENT_STEP_REOPENED, node,
            (struct event){.code = in->code.ptr == NULL ? STR("child_gone") : in->code, .message = in->message});
        engine_ready(c, node);
        return true;
    }
    if (!former || in->child_status == RUN_SUCCEEDED || engine_stopping(c->state, s->frame))
        return false;
    retry_child(c, node);
    return true;
}

void engine_child_ended(struct ctx *c)
{
    const struct engine_input *in = c->input;
    bool later = false;
    uint32_t node = run_find_step(c->state, in->step, &later);
    const struct step_state *s = node == NO_NODE ? NULL : run_step(c->state, node);
    struct event event = {0};
    bool known = s != NULL && s->extra != NULL && run_id_eq(s->extra->child, in->child);

    /* the parent as we have it has not begun it yet: somebody else has gone on with the run. Of one that it has begun,
     * and is to go on with, it is the former end */
    c->fx->stale_cache = later || (s != NULL && s->status == STEP_PENDING && !known);
    if (!known || s->open_kind != WORK_CHILD) {
        c->fx->ignored = !c->fx->stale_cache;
        return;
    }
    if (of_before(c, node))
        return;
    if (in->child_status != RUN_SUCCEEDED && in->child_status != RUN_PARTIALLY_COMPLETED) {
        child_failed(c, node);
        return;
    }
    if (in->child_status == RUN_PARTIALLY_COMPLETED)
        event = engine_failure("child_partially_completed", "permanent", in->message);
    if (!str_is(in->output, "null"))
        event.output = in->output;
    engine_emit_step(c, EVENT_STEP_SUCCEEDED, node, event);
    engine_children_ready(c, node);
}

/* ---- settling ---- */

const char *engine_cannot_settle(const struct run_state *state, uint32_t node)
{
    const struct step_state *s = node == NO_NODE ? NULL : run_step(state, node);

    if (s == NULL)
        return "the run has no such step, or the iteration it was in is over";
    if (s->open_kind == WORK_UNKNOWN)
        return NULL;
    if (s->status != STEP_OUTCOME_UNKNOWN)
        return "its outcome is not unknown";
    if (s->frame != state->root)
        return "the iteration it was in is over";
    if (!state->started)
        return "the run has not begun, and the outcome was given to it";
    if (!run_ended((enum run_status)state->status) && state->root->ended == state->plan->root_count)
        return "the run is about to end";
    return NULL;
}

/* A person who knows better opens the run again. One that was cancelled, or whose steps have been undone, does not go
 * on: what is known now is only taken into account. */
static void open_again(struct ctx *c, bool undone)
{
    struct event reopened = {.type = EVENT_RUN_REOPENED, .command = c->input->command, .code = STR("settle")};

    if (!undone && c->state->status != RUN_CANCELLED)
        reopened.due_at = engine_timeout(c, c->now);
    engine_emit(c, reopened);
    if (c->rc == ERR_OK && c->state->timeout_seq != 0)
        engine_open_timeout(c);
    c->fx->status_changed = true;
}

/* With what waited for the step that is settled now, and with what its doubt had stopped. */
static void go_on(struct ctx *c, uint32_t node)
{
    if (c->rc != ERR_OK)
        return;
    engine_children_ready(c, node);
    for (uint32_t i = 0; i < c->state->plan->root_count; i++) /* those that were revived and wait for nobody */
        if (run_step(c->state, i)->status == STEP_PENDING && run_step(c->state, i)->waiting_for == 0)
            engine_ready(c, i);
    engine_stop_when_failing(c, run_step(c->state, node)->frame);
}

void engine_settle(struct ctx *c)
{
    struct run_state *state = c->state;
    const struct engine_input *in = c->input;
    uint32_t node = run_find_step(state, in->step, NULL);
    const char *why = engine_cannot_settle(state, node);
    bool undone = state->status == RUN_COMPENSATED || state->status == RUN_COMPENSATION_FAILED;
    struct event event = {
        .type = EVENT_STEP_SETTLED, .command = in->command, .output = str_is(in->value, "null") ? STR_NONE : in->value};

    if (why != NULL) {
        engine_refuse(c, "not_unknown", str_of(why));
        return;
    }
    engine_apply_command(c, "settle");
    if (run_ended((enum run_status)state->status))
        open_again(c, undone);
    event.as = in->as_failed ? STR("failed") : STR("succeeded");
    if (in->as_failed) {
        event.code = STR("settled_failed");
        event.error_class = STR("permanent");
        event.message = STR("an operator settled it as failed");
    }
    engine_emit_step(c, EVENT_STEP_SETTLED, node, event);
    if (undone)
        engine_emit(c, (struct event){.type = EVENT_RUN_COMPENSATING, .code = STR("settle")});
    go_on(c, node);
}

void engine_settle_by_word(struct ctx *c, uint32_t node, struct event event)
{
    event.as = c->input->result == RESULT_SUCCEEDED ? STR("succeeded") : STR("failed");
    engine_emit_step(c, EVENT_STEP_SETTLED, node, event);
    go_on(c, node);
}
