/* Slots of concurrency keys, as a run sees them: asked for, granted or refused, given back with its end. */
#include "tests/unit/engine/world.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define STEP "\"steps\":{\"a\":{\"call\":\"noop\"}}}"
#define LIMITED(bound) "{\"name\":\"x\",\"concurrency\":{" bound "}," STEP
#define PLAIN "{\"name\":\"x\"," STEP

static void admit(struct world *w, uint32_t seq, bool bounded, bool refused)
{
    world_apply(w, (struct engine_input){.kind = IN_ADMIT, .seq = seq, .bounded = bounded, .failed = refused});
}

static void assert_effect(const struct world *w, size_t at, bool release, enum admission_scope scope, uint32_t limit)
{
    assert_true(w->fx.admission_count > at);
    assert_int_equal(w->fx.admissions[at].release, release);
    assert_int_equal(w->fx.admissions[at].scope, scope);
    assert_int_equal(w->fx.admissions[at].limit, limit);
}

static void a_run_begins_when_it_is_admitted_and_gives_its_slot_back_with_its_end(void **unused)
{
    struct run_id key;
    struct world w;

    (void)unused;
    world_init(&w, LIMITED("\"limit\":2"));
    world_start(&w);
    assert_string_equal(world_said(&w), "run.queued");
    assert_effect(&w, 0, false, ADMISSION_WORKFLOW, 2);
    assert_true(str_is(w.fx.admissions[0].as, "queue"));
    key = w.fx.admissions[0].key;
    assert_int_equal(w.row_count, 1);
    assert_int_equal(w.rows[0].kind, WORK_ADMISSION);
    w.now.us += 90 * 86400 * US_PER_S; /* time spent in the queue is not the run's */
    admit(&w, 1, false, false);
    assert_string_equal(world_said(&w), "run.admitted, run.started, step.dispatched a");
    assert_true(w.state->timeout_at.us == w.now.us + w.plan->timeout_us);
    world_succeed(&w, "a", "1");
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    assert_effect(&w, 0, true, ADMISSION_WORKFLOW, 0);
    assert_true(run_id_eq(w.fx.admissions[0].key, key));
    assert_int_equal(w.fx.admissions[0].seq, w.state->last_seq);
    world_deinit(&w);
}

static void what_is_granted_twice_late_or_early_changes_nothing(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, LIMITED("\"limit\":1"));
    world_start(&w);
    admit(&w, 7, false, false);
    assert_true(w.fx.stale_cache);
    world_apply(&w, (struct engine_input){.kind = IN_START}); /* the command comes twice */
    assert_true(w.fx.ignored);
    admit(&w, 1, false, false);
    admit(&w, 1, false, false);
    assert_true(w.fx.ignored);
    world_succeed(&w, "a", "1");
    admit(&w, 1, false, false);
    assert_true(w.fx.ignored && w.fx.admission_count == 0);
    world_deinit(&w);
}

static void who_is_cancelled_in_the_queue_leaves_it(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, LIMITED("\"limit\":1"));
    world_start(&w);
    world_apply(&w, (struct engine_input){.kind = IN_CANCEL, .command = 3});
    assert_int_equal(w.state->status, RUN_CANCELLED);
    assert_effect(&w, 0, true, ADMISSION_WORKFLOW, 0);
    admit(&w, 1, false, false);
    assert_true(w.fx.ignored);
    world_deinit(&w);
}

static void skip_ends_the_run_with_the_reason(void **unused)
{
    const struct event *end;
    struct world w;

    (void)unused;
    world_init(&w, LIMITED("\"limit\":1,\"on_limit\":\"skip\""));
    world_start(&w);
    assert_true(str_is(w.fx.admissions[0].as, "skip"));
    admit(&w, 1, false, true);
    assert_string_equal(world_said(&w), "run.cancelling, step.cancelled a, run.cancelled");
    end = world_event(&w, EVENT_RUN_CANCELLED, NULL);
    assert_true(end != NULL && str_is(end->code, "concurrency_limit"));
    world_deinit(&w);
}

