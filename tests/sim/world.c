/* The world that steps call: what it answers, how often it is called, and whether it was right to call it. */
#include "common/base/map.h"
#include "tests/sim/script.h"

#include "common/base/banned.h"

struct ended {
    struct call *call;
    struct call_outcome outcome;
};

static void call_ended(struct sim *sim, void *what)
{
    struct ended *e = what;
    struct call *call = e->call;

    (void)sim;
    if (call->answered || (call->aborted && !e->outcome.aborted))
        return;
    call->answered = true;
    worker_core_called(call->node->worker, call->job, &e->outcome);
    node_turn(call->node);
}

/* ---- was it right to call it? ---- */

/* What is known of a task, or of an attempt, under its id. */
struct effect {
    int64_t published_at;
    uint32_t sent;
};

static struct effect *effect_of(struct sim *sim, struct str id)
{
    struct effect *effect = map_get(sim->effects, id);

    if (effect != NULL)
        return effect;
    effect = sim_new(sim, struct effect);
    effect->published_at = sim->now;
    map_put(sim->effects, id, effect);
    return effect;
}

void effect_published(struct sim *sim, struct str task_id)
{
    const char *dispatch = memrchr(task_id.ptr, '/', task_id.len);

    (void)effect_of(sim, task_id);
    (void)effect_of(sim, (struct str){task_id.ptr, (size_t)(dispatch - task_id.ptr)}); /* the attempt */
}

/* The newest fault since then that may be why; it is counted. A repetition that no fault explains is a bug. */
static void explain(struct sim *sim, const struct effect *first, struct str what, const char *why)
{
    int best = -1;

    for (int kind = 0; kind < DECISIONS; kind++)
        if (decision_explains[kind] && sim->last[kind] >= first->published_at &&
            (best < 0 || sim->last[kind] > sim->last[best]))
            best = kind;
    if (best < 0) {
        sim_fail(sim, STR_FMT " %s, and no fault explains it", STR_ARG(what), why);
        return;
    }
    sim_trace(sim, STR_FMT " %s: %s", STR_ARG(what), why, decision_names[best]);
    sim->stats->repeated++;
    sim->stats->repeated_by[best]++;
}

static struct str attempt_key(struct sim *sim, struct str run_step, int64_t attempt)
{
    return str_of(arena_printf(sim->arena, STR_FMT "/%lld", STR_ARG(run_step), (long long)attempt));
}

/* Did the attempt end because its worker was believed to be lost? */
static bool was_lost(struct sim *sim, const struct db_run *run, struct str step, int64_t attempt)
{
    struct str code = STR_NONE;

    for (size_t i = 0; run != NULL && i < run->event_count; i++) {
        const struct db_event *event = &run->events[i];

        if (event->type == EVENT_ATTEMPT_FAILED && event->attempt == attempt && str_eq(event->step, step))
            return jt_string(jt_get(event->data, "code"), sim->arena, &code) && str_is(code, "worker_lost");
    }
    return false;
}

static void count_effect(struct sim *sim, const struct call *call, const struct task *task, const struct db_run *run)
{
    struct effect *effect = effect_of(sim, task->task_id);
    struct effect *before = map_get(sim->effects, attempt_key(sim, call->run_step, task->attempt - 1));

    effect_of(sim, attempt_key(sim, call->run_step, task->attempt))->sent++;
    if (++effect->sent > 1)
        explain(sim, effect, task->task_id, "is done again");
    else if (before != NULL && before->sent > 0 && was_lost(sim, run, task->step, task->attempt - 1))
        explain(sim, before, task->task_id, "is done after an attempt that was believed lost");
}

/* History has it that this attempt was dispatched, or one behind it: tasks go out after their commit. */
static void check_dispatched(struct sim *sim, const struct db_run *run, const struct task *task)
{
    const struct past_step *step = run == NULL || run->history == NULL ? NULL : history_step(run->history, task->step);

    if (step == NULL || step->attempt < task->attempt)
        sim_fail(sim, STR_FMT " was sent and its history does not know it", STR_ARG(task->task_id));
}

