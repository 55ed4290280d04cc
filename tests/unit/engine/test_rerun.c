/* Runs that do not do all themselves: what is given to them, where they begin, and what of an old run a new one takes.
 */
#include "common/engine/rerun.h"
#include "tests/unit/engine/world.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>

#define NOOP "\"call\":\"noop\""
#define HTTP "\"call\":\"http\",\"with\":{\"url\":\"https://a.example/\",\"method\":\"POST\"}"
#define STEPS(s) "{\"name\":\"x\",\"steps\":{" s "}}"
#define CHAIN                                                                                                          \
    STEPS("\"a\":{" HTTP "},\"b\":{" HTTP ",\"needs\":[\"a\"]},\"c\":{\"call\":\"transform\",\"with\":{\"value\":"     \
          "\"${ .steps.a.output }\"},\"needs\":[\"a\",\"b\"]}")

static void begin(struct world *w, const char *start_at, const char *given)
{
    world_apply(w, (struct engine_input){.kind = IN_START,
                                         .start_at = start_at == NULL ? STR_NONE : str_of(start_at),
                                         .given = given == NULL ? STR_NONE : str_of(given)});
    world_reload(w);
}

static void what_is_given_is_not_done(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, CHAIN);
    begin(&w, NULL, "[{\"step\":\"a\",\"as\":\"succeeded\",\"output\":{\"id\":0.1}}]");
    assert_string_equal(world_said(&w), "run.started, step.given a, step.dispatched b");
    world_succeed(&w, "b", "1");
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    assert_string_equal(world_output(&w, "c"), "{\"id\":0.1}");
    begin(&w, NULL, "[{\"step\":\"a\",\"as\":\"succeeded\"}]"); /* the command comes again */
    assert_string_equal(world_said(&w), "");
    world_deinit(&w);
}

static void a_run_begins_at_a_step_and_edges_of_what_is_before_it_count(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP
                         "},\"q\":{\"call\":\"condition\",\"with\":{\"if\":true},\"needs\":[\"a\"]},\"b\":{" NOOP
                         ",\"needs\":{\"q\":[\"true\"]}},\"n\":{" NOOP ",\"needs\":{\"q\":[\"false\"]}},\"f\":{" NOOP
                         ",\"needs\":{\"b\":[\"failed\"]}},\"c\":{" NOOP ",\"join\":\"any\",\"needs\":[\"b\",\"n\"]}"));
    begin(&w, "b", NULL);
    assert_string_equal(world_said(&w), "run.started, step.given a, step.given q, step.given n, step.dispatched b");
    assert_int_equal(world_status(&w, "n"), STEP_SKIPPED);
    world_succeed(&w, "b", "1");
    assert_string_equal(world_said(&w), "step.succeeded b, step.skipped f, step.dispatched c");
    world_succeed(&w, "c", "1");
    assert_int_equal(w.state->status, RUN_SUCCEEDED);
    world_deinit(&w);
}

static void what_others_did_is_not_undone_here(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, STEPS("\"a\":{" NOOP ",\"compensate\":{" NOOP "}},\"b\":{" NOOP ",\"needs\":[\"a\"]}"));
    begin(&w, NULL, "[{\"step\":\"a\",\"as\":\"succeeded\",\"output\":1}]");
    world_fail(&w, "b", "permanent", "http_404", true, true);
    assert_int_equal(w.state->status, RUN_FAILED);
    world_deinit(&w);
}

static void a_start_that_names_what_is_not_there_ends_the_run(void **unused)
{
    static const struct {
        const char *start_at, *given;
    } starts[] = {{"nope", NULL},
                  {NULL, "[{\"step\":\"a\",\"as\":\"succeeded\"},{\"step\":\"nope\",\"as\":\"skipped\"}]"}};

    (void)unused;
    for (size_t i = 0; i < 2; i++) {
        struct world w;
        world_init(&w, CHAIN);
        begin(&w, starts[i].start_at, starts[i].given);
        assert_int_equal(w.state->status, RUN_FAILED);
        assert_string_equal(w.state->run_error->code, "invalid_input");
        world_deinit(&w);
    }
}