static void who_makes_room_says_for_whom(void **unused)
{
    const struct event *end;
    struct world w;

    (void)unused;
    world_init(&w, LIMITED("\"limit\":1,\"on_limit\":\"cancel_oldest\""));
    world_start(&w);
    admit(&w, 1, false, false);
    world_apply(&w, (struct engine_input){.kind = IN_CANCEL,
                                          .command = 3,
                                          .code = STR("concurrency_limit"),
                                          .message = STR("run r took its place")});
    end = world_event(&w, EVENT_RUN_CANCELLED, NULL);
    assert_true(end != NULL && str_is(end->code, "concurrency_limit") && str_is(end->message, "run r took its place"));
    world_deinit(&w);
}

static void the_key_is_made_of_the_input_and_the_same_for_the_same(void **unused)
{
    struct run_id keys[4];
    static const char *const documents[] = {LIMITED("\"limit\":1,\"key\":\"a\""), LIMITED("\"limit\":5,\"key\":\"a\""),
                                            LIMITED("\"limit\":1,\"key\":\"b\""), LIMITED("\"limit\":1")};

    (void)unused;
    for (int i = 0; i < 4; i++) {
        struct world w;

        world_init(&w, documents[i]);
        world_start(&w);
        keys[i] = w.fx.admissions[0].key;
        world_deinit(&w);
    }
    assert_true(run_id_eq(keys[0], keys[1])); /* of any version */
    assert_false(run_id_eq(keys[0], keys[2]) || run_id_eq(keys[0], keys[3]) || run_id_eq(keys[2], keys[3]));
}

static void the_organisation_comes_after_the_workflow(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, LIMITED("\"limit\":1"));
    world_apply(&w, (struct engine_input){.kind = IN_START, .bounded = true});
    admit(&w, 1, true, false);
    assert_string_equal(world_said(&w), "run.admitted, run.queued");
    assert_effect(&w, 0, false, ADMISSION_ORGANISATION, 0);
    admit(&w, 3, true, false);
    assert_string_equal(world_said(&w), "run.admitted, run.started, step.dispatched a");
    world_succeed(&w, "a", "1");
    assert_effect(&w, 0, true, ADMISSION_WORKFLOW, 0);
    assert_effect(&w, 1, true, ADMISSION_ORGANISATION, 0);
    world_deinit(&w);
}

static void a_run_without_limits_asks_nobody(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, PLAIN);
    world_start(&w);
    assert_string_equal(world_said(&w), "run.started, step.dispatched a");
    assert_int_equal(w.fx.admission_count, 0);
    world_succeed(&w, "a", "1");
    assert_int_equal(w.fx.admission_count, 0);
    world_deinit(&w);
}

static void end_in_doubt(struct world *w)
{
    world_init(w, "{\"name\":\"x\",\"concurrency\":{\"limit\":1},\"steps\":{\"a\":{\"call\":\"noop\",\"delivery\":"
                  "\"at_most_once\"}}}");
    world_start(w);
    admit(w, 1, false, false);
    world_begin(w, "a", "w1");
    world_lost(w, "a");
    assert_int_equal(w->state->status, RUN_FAILED);
    assert_effect(w, 0, true, ADMISSION_WORKFLOW, 0);
}