/* Once, and once more each time that an operator says so: the attempts of before are still the first time's. */
static void count_grant(struct sim *sim, const struct call *call, const struct task *task, const struct db_run *run)
{
    const struct past_step *step = run == NULL || run->history == NULL ? NULL : history_step(run->history, task->step);
    uint32_t time = step == NULL ? 0 : step->retries - (uint32_t)(task->attempt <= step->retried_after);
    struct str key = str_of(arena_printf(sim->arena, STR_FMT "/%u", STR_ARG(call->run_step), (unsigned)time));
    uintptr_t times = (uintptr_t)map_get(sim->sends, key) + 1;

    sim->stats->sends++;
    map_put(sim->sends, key, (void *)times);
    if (times > 1)
        sim_fail(sim, "a granted step was sent %d times: " STR_FMT, (int)times, STR_ARG(call->run_step));
}

/* How often each step was sent, by name. */
struct step_sends {
    struct step_sends *next;
    const char *step;
    uint32_t times;
};

static void note_send(struct sim *sim, const struct call *call, const struct db_run *run)
{
    struct str step = call->run_step;
    struct step_sends **at = &sim->step_sends, *sends;
    const char *name;

    (void)str_cut(&step, '/');
    name = arena_printf(sim->arena, "%u:" STR_FMT, run->number, STR_ARG(step));
    while (*at != NULL && strcmp((*at)->step, name) < 0)
        at = &(*at)->next;
    if (*at != NULL && strcmp((*at)->step, name) == 0) {
        (*at)->times++;
        return;
    }
    sends = sim_new(sim, struct step_sends);
    *sends = (struct step_sends){*at, name, 1};
    *at = sends;
}

void world_tell_sends(struct sim *sim, struct buf *out)
{
    for (const struct step_sends *sends = sim->step_sends; sends != NULL; sends = sends->next)
        buf_printf(out, "%s%s %u", out->len > 0 ? ", " : "", sends->step, sends->times);
}

/* Whatever happened to the word that its run has ended: a worker begins what has waited for a second (ASK_AFTER_US)
 * only when it has asked, and takes no answer that is 5 s old (ASK_AGAIN_US). What was granted has begun for the
 * history. */
#define BEGINS_WITHIN (7 * SEC)
#define FORGOTTEN_AFTER (120 * SEC) /* a jump of PostgreSQL's clock: what workers know of it is good for a minute */

static void check_not_over(struct sim *sim, const struct call *call, const struct db_run *run, const struct task *task)
{
    if (run == NULL || call->once || !run_ended(run->status) || run->closed_at == 0 ||
        sim->now - run->closed_at <= BEGINS_WITHIN ||
        (sim->last[DECIDE_JUMP] != 0 && sim->now - sim->last[DECIDE_JUMP] < FORGOTTEN_AFTER))
        return;
    sim_fail(sim, STR_FMT " was begun %lld ms after its run had ended", STR_ARG(task->task_id),
             (long long)((sim->now - run->closed_at) / MS));
}

static void check_send(struct sim *sim, const struct call *call, const struct task *task)
{
    struct run_id id;
    const struct db_run *run = run_id_parse(task->run_id, &id) ? db_find(sim, id) : NULL;

    check_dispatched(sim, run, task);
    check_not_over(sim, call, run, task);
    count_effect(sim, call, task, run);
    if (call->once)
        count_grant(sim, call, task, run);
    if (sim->on_point != NULL && run != NULL)
        note_send(sim, call, run);
}

/* ---- answers ---- */

/* How often this step has been answered: a poll waits for the third time, say. */
static unsigned count_call(struct sim *sim, const struct call *call)
{
    uintptr_t times = (uintptr_t)map_get(sim->calls, call->run_step) + 1;

    map_put(sim->calls, call->run_step, (void *)times);
    return (unsigned)times;
}

static void answer_well(struct sim *sim, struct call *call, struct call_outcome *ret)
{
    ret->ok = true;
    ret->answered = true;
    ret->output = str_of(
        arena_printf(sim->arena, "{\"status\":200,\"body\":{\"n\":%u,\"s\":\"a \\\"b\\\"\"}}", count_call(sim, call)));
}

static void fail(struct call_outcome *ret, const char *code, int status, const char *message)
{
    ret->code = code;
    ret->message = str_of(message);
    ret->status = status;
    ret->transient = status != 422;
}

