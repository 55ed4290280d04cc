/* Every state of a step and of a run against every kind of input: nothing aborts; what changes nothing says so
 * (ignored, or stale); what changes something appends events or changes a row; and the world compares the state with
 * the fold of what would be stored. */
#include "tests/unit/engine/world.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>

#define NOOP "\"call\":\"noop\""

enum state {
    NOT_STARTED,
    PENDING, /* its parent runs */
    QUEUED,
    RUNNING,
    DEFERRED,
    DEFERRED_AND_AGAIN, /* the deferral is over, the second dispatch begun */
    BACKING_OFF,
    SECOND_ATTEMPT, /* the first was lost */
    DELAYING,
    SUCCEEDED,
    FAILED,
    POISONED,
    TIMED_OUT,
    SKIPPED,
    CANCELLED,
    OUTCOME_UNKNOWN,
    FAILING,    /* another step has failed the run, this one still runs */
    CANCELLING, /* the run was cancelled, this one still runs */
    RUN_OVER,   /* timed out with the attempt running */
    STATES
};
enum delivery { AT_LEAST_ONCE, AT_MOST_ONCE };

static const char *const names[STATES] = {
    "not started", "pending",  "queued",    "running",    "deferred", "deferred and again", "backing off",
    "2nd attempt", "delaying", "succeeded", "failed",     "poisoned", "timed out",          "skipped",
    "cancelled",   "unknown",  "failing",   "cancelling", "run over"};

static struct engine_input about(enum engine_input_kind kind, uint32_t attempt, uint32_t dispatch, const char *worker)
{
    return (struct engine_input){
        .kind = kind, .step = STR("a"), .attempt = attempt, .dispatch = dispatch, .worker = str_of(worker)};
}

static void result(struct world *w, enum result_status status, uint32_t attempt, uint32_t dispatch)
{
    struct engine_input in = about(IN_RESULT, attempt, dispatch, "w1");

    in.result = status;
    in.retry_after_us = US_PER_S;
    world_apply(w, in);
}

static void begin(struct world *w, uint32_t attempt, uint32_t dispatch)
{
    world_apply(w, about(IN_STARTED, attempt, dispatch, "w1"));
}

static void open_world(struct world *w, enum state state, enum delivery delivery)
{
    const char *how = delivery == AT_MOST_ONCE ? ",\"delivery\":\"at_most_once\"" : "";
    const char *call = state == DELAYING ? "\"call\":\"delay\",\"with\":{\"duration\":\"1h\"}" : NOOP;
    char doc[600];

    (void)snprintf(doc, sizeof(doc),
                   "{\"name\":\"x\",\"timeout\":\"2h\",\"steps\":{\"first\":{" NOOP "},\"other\":{" NOOP "},"
                   "\"a\":{%s%s,\"needs\":[\"first\"],\"deadline\":\"90m\"%s}}}",
                   call, how, state == SKIPPED ? ",\"when\":false" : "");
    world_init(w, doc);
    if (state == NOT_STARTED)
        return;
    world_start(w);
    if (state != PENDING)
        world_succeed(w, "first", "1");
}

/* Brings step `a` into the state. */
static void reach(struct world *w, enum state state)
{
    switch (state) {
    case NOT_STARTED:
    case PENDING:
    case QUEUED:
    case DELAYING:
    case SKIPPED:
    case STATES:
        break;
    case RUNNING:
        begin(w, 1, 1);
        break;
    case DEFERRED:
        result(w, RESULT_DEFERRED, 1, 1);
        break;
    case DEFERRED_AND_AGAIN:
        begin(w, 1, 1);
        result(w, RESULT_DEFERRED, 1, 1);
        world_timer(w, "a");
        begin(w, 1, 2);
        break;
    case BACKING_OFF:
        world_fail(w, "a", "transient", "connect", false, false);
        break;
    case SECOND_ATTEMPT:
        result(w, RESULT_ABANDONED, 1, 1);
        break;
    case SUCCEEDED:
        world_succeed(w, "a", "1");
        break;
    case FAILED:
        world_fail(w, "a", "permanent", "http_404", true, true);
        break;
    case POISONED:
        for (uint32_t attempt = 1; attempt <= 3; attempt++)
            result(w, RESULT_ABANDONED, attempt, 1);
        break;
    case TIMED_OUT:
        w->now = world_step(w, "a")->due_at;
        world_apply(w, (struct engine_input){.kind = IN_TIMER, .seq = world_step(w, "a")->open_seq});
        break;
    case CANCELLED:
        world_apply(w, (struct engine_input){.kind = IN_CANCEL, .command = 1});
        break;
    case OUTCOME_UNKNOWN:
        begin(w, 1, 1);
        result(w, RESULT_ABANDONED, 1, 1);
        break;
    case FAILING:
        begin(w, 1, 1);
        world_fail(w, "other", "permanent", "http_404", true, true);
        break;
    case CANCELLING:
        begin(w, 1, 1);
        world_apply(w, (struct engine_input){.kind = IN_CANCEL, .command = 1});
        break;
    case RUN_OVER:
        begin(w, 1, 1);
        w->now.us += 7200 * US_PER_S;
        world_apply(w, (struct engine_input){.kind = IN_TIMER, .seq = w->state->timeout_seq});
        break;
    }
}