static void who_goes_on_after_the_end_waits_like_any_other(void **unused)
{
    (void)unused;
    for (int retry = 0; retry < 2; retry++) {
        struct world w;
        uint32_t seq;

        end_in_doubt(&w);
        if (retry)
            world_retry(&w, "true");
        else
            world_settle(&w, "a", "succeeded", NULL);
        assert_string_equal(world_said(&w), retry ? "command.applied, run.reopened, step.reopened a, run.queued"
                                                  : "command.applied, run.reopened, step.settled a, run.queued");
        seq = w.state->last_seq;
        assert_int_equal(w.state->status, RUN_ACTIVE);
        assert_effect(&w, 0, false, ADMISSION_WORKFLOW, 1);
        assert_true(str_is(w.fx.admissions[0].as, "queue"));
        assert_int_equal(w.row_count, 1); /* and no timeout passes meanwhile */
        world_reload(&w);
        assert_false(engine_needs_waking(w.state));
        w.now.us += INT64_C(3600) * 1000 * US_PER_S;
        admit(&w, seq, true, false);
        assert_string_equal(world_said(&w), "run.admitted, run.queued"); /* its organisation has a limit by now */
        admit(&w, seq + 2, true, false);
        assert_true(w.state->timeout_at.us > w.now.us);
        world_reload(&w);
        if (retry) {
            assert_string_equal(world_said(&w), "run.admitted, step.dispatched a");
            world_succeed(&w, "a", "1");
        }
        assert_int_equal(w.state->status, RUN_SUCCEEDED);
        assert_effect(&w, 0, true, ADMISSION_WORKFLOW, 0);
        assert_effect(&w, 1, true, ADMISSION_ORGANISATION, 0);
        world_deinit(&w);
    }
}

static void who_waits_again_can_be_paused_and_cancelled(void **unused)
{
    (void)unused;
    for (int how = 0; how < 2; how++) {
        struct world w;
        uint32_t seq;

        end_in_doubt(&w);
        world_retry(&w, "true");
        seq = w.state->last_seq;
        world_pause(&w);
        assert_string_equal(world_said(&w), "command.applied, run.paused");
        if (how == 0) {
            admit(&w, seq, false, false);
            assert_string_equal(world_said(&w), "run.admitted");
            world_resume(&w);
            assert_string_equal(world_said(&w), "command.applied, run.resumed, step.dispatched a");
        } else {
            world_resume(&w);
            assert_string_equal(world_said(&w), "command.applied, run.resumed");
            world_cancel(&w, false);
            assert_string_equal(world_said(&w), "command.applied, run.cancelling, step.cancelled a, run.cancelled");
            assert_effect(&w, 0, true, ADMISSION_WORKFLOW, 0);
            admit(&w, seq, false, false); /* it came all the same */
            assert_string_equal(world_said(&w), "");
        }
        world_deinit(&w);
    }
}

/* What is to be undone is work like any other. */
static void what_is_undone_after_the_end_waits_too(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, "{\"name\":\"x\",\"concurrency\":{\"limit\":1},\"steps\":{\"a\":{\"call\":\"noop\",\"compensate\":{"
                   "\"call\":\"noop\"}}}}");
    world_start(&w);
    admit(&w, 1, false, false);
    world_succeed(&w, "a", "1");
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    world_compensate(&w);
    assert_string_equal(world_said(&w), "command.applied, run.reopened, run.compensating, run.queued");
    world_cancel(&w, false);
    assert_string_equal(world_said(&w), "command.refused");
    admit(&w, 9, false, false);
    assert_string_equal(world_said(&w), "");
    admit(&w, w.state->admission_seq, false, false);
    assert_string_equal(world_said(&w), "run.admitted, step.dispatched a:compensate");
    world_succeed(&w, "a:compensate", "1");
    assert_int_equal(w.state->status, RUN_COMPENSATED);
    world_deinit(&w);
}

/* Settling a run that was cancelled ends in the same input and asks for no slot; unless a late result is to be undone
 * by then, which waits for one. */