static void answer_badly(struct sim *sim, struct call_outcome *ret)
{
    uint32_t luck = rng_below(&sim->streams[DECIDE_ANSWER], 25);

    ret->sent = luck >= 5;
    ret->answered = (luck >= 5 && luck < 12) || luck >= 20;
    if (luck < 5)
        fail(ret, "connect", 0, "could not connect");
    else if (luck < 12)
        fail(ret, "http_503", 503, "the other side is busy");
    else if (luck < 20)
        fail(ret, "connection_lost", 0, "nobody knows what the other side did");
    else
        fail(ret, "http_422", 422, "the other side does not want it \\u0041");
}

static int64_t answer_as_written(struct sim *sim, struct call *call, struct call_outcome *ret)
{
    unsigned nth = count_call(sim, call) - 1;
    const struct script_answer *answer = script_answer(sim, call->run_step, nth);
    char *padding = arena_array(sim->arena, answer->bytes + 1, 1);

    memset(padding, 'x', answer->bytes);
    *ret = (struct call_outcome){.retry_after_ms = -1, .sent = true, .answered = !answer->unanswered};
    if (answer->code != NULL) {
        fail(ret, answer->code, answer->status, "as the script has it");
    } else {
        ret->ok = true;
        ret->output =
            str_of(arena_printf(sim->arena, "{\"status\":200,\"body\":{\"n\":%u,\"s\":\"%s\"}}", nth + 1, padding));
    }
    return answer->takes > 0 ? answer->takes : 10 * MS;
}

static int64_t decide_answer(struct sim *sim, struct call *call, struct call_outcome *ret)
{
    bool slow = sim_chances(sim, DECIDE_SLOW, 1500);

    *ret = (struct call_outcome){.retry_after_ms = -1, .sent = true};
    if (sim_chances(sim, DECIDE_ANSWER, 2500))
        answer_badly(sim, ret);
    else
        answer_well(sim, call, ret);
    return slow ? rng_between(&sim->streams[DECIDE_SLOW], SEC, 15 * SEC) : rng_between(&sim->rng, MS, 50 * MS);
}

void world_begin(struct node *node, struct job *job, const struct task *task, int64_t bound_us, bool once)
{
    struct sim *sim = node->sim;
    struct call *call = sim_new(sim, struct call);
    struct ended *e = sim_new(sim, struct ended);
    int64_t takes;

    call->job = job;
    call->node = node;
    call->once = once;
    call->run_step = str_of(arena_printf(sim->arena, STR_FMT "/" STR_FMT, STR_ARG(task->run_id), STR_ARG(task->step)));
    call->next = node->calls;
    node->calls = call;
    e->call = call;
    takes = sim->on_point != NULL ? answer_as_written(sim, call, &e->outcome) : decide_answer(sim, call, &e->outcome);
    if (bound_us > 0 && takes > bound_us) {
        takes = bound_us;
        e->outcome = (struct call_outcome){.retry_after_ms = -1, .sent = true};
        fail(&e->outcome, "timeout", 0, "no complete answer in time");
    }
    call->sent = e->outcome.sent;
    if (call->sent)
        check_send(sim, call, task);
    if (sim->on_point != NULL)
        (void)sim_point(sim, node, "called %s",
                        sim_task_name(sim, &(struct sim_message){
                                               .body = str_of(arena_printf(sim->arena, "{\"task_id\":\"" STR_FMT "\"}",
                                                                           STR_ARG(task->task_id)))}));
    sim_after(sim, takes, takes, node, call_ended, e);
}

void world_abort(struct node *node, struct job *job)
{
    for (struct call *call = node->calls; call != NULL; call = call->next) {
        struct ended *e;

        if (call->job != job || call->answered || call->aborted)
            continue;
        e = sim_new(node->sim, struct ended);
        e->call = call;
        e->outcome = (struct call_outcome){
            .aborted = true, .code = "aborted", .sent = call->sent, .retry_after_ms = -1, .transient = true};
        call->aborted = true;
        sim_after(node->sim, 10, 100, node, call_ended, e);
        return;
    }
}