#define INPUTS_MAX 200

static size_t add_results(const struct world *w, struct engine_input *in, size_t n)
{
    const struct step_state *s = run_step(w->state, 2);

    for (uint32_t attempt = 0; attempt <= s->attempt + 1u; attempt++) {
        for (uint32_t dispatch = 1; dispatch <= s->dispatch + 1; dispatch++) {
            for (int status = RESULT_SUCCEEDED; status <= RESULT_ABANDONED; status++) {
                in[n] = about(IN_RESULT, attempt, dispatch, status % 2 == 0 ? "w1" : "w2");
                in[n].result = (enum result_status)status;
                in[n].sent = dispatch % 2 == 0;
                in[n].error_class = STR("transient");
                in[n++].code = STR("reset");
            }
            in[n++] = about(IN_STARTED, attempt, dispatch, "w1");
            in[n++] = about(IN_STARTED, attempt, dispatch, "w2");
            in[n++] = about(IN_LOST, attempt, dispatch, "w1");
        }
    }
    return n;
}

/* Everything that could be said to the run as it is. */
static size_t all_inputs(const struct world *w, struct engine_input *in)
{
    size_t n = add_results(w, in, 0);
    struct engine_input foreign = about(IN_RESULT, 1, 1, "w1");

    foreign.step = STR("nobody");
    in[n++] = foreign;
    in[n++] = (struct engine_input){.kind = IN_START};
    in[n++] = (struct engine_input){.kind = IN_CANCEL, .command = 9};
    for (uint32_t seq = 0; seq <= w->state->last_seq + 1; seq++)
        in[n++] = (struct engine_input){.kind = IN_TIMER, .seq = seq};
    for (int purpose = EVAL_WHEN; purpose <= EVAL_OUTPUT; purpose++) {
        in[n++] = (struct engine_input){
            .kind = IN_VALUE, .node = 2, .purpose = (enum eval_purpose)purpose, .value = STR("true")};
        in[n++] =
            (struct engine_input){.kind = IN_VALUE, .node = 2, .purpose = (enum eval_purpose)purpose, .failed = true};
    }
    in[n++] = (struct engine_input){.kind = IN_VALUE, .node = NO_NODE, .purpose = EVAL_OUTPUT, .value = STR("1")};
    assert_true(n <= INPUTS_MAX);
    return n;
}

static void one(enum state state, enum delivery delivery, size_t index, int64_t later_us, size_t *ret_count)
{
    static struct engine_input inputs[INPUTS_MAX + 64];
    struct world w;
    bool changed;
    uint32_t seq_before;
    enum step_status before;

    open_world(&w, state, delivery);
    reach(&w, state);
    w.now.us += later_us;
    *ret_count = all_inputs(&w, inputs);
    seq_before = w.state->last_seq;
    before = world_status(&w, "a");
    world_apply(&w, inputs[index]);
    changed = w.fx.event_count > 0 || w.fx.change_count > 0;
    if (changed == (w.fx.ignored || w.fx.stale_cache)) {
        fprintf(stderr, "%s, input %zu (kind %d): %zu events, ignored %d, stale %d\n", names[state], index,
                (int)inputs[index].kind, w.fx.event_count, w.fx.ignored, w.fx.stale_cache);
        fail();
    }
    assert_true(changed || (w.state->last_seq == seq_before && world_status(&w, "a") == before));
    if (step_ended(before))
        assert_int_equal(world_status(&w, "a"), before); /* an end is an end */
    if (delivery == AT_MOST_ONCE && before == STEP_RUNNING && w.fx.answer == STARTED_GO)
        assert_true(str_is(inputs[index].worker, "w1")); /* who has the grant, and nobody else */
    world_deinit(&w);
}

static void every_state_answers_every_input(void **unused)
{
    static const int64_t later[] = {0, 2 * US_PER_S, 5400 * US_PER_S, 7200 * US_PER_S};
    size_t done = 0;

    (void)unused;
    for (int state = 0; state < STATES; state++)
        for (int delivery = AT_LEAST_ONCE; delivery <= AT_MOST_ONCE; delivery++)
            for (size_t k = 0; k < sizeof(later) / sizeof(later[0]); k++) {
                size_t count = 1;
                if (state == OUTCOME_UNKNOWN && delivery == AT_LEAST_ONCE)
                    continue;
                for (size_t i = 0; i < count; i++, done++)
                    one((enum state)state, (enum delivery)delivery, i, later[k], &count);
            }
    assert_true(done > 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_state_answers_every_input),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