static void what_settling_undoes_waits_too(void **unused)
{
    (void)unused;
    for (int late = 0; late < 2; late++) {
        struct world w;

        world_init(&w,
                   "{\"name\":\"x\",\"concurrency\":{\"limit\":1},\"steps\":{\"a\":{\"call\":\"noop\",\"compensate\":{"
                   "\"call\":\"noop\"}},\"b\":{\"call\":\"noop\",\"delivery\":\"at_most_once\"}}}");
        world_start(&w);
        admit(&w, 1, false, false);
        world_begin(&w, "b", "w1");
        world_cancel(&w, true);
        world_lost(&w, "b");
        assert_int_equal(w.state->status, RUN_CANCELLED);
        if (late) {
            world_succeed(&w, "a", "1");
            assert_string_equal(world_said(&w), "step.late_result a");
        }
        world_settle(&w, "b", "succeeded", NULL);
        if (!late) {
            assert_string_equal(world_said(&w), "command.applied, run.reopened, step.settled b, run.cancelled");
            assert_int_equal(w.fx.admission_count, 0);
        } else {
            assert_string_equal(world_said(&w), "command.applied, run.reopened, step.settled b, run.queued");
            assert_true(str_is(w.fx.admissions[0].as, "queue"));
            world_reload(&w);
            admit(&w, w.state->admission_seq, false, false);
            assert_string_equal(world_said(&w), "run.admitted, run.compensating, step.dispatched a:compensate");
            world_succeed(&w, "a:compensate", "1");
            assert_int_equal(w.state->status, RUN_COMPENSATED);
            assert_effect(&w, 0, true, ADMISSION_WORKFLOW, 0);
        }
        world_deinit(&w);
    }
}

static void start_with(struct world *w, const char *start_at, const char *given, bool bounded)
{
    world_apply(w, (struct engine_input){.kind = IN_START,
                                         .bounded = bounded,
                                         .start_at = start_at == NULL ? STR_NONE : str_of(start_at),
                                         .given = given == NULL ? STR_NONE : str_of(given)});
    world_reload(w); /* whoever is told of the slot may know the history alone */
}

#define CHAIN                                                                                                          \
    "\"steps\":{\"a\":{\"call\":\"noop\"},\"b\":{\"call\":\"transform\",\"needs\":[\"a\"],\"with\":{\"value\":"        \
    "\"${ .steps.a.output }\"}},\"c\":{\"call\":\"noop\",\"needs\":[\"b\"]}}}"
#define GIVEN "[{\"step\":\"a\",\"as\":\"succeeded\",\"output\":{\"id\":0.1}}]"
#define GIVEN_ALL                                                                                                      \
    "[{\"step\":\"a\",\"as\":\"failed\",\"code\":\"http_422\"},{\"step\":\"b\",\"as\":\"outcome_unknown\"},"           \
    "{\"step\":\"c\",\"as\":\"succeeded\"}]"

static void what_a_run_is_given_waits_with_it(void **unused)
{
    static const char *const documents[] = {
        "{\"name\":\"x\",\"concurrency\":{\"limit\":1}," CHAIN, "{\"name\":\"x\"," CHAIN,
        "{\"name\":\"x\",\"concurrency\":{\"limit\":1,\"key\":\"${ .input.x }\"}," CHAIN};

    (void)unused;
    for (size_t i = 0; i < 3; i++) {
        struct world w;

        world_init(&w, documents[i]);
        w.input = STR("{\"x\":7}");
        start_with(&w, NULL, GIVEN, i == 1);
        assert_string_equal(world_said(&w), "step.given a, run.queued");
        assert_int_equal(w.state->status, RUN_PENDING);
        start_with(&w, NULL, GIVEN, i == 1); /* the command comes twice */
        assert_string_equal(world_said(&w), "");
        admit(&w, 2, i == 1, false);
        assert_string_equal(world_said(&w), "run.admitted, run.started, step.succeeded b, step.dispatched c");
        assert_string_equal(world_output(&w, "b"), "{\"id\":0.1}");
        world_succeed(&w, "c", "1");
        assert_int_equal(w.state->status, RUN_SUCCEEDED);
        world_deinit(&w);
    }
}