/* "a:reused b:done!" with '!' where it may have had its effect, '?' where somebody has to say so. */
static const char *plan_of(struct world *old, const char *document, const char *from, const char *outputs)
{
    static const char *const words[] = {"done", "reused", "given"};
    struct plan_limits limits = PLAN_LIMITS_DEFAULT;
    struct plan_faults faults = {.arena = old->arena};
    struct plan *plan = plan_compile(str_of(document), &limits, &faults);
    struct rerun r = {.old = old->state,
                      .plan = plan,
                      .from = from == NULL ? STR_NONE : str_of(from),
                      .outputs = outputs == NULL ? STR_NONE : str_of(outputs)};
    const char *text = "";

    assert_non_null(plan);
    rerun_plan(&r, old->arena);
    for (uint32_t i = 0; r.fault_count == 0 && i < plan->root_count; i++)
        text = arena_printf(old->arena, "%s%s" STR_FMT ":%s%s", text, i > 0 ? " " : "", STR_ARG(plan->steps[i].name),
                            words[r.steps[i].what],
                            r.steps[i].needs_confirmation ? "?"
                            : r.steps[i].again            ? "!"
                                                          : "");
    for (size_t i = 0; i < r.fault_count; i++)
        text = arena_printf(old->arena, "%s%s%s " STR_FMT, text, i > 0 ? ", " : "", r.faults[i].code,
                            STR_ARG(r.faults[i].pointer));
    plan_unref(plan);
    return text;
}

static void a_new_run_takes_what_it_can(void **unused)
{
    struct world w;

    (void)unused;
    world_init(&w, CHAIN);
    world_start(&w);
    world_succeed(&w, "a", "1");
    world_succeed(&w, "b", "1");
    assert_string_equal(plan_of(&w, CHAIN, NULL, NULL), "a:done! b:done! c:done");
    assert_string_equal(plan_of(&w, CHAIN, "b", NULL), "a:reused b:done! c:done");
    assert_string_equal(plan_of(&w, CHAIN, "c", NULL), "a:reused b:reused c:done");
    assert_string_equal(plan_of(&w, CHAIN, "c", "{\"a\":1}"), "a:given b:done! c:done");
    assert_string_equal(plan_of(&w, CHAIN, NULL, "{\"b\":1}"), "a:done! b:given c:done");
    assert_string_equal(plan_of(&w, CHAIN, "z", "{\"y\":1}"), "unknown_step /from, unknown_step /outputs/y");
    assert_string_equal(plan_of(&w, CHAIN, "b", "{\"b\":1}"), "out_of_range /outputs/b");
    assert_string_equal(
        plan_of(&w, STEPS("\"a\":{" NOOP "},\"n\":{" NOOP "},\"b\":{" NOOP ",\"needs\":[\"a\",\"n\"]}"), "b", NULL),
        "no_result /steps/a, no_result /steps/n");
    world_deinit(&w);
}

static void what_did_not_succeed_is_done_unless_it_was_taken_care_of(void **unused)
{
    const char *document = STEPS("\"a\":{" HTTP ",\"delivery\":\"at_most_once\"},\"h\":{" NOOP
                                 ",\"needs\":{\"a\":[\"failed\"]}},\"x\":{" HTTP "},\"z\":{" NOOP
                                 ",\"needs\":[\"h\",\"x\"]},\"y\":{" NOOP "}");
    struct world w;

    (void)unused;
    world_init(&w, document);
    world_start(&w);
    world_begin(&w, "a", "w1");
    world_fail(&w, "a", "permanent", "http_404", true, true);
    world_succeed(&w, "h", "1");
    world_succeed(&w, "y", "1");
    world_fail(&w, "x", "permanent", "http_404", true, true);
    assert_int_equal(w.state->status, RUN_FAILED);
    assert_string_equal(plan_of(&w, document, "z", NULL), "a:reused h:reused x:done! z:done y:reused");
    assert_string_equal(plan_of(&w, document, NULL, NULL), "a:done? h:done! x:done! z:done y:done!");
    world_deinit(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_given_is_not_done),
        cmocka_unit_test(a_run_begins_at_a_step_and_edges_of_what_is_before_it_count),
        cmocka_unit_test(what_others_did_is_not_undone_here),
        cmocka_unit_test(a_start_that_names_what_is_not_there_ends_the_run),
        cmocka_unit_test(a_new_run_takes_what_it_can),
        cmocka_unit_test(what_did_not_succeed_is_done_unless_it_was_taken_care_of),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