static void a_run_begins_at_a_step_when_it_is_admitted(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, "{\"name\":\"x\",\"concurrency\":{\"limit\":1}," CHAIN);
    start_with(&w, "c", NULL, true);
    assert_string_equal(world_said(&w), "step.given a, step.given b, run.queued");
    admit(&w, 3, true, false);
    assert_string_equal(world_said(&w), "run.admitted, run.queued");
    admit(&w, 5, true, false);
    assert_string_equal(world_said(&w), "run.admitted, run.started, step.dispatched c");
    world_deinit(&w);
}

/* There is nothing left to do, and it waits all the same: for a person it is a run like any that waits. */
static void a_run_that_is_given_everything_waits_too(void **unused)
{
    static const struct {
        enum engine_input_kind kind;
        const char *said;
    } then[] = {{IN_CANCEL, "command.applied, run.cancelling, run.cancelled"},
                {IN_PAUSE, "command.applied, run.paused"},
                {IN_SETTLE, "command.refused"},
                {IN_ADMIT, "run.cancelling, run.cancelled"}};

    (void)unused;
    for (size_t i = 0; i < sizeof(then) / sizeof(then[0]); i++) {
        struct world w;

        world_init(&w, "{\"name\":\"x\",\"concurrency\":{\"limit\":1,\"on_limit\":\"skip\"}," CHAIN);
        start_with(&w, NULL, GIVEN_ALL, false);
        assert_string_equal(world_said(&w), "step.given a, step.given b, step.given c, run.queued");
        world_apply(
            &w,
            (struct engine_input){
                .kind = then[i].kind, .command = 3, .step = STR("b"), .seq = 4, .failed = then[i].kind == IN_ADMIT});
        assert_string_equal(world_said(&w), then[i].said);
        world_reload(&w);
        if (w.state->status == RUN_CANCELLED) {
            const struct event *end = world_event(&w, EVENT_RUN_CANCELLED, NULL);
            assert_null(end->step.ptr); /* not of what another run's step did */
            assert_true(end->code.ptr == NULL || str_is(end->code, "concurrency_limit"));
            world_settle(&w, "b", "succeeded", NULL);
            assert_string_equal(world_said(&w), "command.refused");
        } else {
            admit(&w, 4, false, false);
            assert_true(w.state->started);
        }
        world_deinit(&w);
    }
}

static void what_is_given_of_a_step_that_is_not_there_asks_nobody(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, LIMITED("\"limit\":1"));
    start_with(&w, "nope", NULL, false);
    assert_int_equal(w.state->status, RUN_FAILED);
    assert_string_equal(w.state->run_error->code, "invalid_input");
    assert_int_equal(w.fx.admission_count, 0);
    world_deinit(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_begins_when_it_is_admitted_and_gives_its_slot_back_with_its_end),
        cmocka_unit_test(what_is_granted_twice_late_or_early_changes_nothing),
        cmocka_unit_test(who_is_cancelled_in_the_queue_leaves_it),
        cmocka_unit_test(skip_ends_the_run_with_the_reason),
        cmocka_unit_test(who_makes_room_says_for_whom),
        cmocka_unit_test(the_key_is_made_of_the_input_and_the_same_for_the_same),
        cmocka_unit_test(the_organisation_comes_after_the_workflow),
        cmocka_unit_test(a_run_without_limits_asks_nobody),
        cmocka_unit_test(who_goes_on_after_the_end_waits_like_any_other),
        cmocka_unit_test(who_waits_again_can_be_paused_and_cancelled),
        cmocka_unit_test(what_is_undone_after_the_end_waits_too),
        cmocka_unit_test(what_settling_undoes_waits_too),
        cmocka_unit_test(what_a_run_is_given_waits_with_it),
        cmocka_unit_test(a_run_begins_at_a_step_when_it_is_admitted),
        cmocka_unit_test(a_run_that_is_given_everything_waits_too),
        cmocka_unit_test(what_is_given_of_a_step_that_is_not_there_asks_nobody),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
